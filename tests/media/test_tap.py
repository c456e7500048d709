"""Calls that are recorded: each ending, who comes and goes meanwhile, and what is not recorded."""

from __future__ import annotations

import asyncio
import base64
import marshal
import os
import socket
import struct
import threading
import time
import wave
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy
import pytest
from numpy.typing import NDArray

from config.errors import OurError
from media import recorder as recorder_module
from media import recording_process, rtcp
from media import tap as tap_module
from media.pictures import h264_units
from media.recorded import is_written
from media.recorder import Recorder, Tape
from media.rtp import Heard
from media.server import Profile
from media.stereo_file import PlainWriter
from tests.media.descriptions import plain
from tests.media.moving import RATE, SIZE, shown
from tests.media.relay_house import House, Phone, video, with_video
from tests.media.test_conference import QUIETER, SILENCE, Speakers
from tests.media.test_keys import called
from tests.peers.process import until

LONG = 60.0
Told = list[tuple[str, str, float]]


class _InThread:
    """The recording process as a thread of this one: the same code over the same kind of socket."""

    def __init__(self, descriptor: int) -> None:
        sock = socket.socket(fileno=os.dup(descriptor))
        self._thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
        self._thread.start()

    def _serve(self, sock: socket.socket) -> None:
        with sock:
            Recorder(sock).serve()

    def wait(self) -> None:
        self._thread.join()


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    monkeypatch.setattr(tap_module, "FLUSH_S", 0.02)
    monkeypatch.setattr(recording_process, "_spawn", _InThread)
    opened = House(tmp_path, 32)
    yield opened
    opened.relay.close()
    for phone in opened.phones:
        phone.close()


@pytest.fixture
def told(house: House) -> Told:
    news: Told = []
    house.relay._taps._on_tapped = lambda *each: news.append(each)
    return news


def tap(house: House, path: Path, **wishes: Any) -> Awaitable[None]:
    return house.relay.tap("c", "a", "b", str(path), **({"limit_s": LONG} | wishes))


def tap_of(house: House, call: str, path: Path) -> Awaitable[None]:
    return house.relay.tap(call, "a", "b", str(path), limit_s=LONG)


def read(path: Path) -> NDArray[numpy.int16]:
    """Left and right."""
    with wave.open(str(path), "rb") as file:
        assert (file.getnchannels(), file.getsampwidth()) == (2, 2)
        return numpy.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2)


def spoken(sound: NDArray[numpy.int16]) -> tuple[float, float]:
    """Seconds of each side in which something is said."""
    left, right = (numpy.abs(sound.astype(int)) > 1000).sum(axis=0) / 8000
    return float(left), float(right)


async def ended(told: Told) -> tuple[str, str, float]:
    await until(lambda: bool(told), "the news of the end", seconds=5)
    await asyncio.sleep(0.05)
    (news,) = told
    return news


async def test_it_is_ended_and_nobody_is_told(house: House, told: Told, tmp_path: Path) -> None:
    a, b = house.called("a"), house.called("b")
    await tap(house, tmp_path / "x.wav")
    async with Speakers({a: QUIETER, b: SILENCE}):
        await asyncio.sleep(0.5)
    seconds = await house.relay.end_tap("c")
    sound = read(tmp_path / "x.wav")
    assert seconds == len(sound) / 8000
    left, right = spoken(sound)
    assert left == pytest.approx(0.5, abs=0.15)
    assert right == 0
    assert await house.relay.end_tap("c") == 0.0
    assert told == []
    for branch in "ab":
        assert house.relay._leg("c", branch).carried[0].taken[0], "packets pass untouched again"


async def test_it_ends_at_its_limit(house: House, told: Told, tmp_path: Path) -> None:
    a, _ = house.called("a"), house.called("b")
    async with Speakers({a: QUIETER}):
        await tap(house, tmp_path / "x.wav", limit_s=0.4)
        call, why, seconds = await ended(told)
    assert (call, why) == ("c", "limit")
    assert seconds == pytest.approx(0.4)
    assert len(read(tmp_path / "x.wav")) == 3200
    assert await house.relay.end_tap("c") == 0.0


async def test_one_may_go_and_come_again_and_its_side_is_silent_meanwhile(
    house: House, told: Told, tmp_path: Path
) -> None:
    a = house.called("a")
    await tap(house, tmp_path / "x.wav")
    async with Speakers({a: QUIETER}):
        for _ in range(2):
            b = house.called("b")
            async with Speakers({b: QUIETER}):
                await asyncio.sleep(0.3)
            house.relay.drop("c", "b")
            await asyncio.sleep(0.3)
    assert told == []
    seconds = await house.relay.end_tap("c")
    left, right = spoken(read(tmp_path / "x.wav"))
    assert left > seconds - 0.25
    assert right == pytest.approx(0.6, abs=0.2)


@pytest.mark.parametrize("how", ["dropped", "deleted"])
async def test_it_ends_when_neither_is_there(house: House, told: Told, tmp_path: Path, how: str) -> None:
    a, _ = house.called("a"), house.called("b")
    await tap(house, tmp_path / "x.wav")
    async with Speakers({a: QUIETER}):
        await asyncio.sleep(0.3)
    if how == "deleted":
        house.relay.delete("c")
    else:
        house.relay.drop("c", "a")
        await asyncio.sleep(0.05)
        assert told == []
        house.relay.drop("c", "b")
    call, why, seconds = await ended(told)
    assert (call, why) == ("c", "gone")
    assert seconds == len(read(tmp_path / "x.wav")) / 8000


async def test_what_cannot_be_is_refused_and_leaves_nothing_behind(
    house: House, told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OurError, match="must be there"):
        tap(house, tmp_path / "x.wav")
    house.called("a")
    for name, wishes in (("x.mp3", {}), ("x.mka", {"video": True}), ("x.mka", {"key": b"short"})):
        with pytest.raises(OurError):
            tap(house, tmp_path / name, **wishes)
    with pytest.raises(OurError, match="Two branches"):
        house.relay.tap("c", "a", "a", str(tmp_path / "x.wav"), limit_s=LONG)
    (tmp_path / "there.wav").write_bytes(b"something")
    with pytest.raises(OurError, match="failed"):
        await tap(house, tmp_path / "there.wav")
    assert (tmp_path / "there.wav").read_bytes() == b"something"
    await tap(house, tmp_path / "x.wav")
    with pytest.raises(OurError, match="already"):
        tap(house, tmp_path / "y.wav")
    monkeypatch.setattr(tap_module, "MOST_TAPS", 1)
    house.called("a", call="d")
    with pytest.raises(OurError, match="too many") as many:
        house.relay.tap("d", "a", "b", str(tmp_path / "z.wav"), limit_s=LONG)
    assert many.value.status == 503
    assert await house.relay.end_tap("c") >= 0
    assert told == [], "whoever asked has been told already"


async def test_a_disk_that_fails_half_way_is_told_of_and_so_is_whoever_ends_it(
    house: House, told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.called("a")
    house.called("a", call="d")
    await tap(house, tmp_path / "x.wav")
    await house.relay.tap("d", "a", "b", str(tmp_path / "y.wav"), limit_s=LONG)

    def full(self: PlainWriter, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(PlainWriter, "head", full)
        ending = house.relay.end_tap("d")
        with pytest.raises(OurError, match="failed"):
            await ending
        assert (await ended(told))[:2] == ("c", "failed: No space left on device")
    await tap(house, tmp_path / "z.wav")
    assert await house.relay.end_tap("c") >= 0


@pytest.mark.parametrize("lost", [False, True], ids=["", "and then fails"])
async def test_a_recorder_that_is_behind_completes_its_file_though_nobody_waits_for_it(
    house: House,
    told: Told,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    lost: bool,
) -> None:
    path, go_on, close = tmp_path / "x.wav", threading.Event(), Tape.close

    def late(self: Tape, until: float) -> float:
        assert go_on.wait(20)
        if lost:
            raise OSError(28, "No space left on device")
        return close(self, until)

    monkeypatch.setattr(tap_module, "DISK_S", 0.1)
    monkeypatch.setattr(Tape, "close", late)
    a = house.called("a")
    await tap(house, path)
    async with Speakers({a: QUIETER}):
        await asyncio.sleep(0.6)
    seconds = await house.relay.end_tap("c")
    assert seconds == pytest.approx(0.6, abs=0.3)
    assert not is_written(path, 0.0)
    assert house.relay._taps._running, "it is waited for all the same"
    go_on.set()
    await house.relay.finish_recordings()
    assert is_written(path, 0.0)
    assert told == []
    assert ("No space left" in capfd.readouterr().err) is lost
    if not lost:
        assert len(read(path)) == pytest.approx(seconds * 8000, abs=1)
        await tap(house, tmp_path / "y.wav")
        assert await house.relay.end_tap("c") >= 0


async def test_a_file_for_which_whoever_wanted_it_did_not_wait_is_not_left_there(
    house: House, told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, made = threading.Event(), Tape.__init__

    def late(self: Tape, *given: Any, **more: Any) -> None:
        assert go_on.wait(20)
        made(self, *given, **more)

    house.called("a")
    with monkeypatch.context() as patched:
        patched.setattr(tap_module, "START_S", 0.1)
        patched.setattr(Tape, "__init__", late)
        with pytest.raises(OurError, match="failed"):
            await tap(house, tmp_path / "x.wav")
    go_on.set()
    await tap(house, tmp_path / "y.wav")
    assert await house.relay.end_tap("c") >= 0
    assert [path.name for path in tmp_path.glob("[xy].wav")] == ["y.wav"]


@pytest.mark.parametrize("wanted", [True, False])
async def test_a_wav_ends_when_pictures_come_that_are_wanted(
    house: House, told: Told, tmp_path: Path, wanted: bool
) -> None:
    a = house.called("a")
    await tap(house, tmp_path / "x.wav", video=wanted)
    async with Speakers({a: QUIETER}):
        await asyncio.sleep(0.4)
        house.relay.answer("c", "a", with_video(plain(a.port), 4002))
        if wanted:
            call, why, seconds = await ended(told)
            assert (call, why) == ("c", "pictures")
            assert seconds == len(read(tmp_path / "x.wav")) / 8000
            assert spoken(read(tmp_path / "x.wav"))[0] == pytest.approx(0.4, abs=0.2)
            await tap(house, tmp_path / "x.mkv", video=True)
        await asyncio.sleep(0.2)
        assert house.relay.pause_tap("c", False), "it is recorded"
        assert await house.relay.end_tap("c") > 0.1


async def test_a_recorder_that_cannot_keep_up_fails_and_nothing_grows(
    house: House,
    told: Told,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    house.called("a")
    await tap(house, tmp_path / "x.wav")
    running = house.relay._taps._of_call["c"]
    for number in range(3 * tap_module.MOST_PACKETS):
        running.put_aside(0, "pcmu", 8000, Heard(False, number & 0xFFFF, number * 160, 7, bytes(160), 1.0))
    assert len(running._packets) == tap_module.MOST_PACKETS
    monkeypatch.setattr(recording_process, "MOST_BEHIND", -1)
    assert (await ended(told))[:2] == ("c", "failed: the recording process cannot keep up")
    assert "keep up" in capfd.readouterr().err
    assert not house.relay._taps._running


async def test_many_are_shared_out_among_processes_which_end_but_for_one(
    house: House, told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording_process, "FULL", 2)
    monkeypatch.setattr(recording_process, "MOST_PROCESSES", 2)
    processes = house.relay._taps._processes
    for number in range(5):
        house.called("a", call=f"{number}")
    await asyncio.gather(*(tap_of(house, f"{n}", tmp_path / f"{n}.wav") for n in range(5)))
    assert sorted(len(place.taps) for place in processes._places) == [2, 3]
    await asyncio.sleep(0.1)
    await asyncio.gather(*(house.relay.end_tap(f"{n}") for n in range(5)))
    assert len(processes) == 1
    for number in range(5):
        assert len(read(tmp_path / f"{number}.wav")) > 0
    await tap_of(house, "4", tmp_path / "again.wav")
    assert await house.relay.end_tap("4") >= 0
    assert told == []


def test_a_recorder_that_is_behind_says_all_the_same_that_it_is_alive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It answers in the order it is asked; but one that works through much is not stuck."""

    def said(messages: list[list[Any]]) -> list[Any]:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            for message in messages:
                body = marshal.dumps(message)
                ours.sendall(len(body).to_bytes(4, "big") + body)
            ours.shutdown(socket.SHUT_WR)
            Recorder(theirs).serve()
            theirs.close()
            found, data = [], ours.recv(1 << 16)
            while data:
                size = int.from_bytes(data[:4], "big")
                found.append(marshal.loads(data[4 : 4 + size]))
                data = data[4 + size :]
            return found

    work = [[1, "add", 0.3, []]] * 3
    monkeypatch.setattr(recorder_module, "ALIVE_S", 0.0)
    assert said(work) == [[0, "alive"]] * 3
    monkeypatch.setattr(recorder_module, "ALIVE_S", 1000.0)
    monkeypatch.setattr(time, "monotonic", lambda: 5000.0)
    assert said([*work, [0, "alive"], *work]) == [[0, "alive"]] * 2, (
        "once at first, and once when it is asked"
    )


async def test_a_process_that_cannot_be_started_is_told_of_and_tried_again(
    house: House, told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> _InThread:
        raise OSError(11, "Resource temporarily unavailable")

    house.called("a")
    with monkeypatch.context() as patched:
        patched.setattr(recording_process, "_spawn", full)
        with pytest.raises(OurError, match="failed"):
            await tap(house, tmp_path / "x.wav")
    assert len(house.relay._taps._processes) == 0
    await tap(house, tmp_path / "y.wav")
    assert await house.relay.end_tap("c") >= 0


async def test_keys_are_told_and_what_is_played_is_not_recorded(
    house: House, told: Told, tmp_path: Path
) -> None:
    a = called(house, "a", 101)
    house.called("b")
    await tap(house, tmp_path / "x.wav")
    house.relay.play("c", "b", ["music"], repeat=True)
    a.say(b"\x05\x0a\x00\xa0", kind=101)
    await until(lambda: house.pressed == [("c", "a", "5")], "the key", seconds=2)
    await asyncio.sleep(0.2)
    await house.relay.end_tap("c")
    assert spoken(read(tmp_path / "x.wav")) == (0, 0)


async def test_while_paused_time_goes_on_in_silence(house: House, told: Told, tmp_path: Path) -> None:
    a, b = house.called("a"), house.called("b")
    assert not house.relay.pause_tap("c", True)
    await tap(house, tmp_path / "x.wav")
    async with Speakers({a: QUIETER, b: QUIETER}):
        await asyncio.sleep(0.3)
        for paused in (True, True, False):
            assert house.relay.pause_tap("c", paused)
            await asyncio.sleep(0.3)
    seconds = await house.relay.end_tap("c")
    assert seconds > 1.1
    for said in spoken(read(tmp_path / "x.wav")):
        assert said == pytest.approx(seconds - 0.6, abs=0.2)


async def asked_for_key_frames(phone: Phone) -> int:
    """How often since this was last asked."""
    await asyncio.sleep(0.15)
    asked = 0
    while True:
        try:
            data = phone.sock.recv(2048)
        except BlockingIOError:
            return asked
        kind, count, body = rtcp.packets(data)[-1]
        asked += (kind, count, body[4:]) == (rtcp.PSFB, rtcp.PLI, phone.ssrc.to_bytes(4, "big"))


async def test_a_key_frame_is_asked_for_as_long_as_it_is_needed_and_ever_more_seldom(
    house: House, told: Told, tmp_path: Path
) -> None:
    phone = house.phone()
    phone.heard_answer(house.relay.answer("c", "a", video(phone.port)))
    phone.say(b"picture", kind=96)
    await asyncio.sleep(0.05)
    await tap(house, tmp_path / "x.mka")
    assert await asked_for_key_frames(phone) == 0, "nobody looks at pictures"
    stream = house.relay._leg("c", "a").carried[0]
    assert stream.taken[96]
    await house.relay.end_tap("c")

    await tap(house, tmp_path / "x.mkv", video=True)
    assert await asked_for_key_frames(phone) == 1
    house.relay.pause_tap("c", True)
    for _ in range(2):
        house.later += 5.0
        house.relay.pause_tap("c", False)
        house.relay.pause_tap("c", True)
        house.relay.pause_tap("c", False)
        assert await asked_for_key_frames(phone) == 1, "one, though it was resumed twice"
    asked = []
    for _ in range(8):
        for _ in range(2):
            phone.say(b"\x10\x01of no key frame", kind=96)
        await asyncio.sleep(0.05)
        house.later += 1.0
        asked.append(await asked_for_key_frames(phone))
    assert asked[0] == 1
    assert set(asked) == {0, 1}
    assert 2 <= sum(asked) <= 4, "after 1, 2 and 4 s"
    await house.relay.end_tap("c")
    assert stream.taken[96]


@pytest.mark.parametrize("which", ["offer", "answer"])
async def test_h264_whose_parameter_sets_stand_only_in_its_sdp_is_seen(
    house: House, told: Told, tmp_path: Path, which: str
) -> None:
    sets, *packets = shown("h264", 9)
    named = ",".join(base64.b64encode(unit).decode() for unit in h264_units([sets.payload]))
    phone = house.phone()
    theirs = video(phone.port).replace(b"VP8/90000\r\n", b"H264/90000\r\na=fmtp:96 packetization-mode=1\r\n")
    known = theirs.replace(b"mode=1", b"mode=1; sprop-parameter-sets=" + named.encode())
    if which == "offer":
        phone.heard_answer(house.relay.answer("c", "a", known))
        number = 96
    else:
        other = house.phone()
        other.heard_answer(house.relay.answer("c", "b", theirs))
        offered = phone.heard_answer(house.relay.offer("c", "a", profile=Profile.RTP, like="b"))
        number = int(offered.formats[0])
        house.relay.accept("c", "a", known.replace(b"96", b"%d" % number))
    await tap(house, tmp_path / "x.mkv", video=True)
    house.relay.pause_tap("c", True)
    house.relay.pause_tap("c", False)
    for packet in packets:
        head = struct.pack(
            "!BBHII", 0x80, number | 0x80 * packet.marker, packet.seq, packet.timestamp, packet.ssrc
        )
        phone.sock.sendto(head + packet.payload, phone.to)
        await asyncio.sleep(packet.marker / RATE)
    await house.relay.end_tap("c")
    with av.open(str(tmp_path / "x.mkv")) as file:
        seen = [(frame.width, frame.height) for frame in file.decode(video=0)]
    assert seen == [SIZE] * 9


async def test_those_in_a_conference_are_recorded_too(house: House, told: Told, tmp_path: Path) -> None:
    a, b, x = (house.called(branch) for branch in "abx")
    await tap(house, tmp_path / "x.wav")
    house.relay.confer("c", ["a", "b", "x"])
    async with Speakers({a: QUIETER, b: SILENCE, x: QUIETER}):
        await asyncio.sleep(0.4)
    await house.relay.end_tap("c")
    left, right = spoken(read(tmp_path / "x.wav"))
    assert left > 0.2
    assert right == 0, "what it hears of the third is not what it says"


async def test_the_process_ends_and_all_files_are_complete(house: House, told: Told, tmp_path: Path) -> None:
    a, _ = house.called("a"), house.called("b")
    await tap(house, tmp_path / "x.wav")
    async with Speakers({a: QUIETER}):
        await asyncio.sleep(0.3)
    await house.relay.finish_recordings()
    left, _ = spoken(read(tmp_path / "x.wav"))
    assert left > 0.15
    assert [news[:2] for news in told] == [("c", "gone")]
