"""How many streams one person may have open: counted per owner."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from config.errors import TheirError


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
