"""Agents' own softphones: over TCP, in a browser, with and without word of what they can do."""

from __future__ import annotations

import json
from pathlib import Path

from tests.peers.agent_page import AgentPage
from tests.peers.browser_phone import BrowserPhone
from tests.peers.people import (
    CAMERA_ARTICLE,
    Reader,
    make_ready,
    make_ready_by_page,
    phone,
    phone_hears,
)
from tests.peers.process import free_sip_port, until
from tests.peers.sipp import Sipp
from tests.peers.warmline import Warmline

BOILER_NUMBER = "+15550200"
MARIA = "+15550100001"


async def test_a_phone_over_tcp_registers_and_talks_to_a_caller(tmp_path: Path) -> None:
    async with (
        Warmline(tmp_path) as server,
        phone(tmp_path, server, "ana", transport="tcp", audio_codecs="pcmu/8000/1") as ana,
    ):
        binding = server.rows("SELECT * FROM binding")[0]
        assert (binding["aor"], binding["transport"]) == ("sip:ana@127.0.0.1", "TCP")
        challenged = [message for message in ana.trace() if message.start.startswith("SIP/2.0 401")]
        assert challenged, "nobody registers without a password"
        await make_ready(server, ana)
        async with Sipp(
            tmp_path,
            "caller_waits_for_bye",
            server_port=server.sip_port,
            port=server.trunk_port,
            keys={"number": BOILER_NUMBER, "caller": MARIA},
        ) as sipp:
            await ana.event("CALL_INCOMING")
            assert "/TCP" in ana.invites()[-1].header("Via")
            await ana.accept()
            await server.event("contact.connected")
            # sipp echoes: the phone's own tone comes back when both directions carry.
            await until(lambda: phone_hears(ana, 880), "the echo of the agent's own tone")
            await ana.hang_up()
            await sipp.finished()
            ended = await server.event("contact.ended")
            assert ended["facts"]["disposition"] == "agent_hung_up"


async def test_a_browser_is_an_agents_phone_too(tmp_path: Path) -> None:
    """Both ends are browsers: WebRTC on the agent's leg as on the customer's."""
    async with (
        Warmline(tmp_path) as server,
        BrowserPhone(server, user="carla", password="carla-phone") as carla,
    ):
        binding = server.rows("SELECT * FROM binding")[0]
        assert binding["transport"] == "WS"
        assert binding["device_id"] == "device-carla"
        assert {"audio", "video"} <= json.loads(binding["features"]).keys(), "what it said of itself"
        await make_ready_by_page(server, "carla")
        async with Reader(tmp_path, server, CAMERA_ARTICLE) as maria:
            await maria.ask_for("video")
            await carla.rings()
            said = await carla.prompt()
            assert said["subject"].startswith("Video: Camera S2")
            assert "Maria Lopez" in said["from"]
            assert said["video"] is True
            await carla.answer()
            await maria.reaches("connected")
            await until(lambda: maria.hears_tone(1000), "Carla's tone in Maria's browser")
            await until(maria.sees_moving_pictures, "Carla's picture in Maria's browser")
            await until(lambda: carla.hears_tone(620), "Maria's tone in Carla's browser")
            await until(carla.sees_moving_pictures, "Maria's picture in Carla's browser")
            await carla.hang_up()
            ended = await server.event("contact.ended")
            assert ended["facts"]["disposition"] == "agent_hung_up"
            await maria.reaches("ended")
            await server.agent_is("agent-carla", "WrapUp", "Ready", seconds=1)


async def test_a_phones_own_word_is_kept_with_its_binding(tmp_path: Path) -> None:
    async with (
        Warmline(tmp_path) as server,
        Sipp(
            tmp_path,
            "register",
            server_port=server.sip_port,
            user="carla-mobile",
            password="carla-mobile-phone",
            keys={"device_port": str(free_sip_port())},
        ) as sipp,
    ):
        await sipp.finished(20)
        binding = server.rows("SELECT * FROM binding")[0]
        assert binding["device_id"] == "device-carla-mobile"
        assert json.loads(binding["features"]) == {"audio": "TRUE", "video": "TRUE"}
        assert (await server.event("device.registered"))["facts"]["features"] == {
            "audio": "TRUE",
            "video": "TRUE",
        }


async def test_what_a_silent_phone_can_do_is_learnt_and_overruled(tmp_path: Path) -> None:
    """Carla's phone shows pictures, Deniz's was built without; neither says so when it registers."""
    async with (
        Warmline(tmp_path) as server,
        phone(tmp_path, server, "carla"),
        phone(tmp_path, server, "deniz", video=False),
    ):
        for row in server.rows("SELECT features FROM binding"):
            assert not {"audio", "video"} & json.loads(row["features"]).keys(), "these phones send no tags"
        await until(lambda: learnt(server, "carla") is True, "Carla's answer to OPTIONS")
        await until(lambda: learnt(server, "deniz") is False, "Deniz's answer to OPTIONS")
        carla, deniz = AgentPage(server.portal), AgentPage(server.portal)
        await carla.log_in("carla", "carla-agent")
        await deniz.log_in("deniz", "deniz-agent")
        # The first, so that he has been idle longest and would be asked first.
        await deniz.set_state("ready")
        await carla.set_state("ready")
        async with Reader(tmp_path, server, CAMERA_ARTICLE) as maria:
            await asks_for_video(server, maria)
            await is_offered_to(server, maria, "agent-carla")

            await set_video(carla, "device-carla", "no")
            await asks_for_video(server, maria)
            await set_video(deniz, "device-deniz", "yes")  # only now is there anybody to ask
            await is_offered_to(server, maria, "agent-deniz")

            await set_video(deniz, "device-deniz", "auto")
            await asks_for_video(server, maria)
            await set_video(carla, "device-carla", "auto")
            await is_offered_to(server, maria, "agent-carla")


def learnt(server: Warmline, username: str) -> bool | None:
    row = server.rows("SELECT learnt FROM device WHERE username = ?", username)[0]
    video: bool | None = json.loads(row["learnt"]).get("video")
    return video


async def set_video(page: AgentPage, device: str, can: str) -> None:
    status, body = await page.post(f"/agent/devices/{device}/capability", {"channel": "video", "can": can})
    assert status == 200, body[:500]


async def asks_for_video(server: Warmline, customer: Reader) -> None:
    """Whether or not the page would offer it; the page that is loaded then finds the contact, and calls."""
    contact = await customer.request_by_api("video", "camera-s2", CAMERA_ARTICLE)
    await customer.page.reload()
    await server.event("contact.queued", contact_id=contact["id"])


async def is_offered_to(server: Warmline, customer: Reader, agent: str) -> None:
    """That agent and nobody else has been asked; then the customer leaves."""
    contact = server.rows("SELECT id FROM contact ORDER BY asked_at DESC LIMIT 1")[0]["id"]
    await server.event("contact.prompted", contact_id=contact, agent_id=agent)
    asked = [row["agent_id"] for row in server.events(contact) if row["kind"] == "contact.reserved"]
    assert asked == [agent]
    await customer.hang_up()
    await server.event("contact.ended", contact_id=contact)
    await server.agent_is(agent, "Ready")
