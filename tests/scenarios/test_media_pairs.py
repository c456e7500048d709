"""Who can hear and see whom: phones and browsers that each speak in their own way, tones and pictures at both ends.

One server serves all of it: each pair brings its own phones.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import run
from tests.peers.baresip import Baresip
from tests.peers.people import BOILER_ARTICLE, Reader, has_colours, make_ready, phone_hears
from tests.peers.process import free_sip_port, until
from tests.peers.sipp import Sipp
from tests.peers.warmline import Warmline

BOILER_NUMBER = "+15550200"  # rings Ana and nobody else
MARIA = "+15550100001"
SDES = {"encryption": "srtp-mand", "transport": "tls"}
DTLS = {"encryption": "dtls_srtp"}
PLAIN: dict[str, Any] = {}
PCMU = {"audio_codecs": "pcmu/8000/1"}
OPUS = {"audio_codecs": "opus/48000/2"}


class House:
    """The server, and the phones that tests bring."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = Warmline(folder, sips_port=free_sip_port(), wrap_up_s=0)
        self._open = AsyncExitStack()

    async def start(self) -> None:
        await self._open.enter_async_context(self.server)

    async def stop(self) -> None:
        await self._open.aclose()

    def phone(self, user: str, **options: Any) -> Baresip:
        data = Path(str(self.server.settings["data"]))
        tls = options.get("transport") == "tls"
        return Baresip(
            self.folder,
            user=user,
            password=f"{user}-phone",
            domain="127.0.0.1",
            registrar_port=int(str(self.server.settings["sips_port"])) if tls else self.server.sip_port,
            authority=data / "tls" / "ca.pem" if tls else None,
            **options,
        )

    @asynccontextmanager
    async def ready(self, user: str, **options: Any) -> Any:
        async with self.phone(user, **options) as device:
            await make_ready(self.server, device)
            yield device

    def caller(self) -> Sipp:
        """Somebody from the phone network, in PCMU, who echoes what they hear."""
        return Sipp(
            self.folder,
            "caller_waits_for_bye",
            server_port=self.server.sip_port,
            port=self.server.trunk_port,
            keys={"number": BOILER_NUMBER, "caller": MARIA},
        )


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    made = House(tmp_path_factory.mktemp("house"))
    try:
        run(made.start())
        yield made
    finally:
        run(made.stop())


def profiles(device: Baresip) -> list[str]:
    """How the audio of each call that the phone was offered would travel."""
    found = {m.header("Call-ID"): m.body.split("m=audio ")[1].split()[1] for m in device.invites() if m.body}
    return list(found.values())


@pytest.mark.parametrize(
    ("options", "taken"),
    [
        (PCMU, "RTP/AVP"),
        (SDES, "RTP/SAVP"),
        ({**DTLS, **PCMU}, "UDP/TLS/RTP/SAVP"),
        (OPUS, "RTP/AVP"),
    ],
    ids=["plain", "SDES over TLS", "DTLS-SRTP", "Opus alone"],
)
async def test_a_caller_of_the_phone_network_and_an_agent(
    house: House, options: dict[str, Any], taken: str
) -> None:
    """Each finds out, by what the phone refuses, what it is to be offered: the one before may have taught the house
    something else."""
    async with house.ready("ana", video=False, **options) as ana, house.caller() as sipp:
        await ana.event("CALL_INCOMING")
        assert profiles(ana)[-1] == taken
        await ana.accept()
        # sipp echoes: the phone's own tone comes back when both directions carry.
        await until(lambda: phone_hears(ana, 880), "the echo of the agent's own tone")
        told = [row for row in house.server.events() if row["kind"] == "media.transcoding"]
        assert bool(told) is (options is OPUS)
        await ana.hang_up()
        await sipp.finished()


@pytest.mark.parametrize("options", [SDES, DTLS], ids=["SDES over TLS", "DTLS-SRTP"])
async def test_a_browser_and_an_agent_see_and_hear_each_other(house: House, options: dict[str, Any]) -> None:
    async with (
        house.ready("ana", **options) as ana,
        Reader(house.folder, house.server, BOILER_ARTICLE) as maria,
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


@pytest.mark.parametrize(
    ("one", "other"),
    [(PLAIN, SDES), (SDES, DTLS), (DTLS, OPUS), (PCMU, OPUS)],
    ids=["plain-SDES", "SDES-DTLS", "DTLS-Opus alone", "PCMU-Opus alone"],
)
async def test_two_agents_phones_and_a_hold(house: House, one: dict[str, Any], other: dict[str, Any]) -> None:
    async with (
        house.phone("ana", video=False, tone=880, **one) as ana,
        house.phone("bo", video=False, tone=440, **other) as bo,
    ):
        await ana.dial("sip:bo@127.0.0.1")
        await bo.event("CALL_INCOMING")
        await bo.accept()
        await ana.event("CALL_ESTABLISHED")
        await until(lambda: phone_hears(ana, 440), "Bo's tone at Ana's phone")
        await until(lambda: phone_hears(bo, 880), "Ana's tone at Bo's phone")
        await ana.command("hold")
        await until(lambda: "a=sendonly" in _sent(ana), "the hold")
        await ana.command("resume")
        await until(lambda: _answers(ana) >= 3, "the resumption to be answered")
        await ana.hang_up()
        await bo.event("CALL_CLOSED")


def _sent(device: Baresip) -> str:
    return "".join(m.body for m in device.trace() if not m.received)


def _answers(device: Baresip) -> int:
    return sum(
        m.received and m.start.startswith("SIP/2.0 200") and m.header("CSeq").endswith("INVITE")
        for m in device.trace()
    )
