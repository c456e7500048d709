# Twisted's transports for tests have no types.
# mypy: disallow-untyped-calls=False

from __future__ import annotations

import resource
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransportWithDisconnection

from sip_trunk.flow import Flow
from sip_trunk.locate import Hop
from sip_trunk.sip.errors import BadMessage, SipFault
from sip_trunk.sip.message import Message, Request
from sip_trunk.stream import CLOSING_S, StreamFactory, StreamProtocol
from sip_trunk.transport import TransportLimits, Transports
from sip_trunk.udp import UdpPort

PEER = ("192.0.2.7", 4711)


def options(call_id: str = "c1", transport: str = "UDP") -> bytes:
    return (
        f"OPTIONS sip:us@example.com SIP/2.0\r\n"
        f"Via: SIP/2.0/{transport} 10.0.0.1:5060;branch=z9hG4bK{call_id};rport\r\n"
        f"From: <sip:ana@example.com>;tag=a\r\nTo: <sip:us@example.com>\r\nCall-ID: {call_id}\r\nCSeq: 1 OPTIONS\r\n"
        "Content-Length: 0\r\n\r\n"
    ).encode()


class Socket:
    """A UDP socket: `written` went out, `coming` is what there is to be read."""

    def __init__(self) -> None:
        self.written: list[tuple[bytes, tuple[str, int]]] = []
        self.coming: list[tuple[bytes, tuple[str, int]] | OSError] = []
        self.fault: Exception | None = None

    def sendto(self, data: bytes, address: tuple[str, int]) -> None:
        if self.fault is not None:
            raise self.fault
        self.written.append((data, address))

    def recvfrom(self, size: int) -> tuple[bytes, tuple[str, int]]:
        if not self.coming:
            raise BlockingIOError
        item = self.coming.pop(0)
        if isinstance(item, OSError):
            raise item
        return item


class Wire(StringTransportWithDisconnection):
    """A TCP connection as a protocol sees it."""

    def __init__(self, protocol: Any, peer: tuple[str, int] = PEER) -> None:
        super().__init__(peerAddress=IPv4Address("TCP", *peer))
        self.protocol = protocol
        self.aborted = False

    def setTcpNoDelay(self, enabled: bool) -> None: ...

    def setTcpKeepAlive(self, enabled: bool) -> None: ...

    def abortConnection(self) -> None:
        self.aborted = True
        self.producer = None
        if self.connected:
            self.loseConnection()


class Fixture:
    def __init__(self, **limits: Any) -> None:
        self.clock = Clock()
        self.transports = Transports(self.clock, public_host="198.51.100.1", limits=TransportLimits(**limits))
        self.heard: list[tuple[Message, Flow]] = []
        self.transports.on_message = lambda message, flow: self.heard.append((message, flow))
        self.datagrams = Socket()
        self.udp = UdpPort(self.transports, "127.0.0.1", self.datagrams, 5060)
        self.transports.add_udp(self.udp)
        self.transports.ports["TCP"] = 5060

    def connect(self, peer: tuple[str, int] = PEER) -> tuple[StreamProtocol, Wire]:
        protocol = StreamFactory(self.transports, "TCP").buildProtocol(None)
        wire = Wire(protocol, peer)
        protocol.makeConnection(wire)
        return protocol, wire

    @property
    def sent(self) -> list[tuple[bytes, tuple[str, int]]]:
        return self.datagrams.written


def test_a_request_arrives_with_its_source_noted_and_is_answered_there() -> None:
    it = Fixture()
    it.udp.received(options(), PEER)
    ((message, flow),) = it.heard
    assert isinstance(message, Request)
    assert (message.top_via.received, message.top_via.rport) == PEER
    assert (flow.transport, flow.peer, flow.reliable) == ("UDP", PEER, False)
    flow.send(b"answer")
    assert it.sent == [(b"answer", PEER)]


def test_a_bad_request_is_answered_with_what_was_wrong_to_its_source() -> None:
    it = Fixture()
    told: list[str] = []
    it.transports.on_bad = lambda error, flow: told.append(error.reason)
    it.udp.received(options().replace(b"Call-ID: c1\r\n", b""), PEER)
    ((data, where),) = it.sent
    assert data.startswith(b"SIP/2.0 400 Missing Call-ID\r\n")
    assert b";received=192.0.2.7" in data
    assert b"To: <sip:us@example.com>;tag=" in data
    assert (where, told, it.heard) == (PEER, ["Missing Call-ID"], [])


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n\r\n",
        b"\0\0",
        b"garbage\r\n\r\n",
        options().replace(b"OPTIONS", b"ACK").replace(b"Call-ID: c1\r\n", b""),
        b"SIP/2.0 200 OK\r\n\r\n",
    ],
)
def test_keep_alives_garbage_bad_acks_and_bad_responses_are_not_answered(data: bytes) -> None:
    it = Fixture()
    it.udp.received(data, PEER)
    assert (it.heard, it.sent) == ([], [])


def test_what_is_not_admitted_is_neither_heard_nor_answered() -> None:
    it = Fixture()
    it.transports.admits = lambda message, flow: False
    it.udp.received(options(), PEER)
    it.udp.received(options().replace(b"Call-ID: c1\r\n", b""), PEER)
    assert (it.heard, it.sent) == ([], [])


def test_one_message_that_cannot_be_dealt_with_does_not_stop_the_next() -> None:
    it = Fixture()
    calls: list[str] = []

    def fail(message: Message, flow: Flow) -> None:
        calls.append(message.call_id)
        raise RuntimeError("no")

    it.transports.on_message = fail
    it.udp.received(options("c1"), PEER)
    it.udp.received(options("c2"), PEER)
    assert calls == ["c1", "c2"]


@pytest.mark.parametrize(
    "fault", [OSError("no route"), BlockingIOError(), ValueError("address"), OverflowError("port")]
)
def test_a_datagram_that_cannot_be_sent_is_lost_and_nothing_else(fault: Exception) -> None:
    it = Fixture()
    it.datagrams.fault = fault
    it.transports.flow_to_address("UDP", *PEER).send(b"x")
    assert (it.sent, it.udp.unsent) == ([], 1)


def test_a_burst_is_read_in_turns_so_that_timers_have_theirs() -> None:
    it = Fixture()
    it.datagrams.coming += [(options(f"c{number}"), PEER) for number in range(2)]
    it.udp.read()
    assert len(it.heard) == 1
    it.udp.read()
    it.udp.read()
    assert len(it.heard) == 2


def test_a_socket_that_tells_of_an_earlier_failure_is_read_on() -> None:
    it = Fixture()
    it.datagrams.coming += [ConnectionRefusedError(), (options(), PEER)]
    it.udp.read()
    it.udp.read()
    assert len(it.heard) == 1


def test_a_udp_flow_is_made_again_from_its_token() -> None:
    it = Fixture()
    token = it.transports.flow_to_address("UDP", *PEER).token
    again = Fixture().transports.flow_by_token(token)
    assert again is not None
    assert (again.peer, again.transport, again.token) == (PEER, "UDP", token)
    for nonsense in ("", "udp|", "udp|a|b|c|d", "udp|127.0.0.1|5060|192.0.2.7", "tcp-0123"):
        assert it.transports.flow_by_token(nonsense) is None


def test_a_stream_brings_messages_and_its_pings_get_pongs() -> None:
    it = Fixture()
    protocol, wire = it.connect()
    data = b"\r\n\r\n" + options("c1", "TCP") + options("c2", "TCP")
    for at in range(0, len(data), 10):
        protocol.dataReceived(data[at : at + 10])
    assert [message.call_id for message, _ in it.heard] == ["c1", "c2"]
    assert wire.value() == b"\r\n"
    flow = it.heard[0][1]
    assert (flow.reliable, flow.alive, it.transports.flow_by_token(flow.token)) == (True, True, flow)
    assert it.transports.flow_to_address("TCP", *PEER) is flow


def test_the_end_of_a_connection_is_told_once_to_all_who_asked() -> None:
    it = Fixture()
    protocol, wire = it.connect()
    flow = protocol.flow
    assert flow is not None
    told: list[Flow] = []

    def fail(flow: Flow) -> None:
        raise RuntimeError("no")

    flow.on_closed |= {told.append, fail}
    wire.loseConnection()
    flow.closed()
    flow.send(b"too late")
    assert told == [flow]
    assert not flow.alive
    assert it.transports.flow_by_token(flow.token) is None
    assert it.transports.flow_to_address("TCP", *PEER) is None
    assert it.clock.getDelayedCalls() == []


def test_a_stream_that_cannot_be_framed_is_told_why_and_closed() -> None:
    it = Fixture()
    protocol, wire = it.connect()
    protocol.dataReceived(options().replace(b"Content-Length: 0\r\n", b""))
    assert wire.value().startswith(b"SIP/2.0 400 Missing Content-Length\r\n")
    assert not wire.connected


def test_a_message_that_never_comes_whole_ends_the_connection() -> None:
    it = Fixture(quiet_s=30.0)
    protocol, wire = it.connect()
    for _ in range(40):
        protocol.dataReceived(b"X")
        it.clock.advance(1)
    assert not wire.connected


def test_a_connection_that_spoke_may_be_silent_until_the_idle_limit() -> None:
    it = Fixture(quiet_s=30.0, idle_s=100.0)
    protocol, wire = it.connect()
    protocol.dataReceived(options())
    it.clock.pump([10] * 9)
    assert wire.connected
    it.clock.pump([10] * 4)
    assert not wire.connected


def test_connections_are_limited_in_all_and_for_each_address() -> None:
    it = Fixture(connections=3, per_address=2)
    peers = [("192.0.2.1", 1), ("192.0.2.1", 2), ("192.0.2.1", 3), ("192.0.2.2", 1), ("192.0.2.3", 1)]
    wires = [it.connect(peer)[1] for peer in peers]
    assert [wire.connected for wire in wires] == [True, True, False, True, False]
    wires[0].loseConnection()
    assert it.connect(("192.0.2.1", 4))[1].connected


def test_a_peer_that_takes_nothing_is_cut_off() -> None:
    it = Fixture(unsent=1000)
    protocol, wire = it.connect()
    flow = protocol.flow
    assert flow is not None
    backlog = wire.producer
    assert backlog is not None
    backlog.pauseProducing()
    flow.send(b"x" * 900)
    backlog.resumeProducing()
    backlog.pauseProducing()
    flow.send(b"x" * 900)
    assert wire.connected
    flow.send(b"x" * 900)
    assert wire.aborted


def test_a_peer_that_does_not_let_go_of_an_ended_connection_is_cut_off() -> None:
    """By TLS a connection lasts until the peer has answered our good-bye, if nobody cuts it."""
    it = Fixture()
    protocol, wire = it.connect()
    wire.loseConnection = lambda: None  # type: ignore[method-assign]
    protocol.dataReceived(b"nonsense\r\n\r\n")
    it.clock.advance(CLOSING_S - 1)
    assert not wire.aborted
    it.clock.advance(1)
    assert wire.aborted


def test_connections_leave_files_for_everything_else() -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert 0 < TransportLimits().connections <= max(1, soft // 2)


def test_what_we_say_of_ourselves() -> None:
    it = Fixture()
    udp = it.transports.flow_to_address("UDP", *PEER)
    protocol, _ = it.connect()
    assert protocol.flow is not None
    assert it.transports.via(udp) == ("UDP", "198.51.100.1", 5060)
    assert it.transports.via(protocol.flow) == ("TCP", "198.51.100.1", 5060)
    assert it.transports.contact_uri(udp, "c_1") == "sip:c_1@198.51.100.1:5060"
    assert it.transports.contact_uri(protocol.flow, "a b") == "sip:a%20b@198.51.100.1:5060;transport=tcp"


def way(it: Fixture, where: str | Hop) -> Flow:
    async def reach() -> Flow:
        hops = [where] if isinstance(where, Hop) else await it.transports.hops(where)
        return await it.transports.first_of(hops)

    # Without DNS and connections nothing in it waits, so one step is the whole of it.
    try:
        reach().send(None)
    except StopIteration as done:
        flow = done.value
        assert isinstance(flow, Flow)
        return flow
    raise AssertionError("it waits for something")


def test_the_way_to_a_numeric_uri_needs_no_dns_and_a_browser_has_none() -> None:
    it = Fixture()
    assert way(it, "sip:ana@192.0.2.9:5070").peer == ("192.0.2.9", 5070)
    assert way(it, Hop("UDP", "192.0.2.8", 5060)).peer == ("192.0.2.8", 5060)
    protocol, _ = it.connect()
    assert way(it, f"sip:ana@{PEER[0]}:{PEER[1]};transport=tcp") is protocol.flow
    for uri in ("sip:x@abc123.invalid;transport=ws", "sip:x@192.0.2.1;transport=ws"):
        with pytest.raises(SipFault) as caught:
            way(it, uri)
        assert caught.value.status == 503
    with pytest.raises(BadMessage):
        way(it, "mailto:ana@example.com")


def test_wires_hear_all_that_comes_and_goes_by_udp_readable_or_not() -> None:
    it = Fixture()
    seen: list[tuple[bool, str, bytes]] = []
    it.transports.wires.append(lambda sent, flow, data: seen.append((sent, flow.transport, data)))
    it.udp.received(options(), PEER)
    it.udp.received(b"\r\n\r\n", PEER)
    it.udp.received(b"garbage\r\n\r\n", PEER)
    it.udp.received(options("c2").replace(b"CSeq: 1 OPTIONS\r\n", b""), PEER)
    assert [(sent, data[:9]) for sent, _, data in seen] == [
        (False, b"OPTIONS s"),
        (False, b"garbage\r\n"),
        (False, b"OPTIONS s"),
        (True, b"SIP/2.0 4"),
    ]
    assert seen[0] == (False, "UDP", options())


def test_wires_hear_a_connections_messages_as_they_came() -> None:
    it = Fixture()
    protocol, _ = it.connect()
    seen: list[tuple[bool, bytes]] = []
    it.transports.wires.append(lambda sent, flow, data: seen.append((sent, data)))
    data = options("c1", "TCP")
    protocol.dataReceived(data[:50])
    protocol.dataReceived(data[50:] + b"\r\n\r\n")
    protocol.dataReceived(options("c2", "TCP").replace(b"Content-Length: 0\r\n", b""))
    assert seen[0] == (False, data)
    assert [(sent, data[:7]) for sent, data in seen] == [
        (False, b"OPTIONS"),
        (False, b"OPTIONS"),
        (True, b"SIP/2.0"),
    ]


def test_a_wire_that_fails_harms_nobody() -> None:
    it = Fixture()
    seen: list[bytes] = []

    def fail(sent: bool, flow: Flow, data: bytes) -> None:
        raise RuntimeError("no")

    it.transports.wires += [fail, lambda sent, flow, data: seen.append(data)]
    it.udp.received(options(), PEER)
    assert (len(it.heard), len(seen)) == (1, 1)


def opened_by_us(it: Fixture) -> tuple[StreamProtocol, Wire]:
    protocol, wire = it.connect()
    protocol.spoken_to()
    return protocol, wire


def test_a_connection_we_opened_is_kept_open_by_pings_while_it_is_used() -> None:
    it = Fixture(unused_s=1000.0, quiet_s=30.0)
    protocol, wire = opened_by_us(it)
    assert protocol.flow is not None
    for _ in range(30):
        it.clock.advance(95)
        protocol.flow.send(b"")
    assert wire.connected
    assert 30 <= wire.value().count(b"\r\n\r\n") <= 38
    # A pong is no message: it keeps nothing open that nobody uses.
    for _ in range(12):
        it.clock.advance(95)
        if wire.connected:
            protocol.dataReceived(b"\r\n")
            it.clock.advance(1)
            protocol.dataReceived(b"\r\n")
    assert not wire.connected
    assert it.clock.getDelayedCalls() == []


def test_a_peer_that_answered_pings_and_stopped_is_gone() -> None:
    it = Fixture()
    protocol, wire = opened_by_us(it)
    it.clock.advance(95)
    protocol.dataReceived(b"\r\n")
    protocol.dataReceived(options())
    it.clock.pump([1] * 12)
    assert wire.connected
    it.clock.advance(95)
    it.clock.pump([1] * 11)
    assert wire.aborted


def test_a_peer_that_never_answered_a_ping_is_not_blamed_for_it() -> None:
    it = Fixture()
    _, wire = opened_by_us(it)
    it.clock.pump([95] * 20)
    assert wire.connected


def test_a_connection_of_theirs_gets_no_pings() -> None:
    it = Fixture()
    protocol, wire = it.connect()
    protocol.dataReceived(options())
    it.clock.pump([95] * 20)
    assert wire.value() == b""


def test_an_ipv4_peer_of_a_socket_for_both_families_is_called_by_its_own_address() -> None:
    it = Fixture()
    protocol, _ = it.connect(("::ffff:192.0.2.7", 4711))
    assert protocol.flow is not None
    assert protocol.flow.peer == PEER
    protocol, _ = it.connect(("fe80::1%eth0", 4711))
    assert protocol.flow is not None
    assert protocol.flow.peer == ("fe80::1", 4711)


def test_a_link_local_phone_is_reached_by_its_zone_and_not_told_of_it() -> None:
    it = Fixture()
    socket = Socket()
    six = UdpPort(it.transports, "::", socket, 5060)
    it.transports.add_udp(six)
    socket.coming.append((options(), ("fe80::1%eth0", 4711, 0, 2)))  # type: ignore[arg-type]
    six.read()
    ((message, flow),) = it.heard
    assert isinstance(message, Request)
    assert (flow.peer, message.top_via.received) == (("fe80::1", 4711), "fe80::1")
    again = it.transports.flow_by_token(flow.token)
    assert again is not None
    again.send(b"x")
    assert socket.written == [(b"x", ("fe80::1%eth0", 4711))]


def test_each_family_has_its_own_socket_and_its_own_name_of_ours() -> None:
    it = Fixture()
    with pytest.raises(SipFault):
        it.transports.flow_to_address("UDP", "2001:db8::1", 5060)
    it.transports.add_udp(UdpPort(it.transports, "::", Socket(), 5060))
    it.transports._public_host6 = "2001:db8::9"
    six = it.transports.flow_to_address("UDP", "2001:db8::1", 5060)
    four = it.transports.flow_to_address("UDP", *PEER)
    assert it.transports.via(six) == ("UDP", "2001:db8::9", 5060)
    assert it.transports.via(four) == ("UDP", "198.51.100.1", 5060)
    assert it.transports.contact_uri(six, "us") == "sip:us@[2001:db8::9]:5060"


def test_a_stun_ping_is_answered_on_the_sip_port_and_seen_by_nobody_else() -> None:
    it = Fixture()
    seen: list[bytes] = []
    it.transports.wires.append(lambda sent, flow, data: seen.append(data))
    it.udp.received(b"\0\x01\0\0\x21\x12\xa4\x42" + b"0123456789ab", PEER)
    ((answer, where),) = it.sent
    assert (answer[:2], answer[8:20], where) == (b"\x01\x01", b"0123456789ab", PEER)
    assert (it.heard, seen) == ([], [])


@given(
    st.one_of(
        st.binary(max_size=200),
        st.builds(
            lambda junk, at: options()[:at] + junk + options()[at:],
            st.binary(max_size=6),
            st.integers(0, 200),
        ),
    ),
    st.ip_addresses().map(str),
)
def test_no_datagram_from_anywhere_stops_a_port(datagram: bytes, host: str) -> None:
    it = Fixture()
    it.udp.received(datagram, (host, 5060))


def test_a_connection_we_opened_whose_pings_are_answered_stays() -> None:
    it = Fixture()
    protocol, wire = opened_by_us(it)
    protocol.dataReceived(options())
    pings = 0
    for _ in range(400):
        it.clock.advance(1)
        if b"\r\n\r\n" in wire.value():
            wire.clear()
            pings += 1
            protocol.dataReceived(b"\r\n")  # RFC 5626 §4.4.1
        assert wire.connected
    assert pings > 2
    assert wire.value() == b""  # two pongs are no ping


def test_a_phone_that_keeps_its_connection_with_single_line_breaks_stays() -> None:
    it = Fixture()
    protocol, wire = it.connect()
    protocol.dataReceived(options())
    for _ in range(10):
        it.clock.pump([1] * 60)
        assert wire.connected
        protocol.dataReceived(b"\r\n")


def test_a_message_after_a_silence_has_its_time_to_come_whole() -> None:
    it = Fixture()
    protocol, wire = it.connect()
    protocol.dataReceived(options())
    it.clock.pump([1] * 63)
    message = options("c2", "TCP")
    protocol.dataReceived(message[:100])
    it.clock.advance(1.5)
    assert wire.connected
    protocol.dataReceived(message[100:])
    assert wire.connected
