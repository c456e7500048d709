"""Provisional responses that must arrive, both roles: RFC 3262."""

from __future__ import annotations

import pytest

from sip_trunk.call import Call
from sip_trunk.incoming_call import IncomingCall
from sip_trunk.sip.extension_headers import parse_rack
from sip_trunk.sip.message import Message, Request, Response
from sip_trunk.user_agent import (
    Accepted,
    Cancelled,
    Confirmed,
    Ended,
    Progress,
    Refused,
    ReinviteAnswered,
    ReinviteRefused,
    Reoffered,
)
from tests.sip_trunk.network import ANSWER, OFFER, Address, Pair, Phone, ask, pass_time

EARLY = b"v=0\r\no=- 9 1 IN IP4 127.0.0.1\r\ns=early\r\n"
REQUIRED = [("Require", "100rel")]


def early_dialog(pair: Pair, call: Call) -> object:
    (dialog,) = [dialog for its, dialog in pair.ana.agent.dialogs.values() if its is call]
    return dialog


def progress(pair: Pair, call: Call) -> list[tuple[int, bytes]]:
    return [(e.status, e.body) for e in pair.ana.events[call] if isinstance(e, Progress) and e.status > 100]


def drop(pair: Pair, method: str, times: int) -> None:
    left = [times]

    def drops(message: Message, to: Address) -> bool:
        if isinstance(message, Request) and message.method == method and left[0]:
            left[0] -= 1
            return True
        return False

    pair.network.drops = drops


def test_early_media_is_acknowledged_and_is_the_answer(pair: Pair) -> None:
    call, theirs = pair.called()
    theirs.ring(183, body=EARLY)
    pair.wait()
    (rung,) = pair.network.responses(183)
    rseq = int(rung.headers.get("RSeq") or "")
    assert 0 < rseq < 2**31
    assert rung.headers.get("Require") == "100rel"
    (prack,) = pair.network.requests("PRACK")
    assert prack.headers.get("RAck") == f"{rseq} 1 INVITE"
    assert prack.to.tag == rung.to.tag
    assert prack.cseq.number == 2
    assert pair.network.responses(200, "PRACK")
    theirs.accept(ANSWER)
    pair.wait()
    (answer,) = pair.network.responses(200, "INVITE")
    assert answer.body == b""
    assert progress(pair, call) == [(183, EARLY)]
    accepted = pair.ana.events[call][-1]
    assert isinstance(accepted, Accepted)
    assert accepted.body == EARLY
    call.hangup()
    pair.rest()


def test_plain_ringing_is_not_made_reliable_unless_asked_for(pair: Pair) -> None:
    _, theirs = pair.called()
    theirs.ring()
    theirs.ring(183, body=EARLY, reliable=False)
    pair.wait()
    assert not pair.network.requests("PRACK")
    theirs.ring(reliable=True)
    pair.wait()
    assert len(pair.network.requests("PRACK")) == 1


def test_a_caller_who_requires_it_gets_all_of_them_reliably(pair: Pair) -> None:
    call, theirs = pair.called(headers=REQUIRED)
    theirs.ring(reliable=False)
    theirs.ring(183, body=EARLY)
    pair.wait()
    assert progress(pair, call) == [(180, b""), (183, EARLY)]
    first, second = (
        parse_rack(prack.headers.get("RAck") or "").rseq for prack in pair.network.requests("PRACK")
    )
    assert second == first + 1
    assert all("RSeq" not in r.headers for r in pair.network.responses(100))


def test_a_caller_who_cannot_gets_none_of_them_reliably(pair: Pair) -> None:
    pair.ana.agent.extensions.discard("100rel")
    call, theirs = pair.called()
    theirs.ring(183, body=EARLY, reliable=True)
    pair.wait()
    assert not pair.network.requests("PRACK")
    assert "RSeq" not in pair.network.responses(183)[0].headers
    assert progress(pair, call) == [(183, EARLY)]


def test_the_second_waits_until_the_first_is_acknowledged(pair: Pair) -> None:
    call, theirs = pair.called(headers=REQUIRED)
    drop(pair, "PRACK", 2)
    theirs.ring(180)
    theirs.ring(181)
    theirs.ring(182)
    pair.wait(1)
    assert not pair.network.responses(181)
    pair.wait(3)
    assert [status for status, _ in progress(pair, call)] == [180, 181, 182]


def test_only_so_many_wait_and_those_with_sdp_are_not_dropped(pair: Pair) -> None:
    pair.network.drops = lambda message, to: isinstance(message, Request) and message.method == "PRACK"
    call, theirs = pair.called(headers=REQUIRED)
    theirs.ring(180)
    theirs.ring(183, body=EARLY)
    for _ in range(30):
        theirs.ring(182)
    pair.network.drops = lambda message, to: False
    pair.wait(10)
    assert progress(pair, call)[:2] == [(180, b""), (183, EARLY)]
    assert len(progress(pair, call)) == 9


def test_it_is_sent_again_at_doubling_intervals_until_acknowledged(pair: Pair) -> None:
    call, theirs = pair.called()
    drop(pair, "PRACK", 4)
    theirs.ring(183, body=EARLY)
    pair.wait(30)
    # Its own transaction repeats the PRACK at 0.5, 1.5, 3.5 and 7.5 s, and so does the 183's timer.
    assert len(pair.network.requests("PRACK")) == 5
    assert len(pair.network.responses(183)) == 5
    assert progress(pair, call) == [(183, EARLY)]
    theirs.accept(ANSWER)
    pair.wait()
    call.hangup()
    pair.rest()


def test_nobody_acknowledging_it_ends_the_call(pair: Pair) -> None:
    pair.network.drops = lambda message, to: isinstance(message, Request) and message.method == "PRACK"
    call, theirs = pair.called()
    theirs.ring(183, body=EARLY)
    theirs.accept(ANSWER)
    pair.wait(31)
    assert not pair.bob.endings(theirs)
    assert len(pair.network.responses(183)) == 6
    pair.wait(2)
    assert pair.bob.endings(theirs) == [Refused(504, "Server Time-out", True, None)]
    (ending,) = pair.ana.endings(call)
    assert isinstance(ending, Refused)
    assert ending.status == 504
    pair.rest()


def test_the_200_waits_for_the_prack_if_there_was_sdp(pair: Pair) -> None:
    call, theirs = pair.called()
    drop(pair, "PRACK", 1)
    theirs.ring(183, body=EARLY)
    theirs.accept(ANSWER)
    theirs.accept(ANSWER)
    theirs.ring(182)
    pair.wait(0.3)
    assert not pair.network.responses(200, "INVITE")
    pair.wait(1)
    assert len(pair.network.responses(200, "INVITE")) == 1
    assert pair.ana.kinds(call)[-1] == "Accepted"
    assert pair.bob.events[theirs] == [Confirmed(b"")]
    call.hangup()
    pair.rest()


def test_the_200_does_not_wait_if_there_was_none_and_a_late_prack_is_fine(pair: Pair) -> None:
    call, theirs = pair.called()
    drop(pair, "PRACK", 1)
    theirs.ring(reliable=True)
    pair.wait()
    theirs.accept(ANSWER)
    pair.wait()
    (answer,) = pair.network.responses(200, "INVITE")
    assert answer.body == ANSWER
    pair.wait(1)
    assert pair.network.responses(200, "PRACK")
    assert len(pair.network.responses(180)) == 1
    call.hangup()
    pair.rest()


@pytest.mark.parametrize("rack", ["1 1 INVITE", "{} 2 INVITE", "{} 1 BYE"])
def test_a_prack_for_nothing_is_refused(pair: Pair, rack: str) -> None:
    pair.network.drops = lambda message, to: isinstance(message, Request) and message.method == "PRACK"
    call, theirs = pair.called()
    theirs.ring(183, body=EARLY)
    pair.wait()
    pair.network.drops = lambda message, to: False
    rseq = pair.network.responses(183)[0].headers.get("RSeq")
    came = ask(call, "PRACK", [("RAck", rack.format(rseq))], dialog=early_dialog(pair, call))
    pair.wait()
    assert [r.status for r in came] == [481]


def test_a_prack_where_nothing_was_reliable_or_that_says_not_what_for(pair: Pair) -> None:
    call, theirs = pair.called()
    theirs.ring()
    pair.wait()
    dialog = early_dialog(pair, call)
    first = ask(call, "PRACK", [("RAck", "1 1 INVITE")], dialog=dialog)
    theirs.ring(183, body=EARLY)
    pair.wait()
    second = ask(call, "PRACK", dialog=dialog)
    third = ask(call, "PRACK", [("RAck", "one two three")], dialog=dialog)
    pair.wait()
    assert [r.status for r in (*first, *second, *third)] == [481, 400, 400]


def test_a_new_offer_in_a_prack_is_refused_but_acknowledges(pair: Pair) -> None:
    pair.network.drops = lambda message, to: isinstance(message, Request) and message.method == "PRACK"
    call, theirs = pair.called()
    theirs.ring(183, body=EARLY)
    pair.wait()
    pair.network.drops = lambda message, to: False
    rseq = pair.network.responses(183)[0].headers.get("RSeq")
    dialog = early_dialog(pair, call)
    came = ask(call, "PRACK", [("RAck", f"{rseq} 1 INVITE")], body=OFFER, dialog=dialog)
    pair.wait(20)
    assert came[0].status == 488
    assert len(pair.network.responses(183)) == 1
    assert not pair.bob.endings(theirs)


def test_an_offer_of_ours_in_a_183_is_answered_in_the_prack(pair: Pair) -> None:
    call, theirs = pair.called(body=b"")
    pair.network.drops = lambda message, to: isinstance(message, Request) and message.method == "PRACK"
    theirs.ring(183, body=EARLY)
    pair.wait()
    pair.network.drops = lambda message, to: False
    rseq = pair.network.responses(183)[0].headers.get("RSeq")
    ask(call, "PRACK", [("RAck", f"{rseq} 1 INVITE")], body=ANSWER, dialog=early_dialog(pair, call))
    theirs.accept(OFFER)
    pair.wait()
    assert pair.bob.events[theirs] == [Confirmed(ANSWER)]
    assert pair.network.responses(200, "INVITE")[0].body == b""


@pytest.mark.parametrize("how", ["cancel", "hangup", "refuse", "bye"])
def test_a_call_that_ends_stops_it(pair: Pair, how: str) -> None:
    pair.network.drops = lambda message, to: isinstance(message, Request) and message.method == "PRACK"
    call, theirs = pair.called()
    theirs.ring(183, body=EARLY)
    theirs.ring(183, body=EARLY)
    theirs.accept(ANSWER)
    pair.wait()
    if how == "cancel":
        call.hangup()
    elif how == "hangup":
        theirs.hangup()
    elif how == "refuse":
        theirs.refuse(486)
    else:
        ask(call, "BYE", dialog=early_dialog(pair, call))
    pair.wait()
    sent = len(pair.network.responses(183))
    pair.wait(50)
    assert len(pair.network.responses(183)) == sent
    assert len(pair.bob.endings(theirs)) == 1
    assert len(pair.ana.endings(call)) == 1
    pair.network.drops = lambda message, to: False
    pair.rest()


def replay(pair: Pair, response: Response, rseq: int | None = None, **headers: str) -> None:
    """Bob's response once more, changed."""
    again = response.copy()
    if rseq is not None:
        again.headers.set("RSeq", str(rseq))
    for name, value in headers.items():
        again.headers.set(name, value)
    pair.ana.transports.arrived(pair.bob.address, again.to_bytes())
    pair.wait()


def test_repeated_and_disordered_ones_are_passed_over(pair: Pair) -> None:
    call, theirs = pair.called()
    theirs.ring(183, body=EARLY)
    pair.wait()
    rung = pair.network.responses(183)[0]
    rseq = int(rung.headers.get("RSeq") or "")
    replay(pair, rung)
    replay(pair, rung, rseq + 2)
    replay(pair, rung, rseq - 1)
    assert len(pair.network.requests("PRACK")) == 1
    assert progress(pair, call) == [(183, EARLY)]
    replay(pair, rung, rseq + 1)
    assert len(pair.network.requests("PRACK")) == 2
    assert len(progress(pair, call)) == 2


def test_a_malformed_one_is_passed_over(pair: Pair) -> None:
    call, theirs = pair.called()
    theirs.ring()
    pair.wait()
    rung = pair.network.responses(180)[0]
    replay(pair, rung, RSeq="x", Require="100rel")
    replay(pair, rung, RSeq=str(2**32), Require="100rel")
    assert not pair.network.requests("PRACK")
    assert len(progress(pair, call)) == 1
    replay(pair, rung, RSeq="5")  # not said to be required: an ordinary one
    assert not pair.network.requests("PRACK")
    assert len(progress(pair, call)) == 2


def test_each_phone_of_a_fork_is_acknowledged_for_itself(pair: Pair) -> None:
    eve = Phone(pair.network, "10.0.0.3")

    def fork(message: Message, to: Address) -> bool:
        if isinstance(message, Request) and message.method == "INVITE" and to == pair.bob.address:
            pair.clock.callLater(0, eve.transports.arrived, pair.ana.address, message.to_bytes())
        return False

    pair.network.drops = fork
    call, theirs = pair.called()
    other = eve.incoming[0]
    theirs.ring(183, body=EARLY)
    other.ring(183, body=ANSWER)
    pair.wait()
    assert len(pair.network.requests("PRACK")) == 2
    assert len({p.to.tag for p in pair.network.requests("PRACK")}) == 2
    other.accept(OFFER)
    pair.wait()
    accepted = pair.ana.events[call][-1]
    assert isinstance(accepted, Accepted)
    assert accepted.body == ANSWER
    call.hangup()
    pair.wait()
    theirs.hangup()
    pair.rest()


def test_endless_forks_are_not_followed(pair: Pair) -> None:
    _, theirs = pair.called()
    theirs.ring()
    pair.wait()
    rung = pair.network.responses(180)[0]
    for number in range(100):
        replay(pair, rung, To=f"<sip:you@10.0.0.2>;tag=t{number}")
    assert len(pair.ana.agent.dialogs) == 32
    theirs.accept(ANSWER)
    pair.wait()
    assert len(pair.ana.agent.dialogs) == 1
    answer = pair.network.responses(200, "INVITE")[0]
    for number in range(100):
        replay(pair, answer, To=f"<sip:you@10.0.0.2>;tag=t{number}")
    assert len(pair.network.requests("ACK")) <= 32
    pass_time(pair.clock, 40)
    assert len(pair.ana.agent.dialogs) == 1


# UPDATE (RFC 3311)


def rung_early() -> tuple[Pair, Call, IncomingCall]:
    pair = Pair()
    call, theirs = pair.called()
    theirs.ring(183, body=EARLY)
    pair.wait()
    return pair, call, theirs


def test_the_callee_offers_anew_while_it_rings() -> None:
    pair, call, theirs = rung_early()
    theirs.update(b"v=0 hold")
    pair.wait()
    assert pair.ana.events[call][-1] == Reoffered(b"v=0 hold")
    call.answer_reoffer(b"v=0 held")
    pair.wait()
    assert pair.bob.events[theirs] == [ReinviteAnswered(b"v=0 held")]
    theirs.accept(ANSWER)
    pair.wait()
    assert len(pair.network.requests("INVITE")) == 1
    call.hangup()
    pair.rest()


def test_the_caller_offers_anew_while_it_rings() -> None:
    pair, call, theirs = rung_early()
    call.update(b"v=0 hold")
    pair.wait()
    assert pair.bob.events[theirs] == [Reoffered(b"v=0 hold")]
    theirs.answer_reoffer(b"v=0 held")
    pair.wait()
    assert pair.ana.events[call][-1] == ReinviteAnswered(b"v=0 held")
    call.hangup()
    pair.wait()
    assert pair.bob.endings(theirs) == [Cancelled("")]
    pair.rest()


def test_two_offers_at_once_while_it_rings_come_through_one_after_the_other() -> None:
    pair, call, theirs = rung_early()
    answer = lambda c, e: c.answer_reoffer(b"yes") if isinstance(e, Reoffered) else None  # noqa: E731
    pair.ana.on_call_event = pair.bob.on_call_event = answer
    call.update(b"v=0 a")
    theirs.update(b"v=0 b")
    pair.wait(10)
    assert len(pair.network.responses(491)) == 2
    assert ReinviteAnswered(b"yes") in pair.ana.events[call]
    assert ReinviteAnswered(b"yes") in pair.bob.events[theirs]


def test_an_early_offer_waits_until_the_first_was_answered(pair: Pair) -> None:
    call, theirs = pair.called()
    theirs.ring()
    pair.wait()
    call.update(b"v=0 a")
    theirs.update(b"v=0 b")
    pair.wait()
    assert not pair.network.requests("UPDATE")
    theirs.accept(ANSWER)
    pair.wait()
    # They cross, and one may be repeated already: RFC 3261 section 14.1 lets its sender draw a wait of nothing.
    assert len({str(update.uri) for update in pair.network.requests("UPDATE")}) == 2


def test_an_offer_by_update_in_a_call(pair: Pair) -> None:
    call, theirs = pair.talk()
    call.update(b"v=0 a")
    pair.wait()
    (update,) = pair.network.requests("UPDATE")
    assert "Contact" in update.headers
    theirs.answer_reoffer(None, 488)
    pair.wait()
    assert pair.ana.events[call][-1] == ReinviteRefused(488)
    assert not pair.ana.endings(call)


def test_a_peer_without_update_gets_a_reinvite(pair: Pair) -> None:
    call, theirs = pair.talk()
    call.peer_allows = frozenset({"invite"})
    call.update(b"v=0 a")
    pair.wait()
    assert not pair.network.requests("UPDATE")
    assert pair.bob.events[theirs][-1] == Reoffered(b"v=0 a")


def test_a_peer_that_refuses_update_gets_a_reinvite(pair: Pair) -> None:
    call, theirs = pair.talk()
    pair.bob.agent.screen = lambda request, flow: (501, "No") if request.method == "UPDATE" else None
    call.update(b"v=0 a")
    pair.wait()
    assert pair.bob.events[theirs][-1] == Reoffered(b"v=0 a")


def test_a_second_offer_while_the_first_waits_is_told_to_wait(pair: Pair) -> None:
    call, theirs = pair.talk()
    first = ask(call, "UPDATE", body=OFFER)
    pair.wait()
    second = ask(call, "UPDATE", body=OFFER)
    pair.wait()
    assert first == []
    assert [r.status for r in second] == [500]
    assert "Retry-After" in second[0].headers
    theirs.answer_reoffer(ANSWER)
    pair.wait()
    assert [r.status for r in first] == [200]


def test_an_offer_nobody_answers_does_not_block_the_next(pair: Pair) -> None:
    call, theirs = pair.talk()
    ask(call, "UPDATE", body=OFFER)
    pair.wait(40)
    ask(call, "UPDATE", body=OFFER)
    pair.wait()
    assert pair.bob.kinds(theirs).count("Reoffered") == 2


def test_an_update_nobody_answers_ends_the_call(pair: Pair) -> None:
    call, _ = pair.talk()
    pair.network.drops = lambda message, to: True
    call.update(b"v=0")
    pair.wait(33)
    assert pair.ana.endings(call) == [Ended("lost", "No answer to a re-INVITE")]


def test_a_callee_that_says_bye_before_its_answer_is_taken_at_its_word(pair: Pair) -> None:
    call, theirs = pair.called()
    theirs.ring()
    pair.wait()
    ask(theirs, "BYE")
    pair.wait()
    (ending,) = pair.ana.endings(call)
    assert isinstance(ending, Refused)
    assert ending.status == 487
    assert pair.bob.endings(theirs) == [Cancelled("")]
    pair.rest()


def test_an_early_offer_to_a_phone_that_loses_the_fork_is_refused() -> None:
    pair, call, theirs = rung_early()
    call.update(b"v=0 a")
    answer = theirs.request.response(
        200,
        headers=[("Contact", "<sip:x@10.0.0.2:5060>"), ("To", "<sip:you@10.0.0.2>;tag=other")],
        body=ANSWER,
        content_type="application/sdp",
    )
    answer.headers.set("To", "<sip:you@10.0.0.2>;tag=other")
    pair.ana.transports.arrived(pair.bob.address, answer.to_bytes())
    pair.wait()
    theirs.answer_reoffer(ANSWER)
    pair.wait()
    assert pair.ana.kinds(call)[-2:] == ["Accepted", "ReinviteRefused"]
    assert not pair.ana.endings(call)


def reliably_to_a_reinvite(pair: Pair, body: bytes = b"") -> tuple[Call, Call, Response]:
    call, theirs = pair.talk()
    call.reinvite(OFFER)
    pair.wait()
    transaction = theirs.offers.theirs
    assert transaction is not None
    headers = [("Require", "100rel"), ("RSeq", "4711"), ("Contact", "<sip:you@10.0.0.2:5060>")]
    kind = "application/sdp" if body else None
    return call, theirs, transaction.request.response(183, headers=headers, body=body, content_type=kind)


def test_a_reliable_provisional_to_a_reinvite_is_acknowledged_once(pair: Pair) -> None:
    _, theirs, progress = reliably_to_a_reinvite(pair)
    assert theirs.offers.theirs is not None
    for _ in range(3):
        theirs.offers.theirs.respond(progress)
        pair.wait(0.5)
    (prack,) = pair.network.requests("PRACK")
    assert (prack.headers.get("RAck") or "").startswith("4711 ")


def test_and_the_answer_in_it_counts_when_the_2xx_has_none(pair: Pair) -> None:
    call, theirs, progress = reliably_to_a_reinvite(pair, ANSWER)
    assert theirs.offers.theirs is not None
    theirs.offers.theirs.respond(progress)
    pair.wait(0.5)
    theirs.answer_reoffer(b"")
    pair.wait()
    assert pair.ana.events[call][-1] == ReinviteAnswered(ANSWER)


def test_to_an_invite_without_an_offer_nothing_is_said_reliably_before_ours(pair: Pair) -> None:
    _, theirs = pair.called(body=b"", headers=[("Require", "100rel")])
    theirs.ring()
    pair.wait()
    assert not pair.network.responses(180)  # RFC 3261 §13.2.1: it would have to bring our offer
    theirs.accept(ANSWER)
    pair.wait()
    assert pair.network.responses(200, "INVITE")[0].body == ANSWER
