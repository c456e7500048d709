"""Looking after rtpengine, which tells of nothing by itself: whether it is there and the same, and whether those whom
the studio does not hear, or would miss late, are still there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from twisted.logger import Logger

from config.errors import OurError, WarmlineError
from media.engine_calls import Branch, Call
from media.engine_dialogue import packets_from
from media.ng import Ng, NgRefused

log = Logger()

LOOK_S = 2.0
LISTEN_S = 10.0
BROWSER_SILENCE_S = 12.0
"""rtpengine does not tell that DTLS was closed, or consent to send lost (RFC 7675), but how many packets have come. A
browser always sends some, muted, on hold and without a microphone too."""
REPORTS_SILENCE_S = 30.0
"""Of a browser that sends reports alone, of which some may be lost."""
AWAY_S = 60.0
"""An rtpengine that does not answer for so long has lost its calls."""
_LOOKS_IN_SILENCE = 3


class Watch:
    """`calls` are looked at by the names that `name` gives them in rtpengine. A phone is silent after `silence_s`
    without a packet (0: never), and gone if whom it hears is silent, too; a browser is gone after `BROWSER_SILENCE_S`
    or `REPORTS_SILENCE_S`, on hold or not."""

    def __init__(
        self,
        ng: Ng,
        calls: Mapping[str, Call],
        name: Callable[[str], str],
        now: Callable[[], float],
        *,
        silence_s: float,
        on_lost: Callable[[], None],
        on_gone: Callable[[str, str, str], None],
        on_quality: Callable[[str, str, str, dict[str, Any]], None],
    ) -> None:
        self._ng = ng
        self._calls = calls
        self._name = name
        self._now = now
        self._silence_s = silence_s
        self._lost = on_lost
        self._gone = on_gone
        self._quality = on_quality
        self._looks = 0
        self._heard_at = now()  # of rtpengine itself

    async def begin(self) -> list[str]:
        """The names of its interfaces. Raises OurError(503) where no rtpengine answers."""
        self._looks, interfaces = await self._look()
        return interfaces

    async def go_on(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            await self._look_at_it()
            if not self._ng.answering:
                continue
            for call in list(self._calls):
                try:
                    await self._listen(call)
                except WarmlineError as error:
                    log.debug("{call} was not looked after: {error}", call=call, error=error.reason)
                except Exception:  # what one call shows must not leave all others unwatched
                    log.failure("looking after {call}", call=call)

    async def _look(self) -> tuple[int, list[str]]:
        """How often it was asked this since its start: unlike its uptime, no clock that is set changes that."""
        reply = await self._ng.ask("statistics")
        try:
            found = reply["statistics"]
            names = [str(each["name"], "utf-8", "replace") for each in found.get("interfaces", ())]
            return int(found["controlstatistics"]["totalstatscount"]), names
        except (LookupError, TypeError, ValueError, AttributeError):
            raise OurError("what answers is no rtpengine", 503) from None

    async def _look_at_it(self) -> None:
        was_answering = self._ng.answering
        try:
            looks, _ = await self._look()
        except WarmlineError as error:
            if was_answering:
                log.error("No new calls until rtpengine is back: {error}", error=error.reason)
            if self._calls and self._now() - self._heard_at > AWAY_S:
                self._lost()
            return
        if not was_answering:
            log.info("rtpengine answers again")
        self._heard_at = self._now()
        if looks <= self._looks:
            log.error("rtpengine was started anew; its calls are lost")
            self._lost()
        self._looks = looks

    async def _listen(self, name: str) -> None:
        call, now = self._calls.get(name), self._now()
        every = self._every(call) if call is not None else None
        if call is None or every is None or now - call.listened_at < every:
            return
        call.listened_at = now
        try:
            reply = await self._ng.ask("query", call_id=self._name(name))
        except NgRefused as refused:
            if self._calls.get(name) is call:
                for branch in call.branches:
                    self._gone(name, branch, f"rtpengine has ended it: {refused.why}")
            return
        branches = list(call.branches.values())
        for each in branches:
            if each.looked(reply, now) and (news := each.told.news(now)):
                self._quality(name, each.name, news, each.told.kept({}))
            each.has_sent(packets_from(reply, each.dialogue.peer), now)
        for each in branches:
            limit = self._limit(each)
            if not limit or now - each.heard_at <= limit:
                continue
            if now - _silent_since(each) <= limit:
                if not each.told_silent:
                    each.told_silent = True
                    self._quality(name, each.name, "silent", each.told.kept({}))
            elif not each.told_gone:
                each.told_gone = True
                self._gone(name, each.name, f"nothing was received for {limit:.0f} s")

    def _every(self, call: Call) -> float | None:
        """Seconds between two looks at a call; None: the studio hears enough of it."""
        looked_at = [each for each in call.branches.values() if each.direct or each.is_browser]
        if not looked_at:
            return None
        limits = [BROWSER_SILENCE_S if each.is_browser else self._silence_s for each in looked_at]
        return min([LISTEN_S, *(limit / _LOOKS_IN_SILENCE for limit in limits if limit)])

    def _limit(self, each: Branch) -> float:
        """Seconds of silence after which it is gone; 0 where that is not for us to say."""
        # One that was never heard may still be at its ICE.
        if each.is_browser and each.packets:
            return BROWSER_SILENCE_S if each.often else REPORTS_SILENCE_S
        return self._silence_s if each.direct else 0.0


def _silent_since(each: Branch) -> float:
    """A phone that sends nothing may be muted, or behind a NAT that keeps it from us, and still hear the other: it is
    gone once the other is silent as well. A browser always sends."""
    if each.peer is None or (each.is_browser and each.packets):
        return each.heard_at
    return max(each.heard_at, each.peer.heard_at)
