"""Who can hear and see whom: phones and browsers that speak each in its own way, tones and pictures at both ends."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.peers.baresip import Baresip
from tests.peers.people import (
    BOILER_ARTICLE,
    Reader,
    has_colours,
    make_ready,
    phone,
    phone_hears,
)
from tests.peers.process import free_sip_port, until
from tests.peers.sipp import Sipp
from tests.peers.warmline import Warmline

BOILER_NUMBER = "+15550200"
MARIA = "+15550100001"


@contextlib.asynccontextmanager
async def ana_ready(folder: Path, server: Warmline, **options: Any) -> AsyncIterator[Baresip]:
    if options.get("transport") == "tls":
        authority = Path(str(server.settings["data"])) / "tls" / "ca.pem"
        made = Baresip(
            *(folder,),
            user="ana",
            password="ana-phone",
            domain="127.0.0.1",
            registrar_port=int(str(server.settings["sips_port"])),
            authority=authority,
            **options,
        )
    else:
        made = phone(folder, server, "ana", **options)
    async with made as ana:
        await make_ready(server, ana)
        yield ana


def profiles(device: Baresip) -> list[str]:
    """The transport of the audio in each INVITE that the phone was sent, one for each call."""
    found = {m.header("Call-ID"): m.body.split("m=audio ")[1].split()[1] for m in device.invites() if m.body}
    return list(found.values())


@pytest.mark.parametrize(
    ("options", "last"),
    [
        ({"encryption": "srtp-mand", "transport": "tls"}, "RTP/SAVP"),
        ({"encryption": "dtls_srtp"}, "UDP/TLS/RTP/SAVP"),
        ({"audio_codecs": "opus/48000/2"}, "RTP/AVP"),
        ({"audio_codecs": "pcmu/8000/1"}, "RTP/AVP"),
    ],
    ids=["SDES over TLS", "DTLS-SRTP", "Opus alone, transcoded", "plain PCMU"],
)
async def test_a_caller_of_the_phone_network_and_an_agent(
    tmp_path: Path, options: dict[str, Any], last: str
) -> None:
    async with (
        Warmline(tmp_path, sips_port=free_sip_port()) as server,
        ana_ready(tmp_path, server, video=False, **options) as ana,
        Sipp(
            tmp_path,
            "caller_waits_for_bye",
            server_port=server.sip_port,
            port=server.trunk_port,
            keys={"number": BOILER_NUMBER, "caller": MARIA},
        ) as sipp,
    ):
        await until(lambda: profiles(ana)[-1:] == [last], f"an offer of {last}; there were {profiles(ana)}")
        await ana.event("CALL_INCOMING")
        await ana.accept()
        await server.event("contact.connected")
        # sipp echoes: the phone's own tone comes back when both directions carry.
        await until(lambda: phone_hears(ana, 880), "the echo of the agent's own tone")
        await ana.hang_up()
        await sipp.finished()


@pytest.mark.parametrize(
    "options",
    [{"encryption": "srtp-mand", "transport": "tls"}, {"encryption": "dtls_srtp"}],
    ids=["SDES over TLS", "DTLS-SRTP"],
)
async def test_a_browser_and_an_agent_see_and_hear_each_other(tmp_path: Path, options: dict[str, Any]) -> None:
    async with (
        Warmline(tmp_path, sips_port=free_sip_port()) as server,
        ana_ready(tmp_path, server, **options) as ana,
        Reader(tmp_path, server, BOILER_ARTICLE) as maria,
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
        await server.event("contact.ended")
