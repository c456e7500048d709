"""The conferences of one process: how many there may be, and how much of its time they take."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from config.errors import OurError

if TYPE_CHECKING:
    from media.conference import Conference
    from media.leg import Leg

# Imported when there is a conference: it brings the codecs.
MIXER = "media.conference"
# Packets of all calls wait while one of them is mixed: at most so much of the time, and however quick it is.
MOST_MIXING = 0.4
MOST_CONFERENCES = 32


class Conferences:
    def __init__(self, loop: asyncio.AbstractEventLoop, now: Callable[[], float]) -> None:
        self._loop = loop
        self._now = now
        self.all: set[Conference] = set()

    @property
    def share(self) -> float:
        """Of this process's time, what mixing has taken lately."""
        return sum(each.share for each in self.all)

    def begin(self, others: float) -> Conference:
        """One in which nobody is yet; `others` is the share of time that transcoding takes. OurError(503) when there
        are too many."""
        if len(self.all) >= MOST_CONFERENCES or self.share + others >= MOST_MIXING:
            raise OurError("There are too many conferences", 503)
        conference: Conference = importlib.import_module(MIXER).Conference(self._loop, self._now)
        self.all.add(conference)
        return conference

    def leave(self, leg: Leg) -> None:
        """It goes out of the one it is in, if any; whoever was there alone has ended it."""
        conference = leg.conference
        if conference is not None:
            conference.leave(leg)
            if not conference.legs:
                self.all.discard(conference)

    def end(self, conference: Conference) -> None:
        conference.close()
        self.all.discard(conference)
