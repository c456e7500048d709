"""Agents' softphones that call each other, and numbers through a trunk."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from tests.peers.people import make_ready, phone, phone_hears
from tests.peers.process import free_sip_port, until
from tests.peers.sipp import Sipp
from tests.peers.warmline import Warmline

PCMU = {"audio_codecs": "pcmu/8000/1", "video": False}


def carrier(port: int, **more: object) -> str:
    """The setting for a trunk that sipp plays at that port."""
    return json.dumps(
        [{"name": "carrier", "peers": [f"127.0.0.1:{port}"], "dial": ["+49"], "options_s": 0, **more}]
    )


def proves(messages: str, user: str, password: str) -> bool:
    """Whether the last Proxy-Authorization in these is right (RFC 7616 s3.4.1, MD5 with qop=auth)."""

    def md5(*parts: str) -> str:
        return hashlib.md5(":".join(parts).encode()).hexdigest()

    written = re.findall(r"Proxy-Authorization: Digest (.*)", messages)[-1]
    said = {
        name: bare or quoted for name, quoted, bare in re.findall(r'(\w+)=(?:"([^"]*)"|([^,\s]+))', written)
    }
    secret, about = md5(user, said["realm"], password), md5("INVITE", said["uri"])
    return bool(
        said["response"] == md5(secret, said["nonce"], said["nc"], said["cnonce"], said["qop"], about)
    )


async def test_one_agent_calls_another_and_both_hear_each_other(tmp_path: Path) -> None:
    async with (
        Warmline(tmp_path) as server,
        phone(tmp_path, server, "ana", tone=880, video=False) as ana,
        phone(tmp_path, server, "bo", tone=620, video=False, audio_codecs="pcmu/8000/1") as bo,
    ):
        await make_ready(server, bo)
        established = len(ana.seen("CALL_ESTABLISHED"))
        await ana.dial("sip:bo@127.0.0.1")
        await bo.event("CALL_INCOMING")
        await ana.event("CALL_RINGING")
        assert len(ana.seen("CALL_ESTABLISHED")) == established, "answered only when Bo answers"
        assert "Ana" in bo.invites()[-1].header("From")
        await bo.accept()
        await ana.event("CALL_ESTABLISHED", count=established + 1)
        await until(lambda: phone_hears(ana, 620), "Bo's tone at Ana's phone")
        await until(lambda: phone_hears(bo, 880), "Ana's tone at Bo's phone")
        await ana.hang_up()
        await bo.event("CALL_CLOSED", count=2)
        ended = await server.event("call.ended")
        assert (ended["facts"]["whose"], ended["facts"]["how"]) == ("caller", "hung_up")
        assert server.agent_state("agent-bo") == "Ready"
        calls = [kind for kind in server.kinds() if kind.startswith("call.")]
        assert calls == ["call.started", "call.ringing", "call.connected", "call.ended"]
        sessions = {e["facts"]["session"] for e in server.events() if e["kind"].startswith("call.")}
        assert len(sessions) == 1
        assert bo.invites()[-1].header("Session-ID").startswith(str(sessions.pop()))


async def test_a_colleague_rejects_the_call(tmp_path: Path) -> None:
    async with (
        Warmline(tmp_path) as server,
        phone(tmp_path, server, "ana", video=False) as ana,
        phone(tmp_path, server, "bo", video=False) as bo,
    ):
        await ana.dial("sip:bo@127.0.0.1")
        await bo.event("CALL_INCOMING")
        await bo.reject()
        closed = await ana.event("CALL_CLOSED")
        assert "486" in closed["param"]
        ended = await server.event("call.ended")
        assert (ended["facts"]["whose"], ended["facts"]["how"], ended["facts"]["status"]) == (
            "callee", "declined", 486,
        )  # fmt: skip


async def test_hold_and_resume_in_a_direct_call(tmp_path: Path) -> None:
    async with (
        Warmline(tmp_path) as server,
        phone(tmp_path, server, "ana", tone=880, video=False) as ana,
        phone(tmp_path, server, "bo", tone=620, video=False) as bo,
    ):
        await ana.dial("sip:bo@127.0.0.1")
        await bo.event("CALL_INCOMING")
        await bo.accept()
        await ana.event("CALL_ESTABLISHED")
        await until(lambda: phone_hears(bo, 880), "Ana's tone at Bo's phone")
        await ana.command("hold")
        await until(lambda: any("a=sendonly" in m.body for m in ana.trace() if not m.received), "Ana's hold")
        await ana.command("resume")
        await until(
            lambda: (
                [m.start[:11] for m in ana.trace() if m.header("CSeq").endswith("INVITE")].count(
                    "SIP/2.0 200"
                )
                >= 3
            ),
            "the resumption to be agreed",
        )
        assert "call.ended" not in server.kinds()
        await bo.hang_up()
        await ana.event("CALL_CLOSED")


async def test_a_number_that_no_trunk_may_call(tmp_path: Path) -> None:
    async with Warmline(tmp_path) as server, phone(tmp_path, server, "ana", video=False) as ana:
        await ana.dial("sip:+4930123456@127.0.0.1")
        closed = await ana.event("CALL_CLOSED")
        assert "403" in closed["param"]


async def test_a_number_through_a_trunk_that_asks_for_a_password(tmp_path: Path) -> None:
    """The carrier is another Warmline: to it we are a phone of its agent Bo, who calls his colleague Ana."""
    async with (
        Warmline(tmp_path / "carrier") as carrier,
        phone(tmp_path / "carrier", carrier, "ana", tone=620, video=False) as far,
    ):
        trunk = {
            "name": "carrier",
            "peers": [f"127.0.0.1:{carrier.sip_port}"],
            "dial": ["+49"],
            "username": "bo",
            "password": "bo-phone",
            "options_s": 0,
        }
        async with (
            Warmline(tmp_path / "here", trunks=json.dumps([trunk])) as server,
            phone(tmp_path / "here", server, "ana", tone=880, video=False) as ana,
        ):
            await ana.dial("sip:+4930123456@127.0.0.1")
            closed = await ana.event("CALL_CLOSED")
            # The other one knows no such number; but it has believed who we are.
            assert "403" in closed["param"]
            refused = await carrier.event("call.refused")
            assert refused["facts"]["to"].startswith("sip:+4930123456@")
            assert not far.invites()
            ended = await server.event("call.ended")
            assert ended["facts"]["status"] == 403


async def test_a_number_through_a_carrier_whose_ringing_tone_is_heard_before_the_answer(
    tmp_path: Path,
) -> None:
    port = free_sip_port()
    trunks = carrier(port, username="warmline", password="their-secret", caller_id="+15550200")
    async with (
        Warmline(tmp_path, trunks=trunks) as server,
        phone(tmp_path, server, "ana", tone=880, **PCMU) as ana,
        Sipp(tmp_path, "carrier_rings_and_answers", server_port=server.sip_port, port=port) as sipp,
    ):
        established = len(ana.seen("CALL_ESTABLISHED"))
        await ana.dial("sip:+49-30-123456@127.0.0.1")
        await sipp.saw("SIP/2.0 183")
        await until(lambda: phone_hears(ana, 880), "what the carrier sends before the answer", seconds=6)
        assert "call.connected" not in server.kinds()
        assert len(ana.seen("CALL_ESTABLISHED")) == established
        await ana.event("CALL_ESTABLISHED", count=established + 1)
        assert not [m for m in ana.trace() if m.received and m.start.startswith("SIP/2.0 180")]
        assert "INVITE sip:+4930123456@" in sipp.messages()
        assert proves(sipp.messages(), "warmline", "their-secret")
        assert "P-Asserted-Identity: <sip:+15550200@" in sipp.messages()
        assert "Ana" not in sipp.messages()
        # sipp sends back what it gets: the tone has gone there and come again, for two seconds more.
        heard = ana.heard()
        assert heard is not None
        size = heard.stat().st_size
        await until(lambda: heard.stat().st_size > size + 32_000, "sound after the answer")
        assert phone_hears(ana, 880)
        await ana.hang_up()
        await sipp.finished(10)
        started = await server.event("call.started")
        assert (started["agent_id"], started["facts"]["through"]) == ("agent-ana", "carrier")
        ended = await server.event("call.ended")
        assert (ended["facts"]["whose"], ended["facts"]["how"]) == ("caller", "hung_up")


async def test_a_carriers_announcement_is_heard_and_then_its_refusal(tmp_path: Path) -> None:
    port = free_sip_port()
    async with (
        Warmline(tmp_path, trunks=carrier(port)) as server,
        phone(tmp_path, server, "ana", tone=880, **PCMU) as ana,
        Sipp(tmp_path, "carrier_announces_404", server_port=server.sip_port, port=port) as sipp,
    ):
        await ana.dial("sip:+4930123456@127.0.0.1")
        await sipp.saw("SIP/2.0 183")
        await until(lambda: phone_hears(ana, 880), "the announcement", seconds=6)
        closed = await ana.event("CALL_CLOSED")
        assert "404" in closed["param"]
        await sipp.finished(10)
        ended = await server.event("call.ended")
        assert (ended["facts"]["whose"], ended["facts"]["status"]) == ("callee", 404)


async def test_an_exchange_calls_an_agents_extension(tmp_path: Path) -> None:
    port = free_sip_port()
    async with (
        Warmline(tmp_path, trunks=carrier(port, extensions=True)) as server,
        phone(tmp_path, server, "ana", tone=880, **PCMU) as ana,
    ):
        keys = {"number": "ana", "caller": "+4930777"}
        async with Sipp(
            tmp_path, "caller_waits_for_bye", server_port=server.sip_port, port=port, keys=keys
        ) as sipp:
            await ana.event("CALL_INCOMING")
            assert "+4930777@" in ana.invites()[-1].header("From")
            await ana.accept()
            await until(lambda: phone_hears(ana, 880), "the echo of Ana's tone")
            await ana.hang_up()
            await sipp.finished(10)
        ended = await server.event("call.ended")
        assert (ended["facts"]["whose"], ended["facts"]["how"]) == ("callee", "hung_up")
