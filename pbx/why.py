"""Why a contact went to that agent, and not to another: the choice made again on the floor as it was. Pure.

The floor comes from the event log (`pbx.past_floor`), the choice from the router's own rule. Where the two part ways
from what happened, `Choice.agrees` says so: that would be a fault of ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf

from config.events import Event
from config.queue_settings import Strategy
from pbx.choice_facts import OUTCOMES
from pbx.past_floor import AWAY, AgentPast, PastFloor, floor_before
from pbx.queue import Group, Waiting
from pbx.router import FreeAgent, Nobody, Pair, choose_plainly, may_serve
from pbx.why_words import (
    Names,
    compared,
    gap_words,
    group_words,
    obstacle,
    relaxed_words,
    state_words,
    step_words,
)

CHOSEN, LATER = "chosen", "later"
MOST_WOULD = 6
_MOST_TRIED = 200


@dataclass(frozen=True, slots=True)
class Candidate:
    """One agent, as considered at that moment.

    `verdict`: chosen; later (could have served, but it was not their turn); else why not: a code of `may_serve` up to
    its colon, or what they were doing: offline, not-ready, busy, wrap-up, reserved, off-floor.
    """

    agent_id: str
    name: str
    verdict: str
    words: str


@dataclass(frozen=True, slots=True)
class Choice:
    """One offer of a contact, or, where it waits, how things stand now. Times are epoch seconds.

    `expected` is the agent the rule itself finds on the rebuilt floor; `agrees`: it is the one who was asked.
    """

    contact_id: str
    at: float
    waited_s: float
    queue: str
    strategy: str
    step: int
    needs: str
    chosen: str | None
    outcome: str
    ahead: int
    candidates: tuple[Candidate, ...]
    would: tuple[str, ...]
    expected: str | None
    agrees: bool | None


@dataclass(frozen=True, slots=True)
class Known:
    """What the roster says of an agent now: for those of whom the log says nothing."""

    name: str
    agent: FreeAgent


@dataclass(slots=True)
class _Moment:
    """What is looked at to judge one choice."""

    floor: PastFloor
    waiting: Waiting
    now: float
    strategies: Mapping[str, Strategy]
    names: Names
    roster: Mapping[str, Known]
    group: Group = field(init=False)
    strategy: Strategy = field(init=False)
    able: list[FreeAgent] = field(init=False)
    best: list[FreeAgent] = field(init=False)  # the one of them who is asked first, if any

    def __post_init__(self) -> None:
        self.group = self.waiting.needs(self.now)
        self.strategy = self.strategies.get(self.group.queue, Strategy.LONGEST_IDLE)
        self.able = [agent for agent in self.floor.free if may_serve(agent, self.waiting, self.now) is None]
        first = self.asked_first(self.able)
        self.best = [agent for agent in self.able if agent.agent_id == first]

    def known(self, agent_id: str) -> FreeAgent | None:
        """What the agent could do when they were last free; what the roster says where they never were."""
        past = self.floor.agents.get(agent_id)
        if past is not None and past.known is not None:
            return past.known
        return self.roster[agent_id].agent if agent_id in self.roster else None

    def asked_first(
        self, agents: Iterable[FreeAgent], waiting: Waiting | None = None, at: float | None = None
    ) -> str | None:
        """Who of these would be asked for this contact alone."""
        found = choose_plainly(
            [waiting or self.waiting], agents, self.strategies, self.now if at is None else at
        )
        return found.agent_id if isinstance(found, Pair) else None


def offers(
    events: Sequence[Event], contact_id: str, strategies: Mapping[str, Strategy], roster: Mapping[str, Known]
) -> list[Choice]:
    """Each offer of the contact, in order, from the whole log."""
    found = []
    for place, event in enumerate(events):
        if event.kind == "contact.reserved" and event.contact == contact_id and event.agent is not None:
            asked = next((each.at for each in events[:place] if _asks(each, contact_id)), event.at)
            if "by" in event.facts:
                found.append(by_name(event, asked, outcome_after(events, event), roster))
                continue
            left = _left_floor(events[:place], event)
            floor = floor_before(events, left.seq)
            its = strategies_of(event, strategies)
            outcome = outcome_after(events, event)
            found.append(judge(floor, contact_id, left.at, its, roster, event.agent, outcome))
    return found


def strategies_of(reserved: Event, strategies: Mapping[str, Strategy]) -> dict[str, Strategy]:
    """The strategies, that of the contact's queue as it was."""
    queue, told = reserved.facts.get("queue"), reserved.facts.get("strategy")
    if isinstance(queue, str) and isinstance(told, str) and told in tuple(Strategy):
        return {**strategies, queue: Strategy(told)}
    return dict(strategies)


def outcome_after(events: Iterable[Event], reserved: Event) -> str:
    """What became of an offer: an outcome, accepted, ended or withdrawn; `being asked` as long as it is open."""
    for event in events:
        if event.seq > reserved.seq and event.contact == reserved.contact:
            kind = event.kind.removeprefix("contact.")
            if kind in (*OUTCOMES, "accepted", "ended"):
                return kind
            if kind in ("queued", "unqueued", "resumed"):
                return "withdrawn"
    return "being asked"


def _asks(event: Event, contact_id: str) -> bool:
    return event.kind == "contact.requested" and event.contact == contact_id


def by_name(reserved: Event, asked_at: float, outcome: str, roster: Mapping[str, Known]) -> Choice:
    """An offer that no rule has made: an agent has asked for this colleague."""
    names = Names({agent_id: known.name for agent_id, known in roster.items()})
    contact_id, chosen, giver = reserved.contact or "", reserved.agent or "", str(reserved.facts.get("by"))
    asked = Candidate(chosen, names[chosen], CHOSEN, f"was asked for by name, by {names[giver]}")
    return Choice(
        contact_id, reserved.at, round(reserved.at - asked_at, 3), "", "", 0, "", chosen, outcome, 0, (asked,),
        (), None, None,
    )  # fmt: skip


def judge(
    floor: PastFloor,
    contact_id: str,
    now: float,
    strategies: Mapping[str, Strategy],
    roster: Mapping[str, Known],
    chosen: str | None,
    outcome: str,
) -> Choice:
    """One choice, looked at from all sides."""
    waiting = floor.waiting.get(contact_id)
    if waiting is None:
        return Choice(
            contact_id, now, 0.0, "", "", 0, "", chosen, outcome, 0, (),
            ("The event log does not tell what it needed then.",), None, None if chosen is None else False,
        )  # fmt: skip
    names = Names({agent_id: known.name for agent_id, known in roster.items()})
    moment = _Moment(floor, waiting, now, strategies, names, roster)
    expected = _expected(floor, strategies, now)
    theirs = expected if isinstance(expected, Pair) and expected.contact_id == contact_id else None
    return Choice(
        contact_id=contact_id,
        at=now,
        waited_s=round(now - waiting.asked_at, 3),
        queue=moment.group.queue,
        strategy=moment.strategy.value,
        step=waiting.step(now),
        needs=group_words(moment.group),
        chosen=chosen,
        outcome=outcome,
        ahead=sum(
            other.order < waiting.order and other.group.queue == waiting.group.queue
            for other in floor.waiting.values()
        ),
        candidates=tuple(_candidates(moment, chosen)),
        would=tuple(_would(moment, chosen)),
        expected=theirs.agent_id if theirs is not None else None,
        agrees=None if chosen is None else theirs is not None and theirs.agent_id == chosen,
    )


def _expected(floor: PastFloor, strategies: Mapping[str, Strategy], now: float) -> Pair | Nobody:
    """The rule; but where nobody may serve one, those who need the same are not asked about."""
    free = floor.free
    hopeless: set[tuple[Group, str | None]] = set()
    for waiting in sorted(floor.waiting.values(), key=lambda each: each.order):
        needs = waiting.needs(now), waiting.kept_for(now)
        if needs in hopeless:
            continue
        found = choose_plainly([waiting], free, strategies, now)
        if isinstance(found, Pair):
            return found
        if not waiting.refusals:
            hopeless.add(needs)
    return Nobody(None)


def _left_floor(before: Sequence[Event], reserved: Event) -> Event:
    """The event with which the agent left the floor for it; without one, that of the reservation."""
    for event in reversed(before):
        if event.agent == reserved.agent and event.kind == "agent.taken_off":
            return event if event.facts.get("chosen_for") == reserved.contact else reserved
    return reserved


# Who was considered


def _candidates(moment: _Moment, chosen: str | None) -> Iterable[Candidate]:
    first = next((agent for agent in moment.able if agent.agent_id == chosen), None)
    found: list[tuple[int, Candidate]] = []
    for agent_id in {*moment.floor.agents, *moment.roster}:
        past = moment.floor.agents.get(agent_id) or AgentPast(agent_id)
        rank, verdict, words = _verdict(moment, past, chosen, first)
        found.append((rank, Candidate(agent_id, moment.names[agent_id], verdict, words)))
    found.sort(key=lambda each: (each[0], each[1].name, each[1].agent_id))
    return [candidate for _, candidate in found]


def _verdict(
    moment: _Moment, past: AgentPast, chosen: str | None, first: FreeAgent | None
) -> tuple[int, str, str]:
    """(how near they were, verdict, words)."""
    waiting, now, names = moment.waiting, moment.now, moment.names
    if past.free is not None:
        if past.agent_id == chosen:
            return 0, CHOSEN, "was asked"
        code = may_serve(past.free, waiting, now)
        if code is not None:
            return 2, code.partition(":")[0], obstacle(code, past, moment.group, names)
        if first is None:
            return 1, LATER, "may serve it"
        return 1, LATER, compared(past.free, first, moment.waiting, moment.group, moment.strategy, now, names)
    if past.agent_id == chosen:
        return 0, CHOSEN, "was asked"
    doing, words = state_words(past, now)
    known = moment.known(past.agent_id)
    if known is None:
        return 4, doing, words
    # What keeps them from it whatever they do comes first.
    code = may_serve(_as_free(known, moment.group.channel, now), waiting, now)
    if code is not None and not code.startswith(("refused", "kept-for")):
        return 4, code.partition(":")[0], f"{obstacle(code, past, moment.group, names)}; {words}"
    return 3, doing, words


def _as_free(known: FreeAgent, channel: str, now: float) -> FreeAgent:
    """The agent, had they nothing else to do: idle from this moment on."""
    return replace(known, channels=known.channels | {channel}, idle_since=now)


# What would have changed it


def _would(moment: _Moment, chosen: str | None) -> list[str]:
    found = [
        *_with_more_skill(moment, chosen),
        *_had_they_been_there(moment, chosen),
        *_not_kept(moment, chosen),
        *_later_steps(moment, chosen),
        *_after_a_pause(moment, chosen),
        *_by_other_strategies(moment, chosen),
    ]
    return found[:MOST_WOULD]


def _with_more_skill(moment: _Moment, chosen: str | None) -> Iterable[str]:
    gaps: list[tuple[int, str, dict[str, int]]] = []
    for agent in moment.floor.free[:_MOST_TRIED]:
        lacking = {
            skill: least for skill, least in moment.group.required if agent.levels.get(skill, 0) < least
        }
        if not lacking:
            continue
        more = replace(agent, levels={**agent.levels, **lacking})
        if moment.asked_first([*moment.best, more]) == agent.agent_id:
            gap = sum(least - agent.levels.get(skill, 0) for skill, least in lacking.items())
            gaps.append((gap, agent.agent_id, lacking))
    for _, agent_id, lacking in sorted(gaps, key=lambda each: each[:2])[:2]:
        yield f"With {gap_words(lacking)} {moment.names[agent_id]} would have been asked first."


def _had_they_been_there(moment: _Moment, chosen: str | None) -> Iterable[str]:
    told = 0
    for agent_id in sorted({*moment.floor.agents, *moment.roster})[:_MOST_TRIED]:
        past = moment.floor.agents.get(agent_id)
        known = moment.known(agent_id)
        if (past is not None and past.free is not None) or known is None or agent_id == chosen or told == 2:
            continue
        there = _as_free(known, moment.group.channel, moment.now)
        if moment.asked_first([*moment.best, there]) == agent_id:
            told += 1
            wish = "ready" if past is None or past.state in AWAY else "free"
            yield f"Had {moment.names[agent_id]} been {wish}, they would have been asked."


def _not_kept(moment: _Moment, chosen: str | None) -> Iterable[str]:
    kept_for = moment.waiting.kept_for(moment.now)
    if kept_for is None:
        return
    other = moment.asked_first(moment.floor.free, replace(moment.waiting, preferred_until=0.0))
    left_s = moment.waiting.preferred_until - moment.now
    if other is not None and other != chosen:
        yield (
            f"It was kept for {moment.names[kept_for]}, who helped them last, {left_s:.0f} s more: "
            f"else {moment.names[other]} would have been asked."
        )


def _later_steps(moment: _Moment, chosen: str | None) -> Iterable[str]:
    before = moment.group
    for at, group in moment.waiting.steps:
        if at <= moment.now:
            continue
        other = moment.asked_first(moment.floor.free, at=at)
        # A pause that ends meanwhile is not the step's doing.
        earlier = tuple(step for step in moment.waiting.steps if step[0] < at)
        if other == moment.asked_first(moment.floor.free, replace(moment.waiting, steps=earlier), at):
            other = None
        what = f"{at - moment.now:.0f} s later {step_words(before, group)}"
        if other is not None and other != chosen:
            yield f"{what}: {moment.names[other]} would then be asked."
            return
        if chosen is None:
            yield f"{what}: {relaxed_words(group)} would do."
        before = group


def _after_a_pause(moment: _Moment, chosen: str | None) -> Iterable[str]:
    if chosen is not None:
        return
    for agent in moment.floor.free:
        until = moment.waiting.refusals.get(agent.agent_id, 0.0)
        if moment.now < until < inf and moment.asked_first([agent], at=until) is not None:
            name = moment.names[agent.agent_id]
            yield f"In {until - moment.now:.0f} s {name}, who did not take it, may be asked again."


def _by_other_strategies(moment: _Moment, chosen: str | None) -> Iterable[str]:
    if chosen is None:
        return
    others: dict[str, list[str]] = {}
    for strategy in Strategy:
        if strategy is not moment.strategy:
            strategies = {moment.group.queue: strategy}
            found = choose_plainly([moment.waiting], moment.able, strategies, moment.now)
            if isinstance(found, Pair) and found.agent_id != chosen:
                others.setdefault(found.agent_id, []).append(strategy.value)
    for agent_id, names in others.items():
        yield f"By {' or '.join(names)} it would have gone to {moment.names[agent_id]}."
