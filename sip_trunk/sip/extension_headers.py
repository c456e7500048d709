"""Headers of extensions, read into values: Replaces, Reason, RAck, Session-Expires, History-Info and the like."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from sip_trunk.sip.errors import BadMessage
from sip_trunk.sip.header_values import (
    NameAddr,
    ParamDict,
    delta_seconds,
    is_token,
    parse_name_addr,
    parse_params,
    quote_string,
    split_list,
    unquote_string,
)
from sip_trunk.sip.uri import SipUri

_CALL_ID = re.compile(r"[^\s;,\x00-\x1f\x7f]{1,512}")
_RACK = re.compile(r"([0-9]{1,10})\s+([0-9]{1,10})\s+(\S+)", re.ASCII)
_UUID = re.compile(r"[0-9A-Fa-f]{32}", re.ASCII)
_INDEX = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9}){0,62}", re.ASCII)
_NIL_UUID = "0" * 32


def _number(text: str | None, most: int, name: str) -> int:
    if text is None or not (text.isascii() and text.isdigit()) or len(text) > 10 or int(text) > most:
        raise BadMessage(f"Bad {name}")
    return int(text)


def _value_and_params(text: str, name: str) -> tuple[str, ParamDict]:
    value, semicolon, _ = text.partition(";")
    try:
        params = parse_params(text, len(value)) if semicolon else {}
    except BadMessage as error:
        raise BadMessage(f"Bad {name}") from error
    return value.strip(), params


@dataclass(frozen=True, slots=True)
class Replaces:
    """The dialog a new call is to take the place of, tags as the one who is asked sees them: `to_tag` is its own."""

    call_id: str
    to_tag: str
    from_tag: str
    early_only: bool = False

    def __str__(self) -> str:
        early = ";early-only" if self.early_only else ""
        return f"{self.call_id};to-tag={self.to_tag};from-tag={self.from_tag}{early}"


def parse_replaces(value: str) -> Replaces:
    """Read a Replaces (RFC 3891 s6.1). Raises BadMessage."""
    call_id, params = _value_and_params(value, "Replaces")
    to_tag, from_tag = params.get("to-tag"), params.get("from-tag")
    if _CALL_ID.fullmatch(call_id) is None or not (
        to_tag and is_token(to_tag) and from_tag and is_token(from_tag)
    ):
        raise BadMessage("Bad Replaces")
    return Replaces(call_id, to_tag, from_tag, "early-only" in params)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a request was sent or a call diverted: `protocol` as written ("SIP", "Q.850"), its `cause`, and words."""

    protocol: str
    cause: int | None = None
    text: str | None = None

    def __str__(self) -> str:
        cause = "" if self.cause is None else f";cause={self.cause}"
        text = "" if self.text is None else f";text={quote_string(self.text)}"
        return f"{self.protocol}{cause}{text}"


def parse_reason(value: str) -> list[Reason]:
    """Read the values of a Reason header, in order (RFC 3326 s2). Raises BadMessage."""
    reasons: list[Reason] = []
    for item in split_list(value):
        protocol, params = _value_and_params(item, "Reason")
        if not is_token(protocol):
            raise BadMessage("Bad Reason")
        cause = _number(params["cause"], 2**31 - 1, "Reason") if "cause" in params else None
        text = params.get("text")
        reasons.append(Reason(protocol, cause, None if text is None else unquote_string(text)))
    return reasons


@dataclass(frozen=True, slots=True)
class RAck:
    """Which provisional answer a PRACK acknowledges: its RSeq, and the CSeq of the request it answers."""

    rseq: int
    cseq: int
    method: str

    def __str__(self) -> str:
        return f"{self.rseq} {self.cseq} {self.method}"


def parse_rack(value: str) -> RAck:
    """Read an RAck (RFC 3262 s7.2). Raises BadMessage."""
    match = _RACK.fullmatch(value)
    if match is None or not is_token(match[3]):
        raise BadMessage("Bad RAck")
    return RAck(_number(match[1], 2**32 - 1, "RAck"), _number(match[2], 2**31 - 1, "RAck"), match[3])


def parse_rseq(value: str) -> int:
    """Read an RSeq (RFC 3262 s7.1). Raises BadMessage."""
    return _number(value, 2**32 - 1, "RSeq")


@dataclass(frozen=True, slots=True)
class SessionExpires:
    """A session's length in seconds, and who is to refresh it: "uac", "uas", or None when nobody said."""

    seconds: int
    refresher: str | None = None

    def __str__(self) -> str:
        return f"{self.seconds};refresher={self.refresher}" if self.refresher else str(self.seconds)


def parse_session_expires(value: str) -> SessionExpires:
    """Read a Session-Expires (RFC 4028 s4). Raises BadMessage."""
    seconds, params = _value_and_params(value, "Session-Expires")
    refresher = params.get("refresher")
    if refresher is not None:
        refresher = refresher.lower()
    if not (seconds.isascii() and seconds.isdigit()) or (
        "refresher" in params and refresher not in ("uac", "uas")
    ):
        raise BadMessage("Bad Session-Expires")
    return SessionExpires(delta_seconds(seconds), refresher)


def parse_min_se(value: str) -> int:
    """Read a Min-SE, in seconds (RFC 4028 s5). Raises BadMessage."""
    seconds, _ = _value_and_params(value, "Min-SE")
    if not (seconds.isascii() and seconds.isdigit()):
        raise BadMessage("Bad Min-SE")
    return delta_seconds(seconds)


def parse_privacy(value: str) -> frozenset[str]:
    """The kinds of privacy asked for, in lower case: "id", "header", "user", "none" and so on (RFC 3323 s4.2).

    Some gateways put commas where semicolons belong; both are read. Raises BadMessage.
    """
    kinds = [kind.strip(" \t").lower() for kind in re.split("[;,]", value)]
    if len(kinds) > 16 or not all(is_token(kind) for kind in kinds):
        raise BadMessage("Bad Privacy")
    return frozenset(kinds)


@dataclass(frozen=True, slots=True)
class SessionId:
    """The sender's half of a session's identity, and the other half as the sender knows it: 32 hex digits each.

    `remote` is None from a peer of before RFC 7989 (RFC 7329), and all zeros while it is unknown.
    """

    local: str
    remote: str | None = None

    def __str__(self) -> str:
        return f"{self.local};remote={self.remote}" if self.remote else self.local

    @property
    def nil(self) -> bool:
        """Whether it names nobody (RFC 7989 s5)."""
        return self.local == _NIL_UUID


def parse_session_id(value: str) -> SessionId:
    """Read a Session-ID, in lower case (RFC 7989 s5). Raises BadMessage."""
    local, params = _value_and_params(value, "Session-ID")
    remote = params.get("remote")
    if _UUID.fullmatch(local) is None or ("remote" in params and _UUID.fullmatch(remote or "") is None):
        raise BadMessage("Bad Session-ID")
    return SessionId(local.lower(), remote.lower() if remote else None)


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One address a call was sent to before it came here (RFC 7044 s5).

    `index` tells its place ("1", "1.1"). `mechanism` is how it was reached: "rc" (a registered contact), "mp" (another
    person) or "np" (nothing changed), None when not told, and `changed_from` the index it was reached from.
    """

    address: NameAddr
    index: str
    mechanism: str | None
    changed_from: str | None
    reasons: tuple[Reason, ...]
    privacy: frozenset[str]


def parse_history_info(values: Iterable[str]) -> list[HistoryEntry]:
    """Read the values of History-Info, in order. Raises BadMessage."""
    return [_history_entry(item) for value in values for item in split_list(value)]


def _history_entry(text: str) -> HistoryEntry:
    address = parse_name_addr(text)
    index = address.params.get("index")
    if index is None or _INDEX.fullmatch(index) is None:
        raise BadMessage("Bad History-Info")
    mechanism = changed_from = None
    for name in ("rc", "mp", "np"):
        if name in address.params:
            mechanism, changed_from = name, address.params[name]
    reasons: tuple[Reason, ...] = ()
    privacy: frozenset[str] = frozenset()
    if isinstance(address.uri, SipUri) and address.uri.headers:
        reason, asked = address.uri.header("Reason"), address.uri.header("Privacy")
        reasons = tuple(parse_reason(reason)) if reason else ()
        privacy = parse_privacy(asked) if asked else privacy
    return HistoryEntry(address, index, mechanism, changed_from, reasons, privacy)


@dataclass(frozen=True, slots=True)
class Diversion:
    """Who sent a call on, the last one first, and why (RFC 5806 s9).

    `reason` is in lower case ("no-answer", "user-busy", "unconditional" …), "unknown" when not told; `counter` is how
    often the call was diverted there; `privacy` ("full", "name", "uri", "off") and `screen` are None when not told.
    """

    address: NameAddr
    reason: str
    counter: int
    privacy: str | None
    screen: bool | None


def parse_diversions(values: Iterable[str]) -> list[Diversion]:
    """Read the values of Diversion, in order. Raises BadMessage."""
    return [_diversion(item) for value in values for item in split_list(value)]


def _diversion(text: str) -> Diversion:
    address = parse_name_addr(text)
    reason, privacy, screen = (address.param(name) for name in ("reason", "privacy", "screen"))
    counter = address.param("counter")
    return Diversion(
        address,
        (reason or "unknown").lower(),
        1 if counter is None else _number(counter, 99, "Diversion"),
        privacy.lower() if privacy else None,
        screen.lower() == "yes" if screen else None,
    )
