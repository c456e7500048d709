"""That one side of a chat is writing: heard of from it, told to the other side, in the measure of RFC 3994."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from twisted.internet.interfaces import IDelayedCall, IReactorTime

ACTIVE_EVERY_S = 10.0
"""That somebody began to write is told no more often than this."""
STILL_EVERY_S = 60.0
"""RFC 3994 s3.2: who goes on writing says so again, and no sooner than after 60 s."""
PROMISED_S = 90
"""What we say ourselves that "active" lasts: one lost repetition must not let it lapse."""
PAGE_LASTS_S = 25.0
"""A page says that somebody writes every 10 s; one that was closed says nothing more."""


class Told(Enum):
    """What the other side is to hear."""

    ACTIVE = "began"
    STILL = "goes on"
    IDLE = "stopped"
    SAID = "sent it"
    """The line itself says that its writing is over (RFC 3994 s3.2): a phone needs no word of it."""


class Writing:
    """One side of a chat. `active` is what the other side was told last.

    `tell` is called for every change, from a timer too: without a word from the writer "active" ends by itself.
    """

    def __init__(self, clock: IReactorTime, tell: Callable[[Told], None]) -> None:
        self._clock = clock
        self._tell = tell
        self.active = False
        self._not_before = 0.0  # the clock's time from which beginning may be told again
        self._begins: IDelayedCall | None = None
        self._repeats: IDelayedCall | None = None
        self._lapses: IDelayedCall | None = None

    def heard(self, active: bool, lasts_s: float = 0.0) -> None:
        """The side says that it writes, for `lasts_s` from now unless said again, or that it does not."""
        if not active:
            self._end(Told.IDLE)
            return
        _cancel(self._lapses)
        self._lapses = self._clock.callLater(lasts_s, self._end, Told.IDLE)
        if not self.active and self._begins is None:
            self._begins = self._clock.callLater(
                max(0.0, self._not_before - self._clock.seconds()), self._begin
            )

    def said(self) -> None:
        """The side has sent what it wrote."""
        self._end(Told.SAID)

    def stop(self) -> None:
        """Nothing more is told."""
        self.active = False
        for timer in (self._begins, self._repeats, self._lapses):
            _cancel(timer)
        self._begins = self._repeats = self._lapses = None

    def _begin(self) -> None:
        self._begins = None
        self.active = True
        self._not_before = self._clock.seconds() + ACTIVE_EVERY_S
        self._repeats = self._clock.callLater(STILL_EVERY_S, self._repeat)
        self._tell(Told.ACTIVE)

    def _repeat(self) -> None:
        self._repeats = self._clock.callLater(STILL_EVERY_S, self._repeat)
        self._tell(Told.STILL)

    def _end(self, how: Told) -> None:
        was = self.active
        self.stop()
        if was:
            self._tell(how)


def _cancel(timer: IDelayedCall | None) -> None:
    if timer is not None and timer.active():
        timer.cancel()
