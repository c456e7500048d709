"""Calls of ours before they are answered: given up in time and too late, and answered by several phones."""

from __future__ import annotations

import pytest

from sip_trunk.sip.message import Message, Request, Response
from sip_trunk.user_agent import Cancelled, Confirmed, Ended, Progress
from tests.sip_trunk.network import ANSWER, Address, Pair, Phone


def test_the_caller_gives_up_while_it_rings(pair: Pair) -> None:
    call = pair.ana.call(pair.bob)
    pair.wait()
    theirs = pair.bob.incoming[0]
    theirs.ring()
    pair.wait()
    call.hangup(reason='SIP;cause=200;text="Call completed elsewhere"')
    assert pair.ana.endings(call) == [Cancelled('SIP;cause=200;text="Call completed elsewhere"')]
    pair.wait()
    assert pair.bob.endings(theirs) == [Cancelled('SIP;cause=200;text="Call completed elsewhere"')]
    assert pair.network.methods()[3:] == ["CANCEL", "200", "487", "ACK"]
    tags = {r.to.tag for r in (*pair.network.responses(180), *pair.network.responses(487))}
    assert len(tags) == 1
    theirs.accept(ANSWER)  # too late, and harmless
    pair.rest()


def test_a_cancel_waits_for_a_provisional(pair: Pair) -> None:
    pair.network.drops = lambda message, to: isinstance(message, Response) and pair.clock.seconds() < 3
    call = pair.ana.call(pair.bob)
    late: list[int] = []
    call.on_late = late.append
    pair.wait()
    call.hangup()
    assert pair.ana.endings(call) == [Cancelled("")]
    pair.wait(1)
    assert not pair.network.requests("CANCEL")
    pair.wait(4)
    assert late == [100]
    assert len(pair.network.requests("CANCEL")) == 1
    assert pair.bob.endings(pair.bob.incoming[0]) == [Cancelled("")]
    pair.rest()


@pytest.mark.parametrize("after", [5, 31, 40, 60])
def test_a_silent_phone_that_answers_late_gets_ack_and_bye(pair: Pair, after: float) -> None:
    pair.network.drops = lambda message, to: (
        isinstance(message, Response) and pair.clock.seconds() < after and message.cseq.method == "INVITE"
    )
    call = pair.ana.call(pair.bob)
    pair.wait(4)
    call.hangup()
    pair.wait(after - 4.2)
    pair.bob.incoming[0].accept(ANSWER)
    pair.wait(5)
    assert pair.ana.endings(call) == [Cancelled("")]
    assert pair.network.requests("ACK")
    assert pair.bob.endings(pair.bob.incoming[0]) == [Ended("peer", "")]
    pair.rest()


def test_a_silent_phone_that_rings_late_is_cancelled(pair: Pair) -> None:
    pair.network.drops = lambda message, to: isinstance(message, Response) and pair.clock.seconds() < 45
    call = pair.ana.call(pair.bob)
    pair.wait(20)
    call.hangup()
    pair.wait(26)
    assert not pair.network.requests("CANCEL")
    pair.bob.incoming[0].ring()
    pair.wait(1)
    assert len(pair.network.requests("CANCEL")) == 1
    assert pair.bob.endings(pair.bob.incoming[0]) == [Cancelled("")]
    assert pair.ana.endings(call) == [Cancelled("")]
    pair.rest()


def test_the_first_answer_of_a_fork_wins_and_the_other_gets_a_bye(pair: Pair) -> None:
    eve = Phone(pair.network, "10.0.0.3")
    forked: list[Request] = []

    def fork(message: Message, to: Address) -> bool:
        # A forking proxy: Eve gets what Bob gets, and answers straight to Ana.
        if isinstance(message, Request) and message.method == "INVITE" and to == pair.bob.address:
            forked.append(message)
            pair.network.clock.callLater(0, eve.transports.arrived, pair.ana.address, message.to_bytes())
        return False

    pair.network.drops = fork
    pair.bob.on_invite = eve.on_invite = lambda call: call.ring()
    call = pair.ana.call(pair.bob)
    pair.wait()
    rung = [event for event in pair.ana.events[call] if isinstance(event, Progress) and event.status == 180]
    assert len(rung) == 2
    assert len(pair.ana.agent.dialogs) == 2
    eve.incoming[0].accept(ANSWER)
    pair.bob.incoming[0].accept(ANSWER)
    pair.wait()
    assert pair.ana.kinds(call).count("Accepted") == 1
    assert eve.kinds(eve.incoming[0]) == ["Confirmed"]
    assert pair.bob.endings(pair.bob.incoming[0]) == [Ended("peer", "")]
    call.hangup()
    pair.wait()
    assert eve.endings(eve.incoming[0]) == [Ended("peer", "")]
    pair.rest()


def test_a_cancel_nobody_answers_is_given_up(pair: Pair) -> None:
    call = pair.ana.call(pair.bob)
    pair.wait()
    pair.network.drops = lambda message, to: True
    call.hangup()
    assert pair.ana.endings(call) == [Cancelled("")]
    pair.wait(100)
    assert pair.ana.at_rest()


def test_a_cancel_that_crosses_the_answer_ends_in_ack_and_bye(pair: Pair) -> None:
    call, theirs = pair.called()
    theirs.ring()
    pair.wait()
    late: list[int] = []
    call.on_late = late.append
    theirs.accept(ANSWER)
    call.hangup()
    pair.wait()
    assert pair.ana.endings(call) == [Cancelled("")]
    assert late == [200]
    assert pair.bob.events[theirs] == [Confirmed(b""), Ended("peer", "")]
    assert pair.network.responses(200, "CANCEL")  # there was a transaction to cancel (RFC 3261 §9.2)
    pair.rest()


def test_every_phone_of_a_fork_that_answers_after_the_cancel_is_hung_up_on(pair: Pair) -> None:
    others = [Phone(pair.network, f"10.0.0.{number}") for number in (3, 4)]

    def fork(message: Message, to: Address) -> bool:
        if isinstance(message, Request) and message.method == "INVITE" and to == pair.bob.address:
            for other in others:
                pair.clock.callLater(0, other.transports.arrived, pair.ana.address, message.to_bytes())
        return False

    pair.network.drops = fork
    call, theirs = pair.called()
    rung = [theirs, *(other.incoming[0] for other in others)]
    for one in rung:
        one.ring()
    pair.wait()
    assert len(pair.ana.agent.dialogs) == 3
    for one in rung:
        one.accept(ANSWER)
    call.hangup()
    pair.wait()
    assert pair.ana.endings(call) == [Cancelled("")]
    assert len(pair.network.requests("BYE")) == 3
    assert {bye.to.tag for bye in pair.network.requests("BYE")} == {
        one.dialog.local_tag for one in rung if one.dialog is not None
    }
    assert all(one.ended for one in rung)
    pair.rest()
    assert all(other.at_rest() for other in others)


def test_a_fork_that_rings_on_after_another_has_answered_is_forgotten(pair: Pair) -> None:
    call, theirs = pair.called()
    theirs.ring()
    pair.wait()
    rung = pair.network.responses(180)[0].copy()
    rung.headers.set("To", "<sip:you@10.0.0.2>;tag=other")
    pair.ana.transports.arrived(pair.bob.address, rung.to_bytes())
    assert len(pair.ana.agent.dialogs) == 2
    theirs.accept(ANSWER)
    pair.wait()
    assert len(pair.ana.agent.dialogs) == 1
    pair.ana.transports.arrived(pair.bob.address, rung.to_bytes())
    assert len(pair.ana.agent.dialogs) == 1
    assert pair.ana.kinds(call)[-1] == "Accepted"
    call.hangup()
    pair.rest()
