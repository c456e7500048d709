"""The main stories with rtpengine: every packet of a customer and an agent is carried by it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import run
from tests.peers.people import BOILER_ARTICLE, Reader, has_colours, make_ready, phone, phone_hears
from tests.peers.process import free_sip_port, until
from tests.peers.rtpengine import Rtpengine
from tests.peers.warmline import Warmline
from tests.scenarios.test_media_pairs import DTLS, OPUS, PCMU, PLAIN, SDES, House, profiles
from tests.scenarios.test_phone_network import caller


def served_by(folder: Path, engine: Rtpengine, **settings: object) -> Warmline:
    keys = f"{engine.keys[0]}:{engine.keys[1]}"
    return Warmline(folder, media="rtpengine", rtpengine=engine.setting, rtpengine_keys=keys, **settings)


async def all_free(engine: Rtpengine) -> bool:
    return await engine.used_ports() == 0


async def test_a_customer_with_a_browser_and_an_agent_see_and_hear_each_other(tmp_path: Path) -> None:
    async with (
        Rtpengine(tmp_path) as engine,
        served_by(tmp_path, engine) as server,
        phone(tmp_path, server, "ana") as ana,
    ):
        await make_ready(server, ana)
        async with Reader(tmp_path, server, BOILER_ARTICLE, loopback=False) as maria:
            await maria.ask_for("video")
            await ana.event("CALL_INCOMING")
            await until(maria.hears_anything, "the music while she waits")
            await ana.accept()
            await server.event("contact.connected")
            await maria.reaches("connected")
            await until(lambda: maria.hears_tone(880), "the agent's tone in the browser")
            await until(maria.sees_moving_pictures, "the agent's moving picture in the browser")
            await until(lambda: phone_hears(ana, 620), "the customer's tone in the phone")
            assert has_colours(await ana.picture())
            assert await engine.used_ports() > 0

            await ana.command("hold")
            await until(lambda: is_rid_of(maria, 880), "the agent's tone to be gone while she is on hold")
            await ana.command("resume")
            await until(lambda: maria.hears_tone(880), "the agent's tone after the hold")
            await until(maria.sees_moving_pictures, "the agent's moving picture after the hold")

            await maria.hang_up()
            ended = await server.event("contact.ended")
            assert ended["facts"]["disposition"] == "customer_hung_up"
            await until(lambda: all_free(engine), "all ports to be free")


async def is_rid_of(reader: Reader, frequency: int) -> bool:
    return not await reader.hears_tone(frequency)


async def test_a_caller_from_a_trunk_talks_to_an_agent(tmp_path: Path) -> None:
    async with (
        Rtpengine(tmp_path) as engine,
        served_by(tmp_path, engine) as server,
        phone(tmp_path, server, "ana", audio_codecs="pcmu/8000/1") as ana,
    ):
        await make_ready(server, ana)
        async with caller(tmp_path, server, "caller_waits_for_bye") as sipp:
            await ana.event("CALL_INCOMING")
            await ana.accept()
            await server.event("contact.connected")
            # sipp echoes: the phone's own tone comes back when both directions carry.
            await until(lambda: phone_hears(ana, 880), "the echo of the agent's own tone")
            await ana.hang_up()
            await sipp.finished()
            ended = await server.event("contact.ended")
            assert ended["facts"]["disposition"] == "agent_hung_up"
            await until(lambda: all_free(engine), "all ports to be free")


async def test_a_call_ends_when_rtpengine_is_started_anew_and_the_next_is_taken(tmp_path: Path) -> None:
    port, other_port = free_sip_port(), free_sip_port()
    trunks = json.dumps([{"name": "carrier", "peers": [f"127.0.0.1:{each}" for each in (port, other_port)]}])
    async with (
        Rtpengine(tmp_path) as engine,
        served_by(tmp_path, engine, trunks=trunks, wrap_up_s=1) as server,
        phone(tmp_path, server, "ana", audio_codecs="pcmu/8000/1") as ana,
    ):
        await make_ready(server, ana)
        async with caller(tmp_path, server, "caller_waits_for_bye", port=port) as sipp:
            await ana.event("CALL_INCOMING")
            await ana.accept()
            await until(lambda: phone_hears(ana, 880), "the echo of the agent's own tone")
            await engine.kill()
            async with caller(tmp_path, server, "caller_gets_503", port=other_port) as refused:
                await refused.finished(20)
            await engine.start()
            ended = await server.event("contact.ended")
            assert ended["facts"]["disposition"] == "media_failed"
            await sipp.finished()
        await server.agent_is("agent-ana", "Ready", seconds=20)
        async with caller(tmp_path / "again", server, "caller_waits_for_bye", port=port) as sipp:
            await ana.event("CALL_INCOMING", count=2)
            await ana.accept()
            await server.event("contact.connected", count=2)
            await ana.hang_up()
            await sipp.finished()


async def test_without_rtpengine_the_server_does_not_start_and_says_why(tmp_path: Path) -> None:
    engine = Rtpengine(tmp_path)
    server = served_by(tmp_path, engine)
    await server.process.start()
    assert await server.process.wait(30) != 0
    assert f"rtpengine does not answer at {engine.setting}" in server.process.output()
    assert "Traceback" not in server.process.output()


class EngineHouse(House):
    """One server and one rtpengine for all pairs."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.engine = Rtpengine(folder, interfaces=("peers/127.0.0.1", "near/127.0.0.1"))
        self.server = served_by(
            folder,
            self.engine,
            sips_port=free_sip_port(),
            wrap_up_s=0,
            rtpengine_interfaces="peers, near",
        )

    async def start(self) -> None:
        await self._open.enter_async_context(self.engine)
        await super().start()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineHouse]:
    made = EngineHouse(tmp_path_factory.mktemp("house"))
    try:
        run(made.start())
        yield made
    finally:
        run(made.stop())


@pytest.mark.parametrize(
    ("one", "other", "taken"),
    [
        (PLAIN, SDES, "RTP/SAVP"),
        (DTLS, SDES, "RTP/SAVP"),
        (DTLS, PLAIN, "RTP/AVP"),
        (SDES, OPUS, "RTP/AVP"),
    ],
    ids=["plain-SDES", "DTLS-SDES", "DTLS-plain", "SDES-Opus alone"],
)
async def test_two_phones_that_each_speak_in_their_own_way(
    house: EngineHouse, one: dict[str, Any], other: dict[str, Any], taken: str
) -> None:
    async with (
        house.phone("ana", video=False, tone=880, **one) as ana,
        house.phone("bo", video=False, tone=440, **other) as bo,
    ):
        await ana.dial("sip:bo@127.0.0.1")
        await bo.event("CALL_INCOMING")
        assert profiles(bo)[-1] == taken
        await bo.accept()
        await ana.event("CALL_ESTABLISHED")
        await until(lambda: phone_hears(ana, 440), "Bo's tone at Ana's phone")
        await until(lambda: phone_hears(bo, 880), "Ana's tone at Bo's phone")
        assert await house.engine.used_ports() > 0
        await ana.hang_up()
        await bo.event("CALL_CLOSED")
        await until(lambda: all_free(house.engine), "all ports to be free")


@pytest.mark.parametrize(
    ("options", "taken"),
    [(SDES, "RTP/SAVP"), ({**DTLS, **PCMU}, "UDP/TLS/RTP/SAVP")],
    ids=["SDES over TLS", "DTLS-SRTP"],
)
async def test_a_caller_from_a_trunk_and_an_agent_whose_phone_encrypts(
    house: EngineHouse, options: dict[str, Any], taken: str
) -> None:
    async with house.ready("ana", video=False, **options) as ana, house.caller() as sipp:
        await ana.event("CALL_INCOMING")
        assert profiles(ana)[-1] == taken
        await ana.accept()
        await until(lambda: phone_hears(ana, 880), "the echo of the agent's own tone")
        await ana.hang_up()
        await sipp.finished()


@pytest.mark.parametrize("options", [SDES, DTLS], ids=["SDES over TLS", "DTLS-SRTP"])
async def test_a_browser_and_an_agent_whose_phone_encrypts_see_and_hear_each_other(
    house: EngineHouse, options: dict[str, Any]
) -> None:
    async with (
        house.ready("ana", **options) as ana,
        Reader(house.folder, house.server, BOILER_ARTICLE, loopback=False) as maria,
    ):
        await maria.ask_for("video")
        await ana.event("CALL_INCOMING")
        await ana.accept()
        await maria.reaches("connected")
        await until(lambda: maria.hears_tone(880), "the agent's tone in the browser")
        await until(maria.sees_moving_pictures, "the agent's moving picture in the browser")
        await until(lambda: phone_hears(ana, 620), "the customer's tone in the phone")
        assert has_colours(await ana.picture())
        await maria.hang_up()
        await ana.event("CALL_CLOSED", count=len(profiles(ana)) + 1)
