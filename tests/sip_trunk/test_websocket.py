# Twisted's transports for tests have no types.
# mypy: disallow-untyped-calls=False

from __future__ import annotations

import base64
import os
import struct

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransportWithDisconnection

from sip_trunk.flow import Flow
from sip_trunk.sip.message import Message, Request
from sip_trunk.transport import Transports
from sip_trunk.websocket import PING_EVERY_S, SipWebSocket, SipWebSocketFactory

MESSAGE = (
    "MESSAGE sip:us@example.com SIP/2.0\r\nVia: SIP/2.0/WS abc.invalid;branch=z9hG4bK1\r\nFrom: <sip:ana@h>;tag=a\r\n"
    "To: <sip:us@h>\r\nCall-ID: c1\r\nCSeq: 1 MESSAGE\r\nContent-Length: 5\r\n\r\nZoë!"
).encode()


class Wire(StringTransportWithDisconnection):
    def setTcpNoDelay(self, enabled: bool) -> None: ...

    def unregisterProducer(self) -> None:
        self.producer = None  # the real ones do not mind when there is none

    def abortConnection(self) -> None:
        self.loseConnection()


class Browser:
    """The other end of a web socket, frame by frame."""

    protocol: SipWebSocket
    wire: Wire
    answer: str

    def __init__(
        self,
        *,
        subprotocol: str | None = "sip",
        origin: str | None = "https://help.example",
    ) -> None:
        self.clock = Clock()
        self.transports = Transports(self.clock, public_host="198.51.100.1")
        self.heard: list[tuple[Message, Flow]] = []
        self.transports.on_message = lambda message, flow: self.heard.append((message, flow))
        factory = SipWebSocketFactory(self.transports)
        protocol = factory.buildProtocol(None)
        assert isinstance(protocol, SipWebSocket)
        self.protocol = protocol
        self.wire = Wire(peerAddress=IPv4Address("TCP", "192.0.2.7", 4711))
        self.wire.protocol = protocol
        protocol.makeConnection(self.wire)
        lines = [
            "GET /sip HTTP/1.1",
            "Host: help.example",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
            "Sec-WebSocket-Version: 13",
        ]
        if subprotocol:
            lines.append(f"Sec-WebSocket-Protocol: {subprotocol}")
        if origin:
            lines.append(f"Origin: {origin}")
        protocol.dataReceived(("\r\n".join(lines) + "\r\n\r\n").encode())
        self.answer = self.wire.value().decode()
        self.wire.clear()

    def send(self, payload: bytes, opcode: int = 1) -> None:
        mask = b"abcd"
        size = len(payload)
        length = bytes([0x80 | size]) if size < 126 else b"\xfe" + struct.pack("!H", size)
        masked = bytes(octet ^ mask[at % 4] for at, octet in enumerate(payload))
        self.protocol.dataReceived(bytes([0x80 | opcode]) + length + mask + masked)

    def frames(self) -> list[tuple[int, bytes]]:
        data, found = self.wire.value(), []
        self.wire.clear()
        while data:
            opcode, size, at = data[0] & 15, data[1] & 127, 2
            if size == 126:
                size, at = struct.unpack("!H", data[2:4])[0], 4
            found.append((opcode, data[at : at + size]))
            data = data[at + size :]
        return found


def test_the_subprotocol_sip_is_agreed_on() -> None:
    browser = Browser(subprotocol="xmpp, sip")
    assert browser.answer.startswith("HTTP/1.1 101")
    assert "sec-websocket-protocol: sip" in browser.answer.lower()


@pytest.mark.parametrize("subprotocol", [None, "xmpp"])
def test_without_it_the_connection_is_refused(subprotocol: str | None) -> None:
    browser = Browser(subprotocol=subprotocol)
    assert browser.answer.startswith("HTTP/1.1 400")
    assert browser.protocol.flow is None


@pytest.mark.parametrize(
    "origin, answer",
    [
        ("https://help.example", "HTTP/1.1 101"),
        (None, "HTTP/1.1 101"),
        ("https://portal.example", "HTTP/1.1 403"),
        ("https://evil.example", "HTTP/1.1 403"),
        ("https://help.example.evil.example", "HTTP/1.1 403"),
        ("null", "HTTP/1.1 400"),
    ],
)
def test_only_pages_of_our_own_host_may_connect(origin: str | None, answer: str) -> None:
    browser = Browser(origin=origin)
    assert browser.answer.startswith(answer)


@pytest.mark.parametrize("opcode", [1, 2])
def test_a_frame_of_either_kind_is_a_message(opcode: int) -> None:
    browser = Browser()
    browser.send(MESSAGE, opcode)
    ((message, flow),) = browser.heard
    assert isinstance(message, Request)
    assert message.body == "Zoë!".encode()
    assert (message.top_via.received, flow.transport, flow.reliable) == ("192.0.2.7", "WS", True)
    assert browser.transports.flow_by_token(flow.token) is flow


def test_what_is_utf_8_goes_as_text_and_the_rest_as_binary() -> None:
    browser = Browser()
    flow = browser.protocol.flow
    assert flow is not None
    flow.send("Zoë".encode())
    flow.send(b"\xff")
    assert browser.frames() == [(1, "Zoë".encode()), (2, b"\xff")]


def test_a_bad_message_is_answered_and_a_ping_gets_its_pong() -> None:
    browser = Browser()
    browser.send(MESSAGE.replace(b"Call-ID: c1\r\n", b""))
    browser.send(b"\r\n\r\n")
    (_, refusal), pong = browser.frames()
    assert refusal.startswith(b"SIP/2.0 400 Missing Call-ID\r\n")
    assert pong == (1, b"\r\n")
    assert browser.heard == []


def test_a_browser_that_answers_pings_stays() -> None:
    browser = Browser()
    for _ in range(10):
        browser.clock.advance(PING_EVERY_S)
        ((opcode, payload),) = browser.frames()
        assert opcode == 9
        browser.send(payload, 10)
    assert browser.wire.connected


def test_a_browser_that_vanished_is_noticed_within_half_a_minute() -> None:
    browser = Browser()
    flow = browser.protocol.flow
    assert flow is not None
    told: list[Flow] = []
    flow.on_closed.add(told.append)
    browser.clock.pump([1.0] * 30)
    assert told == [flow]
    assert not flow.alive
    assert browser.transports.flow_by_token(flow.token) is None
    assert browser.clock.getDelayedCalls() == []


def test_a_browser_that_asks_and_does_not_read_the_answers_is_cut_off() -> None:
    browser = Browser()
    flow = browser.protocol.flow
    assert flow is not None
    assert browser.wire.producer is not None
    browser.wire.producer.pauseProducing()
    for _ in range(browser.transports.limits.unsent // 50_000):
        flow.send(b"x" * 50_000)
    assert browser.wire.connected
    flow.send(b"x" * 50_000)
    assert not browser.wire.connected
    assert not flow.alive


def test_a_message_larger_than_the_limit_ends_the_connection() -> None:
    browser = Browser()
    browser.protocol.dataReceived(b"\x81\xff" + struct.pack("!Q", 1 << 20) + b"abcd")
    assert not browser.wire.connected
    assert browser.protocol.flow is not None
    assert not browser.protocol.flow.alive


def test_our_contact_for_a_browser_is_by_web_socket() -> None:
    browser = Browser()
    assert browser.protocol.flow is not None
    assert browser.transports.contact_uri(browser.protocol.flow, "c_1") == "sip:c_1@198.51.100.1;transport=ws"
    assert browser.transports.via(browser.protocol.flow) == ("WS", "198.51.100.1", None)


def test_wires_hear_a_browsers_messages_both_ways_and_the_unreadable() -> None:
    browser = Browser()
    seen: list[tuple[bool, str, bytes]] = []
    browser.transports.wires.append(lambda sent, flow, data: seen.append((sent, flow.transport, data)))
    browser.send(b"garbage")
    browser.send(b"\r\n\r\n")
    assert browser.protocol.flow is not None
    browser.protocol.flow.send(b"SIP/2.0 200 OK\r\n\r\n")
    assert seen == [(False, "WS", b"garbage"), (True, "WS", b"SIP/2.0 200 OK\r\n\r\n")]
