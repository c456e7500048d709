"""Who waits: what a contact needs, its place, and all who wait, so that the router need not look at each of them.

Contacts that the same agents may serve stand in one line: if nobody is free for its first, nobody is for the others,
but where agents have refused some of them. What time alone changes is kept by the moment it does.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left, insort
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from operator import itemgetter
from types import MappingProxyType

Need = tuple[str, int]  # a skill and its least level, 1 to 5
Order = tuple[float, str]  # whose turn it is: the smallest first

MOST_GROUPS = 500
"""So many different needs are looked at for one position."""

_NOBODY: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Group:
    """What all contacts of one group need: the provider's wall, the channel, skills with the least level of each."""

    provider_id: str
    channel: str
    required: frozenset[Need]
    language: str | None = None  # None: any
    queue: str = "default"


@dataclass(frozen=True, slots=True)
class Waiting:
    """One contact in the queue. All times are epoch seconds.

    `place` is when it was asked for less its queue's head start. It does not change: only who asks within the head
    start can still come before it, so that it is passed by a known number and no more.
    """

    contact_id: str
    group: Group
    place: float
    asked_at: float
    refusals: Mapping[str, float] = field(
        default_factory=lambda: _NOBODY
    )  # agent -> until when not asked again
    last_refused: str | None = None  # who refused it last: not the next one asked while another is free
    preferred: str | None = None  # kept for this agent, unless they have refused it …
    preferred_until: float = 0.0  # … until then; from then on they only come first among the free
    steps: tuple[tuple[float, Group], ...] = ()  # (from when on, what it needs then), the earliest first

    @property
    def order(self) -> Order:
        return self.place, self.contact_id

    def step(self, now: float) -> int:
        """How many of its steps have come."""
        return sum(at <= now for at, _ in self.steps)

    def needs(self, now: float) -> Group:
        """Its group, or what it has been relaxed to by now."""
        step = self.step(now)
        return self.steps[step - 1][1] if step else self.group

    def kept_for(self, now: float) -> str | None:
        """The one agent it may go to now; None: any."""
        kept = (
            self.preferred is not None and now < self.preferred_until and self.preferred not in self.refusals
        )
        return self.preferred if kept else None

    def changes_at(self, now: float) -> float | None:
        """The next moment at which time alone lets somebody serve it who could not: a step, a pause or a wish over."""
        moments = [at for at, _ in self.steps]
        moments += self.refusals.values()
        if self.preferred is not None:
            moments.append(self.preferred_until)
        return min((at for at in moments if now < at < math.inf), default=None)


@dataclass(slots=True, eq=False)
class Line:
    """Contacts that the same agents may serve, but for those who have refused one of them."""

    group: Group
    kept_for: str | None  # the one agent they may go to now; None: any
    required: frozenset[Need]
    shelf: Need  # under which it is found
    contacts: list[Order] = field(default_factory=list)
    first: Order | None = None  # of the contacts, by which it stands on the shelf
    noted: Order | None = None  # the router means to look at it, from this contact on


Shelf = list[tuple[Order, Line]]  # by their first contacts
FOR_ALL: Need = ("", 0)  # the shelf of lines that need no skill


class Queue:
    """Time does not run backwards here: `now` is the latest that `advance` was told."""

    def __init__(self) -> None:
        self.now = 0.0
        # For a group: more than 0 for each other that an agent who might take it might take too. Set by whoever knows
        # the agents.
        self.sharing: Callable[[Group], Callable[[Group], float]] = lambda group: lambda other: 0.0
        self._held: dict[str, tuple[Waiting, Line]] = {}
        self._lines: dict[tuple[Group, str | None], Line] = {}
        self._groups: dict[Group, list[Order]] = {}
        # A line that is kept for an agent is under (agent, 0); any other under that of its needs where fewest are.
        self._shelves: dict[Need, Shelf] = {}
        self._due: dict[str, float] = {}  # by contact: when time changes something for it
        self._moments: list[tuple[float, str]] = []  # a heap of these, and of some that are out of date

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, contact_id: str) -> bool:
        return contact_id in self._held

    def __iter__(self) -> Iterator[Waiting]:
        return (waiting for waiting, _ in self._held.values())

    def held(self, contact_id: str) -> tuple[Waiting, Line]:
        """One that is in the queue, and its line."""
        return self._held[contact_id]

    def get(self, contact_id: str) -> Waiting | None:
        held = self._held.get(contact_id)
        return held[0] if held is not None else None

    def add(self, waiting: Waiting) -> Line:
        """Take its place; adding a contact again replaces what was known of it. Returns the line it stands in."""
        self.remove(waiting.contact_id)
        group, kept_for = waiting.needs(self.now), waiting.kept_for(self.now)
        line = self._lines.get((group, kept_for)) or self._open(group, kept_for)
        insort(line.contacts, waiting.order)
        self._file(line)
        insort(self._groups.setdefault(line.group, []), waiting.order)
        self._held[waiting.contact_id] = waiting, line
        at = waiting.changes_at(self.now)
        if at is not None:
            self._due[waiting.contact_id] = at
            heapq.heappush(self._moments, (at, waiting.contact_id))
        return line

    def remove(self, contact_id: str) -> Waiting | None:
        held = self._held.pop(contact_id, None)
        if held is None:
            return None
        waiting, line = held
        places = self._groups[line.group]
        del places[bisect_left(places, waiting.order)]
        if not places:
            del self._groups[line.group]
        del line.contacts[bisect_left(line.contacts, waiting.order)]
        self._file(line)
        self._due.pop(contact_id, None)
        if len(self._moments) > 2 * len(self._due) + 64:
            self._moments = [(at, contact_id) for contact_id, at in self._due.items()]
            heapq.heapify(self._moments)
        return waiting

    def advance(self, now: float) -> list[Line]:
        """Lines with somebody who may be served by more agents now than before, because of the time."""
        self.now = max(self.now, now)
        changed = []
        while self._moments and self._moments[0][0] <= self.now:
            at, contact_id = heapq.heappop(self._moments)
            if self._due.get(contact_id) == at:
                changed.append(self.add(self._held[contact_id][0]))
        return changed

    def next_moment(self) -> float | None:
        """When time changes something the next time."""
        while self._moments and self._due.get(self._moments[0][1]) != self._moments[0][0]:
            heapq.heappop(self._moments)
        return self._moments[0][0] if self._moments else None

    def lines(self) -> Collection[Line]:
        return self._lines.values()

    def shelves(self, agent_id: str, known: Iterable[Need]) -> Iterator[Shelf]:
        """They hold every line an agent who knows so much may serve, and some that they may not."""
        for need in chain(((agent_id, 0), FOR_ALL), known):
            if (shelf := self._shelves.get(need)) is not None:
                yield shelf

    def position(self, contact_id: str) -> int | None:
        """1 is the next one among all that the agents who could serve it might take; None: not in the queue.

        Never too low: of more than `MOST_GROUPS`, the contacts of the others all count as before it.
        """
        held = self._held.get(contact_id)
        if held is None:
            return None
        waiting, line = held
        order, own, shared = waiting.order, self._groups[line.group], self.sharing(line.group)
        before, seen = bisect_left(own, order), len(own)
        for group, places in islice(self._groups.items(), MOST_GROUPS):
            if places is not own:
                seen += len(places)
                if places[0] < order and shared(group):
                    before += bisect_left(places, order)
        return 1 + before + len(self._held) - seen

    def ahead(self, contact_id: str) -> dict[Group, int]:
        """By what they need, how many in the queue come before this one."""
        waiting = self.get(contact_id)
        if waiting is None:
            return {}
        before = {group: bisect_left(places, waiting.order) for group, places in self._groups.items()}
        return {group: count for group, count in before.items() if count}

    def groups(self) -> dict[Group, int]:
        """How many need the same now."""
        return {group: len(places) for group, places in self._groups.items()}

    def _open(self, group: Group, kept_for: str | None) -> Line:
        required = frozenset(need for need in group.required if need[1] > 0)
        shelf = min(required, key=lambda need: (len(self._shelves.get(need, ())), need), default=FOR_ALL)
        if kept_for is not None:
            shelf = kept_for, 0
        line = self._lines[group, kept_for] = Line(group, kept_for, required, shelf)
        return line

    def _file(self, line: Line) -> None:
        """Where its first contact now belongs; nowhere when it has none."""
        first = line.contacts[0] if line.contacts else None
        if first == line.first:
            return
        shelf = self._shelves.setdefault(line.shelf, [])
        if line.first is not None:
            del shelf[bisect_left(shelf, line.first, key=itemgetter(0))]
        if first is not None:
            insort(shelf, (first, line))
        else:
            del self._lines[line.group, line.kept_for]
            if not shelf:
                del self._shelves[line.shelf]
        line.first = first
