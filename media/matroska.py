"""Matroska (RFC 9559) as far as a recording needs it: a head that is written again and again, and clusters. Pure.

The head has a fixed size: what is left of it is void. So tracks may be added while the file grows, and its duration is
always right. Until the end the segment's size is unknown (RFC 8794 section 6.2), and a file without its end is as good
as any, but that nothing leads to its middle.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

AUDIO = 1
_SIZE_UNKNOWN = 0x01FFFFFFFFFFFFFF
_NS_IN_MS = 1_000_000
# RFC 9559 section 5: what is used of it.
EBML, DOC_TYPE, DOC_VERSION, DOC_READ_VERSION = 0x1A45DFA3, 0x4282, 0x4287, 0x4285
SEGMENT, VOID = 0x18538067, 0xEC
SEEK_HEAD, SEEK, SEEK_ID, SEEK_POSITION = 0x114D9B74, 0x4DBB, 0x53AB, 0x53AC
INFO, TIMESTAMP_SCALE, DURATION, MUXING_APP, WRITING_APP = 0x1549A966, 0x2AD7B1, 0x4489, 0x4D80, 0x5741
TRACKS, TRACK_ENTRY, TRACK_NUMBER, TRACK_UID, TRACK_TYPE = 0x1654AE6B, 0xAE, 0xD7, 0x73C5, 0x83
FLAG_DEFAULT, FLAG_LACING, NAME, CODEC_ID, CODEC_PRIVATE = 0x88, 0x9C, 0x536E, 0x86, 0x63A2
CODEC_DELAY, SEEK_PRE_ROLL = 0x56AA, 0x56BB
VIDEO_SETTINGS, PIXEL_WIDTH, PIXEL_HEIGHT = 0xE0, 0xB0, 0xBA
AUDIO_SETTINGS, SAMPLING_FREQUENCY, CHANNELS = 0xE1, 0xB5, 0x9F
CLUSTER, TIMESTAMP, SIMPLE_BLOCK = 0x1F43B675, 0xE7, 0xA3
CUES, CUE_POINT, CUE_TIME, CUE_TRACK_POSITIONS, CUE_TRACK, CUE_CLUSTER_POSITION = (
    *(0x1C53BB6B, 0xBB, 0xB3, 0xB7),
    *(0xF7, 0xF1),
)


class Track(NamedTuple):
    """`width` 0: sound. `delay_s`: what a player drops of its beginning (Opus: the pre-skip, RFC 7845 section 4.2)."""

    number: int
    codec: str
    setup: bytes
    name: str
    default: bool = True
    width: int = 0
    height: int = 0
    rate: int = 0
    delay_s: float = 0.0


class Block(NamedTuple):
    ms: int
    track: int
    key: bool
    data: bytes


class Cue(NamedTuple):
    """`at`: where in the segment the cluster is."""

    ms: int
    track: int
    at: int


def element(name: int, body: bytes) -> bytes:
    size = len(body)
    octets = next(
        n for n in range(1, 9) if size < (1 << 7 * n) - 1
    )  # RFC 8794 section 4.4: all ones are unknown
    return _name(name) + (size | 1 << 7 * octets).to_bytes(octets, "big") + body


def head(tracks: Sequence[Track], ms: float, size: int, *, segment: int = 0, cues_at: int = 0) -> bytes:
    """The first `size` bytes of a file; of a complete one with the size of its segment and where in it its cues are.

    Raises ValueError for tracks that do not fit.
    """
    start = _start(tracks)
    seek = b""
    if cues_at:
        seek = element(SEEK, element(SEEK_ID, _name(CUES)) + _uint(SEEK_POSITION, cues_at))
        seek = element(SEEK_HEAD, seek)
    info = (
        _uint(TIMESTAMP_SCALE, _NS_IN_MS)
        + element(DURATION, struct.pack("!d", ms))
        + element(MUXING_APP, b"Warmline")
        + element(WRITING_APP, b"Warmline")
    )
    content = seek + element(INFO, info) + element(TRACKS, b"".join(map(_track, tracks)))
    length = ((1 << 56) | segment) if segment else _SIZE_UNKNOWN
    begun = start + _name(SEGMENT) + length.to_bytes(8, "big") + content
    left = size - len(begun) - 9
    if left < 0:
        raise ValueError("the tracks do not fit into the head")
    return begun + _name(VOID) + ((1 << 56) | left).to_bytes(8, "big") + bytes(left)


def segment_start(tracks: Sequence[Track]) -> int:
    """Where in the file that begins from which positions are counted."""
    return len(_start(tracks)) + 12


def cluster(blocks: Sequence[Block]) -> bytes:
    """Of less than 32 s, in the order of their times."""
    first = blocks[0].ms
    return element(
        CLUSTER,
        _uint(TIMESTAMP, first)
        + b"".join(
            element(
                SIMPLE_BLOCK,
                struct.pack("!BhB", 0x80 | block.track, block.ms - first, 0x80 * block.key) + block.data,
            )
            for block in blocks
        ),
    )


def cues(points: Sequence[Cue]) -> bytes:
    return element(
        CUES,
        b"".join(
            element(
                CUE_POINT,
                _uint(CUE_TIME, cue.ms)
                + element(
                    CUE_TRACK_POSITIONS, _uint(CUE_TRACK, cue.track) + _uint(CUE_CLUSTER_POSITION, cue.at)
                ),
            )
            for cue in points
        ),
    )


def duration_ms(data: bytes) -> float:
    """What a head that `head` wrote says; 0.0 if it says nothing."""
    at = data.find(_name(DURATION) + b"\x88")
    return float(struct.unpack_from("!d", data, at + 3)[0]) if 0 <= at <= len(data) - 11 else 0.0


def _start(tracks: Sequence[Track]) -> bytes:
    # What is only in its own codecs is WebM, which browsers play that know no other Matroska.
    kind = b"webm" if all(track.codec in ("V_VP8", "A_OPUS") for track in tracks) else b"matroska"
    return element(EBML, element(DOC_TYPE, kind) + _uint(DOC_VERSION, 4) + _uint(DOC_READ_VERSION, 2))


def _track(track: Track) -> bytes:
    body = (
        _uint(TRACK_NUMBER, track.number)
        + _uint(TRACK_UID, track.number)
        + _uint(TRACK_TYPE, 1 if track.width else 2)
        + _uint(FLAG_DEFAULT, int(track.default))
        + _uint(FLAG_LACING, 0)
        + element(NAME, track.name.encode())
        + element(CODEC_ID, track.codec.encode())
    )
    if track.setup:
        body += element(CODEC_PRIVATE, track.setup)
    if track.width:
        sizes = _uint(PIXEL_WIDTH, track.width) + _uint(PIXEL_HEIGHT, track.height)
        return element(TRACK_ENTRY, body + element(VIDEO_SETTINGS, sizes))
    sound = element(SAMPLING_FREQUENCY, struct.pack("!d", track.rate)) + _uint(CHANNELS, 2)
    # RFC 7845 section 4.6: a decoder that begins in the middle is right after 80 ms.
    delays = _uint(CODEC_DELAY, round(track.delay_s * 1e9)) + _uint(SEEK_PRE_ROLL, 80 * _NS_IN_MS)
    return element(TRACK_ENTRY, body + delays + element(AUDIO_SETTINGS, sound))


def _name(name: int) -> bytes:
    return name.to_bytes((name.bit_length() + 7) // 8, "big")


def _uint(name: int, value: int) -> bytes:
    return element(name, value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big"))
