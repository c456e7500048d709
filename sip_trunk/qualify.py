"""Whether the trunks we call through are there: an OPTIONS now and then (RFC 3261 §11), and what its absence means."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from sip_trunk.sip.message import Response
from sip_trunk.trunk import Trunk, TrunkTable
from sip_trunk.user_agent import Target, UserAgent

log = Logger()

ANSWER_S = 8.0
"""An OPTIONS that has no answer after this is missed."""
MISSED = 2
"""So many missed in a row, and the trunk is down."""
AGAIN_S = 15.0
"""Once one is missed they come at least this often, so that neither the failure nor its end goes unseen for long."""


class TrunkProbe:
    """Asks each trunk that numbers are called through, every `options_s`, and sets its `answers` and `answered`.

    Any answer at all shows that a trunk is up: 404 and 405 are what many say to OPTIONS. on_change(trunk) is called
    each time `answers` changed. A trunk we only take calls from is left in peace, unless we register with it: then they
    keep the way open, too.
    """

    def __init__(
        self,
        trunks: TrunkTable,
        agent: UserAgent,
        clock: IReactorTime,
        *,
        domain: str,
        on_change: Callable[[Trunk], None] | None = None,
    ) -> None:
        self._agent = agent
        self._clock = clock
        self._domain = domain
        self._on_change = on_change
        self._trunks = [trunk for trunk in trunks.trunks.values() if trunk.asked]
        self._missed = dict.fromkeys(self._trunks, 0)
        self._timers: dict[Trunk, IDelayedCall] = {}
        self._asked: dict[Trunk, object] = {}

    def start(self) -> None:
        """The first ones go out at once."""
        for trunk in self._trunks:
            self._ask(trunk)

    def stop(self) -> None:
        """No more are sent, and answers that are still to come change nothing."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._asked.clear()

    def _ask(self, trunk: Trunk) -> None:
        if trunk.account is not None and not trunk.registered:
            self._next(trunk, AGAIN_S)  # there is no way to be asked about
            return
        if trunk.answers and self._missed[trunk] >= MISSED:
            self._missed[trunk] = 0  # it has been registered with anew
        self._timers[trunk] = self._clock.callLater(ANSWER_S, self._miss, trunk)
        answer = self._agent.request(
            "OPTIONS",
            Target(trunk.via, trunk.service_route, trunk.way),
            from_=f"<sip:{self._domain}>",
            to=f"<{trunk.via}>",
            credentials=trunk.credentials,
        )
        self._asked[trunk] = answer
        answer.add_done_callback(lambda future: self._answered(trunk, future))

    def _answered(self, trunk: Trunk, answer: asyncio.Future[Response]) -> None:
        # A late answer to one that counts as missed is none: it shows a way that cannot carry a call.
        if self._asked.get(trunk) is not answer or answer.cancelled() or answer.result().local:
            return
        self._timers[trunk].cancel()
        self._missed[trunk] = 0
        trunk.answered = True
        self._set(trunk, True)
        self._next(trunk, trunk.options_s)

    def _miss(self, trunk: Trunk) -> None:
        # A carrier that answers REGISTER and never an OPTIONS is there all the same.
        if trunk.account is None or trunk.answered:
            self._missed[trunk] += 1
        if self._missed[trunk] >= MISSED:
            self._set(trunk, False)
        self._next(trunk, min(trunk.options_s, AGAIN_S) - ANSWER_S)

    def _next(self, trunk: Trunk, wait: float) -> None:
        self._asked.pop(trunk, None)
        self._timers[trunk] = self._clock.callLater(max(wait, 0), self._ask, trunk)

    def _set(self, trunk: Trunk, up: bool) -> None:
        if trunk.answers is up:
            return
        trunk.answers = up
        if up:
            log.info("Trunk {name} is up", name=trunk.name)
        else:
            log.warn(
                "Trunk {name} is down: {missed} OPTIONS to {via} had no answer",
                name=trunk.name, missed=self._missed[trunk], via=str(trunk.via),
            )  # fmt: skip
        if self._on_change is not None:
            self._on_change(trunk)
