"""Prompts on their way to those who hear them: 20 ms of each by one timer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING

from config.errors import OurError
from media.leg import Leg
from media.prompts import FRAMES_A_SECOND, Frames, Prompts
from media.rtp import Stream
from media.server import FILE

if TYPE_CHECKING:
    from media.clip import Clip

FRAME_S = 1 / FRAMES_A_SECOND
MOST_PROMPTS = 20
# Less than whoever asked waits for an answer.
FETCH_S = 8.0


class Playing:
    """Prompts on their way to one leg. They wait for the leg to be reachable, so their beginning is never lost; and
    for `clips`, the recordings among them, to have been read, which are None until then."""

    def __init__(
        self, leg: Leg, prompts: Sequence[str], clips: Mapping[str, Clip] | None, *, repeat: bool
    ) -> None:
        self.leg = leg
        self.prompts = prompts
        self.clips = clips
        self.repeat = repeat
        self.frames: Frames | None = None
        self.stream: Stream | None = None
        self.number = 0
        self.prompt = 0
        self.index = 0
        self.first = True


class Player:
    """Everything that is playing. `take_packets` is called after each frame: no packet waits for all who listen."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        prompts: Prompts,
        threads: Executor,
        now: Callable[[], float],
        take_packets: Callable[[], None] = lambda: None,
    ) -> None:
        self._loop = loop
        self._threads = threads
        self._prompts = prompts
        self._now = now
        self._take_packets = take_packets
        self.playing: set[Playing] = set()
        self._due = 0.0
        self._timer: asyncio.Handle | None = None

    def play(self, leg: Leg, prompts: Sequence[str], *, repeat: bool) -> float | Awaitable[float]:
        """In place of what this leg hears; the seconds of one round. Raises OurError, TheirError(404)."""
        if not 0 < len(prompts) <= MOST_PROMPTS:
            raise OurError(f"1 to {MOST_PROMPTS} prompts are played one after the other")
        files = {name for name in prompts if name.startswith(FILE)}
        unmade = [name for name in prompts if name not in files and not self._prompts.is_made(name)]
        self.stop(leg)
        wait = bool(files or unmade)
        playing = leg.playing = Playing(leg, prompts, None if wait else {}, repeat=repeat)
        self.playing.add(playing)
        if self._timer is None:
            self._due = self._now()
            self._timer = self._loop.call_soon(self._frame)
        return self._when_there(playing, files, unmade) if wait else self._seconds(prompts, {})

    async def _when_there(self, playing: Playing, files: Iterable[str], unmade: Sequence[str]) -> float:
        """Nothing is heard until all are made and read; by then it may be another's turn."""
        try:
            fetching = self._loop.run_in_executor(self._threads, self._fetched, files, unmade)
            clips = await asyncio.wait_for(fetching, FETCH_S)
            seconds = self._seconds(playing.prompts, clips)
        except BaseException as error:
            if playing.leg.playing is playing:
                self.stop(playing.leg)
            if isinstance(error, TimeoutError):
                raise OurError("The machine is too slow for this prompt") from None
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise asyncio.CancelledError from None  # this process ends, and so does the making of prompts
            raise
        playing.clips = clips
        return seconds

    def _fetched(self, files: Iterable[str], unmade: Sequence[str]) -> dict[str, Clip]:
        """In a thread."""
        self._prompts.make(unmade)
        if not files:
            return {}
        from media.clip import Clip  # it brings the codecs, in this thread

        return {name: Clip.read(Path(name.removeprefix(FILE))) for name in files}

    def _seconds(self, prompts: Iterable[str], clips: Mapping[str, Clip]) -> float:
        return sum(clips[name].seconds if name in clips else self._prompts.seconds(name) for name in prompts)

    def stop(self, leg: Leg) -> None:
        if leg.playing is not None:
            self.playing.discard(leg.playing)
            leg.playing = None

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _frame(self) -> None:
        """20 ms of every prompt that is playing. The next is due by the clock, not by our work: nothing drifts."""
        now = self._now()
        for playing in list(self.playing):
            if playing.clips is not None:
                try:
                    self._play_frame(playing, playing.clips, now)
                except Exception as error:  # a defect that one prompt shows must not end the music of all
                    self.stop(playing.leg)
                    self._loop.call_exception_handler({"message": "a prompt failed", "exception": error})
                self._take_packets()
        if not self.playing:
            self._timer = None
            return
        self._due += FRAME_S
        if self._due < now - 5 * FRAME_S:
            self._due = now  # the process was held up; catching up would only burst
        self._timer = self._loop.call_later(max(0.0, self._due - self._now()), self._frame)

    def _play_frame(self, playing: Playing, clips: Mapping[str, Clip], now: float) -> None:
        leg = playing.leg
        if playing.stream is None:
            self._choose(playing, clips)
        stream, frames = playing.stream, playing.frames
        if stream is None or frames is None or not leg.ready or not stream.takes:
            return
        if playing.index >= len(frames.frames):
            playing.index = 0
            playing.prompt += 1
            if playing.prompt == len(playing.prompts):
                playing.prompt = 0
                if not playing.repeat:
                    self.stop(leg)
                    return
            if len(playing.prompts) > 1:
                self._choose(playing, clips)
                frames = playing.frames or frames
        frame = frames.frames[playing.index]
        if frame:
            stream.send_frame(frame, playing.number, frames.ticks, now, first=playing.first)
            playing.first = False
        playing.index += 1

    def _choose(self, playing: Playing, clips: Mapping[str, Clip]) -> None:
        """The prompt in the codec this leg likes best."""
        speech = playing.leg.speech()
        if speech is None:
            return
        stream, payload = speech
        name = playing.prompts[playing.prompt]
        clip = clips.get(name)
        playing.frames = (
            self._prompts.frames(name, payload.name) if clip is None else clip.frames(payload.name)
        )
        if playing.stream is not stream or playing.number != payload.number:
            playing.stream = stream
            playing.number = payload.number
            playing.first = True
