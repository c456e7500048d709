"""The embedded MediaServer that outlives its process: when the process dies, another is started."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.logger import Logger

from config.bridge import spawn
from config.errors import OurError, WarmlineError
from media.client import RemoteMedia
from media.process import MediaProcess
from media.server import SILENCE_S

log = Logger()

AGAIN_S = 1.0


class WatchedMedia(RemoteMedia):
    """A MediaServer over whichever process runs now; between two of them every request fails with OurError(503).

    `on_died` is called when a process has ended by itself: every call it carried is dead.
    """

    def __init__(self, *, silence_s: float = SILENCE_S) -> None:
        super().__init__()
        self._silence_s = silence_s
        self.on_died: Callable[[], None] = lambda: None
        self._process: MediaProcess | None = None
        self._options: dict[str, Any] = {}
        self._stopping = False

    @property
    def serving(self) -> bool:
        """False while a new process is on its way."""
        return self._process is not None

    async def start(self, *, host: str, public: str, ports: tuple[int, int], prompts: Path) -> None:
        """Returns when it serves; see `MediaProcess.start`."""
        self._options = {"host": host, "public": public, "ports": ports, "prompts": prompts}
        self._options["silence_s"] = self._silence_s
        await self._start()

    async def end(self) -> None:
        """End the process, and with it every call."""
        self._stopping = True
        process, self._process = self._process, None
        if process is not None:
            await process.stop()

    async def _start(self) -> None:
        process = await MediaProcess.start(**self._options, on_died=self._died)
        if self._stopping:
            await process.stop()
            return
        process.media.on_gone = self._gone
        process.media.on_keys = self._keys
        process.media.on_recorded = self._recorded
        process.media.on_tapped = self._tapped
        process.media.on_quality = self._quality
        process.media.on_transcoding = self._transcoding
        self._process = process

    def _gone(self, call: str, branch: str, why: str) -> None:
        self.on_gone(call, branch, why)

    def _keys(self, call: str, branch: str, key: str) -> None:
        self.on_keys(call, branch, key)

    def _recorded(self, call: str, branch: str, why: str, seconds: float) -> None:
        self.on_recorded(call, branch, why, seconds)

    def _tapped(self, call: str, why: str, seconds: float) -> None:
        self.on_tapped(call, why, seconds)

    def _quality(self, call: str, branch: str, what: str, qualities: dict[str, Any]) -> None:
        self.on_quality(call, branch, what, qualities)

    def _transcoding(self, call: str, branch: str, other: str) -> None:
        self.on_transcoding(call, branch, other)

    def _died(self) -> None:
        log.error("The media process has died; its calls are lost, and another is started")
        self._process = None
        # First of all: nothing that `on_died` does may keep the next process from starting.
        spawn(self._again(), "starting the media process again")
        self.on_died()

    async def _again(self) -> None:
        while self._process is None and not self._stopping:
            try:
                await self._start()
            except (WarmlineError, OSError) as error:
                log.error("The media process was not started again: {error}", error=error)
                await asyncio.sleep(AGAIN_S)

    def _ask(self, method: str, *arguments: Any, **keywords: Any) -> asyncio.Future[Any]:
        if self._process is None:
            failed: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            failed.set_exception(OurError("The media server is being started again", 503))
            return failed
        return self._process.media._ask(method, *arguments, **keywords)
