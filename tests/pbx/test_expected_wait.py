"""The expected wait: honest where nothing is known, right on the average where something is."""

from __future__ import annotations

import heapq
from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbx.contact import State
from pbx.crew import Able
from pbx.expected_wait import FEWEST, REMEMBERED, SMOOTH_S, Pace
from pbx.queue import Group, Queue, Waiting
from tests.pbx.callers import by_phone
from tests.pbx.centre import Centre

CALLS = Group("thermea", "voice", frozenset({("heating", 2)}))
KIND = ("default", "voice")
VOICE = frozenset({"voice"})


def able(
    level: int = 3,
    providers: tuple[str, ...] = (),
    channels: tuple[str, ...] = ("voice",),
    language: str = "",
) -> Able:
    languages = frozenset({language} if language else ())
    return Able({"heating": level}, frozenset(providers), frozenset(channels), languages)


def pace(*kept: float, agents: int = 2) -> Pace:
    made = Pace()
    for seconds in kept:
        made.kept(KIND, seconds)
    for number in range(agents):
        made.on(f"agent-{number}", able())
    return made


def test_two_agents_kept_four_minutes_each_are_free_every_two() -> None:
    assert pace(200.0, 240.0, 280.0).expected_s(CALLS, {}, 0.0) == 120.0


def test_with_too_few_contacts_seen_nothing_is_said() -> None:
    seen = pace(*[60.0] * (FEWEST - 1))
    assert seen.expected_s(CALLS, {}, 0.0) is None
    seen.kept(KIND, 60.0)
    assert seen.expected_s(CALLS, {}, 0.0) == 30.0


def test_with_nobody_on_who_could_serve_it_nothing_is_said() -> None:
    seen = pace(*[60.0] * 5, agents=0)
    for agent_id, other in {
        "level": able(level=1),
        "wall": able(providers=("lumio",)),
        "chats": able(channels=("chat",)),
    }.items():
        seen.on(agent_id, other)
    assert seen.expected_s(CALLS, {}, 0.0) is None
    german = Group(CALLS.provider_id, CALLS.channel, CALLS.required, language="de")
    seen.on("french", able(language="fr"))
    assert seen.expected_s(german, {}, 0.0) is None
    assert seen.expected_s(CALLS, {}, 0.0) == 60.0
    seen.on("german", able(language="de"))
    assert seen.expected_s(german, {}, 0.0) == 60.0
    seen.off("german")
    assert seen.expected_s(german, {}, 0.0) is None


def test_other_queues_and_channels_say_nothing_of_this_one() -> None:
    seen = pace(agents=1)
    for kind in (("default", "video"), ("vip", "voice")):
        for _ in range(5):
            seen.kept(kind, 60.0)
    assert seen.expected_s(CALLS, {}, 0.0) is None


def test_only_the_last_contacts_count() -> None:
    seen = pace(*[1000.0] * 50, *[60.0] * REMEMBERED, agents=1)
    assert seen.expected_s(CALLS, {}, 0.0) == 60.0


def test_an_agent_who_chats_has_several_at_a_time() -> None:
    chats = Group("thermea", "chat", frozenset())
    seen = Pace()
    for _ in range(5):
        seen.kept(("default", "chat"), 300.0)
        seen.kept(KIND, 300.0)
    seen.on("ana", replace(able(channels=("chat", "voice")), chats=3))
    assert seen.expected_s(chats, {}, 0.0) == 100.0
    seen.on("ben", replace(able(channels=("chat", "voice")), chats=2))
    seen.on("lena", replace(able(channels=("voice",)), chats=20))
    assert seen.expected_s(chats, {}, 1e9) == pytest.approx(60.0)  # five places for chats, three for calls
    assert seen.expected_s(CALLS, {}, 0.0) == 100.0


def test_whoever_is_before_them_for_the_same_agents_counts_and_nobody_else() -> None:
    boilers = Group("thermea", "voice", frozenset({("boilers", 1)}))
    lamps = Group("lumio", "voice", frozenset())
    seen = pace(*[60.0] * 5, agents=0)
    seen.on("heating only", Able({"heating": 3}, frozenset({"thermea"}), VOICE, frozenset()))
    both = Able({"heating": 3, "boilers": 3}, frozenset({"thermea"}), VOICE, frozenset())
    seen.on("both", both)
    seen.on("lamps", Able({}, frozenset({"lumio"}), VOICE, frozenset()))
    assert seen.expected_s(CALLS, {}, 0.0) == 30.0
    assert seen.expected_s(CALLS, {CALLS: 1}, 0.0) == 60.0
    assert seen.expected_s(CALLS, {lamps: 50}, 0.0) == 30.0  # they need other agents
    assert seen.expected_s(CALLS, {boilers: 2}, 0.0) == 90.0  # all of these go to an agent of ours
    assert seen.expected_s(boilers, {}, 0.0) == 60.0
    assert seen.expected_s(boilers, {CALLS: 2}, 0.0) == 120.0  # of these every other one


def test_those_before_them_count_by_how_long_they_take() -> None:
    videos = Group("thermea", "video", frozenset())
    seen = pace(*[60.0] * 5, agents=0)
    seen.on("ana", able(channels=("voice", "video")))
    assert seen.expected_s(CALLS, {videos: 1}, 0.0) == 120.0  # of these nothing is known
    for _ in range(5):
        seen.kept(("default", "video"), 600.0)
    assert seen.expected_s(CALLS, {videos: 1}, 0.0) == 660.0


@given(
    st.lists(st.integers(1, 40), min_size=2, max_size=10),
    st.lists(st.floats(0.0, 1e4), min_size=3, max_size=40),
)
def test_it_falls_with_the_position(ahead: list[int], kept: list[float]) -> None:
    seen = pace(*kept)
    told = [seen.expected_s(CALLS, {CALLS: count}, 0.0) for count in sorted(ahead)]
    assert None not in told
    assert told == sorted(told)  # type: ignore[type-var]


def test_it_does_not_jump() -> None:
    """When half of the agents go the pace is believed to be half as fast only after minutes."""
    seen = pace(*[120.0] * 5, agents=4)
    assert seen.expected_s(CALLS, {}, 0.0) == 30.0
    seen.off("agent-0")
    seen.off("agent-1")
    told = [seen.expected_s(CALLS, {}, float(second)) for second in range(0, 601, 10)]
    steps = [later - earlier for earlier, later in pairwise(told)]  # type: ignore[operator]
    assert told[0] == 30.0
    assert all(0.0 <= step <= 30.0 * 10.0 / SMOOTH_S for step in steps)
    assert abs(told[-1] - 60.0) < 0.1  # type: ignore[operator]


@given(
    kept=st.lists(st.floats(0.0, 1e5), max_size=60),
    agents=st.lists(st.tuples(st.integers(0, 9), st.integers(1, 5), st.booleans()), max_size=30),
    moments=st.lists(st.floats(0.0, 1e4), min_size=1, max_size=10),
)
def test_it_is_never_negative_and_unknown_exactly_where_it_must_be(
    kept: list[float], agents: list[tuple[int, int, bool]], moments: list[float]
) -> None:
    seen = pace(*kept, agents=0)
    on: dict[int, int] = {}
    for number, level, comes in agents:
        if comes:
            on[number] = level
            seen.on(f"agent-{number}", able(level=level))
        else:
            on.pop(number, None)
            seen.off(f"agent-{number}")
    assert seen.serving(CALLS) == sum(level >= 2 for level in on.values())
    for now in moments:  # clocks may be set back
        told = seen.expected_s(CALLS, {}, now)
        if len(kept) < FEWEST or not seen.serving(CALLS):
            assert told is None
        else:
            assert told is not None
            assert 0.0 <= told <= 1e5


def test_against_a_simulated_queue_it_is_right_on_the_average() -> None:
    """M/M/c with 5 agents, 4 minutes each, at 95 % load: of 40,000 contacts the means of what was expected and of what
    came differ by less than 5 %, for all who waited and for those far back; and for three out of four who had ten or
    more before them what came is within half of what was expected."""
    random, agents, kept_s = Random(7), 5, 240.0
    between_calls_s = kept_s / agents / 0.95
    seen = pace(agents=agents)
    busy: list[tuple[float, float]] = []  # (free at, since)
    waiting: list[tuple[float, float | None, int]] = []  # (since, expected, ahead)
    result: list[tuple[float, float, int]] = []  # (expected, came, ahead)
    now = next_call = 0.0

    def serve(at: float) -> None:
        heapq.heappush(busy, (at + random.expovariate(1 / kept_s), at))

    for _ in range(40_000):
        next_call += random.expovariate(1 / between_calls_s)
        while busy and busy[0][0] <= next_call:
            now, since = heapq.heappop(busy)
            seen.kept(KIND, now - since)
            if waiting:
                asked, expected, ahead = waiting.pop(0)
                if expected is not None:
                    result.append((expected, now - asked, ahead))
                serve(now)
        now = next_call
        if len(busy) < agents:
            serve(now)
        else:
            between_s = seen.expected_s(CALLS, {}, now)
            expected = (len(waiting) + 1) * between_s if between_s is not None else None
            waiting.append((now, expected, len(waiting)))
    far = [(expected, came) for expected, came, ahead in result if ahead >= 10]
    assert len(far) > 5_000
    for expected, came in (
        (sum(each[0] for each in some), sum(each[1] for each in some)) for some in (result, far)
    ):
        assert abs(expected / came - 1.0) < 0.05
    near = sum(abs(came - expected) <= expected / 2 for expected, came in far)
    assert near / len(far) > 0.75


def test_agents_come_and_go_and_are_counted_once() -> None:
    seen = pace(*[60.0] * 3, agents=20)
    assert seen.serving(CALLS) == 20
    for number in range(0, 20, 2):
        seen.off(f"agent-{number}")
        seen.off(f"agent-{number}")
    assert seen.serving(CALLS) == 10
    for number in range(15):
        seen.on(f"new-{number}", able())
    seen.on("new-3", able(level=1))
    assert seen.serving(CALLS) == 24
    assert seen.serving(Group("thermea", "voice", frozenset())) == 25


def test_ahead_is_who_came_before_by_what_they_need() -> None:
    queue, lamps = Queue(), Group("lumio", "voice", frozenset())
    for number, group in enumerate((CALLS, lamps, lamps, CALLS, lamps)):
        queue.add(Waiting(f"c{number}", group, float(number), float(number)))
    assert queue.ahead("c0") == {}
    assert queue.ahead("c3") == {CALLS: 1, lamps: 2}
    assert queue.ahead("c4") == {CALLS: 2, lamps: 2}
    assert queue.ahead("nobody") == {}


# In the contact centre


async def served(centre: Centre, seconds: float) -> None:
    """A call that keeps the agent so long, and ten seconds of writing up."""
    contact, caller = await by_phone(centre)
    centre.phone.rung[-1].pick_up()
    await centre.settle()
    assert contact.state is State.CONNECTED
    await centre.passes(seconds)
    caller.hang_up()
    await centre.passes(10.5)
    assert centre.state() == "Ready"


async def test_what_calls_take_is_seen_from_the_ringing_to_the_end_of_the_writing_up() -> None:
    centre = await Centre.open()
    await centre.agent()
    for seconds in (50.0, 50.0, 50.0):
        first, _ = await by_phone(centre)
        assert centre.expected_wait.of(first.id) is None
        await centre.desk.end(first.id, "customer")
        await centre.settle()
        await served(centre, seconds)
    talking, _ = await by_phone(centre)
    centre.phone.rung[-1].pick_up()
    await centre.settle()
    second, _ = await by_phone(centre, "+15557654321")
    third, _ = await by_phone(centre, "+15557654322")
    expected = centre.expected_wait.of(second.id)
    assert expected is not None
    assert 60.0 <= expected <= 62.0
    assert centre.expected_wait.of(third.id) == 2 * expected
    assert centre.expected_wait.of(talking.id) is None
    assert centre.expected_wait.of("nobody") is None
    await centre.house.states.not_ready("agent-ana")  # and takes no more after this one
    assert centre.expected_wait.of(second.id) is None


async def test_an_agent_who_takes_a_break_is_not_counted_and_one_whose_phone_changes_is_looked_at() -> None:
    centre = await Centre.open()
    await centre.agent()
    await centre.agent("bo")
    for _ in range(3):
        centre.expected_wait._pace.kept(KIND, 60.0)
    group = Group("thermea", "voice", frozenset({("heating", 1)}))
    assert centre.expected_wait._pace.serving(group) == 2
    await centre.house.states.not_ready("agent-bo")
    assert centre.expected_wait._pace.serving(group) == 1
    await centre.house.states.ready("agent-bo")
    assert centre.expected_wait._pace.serving(group) == 2
    centre.house.drop("bo")
    await centre.settle()
    assert centre.expected_wait._pace.serving(group) == 1
