"""Audio of two joined legs that share no codec: decoded and encoded anew, both ways.

Each packet is answered by one of ours as it comes, so that nothing waits here. What was lost stays lost: the numbers
jump as theirs did, and the hearer's phone conceals it in its own way.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any

from config.errors import OurError
from media.leg import Leg
from media.offer_answer import differ
from media.rtp import Heard

if TYPE_CHECKING:
    from media.transcoder import Way

# It brings the codecs, which take a while to load: in a thread, and only once somebody needs it.
TRANSCODER = "media.transcoder"
# Packets of all calls wait while one is transcoded: at most so much of the time.
MOST_SHARE = 0.4
WINDOW_S = 1.0


class Transcoding:
    """Of two legs, for as long as they are joined and as they are agreed."""

    def __init__(self, owner: Transcodings, a: Leg, b: Leg) -> None:
        self._owner = owner
        self._legs = {a: b, b: a}
        self._ways: dict[tuple[Leg, str], Way] = {}
        for leg in (a, b):
            leg.transcoding = self
            audio = leg.first("audio")
            if audio is not None:
                audio[0].sink = None
            leg.take()

    def other(self, leg: Leg) -> Leg:
        return self._legs[leg]

    def heard(self, leg: Leg, codec: str, clock: int, packet: Heard) -> None:
        transcoder = self._owner.transcoder
        if transcoder is None:
            return
        before = self._owner.now()
        way = self._ways.get((leg, codec))
        if way is None:
            way = self._ways[leg, codec] = transcoder.Way(self._legs[leg], codec, clock)
        way.carry(packet, packet.at)
        self._owner.spent(self._owner.now() - before)

    def end(self) -> None:
        for leg in self._legs:
            if leg.transcoding is self:
                leg.transcoding = None
                leg.take()
        self._owner.over(self)


class Transcodings:
    """All of one process. `on_begun` is told of each: (one leg, the other)."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        threads: Executor,
        now: Callable[[], float],
        on_begun: Callable[[Leg, Leg], None],
    ) -> None:
        self._loop = loop
        self._threads = threads
        self.now = now
        self._on_begun = on_begun
        self.transcoder: Any = None
        """The module, once it is loaded."""
        self._loading: asyncio.Future[Any] | None = None
        self._all: set[Transcoding] = set()
        self._since = now()
        self._spent = 0.0
        self._share = 0.0

    @property
    def share(self) -> float:
        """Of this process's time, what transcoding has taken lately."""
        self.spent(0.0)
        return self._share

    def spent(self, seconds: float) -> None:
        self._spent += seconds
        elapsed = self.now() - self._since
        if elapsed >= WINDOW_S:
            self._share = self._spent / elapsed
            self._since, self._spent = self.now(), 0.0

    def settle(self, a: Leg, b: Leg, others: float | None = None) -> None:
        """Two legs were joined, or agreed on something else since: transcode between them if they need it.

        `others` is the share of time that mixing takes. OurError(503) when there is too much of both already; without
        it they talk already, and a description that both sides hold to is not taken back.
        """
        known = a.transcoding is not None and a.transcoding is b.transcoding
        for leg in (a, b):
            if leg.transcoding is not None:
                leg.transcoding.end()
        if not differ(a.lines, b.lines):
            return
        if not known and others is not None and self.share + others >= MOST_SHARE:
            raise OurError("Too many calls need their sound transcoded", 503)
        if self._loading is None:
            self._loading = self._loop.run_in_executor(self._threads, importlib.import_module, TRANSCODER)
            self._loading.add_done_callback(self._loaded)
        self._all.add(Transcoding(self, a, b))
        if not known:
            self._on_begun(a, b)

    def over(self, transcoding: Transcoding) -> None:
        self._all.discard(transcoding)

    def _loaded(self, loading: asyncio.Future[Any]) -> None:
        self.transcoder = loading.result()
