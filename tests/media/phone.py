"""A plain RTP phone that makes and understands real sound and pictures, by PyAV: Opus or PCMU, and VP8."""

from __future__ import annotations

import asyncio
import socket
import struct
from fractions import Fraction
from typing import Self

import av
import numpy

from media import rtcp
from media.sdp import parse

HOST = "127.0.0.1"
SIZE = (320, 240)
CHUNK = 1100


class PlainPhone:
    """It sends a tone and moving pictures from `start` on, and keeps what it decodes.

    Key frames are made only when asked for (but for the first, which is lost on purpose), and asking helps only
    from the `patience`th request on: so whoever sees a picture has asked for it through the relay, again and again.
    """

    def __init__(self, *, tone: int, codec: str = "opus", patience: int = 3) -> None:
        self._loop = asyncio.get_running_loop()
        self._tone = tone
        self._codec = codec
        self._patience = patience
        self._tasks: list[asyncio.Task[None]] = []
        self._sockets = {name: _socket() for name in ("audio", "audio rtcp", "video", "video rtcp")}
        self._to: dict[str, tuple[str, int]] = {}
        self._numbers: dict[str, int] = {}
        self.requests = 0
        self._key_frame = False
        self.sound = numpy.zeros(0, numpy.int16)
        self.pictures = 0
        self.picture_size = (0, 0)
        self._rate = 48000 if codec == "opus" else 8000

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        for sock in self._sockets.values():
            sock.close()
        for error in ended:
            if isinstance(error, Exception):
                raise error

    def answer(self, offer: bytes) -> bytes:
        """Take one audio codec of the offer, and VP8 if there is video."""
        lines = ["v=0", f"o=- 1 1 IN IP4 {HOST}", "s=-", f"c=IN IP4 {HOST}", "t=0 0"]
        for media in parse(offer).media:
            name = {"audio": self._codec, "video": "VP8"}[media.kind]
            payload = next((p for p in media.payloads if p.name.lower() == name.lower()), None)
            if payload is None:
                lines.append(f"m={media.kind} 0 RTP/AVP 0")
                continue
            self._to[media.kind] = (HOST, media.port)
            self._numbers[media.kind] = payload.number
            channels = f"/{payload.channels}" if payload.channels > 1 else ""
            lines += [
                f"m={media.kind} {self._port(media.kind)} RTP/AVP {payload.number}",
                f"a=rtpmap:{payload.number} {payload.name}/{payload.clock}{channels}",
                f"a=rtcp:{self._port(media.kind + ' rtcp')}",
            ]
        return ("\r\n".join(lines) + "\r\n").encode()

    def start(self) -> None:
        work = [self._speak(), self._listen()]
        if "video" in self._to:
            work += [self._show(), self._watch(), self._hear_requests()]
        self._tasks = [self._loop.create_task(each) for each in work]

    def loudest(self, seconds: float = 0.5) -> tuple[float, float]:
        """(frequency in Hz, amplitude of it) of what was heard last."""
        heard = self.sound[-int(self._rate * seconds) :].astype(float)
        if len(heard) < self._rate * seconds:
            return 0.0, 0.0
        spectrum = numpy.abs(numpy.fft.rfft(heard * numpy.hanning(len(heard))))
        best = int(spectrum[10:].argmax()) + 10
        return best / seconds, float(spectrum[best]) * 4 / len(heard)

    def hears(self, frequency: int) -> bool:
        heard, level = self.loudest()
        return level > 500 and abs(heard - frequency) < 0.03 * frequency

    def _port(self, name: str) -> int:
        port: int = self._sockets[name].getsockname()[1]
        return port

    def _send(self, kind: str, seq: int, timestamp: int, payload: bytes, *, marker: bool = False) -> None:
        second = self._numbers[kind] | (0x80 if marker else 0)
        ssrc = 0xA0D10 if kind == "audio" else 0x51DE0
        head = struct.pack("!BBHII", 0x80, second, seq & 0xFFFF, timestamp & 0xFFFFFFFF, ssrc)
        self._sockets[kind].sendto(head + payload, self._to[kind])

    async def _speak(self) -> None:
        context = av.CodecContext.create("libopus" if self._codec == "opus" else "pcm_mulaw", "w")
        context.sample_rate, context.layout, context.format = self._rate, "mono", "s16"
        size = self._rate // 50
        due = self._loop.time()
        for seq in range(1, 1_000_000):
            times = (numpy.arange(size) + seq * size) / self._rate
            samples = (8000 * numpy.sin(2 * numpy.pi * self._tone * times)).astype(numpy.int16)
            frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), "s16", "mono")
            frame.sample_rate, frame.pts = self._rate, seq * size
            for packet in context.encode(frame):
                self._send("audio", seq, seq * size, bytes(packet))
            due += 0.02
            await asyncio.sleep(max(0.0, due - self._loop.time()))

    async def _listen(self) -> None:
        context = av.CodecContext.create("libopus" if self._codec == "opus" else "pcm_mulaw", "r")
        context.sample_rate, context.layout = self._rate, "mono"
        resampler = av.AudioResampler(format="s16", layout="mono", rate=self._rate)
        while True:
            data = await self._loop.sock_recv(self._sockets["audio"], 2048)
            for frame in context.decode(av.Packet(data[12:])):
                for piece in resampler.resample(frame):
                    self.sound = numpy.concatenate((self.sound, piece.to_ndarray()[0]))[-96000:]

    async def _show(self) -> None:
        context = av.CodecContext.create("libvpx", "w")
        context.width, context.height, context.pix_fmt = *SIZE, "yuv420p"
        context.bit_rate, context.time_base = 400_000, Fraction(1, 15)
        context.options = {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0", "g": "100000"}
        seq = 0
        for number in range(1_000_000):
            picture = numpy.zeros((SIZE[1], SIZE[0], 3), numpy.uint8)
            picture[:, :, 0] = 200
            picture[:, (number * 8) % SIZE[0] :, 1] = 220
            frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format="yuv420p")
            frame.pts = number
            if self._key_frame:
                self._key_frame = False
                frame.pict_type = av.video.frame.PictureType.I
            for packet in context.encode(frame):
                data = bytes(packet)
                pieces = [data[at : at + CHUNK] for at in range(0, len(data), CHUNK)]
                for index, piece in enumerate(pieces):
                    seq += 1
                    if number:  # the first key frame is lost
                        start = (
                            b"\x10" if index == 0 else b"\x00"
                        )  # RFC 7741 section 4.2: S, start of partition
                        last = index == len(pieces) - 1
                        self._send("video", seq, number * 6000, start + piece, marker=last)
            await asyncio.sleep(1 / 15)

    async def _watch(self) -> None:
        context = av.CodecContext.create("vp8", "r")
        pieces: list[bytes] = []
        seen_key_frame = False
        while True:
            data = await self._loop.sock_recv(self._sockets["video"], 2048)
            payload = data[12:]
            at = _descriptor(payload)
            if payload[0] & 0x10 and not payload[0] & 0x07:
                pieces = []
            elif not pieces:
                continue  # the rest of a picture whose beginning went elsewhere
            pieces.append(payload[at:])
            if data[1] & 0x80:
                whole = b"".join(pieces)
                pieces = []
                seen_key_frame = seen_key_frame or not whole[0] & 1
                if not seen_key_frame:
                    self._ask(struct.unpack_from("!I", data, 8)[0])
                    continue
                try:
                    frames = context.decode(av.Packet(whole))
                except av.error.InvalidDataError:  # a piece of it was lost
                    seen_key_frame = False
                    self._ask(struct.unpack_from("!I", data, 8)[0])
                    continue
                for frame in frames:
                    self.pictures += 1
                    self.picture_size = (frame.width, frame.height)

    def _ask(self, ssrc: int) -> None:
        address, port = self._to["video"]
        request = rtcp.write(rtcp.RR, 0, struct.pack("!I", 0x51DE0))
        request += rtcp.write(rtcp.PSFB, rtcp.PLI, struct.pack("!II", 0x51DE0, ssrc))
        self._sockets["video rtcp"].sendto(request, (address, port + 1))

    async def _hear_requests(self) -> None:
        while True:
            data = await self._loop.sock_recv(self._sockets["video rtcp"], 2048)
            for kind, count, body in rtcp.packets(data):
                if (kind, count) == (rtcp.PSFB, rtcp.PLI) and body[4:] == struct.pack("!I", 0x51DE0):
                    self.requests += 1
                    self._key_frame = self._key_frame or self.requests >= self._patience


def _socket() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((HOST, 0))
    sock.setblocking(False)
    return sock


def _descriptor(payload: bytes) -> int:
    """How long the VP8 payload descriptor is (RFC 7741 section 4.2)."""
    at = 1
    if payload[0] & 0x80:
        extension = payload[1]
        at = 2
        if extension & 0x80:
            at += 2 if payload[at] & 0x80 else 1
        at += bool(extension & 0x40) + bool(extension & 0x30)
    return at
