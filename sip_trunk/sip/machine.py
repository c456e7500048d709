"""What the four transaction machines share: events in, effects out, one table of moves each.

A machine knows no messages, sockets or clock. Whoever drives it hands in an event and the time, and carries out the
effects in the order given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, Generic, TypeVar

from sip_trunk.sip.timers import RETRANSMISSION, TIMING, Timer, Timing


class Event(Enum):
    """What can happen to a transaction, besides one of its timers firing."""

    START = "start"
    PROVISIONAL = "1xx"  # received by a client, or given by the transaction user to a server
    SUCCESS = "2xx"  # INVITE only
    FAILURE = "300-699"  # INVITE only
    FINAL = "200-699"  # non-INVITE only
    REQUEST = "request"  # the same request came again
    ACK = "ack"
    UNANSWERED = "unanswered"  # the transaction user did not answer while it was handed the request
    ABANDON = "abandon"  # the transaction user waits no longer (RFC 3261 §9.1, after CANCEL)
    TRANSPORT_ERROR = "transport error"

    __hash__ = object.__hash__


class Do(Enum):
    """Effects that need no parameter."""

    SEND = "send"  # the request (client) or the latest response (server)
    SEND_TRYING = "send 100"
    SEND_ACK = "send ACK"  # for the refusal that just came
    DELIVER = "deliver"  # what just came goes up to the transaction user
    TIMED_OUT = "timed out"
    TRANSPORT_FAILED = "transport failed"
    TERMINATED = "terminated"

    __hash__ = object.__hash__


@dataclass(frozen=True, slots=True)
class StartTimer:
    """Run `timer` until `at`; it replaces a running timer of the same sort (retransmission, or any other)."""

    timer: Timer
    at: float


@dataclass(frozen=True, slots=True)
class StopTimer:
    timer: Timer


@dataclass(frozen=True, slots=True)
class Start:
    """In a table of moves: start `timer`, for as long as the machine's timing says."""

    timer: Timer


Effect = Do | StartTimer | StopTimer
Step = Do | Start | StopTimer


S = TypeVar("S", bound=Enum)
Moves = Mapping[tuple[S, Event | Timer], tuple[S, tuple[Step, ...]]]


class Machine(Generic[S]):
    """A table of moves, walked. A pair that is not in the table changes nothing, as the RFCs' figures have it."""

    MOVES: ClassVar[Moves]  # type: ignore[type-arg]
    __slots__ = ("_interval", "reliable", "state", "timing")

    def __init__(self, state: S, reliable: bool, timing: Timing = TIMING) -> None:
        self.state = state
        self.reliable = reliable
        self.timing = timing
        self._interval = 0.0

    def step(self, event: Event | Timer, now: float) -> list[Effect]:
        """Make the move for `event`; the effects are to be carried out in order."""
        move = self.MOVES.get((self.state, event))
        if move is None:
            return []
        self.state, steps = move
        effects: list[Effect] = []
        over: Timer | None = None
        for step in steps:
            if type(step) is Start:
                seconds = self._seconds(step.timer)
                if seconds is None:
                    continue
                if seconds > 0:
                    effects.append(StartTimer(step.timer, now + seconds))
                else:
                    over = step.timer
            else:
                effects.append(step)  # type: ignore[arg-type]
        if over is not None:
            effects += self.step(over, now)
        return effects

    def _seconds(self, timer: Timer) -> float | None:
        seconds = self.timing.seconds(timer, self.reliable)
        if seconds is None or timer not in RETRANSMISSION:
            return seconds
        self._interval = self._next_interval(timer, self._interval)
        return self._interval

    def _next_interval(self, timer: Timer, last: float) -> float:
        if not last:
            return self.timing.t1
        if timer is Timer.A:  # RFC 3261 §17.1.1.2: doubles without bound until Timer B
            return last * 2
        return min(last * 2, self.timing.t2)
