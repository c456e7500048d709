"""A Kamailio between the phone network and the server: a carrier's edge, or an exchange that was there before.

It is told by its address alone, so that each transport has one of its own in 127/8. A phone network sends no MESSAGE
and registers nowhere; what is left of the acts is here.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import run
from tests.peers.baresip import Baresip
from tests.peers.kamailio import Kamailio
from tests.peers.people import make_ready, phone, phone_hears
from tests.peers.process import free_port, free_sip_port, until
from tests.peers.sipp import Sipp
from tests.peers.warmline import Warmline

TABLE = """
trunk  address    numbers  called  calls  held  passed-on
udp    127.0.0.2  +491     x       x      x     x
tcp    127.0.0.3  +492     x       x      x     x
tls    127.0.0.4  +493     x       x      x     x
"""
_HEAD, *_ROWS = (line.split() for line in TABLE.strip().splitlines())
BOILER_NUMBER = "+15550200"
MARIA = "+15550100001"


def trunks_that(act: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("trunk", [row[0] for row in _ROWS if row[_HEAD.index(act)] == "x"])


class House:
    """One server with three trunks, and Ana's phone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kamailio: dict[str, Kamailio] = {}
        self.network_port = {row[0]: free_sip_port() for row in _ROWS}
        self.prefix = {row[0]: row[2] for row in _ROWS}
        self._open = AsyncExitStack()
        sip_port, sips_port = free_sip_port(), free_port()
        data = folder / "warmline" / "data"
        trunks = []
        for transport, address, prefix, *_ in _ROWS:
            port = sips_port if transport == "tls" else sip_port
            proxy = self.kamailio[transport] = Kamailio(
                folder, host=address, server=f"127.0.0.1:{port};transport={transport}",
                authority=data / "tls" / "ca.pem",
                network=f"127.0.0.1:{self.network_port[transport]}", network_numbers=f"^[+]{prefix[1:]}",
            )  # fmt: skip
            trunks.append(
                {
                    "name": transport,
                    "peers": [address],
                    "dial": [prefix],
                    "via": f"{address}:{proxy.port_of(transport)};transport={transport}",
                    "caller_id": BOILER_NUMBER,
                    "options_s": 5,
                }
            )
        self.server = Warmline(
            folder, sip_port=sip_port, sips_port=sips_port, wrap_up_s=0, data=data, trunks=json.dumps(trunks),
            trusted_authorities=self.kamailio["tls"].own_authority,
        )  # fmt: skip
        self.server.sip_port = sip_port
        self.ana: Baresip = phone(folder, self.server, "ana", audio_codecs="pcmu/8000/1", video=False)

    async def start(self) -> None:
        await self._open.enter_async_context(self.server)
        for proxy in self.kamailio.values():
            await self._open.enter_async_context(proxy)
        await self._open.enter_async_context(self.ana)

    async def stop(self) -> None:
        await self._open.aclose()

    async def ready(self) -> None:
        await self.server.agent_is("agent-ana", "Ready", "NotReady")
        if self.server.agent_state("agent-ana") != "Ready":
            await make_ready(self.server, self.ana)

    @asynccontextmanager
    async def caller(
        self, trunk: str, scenario: str = "caller_waits_for_bye"
    ) -> AsyncIterator[tuple[Sipp, str]]:
        """Somebody behind that trunk who calls us, and their contact."""
        before = len(self._requested())
        proxy = self.kamailio[trunk]
        async with Sipp(
            self.folder, scenario, server_port=proxy.port, server_host=proxy.host,
            keys={"number": BOILER_NUMBER, "caller": MARIA},
        ) as sipp:  # fmt: skip
            requested = await until(lambda: self._requested()[before:], "the caller's contact")
            assert requested[0]["facts"]["trunk"] == trunk
            yield sipp, requested[0]["contact_id"]

    @asynccontextmanager
    async def called(self, trunk: str) -> AsyncIterator[Sipp]:
        """Whoever has a number behind that trunk, answers and echoes."""
        async with Sipp(
            self.folder, "device_answers", server_port=self.kamailio[trunk].port,
            server_host=self.kamailio[trunk].host, port=self.network_port[trunk],
        ) as sipp:  # fmt: skip
            yield sipp

    def number(self, trunk: str) -> str:
        return f"{self.prefix[trunk]}5123456"

    def _requested(self) -> list[dict[str, Any]]:
        return [row for row in self.server.events() if row["kind"] == "contact.requested"]

    def ana_is_free(self) -> bool:
        return not self.ana.open_calls()


def told(device: Baresip) -> str:
    """What the last NOTIFY said of a transfer."""
    return [message for message in device.trace() if message.received and message.start[:7] == "NOTIFY "][
        -1
    ].body


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    made = House(tmp_path_factory.mktemp("house"))
    try:
        run(made.start())
        yield made
    finally:
        run(made.stop())


@trunks_that("called")
async def test_a_caller_of_the_trunk_talks_to_an_agent(house: House, trunk: str) -> None:
    await house.ready()
    rung = len(house.ana.seen("CALL_INCOMING"))
    async with house.caller(trunk) as (sipp, contact):
        await house.ana.event("CALL_INCOMING", count=rung + 1)
        await house.ana.accept()
        await house.server.event("contact.connected", contact_id=contact)
        await until(lambda: phone_hears(house.ana, 880), "the echo of the agent's own tone")
        await house.ana.hang_up()
        await sipp.finished(10)
        assert "Record-Route" in sipp.messages()
    ended = await house.server.event("contact.ended", contact_id=contact)
    assert ended["facts"]["disposition"] == "agent_hung_up"
    await until(house.ana_is_free, "the agent's phone to be free")


@trunks_that("calls")
async def test_an_agent_calls_a_number_behind_the_trunk(house: House, trunk: str) -> None:
    async with house.called(trunk) as sipp:
        established = len(house.ana.seen("CALL_ESTABLISHED"))
        await house.ana.dial(house.number(trunk))
        await house.ana.event("CALL_ESTABLISHED", count=established + 1)
        await until(lambda: phone_hears(house.ana, 880), "the echo of the agent's own tone")
        await house.ana.hang_up()
        await sipp.finished(10)
        assert f"INVITE sip:{house.number(trunk)}@" in sipp.messages()
        assert f"{BOILER_NUMBER}@" in sipp.messages(), "the number that calls out come from"
    await until(house.ana_is_free, "the agent's phone to be free")


@trunks_that("held")
async def test_the_other_end_of_the_trunk_holds_and_resumes(house: House, trunk: str) -> None:
    async with house.caller(trunk, "caller_holds_by_reinvite") as (sipp, contact):
        await sipp.finished(15)
    await house.server.event("contact.ended", contact_id=contact)


@trunks_that("passed-on")
async def test_a_caller_is_passed_on_to_a_number_behind_the_trunk(house: House, trunk: str) -> None:
    """Blind, by REFER; both legs then go through the trunk, and the echo of one would be the sound of the other."""
    await house.ready()
    rung = len(house.ana.seen("CALL_INCOMING"))
    async with house.called(trunk) as taker, house.caller(trunk) as (sipp, contact):
        await house.ana.event("CALL_INCOMING", count=rung + 1)
        await house.ana.accept()
        await house.server.event("contact.connected", contact_id=contact)
        await house.ana.command("transfer", f"sip:{house.number(trunk)}@127.0.0.1")
        await taker.saw("ACK sip:")
        await until(house.ana_is_free, "the agent's phone to be let go")
        await until(lambda: "SIP/2.0 200" in told(house.ana), "the phone to be told that it came about")
        assert "contact.ended" not in house.server.kinds(contact)
        await sipp.stop()
