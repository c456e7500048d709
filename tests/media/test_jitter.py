"""The jitter buffer: order, losses, clocks that differ, and sources that begin anew."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from media.jitter import DELAY_S, MOST_PACKETS, MOST_S, Jitter
from media.rtp import Heard


def heard(number: int, at: float, *, ssrc: int = 7, start: int = 0) -> Heard:
    return Heard(False, number & 0xFFFF, (start + number * 160) & 0xFFFFFFFF, ssrc, b"%d" % number, at)


class Listener:
    """Takes 20 ms every 20 ms, and notes what it was: a number, or None for silence."""

    def __init__(self) -> None:
        self.jitter = Jitter()
        self.got: list[int | None] = []

    def tick(self, now: float) -> None:
        piece = self.jitter.take(now)
        if piece is None or piece.payload is None:
            self.got.append(None)
        else:
            self.got.append(int(piece.payload))
            self.jitter.played(0.02)

    def run(self, packets: list[Heard], until: float) -> list[int | None]:
        waiting = sorted(packets, key=lambda packet: packet.at)
        for step in range(round(until / 0.02)):
            now = step * 0.02 + 0.001
            while waiting and waiting[0].at <= now:
                self.jitter.put("pcmu", 8000, waiting.pop(0))
            self.tick(now)
        return self.got


def stripped(got: list[int | None]) -> list[int | None]:
    while got and got[0] is None:
        got = got[1:]
    while got and got[-1] is None:
        got = got[:-1]
    return got


def test_what_comes_evenly_goes_out_evenly_after_a_short_while() -> None:
    got = Listener().run([heard(n, n * 0.02) for n in range(50)], 1.2)
    assert stripped(got) == list(range(50))
    assert got.index(0) * 0.02 <= DELAY_S + 0.02


def test_packets_that_overtake_each_other_are_put_in_order() -> None:
    times = {n: n * 0.02 for n in range(20)}
    times[5], times[6] = times[6] + 0.005, times[5]
    assert stripped(Listener().run([heard(n, at) for n, at in times.items()], 1.0)) == list(range(20))


def test_what_is_lost_is_silence_of_its_length() -> None:
    got = stripped(Listener().run([heard(n, n * 0.02) for n in range(20) if n not in (7, 8)], 1.0))
    assert got == [*range(7), None, None, *range(9, 20)]


def test_what_comes_too_late_or_twice_is_not_heard() -> None:
    packets = [heard(n, n * 0.02) for n in range(20)]
    packets += [heard(3, 0.3), heard(10, 0.21)]
    assert stripped(Listener().run(packets, 1.0)) == list(range(20))


def test_a_pause_and_then_speech_again_begins_after_the_same_short_while() -> None:
    packets = [heard(n, n * 0.02) for n in range(10)] + [heard(n, n * 0.02) for n in range(60, 70)]
    got = Listener().run(packets, 2.0)
    assert [n for n in got if n is not None] == [*range(10), *range(60, 70)]
    assert got.index(60) * 0.02 <= 1.2 + DELAY_S + 0.02


def test_another_source_is_heard_in_place_of_the_first() -> None:
    packets = [heard(n, n * 0.02) for n in range(10)]
    packets += [heard(n, n * 0.02, ssrc=8, start=999_999) for n in range(10, 20)]
    got = [n for n in Listener().run(packets, 1.0) if n is not None]
    assert got[-10:] == list(range(10, 20))


def test_a_timestamp_that_jumps_is_followed() -> None:
    packets = [heard(n, n * 0.02) for n in range(10)]
    packets += [heard(n, n * 0.02, start=0x9000_0000) for n in range(10, 20)]
    got = [n for n in Listener().run(packets, 1.0) if n is not None]
    assert got[-10:] == list(range(10, 20))


def test_a_sender_whose_clock_is_faster_is_caught_up_with() -> None:
    packets = [heard(n, n * 0.0196) for n in range(2000)]
    listener = Listener()
    got = listener.run(packets, 39.0)
    heard_last = max(n for n in got if n is not None)
    assert 39.0 - heard_last * 0.0196 <= MOST_S + 0.1
    assert got.count(None) < 100


def test_a_sender_whose_clock_is_slower_is_waited_for() -> None:
    got = Listener().run([heard(n, n * 0.0204) for n in range(1000)], 20.0)
    numbers = [n for n in got if n is not None]
    assert numbers == list(range(len(numbers)))
    assert got.count(None) < 60


def test_a_burst_holds_no_more_than_it_may() -> None:
    jitter = Jitter()
    for n in range(5000):
        jitter.put("pcmu", 8000, Heard(False, n & 0xFFFF, n, 7, b"x", 1.0))
    assert len(jitter._waiting) <= MOST_PACKETS


@given(
    st.lists(
        st.tuples(
            st.integers(0, 0xFFFFFFFF) | st.integers(0, 4000),
            st.sampled_from((7, 7, 7, 8)),
            st.floats(0, 3),
        ),
        max_size=80,
    )
)
def test_whatever_comes_time_goes_on_and_nothing_is_heard_twice(
    arrivals: list[tuple[int, int, float]],
) -> None:
    jitter = Jitter()
    waiting = sorted(
        (
            Heard(False, 0, stamp, ssrc, b"%d" % number, at)
            for number, (stamp, ssrc, at) in enumerate(arrivals)
        ),
        key=lambda packet: packet.at,
    )
    taken: list[bytes] = []
    for step in range(250):
        now = step * 0.02
        while waiting and waiting[0].at <= now:
            jitter.put("pcmu", 8000, waiting.pop(0))
        room = 0.02
        while room > 0.0001:
            piece = jitter.take(now)
            if piece is None:
                break
            if piece.payload is None:
                assert piece.seconds > 0
                room -= piece.seconds
            else:
                taken.append(piece.payload)
                jitter.played(0.02)
                room -= 0.02
    assert len(set(taken)) == len(taken)
    assert not jitter._waiting


def test_frames_of_other_lengths_are_taken_as_they_are() -> None:
    jitter = Jitter()
    for n in range(10):
        jitter.put("opus", 48000, Heard(False, n, n * 2880, 7, b"%d" % n, n * 0.06))  # 60 ms each
    out = []
    for _ in range(10):
        piece = jitter.take(1.0)
        if piece is None or piece.payload is None:
            break
        out.append(int(piece.payload))
        jitter.played(0.06)
    assert out[-1] == 9
    assert all(b - a == 1 for a, b in pairwise(out))
