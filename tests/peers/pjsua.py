"""pjsua2 2.15 (wheel `pjsua2-python`): a softphone that knows PRACK, session timers and attended transfer."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from pathlib import Path
from typing import Any, Self

from tests.peers.baresip import Traced, loudest_tone
from tests.peers.process import PeerFailed, Process, free_range, free_sip_port, until
from tests.peers.warmline import ROOT

TRACED = re.compile(
    rb"\.?(?P<way>TX|RX) \d+ bytes [^\n]*? (?:to|from) (?P<transport>\w+) \S+:\r?\n(?P<message>.*?)\r?\n--end msg--",
    re.DOTALL,
)


class Pjsua:
    """One phone with one account. `tone` is the frequency (Hz) that it sends when in a call.

    `answer` is "manual" or "auto"; `prack` is "never", "optional" or "required" (RFC 3262), `timer` also "always" (RFC
    4028). `srtp` is "never", "optional" (plain RTP, with keys beside it) or "required", its keys by SDES.
    `push` is how it says that it may be woken, as "pn-provider=fcm;pn-prid=1" (RFC 8599).
    `registrar_port` is that of the server or of the proxy before it. No Opus, no video; four calls at most.
    """

    def __init__(
        self,
        folder: Path,
        *,
        user: str,
        password: str,
        domain: str,
        registrar_port: int,
        transport: str = "udp",
        answer: str = "manual",
        tone: int = 880,
        register: bool = True,
        prack: str = "optional",
        timer: str = "optional",
        session_expires: int = 1800,
        codecs: tuple[str, ...] = ("PCMU/8000/1", "PCMA/8000/1"),
        authority: Path | None = None,
        srtp: str = "never",
        push: str = "",
    ) -> None:
        port = free_sip_port()
        self.folder = folder / f"pjsua-{user}-{port}"
        self.folder.mkdir(parents=True)
        self.user = user
        self.domain = domain
        self.server = f"sip:127.0.0.1:{registrar_port};transport={transport}"
        self.events: list[dict[str, Any]] = []
        self._settings: dict[str, Any] = {
            "folder": str(self.folder),
            "user": user,
            "password": password,
            "address": f"sip:{user}@{domain}",
            "server": self.server,
            "transport": transport,
            "port": port,
            "rtp_port": free_range(100)[0],
            "answer": answer,
            "tone": tone,
            "register": register,
            "prack": prack,
            "timer": timer,
            "session_expires": session_expires,
            "codecs": codecs,
            "authority": str(authority or ""),
            "srtp": srtp,
            "push": push,
        }
        self._register = register
        self._token = 0
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._writer: asyncio.StreamWriter | None = None
        settings = self.folder / "settings.json"
        self.process = Process(
            "pjsua",
            [sys.executable, "-m", "tests.peers.pjsua_process", str(settings)],
            folder=self.folder,
            environment={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        )

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._read, "127.0.0.1", 0)
        self._settings["control_port"] = self._server.sockets[0].getsockname()[1]
        (self.folder / "settings.json").write_text(json.dumps(self._settings))
        await self.process.start()
        try:
            if self._register:
                await self.event("registered", seconds=15, status=200)
            else:
                await until(lambda: self._writer is not None, "pjsua's control connection")
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._writer is not None and self.process.running:
            try:
                # It unregisters on its way out, which waits for an answer.
                await self.do("leave")
                await self.process.wait(10)
            except (PeerFailed, TimeoutError, ConnectionError):
                pass
        await self.process.stop()
        if self._writer is not None:
            self._writer.close()
        self._server.close()

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        try:
            while line := await reader.readline():
                item = json.loads(line)
                if "event" in item:
                    self.events.append(item)
                    continue
                waiting = self._answers.pop(item["token"], None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(item)
        except ConnectionError:
            return

    async def do(self, what: str, **arguments: Any) -> Any:
        """One of the methods of `pjsua_process.Phone`; PeerFailed with pjsua's own words when it refuses."""
        if self._writer is None or not self.process.running:
            raise PeerFailed(f"pjsua is not running:\n{self.process.output()[-2000:]}")
        self._token += 1
        self._answers[self._token] = asyncio.get_running_loop().create_future()
        waiting = self._answers[self._token]
        self._writer.write(json.dumps({"do": what, "token": self._token, **arguments}).encode() + b"\n")
        answer = await asyncio.wait_for(waiting, 10)
        if "error" in answer:
            raise PeerFailed(f"pjsua cannot {what} {arguments}: {answer['error']}")
        return answer["ok"]

    def seen(self, event: str, **facts: object) -> list[dict[str, Any]]:
        return [
            found
            for found in self.events
            if found["event"] == event and all(found.get(name) == value for name, value in facts.items())
        ]

    async def event(
        self, event: str, *, count: int = 1, seconds: float = 15.0, **facts: object
    ) -> dict[str, Any]:
        """The `count`th event of that name with those facts, e.g. event("call", call=1, state="CONFIRMED")."""
        await until(
            lambda: len(self.seen(event, **facts)) >= count,
            f"{self.user}'s pjsua to report {event} {facts} (it said "
            f"{[{k: v for k, v in e.items() if k != 'message'} for e in self.events[-8:]]})",
            seconds=seconds,
        )
        return self.seen(event, **facts)[count - 1]

    async def dial(self, number: str) -> int:
        """Call a user of the server's; the number of the call, which `event` and `do` take."""
        return int(await self.do("call", to=f"sip:{number}@{self.domain}"))

    def trace(self) -> list[Traced]:
        """Every SIP message so far, in the order in which the phone saw them."""
        log = self.folder / "sip.log"
        found = []
        for match in TRACED.finditer(log.read_bytes() if log.exists() else b""):
            head, _, body = match["message"].partition(b"\r\n\r\n")
            found.append(
                Traced(
                    received=match["way"] == b"RX",
                    head=head.decode(errors="replace"),
                    body=body.decode(errors="replace"),
                )
            )
        return found

    def heard(self, call: int) -> Path:
        """The WAV file with what came in that call."""
        return self.folder / f"heard-{call}.wav"

    def hears_tone(self, call: int, frequency: int) -> bool:
        """True when that tone (Hz) is most of what came in the call in the last half second."""
        path = self.heard(call)
        if not path.exists():
            return False
        heard, share = loudest_tone(path, last_seconds=0.5)
        return share > 0.5 and abs(heard - frequency) <= 0.05 * frequency
