"""What one party shows: packets of VP8 (RFC 7741) or H.264 (RFC 6184) put together to whole pictures. Pure.

Nothing is decoded. After a loss everything up to the next key frame is left out: what refers to a picture that is not
there would only be seen as ruins.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from operator import itemgetter
from typing import NamedTuple

from media.timeline import Timeline

CLOCK = 90000
# 0.4 s at 30 Mbit/s.
MOST_WAITING = 1500
# A sequence number further away is that of a source that began anew.
JUMP = 3000
# Packets of another source sort behind all there were.
_ANEW = 1 << 20
_NUMBER = itemgetter(0)
# RFC 6184 section 5.2, table 1.
IDR, SPS, PPS, STAP_A, FU_A = 5, 7, 8, 24, 28
_LAST_SINGLE = 23


class Picture(NamedTuple):
    """`data` as Matroska has it: of H.264 each unit has its length before it, and `setup` is an avcC record of those
    parameter sets that were seen last (empty for VP8)."""

    codec: str
    at: int
    key: bool
    data: bytes
    setup: bytes


class _Arrived(NamedTuple):
    number: int
    codec: str
    marker: bool
    timestamp: int
    payload: bytes
    position: int
    at: float


class Pictures:
    def __init__(self) -> None:
        self.wanting = False
        """A picture came that cannot be shown before there is a key frame. For whoever asks for one to take back."""
        self.begun = False
        """A key frame came, or what is left of one: its sender makes them. For whoever looks to take back."""
        self._timeline = Timeline(CLOCK)
        self._waiting: list[_Arrived] = []  # by number
        self._source: tuple[int, str] | None = None
        self._newest = 0
        self._next = -1
        self._parts: list[_Arrived] = []
        self._broken = True
        self._sets: dict[int, bytes] = {}

    def know(self, sets: Iterable[bytes]) -> None:
        """Parameter sets of H.264 that come otherwise than among the packets."""
        self._sets |= {kind: unit for unit in sets if unit and (kind := unit[0] & 0x1F) in (SPS, PPS)}

    def put(
        self, codec: str, marker: bool, seq: int, timestamp: int, ssrc: int, payload: bytes, at: float
    ) -> None:
        """A packet, `at` seconds after the beginning."""
        distance = ((seq - self._newest + 0x8000) & 0xFFFF) - 0x8000
        if (ssrc, codec) != self._source or abs(distance) > JUMP:
            self._source = ssrc, codec
            self._newest += _ANEW + ((seq - self._newest) & 0xFFFF)
            number = self._newest
        else:
            number = self._newest + distance
            self._newest = max(self._newest, number)
        if len(self._waiting) >= MOST_WAITING:
            return
        place = bisect_left(self._waiting, number, key=_NUMBER)
        if place < len(self._waiting) and self._waiting[place].number == number:
            return
        self.begun = self.begun or of_key_frame(codec, payload)
        position = self._timeline.place(ssrc, CLOCK, timestamp, at)
        self._waiting.insert(place, _Arrived(number, codec, marker, timestamp, payload, position, at))

    def take(self, until: float) -> list[Picture]:
        """Those of packets that came before; what they might have been overtaken by has come by now, or is lost."""
        shown: list[Picture] = []
        count = next((n for n, each in enumerate(self._waiting) if each.at > until), len(self._waiting))
        for packet in self._waiting[:count]:
            if packet.number < self._next:
                continue
            if packet.number != self._next:
                self._broken = True
                self._parts = []
            self._next = packet.number + 1
            if not packet.payload:
                continue  # padding, which some send to probe the way
            if self._parts and packet.timestamp != self._parts[0].timestamp:
                shown += self._whole()
            self._parts.append(packet)
            if packet.marker:
                shown += self._whole()
            elif len(self._parts) > MOST_WAITING:
                self._broken = True
                self._parts = []
        del self._waiting[:count]
        return shown

    def _whole(self) -> list[Picture]:
        """The picture that all parts make, if they make one that can be shown."""
        parts, self._parts = self._parts, []
        codec, position = parts[0].codec, parts[0].position
        payloads = [part.payload for part in parts]
        setup = b""
        if codec == "vp8":
            data = vp8_frame(payloads)
            key = bool(data) and not data[0] & 1  # RFC 6386 section 9.1
        else:
            units = h264_units(payloads)
            kinds = {unit[0] & 0x1F for unit in units}
            self.know(units)
            key = IDR in kinds
            if kinds and kinds <= {SPS, PPS}:
                return []  # a picture comes after them, or their next
            if key and SPS not in kinds:
                # A player has those of the track's beginning, and others may hold by now.
                units = [self._sets[kind] for kind in (SPS, PPS) if kind in self._sets] + units
            data = b"".join(len(unit).to_bytes(4, "big") + unit for unit in units)
            setup = avc_record(self._sets)
            key = key and bool(setup)
        self._broken = (self._broken and not key) or not data
        self.wanting = self._broken
        return [] if self._broken else [Picture(codec, position, key, data, setup)]


def of_key_frame(codec: str, payload: bytes) -> bool:
    """Whether this packet is of a key frame, as far as can be seen in it: of VP8 only the first one says so."""
    if not payload:
        return False
    if codec == "vp8":
        at = _vp8_descriptor(payload)
        # RFC 6386 section 9.1: the lowest bit of a frame says that it is none.
        return payload[0] & 0x17 == 0x10 and at < len(payload) and not payload[at] & 1
    kind = payload[0] & 0x1F
    if kind == FU_A:
        return len(payload) > 1 and payload[1] & 0x1F == IDR
    if kind == STAP_A:
        return any(unit[0] & 0x1F == IDR for unit in h264_units([payload]))
    return kind == IDR


def vp8_frame(payloads: list[bytes]) -> bytes:
    """Empty where they do not make a frame."""
    frame = bytearray()
    for number, payload in enumerate(payloads):
        begins = payload[0] & 0x10 and not payload[0] & 0x07  # S, and partition 0
        at = _vp8_descriptor(payload)
        if bool(begins) != (number == 0) or at >= len(payload):
            return b""
        frame += payload[at:]
    return bytes(frame)


def _vp8_descriptor(payload: bytes) -> int:
    """Its length (RFC 7741 section 4.2)."""
    if not payload[0] & 0x80:
        return 1
    extensions = payload[1] if len(payload) > 1 else 0
    at = 2
    if extensions & 0x80 and at < len(payload):
        at += 2 if payload[at] & 0x80 else 1
    return at + bool(extensions & 0x40) + bool(extensions & 0x30)


def h264_units(payloads: list[bytes]) -> list[bytes]:
    """The NAL units; none where they do not fit together (RFC 6184 sections 5.6, 5.7.1, 5.8)."""
    units: list[bytes] = []
    fragments = bytearray()
    for payload in payloads:
        kind = payload[0] & 0x1F
        if kind == FU_A:
            begins = len(payload) > 1 and payload[1] & 0x80
            if len(payload) < 3 or bool(begins) == bool(fragments):
                return []  # a fragment without those before it, or a unit without its end
            if begins:
                fragments.append(payload[0] & 0xE0 | payload[1] & 0x1F)
            fragments += payload[2:]
            if payload[1] & 0x40:
                units.append(bytes(fragments))
                fragments.clear()
        elif fragments:
            return []
        elif kind == STAP_A:
            at = 1
            while at + 2 < len(payload):
                size = int.from_bytes(payload[at : at + 2], "big")
                if not 0 < size <= len(payload) - at - 2:
                    return []
                units.append(payload[at + 2 : at + 2 + size])
                at += 2 + size
        elif 0 < kind <= _LAST_SINGLE:
            units.append(payload)
        else:
            return []
    return [] if fragments else units


def avc_record(sets: dict[int, bytes]) -> bytes:
    """What a decoder must know first (ISO/IEC 14496-15 section 5.3.3.1); empty while parameter sets are missing."""
    sps, pps = sets.get(SPS, b""), sets.get(PPS, b"")
    if len(sps) < 4 or not pps:
        return b""
    # Lengths of 4 bytes; one set of each kind.
    return (
        bytes((1, sps[1], sps[2], sps[3], 0xFF, 0xE1))
        + len(sps).to_bytes(2, "big")
        + sps
        + b"\x01"
        + len(pps).to_bytes(2, "big")
        + pps
    )
