"""Keys that a peer presses, as telephone events in RTP (RFC 4733): each told once, whatever happens on the way."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from media.keys import EVENTS
from media.rtp import Heard

KEYS = {code: key for key, code in EVENTS.items()}
MOST_A_SECOND = 20
# An event is known by the time it began; stragglers of one come after the next has begun, but hardly after eight.
_REMEMBERED = 8
_LONGEST = 0xFFFF


class HeardKeys:
    """The keys of one branch; `tell` gets each as soon as the first packet of it comes."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._known: deque[tuple[int, int]] = deque(
            maxlen=_REMEMBERED
        )  # (SSRC, timestamp) of events that were told
        self._latest: Heard | None = None
        self._told_at: deque[float] = deque(maxlen=MOST_A_SECOND)

    def heard(self, packet: Heard) -> None:
        """A packet of the payload type for events; what is no key is passed over."""
        if len(packet.payload) < 4 or packet.payload[0] not in KEYS:
            return
        latest = self._latest
        known = (packet.ssrc, packet.timestamp) in self._known
        if known and (latest is None or not _begins_again(latest, packet)):
            if latest is not None and _newer(packet, latest):
                self._latest = packet
            return
        if latest is not None and _goes_on(latest, packet):
            self._known.append((packet.ssrc, packet.timestamp))
            self._latest = packet
            return
        if not known:
            self._known.append((packet.ssrc, packet.timestamp))
        if latest is None or packet.ssrc != latest.ssrc or _newer(packet, latest):
            self._latest = packet
        if len(self._told_at) == MOST_A_SECOND and packet.at - self._told_at[0] < 1.0:
            return
        self._told_at.append(packet.at)
        self._tell(KEYS[packet.payload[0]])


def _newer(packet: Heard, than: Heard) -> bool:
    return packet.ssrc == than.ssrc and 0 < (packet.seq - than.seq) & 0xFFFF < 0x8000


def _duration(packet: Heard) -> int:
    return int.from_bytes(packet.payload[2:4], "big")


def _begins_again(latest: Heard, packet: Heard) -> bool:
    """A marker begins an event (RFC 4733 section 2.3.1), even under an old timestamp, as some phones send it; but
    others send the first packet of one event several times, and mark each."""
    if not packet.marker or not _newer(packet, latest) or packet.timestamp != latest.timestamp:
        return False
    ended = bool(latest.payload[1] & 0x80)
    return ended or packet.payload[0] != latest.payload[0] or _duration(packet) < _duration(latest)


def _goes_on(latest: Heard, packet: Heard) -> bool:
    """RFC 4733 section 2.5.1.3: a key held longer than the duration can say goes on as a segment of its own."""
    return (
        not packet.marker
        and packet.payload[0] == latest.payload[0]
        and not latest.payload[1] & 0x80
        and _newer(packet, latest)
        and (packet.timestamp - latest.timestamp) & 0xFFFFFFFF == _LONGEST
    )
