"""Places, lines and moments of those who wait; that the order in which anybody came does not matter."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pbx.queue import Queue, Waiting
from pbx.router import FreeAgent
from tests.pbx.floor import NOW, at, chosen, free_agents, group, waiting, waitings


def queue(*contacts: Waiting) -> Queue:
    made = Queue()
    for contact in contacts:
        made.add(contact)
    return made


def test_position_counts_those_who_need_the_same_where_nothing_is_known_of_agents() -> None:
    made = queue(
        waiting("a", "heat", at=1),
        waiting("b", "heat", at=2, refusals={"ana": 1.0}),
        waiting("c", "heat", at=3),
        waiting("d", "heat:2", at=0),
        waiting("x", "wifi", at=0),
    )
    names = ("a", "b", "c", "d", "x", "nobody")
    assert [made.position(name) for name in names] == [1, 2, 3, 1, 1, None]
    assert made.ahead("c") == {group("heat"): 2, group("heat:2"): 1, group("wifi"): 1}
    made.remove("a")
    assert made.position("c") == 2


def test_one_kept_for_an_agent_has_a_place_among_the_others() -> None:
    made = queue(
        waiting("a", at=1), waiting("b", at=2, preferred="ana", preferred_until=NOW), waiting("c", at=3)
    )
    assert [made.position(name) for name in "abc"] == [1, 2, 3]
    assert made.groups() == {group(): 3}


def test_one_who_comes_again_has_the_old_place_and_the_new_facts() -> None:
    made = queue(waiting("a", at=1), waiting("b", at=2))
    made.add(waiting("a", "heat", at=1))
    assert (len(made), made.position("a"), made.position("b")) == (2, 1, 1)
    assert made.groups() == {group("heat"): 1, group(): 1}


def test_one_who_needs_less_after_a_while_stands_with_those_who_need_that() -> None:
    steps = ((NOW + 30, group("heat")), (NOW + 60, group()))
    made = queue(waiting("a", "heat:3", at=5, steps=steps), waiting("b", "heat", at=6), waiting("c", at=4))
    made.advance(NOW)
    assert [made.position(name) for name in "abc"] == [1, 1, 1]
    assert made.next_moment() == NOW + 30
    made.advance(NOW + 30)
    assert [made.position(name) for name in "abc"] == [1, 2, 1]
    made.advance(NOW + 100)
    assert [made.position(name) for name in "abc"] == [2, 1, 1]
    assert made.next_moment() is None


def test_all_steps_that_have_come_while_nobody_looked_are_taken_at_once() -> None:
    contact = waiting("a", "heat:3", steps=((NOW + 30, group("heat")), (NOW + 60, group())))
    made = queue(contact)
    made.advance(NOW + 90)
    assert made.groups() == {group(): 1}
    assert contact.step(NOW + 90) == 2


def test_time_changes_something_at_the_end_of_a_pause_a_wish_or_a_step_only() -> None:
    plain = waiting("c")
    assert plain.changes_at(NOW) is None
    assert replace(plain, refusals={"ana": math.inf}).changes_at(NOW) is None
    assert replace(plain, refusals={"ana": NOW + 3, "bo": NOW - 3}).changes_at(NOW) == NOW + 3
    assert replace(plain, preferred="ana", preferred_until=NOW + 2).changes_at(NOW) == NOW + 2
    assert replace(plain, steps=((NOW + 1, group()),)).changes_at(NOW) == NOW + 1
    assert replace(plain, steps=((NOW, group()),)).changes_at(NOW) is None


def test_moments_of_contacts_that_are_gone_are_not_kept() -> None:
    made = Queue()
    for number in range(5000):
        made.add(waiting(str(number), steps=((NOW + number, group("heat")),)))
        made.remove(str(number))
    assert len(made._moments) < 100
    assert made.next_moment() is None


def test_everybody_gone_leaves_nothing_behind() -> None:
    contacts = [
        waiting("a", "heat wifi:2", at=1),
        waiting("b", at=2, preferred="ana", preferred_until=NOW),
        waiting("c", language="de", steps=((NOW, group()),)),
    ]
    made = queue(*contacts)
    for contact in contacts:
        assert made.remove(contact.contact_id) is contact
        assert made.remove(contact.contact_id) is None
    made.next_moment()
    assert not any((len(made), made._lines, made._groups, made._shelves, made._due, made._moments))


@given(st.lists(free_agents, max_size=6), st.lists(waitings, max_size=8), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_the_order_in_which_news_came_does_not_matter(
    free: list[FreeAgent], queue: list[Waiting], random: Any
) -> None:
    entries: list[FreeAgent | Waiting] = [
        *{each.agent_id: each for each in free}.values(),
        *{each.contact_id: at(NOW, each) for each in queue}.values(),
    ]
    mixed = list(entries)
    random.shuffle(mixed)
    assert chosen(*mixed) == chosen(*entries)
