"""What holds for every request: who answers which address, limits, headers, the access log."""

from __future__ import annotations

import asyncio

import pytest
from autobahn.twisted.resource import WebSocketResource
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.web.resource import Resource
from twisted.web.server import Request
from twisted.web.test.requesthelper import DummyChannel

from pbx.api.site import ARRIVAL_S, IDLE_S, MAX_BODY, WarmlineSite, build_root, printable
from tests.pbx.web import Browser, Wire


class Part(Resource):
    """Says its name and what came."""

    isLeaf = True

    def __init__(self, name: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.name = name
        self.seen = 0

    def render(self, request: Request) -> bytes:
        self.seen += 1
        assert request.content is not None
        return (
            f"{self.name} {b'/'.join(request.postpath or []).decode()} {len(request.content.read())}".encode()
        )


class Rig:
    def __init__(self, clock: Clock, *, hsts: bool = True) -> None:
        self.log: list[str] = []
        self.parts = {name: Part(name) for name in ("api", "pages", "portal", "sip")}
        api, pages, portal, sip = self.parts.values()
        root = build_root(api=api, pages=pages, portal=portal, sip=sip, hsts=hsts)
        self.site = WarmlineSite(root, clock, access_log=self.log.append)
        self.browser = Browser(self.site)


@pytest.fixture
def rig(clock: Clock) -> Rig:
    return Rig(clock)


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("/api/contacts", "api"),
        ("/agent", "pages"),
        ("/agent/live", "pages"),
        ("/context/c_1", "pages"),
        ("/sip", "sip"),
        ("/", "portal"),
        ("/articles/leaks", "portal"),
        ("/apiary", "portal"),
        ("/agents", "portal"),
    ],
)
async def test_the_first_segment_says_who_answers_and_they_see_the_whole_path(
    rig: Rig, path: str, part: str
) -> None:
    reply = await rig.browser.get(path)
    assert reply.body.split(" ")[:2] == [part, path[1:]]


async def test_common_headers_are_on_every_answer_and_no_server_name(rig: Rig) -> None:
    for path in ("/", "/api/x", "/agent"):
        headers = (await rig.browser.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "same-origin"
        assert "server" not in headers
        assert "strict-transport-security" not in headers


@pytest.mark.parametrize("hsts", [True, False])
async def test_hsts_is_said_over_https_only_and_only_where_wanted(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, hsts: bool
) -> None:
    rig = Rig(clock, hsts=hsts)
    monkeypatch.setattr(Request, "isSecure", lambda self: True)
    assert ("strict-transport-security" in (await rig.browser.get("/")).headers) is hsts


async def test_the_access_log_holds_no_query_cookie_or_body(rig: Rig) -> None:
    rig.browser.cookies["warmline_agent"] = "cookie-secret"
    await rig.browser.ask("POST", "/search?q=query-secret", body=b"body-secret")
    assert len(rig.log) == 1
    assert rig.log[0].startswith("POST /search 200 ")
    assert "192.0.2.7" in rig.log[0]
    assert "secret" not in rig.log[0]


@pytest.mark.parametrize("path", [b"/agent/calls/now", b"/agent/supervisor/now", b"/static/dock.js"])
def test_what_comes_all_the_time_is_logged_when_it_is_refused(clock: Clock, path: bytes) -> None:
    site = WarmlineSite(Resource(), clock)
    with capturedLogs() as seen:
        for code in (200, 404):
            request = Request(DummyChannel(), False)
            request.method, request.path, request.code = b"GET", path, code
            site.log(request)
    assert [each["log_level"].name for each in seen] == ["debug", "info"]
    assert " 404 " in seen[1]["line"]


def test_what_is_logged_is_one_short_line_whatever_was_asked_for() -> None:
    logged = printable(b"/a\x1b[31m b\r\n\x85" + b"x" * 5000)
    assert logged.isprintable()
    assert " " not in logged
    assert len(logged) < 1000


async def test_a_body_of_one_mebibyte_is_taken_and_one_byte_more_is_not(rig: Rig) -> None:
    assert (await rig.browser.ask("POST", "/api/x", body=b"x" * MAX_BODY)).status == 200
    refused = await rig.browser.ask("POST", "/api/x", body=b"x" * (MAX_BODY + 1))
    assert refused.status == 413
    assert "1024 KiB" in refused.json()["error"]
    assert rig.parts["api"].seen == 1


async def test_a_chunked_body_has_the_same_limit(rig: Rig) -> None:
    head = b"POST /api/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    wire, protocol = rig.browser._send(head)
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    for _ in range(18):
        protocol.dataReceived(chunk)
    protocol.dataReceived(b"0\r\n\r\n")
    await asyncio.sleep(0)
    assert b" 413 " in wire.sent
    assert wire.disconnecting
    assert rig.parts["api"].seen == 0


def connect(rig: Rig) -> tuple[Wire, object]:
    protocol = rig.site.buildProtocol(IPv4Address("TCP", "192.0.2.7", 5000))  # type: ignore[no-untyped-call]
    wire = Wire()
    protocol.makeConnection(wire)
    return wire, protocol


async def test_a_request_that_drips_in_is_cut_off(rig: Rig, clock: Clock) -> None:
    wire, protocol = rig.browser._send(b"GET / HTTP/1.1\r\n")
    for _ in range(int(ARRIVAL_S) + 1):
        clock.advance(1)
        if not wire.aborted:
            protocol.dataReceived(b"X: y\r\n")
    assert wire.aborted
    assert clock.seconds() < IDLE_S
    assert rig.parts["portal"].seen == 0


async def test_an_idle_connection_is_closed(rig: Rig, clock: Clock) -> None:
    wire, _ = connect(rig)
    clock.advance(IDLE_S + 1)
    assert wire.disconnecting


async def test_a_request_that_arrived_may_take_as_long_as_it_likes_to_answer(clock: Clock) -> None:
    class Slow(Part):
        def render(self, request: Request) -> int:  # type: ignore[override]
            return 1  # NOT_DONE_YET

    rig = Rig(clock)
    rig.site.resource._otherwise = Slow("slow")
    wire, _ = rig.browser._send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    clock.advance(ARRIVAL_S + IDLE_S + 1)
    assert not wire.disconnecting
    assert not wire.aborted


async def test_a_web_socket_gets_through(clock: Clock) -> None:
    rig = Rig(clock)
    heard: list[bytes] = []

    class Phone(WebSocketServerProtocol):
        def onMessage(self, payload: bytes, isBinary: bool) -> None:
            heard.append(payload)

    factory = WebSocketServerFactory(protocols=["sip"])  # type: ignore[no-untyped-call]
    factory.protocol = Phone
    factory.startFactory()  # type: ignore[no-untyped-call]
    rig.site.resource._parts[b"sip"] = WebSocketResource(factory)  # type: ignore[no-untyped-call]
    head = (
        b"GET /sip HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: sip\r\n\r\n"
    )
    wire, _ = rig.browser._send(head)
    for _ in range(10):
        await asyncio.sleep(0)
    assert wire.sent.startswith(b"HTTP/1.1 101")
    assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in wire.sent
    wire.protocol.dataReceived(b"\x81\x82\0\0\0\0hi")  # a text frame, masked with zeros
    for _ in range(10):
        await asyncio.sleep(0)
    assert heard == [b"hi"]
    clock.advance(10 * IDLE_S)
    assert not wire.disconnecting, "HTTP's timeouts end where the web socket begins"


@pytest.mark.parametrize(
    "kind",
    [
        "multipart/form-data; boundary=b",
        " Multipart/Form-Data; boundary=b",
        "=?us-ascii?q?multipart?=/form-data; boundary=b",
        "nothing",
        "\x0bmultipart/form-data",
    ],
)
async def test_what_has_several_parts_is_refused_before_it_is_read(rig: Rig, kind: str) -> None:
    part = b'--b\r\nContent-Disposition: form-data; name="a"' + b";a" * 1000 + b"\r\n\r\nx\r\n--b--\r\n"
    reply = await rig.browser.ask("POST", "/articles/leaks", headers={"Content-Type": kind}, body=part)
    assert reply.status == 415
    assert not rig.parts["portal"].seen


async def test_what_is_said_beside_a_media_type_is_left_out(rig: Rig) -> None:
    kind = "application/x-www-form-urlencoded; charset=UTF-8" + ";a" * 1000
    reply = await rig.browser.ask("POST", "/articles/leaks", headers={"Content-Type": kind}, body=b"a=1")
    assert (reply.status, reply.body) == (200, "portal articles/leaks 3")
