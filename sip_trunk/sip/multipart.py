"""Bodies of several parts (RFC 2046 s5.1, RFC 5621): find the part somebody can use."""

from __future__ import annotations

import binascii
import re
from collections.abc import Collection
from dataclasses import dataclass

from sip_trunk.sip.errors import BadMessage
from sip_trunk.sip.header_values import ParamDict, is_token, parse_media_type, parse_params
from sip_trunk.sip.header_values import unquote_string as unquoted
from sip_trunk.sip.headers import Headers, header_key
from sip_trunk.sip.message import Message

_MOST_PARTS = 16
_MOST_LEVELS = 3
_LONGEST_HEAD = 4096
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
_NO_PARAMS: ParamDict = {}
_CLEAR = ("", "7bit", "8bit", "binary")


@dataclass(frozen=True, slots=True)
class Part:
    """One body: a whole message's, or one part of a multipart.

    `media_type` is in lower case, "" when the message does not say; `body` is free of any transfer encoding, and
    empty with a `parts` of its own. `handling` is "required" or "optional", None when the sender said neither.
    """

    media_type: str
    params: ParamDict
    disposition: str | None
    handling: str | None
    body: bytes
    parts: tuple[Part, ...] = ()

    def leaves(self) -> list[Part]:
        """The parts that are no multipart themselves, in order."""
        return [leaf for part in self.parts for leaf in part.leaves()] if self.parts else [self]


def body_parts(message: Message) -> Part:
    """The body with all its parts. Raises BadMessage for a multipart that is malformed, nested more than three
    levels deep or of more than sixteen parts."""
    return _Reading().part(message.headers, message.body, 0)


def part(message: Message, media_type: str) -> bytes | None:
    """The body if it is of that type, else the first part of a multipart that is; None when there is none.

    An empty body is none. Raises BadMessage for a malformed multipart.
    """
    if message.content_type == media_type:
        return message.body or None
    for leaf in body_parts(message).leaves():
        if leaf.media_type == media_type:
            return leaf.body or None
    return None


def unknown_required(message: Message, known: Collection[str]) -> str | None:
    """The media type of a body that must be understood and is not among `known`: what 415 is for (RFC 3261 s8.2.3).

    A body that stands alone must be understood unless it says it is optional. A part of several only if it says it
    is required: RFC 3261 s20.11 would have it so without a word, too, but the location or the note that peers add
    beside their SDP (RFC 6442 s5) says nothing and asks nothing. Raises BadMessage for a malformed multipart.
    """
    whole = body_parts(message)
    if not whole.parts:
        optional = not whole.body or not whole.media_type or whole.handling == "optional"
        return None if optional or whole.media_type in known else whole.media_type
    return _unknown_part(whole, known)


def _unknown_part(part: Part, known: Collection[str]) -> str | None:
    if not part.parts:
        return part.media_type if part.handling == "required" and part.media_type not in known else None
    missing = [_unknown_part(inner, known) for inner in part.parts]
    if part.media_type == "multipart/alternative" and any(leaf.media_type in known for leaf in part.leaves()):
        # RFC 5621 s6: one alternative that we know is enough.
        return None
    return next((found for found in missing if found is not None), None)


class _Reading:
    """Counts the parts of one message, however they are nested."""

    def __init__(self) -> None:
        self.seen = 0

    def part(self, headers: Headers, body: bytes, level: int) -> Part:
        written = headers.first("content-type")
        if written is None:
            # RFC 2046 s5.1 gives a part without a type this one; a whole body must say (RFC 3261 s20.15).
            media_type, params = "text/plain" if level else "", _NO_PARAMS
        else:
            media_type, params = parse_media_type(written)
        disposition, handling = _disposition(headers)
        if not media_type.startswith("multipart/"):
            encoding = (headers.first("content-transfer-encoding") or "").lower() if level else ""
            body = _decoded(body, encoding)
            return Part(media_type, params, disposition, handling, body)
        if level == _MOST_LEVELS:
            raise BadMessage("Multipart nested too deep")
        boundary = unquoted(params.get("boundary") or "")
        if _BOUNDARY.fullmatch(boundary) is None:
            raise BadMessage("Bad multipart boundary")
        parts = tuple(self._split(body, boundary.encode("ascii"), level))
        return Part(media_type, params, disposition, handling, b"", parts)

    def _split(self, body: bytes, boundary: bytes, level: int) -> list[Part]:
        delimiter = re.compile(rb"(?:\A|\r\n)--" + re.escape(boundary) + rb"(--)?[ \t]*+(?=\r\n|\Z)")
        parts: list[Part] = []
        start: int | None = None
        for found in delimiter.finditer(body):
            if start is not None:
                self.seen += 1
                if self.seen > _MOST_PARTS:
                    raise BadMessage("Too many body parts")
                headers, content = _read_part(body[start : found.start()])
                parts.append(self.part(headers, content, level + 1))
            if found[1]:
                if not parts:
                    break
                return parts
            start = found.end() + 2
        raise BadMessage("Multipart without an end" if parts or start is not None else "Empty multipart")


def _read_part(data: bytes) -> tuple[Headers, bytes]:
    if data.startswith(b"\r\n"):
        return Headers(), data[2:]
    head, _, content = data.partition(b"\r\n\r\n")
    if len(head) > _LONGEST_HEAD:
        raise BadMessage("Too many headers in a body part")
    keys: list[str] = []
    lines: list[str] = []
    for line in head.decode("utf-8", "surrogateescape").split("\r\n"):
        if line[:1] in (" ", "\t") and lines:
            lines[-1] += "\r\n" + line
            continue
        name, colon, _ = line.partition(":")
        name = name.rstrip(" \t")
        if not line:
            continue
        if not colon or not is_token(name):
            raise BadMessage("Bad header line in a body part")
        keys.append(header_key(name))
        lines.append(line)
    return Headers.from_lines(keys, lines), content


def _disposition(headers: Headers) -> tuple[str | None, str | None]:
    written = headers.first("content-disposition")
    if written is None:
        return None, None
    kind, semicolon, _ = written.partition(";")
    params = parse_params(written, len(kind)) if semicolon else {}
    handling = params.get("handling")
    return kind.strip().lower(), unquoted(handling).lower() if handling else None


def _decoded(body: bytes, encoding: str) -> bytes:
    # RFC 5621 s3.2: SIP carries octets, yet gateways to mail bring parts as they were.
    try:
        if encoding == "base64":
            return binascii.a2b_base64(body)
        if encoding == "quoted-printable":
            return binascii.a2b_qp(body)
    except ValueError as error:
        raise BadMessage("Bad transfer encoding of a body part") from error
    if encoding not in _CLEAR:
        raise BadMessage("Unknown transfer encoding of a body part")
    return body
