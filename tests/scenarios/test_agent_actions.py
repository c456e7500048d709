"""What agents do with a customer from their page, with real phones: hold, ask, hand over, confer, pass on, write up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.async_api import ViewportSize, async_playwright, expect

from tests.peers.agent_page import AgentPage
from tests.peers.baresip import Baresip, tones_in
from tests.peers.browser import CHROMIUM, FLAGS, PHONE
from tests.peers.people import BOILER_ARTICLE, Reader, make_ready_by_page, phone, phone_hears
from tests.peers.process import until
from tests.peers.warmline import Warmline

PCMU: dict[str, Any] = {"audio_codecs": "pcmu/8000/1", "video": False}
ANA, BO, CUSTOMER = 880, 620, 1500


@dataclass
class Desk:
    """Ana talks to a customer on the telephone; Bo's phone is there too."""

    server: Warmline
    contact: str
    ana: Baresip
    bo: Baresip
    customer: Baresip
    page: AgentPage

    async def does(self, what: str, **fields: str) -> None:
        status, page = await self.page.post(f"/agent/contacts/{self.contact}/do/{what}", fields)
        assert status == 200, page

    async def asks_bo(self) -> None:
        await self.does("consult", to="agent:agent-bo")
        await self.bo.event("CALL_INCOMING")
        await self.bo.accept()
        await self.server.event("contact.consulted")
        await until(lambda: phone_hears(self.bo, ANA), "Ana's tone at Bo's phone")
        await until(lambda: phone_hears(self.ana, BO), "Bo's tone at Ana's phone")
        await until(lambda: not hears(self.customer, ANA, BO), "music, and neither agent, for the customer")


def hears(device: Baresip, *among: int) -> set[int]:
    path = device.heard()
    return tones_in(path, *among) if path is not None else set()


@asynccontextmanager
async def talking(tmp_path: Path) -> AsyncIterator[Desk]:
    server = Warmline(tmp_path)
    async with (
        server,
        phone(tmp_path, server, "ana", tone=ANA, **PCMU) as ana,
        phone(tmp_path, server, "bo", tone=BO, **PCMU) as bo,
        Baresip(
            tmp_path, user="+15550100001", password="", domain="127.0.0.1", registrar_port=server.sip_port,
            tone=CUSTOMER, register=False, sip_port=server.trunk_port, **PCMU,
        ) as customer,
    ):  # fmt: skip
        await make_ready_by_page(server, "ana")
        page = AgentPage(server.portal)
        await page.log_in("ana", "ana-agent")
        await customer.dial("sip:+15550200@127.0.0.1")
        await ana.event("CALL_INCOMING")
        await ana.accept()
        contact = str((await server.event("contact.connected"))["contact_id"])
        await until(lambda: phone_hears(ana, CUSTOMER), "the customer's tone at Ana's phone")
        await until(lambda: phone_hears(customer, ANA), "Ana's tone at the customer's phone")
        yield Desk(server, contact, ana, bo, customer, page)


async def test_the_customer_hears_music_while_on_hold(tmp_path: Path) -> None:
    async with talking(tmp_path) as desk:
        await desk.does("hold")
        await until(lambda: not hears(desk.customer, ANA), "music for the customer")
        await desk.does("unhold")
        await until(lambda: phone_hears(desk.customer, ANA), "Ana's tone again")
        await until(lambda: phone_hears(desk.ana, CUSTOMER), "the customer's tone again")
        assert len(desk.ana.open_calls()) == 1
        await desk.customer.hang_up()
        await desk.server.event("contact.ended", disposition="customer_hung_up")


async def test_a_colleague_is_asked_and_takes_the_customer(tmp_path: Path) -> None:
    async with talking(tmp_path) as desk:
        await desk.asks_bo()
        assert "Boiler 200" in desk.bo.invites()[-1].header("Subject")
        await desk.does("complete")
        told = await desk.server.event("contact.transferred", contact_id=desk.contact)
        assert (told["agent_id"], told["facts"]["how"]) == ("agent-bo", "consulted")
        await desk.ana.event("CALL_CLOSED")
        await until(lambda: phone_hears(desk.customer, BO), "Bo's tone at the customer's phone")
        await until(lambda: phone_hears(desk.bo, CUSTOMER), "the customer's tone at Bo's phone")
        await desk.server.agent_is("agent-ana", "WrapUp", "Ready")
        await desk.server.agent_is("agent-bo", "Talking")
        await desk.bo.hang_up()
        ended = await desk.server.event("contact.ended")
        assert (ended["agent_id"], ended["facts"]["disposition"]) == ("agent-bo", "agent_hung_up")


async def test_a_consultation_is_called_off(tmp_path: Path) -> None:
    async with talking(tmp_path) as desk:
        await desk.asks_bo()
        await desk.does("call-off")
        await desk.bo.event("CALL_CLOSED")
        await until(lambda: phone_hears(desk.customer, ANA), "Ana's tone at the customer's phone again")
        await until(lambda: phone_hears(desk.ana, CUSTOMER), "the customer's tone at Ana's phone again")
        await desk.server.agent_is("agent-bo", "NotReady", "Ready")
        assert desk.server.agent_state("agent-ana") == "Talking"


async def test_three_hear_each_other_and_the_other_two_go_on_without_the_agent(tmp_path: Path) -> None:
    async with talking(tmp_path) as desk:
        await desk.asks_bo()
        await desk.does("confer")
        for device, own in ((desk.ana, ANA), (desk.bo, BO), (desk.customer, CUSTOMER)):
            others = {ANA, BO, CUSTOMER} - {own}
            await until(
                lambda device=device, others=others: hears(device, ANA, BO, CUSTOMER) == others,  # type: ignore[misc]
                f"the other two, and not itself, at {device.user}'s phone",
            )
        await desk.ana.hang_up()
        told = await desk.server.event("contact.transferred", contact_id=desk.contact)
        assert (told["agent_id"], told["facts"]["how"]) == ("agent-bo", "conference")
        await until(lambda: phone_hears(desk.customer, BO), "Bo alone at the customer's phone")
        await until(lambda: phone_hears(desk.bo, CUSTOMER), "the customer alone at Bo's phone")
        await desk.customer.hang_up()
        ended = await desk.server.event("contact.ended")
        assert ended["facts"]["disposition"] == "customer_hung_up"
        await desk.server.agent_is("agent-ana", "WrapUp", "Ready")
        await desk.server.agent_is("agent-bo", "WrapUp", "NotReady")


async def test_an_agent_whose_phone_dies_while_asking_leaves_the_customer_in_the_queue(
    tmp_path: Path,
) -> None:
    async with talking(tmp_path) as desk:
        await desk.asks_bo()
        await desk.ana.hang_up()
        await desk.bo.event("CALL_CLOSED")
        ended = await desk.server.event("contact.consultation_ended")
        assert ended["facts"]["how"] == "agent_left"
        await desk.server.agent_is("agent-bo", "NotReady")
        assert not desk.server.rows("SELECT * FROM contact WHERE state = 'ended'")


async def test_the_page_itself_finds_a_colleague_asks_and_hands_over(tmp_path: Path) -> None:
    async with talking(tmp_path) as desk, async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        page = await browser.new_page(viewport=ViewportSize(width=PHONE["width"], height=PHONE["height"]))
        said: list[str] = []
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        await page.goto(f"{desk.server.portal}/agent/login")
        await page.fill("#login", "ana")
        await page.fill("#password", "ana-agent")
        await page.click("button[type=submit]")
        await page.wait_for_selector("#live[data-live=on]")
        await page.click("summary:has-text('Ask or pass on')")
        await page.fill("input[type=search]", "lindq")
        await expect(page.locator(".candidate")).to_have_count(1)
        await page.click("button[aria-label^='Ask first: Bo']")
        await desk.bo.event("CALL_INCOMING")
        await page.wait_for_selector("text=Ringing Bo Lindqvist")
        await desk.bo.accept()
        await page.wait_for_selector("text=You are talking with Bo Lindqvist")
        await page.click("text=Hand over")
        await until(lambda: phone_hears(desk.customer, BO), "Bo's tone at the customer's phone")
        await page.wait_for_selector("text=passed on; with you before")
        await page.check("input[value=resolved]")
        await page.fill("textarea[name=note]", "Bo knows.")
        await page.click("button:has-text('Done')")
        await desk.server.event("contact.wrapped_up", code="resolved", agent_id="agent-ana")
        await desk.server.agent_is("agent-ana", "Ready")
        await page.wait_for_selector("text=Nobody is with you")
        assert said == []
        await browser.close()


async def test_a_customer_in_a_browser_is_passed_on_to_somebody_who_knows_with_the_reason(
    tmp_path: Path,
) -> None:
    async with (
        Warmline(tmp_path) as server,
        phone(tmp_path, server, "ana", tone=ANA) as ana,
        phone(tmp_path, server, "bo", tone=CUSTOMER, **PCMU) as bo,
    ):
        await make_ready_by_page(server, "ana")
        await make_ready_by_page(server, "bo")
        page = AgentPage(server.portal)
        await page.log_in("ana", "ana-agent")
        async with Reader(tmp_path, server, BOILER_ARTICLE) as maria:
            await maria.ask_for("voice")
            await ana.event("CALL_INCOMING")
            await ana.accept()
            await maria.reaches("connected")
            contact = str((await server.event("contact.connected"))["contact_id"])
            status, _ = await page.post(
                f"/agent/contacts/{contact}/do/transfer", {"to": "skill:wifi-pairing"}
            )
            assert status == 200
            await ana.event("CALL_CLOSED")
            await server.agent_is("agent-ana", "WrapUp")
            status, _ = await page.post(
                f"/agent/contacts/{contact}/do/wrap-up",
                {"code": "wrong-skill", "note": "It is the receiver.", "needed": "wifi-pairing"},
            )
            assert status == 200
            await server.agent_is("agent-ana", "Ready")
            await bo.event("CALL_INCOMING")
            await bo.accept()
            await until(lambda: maria.hears_tone(CUSTOMER), "Bo's tone in the browser")
            (row,) = server.rows("SELECT * FROM contact")
            assert (row["agent_id"], row["state"]) == ("agent-bo", "connected")
            assert (row["wrap_up_code"], row["wrap_up_note"]) == ("wrong-skill", "It is the receiver.")
            assert row["place_at"] == row["asked_at"]
            learnt = await server.event("rules.changed")
            assert "wifi-pairing was needed" in learnt["facts"]["note"]
            await maria.hang_up()
            await server.event("contact.ended")
