"""Client transactions: RFC 3261 §17.1, with the Accepted state of RFC 6026 §7.2.

One state is ours. A request nobody answered is ABANDONED for 64*T1 more: the transaction user has been told that it
timed out, yet a phone that rings or answers late can still be hung up on.
"""

from __future__ import annotations

from enum import Enum

from sip_trunk.sip.machine import Do, Event, Machine, Moves, Start, StopTimer
from sip_trunk.sip.timers import TIMING, Timer, Timing


class State(Enum):
    CALLING = "calling"  # INVITE only
    TRYING = "trying"  # non-INVITE only
    PROCEEDING = "proceeding"
    COMPLETED = "completed"
    ACCEPTED = "accepted"  # INVITE only
    ABANDONED = "abandoned"  # INVITE only
    TERMINATED = "terminated"

    __hash__ = object.__hash__


STOP_A, STOP_B, STOP_E, STOP_F = (StopTimer(timer) for timer in (Timer.A, Timer.B, Timer.E, Timer.F))
A, B, D, E, F, K, M, LATE = (
    Start(timer) for timer in (Timer.A, Timer.B, Timer.D, Timer.E, Timer.F, Timer.K, Timer.M, Timer.LATE)
)

INVITE_MOVES: Moves[State] = {
    (State.CALLING, Event.START): (State.CALLING, (Do.SEND, A, B)),
    (State.CALLING, Timer.A): (State.CALLING, (Do.SEND, A)),
    (State.CALLING, Timer.B): (State.ABANDONED, (STOP_A, LATE, Do.TIMED_OUT)),
    (State.CALLING, Event.PROVISIONAL): (State.PROCEEDING, (STOP_A, STOP_B, Do.DELIVER)),
    (State.CALLING, Event.SUCCESS): (State.ACCEPTED, (STOP_A, M, Do.DELIVER)),
    (State.CALLING, Event.FAILURE): (State.COMPLETED, (STOP_A, Do.SEND_ACK, D, Do.DELIVER)),
    (State.CALLING, Event.ABANDON): (State.ABANDONED, (STOP_A, LATE)),
    (State.CALLING, Event.TRANSPORT_ERROR): (State.TERMINATED, (Do.TRANSPORT_FAILED, Do.TERMINATED)),
    (State.PROCEEDING, Event.PROVISIONAL): (State.PROCEEDING, (Do.DELIVER,)),
    (State.PROCEEDING, Event.SUCCESS): (State.ACCEPTED, (M, Do.DELIVER)),
    (State.PROCEEDING, Event.FAILURE): (State.COMPLETED, (Do.SEND_ACK, D, Do.DELIVER)),
    (State.PROCEEDING, Event.ABANDON): (State.ABANDONED, (LATE,)),
    (State.PROCEEDING, Event.TRANSPORT_ERROR): (State.TERMINATED, (Do.TRANSPORT_FAILED, Do.TERMINATED)),
    (State.COMPLETED, Event.FAILURE): (State.COMPLETED, (Do.SEND_ACK,)),
    (State.COMPLETED, Timer.D): (State.TERMINATED, (Do.TERMINATED,)),
    (State.COMPLETED, Event.TRANSPORT_ERROR): (State.TERMINATED, (Do.TERMINATED,)),
    (State.ACCEPTED, Event.SUCCESS): (State.ACCEPTED, (Do.DELIVER,)),
    (State.ACCEPTED, Timer.M): (State.TERMINATED, (Do.TERMINATED,)),
    # No broken transport ends this state or the last one: a 2xx may come by another connection (RFC 3261 §18.2.2).
    (State.ABANDONED, Event.PROVISIONAL): (State.ABANDONED, (Do.DELIVER,)),
    (State.ABANDONED, Event.SUCCESS): (State.ACCEPTED, (M, Do.DELIVER)),
    (State.ABANDONED, Event.FAILURE): (State.COMPLETED, (Do.SEND_ACK, D, Do.DELIVER)),
    (State.ABANDONED, Timer.LATE): (State.TERMINATED, (Do.TERMINATED,)),
}

NON_INVITE_MOVES: Moves[State] = {
    (State.TRYING, Event.START): (State.TRYING, (Do.SEND, E, F)),
    (State.TRYING, Timer.E): (State.TRYING, (Do.SEND, E)),
    (State.TRYING, Timer.F): (State.TERMINATED, (Do.TIMED_OUT, Do.TERMINATED)),
    (State.TRYING, Event.PROVISIONAL): (State.PROCEEDING, (Do.DELIVER,)),
    (State.TRYING, Event.FINAL): (State.COMPLETED, (STOP_E, STOP_F, K, Do.DELIVER)),
    (State.TRYING, Event.TRANSPORT_ERROR): (State.TERMINATED, (Do.TRANSPORT_FAILED, Do.TERMINATED)),
    (State.PROCEEDING, Timer.E): (State.PROCEEDING, (Do.SEND, E)),
    (State.PROCEEDING, Timer.F): (State.TERMINATED, (Do.TIMED_OUT, Do.TERMINATED)),
    (State.PROCEEDING, Event.PROVISIONAL): (State.PROCEEDING, (Do.DELIVER,)),
    (State.PROCEEDING, Event.FINAL): (State.COMPLETED, (STOP_E, STOP_F, K, Do.DELIVER)),
    (State.PROCEEDING, Event.TRANSPORT_ERROR): (State.TERMINATED, (Do.TRANSPORT_FAILED, Do.TERMINATED)),
    (State.COMPLETED, Timer.K): (State.TERMINATED, (Do.TERMINATED,)),
    (State.COMPLETED, Event.TRANSPORT_ERROR): (State.TERMINATED, (Do.TERMINATED,)),
}


class InviteClient(Machine[State]):
    """RFC 3261 §17.1.1 and RFC 6026 §7.2."""

    MOVES = INVITE_MOVES
    __slots__ = ()

    def __init__(self, reliable: bool, timing: Timing = TIMING) -> None:
        super().__init__(State.CALLING, reliable, timing)

    @staticmethod
    def kind(status: int) -> Event:
        """The event that a response with this status is."""
        return Event.PROVISIONAL if status < 200 else Event.SUCCESS if status < 300 else Event.FAILURE


class NonInviteClient(Machine[State]):
    """RFC 3261 §17.1.2."""

    MOVES = NON_INVITE_MOVES
    __slots__ = ()

    def __init__(self, reliable: bool, timing: Timing = TIMING) -> None:
        super().__init__(State.TRYING, reliable, timing)

    @staticmethod
    def kind(status: int) -> Event:
        """The event that a response with this status is."""
        return Event.PROVISIONAL if status < 200 else Event.FINAL

    def _next_interval(self, timer: Timer, last: float) -> float:
        if self.state is State.PROCEEDING:  # §17.1.2.2: after a provisional, every T2
            return self.timing.t2
        return super()._next_interval(timer, last)
