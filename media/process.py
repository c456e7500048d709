"""Starts, watches and ends the media process.

The process is tied to us by one connected socket: when either side goes away, for whatever reason, the other knows
at once. So no child watcher is needed, whose ways differ between reactors.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from config.errors import OurError
from media.client import EmbeddedMedia
from media.server import SILENCE_S

# The first start makes the prompts, which takes seconds on a slow machine.
START_S = 60.0
STOP_S = 3.0
# The folder that holds our packages, so that `python -m media` finds them wherever we were started.
HOME = Path(__file__).resolve().parent.parent


def _spawn(*options: str) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """The process and our end of the socket to it. Raises OurError(503)."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "media", "--control-fd", str(theirs.fileno()), *options],
            # `prompts` may be relative to where we were started, so only the import path leads home.
            env={**os.environ, "PYTHONPATH": str(HOME)},
            stdin=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
            # Ctrl-C at a terminal is for the server alone, which still has calls to end.
            start_new_session=True,
        )
    except OSError as error:
        ours.close()
        raise OurError(f"The media process cannot be started: {error.strerror}", 503) from None
    finally:
        theirs.close()
    return process, ours


class MediaProcess:
    """A running media process; `media` is the MediaServer it serves."""

    def __init__(self, process: subprocess.Popen[bytes], media: EmbeddedMedia) -> None:
        self._process = process
        self.media = media
        self._on_died: Callable[[], None] = lambda: None
        self._stopping = False
        media.on_lost = self._lost

    @property
    def pid(self) -> int:
        return self._process.pid

    @classmethod
    async def start(
        cls,
        *,
        host: str,
        public: str,
        ports: tuple[int, int],
        prompts: Path,
        silence_s: float = SILENCE_S,
        on_died: Callable[[], None] = lambda: None,
    ) -> MediaProcess:
        """Returns when it serves. `ports`: the first serves all browsers, the others plain RTP. `public` is the address
        to announce, or one of each family after a comma; `silence_s` after how much of it a phone is gone, 0 for never.

        Raises OurError(503) when it does not come up: a port in use, prompts that cannot be made. `on_died` is called
        once if it ends later without `stop`.
        """
        process, sock = _spawn(
            *("--ports", f"{ports[0]}-{ports[1]}", "--host", host, "--public", public),
            *("--prompts", str(prompts), "--silence", str(silence_s)),
        )
        media = await EmbeddedMedia.over(sock)
        started = cls(process, media)
        try:
            await asyncio.wait_for(asyncio.shield(media.ready), START_S)
            if not media.alive:
                raise OurError("It was ready and died at once", 503)
        except (OurError, TimeoutError):
            await started.stop()
            raise OurError("The media process did not start; its last words are above", 503) from None
        except asyncio.CancelledError:
            media.close()
            raise
        # From here on; what never served has not died but failed to start, which the caller is told.
        started._on_died = on_died
        return started

    async def stop(self) -> None:
        """All calls are deleted; returns when the process has ended."""
        self._stopping = True
        self.media.close()
        await asyncio.get_running_loop().run_in_executor(None, self._end)

    def _end(self) -> None:
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _lost(self) -> None:
        if not self._stopping:
            self._stopping = True
            # It is gone, or has closed its socket and is as good as gone.
            asyncio.get_running_loop().run_in_executor(None, self._end)
            self._on_died()
