"""A recording sent to a player: whole, or the part it asks for (RFC 9110 14), as fast as the player takes it.

Files are read in threads, a piece at a time: a call of hours is never in memory.
"""

from __future__ import annotations

import asyncio
import re
from typing import Protocol

from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from twisted.web.server import Request
from zope.interface import implementer

from config.errors import WarmlineError
from pbx.api.edge import STREAMED, Answer, Streamed, wants_streaming

log = Logger()

PIECE = 128 * 1024
_RANGE = re.compile(r"bytes\s*=\s*([0-9]{0,18})\s*-\s*([0-9]{0,18})", re.IGNORECASE)


class Sound(Protocol):
    """An open file; `read` is short at its end. Whoever sends it closes it."""

    @property
    def size(self) -> int: ...
    def read(self, start: int, length: int) -> bytes: ...
    def close(self) -> None: ...


def part_of(header: str | None, size: int) -> tuple[int, int] | None:
    """First byte and length of what a Range header asks for; None: all of it. Length 0: nothing it asks for is there.

    Several ranges, or another unit, are not understood here, and so ignored (RFC 9110 14.2).
    """
    found = _RANGE.fullmatch((header or "").strip())
    if found is None or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if not first:  # the last so many bytes
        length = min(int(last), size)
        return size - length, length
    if last and int(last) < int(first):
        return None  # RFC 9110 14.1.1: not valid, so as if it were not there
    start = int(first)
    end = min(int(last) + 1 if last else size, size)
    return start, max(0, end - start)


async def send(request: Request, sound: Sound, content_type: str, name: str) -> Answer | Streamed:
    """Answer with `sound`, which is closed then. `name` is what stays the same while its bytes do."""
    try:
        tag = f'"{name}"'
        asked = request.getHeader("range")
        # RFC 9110 13.1.5: a part only of what the player has the other parts of.
        if request.getHeader("if-range") not in (None, tag):
            asked = None
        part = part_of(asked, sound.size)
        headers = {"Accept-Ranges": "bytes", "ETag": tag, "Content-Disposition": "inline"}
        if part is not None and part[1] == 0:
            return Answer(b"", 416, content_type, {**headers, "Content-Range": f"bytes */{sound.size}"})
        start, length = part or (0, sound.size)
        headers["Content-Length"] = str(length)
        if part is not None:
            headers["Content-Range"] = f"bytes {start}-{start + length - 1}/{sound.size}"
        head = Answer(b"", 200 if part is None else 206, content_type, headers)
        if not wants_streaming(request):
            return head
        head.write_head(request)
        await _pour(request, sound, start, length)
        return STREAMED
    finally:
        sound.close()


@implementer(IPushProducer)
class _Tap:
    """Open while the connection takes more."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._open.set()
        self.over = False

    def pauseProducing(self) -> None:
        self._open.clear()

    def resumeProducing(self) -> None:
        self._open.set()

    def stopProducing(self) -> None:
        self.over = True
        self._open.set()

    async def wait(self) -> None:
        await self._open.wait()


async def _pour(request: Request, sound: Sound, start: int, length: int) -> None:
    tap = _Tap()
    request.registerProducer(tap, True)
    end = start + length
    try:
        while start < end:
            await tap.wait()
            piece = b"" if tap.over else await asyncio.to_thread(sound.read, start, min(PIECE, end - start))
            if tap.over:
                return
            if not piece:
                raise EOFError("it is shorter than it was")
            request.write(piece)
            start += len(piece)
    except (OSError, EOFError, WarmlineError) as error:
        log.error("A recording could not be sent to its end: {error}", error=error)
        # Its length was promised: only a connection that breaks says that this is not all.
        if request.channel is not None:
            request.channel.forceAbortClient()
    finally:
        if request.channel is not None:  # None once the connection is lost
            request.unregisterProducer()
