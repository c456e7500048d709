"""Who waits goes on in another channel, and keeps the place and all that was known."""

from __future__ import annotations

from pathlib import Path

from tests.peers.people import BOILER_ARTICLE, Reader, phone
from tests.peers.process import until
from tests.peers.warmline import Warmline
from tests.scenarios.test_call_back import says_ready, waits


async def moves(server: Warmline, maria: Reader, channel: str) -> None:
    await maria.page.click(f"#help-move-{channel}")
    await server.event("contact.channel_changed", channel=channel)
    await until(lambda: medium(maria, channel), f"the dock to show {channel}")


async def medium(maria: Reader, channel: str) -> bool:
    return await maria.dock.get_attribute("data-medium") == channel


async def test_from_voice_to_chat_and_an_agent_takes_it_there(tmp_path: Path) -> None:
    async with (
        Warmline(tmp_path) as server,
        phone(tmp_path, server, "ana") as ana,
        Reader(tmp_path, server, BOILER_ARTICLE) as maria,
    ):
        contact = await waits(maria)
        await server.event("contact.invited", contact_id=contact)
        place = server.rows("SELECT place_at FROM contact")[0]["place_at"]
        await moves(server, maria, "chat")
        await maria.say("I cannot talk just now")
        await until(
            lambda: maria.page.locator('#chat-log li[data-delivery="sent"]').count(), "her line to be stored"
        )
        assert server.rows("SELECT channel, place_at, state FROM contact") == [
            {"channel": "chat", "place_at": place, "state": "waiting"}
        ]
        # Loaded again it is the chat still.
        await maria.page.reload()
        await maria.reaches("waiting")
        assert await medium(maria, "chat")
        await says_ready(server)
        await ana.event("CALL_INCOMING")
        assert ana.invites()[-1].header("Subject").startswith("Chat: ")
        await ana.accept()
        await maria.reaches("connected")
        await until(lambda: any("cannot talk" in text for _, text in ana.texts()), "her line, in Ana's phone")
        assert (await server.event("contact.connected"))["contact_id"] == contact


async def test_from_chat_to_voice_to_video_and_back_the_lines_stay(tmp_path: Path) -> None:
    async with (
        Warmline(tmp_path) as server,
        phone(tmp_path, server, "ana") as ana,
        Reader(tmp_path, server, BOILER_ARTICLE) as maria,
    ):
        contact = await waits(maria, "chat")
        await maria.say("the gauge shows 0,4 bar")
        await until(
            lambda: maria.page.locator('#chat-log li[data-delivery="sent"]').count(), "her line to be stored"
        )
        await moves(server, maria, "voice")
        await server.event("contact.invited", contact_id=contact)
        await until(maria.hears_anything, "what is heard while waiting")
        await moves(server, maria, "video")
        await server.event("contact.invited", contact_id=contact, video=True)
        assert await maria.in_state("waiting")
        await says_ready(server)
        await ana.event("CALL_INCOMING")
        assert ana.invites()[-1].header("Subject").startswith("Video: ")
        await ana.accept()
        await maria.reaches("connected")
        await until(lambda: maria.hears_tone(880), "the agent's tone in the browser")
        await until(maria.sees_moving_pictures, "the agent's moving picture in the browser")
        stored = server.rows("SELECT text FROM message WHERE contact_id = ?", contact)
        assert [row["text"] for row in stored] == ["the gauge shows 0,4 bar"]
        assert len(server.rows("SELECT id FROM contact")) == 1
        await maria.hang_up()
        await server.event("contact.ended", contact_id=contact, disposition="customer_hung_up")


async def test_a_microphone_that_is_not_lent_leaves_everything_as_it_was(tmp_path: Path) -> None:
    async with Warmline(tmp_path) as server, Reader(tmp_path, server, BOILER_ARTICLE) as maria:
        contact = await waits(maria, "chat")
        await maria.page.evaluate(
            """() => {
              navigator.mediaDevices.getUserMedia = async () => { throw new DOMException("no", "NotAllowedError"); };
            }"""
        )
        await maria.page.click("#help-move-voice")
        trouble = maria.page.locator("#help-trouble", has_text="not allowed to use the microphone")
        await until(trouble.is_visible, "why not")
        assert await medium(maria, "chat")
        await maria.page.click("#help-actions button")
        await maria.say("so I write")
        await until(
            lambda: maria.page.locator('#chat-log li[data-delivery="sent"]').count(), "her line to be stored"
        )
        assert "contact.channel_changed" not in server.kinds(contact)
