"""What a peer that errs, lags or means harm cannot do to a call or to us."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from sip_trunk.authentication import Challenge
from sip_trunk.incoming_request import IncomingRequest
from sip_trunk.locate import Hop
from sip_trunk.sip.message import Request, Response
from sip_trunk.user_agent import Cancelled, Ended, ReinviteRefused, Reoffered, Target
from tests.sip_trunk.network import ANSWER, OFFER, Address, MemoryFlow, Pair, pass_time

INVITE = [
    ("Via", "SIP/2.0/UDP 10.0.0.9:5060;branch=z9hG4bKone;rport"),
    ("From", "<sip:n@x>;tag=1"),
    ("To", "<sip:x@10.0.0.2>"),
    ("Call-ID", "c"),
    ("CSeq", "1 INVITE"),
    ("Contact", "<sip:n@10.0.0.9:5060>"),
]
STRANGER = ("10.0.0.9", 5060)


def invite(*changed: tuple[str, str]) -> bytes:
    request = Request("INVITE", "sip:x@10.0.0.2", INVITE)
    for name, value in changed:
        request.headers.set(name, value)
    return request.to_bytes()


def in_dialog(method: str, answer: Response, *more: tuple[str, str], number: int = 2) -> bytes:
    """A request of the caller of `invite`, inside the dialog this answer made."""
    branch = f"z9hG4bK{method}{number}"
    headers = [("Via", f"SIP/2.0/UDP 10.0.0.9:5060;branch={branch};rport"), *INVITE[1:2]]
    headers += [
        ("To", answer.headers.get("To") or ""),
        ("Call-ID", "c"),
        ("CSeq", f"{number} {method}"),
        *more,
    ]
    return Request(method, "sip:x@10.0.0.2", headers).to_bytes()


def sent(pair: Pair, method: str) -> list[Address]:
    return [to for _, to, m in pair.network.seen if isinstance(m, Request) and m.method == method]


def test_a_reinvite_whose_connection_closes_unanswered_leaves_nothing() -> None:
    pair = Pair("TCP")
    call, theirs = pair.talk()
    call.reinvite(OFFER)
    pair.wait()
    assert theirs.flow is not None
    theirs.flow.close()
    theirs.answer_reoffer(ANSWER)
    pair.wait(200)
    theirs.hangup()
    pair.wait(200)
    assert pair.bob.at_rest()


def test_our_ack_has_our_credentials_and_never_theirs(pair: Pair) -> None:
    _, theirs = pair.talk(headers=[("Authorization", 'Digest username="ana", response="secret"')])
    pair.ana.on_call_event = lambda c, e: c.answer_reoffer(OFFER) if isinstance(e, Reoffered) else None
    theirs.reinvite(b"v=0 hold")
    pair.wait()
    ack = pair.network.requests("ACK")[-1]
    assert ack.cseq.number == 1
    assert ack.from_.tag == theirs.dialog.local_tag  # type: ignore[union-attr]
    assert "Authorization" not in ack.headers


def test_a_refresh_that_had_to_wait_says_what_holds_by_then(pair: Pair) -> None:
    """A hold of theirs crosses it: the SDP of before the hold would take the hold back."""
    call, theirs = pair.talk()
    call.peer_allows = frozenset({"invite", "bye"})
    theirs.reinvite(b"v=0 hold")
    pass_time(pair.clock, 0.1)
    assert isinstance(pair.ana.events[call][-1], Reoffered)
    call._session_timer._refresh()  # type: ignore[union-attr]
    call.answer_reoffer(b"v=0 held")
    pair.bob.on_call_event = lambda c, e: c.answer_reoffer(ANSWER) if isinstance(e, Reoffered) else None
    pair.wait(1)
    assert pair.network.requests("INVITE")[-1].body == b"v=0 held"


def test_an_invite_that_comes_again_long_after_takes_no_dialog_from_its_call(pair: Pair) -> None:
    pair.bob.transports.arrived(STRANGER, invite())
    pair.bob.incoming[0].accept(ANSWER)
    (answer,) = pair.network.responses(200)
    pair.bob.transports.arrived(STRANGER, in_dialog("ACK", answer, number=1))
    pair.wait(70)
    pair.bob.transports.arrived(STRANGER, invite())
    assert len(pair.bob.incoming) == 1
    assert len(pair.network.responses(482)) == 1
    pair.bob.transports.arrived(STRANGER, in_dialog("BYE", answer))
    assert pair.bob.endings(pair.bob.incoming[0]) == [Ended("peer", "")]
    pair.wait(200)
    assert pair.bob.at_rest()


async def test_a_message_that_takes_its_time_is_sent_once(pair: Pair) -> None:
    flow = MemoryFlow(pair.ana.transports, "TCP", pair.bob.address)
    pair.ana.transports.stream_instead = lambda peer, then, otherwise: then(flow)  # type: ignore[method-assign, assignment]

    def take(request: IncomingRequest) -> None:
        pair.clock.callLater(5.0, lambda: request.respond(200))

    pair.bob.agent.methods["MESSAGE"] = take
    # RFC 4320 §4.1: before T2 nobody may say 100 to it, and phones never do.
    pair.network.drops = lambda message, to: isinstance(message, Response) and message.status == 100
    sent = pair.ana.agent.request(
        "MESSAGE", Target("sip:10.0.0.2:5060"), from_="<sip:me@10.0.0.1>", to="sip:you@10.0.0.2",
        body=b"x" * 1500, content_type="text/plain",
    )  # fmt: skip
    for _ in range(60):
        pair.wait(0.1)
        await asyncio.sleep(0)
    assert sent.result().status == 200
    assert len(pair.network.requests("MESSAGE")) == 1


def test_a_hop_that_answers_while_the_next_is_being_reached_has_the_call_alone(pair: Pair) -> None:
    """The next one must not be rung any more: nobody would ever tell it to stop."""
    agent = pair.ana.agent
    waiting: list[Callable[[Any], None]] = []

    def reach(flow: Any, hop: Any, then: Any, failed: Any, left: Any = None, **_: Any) -> None:
        if left is not None:
            left[:] = [Hop("UDP", "10.0.0.3", 5060)]
        then(pair.ana.transports.flow_to_address("UDP", *pair.bob.address))

    agent.reach = reach  # type: ignore[method-assign]
    agent.fail_over = lambda left, then, failed: waiting.append(then)  # type: ignore[method-assign]
    pair.network.delay = 0
    pair.network.drops = lambda m, to: isinstance(m, Response) and m.status == 100
    call = pair.ana.call(pair.bob)
    pair.wait(4.2)
    assert len(waiting) == 1
    pair.bob.incoming[0].accept(ANSWER)
    pair.wait()
    assert call.confirmed
    waiting[0](pair.ana.transports.flow_to_address("UDP", "10.0.0.3", 5060))
    pair.wait()
    assert ("10.0.0.3", 5060) not in sent(pair, "INVITE")


@pytest.mark.parametrize("contact", ["tel:+15551234", "http://10.0.0.9/", "<mailto:n@x>"])
def test_who_cannot_be_reached_by_sip_cannot_call(pair: Pair, contact: str) -> None:
    pair.bob.transports.arrived(STRANGER, invite(("Contact", contact)))
    assert not pair.bob.incoming
    assert len(pair.network.responses(400)) == 1
    pair.wait(200)
    assert pair.bob.at_rest()


def test_an_answer_that_says_no_sip_address_is_acknowledged_where_we_called(pair: Pair) -> None:
    call, theirs = pair.called()
    pair.bob.transports.contact_uri = lambda flow, user: "tel:+15551234"  # type: ignore[method-assign]
    theirs.accept(ANSWER)
    pair.wait()
    assert theirs.confirmed
    call.hangup()
    pair.wait()
    assert pair.bob.endings(theirs) == [Ended("peer", "")]
    pair.rest()


@pytest.mark.parametrize(
    "where",
    [
        "127.0.0.1:6379;transport=tcp",
        "[::1]:6379;transport=tcp",
        "[::ffff:127.0.0.1]:6379;transport=tcp",
        "0.0.0.0:22;transport=tcp",
        "169.254.169.254:80;transport=tcp",
        "224.0.1.75:5060",
        "10.0.0.9:5060;maddr=127.0.0.1",
    ],
)
@pytest.mark.parametrize("header", ["Contact", "Record-Route"])
def test_a_caller_from_elsewhere_does_not_send_us_to_ourselves(pair: Pair, where: str, header: str) -> None:
    """What we say in a call goes to where it is from, not to what else listens on this host or on its links."""
    asked: list[Any] = []
    real = pair.bob.transports.flow_to_address

    def flow_to_address(*to: Any) -> Any:
        asked.append(to)
        return real(*to)

    pair.bob.transports.flow_to_address = flow_to_address  # type: ignore[method-assign, assignment]
    pair.bob.transports.arrived(STRANGER, invite((header, f"<sip:{where};lr>")))
    theirs = pair.bob.incoming[0]
    theirs.accept(ANSWER)
    (answer,) = pair.network.responses(200)
    pair.bob.transports.arrived(STRANGER, in_dialog("ACK", answer, number=1))
    theirs.hangup()
    pair.wait()
    assert {to[1] for to in asked} <= {"10.0.0.9"}
    assert set(sent(pair, "BYE")) == {STRANGER}


def test_a_reinvite_that_is_never_answered_is_taken_back(pair: Pair) -> None:
    call, theirs = pair.talk()
    call.reinvite(b"v=0 new")
    pair.wait(100)
    assert len(sent(pair, "CANCEL")) == 1
    assert pair.ana.events[call][-1] == ReinviteRefused(487)
    theirs.hangup()
    pair.rest()


def test_a_reinvite_that_is_neither_answered_nor_taken_back_ends_the_call(pair: Pair) -> None:
    call, _ = pair.talk()
    call.reinvite(b"v=0 new")
    pair.wait(1)
    pair.network.drops = lambda m, to: to == pair.bob.address
    pair.wait(200)
    (ending,) = pair.ana.endings(call)
    assert isinstance(ending, Ended)
    assert ending.by == "lost"


def test_a_peer_that_has_no_time_for_hours_is_not_asked_again(pair: Pair) -> None:
    call, theirs = pair.talk()

    def receive(transaction: Any, request: Request, dialog: Any) -> None:
        theirs.respond(transaction, 486, headers=[("Retry-After", "3600")])

    theirs.receive = receive  # type: ignore[method-assign]
    call.reinvite(b"v=0 new")
    pair.wait(30)
    assert len(pair.network.requests("INVITE")) == 2
    assert pair.ana.events[call][-1] == ReinviteRefused(486)


class Door:
    """A call over a connection, and somebody elsewhere who has seen its tags."""

    def __init__(self) -> None:
        self.pair = Pair("TCP")
        self.proved = False
        self.pair.bob.agent.vouches = lambda call, request, flow: (
            None if self.proved else Challenge(401, "No")
        )
        _, self.theirs = self.pair.talk()

    def knocks(self, host: str, method: str = "BYE") -> int:
        assert self.theirs.dialog is not None
        dialog = self.theirs.dialog
        pairs = [
            ("Via", f"SIP/2.0/TCP {host}:4000;branch=z9hG4bK{host}{method};rport"),
            ("From", dialog.remote),
        ]
        pairs += [("To", dialog.local), ("Call-ID", dialog.call_id), ("CSeq", f"77 {method}")]
        self.pair.bob.transports.arrived((host, 4000), Request(method, "sip:x@h", pairs).to_bytes())
        (answer,) = [
            m for _, to, m in self.pair.network.seen if to == (host, 4000) and isinstance(m, Response)
        ]
        return answer.status


@pytest.mark.parametrize("method", ["BYE", "REFER", "UPDATE", "INVITE", "MESSAGE"])
def test_who_has_only_seen_a_call_on_a_connection_has_no_say_in_it(method: str) -> None:
    door = Door()
    before = list(door.pair.bob.events[door.theirs])
    assert door.knocks("10.6.6.6", method) == 401
    assert door.pair.bob.events[door.theirs] == before
    assert door.theirs.dialog is not None
    assert door.theirs.dialog.remote_seq == 1


def test_who_proves_itself_or_is_where_the_call_is_from_has_a_say() -> None:
    door = Door()
    door.proved = True
    assert door.knocks("10.6.6.6") == 200
    again = Door()
    assert again.knocks("10.0.0.1") == 200


def test_nobody_else_takes_back_an_invite_that_came_by_a_connection() -> None:
    pair = Pair("TCP")
    call, theirs = pair.called()
    pair.network.drops = lambda m, to: True
    call.hangup()
    pair.network.drops = lambda m, to: False
    (cancel,) = pair.network.requests("CANCEL")
    pair.bob.transports.arrived(("10.6.6.6", 4000), cancel.to_bytes())
    assert theirs.unanswered
    pair.bob.transports.arrived(pair.ana.address, cancel.to_bytes())
    assert isinstance(pair.bob.endings(theirs)[0], Cancelled)


def test_a_481_to_what_was_asked_before_a_hangup_that_waits_leaves_nothing(pair: Pair) -> None:
    _, theirs = pair.called()
    pair.ana.agent.dialogs.clear()
    pair.network.drops = lambda m, to: isinstance(m, Response) and m.status == 200
    theirs.accept(ANSWER)
    theirs.send("OPTIONS")
    theirs.hangup()
    pair.wait(100)
    assert pair.bob.endings(theirs) == [Ended("us", "")]
    assert pair.bob.at_rest()


def test_a_caller_that_knows_nothing_of_its_own_call_gets_its_invite_answered(pair: Pair) -> None:
    call, theirs = pair.called()
    theirs.ring()
    pair.wait()
    pair.ana.agent.dialogs.clear()
    theirs.send("INFO")
    pair.wait()
    assert pair.bob.endings(theirs) == [Cancelled("The peer no longer knows the call")]
    (ending,) = pair.ana.endings(call)
    assert ending.status == 487  # type: ignore[union-attr]
    pair.rest()


def test_where_we_send_is_where_maddr_says(pair: Pair) -> None:
    call = pair.ana.agent.invite(
        Target("sip:x@10.0.0.7;maddr=10.0.0.2"),
        from_="sip:a@x",
        to="sip:b@x",
        body=OFFER,
        on_event=lambda event: None,
    )
    pair.wait()
    assert sent(pair, "INVITE") == [pair.bob.address]
    call.hangup()


@pytest.mark.parametrize("what", ["answer", "provisional"])
def test_the_last_moment_of_waiting_is_met_once(pair: Pair, what: str) -> None:
    """Deadlines are met up to a millisecond early; an answer that nobody acknowledges must not fill that time."""
    _, theirs = pair.called(headers=[("Supported", "100rel")])
    pair.network.drops = lambda m, to: True
    if what == "answer":
        theirs.accept(ANSWER)
    else:
        theirs.ring(183, body=ANSWER)
    pair.clock.advance(31.9995)
    assert len(pair.network.responses(200 if what == "answer" else 183)) <= 11
    assert len(pair.bob.endings(theirs)) == 1
