from __future__ import annotations

import asyncio

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import implementer

from config.bridge import as_deferred, as_future, spawn


async def test_a_coroutine_becomes_a_deferred_of_its_result() -> None:
    async def work() -> int:
        await asyncio.sleep(0)
        return 7

    assert await as_future(as_deferred(work())) == 7


async def test_an_error_crosses_both_ways_unchanged() -> None:
    error = ValueError("as it was")

    async def work() -> None:
        raise error

    with pytest.raises(ValueError, match="as it was") as caught:
        await as_future(as_deferred(work()))
    assert caught.value is error


async def test_cancelling_the_future_cancels_the_deferred() -> None:
    ended: list[type[BaseException] | None] = []
    deferred: Deferred[None] = Deferred()
    deferred.addErrback(lambda failure: ended.append(failure.check(CancelledError)))
    as_future(deferred).cancel()
    await asyncio.sleep(0)
    assert ended == [CancelledError]


async def test_what_nobody_waits_for_is_logged_when_it_fails() -> None:
    seen: list[LogEvent] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        seen.append(event)

    async def work() -> None:
        raise ValueError("nobody saw it")

    globalLogPublisher.addObserver(observe)
    try:
        task = spawn(work(), "the spawned work")
        await asyncio.wait([task])
        await asyncio.sleep(0)
    finally:
        globalLogPublisher.removeObserver(observe)
    lines = [event for event in seen if event.get("what") == "the spawned work"]
    assert len(lines) == 1
    assert "nobody saw it" in lines[0]["trace"]
