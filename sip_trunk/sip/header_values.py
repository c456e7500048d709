"""What stands in a header: tokens, quoted strings, lists, parameters, addresses, Via and CSeq (RFC 3261 s20, s25.1)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

from sip_trunk.sip.errors import BadMessage
from sip_trunk.sip.uri import HOST, Uri, bracketed, parse_host, parse_uri

_CACHED_UP_TO = 300
_MOST_VALUES = 256

BASE_FEATURE_TAGS = frozenset(
    """audio automata class duplex data control mobility description events priority methods schemes
    application video language type isfocus actor text extensions""".split()  # noqa: SIM905
)
"""The feature tags a Contact carries without a leading + (RFC 3840 s9)."""

_TOKEN = r"[A-Za-z0-9\-.!%*_+`'~]+"  # noqa: S105
_QUOTED = r'"[^"\\]*(?:\\.[^"\\]*)*"'
_TOKEN_ONLY = re.compile(_TOKEN)
_PARAM = re.compile(rf'\s*;\s*({_TOKEN})(?:\s*=\s*({_QUOTED}|[^\s;,"<>\x00-\x1f\x7f]+))?', re.DOTALL)
_LIST_ITEM = re.compile(rf'(?:[^,"<]+|{_QUOTED}|<[^<>]*>)*', re.DOTALL)
# How nearly all are written: no folds, no escapes, no stray spaces. The patterns below take the rest.
_PLAIN_PARAMS = re.compile(rf"(?:;{_TOKEN}(?:=[A-Za-z0-9\-.!%*_+`'~:\[\]]+)?)*")
_PLAIN_ADDRESS = re.compile(r'(?:"([^"\\]*)" ?)?<([^<>\s]+)')
_PLAIN_SENT_BY = re.compile(r"SIP/2\.0/([A-Z]+) ([A-Za-z0-9.-]*[A-Za-z0-9])(?::([0-9]{1,5}))?")
# Possessive: what white space and name share must be tried in one way only, or a long one takes its square in time.
_NAME_ADDR = re.compile(rf'\s*+(?:({_QUOTED})\s*+|([^"<>,;:@]*+))<([^<>\s]+)>', re.DOTALL)
_ADDR_SPEC = re.compile(r'\s*([^<>\s",;?]+)')
_VIA = re.compile(
    rf"\s*SIP\s*/\s*2\.0\s*/\s*({_TOKEN})\s+({HOST})\s*(?::\s*([0-9]{{1,5}}))?", re.IGNORECASE | re.ASCII
)
_CSEQ = re.compile(rf"([0-9]{{1,10}})\s+({_TOKEN})", re.ASCII)
_NOT_IN_A_LINE = str.maketrans("\r\n\0", "   ")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)

ParamDict = Mapping[str, str | None]


def is_token(text: str) -> bool:
    return _TOKEN_ONLY.fullmatch(text) is not None


def quote_string(text: str) -> str:
    """A quoted-string (RFC 3261 s25.1). What would break the line it stands in, or end it for a peer written in C,
    becomes a space: a name must not stop a call."""
    escaped = text.translate(_NOT_IN_A_LINE).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def unquote_string(text: str) -> str:
    """What a quoted-string says; any other text as it is."""
    if len(text) > 1 and text[0] == '"' == text[-1]:
        text = text[1:-1]
        if "\\" in text:
            text = _ESCAPED.sub(r"\1", text)
    return text


def split_list(text: str) -> list[str]:
    """Split at the commas that stand outside quotes and angle brackets. Raises BadMessage."""
    if "," not in text:
        text = text.strip()
        return [text] if text else []
    if text.count(",") > _MOST_VALUES:
        raise BadMessage("Too many values")
    items: list[str] = []
    at = 0
    while True:
        match = _LIST_ITEM.match(text, at)
        assert match is not None
        item, at = match[0].strip(), match.end()
        if item:
            items.append(item)
        if at == len(text):
            return items
        if text[at] != ",":
            raise BadMessage("Unterminated quoted string" if text[at] == '"' else "Unbalanced angle bracket")
        at += 1


def _plain_params(text: str) -> ParamDict:
    params: dict[str, str | None] = {}
    items = text.split(";")
    for item in items[1:]:
        name, equals, value = item.partition("=")
        params[name.lower()] = value if equals else None
    if len(params) != len(items) - 1:
        raise BadMessage("Repeated parameter")
    return params


def parse_params(text: str, at: int = 0) -> ParamDict:
    """Read `;name=value;flag` to the end of the text, values as they came, quotes and all. Raises BadMessage."""
    if _PLAIN_PARAMS.fullmatch(text, at):
        return _plain_params(text[at:])
    params: dict[str, str | None] = {}
    end = len(text)
    while at < end:
        match = _PARAM.match(text, at)
        if match is None:
            if text[at:].isspace():
                break
            raise BadMessage("Bad header parameter")
        name, value = match.groups()
        name = name.lower()
        if name in params:
            raise BadMessage("Repeated parameter")
        params[name] = value
        at = match.end()
    return params


def write_params(params: ParamDict) -> str:
    return "".join([f";{name}" if value is None else f";{name}={value}" for name, value in params.items()])


@dataclass(frozen=True, slots=True)
class NameAddr:
    """A From, To, Contact, Route and the like.

    `display` is without quotes and escapes. `params` are the header's own (after the angle brackets), by
    lower-case name, with their values as they came; `param` takes the quotes off.
    """

    display: str
    uri: Uri
    params: ParamDict

    def __str__(self) -> str:
        display = f"{quote_string(self.display)} " if self.display else ""
        return f"{display}<{self.uri}>{write_params(self.params)}"

    @property
    def tag(self) -> str | None:
        return self.params.get("tag")

    def param(self, name: str) -> str | None:
        """The value without quotes; "" for a parameter without one, None when it is not there."""
        value = self.params.get(name, ...)
        if value is ...:
            return None
        return unquote_string(value) if isinstance(value, str) else ""

    @property
    def q(self) -> float:
        """Preference among contacts, 0 to 1; 1 when it says nothing. Raises BadMessage."""
        value = self.params.get("q")
        if value is None:
            return 1.0
        if not re.fullmatch(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?", value):
            raise BadMessage("Bad q value")
        return float(value)

    @property
    def expires(self) -> int | None:
        """Seconds, None when absent; a malformed one is as good as 3600 (RFC 3261 s20.10)."""
        if "expires" not in self.params:
            return None
        value = self.params["expires"] or ""
        return delta_seconds(value) if value.isascii() and value.isdigit() else 3600

    @property
    def instance(self) -> str | None:
        """The +sip.instance without quotes and angle brackets (RFC 5626 s4.1)."""
        value = self.param("+sip.instance")
        return value.strip("<>") if value else None

    def features(self) -> dict[str, str]:
        """The feature tags (RFC 3840 s9), a tag without a value saying "TRUE"."""
        return {
            name: "TRUE" if value is None else unquote_string(value)
            for name, value in self.params.items()
            if name in BASE_FEATURE_TAGS or (name[0] == "+" and name != "+sip.instance")
        }


@dataclass(slots=True)
class Via:
    """One hop of a Via. `host` has no IPv6 brackets, `transport` is upper case."""

    transport: str
    host: str
    port: int | None
    params: ParamDict

    def __str__(self) -> str:
        port = "" if self.port is None else f":{self.port}"
        return f"SIP/2.0/{self.transport} {bracketed(self.host)}{port}{write_params(self.params)}"

    @property
    def branch(self) -> str | None:
        return self.params.get("branch")

    @property
    def received(self) -> str | None:
        value = self.params.get("received")
        return value.strip("[]") if value else None

    @property
    def rport(self) -> int | None:
        """The port that was filled in; None when absent or still empty."""
        value = self.params.get("rport")
        return int(value) if value and len(value) < 6 and value.isascii() and value.isdigit() else None

    @property
    def wants_rport(self) -> bool:
        return "rport" in self.params


class CSeq(NamedTuple):
    number: int
    method: str

    def __str__(self) -> str:
        return f"{self.number} {self.method}"


def delta_seconds(value: str) -> int:
    """Seconds; a number too large for 32 bits is that largest one (RFC 3261 s20.19: it must not wrap)."""
    return min(int(value), 2**32 - 1) if len(value) < 16 else 2**32 - 1


def parse_name_addr(text: str) -> NameAddr:
    """Read a name-addr or an addr-spec with its header parameters. Raises BadMessage."""
    # A phone's own address stands in every message it sends.
    return _parse_name_addr_cached(text) if len(text) <= _CACHED_UP_TO else _parse_name_addr(text)


def _parse_name_addr(text: str) -> NameAddr:
    address, bracket, params = text.rpartition(">")
    if bracket and len(address) <= _CACHED_UP_TO and _PLAIN_PARAMS.fullmatch(params):
        # Its tag is new in each dialog, the address before it is not.
        read = _plain_address(address)
        if read is not None:
            return NameAddr(*read, _plain_params(params) if params else {})
    match = _NAME_ADDR.match(text)
    if match is not None:
        quoted, plain, uri_text = match.groups()
        display = unquote_string(quoted) if quoted is not None else (plain or "").rstrip()
    else:
        # RFC 3261 s20.10: without angle brackets a comma, semicolon or question mark ends the URI.
        match = _ADDR_SPEC.match(text)
        if match is None:
            raise BadMessage("Bad address")
        display, uri_text = "", match[1]
    at = match.end()
    return NameAddr(display, parse_uri(uri_text), parse_params(text, at) if at < len(text) else {})


@lru_cache(maxsize=4096)
def _plain_address(text: str) -> tuple[str, Uri] | None:
    """Display name and URI of a name-addr as nearly all are written, without its closing bracket."""
    match = _PLAIN_ADDRESS.fullmatch(text)
    return None if match is None else (match[1] or "", parse_uri(match[2]))


_parse_name_addr_cached = lru_cache(maxsize=8192)(_parse_name_addr)


def parse_contacts(values: Iterable[str]) -> list[NameAddr] | Literal["*"]:
    """Read the values of Contact; "*" only ever stands alone (RFC 3261 s10.2.2). Raises BadMessage."""
    items = [item for value in values for item in split_list(value)]
    if items == ["*"]:
        return "*"
    return [parse_name_addr(item) for item in items]


def parse_via(text: str) -> Via:
    """Read one hop. Raises BadMessage."""
    sent_by, semicolon, _ = text.partition(";")
    if len(sent_by) <= _CACHED_UP_TO:
        # Its branch is new in each transaction, where it was sent from is not.
        read = _plain_sent_by(sent_by)
        at = len(sent_by)
        if read is not None and (not semicolon or _PLAIN_PARAMS.fullmatch(text, at)):
            return Via(*read, _plain_params(text[at:]) if semicolon else {})
    match = _VIA.match(text)
    if match is None:
        raise BadMessage("Bad Via")
    transport, host, port = match.groups()
    at = match.end()
    try:
        host = parse_host(host)
        params = parse_params(text, at) if at < len(text) else {}
    except BadMessage as error:
        raise BadMessage("Bad Via") from error
    return Via(transport.upper(), host, _via_port(port), params)


@lru_cache(maxsize=4096)
def _plain_sent_by(text: str) -> tuple[str, str, int | None] | None:
    match = _PLAIN_SENT_BY.fullmatch(text)
    return None if match is None else (match[1], match[2], _via_port(match[3]))


def _via_port(text: str | None) -> int | None:
    # A response may be sent there, so it must be one that can be sent to.
    port = int(text) if text else None
    if port is not None and not 0 < port < 65536:
        raise BadMessage("Bad Via")
    return port


def parse_cseq(text: str) -> CSeq:
    """Raises BadMessage; the number must fit 31 bits (RFC 3261 s8.1.1.5)."""
    return _parse_cseq_cached(text) if len(text) <= 40 else _parse_cseq(text)


def _parse_cseq(text: str) -> CSeq:
    match = _CSEQ.fullmatch(text)
    number = -1 if match is None else int(match[1])
    if match is None or number >= 2**31:
        raise BadMessage("Bad CSeq")
    return CSeq(number, match[2])


# Most dialogs and registrations are short, so the numbers are small and come again and again.
_parse_cseq_cached = lru_cache(maxsize=2048)(_parse_cseq)


def parse_media_type(text: str) -> tuple[str, ParamDict]:
    """Read a Content-Type: "type/subtype" in lower case, and its parameters. Raises BadMessage."""
    return _parse_media_type_cached(text) if len(text) <= 60 else _parse_media_type(text)


def _parse_media_type(text: str) -> tuple[str, ParamDict]:
    kind, semicolon, _ = text.partition(";")
    major, slash, minor = kind.partition("/")
    major, minor = major.strip(), minor.strip()
    if not slash or not is_token(major) or not is_token(minor):
        raise BadMessage("Bad Content-Type")
    return f"{major}/{minor}".lower(), parse_params(text, len(kind)) if semicolon else {}


_parse_media_type_cached = lru_cache(maxsize=512)(_parse_media_type)
