"""Agents who pass a customer or a colleague on from their softphones, blind and after asking."""

from __future__ import annotations

from pathlib import Path

from tests.peers.baresip import Baresip
from tests.peers.people import BOILER_ARTICLE, Reader, make_ready, make_ready_by_page, phone, phone_hears
from tests.peers.pjsua import Pjsua
from tests.peers.process import until
from tests.peers.sipp import Sipp
from tests.peers.warmline import Warmline

PCMU = {"audio_codecs": "pcmu/8000/1", "video": False}


def caller(tmp_path: Path, server: Warmline) -> Sipp:
    """A customer on the telephone, who sends back what they hear and waits for us to hang up."""
    return Sipp(
        tmp_path,
        "caller_waits_for_bye",
        server_port=server.sip_port,
        port=server.trunk_port,
        keys={"number": "+15550200", "caller": "+15550100001"},
    )


async def takes(server: Warmline, ana: Baresip) -> str:
    """Ana takes the caller; their contact."""
    await ana.event("CALL_INCOMING")
    await ana.accept()
    contact = str((await server.event("contact.connected"))["contact_id"])
    await until(lambda: phone_hears(ana, 880), "the echo of Ana's tone")
    return contact


def notified(device: Baresip) -> list[str]:
    """What the phone was told of its transfer."""
    return [
        message.body.strip()
        for message in device.trace()
        if message.received and message.start.startswith("NOTIFY ")
    ]


async def test_a_caller_is_passed_on_to_a_colleague(tmp_path: Path) -> None:
    async with (
        Warmline(tmp_path) as server,
        phone(tmp_path, server, "ana", tone=880, **PCMU) as ana,
        phone(tmp_path, server, "bo", tone=620, **PCMU) as bo,
    ):
        await make_ready(server, ana)
        async with caller(tmp_path, server) as sipp:
            contact = await takes(server, ana)
            await ana.command("transfer", "sip:bo@127.0.0.1")
            await bo.event("CALL_INCOMING")
            assert "Boiler 200" in bo.invites()[-1].header("Subject")
            assert bo.invites()[-1].header("X-Warmline-Contact") == contact
            await bo.accept()
            told = await server.event("contact.transferred", contact_id=contact)
            assert (told["agent_id"], told["facts"]["from_agent"]) == ("agent-bo", "agent-ana")
            await until(lambda: phone_hears(bo, 620), "the echo of Bo's tone")
            await ana.event("CALL_CLOSED", count=2)
            await server.agent_is("agent-ana", "WrapUp", "Ready")
            await server.agent_is("agent-bo", "Talking")
            # baresip hangs up as soon as it sees the 202: what became of the transfer it may hear or not.
            assert all("SIP/2.0" in said for said in notified(ana))
            await bo.hang_up()
            await sipp.finished()
            ended = await server.event("contact.ended", contact_id=contact)
            assert (ended["agent_id"], ended["facts"]["disposition"]) == ("agent-bo", "agent_hung_up")


async def test_a_browser_hears_the_colleague_and_is_heard(tmp_path: Path) -> None:
    async with (
        Warmline(tmp_path) as server,
        phone(tmp_path, server, "ana", tone=880) as ana,
        phone(tmp_path, server, "bo", tone=1500, audio_codecs="pcmu/8000/1", video=False) as bo,
    ):
        await make_ready(server, ana)
        async with Reader(tmp_path, server, BOILER_ARTICLE) as maria:
            await maria.ask_for("voice")
            await ana.event("CALL_INCOMING")
            await ana.accept()
            await maria.reaches("connected")
            await until(lambda: maria.hears_tone(880), "Ana's tone in the browser")
            await ana.command("transfer", "sip:bo@127.0.0.1")
            await bo.event("CALL_INCOMING")
            await bo.accept()
            await server.event("contact.transferred")
            await until(lambda: maria.hears_tone(1500), "Bo's tone in the browser")
            await until(lambda: phone_hears(bo, 620), "Maria's tone at Bo's phone")
            await maria.hang_up()
            await bo.event("CALL_CLOSED")
            await server.agent_is("agent-bo", "WrapUp", "NotReady")


async def test_a_video_call_goes_on_as_a_voice_call_at_a_phone_without_pictures(tmp_path: Path) -> None:
    async with (
        Warmline(tmp_path) as server,
        phone(tmp_path, server, "ana", tone=880) as ana,
        phone(tmp_path, server, "bo", tone=1500, **PCMU) as bo,
    ):
        await make_ready(server, ana)
        async with Reader(tmp_path, server, BOILER_ARTICLE) as maria:
            await maria.ask_for("video")
            await ana.event("CALL_INCOMING")
            await ana.accept()
            await maria.reaches("connected")
            await until(maria.sees_moving_pictures, "Ana's moving picture in the browser")
            await ana.command("transfer", "sip:bo@127.0.0.1")
            await bo.event("CALL_INCOMING")
            assert "m=video" not in bo.invites()[-1].body
            await bo.accept()
            told = await server.event("contact.transferred")
            assert told["agent_id"] == "agent-bo"
            await until(lambda: maria.hears_tone(1500), "Bo's tone in the browser")
            await until(lambda: phone_hears(bo, 620), "Maria's tone at Bo's phone")
            await maria.hang_up()
            await bo.event("CALL_CLOSED")
            await server.event("contact.ended", disposition="customer_hung_up")


async def test_a_colleague_who_rejects_it(tmp_path: Path) -> None:
    async with (
        Warmline(tmp_path) as server,
        Pjsua(
            tmp_path,
            user="ana",
            password="ana-phone",
            domain="127.0.0.1",
            registrar_port=server.sip_port,
            answer="auto",
        ) as ana,
        phone(tmp_path, server, "bo", tone=620, **PCMU) as bo,
    ):
        await make_ready_by_page(server, "ana")
        async with caller(tmp_path, server) as sipp:
            call = (await ana.event("incoming"))["call"]
            await until(lambda: ana.hears_tone(call, 880), "the echo of Ana's tone")
            await ana.do("transfer", call=call, to="sip:bo@127.0.0.1")
            await bo.event("CALL_INCOMING")
            await bo.reject()
            failed = await server.event("contact.transfer_failed")
            assert (failed["facts"]["status"], failed["facts"]["then"]) == (486, "with the agent again")
            await until(
                lambda: any(
                    m.received and m.start.startswith("NOTIFY") and "486" in m.body for m in ana.trace()
                ),
                "Ana's phone to hear of it",
            )
            heard = ana.heard(call).stat().st_size
            await until(lambda: ana.heard(call).stat().st_size > heard + 20000, "sound to go on")
            await until(lambda: ana.hears_tone(call, 880), "the echo of Ana's tone again")
            assert server.agent_state("agent-ana") == "Talking"
            await ana.do("hang_up", call=call)
            await sipp.finished()


async def test_the_customer_is_passed_on_after_the_colleague_was_asked(tmp_path: Path) -> None:
    async with (
        Warmline(tmp_path) as server,
        Pjsua(
            tmp_path,
            user="ana",
            password="ana-phone",
            domain="127.0.0.1",
            registrar_port=server.sip_port,
            answer="auto",
        ) as ana,
        phone(tmp_path, server, "bo", tone=620, **PCMU) as bo,
    ):
        await make_ready_by_page(server, "ana")
        async with caller(tmp_path, server) as sipp:
            call = (await ana.event("incoming"))["call"]
            await until(lambda: ana.hears_tone(call, 880), "the echo of Ana's tone")
            await ana.do("hold", call=call)
            consult = await ana.dial("bo")
            await bo.event("CALL_INCOMING")
            await bo.accept()
            await ana.event("call", call=consult, state="CONFIRMED")
            await until(lambda: ana.hears_tone(consult, 620), "Bo's tone at Ana's phone")
            await until(lambda: phone_hears(bo, 880), "Ana's tone at Bo's phone")
            await ana.do("join", call=call, other=consult)
            told = await server.event("contact.transferred")
            assert (told["agent_id"], told["facts"]["how"]) == ("agent-bo", "attended")
            await until(lambda: phone_hears(bo, 620), "the echo of Bo's tone")
            await ana.event("call", call=call, state="DISCONNECTED")
            await ana.event("call", call=consult, state="DISCONNECTED")
            await server.agent_is("agent-ana", "WrapUp", "Ready")
            await server.agent_is("agent-bo", "Talking")
            assert len(bo.invites()) == 1, "Bo's phone stays in the call it has"
            await bo.hang_up()
            await sipp.finished()
            ended = await server.event("contact.ended")
            assert ended["agent_id"] == "agent-bo"


async def test_a_colleague_is_passed_on_to_another(tmp_path: Path) -> None:
    async with (
        Warmline(tmp_path) as server,
        phone(tmp_path, server, "ana", tone=880, **PCMU) as ana,
        phone(tmp_path, server, "bo", tone=620, **PCMU) as bo,
        phone(tmp_path, server, "deniz", tone=1500, **PCMU) as deniz,
    ):
        await ana.dial("sip:bo@127.0.0.1")
        await bo.event("CALL_INCOMING")
        await bo.accept()
        await until(lambda: phone_hears(bo, 880), "Ana's tone at Bo's phone")
        await bo.command("transfer", "sip:deniz@127.0.0.1")
        await deniz.event("CALL_INCOMING")
        assert "Ana" in deniz.invites()[-1].header("From")
        await deniz.accept()
        await until(lambda: phone_hears(ana, 1500), "Deniz's tone at Ana's phone")
        await until(lambda: phone_hears(deniz, 880), "Ana's tone at Deniz's phone")
        await bo.event("CALL_CLOSED")
        await deniz.hang_up()
        await ana.event("CALL_CLOSED")
        await server.event("call.ended")
