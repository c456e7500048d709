"""The rule by examples, and that `choose` finds what the rule says, whatever happened before."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

import pbx.free_agents
import pbx.router
from pbx.queue import Waiting
from pbx.router import Floor, FreeAgent, Nobody, Pair, choose, choose_plainly, may_serve
from tests.pbx.floor import (
    AGENTS,
    CONTACTS,
    NOW,
    STRATEGIES,
    agent,
    at,
    chosen,
    floor,
    free_agents,
    group,
    waiting,
    waitings,
)


@pytest.fixture(autouse=True, params=[False, True], ids=["as it is", "cut small"])
def _cut_small(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few agents on a floor cut as finely as if there were thousands: every way through the index is gone."""
    if request.param:
        monkeypatch.setattr(pbx.free_agents, "BLOCK", 2)
        monkeypatch.setattr(pbx.free_agents, "SPAN", 2)
        monkeypatch.setattr(pbx.router, "FEW", 1)


def test_the_longest_idle_agent_with_the_skills_gets_the_longest_waiting_contact() -> None:
    assert chosen(
        agent("ana", "heat", since=5),
        agent("bo", "heat", since=2),
        waiting("late", "heat", at=9),
        waiting("early", "heat", at=1),
    ) == ("early", "bo")


def test_a_contact_nobody_can_serve_does_not_hold_up_those_behind_it() -> None:
    assert chosen(agent("bo", "wifi"), waiting("stuck", "heat", at=1), waiting("next", "wifi", at=2)) == (
        "next",
        "bo",
    )


@pytest.mark.parametrize(
    ("who", "contact", "why"),
    [
        (agent("bo", "heat:3"), waiting("c", "heat:3"), None),
        (agent("bo", "heat", providers="lumio"), waiting("c", "heat"), "wall"),
        (agent("bo", channels="chat voice"), waiting("c", channel="video"), "channel"),
        (agent("bo", languages="de"), waiting("c", language="en"), "language"),
        (agent("bo", languages="de"), waiting("c"), None),
        (agent("bo"), waiting("c", language="en"), None),
        (agent("bo", "heat:2"), waiting("c", "heat:3"), "skill:heat 2<3"),
        (agent("bo", "heat:5"), waiting("c", "heat wifi:2"), "skill:wifi 0<2"),
        (agent("bo"), waiting("c", refusals={"bo": NOW + 12.5}), "refused:12.5"),
        (agent("bo"), waiting("c", refusals={"bo": math.inf}), "refused:inf"),
        (agent("bo"), waiting("c", refusals={"bo": NOW}), None),
        (agent("bo"), waiting("c", preferred="ana", preferred_until=NOW + 1), "kept-for:ana"),
        (agent("bo"), waiting("c", preferred="ana", preferred_until=NOW), None),
        (agent("bo"), waiting("c", preferred="bo", preferred_until=NOW + 1), None),
    ],
)
def test_why_an_agent_may_not_serve_a_contact(who: FreeAgent, contact: Waiting, why: str | None) -> None:
    assert may_serve(who, contact, NOW) == why
    assert chosen(who, contact) == (None if why else ("c", "bo"))


def test_one_who_declined_is_passed_over_while_another_is_free() -> None:
    contact = waiting("c", "heat", refusals={"ana": 10.0}, last_refused="ana")
    assert chosen(agent("ana", "heat", since=1), agent("bo", "heat", since=900), contact) == ("c", "bo")


def test_one_who_declined_is_asked_again_only_after_a_pause() -> None:
    made = floor(agent("ana", "heat"), waiting("c", "heat", refusals={"ana": 1020.0}, last_refused="ana"))
    assert choose(made, 1000.0) == Nobody(look_at=1020.0)
    found = choose(made, 1020.0)
    assert isinstance(found, Pair)
    assert found.asked_again


def test_one_who_said_never_again_is_not_waited_for() -> None:
    assert choose(floor(agent("ana"), waiting("c", refusals={"ana": math.inf})), NOW) == Nobody(None)


def test_the_last_who_refused_is_asked_after_one_on_standby_and_one_who_refused_before() -> None:
    contact = waiting("c", refusals={"ana": 2.0, "bo": 1.0}, last_refused="ana")
    robin = agent("robin", standby=True)
    assert chosen(agent("ana"), robin, contact) == ("c", "robin")
    assert chosen(agent("ana", since=1), agent("bo", since=2), contact) == ("c", "bo")
    assert chosen(agent("ana"), contact) == ("c", "ana")


def test_one_on_standby_is_chosen_only_when_nobody_else_may_serve_the_contact() -> None:
    robin = agent("robin", "heat wifi", since=0, standby=True)
    bo = agent("bo", "heat", since=900)
    assert chosen(robin, bo, waiting("c", "heat")) == ("c", "bo")
    assert chosen(robin, bo, waiting("c", "wifi")) == ("c", "robin")
    assert chosen(robin, bo, waiting("c", "heat", refusals={"bo": NOW + 1})) == ("c", "robin")


def test_a_refused_contact_keeps_its_place_before_younger_ones() -> None:
    old = waiting("old", "heat", at=1, refusals={"ana": NOW + 9})
    assert chosen(agent("bo", "heat"), old, waiting("young", "heat", at=2)) == ("old", "bo")


def test_a_contact_is_kept_for_the_agent_who_helped_before_and_then_goes_to_any_but_them_first() -> None:
    kept = waiting("c", preferred="ana", preferred_until=NOW + 20)
    made = floor(agent("bo", since=1), kept)
    assert choose(made, NOW) == Nobody(look_at=NOW + 20)
    made.put(agent("ana", since=9))
    assert choose(made, NOW) == Pair("c", "ana", 9, asked_again=False, preferred=True, step=0)
    found = choose(made, NOW + 20)
    assert isinstance(found, Pair)
    assert found.agent_id == "ana", "still the first among the free"
    made.take("ana")
    found = choose(made, NOW + 20)
    assert isinstance(found, Pair)
    assert (found.agent_id, found.preferred) == ("bo", False)


def test_a_contact_is_not_kept_for_one_who_has_refused_it() -> None:
    kept = waiting("c", preferred="ana", preferred_until=NOW + 20, refusals={"ana": NOW + 30})
    assert chosen(agent("ana"), agent("bo", since=5), kept) == ("c", "bo")


def test_what_is_required_falls_step_by_step() -> None:
    steps = (
        (NOW + 30, group("heat:2", language="de")),
        (NOW + 60, group("heat:2")),
    )
    made = floor(
        agent("ana", "heat:2", languages="de"),
        agent("bo", "heat:2", languages="en"),
        waiting("c", "heat:4", language="de", steps=steps),
    )
    assert choose(made, NOW) == Nobody(look_at=NOW + 30)
    assert choose(made, NOW + 30) == Pair("c", "ana", 0.0, asked_again=False, preferred=False, step=1)
    made.take("ana")
    assert choose(made, NOW + 31) == Nobody(look_at=NOW + 60)
    assert choose(made, NOW + 60) == Pair("c", "bo", 0.0, asked_again=False, preferred=False, step=2)


def test_a_head_start_puts_a_contact_before_those_who_asked_a_little_earlier() -> None:
    plain, urgent = waiting("plain", at=100.0), waiting("urgent", at=150.0 - 60.0)
    assert chosen(agent("bo"), plain, urgent) == ("urgent", "bo")
    assert chosen(agent("bo"), plain, waiting("urgent", at=161.0 - 60.0)) == ("plain", "bo")


def test_asking_again_without_taking_the_pair_gives_the_same_pair() -> None:
    made = floor(agent("ana"), agent("bo", since=1), waiting("a", at=1), waiting("b", at=2))
    assert choose(made, NOW) == choose(made, NOW) == choose(made, NOW + 5)


def test_one_who_comes_with_an_earlier_place_while_a_pair_is_not_taken_yet_goes_first() -> None:
    made = floor(agent("bo", "heat wifi"))
    assert choose(made, NOW) == Nobody(None), "so that only the contacts are news"
    made.add(waiting("b", "heat", at=4))
    made.add(waiting("a", "wifi", at=5))
    found = choose(made, NOW)
    assert isinstance(found, Pair)
    assert found.contact_id == "b"
    made.add(waiting("c", "wifi", at=3))
    found = choose(made, NOW)
    assert isinstance(found, Pair)
    assert found.contact_id == "c"


def test_facts_that_change_are_looked_at_anew() -> None:
    made = floor(agent("bo", "heat:1"), waiting("c", "heat:2"))
    assert isinstance(choose(made, NOW), Nobody)
    made.put(agent("bo", "heat:2"))
    assert isinstance(choose(made, NOW), Pair)
    made.add(waiting("c", "heat:2", refusals={"bo": math.inf}))
    assert isinstance(choose(made, NOW), Nobody)
    made.put(agent("bo", "heat:2", channels="chat"))
    made.add(waiting("c", "heat:2"))
    assert isinstance(choose(made, NOW), Nobody)


class AnyFloor(RuleBasedStateMachine):
    """The floor changes in any order and is asked at any time: `choose` finds what the rule says of everybody."""

    def __init__(self) -> None:
        super().__init__()
        self.floor = Floor(STRATEGIES)
        self.agents: dict[str, FreeAgent] = {}
        self.waitings: dict[str, Waiting] = {}
        self.now = NOW
        self.found: Pair | Nobody = Nobody(None)

    @rule(free=st.lists(free_agents, min_size=1, max_size=4), asked=st.booleans())
    def agents_come_or_change(self, free: list[FreeAgent], asked: bool) -> None:
        for each in free:
            self.floor.put(each)
            self.agents[each.agent_id] = each
        if asked:
            self.choose_is_asked()

    @rule(agent_id=st.sampled_from(AGENTS))
    def an_agent_leaves(self, agent_id: str) -> None:
        assert self.floor.take(agent_id) == self.agents.pop(agent_id, None)

    @rule(contacts=st.lists(waitings, min_size=1, max_size=4), asked=st.booleans())
    def contacts_come_or_change(self, contacts: list[Waiting], asked: bool) -> None:
        for each in contacts:
            contact = at(self.now, each)
            self.floor.add(contact)
            self.waitings[contact.contact_id] = contact
        if asked:
            self.choose_is_asked()

    @rule(contact_id=st.sampled_from(CONTACTS))
    def a_contact_leaves(self, contact_id: str) -> None:
        assert self.floor.remove(contact_id) == self.waitings.pop(contact_id, None)

    @rule(seconds=st.sampled_from([0.5, 1.0, 3.0, 20.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.choose_is_asked()

    @rule()
    def choose_is_asked(self) -> None:
        self.found = choose(self.floor, self.now)
        assert self.found == choose_plainly(
            self.waitings.values(), self.agents.values(), STRATEGIES, self.now
        )
        self.what_is_counted_is_right()
        if isinstance(self.found, Pair):
            self.it_keeps_the_laws(self.found)
        elif self.found.look_at is not None:
            assert self.found.look_at > self.now

    @precondition(lambda self: isinstance(self.found, Pair))
    @rule()
    def the_pair_is_taken(self) -> None:
        assert isinstance(self.found, Pair)
        self.an_agent_leaves(self.found.agent_id)
        self.a_contact_leaves(self.found.contact_id)
        self.found = Nobody(None)

    @rule()
    def all_pairs_are_taken(self) -> None:
        self.choose_is_asked()
        while isinstance(self.found, Pair):
            self.the_pair_is_taken()
            self.choose_is_asked()

    def it_keeps_the_laws(self, pair: Pair) -> None:
        who, contact = self.agents[pair.agent_id], self.waitings[pair.contact_id]
        needs = contact.needs(self.now)
        assert not who.providers or needs.provider_id in who.providers, "walls hold"
        assert needs.channel in who.channels
        assert all(who.levels.get(skill, 0) >= least for skill, least in needs.required), "levels hold"
        assert may_serve(who, contact, self.now) is None
        others = [
            other
            for other in self.agents.values()
            if other is not who and may_serve(other, contact, self.now) is None
        ]
        if others:
            assert pair.agent_id != contact.last_refused, "the last refuser is asked while another is free"
        if any(not other.standby and other.agent_id != contact.last_refused for other in others):
            assert not who.standby
        for earlier in self.waitings.values():
            if earlier.order < contact.order:
                assert all(may_serve(each, earlier, self.now) is not None for each in self.agents.values())

    def what_is_counted_is_right(self) -> None:
        assert (len(self.floor.free), len(self.floor.queue)) == (len(self.agents), len(self.waitings))
        needs = {contact_id: contact.needs(self.now) for contact_id, contact in self.waitings.items()}
        assert self.floor.groups() == Counter(needs.values())
        for contact_id, contact in self.waitings.items():
            ahead = sum(
                needs[other.contact_id] == needs[contact_id] and other.order < contact.order
                for other in self.waitings.values()
            )
            assert self.floor.position(contact_id) == 1 + ahead

    def teardown(self) -> None:
        for agent_id in AGENTS:
            self.floor.take(agent_id)
        for contact_id in CONTACTS:
            self.floor.remove(contact_id)
        assert (len(self.floor.queue), len(self.floor.free), self.floor.groups()) == (0, 0, {})
        assert choose(self.floor, self.now) == Nobody(None)


def test_the_choice_is_what_the_rule_says_whatever_happened_before() -> None:
    run_state_machine_as_test(
        AnyFloor, settings=settings(max_examples=80, stateful_step_count=40, deadline=None)
    )
