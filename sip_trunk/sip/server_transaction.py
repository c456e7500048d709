"""Server transactions: RFC 3261 §17.2, with the Accepted state of RFC 6026 §7.1 and the silence of RFC 4320."""

from __future__ import annotations

from enum import Enum

from sip_trunk.sip.machine import Do, Event, Machine, Moves, Start, StopTimer
from sip_trunk.sip.timers import TIMING, Timer, Timing


class State(Enum):
    TRYING = "trying"  # non-INVITE only
    PROCEEDING = "proceeding"
    COMPLETED = "completed"
    CONFIRMED = "confirmed"  # INVITE only
    ACCEPTED = "accepted"  # INVITE only
    TERMINATED = "terminated"

    __hash__ = object.__hash__


STOP_G, STOP_H, STOP_TRYING = (StopTimer(timer) for timer in (Timer.G, Timer.H, Timer.TRYING))
G, H, I, J, L, TRYING, SILENCE = (  # noqa: E741
    Start(timer) for timer in (Timer.G, Timer.H, Timer.I, Timer.J, Timer.L, Timer.TRYING, Timer.SILENCE)
)

INVITE_MOVES: Moves[State] = {
    (State.PROCEEDING, Event.UNANSWERED): (State.PROCEEDING, (Do.SEND_TRYING,)),
    (State.PROCEEDING, Event.REQUEST): (State.PROCEEDING, (Do.SEND,)),
    (State.PROCEEDING, Event.PROVISIONAL): (State.PROCEEDING, (Do.SEND,)),
    (State.PROCEEDING, Event.SUCCESS): (State.ACCEPTED, (Do.SEND, L)),
    (State.PROCEEDING, Event.FAILURE): (State.COMPLETED, (Do.SEND, G, H)),
    (State.PROCEEDING, Event.TRANSPORT_ERROR): (State.PROCEEDING, (Do.TRANSPORT_FAILED,)),
    (State.COMPLETED, Event.REQUEST): (State.COMPLETED, (Do.SEND,)),
    (State.COMPLETED, Timer.G): (State.COMPLETED, (Do.SEND, G)),
    (State.COMPLETED, Event.ACK): (State.CONFIRMED, (STOP_G, STOP_H, I)),
    (State.COMPLETED, Timer.H): (State.TERMINATED, (Do.TIMED_OUT, Do.TERMINATED)),
    (State.COMPLETED, Event.TRANSPORT_ERROR): (State.TERMINATED, (Do.TRANSPORT_FAILED, Do.TERMINATED)),
    (State.CONFIRMED, Timer.I): (State.TERMINATED, (Do.TERMINATED,)),
    (State.ACCEPTED, Event.SUCCESS): (State.ACCEPTED, (Do.SEND,)),
    (State.ACCEPTED, Event.ACK): (State.ACCEPTED, (Do.DELIVER,)),
    (State.ACCEPTED, Event.TRANSPORT_ERROR): (State.ACCEPTED, (Do.TRANSPORT_FAILED,)),
    (State.ACCEPTED, Timer.L): (State.TERMINATED, (Do.TERMINATED,)),
}

NON_INVITE_MOVES: Moves[State] = {
    (State.TRYING, Event.UNANSWERED): (State.TRYING, (TRYING, SILENCE)),
    (State.TRYING, Timer.TRYING): (State.PROCEEDING, (Do.SEND_TRYING,)),
    # RFC 4320 §4.2: no 408; whoever asked has given up by now and would take it for news about somebody else.
    (State.TRYING, Timer.SILENCE): (State.TERMINATED, (Do.TIMED_OUT, Do.TERMINATED)),
    (State.TRYING, Event.PROVISIONAL): (State.PROCEEDING, (Do.SEND,)),
    (State.TRYING, Event.FINAL): (State.COMPLETED, (STOP_TRYING, Do.SEND, J)),
    (State.TRYING, Event.TRANSPORT_ERROR): (State.TERMINATED, (Do.TRANSPORT_FAILED, Do.TERMINATED)),
    (State.PROCEEDING, Event.REQUEST): (State.PROCEEDING, (Do.SEND,)),
    (State.PROCEEDING, Event.PROVISIONAL): (State.PROCEEDING, (Do.SEND,)),
    (State.PROCEEDING, Event.FINAL): (State.COMPLETED, (STOP_TRYING, Do.SEND, J)),
    (State.PROCEEDING, Timer.SILENCE): (State.TERMINATED, (Do.TIMED_OUT, Do.TERMINATED)),
    (State.PROCEEDING, Event.TRANSPORT_ERROR): (State.TERMINATED, (Do.TRANSPORT_FAILED, Do.TERMINATED)),
    (State.COMPLETED, Event.REQUEST): (State.COMPLETED, (Do.SEND,)),
    (State.COMPLETED, Event.TRANSPORT_ERROR): (State.TERMINATED, (Do.TRANSPORT_FAILED, Do.TERMINATED)),
    (State.COMPLETED, Timer.J): (State.TERMINATED, (Do.TERMINATED,)),
}


class InviteServer(Machine[State]):
    """RFC 3261 §17.2.1 and RFC 6026 §7.1."""

    MOVES = INVITE_MOVES
    __slots__ = ()

    def __init__(self, reliable: bool, timing: Timing = TIMING) -> None:
        super().__init__(State.PROCEEDING, reliable, timing)

    @staticmethod
    def kind(status: int) -> Event:
        """The event that answering with this status is."""
        return Event.PROVISIONAL if status < 200 else Event.SUCCESS if status < 300 else Event.FAILURE


class NonInviteServer(Machine[State]):
    """RFC 3261 §17.2.2 and RFC 4320."""

    MOVES = NON_INVITE_MOVES
    __slots__ = ()

    def __init__(self, reliable: bool, timing: Timing = TIMING) -> None:
        super().__init__(State.TRYING, reliable, timing)

    @staticmethod
    def kind(status: int) -> Event:
        """The event that answering with this status is."""
        return Event.PROVISIONAL if status < 200 else Event.FINAL
