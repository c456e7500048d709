"""Recording branches: packets are put aside as they come, and a thread makes files of them."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from config.errors import OurError
from media.leg import Leg
from media.rtp import Heard

if TYPE_CHECKING:
    from media.voice_file import VoiceFile

# What a file is behind by when this process is killed.
FLUSH_S = 0.5
# A disk that takes longer has failed: whoever asked is not left waiting for it.
DISK_S = 5.0
# Put aside at once: what a phone sends while the disk takes as long as it may.
MOST_PACKETS = 500
MOST_RECORDINGS = 200
END_KEY = "#"
NARROW_CODECS = ("pcma", "pcmu")


class Recording:
    """Of one branch. Its endings: `end`, its limit, silence, a file that fails."""

    def __init__(
        self,
        path: Path,
        rate: int,
        *,
        limit_s: float,
        silence_s: float,
        threads: Executor,
        now: Callable[[], float],
        on_ended: Callable[[str, float], None],
    ) -> None:
        self._path = path
        self._rate = rate
        self._limit_s = limit_s
        self._silence_s = silence_s
        self._threads = threads
        self._now = now
        self._on_ended = on_ended
        self._packets: list[Any] = []
        self._why = ""
        self.failed = False
        self._asked = asyncio.Event()
        self._running = asyncio.get_running_loop().create_task(self._run())

    def heard(self, codec: str, clock: int, packet: Heard) -> None:
        if len(self._packets) < MOST_PACKETS and not self._why:
            self._packets.append((codec, clock, packet.ssrc, packet.timestamp, packet.payload, packet.at))

    def end(self, why: str) -> asyncio.Task[float]:
        """The first reason stands; the seconds recorded, once the file is complete (or has `failed`)."""
        self._why = self._why or why
        self._asked.set()
        return self._running

    async def _run(self) -> float:
        began = voice_at = self._now()
        file: VoiceFile | None = None
        try:
            file = await self._in_thread(_opened, self._path, self._rate, self._limit_s)
            while not self._why:
                await self._pause(min(FLUSH_S, began + self._limit_s - self._now()))
                now = self._now()
                if await self._in_thread(_add, file, self._taken(), now):
                    voice_at = now
                if file.full or now - began >= self._limit_s:
                    self.end("limit")
                elif now - voice_at >= self._silence_s:
                    self.end("silence")
            await self._in_thread(_close, file, self._taken(), self._now())
        except Exception as error:  # of the disk, or a defect of ours: whoever waits is told
            sys.stderr.write(f"media: the recording {self._path} failed: {error!r}\n")
            self._why, self.failed = "failed", True
        seconds = file.seconds if file is not None else 0.0
        self._on_ended(self._why, seconds)
        return seconds

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._asked.wait(), seconds)

    def _taken(self) -> list[Any]:
        packets, self._packets = self._packets, []
        return packets

    async def _in_thread(self, work: Callable[..., Any], *arguments: Any) -> Any:
        done = asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)
        return await asyncio.wait_for(done, DISK_S)


def _opened(path: Path, rate: int, most_s: float) -> VoiceFile:
    from media.voice_file import VoiceFile  # it brings the codecs, in this thread

    file = VoiceFile(path, rate, most_s)
    file.open()
    return file


def _add(file: VoiceFile, packets: list[Any], until: float) -> bool:
    from media.voice_file import Spoken

    return file.add([Spoken(*each) for each in packets], until)


def _close(file: VoiceFile, packets: list[Any], until: float) -> None:
    _add(file, packets, until)
    file.close(until)


class Recordings:
    """All that are running; `on_recorded` as in `MediaServer`."""

    def __init__(
        self,
        threads: Executor,
        now: Callable[[], float],
        on_recorded: Callable[[str, str, str, float], None],
    ) -> None:
        self._threads = threads
        self._now = now
        self._on_recorded = on_recorded
        self._running: set[Recording] = set()
        self._stopped: set[Recording] = set()

    def start(self, leg: Leg, path: Path, *, limit_s: float, silence_s: float) -> None:
        """Raises OurError."""
        if leg.recording is not None:
            raise OurError(f"Branch {leg.branch} of call {leg.call} is being recorded already")
        if len(self._running) >= MOST_RECORDINGS:
            raise OurError("There are too many recordings", 503)
        speech = leg.speech()
        narrow = speech is None or speech[1].name.lower() in NARROW_CODECS
        recording = Recording(
            path,
            8000 if narrow else 16000,
            limit_s=limit_s,
            silence_s=silence_s,
            threads=self._threads,
            now=self._now,
            on_ended=lambda why, seconds: self._ended(leg, recording, why, seconds),
        )
        self._running.add(recording)
        leg.recording = recording
        leg.take()

    async def stop(self, leg: Leg) -> float:
        """Raises OurError."""
        recording = leg.recording
        if recording is None:
            return 0.0
        self._stopped.add(recording)
        seconds = await self.end(leg, "asked for")
        if recording.failed:
            raise OurError("The recording failed")
        return seconds

    def end(self, leg: Leg, why: str) -> asyncio.Future[float]:
        """Of a leg that is being recorded."""
        recording = leg.recording
        assert recording is not None
        leg.recording = None
        leg.take()
        return recording.end(why)

    async def finish(self) -> None:
        """Complete all files; the process ends."""
        await asyncio.gather(*(recording.end("gone") for recording in self._running))

    def _ended(self, leg: Leg, recording: Recording, why: str, seconds: float) -> None:
        self._running.discard(recording)
        if leg.recording is recording:
            leg.recording = None
            leg.take()
        if recording in self._stopped:
            self._stopped.discard(recording)
        else:
            self._on_recorded(leg.call, leg.branch, why, seconds)
