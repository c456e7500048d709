"""NG, the protocol by which rtpengine is told what to do: bencoded dictionaries over UDP, each with a cookie.

A request that goes unanswered is sent again under its cookie, and rtpengine then repeats what it answered before.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from itertools import count
from typing import Any

from config.errors import OurError

# Sent again after each of these, and given up after the last; nearby, an answer takes a millisecond.
AGAIN_S = (0.2, 0.4, 0.8, 1.6)
MOST_UNDER_WAY = 2000
# What a datagram can hold, with its cookie; a peer's description may be longer.
MOST_BYTES = 64000
ASKED_ALWAYS = "statistics"
_DEEPEST = 32


class NgRefused(OurError):
    """rtpengine answered that it will not; `why` are its words."""

    def __init__(self, command: str, why: str) -> None:
        # Its ports and its limit of calls are what runs out; all else is a defect of one of us.
        super().__init__(
            f"rtpengine refused {command}: {why}", 503 if "ports" in why or "limit" in why else 500
        )
        self.why = why


def encode(value: Any) -> bytes:
    """Bencode: integers, texts, lists, and dictionaries (their keys in order)."""
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes):
        return b"%d:%s" % (len(value), value)
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, Mapping):
        items = sorted((key.encode(), each) for key, each in value.items())
        return b"d" + b"".join(encode(key) + encode(each) for key, each in items) + b"e"
    return b"l" + b"".join(map(encode, value)) + b"e"


def decode(data: bytes) -> Any:
    """What was encoded; texts as bytes, but for the keys of dictionaries. ValueError for anything else."""
    value, end = _decode(data, 0, 0)
    if end != len(data):
        raise ValueError("more than one value")
    return value


def _decode(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    kind = data[at : at + 1]
    if depth > _DEEPEST:
        raise ValueError("too deep")
    if kind == b"i":
        end = data.index(b"e", at)
        return _integer(data[at + 1 : end]), end + 1
    if kind in (b"l", b"d"):
        values = []
        at += 1
        while data[at : at + 1] != b"e":
            value, at = _decode(data, at, depth + 1)
            values.append(value)
        if kind == b"l":
            return values, at + 1
        names = [name.decode() if isinstance(name, bytes) else "" for name in values[::2]]
        if not all(names):
            raise ValueError("a key that is no text")
        return dict(zip(names, values[1::2], strict=True)), at + 1
    start = data.index(b":", at) + 1
    end = start + _integer(data[at : start - 1])
    if not start <= end <= len(data):
        raise ValueError("a text that is cut off")
    return data[start:end], end


def _integer(digits: bytes) -> int:
    if len(digits) > 20:
        raise ValueError("a number without end")
    return int(digits)


class Ng(asyncio.DatagramProtocol):
    """One rtpengine. After `close` every request fails with OurError(503)."""

    def __init__(self) -> None:
        self._transport: asyncio.DatagramTransport | None = None
        # rtpengine remembers cookies for a while: those of an earlier start must not be ours.
        self._cookies = (
            f"{prefix}-{number}".encode() for prefix in (secrets.token_hex(4),) for number in count()
        )
        self._under_way: dict[bytes, _Request] = {}
        self.answering = True
        """False from the first request that went unanswered to the next answer."""

    @classmethod
    async def to(cls, host: str, port: int) -> Ng:
        """Nothing is sent yet. Raises OSError where the host has no address."""
        loop = asyncio.get_running_loop()
        _, ng = await loop.create_datagram_endpoint(cls, remote_addr=(host, port))
        return ng

    @property
    def host(self) -> str:
        """The address of rtpengine; empty after the end."""
        peer = self._transport.get_extra_info("peername") if self._transport is not None else None
        return str(peer[0]) if peer else ""

    @property
    def own_host(self) -> str:
        """The address of ours that rtpengine is spoken to from; empty after the end."""
        own = self._transport.get_extra_info("sockname") if self._transport is not None else None
        return str(own[0]) if own else ""

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
            self._transport = None
        self._fail("closed")

    def ask(self, command: str, **fields: Any) -> asyncio.Future[dict[str, Any]]:
        """Sent at once; keys with a dash are written with an underscore. What was answered, or OurError: NgRefused,
        or 503 where nothing answers. After a request that went unanswered, only `ASKED_ALWAYS` is sent until it is."""
        answered: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        refused = not self.answering and command != ASKED_ALWAYS
        if refused or self._transport is None or len(self._under_way) >= MOST_UNDER_WAY:
            answered.set_exception(OurError("rtpengine does not answer", 503))
            return answered
        cookie = next(self._cookies)
        body = encode(
            {"command": command, **{name.replace("_", "-"): value for name, value in fields.items()}}
        )
        if len(body) > MOST_BYTES:
            answered.set_exception(NgRefused(command, "it is too long"))
            return answered
        request = self._under_way[cookie] = _Request(command, cookie + b" " + body, answered)
        # Whoever has stopped waiting is not sent again for.
        answered.add_done_callback(lambda _: self._forget(cookie))
        self._send(cookie, request)
        return answered

    def _send(self, cookie: bytes, request: _Request) -> None:
        if self._transport is None:
            return
        if request.sent == len(AGAIN_S):
            self.answering = False
            request.answered.set_exception(OurError("rtpengine does not answer", 503))
            return
        self._transport.sendto(request.datagram)
        loop = asyncio.get_running_loop()
        request.timer = loop.call_later(AGAIN_S[request.sent], self._send, cookie, request)
        request.sent += 1

    def _forget(self, cookie: bytes) -> None:
        request = self._under_way.pop(cookie, None)
        if request is not None and request.timer is not None:
            request.timer.cancel()

    def _fail(self, why: str) -> None:
        for request in list(self._under_way.values()):
            if not request.answered.done():
                request.answered.set_exception(OurError(f"rtpengine cannot be reached: {why}", 503))

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: object) -> None:
        cookie, _, body = data.partition(b" ")
        request = self._under_way.get(cookie)
        if request is None or request.answered.done():
            return
        try:
            reply = decode(body)
            result: bytes = reply["result"]
            if not isinstance(result, bytes):
                raise ValueError("a result that is no text")
        except (ValueError, LookupError, TypeError):
            request.answered.set_exception(OurError("rtpengine answered what is no NG"))
            return
        if result in (b"ok", b"pong"):
            request.answered.set_result(reply)
        else:  # "error" and its reason, or "load limit" and which one
            reasons = (reply.get("error-reason"), reply.get("message"), result)
            why = next((each for each in reasons if each and isinstance(each, bytes)), b"?")
            request.answered.set_exception(NgRefused(request.command, why.decode(errors="replace")))
        self.answering = True

    def error_received(self, exc: Exception) -> None:
        """Where ICMP said that nobody listens there, to wait would not help. Else one datagram was lost."""
        if not isinstance(exc, ConnectionRefusedError):
            return
        self.answering = False
        self._fail(str(exc))


class _Request:
    __slots__ = ("answered", "command", "datagram", "sent", "timer")

    def __init__(self, command: str, datagram: bytes, answered: asyncio.Future[dict[str, Any]]) -> None:
        self.command = command
        self.datagram = datagram
        self.answered = answered
        self.sent = 0
        self.timer: asyncio.TimerHandle | None = None
