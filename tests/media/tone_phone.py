"""A plain RTP phone in any codec that says one tone, on a bad network if need be, and measures the tones it hears."""

from __future__ import annotations

import asyncio
import random
import struct
from typing import Any, Self

import av
import numpy
from numpy.typing import NDArray

from media.sdp import parse
from tests.media.phone import HOST, _socket

# Codec -> (payload type, name in SDP, FFmpeg's name, samples a second, RTP ticks in 20 ms)
CODECS = {
    "pcmu": (0, "PCMU/8000", "pcm_mulaw", 8000, 160),
    "pcma": (8, "PCMA/8000", "pcm_alaw", 8000, 160),
    "g722": (9, "G722/8000", "g722", 16000, 160),
    "opus": (111, "opus/48000/2", "libopus", 48000, 960),
}
EVENTS = 101
LEVEL = 8000


def level(samples: NDArray[Any], rate: int, frequency: float) -> float:
    """The amplitude of one tone in what is given (Goertzel's question, answered by one sum)."""
    window = numpy.hanning(len(samples))
    turning = numpy.exp(-2j * numpy.pi * frequency * numpy.arange(len(samples)) / rate)
    return float(abs((samples.astype(float) * window * turning).sum()) * 2 / window.sum())


class TonePhone:
    """It speaks from `start` on. `loss` of what it sends is lost; some of the rest overtakes what was before it."""

    def __init__(self, codec: str, tone: float, *, loss: float = 0.0, overtaking: float = 0.0) -> None:
        self.codec = codec
        self.tone = tone
        self.silent = False
        self._loss = loss
        self._overtaking = overtaking
        self._chance = random.Random(codec)
        self._number, self._name, self._library, self.rate, self._ticks = CODECS[codec]
        self._sock = _socket()
        self.port: int = self._sock.getsockname()[1]
        self._to = (HOST, 0)
        self._seq = 1000
        self._timestamp = 0xFFFF_F000  # it wraps around soon
        self._ssrc = self.port
        self._tasks: list[asyncio.Task[None]] = []
        self.sound = numpy.zeros(0, numpy.int16)
        self.headers: list[tuple[int, int, int, int, int]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._sock.close()

    def offer(self) -> bytes:
        return (
            f"v=0\r\no=- 1 1 IN IP4 {HOST}\r\ns=-\r\nc=IN IP4 {HOST}\r\nt=0 0\r\n"
            f"m=audio {self.port} RTP/AVP {self._number} {EVENTS}\r\na=rtpmap:{self._number} {self._name}\r\n"
            f"a=rtpmap:{EVENTS} telephone-event/8000\r\na=fmtp:{EVENTS} 0-15\r\n"
        ).encode()

    def start(self, answer: bytes) -> None:
        self._to = (HOST, parse(answer).media[0].port)
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._speak()), loop.create_task(self._listen())]

    def press(self, code: int, packets: int = 3) -> None:
        """A telephone event."""
        for step in range(packets):
            body = bytes((code, 0x8A if step == packets - 1 else 0x0A)) + (160 * (step + 1)).to_bytes(
                2, "big"
            )
            self._send(body, EVENTS, marker=step == 0)

    def hears(self, frequency: float, seconds: float = 0.5) -> float:
        """How loud a tone was in what came last."""
        heard = self.sound[-int(self.rate * seconds) :]
        return level(heard, self.rate, frequency) if len(heard) >= self.rate * seconds else 0.0

    def _send(self, payload: bytes, number: int, *, marker: bool = False) -> None:
        self._seq += 1
        head = struct.pack(
            *("!BBHII", 0x80, number | (0x80 if marker else 0)),
            *(self._seq & 0xFFFF, self._timestamp & 0xFFFFFFFF, self._ssrc),
        )
        self._sock.sendto(head + payload, self._to)

    async def _speak(self) -> None:
        loop = asyncio.get_running_loop()
        context: Any = av.CodecContext.create(self._library, "w")
        context.sample_rate, context.layout, context.format = self.rate, "mono", "s16"
        size = self.rate // 50
        due = loop.time()
        held: tuple[int, int, bytes] | None = None
        for step in range(1_000_000):
            times = (numpy.arange(size) + step * size) / self.rate
            samples = (LEVEL * numpy.sin(2 * numpy.pi * self.tone * times)).astype(numpy.int16)
            frame = av.AudioFrame.from_ndarray(
                (samples if not self.silent else samples * 0).reshape(1, -1), "s16", "mono"
            )
            frame.sample_rate, frame.pts = self.rate, step * size
            self._timestamp += self._ticks
            for packet in context.encode(frame):
                if self._chance.random() < self._loss:
                    self._seq += 1
                elif held is None and self._chance.random() < self._overtaking:
                    self._seq += 1
                    held = self._seq, self._timestamp, bytes(packet)
                else:
                    self._send(bytes(packet), self._number)
                    if held is not None:
                        seq, timestamp, payload = held
                        head = (0x80, self._number, seq & 0xFFFF, timestamp & 0xFFFFFFFF, self._ssrc)
                        self._sock.sendto(struct.pack("!BBHII", *head) + payload, self._to)
                        held = None
            due += 0.02
            await asyncio.sleep(max(0.0, due - loop.time()))

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        context: Any = av.CodecContext.create(self._library, "r")
        context.sample_rate, context.layout = self.rate, "mono"
        while True:
            data = await loop.sock_recv(self._sock, 2048)
            first, second, seq, timestamp, ssrc = struct.unpack_from("!BBHII", data)
            if second & 0x7F != self._number:
                continue
            self.headers.append((first, second, seq, timestamp, ssrc))
            for frame in context.decode(av.Packet(data[12:])):
                self.sound = numpy.concatenate((self.sound, frame.to_ndarray()[0]))[-self.rate * 3 :]
