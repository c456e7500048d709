"""A set of agents by what they can take, so that it is known at once how many could serve a group of contacts, and
whether the same agents might take two groups. Pure.

Who serves a group is one whole number with a bit for each agent, kept for the groups asked about latest.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

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

    def serves(self, group: Group) -> bool:
        if group.channel not in self.channels or (self.providers and group.provider_id not in self.providers):
            return False
        if group.language is not None and self.languages and group.language not in self.languages:
            return False
        return all(self.levels.get(skill, 0) >= least for skill, least in group.required)


class Crew:
    """That an agent comes or goes costs as much as there are groups; a question, next to nothing for a group that was
    asked about lately."""

    def __init__(self) -> None:
        self._agents: dict[str, tuple[int, Able]] = {}  # each with the place of their bit
        self._spare: list[int] = []  # places of agents who have gone
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
        for group in self._serving:
            if able.serves(group):
                self._serving[group] |= 1 << place

    def off(self, agent_id: str) -> None:
        """One of them no longer."""
        known = self._agents.pop(agent_id, None)
        if known is not None:
            place, _ = known
            self._spare.append(place)
            self._shares.clear()
            for group, bits in self._serving.items():
                if bits >> place & 1:
                    self._serving[group] = bits ^ 1 << place

    def serving(self, group: Group) -> int:
        """How many could serve it."""
        return self._bits(group).bit_count()

    def share(self, group: Group, other: Group) -> float:
        """The part of those who serve the other group that serves this one too."""
        shares = self._shares.get(group)
        if shares is None:
            if len(self._shares) >= _SHARES:
                self._shares.clear()
            shares = self._shares[group] = {}
        share = shares.get(other)
        if share is None:
            if len(shares) >= _GROUPS:
                shares.clear()
            theirs = self._bits(other)
            shared = (self._bits(group) & theirs).bit_count()
            share = shares[other] = shared / theirs.bit_count() if shared else 0.0
        return share

    def _bits(self, group: Group) -> int:
        bits = self._serving.get(group)
        if bits is None:
            octets = bytearray((len(self._agents) + len(self._spare)) // 8 + 1)
            for place, able in self._agents.values():
                if able.serves(group):
                    octets[place >> 3] |= 1 << (place & 7)
            bits = int.from_bytes(octets, "little")
        remember(self._serving, group, bits)
        return bits


def remember(table: OrderedDict[Group, T], group: Group, value: T) -> None:
    """The latest of so many groups."""
    table[group] = value
    table.move_to_end(group)
    if len(table) > _GROUPS:
        table.popitem(last=False)
