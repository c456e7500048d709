from __future__ import annotations

import pytest

from sip_trunk.call import Call
from sip_trunk.call_events import CallEvent
from sip_trunk.incoming_call import IncomingCall
from sip_trunk.sip.message import Request
from sip_trunk.user_agent import (
    Accepted,
    CallState,
    Cancelled,
    Confirmed,
    Ended,
    InDialog,
    Refused,
    ReinviteAnswered,
    ReinviteRefused,
    Reoffered,
    Target,
)
from tests.sip_trunk.network import ANSWER, OFFER, MemoryTransports, Pair


def test_a_call_rings_is_answered_and_ends(pair: Pair) -> None:
    call = pair.ana.call(pair.bob)
    assert pair.ana.events[call] == []
    pair.wait()
    theirs = pair.bob.incoming[0]
    assert theirs.request.body == OFFER
    theirs.ring()
    pair.wait()
    theirs.accept(ANSWER)
    pair.wait()
    assert pair.ana.kinds(call) == ["Progress", "Progress", "Accepted"]
    assert pair.bob.events[theirs] == [Confirmed(b"")]
    accepted = pair.ana.events[call][-1]
    assert isinstance(accepted, Accepted)
    assert accepted.body == ANSWER
    call.hangup(reason="done")
    assert pair.ana.events[call][-1] == Ended("us", "done")
    pair.wait()
    assert pair.bob.events[theirs][-1] == Ended("peer", "")
    assert pair.network.methods() == ["INVITE", "100", "180", "200", "ACK", "BYE", "200"]
    pair.rest()


def test_the_callee_may_hang_up(pair: Pair) -> None:
    call, theirs = pair.talk()
    theirs.hangup(reason='SIP;cause=200;text="bye"')
    pair.wait()
    assert pair.ana.events[call][-1] == Ended("peer", 'SIP;cause=200;text="bye"')
    assert pair.bob.events[theirs][-1] == Ended("us", 'SIP;cause=200;text="bye"')
    pair.rest()


def test_both_hang_up_at_once_and_both_byes_are_answered_200(pair: Pair) -> None:
    call, theirs = pair.talk()
    call.hangup()
    theirs.hangup()
    pair.wait()
    assert pair.ana.endings(call) == [Ended("us", "")]
    assert pair.bob.endings(theirs) == [Ended("us", "")]
    assert len(pair.network.responses(200, "BYE")) == 2
    pair.rest()


def test_a_refusal_is_told_with_its_status(pair: Pair) -> None:
    call = pair.ana.call(pair.bob)
    pair.wait()
    pair.bob.incoming[0].refuse(486, headers=[("Retry-After", "5")])
    assert pair.bob.endings(pair.bob.incoming[0]) == [Refused(486, "Busy Here", True, None)]
    pair.wait()
    (ending,) = pair.ana.endings(call)
    assert isinstance(ending, Refused)
    assert (ending.status, ending.reason, ending.local) == (486, "Busy Here", False)
    assert ending.message is not None
    assert ending.message.headers.get("Retry-After") == "5"
    assert pair.network.methods()[-2:] == ["486", "ACK"]
    pair.rest()


def test_hanging_up_an_unanswered_incoming_call_declines_it(pair: Pair) -> None:
    pair.ana.call(pair.bob)
    pair.wait()
    pair.bob.incoming[0].hangup()
    pair.wait()
    assert pair.network.responses(603)
    pair.rest()


def test_nobody_there_is_a_local_408(pair: Pair) -> None:
    pair.network.drops = lambda message, to: True
    call = pair.ana.call(pair.bob)
    pair.wait(33)
    (ending,) = pair.ana.endings(call)
    assert isinstance(ending, Refused)
    assert (ending.status, ending.local) == (408, True)
    assert len(pair.network.requests("INVITE")) == 7  # at 0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5 s
    pair.rest()


def test_a_lost_ack_is_sent_again_with_each_2xx(pair: Pair) -> None:
    pair.network.drops = lambda message, to: (
        isinstance(message, Request) and message.method == "ACK" and pair.clock.seconds() < 3
    )
    _, theirs = pair.talk()
    assert pair.bob.events[theirs] == []
    pair.wait(6)
    assert pair.bob.events[theirs] == [Confirmed(b"")]
    assert len(pair.network.responses(200)) == len(pair.network.requests("ACK")) == 4
    assert len(pair.ana.events) == 1


def test_without_an_ack_the_call_is_lost_and_gets_a_bye(pair: Pair) -> None:
    pair.network.drops = lambda message, to: isinstance(message, Request) and message.method == "ACK"
    call, theirs = pair.talk()
    pair.wait(31.5)
    assert pair.bob.endings(theirs) == []
    pair.wait(1)
    assert pair.bob.endings(theirs) == [Ended("lost", "No ACK came")]
    assert pair.ana.endings(call) == [Ended("peer", "")]
    pair.rest()


def test_a_callee_that_hangs_up_before_the_ack_waits_for_it_with_its_bye(pair: Pair) -> None:
    pair.network.drops = lambda message, to: (
        isinstance(message, Request) and message.method == "ACK" and pair.clock.seconds() < 1
    )
    call, theirs = pair.talk()
    theirs.hangup()
    assert pair.bob.endings(theirs) == [Ended("us", "")]
    pair.wait(0.2)
    assert not pair.network.requests("BYE")
    pair.wait(3)
    assert pair.ana.endings(call) == [Ended("peer", "")]
    pair.rest()


def test_reinvite_is_offered_and_answered(pair: Pair) -> None:
    call, theirs = pair.talk()
    call.reinvite(b"v=0 again")
    pair.wait()
    assert pair.bob.events[theirs][-1] == Reoffered(b"v=0 again")
    theirs.answer_reoffer(b"v=0 fine")
    pair.wait()
    assert pair.ana.events[call][-1] == ReinviteAnswered(b"v=0 fine")
    theirs.reinvite(b"v=0 back")
    pair.wait()
    assert pair.ana.events[call][-1] == Reoffered(b"v=0 back")
    call.answer_reoffer(None, 488)
    pair.wait()
    assert pair.bob.events[theirs][-1] == ReinviteRefused(488)
    assert not pair.ana.endings(call)
    call.hangup()
    pair.rest()


def test_a_glare_is_tried_again_and_both_offers_are_answered(pair: Pair) -> None:
    call, theirs = pair.talk()
    pair.ana.on_call_event = lambda c, e: c.answer_reoffer(b"a") if isinstance(e, Reoffered) else None
    pair.bob.on_call_event = lambda c, e: c.answer_reoffer(b"b") if isinstance(e, Reoffered) else None
    call.reinvite(b"from ana")
    theirs.reinvite(b"from bob")
    pair.wait(10)
    assert len(pair.network.responses(491)) == 2
    assert ReinviteAnswered(b"b") in pair.ana.events[call]
    assert ReinviteAnswered(b"a") in pair.bob.events[theirs]
    call.hangup()
    pair.rest()


def test_a_reinvite_waits_until_ours_to_their_offer_is_acknowledged(pair: Pair) -> None:
    call, theirs = pair.talk()
    theirs.reinvite(b"first")
    pair.wait()
    call.reinvite(b"second")
    pair.wait()
    assert len(pair.network.requests("INVITE")) == 2
    call.answer_reoffer(b"ok")
    pair.wait()
    assert pair.bob.events[theirs][-2:] == [ReinviteAnswered(b"ok"), Reoffered(b"second")]


def test_a_peer_that_forgot_the_call_ends_it(pair: Pair) -> None:
    call, _ = pair.talk()
    pair.bob.agent.dialogs.clear()
    call.reinvite(b"x")
    pair.wait()
    assert pair.ana.endings(call) == [Ended("lost", "The peer no longer knows the call")]


def test_update_without_a_body_is_a_refresh_and_with_one_an_offer(pair: Pair) -> None:
    call, theirs = pair.talk()
    call.send("UPDATE")
    pair.wait()
    assert pair.network.responses(200, "UPDATE")
    assert pair.bob.events[theirs] == [Confirmed(b"")]
    answer = call.send("UPDATE", b"v=0 offer", "application/sdp")
    pair.wait()
    assert pair.bob.events[theirs][-1] == Reoffered(b"v=0 offer")
    theirs.answer_reoffer(b"v=0 yes")
    pair.wait()
    assert answer.result().body == b"v=0 yes"


def test_messages_inside_a_call_go_to_its_owner(pair: Pair) -> None:
    call, theirs = pair.talk()

    def answer(_: Call, event: CallEvent) -> None:
        if isinstance(event, InDialog):
            event.request.respond(202)

    pair.bob.on_call_event = answer
    message = call.send("MESSAGE", "grüß".encode(), "text/plain;charset=UTF-8")
    options = call.send("OPTIONS")
    publish = call.send("PUBLISH")
    pair.wait()
    assert message.result().status == 202
    assert options.result().status == 200
    assert publish.result().status == 405
    event = pair.bob.events[theirs][-1]
    assert isinstance(event, InDialog)
    assert event.request.message.body == "grüß".encode()


def test_a_request_for_an_unknown_dialog_gets_481(pair: Pair) -> None:
    answer = pair.ana.agent.request(
        "BYE", Target("sip:x@10.0.0.2"), from_="sip:a@b", to="<sip:x@10.0.0.2>;tag=nobody"
    )
    pair.wait()
    assert answer.result().status == 481
    pair.rest()


@pytest.mark.parametrize(
    ("method", "uri", "headers", "status", "header"),
    [
        ("PUBLISH", "sip:x@10.0.0.2", (), 405, "Allow"),
        ("OPTIONS", "sip:x@10.0.0.2", (), 200, "Allow"),
        ("OPTIONS", "sip:x@10.0.0.2", [("Require", "timer, magic")], 420, "Unsupported"),
        ("INVITE", "sip:x@10.0.0.2", [("Require", "magic")], 420, "Unsupported"),
        ("OPTIONS", "mailto:x@y", (), 416, None),
        ("OPTIONS", "sip:x@elsewhere.example", (), 404, None),
        ("OPTIONS", "sip:x@warmline.example", (), 200, "Accept"),
    ],
)
def test_what_cannot_be_served_is_refused_with_the_reason(
    pair: Pair, method: str, uri: str, headers: list[tuple[str, str]], status: int, header: str | None
) -> None:
    pair.bob.agent.domain_names = {"warmline.example"}
    target = Target(uri, flow=pair.ana.transports.flow_to_address("UDP", *pair.bob.address))  # type: ignore[arg-type]
    answer = pair.ana.agent.request(method, target, from_="sip:a@b", to="sip:x@y", headers=headers)
    pair.wait()
    response = answer.result()
    assert response.status == status
    assert response.to.tag
    assert header is None or header in response.headers
    assert not pair.bob.incoming
    pair.rest()


def test_an_invite_with_a_body_that_is_no_sdp_gets_415(pair: Pair) -> None:
    call = pair.ana.agent.invite(
        Target("sip:10.0.0.2"),
        from_="sip:a@b",
        to="sip:c@d",
        body=b"x",
        content_type="text/html",
        on_event=lambda event: None,
    )
    pair.ana.listen(call)
    pair.wait()
    (ending,) = pair.ana.endings(call)
    assert isinstance(ending, Refused)
    assert ending.status == 415
    assert ending.message is not None
    accept = ending.message.headers.get("Accept")
    assert accept is not None
    assert accept.split(", ")[:2] == ["application/sdp", "multipart/mixed"]


def test_what_the_screen_refuses_leaves_no_state(pair: Pair) -> None:
    pair.bob.agent.screen = lambda request, flow: (403, "Not You")
    call = pair.ana.call(pair.bob)
    pair.wait()
    (ending,) = pair.ana.endings(call)
    assert isinstance(ending, Refused)
    assert (ending.status, ending.reason) == (403, "Not You")
    assert pair.bob.at_rest()
    assert not pair.bob.incoming


def test_an_owner_that_fails_on_an_invite_answers_500(pair: Pair) -> None:
    def fail(call: IncomingCall) -> None:
        raise RuntimeError("secret detail")

    pair.bob.on_invite = fail
    call = pair.ana.call(pair.bob)
    pair.wait()
    (ending,) = pair.ana.endings(call)
    assert isinstance(ending, Refused)
    assert ending.status == 500
    assert "secret" not in ending.reason
    pair.rest()


CHALLENGE = 'Digest realm="r", nonce="n{}", algorithm=MD5, qop="auth"{}'


def test_a_challenge_is_answered_once_and_a_stale_one_once_more(pair: Pair) -> None:
    asked: list[Request] = []

    def challenge(call: IncomingCall) -> None:
        asked.append(call.request)
        stale = ", stale=true" if len(asked) == 2 else ""
        call.refuse(401, headers=[("WWW-Authenticate", CHALLENGE.format(len(asked), stale))])

    pair.bob.on_invite = challenge
    call = pair.ana.call(pair.bob, credentials=("ana", "pw"))
    pair.wait(1)
    assert [request.cseq.number for request in asked] == [1, 2, 3]
    assert ["Authorization" in request.headers for request in asked] == [False, True, True]
    assert len({request.from_.tag for request in asked}) == 1
    (ending,) = pair.ana.endings(call)
    assert isinstance(ending, Refused)
    assert ending.status == 401
    pair.rest()


def test_credentials_serve_a_whole_call(pair: Pair) -> None:
    pair.bob.on_invite = lambda call: (
        call.accept(ANSWER)
        if "Proxy-Authorization" in call.request.headers
        else call.refuse(407, headers=[("Proxy-Authenticate", CHALLENGE.format(1, ""))])
    )
    call = pair.ana.call(pair.bob, credentials=("ana", "pw"))
    pair.wait(1)
    assert pair.ana.kinds(call)[-1] == "Accepted"
    call.hangup()
    pair.wait()
    assert pair.bob.endings(pair.bob.incoming[1]) == [Ended("peer", "")]
    pair.rest()


def test_a_caller_whose_connection_closes_while_it_rings_has_given_up() -> None:
    pair = Pair("TCP")
    pair.ana.call(pair.bob)
    pair.wait()
    theirs = pair.bob.incoming[0]
    theirs.ring()
    assert theirs.flow is not None
    pair.bob.transports.connects = False
    theirs.flow.close()
    pair.wait()
    assert pair.bob.endings(theirs) == [Cancelled("The caller's connection closed")]


def test_a_call_whose_connection_closes_before_an_answer_fails_at_once() -> None:
    pair = Pair("TCP")
    call = pair.ana.call(pair.bob)
    pair.wait()
    assert call.flow is not None
    call.flow.close()
    (ending,) = pair.ana.endings(call)
    assert isinstance(ending, Refused)
    assert (ending.status, ending.local) == (503, True)


def test_a_call_over_a_connection_uses_no_retransmissions() -> None:
    pair = Pair("TCP")
    call, theirs = pair.talk()
    call.hangup()
    pair.wait()
    assert pair.bob.endings(theirs) == [Ended("peer", "")]
    assert pair.network.methods() == ["INVITE", "100", "200", "ACK", "BYE", "200"]
    pair.rest()


def test_no_event_comes_before_invite_returns_even_when_the_flow_is_dead(pair: Pair) -> None:
    flow = pair.ana.transports.flow_to_address("UDP", *pair.bob.address)
    flow.send = lambda data: flow.close()  # type: ignore[method-assign]
    events: list[CallEvent] = []
    call = pair.ana.agent.invite(
        Target("sip:nobody@10.0.0.2", flow=flow),  # type: ignore[arg-type]
        from_="sip:a@b",
        to="sip:c@d",
        body=OFFER,
        on_event=events.append,
    )
    assert call.state is CallState.CALLING
    assert events == []
    flow.send = lambda data: None  # type: ignore[method-assign]
    pair.wait(0.7)
    assert [type(event) for event in events] == [Refused]


def test_an_out_of_order_request_is_answered_500(pair: Pair) -> None:
    call, _ = pair.talk()
    assert call.dialog is not None
    call.dialog.local_seq = 10
    first = call.send("OPTIONS")
    pair.wait()
    call.dialog.local_seq = 4
    second = call.send("OPTIONS")
    pair.wait()
    assert first.result().status == 200
    assert second.result().status == 500


def test_a_made_up_dialog_gets_one_481_and_leaves_no_state(pair: Pair) -> None:
    for method in ("INVITE", "BYE", "MESSAGE"):
        pair.bob.transports.arrived(
            ("10.0.0.9", 5060),
            f"{method} sip:me@10.0.0.2 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.9:5060;branch=z9hG4bK{method};rport\r\n"
            f"From: <sip:x@y>;tag=1\r\nTo: <sip:me@10.0.0.2>;tag=2\r\nCall-ID: c\r\nCSeq: 1 {method}\r\n"
            "Content-Length: 0\r\n\r\n".encode(),
        )
    assert len(pair.bob.transactions) == 0
    pair.wait(40)
    assert len(pair.network.responses(481)) == 3


def test_a_phone_that_moved_is_hung_up_on_where_it_is_now(pair: Pair) -> None:
    """A phone behind NAT changes its network; its re-INVITE comes by another flow than the call did."""
    pair.talk()
    theirs = pair.bob.incoming[-1]
    theirs._keeps_flow = True
    request = pair.ana.agent.calls.copy().pop()
    assert request.dialog is not None
    offer = request.dialog.request("INVITE")
    offer.headers.prepend("Via", "SIP/2.0/UDP 10.9.9.9:5060;branch=z9hG4bKmoved;rport")
    offer.headers.add("Contact", "<sip:ana@10.9.9.9:5060>")
    offer.headers.set("Content-Type", "application/sdp")
    offer.body = OFFER
    pair.bob.transports.arrived(("203.0.113.9", 40000), offer.to_bytes())
    theirs.answer_reoffer(ANSWER)
    ack = request.dialog.request("ACK", offer.cseq.number)
    ack.headers.prepend("Via", "SIP/2.0/UDP 10.9.9.9:5060;branch=z9hG4bKack;rport")
    pair.bob.transports.arrived(("203.0.113.9", 40000), ack.to_bytes())
    theirs.hangup()
    pair.wait()
    byes = [to for _, to, m in pair.network.seen if isinstance(m, Request) and m.method == "BYE"]
    assert byes == [("203.0.113.9", 40000)]


def test_a_phone_behind_nat_is_called_back_where_it_sent_from(pair: Pair) -> None:
    invite = Request(
        "INVITE",
        "sip:x@10.0.0.2",
        [
            ("Via", "SIP/2.0/UDP 192.168.1.5:5060;branch=z9hG4bKnat;rport"),
            ("From", "<sip:n@x>;tag=1"),
            ("To", "<sip:x@10.0.0.2>"),
            ("Call-ID", "nat"),
            ("CSeq", "1 INVITE"),
            ("Contact", "<sip:n@192.168.1.5:5060>"),
        ],
    )
    pair.bob.transports.arrived(("10.0.0.9", 40000), invite.to_bytes())
    theirs = pair.bob.incoming[0]
    theirs.accept(ANSWER)
    (answer,) = pair.network.responses(200)
    ack = Request(
        "ACK",
        "sip:x@10.0.0.2",
        [
            ("Via", "SIP/2.0/UDP 192.168.1.5:5060;branch=z9hG4bKack;rport"),
            ("From", "<sip:n@x>;tag=1"),
            ("To", answer.headers.get("To") or ""),
            ("Call-ID", "nat"),
            ("CSeq", "1 ACK"),
        ],
    )
    pair.bob.transports.arrived(("10.0.0.9", 40000), ack.to_bytes())
    theirs.hangup()
    assert pair.network.seen[-1][1] == ("10.0.0.9", 40000)
    assert pair.network.requests("BYE")[0].uri_text == "sip:n@192.168.1.5:5060"


def test_a_call_through_a_proxy_goes_back_through_it(pair: Pair) -> None:
    invite = Request(
        "INVITE",
        "sip:x@10.0.0.2",
        [
            ("Via", "SIP/2.0/UDP 10.0.0.8:5060;branch=z9hG4bKproxy;rport"),
            ("Via", "SIP/2.0/UDP 10.0.0.7:5060;branch=z9hG4bKphone"),
            ("Record-Route", "<sip:10.0.0.6;lr>"),
            ("From", "<sip:n@x>;tag=1"),
            ("To", "<sip:x@10.0.0.2>"),
            ("Call-ID", "proxied"),
            ("CSeq", "1 INVITE"),
            ("Contact", "<sip:n@10.0.0.7:5060>"),
        ],
    )
    pair.bob.transports.arrived(("10.0.0.8", 5060), invite.to_bytes())
    theirs = pair.bob.incoming[0]
    theirs.accept(ANSWER)
    (answer,) = pair.network.responses(200)
    assert len(answer.vias) == 2
    assert answer.headers.get("Record-Route") == "<sip:10.0.0.6;lr>"
    ack = invite.copy()
    ack.method, ack.headers = "ACK", invite.headers.copy()
    for name, value in (("CSeq", "1 ACK"), ("To", answer.headers.get("To") or "")):
        ack.headers.set(name, value)
    ack.headers.set("Via", "SIP/2.0/UDP 10.0.0.8:5060;branch=z9hG4bKack;rport")
    pair.bob.transports.arrived(("10.0.0.8", 5060), ack.to_bytes())
    theirs.hangup()
    _, to, bye = pair.network.seen[-1]
    assert isinstance(bye, Request)
    assert (to, bye.method, bye.uri_text) == (("10.0.0.6", 5060), "BYE", "sip:n@10.0.0.7:5060")
    assert bye.headers.get("Route") == "<sip:10.0.0.6;lr>"


def test_a_binding_is_reached_by_its_path_and_flow(pair: Pair) -> None:
    flow = pair.ana.transports.flow_to_address("UDP", "10.0.0.5", 4444)
    target = Target("sip:phone@192.168.0.9", ("<sip:edge.example;lr;ob>",), flow)  # type: ignore[arg-type]
    pair.ana.agent.invite(target, from_="sip:c_1@b", to="sip:c@d", body=OFFER, on_event=lambda event: None)
    _, to, invite = pair.network.seen[0]
    assert isinstance(invite, Request)
    assert to == ("10.0.0.5", 4444)
    assert invite.uri_text == "sip:phone@192.168.0.9"
    assert invite.headers.get("Route") == "<sip:edge.example;lr;ob>"
    assert str(invite.contacts[0].uri) == "sip:c_1@10.0.0.1:5060"


async def test_a_name_that_leads_nowhere_is_a_local_503(pair: Pair) -> None:
    answer = await pair.ana.agent.request(
        "OPTIONS", Target("sip:nobody.example"), from_="sip:a@b", to="sip:nobody.example"
    )
    assert (answer.status, answer.local) == (503, True)


def test_a_refresh_of_a_session_is_answered_while_it_rings(pair: Pair) -> None:
    pair.ana.call(pair.bob)
    pair.wait()
    theirs = pair.bob.incoming[0]
    theirs.ring()
    pair.wait()
    refresh = theirs.send("UPDATE")
    offer = theirs.send("UPDATE", b"v=0", "application/sdp")
    pair.wait()
    assert refresh.result().status == 200
    assert offer.result().status == 491


def test_an_update_that_offers_before_the_answer_is_told_to_wait(pair: Pair) -> None:
    call = pair.ana.call(pair.bob)
    pair.wait()
    pair.bob.incoming[0].ring()
    pair.wait()
    (dialog,) = [dialog for _, dialog in pair.ana.agent.dialogs.values()]
    call.dialog = dialog
    offer = call.send("UPDATE", b"v=0", "application/sdp")
    pair.wait()
    assert offer.result().status == 500
    assert "Retry-After" in offer.result().headers


def test_an_owner_that_listens_late_hears_what_it_missed(pair: Pair) -> None:
    taken: list[IncomingCall] = []
    pair.bob.agent.on_invite = taken.append
    call = pair.ana.call(pair.bob)
    pair.wait()
    call.hangup()
    pair.wait()
    events: list[CallEvent] = []
    taken[0].on_event = events.append
    assert events == [Cancelled("")]


def test_a_call_that_may_go_no_further_has_come_far_enough(pair: Pair) -> None:
    request = Request(
        "INVITE",
        "sip:x@10.0.0.2",
        [
            ("Via", "SIP/2.0/UDP 10.0.0.9;branch=z9hG4bKlast"),
            ("Max-Forwards", "0"),
            ("From", "<sip:n@x>;tag=1"),
            ("To", "<sip:x@10.0.0.2>"),
            ("Call-ID", "last"),
            ("CSeq", "1 INVITE"),
            ("Contact", "<sip:n@10.0.0.9>"),
        ],
    )
    pair.bob.transports.arrived(("10.0.0.9", 5060), request.to_bytes())
    assert len(pair.bob.incoming) == 1


@pytest.mark.parametrize("via", ["203.1.113.9:5060", "edge.example.net:5060"])
def test_requests_of_ours_go_to_the_contact_whatever_the_via_is_called(pair: Pair, via: str) -> None:
    edge, caller = (
        ("203.1.113.9", 5060),
        ("198.51.101.7", 5060),
    )  # who speaks for whom, and does not record-route
    for address in (edge, caller):
        MemoryTransports(pair.network, address)
    named = [
        ("Max-Forwards", "69"), ("From", "<sip:a@x>;tag=1"), ("Call-ID", "c"),
        ("Contact", "<sip:a@198.51.101.7:5060>"),
    ]  # fmt: skip
    vias = [
        ("Via", f"SIP/2.0/UDP {via};branch=z9hG4bKedge1"),
        ("Via", "SIP/2.0/UDP 198.51.101.7;branch=z9hG4bKa1"),
    ]
    invite = Request(
        "INVITE", "sip:you@10.0.0.2", [*vias, *named, ("To", "<sip:you@x>"), ("CSeq", "1 INVITE")], OFFER,
        "application/sdp",
    )  # fmt: skip
    pair.network.carry(edge, pair.bob.address, invite.to_bytes())
    pair.wait()
    call = pair.bob.incoming[-1]
    call.accept(ANSWER)
    pair.wait()
    assert call.dialog is not None
    ack = [
        ("Via", "SIP/2.0/UDP 198.51.101.7;branch=z9hG4bKa2"),
        *named,
        ("To", call.dialog.local),
        ("CSeq", "1 ACK"),
    ]
    pair.network.carry(caller, pair.bob.address, Request("ACK", "sip:you@10.0.0.2", ack).to_bytes())
    pair.wait()
    call.hangup()
    pair.wait()
    (sent_to,) = {
        to for _, to, each in pair.network.seen if isinstance(each, Request) and each.method == "BYE"
    }
    assert sent_to == caller
