"""Keys for a peer who hears of them in RTP (RFC 4733), where whoever pressed them said so elsewhere."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from media.rtp import Stream

EVENTS = {key: code for code, key in enumerate("0123456789*#ABCD")}
"""RFC 4733 §3.2, table 3."""
PACKET_S = 0.020
KEY_S = 0.160
_UPDATES = round(KEY_S / PACKET_S) - 1
_ENDS = 3
_GAP = 4
"""Packet times without anything between two keys: some gateways hear one long key in two that follow at once."""
MOST_WAITING = 64
_VOLUME = 10  # -10 dBm0


class Keys:
    """Keys on their way into one stream, one after the other; `over` is called after the last.

    What else was to be heard on the stream is held back meanwhile, for a tone beside the event could be heard as a
    second key, and a number that two packets share as loss. clock: ticks of the event's payload type in a second.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        stream: Stream,
        payload_type: int,
        clock: int,
        now: Callable[[], float],
        over: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._stream = stream
        self._payload_type = payload_type
        self._ticks = round(clock * PACKET_S)
        self._clock = clock
        self._now = now
        self._over = over
        self._waiting: deque[int] = deque()
        self._step = 0
        self._due = now()
        self._timer: asyncio.Handle | None = None
        stream.takes = False

    def add(self, keys: str) -> None:
        """What is no key, or one too many, is left out."""
        room = MOST_WAITING - len(self._waiting)
        self._waiting.extend([EVENTS[key] for key in keys if key in EVENTS][:room])
        if self._timer is None:
            self._due = self._now()
            self._timer = self._loop.call_soon(self._send)

    def stop(self) -> None:
        """No more is sent, and `over` is not called."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._waiting.clear()

    def _send(self) -> None:
        """The packet that is due. By the clock, not by our work: the duration it names is the time that has passed."""
        if not self._waiting:
            self._timer = None
            self._over()
            return
        step, stream = self._step, self._stream
        if step == 0:
            # RFC 4733 §2.2: all packets of an event have the time it began, the first has the marker.
            stream.begin_event(self._clock, self._now())
        if step < _UPDATES + _ENDS:
            # RFC 4733 §2.5.1.4: the last packet three times, for it must not be missed.
            end = step >= _UPDATES
            duration = min(step + 1, _UPDATES + 1) * self._ticks
            body = bytes((self._waiting[0], (0x80 if end else 0) | _VOLUME)) + duration.to_bytes(2, "big")
            stream.send_event(body, self._payload_type, first=step == 0)
        self._step += 1
        if self._step == _UPDATES + _ENDS + _GAP:
            self._step = 0
            self._waiting.popleft()
        self._due += PACKET_S
        self._timer = self._loop.call_later(max(0.0, self._due - self._now()), self._send)
