"""rtpengine 10.5 in userspace, on free ports."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from config.errors import OurError
from media.ng import Ng
from tests.peers.process import Process, free_port, free_range, until


class Rtpengine:
    """`address` is where it is spoken to by NG, and `keys` where it tells of keys; it may be killed and started again
    there. `interfaces` are such as "public/127.0.0.2"; one at `host` without them."""

    def __init__(
        self, folder: Path, *, ports: int = 200, host: str = "127.0.0.1", interfaces: Sequence[str] = ()
    ) -> None:
        self.address = (host, free_port(socket.SOCK_DGRAM))
        self.keys = (host, free_port(socket.SOCK_DGRAM))
        self.ports = free_range(ports)
        self._process = Process(
            "rtpengine",
            [
                *("rtpengine", "--config-file=none", "--foreground", "--log-stderr", "--log-level=6"),
                *("--table=-1", "--timeout=60"),
                *(f"--interface={each}" for each in interfaces or (host,)),
                *(f"--listen-ng={host}:{self.address[1]}", "--num-threads=2"),
                f"--dtmf-log-dest={host}:{self.keys[1]}",
                *(f"--port-min={self.ports[0]}", f"--port-max={self.ports[1]}"),
            ],
            folder=folder,
        )

    @property
    def setting(self) -> str:
        return f"{self.address[0]}:{self.address[1]}"

    async def start(self) -> Self:
        await self._process.start()
        await until(self._answers, "rtpengine to answer")
        return self

    async def stop(self) -> None:
        await self._process.stop()

    async def kill(self) -> None:
        await self._process.kill()

    async def used_ports(self) -> int:
        """How many ports its calls hold now."""
        ng = await Ng.to(*self.address)
        try:
            interfaces = (await ng.ask("statistics"))["statistics"]["interfaces"]
            # Those at one address have its ports in common.
            used = {each["address"]: int(each["ports"]["used"]) for each in interfaces}
            return sum(used.values())
        finally:
            ng.close()

    async def end_all_calls(self) -> None:
        """As it does with those in which nothing is sent."""
        ng = await Ng.to(*self.address)
        try:
            for call in (await ng.ask("list", limit=1000))["calls"]:
                await ng.ask("delete", call_id=call, delete_delay=0)
        finally:
            ng.close()

    async def _answers(self) -> bool:
        ng = await Ng.to(*self.address)
        try:
            return bool((await ng.ask("ping"))["result"] == b"pong")
        except OurError:
            return False
        finally:
            ng.close()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
