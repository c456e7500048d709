"""A phone that is muted sends nothing, and whoever holds it listens on: each media server tells that, and goes on."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest

from media.engine_watch import LOOK_S
from tests.media.media_servers import House, Open, hear_each_other, house
from tests.media.tone_phone import TonePhone
from tests.peers.process import until

SILENCE_S = 3.0


@pytest.fixture(params=["embedded", "rtpengine"])
def soon(request: pytest.FixtureRequest, tmp_path: Path, made_prompts: Path) -> Open:
    return partial(house, request.param, tmp_path, made_prompts, silence_s=SILENCE_S)


def mute(phone: TonePhone) -> None:
    """It speaks no more, and goes on listening."""
    phone._tasks[0].cancel()


def silent(house: House) -> list[tuple[str, str]]:
    return [(call, branch) for call, branch, what, _ in house.qualities if what == "silent"]


async def test_who_is_muted_is_told_of_once_and_hears_the_other_on(soon: Open) -> None:
    async with soon() as opened, TonePhone("pcmu", 440) as a, TonePhone("pcmu", 880) as b:
        await opened.called("a", a)
        await opened.calls("b", b, like="a")
        await opened.media.join("c", "a", "b")
        await hear_each_other(a, b)
        mute(a)
        await until(lambda: silent(opened), "the news", seconds=SILENCE_S + 3 * LOOK_S)
        await asyncio.sleep(SILENCE_S)
        assert (opened.gone, silent(opened)) == ([], [("c", "a")])
        count = len(a.headers)
        await until(lambda: len(a.headers) > count + 10, "the other's voice")
        mute(b)
        await until(lambda: len(opened.gone) == 2, "the end of both", seconds=SILENCE_S + 3 * LOOK_S)
        assert sorted(opened.gone) == [("c", each, "nothing was received for 3 s") for each in "ab"]


async def test_who_is_muted_hears_music_on(soon: Open) -> None:
    async with soon() as opened, TonePhone("pcmu", 440) as a:
        await opened.called("a", a)
        await opened.media.play("c", "a", "music", repeat=True)
        await until(lambda: a.headers, "the music")
        mute(a)
        await until(lambda: silent(opened), "the news", seconds=SILENCE_S + 3 * LOOK_S)
        await asyncio.sleep(SILENCE_S)
        assert (opened.gone, silent(opened)) == ([], [("c", "a")])
        await opened.media.stop("c", "a")
        await until(lambda: opened.gone, "the end", seconds=SILENCE_S + 3 * LOOK_S)
