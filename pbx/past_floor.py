"""The router's floor as it was: rebuilt from the event log, event by event. Pure.

Who was free, with what skills and idle since when, stands in `agent.free` and `agent.taken_off`; who waited, for what,
in `contact.queued`. A choice itself is the moment at which the chosen agent was taken off the floor; `contact.reserved`
is told a little later, when the agent is held.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any

from config.events import Event
from config.queue_settings import DEFAULT
from pbx.queue import Group, Waiting
from pbx.router import FreeAgent

# After these a contact is in no queue until it is queued anew.
_LEAVES = frozenset(
    {
        *("contact.reserved", "contact.unqueued", "contact.accepted", "contact.connected", "contact.ended"),
        *("contact.resumed", "contact.calling_back", "contact.overflowed", "contact.transferred"),
    }
)
CONTACT_KINDS = frozenset({"contact.requested", "contact.queued", *_LEAVES})
FLOOR_KINDS = frozenset({"agent.free", "agent.taken_off"})
STATE_KINDS = frozenset({"agent.state_changed", "agent.made_not_ready"})
AWAY = ("Offline", "NotReady")


@dataclass(slots=True)
class AgentPast:
    """What is known of an agent at the moment. `known` are their latest facts on the floor, free or not."""

    agent_id: str
    state: str = "Offline"
    since: float | None = None
    reason: str = ""
    contact_id: str | None = None  # what they were busy with
    free: FreeAgent | None = None
    known: FreeAgent | None = None


@dataclass(slots=True)
class PastFloor:
    """All there is to choose from at one moment."""

    agents: dict[str, AgentPast] = field(default_factory=dict)
    waiting: dict[str, Waiting] = field(default_factory=dict)
    asked_at: dict[str, float] = field(default_factory=dict)

    @property
    def free(self) -> list[FreeAgent]:
        return [past.free for past in self.agents.values() if past.free is not None]

    def tell(self, event: Event) -> None:
        """Something happened; events come in the order of the log."""
        kind, facts = event.kind, event.facts
        if event.agent is not None and kind in FLOOR_KINDS:
            self._floor_changed(self._agent(event.agent), kind, facts)
            self.waiting.pop(facts.get("chosen_for", ""), None)
        elif event.agent is not None and kind in STATE_KINDS:
            self._state_changed(self._agent(event.agent), event)
        elif event.contact is not None and kind in CONTACT_KINDS:
            self._contact_changed(event.contact, event)

    def _agent(self, agent_id: str) -> AgentPast:
        return self.agents.setdefault(agent_id, AgentPast(agent_id))

    @staticmethod
    def _floor_changed(past: AgentPast, kind: str, facts: Mapping[str, Any]) -> None:
        past.free = free_agent(past.agent_id, facts) if kind == "agent.free" else None
        past.known = past.free or past.known

    @staticmethod
    def _state_changed(past: AgentPast, event: Event) -> None:
        if event.kind == "agent.made_not_ready":
            past.reason = f"after {event.facts.get('after')} × {event.facts.get('outcome')}"
            return
        state = str(event.facts.get("new", past.state))
        if state != past.state or past.since is None:
            past.state, past.since = state, event.at
        past.reason = str(event.facts.get("reason") or "")
        past.contact_id = event.contact or past.contact_id
        if state in AWAY:  # whatever was not told, as before a crash
            past.free = None

    def _contact_changed(self, contact_id: str, event: Event) -> None:
        kind, facts = event.kind, event.facts
        if kind == "contact.requested":
            self.asked_at[contact_id] = event.at
        elif kind == "contact.queued":
            told = facts.get("refusals") or {}
            refusals = {agent_id: moment(until) for agent_id, until in told.items()}
            asked_at = self.asked_at.get(contact_id, event.at)
            self.waiting[contact_id] = waiting_from(contact_id, facts, asked_at, refusals)
        elif kind in _LEAVES:
            self.waiting.pop(contact_id, None)


def floor_before(events: Iterable[Event], seq: float) -> PastFloor:
    """The floor as it was just before the event of that number; `events` are in order, and may be a selection."""
    floor = PastFloor()
    for event in events:
        if event.seq >= seq:
            break
        floor.tell(event)
    return floor


def free_agent(agent_id: str, facts: Mapping[str, Any]) -> FreeAgent:
    """An agent as `agent.free` told of them."""
    return FreeAgent(
        agent_id=agent_id,
        levels=dict(facts.get("skills") or {}),
        providers=frozenset(facts.get("providers") or ()),
        channels=frozenset(facts.get("channels") or ()),
        languages=frozenset(facts.get("languages") or ()),
        idle_since=float(facts.get("idle_since") or 0.0),
        offered_at=float(facts.get("offered_at") or 0.0),
        taken=int(facts.get("taken") or 0),
        standby=bool(facts.get("standby")),
    )


def waiting_from(
    contact_id: str, facts: Mapping[str, Any], asked_at: float, refusals: Mapping[str, float]
) -> Waiting:
    """A contact as `contact.queued` told of it."""
    told = facts.get("group") or {}
    group = Group(
        provider_id=str(told.get("provider", "")),
        channel=str(told.get("channel", "")),
        required=_required(told),
        language=told.get("language"),
        queue=str(facts.get("queue") or DEFAULT),
    )
    steps = tuple(
        (float(at), replace(group, required=_required(relaxed), language=relaxed.get("language")))
        for at, relaxed in facts.get("steps") or ()
    )
    return Waiting(
        contact_id=contact_id,
        group=group,
        place=float(facts.get("place", asked_at)),
        asked_at=asked_at,
        refusals=refusals,
        last_refused=facts.get("last_refused"),
        preferred=facts.get("preferred"),
        preferred_until=float(facts.get("preferred_until") or 0.0),
        steps=steps,
    )


def moment(told: object) -> float:
    """A moment as the log tells it: JSON knows no infinity."""
    return float(told) if isinstance(told, int | float) else inf


def _required(told: Mapping[str, Any]) -> frozenset[tuple[str, int]]:
    return frozenset((skill, int(level)) for skill, level in (told.get("required") or {}).items())
