"""A media process that dies by kill -9, and the one that takes its place."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from config.errors import OurError
from media.process import MediaProcess
from media.watched import WatchedMedia
from tests.media.descriptions import SIPP
from tests.peers.process import free_range


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prompts")


async def serving(prompts: Path) -> WatchedMedia:
    media = WatchedMedia()
    await media.start(host="127.0.0.1", public="127.0.0.1", ports=free_range(32), prompts=prompts)
    return media


def pid(media: WatchedMedia) -> int:
    assert media._process is not None
    return media._process.pid


async def test_another_takes_its_place_and_requests_in_between_fail_clearly(prompts: Path) -> None:
    media = await serving(prompts)
    died: list[bool] = []
    gone: list[str] = []

    def fails() -> None:
        died.append(True)
        raise RuntimeError("whoever hears of it may fail, and media serve again all the same")

    media.on_died = fails
    media.on_gone = lambda call, branch, why: gone.append(branch)
    await media.answer("c", "a", SIPP)
    for times in (1, 2):
        killed = pid(media)
        asked = media.answer("c", "b", SIPP)
        os.kill(killed, signal.SIGKILL)
        await asyncio.gather(asked, return_exceptions=True)
        while len(died) < times:
            await asyncio.sleep(0.01)
        with pytest.raises(OurError) as caught:
            await media.answer("c", "c", SIPP)
        assert caught.value.status == 503
        begun = time.monotonic()
        while media._process is None:
            await asyncio.sleep(0.01)
        assert time.monotonic() - begun < 5
        assert pid(media) != killed
        with pytest.raises(OurError):
            await media.stats("c")  # nothing of before is left
        assert b"m=audio" in await media.answer("c", "a", SIPP)
    assert len(died) == 2
    await media.end()


async def test_one_that_is_stuck_is_given_up_like_a_dead_one(
    prompts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("media.client.ANSWER_S", 0.3)
    monkeypatch.setattr("media.process.STOP_S", 0.1)
    media = await serving(prompts)
    died: list[bool] = []
    media.on_died = lambda: died.append(True)
    await media.answer("c", "a", SIPP)
    await asyncio.sleep(0.5)
    assert died == [], "nothing was asked, so nothing is overdue"
    stuck = pid(media)
    os.kill(stuck, signal.SIGSTOP)
    results = await asyncio.gather(media.answer("c", "b", SIPP), media.stats("c"), return_exceptions=True)
    assert [getattr(result, "status", None) for result in results] == [503, 503]
    while media._process is None:
        await asyncio.sleep(0.01)
    assert pid(media) != stuck
    assert b"m=audio" in await media.answer("c", "a", SIPP)
    assert died == [True]
    await media.end()


async def test_a_port_that_is_taken_for_a_while_costs_one_attempt_at_a_time(
    prompts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("media.watched.AGAIN_S", 0.05)
    media = WatchedMedia()
    low, high = free_range(32)
    await media.start(host="127.0.0.1", public="127.0.0.1", ports=(low, high), prompts=prompts)
    killed = media._process
    assert killed is not None
    died: list[bool] = []
    start, running, most = MediaProcess.start, 0, 0

    async def counted(**options: Any) -> MediaProcess:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            return await start(**options)
        finally:
            running -= 1

    def port_is_taken() -> None:
        died.append(True)
        killed._process.wait(5)  # its socket pair may be closed before its port is free
        taken.bind(("127.0.0.1", low))

    monkeypatch.setattr(MediaProcess, "start", counted)
    media.on_died = port_is_taken
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        os.kill(killed.pid, signal.SIGKILL)
        while not died:
            await asyncio.sleep(0.01)
        await asyncio.sleep(2)
        assert media._process is None
    while media._process is None:
        await asyncio.sleep(0.01)
    assert (len(died), most) == (1, 1)
    await media.end()


async def test_ended_while_it_is_being_started_again_it_leaves_no_process_behind(
    prompts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    media = await serving(prompts)
    begun: list[bool] = []
    started: list[MediaProcess] = []
    start = MediaProcess.start

    async def noted(**options: object) -> MediaProcess:
        begun.append(True)
        process = await start(**options)  # type: ignore[arg-type]
        started.append(process)
        return process

    monkeypatch.setattr(MediaProcess, "start", noted)
    os.kill(pid(media), signal.SIGKILL)
    while not begun:
        await asyncio.sleep(0.01)
    await media.end()
    while not started:
        await asyncio.sleep(0.01)
    assert await asyncio.to_thread(started[0]._process.wait, 5) == 0
    assert media._process is None


async def test_one_that_cannot_be_started_is_tried_again(
    prompts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("media.watched.AGAIN_S", 0.01)
    media = await serving(prompts)
    start, failures = MediaProcess.start, [OurError("no", 503), OSError("no files left")]

    async def reluctant(**options: object) -> MediaProcess:
        if failures:
            raise failures.pop()
        return await start(**options)  # type: ignore[arg-type]

    monkeypatch.setattr(MediaProcess, "start", reluctant)
    os.kill(pid(media), signal.SIGKILL)
    while failures or media._process is None:
        await asyncio.sleep(0.01)
    assert b"m=audio" in await media.answer("c", "a", SIPP)
    await media.end()
