"""Softphones of three makers as an agent's phone, each over every transport it has, straight and through a Kamailio.

What is not in the table, and why:
- baresip 1.0 has no attended transfer;
- JsSIP behind a Kamailio: its binding's flow is then the proxy's UDP or TCP, and what it needs of us is known only by
  the flow it registers on, so it would be offered plain RTP, which no browser takes.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.conftest import run
from tests.interop.phones import TONE, BaresipPhone, JsSipPhone, PjsuaPhone, Softphone
from tests.peers.baresip import Baresip
from tests.peers.browser_phone import BrowserPhone
from tests.peers.customer_page import CustomerPage
from tests.peers.kamailio import Kamailio
from tests.peers.people import BOILER_ARTICLE, phone_hears
from tests.peers.process import PeerFailed, free_sip_port, until
from tests.peers.sipp import Sipp
from tests.peers.warmline import Warmline

TABLE = """
phone     transport  through    register  call  hold  message  direct  blind  attended
baresip   udp        -          x         x     x     x        x       x      -
baresip   tcp        -          x         x     x     x        x       x      -
baresip   tls        -          x         x     x     x        x       x      -
baresip   udp        kamailio   x         x     x     x        x       x      -
baresip   tcp        kamailio   x         x     x     x        x       x      -
baresip   tls        kamailio   x         x     x     x        x       x      -
pjsua2    udp        -          x         x     x     x        x       x      x
pjsua2    tcp        -          x         x     x     x        x       x      x
pjsua2    tls        -          x         x     x     x        x       x      x
pjsua2    udp        kamailio   x         x     x     x        x       x      x
pjsua2    tcp        kamailio   x         x     x     x        x       x      x
pjsua2    tls        kamailio   x         x     x     x        x       x      x
jssip     ws         -          x         x     x     x        x       x      x
jssip     wss        -          x         x     x     x        x       x      x
"""
_HEAD, *_ROWS = (line.split() for line in TABLE.strip().splitlines())

BOILER_NUMBER = "+15550200"  # rings Ana and nobody else
MARIA = "+15550100001"
OTHER_TONE = 440


def phones_that(act: str) -> pytest.MarkDecorator:
    """Parametrises a test by the rows of the table with a cross under `act`."""
    rows = [tuple(row[:3]) for row in _ROWS if row[_HEAD.index(act)] == "x"]
    return pytest.mark.parametrize(
        "phone", rows, indirect=True, ids=["-".join(part for part in row if part != "-") for row in rows]
    )


class House:
    """One server for the whole table, with Deniz's phone as the one that calls are transferred to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = Warmline(folder, sips_port=free_sip_port(), wrap_up_s=0)
        self.authority = self.server.folder / "data" / "tls" / "ca.pem"
        self._open = AsyncExitStack()

    async def start(self) -> None:
        await self._open.enter_async_context(self.server)
        self.deniz = await self._open.enter_async_context(
            Baresip(
                self.folder, user="deniz", password="deniz-phone", domain="127.0.0.1",
                registrar_port=self.server.sip_port, answer="auto", audio_codecs="pcmu/8000/1", video=False,
                tone=OTHER_TONE,
            )
        )  # fmt: skip

    async def stop(self) -> None:
        await self._open.aclose()

    def port(self, transport: str) -> int:
        return int(str(self.server.settings["sips_port"])) if transport == "tls" else self.server.sip_port

    @asynccontextmanager
    async def softphone(self, phone: str, transport: str, through: str) -> AsyncIterator[Softphone]:
        """Ana's phone, registered; her state is Ready if it is the phone of a person who just came."""
        async with AsyncExitStack() as opened:
            authority, port = self.authority, self.port(transport)
            if through == "kamailio":
                kamailio = await opened.enter_async_context(
                    Kamailio(
                        self.folder, server=f"127.0.0.1:{port};transport={transport}", authority=authority
                    )
                )
                authority, port = kamailio.own_authority, kamailio.port_of(transport)
            made: Softphone
            if phone == "jssip":
                made = JsSipPhone(self._browser(transport))
            else:
                kind = BaresipPhone if phone == "baresip" else PjsuaPhone
                made = kind(self.folder, "ana", transport, port, authority)
            await opened.enter_async_context(made)
            yield made
        await until(lambda: not self.bindings(), "the phone that left to be forgotten")

    def _browser(self, transport: str) -> BrowserPhone:
        https = f"https://127.0.0.1:{self.server.https_port}"
        portal = self.server.portal
        try:
            if transport == "wss":
                self.server.portal = https
            return BrowserPhone(self.server, user="ana", password="ana-phone", tone=TONE)
        finally:
            self.server.portal = portal

    async def tidy_up(self, phone: Softphone) -> None:
        """End whatever call there still is."""
        try:
            await phone.is_over(seconds=0)
        except PeerFailed:
            await phone.end_all()
            await phone.is_over()
        if not self.deniz_is_free():
            await self.deniz.hang_up()
            await until(self.deniz_is_free, "Deniz's phone to be free again")

    def deniz_is_free(self) -> bool:
        return not self.deniz.open_calls()

    def bindings(self) -> list[dict[str, object]]:
        return self.server.rows("SELECT * FROM binding WHERE aor = 'sip:ana@127.0.0.1'")

    async def ready(self, phone: Softphone) -> None:
        """Ana is ready for a contact: she dials the feature code unless she is."""
        await self.server.agent_is("agent-ana", "Ready", "NotReady")
        if self.server.agent_state("agent-ana") != "Ready":
            await phone.dial("*71")
            await self.server.agent_is("agent-ana", "Ready")
            await phone.is_over()

    @asynccontextmanager
    async def caller(self) -> AsyncIterator[tuple[Sipp, str]]:
        """Somebody from the phone network who waits to be helped and echoes; and their contact."""
        before = len(self._requested())
        async with Sipp(
            self.folder, "caller_waits_for_bye", server_port=self.server.sip_port, port=self.server.trunk_port,
            keys={"number": BOILER_NUMBER, "caller": MARIA},
        ) as sipp:  # fmt: skip
            requested = await until(lambda: self._requested()[before:], "the caller's contact")
            yield sipp, requested[0]["contact_id"]

    def _requested(self) -> list[dict[str, str]]:
        return [row for row in self.server.events() if row["kind"] == "contact.requested"]

    async def ended(self, contact: str) -> str:
        """The contact's disposition."""
        event = await self.server.event("contact.ended", contact_id=contact)
        return str(event["facts"]["disposition"])


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    made = House(tmp_path_factory.mktemp("house"))
    try:
        run(made.start())
        yield made
    finally:
        run(made.stop())


@pytest.fixture(scope="module")
def phone(house: House, request: pytest.FixtureRequest) -> Iterator[Softphone]:
    """The phone of one row of the table, registered as Ana's for all the tests of that row."""
    opened = house.softphone(*request.param)
    yield run(opened.__aenter__())
    run(opened.__aexit__(None, None, None))


@pytest.fixture(autouse=True)
def left_as_found(house: House, phone: Softphone) -> Iterator[None]:
    """What a failed test left open is no matter of the next one's."""
    yield
    run(house.tidy_up(phone))


@phones_that("register")
async def test_it_registers(house: House, phone: Softphone, request: pytest.FixtureRequest) -> None:
    _, transport, through = request.node.callspec.params["phone"]
    (binding,) = house.bindings()
    assert binding["transport"] == transport.upper()
    assert binding["device_id"] == "device-ana"
    path = json.loads(str(binding["path"]))
    assert bool(path) == (through == "kamailio"), "what the proxy recorded is kept, and nothing else is"


@phones_that("call")
async def test_a_caller_and_the_agent_hear_each_other(house: House, phone: Softphone) -> None:
    await house.ready(phone)
    async with house.caller() as (sipp, contact):
        await phone.rings()
        await phone.answer()
        await house.server.event("contact.connected", contact_id=contact)
        await until(phone.hears_tone, "the echo of the agent's own tone")
        await phone.hang_up()
        await sipp.finished(10)
    await phone.is_over()
    assert await house.ended(contact) == "agent_hung_up"


@phones_that("hold")
async def test_a_call_is_held_and_taken_up_again(house: House, phone: Softphone) -> None:
    await house.ready(phone)
    async with house.caller() as (sipp, contact):
        await phone.rings()
        await phone.answer()
        await house.server.event("contact.connected", contact_id=contact)
        await until(phone.hears_tone, "the echo of the agent's own tone")

        await phone.hold()

        async def silent() -> bool:
            return not await phone.sound_arrives()

        await until(silent, "nothing to be sent to the phone that holds")
        assert house.server.agent_state("agent-ana") == "Talking"

        await phone.resume()
        await until(phone.sound_arrives, "the caller's sound after the hold")
        await phone.hang_up()
        await sipp.finished(10)
    await phone.is_over()
    assert await house.ended(contact) == "agent_hung_up"


@phones_that("message")
async def test_lines_of_a_chat_go_both_ways(house: House, phone: Softphone) -> None:
    await house.ready(phone)
    maria = CustomerPage(house.server.portal)
    await maria.log_in()
    contact = await maria.ask_for_chat("boiler-200", BOILER_ARTICLE)
    await phone.rings()
    await phone.answer()
    await house.server.event("contact.connected", contact_id=contact)
    await phone.hang_up()  # what rang was only to ask: the chat goes on
    await phone.is_over()

    await maria.say("Der Druck fällt – 0,4 bar 🙂")

    async def has_come() -> bool:
        return any(
            f"sip:{contact}@" in sender and text == "Der Druck fällt – 0,4 bar 🙂"
            for sender, text in await phone.texts()
        )

    await until(has_come, "Maria's line in the phone")
    await phone.write(f"sip:{contact}@127.0.0.1", "Привет — ça va ✓")

    async def has_gone() -> bool:
        return ("agent", "Привет — ça va ✓") in await maria.lines()

    await until(has_gone, "the agent's line in the page")
    await maria.end()
    assert await house.ended(contact) == "customer_hung_up"


@phones_that("direct")
async def test_one_agent_calls_another(house: House, phone: Softphone) -> None:
    await phone.dial("deniz")
    await until(lambda: phone_hears(house.deniz, TONE), "Ana's tone in Deniz's phone")
    await phone.hang_up()
    await phone.is_over()
    await until(house.deniz_is_free, "Deniz's phone to be free again")


@phones_that("blind")
async def test_a_caller_is_passed_on_unannounced(house: House, phone: Softphone) -> None:
    await house.ready(phone)
    async with house.caller() as (sipp, contact):
        await phone.rings()
        await phone.answer()
        await house.server.event("contact.connected", contact_id=contact)
        await until(phone.hears_tone, "the echo of the agent's own tone")

        await phone.transfer("deniz")
        await until(lambda: phone_hears(house.deniz, OTHER_TONE), "the caller's echo of Deniz's tone")
        await until(phone.was_told_of_success, "the phone to be told that the transfer came about")
        await phone.is_over()
        assert "contact.ended" not in house.server.kinds(contact)

        await house.deniz.hang_up()
        await sipp.finished(10)
    assert await house.ended(contact) == "agent_hung_up"


@phones_that("attended")
async def test_a_caller_is_passed_on_after_a_word_with_the_colleague(house: House, phone: Softphone) -> None:
    await house.ready(phone)
    async with house.caller() as (sipp, contact):
        await phone.rings()
        await phone.answer()
        await house.server.event("contact.connected", contact_id=contact)
        await until(phone.hears_tone, "the echo of the agent's own tone")

        await phone.hold()
        await phone.consult("deniz")
        await until(lambda: phone_hears(house.deniz, TONE), "Ana's tone in Deniz's phone")
        await phone.join("deniz")
        await until(lambda: phone_hears(house.deniz, OTHER_TONE), "the caller's echo of Deniz's tone")
        await until(phone.was_told_of_success, "the phone to be told that the transfer came about")
        await phone.is_over()
        assert "contact.ended" not in house.server.kinds(contact)

        await house.deniz.hang_up()
        await sipp.finished(10)
    assert await house.ended(contact) == "agent_hung_up"
