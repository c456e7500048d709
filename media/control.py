"""What the server and its media process say to each other: values with their length before them, over a Unix socket.

    request   [number, method, [arguments], {keywords}]
    reply     [number, "ok", result] | [number, "their" | "our", reason, status]
    news      [0, "ready"] | [0, "gone", call, branch, why] | [0, "keys", call, branch, key]
              | [0, "recorded", call, branch, why, seconds] | [0, "tapped", call, why, seconds]
              | [0, "quality", call, branch, what, {kind: facts}] | [0, "transcoding", call, branch, branch]

Requests are carried out in the order they come, and many may be under way. Both ends are our own, run by one Python,
so the values are written as it writes constants (marshal): a sixth of what JSON costs, and bytes stay bytes.
"""

from __future__ import annotations

import asyncio
import marshal
import struct
from typing import Any, cast

MAX_MESSAGE = 1 << 20
PATIENCE_S = 0.05
"""How long what nobody waits for may wait for others to share its piece."""
_LENGTH = struct.Struct("!I")


class Framed(asyncio.Protocol):
    """Cuts the stream into messages."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._pending = b""
        self._unsent: list[bytes] = []
        self._reading = False
        self._due = False
        self._linger: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A stream transport; uvloop's is no subclass of asyncio's.
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        pending = self._pending + data if self._pending else data
        at = 0
        self._reading = True
        while len(pending) - at >= 4:
            (size,) = _LENGTH.unpack_from(pending, at)
            if size > MAX_MESSAGE:
                raise ValueError("a control message is too long")
            if len(pending) - at - 4 < size:
                break
            self.message(marshal.loads(pending[at + 4 : at + 4 + size]))  # noqa: S302 (both ends are ours)
            at += 4 + size
        self._pending = pending[at:]
        self._reading = False
        if self._due:
            self._flush()

    def say(self, message: list[Any], *, patient: bool = False) -> None:
        """What is said in one turn of the loop, or in answer to what came in one piece, is sent in one piece: to send
        and to wake the other side costs more than all that is done about a message. What is `patient` waits a while
        for something that is not; the order is kept."""
        if patient and not self._due:
            if self._linger is None:
                self._linger = asyncio.get_running_loop().call_later(PATIENCE_S, self._flush)
        elif not self._due:
            self._due = True
            if not self._reading:
                asyncio.get_running_loop().call_soon(self._flush)
        body = marshal.dumps(message)
        self._unsent += (_LENGTH.pack(len(body)), body)

    def _flush(self) -> None:
        self._due = False
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        unsent, self._unsent = self._unsent, []
        if unsent and self.transport is not None and not self.transport.is_closing():
            self.transport.write(b"".join(unsent))

    def message(self, message: list[Any]) -> None:
        raise NotImplementedError
