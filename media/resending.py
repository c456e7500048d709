"""The last packets of one stream, for a peer that says which of them it has lost (RFC 4585 section 6.2.1)."""

from __future__ import annotations

from collections.abc import Callable

from media.rtp import Packet

# Of video: half a second to two, and 300 kB.
KEPT = 256
# Each of them at most so often: what is lost again and again does not come through, and whoever asks without end must
# not keep us busy for that one alone.
MOST_TIMES = 3


class Recent:
    """Stands before a stream's way out and keeps a copy, in clear, of what passes."""

    __slots__ = ("_kept", "_packet", "_send", "_times")

    def __init__(self, packet: Packet) -> None:
        self._packet = packet
        self._send: Callable[[int], None] | None = None
        self._kept: list[bytes | None] = [None] * KEPT
        self._times = bytearray(KEPT)

    def before(self, send: Callable[[int], None]) -> Callable[[int], None]:
        """What to send by from now on."""
        self._send = send
        return self.send

    def send(self, size: int) -> None:
        view = self._packet.view
        self._kept[view[3] % KEPT] = bytes(view[:size])
        self._times[view[3] % KEPT] = 0
        if self._send is not None:
            self._send(size)

    def again(self, seq: int) -> bool:
        """Send this one once more, as it was, unless that was done often. False: it is not there any more, or never
        was."""
        at = seq % KEPT
        kept = self._kept[at]
        if kept is None or self._send is None or int.from_bytes(kept[2:4], "big") != seq:
            return False
        if self._times[at] >= MOST_TIMES:
            return True
        self._times[at] += 1
        self._packet.view[: len(kept)] = kept
        self._send(len(kept))
        return True
