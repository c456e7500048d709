"""queued_call.*: a call from a trunk that waits, is prompted, accepted, joined and hung up a while after its answer.

Every event is stored. Each agent has one phone; sipp plays the trunk and the phones. CPU time is measured with 50
agents, at 20 calls a second of a second each and at 100 of a quarter of one, which is what 50 agents can take; the
highest rate with as many agents as it takes.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from agent_presence.roster import Roster
from agent_presence.store import PresenceStore
from bench.figure import Figure, children_of, cpu_seconds
from config.database import Database
from tests.peers.process import PeerFailed, free_sip_port, until
from tests.peers.sipp import Sipp
from tests.peers.warmline import Warmline

AGENTS = 50
CALLS = 1000
RATE, TALK_MS = 20, 1000
FAST_CALLS = 2000
FAST_RATE, FAST_TALK_MS = 100, 250
# A call keeps its agent for a second and what ringing takes.
MOST_AGENTS = 400
RATES = (200, 150, 100, 75, 50, 25)
SECONDS_AT_MOST_RATE = 60
TRIED_S = 5
BOILER_NUMBER = "+15550200"
SKILLS = {"heating": 5, "boiler-hydraulics": 5}


async def measure(folder: Path) -> list[Figure]:
    return [*await cpu(folder / "cpu"), await most(folder / "most")]


async def cpu(folder: Path) -> list[Figure]:
    server = Warmline(folder, wrap_up_s=0)
    async with server:
        pass  # the first start makes the tables and the sample
    await add_agents(server)
    async with server:
        phones = free_sip_port()
        async with Sipp(
            folder, "agents_answer", server_port=server.sip_port, port=phones,
            calls=2 * (CALLS + FAST_CALLS), trace=False,
        ) as agents:  # fmt: skip
            await register(folder, server, phones)
            await call(folder, server, 50)
            slow, slow_media, all_joined = await used(folder, server, CALLS, RATE, TALK_MS)
            assert all_joined == CALLS, f"{all_joined} of {CALLS} calls were joined"
            fast, fast_media, some_joined = await used(folder, server, FAST_CALLS, FAST_RATE, FAST_TALK_MS)
            await agents.stop()
    figures = [
        Figure("queued_call.cpu_ms", slow, "ms CPU/call", 2.5),
        Figure("queued_call.media_cpu_ms", slow_media, "ms CPU/call"),
    ]
    if some_joined == FAST_CALLS:  # else it is no call's price that was measured
        figures += [
            Figure("queued_call.cpu_ms_at_100", fast, "ms CPU/call", 2.5),
            Figure("queued_call.media_cpu_ms_at_100", fast_media, "ms CPU/call"),
        ]
    return figures


async def used(
    folder: Path, server: Warmline, calls: int, rate: int, talk_ms: int
) -> tuple[float, float, int]:
    """CPU milliseconds of a call in the server and in its media process, and how many calls were joined."""
    process, before = server.process.pid, joined(server)
    media = children_of(process)
    server_before, media_before = cpu_seconds(process), sum(map(cpu_seconds, media))
    await call(folder, server, calls, rate, talk_ms)
    server_used = cpu_seconds(process) - server_before
    media_used = sum(map(cpu_seconds, media)) - media_before
    return server_used / calls * 1000, media_used / calls * 1000, joined(server) - before


async def most(folder: Path) -> Figure:
    """The highest rate of those tried at which a minute's calls were all joined with an agent."""
    server = Warmline(folder, wrap_up_s=0, rtp_ports="20000-29999")
    async with server:
        pass
    await add_agents(server, MOST_AGENTS)
    phones = free_sip_port()
    for rate in RATES:
        async with server:  # a new one: nobody is left waiting
            await register(folder, server, phones, MOST_AGENTS)
            if await all_joined(folder, server, phones, rate, TRIED_S) and await all_joined(
                folder, server, phones, rate, SECONDS_AT_MOST_RATE
            ):
                return Figure("queued_call.max_per_second", rate, "calls/s", 200)
    return Figure("queued_call.max_per_second", 0, "calls/s", 200)


async def all_joined(folder: Path, server: Warmline, phones: int, rate: int, seconds: int) -> bool:
    before, calls = joined(server), rate * seconds
    async with Sipp(
        folder, "agents_answer", server_port=server.sip_port, port=phones, calls=calls + 1, trace=False
    ):
        try:
            await call(folder, server, calls, rate)
        except PeerFailed:
            return False
    return joined(server) - before == calls


def joined(server: Warmline) -> int:
    return int(server.rows("SELECT count(*) AS n FROM event WHERE kind = 'contact.connected'")[0]["n"])


async def add_agents(server: Warmline, count: int = AGENTS) -> None:
    database = Database.open(f"sqlite:///{server.settings['data']}/warmline.sqlite3")
    roster = Roster(PresenceStore(database), realm="warmline")
    await roster.load()
    for number in range(count):
        agent = await roster.add_agent(f"Agent {number}", f"bench{number}", "!", skills=SKILLS)
        await roster.add_device(agent.id, "Phone", f"bench{number}", f"bench{number}-phone")
    await database.close()


def credentials_file(folder: Path, count: int) -> Path:
    """For sipp: each agent's user name, and how it proves it."""
    users = folder / "users.csv"
    lines = "".join(
        f"bench{n};[authentication username=bench{n} password=bench{n}-phone]\n" for n in range(count)
    )
    users.write_text("SEQUENTIAL\n" + lines)
    return users


async def register(folder: Path, server: Warmline, phones: int, agents: int = AGENTS) -> None:
    """Every phone registers and dials *71."""
    users = credentials_file(folder, agents)
    for scenario in ("register_many", "dial_ready_many"):
        async with Sipp(
            folder, scenario, server_port=server.sip_port, calls=agents, rate=25,
            keys={"device_port": str(phones)}, users=users, trace=False,
        ) as sipp:  # fmt: skip
            await sipp.finished(60)

    def ready() -> bool:
        found = server.rows(
            "SELECT DISTINCT agent_id FROM event WHERE kind = 'agent.state_changed' AND facts LIKE '%\"Ready\"%'"
        )
        return len(found) >= agents

    await until(ready, "all agents to be ready", seconds=20)


async def call(folder: Path, server: Warmline, calls: int, rate: int = RATE, talk_ms: int = TALK_MS) -> None:
    numbers = folder / "numbers.csv"
    numbers.write_text(f"SEQUENTIAL\n{BOILER_NUMBER}\n")
    async with Sipp(
        folder, "direct_caller", server_port=server.sip_port, port=server.trunk_port, calls=calls,
        rate=rate, users=numbers, trace=False, options=("-d", str(talk_ms)),
    ) as sipp:  # fmt: skip
        await sipp.finished(calls / rate + 30)
    await asyncio.sleep(0.5)
