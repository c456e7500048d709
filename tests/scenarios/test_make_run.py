"""`make run` from a clean clone with an empty home; someone alone with a browser sees the whole job."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.peers.browser import DESKTOP
from tests.peers.people import BOILER_ARTICLE, Reader
from tests.peers.process import PeerFailed, Process, until
from tests.peers.warmline import ROOT, Warmline


class MakeRun(Warmline):
    """The server as `make run` starts it, in a clone of its own."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, robot_agent="on")
        self.clone = folder / "clone"
        self.environment = {
            name: value
            for name, value in self.environment.items()
            if name not in {"PYTHONPATH", "PYTHONUNBUFFERED"}
        }
        self.environment["HOME"] = str(folder / "home")
        (folder / "home").mkdir()

    def _new_process(self) -> Process:
        if not hasattr(self, "clone"):
            return super()._new_process()
        return Process(
            "make-run",
            ["make", "run"],
            folder=self.clone,
            environment=self.environment,
            interrupt=signal.SIGINT,
            terminal=True,
        )

    async def start(self, seconds: float = 600) -> None:
        self.process = self._new_process()
        before = len(self.process.output())

        def up() -> bool:
            if not self.process.running:
                raise PeerFailed(f"make run ended:\n{self.process.output()[-6000:]}")
            return "Warmline is up" in self.process.output()[before:]

        await self.process.start()
        await until(up, "make run to be up", seconds=seconds)


@pytest.mark.timeout(900)
async def test_make_run_from_a_clean_clone(tmp_path: Path) -> None:
    # Files as git has them, so that nothing works only because it lies about in this checkout.
    clone = Process("clone", ["git", "clone", "--quiet", str(ROOT), str(tmp_path / "clone")], folder=tmp_path)
    assert await (await clone.start()).wait(60) == 0
    server = MakeRun(tmp_path)
    async with server:
        said = server.process.output()
        for part in (server.portal, "maria@example.org", "ana", "*71", "+15550200", str(server.sip_port)):
            assert part in said, f"the start-up text does not say {part}"
        async with Reader(tmp_path, server, BOILER_ARTICLE, viewport=DESKTOP, loopback=False) as maria:
            await server.agent_is("agent-robin", "Ready", seconds=30)
            await maria.ask_for("video")
            await maria.reaches("connected", seconds=30)
            await until(maria.sees_moving_pictures, "the robot's test picture", seconds=20)
            await until(maria.hears_anything, "the robot's voice", seconds=20)
            await maria.hang_up()
            await maria.reaches("ended")
        contacts = server.rows("SELECT id FROM contact")
        assert len(contacts) == 1

        server.process.interrupt()
        status = await server.process.wait(20)
        # make ends by the same signal, but only after the server, whose end it waits for.
        assert status in {0, 2, 130, -signal.SIGINT}, server.process.output()[-2000:]

        started = time.monotonic()
        await server.start(seconds=20)
        took = time.monotonic() - started
        assert took < 3.0 * patience(), f"the second start took {took:.1f} s"
        assert server.rows("SELECT id FROM contact") == contacts, "the second start lost data"


def patience() -> float:
    """How much slower than alone this machine is now, by its load: the promise is for a machine that is not busy."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
