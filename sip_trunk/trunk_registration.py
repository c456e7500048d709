"""Registering with trunks that want it (RFC 3261 §10.2): a carrier that knows us by our REGISTER, not by our address.

`MOVES` is the machine (docs/machines.md has its picture); all but UNREGISTERED wait for an answer or the one timer.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from enum import Enum
from secrets import token_hex
from typing import Any

from twisted.logger import Logger

from sip_trunk.deadlines import Deadline
from sip_trunk.exchange import Exchange
from sip_trunk.flow import Flow
from sip_trunk.sip.errors import BadMessage
from sip_trunk.sip.header_values import delta_seconds
from sip_trunk.sip.message import Request, Response
from sip_trunk.sip.uri import SipUri
from sip_trunk.trunk import Trunk
from sip_trunk.user_agent import UserAgent

log = Logger()

BASE_S = 30.0
MOST_S = 1800.0
"""RFC 5626 §4.5: how long to wait after a failure: at first, doubled each time, and at most."""
REFUSED_S = MOST_S
"""A wrong password asked about again and again gets an address banned; somebody has to change something first."""
STEADY_S = 120.0
"""RFC 5626 §4.5: what has lasted this long starts a new count of failures."""
AGAIN_S = 2.0
"""Once steady, a connection that ends is opened again within this: nobody can call us meanwhile."""
LEAST_REFRESH_S = 10.0
"""However short a registration the registrar grants."""
LONG_S = 1200
"""Half of a shorter registration leaves time to try again before it ends; of a longer one a tenth does."""
MOST_EXPIRES_S = 86_400
MOST_LENGTHENED = 2
LEAVE_S = 2.0
"""How long the server's stop waits for the registrar."""


class State(Enum):
    UNREGISTERED = "unregistered"
    REGISTERING = "registering"
    REGISTERED = "registered"
    REFRESHING = "refreshing"
    WAITING = "waiting"  # it failed, and is tried again
    REFUSED = "refused"  # we may not, and ask again after long
    LEAVING = "leaving"  # the answer is waited for before the binding can be taken back (RFC 3261 §10.2)
    REMOVING = "removing"


class Event(Enum):
    START = "start"
    DUE = "the time is over"
    GRANTED = "granted"
    FAILED = "failed"
    REFUSED = "refused"
    LOST = "the way is lost"
    STOP = "stop"


MOVES: dict[tuple[State, Event], State] = {
    (State.UNREGISTERED, Event.START): State.REGISTERING,
    (State.REGISTERING, Event.GRANTED): State.REGISTERED,
    (State.REGISTERING, Event.FAILED): State.WAITING,
    (State.REGISTERING, Event.REFUSED): State.REFUSED,
    (State.REGISTERING, Event.STOP): State.LEAVING,
    (State.REGISTERED, Event.DUE): State.REFRESHING,
    (State.REGISTERED, Event.LOST): State.WAITING,
    (State.REGISTERED, Event.STOP): State.REMOVING,
    (State.REFRESHING, Event.GRANTED): State.REGISTERED,
    (State.REFRESHING, Event.FAILED): State.WAITING,
    (State.REFRESHING, Event.REFUSED): State.REFUSED,
    (State.REFRESHING, Event.STOP): State.LEAVING,
    (State.WAITING, Event.DUE): State.REGISTERING,
    (State.WAITING, Event.STOP): State.UNREGISTERED,
    (State.REFUSED, Event.DUE): State.REGISTERING,
    (State.REFUSED, Event.STOP): State.UNREGISTERED,
    (State.LEAVING, Event.GRANTED): State.REMOVING,
    (State.LEAVING, Event.FAILED): State.UNREGISTERED,
    (State.LEAVING, Event.REFUSED): State.UNREGISTERED,
    (State.LEAVING, Event.DUE): State.UNREGISTERED,
    (State.REMOVING, Event.GRANTED): State.UNREGISTERED,
    (State.REMOVING, Event.FAILED): State.UNREGISTERED,
    (State.REMOVING, Event.REFUSED): State.UNREGISTERED,
    (State.REMOVING, Event.DUE): State.UNREGISTERED,
}
ASKING = frozenset({State.REGISTERING, State.REFRESHING, State.LEAVING, State.REMOVING})
# RFC 3261 §10.3: what says that it is us who must change something, not that it went wrong today.
REFUSALS = frozenset({401, 402, 403, 404, 405, 407, 410, 416, 420, 423})

Tell = Callable[[str, Trunk, dict[str, Any]], None]


class TrunkRegistration:
    """One trunk's account kept registered, from `start` to `stop`; sets the trunk's `registered`, `flow` and
    `service_route`.

    tell(kind, trunk, facts): "registered", once each time it comes about; "registration_failed" for each failure.
    """

    def __init__(
        self, trunk: Trunk, agent: UserAgent, tell: Tell, chance: Callable[[], float] = random.random
    ) -> None:
        assert trunk.account is not None
        self.trunk = trunk
        self.state = State.UNREGISTERED
        self.on_left: Callable[[], None] = lambda: None
        self._account = trunk.account
        self._agent = agent
        self._timers = agent.transactions.timers
        self._tell = tell
        self._chance = chance
        # RFC 3261 §10.2: the same Call-ID for all of them, and CSeq rises.
        self._call_id = token_hex(16)
        self._tag = token_hex(8)
        self._number = 0
        self._expires_s = trunk.account.expires_s
        self._lengthened = 0
        self._failures = 0
        self._steady_at: float | None = None
        self._deadline: Deadline | None = None
        self._exchange: Exchange | None = None
        self._flow: Flow | None = None

    def start(self) -> None:
        self._step(Event.START)

    def stop(self) -> None:
        """Take the registration back; `on_left` is called when that is over, one way or the other."""
        self._step(Event.STOP)
        if self.state in (State.LEAVING, State.REMOVING):
            self._wait(LEAVE_S)

    def lost(self) -> None:
        """The trunk does not answer any more: register again, perhaps by another way."""
        self._let_go()
        self._lost("no answer")

    # The machine

    def _step(self, event: Event) -> bool:
        """False: in this state the event means nothing."""
        after = MOVES.get((self.state, event))
        if after is None:
            return False
        leaving = after in (State.LEAVING, State.REMOVING) and self.state in (State.LEAVING, State.REMOVING)
        self.state = after
        if not leaving and self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if after in (State.REGISTERING, State.REFRESHING):
            self._lengthened = 0
            self._ask(self._expires_s)
        elif after is State.REMOVING:
            self._ask(0)
        elif after is State.UNREGISTERED:
            self._over()
        return True

    def _wait(self, seconds: float) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self._timers.after(seconds, self._due)

    def _due(self) -> None:
        self._step(Event.DUE)

    def _over(self) -> None:
        self._exchange = None
        self.trunk.registered = False
        self.trunk.flow = None
        self._let_go()
        self.on_left()

    # Asking

    def _ask(self, expires_s: int) -> None:
        address, self._number = self._account.address, self._number + 1
        request = Request(
            "REGISTER",
            # RFC 3261 §10.2: the domain of the registrar, without a user.
            str(SipUri(address.scheme, None, address.host, address.port)),
            [
                ("Max-Forwards", "70"),
                ("From", f"<{address}>;tag={self._tag}"),
                ("To", f"<{address}>"),
                ("Call-ID", self._call_id),
                ("CSeq", f"{self._number} REGISTER"),
                ("Expires", str(expires_s)),
                ("Supported", "path"),
                ("User-Agent", self._agent.product),
            ],
        )
        flow = self._flow if self._flow is not None and self._flow.alive else None
        exchange = Exchange(
            self._agent,
            request,
            lambda response: self._answered(exchange, response),
            flow=flow,
            hop=self.trunk.via,
            contact_user=self._account.user,
            credentials=self.trunk.credentials,
        )
        self._exchange = exchange
        exchange.start()

    def _answered(self, exchange: Exchange, response: Response) -> None:
        if response.status < 200 or exchange is not self._exchange or self.state not in ASKING:
            return
        self._exchange = None
        self._number = exchange.request.cseq.number
        status = response.status
        if status // 100 == 2:
            self._granted(exchange, response)
        elif status == 423 and self._longer(response):
            self._ask(self._expires_s)
        elif status in REFUSALS or status >= 600:
            self._failed(Event.REFUSED, response)
        else:
            self._failed(Event.FAILED, response)

    def _longer(self, response: Response) -> bool:
        """RFC 3261 §10.2.8: whether a longer registration is to be asked for, as the registrar wants it."""
        least = _number(response.headers.get("Min-Expires"))
        if (
            least is None
            or not self._expires_s < least <= MOST_EXPIRES_S
            or self._lengthened >= MOST_LENGTHENED
        ):
            return False
        if self.state not in (State.REGISTERING, State.REFRESHING):
            return False
        self._lengthened += 1
        self._expires_s = least
        return True

    # What came of it

    def _granted(self, exchange: Exchange, response: Response) -> None:
        granted = _granted_s(response, self._account.user, self._expires_s)
        asking = self.state in (State.REGISTERING, State.REFRESHING)
        if asking and (granted <= 0 or exchange.flow is None):
            self._failed(Event.FAILED, response, "The registrar kept nothing")
            return
        new = self.state is State.REGISTERING
        self._step(Event.GRANTED)
        if not asking:
            return
        self._hold(exchange.flow)
        trunk = self.trunk
        trunk.flow, trunk.registered, trunk.answers = exchange.flow, True, True
        trunk.service_route = _service_route(response)
        self._wait(max(LEAST_REFRESH_S, granted * (0.5 if granted <= LONG_S else 0.9)))
        if new:
            self._steady_at = self._timers.now() + STEADY_S
            log.info(
                "Registered with trunk {name} as {address} for {seconds} s",
                name=trunk.name, address=str(self._account.address), seconds=granted,
            )  # fmt: skip
            self._tell("registered", trunk, {"address": str(self._account.address), "expires_s": granted})

    def _failed(self, event: Event, response: Response, reason: str = "") -> None:
        self._let_go()
        self._flow = None
        if event is Event.REFUSED:
            # Nobody there knows us: whoever sends from there is a stranger again.
            self.trunk.flow = None
        if not self._step(event) or self.state is State.UNREGISTERED:
            return
        status = None if response.local and response.status == 503 else response.status
        self._back_off(
            reason or ("No Way There" if status is None else response.reason), status, _retry_after(response)
        )

    def _lost(self, reason: str) -> None:
        self._flow = None
        if self.state is not State.REGISTERED:
            return  # what is being asked fails by itself
        if self.trunk.flow is not None and self.trunk.flow.reliable:
            self.trunk.flow = None
        self._step(Event.LOST)
        self._back_off(reason, None, 0.0)

    def _back_off(self, reason: str, status: int | None, least_s: float) -> None:
        self.trunk.registered = False
        steady = self._steady_at is not None and self._timers.now() >= self._steady_at
        self._steady_at = None
        if steady:
            self._failures = 0
        if self.state is State.REFUSED:
            longest = REFUSED_S
        elif steady and status is None:
            longest = AGAIN_S
        else:
            longest = min(MOST_S, BASE_S * 2.0 ** min(self._failures, 16))
            self._failures += 1
        # RFC 5626 §4.5: a time between half of it and all, so that not everybody comes back at once.
        wait_s = max(longest * (0.5 + 0.5 * self._chance()), min(least_s, MOST_S))
        self._wait(wait_s)
        write = log.error if self.state is State.REFUSED else log.warn
        write(
            "Not registered with trunk {name} as {address}: {status} {reason}; again in {seconds} s",
            name=self.trunk.name, address=str(self._account.address), status=status or "",
            reason=reason, seconds=round(wait_s),
        )  # fmt: skip
        facts = {"status": status, "reason": reason, "again_s": round(wait_s)}
        self._tell("registration_failed", self.trunk, facts)

    # The flow

    def _hold(self, flow: Flow | None) -> None:
        if flow is not self._flow:
            self._let_go()
            self._flow = flow
        if flow is not None and flow.reliable:
            flow.on_closed.add(self._closed)

    def _let_go(self) -> None:
        if self._flow is not None:
            self._flow.on_closed.discard(self._closed)

    def _closed(self, _: Flow) -> None:
        self._lost("the connection ended")


class TrunkRegistrations:
    """Those of all trunks that want one."""

    def __init__(self, trunks: Iterable[Trunk], agent: UserAgent, tell: Tell) -> None:
        self._all = {
            trunk.name: TrunkRegistration(trunk, agent, tell) for trunk in trunks if trunk.account is not None
        }

    def start(self) -> None:
        for each in self._all.values():
            each.start()

    def lost(self, trunk: Trunk) -> None:
        """It answers no OPTIONS any more."""
        if trunk.name in self._all:
            self._all[trunk.name].lost()

    async def stop(self) -> None:
        """Returns when the registrars have been told, or `LEAVE_S` later."""
        left = [asyncio.get_running_loop().create_future() for _ in self._all]
        for each, future in zip(self._all.values(), left, strict=True):
            each.on_left = lambda future=future: future.done() or future.set_result(None)  # type: ignore[misc]
            each.stop()
            if each.state is State.UNREGISTERED and not future.done():
                future.set_result(None)
        await asyncio.gather(*left)


def _number(text: str | None) -> int | None:
    return delta_seconds(text) if text and text.isascii() and text.isdigit() else None


def _granted_s(response: Response, user: str, asked: int) -> int:
    """RFC 3261 §10.2.4: what our Contact's `expires` says, or Expires, or what was asked for."""
    try:
        for address in response.addresses("Contact"):
            if isinstance(address.uri, SipUri) and address.uri.user == user:
                granted = _number(address.param("expires"))
                if granted is not None:
                    return granted
    except BadMessage:
        log.debug("A Contact in the answer to our REGISTER cannot be read")
    granted = _number(response.headers.get("Expires"))
    return asked if granted is None else granted


def _service_route(response: Response) -> tuple[str, ...]:
    """RFC 3608 §5: what goes before the target of our requests; a new answer's takes the place of the last one's."""
    try:
        return tuple(f"<{address.uri}>" for address in response.addresses("Service-Route"))
    except BadMessage:
        return ()


def _retry_after(response: Response) -> float:
    text = (response.headers.get("Retry-After") or "").partition(";")[0].partition("(")[0].strip()
    return float(_number(text) or 0)
