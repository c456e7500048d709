"""The table of recordings, and every query on it; and which messages of callers are due to be deleted."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from config.database import Database, metadata
from pbx.store import contact_table, voicemail_table

recording_table = sa.Table(
    "recording",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("contact_id", sa.String, sa.ForeignKey("contact.id"), nullable=False, index=True),
    sa.Column("provider_id", sa.String, nullable=False),
    sa.Column("agent_id", sa.String, nullable=False),
    sa.Column("started_at", sa.Float, nullable=False),
    sa.Column("seconds", sa.Float),
    sa.Column("file", sa.String, nullable=False),
    sa.Column("sealed", sa.String, nullable=False),
    sa.Column("kinds", sa.String, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("delete_after", sa.Float),
    sa.Column("held", sa.Boolean, nullable=False),
    sa.Column("deleted_at", sa.Float),
)
sa.Index("recording_by_provider", recording_table.c.provider_id, recording_table.c.started_at)
sa.Index("recording_by_state", recording_table.c.state, recording_table.c.delete_after)

_ADD = recording_table.insert()


class TapeState(StrEnum):
    RUNNING = "running"
    KEPT = "kept"
    CUT = "cut"  # it broke off: a process died, or the disk was full; what there is can be played
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Recording:
    """One agent's part of one call. `file`: its name in the folder of recordings. `sealed`: the name of the key, "" for
    a file that is not sealed. `kinds`: "audio" or "audio,video", as was asked for until it has ended, and then what is
    in it. `held`: kept whatever its day. Times: epoch seconds.

    What follows `deleted_at` is the contact's, as it was.
    """

    id: str
    contact_id: str
    provider_id: str
    agent_id: str
    started_at: float
    file: str
    sealed: str
    kinds: str
    delete_after: float | None
    seconds: float | None = None
    state: TapeState = TapeState.RUNNING
    held: bool = False
    deleted_at: float | None = None
    provider_name: str = ""
    product_name: str = ""
    customer_id: str | None = None
    customer_name: str = ""
    number: str = ""

    @property
    def can_be_played(self) -> bool:
        return self.state in (TapeState.KEPT, TapeState.CUT)


@dataclass(frozen=True, slots=True)
class OldMessage:
    """A caller's message that was dealt with. `path` is its file's."""

    id: str
    contact_id: str
    path: str


class RecordingStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, recording: Recording) -> asyncio.Future[None]:
        """Resolves when it is durable that it is being made."""
        row = {column.name: getattr(recording, column.name) for column in recording_table.c}
        return self._database.write((_ADD, row))

    def ended(self, recording_id: str, seconds: float, kinds: str, state: TapeState) -> asyncio.Future[None]:
        return self._change(recording_id, seconds=seconds, kinds=kinds, state=state.value)

    def deleted(self, recording_id: str, at: float) -> asyncio.Future[None]:
        return self._change(recording_id, state=TapeState.DELETED.value, deleted_at=at)

    def hold(self, recording_id: str, held: bool) -> asyncio.Future[None]:
        return self._change(recording_id, held=held)

    def _change(self, recording_id: str, **values: Any) -> asyncio.Future[None]:
        return self._database.write(
            recording_table.update().where(recording_table.c.id == recording_id).values(**values)
        )

    def remove(self, recording_id: str) -> asyncio.Future[None]:
        """Nothing was ever recorded of it."""
        return self._database.write(recording_table.delete().where(recording_table.c.id == recording_id))

    async def one(self, recording_id: str) -> Recording | None:
        found = await self._read(recording_table.c.id == recording_id, limit=1)
        return found[0] if found else None

    async def latest(
        self,
        provider_ids: Sequence[str] | None,
        *,
        contact_id: str | None = None,
        agent_id: str | None = None,
        limit: int,
    ) -> list[Recording]:
        """Those of these providers (None: of all), the latest first; of one contact, or one agent, if it is named."""
        which: list[sa.ColumnElement[bool]] = []
        if provider_ids is not None:
            which.append(recording_table.c.provider_id.in_(provider_ids))
        if contact_id is not None:
            which.append(recording_table.c.contact_id == contact_id)
        if agent_id is not None:
            which.append(recording_table.c.agent_id == agent_id)
        return await self._read(sa.and_(sa.true(), *which), limit=limit)

    async def running(self) -> list[Recording]:
        """At start: those in the middle of which a process died."""
        return await self._read(recording_table.c.state == TapeState.RUNNING.value)

    async def due(self, now: float, *, limit: int, skip: int = 0) -> list[Recording]:
        """Those whose day has come, and that nobody holds, but for the first `skip`; with them those of which nobody
        could say that they had ended: the shortest time they are kept is longer than any is made."""
        table = recording_table.c
        over = (table.state != TapeState.DELETED.value) & (table.delete_after <= now)
        return await self._read(over & sa.not_(table.held), limit=limit, skip=skip)

    async def _read(
        self, which: sa.ColumnElement[bool], limit: int | None = None, skip: int = 0
    ) -> list[Recording]:
        shown = ("provider_name", "product_name", "customer_id", "customer_name", "number")
        rows = await self._database.read(
            sa.select(recording_table, *(contact_table.c[name] for name in shown))
            .join(contact_table, contact_table.c.id == recording_table.c.contact_id)
            .where(which)
            .order_by(recording_table.c.started_at.desc(), recording_table.c.id.desc())
            .limit(limit)
            .offset(skip)
        )
        return [Recording(**{**row._mapping, "state": TapeState(row.state)}) for row in rows]

    # Messages of callers

    async def providers_with_messages(self) -> list[str]:
        """Providers some of whose messages were dealt with and have a file yet."""
        rows = await self._database.read(
            sa.select(voicemail_table.c.provider_id).where(_HAVE_FILE).distinct()
        )
        return [row.provider_id for row in rows]

    async def old_messages(
        self, provider_id: str, done_before: float, *, limit: int, skip: int = 0
    ) -> list[OldMessage]:
        """Messages of this provider that were dealt with before then, and have a file yet, but for the first `skip`."""
        table = voicemail_table.c
        rows = await self._database.read(
            sa.select(table.id, table.contact_id, table.path)
            .where(_HAVE_FILE, table.provider_id == provider_id, table.done_at <= done_before)
            .order_by(table.done_at, table.id)
            .limit(limit)
            .offset(skip)
        )
        return [OldMessage(**row._mapping) for row in rows]

    def message_deleted(self, voicemail_id: str, at: float) -> asyncio.Future[None]:
        return self._database.write(
            voicemail_table.update().where(voicemail_table.c.id == voicemail_id).values(deleted_at=at)
        )


_HAVE_FILE = voicemail_table.c.done_at.is_not(None) & voicemail_table.c.deleted_at.is_(None)
