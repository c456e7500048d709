"""Loss, jitter, round trip and MOS, from packets and reports that are written by hand."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media import reports, rtcp
from media.quality import FAIR_MOS, POOR_S, Block, Judge, Measured, mos
from media.rtp import HEADER, Packet, Stream

SSRC = 0xCAFE


def stream() -> Stream:
    made = Stream("audio", Packet())
    made.taken[0] = True
    return made


def comes(to: Stream, seq: int, at: float, *, timestamp: int | None = None, kind: int = 0) -> None:
    """A packet of 20 ms of PCMU."""
    stamp = seq * 160 if timestamp is None else timestamp
    HEADER.pack_into(to.packet.data, 0, 0x80, kind, seq & 0xFFFF, stamp & 0xFFFFFFFF, SSRC)
    to.arrived(172, at)


def facts(of: Stream) -> dict[str, float | None]:
    return of.measured.facts("pcmu")


def test_a_good_line_loses_nothing() -> None:
    voice = stream()
    for number in range(1000):
        comes(voice, number + 65000, number * 0.02)
    assert facts(voice) == {
        "loss_in": 0.0,
        "loss_out": None,
        "jitter_ms": 0.0,
        "round_trip_ms": None,
        "mos": pytest.approx(4.39, abs=0.02),
    }


def test_of_a_stream_that_has_hardly_begun_nothing_is_said() -> None:
    voice = stream()
    comes(voice, 1, 0.0)
    assert set(facts(voice).values()) == {None}


def test_each_twentieth_packet_lost_is_five_percent() -> None:
    voice = stream()
    for number in range(2000):
        if number % 20:
            comes(voice, number, number * 0.02)
    assert facts(voice)["loss_in"] == pytest.approx(0.05, abs=0.002)


@given(st.integers())
def test_what_only_overtakes_is_not_lost(seed: int) -> None:
    voice, order = stream(), random.Random(seed)
    numbers = sorted(range(1600), key=lambda number: number + order.random() * 6)
    for place, number in enumerate(numbers):
        comes(voice, number, place * 0.02)
    assert facts(voice)["loss_in"] == pytest.approx(0.0, abs=6 / 1500)


def test_a_source_that_begins_anew_under_its_name_has_lost_nothing() -> None:
    voice = stream()
    for number in range(160):
        comes(voice, number, number * 0.02)
    for number in range(160):
        comes(voice, number + 30000, 3.2 + number * 0.02)
    assert facts(voice)["loss_in"] == 0.0


def test_comfort_noise_that_nobody_agreed_on_is_not_lost() -> None:
    voice = stream()
    for number in range(400):
        comes(voice, number, number * 0.02, kind=13 if number % 4 == 0 else 0)
    assert facts(voice)["loss_in"] == 0.0


def test_jitter_is_told_as_rfc_3550_has_it() -> None:
    voice, late = stream(), random.Random(1)
    for number in range(8000):
        comes(voice, number, number * 0.02 + late.uniform(0, 0.030))
    # The mean difference between two delays of 0 to 30 ms is a third of that.
    assert facts(voice)["jitter_ms"] == pytest.approx(10.0, rel=0.15)


def test_keys_held_for_long_are_no_jitter() -> None:
    voice = stream()
    voice.taken[101] = True
    voice.timed = [8000] * 128
    voice.timed[101] = 0
    for number in range(200):
        comes(voice, number, number * 0.02)
    for number in range(200, 300):  # an event has one timestamp as long as it lasts (RFC 4733)
        comes(voice, number, number * 0.02, timestamp=200 * 160, kind=101)
    assert facts(voice)["jitter_ms"] == 0.0


def block(highest: int, lost: int = 0, fraction: int = 0) -> Block:
    return Block(1, fraction, lost, highest, bytes(4), 0)


def test_what_the_peer_misses_of_what_we_sent_was_lost_on_the_way_to_it() -> None:
    measured = Measured()
    measured.told(block(1000), sent=1000, seq=1000, now=0.0)
    measured.told(block(1250, lost=25), sent=1250, seq=1250, now=5.0)
    assert measured.outward.all == pytest.approx(25 / 1250)


def test_what_was_lost_before_it_came_to_us_is_not_this_legs_fault() -> None:
    measured = Measured()
    measured.told(block(1000), sent=1000, seq=1000, now=0.0)
    # 250 numbers went by; 50 of them never came to us, so we sent 200, and all of those came.
    measured.told(block(1250, lost=50), sent=1200, seq=1250, now=5.0)
    assert measured.outward.all == 0.0


def test_packets_on_the_way_are_not_lost() -> None:
    measured = Measured()
    measured.told(block(1000), sent=1000, seq=1000, now=0.0)
    measured.told(block(1250), sent=1260, seq=1260, now=5.0)
    assert measured.outward.all == 0.0


def test_a_peer_that_begins_to_count_anew_is_believed_from_there() -> None:
    measured = Measured()
    measured.told(block(65000, lost=7), sent=1000, seq=65000, now=0.0)
    measured.told(block(100), sent=1300, seq=100, now=5.0)
    assert measured.outward.all == 0.0


def test_the_round_trip_is_that_of_this_leg() -> None:
    """The report is the far end's and names its clock; what counts is when we passed it on, and what the peer says of
    how long it kept it."""
    voice = stream()
    report = rtcp.compound(
        voice, rtcp.write(rtcp.SR, 0, struct.pack("!IIIIII", voice.ssrc, 0x1234ABCD, 0x56780000, 0, 9, 9))
    )
    reports.sent(voice, report, 100.0)
    answer = struct.pack(
        "!IIB3sIIII", 0xB, voice.ssrc, 0, bytes(3), voice.seq, 0, 0xABCD5678, int(1.5 * 65536)
    )
    reports.heard((voice,), rtcp.write(rtcp.RR, 1, answer), 101.620)
    assert facts(voice)["round_trip_ms"] == pytest.approx(120.0, abs=0.1)


@given(st.binary(max_size=200))
def test_no_report_is_too_broken(data: bytes) -> None:
    reports.heard((stream(),), data, 1.0)


def test_lost_that_is_negative_is_nothing() -> None:
    """RFC 3550 section 6.4.1: where packets came twice."""
    body = struct.pack("!IIB3sIIII", 0xB, 1, 0, b"\xff\xff\xfe", 5, 0, 0, 0)
    (told,) = reports.blocks(rtcp.write(rtcp.RR, 1, body))
    assert told.lost == -2


@pytest.mark.parametrize(
    ("loss", "round_trip_ms", "low", "high"),
    [
        (0.0, 0.0, 4.35, 4.41),  # G.107: 4.41 with no delay at all
        (0.01, 0.0, 4.2, 4.35),
        (0.05, 0.0, 3.6, 4.0),
        (0.0, 300.0, 4.0, 4.35),
        (0.0, 800.0, 2.7, 3.4),
        (0.2, 0.0, 2.0, 2.7),
        (1.0, 0.0, 1.0, 1.2),
    ],
)
def test_a_voice_is_worth_what_g_107_says(loss: float, round_trip_ms: float, low: float, high: float) -> None:
    assert low <= mos("pcmu", loss=loss, jitter_ms=0.0, round_trip_ms=round_trip_ms) <= high


@given(
    loss=st.floats(0, 1),
    more=st.floats(0, 1),
    jitter_ms=st.floats(0, 10_000),
    round_trip_ms=st.floats(0, 30_000),
)
def test_it_is_worth_1_to_4_and_a_half_and_less_with_more_loss(
    loss: float, more: float, jitter_ms: float, round_trip_ms: float
) -> None:
    good = mos("opus", loss=min(loss, more), jitter_ms=jitter_ms, round_trip_ms=round_trip_ms)
    worse = mos("opus", loss=max(loss, more), jitter_ms=jitter_ms, round_trip_ms=round_trip_ms)
    assert 1.0 <= worse <= good + 1e-9 <= 4.5


def test_what_is_not_looked_at_closely_is_fair_for_certain() -> None:
    for codec in ("pcmu", "g722", "opus"):
        assert mos(codec, loss=0.02, jitter_ms=50, round_trip_ms=300) > FAIR_MOS


def test_a_poor_voice_is_told_once_and_once_when_it_is_fair_again() -> None:
    judge = Judge()
    told = [judge.judge(2.5, second) for second in range(60)]
    assert [(at, what) for at, what in enumerate(told) if what] == [(POOR_S, "poor")]
    told = [
        judge.judge(3.1, 60 + second) for second in range(60)
    ]  # better, and not good enough to be believed
    told += [judge.judge(3.5, 120 + second) for second in range(60)]
    assert [(at, what) for at, what in enumerate(told) if what] == [(70, "fair")]


def test_a_moment_is_not_poor() -> None:
    judge = Judge()
    assert not any(judge.judge(1.0 if second % 9 else 4.0, second) for second in range(100))


def test_our_own_report_says_what_we_sent_and_what_came() -> None:
    voice = stream()
    for number in range(1000):
        if number % 10:
            comes(voice, number + 65000, number * 0.02)
    theirs = struct.pack("!IIIIII", SSRC, 0x1234ABCD, 0x56780000, 0, 9, 9)
    reports.heard((voice,), rtcp.write(rtcp.SR, 0, theirs), 20.0)
    voice.send_frame(b"\xff" * 160, 0, 160, 20.0, first=True)
    for _ in range(3):
        voice.measured.inward.swept()
    report = reports.own(voice, 8000, 21.5, wall=1_000_000_000.5)
    kind, count, body = rtcp.packets(report)[0]
    assert (kind, count) == (rtcp.SR, 1)
    ssrc, seconds, fraction, stamp, packets, octets = struct.unpack_from("!IIIIII", body)
    assert (ssrc, seconds, fraction) == (voice.ssrc, 1_000_000_000 + 2208988800, 1 << 31)
    assert (stamp - voice.timestamp) & 0xFFFFFFFF == 12000, "1.5 s after what was sent last"
    assert (packets, octets) == (1, 160)
    (said,) = reports.blocks(report)
    assert said.ssrc == SSRC
    assert said.fraction == pytest.approx(25, abs=2)
    assert said.lost == pytest.approx(100, abs=5)
    assert 65000 + 970 < said.highest <= 65000 + 999, "counted on past where the numbers wrap around"
    assert said.last_report == bytes.fromhex("abcd5678")
    assert said.since_report == 1.5 * 65536
    assert [each for each, _, _ in rtcp.packets(report)] == [rtcp.SR, rtcp.SDES]


def test_who_has_heard_nothing_of_us_gets_no_report_on_sending() -> None:
    (kind, count, _), *_ = rtcp.packets(reports.own(stream(), 8000, 5.0, wall=1e9))
    assert (kind, count) == (rtcp.RR, 0)


def test_a_peer_that_answers_before_it_was_asked_has_a_voice_all_the_same() -> None:
    """Its round trip is reckoned from what it says, and so may be anything."""
    assert mos("pcmu", loss=0.0, jitter_ms=0.0, round_trip_ms=-5000.0) == mos(
        "pcmu", loss=0.0, jitter_ms=0.0, round_trip_ms=0.0
    )
