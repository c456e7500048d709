"""kill -9 and Ctrl-C: what was promised is there after the next start, and nobody is left hanging."""

from __future__ import annotations

import time
from pathlib import Path

from tests.peers.agent_page import AgentPage
from tests.peers.people import (
    BOILER_ARTICLE,
    CAMERA_ARTICLE,
    Reader,
    make_ready,
    phone,
    phone_hears,
)
from tests.peers.process import until
from tests.peers.sipp import Sipp
from tests.peers.warmline import Warmline


async def crash_and_restart(server: Warmline) -> None:
    await server.kill()
    await server.start()


async def asks_while_nobody_is_ready(customer: Reader, channel: str, product: str) -> None:
    """The page would not offer it; loaded again, it takes the contact up as it does any that is still open."""
    await customer.request_by_api(channel, product)
    await customer.page.reload()
    await customer.reaches("waiting")


async def says_ready(server: Warmline, agent: str) -> None:
    """Whoever waits is offered at once, so that "Ready" itself is hardly ever seen."""
    page = AgentPage(server.portal)
    await page.log_in(agent, f"{agent}-agent")
    await page.set_state("ready")


async def position(customer: Reader) -> int | None:
    contact = await customer.page.evaluate("async () => await (await fetch('/api/contacts/current')).json()")
    return contact["position"] if contact["state"] == "waiting" else None


async def shows(customer: Reader, text: str) -> bool:
    return text in await customer.chat()


async def shows_as_stored(customer: Reader, text: str) -> bool:
    return await customer.page.locator('#chat-log li[data-delivery="sent"]', has_text=text).count() == 1


async def test_waiting_chats_keep_their_places_and_lines_through_a_crash(tmp_path: Path) -> None:
    async with (
        Warmline(tmp_path) as server,
        phone(tmp_path, server, "ana") as ana,
        Reader(tmp_path, server, BOILER_ARTICLE) as maria,
        Reader(tmp_path, server, BOILER_ARTICLE, person="jonas", tone=740) as jonas,
    ):
        await asks_while_nobody_is_ready(maria, "chat", "boiler-200")
        await maria.say("first in line – the pressure is 0,4 bar")
        await until(lambda: shows_as_stored(maria, "first in line"), "her line to be stored")
        theirs = await jonas.request_by_api("chat", "boiler-200")
        contacts = [row["contact_id"] for row in server.events() if row["kind"] == "contact.requested"]
        assert contacts[1] == theirs["id"]

        await crash_and_restart(server)

        assert "contact.ended" not in server.kinds()
        assert await position(maria) == 1
        assert await position(jonas) == 2
        await maria.reaches("waiting")
        await says_ready(server, "ana")
        await ana.event("CALL_INCOMING")
        assert (await server.event("contact.prompted"))["contact_id"] == contacts[0], (
            "the first is first still"
        )
        await ana.accept()
        await maria.reaches("connected")
        await until(
            lambda: any("0,4 bar" in text for _, text in ana.texts()), "her line, in the agent's phone"
        )
        await ana.send_message(f"sip:{contacts[0]}@127.0.0.1", "we are back")
        await until(lambda: shows(maria, "we are back"), "the agent's line in the page that saw the crash")
        rows = server.rows("SELECT text FROM message WHERE contact_id = ? ORDER BY at", contacts[0])
        assert [row["text"] for row in rows] == ["first in line – the pressure is 0,4 bar", "we are back"]


async def test_a_page_that_waits_for_video_finds_the_server_again(tmp_path: Path) -> None:
    async with (
        Warmline(tmp_path) as server,
        phone(tmp_path, server, "ana") as ana,
        Reader(tmp_path, server, BOILER_ARTICLE) as maria,
    ):
        await asks_while_nobody_is_ready(maria, "video", "boiler-200")
        contact = (await server.event("contact.invited"))["contact_id"]

        await crash_and_restart(server)

        # The page alone finds its way: nobody touches it.
        await server.event("contact.invited", contact_id=contact, count=2, seconds=30)
        await says_ready(server, "ana")
        await ana.event("CALL_INCOMING")
        await ana.accept()
        connected = await server.event("contact.connected")
        assert connected["contact_id"] == contact
        await maria.reaches("connected")
        await until(lambda: maria.hears_tone(880), "the agent's tone in the browser")
        await until(maria.sees_moving_pictures, "the agent's moving picture in the browser")
        assert len(server.rows("SELECT id FROM contact")) == 1


async def test_a_call_cut_by_a_crash_is_over_and_the_agent_is_free(tmp_path: Path) -> None:
    async with Warmline(tmp_path) as server, phone(tmp_path, server, "ana") as ana:
        await make_ready(server, ana)
        async with Reader(tmp_path, server, BOILER_ARTICLE) as maria:
            await maria.ask_for("voice")
            await ana.event("CALL_INCOMING")
            await ana.accept()
            await maria.reaches("connected")
            cut = (await server.event("contact.connected"))["contact_id"]
            assert server.agent_state("agent-ana") == "Talking"

            await crash_and_restart(server)

            ended = await server.event("contact.ended", contact_id=cut)
            assert ended["facts"]["disposition"] == "server_died"
            assert ended["facts"]["whose"] == "server"
            # Her word and her phone's UDP registration have outlived the crash.
            await server.agent_is("agent-ana", "Ready", seconds=2)
            await maria.reaches("ended", seconds=20)

            await maria.page.click("#help-done")
            await maria.ask_for("voice")
            await ana.event("CALL_INCOMING", count=2)
            await ana.accept()
            again = await server.event("contact.connected", count=2)
            assert again["contact_id"] != cut
            await maria.reaches("connected")
            await until(lambda: maria.hears_tone(880), "the agent's tone in the browser")


async def test_ctrl_c_ends_calls_and_keeps_chats(tmp_path: Path) -> None:
    async with (
        Warmline(tmp_path) as server,
        phone(tmp_path, server, "ana") as ana,
        phone(tmp_path, server, "bo", video=False) as bo,
    ):
        await make_ready(server, ana)
        async with (
            Reader(tmp_path, server, BOILER_ARTICLE) as maria,
            Reader(tmp_path, server, CAMERA_ARTICLE, person="aiko", tone=740) as aiko,
        ):
            await asks_while_nobody_is_ready(aiko, "chat", "hub-mini")
            await aiko.say("written while waiting")
            await until(lambda: shows_as_stored(aiko, "written while waiting"), "her line to be stored")
            waiting = (await server.event("contact.requested", channel="chat"))["contact_id"]
            await maria.ask_for("voice")
            await ana.event("CALL_INCOMING")
            await ana.accept()
            await maria.reaches("connected")
            call = (await server.event("contact.connected"))["contact_id"]

            started = time.monotonic()
            server.process.interrupt()
            await ana.event("CALL_CLOSED", count=2, seconds=5)
            assert await server.process.wait(12) == 0, server.process.output()[-3000:]
            assert time.monotonic() - started < 12
            await maria.reaches("ended", seconds=5)

            byes = [
                message for message in ana.trace() if message.received and message.start.startswith("BYE ")
            ]
            assert byes[-1].header("Call-ID") == ana.invites()[-1].header("Call-ID")
            ended = await server.event("contact.ended", contact_id=call)
            assert ended["facts"]["disposition"] == "server_stopped"
            assert "contact.ended" not in server.kinds(waiting)
            assert "Traceback" not in server.process.output()

            await server.start()
            assert server.agent_state("agent-ana") not in {"Reserved", "Talking"}
            await says_ready(server, "bo")
            await bo.event("CALL_INCOMING")
            await bo.accept()
            connected = await server.event("contact.connected", count=2)
            assert connected["contact_id"] == waiting
            await until(
                lambda: any("written while waiting" in text for _, text in bo.texts()),
                "the line, in Bo's phone",
            )


async def test_a_crash_while_a_colleague_is_rung_and_the_agent_has_left(tmp_path: Path) -> None:
    """Nobody is with the customer then but the server, which dies: what is stored has them in the queue."""
    async with (
        Warmline(tmp_path) as server,
        phone(tmp_path, server, "ana", tone=880) as ana,
        phone(tmp_path, server, "bo", video=False) as bo,
    ):
        await make_ready(server, ana)
        async with Reader(tmp_path, server, BOILER_ARTICLE) as maria:
            await maria.ask_for("voice")
            await ana.event("CALL_INCOMING")
            await ana.accept()
            await maria.reaches("connected")
            contact = (await server.event("contact.connected"))["contact_id"]
            await ana.command("transfer", "sip:bo@127.0.0.1")
            await bo.event("CALL_INCOMING")
            await ana.hang_up()
            await server.agent_is("agent-ana", "WrapUp", "Ready")
            assert server.agent_state("agent-bo") == "Reserved"

            await crash_and_restart(server)

            assert "contact.ended" not in server.kinds(contact)
            await server.agent_is("agent-bo", "NotReady", "Ready", "Offline", seconds=2)
            # The page calls again, and Ana, who is ready, is the one who can help.
            await ana.event("CALL_INCOMING", count=2, seconds=30)
            await ana.accept()
            again = await server.event("contact.connected", count=2)
            assert (again["contact_id"], again["agent_id"]) == (contact, "agent-ana")
            await maria.reaches("connected")
            await until(lambda: maria.hears_tone(880), "Ana's tone in the browser")

            # Bo's phone still rings for nobody: answered now, it finds nobody, and disturbs nobody.
            await bo.accept()
            await until(lambda: maria.hears_tone(880), "Ana's tone still")
            assert server.agent_state("agent-ana") == "Talking"
            await maria.hang_up()
            await server.event("contact.ended", contact_id=contact, disposition="customer_hung_up")


async def test_a_direct_call_cut_by_a_crash_leaves_both_agents_free(tmp_path: Path) -> None:
    async with (
        Warmline(tmp_path) as server,
        phone(tmp_path, server, "ana", tone=880, video=False) as ana,
        phone(tmp_path, server, "bo", tone=620, video=False) as bo,
    ):
        await make_ready(server, bo)
        established = len(ana.seen("CALL_ESTABLISHED"))
        await ana.dial("sip:bo@127.0.0.1")
        await bo.event("CALL_INCOMING")
        await bo.accept()
        await until(lambda: phone_hears(bo, 880), "Ana's tone at Bo's phone")

        await crash_and_restart(server)

        # Each hangs up what is left at their phone; the server knows no such call, and says so (481).
        await ana.hang_up()
        await bo.hang_up()
        await ana.event("CALL_CLOSED", count=1)
        await bo.event("CALL_CLOSED", count=2)
        assert server.agent_state("agent-bo") == "Ready"
        await ana.dial("sip:bo@127.0.0.1")
        await bo.event("CALL_INCOMING", count=2)
        await bo.accept()
        await ana.event("CALL_ESTABLISHED", count=established + 2)
        await until(lambda: phone_hears(bo, 880), "Ana's tone at Bo's phone again")
        await ana.hang_up()
        await server.event("call.ended")


async def test_ctrl_c_while_a_customer_is_passed_on(tmp_path: Path) -> None:
    async with (
        Warmline(tmp_path) as server,
        phone(tmp_path, server, "ana", audio_codecs="pcmu/8000/1", video=False) as ana,
        phone(tmp_path, server, "bo", video=False) as bo,
    ):
        await make_ready(server, ana)
        keys = {"number": "+15550200", "caller": "+15550100001"}
        async with Sipp(
            tmp_path, "caller_waits_for_bye", server_port=server.sip_port, port=server.trunk_port, keys=keys
        ) as sipp:
            await ana.event("CALL_INCOMING")
            await ana.accept()
            contact = (await server.event("contact.connected"))["contact_id"]
            await ana.command("transfer", "sip:bo@127.0.0.1")
            await bo.event("CALL_INCOMING")

            server.process.interrupt()
            await bo.event("CALL_CLOSED", seconds=5)
            await sipp.finished(10)
            assert await server.process.wait(12) == 0, server.process.output()[-3000:]
            assert "Traceback" not in server.process.output()
            ended = await server.event("contact.ended", contact_id=contact)
            assert (ended["facts"]["disposition"], ended["facts"]["whose"]) == ("server_stopped", "server")
            failed = await server.event("contact.transfer_failed", contact_id=contact)
            assert (failed["facts"]["status"], failed["facts"]["then"]) == (487, "ended")

            await server.start()
            assert server.agent_state("agent-ana") not in {"Reserved", "Talking"}
            assert server.agent_state("agent-bo") not in {"Reserved", "Talking"}
