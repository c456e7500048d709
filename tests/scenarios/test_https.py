"""The portal over https with the house's own authority, SIP over wss:// beside it, and the headers on every page."""

from __future__ import annotations

import asyncio
import http.client
import ssl
from pathlib import Path

from tests.peers.people import BOILER_ARTICLE, Reader, make_ready, phone, phone_hears
from tests.peers.process import until
from tests.peers.warmline import Warmline


class SecureWarmline(Warmline):
    """The same server; its customers come by https."""

    def __init__(self, folder: Path, **settings: object) -> None:
        super().__init__(folder, **settings)
        self.portal = f"https://127.0.0.1:{self.https_port}"


async def headers_of(connection: http.client.HTTPConnection, path: str) -> tuple[int, dict[str, str], str]:
    def ask() -> tuple[int, dict[str, str], str]:
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read().decode(errors="replace")
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, body
        finally:
            connection.close()

    return await asyncio.to_thread(ask)


def plainly(server: Warmline) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=10)


def securely(
    server: Warmline, trusted: str | None = None, *, host: str = "127.0.0.1"
) -> http.client.HTTPSConnection:
    """Trusting that PEM text alone; None trusts what this machine trusts."""
    context = ssl.create_default_context(cadata=trusted)
    assert context.check_hostname
    return http.client.HTTPSConnection(host, server.https_port, timeout=10, context=context)


async def test_a_voice_call_over_https_and_wss(tmp_path: Path) -> None:
    async with SecureWarmline(tmp_path) as server, phone(tmp_path, server, "ana") as ana:
        await make_ready(server, ana)
        async with Reader(tmp_path, server, BOILER_ARTICLE) as maria:
            sockets: list[str] = []
            maria.page.on("websocket", lambda socket: sockets.append(socket.url))
            await maria.ask_for("voice")
            await ana.event("CALL_INCOMING")
            await ana.accept()
            await maria.reaches("connected")
            await until(lambda: maria.hears_tone(880), "the agent's tone in the browser")
            await until(lambda: phone_hears(ana, 620), "the customer's tone in the phone")
            assert sockets
            assert all(url.startswith(f"wss://127.0.0.1:{server.https_port}/sip") for url in sockets), sockets
            cookies = await maria.context.cookies(server.portal)
            assert all(cookie["secure"] and cookie["httpOnly"] for cookie in cookies), cookies
            await maria.hang_up()
            ended = await server.event("contact.ended")
            assert ended["facts"]["disposition"] == "customer_hung_up"


async def test_the_authority_that_the_portal_hands_out_verifies_the_server(tmp_path: Path) -> None:
    async with Warmline(tmp_path) as server:
        status, headers, authority = await headers_of(plainly(server), "/ca.pem")
        assert status == 200
        assert authority.startswith("-----BEGIN CERTIFICATE-----")
        assert "PRIVATE" not in authority
        assert (
            headers["content-type"].startswith("application/x-x509-ca-cert")
            or "pem" in headers["content-type"]
        )
        for host in ("127.0.0.1", "localhost"):
            status, _, page = await headers_of(securely(server, authority, host=host), "/login")
            assert status == 200
            assert 'name="password"' in page
        # http and https are one site.
        assert (await headers_of(plainly(server), "/login"))[0] == 200
        assert (await headers_of(securely(server, authority), "/ca.pem"))[2] == authority
        try:
            await headers_of(securely(server), "/login")
        except ssl.SSLCertVerificationError:
            pass
        else:
            raise AssertionError("whoever has not taken the authority must not trust the server")


async def test_every_page_of_every_part_is_guarded_by_headers(tmp_path: Path) -> None:
    async with Warmline(tmp_path) as server:
        authority = (await headers_of(plainly(server), "/ca.pem"))[2]
        pages = (
            "/login",
            "/",
            "/no/such/page",
            "/agent/login",
            "/agent",
            "/context/c_none",
            "/agent/nothing",
        )
        answers = ("/api/contacts/current", "/api/nothing", "/static/portal.css")
        for secure in (False, True):
            for path in (*pages, *answers):
                connection = securely(server, authority) if secure else plainly(server)
                status, headers, body = await headers_of(connection, path)
                where = f"{'https' if secure else 'http'} {path} ({status}): {headers}"
                assert status < 500, where
                assert "Traceback" not in body, where
                assert headers["x-content-type-options"] == "nosniff", where
                assert headers["x-frame-options"] == "DENY", where
                assert headers["referrer-policy"] == "same-origin", where
                assert "camera=(self)" in headers["permissions-policy"], where
                assert "server" not in headers, where
                # Our own certificate may be gone tomorrow: no browser is to insist on https (RFC 6797 s11.3).
                assert "strict-transport-security" not in headers, where
                if path in pages:
                    policy = headers["content-security-policy"]
                    assert "default-src 'none'" in policy, where
                    assert "frame-ancestors 'none'" in policy, where
                    assert "unsafe" not in policy, where
