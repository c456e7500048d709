"""RTP (RFC 3550): one medium of one leg, both ways, and the rewriting that makes many sources one stream.

A packet on its way lives in one buffer that all legs share and is changed in place: what is read from a socket is
decrypted, rewritten, encrypted and sent without ever becoming an object of its own.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from media.quality import EACH, Measured

if TYPE_CHECKING:
    from media.resending import Recent

MAX_PACKET = 2048
# Room behind the longest packet for an SRTP tag and SRTCP index (RFC 3711 section 3.4).
TRAILER = 256

HEADER = struct.Struct("!BBHII")
_unpack = HEADER.unpack_from
_pack = HEADER.pack_into

_EACH = EACH - 1
# How long packets of a source that was replaced may straggle in, seconds.
STRAGGLE_S = 0.5
NO_PAYLOADS = [-1] * 128


class Packet:
    """The buffer that holds the one packet being handled."""

    __slots__ = ("data", "view")

    def __init__(self) -> None:
        self.data = bytearray(MAX_PACKET + TRAILER)
        self.view = memoryview(self.data)


def is_rtcp(second: int) -> bool:
    """RFC 5761 section 4: the second byte tells RTCP from RTP where both share a port."""
    return 192 <= second <= 223


class Heard(NamedTuple):
    """A packet that somebody looks into, as it came from the peer."""

    marker: bool
    seq: int
    timestamp: int
    ssrc: int
    payload: bytes
    at: float


def payload_of(view: memoryview, size: int) -> bytes:
    """What follows header, CSRCs and extension, without padding (RFC 3550 section 5.1); empty if they do not fit."""
    first = view[0]
    at = 12 + 4 * (first & 0x0F)
    if first & 0x10:
        at += 4 + 4 * int.from_bytes(view[at + 2 : at + 4], "big")
    if first & 0x20:
        size -= view[size - 1]
    return bytes(view[at : max(at, size)])


class Stream:
    """One m-line of a leg. `send` takes the length of the packet that stands in the buffer."""

    __slots__ = (
        "asked_at", "at", "bytes_in", "bytes_out", "clock_of", "fir", "firs", "kind", "last_in",
        "listeners", "measured", "mends", "name", "on_source", "packet", "packets_in", "packets_out",
        "passed_over_at", "payload_map", "recent", "retired", "send", "send_rtcp", "seq", "seq_shift",
        "sink", "source", "source_ssrc", "ssrc", "ssrc_in", "switched_at", "taken", "takes", "timed",
        "timestamp", "timestamp_shift",
    )  # fmt: skip

    def __init__(self, kind: str, packet: Packet) -> None:
        random = secrets.token_bytes(14)  # asked for once: each asking is a call to the system
        self.kind = kind
        self.name = f"warmline-{random[10:].hex()}"
        self.packet = packet
        self.send: Callable[[int], None] = nowhere
        self.send_rtcp: Callable[[bytes], None] = nowhere
        self.on_source: Callable[[Stream], None] = nowhere
        self.recent: Recent | None = None  # where what the peer has lost can be sent again from
        # What comes in from the peer.
        self.mends = False  # it sends again what we say was lost
        self.fir = False  # it makes a key frame for a FIR alone
        self.firs = 0
        self.ssrc_in: int | None = None
        self.asked_at = float("-inf")  # for a key frame, as whoever sees it wished
        self.sink: Stream | None = None
        self.payload_map: list[int] = NO_PAYLOADS
        # `taken` passes untouched; of other payload types each packet is first told to its listener, if it has one.
        self.taken: list[bool] = [False] * 128
        self.listeners: dict[int, Callable[[Heard], None]] = {}
        self.clock_of: list[int] = [8000] * 128
        self.timed = self.clock_of  # 0: of types whose timestamps do not go on from packet to packet
        self.measured = Measured()
        self.packets_in = self.bytes_in = 0
        self.last_in = 0.0
        self.passed_over_at = 0.0  # what nobody agreed on, comfort noise say, is a sign of life at least
        # What goes out to the peer. Sequence and time start at random (RFC 3550 section 5.1).
        self.takes = False
        self.ssrc = int.from_bytes(random[:4]) or 1
        self.seq = int.from_bytes(random[4:6]) & 0x7FFF
        self.timestamp = int.from_bytes(random[6:10]) & 0x7FFFFFFF
        self.at = 0.0
        self.source: Stream | None = None
        self.source_ssrc: int | None = None
        self.retired: int | None = None
        self.switched_at = 0.0
        self.seq_shift = self.timestamp_shift = 0
        self.packets_out = self.bytes_out = 0

    def hears(self, payload_type: int) -> bool:
        """Whether anything is done with packets of this type."""
        return self.taken[payload_type] or payload_type in self.listeners

    def arrived(self, size: int, now: float) -> None:
        """The packet in the buffer came from the peer, in clear."""
        data = self.packet.data
        first, second, seq, timestamp, ssrc = _unpack(data)
        if size < 12 or first & 0xC0 != 0x80:
            return
        if not self.taken[second & 0x7F]:
            listener = self.listeners.get(second & 0x7F)
            if listener is None:
                self.measured.passed_over += 1
                self.passed_over_at = now
                return
            payload = payload_of(self.packet.view, size)
            listener(Heard(second >= 0x80, seq, timestamp, ssrc, payload, now))
        self.packets_in += 1
        if not self.packets_in & _EACH:
            clock = self.timed[second & 0x7F]
            self.measured.sampled(ssrc, seq, timestamp, clock, self.packets_in, now)
        self.bytes_in += size
        self.last_in = now
        self.ssrc_in = ssrc
        sink = self.sink
        if sink is None or not sink.takes:
            return
        number = self.payload_map[second & 0x7F]
        if number < 0:
            return
        if ssrc != sink.source_ssrc or sink.source is not self:
            if ssrc == sink.retired and now - sink.switched_at < STRAGGLE_S:
                return
            sink.switch(self, ssrc, seq, timestamp, self.clock_of[second & 0x7F], now)
            if self.kind == "audio":
                second |= 0x80  # RFC 3551 section 4.1: a talkspurt starts, buffers may adapt
        seq = (seq + sink.seq_shift) & 0xFFFF
        timestamp = (timestamp + sink.timestamp_shift) & 0xFFFFFFFF
        _pack(data, 0, first, (second & 0x80) | number, seq, timestamp, sink.ssrc)
        if (seq - sink.seq) & 0xFFFF < 0x8000:
            sink.seq = seq
            sink.timestamp = timestamp
            sink.at = now
        sink.packets_out += 1
        sink.bytes_out += size
        sink.send(size)

    def switch(self, source: Stream, ssrc: int, seq: int, timestamp: int, clock: int, now: float) -> None:
        """From here on the peer hears another source, as the same stream: numbers go on, time goes by the clock."""
        self.retired = self.source_ssrc
        self.source = source
        self.source_ssrc = ssrc
        self.switched_at = now
        self.seq_shift = (self.seq + 1 - seq) & 0xFFFF
        self.timestamp_shift = (self.timestamp + self.ticks_since(clock, now) - timestamp) & 0xFFFFFFFF
        source.on_source(source)

    def ticks_since(self, clock: int, now: float) -> int:
        """How far the timestamp moves from the last packet sent to one sent now; at least one frame of 20 ms."""
        elapsed = now - self.at if self.at else 0.0
        return max(int(elapsed * clock), clock // 50)

    def send_frame(self, frame: bytes, payload_type: int, ticks: int, now: float, *, first: bool) -> None:
        """Send 20 ms of our own sound; `first` after anything else was heard."""
        if first:
            ticks = self.ticks_since(ticks * 50, now)
            self.source = self.source_ssrc = self.retired = None
        self.seq = (self.seq + 1) & 0xFFFF
        self.timestamp = (self.timestamp + ticks) & 0xFFFFFFFF
        self.at = now
        size = 12 + len(frame)
        data = self.packet.data
        _pack(data, 0, 0x80, payload_type | (0x80 if first else 0), self.seq, self.timestamp, self.ssrc)
        data[12:size] = frame
        self.packets_out += 1
        self.bytes_out += size
        self.send(size)

    def begin_event(self, clock: int, now: float) -> None:
        """A telephone event begins now (RFC 4733): what is heard after it is another source, and its time goes on from
        here."""
        self.timestamp = (self.timestamp + self.ticks_since(clock, now)) & 0xFFFFFFFF
        self.at = now

    def send_event(self, body: bytes, payload_type: int, *, first: bool) -> None:
        """Send one packet of the event that has begun."""
        self.source = self.source_ssrc = self.retired = None
        self.seq = (self.seq + 1) & 0xFFFF
        size = 12 + len(body)
        data = self.packet.data
        _pack(data, 0, 0x80, payload_type | (0x80 if first else 0), self.seq, self.timestamp, self.ssrc)
        data[12:size] = body
        self.packets_out += 1
        self.bytes_out += size
        self.send(size)


def nowhere(_: object) -> None:
    """Where packets go while there is nobody to send to."""
