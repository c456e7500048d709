"""A plain RTP phone that says one tone, and what it hears of the other (RFC 3550 section 6.4)."""

from __future__ import annotations

import asyncio
import struct
import time
from typing import Any

from media import rtcp
from tests.media.phone import HOST, _socket
from tests.media.tone_phone import CODECS, TonePhone

_NTP_EPOCH = 2208988800


class ReportingPhone(TonePhone):
    """Every `REPORT_S` it sends a sender report with a block on what came, and answers theirs by it. The jitter that it
    reports is what it is told to."""

    REPORT_S = 0.25

    def __init__(self, codec: str, tone: float, *, jitter_ms: float = 0.0, **network: Any) -> None:
        super().__init__(codec, tone, **network)
        self._rtcp = _socket()
        self._clock = 8000 if codec == "g722" else CODECS[codec][4] * 50
        self._first = self._highest = -1
        self._came = 0
        self._jitter = round(jitter_ms * self._clock / 1000)
        self._their_ssrc = 0
        self._their_report: tuple[bytes, float] | None = None
        self.reports = 0

    def offer(self) -> bytes:
        return super().offer() + f"a=rtcp:{self._rtcp.getsockname()[1]}\r\n".encode()

    def start(self, answer: bytes) -> None:
        super().start(answer)
        loop = asyncio.get_running_loop()
        self._tasks += [loop.create_task(self._report()), loop.create_task(self._hear_reports())]

    async def __aexit__(self, *error: object) -> None:
        await super().__aexit__(*error)
        self._rtcp.close()

    async def _listen(self) -> None:
        listening = asyncio.get_running_loop().create_task(super()._listen())
        seen = 0
        try:
            while True:
                await asyncio.sleep(0.01)
                seen = min(seen, len(self.headers))
                for _, _, seq, _, ssrc in self.headers[seen:]:
                    self._counted(seq, ssrc)
                seen = len(self.headers)
        finally:
            listening.cancel()

    def _counted(self, seq: int, ssrc: int) -> None:
        if ssrc != self._their_ssrc:
            self._their_ssrc, self._first, self._highest, self._came = ssrc, seq, seq, 0
        moved = (seq - self._highest + 0x8000 & 0xFFFF) - 0x8000
        self._highest += max(0, moved)
        self._came += 1

    async def _report(self) -> None:
        before = (0, 0)
        while True:
            await asyncio.sleep(self.REPORT_S)
            wall = time.time()
            ntp = int((wall + _NTP_EPOCH) * (1 << 32))
            head = struct.pack("!IQIII", self._ssrc, ntp, self._timestamp & 0xFFFFFFFF, self._seq - 1000, 0)
            block, count = b"", 0
            if self._came:
                expected = self._highest - self._first + 1
                lost = max(0, expected - self._came)
                new, gone = expected - before[0], lost - before[1]
                before = expected, lost
                name, at = self._their_report or (bytes(4), wall)
                block, count = (
                    struct.pack("!IB", self._their_ssrc, max(0, gone * 256 // new) if new > 0 else 0)
                    + lost.to_bytes(3, "big")
                    + struct.pack("!II4sI", self._highest, self._jitter, name, int((wall - at) * 65536)),
                    1,
                )
            kind = rtcp.write(rtcp.SR, count, head + block)
            cname = rtcp.write(rtcp.SDES, 1, struct.pack("!IBB", self._ssrc, 1, 1) + b"p\0")
            self._rtcp.sendto(kind + cname, (HOST, self._to[1] + 1))

    async def _hear_reports(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            data = await loop.sock_recv(self._rtcp, 2048)
            for kind, _, body in rtcp.packets(data):
                if kind == rtcp.SR:
                    self._their_report = body[6:10], time.time()
                    self.reports += 1
