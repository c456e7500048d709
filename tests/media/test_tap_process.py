"""Calls recorded by the real media process, by its sockets: each party's tone on its side, pictures that move, whatever
is killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy
import pytest
from numpy.typing import NDArray

from media.process import MediaProcess
from media.recorded import content_type, open_recorded, seconds_of
from media.sealed_file import SealedFile
from tests.media.moving import RATE, SIZE, AskedPhone, PicturePhone
from tests.media.tone_phone import LEVEL, TonePhone, level
from tests.peers.process import free_range, until

KEY = bytes(range(32))
LEFT, RIGHT = 440, 880


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prompts")


@contextlib.asynccontextmanager
async def process(prompts: Path) -> AsyncIterator[MediaProcess]:
    running = await MediaProcess.start(
        host="127.0.0.1", public="127.0.0.1", ports=free_range(32), prompts=prompts
    )
    try:
        yield running
    finally:
        await running.stop()


async def call(
    stack: contextlib.AsyncExitStack, running: MediaProcess, branch: str, phone: TonePhone
) -> TonePhone:
    await stack.enter_async_context(phone)
    phone.start(await running.media.answer("c", branch, phone.offer()))
    return phone


def laid_open(path: Path, key: bytes | None) -> Path:
    """The same without its seal."""
    with open_recorded(path, key) as file:
        data = file.read(0, file.size)
    opened = path.with_stem(path.stem + "-open")
    opened.write_bytes(data)
    return opened


def sound(path: Path) -> tuple[NDArray[Any], int]:
    """Both channels, as a player hears them."""
    with av.open(str(path)) as file:
        stream = file.streams.audio[0]
        resampler = av.AudioResampler("s16", "stereo", stream.rate)
        frames = [piece for frame in file.decode(stream) for piece in resampler.resample(frame)]
        return numpy.concatenate([frame.to_ndarray().reshape(-1, 2) for frame in frames]), stream.rate


def heard_in(piece: NDArray[Any], rate: int, tone: float) -> tuple[float, float]:
    """Of its tenths of a second the share in which the tone is loud; and how loud it is where it is loudest.

    A phone of a busy machine stops now and then, and what it never sent is silence.
    """
    size = rate // 10
    levels = [level(piece[at : at + size], rate, tone) for at in range(0, len(piece) - size + 1, size)]
    assert levels
    return sum(each > LEVEL * 0.7 for each in levels) / len(levels), max(levels)


def pictures(path: Path, track: int) -> list[tuple[float, NDArray[Any]]]:
    """(seconds, picture) of all that can be seen."""
    with av.open(str(path)) as file:
        return [(frame.time, frame.to_ndarray(format="rgb24")) for frame in file.decode(video=track)]


def of_recorder(pid: int) -> int:
    """The recording process of a media process."""
    listed = subprocess.run(
        ["ps", "--ppid", str(pid), "-o", "pid=,args="], capture_output=True, text=True, check=True
    )
    (line,) = (line for line in listed.stdout.splitlines() if "media.recorder" in line)
    return int(line.split()[0])


@pytest.mark.parametrize(
    ("codecs", "name", "key"),
    [
        (("pcmu", "pcma"), "call.wav", None),
        (("opus", "pcmu"), "call.wav", KEY),
        (("opus", "g722"), "call.mka", None),
        (("pcmu", "opus"), "call.mka", KEY),
    ],
    ids=["WAV", "sealed WAV", "Opus", "sealed Opus"],
)
async def test_each_party_is_on_its_side_whatever_is_lost_and_silent_while_it_is_paused(
    prompts: Path, tmp_path: Path, codecs: tuple[str, str], name: str, key: bytes | None
) -> None:
    path = tmp_path / "new folder" / name
    async with process(prompts) as running, contextlib.AsyncExitStack() as stack:
        media = running.media
        left, _ = [
            await call(stack, running, branch, TonePhone(codec, tone, loss=0.02, overtaking=0.05))
            for branch, codec, tone in zip("ab", codecs, (LEFT, RIGHT), strict=True)
        ]
        await media.join("c", "a", "b")
        clock = asyncio.get_running_loop().time
        began = clock()
        await media.tap("c", "a", "b", str(path), key=key, limit_s=60)
        assert path.exists()
        await asyncio.sleep(2.0)
        spoken = clock() - began
        assert await media.pause_tap("c", True)
        paused = clock() - began
        left.press(5)
        await asyncio.sleep(1.5)
        resumed = clock() - began
        assert await media.pause_tap("c", False)
        speaking = clock() - began
        await asyncio.sleep(1.5)
        lasted = clock() - began
        seconds = await media.end_tap("c")
        assert not await media.pause_tap("c", True)
        assert await media.end_tap("c") == 0.0
    if key is not None:
        assert key[:8] not in path.read_bytes()
        with SealedFile(path, key) as file:
            assert not file.cut
    assert seconds == pytest.approx(lasted, abs=0.2)
    assert seconds_of(path, key) == pytest.approx(seconds, abs=0.001)
    assert content_type(path, key) == ("audio/wav" if name.endswith("wav") else "audio/webm")
    heard, rate = sound(laid_open(path, key))
    assert len(heard) / rate == pytest.approx(seconds, abs=0.15)
    for begins, ends in ((0.3, spoken), (paused, resumed), (speaking, seconds)):
        piece = heard[int((begins + 0.2) * rate) : int((ends - 0.2) * rate)]
        for side, own, other in ((0, LEFT, RIGHT), (1, RIGHT, LEFT)):
            if begins == paused:
                assert numpy.abs(piece[:, side]).max() < 30, "silence, without the key"
            else:
                assert heard_in(piece[:, side], rate, own)[0] > 0.6
                assert heard_in(piece[:, side], rate, other)[1] < LEVEL * 0.1


@pytest.mark.parametrize(
    ("killed", "name", "key"),
    [
        ("media", "call.wav", None),
        ("recorder", "call.wav", KEY),
        ("recorder", "call.mka", None),
        ("both", "call.mka", KEY),
    ],
    ids=["media process", "recorder, sealed", "recorder", "both, sealed"],
)
async def test_what_is_killed_half_way_is_there_up_to_the_last_second(
    prompts: Path, tmp_path: Path, killed: str, name: str, key: bytes | None
) -> None:
    path = tmp_path / name
    ended: list[tuple[str, str, float]] = []
    async with process(prompts) as running, contextlib.AsyncExitStack() as stack:
        media = running.media
        media.on_tapped = lambda *news: ended.append(news)
        for branch, codec, tone in zip("ab", ("opus", "pcmu"), (LEFT, RIGHT), strict=True):
            await call(stack, running, branch, TonePhone(codec, tone))
        began = asyncio.get_running_loop().time()
        await media.tap("c", "a", "b", str(path), key=key, limit_s=60)
        await asyncio.sleep(3)
        recorder = of_recorder(running.pid)
        lasted = asyncio.get_running_loop().time() - began
        if killed != "media":
            os.kill(recorder, signal.SIGKILL)
        if killed != "recorder":
            os.kill(running.pid, signal.SIGKILL)
        else:
            await until(lambda: bool(ended), "the news of the end")
            assert ended[0][:2] == ("c", "failed: the recording process has died")
            again = tmp_path / f"again-{name}"
            await media.tap("c", "a", "b", str(again), key=key, limit_s=60)
            await asyncio.sleep(0.5)
            assert await media.end_tap("c") > 0.4, "another process goes on"
        await until(lambda: not os.path.exists(f"/proc/{recorder}"), "the end of the recorder")
    if key is not None:
        with SealedFile(path, key) as file:
            assert file.cut == (killed != "media")
    assert lasted - 1.0 < seconds_of(path, key) < lasted + 0.1
    heard, rate = sound(laid_open(path, key))
    assert lasted - 1.0 < len(heard) / rate < lasted + 0.2
    for side, tone in ((0, LEFT), (1, RIGHT)):
        assert heard_in(heard[rate // 2 :, side], rate, tone)[0] > 0.6
        assert heard_in(heard[-rate:, side], rate, tone)[0] > 0.3, "to the end"


async def test_a_recording_process_that_is_stuck_is_killed_and_calls_go_on(
    prompts: Path, tmp_path: Path
) -> None:
    path = tmp_path / "call.mka"
    ended: list[tuple[str, str, float]] = []
    clock = asyncio.get_running_loop().time
    async with process(prompts) as running, contextlib.AsyncExitStack() as stack:
        media = running.media
        media.on_tapped = lambda *news: ended.append(news)
        for branch, tone in zip("ab", (LEFT, RIGHT), strict=True):
            await call(stack, running, branch, TonePhone("pcmu", tone))
        await media.join("c", "a", "b")
        await media.tap("c", "a", "b", str(path), limit_s=60)
        await asyncio.sleep(1.5)
        recorder = of_recorder(running.pid)
        os.kill(recorder, signal.SIGSTOP)
        stuck = clock()
        await until(lambda: bool(ended), "the news of the end", seconds=15)
        assert clock() - stuck < 12
        assert ended[0][:2] == ("c", "failed: the recording process was stuck")
        await until(lambda: not os.path.exists(f"/proc/{recorder}"), "its end")
        before = (await media.stats("c"))["b"]["kinds"]["audio"]["packets_out"]
        again = tmp_path / "again.mka"
        await media.tap("c", "a", "b", str(again), limit_s=60)
        assert of_recorder(running.pid) != recorder
        await asyncio.sleep(1.0)
        assert (await media.stats("c"))["b"]["kinds"]["audio"]["packets_out"] > before + 25
        assert await media.end_tap("c") > 0.9
    assert seconds_of(path, None) > 0.5, "what was written is there"


@pytest.mark.parametrize("stopped", [False, True], ids=["", "stopped"])
@pytest.mark.parametrize("killed", [True, False], ids=["killed", "in order"])
async def test_a_recording_process_outlives_no_media_process_and_completes_its_file_first(
    prompts: Path, tmp_path: Path, killed: bool, stopped: bool
) -> None:
    path = tmp_path / "call.mka"
    async with process(prompts) as running, contextlib.AsyncExitStack() as stack:
        await call(stack, running, "a", TonePhone("pcmu", LEFT))
        await running.media.tap("c", "a", "b", str(path), key=KEY, limit_s=60)
        await asyncio.sleep(1.5)
        recorder = of_recorder(running.pid)
        os.kill(recorder, signal.SIGTERM)
        await asyncio.sleep(0.5)
        assert of_recorder(running.pid) == recorder, "it ends when there is nothing more to come"
        if stopped:
            os.kill(recorder, signal.SIGSTOP)
        if killed:
            os.kill(running.pid, signal.SIGKILL)
        else:
            await running.stop()
        await until(lambda: not os.path.exists(f"/proc/{recorder}"), "the end of the recorder", seconds=15)
    with SealedFile(path, KEY) as file:
        assert not file.cut
    assert seconds_of(path, KEY) > 1.0


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "sealed"])
async def test_pictures_of_both_move_though_one_joins_late_and_its_first_key_frame_is_lost(
    prompts: Path, tmp_path: Path, key: bytes | None
) -> None:
    path = tmp_path / "call.mkv"
    async with process(prompts) as running, contextlib.AsyncExitStack() as stack:
        media = running.media
        first = await stack.enter_async_context(PicturePhone(LEFT))
        second = await stack.enter_async_context(PicturePhone(RIGHT))
        first.start(await media.answer("c", "a", first.offer()))
        await media.tap("c", "a", "b", str(path), video=True, key=key, limit_s=60)
        await asyncio.sleep(1.5)
        second.start(await media.answer("c", "b", second.offer()))
        await media.join("c", "a", "b")
        await asyncio.sleep(3.5)
        seconds = await media.end_tap("c")
    assert seconds_of(path, key) == pytest.approx(seconds, abs=0.001)
    assert content_type(path, key) == "video/webm"
    opened = laid_open(path, key)
    heard, rate = sound(opened)
    for side, tone in ((0, LEFT), (1, RIGHT)):
        assert heard_in(heard[-2 * rate :, side], rate, tone)[0] > 0.4
    for track, from_s in ((0, 1.5), (1, seconds - 2.0)):
        seen = pictures(opened, track)
        assert seen[0][0] < from_s
        assert seen[-1][0] == pytest.approx(seconds, abs=1.0)
        assert len(seen) > (seen[-1][0] - seen[0][0]) * RATE * 0.7
        assert seen[0][1].shape == (SIZE[1], SIZE[0], 3)
        assert abs(float(seen[-1][1][:, :, 0].mean()) - 200) < 25, "as red as it was sent"
        assert any((a[1] != b[1]).any() for a, b in zip(seen[-8:], seen[-7:], strict=False)), "they move"


@pytest.mark.parametrize("damaged", [0, 3], ids=["", "the first three key frames, too"])
async def test_what_is_lost_freezes_a_picture_for_about_a_second_though_nobody_else_asks(
    prompts: Path, tmp_path: Path, damaged: int
) -> None:
    path = tmp_path / "call.mkv"

    def loses(number: int, key: int | None, place: int) -> bool:
        return number == 2 * RATE if key is None else 0 < key - 1 <= damaged and place == 1

    async with process(prompts) as running, contextlib.AsyncExitStack() as stack:
        media = running.media
        phone = await stack.enter_async_context(AskedPhone(loses))
        phone.start(await media.answer("c", "a", phone.offer()))
        await asyncio.sleep(0.2)
        await media.tap("c", "a", "b", str(path), video=True, limit_s=60)
        await asyncio.sleep(5 + damaged)
        seconds = await media.end_tap("c")
    times = [at for at, _ in pictures(path, 0)] + [seconds]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert max(gaps) < 1.3 + damaged * 1.1
    assert max(gaps) > 0.2, "something was lost"
    assert phone.asked <= 2 + damaged, "key frames are a burst"
