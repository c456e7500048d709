"""Trunks: the carriers and exchanges we take calls from and call out through, and the numbers they bring."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from config.trunk_settings import TrunkSettings
from sip_trunk.flow import Flow
from sip_trunk.locate import numeric_hop
from sip_trunk.sip.errors import BadMessage
from sip_trunk.sip.message import Request
from sip_trunk.sip.uri import SipUri, TelUri, Uri, bracketed, parse_sip_uri, parse_uri
from sip_trunk.user_agent import Target

_SEPARATORS = str.maketrans("", "", "-.() \u00a0")
_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_LOCAL = re.compile(r"[0-9*#]{1,32}")


@dataclass(frozen=True, slots=True)
class Account:
    """What we register with a trunk. address: the address of record; user: that of our Contact, by which a call that
    comes for it is known; expires_s: the seconds asked for."""

    address: SipUri
    user: str
    expires_s: int


@dataclass(slots=True, eq=False)
class Trunk:
    """One carrier or exchange. Peers are numeric addresses; one without a port may send from any.

    dial: prefixes of the numbers that may be called through it, and with a ! before them of those that may not; via:
    where those calls go, as a sip: URI without a user; credentials: user name and password for its digest challenges;
    caller_id: the number our calls come from;
    options_s: seconds between our OPTIONS; extensions: its callers may dial our agents' user names. answers: it has
    answered lately, or not been found missing yet; answered: it has at all, since the start. account: what we register
    there; `registered`, `flow` (the way we registered by) and `service_route` (RFC 3608) are then what came of it.
    """

    name: str
    peers: frozenset[tuple[str, int | None]] = field(default_factory=frozenset)
    dial: tuple[str, ...] = ()
    via: SipUri = field(default_factory=SipUri)
    credentials: tuple[str, str] | None = field(default=None, repr=False)
    caller_id: str | None = None
    options_s: float = 0.0
    extensions: bool = False
    answers: bool = True
    answered: bool = False
    account: Account | None = None
    registered: bool = False
    flow: Flow | None = None
    service_route: tuple[str, ...] = ()

    @property
    def up(self) -> bool:
        """Whether calls can be made through it."""
        return self.answers and (self.account is None or self.registered)

    @property
    def shown(self) -> bool | None:
        """Whether it has shown that it is there, by an answer or a registration; None: nobody asks it."""
        if self.account is not None:
            return self.up
        return self.answers and self.answered if self.asked else None

    @property
    def asked(self) -> bool:
        """Whether it is asked by OPTIONS: not where we only take calls from it, and do not register."""
        return bool(self.dial or self.account) and self.options_s > 0

    def covers(self, number: str) -> int:
        """How long the prefix is that lets this number be called through it; 0: none does, or one as long or longer
        forbids it (as !+49900)."""
        said = [each for each in self.dial if number.startswith(each.removeprefix("!"))]
        allowed = max((len(each) for each in said if each[0] != "!"), default=0)
        forbidden = max((len(each) - 1 for each in said if each[0] == "!"), default=0)
        return allowed if allowed > forbidden else 0

    def target(self, number: str) -> Target:
        """Where a call to this number (E.164) goes."""
        # RFC 3261 §19.1.1: user=phone says that the user part is a number; not every gateway guesses.
        params = (*self.via.params, ("user", "phone"))
        uri = self.via.replace(user=number, params=params)
        if self.account is None:
            return Target(uri)
        route = self.service_route
        domain = self.account.address.host
        if domain.lower() != self.via.host.lower():
            # RFC 3261 §8.1.2: the account's domain is what is asked, `via` the outbound proxy on the way there.
            uri = SipUri(self.account.address.scheme, number, domain, params=(("user", "phone"),))
            route = route or (f"<{self.via.replace(params=(*self.via.params, ('lr', None)))}>",)
        return Target(uri, route, self.way)

    @property
    def way(self) -> Flow | None:
        """The flow that calls and OPTIONS of ours are to take: who has registered is known by that alone. By UDP an
        address says as much, and leaves the choice of a connection for what is too large."""
        flow = self.flow
        if flow is None or not flow.alive or (not flow.reliable and numeric_hop(self.via) is not None):
            return None
        return flow

    def registered_by(self, peer: Flow | tuple[str, int]) -> bool:
        """Whether that is the way we registered by: the very connection, or, by UDP, address and port."""
        if self.flow is None:
            return False
        if self.flow.reliable:
            return peer is self.flow
        if isinstance(peer, tuple):
            return peer == self.flow.peer
        return peer.transport == self.flow.transport and peer.peer == self.flow.peer


class TrunkTable:
    """Which trunk a message came from, by its source address (nothing it says of itself counts), and which one a
    number is called through."""

    def __init__(self, trunks: Iterable[TrunkSettings]) -> None:
        self.trunks: dict[str, Trunk] = {}
        self._by_peer: dict[tuple[str, int | None], Trunk] = {}
        for settings in trunks:
            trunk = _trunk(settings)
            self.trunks[trunk.name] = trunk
            for peer in trunk.peers:
                self._by_peer[peer] = trunk
        self._registering = [trunk for trunk in self.trunks.values() if trunk.account is not None]

    def for_number(self, number: str) -> Trunk | None:
        """The trunk that is up with the longest prefix of this number (E.164); None: nobody may, or can, call it."""
        if not _E164.fullmatch(number):
            return None
        best: tuple[int, Trunk] | None = None
        for trunk in self.trunks.values():
            length = trunk.covers(number)
            if trunk.up and length and (best is None or length > best[0]):
                best = length, trunk
        return best[1] if best is not None else None

    @property
    def addresses(self) -> frozenset[str]:
        """Where trunks send from, ports aside."""
        return frozenset(host for host, _ in self._by_peer)

    def by_peer(self, peer: Flow | tuple[str, int]) -> Trunk | None:
        """The trunk at the other end of a flow, or at an address."""
        host, port = peer if isinstance(peer, tuple) else peer.peer
        trunk = self._by_peer.get((host, port)) or self._by_peer.get((host, None))
        if trunk is not None:
            return trunk
        return next((each for each in self._registering if each.registered_by(peer)), None)

    def of(self, request: Request, flow: Flow) -> Trunk | None:
        """The trunk a call came by: as `by_peer`, and where several are registered by one way, the one whose Contact
        is called. A Contact alone proves nothing: it has been on the wire."""
        user = request.uri.user
        for trunk in self._registering:
            if trunk.account is not None and trunk.account.user == user and trunk.registered_by(flow):
                return trunk
        return self.by_peer(flow)


def _trunk(settings: TrunkSettings) -> Trunk:
    via = parse_sip_uri(f"sip:{settings.via or _host_of_peer(settings.peers[0])}")
    return Trunk(
        settings.name,
        frozenset(_peer(text) for text in settings.peers),
        settings.dial,
        via,
        (settings.username, settings.password) if settings.username else None,
        settings.caller_id or None,
        settings.options_s,
        settings.extensions,
        account=_account(settings, via) if settings.register else None,
    )


def _account(settings: TrunkSettings, via: SipUri) -> Account:
    given = settings.register_as
    address = parse_sip_uri(given) if given else SipUri(via.scheme, settings.username, via.host)
    # The same after a restart: a server that crashed refreshes what it left, and callers are not forked to it twice.
    user = "t-" + hashlib.sha256(f"{settings.name} {address}".encode()).hexdigest()[:16]
    return Account(address, user, settings.register_s)


def _host_of_peer(text: str) -> str:
    host, port = _peer(text)
    return bracketed(host) if port is None else f"{bracketed(host)}:{port}"


def _peer(text: str) -> tuple[str, int | None]:
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        port = port.removeprefix(":")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    else:
        host, port = text, ""
    return host, int(port) if port else None


def number_of(uri: Uri | str) -> str | None:
    """The telephone number in a sip: or tel: URI: "+" and digits where it is a global one (E.164), else the digits,
    * and # as dialled; None when its user is no number. Visual separators are dropped (RFC 3966 §5.1.1)."""
    if isinstance(uri, str):
        uri = parse_uri(uri)
    user = uri.number if isinstance(uri, TelUri) else uri.user
    if user is None:
        return None
    # RFC 3261 §19.1.6: a telephone-subscriber may bring parameters into the user part.
    digits = user.partition(";")[0].translate(_SEPARATORS)
    if digits.startswith("00") and _E164.fullmatch(f"+{digits[2:]}"):
        return f"+{digits[2:]}"
    if _E164.fullmatch(digits) or _LOCAL.fullmatch(digits):
        return digits
    return None


def called_address(request: Request, trunk: Trunk | None) -> Uri:
    """Who was dialled: the Request-URI, unless that is the Contact we registered with the trunk; then
    P-Called-Party-ID, which says what a registrar found there (RFC 7315 §4.2), or else To."""
    if trunk is None or trunk.account is None or request.uri.user != trunk.account.user:
        return request.uri
    try:
        for address in request.addresses("P-Called-Party-ID"):
            return address.uri
    except BadMessage:
        pass
    return request.to.uri


def called_number(request: Request, trunk: Trunk | None = None) -> str | None:
    """The number that was dialled: the Request-URI's, or To's where a carrier puts an account name there; with neither,
    that of the account we registered."""
    own = (trunk.account.address,) if trunk is not None and trunk.account is not None else ()
    for uri in (called_address(request, trunk), request.to.uri, *own):
        number = number_of(uri)
        if number is not None:
            return number
    return None
