"""The position in the queue: one of all whom the same agents might take, and never too low."""

from __future__ import annotations

import time
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from pbx import queue as module
from pbx.crew import Able, Crew
from pbx.queue import Group, Queue, Waiting
from pbx.router import FreeAgent
from tests.pbx.callers import by_phone
from tests.pbx.centre import Centre
from tests.pbx.floor import NOW, free_agents, group, waiting, waitings


def crew_of(*agents: Able) -> Crew:
    crew = Crew()
    for number, able in enumerate(agents):
        crew.on(f"agent-{number}", able)
    return crew


def able(channels: str = "voice", **levels: int) -> Able:
    return Able(levels, frozenset(), frozenset(channels.split()), frozenset())


def queue(crew: Crew, *contacts: Waiting) -> Queue:
    made = Queue()
    made.sharing = crew.sharing
    for contact in contacts:
        made.add(contact)
    made.advance(NOW)
    return made


def plainly(contact: Waiting, others: Iterable[Waiting], agents: Iterable[Able]) -> int:
    """The meaning, asked of everybody."""
    own = contact.needs(NOW)
    able_to = [agent for agent in agents if agent.serves(own)]
    return 1 + sum(
        other.order < contact.order
        and (other.needs(NOW) == own or any(agent.serves(other.needs(NOW)) for agent in able_to))
        for other in others
    )


def test_those_who_need_something_else_count_where_an_agent_could_take_either() -> None:
    contacts = (waiting("a", "heat", at=1), waiting("b", "wifi", at=2), waiting("c", "heat", at=3))
    both, heat, wifi = able(heat=3, wifi=3), able(heat=3), able(wifi=3)
    assert queue(crew_of(both), *contacts).position("c") == 3
    assert queue(crew_of(heat, wifi), *contacts).position("c") == 2
    assert queue(crew_of(heat, wifi, both), *contacts).position("b") == 2


def test_one_who_needs_less_and_came_later_is_not_before_them() -> None:
    made = queue(crew_of(able(heat=5)), waiting("a", "heat:4", at=1), waiting("b", at=2))
    assert (made.position("a"), made.position("b")) == (1, 2)


@given(st.lists(waitings, max_size=12), st.lists(free_agents, max_size=7))
def test_it_is_what_a_plain_count_finds(contacts: list[Waiting], free: list[FreeAgent]) -> None:
    agents = [Able(each.levels, each.providers, each.channels, each.languages) for each in free]
    held = {contact.contact_id: contact for contact in contacts}
    made = queue(crew_of(*agents), *held.values())
    for contact_id, contact in held.items():
        assert made.position(contact_id) == plainly(contact, held.values(), agents)


@given(st.lists(waitings, max_size=12), st.lists(free_agents, max_size=7), st.integers(1, 4))
def test_with_more_needs_than_are_looked_at_it_is_never_too_low(
    contacts: list[Waiting], free: list[FreeAgent], most: int
) -> None:
    agents = [Able(each.levels, each.providers, each.channels, each.languages) for each in free]
    held = {contact.contact_id: contact for contact in contacts}
    made = queue(crew_of(*agents), *held.values())
    before, module.MOST_GROUPS = module.MOST_GROUPS, most
    try:
        for contact_id, contact in held.items():
            found = made.position(contact_id)
            assert found is not None
            assert plainly(contact, held.values(), agents) <= found <= len(held)
    finally:
        module.MOST_GROUPS = before


def test_among_a_hundred_thousand_nobody_is_walked_past() -> None:
    """A fraction of a millisecond is what it takes; a loaded machine gets ten times that before this fails."""
    names = [f"skill{number}" for number in range(200)]
    levels = ({names[(number + more) % 200]: 3 for more in range(3)} for number in range(500))
    everything = frozenset[str]()
    crew = crew_of(*(Able(each, everything, frozenset({"voice"}), everything) for each in levels))
    made = queue(crew)
    for number in range(100_000):
        made.add(waiting(f"c{number:06}", names[number % 200], at=number))
    assert made.position("c099999") is not None  # who could serve what is known from here on
    began = time.process_time()
    for number in range(100_000 - 100, 100_000):
        position = made.position(f"c{number:06}")
        assert position is not None
        assert 2000 < position < 3000, "five skills of two hundred have agents in common"
    assert (time.process_time() - began) / 100 < 10e-3


async def test_in_the_centre_it_counts_for_those_on_duty_and_with_nobody_on_for_the_whole_roster() -> None:
    centre = await Centre.open()
    await centre.agent("ana", heating=3)
    await centre.agent("bo", cameras=3)
    heating, cameras = (
        Group("thermea", "voice", frozenset({(skill, 1)})) for skill in ("heating", "cameras")
    )

    def shared(one: Group, other: Group) -> bool:
        return centre.dispatch.floor.queue.sharing(one)(other) > 0.0

    assert (shared(heating, heating), shared(heating, cameras)) == (True, False)
    await centre.agent("deniz", heating=2, cameras=2)
    assert shared(heating, cameras)
    await centre.house.states.not_ready("agent-deniz")
    assert not shared(heating, cameras)
    await centre.house.states.not_ready("agent-ana")
    assert shared(heating, cameras), "whoever comes next may be one who takes either"
    first, _ = await by_phone(centre)
    second, _ = await by_phone(centre, "+15557654321")
    assert [centre.dispatch.position(each.id) for each in (first, second)] == [1, 2]


def test_a_group_alone_is_before_itself_whoever_is_on() -> None:
    made = queue(
        crew_of(), waiting("a", "heat", at=1), waiting("b", "heat", at=2), waiting("c", "wifi", at=0)
    )
    assert [made.position(name) for name in "abc"] == [1, 2, 1]
    assert made.groups() == {group("heat"): 2, group("wifi"): 1}
