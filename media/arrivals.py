"""Packets are looked for when they come, or, once many do, at a steady beat: a wake-up costs more than a packet.

All sockets stand in an epoll set of our own, of which the event loop knows one descriptor. As long as packets are few,
each wakes the loop, and none waits. When that happened more often than the beat would, the loop no longer waits for
packets: at each beat everything that has come is taken, and one wake-up serves all calls.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable

BEAT_S = 0.002
"""What is added to a packet's delay at most, but for what handling those before it takes."""
# How long the rate is looked at before the way is changed, and how far it must fall below the beat's to change back.
WINDOW_S = 0.1
FEW = 0.5
# After so long the loop has its turn, so that a flood of media cannot keep control requests waiting; looked at after
# so many sockets.
TURN_S = 0.002
BATCH = 64

Reader = Callable[[float], None]


class Arrivals:
    """The sockets that packets come by. A reader is told the time, and takes one packet, or as many as it likes: what
    it leaves is seen at once. It may watch and forget sockets, its own among them."""

    def __init__(self, loop: asyncio.AbstractEventLoop, now: Callable[[], float]) -> None:
        self._loop = loop
        self._now = now
        self._epoll = select.epoll()
        self._readers: list[Reader | None] = []  # by descriptor
        self._since = now()
        self._taken = self._wakes = 0
        self._looked_at = self._due = 0.0
        self._next: asyncio.Handle | None = None
        self.beating = False
        loop.add_reader(self._epoll.fileno(), self._woken)

    def watch(self, descriptor: int, reader: Reader) -> None:
        """From now on, and in place of the reader it had."""
        readers = self._readers
        if descriptor >= len(readers):
            readers += [None] * (descriptor + 1 - len(readers))
        if readers[descriptor] is None:
            self._epoll.register(descriptor, select.EPOLLIN)
        readers[descriptor] = reader

    def forget(self, descriptor: int) -> None:
        """Before the socket is closed. One that is not watched, or is closed already (-1), is no matter."""
        if 0 <= descriptor < len(self._readers) and self._readers[descriptor] is not None:
            self._readers[descriptor] = None
            self._epoll.unregister(descriptor)

    def take_due(self) -> None:
        """To be called between pieces of other work, so that packets wait for one of them at most."""
        now = self._now()
        if now - self._looked_at >= BEAT_S:
            self._take(now)

    def close(self) -> None:
        if self._next is not None:
            self._next.cancel()
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def _woken(self) -> None:
        now = self._now()
        self._wakes += 1
        self._take(now)
        elapsed = now - self._since
        if elapsed >= WINDOW_S:
            if self._wakes * BEAT_S > elapsed:
                self._loop.remove_reader(self._epoll.fileno())
                self.beating = True
                self._due = now + BEAT_S
                self._next = self._loop.call_later(BEAT_S, self._beat)
            self._since, self._wakes, self._taken = now, 0, 0

    def _beat(self) -> None:
        now = self._now()
        if self._take(now):
            self._next = self._loop.call_soon(self._beat)
            return
        elapsed = now - self._since
        if elapsed >= WINDOW_S:
            few = self._taken * BEAT_S < FEW * elapsed
            self._since, self._wakes, self._taken = now, 0, 0
            if few:
                self.beating = False
                self._next = None
                self._loop.add_reader(self._epoll.fileno(), self._woken)
                return
        # By the clock: the busier we are, the less of a beat is left to wait for.
        self._due = max(self._due + BEAT_S, now)
        self._next = self._loop.call_later(max(0.0, self._due - self._now()), self._beat)

    def _take(self, now: float) -> bool:
        """Everything that has come; True if time was up before."""
        poll, readers = self._epoll.poll, self._readers
        end = now + TURN_S
        self._looked_at = now
        while ready := poll(0, BATCH):
            for descriptor, _ in ready:
                reader = readers[descriptor]
                if reader is None:
                    continue
                try:
                    reader(now)
                except Exception as error:  # a defect that one packet shows must not end the beat for all
                    self._loop.call_exception_handler({"message": "a packet failed", "exception": error})
            self._taken += len(ready)
            now = self._now()
            if now > end:
                return True
        return False
