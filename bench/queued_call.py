"""queued_call.cpu_ms: server CPU for one call from a trunk that waits, is prompted, accepted, joined and hung up.

Every event is stored. 50 agents, each with one phone; sipp plays the trunk and the phones.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from agent_presence.roster import Roster
from agent_presence.store import PresenceStore
from bench.figure import Figure, children_of, cpu_seconds
from config.database import Database
from tests.peers.process import free_sip_port, until
from tests.peers.sipp import Sipp
from tests.peers.warmline import Warmline

AGENTS = 50
CALLS = 1000
RATE = 20
BOILER_NUMBER = "+15550200"
SKILLS = {"heating": 5, "boiler-hydraulics": 5}


async def measure(folder: Path) -> list[Figure]:
    server = Warmline(folder, wrap_up_s=0)
    async with server:
        pass  # the first start makes the tables and the sample
    await add_agents(server)
    async with server:
        phones = free_sip_port()
        async with Sipp(
            folder, "agents_answer", server_port=server.sip_port, port=phones, calls=CALLS + 100, trace=False
        ) as agents:
            await register(folder, server, phones)
            await call(folder, server, 50)
            media = children_of(server.process.pid)
            before, media_before = cpu_seconds(server.process.pid), sum(map(cpu_seconds, media))
            await call(folder, server, CALLS)
            used = cpu_seconds(server.process.pid) - before
            media_used = sum(map(cpu_seconds, media)) - media_before
            connected = len(server.rows("SELECT seq FROM event WHERE kind = 'contact.connected'"))
            assert connected == CALLS + 50, f"{connected} of {CALLS + 50} calls were joined"
            await agents.stop()
    return [
        Figure("queued_call.cpu_ms", used / CALLS * 1000, "ms CPU/call", 2.5),
        Figure("queued_call.media_cpu_ms", media_used / CALLS * 1000, "ms CPU/call"),
    ]


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


async def register(folder: Path, server: Warmline, phones: int) -> None:
    """Every phone registers and dials *71."""
    users = credentials_file(folder, AGENTS)
    for scenario in ("register_many", "dial_ready_many"):
        async with Sipp(
            folder, scenario, server_port=server.sip_port, calls=AGENTS, rate=25,
            keys={"device_port": str(phones)}, users=users, trace=False,
        ) as sipp:  # fmt: skip
            await sipp.finished(60)

    def ready() -> bool:
        found = server.rows(
            "SELECT DISTINCT agent_id FROM event WHERE kind = 'agent.state_changed' AND facts LIKE '%\"Ready\"%'"
        )
        return len(found) >= AGENTS

    await until(ready, "all agents to be ready", seconds=20)


async def call(folder: Path, server: Warmline, calls: int) -> None:
    async with Sipp(
        folder, "caller_talks_briefly", server_port=server.sip_port, port=server.trunk_port, calls=calls,
        rate=RATE, keys={"number": BOILER_NUMBER, "caller": "+15550177"}, trace=False,
    ) as sipp:  # fmt: skip
        await sipp.finished(calls / RATE + 60)
    await asyncio.sleep(0.5)
