"""Moving pictures as packets: VP8 (RFC 7741) and H.264 (RFC 6184), as phones and browsers send them."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, NamedTuple

import av
import numpy

SIZE = (160, 120)
RATE = 15
CHUNK = 300
_LIBRARIES = {"vp8": "libvpx", "h264": "libx264"}
_OPTIONS = {
    "vp8": {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0", "g": "100000"},
    "h264": {"preset": "ultrafast", "tune": "zerolatency", "profile": "baseline", "g": "100000"},
}


class Sent(NamedTuple):
    codec: str
    marker: bool
    seq: int
    timestamp: int
    ssrc: int
    payload: bytes
    at: float


def shown(
    codec: str,
    count: int,
    *,
    keys: tuple[int, ...] = (0,),
    at: float = 1.0,
    seq: int = 65500,
    ssrc: int = 9,
    size: tuple[int, int] = SIZE,
) -> list[Sent]:
    """So many pictures of a bar that moves, with a key frame for each of `keys`."""
    context: Any = av.CodecContext.create(_LIBRARIES[codec], "w")
    context.width, context.height, context.pix_fmt = *size, "yuv420p"
    context.bit_rate, context.time_base = 400_000, Fraction(1, RATE)
    context.options = _OPTIONS[codec]
    packets: list[Sent] = []
    for number in range(count):
        picture = numpy.zeros((size[1], size[0], 3), numpy.uint8)
        picture[:, :, 0] = 200
        picture[:, (number * 8) % size[0] :, 1] = 220
        frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format="yuv420p")
        frame.pts = number
        if number in keys:
            frame.pict_type = av.video.frame.PictureType.I
        for packet in context.encode(frame):
            payloads = _vp8(bytes(packet)) if codec == "vp8" else _h264(bytes(packet))
            for index, payload in enumerate(payloads):
                seq += 1
                last = index == len(payloads) - 1
                stamp = number * 90000 // RATE
                packets.append(Sent(codec, last, seq & 0xFFFF, stamp, ssrc, payload, at + number / RATE))
    return packets


def _vp8(data: bytes) -> list[bytes]:
    # X, I: a picture ID of 15 bits, as browsers send it
    pieces = [data[at : at + CHUNK] for at in range(0, len(data), CHUNK)]
    return [bytes((0x90 if not n else 0x80, 0x80, 0x81, 0x23)) + piece for n, piece in enumerate(pieces)]


def _h264(data: bytes) -> list[bytes]:
    units = [unit for unit in data.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1") if unit]
    sets = [unit for unit in units if unit[0] & 0x1F in (7, 8)]
    payloads = []
    if sets:
        payloads.append(b"\x78" + b"".join(len(unit).to_bytes(2, "big") + unit for unit in sets))
    for unit in units:
        if unit in sets:
            continue
        if len(unit) <= CHUNK:
            payloads.append(unit)
            continue
        pieces = [unit[at : at + CHUNK] for at in range(1, len(unit), CHUNK)]
        for n, piece in enumerate(pieces):
            flags = (0x80 if n == 0 else 0) | (0x40 if n == len(pieces) - 1 else 0)
            payloads.append(bytes((unit[0] & 0xE0 | 28, flags | unit[0] & 0x1F)) + piece)
    return payloads
