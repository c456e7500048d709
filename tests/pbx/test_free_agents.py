"""The index of who is free: its orders stay whole and small however agents come and go."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from config.queue_settings import Strategy
from pbx.free_agents import BLOCK, FreeAgents, _Turns
from tests.pbx.floor import STRATEGIES, agent, free_agents


@given(st.lists(st.tuples(st.integers(0, 400), st.booleans()), max_size=600), st.integers(1, 2**401))
@settings(max_examples=60, deadline=None)
def test_the_first_of_any_set_is_found(moves: list[tuple[int, bool]], among: int) -> None:
    turns, there = _Turns(), set[int]()
    for number, comes in moves:
        turn, bit = (float(number * 7919 % 401), str(number)), 1 << number
        if comes and number not in there:
            turns.add(turn, bit)
            there.add(number)
        elif not comes and number in there:
            turns.remove(turn, bit)
            there.discard(number)
    wanted = [number for number in there if among >> number & 1]
    if wanted:
        assert turns.first(among) == str(min(wanted, key=lambda number: number * 7919 % 401))


def test_agents_nobody_needs_are_not_left_with_a_block_for_each() -> None:
    turns = _Turns()
    for number in range(4000):
        turns.add((float(number), str(number)), 1 << number)
    for number in range(4000):
        if number % BLOCK:
            turns.remove((float(number), str(number)), 1 << number)
    assert len(turns._blocks) < 4 * 4000 / BLOCK / BLOCK + 2


def test_an_agent_put_again_with_the_same_facts_is_no_news() -> None:
    free = FreeAgents(STRATEGIES.values())
    assert free.put(agent("bo", "heat:2"))
    assert not free.put(agent("bo", "heat:2"))
    assert free.put(agent("bo", "heat:3"))
    assert [each.levels for each in free] == [{"heat": 3}]


@given(st.lists(free_agents, max_size=12))
def test_everybody_gone_leaves_nothing_behind(everybody: list[object]) -> None:
    free = FreeAgents([Strategy.ROUND_ROBIN])
    for each in everybody:
        free.put(each)  # type: ignore[arg-type]
    for one in tuple(free):
        assert free.take(one.agent_id) is one
        assert free.take(one.agent_id) is None
    assert (len(free), free._able, free._standby) == (0, {}, 0)
