"""What is played once the prompts it needs are there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any, cast

import pytest

from config.errors import OurError
from media.leg import Leg
from media.playing import Player
from media.prompts import Prompts


class Threads(Executor):
    """One that works only when it is told what has come of it."""

    def __init__(self) -> None:
        self.work: Future[Any] = Future()

    def submit(self, call: Callable[..., Any], /, *args: Any, **named: Any) -> Future[Any]:
        self.work.set_running_or_notify_cancel()
        return self.work


class Listening:
    """As much of a leg as a player asks for before anything is heard."""

    playing = None


async def waiting(threads: Threads, folder: Path) -> asyncio.Future[float]:
    player = Player(asyncio.get_running_loop(), Prompts(folder), threads, lambda: 0.0)
    seconds = player.play(cast(Leg, Listening()), ["number-7"], repeat=False)
    assert not isinstance(seconds, float)
    task = asyncio.ensure_future(seconds)
    await asyncio.sleep(0)
    return task


async def test_who_waits_for_a_prompt_when_all_ends_hears_of_no_fault(tmp_path: Path) -> None:
    threads = Threads()
    task = await waiting(threads, tmp_path)
    # Making it fails because all ends, and the word of it comes before the one that the wait is cancelled.
    threads.work.set_exception(OurError("Nothing is begun any more"))
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_a_prompt_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    threads = Threads()
    task = await waiting(threads, tmp_path)
    threads.work.set_exception(OurError("No voice"))
    with pytest.raises(OurError, match="No voice"):
        await task
