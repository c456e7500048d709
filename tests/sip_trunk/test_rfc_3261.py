"""Sections of RFC 3261, and of two RFCs beside it, that no other test shows; docs/sip.md names them."""

from __future__ import annotations

import pytest

from sip_trunk.call import Call
from sip_trunk.call_events import CallEvent
from sip_trunk.incoming_call import IncomingCall
from sip_trunk.sip.message import Request
from sip_trunk.user_agent import Cancelled, Confirmed, Ended, Refused, ReinviteAnswered, Reoffered, Target
from tests.sip_trunk.network import ANSWER, OFFER, Pair, ask

CHALLENGE = ("WWW-Authenticate", 'Digest realm="r", nonce="n", algorithm=MD5, qop="auth"')
THROUGH = "<sip:10.0.0.2;lr>"


def their(method: str, *headers: tuple[str, str]) -> bytes:
    return Request(
        method,
        "sip:x@10.0.0.2",
        [
            ("Via", "SIP/2.0/UDP 10.0.0.9:5060;branch=z9hG4bKc;rport"),
            ("Max-Forwards", "70"),
            ("From", "<sip:n@x>;tag=1"),
            ("To", "<sip:x@10.0.0.2>"),
            ("Call-ID", "c"),
            ("CSeq", f"1 {method}"),
            ("Contact", "<sip:n@10.0.0.9>"),
            *headers,
        ],
    ).to_bytes()


def test_s8_1_1_a_request_of_ours_has_all_it_must_and_nothing_of_another(pair: Pair) -> None:
    for _ in range(2):
        pair.ana.agent.request("OPTIONS", Target("sip:x@10.0.0.2"), from_="sip:a@b", to="sip:x@10.0.0.2")
        pair.ana.call(pair.bob)
    pair.wait()
    options, invites = pair.network.requests("OPTIONS"), pair.network.requests("INVITE")
    for request in (*options, *invites):
        via = request.top_via
        assert (via.transport, via.host, via.port, via.wants_rport) == ("UDP", "10.0.0.1", 5060, True)
        assert (via.branch or "").startswith("z9hG4bK")
        assert (request.max_forwards, request.to.tag, request.cseq) == (70, None, (1, request.method))
        assert len(request.from_.tag or "") >= 8  # s19.3: 32 random bits
        assert len(request.contacts) == 1
    for request in invites:
        assert {"allow", "supported"} <= set(request.headers.keys)  # s13.2.1
    for every in (
        [request.top_via.branch for request in (*options, *invites)],
        [request.from_.tag for request in (*options, *invites)],
        [request.call_id for request in (*options, *invites)],
    ):
        assert len(set(every)) == 4


def test_rfc_3428_s4_a_message_outside_a_call_says_nothing_of_where_we_are(pair: Pair) -> None:
    pair.ana.agent.request(
        "MESSAGE", Target("sip:x@10.0.0.2"), from_="sip:a@b", to="sip:x@10.0.0.2", body=b"hi"
    )
    pair.wait()
    (message,) = pair.network.requests("MESSAGE")
    assert "Contact" not in message.headers


@pytest.mark.parametrize("status", [399, 499, 599, 699])
def test_s8_1_3_2_a_refusal_of_a_number_nobody_knows_is_a_refusal(pair: Pair, status: int) -> None:
    call, theirs = pair.called()
    theirs.refuse(status, "Whatever")
    pair.wait()
    (ending,) = pair.ana.endings(call)
    assert isinstance(ending, Refused)
    assert ending.status == status
    assert pair.network.methods()[-2:] == [str(status), "ACK"]
    pair.rest()


def test_s8_1_3_4_nobody_is_called_because_another_says_so(pair: Pair) -> None:
    call, theirs = pair.called()
    theirs.refuse(302, headers=[("Contact", "<sip:+900555@10.0.0.9>")])
    pair.wait(1)
    (ending,) = pair.ana.endings(call)
    assert isinstance(ending, Refused)
    assert ending.status == 302
    assert len(pair.network.requests("INVITE")) == 1


def test_s8_2_3_an_encoded_body_is_refused_and_told_what_would_be_read(pair: Pair) -> None:
    call = pair.ana.call(pair.bob, headers=[("Content-Encoding", "gzip")])
    plain = pair.ana.call(pair.bob, headers=[("Content-Encoding", "identity")])
    pair.wait()
    (ending,) = pair.ana.endings(call)
    assert isinstance(ending, Refused)
    assert ending.status == 415
    assert ending.message is not None
    assert ending.message.headers.get("Accept-Encoding") == "identity"
    assert [one.id for one in pair.bob.incoming] == [plain.id]


def test_s8_2_6_1_a_100_brings_the_time_back_that_the_request_was_sent(pair: Pair) -> None:
    pair.bob.transports.arrived(("10.0.0.9", 5060), their("INVITE", ("Timestamp", "54.25")))
    pair.bob.incoming[0].ring()
    assert pair.network.responses(100)[0].headers.get("Timestamp") == "54.25"
    assert "Timestamp" not in pair.network.responses(180)[0].headers


def test_s9_1_and_s17_1_1_3_cancel_and_ack_take_the_way_of_their_invite(pair: Pair) -> None:
    target = Target("sip:x@10.0.0.7", (THROUGH,))
    call = pair.ana.agent.invite(
        target, from_="sip:a@b", to="sip:x@10.0.0.7", body=OFFER, on_event=lambda event: None
    )
    pair.wait()
    call.hangup()
    pair.wait()
    (invite,) = pair.network.requests("INVITE")
    for request in (*pair.network.requests("CANCEL"), *pair.network.requests("ACK")):
        assert request.headers.all("Route") == [THROUGH]
        assert (request.uri_text, request.top_via) == (invite.uri_text, invite.top_via)
        assert request.cseq.number == invite.cseq.number
    assert pair.network.methods()[-4:] == ["CANCEL", "200", "487", "ACK"]
    pair.rest()


def test_s12_2_1_2_the_answer_to_a_reinvite_moves_the_target(pair: Pair) -> None:
    call, theirs = pair.talk()
    pair.bob.transports.contact_uri = lambda flow, user: "sip:bob@10.0.0.2:5060;moved"  # type: ignore[method-assign]
    pair.bob.on_call_event = lambda c, e: c.answer_reoffer(ANSWER) if isinstance(e, Reoffered) else None
    call.reinvite(OFFER)
    pair.wait()
    assert ReinviteAnswered(ANSWER) in pair.ana.events[call]
    call.hangup()
    pair.wait()
    assert pair.network.requests("ACK")[-1].uri_text.endswith(";moved")
    assert pair.network.requests("BYE")[0].uri_text.endswith(";moved")
    assert pair.bob.endings(theirs) == [Ended("peer", "")]


@pytest.mark.parametrize("answer", [None, "ring", "early"])
def test_s13_3_1_an_invitation_lasts_as_long_as_it_says(pair: Pair, answer: str | None) -> None:
    call, theirs = pair.called(headers=[("Expires", "20")])
    if answer is not None:
        theirs.ring(180 if answer == "ring" else 183, body=b"" if answer == "ring" else ANSWER)
    pair.wait(19.5)
    assert not pair.bob.endings(theirs)
    pair.wait(1)
    assert pair.bob.endings(theirs) == [Cancelled("The invitation has expired")]
    (ending,) = pair.ana.endings(call)
    assert isinstance(ending, Refused)
    assert ending.status == 487
    pair.rest()


@pytest.mark.parametrize("end", ["accept", "refuse", "cancel"])
@pytest.mark.parametrize("expires", ["20", "1000"])
def test_s13_3_1_an_invitation_that_was_answered_does_not_expire(pair: Pair, end: str, expires: str) -> None:
    call, theirs = pair.called(headers=[("Expires", expires)])
    if end == "accept":
        theirs.accept(ANSWER)
    elif end == "refuse":
        theirs.refuse(486)
    else:
        call.hangup()
    pair.wait(1)
    before = list(pair.bob.events[theirs])
    pair.wait(40)
    assert pair.bob.events[theirs] == before
    assert end != "accept" or before == [Confirmed(b"")]
    call.hangup()
    pair.rest()


def test_s22_1_the_ack_has_the_proof_of_its_invite(pair: Pair) -> None:
    pair.bob.on_invite = lambda call: (
        call.accept(ANSWER)
        if "Authorization" in call.request.headers
        else call.refuse(401, headers=[CHALLENGE])
    )
    call = pair.ana.call(pair.bob, credentials=("ana", "pw"))
    pair.wait()
    invite, ack = pair.network.requests("INVITE")[-1], pair.network.requests("ACK")[-1]
    assert ack.cseq.number == invite.cseq.number
    assert ack.headers.get("Authorization") == invite.headers.get("Authorization") is not None
    call.hangup()
    pair.rest()


def test_s13_2_2_4_a_repeated_2xx_is_acknowledged_by_another_way_when_that_of_the_ack_has_closed() -> None:
    pair = Pair("TCP")
    call, theirs = pair.called()
    pair.network.drops = lambda message, to: isinstance(message, Request) and message.method == "ACK"
    theirs.accept(ANSWER)
    pair.wait()
    pair.network.drops = lambda message, to: False
    call.flow.close()
    pair.wait(1)
    first, second = pair.network.requests("ACK")
    assert len(second.vias) == 1
    assert second.top_via.branch != first.top_via.branch
    assert pair.bob.kinds(theirs) == ["Confirmed"]
    call.hangup()
    pair.rest()


def test_rfc_6026_s7_2_a_late_answer_by_another_connection_is_acknowledged_and_hung_up_on() -> None:
    pair = Pair("TCP")
    call, theirs = pair.called()
    late: list[int] = []
    call.on_late = late.append
    pair.network.drops = lambda message, to: isinstance(message, Request) and message.method == "CANCEL"
    call.hangup()
    pair.wait(33)  # nobody has answered the CANCEL, and the INVITE counts as over (RFC 3261 §9.1)
    call._exchange.flow.close()
    theirs.accept(ANSWER)
    pair.wait()
    assert late == [200]
    assert [pair.network.methods().count(each) for each in ("ACK", "BYE")] == [1, 1]
    pair.rest()


def test_rfc_5057_s5_1_a_request_answered_481_ends_the_call_and_other_refusals_do_not(pair: Pair) -> None:
    call, _ = pair.talk()

    def refuse(_: Call, event: CallEvent) -> None:
        event.request.respond(500)  # type: ignore[union-attr]

    pair.bob.on_call_event = refuse
    answer = call.send("INFO", b"x", "text/plain")
    pair.wait()
    assert answer.result().status == 500
    assert not pair.ana.endings(call)
    pair.bob.agent.dialogs.clear()
    call.send("INFO", b"x", "text/plain")
    pair.wait()
    assert pair.ana.endings(call) == [Ended("lost", "The peer no longer knows the call")]


def test_rfc_6086_s4_2_2_info_of_a_package_is_refused_by_name(pair: Pair) -> None:
    call, theirs = pair.talk()
    came = ask(call, "INFO", [("Info-Package", "nobody")])
    pair.wait()
    assert [(r.status, r.headers.get("Recv-Info")) for r in came] == [(469, "")]
    assert pair.bob.events[theirs] == [Confirmed(b"")]
    assert isinstance(theirs, IncomingCall)
    assert not theirs.ended
