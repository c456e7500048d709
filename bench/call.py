"""call.*: a bridged call. A trunk dials an agent's user name; sipp plays the trunk and the agents' phones.

INVITE, 180, 200, ACK and BYE on both legs, media anchored, every event stored; the phones have registered by digest.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path

from bench.figure import Figure, children_of, cpu_seconds, resident_kib
from bench.queued_call import add_agents, credentials_file
from tests.peers.process import PeerFailed, free_sip_port
from tests.peers.sipp import Sipp
from tests.peers.warmline import Warmline

AGENTS = 1000
HELD = 1000
CPU_RATE, CPU_CALLS = 100, 1500
RATES = (300, 250, 200, 150, 100, 50)
SECONDS_AT_MOST_RATE = 60
P99_RATE, P99_CALLS = 150, 3000


async def measure(folder: Path) -> list[Figure]:
    bench = CallBench(folder)
    async with bench.server:
        pass  # the first start makes the tables and the sample
    await add_agents(bench.server, AGENTS)
    async with bench.server:
        await bench.register()
        await bench.calls(300, 50)
        figures = [*await bench.cpu(), await bench.p99()]
    return [*figures, *await bench.most(), await bench.held()]


class CallBench:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.phones = free_sip_port()
        self.trunk = free_sip_port()
        trunks = [{"name": "exchange", "peers": [f"127.0.0.1:{self.trunk}"], "extensions": True}]
        self.server = Warmline(folder, trunks=json.dumps(trunks), rtp_ports="20000-29999", wrap_up_s=0)
        self.users = credentials_file(folder, AGENTS)

    async def register(self) -> None:
        async with Sipp(
            self.folder, "register_many", server_port=self.server.sip_port, calls=AGENTS, rate=100,
            keys={"device_port": str(self.phones)}, users=self.users, trace=False,
        ) as sipp:  # fmt: skip
            await sipp.finished(60)

    async def calls(
        self, count: int, rate: float, *, hold_ms: int = 0, options: tuple[str, ...] = ()
    ) -> Sipp:
        """PeerFailed if one of them failed."""
        async with Sipp(
            self.folder, "agents_answer", server_port=self.server.sip_port, port=self.phones,
            calls=2 * count, trace=False,
        ), Sipp(
            self.folder, "direct_caller", server_port=self.server.sip_port, port=self.trunk, calls=count,
            rate=rate, users=self.users, trace=False, options=("-d", str(hold_ms), "-l", str(HELD), *options),
        ) as caller:  # fmt: skip
            await caller.finished(count / rate + hold_ms / 1000 + 30)
        return caller

    async def cpu(self) -> list[Figure]:
        process = self.server.process.pid
        media = children_of(process)
        before, media_before = cpu_seconds(process), sum(map(cpu_seconds, media))
        await self.calls(CPU_CALLS, CPU_RATE)
        await asyncio.sleep(0.5)
        used = cpu_seconds(process) - before
        media_used = sum(map(cpu_seconds, media)) - media_before
        return [
            Figure("call.cpu_ms", used / CPU_CALLS * 1000, "ms CPU/call", 2.0),
            Figure("call.media_cpu_ms", media_used / CPU_CALLS * 1000, "ms CPU/call"),
        ]

    async def p99(self) -> Figure:
        """From the caller's INVITE to its 200, the phone answering at once."""
        caller = await self.calls(P99_CALLS, P99_RATE, options=("-trace_rtt", "-rtt_freq", "100"))
        times = sorted(
            float(line.split(";")[1])
            for path in caller.folder.glob("*_rtt.csv")
            for line in path.read_text().splitlines()
            if line[:1].isdigit()
        )
        return Figure("call.p99_ms", times[len(times) * 99 // 100], "ms INVITE-200", 50)

    async def most(self) -> list[Figure]:
        """The highest rate of those tried that went through a minute with no failed call, and what a call costs there:
        less, for between the calls of a lower rate a virtual machine sleeps, and wakes with cold caches."""
        for rate in RATES:
            async with (
                self.server
            ):  # a new one: the calls that failed would be ended in the next rate's phones
                await self.register()
                process, count = self.server.process.pid, rate * SECONDS_AT_MOST_RATE
                before = cpu_seconds(process)
                with contextlib.suppress(PeerFailed):
                    await self.calls(count, rate)
                    used = cpu_seconds(process) - before
                    return [
                        Figure("call.max_per_second", rate, "calls/s", 300),
                        Figure("call.cpu_ms_at_most", used / count * 1000, "ms CPU/call", 2.0),
                    ]
        return [Figure("call.max_per_second", 0, "calls/s", 300)]

    async def held(self) -> Figure:
        """What the server has grown by while so many calls are up, after it has been through as many once before: what
        every server that was busy once keeps anyway is not theirs."""
        async with self.server:
            await self.register()
            await self.calls(HELD, 100, hold_ms=11_000)
            await asyncio.sleep(40)  # until timers have let go of the last transactions
            before = resident_kib(self.server.process.pid)
            held = asyncio.ensure_future(self.calls(HELD, 100, hold_ms=55_000))
            await asyncio.sleep(HELD / 100 + 38)
            grown = resident_kib(self.server.process.pid) - before
            await held
        return Figure("call.held_kib", grown / HELD, "KiB/held call", 40)
