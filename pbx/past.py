"""What the event log must be asked for to tell why: of a moment, never of a whole day.

For each offer: the contact's own events, those of the contacts that stood before it then, and of each agent the latest
news before the moment. Each is found by an index, so that the answer costs as much on a log of years as on a new one.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from math import inf
from typing import Any

import sqlalchemy as sa

from agent_presence.roster import Roster
from agent_presence.store import agent_table
from config.database import Database
from config.errors import TheirError
from config.events import Event, event_table
from config.queue_settings import Strategy
from pbx.contact import Contact, State
from pbx.past_floor import CONTACT_KINDS, FLOOR_KINDS, STATE_KINDS, floor_before
from pbx.router import FreeAgent
from pbx.store import PbxStore, contact_table
from pbx.why import Choice, Known, by_name, judge, outcome_after, strategies_of

MOST_EVENTS_OF_A_CONTACT = 5000
MOST_BEFORE = 2000
"""Contacts that stood before one in the queue, as far as they are looked at: the nearest ones."""
MOST_OFFERS = 50
"""Offers of one contact that are looked at: the latest ones."""
LONGEST_WAIT_S = 86400.0
FEWEST_DIGITS = 4
MOST_LOOKED_AT = 5000
"""Contacts among which one is sought by name or number: the latest ones."""
_CHUNK = 500
# Said in the words of the index by agent, which holds these events alone.
_OF_AGENTS = event_table.c.kind.like(sa.literal_column("'agent.%'"))


class Past:
    """Reads only. `strategies` are those now set, for queues of which an event does not tell."""

    def __init__(
        self, database: Database, store: PbxStore, roster: Roster, strategies: Mapping[str, Strategy]
    ) -> None:
        self._database = database
        self._store = store
        self._roster = roster
        self._strategies = strategies

    async def contact(self, contact_id: str) -> Contact:
        """TheirError 404 for one that never was."""
        contact = await self._store.contact(contact_id)
        if contact is None:
            raise TheirError(f"There is no contact {contact_id}.", 404)
        return contact

    async def why(self, contact: Contact, now: float) -> list[Choice]:
        """Each offer of the contact, and, if it waits, how things stand `now` (epoch seconds)."""
        own = await self.events(event_table.c.contact_id == contact.id, limit=MOST_EVENTS_OF_A_CONTACT)
        reserved = [event for event in own if event.kind == "contact.reserved" and event.agent is not None]
        reserved = reserved[-MOST_OFFERS:]
        waits = contact.state is State.WAITING
        if not reserved and not waits:
            return []
        others = await self._others(contact, until=now if waits else reserved[-1].at)
        roster = known_agents(self._roster, now)
        found: list[Choice] = []
        for event in reserved:
            outcome = outcome_after(own, event)
            if "by" in event.facts:
                found.append(by_name(event, contact.facts.asked_at, outcome, roster))
                continue
            seq, at = await self._chosen_at(event)
            strategies = strategies_of(event, self._strategies)
            here = self._here(roster, at)
            told = own, others, _of(here, await self.agents(seq))
            choice = await _judged(told, seq, contact.id, at, strategies, here, event.agent, outcome)
            found += [choice] if choice is not None else []
        if waits:
            here = self._here(roster, now)
            told = own, others, _of(here, await self.agents(None))
            choice = await _judged(told, None, contact.id, now, self._strategies, here, None, "waiting")
            found += [choice] if choice is not None else []
        return found

    def _here(self, roster: Mapping[str, Known], at: float) -> dict[str, Known]:
        """Those who had not left yet."""
        gone = {agent.id for agent in self._roster.left() if (agent.left_at or 0.0) <= at}
        return {agent_id: known for agent_id, known in roster.items() if agent_id not in gone}

    async def _chosen_at(self, reserved: Event) -> tuple[int, float]:
        """The number and time of the event with which the agent left the floor for it."""
        left = await self.events(
            event_table.c.agent_id == reserved.agent,
            _OF_AGENTS,
            event_table.c.seq < reserved.seq,
            event_table.c.kind == "agent.taken_off",
            limit=1,
            latest=True,
        )
        if left and left[0].facts.get("chosen_for") == reserved.contact:
            return left[0].seq, left[0].at
        return reserved.seq, reserved.at

    async def of_caller(self, wanted: str, provider_ids: Sequence[str], *, limit: int) -> list[str]:
        """The ids of the latest contacts of somebody of that name, or with that number; the newest first.

        Among the last `MOST_LOOKED_AT` of the server's; of these providers alone, of any where none are named.
        """
        table = contact_table.c
        # An id begins with its time: its own index finds the latest ones.
        latest = sa.select(table.id).order_by(table.id.desc()).limit(MOST_LOOKED_AT).subquery()
        asked = sa.select(table.id, table.customer_name, table.number).where(
            table.id.in_(sa.select(latest.c.id)),
            *([table.provider_id.in_(provider_ids)] if provider_ids else []),
        )
        rows = await self._database.read(asked.order_by(table.id.desc()))
        names, number = wanted.casefold().split(), digits_of(wanted)
        is_theirs = [
            row.id
            for row in rows
            if all(name in row.customer_name.casefold() for name in names)
            or (number and number in row.number)
        ]
        return is_theirs[:limit]

    async def of_providers(self, ids: Sequence[str], provider_ids: Sequence[str]) -> frozenset[str]:
        """Those of these contacts that are of one of these providers."""
        table = contact_table.c
        found: set[str] = set()
        for start in range(0, len(ids), _CHUNK):
            chunk = table.id.in_(ids[start : start + _CHUNK])
            rows = await self._database.read(
                sa.select(table.id).where(chunk, table.provider_id.in_(provider_ids))
            )
            found.update(row.id for row in rows)
        return frozenset(found)

    async def agents(self, before: int | None) -> list[Event]:
        """Of every agent the latest news of each kind before that number."""
        agent = agent_table.c.id

        def latest(kind: str) -> Any:
            which = [event_table.c.agent_id == agent, _OF_AGENTS, event_table.c.kind == kind]
            if before is not None:
                which.append(event_table.c.seq < before)
            return (
                sa.select(event_table.c.seq)
                .where(*which)
                .order_by(event_table.c.seq.desc())
                .limit(1)
                .correlate(agent_table)
                .scalar_subquery()
            )

        columns = [
            latest(kind).label(f"of_{place}") for place, kind in enumerate(sorted(FLOOR_KINDS | STATE_KINDS))
        ]
        rows = await self._database.read(sa.select(*columns).select_from(agent_table))
        numbers = sorted({number for row in rows for number in row if number is not None})
        found: list[Event] = []
        for start in range(0, len(numbers), _CHUNK):
            found += await self.events(event_table.c.seq.in_(numbers[start : start + _CHUNK]), limit=None)
        return found

    async def _others(self, contact: Contact, until: float) -> list[Event]:
        """The events of contacts that may have stood before this one, up to that moment."""
        table = contact_table.c
        rows = await self._database.read(
            sa.select(table.id)
            .where(
                table.asked_at.between(contact.facts.asked_at - LONGEST_WAIT_S, until),
                sa.or_(table.ended_at.is_(None), table.ended_at >= contact.facts.asked_at),
                table.id != contact.id,
            )
            .order_by(table.asked_at.desc())
            .limit(MOST_BEFORE)
        )
        ids = [row.id for row in rows]
        found: list[Event] = []
        for start in range(0, len(ids), _CHUNK):
            found += await self.events(
                event_table.c.contact_id.in_(ids[start : start + _CHUNK]),
                event_table.c.kind.in_(CONTACT_KINDS),
                limit=None,
            )
        return sorted(found, key=lambda event: event.seq)

    async def events(
        self, *which: sa.ColumnElement[bool], limit: int | None, latest: bool = False
    ) -> list[Event]:
        """Events in the order of the log, or with `latest` the other way round."""
        order = event_table.c.seq.desc() if latest else event_table.c.seq
        rows = await self._database.read(event_table.select().where(*which).order_by(order).limit(limit))
        return [
            Event(row.seq, row.at, row.kind, row.contact_id, row.visit_id, row.agent_id, row.facts)
            for row in rows
        ]


def digits_of(wanted: str) -> str:
    """A telephone number as it is typed, or part of it, as far as it is the same in every spelling; else empty."""
    if re.search(r"[^0-9+()/. -]", wanted):
        return ""
    digits = re.sub("[^0-9]", "", wanted).lstrip("0")
    return digits if len(digits) >= FEWEST_DIGITS else ""


def known_agents(roster: Roster, now: float) -> dict[str, Known]:
    """What the roster says of everybody, also of those who have left."""
    return {
        agent.id: Known(
            agent.name,
            FreeAgent(
                agent_id=agent.id,
                levels=dict(agent.skills),
                providers=frozenset(agent.provider_ids),
                channels=frozenset(),
                languages=frozenset(agent.languages),
                idle_since=now,
                standby=agent.standby,
            ),
        )
        for agent in (*roster.agents(), *roster.left())
    }


def _of(here: Mapping[str, Known], events: Sequence[Event]) -> list[Event]:
    return [event for event in events if event.agent in here]


async def _judged(
    told: Sequence[Sequence[Event]],
    seq: int | None,
    contact_id: str,
    at: float,
    strategies: Mapping[str, Strategy],
    roster: Mapping[str, Known],
    chosen: str | None,
    outcome: str,
) -> Choice | None:
    """The choice before the event of that number, or (None) as things stand; None where it does not wait.

    In a thread: of thousands of agents and contacts it takes seconds, in which others are to be served.
    """

    def look() -> Choice | None:
        floor = floor_before(_in_order(*told), inf if seq is None else seq)
        if chosen is None and contact_id not in floor.waiting:
            return None
        return judge(floor, contact_id, at, strategies, roster, chosen, outcome)

    return await asyncio.to_thread(look)


def _in_order(*selections: Sequence[Event]) -> list[Event]:
    return sorted((event for selection in selections for event in selection), key=lambda event: event.seq)
