from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from media.rtp import Packet, Stream


class Line:
    """A source and a sink that are linked, and the headers of what went out: (marker, type, seq, time, ssrc)."""

    def __init__(self, kind: str = "audio") -> None:
        self.packet = Packet()
        self.source, self.sink = Stream(kind, self.packet), Stream(kind, self.packet)
        self.link(self.source)
        self.sink.takes = True
        self.sink.send = self._sent
        self.sent: list[tuple[bool, int, int, int, int]] = []
        self.payloads: list[bytes] = []

    def link(self, source: Stream) -> None:
        source.sink = self.sink
        source.taken = [True] * 128
        source.payload_map = [-1] * 128
        source.payload_map[0], source.payload_map[111] = 0, 97
        source.clock_of[111] = 48000

    def _sent(self, size: int) -> None:
        _, second, seq, timestamp, ssrc = struct.unpack_from("!BBHII", self.packet.data)
        self.sent.append((second >= 128, second & 127, seq, timestamp, ssrc))
        self.payloads.append(bytes(self.packet.view[12:size]))

    def arrives(
        self,
        seq: int,
        timestamp: int,
        *,
        ssrc: int = 7,
        kind: int = 0,
        now: float = 1.0,
        source: Stream | None = None,
    ) -> None:
        struct.pack_into(
            "!BBHII", self.packet.data, 0, 0x80, kind, seq & 0xFFFF, timestamp & 0xFFFFFFFF, ssrc
        )
        self.packet.data[12:16] = b"abcd"
        (source or self.source).arrived(16, now)


def test_a_packet_goes_out_under_our_ssrc_and_the_sinks_payload_type_untouched_otherwise() -> None:
    line = Line()
    line.arrives(100, 5000, kind=111)
    assert line.payloads == [b"abcd"]
    assert line.sent[0][1] == 97
    assert line.sent[0][4] == line.sink.ssrc


def test_gaps_and_order_of_the_source_are_kept() -> None:
    line = Line()
    for seq in (65534, 65535, 2, 1, 3):
        line.arrives(seq, seq * 160)
    first = line.sent[0][2]
    assert [(s - first) & 0xFFFF for _, _, s, _, _ in line.sent] == [0, 1, 4, 3, 5]


def test_another_source_goes_on_where_the_first_one_was_with_the_time_that_passed() -> None:
    line = Line()
    line.arrives(10, 1000, now=1.0)
    other = Stream("audio", line.packet)
    line.link(other)
    line.arrives(40000, 77, ssrc=9, now=3.0, source=other)
    (_, _, seq, timestamp, _), (marker, _, seq2, timestamp2, ssrc2) = line.sent
    assert (seq2 - seq) & 0xFFFF == 1
    assert (timestamp2 - timestamp) & 0xFFFFFFFF == 2 * 8000
    assert marker, "a talkspurt starts, RFC 3551 section 4.1"
    assert ssrc2 == line.sink.ssrc


def test_music_and_then_a_person_are_one_stream() -> None:
    line = Line()
    for index in range(3):
        line.sink.send_frame(b"m" * 160, 0, 160, 1.0 + index * 0.02, first=index == 0)
    line.arrives(500, 123456, now=1.06)
    line.sink.send_frame(b"m" * 160, 0, 160, 2.0, first=True)
    seqs = [s for _, _, s, _, _ in line.sent]
    assert [(s - seqs[0]) & 0xFFFF for s in seqs] == [0, 1, 2, 3, 4]
    times = [t for _, _, _, t, _ in line.sent]
    assert [(t - times[0]) & 0xFFFFFFFF for t in times][:3] == [0, 160, 320]
    assert 0 < (times[3] - times[2]) & 0xFFFFFFFF <= 200
    assert len({ssrc for *_, ssrc in line.sent}) == 1


def test_stragglers_of_a_source_that_was_replaced_are_dropped() -> None:
    line = Line()
    line.arrives(10, 1000, ssrc=1, now=1.0)
    line.arrives(20, 5, ssrc=2, now=1.01)
    line.arrives(11, 1160, ssrc=1, now=1.02)
    assert len(line.sent) == 2
    line.arrives(12, 9000, ssrc=1, now=5.0)
    assert len(line.sent) == 3, "much later it is no straggler but a source again"


def test_what_was_not_agreed_is_not_forwarded() -> None:
    line = Line()
    line.source.taken[0] = False
    line.arrives(1, 1)
    line.source.taken[0] = True
    line.arrives(1, 1, kind=8)
    line.sink.takes = False
    line.arrives(1, 1)
    assert not line.sent


def test_pictures_keep_their_markers() -> None:
    line = Line("video")
    line.arrives(1, 1)
    assert not line.sent[0][0], "in video the marker ends a picture, RFC 7741 section 4.1"


@given(
    st.lists(
        st.tuples(st.integers(1, 3), st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF), st.integers(1, 400)),
        max_size=60,
    )
)
def test_whatever_comes_no_source_change_makes_the_stream_go_back(
    arrivals: list[tuple[int, int, int, int]],
) -> None:
    line = Line()
    now = 1.0
    last: int | None = None
    for ssrc, seq, timestamp, later in arrivals:
        now += later / 100
        top, before = line.sink.seq, len(line.sent)
        line.arrives(seq, timestamp, ssrc=ssrc, now=now)
        if len(line.sent) > before and ssrc != last:
            assert (line.sent[-1][2] - top) & 0xFFFF == 1
            last = ssrc
