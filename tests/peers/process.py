"""Real programs as test peers: started on free ports, watched, and ended by their own pid."""

from __future__ import annotations

import asyncio
import fcntl
import functools
import inspect
import os
import random
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Self, TypeVar, overload

Found = TypeVar("Found")


class PeerFailed(AssertionError):
    """A peer did not do within its time what the test needs of it."""


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    """A port of 127.0.0.1 that nobody holds at this moment."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def free_sip_port() -> int:
    """A port that is free for UDP and TCP alike, as SIP listens on both, and the next one for TCP, where baresip
    listens for TLS. Below the ephemeral ones: no connection takes it before it is listened on."""
    return _lane().take_sip()


class _Lane:
    """Ports below the ephemeral ones that are this process's as long as it lives: of two test runs at once, neither
    gets what the other has chosen and not bound yet. Within a lane, ranges are given out in turn."""

    LANES = range(16400, 30800, 3600)
    SIZE = 3600
    SIP_FIRST, SIP_SIZE = 12000, 1100

    def __init__(self) -> None:
        for first in self.LANES:
            self.first = first
            self._lock = os.open(
                Path(tempfile.gettempdir(), f"warmline-test-ports-{first}"), os.O_CREAT | os.O_RDWR
            )
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                os.close(self._lock)
        else:
            raise PeerFailed("every lane of ports is taken by another run of the tests")
        self._next = 0
        self._sip_first = self.SIP_FIRST + self.LANES.index(self.first) * self.SIP_SIZE
        self._sip_next = random.randrange(0, self.SIP_SIZE, 2)

    def take_sip(self) -> int:
        """Those of before may still be let go of: each is given again as late as can be."""
        for _ in range(self.SIP_SIZE // 2):
            port = self._sip_first + self._sip_next
            self._sip_next = (self._sip_next + 2) % self.SIP_SIZE
            if _is_free(port) and all(_is_free(each, socket.SOCK_STREAM) for each in (port, port + 1)):
                return port
        raise PeerFailed(f"no free port for SIP from {self._sip_first} on")

    def take(self, size: int) -> tuple[int, int]:
        for _ in range(2 * self.SIZE // size):
            if self._next + size > self.SIZE:
                self._next = 0
            low = self.first + self._next
            self._next += size
            if all(_is_free(port) for port in range(low, low + size, max(1, size // 16))):
                return low, low + size - 1
        raise PeerFailed(f"no {size} free ports in a row from {self.first} on")


@functools.cache
def _lane() -> _Lane:
    return _Lane()


def free_range(size: int) -> tuple[int, int]:
    """The first and last of `size` UDP ports that nobody else will take, the first one even."""
    return _lane().take(size + size % 2)


def _is_free(port: int, kind: int = socket.SOCK_DGRAM) -> bool:
    with socket.socket(socket.AF_INET, kind) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


@overload
async def until(
    check: Callable[[], Coroutine[Any, Any, Found | None]],
    what: str,
    *,
    seconds: float = ...,
    every: float = ...,
) -> Found: ...
@overload
async def until(
    check: Callable[[], Found | None], what: str, *, seconds: float = ..., every: float = ...
) -> Found: ...
async def until(check: Callable[[], Any], what: str, *, seconds: float = 10.0, every: float = 0.05) -> Any:
    """Ask `check` until it gives something true; PeerFailed after `seconds`, naming `what` was missing."""
    deadline = time.monotonic() + seconds
    while True:
        found = check()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return found
        if time.monotonic() > deadline:
            raise PeerFailed(f"not within {seconds:g} s: {what}")
        await asyncio.sleep(every)


class Process:
    """One program; its output goes to a file that a failing test can print."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        *,
        folder: Path,
        environment: Mapping[str, str] | None = None,
        interrupt: signal.Signals = signal.SIGTERM,
        terminal: bool = False,
    ) -> None:
        """`terminal`: the interrupt goes to the whole process group, as Ctrl-C in a terminal does."""
        self.name = name
        self.arguments = list(arguments)
        self.folder = folder
        self.environment = dict(environment) if environment is not None else dict(os.environ)
        self.log = folder / f"{name}.log"
        self._interrupt = interrupt
        self._terminal = terminal
        self._process: asyncio.subprocess.Process | None = None
        self._output: IO[bytes] | None = None

    async def start(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._output = self.log.open("ab")
        self._process = await asyncio.create_subprocess_exec(
            *self.arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=self._output,
            stderr=asyncio.subprocess.STDOUT,
            env=self.environment,
            cwd=self.folder,
            start_new_session=True,
        )
        return self

    def interrupt(self) -> None:
        if self._terminal:
            os.killpg(self.pid, self._interrupt)
        else:
            self.process.send_signal(self._interrupt)

    @property
    def process(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise PeerFailed(f"{self.name} is not started")
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    def output(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    async def wait(self, seconds: float) -> int:
        """The exit status; PeerFailed when it still runs after `seconds`."""
        try:
            return await asyncio.wait_for(self.process.wait(), seconds)
        except TimeoutError:
            raise PeerFailed(
                f"{self.name} still runs after {seconds:g} s:\n{self.output()[-4000:]}"
            ) from None

    async def stop(self, seconds: float = 5.0) -> None:
        if self.running:
            self.interrupt()
            try:
                await asyncio.wait_for(self.process.wait(), seconds)
            except TimeoutError:
                self.process.kill()
                await self.process.wait()
        if self._output is not None:
            self._output.close()
            self._output = None

    async def kill(self) -> None:
        """kill -9, as a crash would."""
        if self.running:
            self.process.kill()
            await self.process.wait()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
