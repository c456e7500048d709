"""register.cpu_ms: server CPU for one digest REGISTER, both transactions, refreshing a binding that is there."""

from __future__ import annotations

from pathlib import Path

from bench.figure import Figure, cpu_seconds
from tests.peers.sipp import Sipp
from tests.peers.warmline import Warmline

COUNT = 10_000
RATE = 1000


async def measure(folder: Path) -> list[Figure]:
    async with Warmline(folder) as server:
        keys = {"device_port": "5999"}
        common = {"server_port": server.sip_port, "user": "ana", "password": "ana-phone", "keys": keys}
        async with Sipp(folder, "register", calls=300, rate=300, trace=False, **common) as warm_up:  # type: ignore[arg-type]
            await warm_up.finished(60)
        before = cpu_seconds(server.process.pid)
        async with Sipp(folder, "register", calls=COUNT, rate=RATE, trace=False, **common) as sipp:  # type: ignore[arg-type]
            await sipp.finished(120)
        used = cpu_seconds(server.process.pid) - before
    return [Figure("register.cpu_ms", used / COUNT * 1000, "ms CPU/register", 0.25)]
