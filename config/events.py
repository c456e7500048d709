"""The event log: what happened to every contact, in order, each with its own time and facts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from twisted.logger import Logger

from config.absence import NotAnswering
from config.database import Database, Parameters, metadata
from config.kept_events import KeptEvents

log = Logger()

event_table = sa.Table(
    "event",
    metadata,
    sa.Column(
        "seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True
    ),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("kind", sa.String(64), nullable=False),
    sa.Column("contact_id", sa.String(64), nullable=True),
    sa.Column("visit_id", sa.String(64), nullable=True),
    sa.Column("agent_id", sa.String(64), nullable=True),
    sa.Column("facts", sa.JSON, nullable=False),
    sa.Index("event_by_contact", "contact_id", "seq"),
    # Of agents alone: an index costs as much to write as the event itself, and contacts' events have theirs.
    sa.Index(
        "event_by_agent",
        "agent_id",
        "kind",  # the latest of a kind that is rare must not be looked for among years of others
        "seq",
        sqlite_where=sa.text("kind LIKE 'agent.%'"),
        postgresql_where=sa.text("kind LIKE 'agent.%'"),
    ),
    # A number must never be given twice, or a reader that follows by number would miss an event.
    sqlite_autoincrement=True,
)

_INSERT = event_table.insert()


@dataclass(frozen=True, slots=True)
class Event:
    """One fact of the log. ``at`` is in epoch seconds; ``seq`` is 0 until the event has been read back."""

    seq: int
    at: float
    kind: str
    contact: str | None
    visit: str | None
    agent: str | None
    facts: Mapping[str, Any]


Listener = Callable[[Event], None]


class EventLog:
    """Writes events in the order they are told, and tells whoever listens at once."""

    def __init__(self, database: Database, now: Callable[[], float]) -> None:
        self._database = database
        self._now = now
        self._kept = KeptEvents(database, event_table)
        self._listeners: list[tuple[Listener, frozenset[str]]] = []
        # By kind, who is to hear of it: most of what is written concerns few.
        self._hearing: dict[str, tuple[Listener, ...]] = {}

    def write(
        self,
        kind: str,
        *,
        contact: str | None = None,
        visit: str | None = None,
        agent: str | None = None,
        **facts: Any,
    ) -> asyncio.Future[None]:
        """Write one event; the future resolves when it is durable, within some 50 ms. Order is kept.

        While the database is away the future fails, and the event is kept in memory until it is back, in order; beyond
        `kept_events.MOST` they are lost, and the log says how many.
        """
        at = self._now()
        row = {
            "at": at,
            "kind": kind,
            "contact_id": contact,
            "visit_id": visit,
            "agent_id": agent,
            "facts": facts,
        }
        if self._kept:
            written = self._after_those_kept(row)
        else:
            written = self._database.write((_INSERT, [row]), patient=True, rescue=self._rescue)
        hearing = self._hearing.get(kind)
        if hearing is None:
            hearing = self._hearing[kind] = tuple(
                listener for listener, kinds in self._listeners if not kinds or kind in kinds
            )
        if hearing:
            event = Event(0, at, kind, contact, visit, agent, facts)
            for listener in hearing:
                try:
                    listener(event)
                except Exception:
                    log.failure("A listener to events failed on {kind}", kind=kind)
        return written

    def _rescue(self, rows: Sequence[Parameters]) -> None:
        for row in rows:
            self._kept.keep(row, told=True)

    def _after_those_kept(self, row: Parameters) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.set_exception(NotAnswering())
        future.exception()  # nobody has to look: it is kept, or said to be lost
        self._kept.keep(row, told=False)
        return future

    def subscribe(self, listener: Listener, kinds: Iterable[str] = ()) -> Callable[[], None]:
        """Call ``listener`` with every event from now on, as it is written, or with those of these kinds alone; returns
        what ends that."""
        entry = listener, frozenset(kinds)
        self._listeners.append(entry)
        self._hearing.clear()

        def unsubscribe() -> None:
            if entry in self._listeners:
                self._listeners.remove(entry)
                self._hearing.clear()

        return unsubscribe

    async def read(self, *, contact: str | None = None, after_seq: int = 0, limit: int = 1000) -> list[Event]:
        """Stored events after ``after_seq``, oldest first, at most ``limit``, of one contact or of all."""
        query = (
            sa.select(event_table)
            .where(event_table.c.seq > after_seq)
            .order_by(event_table.c.seq)
            .limit(limit)
        )
        if contact is not None:
            query = query.where(event_table.c.contact_id == contact)
        return [
            Event(row.seq, row.at, row.kind, row.contact_id, row.visit_id, row.agent_id, row.facts)
            for row in await self._database.read(query)
        ]
