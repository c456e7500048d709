"""Which agent for which contact: pure. An indexed state and `now` go in; a pair, or when to look again, comes out.

The rule: contacts in the order they asked. For the first that any free agent may serve, the agent who has been
idle longest among those who have not yet refused it; one on standby only when no other is free for it. One who has
refused it is asked again only when no other is free and `pause_s` has passed since.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass

from pbx.queue import Group, Queue, Waiting

PAUSE_S = 30.0


@dataclass(frozen=True, slots=True)
class FreeAgent:
    """An agent who may be asked now. Not ready, not registered, or no capacity: there is no such record.

    `providers` empty means every provider's wall is open to them. `channels` are those at least one of their
    registered devices can carry and that they have capacity for.
    """

    agent_id: str
    skills: frozenset[str]
    providers: frozenset[str]
    channels: frozenset[str]
    idle_since: float
    standby: bool = False

    @property
    def place(self) -> tuple[bool, float, str]:
        """Whose turn it is: the smallest first."""
        return self.standby, self.idle_since, self.agent_id

    def may_serve(self, group: Group) -> bool:
        return (
            group.channel in self.channels
            and group.required <= self.skills
            and (not self.providers or group.provider_id in self.providers)
        )


class FreeAgents:
    """Free agents, indexed by skill and kept in the order of their turns."""

    def __init__(self) -> None:
        self._agents: dict[str, FreeAgent] = {}
        self._everyone: list[tuple[bool, float, str]] = []
        self._by_skill: dict[str, list[tuple[bool, float, str]]] = {}

    def __len__(self) -> int:
        return len(self._agents)

    def get(self, agent_id: str) -> FreeAgent | None:
        return self._agents.get(agent_id)

    def put(self, agent: FreeAgent) -> None:
        known = self._agents.get(agent.agent_id)
        if known == agent:
            return
        if known is not None:
            self.remove(agent.agent_id)
        self._agents[agent.agent_id] = agent
        insort(self._everyone, agent.place)
        for skill in agent.skills:
            insort(self._by_skill.setdefault(skill, []), agent.place)

    def remove(self, agent_id: str) -> None:
        agent = self._agents.pop(agent_id, None)
        if agent is None:
            return
        del self._everyone[bisect_left(self._everyone, agent.place)]
        for skill in agent.skills:
            places = self._by_skill[skill]
            del places[bisect_left(places, agent.place)]

    def serving(self, group: Group) -> Iterator[FreeAgent]:
        """Free agents who may serve the group, whose turn it is first; looks only through its rarest skill."""
        places = self._everyone
        for skill in group.required:
            rarer = self._by_skill.get(skill, [])
            if len(rarer) < len(places):
                places = rarer
        for _, _, agent_id in places:
            agent = self._agents[agent_id]
            if agent.may_serve(group):
                yield agent


@dataclass(slots=True)
class Floor:
    """Everything the router looks at."""

    queue: Queue
    free: FreeAgents


@dataclass(frozen=True, slots=True)
class Pair:
    contact_id: str
    agent_id: str
    idle_since: float
    asked_again: bool  # this agent refused it before, and nobody else is free


@dataclass(frozen=True, slots=True)
class Nobody:
    """No pair now; `look_at` is when a pause ends that may change it, None if only news can."""

    look_at: float | None


def choose(floor: Floor, now: float, *, pause_s: float = PAUSE_S) -> Pair | Nobody:
    best: tuple[tuple[float, str], Pair] | None = None
    for waiting in floor.queue.heads():
        if best is None or waiting.place < best[0]:
            agent = next(floor.free.serving(waiting.group), None)
            if agent is not None:
                best = waiting.place, Pair(waiting.contact_id, agent.agent_id, agent.idle_since, False)
    look_at: float | None = None
    for waiting in floor.queue.refused():
        if best is not None and waiting.place > best[0]:
            continue
        found = _for_refused(floor, waiting, now, pause_s)
        if isinstance(found, Pair):
            best = waiting.place, found
        elif found is not None:
            look_at = found if look_at is None else min(look_at, found)
    return best[1] if best is not None else Nobody(look_at)


def _for_refused(floor: Floor, waiting: Waiting, now: float, pause_s: float) -> Pair | float | None:
    """A pair; or when the earliest pause of a free agent ends; or None: no free agent may serve it at all."""
    again: tuple[tuple[bool, float, float, str], FreeAgent] | None = None
    look_at: float | None = None
    for agent in floor.free.serving(waiting.group):
        refused_at = waiting.refusals.get(agent.agent_id)
        if refused_at is None:
            return Pair(waiting.contact_id, agent.agent_id, agent.idle_since, False)
        pause_ends = refused_at + pause_s
        if now < pause_ends:
            look_at = pause_ends if look_at is None else min(look_at, pause_ends)
            continue
        turn = (agent.standby, refused_at, agent.idle_since, agent.agent_id)
        if again is None or turn < again[0]:
            again = turn, agent
    if again is not None:
        return Pair(waiting.contact_id, again[1].agent_id, again[1].idle_since, True)
    return look_at
