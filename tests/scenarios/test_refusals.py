"""Who is not prompted, who refuses, who is silent; and the customer who leaves."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.peers.people import BOILER_ARTICLE, CAMERA_ARTICLE, Reader, make_ready, make_ready_by_page, phone
from tests.peers.process import until
from tests.peers.sipp import Sipp
from tests.peers.warmline import Warmline


async def register_device(tmp_path: Path, server: Warmline, user: str, password: str, port: int) -> None:
    """A REGISTER whose Contact is another sipp, which plays the device."""
    async with Sipp(
        tmp_path,
        "register",
        server_port=server.sip_port,
        user=user,
        password=password,
        keys={"device_port": str(port)},
    ) as sipp:
        await sipp.finished(20)


@pytest.mark.parametrize("scenario", ["device_declines_603", "device_is_busy_486"])
async def test_a_decline_goes_to_the_next_agent(tmp_path: Path, scenario: str) -> None:
    async with (
        Warmline(tmp_path) as server,
        phone(tmp_path, server, "deniz") as deniz,
        Sipp(tmp_path, scenario, server_port=server.sip_port) as device,
    ):
        await register_device(tmp_path, server, "carla", "carla-phone", device.port)
        await make_ready_by_page(server, "carla")
        await make_ready(server, deniz)
        async with Reader(tmp_path, server, CAMERA_ARTICLE) as maria:
            await maria.ask_for("voice")
            declined = await server.event("contact.declined", agent_id="agent-carla")
            await device.finished()
            await deniz.event("CALL_INCOMING", seconds=5)
            await server.agent_is("agent-carla", "Ready", "NotReady", seconds=1)
            await deniz.accept()
            await server.event("contact.connected", contact_id=declined["contact_id"])
            await maria.reaches("connected")


async def test_no_answer_goes_to_the_next_agent(tmp_path: Path) -> None:
    async with (
        Warmline(tmp_path, ring_s=5) as server,
        phone(tmp_path, server, "bo", video=False) as bo,
        phone(tmp_path, server, "deniz") as deniz,
    ):
        await make_ready(server, bo)
        await make_ready(server, deniz)
        async with Reader(tmp_path, server, CAMERA_ARTICLE) as maria:
            await maria.ask_for("voice")
            await bo.event("CALL_INCOMING")
            await server.event("contact.no_answer", agent_id="agent-bo")
            await deniz.event("CALL_INCOMING")
            await bo.event("CALL_CLOSED", count=2, seconds=2)
            assert server.agent_state("agent-bo") not in {"Reserved", "Talking"}
            await maria.hang_up()
            ended = await server.event("contact.ended")
            assert ended["facts"]["disposition"] == "customer_gave_up"
            await deniz.event("CALL_CLOSED", count=2, seconds=2)
            await server.agent_is("agent-deniz", "Ready", seconds=1)


async def test_a_silent_device_is_unreachable_and_its_late_answer_harms_nobody(tmp_path: Path) -> None:
    async with (
        Warmline(tmp_path) as server,
        phone(tmp_path, server, "deniz") as deniz,
        Sipp(tmp_path, "device_answers_late", server_port=server.sip_port) as device,
    ):
        await register_device(tmp_path, server, "carla", "carla-phone", device.port)
        await make_ready_by_page(server, "carla")
        await make_ready(server, deniz)
        async with Reader(tmp_path, server, CAMERA_ARTICLE) as maria:
            await maria.ask_for("voice")
            unreachable = await server.event("contact.unreachable", agent_id="agent-carla")
            prompted = await server.event("contact.prompted", agent_id="agent-carla")
            assert 3.5 <= unreachable["at"] - prompted["at"] <= 5.5
            await deniz.event("CALL_INCOMING")
            await deniz.accept()
            await maria.reaches("connected")
            await device.finished(30)  # its 200 was met by ACK and BYE
            await until(lambda: maria.hears_tone(880), "Deniz's tone, undisturbed")
            assert server.agent_state("agent-deniz") == "Talking"
            assert server.agent_state("agent-carla") not in {"Reserved", "Talking"}


async def test_the_customer_leaves_while_it_rings(tmp_path: Path) -> None:
    async with Warmline(tmp_path) as server, phone(tmp_path, server, "ana") as ana:
        await make_ready(server, ana)
        async with Reader(tmp_path, server, BOILER_ARTICLE) as maria:
            await maria.ask_for("video")
            await ana.event("CALL_INCOMING")
            await maria.hang_up()
            ended = await server.event("contact.ended", seconds=2)
            await server.agent_is("agent-ana", "Ready", seconds=1)
            await ana.event("CALL_CLOSED", count=2, seconds=2)
            await maria.reaches("ended", "idle")
            assert ended["facts"]["disposition"] == "customer_gave_up"
            assert "contact.accepted" not in server.kinds(ended["contact_id"])


async def test_the_customer_leaves_while_a_silent_device_is_called(tmp_path: Path) -> None:
    async with (
        Warmline(tmp_path) as server,
        Sipp(tmp_path, "device_answers_late", server_port=server.sip_port) as device,
    ):
        await register_device(tmp_path, server, "carla", "carla-phone", device.port)
        await make_ready_by_page(server, "carla")
        async with Reader(tmp_path, server, CAMERA_ARTICLE) as maria:
            await maria.ask_for("voice")
            await server.event("contact.prompted", agent_id="agent-carla")
            await maria.hang_up()
            await server.event("contact.ended", seconds=2)
            await server.agent_is("agent-carla", "Ready", seconds=1)
            await device.finished(30)
            assert server.agent_state("agent-carla") == "Ready"


async def test_who_is_not_fit_is_never_prompted(tmp_path: Path) -> None:
    """Not ready (Deniz), not registered (Carla), no video (Bo), wrong skill (Ana): nobody's phone rings."""
    async with (
        Warmline(tmp_path) as server,
        phone(tmp_path, server, "deniz") as deniz,
        phone(tmp_path, server, "bo", video=False) as bo,
        phone(tmp_path, server, "ana") as ana,
    ):
        await make_ready(server, bo)
        await make_ready(server, ana)
        async with Reader(tmp_path, server, CAMERA_ARTICLE) as maria:
            # The page's buttons say that nobody is there; a contact that is made all the same waits in the queue.
            contact = await maria.request_by_api("video", "camera-s2", CAMERA_ARTICLE)
            await maria.page.reload()
            await server.event("contact.queued", contact_id=contact["id"])
            await asyncio.sleep(2)
            assert "contact.reserved" not in server.kinds()
            for device in (deniz, bo, ana):
                assert not device.invites()
