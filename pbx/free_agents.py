"""Who is free: what they can do, and whose turn it is among any number of them, without a look at each.

A set of agents is one whole number with a bit for each. Who has an ability (a skill at a level, a channel, a provider's
wall open) is such a set, so those who may serve a group are a few of them ANDed, however many agents there are.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import reduce
from operator import or_

from config.queue_settings import Strategy
from pbx.queue import Group, Line, Need, Waiting

Turn = tuple[float | str, ...]  # the smallest first; the last is the agent's id
Agents = int  # a set of agents

HIGHEST_LEVEL = 5
BLOCK = 32  # agents
SPAN = 32  # blocks

_ANY = Group("", "", frozenset())


@dataclass(frozen=True, slots=True)
class FreeAgent:
    """An agent who may be asked now. Not ready, not registered, or no capacity: there is no such record.

    `channels` are those at least one of their registered devices can carry and that they have capacity for.
    """

    agent_id: str
    levels: Mapping[str, int]  # skill -> 1 to 5
    providers: frozenset[str]  # empty: every provider's wall is open to them
    channels: frozenset[str]
    languages: frozenset[str]  # empty: any
    idle_since: float
    offered_at: float = 0.0  # when they were last asked for a contact
    taken: int = 0  # contacts taken since they came on
    standby: bool = False  # asked only when no other free agent may serve it


def turn(agent: FreeAgent, group: Group, strategy: Strategy) -> Turn:
    """Whose turn it is among those who may serve a group: the smallest first."""
    first: Turn = ()
    match strategy:
        case Strategy.ROUND_ROBIN:
            first = (agent.offered_at,)
        case Strategy.FEWEST_CONTACTS:
            first = (agent.taken,)
        case Strategy.BEST_SKILL:
            first = tuple(-agent.levels.get(skill, 0) for skill, _ in most_needed(group))
        case Strategy.SPARE_SKILLED:
            # Those who may serve a group all know what it needs: who knows least in all knows least besides.
            first = (sum(agent.levels.values()),)
        case Strategy.LONGEST_IDLE:
            pass
    return agent.standby, *first, agent.idle_since, agent.agent_id


def most_needed(group: Group) -> list[Need]:
    """The skills required, that of which most is required first."""
    return sorted(group.required, key=lambda need: (-need[1], need[0]))


@dataclass(slots=True)
class Known:
    """A free agent as they are found: by their bit, by what they can do and by their turns."""

    agent: FreeAgent
    bit: Agents
    needs: frozenset[Need]  # all that their skills are enough for
    abilities: list[tuple[str, str | int]]
    turns: list[Turn]

    def may_serve(self, line: Line) -> bool:
        """But for a contact that they have refused."""
        agent, group = self.agent, line.group
        return (
            group.channel in agent.channels
            and line.required <= self.needs
            and (not agent.providers or group.provider_id in agent.providers)
            and (group.language is None or not agent.languages or group.language in agent.languages)
            and line.kept_for in (None, agent.agent_id)
        )


class FreeAgents:
    """`strategies`: those whose turns are kept, beside the longest idle."""

    def __init__(self, strategies: Iterable[Strategy] = ()) -> None:
        self._known: dict[str, Known] = {}
        self._unused: list[Agents] = []  # bits that nobody has now
        self._able: dict[tuple[str, str | int], Agents] = {}
        self._standby: Agents = 0
        self._turns: dict[Strategy, _Turns] = {
            strategy: _Turns()
            for strategy in {Strategy.LONGEST_IDLE, *strategies}
            if strategy is not Strategy.BEST_SKILL  # best of one group is not best of another
        }

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, agent_id: str) -> bool:
        return agent_id in self._known

    def __iter__(self) -> Iterator[FreeAgent]:
        return (known.agent for known in self._known.values())

    def get(self, agent_id: str) -> FreeAgent | None:
        known = self._known.get(agent_id)
        return known.agent if known is not None else None

    def put(self, agent: FreeAgent) -> bool:
        """False: nothing is new."""
        old = self.get(agent.agent_id)
        if old == agent:
            return False
        if old is not None:
            self.take(agent.agent_id)
        bit = self._unused.pop() if self._unused else 1 << len(self._known)
        needs = frozenset(
            (skill, least) for skill, level in agent.levels.items() for least in range(1, level + 1)
        )
        abilities: list[tuple[str, str | int]] = [*agent.levels.items()]
        abilities += (("channel", channel) for channel in agent.channels)
        abilities += (("wall", provider) for provider in agent.providers or ("",))
        abilities += (("language", language) for language in agent.languages or ("",))
        # Without the first: who is on standby comes last in `best`.
        turns = [turn(agent, _ANY, strategy)[1:] for strategy in self._turns]
        self._known[agent.agent_id] = Known(agent, bit, needs, abilities, turns)
        able = self._able
        for ability in abilities:
            able[ability] = able.get(ability, 0) | bit
        if agent.standby:
            self._standby |= bit
        for each, order in zip(turns, self._turns.values(), strict=True):
            order.add(each, bit)
        return True

    def take(self, agent_id: str) -> FreeAgent | None:
        known = self._known.pop(agent_id, None)
        if known is None:
            return None
        able, bit = self._able, known.bit
        for ability in known.abilities:
            left = able[ability] ^ bit
            if left:
                able[ability] = left
            else:
                del able[ability]
        if known.agent.standby:
            self._standby ^= bit
        for each, order in zip(known.turns, self._turns.values(), strict=True):
            order.remove(each, bit)
        self._unused.append(bit)
        return known.agent

    def able(self, line: Line) -> Agents:
        """Who may serve a line, but for those who have refused one of its contacts."""
        able, group = self._able, line.group
        found = able.get(("wall", group.provider_id), 0) | able.get(("wall", ""), 0)
        found &= able.get(("channel", group.channel), 0)
        if group.language is not None:
            found &= able.get(("language", group.language), 0) | able.get(("language", ""), 0)
        for skill, least in line.required:
            enough = 0
            for level in range(least, HIGHEST_LEVEL + 1):
                enough |= able.get((skill, level), 0)
            found &= enough
        return found & self._bit(line.kept_for) if line.kept_for is not None else found

    def known(self, agent_id: str) -> Known:
        return self._known[agent_id]

    def best(
        self, able: Agents, waiting: Waiting, group: Group, strategy: Strategy, now: float
    ) -> FreeAgent | None:
        """Whose turn it is among those who are able; None: all these have refused it, and are not asked again yet."""
        refused = 0
        for agent_id, until in waiting.refusals.items():
            bit = self._bit(agent_id)
            refused |= bit
            if until > now:
                able ^= able & bit
        if not able:
            return None
        if last := self._bit(waiting.last_refused):
            able = _without(able, last)
        if self._standby:
            able = _without(able, self._standby)
        if refused:
            able = _without(able, refused)
        if preferred := self._bit(waiting.preferred):
            able = able & preferred or able
        if strategy is Strategy.BEST_SKILL:
            strategy = Strategy.LONGEST_IDLE  # of equals
            for skill, least in most_needed(group):
                for level in range(HIGHEST_LEVEL, least, -1):
                    if better := able & self._able.get((skill, level), 0):
                        able = better
                        break
        return self._known[self._turns[strategy].first(able)].agent

    def _bit(self, agent_id: str | None) -> Agents:
        known = self._known.get(agent_id) if agent_id is not None else None
        return known.bit if known is not None else 0


@dataclass(slots=True)
class _Block:
    """Neighbours in one order."""

    turns: list[tuple[Turn, Agents]] = field(default_factory=list)
    everyone: Agents = 0


class _Turns:
    """Agents in one order, cut into blocks, and these into spans: the first of any set is in the first span and block
    that have any of them.
    """

    def __init__(self) -> None:
        self._blocks = [_Block()]
        self._begins: list[Turn] = [()]  # where a block begins: no turn in it is smaller
        self._spans: list[Agents] = [0]  # everyone in so many blocks

    def add(self, turn: Turn, bit: Agents) -> None:
        at = bisect_right(self._begins, turn) - 1
        block = self._blocks[at]
        insort(block.turns, (turn, bit))
        block.everyone |= bit
        self._spans[at // SPAN] |= bit
        if len(block.turns) > BLOCK:
            self._replace(at, at + 1, block.turns[: BLOCK // 2], block.turns[BLOCK // 2 :])

    def remove(self, turn: Turn, bit: Agents) -> None:
        at = bisect_right(self._begins, turn) - 1
        block = self._blocks[at]
        del block.turns[bisect_left(block.turns, (turn, bit))]
        block.everyone ^= bit
        self._spans[at // SPAN] ^= bit
        # Joined to a neighbour where both have few: else agents nobody needs would be left with a block for each.
        for left in (at - 1, at) if len(block.turns) <= BLOCK // 2 else ():
            pair = self._blocks[left : left + 2] if left >= 0 else []
            if len(pair) == 2 and len(pair[0].turns) + len(pair[1].turns) <= BLOCK // 2:
                self._replace(left, left + 2, pair[0].turns + pair[1].turns)
                break

    def first(self, among: Agents) -> str:
        for span, everyone in enumerate(self._spans):
            if everyone & among:
                for block in self._blocks[span * SPAN : (span + 1) * SPAN]:
                    if found := block.everyone & among:
                        return next(str(turn[-1]) for turn, bit in block.turns if bit & found)
        raise KeyError(among)

    def _replace(self, start: int, stop: int, *cut: list[tuple[Turn, Agents]]) -> None:
        """Other blocks instead of those from `start` to before `stop`."""
        self._blocks[start:stop] = [_Block(turns, _union(bit for _, bit in turns)) for turns in cut]
        self._begins[start + 1 : stop] = [turns[0][0] for turns in cut[1:]]
        self._spans = [
            _union(block.everyone for block in self._blocks[at : at + SPAN])
            for at in range(0, len(self._blocks), SPAN)
        ]


def _union(sets: Iterable[Agents]) -> Agents:
    return reduce(or_, sets, 0)


def _without(able: Agents, others: Agents) -> Agents:
    """Those able who are not among the others, where that leaves anybody."""
    return able ^ (able & others) or able
