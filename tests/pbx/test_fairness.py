"""What a contact-centre manager is promised: whose turn it is by each strategy, and that nobody waits for ever.

The bound: while agents who may serve a contact keep becoming ready, it is passed only by contacts whose place is before
its own. These are those who asked before it, and those who asked after it by less than the head start their queue has
over its own. It is served at the latest when as many agents who may serve it have become ready as there are of these,
and one more.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.queue_settings import Strategy
from pbx.router import Floor, FreeAgent, Pair, choose, may_serve
from tests.pbx.floor import SKILLS, STRATEGIES, agent, chosen, waiting

ANA = "ana"


def who_gets(strategy: Strategy, needs: str, *agents: FreeAgent) -> str | None:
    found = chosen(*agents, waiting("c", needs, queue=strategy.value))
    return found[1] if found else None


# Strategies


def test_longest_idle_goes_to_whoever_has_had_nothing_to_do_for_longest() -> None:
    busy = agent("bo", "heat", since=50, taken=9, offered_at=1)
    rested = agent(ANA, "heat", since=20, taken=30, offered_at=15)
    assert who_gets(Strategy.LONGEST_IDLE, "heat", busy, rested) == ANA


def test_round_robin_goes_to_whoever_was_asked_longest_ago_even_if_they_did_not_take_it() -> None:
    asked_lately = agent("bo", "heat", since=1, offered_at=90)
    asked_before = agent(ANA, "heat", since=40, offered_at=30)
    assert who_gets(Strategy.ROUND_ROBIN, "heat", asked_lately, asked_before) == ANA


def test_fewest_contacts_goes_to_whoever_has_taken_fewest_since_they_came_on() -> None:
    early_bird = agent("bo", "heat", since=1, taken=12)
    newcomer = agent(ANA, "heat", since=50, taken=3)
    assert who_gets(Strategy.FEWEST_CONTACTS, "heat", early_bird, newcomer) == ANA


def test_best_skill_goes_to_whoever_knows_best_what_is_needed_most() -> None:
    all_round = agent("bo", "heat:4 wifi:5", since=1)
    specialist = agent(ANA, "heat:5 wifi:1", since=50)
    assert who_gets(Strategy.BEST_SKILL, "heat:3 wifi:1", all_round, specialist) == ANA
    assert who_gets(Strategy.BEST_SKILL, "wifi", all_round, specialist) == "bo"
    assert who_gets(Strategy.BEST_SKILL, "", all_round, specialist) == "bo", "of equals the longest idle"


def test_best_skill_looks_at_the_next_skill_where_they_know_the_first_equally_well() -> None:
    one = agent("bo", "heat:4 wifi:2", since=1)
    other = agent(ANA, "heat:4 wifi:3", since=50)
    assert who_gets(Strategy.BEST_SKILL, "heat:3 wifi:1", one, other) == ANA


def test_spare_skilled_keeps_those_free_who_know_more() -> None:
    expert = agent("bo", "heat:5 wifi:5 bill:3", since=1)
    beginner = agent(ANA, "heat:2", since=50)
    assert who_gets(Strategy.SPARE_SKILLED, "heat", expert, beginner) == ANA
    assert who_gets(Strategy.SPARE_SKILLED, "heat:3", expert, beginner) == "bo"


@pytest.mark.parametrize("strategy", Strategy)
def test_no_strategy_asks_one_on_standby_before_the_others(strategy: Strategy) -> None:
    standby = agent("bo", "heat:5", since=0, offered_at=0, taken=0, standby=True)
    other = agent(ANA, "heat:5 wifi:5", since=90, offered_at=90, taken=90)
    assert who_gets(strategy, "heat", standby, other) == ANA


# Fairness


class Day:
    """A day at random: contacts keep coming faster than agents, who decline now and then, go and come back."""

    def __init__(self, seed: int, head_starts: dict[str, float]) -> None:
        self.chance = random.Random(seed)
        self.head_starts = head_starts
        self.floor = Floor(STRATEGIES)
        self.now = 0.0
        self.agents = [
            FreeAgent(
                f"agent{number}",
                {skill: self.chance.randint(1, 5) for skill in self.chance.sample(SKILLS, 2)},
                frozenset(),
                frozenset({"voice"}),
                frozenset(),
                0.0,
            )
            for number in range(4)
        ]
        self.asked: dict[str, tuple[str, float]] = {}  # every contact ever: its queue, when it asked
        self.passed_by: dict[
            str, set[str]
        ] = {}  # contact -> who was served by somebody who might have served it
        self.chances: Counter[str] = Counter()  # contact -> how often such an agent was given to another
        self.served: set[str] = set()

    def somebody_asks(self) -> None:
        queue = self.chance.choice(sorted(self.head_starts))
        contact_id = f"contact{len(self.asked):03}"
        self.asked[contact_id] = queue, self.now
        needs = f"{self.chance.choice(SKILLS)}:{self.chance.randint(1, 3)}"
        kept = {}
        if self.chance.random() < 0.1:
            kept = {"preferred": self.chance.choice(self.agents).agent_id, "preferred_until": self.now + 20}
        contact = waiting(contact_id, needs, at=self.now, queue=queue, **kept)
        self.floor.add(replace(contact, place=self.now - self.head_starts[queue]))

    def somebody_is_ready(self) -> None:
        who = self.chance.choice(self.agents)
        if self.floor.agent(who.agent_id) is None:
            self.floor.put(replace(who, idle_since=self.now))

    def route(self) -> None:
        while isinstance(found := choose(self.floor, self.now), Pair):
            who, contact = self.floor.take(found.agent_id), self.floor.remove(found.contact_id)
            assert who is not None
            assert contact is not None
            for other in self.floor.queue:
                if may_serve(who, other, self.now) is None:
                    self.passed_by.setdefault(other.contact_id, set()).add(contact.contact_id)
                    self.chances[other.contact_id] += 1
            if self.chance.random() < 0.2:
                pauses = {**contact.refusals, who.agent_id: self.now + 30}
                self.floor.add(replace(contact, refusals=pauses, last_refused=who.agent_id))
            else:
                self.served.add(contact.contact_id)

    def may_pass(self, contact_id: str) -> set[str]:
        """Who may be served before this one by somebody who might have served it."""
        queue, at = self.asked[contact_id]
        place = at - self.head_starts[queue], contact_id
        return {
            other
            for other, (its_queue, its_at) in self.asked.items()
            if (its_at - self.head_starts[its_queue], other) < place
        }

    def run(self, moments: int) -> None:
        for _ in range(moments):
            self.now += self.chance.expovariate(1 / 4)
            if self.chance.random() < 0.6:
                self.somebody_asks()
            else:
                self.somebody_is_ready()
            self.route()


head_starts = st.fixed_dictionaries(
    {strategy.value: st.sampled_from([0.0, 0.0, 30.0, 300.0]) for strategy in Strategy}
)


@given(st.integers(0, 10_000), head_starts)
@settings(max_examples=25, deadline=None)
def test_nobody_is_passed_but_by_those_who_asked_before_or_within_the_head_start(
    seed: int, head_starts: dict[str, float]
) -> None:
    day = Day(seed, head_starts)
    day.run(250)
    assert day.served
    for contact_id, passed_by in day.passed_by.items():
        assert passed_by <= day.may_pass(contact_id)
        for other in passed_by:
            (queue, at), (its_queue, its_at) = day.asked[contact_id], day.asked[other]
            assert its_at - at <= max(0.0, head_starts[its_queue] - head_starts[queue])


@given(st.integers(0, 10_000), head_starts)
@settings(max_examples=15, deadline=None)
def test_everybody_is_served_while_agents_who_can_keep_becoming_ready_though_others_keep_coming(
    seed: int, head_starts: dict[str, float]
) -> None:
    day = Day(seed, head_starts)
    able = agent("able", "heat:5 wifi:5 bill:5")
    day.run(60)
    watched = waiting("watched", "heat:3", at=day.now, queue=Strategy.LONGEST_IDLE.value)
    day.asked["watched"] = watched.group.queue, day.now
    day.floor.add(replace(watched, place=day.now - head_starts[watched.group.queue]))
    ready = 0
    # Contacts come twice as fast as the one agent who can do everything.
    while "watched" in day.floor:
        day.now += 2.0
        day.somebody_asks()
        day.somebody_asks()
        day.floor.put(replace(able, idle_since=day.now))
        ready += 1
        found = choose(day.floor, day.now)
        assert isinstance(found, Pair), "somebody waits whom they can serve"
        day.floor.take(found.agent_id)
        day.floor.remove(found.contact_id)
        day.served.add(found.contact_id)
        assert ready <= len(day.may_pass("watched")) + 1
    assert "watched" in day.served


def test_a_contact_everybody_declines_is_offered_again_and_again_and_holds_up_nobody() -> None:
    floor, offers, now = Floor(), list[str](), 0.0
    floor.add(waiting("nasty", at=0))
    for number in range(1, 40):
        now += 10.0
        for name in ("ana", "bo", "cy"):
            floor.put(agent(name, since=now))
        floor.add(waiting(f"nice{number:02}", at=now))
        while isinstance(found := choose(floor, now), Pair):
            contact = floor.remove(found.contact_id)
            floor.take(found.agent_id)
            assert contact is not None
            if contact.contact_id == "nasty":
                offers.append(found.agent_id)
                refusals = {**contact.refusals, found.agent_id: now + 30}
                floor.add(replace(contact, refusals=refusals, last_refused=found.agent_id))
            else:
                assert now - contact.asked_at <= 30.0, "the others wait for no more than its three offers"
    assert len(offers) > 30
    assert all(one != the_next for one, the_next in pairwise(offers)), "never the same twice in a row"
