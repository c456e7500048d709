"""Server-sent events (WHATWG HTML, 9.2): one open response to which events are written as they happen.

A stream is a coroutine that takes what is to be told from an inbox. It ends when its work says so, or is cancelled
when the client goes (Klein cancels the route's Deferred), so that `finally` in a route is where it unsubscribes.
"""

from __future__ import annotations

import asyncio
import json
from typing import Generic, TypeVar

from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.web.server import Request
from zope.interface import implementer

HEARTBEAT_S = 15.0
MAX_WAITING = 500

T = TypeVar("T")


class Lagging(Exception):
    """The client has not read for so long that it is better off starting again."""


class Inbox(Generic[T]):
    """What happened and has not been told yet; put from callbacks, taken by one coroutine."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[T | None] = asyncio.Queue()

    def put(self, item: T) -> None:
        self._queue.put_nowait(item)

    def nudge(self) -> None:
        """Let `take` return None: time has passed and nothing happened."""
        self._queue.put_nowait(None)

    def __len__(self) -> int:
        return self._queue.qsize()

    async def take(self) -> T | None:
        """The next thing, or None for a nudge. Lagging when far too much is waiting."""
        if self._queue.qsize() > MAX_WAITING:
            raise Lagging
        return await self._queue.get()


@implementer(IPushProducer)
class EventStream:
    """Writes events to one request, beats when nothing happens, and notices a reader who has stopped reading."""

    def __init__(self, request: Request, clock: IReactorTime, inbox: Inbox[T]) -> None:
        self._request = request
        self._clock = clock
        self._inbox = inbox
        self._beat: IDelayedCall | None = None
        self._paused = False

    def open(self) -> None:
        """Send the head, so that the browser knows at once that it is connected."""
        self._request.setHeader(b"content-type", b"text/event-stream; charset=utf-8")
        self._request.setHeader(b"cache-control", b"no-store")
        # nginx would otherwise keep events back until a buffer is full.
        self._request.setHeader(b"x-accel-buffering", b"no")
        self._request.registerProducer(self, True)
        self._request.write(b"retry: 2000\n\n")
        self._beat = self._clock.callLater(HEARTBEAT_S, self._on_beat)

    def send(self, event: str, data: object, *, id: str | None = None) -> None:
        text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
        head = f"id: {id}\n" if id is not None else ""
        self._request.write(f"{head}event: {event}\ndata: {text}\n\n".encode("utf-8", "replace"))

    def beat(self) -> None:
        """A comment, which keeps proxies from closing a quiet connection. Lagging if the last ones are unread."""
        if self._paused:
            # A whole heartbeat has passed with the socket full. Its buffer must not grow for ever, and the browser
            # takes up where it was (Last-Event-ID) when it is back.
            raise Lagging
        self._request.write(b": still here\n\n")

    def close(self) -> None:
        if self._beat is not None and self._beat.active():
            self._beat.cancel()
        if self._request.channel is not None:  # None once the connection is lost
            self._request.unregisterProducer()

    def abort(self) -> None:
        """Drop the connection without waiting for what is unread to be read."""
        if self._request.channel is not None:
            self._request.channel.forceAbortClient()

    def _on_beat(self) -> None:
        self._beat = self._clock.callLater(HEARTBEAT_S, self._on_beat)
        self._inbox.nudge()

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False

    def stopProducing(self) -> None:
        self._paused = True
