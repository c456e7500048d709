from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sip_trunk.sip.client_transaction import (
    INVITE_MOVES,
    NON_INVITE_MOVES,
    InviteClient,
    NonInviteClient,
    State,
)
from sip_trunk.sip.machine import Do, Effect, Event, Machine, StartTimer, StopTimer
from sip_trunk.sip.timers import RETRANSMISSION, Timer


def starts(effects: list[Effect]) -> dict[Timer, float]:
    return {effect.timer: effect.at for effect in effects if isinstance(effect, StartTimer)}


def retransmissions(machine: Machine[Any], timer: Timer, end: float) -> list[float]:
    """When the request goes out, if nothing ever comes back."""
    sent = []
    effects, now = machine.step(Event.START, 0.0), 0.0
    while True:
        if Do.SEND in effects:
            sent.append(now)
        now = starts(effects)[timer]
        if now >= end:
            return sent
        effects = machine.step(timer, now)


def test_an_invite_is_sent_again_at_doubling_intervals() -> None:
    assert retransmissions(InviteClient(False), Timer.A, 32) == [0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5]


def test_another_request_is_sent_again_at_most_every_t2() -> None:
    times = retransmissions(NonInviteClient(False), Timer.E, 32)
    assert times == [0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]


def test_after_a_provisional_a_request_is_sent_again_every_t2() -> None:
    machine = NonInviteClient(False)
    machine.step(Event.START, 0)
    assert machine.step(Event.PROVISIONAL, 0.1) == [Do.DELIVER]
    assert machine.step(Timer.E, 0.5) == [Do.SEND, StartTimer(Timer.E, 4.5)]


def test_nothing_is_sent_again_on_a_reliable_transport() -> None:
    assert InviteClient(True).step(Event.START, 1.0) == [Do.SEND, StartTimer(Timer.B, 33.0)]
    assert NonInviteClient(True).step(Event.START, 1.0) == [Do.SEND, StartTimer(Timer.F, 33.0)]


def test_a_refusal_is_acknowledged_each_time_it_comes() -> None:
    machine = InviteClient(False)
    machine.step(Event.START, 0)
    effects = machine.step(Event.FAILURE, 1)
    assert [e for e in effects if isinstance(e, Do)] == [Do.SEND_ACK, Do.DELIVER]
    assert starts(effects) == {Timer.D: 33}
    assert machine.step(Event.FAILURE, 2) == [Do.SEND_ACK]
    assert machine.step(Timer.D, 33) == [Do.TERMINATED]


def test_on_a_reliable_transport_a_refusal_ends_the_transaction_after_its_delivery() -> None:
    machine = InviteClient(True)
    machine.step(Event.START, 0)
    assert machine.step(Event.FAILURE, 1)[-2:] == [Do.DELIVER, Do.TERMINATED]
    assert machine.state is State.TERMINATED


@pytest.mark.parametrize("reliable", [False, True])
def test_every_2xx_is_delivered_until_timer_m(reliable: bool) -> None:
    machine = InviteClient(reliable)
    machine.step(Event.START, 0)
    machine.step(Event.PROVISIONAL, 0.1)
    assert machine.step(Event.SUCCESS, 1) == [StartTimer(Timer.M, 33), Do.DELIVER]
    assert machine.step(Event.SUCCESS, 2) == [Do.DELIVER]
    assert machine.step(Event.PROVISIONAL, 2) == []
    assert machine.step(Event.FAILURE, 2) == []
    assert machine.step(Timer.M, 33) == [Do.TERMINATED]


def test_an_invite_nobody_answers_times_out_and_still_hears_late_answers() -> None:
    machine = InviteClient(False)
    machine.step(Event.START, 0)
    effects = machine.step(Timer.B, 32)
    assert Do.TIMED_OUT in effects
    assert StopTimer(Timer.A) in effects
    assert machine.step(Event.PROVISIONAL, 40) == [Do.DELIVER]
    assert Do.DELIVER in machine.step(Event.SUCCESS, 50)
    assert machine.state is State.ACCEPTED


def test_an_abandoned_invite_ends_by_itself() -> None:
    machine = InviteClient(False)
    machine.step(Event.START, 0)
    machine.step(Event.PROVISIONAL, 1)
    assert machine.step(Event.ABANDON, 40) == [StartTimer(Timer.LATE, 72)]
    assert machine.step(Timer.LATE, 72) == [Do.TERMINATED]


def test_a_request_nobody_answers_times_out() -> None:
    machine = NonInviteClient(False)
    machine.step(Event.START, 0)
    assert machine.step(Timer.F, 32) == [Do.TIMED_OUT, Do.TERMINATED]


@pytest.mark.parametrize("machine", [InviteClient(True), NonInviteClient(True)])
def test_a_broken_transport_is_told_at_once(machine: Machine[Any]) -> None:
    machine.step(Event.START, 0)
    assert machine.step(Event.TRANSPORT_ERROR, 1) == [Do.TRANSPORT_FAILED, Do.TERMINATED]


@pytest.mark.parametrize("moves", [INVITE_MOVES, NON_INVITE_MOVES])
def test_every_state_but_the_last_is_left_by_a_timer_or_an_answer(moves: Any) -> None:
    states = {state for state, _ in moves}
    assert State.TERMINATED not in states
    for state in states:
        assert any(now is not state for (was, _), (now, _) in moves.items() if was is state)


@given(st.booleans(), st.booleans(), st.lists(st.sampled_from([*Event, "timer", "repeat"]), max_size=40))
def test_whatever_happens_a_machine_ends_once_and_leaves_no_timer_without_a_state_for_it(
    invite: bool, reliable: bool, happenings: list[Any]
) -> None:
    machine: Machine[Any] = InviteClient(reliable) if invite else NonInviteClient(reliable)
    ending: Timer | None = None
    again: Timer | None = None
    ended = now = 0.0

    def feed(event: Event | Timer) -> None:
        nonlocal ending, again, ended
        for effect in machine.step(event, now):
            if isinstance(effect, StartTimer):
                if effect.timer in RETRANSMISSION:
                    again = effect.timer
                else:
                    ending = effect.timer
            elif isinstance(effect, StopTimer):
                if effect.timer in RETRANSMISSION:
                    again = None
                else:
                    ending = None
            elif effect is Do.TERMINATED:
                ended += 1

    feed(Event.START)
    for what in happenings:
        now += 1
        if what == "timer":
            timer, ending = ending, None
        elif what == "repeat":
            timer, again = again, None
        else:
            feed(what)
            continue
        if timer is not None:
            feed(timer)
    feed(Event.ABANDON)
    for _ in range(3):
        timer, ending = ending, None
        if timer is not None:
            feed(timer)
    assert machine.state is State.TERMINATED
    assert ended == 1
