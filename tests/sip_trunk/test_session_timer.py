"""Sessions that are refreshed, and end when they are not: RFC 4028."""

from __future__ import annotations

from typing import Any

from sip_trunk.call import Call
from sip_trunk.sip.message import Message, Request, Response
from sip_trunk.user_agent import Ended, Refreshed, Refused, Reoffered
from tests.sip_trunk.network import ANSWER, OFFER, Address, Pair, Phone, ask, pass_time


def plain(phone: Phone) -> None:
    """A phone of before RFC 4028."""
    phone.agent.extensions.discard("timer")
    phone.agent.session_expires_s = 0
    phone.agent.session_headers = ()
    phone.agent.min_se_s = 0


def no_update(call: Call) -> None:
    call.peer_allows = frozenset({"invite", "bye"})


def on(pair: Pair, seconds: float) -> None:
    pass_time(pair.clock, seconds, step=0.5)


def silence(pair: Pair, phone: Phone) -> None:
    """Nothing of that phone's arrives any more, nor does anything reach it."""
    pair.network.drops = lambda message, to: True


def test_a_call_is_asked_and_agreed_to_last_half_an_hour(pair: Pair) -> None:
    pair.talk()
    (invite,) = pair.network.requests("INVITE")
    (answer,) = pair.network.responses(200)
    assert invite.headers.get("Session-Expires") == "1800"
    assert invite.headers.get("Min-SE") == "90"
    assert answer.headers.get("Session-Expires") == "1800;refresher=uac"
    assert answer.headers.get("Require") == "timer"


def test_the_caller_refreshes_by_update_at_half_the_time(pair: Pair) -> None:
    call, theirs = pair.talk()
    on(pair, 899)
    assert not pair.network.requests("UPDATE")
    on(pair, 2)
    (update,) = pair.network.requests("UPDATE")
    assert update.body == b""
    assert update.headers.get("Session-Expires") == "1800;refresher=uac"
    (answer,) = pair.network.responses(200, "UPDATE")
    assert answer.headers.get("Session-Expires") == "1800;refresher=uac"
    on(pair, 3600)
    assert len(pair.network.requests("UPDATE")) == 5
    assert not pair.bob.endings(theirs)
    call.hangup()
    pair.rest()


def test_who_does_not_allow_update_is_refreshed_by_the_same_offer_and_may_answer_it_anew(pair: Pair) -> None:
    call, _ = pair.talk()
    no_update(call)
    answers = [ANSWER, b"v=0 from elsewhere"]
    pair.bob.on_call_event = lambda c, e: (
        c.answer_reoffer(answers.pop(0)) if isinstance(e, Reoffered) else None
    )
    before = list(pair.ana.events[call])
    on(pair, 905)
    _, refresh = pair.network.requests("INVITE")
    assert refresh.body == OFFER
    assert refresh.headers.get("Session-Expires") == "1800;refresher=uac"
    on(pair, 900)
    assert len(pair.network.requests("INVITE")) == 3
    assert pair.ana.events[call] == [*before, Refreshed(ANSWER), Refreshed(b"v=0 from elsewhere")]
    call.hangup()
    pair.rest()


def test_the_last_offer_is_the_one_that_is_repeated(pair: Pair) -> None:
    call, theirs = pair.talk()
    no_update(call)
    no_update(theirs)
    pair.bob.on_call_event = lambda c, e: c.answer_reoffer(b"v=0 2") if isinstance(e, Reoffered) else None
    call.reinvite(b"v=0 newer")
    on(pair, 905)
    assert pair.network.requests("INVITE")[-1].body == b"v=0 newer"


def test_the_callee_refreshes_if_asked_to(pair: Pair) -> None:
    call, theirs = pair.talk(headers=[("Session-Expires", "90;refresher=uas")])
    on(pair, 46)
    (update,) = pair.network.requests("UPDATE")
    assert update.headers.get("Session-Expires") == "90;refresher=uac"
    assert update.from_.tag == theirs.dialog.local_tag  # type: ignore[union-attr]
    on(pair, 300)
    assert not pair.ana.endings(call)
    theirs.hangup()
    pair.rest()


def test_a_session_that_the_caller_does_not_refresh_ends_in_time(pair: Pair) -> None:
    call, theirs = pair.talk(headers=[("Session-Expires", "90")])
    call._session_timer.stop()  # type: ignore[union-attr]
    on(pair, 59)
    assert not pair.bob.endings(theirs)
    on(pair, 2)
    assert pair.bob.endings(theirs) == [Ended("lost", "Session expired")]
    assert pair.ana.endings(call) == [Ended("peer", 'SIP;cause=408;text="Session expired"')]
    pair.rest()


def test_a_refresh_of_theirs_keeps_it_alive(pair: Pair) -> None:
    _, theirs = pair.talk(headers=[("Session-Expires", "90")])
    on(pair, 200)
    assert not pair.bob.endings(theirs)
    assert len(pair.network.requests("UPDATE")) == 4


def test_a_refresher_that_hears_nothing_ends_the_call(pair: Pair) -> None:
    call, theirs = pair.talk(headers=[("Session-Expires", "90")])
    silence(pair, pair.bob)
    on(pair, 100)
    (ending,) = pair.ana.endings(call)
    assert isinstance(ending, Ended)
    assert ending.by == "lost"
    assert pair.bob.endings(theirs) == [Ended("lost", "Session expired")]
    pair.rest()


def test_a_refresher_whose_peer_forgot_the_call_ends_it(pair: Pair) -> None:
    call, theirs = pair.talk(headers=[("Session-Expires", "90")])
    theirs._session_timer.stop()  # type: ignore[union-attr]
    pair.bob.agent.dialogs.clear()
    on(pair, 46)
    assert pair.ana.endings(call) == [Ended("lost", "The peer no longer knows the call")]


def test_a_refused_refresh_is_tried_again_and_the_session_ends_if_it_stays_so(pair: Pair) -> None:
    call, theirs = pair.talk(headers=[("Session-Expires", "90")])

    def receive(transaction: Any, request: Request, dialog: Any) -> None:
        theirs.respond(transaction, 200 if request.method == "BYE" else 500)

    theirs.receive = receive  # type: ignore[method-assign]
    theirs._session_timer.stop()  # type: ignore[union-attr]
    on(pair, 61)
    assert 2 <= len(pair.network.requests("UPDATE")) <= 8
    assert pair.ana.endings(call) == [Ended("lost", "Session expired")]


def test_who_refuses_update_after_all_is_refreshed_by_a_reinvite(pair: Pair) -> None:
    call, theirs = pair.talk(headers=[("Session-Expires", "90")])
    heard = theirs.receive

    def receive(transaction: Any, request: Request, dialog: Any) -> None:
        if request.method == "UPDATE":
            theirs.respond(transaction, 405)
        else:
            heard(transaction, request, dialog)

    theirs.receive = receive  # type: ignore[method-assign]
    pair.bob.on_call_event = lambda c, e: c.answer_reoffer(ANSWER) if isinstance(e, Reoffered) else None
    on(pair, 200)
    assert len(pair.network.requests("UPDATE")) == 1
    assert len(pair.network.requests("INVITE")) == 5
    assert not pair.ana.endings(call)


def test_a_callee_without_timers_is_looked_after_by_us(pair: Pair) -> None:
    strip_answers(pair)
    call, theirs = pair.talk()
    theirs._session_timer.stop()  # type: ignore[union-attr]
    on(pair, 905)
    assert len(pair.network.requests("UPDATE")) == 1
    theirs._session_timer.stop()  # type: ignore[union-attr]
    assert not pair.ana.endings(call)
    silence(pair, pair.bob)
    on(pair, 935)
    assert pair.ana.endings(call) == [Ended("lost", "No answer to a refresh")]


def strip_answers(pair: Pair) -> None:
    """Bob's 200s leave without the header, as those of a phone that has never heard of it do."""
    of = pair.bob.agent
    of.capabilities = lambda: (("Allow", "INVITE, ACK, BYE, UPDATE"),)  # type: ignore[method-assign]
    arrived = pair.ana.transports.arrived

    def plainly(sender: Address, data: bytes) -> None:
        lines = [
            line for line in data.split(b"\r\n") if not line.startswith((b"Session-Expires", b"Require"))
        ]
        arrived(sender, b"\r\n".join(lines))

    pair.ana.transports.arrived = plainly  # type: ignore[method-assign]


def test_a_refusal_by_one_without_timers_proves_that_it_is_there(pair: Pair) -> None:
    strip_answers(pair)
    call, theirs = pair.talk()
    theirs._session_timer.stop()  # type: ignore[union-attr]

    def receive(transaction: Any, request: Request, dialog: Any) -> None:
        theirs.respond(transaction, 200 if request.method == "BYE" else 488)

    theirs.receive = receive  # type: ignore[method-assign]
    on(pair, 4000)
    assert len(pair.network.requests("UPDATE")) == 4
    assert not pair.ana.endings(call)


def test_a_caller_without_timers_is_looked_after_by_us(pair: Pair) -> None:
    plain(pair.ana)
    _, theirs = pair.talk()
    (answer,) = pair.network.responses(200)
    assert answer.headers.get("Session-Expires") == "1800;refresher=uas"
    assert "Require" not in answer.headers
    on(pair, 905)
    assert len(pair.network.requests("UPDATE")) == 1
    assert not pair.bob.endings(theirs)


def test_a_timer_that_only_a_proxy_asked_for_is_ours_to_keep(pair: Pair) -> None:
    plain(pair.ana)
    pair.talk(headers=[("Session-Expires", "90")])
    (answer,) = pair.network.responses(200)
    assert answer.headers.get("Session-Expires") == "90;refresher=uas"
    assert "Require" not in answer.headers
    on(pair, 46)
    assert len(pair.network.requests("UPDATE")) == 1


def test_too_short_a_session_is_refused_and_asked_for_again() -> None:
    pair = Pair()
    pair.bob.agent.min_se_s = 3600
    call, theirs = pair.talk()
    first, second = pair.network.requests("INVITE")
    assert pair.network.responses(422)[0].headers.get("Min-SE") == "3600"
    assert (second.headers.get("Session-Expires"), second.headers.get("Min-SE")) == ("3600", "3600")
    assert second.cseq.number == first.cseq.number + 1
    assert (first.call_id, first.from_.tag) == (second.call_id, second.from_.tag)
    assert "Accepted" in pair.ana.kinds(call)
    on(pair, 1801)
    (refresh,) = pair.network.requests("UPDATE")
    assert refresh.headers.get("Min-SE") == "3600"  # the largest it was ever told
    call.hangup()
    pair.rest()
    assert len(pair.bob.events) == 1
    assert theirs.session_id == call.session_id


def test_a_peer_that_is_never_content_is_given_up(pair: Pair) -> None:
    def greedy(message: Message, to: Address) -> bool:
        if isinstance(message, Request) and message.method == "INVITE":
            pair.bob.agent.min_se_s *= 100
        return False

    pair.network.drops = greedy
    pair.bob.agent.min_se_s = 100
    call = pair.ana.call(pair.bob)
    pair.wait(1)
    (ending,) = pair.ana.endings(call)
    assert isinstance(ending, Refused)
    assert ending.status == 422
    assert len(pair.network.requests("INVITE")) == 4


def test_an_update_for_too_short_a_session_is_refused_and_asked_for_again(pair: Pair) -> None:
    call, _ = pair.talk()
    came = ask(call, "UPDATE", [("Session-Expires", "10;refresher=uac"), ("Supported", "timer")])
    pair.wait()
    assert pair.network.responses(422, "UPDATE")[0].headers.get("Min-SE") == "90"
    assert [(r.status, r.headers.get("Session-Expires")) for r in came] == [(200, "90;refresher=uac")]


def test_a_malformed_session_is_refused(pair: Pair) -> None:
    call = pair.ana.call(pair.bob, headers=[("Session-Expires", "soon")])
    pair.wait()
    (ending,) = pair.ana.endings(call)
    assert isinstance(ending, Refused)
    assert ending.status == 400
    assert not pair.bob.incoming


def test_timers_may_be_off() -> None:
    pair = Pair(session_expires_s=0)
    call, _ = pair.talk()
    assert "Session-Expires" not in pair.network.requests("INVITE")[0].headers
    on(pair, 4000)
    assert not pair.network.requests("UPDATE")
    assert not pair.ana.endings(call)
    call.hangup()
    pair.rest()


def test_while_it_rings_no_timer_runs(pair: Pair) -> None:
    call, theirs = pair.called()
    theirs.ring(183, body=ANSWER)
    pair.wait()
    came = ask(theirs, "UPDATE", [("Session-Expires", "90"), ("Supported", "timer")])
    pair.wait()
    assert [r.status for r in came] == [200]
    assert "Session-Expires" not in came[0].headers
    on(pair, 1000)
    assert not pair.ana.endings(call)
    call.hangup()
    pair.rest()


def test_a_refresh_that_meets_their_offer_gets_through_in_the_end(pair: Pair) -> None:
    call, theirs = pair.talk(headers=[("Session-Expires", "90")])
    no_update(call)
    no_update(theirs)
    pair.ana.on_call_event = lambda c, e: c.answer_reoffer(b"a") if isinstance(e, Reoffered) else None
    pair.bob.on_call_event = lambda c, e: c.answer_reoffer(b"b") if isinstance(e, Reoffered) else None
    pair.clock.callLater(44.9, theirs.reinvite, b"v=0 b")
    for _ in range(3):
        on(pair, 30)
        theirs.reinvite(b"v=0 b")
    on(pair, 100)
    assert not pair.ana.endings(call)
    assert not pair.bob.endings(theirs)


def test_one_deadline_is_all_that_a_quiet_call_costs(pair: Pair) -> None:
    pair.talk()
    pair.wait(40)
    assert len(pair.ana.transactions.timers) == 1
    assert len(pair.bob.transactions.timers) == 1
    assert isinstance(pair.network.seen[-1][2], Request | Response)
