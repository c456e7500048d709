"""Callers from the phone network, played by sipp, and what is let in."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.peers.people import make_ready, phone, phone_hears
from tests.peers.process import until
from tests.peers.sipp import Sipp
from tests.peers.warmline import Warmline

BOILER_NUMBER = "+15550200"
MARIA = "+15550100001"


def caller(tmp_path: Path, server: Warmline, scenario: str, **options: object) -> Sipp:
    keys = {"number": BOILER_NUMBER, "caller": MARIA, **options.pop("keys", {})}  # type: ignore[dict-item]
    options.setdefault("port", server.trunk_port)
    return Sipp(tmp_path, scenario, server_port=server.sip_port, keys=keys, **options)  # type: ignore[arg-type]


async def test_a_caller_from_a_trunk_talks_to_an_agent(tmp_path: Path) -> None:
    async with (
        Warmline(tmp_path) as server,
        phone(tmp_path, server, "ana", audio_codecs="pcmu/8000/1") as ana,
    ):
        await make_ready(server, ana)
        async with caller(tmp_path, server, "caller_waits_for_bye") as sipp:
            await ana.event("CALL_INCOMING")
            contact = (await server.event("contact.prompted"))["contact_id"]
            assert "Boiler 200" in ana.invites()[-1].header("Subject")
            assert "Maria" in ana.invites()[-1].header("From"), "her number is one that she has proved"
            await ana.accept()
            await server.event("contact.connected", contact_id=contact)
            # sipp echoes: the phone's own tone comes back when both directions carry.
            await until(lambda: phone_hears(ana, 880), "the echo of the agent's own tone")
            await ana.hang_up()
            await sipp.finished()
            ended = await server.event("contact.ended", contact_id=contact)
            assert ended["facts"]["disposition"] == "agent_hung_up"


async def test_the_caller_hangs_up(tmp_path: Path) -> None:
    async with Warmline(tmp_path) as server, phone(tmp_path, server, "ana") as ana:
        await make_ready(server, ana)
        async with caller(tmp_path, server, "caller_hangs_up") as sipp:
            await ana.event("CALL_INCOMING")
            await ana.accept()
            await sipp.finished()
            await ana.event("CALL_CLOSED", count=2)
            ended = await server.event("contact.ended")
            assert ended["facts"]["disposition"] == "customer_hung_up"
            await server.agent_is("agent-ana", "WrapUp", "Ready", seconds=1)


async def test_all_devices_of_an_agent_ring_and_the_first_to_answer_wins(tmp_path: Path) -> None:
    async with (
        Warmline(tmp_path) as server,
        phone(tmp_path, server, "carla") as desk,
        phone(tmp_path, server, "carla-mobile") as mobile,
    ):
        await make_ready(server, desk)
        async with caller(tmp_path, server, "caller_waits_for_bye", keys={"number": "+15550300"}) as sipp:
            await desk.event("CALL_INCOMING")
            await mobile.event("CALL_INCOMING")
            await mobile.accept()
            await mobile.event("CALL_ESTABLISHED")
            await desk.event("CALL_CLOSED", count=2, seconds=3)
            await until(lambda: phone_hears(mobile, 880), "the echo of the agent's own tone")
            await mobile.hang_up()
            await sipp.finished()
            await server.agent_is("agent-carla", "WrapUp", "Ready", seconds=1)


@pytest.mark.parametrize(
    ("scenario", "keys", "from_trunk"),
    [
        ("caller_gets_403", {}, False),
        ("caller_gets_404", {"number": "+19990000"}, True),
        ("caller_gets_488", {}, True),
    ],
)
async def test_who_cannot_be_served_is_told_so(
    tmp_path: Path, scenario: str, keys: dict[str, str], from_trunk: bool
) -> None:
    """From no trunk: 403. An unknown number: 404. No common codec: 488."""
    async with Warmline(tmp_path) as server:
        options: dict[str, object] = {} if from_trunk else {"port": None}
        async with caller(
            tmp_path, server, scenario, keys={"caller": "+15550199", **keys}, **options
        ) as sipp:
            await sipp.finished(20)
        refused = await server.event("call.refused")
        assert str(refused["facts"]["status"]) == scenario[-3:]
        assert "contact.reserved" not in server.kinds()
