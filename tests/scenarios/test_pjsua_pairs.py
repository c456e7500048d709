"""pjsua2 as an agent's phone, with each of the others at the far end: tones at both, held and resumed, ringing beside
another device. One server serves all of it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.conftest import run
from tests.peers.baresip import Baresip
from tests.peers.people import BOILER_ARTICLE, CAMERA_ARTICLE, Reader, make_ready_by_page, phone_hears
from tests.peers.pjsua import Pjsua
from tests.peers.process import until
from tests.scenarios.test_media_pairs import House

PCMU = ("PCMU/8000/1",)
G722 = ("G722/16000/1",)
PLAIN: dict[str, Any] = {"codecs": PCMU}
WIDE: dict[str, Any] = {"codecs": G722}
OPTIONAL: dict[str, Any] = {"codecs": PCMU, "srtp": "optional"}
REQUIRED: dict[str, Any] = {"codecs": PCMU, "srtp": "required", "transport": "tls"}
WIDE_REQUIRED: dict[str, Any] = {"codecs": G722, "srtp": "required", "transport": "tls"}

ANA, BO, MARIA = 880, 440, 620  # Hz
LONG = 30.0  # seconds: for a machine that does much else


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    made = House(tmp_path_factory.mktemp("house"))
    try:
        run(made.start())
        yield made
    finally:
        run(made.stop())


@asynccontextmanager
async def pjsua(house: House, user: str, **options: Any) -> AsyncIterator[Pjsua]:
    """A phone of that user's."""
    data = house.server.folder / "data"
    tls = options.get("transport") == "tls"
    async with Pjsua(
        house.folder,
        user=user,
        password=f"{user}-phone",
        domain="127.0.0.1",
        registrar_port=int(str(house.server.settings["sips_port"])) if tls else house.server.sip_port,
        authority=data / "tls" / "ca.pem" if tls else None,
        **options,
    ) as device:
        yield device


async def hears(device: Pjsua, call: int, tone: int) -> None:
    await until(lambda: device.hears_tone(call, tone), f"{tone} Hz at {device.user}'s pjsua2", seconds=LONG)


async def answers(device: Pjsua) -> int:
    """The number of the call that rings."""
    call = int((await device.event("incoming", seconds=LONG))["call"])
    await device.do("answer", call=call)
    await device.event("call", call=call, state="CONFIRMED", seconds=LONG)
    return call


def agreed(device: Pjsua) -> tuple[str, str]:
    """(protocol, codec) of the audio in the phone's last answer or offer that was agreed on."""
    body = [m.body for m in device.trace() if not m.received and "m=audio" in m.body][-1]
    _, protocol, *numbers = body.split("m=audio ")[1].split("\r\n")[0].split()
    return protocol, next(number for number in numbers if int(number) < 96)  # dynamic ones: keys


@pytest.mark.parametrize(
    ("options", "taken"),
    [
        (PLAIN, ("RTP/AVP", "0")),
        (WIDE, ("RTP/AVP", "9")),
        (OPTIONAL, ("RTP/AVP", "0")),
        (REQUIRED, ("RTP/SAVP", "0")),
    ],
    ids=["PCMU", "G.722", "SRTP optional", "SRTP required"],
)
async def test_a_caller_of_the_phone_network(
    house: House, options: dict[str, Any], taken: tuple[str, str]
) -> None:
    """sipp speaks PCMU alone, and echoes what it hears: the phone's own tone comes back when both directions carry."""
    async with pjsua(house, "ana", **options) as ana:
        await make_ready_by_page(house.server, "ana")
        async with house.caller() as sipp:
            call = await answers(ana)
            assert agreed(ana) == taken
            await hears(ana, call, ANA)
            await ana.do("hang_up", call=call)
            await sipp.finished()


@pytest.mark.parametrize(
    ("options", "taken"),
    [(PLAIN, ("RTP/AVP", "0")), (WIDE_REQUIRED, ("RTP/SAVP", "9"))],
    ids=["PCMU", "G.722, SRTP required"],
)
async def test_a_customer_in_chromium(house: House, options: dict[str, Any], taken: tuple[str, str]) -> None:
    """The browser starts in Opus, which this phone has not."""
    async with pjsua(house, "ana", **options) as ana:
        await make_ready_by_page(house.server, "ana")
        async with Reader(house.folder, house.server, BOILER_ARTICLE) as maria:
            await maria.ask_for("voice")
            call = await answers(ana)
            assert agreed(ana) == taken
            await maria.reaches("connected", seconds=LONG)
            await until(lambda: maria.hears_tone(ANA), "the agent's tone in the browser", seconds=LONG)
            await hears(ana, call, MARIA)

            held = len(ana.seen("media", call=call, state="held"))
            await ana.do("hold", call=call)
            await ana.event("media", call=call, state="held", count=held + 1, seconds=LONG)

            async def silent() -> bool:
                return not await maria.hears_tone(ANA)

            await until(silent, "the agent's tone to be gone while on hold", seconds=LONG)
            await resumes(ana, call)
            await until(lambda: maria.hears_tone(ANA), "the agent's tone after the hold", seconds=LONG)
            await hears(ana, call, MARIA)
            await maria.hang_up()
            await ana.event("call", call=call, state="DISCONNECTED", seconds=LONG)


async def resumes(device: Pjsua, call: int) -> None:
    active = len(device.seen("media", call=call, state="active"))
    before = int(await device.do("received", call=call))
    await device.do("resume", call=call)
    await device.event("media", call=call, state="active", count=active + 1, seconds=LONG)

    async def new_sound() -> bool:
        """What was heard before the hold is no more in the last half second of what was recorded."""
        return int(await device.do("received", call=call)) > before + 50

    await until(new_sound, f"sound at {device.user}'s pjsua2 after the hold", seconds=LONG)


@pytest.mark.parametrize(
    ("options", "other"),
    [
        (WIDE, {"audio_codecs": "g722/8000/1"}),
        (REQUIRED, {"audio_codecs": "pcmu/8000/1", "encryption": "dtls_srtp"}),
        (OPTIONAL, {"audio_codecs": "opus/48000/2"}),
    ],
    ids=["G.722", "SDES-DTLS", "PCMU-Opus alone"],
)
async def test_a_colleague_with_baresip_and_holds_from_both_ends(
    house: House, options: dict[str, Any], other: dict[str, Any]
) -> None:
    async with (
        pjsua(house, "ana", tone=ANA, **options) as ana,
        house.phone("bo", video=False, tone=BO, **other) as bo,
    ):
        await bo.dial("sip:ana@127.0.0.1")
        call = await answers(ana)
        await bo.event("CALL_ESTABLISHED", seconds=LONG)
        await hears(ana, call, BO)
        await until(lambda: phone_hears(bo, ANA), "Ana's tone at Bo's phone", seconds=LONG)

        await ana.do("hold", call=call)
        await ana.event("media", call=call, state="held", seconds=LONG)
        await until(lambda: arriving(bo) == 0, "nothing to come from the phone that holds", seconds=LONG)
        await resumes(ana, call)
        await hears(ana, call, BO)
        await until(lambda: arriving(bo) > 5000, "Ana's sound at Bo's phone after her hold", seconds=LONG)

        await bo.command("hold")
        await until(lambda: _says(bo, "a=sendonly"), "Bo's hold", seconds=LONG)
        await until(lambda: arriving(bo) == 0, "nothing to come to the phone that holds", seconds=LONG)
        await bo.command("resume")
        await until(lambda: arriving(bo) > 5000, "Ana's sound at Bo's phone after his hold", seconds=LONG)
        before = int(await ana.do("received", call=call))

        async def new_sound() -> bool:
            return int(await ana.do("received", call=call)) > before + 50

        await until(new_sound, "Bo's sound at Ana's phone after his hold", seconds=LONG)
        await hears(ana, call, BO)
        await ana.do("hang_up", call=call)
        await bo.event("CALL_CLOSED", seconds=LONG)


def arriving(device: Baresip) -> int:
    """Sound in bit/s that reaches the phone, as it says itself; its WAV file is of no use after a hold."""
    said = re.findall(r"audio=\d+/(\d+)", device.process.output()[-2000:])
    return int(said[-1]) if said else -1


def _says(device: Baresip, words: str) -> bool:
    return any(words in message.body for message in device.trace() if not message.received)


async def test_two_devices_ring_with_an_offer_each_and_media_are_with_the_one_that_answers(
    house: House,
) -> None:
    """The one that does not is told that it was answered elsewhere, and hears and says nothing."""
    async with (
        house.phone("carla", tone=BO, video=False) as desk,
        pjsua(house, "carla-mobile", tone=ANA, **PLAIN) as mobile,
        Reader(house.folder, house.server, CAMERA_ARTICLE) as maria,
    ):
        await make_ready_by_page(house.server, "carla")
        await maria.ask_for("voice")
        await desk.event("CALL_INCOMING", seconds=LONG)
        call = await answers(mobile)
        await desk.event("CALL_CLOSED", seconds=LONG)
        (offer,) = desk.invites()
        other = next(m for m in mobile.trace() if m.received and m.start.startswith("INVITE "))
        assert offer.header("Call-ID") != other.header("Call-ID")
        assert _port(offer.body) != _port(other.body), "a branch of its own"
        cancel = [m for m in desk.trace() if m.received and m.start.startswith("CANCEL ")]
        assert cancel
        assert "elsewhere" in cancel[0].header("Reason")

        await maria.reaches("connected", seconds=LONG)
        await until(lambda: maria.hears_tone(ANA), "the winner's tone in the browser", seconds=LONG)
        await hears(mobile, call, MARIA)
        assert desk.heard() is None, "no media began at the loser"
        assert not desk.seen("CALL_ESTABLISHED")
        await mobile.do("hang_up", call=call)
        await maria.reaches("ended", seconds=LONG)


def _port(session: str) -> str:
    return session.split("m=audio ")[1].split()[0]
