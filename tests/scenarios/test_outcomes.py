"""How an offer comes to nothing with real phones, what it costs, and who is asked next; and phones that vanish."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.peers.baresip import Baresip
from tests.peers.people import make_ready, make_ready_by_page, phone
from tests.peers.process import free_sip_port
from tests.peers.sipp import Sipp
from tests.peers.warmline import Warmline

ANYTHING = "+15550301"  # of a provider's, about no product in particular: any agent may help

PATIENCE = {"name": "default", "no_answer": {"pause_s": 1, "not_ready_after": 2}, "busy": {"pause_s": 40}}


def caller(tmp_path: Path, server: Warmline) -> Sipp:
    keys = {"number": ANYTHING, "caller": "+15559876"}
    return Sipp(
        tmp_path, "caller_waits_for_bye", server_port=server.sip_port, port=server.trunk_port, keys=keys
    )


async def register(
    tmp_path: Path, server: Warmline, user: str, scenario: str = "register", port: int = 0
) -> None:
    """A REGISTER whose Contact is another program, or nobody; or one that takes every Contact back."""
    async with Sipp(
        tmp_path,
        scenario,
        server_port=server.sip_port,
        user=user,
        password=f"{user}-phone",
        keys={"device_port": str(port)},
    ) as sipp:
        await sipp.finished(20)


async def takes(server: Warmline, agent: Baresip, contact_id: str, ringing: int) -> None:
    """The next agent is rung, and takes it."""
    await agent.event("CALL_INCOMING", count=ringing)
    await agent.accept()
    connected = await server.event("contact.connected", contact_id=contact_id)
    assert connected["agent_id"] == f"agent-{agent.user}"


async def test_the_reject_key_declines_and_the_next_agent_is_asked(tmp_path: Path) -> None:
    async with (
        Warmline(tmp_path) as server,
        phone(tmp_path, server, "carla") as carla,
        phone(tmp_path, server, "deniz") as deniz,
    ):
        await make_ready(server, carla)
        await make_ready(server, deniz)
        async with caller(tmp_path, server):
            await carla.event("CALL_INCOMING")
            await server.event("contact.ringing")
            await carla.reject()
            declined = await server.event("contact.declined", agent_id="agent-carla")
            assert declined["facts"]["status"] == 486
            assert declined["facts"]["pause_s"] == 30.0
            await takes(server, deniz, declined["contact_id"], 1)
            await server.agent_is("agent-carla", "Ready", seconds=1)


async def test_a_phone_that_is_busy_at_once_is_busy(tmp_path: Path) -> None:
    async with (
        Warmline(tmp_path, queues=json.dumps([PATIENCE])) as server,
        phone(tmp_path, server, "deniz") as deniz,
        Sipp(tmp_path, "device_is_busy_at_once", server_port=server.sip_port) as device,
    ):
        await register(tmp_path, server, "carla", port=device.port)
        await make_ready_by_page(server, "carla")
        await make_ready(server, deniz)
        async with caller(tmp_path, server):
            busy = await server.event("contact.busy", agent_id="agent-carla")
            assert busy["facts"]["pause_s"] == 40.0
            await device.finished()
            await takes(server, deniz, busy["contact_id"], 1)


async def test_who_does_not_answer_twice_is_not_ready(tmp_path: Path) -> None:
    async with (
        Warmline(tmp_path, queues=json.dumps([PATIENCE]), ring_s=6) as server,
        phone(tmp_path, server, "carla") as carla,
    ):
        await make_ready(server, carla)
        async with caller(tmp_path, server):
            first = await server.event("contact.no_answer", agent_id="agent-carla")
            await server.event("contact.no_answer", count=2, agent_id="agent-carla")
            made = await server.event("agent.made_not_ready", agent_id="agent-carla")
            assert made["facts"] == {"after": 2, "outcome": "no_answer"}
            await server.agent_is("agent-carla", "NotReady", seconds=1)
            (row,) = server.rows("SELECT why FROM agent_state WHERE agent_id = 'agent-carla'")
            assert row["why"] == "no_answer"
            async with phone(tmp_path, server, "deniz") as deniz:
                await make_ready(server, deniz)
                await takes(server, deniz, first["contact_id"], 1)


@pytest.mark.parametrize(
    ("scenario", "outcome"), [("register", "unreachable"), ("register_asleep", "asleep")]
)
async def test_a_phone_that_is_not_there(tmp_path: Path, scenario: str, outcome: str) -> None:
    async with Warmline(tmp_path) as server, phone(tmp_path, server, "deniz") as deniz:
        await register(tmp_path, server, "carla", scenario, free_sip_port())
        await make_ready_by_page(server, "carla")
        await make_ready(server, deniz)
        async with caller(tmp_path, server):
            event = await server.event(f"contact.{outcome}", agent_id="agent-carla")
            await takes(server, deniz, event["contact_id"], 1)


async def gone_within(
    server: Warmline, agent: str, since: float, seconds: float, *states: str
) -> dict[str, Any]:
    ended = await server.event("contact.ended", seconds=seconds + 5)
    await server.agent_is(agent, *states, seconds=5)
    assert ended["at"] - since <= seconds
    return ended


async def test_a_phone_that_is_killed_in_a_call_frees_its_agent_within_half_a_minute(tmp_path: Path) -> None:
    async with (
        Warmline(tmp_path, wrap_up_s=60) as server,
        phone(tmp_path, server, "carla", audio_codecs="pcmu/8000/1") as carla,
    ):
        await make_ready(server, carla)
        async with caller(tmp_path, server) as sipp:
            await carla.event("CALL_INCOMING")
            await carla.accept()
            await server.event("contact.connected")
            await carla.process.kill()
            ended = await gone_within(server, "agent-carla", time.time(), 30, "WrapUp")
            assert ended["facts"]["disposition"] == "agent_lost"
            await sipp.finished()
        assert "agent.released_stuck" not in server.kinds()


async def test_a_bye_that_was_lost_frees_its_agent(tmp_path: Path) -> None:
    async with (
        Warmline(tmp_path, wrap_up_s=60) as server,
        Sipp(tmp_path, "device_forgets", server_port=server.sip_port) as device,
    ):
        await register(tmp_path, server, "carla", port=device.port)
        await make_ready_by_page(server, "carla")
        async with caller(tmp_path, server) as sipp:
            connected = await server.event("contact.connected")
            ended = await gone_within(server, "agent-carla", connected["at"], 30, "WrapUp")
            assert ended["facts"]["disposition"] == "agent_lost"
            await sipp.finished()
            await device.finished()


async def test_a_call_goes_on_when_its_phone_is_registered_no_more(tmp_path: Path) -> None:
    async with (
        Warmline(tmp_path) as server,
        phone(tmp_path, server, "carla", audio_codecs="pcmu/8000/1") as carla,
    ):
        await make_ready(server, carla)
        async with caller(tmp_path, server) as sipp:
            await carla.event("CALL_INCOMING")
            await carla.accept()
            contact = (await server.event("contact.connected"))["contact_id"]
            await register(tmp_path, server, "carla", "unregister")
            await server.event("device.unregistered", agent_id="agent-carla")
            await asyncio.sleep(13)  # longer than it takes to ask the phone once
            assert server.agent_state("agent-carla") == "Talking"
            assert any(message.received and message.start.startswith("OPTIONS ") for message in carla.trace())
            await carla.hang_up()
            await server.event("contact.ended", contact_id=contact)
            await server.agent_is("agent-carla", "Offline", seconds=5)
            await sipp.finished()
