"""A plain RTP phone with sound and pictures that decodes nothing: packets bear its name, and it counts whose come."""

from __future__ import annotations

import asyncio
import struct
from collections import Counter
from typing import NamedTuple, Self

from media import rtcp
from media.sdp import parse
from tests.media.phone import HOST, _socket

PACE_S = 0.02


class Pictures(NamedTuple):
    """What a phone makes and takes of video."""

    number: int
    codec: str
    fmtp: str = ""


VP8 = Pictures(96, "VP8/90000")


class MarkedPhone:
    """It sends 50 packets a second of each kind for which it has been told where to, from `start` on."""

    def __init__(self, name: bytes, pictures: Pictures = VP8) -> None:
        self.name = name
        self._numbers = {"audio": 0, "video": pictures.number}
        self._pictures = pictures
        self._sockets = {name: _socket() for name in ("audio", "audio rtcp", "video", "video rtcp")}
        self._sends = dict(self._numbers)
        self._to: dict[str, tuple[str, int]] = {}
        self._ssrcs = {"audio": self._port("audio"), "video": self._port("video")}
        self._their_ssrc = 0
        self._tasks: list[asyncio.Task[None]] = []
        self.heard: Counter[tuple[str, bytes]] = Counter()
        """Packets by their kind and by whose they are."""
        self.asked = 0
        """How often it was asked for a key frame."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for sock in self._sockets.values():
            sock.close()

    def describes(
        self,
        *,
        audio: str = "sendrecv",
        video: str | None = None,
        address: str = HOST,
        between: bytes = b"",
    ) -> bytes:
        """Its offer or answer. `audio` and `video` are directions, video "refused" is port 0 and None no m-line;
        `between` are lines that stand before those of video."""
        lines = f"v=0\r\no=- 1 1 IN IP4 {HOST}\r\ns=-\r\nc=IN IP4 {address}\r\nt=0 0\r\n" + self._line(
            "audio", audio, "PCMU/8000"
        )
        pictures = self._line("video", video, self._pictures.codec) if video is not None else ""
        return lines.encode() + between + pictures.encode()

    def _line(self, kind: str, direction: str, codec: str) -> str:
        number = self._numbers[kind]
        line = f"RTP/AVP {number}\r\na=rtpmap:{number} {codec}\r\n"
        if direction == "refused":
            return f"m={kind} 0 {line}"
        feedback = f"a=rtcp-fb:{number} nack pli\r\na=rtcp-fb:{number} ccm fir\r\n" if kind == "video" else ""
        if kind == "video" and self._pictures.fmtp:
            feedback += f"a=fmtp:{number} {self._pictures.fmtp}\r\n"
        rtcp_line = f"a=rtcp:{self._port(f'{kind} rtcp')}\r\n"
        return f"m={kind} {self._port(kind)} {line}{feedback}{rtcp_line}a={direction}\r\n"

    def start(self, description: bytes) -> None:
        """What the other side says: where to send what, and of what nothing."""
        self._to = {}
        for media in parse(description).media:
            if media.port and media.kind in self._numbers:
                self._to[media.kind] = (HOST, media.port)
                name = "PCMU" if media.kind == "audio" else self._pictures.codec.split("/")[0]
                self._sends[media.kind] = next(p.number for p in media.payloads if p.name == name)
                at = media.port + 1 if media.rtcp_port is None else media.rtcp_port
                self._to[f"{media.kind} rtcp"] = (HOST, at)
        if not self._tasks:
            loop = asyncio.get_running_loop()
            work = [self._speak(), self._hear_requests(), *(self._listen(kind) for kind in self._numbers)]
            self._tasks = [loop.create_task(each) for each in work]

    def ask(self) -> None:
        """For a key frame of what it sees (RFC 4585 section 6.3.1)."""
        ours = self._ssrcs["video"]
        request = rtcp.write(rtcp.RR, 0, struct.pack("!I", ours))
        request += rtcp.write(rtcp.PSFB, rtcp.PLI, struct.pack("!II", ours, self._their_ssrc))
        self._sockets["video rtcp"].sendto(request, self._to["video rtcp"])

    def _port(self, name: str) -> int:
        port: int = self._sockets[name].getsockname()[1]
        return port

    async def _speak(self) -> None:
        for seq in range(1_000_000):
            for kind in self._numbers:
                if kind in self._to:
                    stamp = seq * (160 if kind == "audio" else 1800)
                    head = (0x80, self._sends[kind], seq & 0xFFFF, stamp, self._ssrcs[kind])
                    # Of the length that 20 ms have: rtpengine asks nothing of a payload, and others might.
                    payload = struct.pack("!BBHII", *head) + self.name.ljust(160, b" ")
                    self._sockets[kind].sendto(payload, self._to[kind])
            await asyncio.sleep(PACE_S)

    async def _listen(self, kind: str) -> None:
        loop = asyncio.get_running_loop()
        while True:
            data = await loop.sock_recv(self._sockets[kind], 2048)
            if data[1] & 0x7F == self._numbers[kind]:
                self.heard[kind, data[12:].rstrip(b" ")] += 1
                if kind == "video":
                    self._their_ssrc = struct.unpack_from("!I", data, 8)[0]

    async def _hear_requests(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            data = await loop.sock_recv(self._sockets["video rtcp"], 2048)
            ours = struct.pack("!I", self._ssrcs["video"])
            self.asked += sum(
                (kind, count) == (rtcp.PSFB, rtcp.PLI) and body[4:8] == ours
                for kind, count, body in rtcp.packets(data)
            )
