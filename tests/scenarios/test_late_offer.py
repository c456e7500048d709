"""A carrier that calls without an offer, and an agent who is there at once (RFC 3261 section 13.2.1)."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.peers.people import make_ready, phone, phone_hears
from tests.peers.process import until
from tests.peers.warmline import Warmline
from tests.scenarios.test_phone_network import caller


async def test_the_agent_is_rung_before_the_carrier_has_answered_and_both_hear_each_other(
    tmp_path: Path,
) -> None:
    async with (
        Warmline(tmp_path) as server,
        phone(tmp_path, server, "ana", audio_codecs="pcmu/8000/1") as ana,
    ):
        await make_ready(server, ana)
        async with caller(tmp_path, server, "caller_answers_in_the_ack") as sipp:
            await ana.event("CALL_INCOMING")
            assert "m=audio " in ana.invites()[-1].body
            await asyncio.sleep(0.6)  # by now the ACK is there
            await ana.accept()
            await server.event("contact.connected")
            # sipp echoes: the phone's own tone comes back when both directions carry.
            await until(lambda: phone_hears(ana, 880), "the echo of the agent's own tone")
            refused = [row for row in server.events() if row["kind"] == "contact.refused"]
            assert not refused
            await ana.hang_up()
            await sipp.finished()
