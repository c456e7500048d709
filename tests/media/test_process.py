from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from config.errors import OurError, TheirError
from media.process import MediaProcess
from media.server import Profile
from tests.media.descriptions import SIPP
from tests.peers.process import free_range


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prompts")


async def start(prompts: Path, on_died: Callable[[], None] = lambda: None) -> MediaProcess:
    return await MediaProcess.start(
        host="127.0.0.1", public="127.0.0.1", ports=free_range(32), prompts=prompts, on_died=on_died
    )


async def test_it_serves_within_half_a_second_once_the_prompts_are_made(prompts: Path) -> None:
    await (await start(prompts)).stop()
    begun = time.monotonic()
    process = await start(prompts)
    took = time.monotonic() - begun
    answer = await process.media.answer("c", "a", SIPP)
    assert b"m=audio" in answer
    assert await process.media.play("c", "a", "music", repeat=True) == pytest.approx(30, abs=0.1)
    await process.stop()
    assert took < 1.5, "0.25 s on an idle machine; the tests' machine is shared"


async def test_requests_are_carried_out_in_order_and_errors_come_back_as_they_were(prompts: Path) -> None:
    process = await start(prompts)
    media = process.media
    results = await asyncio.gather(
        media.answer("c", "a", SIPP),
        media.offer("c", "b", profile=Profile.RTP, like="a"),
        media.answer("c", "x", b"v=0\r\nm=\xff\xfe"),
        media.play("c", "nobody", "music"),
        media.delete("c"),
        media.stats("c"),
        return_exceptions=True,
    )
    assert isinstance(results[0], bytes)
    assert isinstance(results[1], bytes)
    assert isinstance(results[2], TheirError)
    assert results[2].status == 400
    assert isinstance(results[3], OurError)
    assert results[4] is None
    assert isinstance(results[5], OurError)
    await process.stop()


async def test_when_it_dies_we_are_told_once_and_requests_fail_clearly(prompts: Path) -> None:
    died: list[bool] = []
    process = await start(prompts, on_died=lambda: died.append(True))
    asked = process.media.answer("c", "a", SIPP)
    os.kill(process.pid, signal.SIGKILL)
    await asyncio.gather(asked, return_exceptions=True)
    while not died:
        await asyncio.sleep(0.01)
    with pytest.raises(OurError) as caught:
        await process.media.answer("c", "a", SIPP)
    assert caught.value.status == 503
    await process.stop()
    assert died == [True]


@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM])
async def test_it_leaves_it_to_us_when_to_end(prompts: Path, told: signal.Signals) -> None:
    process = await start(prompts)
    os.kill(process.pid, told)
    assert b"m=audio" in await process.media.answer("c", "a", SIPP)
    await process.stop()


async def test_it_ends_by_itself_when_we_are_gone(prompts: Path) -> None:
    process = await start(prompts)
    process.media.close()
    assert await asyncio.to_thread(process._process.wait, 5) == 0
    await process.stop()


async def test_a_port_in_use_is_said(prompts: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ports = free_range(32)
    first = await MediaProcess.start(host="127.0.0.1", public="127.0.0.1", ports=ports, prompts=prompts)
    died: list[bool] = []
    with pytest.raises(OurError, match="did not start") as caught:
        await MediaProcess.start(
            host="127.0.0.1",
            public="127.0.0.1",
            ports=ports,
            prompts=prompts,
            on_died=lambda: died.append(True),
        )
    assert caught.value.status == 503
    assert died == [], "it never lived, and whoever started it knows"
    assert "in use" in capfd.readouterr().err
    await first.stop()
