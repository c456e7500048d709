"""Recordings: each of their endings, and what is told of it."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import wave
from itertools import pairwise
from pathlib import Path

import pytest

from config.errors import OurError, TheirError
from media import recording as recording_module
from media.voice_file import VoiceFile
from tests.media.relay_house import House
from tests.media.test_conference import QUIETER, SILENCE, Speakers
from tests.media.test_keys import called
from tests.peers.process import until

LONG = 60.0


@pytest.fixture(autouse=True)
def written_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording_module, "FLUSH_S", 0.02)


def record(
    house: House, path: Path, *, branch: str = "a", limit_s: float = LONG, silence_s: float = LONG
) -> None:
    house.relay.record("c", branch, str(path), limit_s=limit_s, silence_s=silence_s)


def seconds(path: Path) -> float:
    with wave.open(str(path), "rb") as file:
        return file.getnframes() / file.getframerate()


async def ended(house: House) -> tuple[str, str, str, float]:
    await until(lambda: bool(house.recorded), "the news of the end", seconds=5)
    await asyncio.sleep(0.05)
    (news,) = house.recorded
    return news


async def test_it_is_stopped_and_nobody_is_told(house: House, tmp_path: Path) -> None:
    a = house.called("a")
    record(house, tmp_path / "m.wav")
    async with Speakers({a: QUIETER}):
        await asyncio.sleep(0.3)
    assert await house.relay.stop_recording("c", "a") == pytest.approx(0.3, abs=0.1)
    assert seconds(tmp_path / "m.wav") == pytest.approx(0.3, abs=0.1)
    assert await house.relay.stop_recording("c", "a") == 0.0
    assert house.recorded == []
    stream = house.relay._leg("c", "a").carried[0]
    assert stream.taken[0], "packets pass untouched again"


async def test_it_ends_at_its_limit(house: House, tmp_path: Path) -> None:
    a = house.called("a")
    async with Speakers({a: QUIETER}):
        record(house, tmp_path / "m.wav", limit_s=0.3)
        call, branch, why, length = await ended(house)
    assert (call, branch, why) == ("c", "a", "limit")
    assert length == pytest.approx(seconds(tmp_path / "m.wav"))
    assert 0.2 <= length <= 0.3
    assert await house.relay.stop_recording("c", "a") == 0.0


async def test_it_ends_when_nobody_speaks_any_more(house: House, tmp_path: Path) -> None:
    a = house.called("a")
    record(house, tmp_path / "m.wav", silence_s=0.3)
    async with Speakers({a: QUIETER}):
        await asyncio.sleep(0.6)
        assert house.recorded == []
    async with Speakers({a: SILENCE}):
        assert (await ended(house))[2] == "silence"


async def test_it_ends_when_nothing_comes_at_all(house: House, tmp_path: Path) -> None:
    house.called("a")
    record(house, tmp_path / "m.wav", silence_s=0.1)
    assert await ended(house) == ("c", "a", "silence", 0.0)
    assert seconds(tmp_path / "m.wav") == 0.0


async def test_it_ends_with_the_hash_key_which_is_for_nothing_else(house: House, tmp_path: Path) -> None:
    a = called(house, "a", 101)
    record(house, tmp_path / "m.wav")
    a.say(b"\x05\x0a\x00\xa0", kind=101)
    await until(lambda: house.pressed == [("c", "a", "5")], "another key", seconds=2)
    a.say(b"\x0b\x0a\x00\xa0", kind=101)
    assert (await ended(house))[2] == "key"
    assert house.pressed == [("c", "a", "5")]


@pytest.mark.parametrize("how", ["dropped", "deleted", "lost"])
async def test_it_ends_with_its_branch(house: House, tmp_path: Path, how: str) -> None:
    a = house.called("a")
    record(house, tmp_path / "m.wav")
    async with Speakers({a: QUIETER}):
        await asyncio.sleep(0.2)
    if how == "dropped":
        house.relay.drop("c", "a")
    elif how == "deleted":
        house.relay.delete("c")
    else:
        house.relay._lost(house.relay._leg("c", "a"), "silence")
    *_, why, length = await ended(house)
    assert why == "gone"
    assert length == pytest.approx(seconds(tmp_path / "m.wav"))
    assert length > 0.1


async def test_a_file_that_cannot_be_made_is_told_of(
    house: House, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken").write_bytes(b"not a folder")
    house.called("a")
    record(house, tmp_path / "taken" / "m.wav")
    assert await ended(house) == ("c", "a", "failed", 0.0)
    assert "taken" in capfd.readouterr().err
    assert await house.relay.stop_recording("c", "a") == 0.0


async def test_a_disk_that_fails_half_way_is_told_of_and_so_is_whoever_stops_it(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: VoiceFile, *_: object) -> None:
        raise OSError(28, "No space left on device")

    house.called("a")
    house.called("b")
    for branch in "ab":
        record(house, tmp_path / f"{branch}.wav", branch=branch)
    await until((tmp_path / "b.wav").exists, "both files", seconds=5)
    await asyncio.sleep(0.05)
    monkeypatch.setattr(VoiceFile, "add", full)
    with pytest.raises(OurError):
        await house.relay.stop_recording("c", "b")
    assert (await ended(house))[:3] == ("c", "a", "failed")


async def test_a_disk_that_hangs_keeps_nobody_waiting(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording_module, "DISK_S", 0.3)
    goes_on = threading.Event()
    write = VoiceFile.add

    def slow(self: VoiceFile, packets: list[object], until: float) -> bool:
        goes_on.wait(10)
        return write(self, packets, until)  # type: ignore[arg-type]

    monkeypatch.setattr(VoiceFile, "add", slow)
    house.called("a")
    record(house, tmp_path / "m.wav")
    assert (await ended(house))[2] == "failed"
    goes_on.set()


async def test_one_branch_is_recorded_once_at_a_time_but_again_and_while_it_is_joined(
    house: House, tmp_path: Path
) -> None:
    a, b = house.called("a"), house.called("b")
    house.relay.join("c", "a", "b")
    record(house, tmp_path / "1.wav")
    with pytest.raises(OurError):
        record(house, tmp_path / "2.wav")
    a.say(bytes([QUIETER]) * 160)
    assert await b.hears() == bytes([QUIETER]) * 160
    assert await house.relay.stop_recording("c", "a") == 0.02
    record(house, tmp_path / "2.wav")
    assert await house.relay.stop_recording("c", "a") == 0.0
    with pytest.raises(OurError):
        record(house, tmp_path / "3.wav", branch="nobody")


async def test_files_and_threads_are_given_back(house: House, tmp_path: Path) -> None:
    house.called("a")
    record(house, tmp_path / "first.wav")
    await house.relay.stop_recording("c", "a")
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for number in range(10):
        record(house, tmp_path / f"{number}.wav")
        await house.relay.stop_recording("c", "a")
    assert len(os.listdir("/proc/self/fd")) <= before  # those of earlier tests may end meanwhile
    assert not house.relay._recordings._running


async def test_a_recording_is_played_after_prompts_and_before_others(house: House, tmp_path: Path) -> None:
    a = house.called("a")
    record(house, tmp_path / "m.wav")
    async with Speakers({a: QUIETER}):
        await asyncio.sleep(0.2)
    length = await house.relay.stop_recording("c", "a")
    b = house.called("b")
    played = house.relay.play("c", "b", ["goodbye", f"file:{tmp_path / 'm.wav'}", "goodbye"])
    assert not isinstance(played, float)
    assert await played == pytest.approx(0.06 + length + 0.06)
    heard = [(await b.hears())[80:81] for _ in range(6 + round(length / 0.02))]
    assert await b.silent()
    middle = len(heard) - 6
    assert heard == [b"m"] * 3 + [bytes([QUIETER])] * middle + [b"m"] * 3


async def test_a_recording_that_is_not_there_leaves_silence(house: House, tmp_path: Path) -> None:
    a = house.called("a")
    house.relay.play("c", "a", ["music"], repeat=True)
    await a.hear()
    for name, status in (("nothing.wav", 404), ("goodbye.wav", 500)):
        played = house.relay.play("c", "a", [f"file:{tmp_path / name}"])
        assert not isinstance(played, float)
        with pytest.raises((OurError, TheirError)) as wrong:
            await played
        assert wrong.value.status == status
    while not await a.silent():
        pass
    with pytest.raises(OurError):
        house.relay.play("c", "a", [])
    with pytest.raises(OurError):
        house.relay.play("c", "a", ["goodbye"] * 100)


async def test_whoever_is_joined_before_a_recording_is_read_does_not_hear_it(
    house: House, tmp_path: Path
) -> None:
    a, b = house.called("a"), house.called("b")
    record(house, tmp_path / "m.wav")
    async with Speakers({a: QUIETER}):
        await asyncio.sleep(0.1)
    await house.relay.stop_recording("c", "a")
    played = house.relay.play("c", "b", [f"file:{tmp_path / 'm.wav'}"])
    assert not isinstance(played, float)
    house.relay.join("c", "a", "b")
    await played
    assert await b.silent()
    a.say(b"joined")
    assert await b.hears() == b"joined"


async def test_prompts_follow_each_other_and_go_round_together(house: House) -> None:
    a = house.called("a")
    assert house.relay.play("c", "a", ["music", "goodbye"], repeat=True) == pytest.approx(0.12)
    packets = [await a.hear() for _ in range(15)]
    house.relay.play("c", "a", ["goodbye"])
    numbers = {
        int.from_bytes(after[2:4], "big") - int.from_bytes(before[2:4], "big")
        for before, after in pairwise(packets)
    }
    assert numbers <= {1, -0xFFFF}
    assert sum(packet[1] >> 7 for packet in packets) == 1, "one talkspurt: the marker is on the first alone"
