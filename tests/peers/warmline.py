"""The server under test: a process of its own, on free ports, in a folder of the test's own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Self

from tests.peers import first_start
from tests.peers.process import PeerFailed, Process, free_port, free_range, free_sip_port, until

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "TMPDIR")


class Warmline:
    """`warmline serve` with settings of the test's own, e.g. Warmline(folder, ring_s=3)."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.folder = folder / "warmline"
        self.http_port = free_port()
        self.https_port = free_port()
        self.sip_port = free_sip_port()
        self.trunk_port = free_sip_port()
        low, high = free_range(400)
        self.settings: dict[str, object] = {
            "data": self.folder / "data",
            "http_port": self.http_port,
            "https_port": self.https_port,
            "sip_port": self.sip_port,
            "sips_port": 0,
            "rtp_ports": f"{low}-{high}",
            "robot_agent": "off",
            "trunks": json.dumps([{"name": "carrier", "peers": [f"127.0.0.1:{self.trunk_port}"]}]),
            **settings,
        }
        self.portal = f"http://127.0.0.1:{self.http_port}"
        environment = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
        environment["PYTHONPATH"] = str(ROOT)
        environment["PYTHONUNBUFFERED"] = "1"
        environment |= {f"WARMLINE_{name.upper()}": str(value) for name, value in self.settings.items()}
        self.environment = environment
        self.process = self._new_process()

    def _new_process(self) -> Process:
        return Process(
            "serve",
            [sys.executable, "-m", "pbx.cli", "serve"],
            folder=self.folder,
            environment=self.environment,
            interrupt=signal.SIGINT,
            terminal=True,
        )

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.process.stop()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        await self.process.stop(seconds=10)
        output = self.process.output()
        if kind is not None:
            pass
        elif "Traceback" in output:
            raise PeerFailed(f"the server wrote a traceback:\n{output[-8000:]}")

    async def start(self) -> None:
        data = Path(str(self.settings["data"]))
        if not data.exists():
            await asyncio.to_thread(first_start.give, data)
        self.process = self._new_process()
        before = len(self.process.output())

        def up() -> bool:
            if not self.process.running:
                raise PeerFailed(f"the server ended:\n{self.process.output()[-6000:]}")
            return "Warmline is up" in self.process.output()[before:]

        await self.process.start()
        await until(up, "the server to be up", seconds=30)

    async def kill(self) -> None:
        await self.process.kill()

    def rows(self, statement: str, *parameters: object) -> list[dict[str, Any]]:
        """Read the server's own database, as an operator with sqlite3 would."""
        path = Path(str(self.settings["data"])) / "warmline.sqlite3"
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)
        try:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(statement, parameters)]
        finally:
            connection.close()

    def events(self, contact: str | None = None) -> list[dict[str, Any]]:
        found = self.rows("SELECT * FROM event ORDER BY seq")
        for row in found:
            row["facts"] = json.loads(row["facts"]) if isinstance(row["facts"], str) else row["facts"]
        return [row for row in found if contact is None or row["contact_id"] == contact]

    def kinds(self, contact: str | None = None) -> list[str]:
        return [row["kind"] for row in self.events(contact)]

    async def event(
        self, kind: str, *, count: int = 1, seconds: float = 15.0, **facts: object
    ) -> dict[str, Any]:
        """The `count`th event of this kind whose facts (or agent_id, contact_id) are these."""

        def found() -> dict[str, Any] | None:
            matching = [
                row
                for row in self.events()
                if row["kind"] == kind
                and all(row.get(name, row["facts"].get(name)) == value for name, value in facts.items())
            ]
            return matching[count - 1] if len(matching) >= count else None

        return await until(found, f"event {kind} {facts}; there are {self.kinds()[-30:]}", seconds=seconds)

    def agent_state(self, agent: str) -> str:
        """The state the event log last told of, e.g. "Ready" or "Talking"."""
        changes = [
            row for row in self.events() if row["kind"] == "agent.state_changed" and row["agent_id"] == agent
        ]
        return str(changes[-1]["facts"]["new"]) if changes else "Offline"

    async def agent_is(self, agent: str, *states: str, seconds: float = 10.0) -> None:
        await until(
            lambda: self.agent_state(agent) in states,
            f"{agent} to be {' or '.join(states)}, as said in {self.events()[-12:]}",
            seconds=seconds,
        )

    async def get(self, path: str) -> tuple[int, str]:
        """Status and body of a page, as a stranger sees it."""

        def fetch() -> tuple[int, str]:
            try:
                with urllib.request.urlopen(self.portal + path, timeout=10) as answer:
                    return answer.status, answer.read().decode(errors="replace")
            except urllib.error.HTTPError as error:
                return error.code, error.read().decode(errors="replace")

        return await asyncio.to_thread(fetch)
