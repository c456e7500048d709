"""SIP, SIPS (RFC 3261 s19.1) and tel (RFC 3966) URIs, as values that do not change."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from ipaddress import IPv6Address
from typing import Any
from urllib.parse import quote, unquote

from sip_trunk.sip.errors import BadMessage

HOST = r"\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9.])?"
_NOT = r"<>\"\x00-\x20\x7f"
_SIP_URI = re.compile(
    rf"(sips?):(?:([^@:{_NOT}]+)(?::([^@{_NOT}]*))?@)?({HOST})(?::([0-9]{{1,5}}))?"
    rf"((?:;[^;?{_NOT}]+)*)(?:\?([^{_NOT}]+))?",
    re.IGNORECASE | re.ASCII,
)
_TEL_URI = re.compile(
    rf"tel:(\+[().-]*+[0-9][0-9().-]*+|[().-]*+[0-9A-Fa-f*#][0-9A-Fa-f*#().-]*+)((?:;[^;?{_NOT}]+)*)",
    re.IGNORECASE | re.ASCII,
)
_OTHER_URI = re.compile(rf"([A-Za-z][A-Za-z0-9+.-]*):([^{_NOT}]+)", re.ASCII)
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_UNESCAPED_IN_USER = "-_.!~*'()&=+$,;?/"
_UNESCAPED_AFTER_COLON = "-_.!~*'()&=+$,"
_UNESCAPED_IN_PARAM = "-_.!~*'()[]/:&+$"
_BREAKS_A_LINE = re.compile(r"[\r\n\0]")
# RFC 3261 s19.1.4: these count even when only one of the two URIs has them.
_ALWAYS_COMPARED = ("user", "ttl", "method", "maddr", "transport")
_EXTRA_COLON = re.compile(r":::(?=[0-9]{1,3}\.[0-9.]+\Z)")
_VISUAL_SEPARATORS = str.maketrans("", "", "-.()")
_CACHED_UP_TO = 200

Params = tuple[tuple[str, str | None], ...]


def bracketed(host: str) -> str:
    """The host as it stands in a URI or a Via: an IPv6 address gets its brackets."""
    return f"[{host}]" if ":" in host else host


def parse_host(text: str) -> str:
    """A host without its IPv6 brackets, of a text that HOST matched. Raises BadMessage for no IPv6 address."""
    if text[0] != "[":
        return text
    # RFC 5118 s4.10: the grammar of RFC 3261 let a third colon stand before an IPv4 address, and must be borne with.
    host = _EXTRA_COLON.sub("::", text[1:-1])
    if _ipv6(host) is None:
        raise BadMessage("Bad IPv6 address")
    return host


@lru_cache(maxsize=1024)
def _ipv6(host: str) -> IPv6Address | None:
    try:
        return IPv6Address(host)
    except ValueError:
        return None


def _same_host(one: str, other: str) -> bool:
    if one.lower() == other.lower():
        return True
    # RFC 5954 s4.2: an address is the same however it is written.
    return ":" in one and ":" in other and _ipv6(one) is not None and _ipv6(one) == _ipv6(other)


def _unescape(text: str) -> str:
    return unquote(text, errors="surrogateescape") if "%" in text else text


def _escape(text: str, safe: str) -> str:
    if text.isalnum() and text.isascii():
        return text  # as nearly all are
    return quote(text, safe=safe, errors="surrogateescape")


def _write_params(params: Params) -> str:
    if not params:
        return ""
    written = ((_escape(name, _UNESCAPED_IN_PARAM), value) for name, value in params)
    return "".join(f";{name}" if value is None else f";{name}={value}" for name, value in written)


def _read_params(text: str) -> Params:
    if not text:
        return ()
    params: list[tuple[str, str | None]] = []
    for item in text[1:].split(";"):
        written, equals, value = item.partition("=")
        if not written:
            raise BadMessage("Bad URI parameter")
        name = _unescape(written)
        params.append((name.lower(), value if equals else None))
    if len(params) > 1 and len({name for name, _ in params}) != len(params):
        raise BadMessage("Repeated URI parameter")
    return tuple(params)


@dataclass(frozen=True, slots=True)
class SipUri:
    """A sip: or sips: URI.

    `user` and `password` are unescaped, `host` has no IPv6 brackets, and parameter names are lower case. A URI
    that was parsed is written as it came (`text`); use `replace` to get a changed one.
    """

    scheme: str = "sip"
    user: str | None = None
    host: str = ""
    port: int | None = None
    params: Params = ()
    headers: tuple[tuple[str, str], ...] = ()
    password: str | None = None
    text: str = field(default="", compare=False, repr=False)

    def __str__(self) -> str:
        if self.text:
            return self.text
        parts = [self.scheme, ":"]
        if self.user is not None:
            parts.append(_escape(self.user, _UNESCAPED_IN_USER))
            if self.password is not None:
                parts += (":", _escape(self.password, _UNESCAPED_AFTER_COLON))
            parts.append("@")
        parts.append(bracketed(self.host))
        if self.port is not None:
            parts.append(f":{self.port}")
        parts.append(_write_params(self.params))
        if self.headers:
            parts += ("?", "&".join(f"{name}={value}" for name, value in self.headers))
        return "".join(parts)

    def param(self, name: str) -> str | None:
        """The unescaped value; "" for a parameter without one (`;lr`), None when it is not there."""
        for key, value in self.params:
            if key == name:
                return "" if value is None else _unescape(value)
        return None

    @property
    def transport(self) -> str | None:
        """The transport parameter in lower case, or None."""
        value = self.param("transport")
        return value.lower() if value else None

    @property
    def aor(self) -> str:
        """The address of record: what a location table is keyed by (RFC 3261 s10.3 step 5)."""
        host = bracketed(self.host.lower())
        if self.user is None:
            return f"sip:{host}"
        return f"sip:{_escape(self.user, _UNESCAPED_IN_USER)}@{host}"

    def header(self, name: str) -> str | None:
        """The unescaped value of one of the URI's own headers (`?Replaces=…`), None when it is not there.

        Raises BadMessage for a value that would break a line: it is somebody else's choice (RFC 3261 s19.1.5).
        """
        wanted = name.lower()
        for key, written in self.headers:
            if _unescape(key).lower() == wanted:
                value = _unescape(written)
                if wanted != "body" and _BREAKS_A_LINE.search(value):
                    raise BadMessage("Line break in URI header")
                return value
        return None

    def without_headers(self) -> SipUri:
        """The address alone, as a Request-URI must have it."""
        return self.replace(headers=()) if self.headers else self

    def replace(self, **changes: Any) -> SipUri:
        return replace(self, text="", **changes)

    def matches(self, other: object) -> bool:
        """Equality by RFC 3261 s19.1.4, which is neither transitive nor what `==` tells."""
        if not isinstance(other, SipUri):
            return False
        if (
            self.scheme != other.scheme
            or self.user != other.user
            or self.password != other.password
            or not _same_host(self.host, other.host)
            or self.port != other.port
        ):
            return False
        mine, theirs = _folded(self.params), _folded(other.params)
        if any(mine.get(name, ...) != theirs.get(name, ...) for name in _ALWAYS_COMPARED):
            return False
        if any(theirs[name] != value for name, value in mine.items() if name in theirs):
            return False
        return _folded(self.headers) == _folded(other.headers)


@dataclass(frozen=True, slots=True)
class TelUri:
    """A tel: URI; `number` as it came, with its visual separators.

    A number without a + is local to `context`. RFC 3966 s5.1.5 wants every local number to say its context; phones
    that dial tel:112 do not, and are read all the same.
    """

    number: str
    params: Params = ()
    text: str = field(default="", compare=False, repr=False)
    scheme: str = "tel"

    def __str__(self) -> str:
        return self.text or f"tel:{self.number}{_write_params(self.params)}"

    def param(self, name: str) -> str | None:
        for key, value in self.params:
            if key == name:
                return "" if value is None else _unescape(value)
        return None

    @property
    def context(self) -> str | None:
        """Where a local number holds: a domain, or the leading digits of a global number (phone-context)."""
        return self.param("phone-context") or None

    @property
    def digits(self) -> str:
        """The number without visual separators (RFC 3966 s5.1.1); a global one keeps its +."""
        return self.number.translate(_VISUAL_SEPARATORS)

    @property
    def user(self) -> str:
        """What stands where a sip: URI has its user."""
        return self.digits

    @property
    def aor(self) -> str:
        return f"tel:{self.digits}"

    def matches(self, other: object) -> bool:
        """Equality by RFC 3966 s4."""
        return (
            isinstance(other, TelUri)
            and self.digits.lower() == other.digits.lower()
            and _folded_tel(self.params) == _folded_tel(other.params)
        )


@dataclass(frozen=True, slots=True)
class OtherUri:
    """A URI of a scheme we do not route by (RFC 3261 s8.2.2.1 answers 416 when asked to)."""

    scheme: str
    rest: str
    text: str = field(default="", compare=False, repr=False)

    def __str__(self) -> str:
        return self.text or f"{self.scheme}:{self.rest}"

    @property
    def user(self) -> None:
        return None

    @property
    def aor(self) -> str:
        return str(self)

    def param(self, name: str) -> str | None:
        return None

    def matches(self, other: object) -> bool:
        return self == other


Uri = SipUri | TelUri | OtherUri


def _folded(pairs: Iterable[tuple[str, str | None]]) -> dict[str, str | None]:
    return {name.lower(): None if value is None else _unescape(value).lower() for name, value in pairs}


def _folded_tel(params: Params) -> dict[str, str | None]:
    folded = _folded(params)
    for name in ("ext", "phone-context"):
        value = folded.get(name)
        if value and (name == "ext" or value[0] == "+"):
            folded[name] = value.translate(_VISUAL_SEPARATORS)
    return folded


def parse_uri(text: str) -> Uri:
    """Read a URI that stands alone (no angle brackets, no white space). Raises BadMessage."""
    # The same few addresses come again and again; long ones are not kept, so that nobody can fill memory.
    return _parse_cached(text) if len(text) <= _CACHED_UP_TO else _parse(text)


def _parse(text: str) -> Uri:
    match = _SIP_URI.fullmatch(text)
    if match is not None:
        if "%" in text and _BAD_ESCAPE.search(text):
            raise BadMessage("Bad escape in URI")
        scheme, user, password, host, port, params, headers = match.groups()
        number = int(port) if port is not None else None
        if number is not None and not 0 < number < 65536:
            raise BadMessage("Bad port in URI")
        return SipUri(
            scheme.lower(),
            None if user is None else _unescape(user),
            parse_host(host),
            number,
            _read_params(params),
            _read_uri_headers(headers) if headers else (),
            None if password is None else _unescape(password),
            text,
        )
    match = _TEL_URI.fullmatch(text)
    if match is not None:
        return TelUri(match[1], _read_params(match[2]), text)
    match = _OTHER_URI.fullmatch(text)
    if match is None or match[1].lower() in ("sip", "sips", "tel"):
        raise BadMessage("Bad URI")
    return OtherUri(match[1].lower(), match[2], text)


_parse_cached = lru_cache(maxsize=4096)(_parse)


def _read_uri_headers(text: str) -> tuple[tuple[str, str], ...]:
    pairs: list[tuple[str, str]] = []
    for item in text.split("&"):
        name, equals, value = item.partition("=")
        if not name or not equals:
            raise BadMessage("Bad header in URI")
        pairs.append((name, value))
    return tuple(pairs)


def parse_sip_uri(text: str) -> SipUri:
    """Read a URI that must be sip: or sips:. Raises BadMessage (416 for another scheme)."""
    uri = parse_uri(text)
    if not isinstance(uri, SipUri):
        raise BadMessage("Unsupported URI Scheme", 416)
    return uri
