"""Who calls through a trunk: asserted identity and privacy (RFC 3325, RFC 3323), and who sent the call on (RFC 7044,
RFC 5806)."""

from __future__ import annotations

from dataclasses import dataclass

from sip_trunk.sip.errors import BadMessage
from sip_trunk.sip.extension_headers import HistoryEntry
from sip_trunk.sip.header_values import NameAddr
from sip_trunk.sip.message import Request
from sip_trunk.sip.uri import SipUri, Uri
from sip_trunk.trunk import Trunk, number_of

# RFC 3323 §4.2, RFC 3325 §9.3: what of it asks that the people called are not told who calls.
_PRIVATE = frozenset({"id", "user", "header"})


@dataclass(frozen=True, slots=True)
class CallerIdentity:
    """Who calls.

    number: as `number_of` reads it, None when there is none. name: "" when there is none. anonymous: the caller wants
    not to be known; the number may then be used to find the caller's own visits, and shown to nobody. diverted_from:
    the number (or else the address) that was called and sent the call on, the last one if there were several; None
    when it came straight, or its owner does not want to be named.
    """

    number: str | None
    name: str
    anonymous: bool
    diverted_from: str | None


def identity_of(request: Request, trunk: Trunk | None) -> CallerIdentity:
    """Read who calls; only a trunk is believed in more than From. A header that is malformed is passed over: it is no
    reason to lose a call."""
    from_ = request.from_
    anonymous = _says_anonymous(from_)
    if trunk is None:
        return CallerIdentity(number_of(from_.uri), from_.display, anonymous, None)
    asserted = _asserted(request)
    number = next((found for each in asserted if (found := number_of(each.uri)) is not None), None)
    name = next((each.display for each in asserted if each.display), "")
    if not asserted and not anonymous:
        number, name = number_of(from_.uri), from_.display
    try:
        privacy = request.privacy
    except BadMessage:
        # It asked for something; the cautious reading is the one that shows less.
        privacy = _PRIVATE
    # RFC 3323 §4.2: "none" asks that nothing be hidden, and stands alone.
    anonymous = anonymous or bool(privacy & _PRIVATE)
    diverted = None if "history" in privacy else _diverted_from(request)
    return CallerIdentity(number, "" if anonymous else name, anonymous, diverted)


def _says_anonymous(from_: NameAddr) -> bool:
    """RFC 3323 §4.1.1.3: what a caller who hides puts in From."""
    uri = from_.uri
    if not isinstance(uri, SipUri):
        return False
    return uri.host.lower() == "anonymous.invalid" or (uri.user or "").lower() == "anonymous"


def _asserted(request: Request) -> list[NameAddr]:
    try:
        return request.addresses("P-Asserted-Identity")
    except BadMessage:
        return []


def _diverted_from(request: Request) -> str | None:
    try:
        entry = _last_diverter(request.history)
        if entry is not None:
            return None if entry.privacy - {"none"} else _named(entry.address.uri)
        # RFC 5806 §3: the one who diverted last stands first.
        for diversion in request.diversions[:1]:
            return None if diversion.privacy in ("full", "uri") else _named(diversion.address.uri)
    except BadMessage:
        pass
    return None


def _last_diverter(history: list[HistoryEntry]) -> HistoryEntry | None:
    """Whoever last sent the call on to another person; a call that only found its way has none."""
    by_index = {entry.index: entry for entry in history}
    for entry in reversed(history):
        if entry.mechanism == "mp" and entry.changed_from in by_index:
            return by_index[entry.changed_from]
        uri = entry.address.uri
        if isinstance(uri, SipUri) and uri.param("cause") is not None:
            # RFC 4458 §2: the address it was sent on to says why. RFC 7044 §10.3: its index is one deeper, or one on.
            return by_index.get(entry.index.rpartition(".")[0]) or _before(history, entry)
    # RFC 4244 §4.1: who wrote before RFC 7044 gives the reason on the address that was left.
    return next((entry for entry in reversed(history[:-1]) if entry.reasons), None)


def _before(history: list[HistoryEntry], entry: HistoryEntry) -> HistoryEntry | None:
    place = history.index(entry)
    return history[place - 1] if place else None


def _named(uri: Uri) -> str:
    number = number_of(uri)
    if number is not None:
        return number
    return uri.aor.removeprefix("sip:") if isinstance(uri, SipUri) else str(uri)
