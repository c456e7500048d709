"""Starts, watches and ends the robot agent's process, which is a phone like any other and knows us only by SIP."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable

from twisted.logger import Logger

from config.bridge import spawn
from config.settings import Settings

log = Logger()

AGAIN_S = 3.0
STOP_S = 3.0


class RobotProcess:
    """It is started again `AGAIN_S` seconds after it ended by itself, until `stop`, as long as it `has_phone` to be."""

    def __init__(self, settings: Settings, has_phone: Callable[[], bool]) -> None:
        self._settings = settings
        self._has_phone = has_phone
        self._process: Process | None = None
        self._watch: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._watch = spawn(self._run(), "the robot agent")

    async def stop(self) -> None:
        """It unregisters and ends; killed when it does not within `STOP_S` seconds."""
        if self._watch is not None:
            self._watch.cancel()
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), STOP_S)
        except TimeoutError:
            process.kill()
            await process.wait()

    async def _run(self) -> None:
        while True:
            while not self._has_phone():  # noqa: ASYNC110  (somebody has taken it back)
                await asyncio.sleep(AGAIN_S)
            # The pipe tells it that we are gone, however we went; Ctrl-C at a terminal is for the server alone.
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "pbx.cli",
                "robot-agent",
                "--until-eof",
                stdin=PIPE,
                start_new_session=True,
            )
            status = await self._process.wait()
            log.warn("The robot agent ended with {status}; it is started again", status=status)
            await asyncio.sleep(AGAIN_S)
