"""From a name to an answer over real sockets: hops that fail, requests too large for a datagram, IPv6."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from config.trunk_settings import TrunkSettings
from sip_trunk import connector, exchange
from sip_trunk.call_events import Accepted, Progress, Refused
from sip_trunk.incoming_call import IncomingCall
from sip_trunk.resolver import DnsResolver
from sip_trunk.sip.message import Request
from sip_trunk.trunk import TrunkTable
from tests.peers.dns import Zone, dns_server
from tests.sip_trunk.node import OFFER, Node, nodes

LARGE = OFFER + b"a=x:" + b"y" * 1300 + b"\r\n"


def resolver(port: int) -> DnsResolver:
    return DnsResolver(nameservers=["127.0.0.1"], port=port, timeout_s=1, hosts=Path("/nowhere"))


def zone(service: str, *ports: int) -> Zone:
    records = [f"{place} 0 {port} host.test." for place, port in enumerate(ports)]
    return {(f"_sip.{service}.peer.test", "SRV"): records, ("host.test", "A"): ["127.0.0.1"]}


def silent_port() -> socket.socket:
    """A UDP port that takes all and answers nothing."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    return sock


async def test_a_hop_that_takes_no_connection_is_passed_over() -> None:
    async with dns_server({}) as dns, nodes(2, resolver=resolver(dns.port)) as (us, peer):
        us.listen()
        port = peer.listen()
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))  # bound and not listening: refused
            dns.zone = zone("_tcp", nobody.getsockname()[1], port)
            response = await us.options("sip:peer.test;transport=tcp")
        assert response.status == 200
        assert [transport for transport, _ in peer.came("OPTIONS")] == ["TCP"]


async def test_a_hop_that_says_nothing_is_left_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "HOP_S", 0.3)
    async with dns_server({}) as dns, nodes(2, resolver=resolver(dns.port)) as (us, peer):
        us.listen()
        with silent_port() as silent:
            dns.zone = zone("_udp", silent.getsockname()[1], peer.listen())
            us.invite("sip:you@peer.test")
            await us.event(Accepted)
            first = silent.recv(9000)
        _, invite = peer.came("INVITE")[0]
        assert f"Call-ID: {invite.call_id}".encode() in first
        assert (invite.top_via.branch or "").encode() not in first
        assert len(peer.calls) == 1


async def test_a_hop_that_is_overloaded_is_left_for_the_next() -> None:
    async with dns_server({}) as dns, nodes(3, resolver=resolver(dns.port)) as (us, busy, peer):
        us.listen()
        busy.on_invite = lambda call: call.refuse(503)
        dns.zone = zone("_udp", busy.listen(), peer.listen())
        us.invite("sip:you@peer.test")
        await us.event(Accepted)
        assert [len(busy.calls), len(peer.calls)] == [1, 1]


async def test_where_all_hops_are_overloaded_the_caller_is_told_so() -> None:
    async with dns_server({}) as dns, nodes(3, resolver=resolver(dns.port)) as (us, busy, peer):
        us.listen()
        busy.on_invite = peer.on_invite = lambda call: call.refuse(503)
        dns.zone = zone("_udp", busy.listen(), peer.listen())
        us.invite("sip:you@peer.test")
        refused = await us.event(Refused)
        assert isinstance(refused, Refused)
        assert (refused.status, refused.local) == (503, False)


async def test_a_hop_that_was_given_up_and_answers_after_all_has_the_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exchange, "HOP_S", 0.2)
    async with dns_server({}) as dns, nodes(3, resolver=resolver(dns.port)) as (us, slow, peer):
        us.listen()

        def late(call: IncomingCall) -> None:
            slow.reactor.callLater(0.1, lambda: call.accept(OFFER))

        # Its 100 would say that it is there.
        slow.transports.admits = lambda message, flow: len(peer.calls) > 0 or not isinstance(message, Request)
        slow.on_invite = late
        peer.on_invite = lambda call: call.ring(180)
        dns.zone = zone("_udp", slow.listen(), peer.listen())
        call = us.invite("sip:you@peer.test")
        await asyncio.sleep(1.5)
        assert [type(event).__name__ for event in us.events].count("Accepted") <= 1
        assert len(slow.calls) == len(peer.calls) == 1
        # The one that came late was told to stop before it answered, or has the call: never both.
        over = [node.calls[0].ended for node in (slow, peer)]
        assert over.count(False) == 1, over
        call.hangup()
        await asyncio.sleep(0.2)


async def sent_by(us: Node, peer: Node, uri: str, body: bytes, **more: object) -> list[str]:
    us.invite(uri, body, **more)  # type: ignore[arg-type]
    await us.event(Accepted)
    await asyncio.sleep(0.1)
    return [transport for transport, _ in peer.came("INVITE")]


async def test_what_is_too_large_for_a_datagram_goes_by_a_connection_and_says_so() -> None:
    async with nodes(2) as (us, peer):
        us.listen()
        port = peer.listen()
        assert await sent_by(us, peer, f"sip:you@127.0.0.1:{port}", LARGE) == ["TCP"]
        ((_, invite),) = peer.came("INVITE")
        assert invite.top_via.transport == "TCP"
        assert invite.contacts[0].uri.transport == "tcp"  # type: ignore[union-attr]
        assert [transport for transport, _ in peer.came("ACK")]


async def test_a_small_one_goes_as_a_datagram() -> None:
    async with nodes(2) as (us, peer):
        us.listen()
        assert await sent_by(us, peer, f"sip:you@127.0.0.1:{peer.listen()}", OFFER) == ["UDP"]


async def test_a_peer_that_takes_no_connection_gets_it_as_a_datagram_and_is_not_asked_again() -> None:
    async with nodes(2) as (us, peer):
        us.listen()
        port = peer.listen(tcp=False)
        assert await sent_by(us, peer, f"sip:you@127.0.0.1:{port}", LARGE) == ["UDP"]
        assert us.transports.connector._deaf.keys() == {("127.0.0.1", port)}


async def test_down_a_registered_flow_there_is_no_other_way_however_large() -> None:
    async with nodes(2) as (us, peer):
        us.listen()
        port = peer.listen()
        flow = us.transports.flow_to_address("UDP", "127.0.0.1", port)
        assert await sent_by(us, peer, f"sip:you@127.0.0.1:{port}", LARGE, flow=flow) == ["UDP"]


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_call_over_ipv6(transport: str) -> None:
    async with nodes(2, "::1") as (us, peer):
        us.listen()
        port = peer.listen()
        uri = f"sip:you@[::1]:{port};transport={transport}"
        call = us.invite(uri)
        await us.event(Accepted)
        ((way, invite),) = peer.came("INVITE")
        assert isinstance(invite, Request)
        assert (way, invite.top_via.host, invite.top_via.received) == (transport.upper(), "::1", None)
        assert "Via: SIP/2.0/" + transport.upper() + " [::1]:" in invite.to_bytes().decode()
        assert "@[::1]:" in str(invite.contacts[0])
        call.hangup()
        await asyncio.sleep(0.2)
        assert [name for name in ("ACK", "BYE") if peer.came(name)] == ["ACK", "BYE"]


async def test_rport_tells_an_ipv6_peer_its_address_without_brackets() -> None:
    async with nodes(1, "::1") as (us,):
        port = us.listen()
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as phone:
            phone.bind(("::1", 0))
            phone.setblocking(False)
            phone.connect(("::1", port))
            phone.send(
                b"OPTIONS sip:us@[::1] SIP/2.0\r\nVia: SIP/2.0/UDP [2001:db8::9]:5060;branch=z9hG4bKa;rport\r\n"
                b"From: <sip:a@[::1]>;tag=a\r\nTo: <sip:us@[::1]>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\n"
                b"Content-Length: 0\r\n\r\n"
            )
            answer = await asyncio.wait_for(loop.sock_recv(phone, 9000), 5)
            assert answer.startswith(b"SIP/2.0 200 ")
            assert f";rport={phone.getsockname()[1]}".encode() in answer
            assert b";received=::1" in answer


async def test_a_call_through_a_trunk_answers_its_challenge() -> None:
    settings = TrunkSettings("carrier", ("127.0.0.1",), dial=("+49",), username="us", password="secret")
    async with nodes(2) as (us, carrier):
        us.listen()
        port = carrier.listen()
        table = TrunkTable([replace(settings, via=f"127.0.0.1:{port}")])
        challenge = (
            "Proxy-Authenticate",
            'Digest realm="carrier", nonce="n1", algorithm=SHA-256, qop="auth"',
        )

        def ask(call: IncomingCall) -> None:
            if call.request.headers.get("Proxy-Authorization") is None:
                call.refuse(407, headers=[challenge])
            else:
                call.accept(OFFER)

        carrier.on_invite = ask
        trunk = table.for_number("+49301234567")
        assert trunk is not None
        target = trunk.target("+49301234567")
        us.agent.invite(
            target, from_="<sip:+49891@us>", to=f"<{target.uri}>", body=OFFER, on_event=us.events.append,
            credentials=trunk.credentials,
        )  # fmt: skip
        await us.event(Accepted)
        given = carrier.calls[-1].request.headers.get("Proxy-Authorization") or ""
        assert 'username="us"' in given
        assert "secret" not in given
        assert carrier.calls[-1].request.uri_text == f"sip:+49301234567@127.0.0.1:{port};user=phone"


async def test_a_phone_on_a_connection_is_called_down_it_whatever_its_contact_says() -> None:
    async with nodes(2) as (us, phone):
        us.listen()
        port = us.transports.ports["TCP"]
        answer = await phone.options(f"sip:127.0.0.1:{port};transport=tcp")
        assert answer.status == 200
        ((_, flow, _),) = [each for each in us.seen if not each[0]]
        token = flow.token
        # 192.0.2.0/24 is nobody's: a phone behind NAT says what it knows of itself.
        contact = "sip:ana@192.0.2.77:5060;transport=tcp"
        call = us.invite(contact, flow=us.transports.flow_by_token(token))
        await us.event(Accepted)
        call.hangup()
        await asyncio.sleep(0.2)
        assert [transport for transport, _ in phone.came("BYE")] == ["TCP"]
        flow.close()
        await asyncio.sleep(0.2)
        assert us.transports.flow_by_token(token) is None


async def test_a_call_whose_connection_dies_as_it_rings_is_refused_at_once() -> None:
    async with nodes(2) as (us, phone):
        us.listen()
        phone.on_invite = lambda call: call.ring(180)
        await phone.options(f"sip:127.0.0.1:{us.transports.ports['TCP']};transport=tcp")
        ((_, flow, _),) = [each for each in us.seen if not each[0]]
        us.invite("sip:ana@192.0.2.77;transport=tcp", flow=flow)
        await us.event(Progress)
        flow.close()
        refused = await us.event(Refused)
        assert isinstance(refused, Refused)
        assert (refused.status, refused.local) == (503, True)


async def test_a_firewall_that_drops_connections_costs_a_caller_little(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connector, "STREAM_S", 0.2)
    async with nodes(2) as (us, peer):
        us.listen()
        port = peer.listen(tcp=False)
        # A queue that is full takes no more, and says so to nobody.
        with (
            socket.create_server(("127.0.0.1", port), backlog=0),
            socket.socket() as one,
            socket.socket() as two,
        ):
            for waiting in (one, two):
                waiting.setblocking(False)
                waiting.connect_ex(("127.0.0.1", port))
            began = asyncio.get_running_loop().time()
            assert await sent_by(us, peer, f"sip:you@127.0.0.1:{port}", LARGE) == ["UDP"]
            assert asyncio.get_running_loop().time() - began < 2
