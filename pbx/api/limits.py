"""How much one person may ask for in a while: token buckets, and streams counted per owner.

Both tables are bounded, so that being asked by very many people costs a known amount of memory.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from config.errors import TheirError


class RateLimit:
    """`burst` at once, then `per_s` each second, for each owner.

    The table keeps the `remembered` owners seen last; one who is forgotten starts afresh, which is the generous error.
    """

    def __init__(
        self, burst: float, per_s: float, seconds: Callable[[], float], *, remembered: int = 10_000
    ) -> None:
        self._burst = burst
        self._per_s = per_s
        self._seconds = seconds
        self._remembered = remembered
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, owner: str, what: str) -> None:
        """Take one token; TheirError 429 saying `what` came too fast when there is none."""
        at = self._seconds()
        tokens, since = self._buckets.pop(owner, (self._burst, at))
        tokens = min(self._burst, tokens + max(0.0, at - since) * self._per_s)
        allowed = tokens >= 1
        self._buckets[owner] = (tokens - 1 if allowed else tokens, at)
        if len(self._buckets) > self._remembered:
            self._buckets.popitem(last=False)
        if not allowed:
            raise TheirError(f"{what} Please wait a moment and try again.", 429)

    def __len__(self) -> int:
        return len(self._buckets)


class StreamCount:
    """How many streams each owner has open; at most `limit`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: dict[str, int] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    @contextmanager
    def one(self, owner: str) -> Iterator[None]:
        """Hold one place while the stream is open; TheirError 429 when `owner` has no more."""
        if self._open.get(owner, 0) >= self._limit:
            raise TheirError("Too many pages are following along. Close some of them.", 429)
        self._open[owner] = self._open.get(owner, 0) + 1
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
        try:
            yield
        finally:
            if task is not None:
                self._tasks.discard(task)
            self._open[owner] -= 1
            if not self._open[owner]:
                del self._open[owner]

    async def close(self) -> None:
        """End every stream; returns when each has let go of what it listened to."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def of(self, owner: str) -> int:
        return self._open.get(owner, 0)

    def __len__(self) -> int:
        """How many owners have a stream open."""
        return len(self._open)
