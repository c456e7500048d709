"""Calls that are recorded: packets of two of their branches are put aside as they come, and the recording process (see
`media.recorder`) makes a file of them."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any

from config.errors import OurError
from media.control import MAX_MESSAGE
from media.leg import Leg, ask_key_frames
from media.offer_answer import Line
from media.parameter_sets import SETS, parameter_sets
from media.recording import NARROW_CODECS
from media.recording_process import RecordingProcess, RecordingProcesses
from media.rtp import Heard
from media.sealed_file import KEY_SIZE
from media.server import ALL_KINDS, AUDIO_ONLY

# With what the recording process waits for, a file is behind by less than a second when either is killed.
FLUSH_S = 0.3
# Whoever has asked for the end is not left waiting longer for a recording process that is behind.
DISK_S = 5.0
# The first recording waits for the process to start; less than whoever asked waits for an answer.
START_S = 8.0
# Put aside at once: 20 s of two voices, which is far longer than the recording process takes to start. What comes
# beyond this is lost to the recording.
MOST_PACKETS = 2000
MOST_BYTES = MAX_MESSAGE * 3 // 4
MOST_TAPS = 200
MOST_S = 12 * 3600.0
# No more often is a key frame asked for; and as seldom as this if asking does not help.
KEY_FRAME_S, PATIENCE_S = 1.0, 16.0
WAVE, WITH_PICTURES = ".wav", ".mkv"
ENDINGS = (WAVE, ".mka", WITH_PICTURES)
NARROW, WIDE = 8000, 16000
MOST_REASON = 200


class Side:
    """One of the two branches of a tap; `leg` is None while there is no such branch."""

    def __init__(self, tap: Tap, number: int, branch: str) -> None:
        self._tap = tap
        self._number = number
        self._asked_at = float("-inf")
        self._patience = KEY_FRAME_S
        self._helped = True
        self._sets: tuple[bytes, ...] = ()
        self.branch = branch
        self.leg: Leg | None = None

    def hears(self, kind: str) -> bool:
        return kind in self._tap.kinds

    def heard(self, codec: str, clock: int, packet: Heard) -> None:
        self._tap.put_aside(self._number, codec, clock, packet)

    def agreed(self, lines: Iterable[Line]) -> None:
        """What its peer said of its pictures (SDP), which some never say again among their packets."""
        video = next((line for line in lines if line.accepted and line.kind == "video"), None)
        if video is not None:
            self._tap.pictures_came()
        if video is not None and self.hears("video"):
            sets = parameter_sets(video.theirs)
            if sets and sets != self._sets:
                self._sets = sets
                self._tap.know(self._number, sets)

    def ask_key_frame(self, now: float, *, helped: bool = True) -> None:
        """`helped`: a key frame came since this was last told, if one was asked for: whole, or damaged as well."""
        self._helped = self._helped or helped
        if self.leg is None or not self.hears("video"):
            return
        if now - self._asked_at >= (KEY_FRAME_S if self._helped else self._patience):
            self._patience = KEY_FRAME_S if self._helped else min(2 * self._patience, PATIENCE_S)
            self._helped = False
            self._asked_at = now
            ask_key_frames(self.leg)


class Tap:
    """Of one call. Its endings: `end`, its limit, a file or a recording process that fails, pictures that come where
    they are wanted and the file has no place for them."""

    def __init__(
        self,
        number: int,
        branches: tuple[str, str],
        path: Path,
        *,
        rate: int,
        video: bool,
        key: bytes | None,
        limit_s: float,
        recorder: Callable[[Tap], Coroutine[Any, Any, RecordingProcess]],
        now: Callable[[], float],
        on_ended: Callable[[Tap, float], None],
    ) -> None:
        self._ends_at_pictures = video and path.suffix == WAVE
        self.kinds = ALL_KINDS if video and not self._ends_at_pictures else AUDIO_ONLY
        self.sides = tuple(Side(self, side, branch) for side, branch in enumerate(branches))
        self.why = ""
        self.reason = ""
        """Why it has failed, if it has."""
        self.seconds = 0.0
        """As long is the file when all that was put aside is in it."""
        self.paused = False
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = loop.create_future()
        self._closed: asyncio.Future[float] = loop.create_future()
        # Whoever waits for these is told; that nobody does is no defect.
        self.opened.add_done_callback(_seen)
        self._closed.add_done_callback(_seen)
        self._number = number
        self._open = [str(path), rate, self.kinds is ALL_KINDS, key]
        self._limit_s = limit_s
        self._recorder = recorder
        self._now = now
        self._on_ended = on_ended
        self._packets: list[Any] = []
        self._bytes = 0
        self._asked = asyncio.Event()
        self._began = now()
        self._running = loop.create_task(self._run())

    def put_aside(self, side: int, codec: str, clock: int, packet: Heard) -> None:
        if self.paused or self.why or len(self._packets) >= MOST_PACKETS or self._bytes >= MOST_BYTES:
            return
        marker, seq, timestamp, ssrc, payload, at = packet
        self._bytes += len(payload) + 64
        self._packets.append((side, codec, clock, marker, seq, timestamp, ssrc, payload, at - self._began))

    def know(self, side: int, sets: tuple[bytes, ...]) -> None:
        """Parameter sets: what is known once must not be lost, whatever is paused or too much."""
        self._packets.append((side, SETS, 0, False, 0, 0, 0, sets, 0.0))

    def pictures_came(self) -> None:
        """A side may show something from now on, or may have all the time."""
        if self._ends_at_pictures:
            self.end("pictures")

    def pause(self, paused: bool) -> None:
        if self.paused and not paused:
            self.paused = False
            for side in self.sides:
                side.ask_key_frame(self._now())
        self.paused = paused

    def end(self, why: str) -> asyncio.Task[float]:
        """The first reason stands; the seconds recorded, once the file is complete (or `why` is "failed"), which takes
        as long as the recording process is behind."""
        self.why = self.why or why
        self._asked.set()
        return self._running

    def told(self, what: str, fact: Any = None) -> None:
        """By the recording process."""
        if what == "key frame":
            side, helped = fact
            self.sides[side].ask_key_frame(self._now(), helped=helped)
        elif what == "failed":
            self.reason = self.reason or str(fact)[:MOST_REASON]
            for waited_for in (self.opened, self._closed):
                if not waited_for.done():
                    waited_for.set_exception(OurError(f"The recording failed: {fact}"))
            self._asked.set()
        elif what == "opened" and not self.opened.done():
            self.opened.set_result(None)
        elif what == "closed" and not self._closed.done():
            self._closed.set_result(fact)

    async def _run(self) -> float:
        recorder: RecordingProcess | None = None
        try:
            async with asyncio.timeout(START_S):
                recorder = await self._recorder(self)
                recorder.taps[self._number] = self
                recorder.say([self._number, "open", *self._open])
                self._open = []
                await asyncio.shield(self.opened)
            over = False
            while not over:
                await self._pause(min(FLUSH_S, self._limit_s - self.seconds))
                over = bool(self.why) or self._closed.done()
                self.seconds = min(self._now() - self._began, self._limit_s)
                packets, self._packets, self._bytes = self._packets, [], 0
                recorder.send([self._number, "add", self.seconds, packets])
                if self.seconds >= self._limit_s and not over:
                    self.end("limit")
            recorder.say([self._number, "close", self.seconds])
            # One that is behind gets there; one that does not is stuck, and then this fails.
            self.seconds = await self._closed
        except Exception as error:  # of that process, the disk, or a defect of ours: whoever waits is told
            self.why = "failed"
            self.told("failed", "it took too long" if isinstance(error, TimeoutError) else _words(error))
            sys.stderr.write(f"media: a recording failed: {self.reason}\n")
            if recorder is not None:  # should it be there all the same
                has_file = self.opened.exception() is None
                recorder.say([self._number, "close", self.seconds] if has_file else [self._number, "undo"])
        if recorder is not None:
            recorder.taps.pop(self._number, None)
        self._on_ended(self, self.seconds)
        return self.seconds

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._asked.wait(), seconds)


class Taps:
    """All calls that are recorded; `on_tapped` as in `MediaServer`."""

    def __init__(self, now: Callable[[], float], on_tapped: Callable[[str, str, float], None]) -> None:
        self._now = now
        self._on_tapped = on_tapped
        self._of_call: dict[str, Tap] = {}
        self._running: set[Tap] = set()
        self._waited_for: set[Tap] = set()
        self._number = 0
        self._processes = RecordingProcesses()

    def start(
        self,
        call: str,
        branches: tuple[str, str],
        legs: Iterable[Leg],
        path: Path,
        *,
        video: bool,
        key: bytes | None,
        limit_s: float,
    ) -> Coroutine[Any, Any, None]:
        """It has begun when this returns; what it returns is awaited until there is a file. Raises OurError."""
        there = [leg for leg in legs if leg.branch in branches]
        if call in self._of_call:
            raise OurError(f"Call {call} is being recorded already")
        if len(set(branches)) != len(branches) or not there:
            raise OurError(f"Two branches of call {call} are needed, of which one must be there")
        if path.suffix not in ENDINGS or (video and path.suffix not in (WAVE, WITH_PICTURES)):
            raise OurError(f"A recording ends in {', '.join(ENDINGS)}; one with pictures in {WITH_PICTURES}")
        if key is not None and len(key) != KEY_SIZE:
            raise OurError(f"The key of recordings must be {KEY_SIZE} bytes")
        if len(self._running) >= MOST_TAPS:
            raise OurError("There are too many recordings", 503)
        self._number += 1
        tap = Tap(
            self._number,
            branches,
            path,
            rate=WIDE if any(map(_is_wide, there)) else NARROW,
            video=video,
            key=key,
            limit_s=min(limit_s, MOST_S),
            recorder=self._processes.join,
            now=self._now,
            on_ended=lambda tap, seconds: self._ended(call, tap, seconds),
        )
        self._of_call[call] = tap
        self._running.add(tap)
        for leg in there:
            self.came(leg)
            leg.take()
        for side in tap.sides:
            side.ask_key_frame(self._now())
        return self._opened(tap)

    def pause(self, call: str, paused: bool) -> bool:
        tap = self._of_call.get(call)
        if tap is not None:
            tap.pause(paused)
        return tap is not None

    def end(self, call: str) -> Coroutine[Any, Any, float]:
        """Raises OurError."""
        tap = self._of_call.get(call)
        if tap is not None:
            self._waited_for.add(tap)
            tap.end("asked for")
            self._let_go(call, tap)
        return self._completed(tap)

    def came(self, leg: Leg) -> None:
        """It may be of a call that is recorded. Its `take` is called after this."""
        tap = self._of_call.get(leg.call)
        for side in tap.sides if tap is not None else ():
            if side.branch == leg.branch:
                side.leg = leg
                leg.tapped = side

    def left(self, leg: Leg) -> None:
        """It is dropped."""
        tap = self._of_call.get(leg.call)
        if tap is None or leg.tapped is None:
            return
        leg.tapped.leg = None
        leg.tapped = None
        if all(side.leg is None for side in tap.sides):
            tap.end("gone")
            self._let_go(leg.call, tap)

    async def finish(self) -> None:
        """Complete all files; the process ends."""
        await asyncio.gather(*(tap.end("gone") for tap in self._running))

    def close(self) -> None:
        self._processes.close()

    async def _opened(self, tap: Tap) -> None:
        try:
            await asyncio.shield(tap.opened)
        except OurError:
            await asyncio.shield(tap.end("failed"))  # so that it can be tried again at once
            raise

    async def _completed(self, tap: Tap | None) -> float:
        if tap is None:
            return 0.0
        await asyncio.wait({tap.end("asked for")}, timeout=DISK_S)
        if tap.why == "failed":
            raise OurError("The recording failed")
        # It may be far behind: its file is completed all the same, as is known of it here.
        return tap.seconds

    def _let_go(self, call: str, tap: Tap) -> None:
        if self._of_call.get(call) is tap:
            del self._of_call[call]
        for side in tap.sides:
            if side.leg is not None:
                side.leg.tapped = None
                side.leg.take()
                side.leg = None

    def _ended(self, call: str, tap: Tap, seconds: float) -> None:
        self._running.discard(tap)
        self._processes.leave(tap)
        self._let_go(call, tap)
        if tap in self._waited_for:
            self._waited_for.discard(tap)
        elif tap.opened.exception() is None:  # else whoever began it has been told
            why = f"{tap.why}: {tap.reason}" if tap.reason else tap.why
            self._on_tapped(call, why, seconds)


def _is_wide(leg: Leg) -> bool:
    speech = leg.speech()
    return speech is not None and speech[1].name.lower() not in NARROW_CODECS


def _words(error: Exception) -> str:
    return error.reason if isinstance(error, OurError) else repr(error)


def _seen(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()
