"""How well a call was heard is measured while it lasts, and kept with its contact: two baresips, on a clear line."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.peers.people import BOILER_ARTICLE, Reader, make_ready, phone, phone_hears
from tests.peers.process import until
from tests.peers.telephone_network import TelephoneNetwork
from tests.peers.warmline import Warmline
from tests.scenarios.test_waiting import BOILER_NUMBER, VOICE, CentreOfTones, calls, telephone


async def test_of_a_call_on_a_clear_line_a_good_voice_is_kept(tmp_path: Path) -> None:
    async with (
        CentreOfTones(tmp_path) as server,
        phone(tmp_path, server, "ana", audio_codecs="pcmu/8000/1", video=False) as ana,
        telephone(tmp_path, server, "+15550100001") as caller,
    ):
        await make_ready(server, ana)
        contact = await calls(server, caller)
        await ana.event("CALL_INCOMING")
        await ana.accept()
        await server.event("contact.connected", contact_id=contact)
        await until(lambda: phone_hears(ana, VOICE), "the caller's voice")
        # baresip reports each 5 s; the second report answers what the first of the other side said.
        await asyncio.sleep(12)
        await caller.hang_up()
        await server.event("contact.ended", contact_id=contact)

        def kept() -> bool:
            return len(server.rows("SELECT * FROM contact_quality WHERE contact_id = ?", contact)) == 2

        await until(kept, "both legs to be kept")
        legs = server.rows("SELECT * FROM contact_quality WHERE contact_id = ? ORDER BY party", contact)
        assert [leg["party"] for leg in legs] == ["agent", "customer"]
        for leg in legs:
            assert leg["kind"] == "audio"
            assert leg["mos"] > 4.0
            assert leg["loss_in"] == pytest.approx(0.0, abs=0.01)
            assert leg["loss_out"] == pytest.approx(0.0, abs=0.02)
            assert 0 <= leg["jitter_ms"] < 20
            assert leg["round_trip_ms"] is not None
            assert leg["round_trip_ms"] < 100
            assert leg["seconds"] > 8
        _, metrics = await server.get("/metrics")
        assert 'warmline_media_mos_count{party="agent"} 1' in metrics


async def test_of_a_browser_too_sound_and_pictures_are_measured(tmp_path: Path) -> None:
    async with Warmline(tmp_path) as server, phone(tmp_path, server, "ana") as ana:
        await make_ready(server, ana)
        async with Reader(tmp_path, server, BOILER_ARTICLE, loopback=False) as maria:
            await maria.ask_for("video")
            await ana.event("CALL_INCOMING")
            await ana.accept()
            contact = (await server.event("contact.connected"))["contact_id"]
            await until(maria.sees_moving_pictures, "the agent's moving picture in the browser")
            await asyncio.sleep(12)
            await maria.hang_up()
            await server.event("contact.ended", contact_id=contact)
        query = "SELECT * FROM contact_quality WHERE contact_id = ? AND party = 'customer' ORDER BY kind"
        await until(lambda: server.rows(query, contact), "the customer's leg to be kept")
        sound, pictures = server.rows(query, contact)
        assert (sound["kind"], pictures["kind"]) == ("audio", "video")
        assert sound["mos"] > 3.5
        assert pictures["mos"] is None
        for each in (sound, pictures):
            assert each["loss_in"] == pytest.approx(0.0, abs=0.02)
            assert each["loss_out"] == pytest.approx(0.0, abs=0.05)
            assert 0 <= each["round_trip_ms"] < 200


async def test_of_a_caller_half_of_whose_voice_is_lost_it_is_told(tmp_path: Path) -> None:
    async with (
        Warmline(tmp_path) as server,
        phone(tmp_path, server, "ana", audio_codecs="pcmu/8000/1", video=False) as ana,
        TelephoneNetwork(server) as network,
    ):
        await make_ready(server, ana)
        caller = await network.calls(BOILER_NUMBER, "+15550100001")
        await ana.event("CALL_INCOMING")
        await ana.accept()
        contact = (await server.event("contact.connected"))["contact_id"]
        await caller.speaks(18, losing=2)
        poor = await server.event("media.poor", contact_id=contact, party="customer")
        assert poor["facts"]["mos_lately"] < 3
        assert poor["facts"]["loss_in"] == pytest.approx(0.5, abs=0.05)
        assert server.kinds(contact).count("media.poor") == 1
        caller.hangs_up()
        await server.event("contact.ended", contact_id=contact)
