"""The real media process, by its sockets: conferences, recordings that survive a kill, keys, what is played back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import wave
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import numpy
import pytest
from numpy.typing import NDArray

from config.errors import TheirError
from media.process import MediaProcess
from media.watched import WatchedMedia
from tests.media.tone_phone import LEVEL, TonePhone, level
from tests.peers.process import free_range, until

TONES = (440, 620, 880)


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


def hears_all_but_itself(phones: list[TonePhone]) -> bool:
    return all(
        (phone.hears(other.tone) > LEVEL * 0.6)
        if other is not phone
        else (phone.hears(phone.tone) < LEVEL * 0.08)
        for phone in phones
        for other in phones
    )


@pytest.mark.parametrize(
    ("codecs", "loss"),
    [
        (("pcmu", "pcmu", "pcmu"), 0.0),
        (("opus", "pcmu", "pcmu"), 0.0),
        (("opus", "g722", "pcma"), 0.03),
    ],
    ids=["alike", "one of them Opus", "all unlike, with loss"],
)
async def test_three_hear_each_other_and_not_themselves(
    prompts: Path, codecs: tuple[str, ...], loss: float
) -> None:
    async with process(prompts) as running, contextlib.AsyncExitStack() as stack:
        phones = [
            await call(stack, running, branch, TonePhone(codec, tone, loss=loss, overtaking=loss))
            for branch, codec, tone in zip("abx", codecs, TONES, strict=True)
        ]
        media = running.media
        await media.play("c", "a", "music", repeat=True)
        if codecs[0] == codecs[1]:
            await media.join("c", "a", "b")
            await until(lambda: phones[1].hears(TONES[0]) > LEVEL * 0.6, "the two to be joined")
        await media.confer("c", ["a", "b", "x"])
        await until(lambda: hears_all_but_itself(phones), "each to hear the others", seconds=10)
        for phone in phones:
            numbers = [seq for _, _, seq, _, _ in phone.headers]
            assert {(b - a) & 0xFFFF for a, b in pairwise(numbers)} == {1}, "one stream, before and after"
            assert len({ssrc for *_, ssrc in phone.headers}) == 1
        await media.drop("c", "x")
        await until(
            lambda: all(phone.hears(TONES[2]) < LEVEL * 0.05 for phone in phones[:2]), "the third to be gone"
        )
        assert phones[0].hears(TONES[1]) > LEVEL * 0.6
        await media.drop("c", "b")
        heard = len(phones[0].headers)
        await until(lambda: phones[0].hears(TONES[1]) < LEVEL * 0.05, "silence for the one who is left")
        await until(lambda: len(phones[0].headers) > heard + 50, "packets of silence")
        await media.confer("c", [])
        await asyncio.sleep(0.1)
        heard = len(phones[0].headers)
        await asyncio.sleep(0.2)
        assert len(phones[0].headers) == heard, "it is over"


async def test_what_is_asked_while_the_codecs_load_is_done_in_its_order(prompts: Path) -> None:
    async with process(prompts) as running, contextlib.AsyncExitStack() as stack:
        a, b, _ = [
            await call(stack, running, branch, TonePhone("pcmu", tone))
            for branch, tone in zip("abx", TONES, strict=True)
        ]
        media = running.media
        await asyncio.gather(media.confer("c", ["a", "b", "x"]), media.join("c", "a", "b"), media.stats("c"))
        await until(lambda: b.hears(a.tone) > LEVEL * 0.6 and a.hears(b.tone) > LEVEL * 0.6, "the two joined")
        await asyncio.sleep(0.6)
        assert a.hears(TONES[2]) < LEVEL * 0.05, "the join came later, so it stands"


async def test_a_prompt_that_nobody_wanted_before_is_made_and_heard(prompts: Path) -> None:
    assert not (prompts / "beep.pcmu").exists(), "the first start has not waited for it"
    async with process(prompts) as running, TonePhone("pcmu", 880) as phone:
        phone.start(await running.media.answer("c", "a", phone.offer()))
        seconds = await running.media.play("c", "a", ["beep", "beep", "beep"])
        assert seconds == pytest.approx(1.2, abs=0.1)
        await until(lambda: phone.hears(440, 0.3) > 3000, "the beep")


def read(path: Path) -> tuple[NDArray[numpy.int16], int]:
    with wave.open(str(path), "rb") as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        assert path.stat().st_size >= 44 + file.getnframes() * 2, "the header promises no more than there is"
        return numpy.frombuffer(file.readframes(file.getnframes()), "<i2"), file.getframerate()


@pytest.mark.parametrize("codec", ["pcmu", "g722", "opus"])
async def test_a_recording_that_is_killed_half_way_is_there_up_to_the_last_second(
    prompts: Path, tmp_path: Path, codec: str
) -> None:
    path = tmp_path / "new folder" / "message.wav"
    async with process(prompts) as running, contextlib.AsyncExitStack() as stack:
        phone = await call(stack, running, "a", TonePhone(codec, 620, loss=0.02, overtaking=0.02))
        await running.media.record("c", "a", str(path), limit_s=60, silence_s=30)
        began = asyncio.get_running_loop().time()
        await asyncio.sleep(3)
        os.kill(running.pid, signal.SIGKILL)
        lasted = asyncio.get_running_loop().time() - began
        del phone
    sound, rate = read(path)
    assert len(sound) / rate > lasted - 1.0
    assert len(sound) / rate < lasted + 0.2
    for start in range(0, len(sound) - rate // 2, rate // 2):
        assert level(sound[start : start + rate // 2], rate, 620) > LEVEL * 0.7, f"from {start / rate} s on"


async def test_a_message_ends_by_the_hash_key_and_is_played_back(prompts: Path, tmp_path: Path) -> None:
    async with process(prompts) as running, contextlib.AsyncExitStack() as stack:
        media = running.media
        pressed: list[str] = []
        ended: list[tuple[str, str, str, float]] = []
        media.on_keys = lambda call, branch, key: pressed.append(key)
        media.on_recorded = lambda *news: ended.append(news)
        a = await call(stack, running, "a", TonePhone("pcma", 440))
        await media.record("c", "a", str(tmp_path / "m.wav"), limit_s=60, silence_s=30)
        await asyncio.sleep(1.0)
        a.press(2)
        await until(lambda: pressed == ["2"], "the key 2")
        a.press(11)
        await until(lambda: bool(ended), "the end of the recording")
        assert ended[0][:3] == ("c", "a", "key")
        assert pressed == ["2"], "the key that ends a recording is for nothing else"
        sound, rate = read(tmp_path / "m.wav")
        assert ended[0][3] == pytest.approx(len(sound) / rate)
        a.press(11)
        await until(lambda: pressed == ["2", "#"], "the key, now that nothing is recorded")

        b = await call(stack, running, "b", TonePhone("opus", 880))
        seconds = await media.play("c", "b", ["beep", f"file:{tmp_path / 'm.wav'}"])
        assert seconds == pytest.approx(0.4 + len(sound) / rate, abs=0.03)
        await until(lambda: b.hears(440) > LEVEL * 0.6, "the message")
        with pytest.raises(TheirError) as absent:
            await media.play("c", "b", f"file:{tmp_path / 'nothing.wav'}")
        assert absent.value.status == 404


async def test_a_recording_ends_with_its_branch_and_with_the_process(prompts: Path, tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with process(prompts) as running:
            media = running.media
            ended: list[tuple[str, str, str, float]] = []
            media.on_recorded = lambda *news: ended.append(news)
            for branch in "ab":
                await call(stack, running, branch, TonePhone("pcmu", 440))
                await media.record("c", branch, str(tmp_path / f"{branch}.wav"), limit_s=60, silence_s=30)
            await asyncio.sleep(0.7)
            await media.drop("c", "a")
            await until(lambda: [news[:3] for news in ended] == [("c", "a", "gone")], "the end of the one")
            await asyncio.sleep(0.2)
        for branch in "ab":
            sound, rate = read(tmp_path / f"{branch}.wav")
            assert len(sound) / rate > 0.5


async def test_after_a_death_keys_and_recordings_of_the_next_process_are_told_of(
    prompts: Path, tmp_path: Path
) -> None:
    media = WatchedMedia()
    pressed: list[tuple[str, str, str]] = []
    ended: list[tuple[str, str, str, float]] = []
    media.on_keys = lambda *news: pressed.append(news)
    media.on_recorded = lambda *news: ended.append(news)
    await media.start(host="127.0.0.1", public="127.0.0.1", ports=free_range(32), prompts=prompts)
    assert media._process is not None
    os.kill(media._process.pid, signal.SIGKILL)
    await until(lambda: not media.serving, "the death")
    await until(lambda: media.serving, "the next process")
    async with TonePhone("pcmu", 440) as phone:
        phone.start(await media.answer("c", "a", phone.offer()))
        phone.press(7)
        await until(lambda: pressed == [("c", "a", "7")], "the key")
        await media.record("c", "a", str(tmp_path / "m.wav"), limit_s=0.5, silence_s=30)
        await until(lambda: [news[:3] for news in ended] == [("c", "a", "limit")], "the end of the recording")
    await media.end()
