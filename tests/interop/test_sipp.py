"""sipp as a carrier or a phone that uses everything it may: each scenario is a call as an RFC has it, over UDP and TCP.

This sipp has no TLS in its build.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import run
from tests.peers.agent_page import AgentPage
from tests.peers.process import free_sip_port
from tests.peers.sipp import Sipp
from tests.peers.warmline import Warmline

TABLE = """
the caller                           and then           udp  tcp
caller_talks_briefly                 customer_gave_up   x    x
caller_requires_100rel               customer_gave_up   x    x
caller_wants_too_short_a_session     customer_gave_up   x    x
caller_refreshes_by_update           customer_gave_up   x    x
caller_holds_by_update               customer_gave_up   x    x
caller_holds_by_reinvite             customer_gave_up   x    x
caller_offers_late                   customer_gave_up   x    x
caller_reoffers_late                 customer_gave_up   x    x
caller_sends_multipart               customer_gave_up   x    x
caller_sends_info                    customer_gave_up   x    x
caller_asks_options                  customer_gave_up   x    x
caller_is_out_of_order               customer_gave_up   x    x
caller_requires_the_unknown          refused            x    x
caller_sends_what_must_be_understood refused            x    x
"""
TRANSPORTS = {"udp": "u1", "tcp": "t1"}
CELLS = [
    (row[0], row[1], transport)
    for row in (line.split() for line in TABLE.strip().splitlines()[1:])
    for transport, cross in zip(TRANSPORTS, row[2:], strict=True)
    if cross == "x"
]
BOILER_NUMBER = "+15550200"
MARIA = "+15550100001"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warmline]:
    started = Warmline(tmp_path_factory.mktemp("server"), wrap_up_s=0)
    run(started.__aenter__())
    yield started
    run(started.__aexit__(None, None, None))


@pytest.mark.parametrize(
    ("scenario", "outcome", "transport"), CELLS, ids=[f"{cell[0]}-{cell[2]}" for cell in CELLS]
)
async def test_a_caller(
    server: Warmline, tmp_path: Path, scenario: str, outcome: str, transport: str
) -> None:
    """The scenario runs to its end as written, and the event log says the same of it."""
    before = len(server.events())
    async with Sipp(
        tmp_path, scenario, server_port=server.sip_port, port=server.trunk_port,
        transport=TRANSPORTS[transport], keys={"number": BOILER_NUMBER, "caller": MARIA},
    ) as sipp:  # fmt: skip
        await sipp.finished(15)
    if outcome == "refused":
        assert "contact.requested" not in server.kinds()[before:], "nobody is to be rung for a refused call"
        return
    requested = server.events()[before:]
    contact = next(row["contact_id"] for row in requested if row["kind"] == "contact.requested")
    ended = await server.event("contact.ended", contact_id=contact)
    assert ended["facts"]["disposition"] == outcome


async def register(server: Warmline, tmp_path: Path, user: str) -> int:
    """That user's phone is sipp, at the port returned."""
    port = free_sip_port()
    async with Sipp(
        tmp_path, "register", server_port=server.sip_port, user=user, password=f"{user}-phone",
        transport=TRANSPORTS["udp"], keys={"device_port": str(port)},
    ) as registering:  # fmt: skip
        await registering.finished(10)
    return port


async def test_a_phone_whose_ringing_must_be_acknowledged(server: Warmline, tmp_path: Path) -> None:
    """PRACK to a 183 with Require: 100rel (RFC 3262 s4); without it the phone would never answer."""
    port = await register(server, tmp_path, "carla")
    page = AgentPage(server.portal)
    await page.log_in("carla", "carla-agent")
    async with Sipp(tmp_path, "device_rings_reliably", server_port=server.sip_port, port=port) as device:
        await page.set_state("ready")
        await server.agent_is("agent-carla", "Ready")
        async with Sipp(
            tmp_path, "caller_waits_for_bye", server_port=server.sip_port, port=server.trunk_port,
            keys={"number": "+15550300", "caller": MARIA},
        ) as caller:  # fmt: skip
            connected = await server.event("contact.connected")
            await caller.stop()
        assert connected["agent_id"] == "agent-carla"
    assert "PRACK" in device.messages()


async def test_a_phone_passes_a_caller_on_to_another(server: Warmline, tmp_path: Path) -> None:
    """REFER, 202, NOTIFY as it goes until 200, then BYE (RFC 3515, RFC 5589 s6.1): all three ends are sipp."""
    ports = {user: await register(server, tmp_path, user) for user in ("ana", "deniz")}
    page = AgentPage(server.portal)
    await page.log_in("ana", "ana-agent")
    async with (
        Sipp(
            tmp_path, "device_passes_on", server_port=server.sip_port, port=ports["ana"],
            keys={"target": "deniz"},
        ) as giver,
        Sipp(tmp_path, "device_answers", server_port=server.sip_port, port=ports["deniz"]) as taker,
    ):  # fmt: skip
        await page.set_state("ready")
        await server.agent_is("agent-ana", "Ready")
        async with Sipp(
            tmp_path, "caller_waits_for_bye", server_port=server.sip_port, port=server.trunk_port,
            keys={"number": BOILER_NUMBER, "caller": MARIA},
        ) as caller:  # fmt: skip
            await giver.finished(15)
            await taker.saw("ACK sip:")
            transferred = await server.event("contact.transferred")
            assert "contact.ended" not in server.kinds(transferred["contact_id"])
            await caller.stop()
