"""A past stretch of traffic, routed again: by the same router, with other rules. Pure, and always the same.

What is kept as it was: when each contact could first be routed, how long its agent took to answer and then had to do
with it, how long its customer had patience; when each agent was on duty, and with what skills. What is simulated: who
is chosen, and when. An offer that came to nothing then comes to nothing again, as does any other to an agent who was
not answering just then; who was never asked is taken to answer. The first run, with everything as it was, shows how far
the simulation itself is from what happened.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from statistics import mean, median
from typing import Literal

from config.queue_settings import Overflow
from pbx.contact import Contact, Refusal
from pbx.policies import Policies
from pbx.router import Floor, FreeAgent, Pair, choose
from pbx.skills import Need

End = Literal["joined", "gave up", "nobody", "overflowed", "open"]
"""joined: with an agent; nobody: it waited as long as it may; open: the stretch ended before anything else did."""

ANSWER_S, HANDLING_S = 8.0, 240.0
"""Where nothing at all is known of how long answering and helping take."""

AWAY_S = 60.0
"""For so long after an offer that was not answered the agent is taken to answer no other, unless they did then."""

REFUSING_S = 0.5
"""An offer takes at least so long: one that took nothing might be made again and again at the same moment."""


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of a contact. `wait_s`: from when it could be routed to when it was joined, or its end.

    `refused`: how many offers of it came to nothing before."""

    end: End
    wait_s: float
    agent_id: str | None = None
    step: int = 0
    refused: int = 0

    def __post_init__(self) -> None:
        # Epoch seconds leave no more than that of a difference.
        object.__setattr__(self, "wait_s", round(self.wait_s, 3))


@dataclass(frozen=True, slots=True)
class Request:
    """One contact of the stretch, as it came. Times: epoch seconds, and seconds.

    `patience_s` is how long a customer waited who left by themselves; None: whoever was served might have waited on.
    `truly` is what the contact turned out to need, skill and least level.
    """

    contact: Contact
    routable_at: float
    was: Fate
    answer_s: float | None = None
    handling_s: float | None = None
    patience_s: float | None = None
    truly: frozenset[tuple[str, int]] = frozenset()


@dataclass(frozen=True, slots=True)
class Duty:
    """From `at` on the agent is on duty with these facts, or (None) away."""

    at: float
    agent_id: str
    agent: FreeAgent | None


@dataclass(frozen=True, slots=True)
class Refused:
    """An offer that came to nothing, from when the agent was held (`at`) to the outcome (`until`): declined, no_answer,
    busy, unreachable or asleep."""

    agent_id: str
    contact_id: str
    at: float
    until: float
    outcome: str


@dataclass(frozen=True, slots=True)
class Stretch:
    """All there was between two moments. `chats`: how many of them an agent may have at once; `own_chats`, by agent,
    those who have a number of their own."""

    requests: tuple[Request, ...]
    duties: tuple[Duty, ...]
    until: float
    chats: int = 2
    own_chats: Mapping[str, int] = field(default_factory=dict)
    refused: tuple[Refused, ...] = ()


@dataclass(slots=True)
class _Worker:
    """An agent in the simulation."""

    duty: FreeAgent | None = None
    at_work: dict[str, str] = field(default_factory=dict)  # contact -> channel
    idle_since: float = 0.0
    offered_at: float = 0.0
    taken: int = 0

    def free(self, chats: int) -> FreeAgent | None:
        if self.duty is None:
            return None
        channels = self.duty.channels
        if self.at_work:
            room = len(self.at_work) < chats and all(channel == "chat" for channel in self.at_work.values())
            channels = channels & {"chat"} if room else frozenset()
        if not channels:
            return None
        return replace(
            self.duty,
            channels=channels,
            idle_since=self.idle_since,
            offered_at=self.offered_at,
            taken=self.taken,
        )


def simulate(
    stretch: Stretch, policies: Policies, needs: Mapping[str, tuple[Need, ...]] | None = None
) -> dict[str, Fate]:
    """The fate of every contact. `needs`, by contact, where they are others than at the time."""
    return _Simulation(stretch, policies, needs or {}).run()


class _Simulation:
    def __init__(self, stretch: Stretch, policies: Policies, needs: Mapping[str, tuple[Need, ...]]) -> None:
        self._stretch = stretch
        self._policies = policies
        self._floor = Floor(policies.strategies)
        self._workers: dict[str, _Worker] = {}
        self._requests = {request.contact.id: request for request in stretch.requests}
        self._contacts = {
            request.contact.id: _anew(request.contact, policies, needs.get(request.contact.id))
            for request in stretch.requests
        }
        self._fates: dict[str, Fate] = {}
        self._refusals = _Refusals(stretch)
        self._times_refused: Counter[str] = Counter()
        self._medians = _medians(stretch.requests)
        # (when, in which order at one moment, tie, what, whose): who comes on duty is there for who asks just then.
        self._agenda: list[tuple[float, int, int, str, str, FreeAgent | None]] = []
        self._ties = count()

    def run(self) -> dict[str, Fate]:
        for duty in self._stretch.duties:
            self._plan(duty.at, 0, "duty", duty.agent_id, duty.agent)
        for contact_id, request in self._requests.items():
            self._plan(request.routable_at, 1, "arrives", contact_id)
        while self._agenda and self._agenda[0][0] <= self._stretch.until:
            now = self._agenda[0][0]
            while self._agenda and self._agenda[0][0] == now:
                _, _, _, what, whose, agent = heapq.heappop(self._agenda)
                self._happens(now, what, whose, agent)
            self._choose(now)
        for contact_id, request in self._requests.items():
            waited = max(0.0, self._stretch.until - request.routable_at)
            fate = self._fates.get(contact_id) or Fate("open", waited)
            self._fates[contact_id] = replace(fate, refused=self._times_refused[contact_id])
        return self._fates

    def _plan(self, at: float, order: int, what: str, whose: str, agent: FreeAgent | None = None) -> None:
        heapq.heappush(self._agenda, (at, order, next(self._ties), what, whose, agent))

    def _happens(self, now: float, what: str, whose: str, agent: FreeAgent | None) -> None:
        match what:
            case "duty":
                worker = self._worker(whose)
                if worker.duty is None and agent is not None:
                    worker.idle_since, worker.taken = now, 0
                worker.duty = agent
                self._placed(whose)
            case "arrives":
                self._queue(now, whose)
                patience_s = self._requests[whose].patience_s
                if patience_s is not None:
                    self._plan(now + patience_s, 2, "leaves", whose)
            case "leaves" if self._floor.remove(whose) is not None:
                self._fates[whose] = Fate("gave up", now - self._requests[whose].routable_at)
            case "limit" if whose in self._floor and self._limit(whose) <= now:
                self._overflows(now, whose)
            case "done":
                agent_id, _, contact_id = whose.partition(" ")
                worker = self._worker(agent_id)
                worker.at_work.pop(contact_id, None)
                if not worker.at_work:
                    worker.idle_since = now
                self._placed(agent_id)
            case "refused":
                agent_id, contact_id, outcome = whose.split(" ")
                worker = self._worker(agent_id)
                worker.at_work.pop(contact_id, None)
                if not worker.at_work:
                    worker.idle_since = now
                self._placed(agent_id)
                contact = self._contacts[contact_id]
                until = now + self._policies.consequence(contact, outcome).pause_s
                contact.refusals.pop(agent_id, None)  # the last in it is the latest
                contact.refusals[agent_id] = Refusal(now, outcome, until)
                self._queue(now, contact_id)

    def _queue(self, now: float, contact_id: str) -> None:
        contact = self._contacts[contact_id]
        preferred = self._workers.get(contact.preferred_agent_id or "")
        kept = preferred is not None and preferred.duty is not None
        self._floor.add(self._policies.waiting(contact, kept=kept))
        self._plan(max(now, self._limit(contact_id)), 3, "limit", contact_id)

    def _limit(self, contact_id: str) -> float:
        max_wait_s = self._policies.of(self._contacts[contact_id].queue).max_wait_s
        return self._requests[contact_id].routable_at + max_wait_s

    def _overflows(self, now: float, contact_id: str) -> None:
        contact = self._contacts[contact_id]
        queue = self._policies.of(contact.queue)
        self._floor.remove(contact_id)
        if queue.overflow is Overflow.QUEUE:
            contact.queue = queue.overflow_queue
            if self._limit(contact_id) > now:  # else two queues could hand it to each other for ever
                self._queue(now, contact_id)
                return
        waited = now - self._requests[contact_id].routable_at
        ended = queue.overflow in (Overflow.END, Overflow.QUEUE)
        self._fates[contact_id] = Fate("nobody" if ended else "overflowed", waited)

    def _choose(self, now: float) -> None:
        while isinstance(found := choose(self._floor, now), Pair):
            self._floor.remove(found.contact_id)
            self._taken(now, found)
        if found.look_at is not None and found.look_at > now:
            self._plan(found.look_at, 4, "look", "")

    def _taken(self, now: float, pair: Pair) -> None:
        request, contact = self._requests[pair.contact_id], self._contacts[pair.contact_id]
        refused = self._refusals.of(pair.contact_id, pair.agent_id, now)
        if refused is not None:
            self._refuses(now, pair, refused)
            return
        answer_s, handling_s = self._medians.get(contact.facts.channel.value, (ANSWER_S, HANDLING_S))
        joined_at = now + (answer_s if request.answer_s is None else request.answer_s)
        done_at = joined_at + (handling_s if request.handling_s is None else request.handling_s)
        worker = self._worker(pair.agent_id)
        worker.offered_at = now
        left_at = self._leaves_at(request)
        if left_at < joined_at:  # they had enough while it rang
            self._fates[contact.id] = Fate("gave up", left_at - request.routable_at, step=pair.step)
            done_at = left_at
        else:
            worker.taken += 1
            wait_s = joined_at - request.routable_at
            self._fates[contact.id] = Fate("joined", wait_s, pair.agent_id, pair.step)
        worker.at_work[contact.id] = contact.channel.value
        self._plan(max(done_at, now), 0, "done", f"{pair.agent_id} {contact.id}")
        self._placed(pair.agent_id)

    def _refuses(self, now: float, pair: Pair, refused: Refused) -> None:
        """The agent is held for as long as it took them not to take it then."""
        request, contact = self._requests[pair.contact_id], self._contacts[pair.contact_id]
        worker = self._worker(pair.agent_id)
        worker.offered_at = now
        worker.at_work[contact.id] = contact.channel.value
        left_at, over_at = self._leaves_at(request), now + max(REFUSING_S, refused.until - refused.at)
        if left_at < over_at:
            self._fates[contact.id] = Fate("gave up", left_at - request.routable_at, step=pair.step)
            self._plan(max(left_at, now), 0, "done", f"{pair.agent_id} {contact.id}")
        else:
            self._times_refused[contact.id] += 1
            self._plan(over_at, 0, "refused", f"{pair.agent_id} {contact.id} {refused.outcome}")
        self._placed(pair.agent_id)

    @staticmethod
    def _leaves_at(request: Request) -> float:
        return float("inf") if request.patience_s is None else request.routable_at + request.patience_s

    def _worker(self, agent_id: str) -> _Worker:
        return self._workers.setdefault(agent_id, _Worker())

    def _placed(self, agent_id: str) -> None:
        chats = self._stretch.own_chats.get(agent_id, self._stretch.chats)
        free = self._worker(agent_id).free(chats)
        if free is None:
            self._floor.take(agent_id)
        else:
            self._floor.put(free)


class _Refusals:
    """Which offers come to nothing."""

    def __init__(self, stretch: Stretch) -> None:
        self._same: dict[tuple[str, str], deque[Refused]] = {}
        self._away: dict[str, list[tuple[float, float, Refused]]] = {}
        taken: dict[str, list[float]] = {}
        for request in stretch.requests:
            if request.was.agent_id is not None and request.answer_s is not None:
                offered_at = request.routable_at + request.was.wait_s - request.answer_s
                taken.setdefault(request.was.agent_id, []).append(offered_at)
        for times in taken.values():
            times.sort()
        for each in sorted(stretch.refused, key=lambda each: each.at):
            self._same.setdefault((each.contact_id, each.agent_id), deque()).append(each)
            if each.outcome == "declined":
                continue  # they were there, and did not want this one
            times = taken.get(each.agent_id, [])
            answered = times[(after := bisect_right(times, each.at)) : after + 1]
            over = min([each.at + AWAY_S, *answered])
            self._away.setdefault(each.agent_id, []).append((each.at, max(over, each.until), each))

    def of(self, contact_id: str, agent_id: str, now: float) -> Refused | None:
        """The refusal that an offer made now ends with: the same offer's of then, once for each time it was made; or
        that of another which the agent left unanswered at that time. None: it is taken."""
        same = self._same.get((contact_id, agent_id))
        if same:
            return same.popleft()
        away = self._away.get(agent_id, [])
        # The latest that had begun is the one that lasts longest.
        at = bisect_right(away, now, key=lambda each: each[0])
        return away[at - 1][2] if at and now < away[at - 1][1] else None


def _anew(contact: Contact, policies: Policies, needs: tuple[Need, ...] | None) -> Contact:
    """The contact as it was when it asked."""
    queue = policies.queue_for(contact.facts)
    # What number was dialled is not stored; a queue that takes one by it keeps whom it had.
    if (
        contact.queue != queue
        and policies.of(contact.queue).name == contact.queue
        and policies.of(contact.queue).number
    ):
        queue = contact.queue
    return Contact(
        contact.facts,
        needs=contact.needs if needs is None else needs,
        queue=queue,
        preferred_agent_id=contact.preferred_agent_id,
    )


def _medians(requests: Iterable[Request]) -> dict[str, tuple[float, float]]:
    """By channel: how long answering and handling take, for those of which it is not known."""
    answers: dict[str, list[float]] = {}
    handlings: dict[str, list[float]] = {}
    for request in requests:
        channel = request.contact.channel.value
        if request.answer_s is not None:
            answers.setdefault(channel, []).append(request.answer_s)
        if request.handling_s is not None:
            handlings.setdefault(channel, []).append(request.handling_s)
    return {
        channel: (median(answers.get(channel) or [ANSWER_S]), median(handlings.get(channel) or [HANDLING_S]))
        for channel in answers.keys() | handlings.keys()
    }


# What came of it, in figures


@dataclass(frozen=True, slots=True)
class Figures:
    """Of some contacts. Waits are of those joined, in seconds; `matched` of them had an agent with what they needed."""

    contacts: int
    joined: int
    mean_wait_s: float | None
    p90_wait_s: float | None
    matched: int
    given_up: int
    others: int  # nobody came in time, or it overflowed, or is open
    refused: int  # offers that came to nothing


@dataclass(frozen=True, slots=True)
class Comparison:
    """One provider's queue: what happened, the simulation of that, and the simulation of what was changed.

    `moved` counts the contacts that go to another agent by the change: (from, to) -> how many.
    """

    provider: str
    queue: str
    was: Figures
    before: Figures
    after: Figures
    moved: dict[tuple[str | None, str | None], int]


def compare(stretch: Stretch, before: Mapping[str, Fate], after: Mapping[str, Fate]) -> list[Comparison]:
    """By provider and queue (that of the time), in the order of their names."""
    levels = _levels(stretch.duties)
    groups: dict[tuple[str, str], list[Request]] = {}
    for request in stretch.requests:
        groups.setdefault((request.contact.facts.provider_id, request.contact.queue), []).append(request)
    found = []
    for (provider, queue), requests in sorted(groups.items()):
        moved: dict[tuple[str | None, str | None], int] = {}
        for request in requests:
            pair = before[request.contact.id].agent_id, after[request.contact.id].agent_id
            if pair[0] != pair[1]:
                moved[pair] = moved.get(pair, 0) + 1
        found.append(
            Comparison(
                provider,
                queue,
                figures([(request, request.was) for request in requests], levels),
                figures([(request, before[request.contact.id]) for request in requests], levels),
                figures([(request, after[request.contact.id]) for request in requests], levels),
                moved,
            )
        )
    return found


def figures(fates: Sequence[tuple[Request, Fate]], levels: Mapping[str, Mapping[str, int]]) -> Figures:
    """`levels`: by agent, the level of each skill."""
    joined = [(request, fate) for request, fate in fates if fate.end == "joined"]
    waits = sorted(fate.wait_s for _, fate in joined)
    return Figures(
        contacts=len(fates),
        joined=len(joined),
        mean_wait_s=round(mean(waits), 1) if waits else None,
        p90_wait_s=round(waits[min(len(waits) - 1, int(0.9 * len(waits)))], 1) if waits else None,
        matched=sum(
            all(levels.get(fate.agent_id or "", {}).get(skill, 0) >= level for skill, level in request.truly)
            for request, fate in joined
        ),
        given_up=sum(fate.end == "gave up" for _, fate in fates),
        others=sum(fate.end not in ("joined", "gave up") for _, fate in fates),
        refused=sum(fate.refused for _, fate in fates),
    )


def _levels(duties: Iterable[Duty]) -> dict[str, Mapping[str, int]]:
    return {duty.agent_id: duty.agent.levels for duty in duties if duty.agent is not None}
