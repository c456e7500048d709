from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media import rtcp
from media.resending import KEPT, MOST_TIMES, Recent
from media.rtp import Packet, Stream


@pytest.fixture
def joined() -> tuple[Stream, Stream]:
    """Two video streams that forward to each other; peer A sends as 0xA, peer B as 0xB."""
    packet = Packet()
    a, b = Stream("video", packet), Stream("video", packet)
    a.ssrc, b.ssrc = 0x1001, 0x1002
    for stream, other, ssrc in ((a, b, 0xA), (b, a, 0xB)):
        stream.sink, stream.ssrc_in = other, ssrc
        other.source, other.source_ssrc = stream, ssrc
        other.seq_shift, other.timestamp_shift = 100, 5000
    return a, b


def words(*values: int) -> bytes:
    return struct.pack(f"!{len(values)}I", *values)


PLI = rtcp.write(rtcp.PSFB, rtcp.PLI, words(0xB, 0x1002))
FIR = rtcp.write(rtcp.PSFB, rtcp.FIR, words(0xB, 0, 0x1002, 1 << 24))
OLD = rtcp.write(rtcp.OLD_FIR, 0, words(0x1002))


@pytest.mark.parametrize("request_", [PLI, FIR, OLD], ids=["PLI", "FIR", "RFC 2032"])
def test_a_request_for_a_key_frame_reaches_whoever_makes_the_pictures(
    joined: tuple[Stream, Stream], request_: bytes
) -> None:
    a, b = joined
    ((to, data),) = rtcp.forward(request_, (b,), 0.0)
    assert to is a
    assert rtcp.packets(data)[-1] == (rtcp.PSFB, rtcp.PLI, words(a.ssrc, 0xA))


def test_whoever_makes_the_pictures_is_not_asked_as_often_as_somebody_likes(
    joined: tuple[Stream, Stream],
) -> None:
    asked = [bool(rtcp.forward(PLI, (joined[1],), 100 + number / 100)) for number in range(100)]
    assert 4 <= sum(asked) <= 6


def test_what_we_send_is_a_full_compound(joined: tuple[Stream, Stream]) -> None:
    ((_, data),) = rtcp.forward(PLI, (joined[1],), 0.0)
    assert [kind for kind, _, _ in rtcp.packets(data)] == [rtcp.RR, rtcp.SDES, rtcp.PSFB]


def test_a_request_for_a_stream_that_is_not_theirs_goes_nowhere(joined: tuple[Stream, Stream]) -> None:
    assert rtcp.forward(rtcp.write(rtcp.PSFB, rtcp.PLI, words(0xB, 0x9999)), (joined[1],), 0.0) == []


def test_a_receiver_report_is_told_in_the_senders_own_numbers(joined: tuple[Stream, Stream]) -> None:
    a, b = joined
    report = rtcp.write(rtcp.RR, 1, words(0xB, b.ssrc, 0x19000005, 0x00010164, 33, 44, 55))
    ((to, data),) = rtcp.forward(report, (b,), 0.0)
    assert to is a
    kind, count, body = rtcp.packets(data)[0]
    assert (kind, count) == (rtcp.RR, 1)
    assert body == words(a.ssrc, 0xA, 0x19000005, 0x00010100, 33, 44, 55)


def test_a_sender_report_keeps_its_clock_and_shifts_its_timestamp(joined: tuple[Stream, Stream]) -> None:
    a, b = joined
    report = rtcp.write(rtcp.SR, 0, words(0xA, 111, 222, 1000, 7, 800))
    ((to, data),) = rtcp.forward(report, (a,), 0.0)
    assert to is b
    assert rtcp.packets(data)[0] == (rtcp.SR, 0, words(b.ssrc, 111, 222, 6000, 7, 800))
    assert b.name.encode() in data


def test_goodbyes_stay_here_because_the_stream_goes_on(joined: tuple[Stream, Stream]) -> None:
    assert rtcp.forward(rtcp.write(rtcp.BYE, 1, words(0xA)), (joined[0],), 0.0) == []


@given(st.binary(max_size=120), st.integers(192, 210), st.integers(0, 31))
def test_no_bytes_break_it(body: bytes, kind: int, count: int) -> None:
    stream = Stream("audio", Packet())
    whole = body + b"\0" * (-len(body) % 4)
    for data in (body, rtcp.write(kind, count, whole), rtcp.write(kind, count, whole)[:-1]):
        rtcp.forward(data, (stream,), 0.0)


def nack(ssrc: int, *pairs: tuple[int, int]) -> bytes:
    return rtcp.write(
        rtcp.RTPFB, rtcp.NACK, words(0xB, ssrc) + b"".join(struct.pack("!HH", *p) for p in pairs)
    )


def sent_by(stream: Stream, *numbers: int) -> list[bytes]:
    """Have the stream send these, and whatever it sends later too, to the list."""
    sent: list[bytes] = []
    stream.recent = Recent(stream.packet)
    stream.send = stream.recent.before(lambda size: sent.append(bytes(stream.packet.view[:size])))
    for number in numbers:
        packet = struct.pack("!BBHII", 0x80, 96, number, 0, stream.ssrc) + b"picture %d" % number
        stream.packet.view[: len(packet)] = packet
        stream.send(len(packet))
    return sent


def test_what_was_lost_is_sent_again_from_here(joined: tuple[Stream, Stream]) -> None:
    b = joined[1]
    sent = sent_by(b, 65534, 65535, 0, 1)
    before = list(sent)
    assert rtcp.forward(nack(b.ssrc, (65534, 0b110)), (b,), 0.0) == []
    assert sent[4:] == [before[0], before[2], before[3]]


def test_what_is_not_here_is_asked_for_in_the_senders_own_numbers(joined: tuple[Stream, Stream]) -> None:
    a, b = joined
    sent = sent_by(b, 205)
    assert rtcp.forward(nack(b.ssrc, (204, 1), (99, 0)), (b,), 0.0) == [], "nobody there sends again"
    assert len(sent) == 2
    a.mends = True
    ((to, data),) = rtcp.forward(nack(b.ssrc, (204, 1), (99, 0)), (b,), 0.0)
    assert to is a
    kind, count, body = rtcp.packets(data)[-1]
    assert (kind, count, body[:8]) == (rtcp.RTPFB, rtcp.NACK, words(a.ssrc, 0xA))
    assert rtcp.numbers(body[8:]) == [104, 65535]


def test_packets_that_were_overwritten_are_not_taken_for_others(joined: tuple[Stream, Stream]) -> None:
    b = joined[1]
    sent = sent_by(b, *range(KEPT + 10))
    rtcp.forward(nack(b.ssrc, (5, 0)), (b,), 0.0)
    assert len(sent) == KEPT + 10


def test_one_compound_has_no_more_sent_again_than_is_sensible_however_many_nacks_it_holds(
    joined: tuple[Stream, Stream],
) -> None:
    b = joined[1]
    sent = sent_by(b, *range(KEPT))
    assert rtcp.forward(b"".join(nack(b.ssrc, (at, 0xFFFF)) for at in range(0, KEPT, 17)), (b,), 0.0) == []
    assert len(sent) == KEPT + rtcp.MOST_AGAIN


def test_whoever_asks_for_the_same_packet_without_end_is_not_sent_it_without_end(
    joined: tuple[Stream, Stream],
) -> None:
    a, b = joined
    a.mends = True
    sent = sent_by(b, 7)
    for _ in range(50):
        assert rtcp.forward(nack(b.ssrc, (7, 0)), (b,), 0.0) == [], "its sender is not asked either"
    assert len(sent) == 1 + MOST_TIMES


@given(st.binary(max_size=1200))
def test_no_nack_asks_for_more_than_is_sensible(pairs: bytes) -> None:
    assert len(rtcp.numbers(pairs)) <= rtcp.MOST_AGAIN
