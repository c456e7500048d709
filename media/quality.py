"""How well the packets of a leg pass: loss, jitter and round trip (RFC 3550), and what a voice is worth after that
(ITU-T G.107).

One packet in `EACH` is looked at, which costs the others an addition. All numbers are those of this leg's own network:
what was lost or held up before it came to us is not its fault. Times are seconds of any clock but where a name says ms.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

EACH = 16
POOR_MOS, FAIR_MOS = 3.0, 3.3
POOR_S = 10.0
"""How long a voice is poor before that is told, and fair again before that is."""

# RFC 3550 A.1: a gap that is no loss any more but a source which began anew, and how late a straggler may be.
_MOST_LOST, _MOST_LATE = 3000, 100
_STRANGE_S = 1.0
_REPORTS = 8  # sender reports that an answer may still come to
_LONGEST_ROUND_TRIP_S = 30.0
_CLOCKS_S = 0.005  # on one machine there and back takes less than clocks differ by
_RECENT = 0.8  # what a second ago still counts of what is so now


class Codec(NamedTuple):
    """`impairment` is G.107's Ie, `robustness` its Bpl."""

    impairment: float
    robustness: float


# G.113 appendix I, G.711 with packet loss concealment. It knows no value for the others on this scale of narrow-band
# telephony, whose best voice is G.711's: they are taken to be as good, and no better.
_CODEC = Codec(0.0, 25.1)
_CODECS: Mapping[str, Codec] = {"pcmu": _CODEC, "pcma": _CODEC, "g722": _CODEC, "opus": _CODEC}
_BEST = 93.2  # G.107 section 7.7: all parameters at their defaults
# G.107 section 7.4, at its defaults: signal-to-noise ratio, and loudness of the talker's and the listener's echo.
_RO, _TELR, _WEPL = 94.77, 65.0, 110.0
_PACKET_MS, _PLAYOUT_MS = 20.0, 40.0


def mos(codec: str, *, loss: float, jitter_ms: float, round_trip_ms: float) -> float:
    """1 (bad) to 4.4 (as good as telephony gets), by G.107 section 7 and annex B. `loss` is 0 to 1, and random.

    The listener's buffer is taken to be as long as it must be for the jitter; what is unknown should be given as 0.
    """
    delay_ms = max(0.0, round_trip_ms) / 2 + _PACKET_MS + max(_PLAYOUT_MS, 2 * jitter_ms)
    kind = _CODECS.get(codec, _CODEC)
    percent = 100 * loss
    impaired = kind.impairment + (95 - kind.impairment) * percent / (percent + kind.robustness)
    rating = _BEST - (_delay_impairment(delay_ms) - _NO_DELAY) - impaired
    if rating <= 0:
        return 1.0
    return max(1.0, 1 + 0.035 * rating + 7e-6 * rating * (rating - 60) * (100 - rating))


def _delay_impairment(ms: float) -> float:
    """Id of G.107 section 7.4: talker echo, listener echo, and delay by itself."""
    back = _TELR - 40 * math.log10((1 + ms / 10) / (1 + ms / 150)) + 6 * math.exp(-0.3 * ms * ms)
    talker = (_RO - (80 + 2.5 * (back - 14))) / 2
    echo = (talker + math.sqrt(talker * talker + 100) - 1) * (1 - math.exp(-ms))
    listener = (_RO - 10.5 * (_WEPL + 7) / math.sqrt(math.sqrt(2 * ms + 1))) / 2
    echo += listener + math.sqrt(listener * listener + 169)
    if ms <= 100:
        return echo
    x = math.log2(ms / 100)
    return echo + 25 * (math.pow(1 + x**6, 1 / 6) - 3 * math.pow(1 + (x / 3) ** 6, 1 / 6) + 2)


_NO_DELAY = _delay_impairment(0.0)


class Block(NamedTuple):
    """RFC 3550 section 6.4.1: what a peer says of what comes to it."""

    ssrc: int
    fraction: int
    lost: int
    highest: int
    last_report: bytes
    since_report: int
    jitter: int = 0


class Share:
    """What was lost of what was sent: of all, and of what was so lately."""

    __slots__ = ("_recent_lost", "_recent_sent", "_swept_lost", "_swept_sent", "lost", "sent")

    def __init__(self) -> None:
        self.lost = self.sent = 0
        self._swept_lost = self._swept_sent = 0
        self._recent_lost = self._recent_sent = 0.0

    @property
    def all(self) -> float | None:
        """0 to 1; None before anything is known. A packet that came twice makes up for none that was lost."""
        return min(1.0, max(0.0, self.lost / self.sent)) if self.sent > 0 else None

    @property
    def lately(self) -> float:
        return min(1.0, max(0.0, self._recent_lost / self._recent_sent)) if self._recent_sent > 0 else 0.0

    def swept(self) -> None:
        """A second has passed."""
        self._recent_lost = self._recent_lost * _RECENT + self.lost - self._swept_lost
        self._recent_sent = self._recent_sent * _RECENT + self.sent - self._swept_sent
        self._swept_lost, self._swept_sent = self.lost, self.sent


class Measured:
    """What is known of one stream, both ways."""

    __slots__ = (
        "_count", "_first", "_jitters", "_reported", "_reports", "_rounds", "_seq", "_ssrc", "_stamp",
        "_stamped_at", "_their_report", "began_at", "inward", "jitter", "outward", "passed_over",
        "round_trip", "sweeps",
    )  # fmt: skip

    def __init__(self) -> None:
        self.inward = Share()
        self.outward = Share()
        self.jitter: float | None = None
        self.round_trip: float | None = None
        self.began_at: float | None = None
        self.sweeps = 0
        self.passed_over = 0  # packets of types that nobody agreed on: not wanted, and yet not lost
        self._ssrc: int | None = None
        self._seq = self._count = self._first = 0
        self._stamp: int | None = None
        self._stamped_at = 0.0
        self._jitters = (0, 0.0)
        self._rounds = (0, 0.0)
        self._reported: tuple[int, int, int] | None = None  # highest, lost, and what we had sent up to there
        self._reports: deque[tuple[bytes, float]] = deque(maxlen=_REPORTS)
        self._their_report: tuple[bytes, float] | None = None

    def begun_anew(self) -> None:
        """What was sent since the last packet went another way: it is not lost."""
        self._ssrc = self._reported = None

    # Each sixteenth packet

    def sampled(self, ssrc: int, seq: int, timestamp: int, clock: int, count: int, now: float) -> None:
        """A packet that has come; `count` of them by now. `clock` 0: its timestamp tells no time (RFC 4733)."""
        count += self.passed_over
        moved = (seq - self._seq + 0x8000 & 0xFFFF) - 0x8000
        if self.began_at is None:
            self.began_at = now
        if ssrc == self._ssrc and -_MOST_LATE < moved < _MOST_LOST:
            self.inward.sent += moved
            self.inward.lost += moved - (count - self._count)
        else:
            self._ssrc, self._stamp = ssrc, None
            self._first = seq - self.inward.sent
        self._seq, self._count = seq, count
        if clock:
            self._timed(timestamp, clock, now)

    def _timed(self, timestamp: int, clock: int, now: float) -> None:
        """RFC 3550 A.8, between the packets that are looked at: their delays differ as those of neighbours do."""
        if self._stamp is not None:
            sent = ((timestamp - self._stamp + 0x80000000 & 0xFFFFFFFF) - 0x80000000) / clock
            off = abs(now - self._stamped_at - sent)
            if off < _STRANGE_S:  # else it is not the network: the source has begun anew, or stood still
                jitter = off if self.jitter is None else self.jitter + (off - self.jitter) / 16
                self.jitter = jitter
                self._jitters = self._jitters[0] + 1, self._jitters[1] + jitter
        self._stamp, self._stamped_at = timestamp, now

    # What reports say

    def reported(self, name: bytes, now: float) -> None:
        """A sender report was passed on to the peer, which may say when that came (LSR, DLSR) by its `name`, the
        middle of its NTP time. That is of the clock of whoever made the report; when we passed it on is of ours."""
        self._reports.append((name, now))

    def hears_report(self, name: bytes, now: float) -> None:
        """A sender report of the peer's has come."""
        self._their_report = name, now

    def ours(self, clock: int, now: float) -> Block | None:
        """What we say of what the peer sends; None before it has sent enough. Read by `clock` ticks a second."""
        if self._ssrc is None or self.jitter is None:
            return None
        name, at = self._their_report or (bytes(4), now)
        return Block(
            self._ssrc,
            int(self.inward.lately * 255),
            max(0, min(self.inward.lost, 0x7FFFFF)),
            (self._first + self.inward.sent) & 0xFFFFFFFF,
            name,
            int(min(now - at, 60000.0) * 65536),
            int(self.jitter * clock),
        )

    def told(self, block: Block, sent: int, seq: int, now: float) -> None:
        """The peer's report on what we send it: `sent` packets by now, the last of them numbered `seq`.

        It misses what was lost before it came to us, too; but we know how many packets we sent of those it counts.
        """
        on_the_way = seq - block.highest & 0xFFFF
        there = sent - (on_the_way if on_the_way < 0x8000 else 0)
        before, self._reported = self._reported, (block.highest, block.lost, there)
        if before is None:
            expected = there
            missing = round(block.fraction / 256 * there)
        else:
            expected = there - before[2]
            counted = (block.highest - before[0]) - (block.lost - before[1])
            missing = expected - counted
            if not 0 <= block.highest - before[0] < _MOST_LOST * 10 or expected < 0:
                expected = missing = 0  # it has begun to count anew
        self.outward.sent += expected
        self.outward.lost += min(missing, expected)
        at = next((at for name, at in self._reports if name == block.last_report), None)
        if at is not None:
            took = now - at - block.since_report / 65536
            if -_CLOCKS_S < took < _LONGEST_ROUND_TRIP_S:
                self.round_trip = max(0.0, took)
                self._rounds = self._rounds[0] + 1, self._rounds[1] + self.round_trip

    # What it comes to

    @property
    def jitter_ms(self) -> float | None:
        """The mean of all the time."""
        return 1000 * self._jitters[1] / self._jitters[0] if self._jitters[0] else None

    @property
    def round_trip_ms(self) -> float | None:
        return 1000 * self._rounds[1] / self._rounds[0] if self._rounds[0] else None

    def facts(self, codec: str | None) -> dict[str, float | None]:
        """As `MediaServer.stats` tells them. The voice is that of the worse way; without `codec` it is none."""
        jitter_ms, round_trip_ms = self.jitter_ms, self.round_trip_ms
        losses = [each.all for each in (self.inward, self.outward) if each.all is not None]
        worth = None
        if codec is not None and losses:
            worth = mos(
                codec, loss=max(losses), jitter_ms=jitter_ms or 0.0, round_trip_ms=round_trip_ms or 0.0
            )
        return {
            "loss_in": _rounded(self.inward.all, 5),
            "loss_out": _rounded(self.outward.all, 5),
            "jitter_ms": _rounded(jitter_ms, 2),
            "round_trip_ms": _rounded(round_trip_ms, 1),
            "mos": _rounded(worth, 2),
        }

    def now_worth(self, codec: str, *, at_most: float = 5.0) -> float:
        """The voice of the last few seconds. What is worth more than `at_most` need not be told from it: it is looked
        at every second, and nearly always without a fault."""
        loss = max(self.inward.lately, self.outward.lately)
        jitter, round_trip = self.jitter or 0.0, self.round_trip or 0.0
        if at_most <= FAIR_MOS and loss < 0.02 and jitter < 0.05 and round_trip < 0.3:
            return at_most
        return mos(codec, loss=loss, jitter_ms=1000 * jitter, round_trip_ms=1000 * round_trip)


class Judge:
    """Of one leg's voice, second by second: says so once when it has become poor, and once when it is fair again."""

    __slots__ = ("_since", "poor")

    def __init__(self) -> None:
        self.poor = False
        self._since: float | None = None

    def judge(self, worth: float, now: float) -> str:
        """ "poor", "fair", or empty: as before."""
        changes = worth >= FAIR_MOS if self.poor else worth < POOR_MOS
        if not changes:
            self._since = None
            return ""
        if self._since is None:
            self._since = now
        if now - self._since < POOR_S:
            return ""
        self._since, self.poor = None, not self.poor
        return "poor" if self.poor else "fair"


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
