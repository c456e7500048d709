"""A customer in Chromium and an agent with baresip see and hear each other."""

from __future__ import annotations

from pathlib import Path

from tests.peers.people import (
    BOILER_ARTICLE,
    CAMERA_ARTICLE,
    Reader,
    has_colours,
    make_ready,
    phone,
    phone_hears,
)
from tests.peers.process import until
from tests.peers.warmline import Warmline

STORY = [
    "contact.requested",
    "contact.skills_inferred",
    "contact.reserved",
    "contact.prompted",
    "contact.accepted",
    "contact.connected",
    "contact.ended",
]


async def test_video_as_users_run_chromium(tmp_path: Path) -> None:
    async with Warmline(tmp_path) as server, phone(tmp_path, server, "ana") as ana:
        await make_ready(server, ana)
        async with Reader(tmp_path, server, BOILER_ARTICLE, loopback=False) as maria:
            await maria.page.wait_for_timeout(1500)
            await maria.ask_for("video")
            await ana.event("CALL_INCOMING")
            assert "contact.accepted" not in server.kinds(), "joined before the agent had accepted"
            await until(maria.hears_anything, "the music while she waits")
            await ana.accept()
            connected = await server.event("contact.connected")
            contact = connected["contact_id"]

            await maria.reaches("connected")
            await until(lambda: maria.hears_tone(880), "the agent's tone in the browser")
            await until(maria.sees_moving_pictures, "the agent's moving picture in the browser")
            await until(lambda: phone_hears(ana, 620), "the customer's tone in the phone")
            assert has_colours(await ana.picture())
            assert server.agent_state("agent-ana") == "Talking"

            await maria.hang_up()
            await ana.event("CALL_CLOSED", count=2)
            ended = await server.event("contact.ended", contact_id=contact)
            assert ended["facts"]["disposition"] == "customer_hung_up"
            await server.agent_is("agent-ana", "WrapUp", "Ready", seconds=1)

        kinds = server.kinds(contact)
        assert [kind for kind in kinds if kind in STORY] == STORY
        times = [row["at"] for row in server.events(contact)]
        assert times == sorted(times)
        viewed = [row for row in server.events() if row["kind"] == "visit.page_viewed"]
        assert viewed
        assert viewed[0]["at"] < times[0]

        prompt = ana.invites()[-1]
        assert "Maria" in prompt.header("From")
        assert "Boiler 200" in prompt.header("Subject")
        assert f"/context/{contact}" in prompt.header("Call-Info")


async def test_the_agent_hangs_up_a_voice_call_with_another_codec(tmp_path: Path) -> None:
    """The browser starts in Opus; the phone knows PCMU alone, so the browser is re-INVITEd."""
    async with (
        Warmline(tmp_path) as server,
        phone(tmp_path, server, "bo", audio_codecs="pcmu/8000/1", video=False) as bo,
    ):
        await make_ready(server, bo)
        async with Reader(tmp_path, server, CAMERA_ARTICLE) as maria:
            await maria.ask_for("voice")
            await bo.event("CALL_INCOMING")
            await bo.accept()
            await maria.reaches("connected")
            await until(lambda: maria.hears_tone(880), "the agent's tone in the browser")
            await until(lambda: phone_hears(bo, 620), "the customer's tone in the phone")
            await bo.hang_up()
            ended = await server.event("contact.ended")
            assert ended["facts"]["disposition"] == "agent_hung_up"
            await maria.reaches("ended")
            await server.agent_is("agent-bo", "WrapUp", "Ready", seconds=1)


async def test_h264_from_a_phone_without_vp8(tmp_path: Path) -> None:
    async with Warmline(tmp_path) as server, phone(tmp_path, server, "ana", video_codecs="h264") as ana:
        await make_ready(server, ana)
        async with Reader(tmp_path, server, BOILER_ARTICLE) as maria:
            await maria.ask_for("video")
            await ana.event("CALL_INCOMING")
            await ana.accept()
            await maria.reaches("connected")
            await until(maria.sees_moving_pictures, "the agent's moving picture in the browser")
            assert "video/H264" in (await maria.statistics())["codecs"]
            assert has_colours(await ana.picture())
