"""Floods, scanners, guessers and toll fraud: what is dropped before it costs anything.

A guard says nothing to whom it drops: an answer is what a scanner wants. It counts by source (an IPv4 address, or the
/64 of an IPv6 one, for whoever has one address of it has them all) and, for guesses, by account too:

- Wrong proofs from one source, for whatever account, use up that source's few; then it brings no proof any more.
- Wrong proofs for one account, from however many sources, use up that account's; then sources that never proved it are
  looked at only now and then. Dropping the proof unread is the point: were right ones let through, silence would tell a
  guesser as well as a refusal does.
- Neither locks the right user out: a *peer* (address and port) that has proved an account is heard on that account,
  whatever others do, the guesser behind the same NAT among them. It loses that by a row of wrong proofs of its own.

So a phone that is registered stays so through any attack; one that moves to a new address in the middle of one may have
to try for a while. Every table is bounded.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from config.rate_limit import source_of
from sip_trunk.flow import Flow
from sip_trunk.sip.digest import parse_authorization
from sip_trunk.sip.errors import BadMessage
from sip_trunk.sip.message import Message, Request

_SCANNERS = re.compile(
    r"friendly-scanner|friendly-request|sipvicious|sipcli|sip-scan|sipsak|sundayddr|iwar|sivus|vaxsipuseragent|pplsip"
    r"|gulp|smap|eyebeam release 3006o|sipptk",
    re.IGNORECASE,
)

_USERNAME = re.compile(r'username="([^"]*)"', re.IGNORECASE)

WRONG_IN_A_ROW = 10
"""So many wrong proofs, with no right one between them, and a known peer is a stranger."""
LATELY_S = 60.0
"""A source counts as being dropped for this long after the last time."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Per second, and at once.

    By source: `requests` are those that nobody proved a password for (a proof gives its request back); `failures` are
    wrong proofs; `junk` is what cannot be read; `dialled` are INVITEs refused because nobody may dial that. By account:
    `account_failures`, wrong proofs from sources that never proved it. By known peer: `known`, requests of its own.
    """

    requests: float = 100.0
    requests_at_once: float = 1_000.0
    failures: float = 0.5
    failures_at_once: float = 30.0
    junk: float = 10.0
    junk_at_once: float = 200.0
    dialled: float = 0.2
    dialled_at_once: float = 20.0
    account_failures: float = 0.5
    account_failures_at_once: float = 60.0
    known: float = 20.0
    known_at_once: float = 200.0


class _Bucket:
    """`left` of `most`, filled at `rate` a second."""

    __slots__ = ("at", "left")

    def __init__(self, most: float, now: float) -> None:
        self.left = most
        self.at = now

    def fill(self, rate: float, most: float, now: float) -> float:
        self.left = min(most, self.left + max(0.0, now - self.at) * rate)
        self.at = now
        return self.left


class _Source:
    __slots__ = ("dialled", "failures", "junk", "requests")

    def __init__(self, rates: Rates, now: float) -> None:
        self.requests = _Bucket(rates.requests_at_once, now)
        self.failures = _Bucket(rates.failures_at_once, now)
        self.junk = _Bucket(rates.junk_at_once, now)
        self.dialled = _Bucket(rates.dialled_at_once, now)


class _Peer:
    """A peer that has proved something: the accounts, each with its wrong proofs since."""

    __slots__ = ("accounts", "requests")

    def __init__(self, rates: Rates, now: float) -> None:
        self.requests = _Bucket(rates.known_at_once, now)
        self.accounts: dict[str, int] = {}


@dataclass(slots=True)
class Dropped:
    """One source that is being dropped. Times are in seconds of the guard's clock; `why` counts by reason."""

    source: str
    since: float
    last: float
    why: Counter[str]
    account: str = ""


class Guard:
    """exempt: addresses and networks whose rates are not limited (this machine, an edge proxy): the service's setting.
    trusted(flow): whether it is a trunk, not limited either; a trunk's address with another port need not be one.

    realm: whose accounts are guarded. addresses: how many sources, peers and accounts are remembered, each.
    known(account, host): whether an account is registered from that address now: such a source is not slowed by what
    others do to the account. on_drop(source, why, account): told of every message dropped.
    dropped: how many were, by reason.
    """

    def __init__(
        self,
        now: Callable[[], float],
        *,
        rates: Rates | None = None,
        exempt: Iterable[str] = ("127.0.0.0/8", "::1"),
        trusted: Callable[[Flow], bool] | None = None,
        realm: str = "warmline",
        addresses: int = 50_000,
        known: Callable[[str, str], bool] | None = None,
    ) -> None:
        self._now = now
        self._rates = rates or Rates()
        networks = [ipaddress.ip_network(each, strict=False) for each in exempt]
        self._is_exempt = lru_cache(maxsize=4096)(lambda host: _within(host, networks))
        self._trusted = trusted
        self._realm = realm
        self._limit = addresses
        self._known = known
        self._sources: OrderedDict[str, _Source] = OrderedDict()
        self._peers: OrderedDict[tuple[str, int], _Peer] = OrderedDict()
        self._accounts: OrderedDict[str, _Bucket] = OrderedDict()
        self._exhausted: set[str] = set()
        self._exhausted_at = now()
        self._seen: OrderedDict[str, Dropped] = OrderedDict()
        self.on_drop: Callable[[str, str, str], None] | None = None
        self.dropped: Counter[str] = Counter()

    # Asked before anything is done about a message

    def admits(self, message: Message | BadMessage, flow: Flow) -> bool:
        """As `Transports.admits` asks it."""
        if isinstance(message, BadMessage):
            return self._admits_junk(flow, self._now())
        return not isinstance(message, Request) or self.allow(flow, message, self._now())

    def allow(self, flow: Flow, request: Request, now: float) -> bool:
        """Whether to look at this request at all."""
        agent = request.headers.first("user-agent")
        if agent is not None and _SCANNERS.search(agent):
            return self._drop(flow, "scanner", now)
        if self._exempt(flow):
            return True
        # What belongs to a call or transaction that is there costs a look-up; so does what only pretends to. A REGISTER
        # belongs to none, whatever tag it brings: it would be a way to guess passwords unseen.
        if request.method in ("ACK", "CANCEL") or not request.outside_dialog:
            return True
        source, rates = self._source(flow.peer[0], now), self._rates
        peer = self._peers.get(flow.peer)
        # A proof is read here only while it could be a guess; most of the time nobody guesses.
        failures = source.failures.fill(rates.failures, rates.failures_at_once, now)
        dialled = source.dialled.fill(rates.dialled, rates.dialled_at_once, now)
        if failures < 1.0 and peer is None:
            return self._drop(flow, "guessing", now, _named(request))
        if (
            self._exhausted
            and now - self._exhausted_at > rates.account_failures_at_once / rates.account_failures
        ):
            self._exhausted.clear()  # their buckets are full again by now
        if failures < 1.0 or dialled < 1.0 or self._exhausted:
            account = self._claimed(request) if "authorization" in request.headers.keys else ""
            why = self._suspicion(source, peer, account, request.method, flow, now)
            if why:
                return self._drop(flow, why, now, account)
        if source.requests.fill(rates.requests, rates.requests_at_once, now) >= 1.0:
            source.requests.left -= 1.0
            return True
        if peer is not None and peer.requests.fill(rates.known, rates.known_at_once, now) >= 1.0:
            peer.requests.left -= 1.0
            return True
        return self._drop(flow, "flood", now)

    def _suspicion(
        self, source: _Source, peer: _Peer | None, account: str, method: str, flow: Flow, now: float
    ) -> str:
        if peer is not None and (not account or account in peer.accounts):
            return ""
        if source.failures.left < 1.0:
            return "guessing"
        if method == "INVITE" and not account and source.dialled.left < 1.0:
            return "toll fraud"
        bucket = self._accounts.get(account) if account in self._exhausted else None
        if bucket is not None:
            rates = self._rates
            if bucket.fill(rates.account_failures, rates.account_failures_at_once, now) >= 1.0:
                self._exhausted.discard(account)
            elif not (self._known is not None and self._known(account, flow.peer[0])):
                return "account under attack"
        return ""

    def _admits_junk(self, flow: Flow, now: float) -> bool:
        if self._exempt(flow):
            return True
        source, rates = self._source(flow.peer[0], now), self._rates
        if source.junk.fill(rates.junk, rates.junk_at_once, now) >= 1.0:
            source.junk.left -= 1.0
            return True
        return self._drop(flow, "junk", now)

    # Told what came of it

    def failed(self, flow: Flow, now: float, request: Request | None = None) -> None:
        """A wrong proof came from here."""
        if self._exempt(flow):
            return
        account = self._claimed(request) if request is not None else ""
        peer = self._peers.get(flow.peer)
        if peer is not None and account in peer.accounts:
            peer.accounts[account] += 1
            if peer.accounts[account] >= WRONG_IN_A_ROW:
                del peer.accounts[account]
                if not peer.accounts:
                    del self._peers[flow.peer]
            return
        rates = self._rates
        self._source(flow.peer[0], now).failures.left -= 1.0
        if account and not (self._known is not None and self._known(account, flow.peer[0])):
            bucket = self._accounts.get(account)
            if bucket is None:
                bucket = self._accounts[account] = _Bucket(rates.account_failures_at_once, now)
                if len(self._accounts) > self._limit:
                    self._exhausted.discard(self._accounts.popitem(last=False)[0])
            self._accounts.move_to_end(account)
            bucket.fill(rates.account_failures, rates.account_failures_at_once, now)
            bucket.left -= 1.0
            if bucket.left < 1.0:
                self._exhausted.add(account)
                self._exhausted_at = now

    def proved(self, flow: Flow, now: float, account: str = "") -> None:
        """A right proof came from here: it gives back its own request and the one that was challenged."""
        if self._exempt(flow):
            return
        rates = self._rates
        bucket = self._source(flow.peer[0], now).requests
        bucket.left = min(rates.requests_at_once, bucket.left + 2.0)
        if account:
            peer = self._peers.get(flow.peer)
            if peer is None:
                peer = self._peers[flow.peer] = _Peer(rates, now)
                _bound(self._peers, self._limit)
            self._peers.move_to_end(flow.peer)
            if len(peer.accounts) < 1_000:  # an edge proxy brings many, and could be made to bring more
                peer.accounts[account] = 0

    def dialled(self, host: str, now: float) -> None:
        """A stranger's INVITE from here was refused, for they may not dial that: what toll fraud begins with."""
        if not self._is_exempt(host):
            self._source(host, now).dialled.left -= 1.0

    # Seen and undone by whoever runs the server

    def dropping(self) -> list[Dropped]:
        """The sources that were dropped within the last minute, the latest first."""
        now = self._now()
        return [each for each in reversed(self._seen.values()) if now - each.last < LATELY_S]

    def forgive(self, text: str) -> bool:
        """Forget what a source or an account has done; whether there was anything."""
        source = source_of(text.partition("/")[0])
        known = [source in self._sources, source in self._seen, text in self._accounts]
        self._sources.pop(source, None)
        self._seen.pop(source, None)
        self._accounts.pop(text, None)
        self._exhausted.discard(text)
        return any(known)

    @property
    def tables(self) -> dict[str, int]:
        """How many entries each table holds."""
        return {
            "sources": len(self._sources),
            "peers": len(self._peers),
            "accounts": len(self._accounts),
            "dropped": len(self._seen),
        }

    def _exempt(self, flow: Flow) -> bool:
        return self._is_exempt(flow.peer[0]) or (self._trusted is not None and self._trusted(flow))

    def _claimed(self, request: Request) -> str:
        """The account a request brings a proof for, as the authenticator will read it; "" for none."""
        for value in request.headers.all("authorization")[:8]:
            if value[:7].lower() != "digest ":
                continue
            try:
                authorization = parse_authorization(value)
            except BadMessage:
                return ""
            if authorization.realm == self._realm:
                return authorization.username
        return ""

    def _source(self, host: str, now: float) -> _Source:
        name = source_of(host)
        source = self._sources.get(name)
        if source is None:
            source = self._sources[name] = _Source(self._rates, now)
            _bound(self._sources, self._limit)
        else:
            self._sources.move_to_end(name)
        return source

    def _drop(self, flow: Flow, why: str, now: float, account: str = "") -> bool:
        self.dropped[why] += 1
        name = source_of(flow.peer[0])
        seen = self._seen.get(name)
        if seen is None or now - seen.last >= LATELY_S:
            seen = self._seen[name] = Dropped(name, now, now, Counter())
            _bound(self._seen, min(self._limit, 10_000))
        self._seen.move_to_end(name)
        seen.last = now
        seen.why[why] += 1
        seen.account = account or seen.account
        if self.on_drop is not None:
            self.on_drop(name, why, account)
        return False


def _named(request: Request) -> str:
    """The account a request names, for the news: good enough to be shown, not to be judged by."""
    found = _USERNAME.search(request.headers.get("authorization") or "")
    return found[1][:64] if found is not None else ""


def _bound(table: OrderedDict[Any, Any], most: int) -> None:
    if len(table) > most:
        table.popitem(last=False)


def _within(host: str, networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in networks)
