"""SIP headers: kept as the lines that came, read when asked for (RFC 3261 s7.3, s25.1).

What reads one header's value is in header_values.py and extension_headers.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from sys import intern
from typing import Any

from sip_trunk.sip.errors import SipFault
from sip_trunk.sip.header_values import split_list

COMPACT = {
    "a": "Accept-Contact",
    "b": "Referred-By",
    "c": "Content-Type",
    "d": "Request-Disposition",
    "e": "Content-Encoding",
    "f": "From",
    "i": "Call-ID",
    "j": "Reject-Contact",
    "k": "Supported",
    "l": "Content-Length",
    "m": "Contact",
    "n": "Identity-Info",
    "o": "Event",
    "r": "Refer-To",
    "s": "Subject",
    "t": "To",
    "u": "Allow-Events",
    "v": "Via",
    "x": "Session-Expires",
    "y": "Identity",
}
_COMMON = """
    Accept Accept-Contact Accept-Encoding Accept-Language Alert-Info Allow Allow-Events Authorization Call-ID
    Call-Info Contact Content-Disposition Content-Encoding Content-Language Content-Length Content-Type CSeq Date
    Diversion Event Expires From History-Info In-Reply-To Max-Forwards Min-Expires Min-SE MIME-Version Organization
    P-Asserted-Identity P-Preferred-Identity Path Priority Privacy Proxy-Authenticate Proxy-Authorization
    Proxy-Require RAck Reason Record-Route Refer-To Referred-By Reject-Contact Replaces Reply-To Require
    Retry-After Route RSeq Server Service-Route Session-Expires SIP-ETag SIP-If-Match Subject Subscription-State
    Supported Timestamp To Unsupported User-Agent Via Warning WWW-Authenticate
""".split()  # noqa: SIM905
# Spellings as phones write them, to the key a header is found by; any other spelling is folded to lower case.
KEYS: dict[str, str] = {}
for _name in _COMMON:
    KEYS[_name] = KEYS[_name.lower()] = intern(_name.lower())
for _short, _name in COMPACT.items():
    KEYS[_short] = KEYS[_short.upper()] = intern(_name.lower())

LISTS = frozenset(
    """accept accept-contact accept-encoding accept-language alert-info allow allow-events call-info contact
    content-encoding content-language diversion error-info history-info in-reply-to p-asserted-identity
    p-preferred-identity path proxy-require reason record-route reject-contact require route security-client
    security-server security-verify service-route supported unsupported via warning""".split()  # noqa: SIM905
)
"""Headers whose values may be joined by commas (RFC 3261 s7.3.1)."""
_FOLD = re.compile(r"\r\n[ \t]+")


def header_key(name: str) -> str:
    """The one lower-case name of a header, whichever spelling or compact form it came in."""
    return KEYS.get(name) or KEYS.get(lowered := name.lower()) or lowered


def _line(name: str, value: str) -> str:
    # A line break in a value would let whoever chose the value write headers of their own. A NUL breaks no line, and a
    # peer that has one in its From (RFC 4475 s3.1.1.2) must get it back in every request of the dialog.
    line = f"{name}: {value}"
    if "\n" in line or "\r" in line:
        raise SipFault(f"Line break in {name!r}")
    return line


class Headers:
    """Headers in order. Names are found in any case and in their compact form; a line is written as it came.

    `cache` holds what was parsed from a header, by its key; changing a header forgets it.
    """

    __slots__ = ("_firsts", "cache", "keys", "lines")

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self.keys: list[str] = []
        self.lines: list[str] = []
        self.cache: dict[str, Any] = {}
        self._firsts: dict[str, str] | None = None
        if pairs != ():
            self.extend(pairs)

    @classmethod
    def from_lines(cls, keys: list[str], lines: list[str], firsts: dict[str, str] | None = None) -> Headers:
        """Headers of lines as they stand on the wire (a folded one with its line breaks), and their keys; `firsts` if
        it is known already."""
        headers = cls()
        headers.keys = keys
        headers.lines = lines
        headers._firsts = firsts
        return headers

    def firsts(self) -> Mapping[str, str]:
        """The first line's value of each name, by its key; good until a header is changed."""
        firsts = self._firsts
        if firsts is None:
            firsts = self._firsts = {}
            for index, key in enumerate(self.keys):
                if key not in firsts:
                    firsts[key] = self._value(index)
        return firsts

    def _value(self, index: int) -> str:
        value = self.lines[index].partition(":")[2].strip(" \t")
        return _FOLD.sub(" ", value).strip(" \t") if "\r" in value else value

    def get(self, name: str) -> str | None:
        """The first line's value, unfolded; None when there is none."""
        return self.first(header_key(name))

    def first(self, key: str) -> str | None:
        """As `get`, for a name that is a `header_key` already."""
        firsts = self._firsts
        return (firsts if firsts is not None else self.firsts()).get(key)

    def all(self, name: str) -> list[str]:
        """Every value in order, comma-separated ones one by one. Raises BadMessage for a quote left open."""
        key = header_key(name)
        values = [self._value(index) for index, known in enumerate(self.keys) if known == key]
        if key in LISTS:
            return [item for value in values for item in split_list(value)]
        return values

    def count(self, name: str) -> int:
        """On how many lines it stands."""
        return self.keys.count(header_key(name))

    def add(self, name: str, value: str) -> None:
        """Append a line. Raises SipFault for a value that holds a line break."""
        key = header_key(name)
        self.lines.append(_line(name, value))
        self.keys.append(key)
        firsts = self._firsts
        self._forget(key, firsts.get(key, value) if firsts is not None else None)

    def extend(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Append a line for each (name, value). Raises SipFault for a value that holds a line break."""
        keys, lines, cache = self.keys, self.lines, self.cache
        for name, value in pairs:
            # As `add`, in one place: this is how every message of ours comes about.
            lines.append(_line(name, value))
            key = KEYS.get(name) or header_key(name)
            keys.append(key)
            if cache:
                self._forget(key)
        self._firsts = None

    def prepend(self, name: str, value: str) -> None:
        """Put a line before the first of its name, or before all others. Raises SipFault."""
        key = header_key(name)
        index = self.keys.index(key) if key in self.keys else 0
        self.lines.insert(index, _line(name, value))
        self.keys.insert(index, key)
        self._forget(key, value)

    def set(self, name: str, value: str) -> None:
        """Make this the only line of its name, where the first one stood. Raises SipFault."""
        key = header_key(name)
        if key not in self.keys:
            self.add(name, value)
            return
        line = _line(name, value)
        index = self.keys.index(key)
        self.lines[index] = line
        if self.keys.count(key) > 1:
            for other in range(len(self.keys) - 1, index, -1):
                if self.keys[other] == key:
                    del self.keys[other], self.lines[other]
        self._forget(key, value)

    def replace_first(self, name: str, value: str) -> None:
        """Change the first value alone, the others of a comma-separated line staying. Raises SipFault."""
        key = header_key(name)
        index = self.keys.index(key)
        if key in LISTS and "," in self.lines[index]:
            value = ", ".join([value, *split_list(self._value(index))[1:]])
        self.lines[index] = _line(name, value)
        self._forget(key, value)

    def remove_first(self, name: str) -> str | None:
        """Take the first value off (of a comma-separated line only that one) and return it."""
        key = header_key(name)
        if key not in self.keys:
            return None
        index = self.keys.index(key)
        value = self._value(index)
        items = split_list(value) if key in LISTS else [value]
        if len(items) > 1:
            self.lines[index] = _line(name, ", ".join(items[1:]))
        else:
            del self.keys[index], self.lines[index]
        self._forget(key)
        return items[0] if items else ""

    def remove(self, name: str) -> None:
        key = header_key(name)
        for index in range(len(self.keys) - 1, -1, -1):
            if self.keys[index] == key:
                del self.keys[index], self.lines[index]
        self._forget(key)

    def _forget(self, key: str, first: str | None = None) -> None:
        """What was read of this header holds no more. first: the value its first line has now, if that is known."""
        if first is None:
            self._firsts = None
        elif self._firsts is not None:
            self._firsts[key] = first.strip(" \t")
        if self.cache:
            self.cache.pop(key, None)
            if key == "via":
                self.cache.pop("top via", None)

    def copy(self) -> Headers:
        return Headers.from_lines(self.keys.copy(), self.lines.copy())

    def __contains__(self, name: str) -> bool:
        return header_key(name) in self.keys

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """Each line's name as it came, and its value, unfolded."""
        for index, line in enumerate(self.lines):
            yield line.partition(":")[0].rstrip(), self._value(index)

    def __len__(self) -> int:
        return len(self.keys)

    def __repr__(self) -> str:
        return f"Headers({list(self)!r})"
