"""Who waits: contacts that can be routed, grouped by what they need, in each group the longest waiting first.

Everyone in one group can be served by the same agents, so the router looks at a group's first contact and learns
about all of them; only contacts that some agent has refused need a look of their own.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Group:
    """What all contacts of one group need: the provider's wall, the channel, the skills an agent must have."""

    provider_id: str
    channel: str
    required: frozenset[str]


@dataclass(frozen=True, slots=True)
class Waiting:
    """One contact in the queue. `asked_at` is its place: it does not change when an agent refuses it."""

    contact_id: str
    group: Group
    asked_at: float
    refusals: Mapping[str, float] = field(default_factory=dict)  # agent -> when they last did not take it

    @property
    def place(self) -> tuple[float, str]:
        return self.asked_at, self.contact_id


class Queue:
    def __init__(self) -> None:
        self._waiting: dict[str, Waiting] = {}
        self._groups: dict[Group, list[tuple[float, str]]] = {}
        self._refused: dict[Group, list[tuple[float, str]]] = {}  # those of a group that somebody has refused

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, contact_id: str) -> bool:
        return contact_id in self._waiting

    def add(self, waiting: Waiting) -> None:
        """Take its place by `asked_at`; adding a contact again replaces what was known of it."""
        self.remove(waiting.contact_id)
        self._waiting[waiting.contact_id] = waiting
        index = self._refused if waiting.refusals else self._groups
        insort(index.setdefault(waiting.group, []), waiting.place)

    def remove(self, contact_id: str) -> Waiting | None:
        waiting = self._waiting.pop(contact_id, None)
        if waiting is not None:
            index = self._refused if waiting.refusals else self._groups
            places = index[waiting.group]
            del places[bisect_left(places, waiting.place)]
            if not places:
                del index[waiting.group]
        return waiting

    def heads(self) -> Iterator[Waiting]:
        """The first contact of each group that nobody has refused."""
        for places in self._groups.values():
            yield self._waiting[places[0][1]]

    def refused(self) -> Iterator[Waiting]:
        for places in self._refused.values():
            for _, contact_id in places:
                yield self._waiting[contact_id]

    def position(self, contact_id: str) -> int | None:
        """1 is the next one of those who need the same agents; None: not in the queue."""
        waiting = self._waiting.get(contact_id)
        if waiting is None:
            return None
        return 1 + sum(
            bisect_left(index.get(waiting.group, []), waiting.place)
            for index in (self._groups, self._refused)
        )

    def groups(self) -> dict[Group, int]:
        """How many wait in each group."""
        counts: dict[Group, int] = {}
        for index in (self._groups, self._refused):
            for group, places in index.items():
                counts[group] = counts.get(group, 0) + len(places)
        return counts
