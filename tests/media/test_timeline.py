"""Where packets belong on the time of a recording."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.timeline import EARLY_S, LATE_S, Timeline

RATE = 16000


@given(
    st.integers(0, 0xFFFFFFFF),
    st.lists(st.floats(0, 0.05), min_size=2, max_size=100),
    st.sampled_from([(8000, 160), (48000, 960)]),
)
def test_what_the_network_delays_stays_in_its_place(
    start: int, delays: list[float], codec: tuple[int, int]
) -> None:
    clock, ticks = codec
    timeline = Timeline(RATE)
    places = [
        timeline.place(7, clock, (start + number * ticks) & 0xFFFFFFFF, number * 0.02 + delay)
        for number, delay in enumerate(delays)
    ]
    assert places[0] == round(delays[0] * RATE)
    assert [place - places[0] for place in places] == [number * 320 for number in range(len(places))]


def test_overtaking_changes_nothing() -> None:
    timeline = Timeline(RATE)
    order = [0, 1, 3, 2, 4, 7, 6, 5, 8]
    places = {
        n: timeline.place(7, 8000, n * 160, 1.0 + 0.02 * max(order[: at + 1])) for at, n in enumerate(order)
    }
    assert [places[n] - places[0] for n in range(9)] == [n * 320 for n in range(9)]


def test_silence_between_talkspurts_is_as_long_as_it_was() -> None:
    timeline = Timeline(RATE)
    assert timeline.place(7, 48000, 0, 1.0) == 16000
    assert timeline.place(7, 48000, 48000 * 20, 21.03) == 16000 * 21


@pytest.mark.parametrize("drift", [-300e-6, 300e-6], ids=["slow", "fast"])
def test_a_sender_whose_clock_is_wrong_stays_in_step_with_ours(drift: float) -> None:
    timeline = Timeline(RATE)
    chance = random.Random(1)
    for number in range(50 * 60 * 20):
        at = number * 0.02 * (1 - drift) + chance.random() * 0.03
        place = timeline.place(7, 8000, (number * 160) & 0xFFFFFFFF, at)
        assert -EARLY_S - 0.06 < at - place / RATE < LATE_S + 0.06


def test_another_source_or_one_that_began_anew_belongs_where_it_arrived() -> None:
    timeline = Timeline(RATE)
    timeline.place(7, 8000, 1000, 1.0)
    assert timeline.place(8, 8000, 1160, 5.0) == 5 * RATE
    assert timeline.place(8, 48000, 1160 + 960, 6.0) == 6 * RATE, "another clock"
    assert timeline.place(8, 48000, 0x7FFF0000, 7.0) == 7 * RATE, "far ahead"
    assert timeline.place(8, 48000, 5, 8.0) == 8 * RATE, "far behind"


def test_a_sender_whose_timestamps_stood_still_while_it_was_silent_is_put_right() -> None:
    timeline = Timeline(RATE)
    timeline.place(7, 8000, 0, 1.0)
    assert timeline.place(7, 8000, 160, 4.0) == 4 * RATE
