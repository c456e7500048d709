"""What one party says, laid on the time of a recording."""

from __future__ import annotations

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from media.speech import Encoder
from media.voice import Voice
from tests.media.test_speech import tone
from tests.media.tone_phone import level

TICKS = {"pcmu": (8000, 160), "pcma": (8000, 160), "g722": (8000, 160), "opus": (48000, 960)}
Packet = tuple[str, int, int, int, bytes, float]


def said(
    codec: str, seconds: float, *, at: float = 1.0, ssrc: int = 7, start: int = 0xFFFF_F000
) -> list[Packet]:
    clock, ticks = TICKS[codec]
    rate = 8000 if clock == 8000 and codec != "g722" else 16000
    encoder, size = Encoder(codec, rate), rate // 50
    samples = tone(620, rate, seconds)
    frames = [encoder.encode(samples[n : n + size]) for n in range(0, len(samples), size)]
    return [
        (codec, clock, ssrc, (start + number * ticks) & 0xFFFFFFFF, frame, at + number * 0.02)
        for number, frame in enumerate(frames)
        if frame
    ]


def taken(voice: Voice, seconds: float, rate: int, step: float = 0.3) -> NDArray[numpy.int16]:
    total, size = round(seconds * rate), round(step * rate)
    return numpy.concatenate([voice.take(min(size, total - at)) for at in range(0, total, size)])


def silent(sound: NDArray[numpy.int16]) -> bool:
    return not len(sound) or int(numpy.abs(sound).max()) < 30


@pytest.mark.parametrize("rate", [8000, 16000])
@pytest.mark.parametrize("codec", list(TICKS))
def test_it_is_where_it_was_said_and_silent_before_and_after(codec: str, rate: int) -> None:
    voice = Voice(rate)
    for packet in said(codec, 2.0):
        voice.put(*packet)
    sound = taken(voice, 4.0, rate)
    assert len(sound) == 4 * rate
    assert silent(sound[:rate])
    assert level(sound[round(1.1 * rate) : round(2.9 * rate)], rate, 620) == pytest.approx(8000, rel=0.05)
    assert silent(sound[round(3.05 * rate) :])


@given(st.floats(0.003, 1.0), st.randoms())
def test_how_it_is_cut_and_what_overtakes_what_makes_no_difference(step: float, chance: object) -> None:
    packets = said("pcmu", 1.0)
    whole = Voice(8000)
    for packet in packets:
        whole.put(*packet)
    mixed = Voice(8000)
    order = sorted(range(len(packets)), key=lambda n: n + chance.random() * 3)  # type: ignore[attr-defined]
    for number in (0, *order):
        mixed.put(*packets[number])
    assert (taken(mixed, 2.5, 8000, step) == whole.take(20000)).all()


def test_what_is_lost_is_silence_of_the_right_length() -> None:
    voice = Voice(8000)
    packets = said("pcmu", 1.0)
    for packet in packets[:20] + packets[25:]:
        voice.put(*packet)
    sound = voice.take(16000)[8000:]
    assert not sound[3200:4000].any()
    assert numpy.abs(sound[3000:3200]).max() > 7000
    assert numpy.abs(sound[4000:4200]).max() > 7000


def test_what_comes_too_late_moves_nothing() -> None:
    voice = Voice(8000)
    packets = said("pcmu", 1.0)
    for packet in packets[:20] + packets[25:30]:
        voice.put(*packet)
    voice.take(8000 + 4800)
    for packet in packets[20:25] + packets[30:]:
        voice.put(*packet)
    sound = voice.take(8000)
    assert (sound[:3200] == alone(packets)[12800:16000]).all()


def alone(packets: list[Packet]) -> NDArray[numpy.int16]:
    voice = Voice(8000)
    for packet in packets:
        voice.put(*packet)
    return voice.take(24000)


def test_two_in_step_stay_in_step_whoever_is_on_hold() -> None:
    one, other = Voice(16000), Voice(16000)
    for packet in said("opus", 1.0, at=1.0) + said("opus", 1.0, at=5.0, ssrc=8, start=3):
        one.put(*packet)
    for packet in said("g722", 1.0, at=5.0):
        other.put(*packet)
    first, second = taken(one, 7.0, 16000), taken(other, 7.0, 16000)
    begin_first, begin_second = (
        int(numpy.flatnonzero(numpy.abs(sound[48000:]) > 1000)[0]) for sound in (first, second)
    )
    assert abs(begin_first - begin_second) < 16000 * 0.03


@given(st.lists(st.tuples(st.sampled_from(list(TICKS)), st.integers(0, 2**32 - 1), st.binary(max_size=300))))
def test_whatever_comes_there_is_as_much_sound_as_is_asked_for(packets: list[tuple[str, int, bytes]]) -> None:
    voice = Voice(16000)
    for number, (codec, timestamp, payload) in enumerate(packets):
        voice.put(codec, TICKS[codec][0], 7, timestamp, payload, number * 0.02)
    assert [len(voice.take(size)) for size in (0, 1, 4800, 16000)] == [0, 1, 4800, 16000]
