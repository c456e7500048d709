"""The timers of RFC 3261 §17 (as changed by RFC 6026) and how long each one runs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Timer(Enum):
    """One timer of a transaction; the letters are RFC 3261's and RFC 6026's."""

    A = "A"  # INVITE client: send the request again
    B = "B"  # INVITE client: nobody answered
    D = "D"  # INVITE client: absorb repeated refusals
    E = "E"  # non-INVITE client: send the request again
    F = "F"  # non-INVITE client: nobody answered
    G = "G"  # INVITE server: send the refusal again
    H = "H"  # INVITE server: no ACK came
    I = "I"  # noqa: E741  INVITE server: absorb repeated ACKs
    J = "J"  # non-INVITE server: absorb repeated requests
    K = "K"  # non-INVITE client: absorb repeated responses
    L = "L"  # INVITE server: absorb repeated INVITEs after a 2xx
    M = "M"  # INVITE client: pass up repeated 2xx
    LATE = "late"  # INVITE client given up: how long a late answer is still recognised
    TRYING = "trying"  # non-INVITE server: a 100 is due (RFC 4320 §4.1)
    SILENCE = "silence"  # non-INVITE server: too late for any answer (RFC 4320 §4.2)

    # Members are singletons; Enum's own hash runs in Python and would be paid at each table lookup.
    __hash__ = object.__hash__


RETRANSMISSION = frozenset({Timer.A, Timer.E, Timer.G})
ONLY_FORGETS = frozenset({Timer.D, Timer.I, Timer.J, Timer.K, Timer.L, Timer.M, Timer.LATE})
"""When one of these fires the transaction ends, and nothing is sent or told."""
UNRELIABLE_ONLY = frozenset({Timer.D, Timer.I, Timer.J, Timer.K})


@dataclass(frozen=True, slots=True)
class Timing:
    """T1 (round trip estimate), T2 (longest retransmission interval), T4 (longest life of a message), in seconds."""

    t1: float = 0.5
    t2: float = 4.0
    t4: float = 5.0

    @property
    def lifetime(self) -> float:
        """64*T1: how long a transaction keeps trying, and how long it remembers."""
        return 64 * self.t1

    def seconds(self, timer: Timer, reliable: bool) -> float | None:
        """How long `timer` runs; None where it is not run at all, 0 where it fires at once.

        For a retransmission timer this is its first interval. Timers L and M keep their length on reliable
        transports (RFC 6026 §8.4, §8.5), the others follow RFC 3261 table 4.
        """
        if timer in RETRANSMISSION:
            return None if reliable else self.t1
        if timer in UNRELIABLE_ONLY and reliable:
            return 0.0
        if timer is Timer.I or timer is Timer.K:
            return self.t4
        if timer is Timer.TRYING:
            return self.until_t2()
        return self.lifetime

    def until_t2(self) -> float:
        """The time after which a client's Timer E has grown to T2 (RFC 4320 §4.1)."""
        interval, total = self.t1, 0.0
        while interval < self.t2:
            total += interval
            interval *= 2
        return total


TIMING = Timing()
