"""Where on the time of a recording the packets of one sender belong. Pure.

The first packet of a source belongs where it arrived, those after it where their timestamps say. So what the network
delays stays in its place, and two senders stay in step with one clock, which is ours.
"""

from __future__ import annotations

# A timestamp further from its arrival is that of a source that began anew.
JUMP_S = 1.0
# Packets arrive this much too early or too late on average: the sender's clock is not ours, or the way is another.
EARLY_S, LATE_S = 0.06, 0.1
# Of the newest packet in that average, of which a second has 50.
_WEIGHT = 0.02


class Timeline:
    """`rate`: positions a second. Times of arrival are seconds since position 0."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._source: tuple[int, int] | None = None
        self._timestamp = 0
        self._position = 0
        self._late = 0.0

    def place(self, ssrc: int, clock: int, timestamp: int, at: float) -> int:
        """The position of a packet."""
        arrival = round(at * self._rate)
        source = ssrc, clock
        position = self._position + after(timestamp, self._timestamp) * self._rate // clock
        late = arrival - position
        if source != self._source or abs(late) > JUMP_S * self._rate:
            self._source = source
            self._late = 0.0
            position = arrival
        else:
            self._late += (late - self._late) * _WEIGHT
            if not -EARLY_S * self._rate < self._late < LATE_S * self._rate:
                position += round(self._late)
                self._late = 0.0
        self._timestamp = timestamp
        self._position = position
        return position


def after(timestamp: int, other: int) -> int:
    """How far one timestamp is behind another, in ticks; they wrap around (RFC 3550 section 5.1)."""
    return ((timestamp - other + 0x80000000) & 0xFFFFFFFF) - 0x80000000
