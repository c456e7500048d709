from __future__ import annotations

from sip_trunk.sip.machine import Do, Event, StartTimer, StopTimer
from sip_trunk.sip.server_transaction import InviteServer, NonInviteServer, State
from sip_trunk.sip.timers import Timer


def test_a_repeated_invite_gets_the_last_provisional_again() -> None:
    machine = InviteServer(False)
    assert machine.step(Event.UNANSWERED, 0) == [Do.SEND_TRYING]
    assert machine.step(Event.PROVISIONAL, 1) == [Do.SEND]
    assert machine.step(Event.REQUEST, 2) == [Do.SEND]


def test_a_refusal_is_sent_again_until_the_ack() -> None:
    machine = InviteServer(False)
    assert machine.step(Event.FAILURE, 0) == [Do.SEND, StartTimer(Timer.G, 0.5), StartTimer(Timer.H, 32)]
    sent, at = [], 0.5
    while at < 20:
        effects = machine.step(Timer.G, at)
        assert effects[0] is Do.SEND
        sent.append(at)
        assert isinstance(effects[1], StartTimer)
        at = effects[1].at
    assert sent == [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5]
    assert machine.step(Event.REQUEST, 20) == [Do.SEND]
    assert machine.step(Event.ACK, 21) == [
        StopTimer(Timer.G),
        StopTimer(Timer.H),
        StartTimer(Timer.I, 26),
    ]
    assert machine.step(Event.ACK, 22) == machine.step(Event.REQUEST, 22) == []
    assert machine.step(Timer.I, 26) == [Do.TERMINATED]


def test_a_refusal_without_ack_times_out() -> None:
    machine = InviteServer(False)
    machine.step(Event.FAILURE, 0)
    assert machine.step(Timer.H, 32) == [Do.TIMED_OUT, Do.TERMINATED]


def test_on_a_reliable_transport_a_refusal_is_sent_once_and_the_ack_ends_it() -> None:
    machine = InviteServer(True)
    assert machine.step(Event.FAILURE, 0) == [Do.SEND, StartTimer(Timer.H, 32)]
    assert machine.step(Event.ACK, 1)[-1] is Do.TERMINATED


def test_after_a_2xx_repeated_invites_are_absorbed_and_the_2xx_may_be_repeated_from_above() -> None:
    machine = InviteServer(False)
    assert machine.step(Event.SUCCESS, 0) == [Do.SEND, StartTimer(Timer.L, 32)]
    assert machine.step(Event.REQUEST, 1) == []
    assert machine.step(Event.SUCCESS, 2) == [Do.SEND]
    assert machine.step(Event.FAILURE, 2) == []
    assert machine.step(Event.ACK, 3) == [Do.DELIVER]
    assert machine.step(Timer.L, 32) == [Do.TERMINATED]


def test_timer_l_runs_its_full_length_on_reliable_transports() -> None:
    assert InviteServer(True).step(Event.SUCCESS, 0) == [Do.SEND, StartTimer(Timer.L, 32)]


def test_a_broken_transport_leaves_an_unanswered_invite_to_its_owner() -> None:
    machine = InviteServer(True)
    assert machine.step(Event.TRANSPORT_ERROR, 0) == [Do.TRANSPORT_FAILED]
    machine.step(Event.FAILURE, 1)
    assert machine.step(Event.TRANSPORT_ERROR, 1) == [Do.TRANSPORT_FAILED, Do.TERMINATED]


def test_an_answer_is_repeated_for_a_repeated_request_until_timer_j() -> None:
    machine = NonInviteServer(False)
    assert machine.step(Event.REQUEST, 0) == []
    assert machine.step(Event.FINAL, 1) == [StopTimer(Timer.TRYING), Do.SEND, StartTimer(Timer.J, 33)]
    assert machine.step(Event.REQUEST, 2) == [Do.SEND]
    assert machine.step(Event.FINAL, 2) == []
    assert machine.step(Timer.J, 33) == [Do.TERMINATED]


def test_on_a_reliable_transport_an_answer_ends_the_transaction() -> None:
    machine = NonInviteServer(True)
    assert machine.step(Event.FINAL, 1) == [StopTimer(Timer.TRYING), Do.SEND, Do.TERMINATED]


def test_a_slow_answer_is_announced_by_a_100_only_when_the_peer_has_slowed_down() -> None:
    machine = NonInviteServer(False)
    effects = machine.step(Event.UNANSWERED, 0)
    assert effects == [StartTimer(Timer.TRYING, 3.5), StartTimer(Timer.SILENCE, 32)]
    assert machine.step(Timer.TRYING, 3.5) == [Do.SEND_TRYING]
    assert machine.state is State.PROCEEDING


def test_after_64_t1_a_request_is_never_answered_not_even_408() -> None:
    machine = NonInviteServer(False)
    machine.step(Event.UNANSWERED, 0)
    machine.step(Timer.TRYING, 3.5)
    assert machine.step(Timer.SILENCE, 32) == [Do.TIMED_OUT, Do.TERMINATED]
    assert machine.step(Event.FINAL, 33) == []
