"""Calls that begin with sound alone and are recorded: pictures that join later, and go again, are in the same file."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from media.recorded import content_type, kinds_of, seconds_of
from media.server import MediaServer
from tests.media.media_servers import Open
from tests.media.moving import RATE, PicturePhone
from tests.media.test_tap_process import (
    KEY,
    LEFT,
    RIGHT,
    heard_in,
    laid_open,
    of_recorder,
    pictures,
    process,
    sound,
)
from tests.peers.process import until


@contextlib.asynccontextmanager
async def recorded(
    media: MediaServer, path: Path, key: bytes | None
) -> AsyncIterator[tuple[dict[str, PicturePhone], Callable[[], float]]]:
    """Two who speak with each other, without pictures yet, are being recorded; for how many seconds by now."""
    clock = asyncio.get_running_loop().time
    async with PicturePhone(LEFT) as first, PicturePhone(RIGHT) as second:
        both = {"a": first, "b": second}
        await agree(media, both, with_pictures=False)
        await media.join("c", "a", "b")
        began = clock()
        await media.tap("c", "a", "b", str(path), video=True, key=key, limit_s=60)
        yield both, lambda: clock() - began


async def agree(media: MediaServer, both: dict[str, PicturePhone], *, with_pictures: bool) -> None:
    for branch, phone in both.items():
        phone.start(await media.answer("c", branch, phone.offer(pictures=with_pictures)))


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "sealed"])
async def test_pictures_are_kept_from_when_they_join_till_they_go_and_the_sound_throughout(
    opened: Open, tmp_path: Path, key: bytes | None
) -> None:
    path = tmp_path / "call.mkv"
    async with opened() as house, recorded(house.media, path, key) as (both, lasted):
        await asyncio.sleep(2.0)
        joined = lasted()
        await agree(house.media, both, with_pictures=True)
        await asyncio.sleep(4.0)
        await agree(house.media, both, with_pictures=False)
        gone = lasted()
        await asyncio.sleep(2.0)
        seconds = await house.media.end_tap("c")
    assert seconds_of(path, key) == pytest.approx(seconds, abs=0.001)
    assert (kinds_of(path, key), content_type(path, key)) == ("audio,video", "video/webm")
    opened_file = laid_open(path, key)
    heard, rate = sound(opened_file)
    for begins, ends in ((0.5, joined), (joined, gone), (gone, seconds - 0.2)):
        piece = heard[int(begins * rate) : int(ends * rate)]
        for side, own, other in ((0, LEFT, RIGHT), (1, RIGHT, LEFT)):
            assert heard_in(piece[:, side], rate, own)[0] > 0.6
            assert heard_in(piece[:, side], rate, other)[1] < 800
    for track in (0, 1):
        seen = pictures(opened_file, track)
        assert joined - 0.2 < seen[0][0] < joined + 2.5, "a key frame comes every second"
        assert gone - 1.5 < seen[-1][0] < gone + 0.5
        assert len(seen) > (seen[-1][0] - seen[0][0]) * RATE * 0.6
        assert any((a[1] != b[1]).any() for a, b in zip(seen[-8:], seen[-7:], strict=False)), "they move"


@pytest.mark.parametrize("killed", ["media process", "both"])
async def test_what_is_killed_after_they_joined_shows_them_up_to_the_last_second(
    made_prompts: Path, tmp_path: Path, killed: str
) -> None:
    path = tmp_path / "call.mkv"
    async with process(made_prompts) as running, recorded(running.media, path, KEY) as (both, so_far):
        await asyncio.sleep(1.0)
        joined = so_far()
        await agree(running.media, both, with_pictures=True)
        await asyncio.sleep(3.5)
        recorder = of_recorder(running.pid)
        lasted = so_far()
        if killed == "both":
            os.kill(recorder, signal.SIGKILL)
        os.kill(running.pid, signal.SIGKILL)
        await until(lambda: not os.path.exists(f"/proc/{recorder}"), "the end of the recorder")
    assert lasted - 1.0 < seconds_of(path, KEY) < lasted + 0.2
    assert kinds_of(path, KEY) == "audio,video"
    opened_file = laid_open(path, KEY)
    heard, rate = sound(opened_file)
    for side, tone in ((0, LEFT), (1, RIGHT)):
        assert heard_in(heard[rate // 2 :, side], rate, tone)[0] > 0.6
        seen = pictures(opened_file, side)
        assert joined - 0.2 < seen[0][0] < joined + 2.5
        assert seen[-1][0] > lasted - 1.5
