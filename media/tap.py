"""Calls that are recorded: packets of two of their branches are put aside as they come, and the recording process (see
`media.recorder`) makes a file of them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any

from config.errors import OurError
from media.control import MAX_MESSAGE, Framed
from media.leg import Leg, ask_key_frames
from media.recording import NARROW_CODECS
from media.rtp import Heard
from media.sealed_file import KEY_SIZE
from media.server import ALL_KINDS, AUDIO_ONLY

# With what the recording process waits for, a file is behind by less than a second when either is killed.
FLUSH_S = 0.3
# A disk that takes longer has failed: whoever asked is not left waiting for it.
DISK_S = 5.0
# The first recording waits for the process to start; less than whoever asked waits for an answer.
START_S = 8.0
# Put aside at once: 20 s of two voices, which is far longer than the recording process takes to start. What comes
# beyond this is lost to the recording.
MOST_PACKETS = 2000
MOST_BYTES = MAX_MESSAGE * 3 // 4
# What may be on its way to the recording process before it has failed.
MOST_BEHIND = 16 << 20
MOST_TAPS = 200
MOST_S = 12 * 3600.0
# No more often is a key frame asked for; and as seldom as this if asking does not help.
KEY_FRAME_S, PATIENCE_S = 1.0, 16.0
ENDINGS = (".wav", ".mka", ".mkv")
NARROW, WIDE = 8000, 16000
HOME = Path(__file__).resolve().parent.parent


class Side:
    """One of the two branches of a tap; `leg` is None while there is no such branch."""

    def __init__(self, tap: Tap, number: int, branch: str) -> None:
        self._tap = tap
        self._number = number
        self._asked_at = float("-inf")
        self._patience = KEY_FRAME_S
        self.branch = branch
        self.leg: Leg | None = None

    def hears(self, kind: str) -> bool:
        return kind in self._tap.kinds

    def heard(self, codec: str, clock: int, packet: Heard) -> None:
        self._tap.put_aside(self._number, codec, clock, packet)

    def ask_key_frame(self, now: float, *, helped: bool = True) -> None:
        """`helped`: what was asked for last has come, if anything was."""
        if helped:
            self._patience = KEY_FRAME_S
        if self.leg is not None and self.hears("video") and now - self._asked_at >= self._patience:
            if not helped:
                self._patience = min(2 * self._patience, PATIENCE_S)
            self._asked_at = now
            ask_key_frames(self.leg)


class Tap:
    """Of one call. Its endings: `end`, its limit, a file or a recording process that fails."""

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
        recorder: Callable[[], Coroutine[Any, Any, Recorder]],
        now: Callable[[], float],
        on_ended: Callable[[Tap, float], None],
    ) -> None:
        self.kinds = ALL_KINDS if video else AUDIO_ONLY
        self.sides = tuple(Side(self, side, branch) for side, branch in enumerate(branches))
        self.why = ""
        self.paused = False
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = loop.create_future()
        self._closed: asyncio.Future[float] = loop.create_future()
        # Whoever waits for these is told; that nobody does is no defect.
        self.opened.add_done_callback(_seen)
        self._closed.add_done_callback(_seen)
        self._number = number
        self._open = [str(path), rate, video, key]
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

    def pause(self, paused: bool) -> None:
        if self.paused and not paused:
            self.paused = False
            for side in self.sides:
                side.ask_key_frame(self._now())
        self.paused = paused

    def end(self, why: str) -> asyncio.Task[float]:
        """The first reason stands; the seconds recorded, once the file is complete (or `why` is "failed")."""
        self.why = self.why or why
        self._asked.set()
        return self._running

    def told(self, what: str, fact: Any = None) -> None:
        """By the recording process."""
        if what == "key frame":
            side, helped = fact
            self.sides[side].ask_key_frame(self._now(), helped=helped)
        elif what == "failed":
            for waited_for in (self.opened, self._closed):
                if not waited_for.done():
                    waited_for.set_exception(OurError(f"The recording failed: {fact}"))
            self._asked.set()
        elif what == "opened" and not self.opened.done():
            self.opened.set_result(None)
        elif what == "closed" and not self._closed.done():
            self._closed.set_result(fact)

    async def _run(self) -> float:
        elapsed = 0.0
        recorder: Recorder | None = None
        try:
            async with asyncio.timeout(START_S):
                recorder = await self._recorder()
                recorder.taps[self._number] = self
                recorder.say([self._number, "open", *self._open])
                self._open = []
                await asyncio.shield(self.opened)
            over = False
            while not over:
                await self._pause(min(FLUSH_S, self._limit_s - elapsed))
                over = bool(self.why) or self._closed.done()
                elapsed = min(self._now() - self._began, self._limit_s)
                packets, self._packets, self._bytes = self._packets, [], 0
                recorder.send([self._number, "add", elapsed, packets])
                if elapsed >= self._limit_s and not over:
                    self.end("limit")
            recorder.say([self._number, "close", elapsed])
            elapsed = await asyncio.wait_for(asyncio.shield(self._closed), DISK_S)
        except Exception as error:  # of that process, the disk, or a defect of ours: whoever waits is told
            sys.stderr.write(f"media: a recording failed: {error!r}\n")
            self.why = "failed"
            self.told("failed", "it took too long" if isinstance(error, TimeoutError) else error)
            if recorder is not None:
                recorder.say([self._number, "close", elapsed])  # should it be there all the same
        if recorder is not None:
            recorder.taps.pop(self._number, None)
        self._on_ended(self, elapsed)
        return elapsed

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._asked.wait(), seconds)


class Recorder(Framed):
    """The recording process, while it runs; `taps` are those it makes files of, by number."""

    def __init__(self, lost: Callable[[], None]) -> None:
        super().__init__()
        self._lost = lost
        self.taps: dict[int, Tap] = {}

    @classmethod
    async def start(cls, lost: Callable[[], None]) -> Recorder:
        """Raises OSError."""
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        with theirs:
            ours.setblocking(False)
            process = await loop.run_in_executor(None, _spawn, theirs.fileno())
        _, recorder = await loop.create_unix_connection(lambda: cls(lost), sock=ours)
        # It ends when we close our side; somebody must then take notice of its death.
        threading.Thread(target=process.wait, name="recorder", daemon=True).start()
        return recorder

    def send(self, message: list[Any]) -> None:
        """As `say`. Raises OurError where it cannot keep up."""
        if self.transport is None or self.transport.get_write_buffer_size() > MOST_BEHIND:
            raise OurError("The recording process cannot keep up")
        self.say(message)

    def message(self, message: list[Any]) -> None:
        number, what, *facts = message
        tap = self.taps.get(number)
        if tap is not None:
            tap.told(what, *facts)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost()
        for tap in list(self.taps.values()):
            tap.told("failed", "the recording process has died")

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()


def _spawn(descriptor: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "media.recorder", "--control-fd", str(descriptor)],
        env={**os.environ, "PYTHONPATH": str(HOME)},
        stdin=subprocess.DEVNULL,
        pass_fds=(descriptor,),
    )


class Taps:
    """All calls that are recorded; `on_tapped` as in `MediaServer`."""

    def __init__(self, now: Callable[[], float], on_tapped: Callable[[str, str, float], None]) -> None:
        self._now = now
        self._on_tapped = on_tapped
        self._of_call: dict[str, Tap] = {}
        self._running: set[Tap] = set()
        self._waited_for: set[Tap] = set()
        self._number = 0
        self._recorder: asyncio.Task[Recorder] | None = None

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
        if path.suffix not in ENDINGS or (video and path.suffix != ".mkv"):
            raise OurError(f"A recording ends in {', '.join(ENDINGS)}; one with pictures in .mkv")
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
            recorder=self._started,
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
        if self._recorder is not None and self._recorder.done() and not self._recorder.exception():
            self._recorder.result().close()

    async def _opened(self, tap: Tap) -> None:
        try:
            await asyncio.shield(tap.opened)
        except OurError:
            await asyncio.shield(tap.end("failed"))  # so that it can be tried again at once
            raise

    async def _completed(self, tap: Tap | None) -> float:
        if tap is None:
            return 0.0
        seconds = await asyncio.shield(tap.end("asked for"))
        if tap.why == "failed":
            raise OurError("The recording failed")
        return seconds

    async def _started(self) -> Recorder:
        """One process for all, started when the first wants it, and again after it has died."""
        if self._recorder is None or (self._recorder.done() and self._recorder.exception()):
            self._recorder = asyncio.get_running_loop().create_task(Recorder.start(self._lost))
        return await asyncio.shield(self._recorder)

    def _lost(self) -> None:
        self._recorder = None

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
        self._let_go(call, tap)
        if tap in self._waited_for:
            self._waited_for.discard(tap)
        elif tap.opened.exception() is None:  # else whoever began it has been told
            self._on_tapped(call, tap.why, seconds)


def _is_wide(leg: Leg) -> bool:
    speech = leg.speech()
    return speech is not None and speech[1].name.lower() not in NARROW_CODECS


def _seen(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()
