"""message/cpim (RFC 3862): a message wrapped with headers of its own, which survive where SIP's do not.

Headers, an empty line, the MIME headers of what is wrapped, an empty line, and that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from sip_trunk.sip.errors import BadMessage, SipFault
from sip_trunk.sip.header_values import is_token, parse_media_type

MEDIA_TYPE = "message/cpim"

LARGEST_HEAD = 4096
"""Bytes of all headers, both kinds together."""
MOST_HEADERS = 32

_CORE = frozenset(("From", "To", "cc", "DateTime", "Subject", "NS", "Require"))
_NAMESPACE = re.compile(r"(?:([A-Za-z0-9_.-]+) +)?<([^<> ]{1,200})>")
_ESCAPE = re.compile(r"\\(u[0-9A-Fa-f]{4}|.|$)", re.DOTALL)
_ESCAPED = {"b": "\b", "t": "\t", "n": "\n", "r": "\r", '"': '"', "'": "'", "\\": "\\"}


@dataclass(frozen=True, slots=True)
class Cpim:
    """`headers` are the message's own, `part_headers` those of the wrapped part, in order and unescaped.

    A header of an extension is written `prefix.Name`, with an `NS` header before it that binds the prefix.
    """

    headers: tuple[tuple[str, str], ...]
    part_headers: tuple[tuple[str, str], ...]
    content: bytes

    def get(self, name: str, namespace: str | None = None) -> str | None:
        """The first header of that name, in its exact case (s2.2); `namespace` is its URI, None the core's."""
        prefixes: dict[str, str] = {}
        for found, value in self.headers:
            if found == "NS":
                bound = _NAMESPACE.fullmatch(value.strip())
                if bound is not None:
                    prefixes[bound[1] or ""] = bound[2]
                continue
            prefix, _, local = found.rpartition(".")
            # s3.4: without a prefix a name that is the core's own is the core's, else of the default namespace.
            core = not prefix and found in _CORE
            if local == name and (None if core else prefixes.get(prefix)) == namespace:
                return value
        return None

    @property
    def content_type(self) -> str:
        """ "type/subtype" of the wrapped part, in lower case. Raises BadMessage."""
        return self._media_type()[0]

    @property
    def text(self) -> str:
        """The wrapped part as text. Raises BadMessage 415 for one that is not text/plain in UTF-8."""
        kind, params = self._media_type()
        if kind != "text/plain" or (params.get("charset") or "utf-8").strip('"').lower() not in (
            "utf-8",
            "us-ascii",
        ):
            raise BadMessage("Only text/plain in UTF-8", 415)
        if (self._part("content-transfer-encoding") or "8bit").lower() not in ("7bit", "8bit", "binary"):
            raise BadMessage("Only 8bit", 415)
        try:
            return self.content.decode()
        except UnicodeDecodeError as error:
            raise BadMessage("Not UTF-8", 415) from error

    def to_bytes(self) -> bytes:
        """Raises SipFault for a header that cannot be written."""
        lines = [_line(name, _escape(value)) for name, value in self.headers]
        lines += ["", *(_line(name, value) for name, value in self.part_headers), "", ""]
        return "\r\n".join(lines).encode("utf-8", "replace") + self.content

    def _media_type(self) -> tuple[str, dict[str, str | None]]:
        kind, params = parse_media_type(self._part("content-type") or "text/plain")
        return kind, dict(params)

    def _part(self, name: str) -> str | None:
        return next((value for found, value in self.part_headers if found.lower() == name), None)


def parse_cpim(body: bytes) -> Cpim:
    """Read a wrapped message. Raises BadMessage: 413 for headers without measure, 400 for what is none."""
    headers, at = _headers(body, 0)
    part_headers, at = _headers(body, at)
    content = body[at:]
    length = next((value for name, value in part_headers if name.lower() == "content-length"), None)
    if length is not None:
        if not (length.isascii() and length.isdigit() and len(length) <= 7) or int(length) > len(content):
            raise BadMessage("Bad Content-length in CPIM")
        content = content[: int(length)]
    required = next((value for name, value in headers if name == "Require"), None)
    # s3.5: whoever cannot do what is required must not act as if they could. What we know is the core.
    if required is not None and any(name.strip() not in _CORE for name in required.split(",")):
        raise BadMessage("CPIM Requires More Than We Know", 415)
    return Cpim(tuple((name, _unescape(value)) for name, value in headers), tuple(part_headers), content)


def wrap(
    headers: Iterable[tuple[str, str]], content_type: str, content: bytes, *more: tuple[str, str]
) -> bytes:
    """The bytes of a message/cpim with that inside; `more` are further MIME headers."""
    part = (("Content-Type", content_type), *more, ("Content-Length", str(len(content))))
    return Cpim(tuple(headers), part, content).to_bytes()


def _headers(body: bytes, at: int) -> tuple[list[tuple[str, str]], int]:
    """The headers that begin there, and where what follows their empty line begins."""
    found: list[tuple[str, str]] = []
    while True:
        end = body.find(b"\n", at, LARGEST_HEAD)
        if end < 0:
            raise BadMessage("Bad CPIM") if len(body) < LARGEST_HEAD else BadMessage("CPIM Too Large", 413)
        # s2 wants CRLF; some phones write the line feed alone.
        line = body[at:end].removesuffix(b"\r")
        at = end + 1
        if not line:
            return found, at
        if len(found) >= MOST_HEADERS:
            raise BadMessage("CPIM Too Large", 413)
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise BadMessage("CPIM headers are not UTF-8") from error
        name, colon, value = text.partition(":")
        name = name.rstrip()
        if not colon or not is_token(name):
            raise BadMessage("Bad CPIM header")
        # s3.3: a parameter (;lang=…) stands before the value, and the value after a space.
        found.append((name, value.strip()))


def _line(name: str, value: str) -> str:
    if not is_token(name) or any(char in value for char in "\r\n\0"):
        raise SipFault(f"Bad CPIM header {name}")
    return f"{name}: {value}"


def _unescape(value: str) -> str:
    def plain(match: re.Match[str]) -> str:
        text = match[1]
        if len(text) == 5:
            code = int(text[1:], 16)
            return "\N{REPLACEMENT CHARACTER}" if 0xD800 <= code <= 0xDFFF else chr(code)
        # s2.3: a backslash before anything else is not allowed; it is taken as the character itself.
        return _ESCAPED.get(text, text)

    return _ESCAPE.sub(plain, value)


def _escape(value: str) -> str:
    return "".join(
        "\\\\" if char == "\\" else char if char >= " " and char != "\x7f" else f"\\u{ord(char):04x}"
        for char in value
    )
