"""sipp 3.6: the phone network, and phones that misbehave on purpose."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from tests.peers.process import PeerFailed, Process, free_range, free_sip_port, until

SCENARIOS = Path(__file__).parent / "sipp_scenarios"


class Sipp:
    """One run of a scenario of tests/peers/sipp_scenarios against `server_host`:`server_port`.

    `port` is where sipp sends from: it is what a trunk is known by. RTP is echoed, so that a phone which hears its
    own tone again has proved both directions.
    Each name in `keys` replaces `[name]` in the XML;
    `users` is a file of values for [field0] and so on; `options` are further ones of sipp's own.
    """

    def __init__(
        self,
        folder: Path,
        scenario: str,
        *,
        server_port: int,
        server_host: str = "127.0.0.1",
        port: int | None = None,
        calls: int = 1,
        rate: float = 1,
        user: str = "",
        password: str = "",
        transport: str = "u1",
        keys: dict[str, str] | None = None,
        users: Path | None = None,
        trace: bool = True,
        options: Sequence[str] = (),
    ) -> None:
        self.port = port or free_sip_port()
        self.folder = folder / f"sipp-{scenario}-{self.port}"
        arguments = [
            "sipp", "-sf", str(SCENARIOS / f"{scenario}.xml"), "-i", "127.0.0.1", "-p", str(self.port),
            "-t", transport, "-m", str(calls), "-r", str(rate), "-nostdin", "-timeout", "90", "-timeout_error",
            "-trace_err", "-error_file", "errors.txt",
            "-mp", str(free_range(4)[0]), "-mi", "127.0.0.1", "-rtp_echo",
        ]  # fmt: skip
        if trace:
            arguments += ["-trace_msg", "-message_file", "messages.txt"]
        if users is not None:
            arguments += ["-inf", str(users)]
        if user:
            arguments += ["-s", user, "-au", user]
        if password:
            arguments += ["-ap", password]
        for name, value in (keys or {}).items():
            arguments += ["-key", name, value]
        arguments += [*options, f"{server_host}:{server_port}"]
        self.process = Process("sipp", arguments, folder=self.folder)

    async def __aenter__(self) -> Self:
        await self.process.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        await self.process.stop()

    def messages(self) -> str:
        path = self.folder / "messages.txt"
        return path.read_text(errors="replace") if path.exists() else ""

    async def finished(self, seconds: float = 60.0) -> None:
        """The scenario ran to its end as written; PeerFailed with sipp's own words otherwise."""
        status = await self.process.wait(seconds)
        if status != 0:
            errors = self.folder / "errors.txt"
            said = errors.read_text(errors="replace") if errors.exists() else self.process.output()
            raise PeerFailed(f"sipp ended with {status}: {said[-3000:]}")

    async def saw(self, text: str, seconds: float = 15.0) -> None:
        await until(lambda: text in self.messages(), f"sipp to see {text!r}", seconds=seconds)
