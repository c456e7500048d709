"""RFC 3261 §18.2.2: what is still to be said to a peer whose connection has closed goes by a new one."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sip_trunk import connector
from sip_trunk.call import Call
from sip_trunk.call_events import Cancelled, Confirmed, Ended
from sip_trunk.flow import Flow
from sip_trunk.incoming_call import IncomingCall
from sip_trunk.locate import Hop
from sip_trunk.sip.message import Request, Response
from sip_trunk.sip.parser import StreamParser
from sip_trunk.way_back import way_anew
from tests.sip_trunk.network import ANSWER, MemoryTransports, Pair
from tests.sip_trunk.node import Node, nodes
from tests.sip_trunk.test_transactions import PEER, Layer, their

AGAIN = Hop("TCP", "10.0.0.1", 5060, "10.0.0.1")


def called() -> tuple[Pair, IncomingCall]:
    """Bob's telephone rings, by TCP."""
    pair = Pair("TCP")
    pair.called()
    pair.bob.incoming[0].ring()
    pair.wait()
    return pair, pair.bob.incoming[0]


def close(call: Call) -> None:
    assert call.flow is not None
    call.flow.close()


def test_a_call_goes_on_by_a_new_connection_when_its_own_closes_as_it_rings() -> None:
    pair, theirs = called()
    first = theirs.flow
    close(theirs)
    pair.wait()
    assert pair.bob.transports.opened_again == [AGAIN]
    assert theirs.flow is not first
    theirs.accept(ANSWER)
    pair.wait()
    assert pair.bob.kinds(theirs) == ["Confirmed"]
    theirs.hangup()
    pair.rest()


def test_an_answer_given_while_the_new_connection_is_on_its_way_leaves_by_it() -> None:
    pair, theirs = called()
    pair.bob.transports.connect_s = 2
    close(theirs)
    theirs.accept(ANSWER)
    pair.wait(1.8)
    assert not pair.network.responses(200)
    pair.wait()
    pair.wait()
    # Once, however often it was to be repeated meanwhile.
    assert pair.network.methods(pair.ana.address).count("200") == 1
    assert pair.bob.kinds(theirs) == ["Confirmed"]
    theirs.hangup()
    pair.rest()


def test_a_refusal_given_while_it_is_on_its_way_leaves_by_it() -> None:
    pair, theirs = called()
    pair.bob.transports.connect_s = 2
    close(theirs)
    theirs.refuse(486)
    pair.wait(3)
    assert pair.network.methods(pair.ana.address)[-1] == "486"
    pair.rest()


def test_an_answer_whose_connection_closed_before_its_ack_is_said_again_by_another() -> None:
    pair, theirs = called()
    pair.network.drops = lambda message, to: isinstance(message, Response) and message.status == 200
    theirs.accept(ANSWER)
    close(theirs)
    pair.wait()
    assert not pair.bob.transports.opened_again  # it may be acknowledged yet
    pair.network.drops = lambda message, to: False
    pair.wait(1)
    assert pair.bob.transports.opened_again == [AGAIN]
    assert pair.bob.kinds(theirs) == ["Confirmed"]
    theirs.hangup()
    pair.rest()


def test_a_call_that_was_acknowledged_asks_for_no_other_connection() -> None:
    pair, theirs = called()
    theirs.accept(ANSWER)
    pair.wait()
    close(theirs)
    pair.wait(20)
    assert not pair.bob.transports.opened_again
    assert pair.bob.kinds(theirs) == ["Confirmed"]
    theirs.hangup()
    pair.rest()


def test_where_no_new_connection_can_be_had_an_answer_without_an_ack_is_a_lost_call() -> None:
    pair, theirs = called()
    pair.network.drops = lambda message, to: isinstance(message, Response)
    pair.bob.transports.connects = False
    theirs.accept(ANSWER)
    close(theirs)
    pair.wait(1)
    assert pair.bob.endings(theirs) == [Ended("lost", "The caller's connection closed")]
    pair.wait(200)
    assert pair.bob.at_rest()


def test_it_is_tried_once() -> None:
    pair, theirs = called()
    for _ in range(2):
        close(theirs)
        pair.wait()
    assert pair.bob.endings(theirs) == [Cancelled("The caller's connection closed")]
    assert pair.bob.transports.opened_again == [AGAIN]
    assert pair.bob.at_rest()


def test_a_request_that_is_answered_later_is_answered_by_another_connection() -> None:
    layer = Layer("TCP")
    MemoryTransports(layer.network, PEER, "TCP")
    layer.come(their("OPTIONS"))
    (request,) = layer.requests
    layer.flow().close()
    layer.wait(0.1)
    assert layer.transports.opened_again == [Hop("TCP", *PEER, PEER[0])]
    request.respond(request.request.response(200, to_tag="x"))
    assert layer.sent() == ["200"]
    assert len(layer.layer) == 0
    layer.wait(10)
    assert not layer.clock.getDelayedCalls()


def test_a_cancel_by_another_connection_is_answered_by_that_one() -> None:
    layer = Layer("TCP")
    layer.come(their("INVITE"))
    layer.transports.connects = False
    first = layer.flow()
    first.alive = False  # it has closed, and nobody has noticed
    layer.come(their("CANCEL"))
    assert layer.flow() is not first
    assert layer.network.responses(200, "CANCEL")


def test_a_layer_that_was_stopped_meanwhile_hears_nothing_of_it() -> None:
    for connects in (True, False):
        layer = Layer("TCP")
        layer.come(their("INVITE"))
        told: list[str] = []
        layer.requests[0].on_failure = told.append
        layer.transports.connects = connects
        layer.flow().close()
        layer.layer.stop()
        layer.wait(1)
        assert not told
        assert not layer.clock.getDelayedCalls()


def came(via: str, transport: str = "TCP", tags: dict[str, str] | None = None) -> Hop | None:
    """Where a request that came from 192.0.2.7 could be answered anew."""
    flow = Flow(transport, ("192.0.2.7", 40_000), "token")
    flow.tags = tags or {}
    request = their("INVITE", via=via)
    request.stamp_source(*flow.peer)
    return way_anew(request, flow)


def test_it_goes_to_where_the_request_came_from_whatever_the_via_says() -> None:
    assert came("SIP/2.0/TCP 192.0.2.7:5070;branch=z9hG4bKx") == Hop("TCP", "192.0.2.7", 5070, "192.0.2.7")
    assert came("SIP/2.0/TCP 192.0.2.7;branch=z9hG4bKx") == Hop("TCP", "192.0.2.7", 5060, "192.0.2.7")
    via = "SIP/2.0/TCP edge.example;received=198.51.100.1;branch=z9hG4bKx"
    assert came(via) == Hop("TCP", "192.0.2.7", 5060, "edge.example")
    assert came("SIP/2.0/TLS edge.example;branch=z9hG4bKx", "TLS") == Hop(
        "TLS", "192.0.2.7", 5061, "edge.example"
    )
    # A connection of ours was checked for a name; what the Via says is no other.
    assert came("SIP/2.0/TLS other.example;branch=z9hG4bKx", "TLS", {"checked name": "edge.example"}) == Hop(
        "TLS", "192.0.2.7", 5061, "edge.example"
    )


@pytest.mark.parametrize(
    ("via", "transport"),
    [
        pytest.param("SIP/2.0/WS abc.invalid;branch=z9hG4bKx", "WS", id="a browser"),
        pytest.param("SIP/2.0/WSS abc.invalid;branch=z9hG4bKx", "WSS", id="a browser, by TLS"),
        pytest.param("SIP/2.0/TCP 10.1.2.3:5060;branch=z9hG4bKx", "TCP", id="behind NAT"),
        pytest.param("SIP/2.0/TCP [2001:db8::1]:5060;branch=z9hG4bKx", "TCP", id="another family"),
        pytest.param("SIP/2.0/TCP 192.0.2.7:25;branch=z9hG4bKx", "TCP", id="a mail server"),
        pytest.param("SIP/2.0/UDP 192.0.2.7:5060;branch=z9hG4bKx", "UDP", id="no connection at all"),
    ],
)
def test_nobody_is_knocked_at_who_cannot_be_there(via: str, transport: str) -> None:
    assert came(via, transport) is None


def test_a_caller_behind_nat_has_given_up_at_once() -> None:
    layer = Layer("TCP")
    layer.come(their("INVITE", via="SIP/2.0/TCP 192.168.1.2:5060;branch=z9hG4bKx"))
    told: list[str] = []
    layer.requests[0].on_failure = told.append
    layer.flow().close()
    assert told == ["transport"]
    assert not layer.transports.opened_again


ACTS = st.sampled_from(
    ["close", "their side closes", "ring", "reliable", "accept", "refuse", "hangup", "give up"]
)


@settings(max_examples=60, deadline=None)
@given(
    acts=st.lists(st.tuples(ACTS, st.floats(0, 9)), max_size=8),
    connects=st.booleans(),
    connect_s=st.floats(0, 5),
)
def test_whenever_connections_close_every_call_ends_once_and_no_timer_is_left(
    acts: list[tuple[str, float]], connects: bool, connect_s: float
) -> None:
    pair = Pair("TCP")
    pair.bob.transports.connects = connects
    pair.bob.transports.connect_s = connect_s
    ours, theirs = pair.called()
    does: dict[str, Callable[[], None]] = {
        "close": lambda: close(theirs),
        "their side closes": lambda: close(ours),
        "ring": theirs.ring,
        "reliable": lambda: theirs.ring(183, body=ANSWER),
        "accept": lambda: theirs.accept(ANSWER),
        "refuse": lambda: theirs.refuse(486),
        "hangup": theirs.hangup,
        "give up": ours.hangup,
    }
    for act, then_wait in acts:
        does[act]()
        pair.wait(then_wait)
    ours.hangup()
    theirs.hangup()
    pair.rest()
    assert len(pair.bob.endings(theirs)) == 1
    assert len(pair.bob.transports.opened_again) <= 1


class Carrier:
    """An edge by TCP that closes its connection once its INVITE has been taken, as some do with idle ones."""

    def __init__(self) -> None:
        self.messages: list[Request | Response] = []
        self.writers: list[asyncio.StreamWriter] = []

    async def read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        parser = StreamParser()
        while data := await reader.read(4096):
            self.messages += [item for item in parser.feed(data) if isinstance(item, Request | Response)]

    async def invite(self, node: Node, sent_by: int, until: str = "100 Trying") -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", node.transports.ports["TCP"])
        invite = their("INVITE", via=f"SIP/2.0/TCP 127.0.0.1:{sent_by};branch=z9hG4bKedge")
        invite.headers.add("Contact", f"<sip:edge@127.0.0.1:{sent_by};transport=tcp>")
        writer.write(invite.to_bytes())
        assert until in (await reader.readuntil(b"\r\n\r\n")).decode()
        writer.close()
        await writer.wait_closed()

    async def came(self, start: str) -> Request | Response:
        async with asyncio.timeout(10):
            while True:
                for message in self.messages:
                    if message.start_line.startswith(start):
                        return message
                await asyncio.sleep(0.01)


async def test_a_carrier_that_closed_its_connection_gets_the_answer_by_a_new_one() -> None:
    carrier = Carrier()
    server = await asyncio.start_server(carrier.read, "127.0.0.1", 0)
    sent_by = server.sockets[0].getsockname()[1]
    async with nodes(1) as (us,):
        us.listen()
        heard: list[object] = []
        us.on_invite = lambda call: None
        await carrier.invite(us, sent_by)
        (call,) = us.calls
        call.on_event = heard.append
        await asyncio.sleep(0.2)  # however long it takes: the connection is there before the answer
        call.accept(ANSWER)
        answer = await carrier.came("SIP/2.0 200")
        assert isinstance(answer, Response)
        ack = their("ACK", tag=answer.to.tag or "", via=f"SIP/2.0/TCP 127.0.0.1:{sent_by};branch=z9hG4bKack")
        carrier.writers[0].write(ack.to_bytes())
        async with asyncio.timeout(5):
            while not heard:
                await asyncio.sleep(0.01)
        assert heard == [Confirmed(b"")]
        call.hangup()
        await carrier.came("BYE")
        assert len(carrier.writers) == 1
        for writer in carrier.writers:
            writer.close()
    server.close()
    await server.wait_closed()


async def test_a_carrier_that_listens_nowhere_has_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        nowhere = free.getsockname()[1]
    async with nodes(1) as (us,):
        us.listen()
        us.on_invite = lambda call: None
        await Carrier().invite(us, nowhere)
        heard: list[object] = []
        us.calls[0].on_event = heard.append
        async with asyncio.timeout(10):
            while not heard:
                await asyncio.sleep(0.01)
        assert heard == [Cancelled("The caller's connection closed")]


async def test_only_so_many_connections_are_on_their_way_at_once_to_one_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connector, "MOST_AGAIN_EACH", 2)
    # A queue that is full takes no more, and says so to nobody.
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        stuck = [socket.socket() for _ in range(2)]
        for each in stuck:
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", port))
        async with nodes(1) as (us,):
            refused: list[str] = []
            for name in ("one", "two", "three", "one"):
                # One that is on its way already is shared.
                us.transports.open_again(
                    Hop("TCP", "127.0.0.1", port, name),
                    lambda flow: pytest.fail("nobody is there"),
                    lambda name=name: refused.append(name),  # type: ignore[misc]
                )
            assert not refused
            await asyncio.sleep(0.1)
            assert refused == ["three"]
        await asyncio.sleep(0.05)
        assert sorted(refused) == ["one", "one", "three", "two"]
        for each in stuck:
            each.close()
