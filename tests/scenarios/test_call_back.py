"""Called back instead of waiting: in the page and by telephone, with everything that may come between."""

from __future__ import annotations

import json
from pathlib import Path

from tests.peers.agent_page import AgentPage
from tests.peers.customer_page import CustomerPage
from tests.peers.people import BOILER_ARTICLE, Reader, phone, phone_hears
from tests.peers.process import free_sip_port, until
from tests.peers.sipp import Sipp
from tests.peers.warmline import Warmline

BOILER_NUMBER = "+15550200"
MARIA = "+15550100001"


def centre(folder: Path, carrier: int = 0) -> Warmline:
    """A server that calls again soon, and calls American numbers by a carrier at that port."""
    trunk = {"name": "carrier", "peers": [f"127.0.0.1:{carrier or free_sip_port()}"], "options_s": 0}
    more = {"dial": ["+1555"], "caller_id": "+15550100"}
    return Warmline(folder, trunks=json.dumps([{**trunk, **more}]), call_back_again_s=3)


async def says_ready(server: Warmline) -> None:
    page = AgentPage(server.portal)
    await page.log_in("ana", "ana-agent")
    await page.set_state("ready")


async def waits(maria: Reader, channel: str = "voice") -> str:
    """Nobody is at work: the page takes up a contact that is open, as it does after a reload."""
    contact = await maria.request_by_api(channel, "boiler-200")
    await maria.page.reload()
    await maria.reaches("waiting")
    return str(contact["id"])


async def asks_to_be_called_back(server: Warmline, maria: Reader, way: str) -> None:
    await maria.page.click("#help-call-back")
    await maria.page.click(f"#help-way-{way}")
    await server.event("contact.call_back_asked", way=way)


async def status(maria: Reader) -> str:
    return await maria.page.inner_text("#help-status")


async def rings(maria: Reader) -> None:
    await until(maria.page.locator("#help-answer").is_visible, f"the page to ring ({maria.console[-5:]})")


async def test_the_customer_reads_on_and_is_called_back_in_their_page(tmp_path: Path) -> None:
    async with (
        centre(tmp_path) as server,
        phone(tmp_path, server, "ana") as ana,
        Reader(tmp_path, server, BOILER_ARTICLE) as maria,
    ):
        contact = await waits(maria)
        await server.event("contact.invited", contact_id=contact)
        await asks_to_be_called_back(server, maria, "app")
        await until(lambda: maria.page.locator("#help-stay").is_visible(), "what may be done instead")
        assert "call you back in this page" in await status(maria)
        # They read on; loaded again the page shows the same, and calls nobody.
        await maria.page.click("#help-close")
        await maria.page.click(".crumbs >> text=Boiler 200")
        await maria.page.wait_for_url("**/products/boiler-200")
        await maria.page.reload()
        await maria.reaches("waiting")
        await until(lambda: maria.page.locator("#help-stay").is_visible(), "the same after a reload")
        assert "call you back in this page" in await status(maria)

        await says_ready(server)
        await ana.event("CALL_INCOMING")
        await ana.accept()
        await rings(maria)
        assert server.agent_state("agent-ana") == "Talking", "the agent comes first"
        assert server.kinds(contact).count("contact.invited") == 1
        await maria.page.click("#help-answer")
        await maria.reaches("connected")
        await until(lambda: maria.hears_tone(880), "the agent's tone in the browser")
        assert (await server.event("contact.connected"))["contact_id"] == contact
        await maria.hang_up()
        await server.event("contact.ended", contact_id=contact, disposition="customer_hung_up")
        assert len(server.rows("SELECT id FROM contact")) == 1


async def test_not_now_frees_the_agent_and_the_page_rings_again_later(tmp_path: Path) -> None:
    async with (
        centre(tmp_path) as server,
        phone(tmp_path, server, "ana") as ana,
        Reader(tmp_path, server, BOILER_ARTICLE) as maria,
    ):
        contact = await waits(maria)
        await asks_to_be_called_back(server, maria, "app")
        await says_ready(server)
        await ana.event("CALL_INCOMING")
        await ana.accept()
        await rings(maria)
        await maria.page.click("#help-not-now")
        failed = await server.event("contact.call_back_failed", contact_id=contact)
        assert failed["facts"]["why"] == "refused"
        await server.agent_is("agent-ana", "Ready", "Reserved", seconds=3)
        await until(lambda: maria.page.locator("#help-answer").is_hidden(), "the page to be quiet")
        assert "call you again" in await status(maria)
        await ana.event("CALL_INCOMING", count=2)
        await ana.accept()
        await rings(maria)
        await maria.page.click("#help-answer")
        await maria.reaches("connected")
        await until(lambda: maria.hears_tone(880), "the agent's tone in the browser")


async def test_a_page_that_is_closed_keeps_no_agent_and_is_called_when_it_is_back(tmp_path: Path) -> None:
    async with (
        centre(tmp_path) as server,
        phone(tmp_path, server, "ana") as ana,
        Reader(tmp_path, server, BOILER_ARTICLE) as maria,
    ):
        contact = await waits(maria)
        await asks_to_be_called_back(server, maria, "app")
        await maria.page.goto("about:blank")
        await says_ready(server)
        await ana.event("CALL_INCOMING")
        await ana.accept()
        failed = await server.event("contact.call_back_failed", contact_id=contact)
        assert failed["facts"]["why"] == "unreachable"
        await maria.read(BOILER_ARTICLE)
        await ana.event("CALL_INCOMING", count=2)
        await ana.accept()
        await rings(maria)


async def test_the_telephone_is_called_again_when_it_was_declined_and_the_two_talk(tmp_path: Path) -> None:
    carrier = free_sip_port()
    async with (
        centre(tmp_path, carrier) as server,
        phone(tmp_path, server, "ana") as ana,
        Reader(tmp_path, server, BOILER_ARTICLE) as maria,
    ):
        contact = await waits(maria)
        await asks_to_be_called_back(server, maria, "phone")
        await until(lambda: maria.page.locator("#help-stay").is_visible(), "what may be done instead")
        assert "+15…01" in await status(maria), "its owner knows it, and who looks over a shoulder does not"
        async with Sipp(
            tmp_path, "device_declines_603", server_port=server.sip_port, port=carrier
        ) as declining:
            await says_ready(server)
            await ana.event("CALL_INCOMING")
            await ana.accept()
            await declining.finished(20)
        failed = await server.event("contact.call_back_failed", contact_id=contact)
        assert (failed["facts"]["why"], failed["facts"]["attempt"]) == ("refused", 1)
        async with Sipp(tmp_path, "device_answers", server_port=server.sip_port, port=carrier) as answering:
            await ana.event("CALL_INCOMING", count=2)
            await ana.accept()
            await server.event("contact.connected", contact_id=contact)
            assert f"INVITE sip:{MARIA}@" in answering.messages()
            assert "<sip:+15550100@" in answering.messages(), "shown is the trunk's number, and nobody's name"
            # sipp echoes: the agent's own tone comes back when both directions carry.
            await until(lambda: phone_hears(ana, 880), "the echo of the agent's own tone")
            await maria.reaches("connected")
            assert "on your telephone" in await status(maria)
            await ana.hang_up()
            await answering.finished()
        await server.event("contact.ended", contact_id=contact, disposition="agent_hung_up")


async def test_a_caller_hangs_up_and_a_crash_later_is_called_back(tmp_path: Path) -> None:
    carrier = free_sip_port()
    async with (
        centre(tmp_path, carrier) as server,
        phone(tmp_path, server, "ana", audio_codecs="pcmu/8000/1") as ana,
    ):
        page = CustomerPage(server.portal)
        await page.log_in()
        keys = {"number": BOILER_NUMBER, "caller": MARIA}
        async with Sipp(
            tmp_path, "caller_waits_for_bye", server_port=server.sip_port, port=carrier, keys=keys
        ) as caller:
            contact = (await server.event("contact.queued"))["contact_id"]
            # She reads on meanwhile, and asks there; she hears that it is so, and is hung up on.
            await page._post(f"/api/contacts/{contact}/call-back", {"way": "phone"})
            await caller.finished(30)
        assert "contact.ended" not in server.kinds(contact)

        await server.kill()
        await server.start()

        assert "contact.ended" not in server.kinds(contact)
        async with Sipp(tmp_path, "device_answers", server_port=server.sip_port, port=carrier) as answering:
            await says_ready(server)
            await ana.event("CALL_INCOMING", seconds=30)
            await ana.accept()
            await server.event("contact.connected", contact_id=contact)
            await until(lambda: phone_hears(ana, 880), "the echo of the agent's own tone")
            await ana.hang_up()
            await answering.finished()


async def test_a_crash_while_the_page_rings_leaves_nobody_stuck(tmp_path: Path) -> None:
    async with (
        centre(tmp_path) as server,
        phone(tmp_path, server, "ana") as ana,
        Reader(tmp_path, server, BOILER_ARTICLE) as maria,
    ):
        contact = await waits(maria)
        await asks_to_be_called_back(server, maria, "app")
        await says_ready(server)
        await ana.event("CALL_INCOMING")
        await ana.accept()
        await rings(maria)

        await server.kill()
        await ana.hang_up()  # the call that died with the server, before the next one rings
        await server.start()

        await ana.event("CALL_INCOMING", count=2, seconds=40)
        await ana.accept()
        await rings(maria)
        await maria.page.click("#help-answer")
        await maria.reaches("connected")
        assert (await server.event("contact.connected"))["contact_id"] == contact
        await until(lambda: maria.hears_tone(880), "the agent's tone in the browser")
