"""Calls recorded with real phones and pages: who agreed, what is in the file, who hears it, and what a crash leaves."""

from __future__ import annotations

import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy
from playwright.async_api import Locator, expect

from media.recorded import open_recorded
from tests.peers.agent_page import AgentPage
from tests.peers.baresip import Baresip
from tests.peers.people import (
    BOILER_ARTICLE,
    Reader,
    make_ready,
    make_ready_by_page,
    phone,
    phone_hears,
)
from tests.peers.process import until
from tests.peers.warmline import Warmline

PCMU: dict[str, Any] = {"audio_codecs": "pcmu/8000/1", "video": False}
ANA, CUSTOMER, MARIA = 880, 1500, 620
KEY = "5e" * 32


def recording_server(folder: Path, mode: str, **settings: object) -> Warmline:
    queue = {"name": "default", "recording": mode, "comfort_s": 0}
    return Warmline(folder, queues=json.dumps([queue]), recording_format="wav", **settings)


@dataclass
class Call:
    """Ana talks to a customer on the telephone."""

    server: Warmline
    contact: str
    ana: Baresip
    customer: Baresip
    page: AgentPage

    async def does(self, what: str) -> None:
        status, page = await self.page.post(f"/agent/contacts/{self.contact}/do/{what}", {})
        assert status == 200, page


@asynccontextmanager
async def talking(tmp_path: Path, server: Warmline, key: str = "") -> AsyncIterator[Call]:
    """`key` is what the customer presses when they are asked."""
    async with (
        server,
        phone(tmp_path, server, "ana", tone=ANA, **PCMU) as ana,
        Baresip(
            tmp_path, user="+15550100001", password="", domain="127.0.0.1", registrar_port=server.sip_port,
            tone=CUSTOMER, register=False, sip_port=server.trunk_port, **PCMU,
        ) as customer,
    ):  # fmt: skip
        await make_ready_by_page(server, "ana")
        page = AgentPage(server.portal)
        await page.log_in("ana", "ana-agent")
        await customer.dial("sip:+15550200@127.0.0.1")
        if key:
            await server.event("contact.invited")
            await customer.event("CALL_ESTABLISHED")
            await customer.command("sndcode", key)
        await ana.event("CALL_INCOMING", seconds=30)
        await ana.accept()
        contact = str((await server.event("contact.connected"))["contact_id"])
        await until(lambda: phone_hears(ana, CUSTOMER), "the customer's tone at Ana's phone")
        await until(lambda: phone_hears(customer, ANA), "Ana's tone at the customer's phone")
        yield Call(server, contact, ana, customer, page)


def sides(sound: bytes | Path, folder: Path) -> list[tuple[int, int]]:
    """Of each half second the tones (Hz) on the left and on the right, 0 for silence."""
    path = sound if isinstance(sound, Path) else folder / "heard.sound"
    if isinstance(sound, bytes):
        path.write_bytes(sound)
    with av.open(str(path)) as container:
        resampler = av.AudioResampler(format="s16p", layout="stereo", rate=16000)
        pieces = [
            piece.to_ndarray() for frame in container.decode(audio=0) for piece in resampler.resample(frame)
        ]
    both = numpy.concatenate(pieces, axis=1).astype(float)
    return [
        (tone(both[0, at : at + 8000]), tone(both[1, at : at + 8000]))
        for at in range(0, both.shape[1] - 8000, 8000)
    ]


def tone(samples: Any) -> int:
    if numpy.abs(samples).max() < 300:
        return 0
    spectrum = numpy.abs(numpy.fft.rfft(samples * numpy.hanning(len(samples))))
    return round(float(spectrum.argmax()) * 16000 / len(samples))


def both_speak(half_second: tuple[int, int]) -> bool:
    left, right = half_second
    return abs(left - CUSTOMER) < 20 and abs(right - ANA) < 20


async def test_asked_recorded_sealed_paused_and_heard_by_a_supervisor_alone(tmp_path: Path) -> None:
    server = recording_server(tmp_path, "ask", recording_key=KEY)
    async with talking(tmp_path, server, key="1") as call:
        await server.event("contact.recording_started")
        await until(lambda: _seconds_since(server, "contact.recording_started") > 3, "three seconds of both")
        await call.does("pause-recording")
        await until(
            lambda: _seconds_since(server, "contact.recording_paused") > 3, "three seconds of silence"
        )
        await call.does("resume-recording")
        await until(lambda: _seconds_since(server, "contact.recording_resumed") > 3, "three seconds more")
        await call.customer.hang_up()
        ended = await server.event("contact.recording_ended")
        assert ended["facts"]["kept"], ended

        said = [
            (row["facts"]["party"], row["facts"]["given"], row["facts"]["how"])
            for row in server.events(call.contact)
            if row["kind"] == "contact.recording_consent"
        ]
        assert said == [("customer", True, "pressed 1"), ("agent", True, "terms of work")]
        recording = str(ended["facts"]["recording"])
        file = server.folder / "data" / "recordings" / f"{recording}.wav"
        assert b"RIFF" not in file.read_bytes()[:64], "it is not sealed"

        path = f"/agent/recordings/{recording}/sound"
        assert (await server.get(path))[0] == 401
        assert (await call.page.get(path))[0] == 404
        carla = AgentPage(server.portal)
        await carla.log_in("carla", "carla-agent")
        heard = await carla.download(path)
        played = await server.event("recording.played")
        assert (played["agent_id"], played["facts"]["address"]) == ("agent-carla", "127.0.0.1")

        halves = sides(heard, tmp_path)
        quiet = [at for at, half in enumerate(halves) if half == (0, 0)]
        assert len(quiet) >= 5, halves
        assert quiet == list(range(quiet[0], quiet[-1] + 1)), halves
        before, after = halves[: quiet[0] - 1], halves[quiet[-1] + 2 :]
        assert len(before) >= 4, halves
        assert len(after) >= 4, halves
        assert all(both_speak(half) for half in (*before[1:], *after)), halves


def _seconds_since(server: Warmline, kind: str) -> float:
    at = [row["at"] for row in server.events() if row["kind"] == kind]
    return time.time() - at[-1] if at else 0.0


async def test_who_does_not_press_is_not_recorded(tmp_path: Path) -> None:
    server = recording_server(tmp_path, "ask")
    async with talking(tmp_path, server) as call:
        assert "contact.recording_started" not in server.kinds()
        (said,) = [row for row in server.events(call.contact) if row["kind"] == "contact.recording_consent"]
        assert (said["facts"]["given"], said["facts"]["how"]) == (False, "pressed nothing")
        assert "they did not want it" in (await call.page.get("/agent"))[1]
        await call.customer.hang_up()
        await server.event("contact.ended")
        folder = server.folder / "data" / "recordings"
        assert not folder.exists() or not os.listdir(folder)


async def test_kill_9_in_the_middle_leaves_what_was_said_up_to_then(tmp_path: Path) -> None:
    server = recording_server(tmp_path, "always")
    async with talking(tmp_path, server):
        started = await server.event("contact.recording_started")
        await until(lambda: _seconds_since(server, "contact.recording_started") > 4, "four seconds of both")
        await server.kill()
        await server.start()
        ended = await server.event("contact.recording_ended")
        assert (ended["facts"]["why"], ended["facts"]["kept"]) == ("server died", True)
        assert ended["facts"]["seconds"] >= 3.0
        (row,) = server.rows("SELECT * FROM recording")
        assert (row["state"], row["id"]) == ("cut", started["facts"]["recording"])
        halves = sides(server.folder / "data" / "recordings" / row["file"], tmp_path)
        assert all(both_speak(half) for half in halves[2:-1]), halves
        assert len(halves) >= 6, halves


async def test_a_video_call_is_told_of_recorded_stopped_and_played_in_a_browser(tmp_path: Path) -> None:
    server = recording_server(tmp_path, "announce", recording_key=KEY)
    async with (
        server,
        phone(tmp_path, server, "ana", tone=ANA) as ana,
        Reader(tmp_path, server, BOILER_ARTICLE) as maria,
    ):
        await make_ready(server, ana)
        await maria.ask_for("video")
        told = maria.page.locator("#recording-words")
        await expect(told).to_have_text("This call will be recorded.")
        await ana.event("CALL_INCOMING", seconds=30)
        await ana.accept()
        await maria.reaches("connected")
        await expect(told).to_have_text("Recorded")
        await until(maria.sees_moving_pictures, "the agent's moving picture in the browser")
        await server.event("contact.recording_started")
        await until(lambda: _seconds_since(server, "contact.recording_started") > 5, "five seconds of both")
        await maria.page.click("#recording-no")
        await expect(told).to_have_text("No longer recorded. What was recorded until now is kept.")
        await expect(maria.page.locator("#recording-yes")).to_have_text("Record again")
        ended = await server.event("contact.recording_ended")
        assert ended["facts"]["why"] == "consent withdrawn"
        assert await maria.in_state("connected")
        await maria.hang_up()

        page = await maria.page.context.new_page()
        await page.goto(f"{server.portal}/agent/login")
        await page.fill("[name=login]", "carla")
        await page.fill("[name=password]", "carla-agent")
        await page.click("button[type=submit]")
        await page.goto(f"{server.portal}/agent/recordings")
        player = page.locator("video")
        await player.evaluate("video => { video.muted = true; return video.play(); }")
        await until(lambda: player.evaluate("video => video.currentTime > 1"), "a second of it to be played")
        shown = await player.evaluate(
            "video => ({width: video.videoWidth, seconds: video.duration, fault: video.error?.message ?? null})"
        )
        assert shown["fault"] is None
        assert shown["width"] > 0
        assert 4 < shown["seconds"] < 30, shown
        await player.evaluate("video => { video.currentTime = 3; }")
        await until(lambda: player.evaluate("video => video.currentTime > 3.2"), "it to be played from there")
        assert [row["agent_id"] for row in server.events() if row["kind"] == "recording.played"] == [
            "agent-carla"
        ]


async def test_a_voice_call_that_pictures_join_and_leave_is_kept_with_both_and_played_in_a_browser(
    tmp_path: Path,
) -> None:
    queue = {"name": "default", "recording": "announce", "comfort_s": 0}
    server = Warmline(tmp_path, queues=json.dumps([queue]), recording_key=KEY)
    async with (
        server,
        phone(tmp_path, server, "ana", tone=ANA) as ana,
        Reader(tmp_path, server, BOILER_ARTICLE) as maria,
    ):
        await make_ready(server, ana)
        await maria.ask_for("voice")
        await ana.event("CALL_INCOMING", seconds=30)
        await ana.accept()
        await maria.reaches("connected")
        await until(lambda: maria.hears_tone(ANA), "Ana's tone in the page", seconds=30)
        await until(lambda: phone_hears(ana, MARIA), "Maria's tone at Ana's phone", seconds=30)
        started = await server.event("contact.recording_started")
        assert started["facts"]["kinds"] == "audio"
        await until(lambda: _seconds_since(server, "contact.recording_started") > 4, "four seconds of sound")
        without = _seconds_since(server, "contact.recording_started")
        await maria.page.click("#help-video")
        await until(maria.sees_moving_pictures, "Ana's moving picture in the page", seconds=30)
        seen = time.monotonic()
        await until(lambda: time.monotonic() - seen > 4, "four seconds of both")
        await maria.page.click("#help-video")
        dropped = time.monotonic()
        await until(lambda: time.monotonic() - dropped > 4, "four seconds of sound again")
        await maria.hang_up()
        ended = await server.event("contact.recording_ended")
        assert ended["facts"]["kept"]
        (row,) = server.rows("SELECT * FROM recording")
        assert (row["kinds"], row["state"]) == ("audio,video", "kept")

        with open_recorded(server.folder / "data" / "recordings" / row["file"], bytes.fromhex(KEY)) as file:
            laid_open = tmp_path / "call.webm"
            laid_open.write_bytes(file.read(0, file.size))
        halves = sides(laid_open, tmp_path)
        speak = [abs(left - MARIA) < 20 and abs(right - ANA) < 20 for left, right in halves[2:-1]]
        assert sum(speak) > len(speak) * 0.8, halves
        first = 0.0
        for track in (1, 0):
            with av.open(str(laid_open)) as container:
                times = [frame.time or 0.0 for frame in container.decode(video=track)]
            first, last = times[0], times[-1]
            assert first > without, "no picture before there was one"
            assert first + 2 < last < row["seconds"] - 2, "and none when they were dropped"
            assert len(times) > 10

        page = await maria.page.context.new_page()
        await page.goto(f"{server.portal}/agent/login")
        await page.fill("[name=login]", "carla")
        await page.fill("[name=password]", "carla-agent")
        await page.click("button[type=submit]")
        await page.goto(f"{server.portal}/agent/recordings")
        player = page.locator("video")
        await player.evaluate("video => { video.muted = true; return video.play(); }")
        await until(partial(_is_past, player, 1), "the sound before the pictures")
        for at in (first + 1.5, row["seconds"] - 2.5, 1.0):
            await player.evaluate("(video, at) => { video.currentTime = at; return video.play(); }", at)
            await until(partial(_is_past, player, at + 0.5), f"it to be played from {at:.1f} s")
        shown = await player.evaluate(
            "video => ({width: video.videoWidth, seconds: video.duration, fault: video.error?.message ?? null})"
        )
        assert shown["fault"] is None
        assert shown["width"] > 0
        assert abs(shown["seconds"] - row["seconds"]) < 0.5
        await player.evaluate("video => { video.currentTime = video.duration - 1; return video.play(); }")
        await until(lambda: player.evaluate("video => video.ended"), "it to be played to its end")


async def _is_past(player: Locator, seconds: float) -> bool:
    found: float = await player.evaluate("video => video.currentTime")
    return found > seconds
