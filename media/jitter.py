"""A small jitter buffer: packets of speech come out in order and at their time, and those that are lost as silence.

Pure: nothing is decoded here. Times are seconds of any clock.
"""

from __future__ import annotations

from bisect import bisect_left
from operator import itemgetter
from typing import NamedTuple

from media.rtp import Heard

# What lies between the arrival of a packet and its being heard: the time in which others may overtake it.
DELAY_S = 0.040
# A sender whose clock is faster than ours is caught up with once this much is waiting.
MOST_S = 0.160
MOST_PACKETS = 64
# A timestamp further away is that of a source that began anew.
JUMP_S = 1.0


class Piece(NamedTuple):
    """`payload` is None for what was lost or never sent: silence of so many seconds."""

    codec: str
    payload: bytes | None
    seconds: float = 0.0


class Jitter:
    """The packets of one branch. `take` as often as there is room for sound; `played` says how long it was.

    Timestamps are counted on from the first of a source, past where they wrap around (RFC 3550 section 5.1).
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[int, str, bytes]] = []  # in the order of their timestamps
        self._ssrc: int | None = None
        self._clock = 8000
        self._newest = 0
        self._due: int | None = None  # the timestamp that is to be heard next; None while sound gathers
        self._first_at = 0.0

    def put(self, codec: str, clock: int, packet: Heard) -> None:
        if packet.ssrc != self._ssrc or clock != self._clock:
            self._ssrc, self._clock, self._newest = packet.ssrc, clock, packet.timestamp
            self._begin_anew()
        stamp = self._newest + ((packet.timestamp - self._newest + 0x80000000) & 0xFFFFFFFF) - 0x80000000
        self._newest = stamp
        due, waiting = self._due, self._waiting
        if due is not None and stamp < due:
            if due - stamp < JUMP_S * clock:
                return  # too late
            self._begin_anew()
        elif due is not None and stamp - due > JUMP_S * clock:
            self._begin_anew()
        if not waiting:
            self._first_at = packet.at
        arrived = stamp, codec, packet.payload
        if not waiting or stamp > waiting[-1][0]:
            waiting.append(arrived)
        else:
            at = bisect_left(waiting, stamp, key=itemgetter(0))
            if waiting[at][0] != stamp:
                waiting.insert(at, arrived)
        if len(waiting) > MOST_PACKETS or waiting[-1][0] - waiting[0][0] > MOST_S * clock:
            while len(waiting) > MOST_PACKETS // 2 or waiting[-1][0] - waiting[0][0] > DELAY_S * clock:
                del waiting[0]
            self._due = waiting[0][0]

    def take(self, now: float) -> Piece | None:
        """The next piece; None while there is nothing to hear."""
        waiting, clock = self._waiting, self._clock
        if not waiting:
            self._due = None
            return None
        oldest = waiting[0][0]
        if self._due is None:
            if waiting[-1][0] - oldest < DELAY_S * clock and now - self._first_at < DELAY_S:
                return None
            self._due = oldest
        gap = oldest - self._due
        if gap > 0:
            # One frame at a time, so that what is only late may still come for the next.
            step = min(gap, clock // 50)
            self._due += step
            return Piece("", None, step / clock)
        _, codec, payload = waiting.pop(0)
        self._due = oldest
        return Piece(codec, payload)

    def played(self, seconds: float) -> None:
        """How much sound the payload last taken was."""
        if self._due is not None:
            self._due += round(seconds * self._clock)

    def _begin_anew(self) -> None:
        self._waiting.clear()
        self._due = None
