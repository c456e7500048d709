"""What stands in the messages of a call, and which are refused: bodies, Session-ID, what we say we can do."""

from __future__ import annotations

import pytest

from sip_trunk.call import MOST_UNHEARD
from sip_trunk.incoming_call import IncomingCall
from sip_trunk.sip.message import Request, Response
from sip_trunk.sip.option_tags import names, supports
from sip_trunk.user_agent import Accepted, Confirmed, Ended, InDialog, Refused, Reoffered, Target
from tests.sip_trunk.network import ANSWER, OFFER, Pair, ask

MIXED = 'multipart/mixed;boundary="b"'
ID = "ab30317f1a784dc48ff824d0d3715d86"


def parts(*bodies: tuple[str, bytes]) -> bytes:
    lines = [b"--b\r\n" + head.encode() + b"\r\n\r\n" + body + b"\r\n" for head, body in bodies]
    return b"".join(lines) + b"--b--\r\n"


SDP = ("Content-Type: application/sdp", OFFER)
MAP = ("Content-Type: application/pidf+xml\r\nContent-Disposition: render;handling=optional", b"<presence/>")
MUST = ("Content-Type: application/isup\r\nContent-Disposition: signal;handling=required", b"\x01")


def test_the_sdp_is_taken_out_of_several_parts(pair: Pair) -> None:
    _, theirs = pair.called(body=parts(MAP, SDP), content_type=MIXED)
    assert theirs.offer == OFFER


@pytest.mark.parametrize(
    ("body", "media_type", "headers", "status"),
    [
        (parts(SDP, MUST), MIXED, [], 415),
        (parts(MAP), MIXED, [], 415),
        (b"<p>", "text/html", [], 415),
        (b"--b\r\n", MIXED, [], 400),
        (parts(*[SDP] * 17), MIXED, [], 400),
    ],
)
def test_what_must_be_understood_and_is_not_is_refused(
    pair: Pair, body: bytes, media_type: str, headers: list[tuple[str, str]], status: int
) -> None:
    call = pair.ana.call(pair.bob, body=body, content_type=media_type, headers=headers)
    pair.wait()
    (ending,) = pair.ana.endings(call)
    assert isinstance(ending, Refused)
    assert ending.status == status
    assert not pair.bob.incoming
    pair.rest()


def test_a_body_that_is_optional_is_passed_over(pair: Pair) -> None:
    optional = [("Content-Disposition", "render;handling=optional")]
    _, theirs = pair.called(body=b"<p>", content_type="text/html", headers=optional)
    assert theirs.offer == b""


def test_a_reinvite_may_have_several_parts_and_a_bad_body_leaves_the_call_alone(pair: Pair) -> None:
    call, theirs = pair.talk()
    ask(call, "INVITE", body=parts(SDP, MAP), content_type=MIXED)
    pair.wait()
    assert pair.bob.events[theirs][-1] == Reoffered(OFFER)
    theirs.answer_reoffer(None, 488)
    pair.wait()
    bad = ask(call, "INVITE", body=b"x", content_type="text/html")
    pair.wait()
    assert [r.status for r in bad] == [415]
    assert not pair.bob.endings(theirs)


def test_an_answer_may_come_in_several_parts(pair: Pair) -> None:
    call, theirs = pair.called()
    answer = theirs.request.response(
        200,
        to_tag=theirs._transaction.to_tag,
        headers=[("Contact", "<sip:x@10.0.0.2:5060>")],
        body=parts(MAP, ("Content-Type: application/sdp", ANSWER)),
        content_type=MIXED,
    )
    pair.ana.transports.arrived(pair.bob.address, answer.to_bytes())
    accepted = pair.ana.events[call][-1]
    assert isinstance(accepted, Accepted)
    assert accepted.body == ANSWER


def test_one_id_stands_in_every_message_of_a_call(pair: Pair) -> None:
    call, theirs = pair.called(session_id=ID)
    theirs.ring()
    theirs.ring(183, body=ANSWER)
    pair.wait()
    theirs.accept(ANSWER)
    pair.wait()
    call.reinvite(OFFER)
    pair.wait()
    theirs.answer_reoffer(ANSWER)
    pair.wait()
    ask(call, "UPDATE")
    theirs.hangup()
    pair.wait()
    assert theirs.session_id == call.session_id == ID
    for _, _, message in pair.network.seen:
        assert isinstance(message, Request | Response)
        if isinstance(message, Response) and message.status == 100:
            continue
        assert message.session_id is not None, message
        assert message.session_id.local == ID
    invite, *later = pair.network.requests("INVITE")
    assert invite.headers.get("Session-ID") == f"{ID};remote={'0' * 32}"
    assert later[0].headers.get("Session-ID") == f"{ID};remote={ID}"


def test_a_caller_without_an_id_is_given_one(pair: Pair) -> None:
    _, theirs = pair.called()
    assert len(theirs.session_id) == 32
    for value in ("nonsense", "0" * 32):
        request = theirs.request.copy()
        request.headers.set("Session-ID", value)
        request.headers.set("Call-ID", value)
        request.headers.set("Via", f"SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK{value};rport")
        pair.bob.transports.arrived(pair.ana.address, request.to_bytes())
        assert pair.bob.incoming[-1].id == value
        assert pair.bob.incoming[-1].session_id not in ("0" * 32, value)
        assert len(pair.bob.incoming[-1].session_id) == 32


def test_a_cancel_and_its_487_have_the_id_too(pair: Pair) -> None:
    call, theirs = pair.called(session_id=ID)
    theirs.ring()
    pair.wait()
    call.hangup(reason='SIP;cause=200;text="Call completed elsewhere"')
    pair.wait()
    (cancel,) = pair.network.requests("CANCEL")
    assert cancel.session_id is not None
    assert cancel.session_id.local == ID
    assert [str(reason) for reason in cancel.reasons] == ['SIP;cause=200;text="Call completed elsewhere"']
    (refusal,) = pair.network.responses(487)
    assert refusal.session_id is not None


def test_what_we_say_we_can_do_is_what_we_can(pair: Pair) -> None:
    answer = pair.ana.agent.request("OPTIONS", Target("sip:x@10.0.0.2"), from_="sip:a@b", to="sip:x@10.0.0.2")
    pair.wait()
    options = answer.result()
    assert names(options, "supported") == {"100rel", "norefersub", "replaces", "timer"}
    assert {"prack", "update", "refer", "info", "invite", "bye"} <= names(options, "allow")
    assert "application/dtmf-relay" in (options.headers.get("Accept") or "")
    call, _ = pair.talk()
    # Whatever is allowed inside a call is not answered 405 there, and nothing else is taken.
    for method in sorted(names(options, "allow") - {"ack", "cancel", "bye", "invite"}):
        came = ask(call, method.upper())
        pair.wait(32)
        assert came == [] or came[0].status != 405, method
    for method in ("PUBLISH", "NOTIFY", "MAGIC"):
        came = ask(call, method)
        pair.wait()
        assert [r.status for r in came] == [405]
        assert names(came[0], "allow") == names(options, "allow")


def test_what_is_added_later_is_said_too(pair: Pair) -> None:
    before = pair.bob.agent.capabilities()
    assert pair.bob.agent.capabilities() is before
    pair.bob.agent.methods["REGISTER"] = lambda request: None
    pair.bob.agent.extensions = pair.bob.agent.extensions | {"path"}
    said = dict(pair.bob.agent.capabilities())
    assert "REGISTER" in said["Allow"]
    assert "path" in said["Supported"]


@pytest.mark.parametrize("method", ["BYE", "PRACK", "UPDATE", "INFO", "NOTIFY"])
def test_what_belongs_into_a_call_is_unknown_outside_one(pair: Pair, method: str) -> None:
    answer = pair.ana.agent.request(method, Target("sip:x@10.0.0.2"), from_="sip:a@b", to="sip:x@10.0.0.2")
    pair.wait()
    assert answer.result().status == 481
    pair.rest()


def test_an_extension_we_do_not_know_is_refused_inside_a_call_too(pair: Pair) -> None:
    call, theirs = pair.talk()
    for method in ("INFO", "UPDATE", "REFER", "INVITE"):
        came = ask(call, method, [("Require", "timer"), ("Require", "magic")])
        pair.wait()
        assert [(r.status, r.headers.get("Unsupported")) for r in came] == [(420, "magic")]
    assert pair.bob.events[theirs] == [Confirmed(b"")]
    assert not pair.bob.endings(theirs)


def test_an_owner_who_does_not_listen_is_not_flooded(pair: Pair) -> None:
    taken: list[IncomingCall] = []
    pair.bob.agent.on_invite = taken.append
    call = pair.ana.call(pair.bob)
    pair.wait()
    taken[0].accept(ANSWER)
    pair.wait()
    answers = [ask(call, "INFO") for _ in range(MOST_UNHEARD + 20)]
    pair.wait()
    assert [r.status for a in answers for r in a].count(480) >= 20
    heard: list[object] = []
    taken[0].on_event = heard.append
    assert sum(isinstance(event, InDialog) for event in heard) < MOST_UNHEARD


def test_nothing_but_bye_is_taken_while_a_bye_of_ours_is_due(pair: Pair) -> None:
    pair.network.drops = lambda message, to: isinstance(message, Request) and message.method == "ACK"
    call, theirs = pair.talk()
    theirs.hangup()
    came = [ask(call, method) for method in ("INFO", "UPDATE", "REFER")]
    pair.wait()
    assert [[r.status for r in one] for one in came] == [[481], [481], [481]]
    call.hangup()
    pair.wait()
    assert pair.bob.endings(theirs) == [Ended("us", "")]
    pair.network.drops = lambda message, to: False
    pair.rest()


def test_option_tags_are_found_however_they_are_written() -> None:
    request = Request("INVITE", "sip:a@b", [("k", "Timer , 100rel"), ("Supported", "path"), ("Require", "x")])
    assert names(request, "supported") == {"timer", "100rel", "path"}
    assert supports(request, "x")
    assert not supports(request, "y")
    assert names(request, "allow") == frozenset()
