"""A chat between the page and the agent's own softphone, as SIP MESSAGE."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.peers.people import (
    BOILER_ARTICLE,
    CAMERA_ARTICLE,
    Reader,
    make_ready,
    make_ready_by_page,
    phone,
)
from tests.peers.process import until
from tests.peers.text_phone import TextPhone
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


async def test_a_phone_and_a_page_see_each_other_write_and_read(tmp_path: Path) -> None:
    async with Warmline(tmp_path) as server, TextPhone(server, "ana") as ana:
        await make_ready_by_page(server, "ana")
        async with Reader(tmp_path, server, BOILER_ARTICLE) as maria:
            await maria.ask_for("chat")
            contact = (await server.event("contact.connected"))["contact_id"]
            await maria.reaches("connected")

            # The customer writes, the phone sees it; the line comes, is delivered, and read when the phone says so.
            await maria.page.type("#chat-input", "My boiler")
            await until(
                lambda: ana.states == [(contact, ana.states[0][1])] if ana.states else False, "her writing"
            )
            assert ana.states[0][1].active
            assert ana.states[0][1].lasts_s >= 60
            await maria.say("My boiler loses pressure")
            line = await ana.shows(contact, "My boiler loses pressure")
            await until(
                lambda: marked(maria, "My boiler loses pressure", "delivered"), "the line to be delivered"
            )
            assert await ana.displays(line) == 200
            await until(lambda: marked(maria, "My boiler loses pressure", "read"), "the line to be read")

            # The agent writes, the page shows it; the line comes, and the phone hears of its delivery and display.
            assert await ana.composes(contact, True, 60) == 200
            await until(lambda: writer(maria, "Ana is writing…"), "the page to show that Ana writes")
            assert await ana.composes(contact, False) == 200
            await until(lambda: writer(maria, ""), "the page to show that she has stopped")
            await maria.page.click("#help-close")
            assert await ana.says(contact, "Is the valve open") == 200
            await until(lambda: (contact, ana.told(contact)) if ana.told(contact) else None, "a receipt")
            assert ana.told(contact) == [("Is-the-valve-open", "delivered")]
            await maria.page.click("#help-button")
            await until(lambda: len(ana.told(contact)) == 2, "the receipt that she has seen it")
            assert ana.told(contact)[1] == ("Is-the-valve-open", "displayed")

            # Nothing of all this is a line or an event, and all of it that lasts is there after a reload.
            rows = server.rows("SELECT * FROM message WHERE contact_id = ? ORDER BY at", contact)
            assert [(row["text"], row["read_at"] is not None) for row in rows] == [
                ("My boiler loses pressure", True),
                ("Is the valve open", True),
            ]
            assert not [kind for kind in server.kinds(contact) if "compos" in kind or "read" in kind]
            await maria.page.reload()
            await maria.reaches("connected")
            await until(lambda: marked(maria, "My boiler loses pressure", "read"), "the mark after a reload")


async def test_signs_of_two_chats_never_mix_and_a_plain_phone_gets_none(tmp_path: Path) -> None:
    async with (
        Warmline(tmp_path) as server,
        TextPhone(server, "deniz") as deniz,
        phone(tmp_path, server, "ana") as ana,
    ):
        await make_ready_by_page(server, "deniz")
        await make_ready(server, ana)
        async with (
            Reader(tmp_path, server, CAMERA_ARTICLE) as maria,
            Reader(tmp_path, server, CAMERA_ARTICLE, person="aiko", tone=740) as aiko,
            Reader(tmp_path, server, BOILER_ARTICLE, person="jonas", tone=880) as jonas,
        ):
            await maria.ask_for("chat")
            first = (await server.event("contact.connected", count=1))["contact_id"]
            await aiko.ask_for("chat")
            second = (await server.event("contact.connected", count=2))["contact_id"]
            await jonas.ask_for("chat")
            await ana.event("CALL_INCOMING")
            await ana.accept()
            third = (await server.event("contact.connected", count=3))["contact_id"]
            for each in (maria, aiko, jonas):
                await each.reaches("connected")

            await aiko.page.type("#chat-input", "x")
            await jonas.page.type("#chat-input", "x")
            await until(lambda: deniz.states, "Aiko's writing in the phone")
            assert {contact for contact, _ in deniz.states} == {second}
            assert await deniz.composes(first, True) == 200
            await until(lambda: writer(maria, "Deniz is writing…"), "Maria to see that Deniz writes")
            assert await writer(aiko, "")

            await maria.say("same words")
            await aiko.say("same words")
            line = await deniz.shows(second, "same words")
            await deniz.shows(first, "same words")
            assert await deniz.displays(line) == 200
            await until(lambda: marked(aiko, "same words", "read"), "Aiko's line to be read")
            assert await marked(maria, "same words", "delivered")
            # A receipt that names the line of one chat in the other is not believed.
            assert await deniz.displays(replace(line, contact=first)) == 200
            assert await marked(maria, "same words", "delivered")
            # Nor may one agent's phone speak in a chat of another's.
            assert await deniz.composes(third, True) == 403

            await jonas.say("only words")
            await until(
                lambda: marked(jonas, "only words", "delivered"), "Jonas's line to be delivered by the 200"
            )
            received = [message for message in ana.trace() if message.received]
            messages = [message for message in received if message.start.startswith("MESSAGE ")]
            assert [message.header("Content-Type").lower() for message in messages] == [
                "text/plain;charset=utf-8"
            ]
            assert not [message for message in received if "<?xml" in message.body or "imdn" in message.body]


def said_to(device: object, contact: str) -> str:
    """Everything that reached the phone from this contact's address."""
    return "\n".join(text for sender, text in device.texts() if f"sip:{contact}@" in sender)  # type: ignore[attr-defined]


async def shows(customer: Reader, text: str) -> bool:
    return text in await customer.chat()


async def marked(customer: Reader, text: str, mark: str) -> bool:
    """Whether the page shows that mark on a line, in words and not by colour alone."""
    line = customer.page.locator(f'#chat-log li[data-delivery="{mark}"]', has_text=text)
    return await line.count() == 1 and mark in (await line.locator("small").inner_text())


async def writer(customer: Reader, words: str) -> bool:
    return (await customer.page.locator("#chat-composing").inner_text()).strip() == words


async def acknowledged(customer: Reader, text: str) -> bool:
    line = customer.page.locator('#chat-log li[data-delivery="sent"]', has_text=text)
    return await line.count() == 1
