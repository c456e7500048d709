"""Recording processes (`media.recorder`) as the media process sees them: started, fed, ended when they are stuck."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from config.errors import OurError
from media.control import Framed

if TYPE_CHECKING:
    from media.tap import Tap

# What may be on its way to it before it has failed.
MOST_BEHIND = 16 << 20
# So often it is asked for a sign of life. After so many without one it is stuck (stopped, or held up by a disk) and is
# killed: in about 8 s. They are counted, for a clock that has gone on while we were stopped says nothing of it.
BEAT_S = 2.0
MOST_UNANSWERED = 4
# A recording takes between 0.7 % (two telephones) and 1.8 % (two browsers) of a core: so many leave a process room.
FULL = 30
MOST_PROCESSES = max(1, (os.cpu_count() or 1) - 1)
HOME = Path(__file__).resolve().parent.parent


class RecordingProcess(Framed):
    """While it runs; `taps` are those it makes files of, by number. Its endings: we close it, it dies, it is stuck."""

    def __init__(self, lost: Callable[[], None]) -> None:
        super().__init__()
        self._lost = lost
        self._process: subprocess.Popen[bytes] | None = None
        self._unanswered = 0
        self._why = "the recording process has died"
        self._timer = asyncio.get_running_loop().call_later(BEAT_S, self._beat)
        self.taps: dict[int, Tap] = {}

    @classmethod
    async def start(cls, lost: Callable[[], None]) -> RecordingProcess:
        """`lost` is called when it has ended, but for `close`. Raises OSError."""
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        with theirs:
            ours.setblocking(False)
            process = await loop.run_in_executor(None, _spawn, theirs.fileno())
        _, started = await loop.create_unix_connection(lambda: cls(lost), sock=ours)
        started._process = process
        # It ends when we close our side; somebody must then take notice of its death.
        threading.Thread(target=process.wait, name="recorder", daemon=True).start()
        return started

    def send(self, message: list[Any]) -> None:
        """As `say`. Raises OurError where it cannot keep up."""
        if self.transport is None or self.transport.get_write_buffer_size() > MOST_BEHIND:
            raise OurError("the recording process cannot keep up")
        self.say(message)

    def message(self, message: list[Any]) -> None:
        self._unanswered = 0
        number, what, *facts = message
        tap = self.taps.get(number)
        if tap is not None:
            tap.told(what, *facts)

    def _beat(self) -> None:
        if self._unanswered >= MOST_UNANSWERED:
            self._why = "the recording process was stuck"
            sys.stderr.write(f"media: {self._why}, and is killed\n")
            if self._process is not None:
                self._process.kill()
            if self.transport is not None:
                self.transport.abort()  # a process that waits for a disk outlives its kill, and we do not wait for it
            return
        self._unanswered += 1
        self.say([0, "alive"])
        self._timer = asyncio.get_running_loop().call_later(BEAT_S, self._beat)

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        self._lost()
        for tap in list(self.taps.values()):
            tap.told("failed", self._why)

    def close(self) -> None:
        self._timer.cancel()
        if self.transport is not None:
            self.transport.close()


class _Place:
    """A process that runs or is about to, and whose recordings it makes."""

    def __init__(self, lost: Callable[[_Place], None]) -> None:
        loop = asyncio.get_running_loop()
        self.taps: set[Tap] = set()
        self.starting = loop.create_task(RecordingProcess.start(lambda: lost(self)))
        self.starting.add_done_callback(self._started)
        self._lost = lost

    @property
    def runs(self) -> bool:
        return self.starting.done() and not self.starting.cancelled() and self.starting.exception() is None

    def close(self) -> None:
        if self.runs:
            self.starting.result().close()

    def _started(self, starting: asyncio.Task[RecordingProcess]) -> None:
        if not self.runs:
            self._lost(self)


class RecordingProcesses:
    """As many as are needed: one is started when the first tap wants it, or again after it has died; others when all
    are full. The last one is kept, so that nobody waits for it."""

    def __init__(self) -> None:
        self._places: list[_Place] = []

    def __len__(self) -> int:
        return len(self._places)

    async def join(self, tap: Tap) -> RecordingProcess:
        """Where this tap is recorded, until it has left. Raises OSError."""
        place = min(self._places, key=lambda each: len(each.taps), default=None)
        if place is None or (len(place.taps) >= FULL and len(self._places) < MOST_PROCESSES):
            place = _Place(self._lost)
            self._places.append(place)
        place.taps.add(tap)
        return await asyncio.shield(place.starting)

    def leave(self, tap: Tap) -> None:
        place = next((each for each in self._places if tap in each.taps), None)
        if place is None:
            return
        place.taps.discard(tap)
        if not place.taps and len(self._places) > 1 and place.starting.done():
            self._lost(place)
            place.close()

    def close(self) -> None:
        for place in self._places:
            place.close()

    def _lost(self, place: _Place) -> None:
        with contextlib.suppress(ValueError):
            self._places.remove(place)


def _spawn(descriptor: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "media.recorder", "--control-fd", str(descriptor)],
        env={**os.environ, "PYTHONPATH": str(HOME)},
        stdin=subprocess.DEVNULL,
        pass_fds=(descriptor,),
    )
