"""A set of agents by what they can take, so that it is known at once how many could serve a group of contacts, and
whether the same agents might take two groups. Pure.

Who serves a group is one whole number with a bit for each agent, kept for the groups asked about latest.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import TypeVar

from pbx.free_agents import HIGHEST_LEVEL
from pbx.queue import MOST_GROUPS, Group

_GROUPS = 2 * MOST_GROUPS  # one question looks at so many and is not to push its own out
_SHARES = 200

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Able:
    """What an agent can take."""

    levels: Mapping[str, int]
    providers: frozenset[str]  # empty: every provider
    channels: frozenset[str]
    languages: frozenset[str]  # empty: any
    chats: int = 1  # at a time

    def serves(self, group: Group) -> bool:
        if group.channel not in self.channels or (self.providers and group.provider_id not in self.providers):
            return False
        if group.language is not None and self.languages and group.language not in self.languages:
            return False
        return all(self.levels.get(skill, 0) >= least for skill, least in group.required)

    def abilities(self) -> Iterator[tuple[str, str | int]]:
        """Each thing that they can do; "" is whatever comes."""
        yield from self.levels.items()
        yield from (("channel", channel) for channel in self.channels)
        yield from (("wall", provider) for provider in self.providers or ("",))
        yield from (("language", language) for language in self.languages or ("",))
        yield "chats", self.chats


class Crew:
    """That an agent comes or goes costs as much as there are groups; a question, next to nothing for a group that was
    asked about lately."""

    def __init__(self) -> None:
        self._agents: dict[str, tuple[int, Able]] = {}  # each with the place of their bit
        self._spare: list[int] = []  # places of agents who have gone
        self._able: dict[tuple[str, str | int], int] = {}  # by what can be done, the bits of those who can
        self._serving: OrderedDict[Group, int] = OrderedDict()  # the one asked for latest last
        self._shares: dict[Group, dict[Group, float]] = {}  # until an agent comes or goes

    def on(self, agent_id: str, able: Able) -> None:
        """One of them now, and can take this."""
        known = self._agents.get(agent_id)
        if known is not None and known[1] == able:
            return
        self.off(agent_id)
        place = self._spare.pop() if self._spare else len(self._agents)
        self._agents[agent_id] = place, able
        self._shares.clear()
        for ability in able.abilities():
            self._able[ability] = self._able.get(ability, 0) | 1 << place
        for group in self._serving:
            if able.serves(group):
                self._serving[group] |= 1 << place

    def off(self, agent_id: str) -> None:
        """One of them no longer."""
        known = self._agents.pop(agent_id, None)
        if known is not None:
            place, able = known
            self._spare.append(place)
            self._shares.clear()
            for ability in able.abilities():
                self._able[ability] ^= 1 << place
                if not self._able[ability]:
                    del self._able[ability]
            for group, bits in self._serving.items():
                if bits >> place & 1:
                    self._serving[group] = bits ^ 1 << place

    def serving(self, group: Group) -> int:
        """How many could serve it."""
        return self._bits(group).bit_count()

    def places(self, group: Group) -> int:
        """How many contacts of the group all those who could serve it could have at a time."""
        bits = self._bits(group)
        if group.channel != "chat":
            return bits.bit_count()
        return sum(
            chats * (bits & able).bit_count()
            for (what, chats), able in self._able.items()
            if what == "chats" and isinstance(chats, int)
        )

    def share(self, group: Group, other: Group) -> float:
        """The part of those who serve the other group that serves this one too."""
        return self.sharing(group)(other)

    def sharing(self, group: Group) -> Callable[[Group], float]:
        """`share` of this group, to be asked at once and of many."""
        found = self._shares.get(group)
        if found is None:
            if len(self._shares) >= _SHARES:
                self._shares.clear()
            found = self._shares[group] = {}
        shares, own = found, self._bits(group)

        def share(other: Group) -> float:
            known = shares.get(other)
            if known is None:
                if len(shares) >= _GROUPS:
                    shares.clear()
                theirs = self._bits(other)
                shared = (own & theirs).bit_count()
                known = shares[other] = shared / theirs.bit_count() if shared else 0.0
            return known

        return share

    def _bits(self, group: Group) -> int:
        bits = self._serving.get(group)
        if bits is None:
            bits = self._look(group)
        remember(self._serving, group, bits)
        return bits

    def _look(self, group: Group) -> int:
        able = self._able
        found = able.get(("channel", group.channel), 0)
        found &= able.get(("wall", group.provider_id), 0) | able.get(("wall", ""), 0)
        if group.language is not None:
            found &= able.get(("language", group.language), 0) | able.get(("language", ""), 0)
        for skill, least in group.required:
            if least > 0:
                found &= reduce(
                    or_, (able.get((skill, level), 0) for level in range(least, HIGHEST_LEVEL + 1)), 0
                )
        return found


def remember(table: OrderedDict[Group, T], group: Group, value: T) -> None:
    """The latest of so many groups."""
    table[group] = value
    table.move_to_end(group)
    if len(table) > _GROUPS:
        table.popitem(last=False)
