"""The one place where asyncio and Deferreds meet.

Both run in the same loop (Twisted's asyncio reactor), so a crossing costs an object, never a thread.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger

log = Logger()

T = TypeVar("T")

# asyncio keeps only weak references to tasks: one that nobody holds may vanish half-way.
_running: set[asyncio.Task[Any]] = set()


def as_deferred(work: Coroutine[Any, Any, T] | asyncio.Future[T]) -> Deferred[T]:
    """Start a coroutine as a task (or take a future) and give a Deferred of its result, for Twisted's callers."""
    return Deferred.fromFuture(asyncio.ensure_future(work))


def as_future(deferred: Deferred[T]) -> asyncio.Future[T]:
    """Give a future of a Deferred's result, to be awaited in a coroutine; cancelling it cancels the Deferred."""
    return deferred.asFuture(asyncio.get_running_loop())


def spawn(work: Coroutine[Any, Any, T], what: str) -> asyncio.Task[T]:
    """Run a coroutine that nobody waits for; what it raises is logged under ``what``, not lost."""
    task = asyncio.get_running_loop().create_task(work, name=what)
    _running.add(task)
    task.add_done_callback(_ended)
    return task


def _ended(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if task.cancelled():
        return
    error = task.exception()
    if error is not None:
        trace = "".join(traceback.format_exception(error))
        log.error("{what} failed: {error!r}\n{trace}", what=task.get_name(), error=error, trace=trace)
