"""How well the legs of contacts were heard: the table, and every query on it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import sqlalchemy as sa

from config.database import Database, metadata

contact_quality = sa.Table(
    "contact_quality",
    metadata,
    sa.Column("contact_id", sa.String, sa.ForeignKey("contact.id"), primary_key=True),
    sa.Column("branch", sa.String, primary_key=True),
    sa.Column("kind", sa.String, primary_key=True),
    sa.Column("started_at", sa.Float, primary_key=True),
    sa.Column("party", sa.String, nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Column("loss_in", sa.Float),
    sa.Column("loss_out", sa.Float),
    sa.Column("jitter_ms", sa.Float),
    sa.Column("round_trip_ms", sa.Float),
    sa.Column("mos", sa.Float),
)

_ADD = contact_quality.insert()
MOST = 100
"""Of one contact; what it has beyond is not shown."""


@dataclass(frozen=True, slots=True)
class LegQuality:
    """One kind of media of one leg: see `MediaServer.stats`. `party`: "customer", "agent", "supervisor" or "other"."""

    contact_id: str
    branch: str
    kind: str
    party: str
    started_at: float
    seconds: float
    loss_in: float | None
    loss_out: float | None
    jitter_ms: float | None
    round_trip_ms: float | None
    mos: float | None


class QualityStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, legs: Iterable[LegQuality]) -> asyncio.Future[None]:
        """With whatever is written next: nobody waits for it."""
        return self._database.write((_ADD, [asdict(leg) for leg in legs]), patient=True)

    async def of(self, contact_id: str) -> list[LegQuality]:
        """In the order in which they began."""
        query = (
            sa.select(contact_quality)
            .where(contact_quality.c.contact_id == contact_id)
            .order_by(contact_quality.c.started_at, contact_quality.c.branch, contact_quality.c.kind)
            .limit(MOST)
        )
        return [LegQuality(**row._mapping) for row in await self._database.read(query)]
