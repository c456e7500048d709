"""Bad input gets a clear answer; nothing is lost, and nobody sees a traceback (Warmline's own peer checks its log)."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from tests.peers.agent_page import AgentPage
from tests.peers.people import BOILER_ARTICLE, Reader, make_ready, phone
from tests.peers.process import until
from tests.peers.sipp import Sipp
from tests.peers.warmline import Warmline

OPTIONS = (
    b"OPTIONS sip:127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:%d;branch=z9hG4bKok%d;rport\r\n"
    b"From: <sip:someone@example.org>;tag=1\r\nTo: <sip:127.0.0.1>\r\nCall-ID: ok%d@test\r\nCSeq: 1 OPTIONS\r\n"
    b"Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
)
JUNK = {
    "noise": b"\x00\xff\xfe" * 200,
    "half a line": b"INVITE sip:",
    "no Call-ID": b"OPTIONS sip:a@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bKx1;rport\r\n"
    b"From: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCSeq: 1 OPTIONS\r\n\r\n",
    "a CSeq of words": b"OPTIONS sip:a@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bKx2;rport\r\n"
    b"From: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: x2\r\nCSeq: many OPTIONS\r\n\r\n",
    "an open quote": b"OPTIONS sip:a@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bKx3;rport\r\n"
    b'From: "a <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: x3\r\nCSeq: 1 OPTIONS\r\n\r\n',
}


class UdpPeer:
    """A bare UDP socket, to send what no phone would."""

    def __init__(self, server: Warmline) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(3)
        self._socket.connect(("127.0.0.1", server.sip_port))
        self.port = self._socket.getsockname()[1]

    async def exchange(self, data: bytes) -> bytes:
        self._socket.send(data)
        return await asyncio.to_thread(self._socket.recv, 65535)

    def send(self, data: bytes) -> None:
        self._socket.send(data)

    def close(self) -> None:
        self._socket.close()


async def test_junk_is_answered_or_dropped_and_the_server_goes_on(tmp_path: Path) -> None:
    async with Warmline(tmp_path) as server:
        peer = UdpPeer(server)
        for name, junk in JUNK.items():
            if b"Via" in junk:
                answer = await peer.exchange(junk)
                assert answer.startswith(b"SIP/2.0 400 "), name
                assert answer.split(b"\r\n")[0] != b"SIP/2.0 400 Bad Request", "the reason names the fault"
            else:
                peer.send(junk)
        assert (await peer.exchange(OPTIONS % (peer.port, 1, 1))).startswith(b"SIP/2.0 200 ")
        peer.close()


async def test_a_wrong_digest_is_refused_and_no_binding_is_made(tmp_path: Path) -> None:
    async with Warmline(tmp_path) as server:
        for user in ("ana", "nobody-of-that-name"):
            keys = {"device_port": "9"}
            async with Sipp(
                tmp_path,
                "register_wrong_password",
                server_port=server.sip_port,
                user=user,
                password="wrong",
                keys=keys,
            ) as sipp:
                await sipp.finished(20)
        assert server.rows("SELECT * FROM binding") == []


async def test_a_browser_that_vanishes_in_a_call_ends_it(tmp_path: Path) -> None:
    async with Warmline(tmp_path) as server, phone(tmp_path, server, "ana") as ana:
        await make_ready(server, ana)
        async with Reader(tmp_path, server, BOILER_ARTICLE) as maria:
            await maria.ask_for("video")
            await ana.event("CALL_INCOMING")
            await ana.accept()
            await server.event("contact.connected")
            await maria.vanish()
            ended = await server.event("contact.ended", seconds=40)
            assert ended["facts"]["disposition"] == "customer_lost"
            await ana.event("CALL_CLOSED", count=2, seconds=5)
            await server.agent_is("agent-ana", "WrapUp", "Ready", seconds=1)


async def test_a_call_survives_a_reload_of_the_page(tmp_path: Path) -> None:
    async with Warmline(tmp_path) as server, phone(tmp_path, server, "ana") as ana:
        await make_ready(server, ana)
        async with Reader(tmp_path, server, BOILER_ARTICLE) as maria:
            await maria.ask_for("voice")
            await ana.event("CALL_INCOMING")
            await ana.accept()
            await maria.reaches("connected")
            await maria.page.reload()
            await maria.reaches("connected", seconds=20)
            await until(lambda: maria.hears_tone(880), "the agent's tone after the reload")
            assert not ana.seen("CALL_CLOSED")[1:], "the agent's call was never touched"
            assert "contact.ended" not in server.kinds()


async def test_forms_pages_and_walls(tmp_path: Path) -> None:
    async with Warmline(tmp_path) as server:
        async with (
            Reader(tmp_path, server, BOILER_ARTICLE) as maria,
            Reader(tmp_path, server, "thermostat-t1-first-steps", person="jonas", tone=500) as jonas,
        ):
            for path in (
                "/articles/no-such-article",
                "/products/none",
                "/articles/%00",
                "/articles/" + "x" * 3000,
            ):
                answer = await maria.page.goto(server.portal + path)
                assert answer is not None
                assert answer.status in {400, 404}, path
                assert "Traceback" not in await maria.page.content()
            theirs = await jonas.page.goto(f"{server.portal}/articles/camera-s2-pairing-fails")
            missing = await jonas.page.goto(f"{server.portal}/articles/no-such-article")
            assert theirs is not None
            assert missing is not None
            assert theirs.status == missing.status == 404, "another provider's article looks like none at all"

            nonsense = await maria.page.evaluate(
                """async () => {
                  const csrf = document.querySelector('meta[name=csrf]')?.content || '';
                  const codes = [];
                  for (const body of ['{', '[]', '{"channel": 5}', '{"channel": "smoke", "product": "boiler-200"}',
                                      '{"channel": "chat", "product": "hub-mini"}']) {
                    const answer = await fetch('/api/contacts', {method: 'POST', body,
                      headers: {'Content-Type': 'application/json', 'X-CSRF-Token': csrf}});
                    codes.push([answer.status, (await answer.json()).error]);
                  }
                  const bare = await fetch('/api/contacts', {method: 'POST', body: '{}'});
                  codes.push([bare.status, (await bare.json()).error]);
                  return codes;
                }"""
            )
            assert all(400 <= status < 500 and reason for status, reason in nonsense), nonsense
            assert server.rows("SELECT * FROM contact") == []

        stranger = AgentPage(server.portal)
        status, page = await stranger.post(
            "/agent/login",
            {"login": "'; DROP TABLE agent; --", "password": "x" * 5000},
            form_on="/agent/login",
        )
        assert status < 500
        assert "Traceback" not in page


@pytest.mark.parametrize(
    "path", ["/agent", "/context/c_none", "/api/contacts/current", "/products/boiler-200"]
)
async def test_a_stranger_sees_nothing(tmp_path: Path, path: str) -> None:
    async with Warmline(tmp_path) as server:
        status, page = await server.get(path)
        assert status in {200, 401, 403, 404}
        assert status != 200 or 'type="password"' in page, "a login form and nothing else"
