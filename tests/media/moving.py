"""Moving pictures as packets: VP8 (RFC 7741) and H.264 (RFC 6184), as phones and browsers send them."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import struct
from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple, Self

import av
import numpy

from media import rtcp
from media.sdp import parse
from media.speech import Encoder

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


class Camera:
    """It shows a bar that moves; before a wall that is `rough`, for which a key frame takes several packets."""

    def __init__(self, codec: str, size: tuple[int, int], *, rough: bool = False) -> None:
        context: Any = av.CodecContext.create(_LIBRARIES[codec], "w")
        context.width, context.height, context.pix_fmt = *size, "yuv420p"
        context.bit_rate, context.time_base = 400_000, Fraction(1, RATE)
        context.options = _OPTIONS[codec]
        self._codec = codec
        self._size = size
        self._context = context
        shape = (size[1], size[0])
        self._wall = numpy.random.default_rng(1).integers(0, 90 if rough else 1, shape, numpy.uint8)

    def picture(self, number: int, *, key: bool) -> list[bytes]:
        """The payloads of its packets."""
        width, height = self._size
        picture = numpy.zeros((height, width, 3), numpy.uint8)
        picture[:, :, 0] = 200
        picture[:, :, 2] = self._wall
        picture[:, (number * 8) % width :, 1] = 220
        frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format="yuv420p")
        frame.pts = number
        if key:
            frame.pict_type = av.video.frame.PictureType.I
        (packet,) = self._context.encode(frame)
        return _vp8(bytes(packet)) if self._codec == "vp8" else _h264(bytes(packet))


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
    camera = Camera(codec, size)
    packets: list[Sent] = []
    for number in range(count):
        payloads = camera.picture(number, key=number in keys)
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


@functools.cache
def _without_first_key_frame(seconds: int) -> list[Sent]:
    sent = shown("vp8", RATE * seconds, keys=tuple(range(0, RATE * seconds, RATE)), at=0.0)
    return [packet for packet in sent if packet.timestamp]


class PicturePhone:
    """A plain RTP phone that says a tone (PCMU) and, while that is agreed on, shows a bar that moves (VP8), both made
    beforehand: a machine that is busy with other things does not hold it up. Its first key frame is lost; others come
    every second."""

    HOST = "127.0.0.1"
    MOST_S = 20

    def __init__(self, tone: float) -> None:
        size = 160
        at = numpy.arange(8000 * self.MOST_S) / 8000
        samples = (8000 * numpy.sin(2 * numpy.pi * tone * at)).astype(numpy.int16)
        encoder = Encoder("pcmu", 8000)
        self._sound = [encoder.encode(samples[n : n + size]) for n in range(0, len(samples), size)]
        self._pictures = _without_first_key_frame(self.MOST_S)
        self._sockets = {
            kind: socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for kind in ("audio", "video")
        }
        for sock in self._sockets.values():
            sock.bind((self.HOST, 0))
            sock.setblocking(False)
        self._to: dict[str, tuple[str, int]] = {}
        self._offers = 0
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for sock in self._sockets.values():
            sock.close()

    def offer(self, *, pictures: bool = True) -> bytes:
        """Again with or without them: to add or drop them."""
        self._offers += 1
        ports = {kind: sock.getsockname()[1] for kind, sock in self._sockets.items()}
        offer = (
            f"v=0\r\no=- 1 {self._offers} IN IP4 {self.HOST}\r\ns=-\r\nc=IN IP4 {self.HOST}\r\nt=0 0\r\n"
            f"m=audio {ports['audio']} RTP/AVP 0\r\na=rtcp-mux\r\n"
        )
        if pictures:
            offer += f"m=video {ports['video']} RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\na=rtcp-mux\r\n"
        elif self._offers > 1:
            offer += "m=video 0 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\n"
        return offer.encode()

    def start(self, answer: bytes) -> None:
        """It goes on as each answer says."""
        self._to = {media.kind: (self.HOST, media.port) for media in parse(answer).media if media.port}
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._show())

    async def _show(self) -> None:
        clock = asyncio.get_running_loop().time
        began, shown = clock(), 0
        for n, frame in enumerate(self._sound):
            head = struct.pack("!BBHII", 0x80, 0, n, n * 160, 7)
            self._sockets["audio"].sendto(head + frame, self._to["audio"])
            while shown < len(self._pictures) and self._pictures[shown].at <= n * 0.02:
                each = self._pictures[shown]
                shown += 1
                if "video" not in self._to:
                    continue
                second = 96 | 0x80 * each.marker
                head = struct.pack("!BBHII", 0x80, second, each.seq, each.timestamp, each.ssrc)
                self._sockets["video"].sendto(head + each.payload, self._to["video"])
            await asyncio.sleep(max(0.0, began + (n + 1) * 0.02 - clock()))


class AskedPhone:
    """A plain RTP phone that shows a bar that moves, without a key frame but for its first and those it is asked for
    (PLI). `loses` says of each packet, by picture, key frame (which, or None) and place in it, whether it is lost."""

    HOST = "127.0.0.1"

    def __init__(self, loses: Callable[[int, int | None, int], bool]) -> None:
        self._loses = loses
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind((self.HOST, 0))
        self._sock.setblocking(False)
        self._task: asyncio.Task[None] | None = None
        self.asked = 0
        """For how many key frames."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._sock.close()

    def offer(self) -> bytes:
        return (
            f"v=0\r\no=- 1 1 IN IP4 {self.HOST}\r\ns=-\r\nc=IN IP4 {self.HOST}\r\nt=0 0\r\n"
            f"m=video {self._sock.getsockname()[1]} RTP/AVPF 96\r\na=rtpmap:96 VP8/90000\r\na=rtcp-mux\r\n"
        ).encode()

    def start(self, answer: bytes) -> None:
        to = self.HOST, parse(answer).media[0].port
        self._task = asyncio.get_running_loop().create_task(self._show(to))

    async def _show(self, to: tuple[str, int]) -> None:
        clock = asyncio.get_running_loop().time
        began, seq, keys, answered = clock(), 0, 0, 0
        camera = Camera("vp8", SIZE, rough=True)
        number = 0
        while True:
            self.asked += self._asks()
            key = not number or self.asked > answered
            answered = self.asked
            payloads = camera.picture(number, key=key)
            for place, payload in enumerate(payloads):
                head = struct.pack(
                    "!BBHII", 0x80, 96 | 0x80 * (place == len(payloads) - 1), seq, number * 90000 // RATE, 9
                )
                if not self._loses(number, keys if key else None, place):
                    self._sock.sendto(head + payload, to)
                seq = (seq + 1) & 0xFFFF
            keys += key
            number += 1
            await asyncio.sleep(max(0.0, began + number / RATE - clock()))

    def _asks(self) -> int:
        asked = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                asked += any(
                    (kind, count) == (rtcp.PSFB, rtcp.PLI)
                    for kind, count, _ in rtcp.packets(self._sock.recv(2048))
                )
        return asked
