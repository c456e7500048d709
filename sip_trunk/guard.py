"""Floods, scanners and guessers: what is dropped before it costs anything.

One bounded table of source addresses. A guard says nothing to whom it drops: an answer is what a scanner wants.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import lru_cache

from twisted.logger import Logger

from sip_trunk.flow import Flow
from sip_trunk.sip.errors import BadMessage
from sip_trunk.sip.message import Message, Request

log = Logger()

_SCANNERS = re.compile(
    r"friendly-scanner|sipvicious|sipcli|sip-scan|sipsak|sundayddr|iwar|sivus|vaxsipuseragent|pplsip",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Rates:
    """Per source address and second, and at once. `requests` counts those that nobody proved a password for; a proof
    gives its request back. `failures` counts wrong proofs."""

    requests: float = 100.0
    requests_at_once: float = 1_000.0
    failures: float = 0.5
    failures_at_once: float = 30.0


class _Source:
    __slots__ = ("at", "failures", "requests", "told_at")

    def __init__(self, rates: Rates, now: float) -> None:
        self.requests = rates.requests_at_once
        self.failures = rates.failures_at_once
        self.at = now
        self.told_at = 0.0


@lru_cache(maxsize=4096)
def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Guard:
    """trusted: addresses whose rate is not limited (trunks, an edge proxy); loopback never is.

    dropped: how many messages were dropped, by reason.
    """

    def __init__(
        self,
        now: Callable[[], float],
        *,
        rates: Rates | None = None,
        trusted: Collection[str] = (),
        addresses: int = 50_000,
    ) -> None:
        self._now = now
        self._rates = rates or Rates()
        self._trusted = frozenset(trusted)
        self._limit = addresses
        self._sources: OrderedDict[str, _Source] = OrderedDict()
        self.dropped: Counter[str] = Counter()

    def admits(self, message: Message | BadMessage, flow: Flow) -> bool:
        """As `Transports.admits` asks it."""
        if isinstance(message, BadMessage):
            return self._exempt(flow) or self._take(flow, self._now())
        return not isinstance(message, Request) or self.allow(flow, message, self._now())

    def allow(self, flow: Flow, request: Request, now: float) -> bool:
        """Whether to look at this request at all."""
        agent = request.headers.first("user-agent")
        if agent is not None and _SCANNERS.search(agent):
            self.dropped["scanner"] += 1
            return False
        if self._exempt(flow):
            return True
        # What belongs to a call or transaction that is there costs a look-up; so does what only pretends to. A REGISTER
        # belongs to none, whatever tag it brings: it would be a way to guess passwords unseen.
        if request.method in ("ACK", "CANCEL") or not request.outside_dialog:
            return True
        return self._take(flow, now)

    def failed(self, flow: Flow, now: float) -> None:
        """A wrong proof came from here."""
        if not self._exempt(flow):
            self._source(flow, now).failures -= 1.0

    def proved(self, flow: Flow, now: float) -> None:
        """A right proof came from here: it gives back its own request and the one that was challenged."""
        if not self._exempt(flow):
            source = self._source(flow, now)
            source.requests = min(self._rates.requests_at_once, source.requests + 2.0)

    def _exempt(self, flow: Flow) -> bool:
        host = flow.peer[0]
        return host in self._trusted or _is_loopback(host)

    def _source(self, flow: Flow, now: float) -> _Source:
        host = flow.peer[0]
        source = self._sources.get(host)
        if source is None:
            source = self._sources[host] = _Source(self._rates, now)
            if len(self._sources) > self._limit:
                self._sources.popitem(last=False)
            return source
        self._sources.move_to_end(host)
        passed = max(0.0, now - source.at)
        rates = self._rates
        source.requests = min(rates.requests_at_once, source.requests + passed * rates.requests)
        source.failures = min(rates.failures_at_once, source.failures + passed * rates.failures)
        source.at = now
        return source

    def _take(self, flow: Flow, now: float) -> bool:
        source = self._source(flow, now)
        why = "guessing" if source.failures < 1.0 else "flood" if source.requests < 1.0 else ""
        if not why:
            source.requests -= 1.0
            return True
        self.dropped[why] += 1
        if now - source.told_at >= 60.0:
            source.told_at = now
            log.warn("Dropping requests from {host}: {why}", host=flow.peer[0], why=why)
        return False
