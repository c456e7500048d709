"""A chat between the page and the agent's own softphone, as SIP MESSAGE."""

from __future__ import annotations

from pathlib import Path

from tests.peers.people import BOILER_ARTICLE, CAMERA_ARTICLE, Reader, make_ready, phone
from tests.peers.process import until
from tests.peers.warmline import Warmline


async def test_chat_both_ways_with_lines_beyond_ascii(tmp_path: Path) -> None:
    async with Warmline(tmp_path) as server, phone(tmp_path, server, "ana") as ana:
        await make_ready(server, ana)
        async with Reader(tmp_path, server, BOILER_ARTICLE) as maria:
            await maria.ask_for("chat")
            await ana.event("CALL_INCOMING")
            prompt = ana.invites()[-1]
            assert prompt.header("Subject").startswith("Chat")
            await ana.accept()
            connected = await server.event("contact.connected")
            contact = connected["contact_id"]
            await maria.reaches("connected")

            await maria.say("Der Druck fällt – 0,4 bar 🙂")
            await until(
                lambda: "Der Druck fällt – 0,4 bar 🙂" in said_to(ana, contact), "her line in the phone"
            )
            await ana.send_message(f"sip:{contact}@127.0.0.1", "Привет, Мария — ça va ✓")
            await until(lambda: shows(maria, "Привет, Мария — ça va ✓"), "the agent's line in the page")

            rows = server.rows("SELECT * FROM message WHERE contact_id = ? ORDER BY at", contact)
            assert [row["text"] for row in rows][-2:] == [
                "Der Druck fällt – 0,4 bar 🙂",
                "Привет, Мария — ça va ✓",
            ]

            await maria.hang_up()
            ended = await server.event("contact.ended", contact_id=contact)
            assert ended["facts"]["disposition"] == "customer_hung_up"
            await server.agent_is("agent-ana", "WrapUp", "Ready", seconds=1)


async def test_two_chats_of_one_agent_never_mix(tmp_path: Path) -> None:
    async with Warmline(tmp_path) as server, phone(tmp_path, server, "deniz") as deniz:
        await make_ready(server, deniz)
        async with (
            Reader(tmp_path, server, CAMERA_ARTICLE) as maria,
            Reader(tmp_path, server, CAMERA_ARTICLE, person="aiko", tone=740) as aiko,
        ):
            await maria.ask_for("chat")
            await deniz.event("CALL_INCOMING", count=1)
            await deniz.accept()
            first = (await server.event("contact.connected", count=1))["contact_id"]
            await aiko.ask_for("chat")
            await deniz.event("CALL_INCOMING", count=2)
            await deniz.accept()
            second = (await server.event("contact.connected", count=2))["contact_id"]
            assert first != second

            await maria.say("maria speaks")
            await aiko.say("aiko speaks")
            await until(lambda: "maria speaks" in said_to(deniz, first), "Maria's line")
            await until(lambda: "aiko speaks" in said_to(deniz, second), "Aiko's line")
            await deniz.send_message(f"sip:{second}@127.0.0.1", "for Aiko alone")
            await deniz.send_message(f"sip:{first}@127.0.0.1", "for Maria alone")
            await until(lambda: shows(maria, "for Maria alone"), "Maria's answer")
            await until(lambda: shows(aiko, "for Aiko alone"), "Aiko's answer")

            assert not await shows(maria, "for Aiko alone")
            assert not await shows(aiko, "for Maria alone")
            assert "aiko speaks" not in said_to(deniz, first)
            assert "maria speaks" not in said_to(deniz, second)


async def test_lines_typed_before_a_crash_are_there_after_it(tmp_path: Path) -> None:
    async with Warmline(tmp_path) as server, Reader(tmp_path, server, BOILER_ARTICLE) as maria:
        async with phone(tmp_path, server, "ana") as ana:
            await make_ready(server, ana)
            await maria.ask_for("chat")
            await ana.event("CALL_INCOMING")
            await ana.accept()
            await maria.reaches("connected")
        await maria.say("written before the crash")
        await until(lambda: acknowledged(maria, "written before the crash"), "the page to show it as stored")
        await server.kill()
        await server.start()
        rows = server.rows("SELECT text FROM message")
        assert "written before the crash" in [row["text"] for row in rows]
        await server.agent_is("agent-ana", "Offline", "NotReady", "Ready", "WrapUp")


def said_to(device: object, contact: str) -> str:
    """Everything that reached the phone from this contact's address."""
    return "\n".join(text for sender, text in device.texts() if f"sip:{contact}@" in sender)  # type: ignore[attr-defined]


async def shows(customer: Reader, text: str) -> bool:
    return text in await customer.chat()


async def acknowledged(customer: Reader, text: str) -> bool:
    line = customer.page.locator('#chat-log li[data-delivery="sent"]', has_text=text)
    return await line.count() == 1
