"""A past stretch of traffic out of the event log and the tables, as `pbx.replay` takes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa

from config.database import Database
from config.events import Event, event_table
from config.queue_settings import QueueSettings, queues
from pbx.contact import Contact, Disposition
from pbx.past import Past
from pbx.past_floor import AWAY, free_agent
from pbx.replay import Duty, Fate, Refused, Request, Stretch
from pbx.router import FreeAgent
from pbx.store import PbxStore

MOST_CONTACTS = 200_000
_CHUNK = 500
_REFUSED = ("contact.declined", "contact.no_answer", "contact.busy", "contact.unreachable", "contact.asleep")
_OF_CONTACTS = (
    *_REFUSED,
    "contact.queued",
    "contact.reserved",
    "contact.connected",
    "contact.ended",
    "contact.wrapped_up",
)
_OF_AGENTS = ("agent.free", "agent.state_changed")
_LEFT = (Disposition.CUSTOMER_GAVE_UP.value, Disposition.CUSTOMER_LOST.value)


@dataclass(slots=True)
class _Told:
    """What the log tells of one contact."""

    queued_at: float | None = None
    reserved_at: float | None = None
    agent_id: str | None = None
    connected_at: float | None = None
    ended_at: float | None = None
    disposition: str = ""
    needed: str | None = None
    refused: list[Refused] = field(default_factory=list)


@dataclass(slots=True)
class _Agent:
    on: bool = False
    facts: FreeAgent | None = None
    wraps: str | None = None  # the contact they are writing up
    wraps_since: float = 0.0
    channels: set[str] = field(default_factory=set)


async def load(
    database: Database,
    store: PbxStore,
    past: Past,
    since: float,
    until: float,
    *,
    chats: int,
    own_chats: Mapping[str, int] | None = None,
) -> Stretch:
    """Contacts asked for from `since` to `until` (epoch seconds) that could be routed, and who was on duty then."""
    contacts = await store.asked_between(since, until, limit=MOST_CONTACTS)
    told = await _told(past, [contact.id for contact in contacts])
    first, last = await number_at(database, since), await number_at(database, until)
    before = [event for event in await past.agents(first) if event.kind in _OF_AGENTS]
    during = await past.events(
        event_table.c.seq.between(first, last), event_table.c.kind.in_(_OF_AGENTS), limit=None
    )
    duties, wraps = _duties(before, during, since)
    requests = [
        _request(contact, told[contact.id], wraps, until)
        for contact in contacts
        if told[contact.id].queued_at is not None
    ]
    refused = tuple(each for request in requests for each in told[request.contact.id].refused)
    return Stretch(tuple(requests), tuple(duties), until, chats, own_chats or {}, refused)


async def queues_then(past: Past, until: float) -> tuple[QueueSettings, ...] | None:
    """The settings of the queues that were last told of before that moment; None: none were."""
    found = await past.events(
        event_table.c.kind == "queue.settings", event_table.c.at <= until, limit=1000, latest=True
    )
    latest: dict[str, Mapping[str, Any]] = {}
    for event in found:
        # A start tells of all of them at once; what an earlier one told is over.
        if event.at >= found[0].at - 5.0:
            latest.setdefault(str(event.facts.get("queue")), event.facts)
    raw = [
        {"name": name, **{key: value for key, value in facts.items() if key != "queue"}}
        for name, facts in latest.items()
    ]
    try:
        return queues(raw) if raw else None
    except ValueError:  # told by another release
        return None


async def number_at(database: Database, moment: float) -> int:
    """The number of the first event that is not before the moment, by halving: the log is in order of time."""
    at, seq = event_table.c.at, event_table.c.seq
    low, high = 0, (await database.read(sa.select(sa.func.coalesce(sa.func.max(seq), 0))))[0][0] + 1
    while low < high:
        middle = (low + high) // 2
        rows = await database.read(sa.select(seq, at).where(seq >= middle).order_by(seq).limit(1))
        if rows and rows[0].at < moment:
            low = rows[0].seq + 1
        else:
            high = middle
    return low


async def _told(past: Past, ids: Sequence[str]) -> dict[str, _Told]:
    found = {contact_id: _Told() for contact_id in ids}
    for start in range(0, len(ids), _CHUNK):
        events = await past.events(
            event_table.c.contact_id.in_(ids[start : start + _CHUNK]),
            event_table.c.kind.in_(_OF_CONTACTS),
            limit=None,
        )
        for event in events:
            assert event.contact is not None
            _hear(found[event.contact], event)
    return found


def _hear(told: _Told, event: Event) -> None:
    match event.kind:
        case "contact.queued" if told.queued_at is None:
            told.queued_at = event.at
        case "contact.reserved" if told.connected_at is None:
            told.reserved_at = event.at
        case "contact.connected" if told.connected_at is None:
            told.connected_at, told.agent_id = event.at, event.agent
        case kind if kind in _REFUSED and told.connected_at is None and told.reserved_at is not None:
            outcome = kind.removeprefix("contact.")
            assert event.contact is not None
            told.refused.append(
                Refused(event.agent or "", event.contact, told.reserved_at, event.at, outcome)
            )
        case "contact.ended":
            told.ended_at, told.disposition = event.at, str(event.facts.get("disposition"))
        case "contact.wrapped_up" if event.facts.get("wrong_skill"):
            needed = event.facts.get("needed")
            told.needed = needed if isinstance(needed, str) else None


def _request(contact: Contact, told: _Told, wraps: Mapping[str, float], until: float) -> Request:
    assert told.queued_at is not None
    routable_at, over = told.queued_at, told.ended_at if told.ended_at is not None else until
    answer_s = handling_s = patience_s = None
    if told.connected_at is not None:
        was = Fate("joined", told.connected_at - routable_at, told.agent_id)
        if told.reserved_at is not None and told.reserved_at <= told.connected_at:
            answer_s = told.connected_at - told.reserved_at
        if told.ended_at is not None:
            handling_s = told.ended_at - told.connected_at + wraps.get(contact.id, 0.0)
    elif told.ended_at is None:
        was = Fate("open", max(0.0, over - routable_at))
    else:
        left = told.disposition in _LEFT
        overflowed = told.disposition in (Disposition.VOICEMAIL.value, Disposition.CALL_BACK_FAILED.value)
        was = Fate("gave up" if left else "overflowed" if overflowed else "nobody", over - routable_at)
        patience_s = over - routable_at if left else None
    was = replace(was, refused=len(told.refused))
    required = frozenset((need.skill, need.level) for need in contact.needs if need.required)
    truly = frozenset({(told.needed, 1)}) if told.needed is not None else required
    return Request(contact, routable_at, was, answer_s, handling_s, patience_s, truly)


def _duties(
    before: Iterable[Event], during: Iterable[Event], since: float
) -> tuple[list[Duty], dict[str, float]]:
    """When who was on duty; and how long each contact was written up."""
    agents: dict[str, _Agent] = {}
    duties: list[Duty] = []
    wraps: dict[str, float] = {}
    for is_before, events in ((True, sorted(before, key=lambda event: event.seq)), (False, during)):
        for event in events:
            if event.agent is None:
                continue
            agent = agents.setdefault(event.agent, _Agent())
            was = agent.on, agent.facts
            _learn(agent, event, wraps)
            if not is_before and (agent.on, agent.facts) != was:
                _note(duties, event.at, event.agent, agent)
        if is_before:
            for agent_id, agent in agents.items():
                _note(duties, since, agent_id, agent)
    return duties, wraps


def _learn(agent: _Agent, event: Event, wraps: dict[str, float]) -> None:
    if event.kind == "agent.free":
        agent.on = True  # nobody is on the floor who is not on duty
        told = free_agent(event.agent or "", event.facts)
        # While they chat they can take chats alone: what they can at all is what they ever could.
        agent.channels |= told.channels
        facts = replace(told, channels=frozenset(agent.channels), idle_since=0.0, offered_at=0.0, taken=0)
        agent.facts = facts
        return
    new, old = event.facts.get("new"), event.facts.get("old")
    if old == "WrapUp" and agent.wraps is not None:
        wraps[agent.wraps] = event.at - agent.wraps_since
        agent.wraps = None
    if new == "WrapUp" and event.contact is not None:
        agent.wraps, agent.wraps_since = event.contact, event.at
    agent.on = new not in AWAY


def _note(duties: list[Duty], at: float, agent_id: str, agent: _Agent) -> None:
    duties.append(Duty(at, agent_id, agent.facts if agent.on else None))
