"""Calls that change while they last, and calls with less in them than was offered."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.async_api import expect

from tests.peers.agent_page import AgentPage
from tests.peers.baresip import Baresip, Traced
from tests.peers.browser_phone import BrowserPhone
from tests.peers.people import (
    BOILER_ARTICLE,
    CAMERA_ARTICLE,
    Reader,
    make_ready,
    make_ready_by_page,
    phone,
    phone_hears,
)
from tests.peers.process import until
from tests.peers.warmline import Warmline


def direction(message: Traced) -> str:
    """Which way a session's media is to flow."""
    found = re.findall(r"a=(sendrecv|sendonly|recvonly|inactive)\b", message.body)
    return found[0] if found else "sendrecv"


def reoffers(device: Baresip) -> list[tuple[str, str]]:
    """(direction offered, direction answered) of each re-INVITE by the phone within its present call."""
    call = device.invites()[-1].header("Call-ID")
    asked: dict[str, str] = {}
    answered: dict[str, str] = {}
    for message in device.trace():
        if message.header("Call-ID") != call or not message.header("CSeq").endswith("INVITE"):
            continue
        number = message.header("CSeq")
        if not message.received and message.start.startswith("INVITE "):
            asked[number] = direction(message)
        elif message.received and message.start.startswith("SIP/2.0 200") and number in asked:
            answered[number] = direction(message)
    return [(asked[number], answered[number]) for number in asked if number in answered]


def arriving(device: Baresip) -> tuple[int, int]:
    """(sound, picture) in bit/s that reach the phone, as it says itself.

    Its WAV file is of no use here: baresip 1.0 writes no more to it after the first hold, whoever the other side is.
    """
    said = re.findall(r"audio=\d+/(\d+) video=\d+/(\d+)", device.process.output()[-2000:])
    return (int(said[-1][0]), int(said[-1][1])) if said else (-1, -1)


async def test_the_agent_puts_the_customer_on_hold_and_comes_back(tmp_path: Path) -> None:
    async with Warmline(tmp_path) as server, phone(tmp_path, server, "ana") as ana:
        await make_ready(server, ana)
        async with Reader(tmp_path, server, BOILER_ARTICLE) as maria:
            await maria.ask_for("video")
            await ana.event("CALL_INCOMING")
            await ana.accept()
            await maria.reaches("connected")
            await until(lambda: maria.hears_tone(880), "the agent's tone in the browser")
            await until(lambda: phone_hears(ana, 620), "the customer's tone in the phone")

            await ana.command("hold")
            await until(lambda: reoffers(ana) == [("sendonly", "recvonly")], "the hold to be agreed")
            status = maria.page.locator("#help-status")
            await expect(status).to_have_text("Ana has put you on hold.")

            async def hears_nothing_of_her() -> bool:
                return not await maria.hears_tone(880)

            await until(hears_nothing_of_her, "the agent's tone to be gone while on hold")
            await until(lambda: max(arriving(ana)) == 0, "nothing to be sent to the phone while on hold")
            assert await maria.in_state("connected")
            assert "contact.ended" not in server.kinds()
            assert server.agent_state("agent-ana") == "Talking"

            # Away and back twice: nothing may be used up on the way.
            await ana.command("resume")
            await until(
                lambda: reoffers(ana)[1:] == [("sendrecv", "sendrecv")], "the resumption to be agreed"
            )
            await expect(status).to_have_text("You are talking with Ana.")
            await ana.command("hold")
            await until(lambda: len(reoffers(ana)) == 3, "the second hold")
            await ana.command("resume")
            await until(lambda: len(reoffers(ana)) == 4, "the second resumption")

            await until(lambda: maria.hears_tone(880), "the agent's tone after the hold")
            await until(maria.sees_moving_pictures, "the agent's picture after the hold")
            await until(lambda: min(arriving(ana)) > 5000, "the customer's sound and picture after the hold")
            assert len(server.rows("SELECT id FROM contact")) == 1
            await maria.hang_up()
            ended = await server.event("contact.ended")
            assert ended["facts"]["disposition"] == "customer_hung_up"
            await server.agent_is("agent-ana", "WrapUp", "Ready", seconds=1)


async def test_a_voice_call_between_two_browsers_has_no_video_on_either_side(tmp_path: Path) -> None:
    async with (
        Warmline(tmp_path) as server,
        BrowserPhone(server, user="carla", password="carla-phone") as carla,
    ):
        await make_ready_by_page(server, "carla")
        async with Reader(tmp_path, server, CAMERA_ARTICLE) as maria:
            await maria.ask_for("voice")
            await carla.rings()
            said = await carla.prompt()
            assert said["subject"].startswith("Voice: ")
            assert said["video"] is False
            await carla.answer(video=False)
            await maria.reaches("connected")
            await until(lambda: maria.hears_tone(1000), "Carla's tone in Maria's browser")
            await until(lambda: carla.hears_tone(620), "Maria's tone in Carla's browser")
            for end in (maria, carla):
                assert (await end.statistics())["framesSent"] == 0
            await maria.hang_up()
            await carla.is_over()
            await server.agent_is("agent-carla", "WrapUp", "Ready", seconds=1)


async def test_a_phone_that_refuses_the_video_it_is_offered_still_talks(tmp_path: Path) -> None:
    """Its owner said in the page that it has video; it was built without, and answers with port zero (RFC 3264 s6)."""
    async with Warmline(tmp_path) as server, phone(tmp_path, server, "deniz", video=False) as deniz:
        page = AgentPage(server.portal)
        await page.log_in("deniz", "deniz-agent")
        status, _ = await page.post(
            "/agent/devices/device-deniz/capability", {"channel": "video", "can": "yes"}
        )
        assert status == 200
        await make_ready(server, deniz)
        async with Reader(tmp_path, server, CAMERA_ARTICLE) as maria:
            await maria.ask_for("video")
            await deniz.event("CALL_INCOMING")
            assert "m=video" in deniz.invites()[-1].body
            await deniz.accept()
            await maria.reaches("connected")
            await until(lambda: maria.hears_tone(880), "the agent's tone in the browser")
            await until(lambda: phone_hears(deniz, 620), "the customer's tone in the phone")
            await until(maria.page.locator(".no-picture").is_visible, "the page to say that no picture comes")
            await deniz.hang_up()
            ended = await server.event("contact.ended")
            assert ended["facts"]["disposition"] == "agent_hung_up"
            await maria.reaches("ended")
