"""Which agent for which contact: pure. The state of the floor and `now` go in; a pair comes out, or when to look again.

The rule: contacts by their place. The first that a free agent may serve now (`may_serve`) goes to the one of these
whose turn it is (`turn`) by its queue's strategy. Asked after all others are, in this order of weight: who refused it
last, who is on standby, who refused it at all. The agent it was kept for comes before their equals.

`choose_plainly` is this rule, asked of everybody. `choose` finds the same by what has changed: where nobody could be
served a moment ago, only a contact that has come, an agent who has come, or the time can have made anything possible.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from heapq import heappop, heappush, heapreplace
from itertools import count
from types import MappingProxyType

from config.queue_settings import Strategy
from pbx.free_agents import Agents, FreeAgent, FreeAgents, Turn, turn
from pbx.queue import Group, Line, Order, Queue, Waiting

__all__ = ["Floor", "FreeAgent", "Nobody", "Pair", "choose", "choose_plainly", "may_serve", "turn"]

_LONGEST_IDLE: Mapping[str, Strategy] = MappingProxyType({})

# So many agents who have just come are looked at one by one; for more it is quicker to look at all lines.
FEW = 32

NEVER: Order = (math.inf, "")  # after every contact


@dataclass(frozen=True, slots=True)
class Pair:
    contact_id: str
    agent_id: str
    idle_since: float
    asked_again: bool  # this agent refused it before
    preferred: bool  # this agent helped the customer last
    step: int  # how many of the contact's steps have come


@dataclass(frozen=True, slots=True)
class Nobody:
    """No pair now; `look_at` is the next moment at which time alone may change that, None if only news can."""

    look_at: float | None


def may_serve(agent: FreeAgent, waiting: Waiting, now: float) -> str | None:
    """None: they may. Else the first thing that keeps them from it, as a code with its facts:

    `wall`, `channel`, `language`, `skill:boiler 2<3` (has 2, 3 is needed), `refused:12.5` (not again for 12.5 s),
    `kept-for:a_x` (the agent it is kept for now).
    """
    group = waiting.needs(now)
    if agent.providers and group.provider_id not in agent.providers:
        return "wall"
    if group.channel not in agent.channels:
        return "channel"
    if group.language is not None and agent.languages and group.language not in agent.languages:
        return "language"
    for skill, least in sorted(group.required):
        if agent.levels.get(skill, 0) < least:
            return f"skill:{skill} {agent.levels.get(skill, 0)}<{least}"
    pause_s = waiting.refusals.get(agent.agent_id, now) - now
    if pause_s > 0:
        return f"refused:{pause_s:.1f}"
    kept_for = waiting.kept_for(now)
    return f"kept-for:{kept_for}" if kept_for not in (None, agent.agent_id) else None


def choose_plainly(
    waitings: Iterable[Waiting],
    agents: Iterable[FreeAgent],
    strategies: Mapping[str, Strategy],
    now: float,
) -> Pair | Nobody:
    """The rule itself, asked of everybody; `choose` finds the same without."""
    waitings, agents = sorted(waitings, key=lambda each: each.order), list(agents)
    for waiting in waitings:
        able = [agent for agent in agents if may_serve(agent, waiting, now) is None]
        if able:
            group = waiting.needs(now)
            strategy = strategies.get(group.queue, Strategy.LONGEST_IDLE)
            return _pair(
                waiting, min(able, key=lambda agent: _turn_for(agent, waiting, group, strategy)), now
            )
    moments = [at for waiting in waitings if (at := waiting.changes_at(now)) is not None]
    return Nobody(min(moments, default=None) if agents else None)


def _turn_for(agent: FreeAgent, waiting: Waiting, group: Group, strategy: Strategy) -> Turn:
    return (
        agent.agent_id == waiting.last_refused,
        agent.standby,
        agent.agent_id in waiting.refusals,
        agent.agent_id != waiting.preferred,
        *turn(agent, group, strategy),
    )


def _pair(waiting: Waiting, agent: FreeAgent, now: float) -> Pair:
    return Pair(
        waiting.contact_id,
        agent.agent_id,
        agent.idle_since,
        asked_again=agent.agent_id in waiting.refusals,
        preferred=agent.agent_id == waiting.preferred,
        step=waiting.step(now),
    )


class Floor:
    """Everything the router looks at. `strategies` by name of queue; longest idle where there is none."""

    def __init__(self, strategies: Mapping[str, Strategy] = _LONGEST_IDLE) -> None:
        self.strategies = strategies
        self.queue = Queue()
        self.free = FreeAgents(strategies.values())
        # Whatever pair is possible, its contact's line or its agent is among these.
        self._lines: list[tuple[Order, int, Line]] = []  # a heap, of some that are noted no longer too
        self._agents: dict[str, None] = {}  # in the order they came
        self._number = count()

    def __contains__(self, contact_id: str) -> bool:
        return contact_id in self.queue

    def add(self, waiting: Waiting) -> None:
        """Take its place; adding a contact again replaces what was known of it."""
        self._note(self.queue.add(waiting))

    def remove(self, contact_id: str) -> Waiting | None:
        return self.queue.remove(contact_id)

    def waiting(self, contact_id: str) -> Waiting | None:
        return self.queue.get(contact_id)

    def position(self, contact_id: str) -> int | None:
        """1 is the next one of all whom the same agents might take; None: not in the queue."""
        return self.queue.position(contact_id)

    def groups(self) -> dict[Group, int]:
        """How many wait for the same."""
        return self.queue.groups()

    def put(self, agent: FreeAgent) -> None:
        """Free now, or still, but with other facts."""
        if self.free.put(agent):
            self._agents[agent.agent_id] = None

    def take(self, agent_id: str) -> FreeAgent | None:
        self._agents.pop(agent_id, None)
        return self.free.take(agent_id)

    def agent(self, agent_id: str) -> FreeAgent | None:
        return self.free.get(agent_id)

    def choose(self, now: float) -> Pair | Nobody:
        for line in self.queue.advance(now):
            self._note(line)
        if len(self._agents) > FEW:
            self._agents.clear()
            for line in self.queue.lines():
                self._note(line)
        found = self._first_noted()
        firsts = [first for agent_id in tuple(self._agents) if (first := self._first_for(agent_id))]
        if firsts and (found is None or min(firsts) < found[0].order):
            waiting, line = self.queue.held(min(firsts)[1])
            found = self._best(waiting, line, self.free.able(line))
        if found is None:
            return Nobody(self.queue.next_moment() if len(self.free) else None)
        return _pair(*found, self.queue.now)

    def _note(self, line: Line) -> None:
        """Somebody in this line may be served now who could not before."""
        first = line.contacts[0]
        if line.noted is None or first < line.noted:
            line.noted = first
            heappush(self._lines, (first, next(self._number), line))

    def _first_noted(self) -> tuple[Waiting, FreeAgent] | None:
        """The first contact of a noted line that somebody free may serve. Lines without one are noted no longer."""
        while self._lines:
            noted, _, line = self._lines[0]
            if line.noted != noted:
                heappop(self._lines)
                continue
            found = self._first_in(line)
            line.noted = found[0].order if found is not None else None
            if line.noted == noted:
                return found
            if line.noted is None:
                heappop(self._lines)
            else:
                heapreplace(self._lines, (line.noted, next(self._number), line))
        return None

    def _first_in(self, line: Line) -> tuple[Waiting, FreeAgent] | None:
        able = self.free.able(line)
        for _, contact_id in line.contacts if able else ():
            found = self._best(*self.queue.held(contact_id), able)
            if found is not None:
                return found
        return None

    def _first_for(self, agent_id: str) -> Order | None:
        """The first contact that this agent may serve; without one they are looked at no longer."""
        known, now, best = self.free.known(agent_id), self.queue.now, NEVER
        for shelf in self.queue.shelves(agent_id, known.needs):
            for first, line in shelf:
                if first >= best:
                    break
                if known.may_serve(line):
                    fresh = (
                        order
                        for order in line.contacts
                        if self.queue.held(order[1])[0].refusals.get(agent_id, now) <= now
                    )
                    best = min(best, next(fresh, best))
        if best == NEVER:
            del self._agents[agent_id]
            return None
        return best

    def _best(self, waiting: Waiting, line: Line, able: Agents) -> tuple[Waiting, FreeAgent] | None:
        strategy = self.strategies.get(line.group.queue, Strategy.LONGEST_IDLE)
        agent = self.free.best(able, waiting, line.group, strategy, self.queue.now)
        return (waiting, agent) if agent is not None else None


def choose(floor: Floor, now: float) -> Pair | Nobody:
    """The pair whose turn it is, as long as it is there: take the agent and remove the contact before asking again."""
    return floor.choose(now)
