"""Bytes to messages: datagrams and web socket messages by `parse`, streams by `StreamParser` (RFC 3261 s7, s18.3).

What a message must have is checked here, once, so that those who handle it need not (RFC 3261 s8.1.1, s8.2): To, From,
CSeq, Call-ID, Via, Contact and Request-URI of a message that comes out of here can be read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from sip_trunk.sip.errors import BadMessage
from sip_trunk.sip.header_values import is_token
from sip_trunk.sip.headers import KEYS, Headers, header_key
from sip_trunk.sip.message import METHODS, Message, Request, Response
from sip_trunk.sip.uri import SipUri


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a peer may make us hold: octets of a whole message, octets of its head, and lines in it."""

    message: int = 65_536
    head: int = 32_768
    lines: int = 256


LIMITS = Limits()


class KeepAlive(Enum):
    """RFC 5626 s4.4.1: a ping is to be answered by a pong."""

    PING = b"\r\n\r\n"
    PONG = b"\r\n"


_STATUS_LINE = re.compile(r"SIP/2\.0 ([1-6][0-9]{2}) ([^\r\n]*)", re.IGNORECASE)
_VERSION = re.compile(r"SIP/[0-9]+\.[0-9]+", re.IGNORECASE)
_ONCE = (("to", "To"), ("from", "From"), ("call-id", "Call-ID"), ("cseq", "CSeq"))
_MANDATORY = frozenset(key for key, _ in _ONCE) | {"via"}
_AT_MOST_ONCE = (
    ("max-forwards", "Max-Forwards"),
    ("content-length", "Content-Length"),
    ("content-type", "Content-Type"),
    ("content-disposition", "Content-Disposition"),
    ("expires", "Expires"),
    ("event", "Event"),
    ("subject", "Subject"),
    ("replaces", "Replaces"),
    ("refer-to", "Refer-To"),
    ("session-expires", "Session-Expires"),
)


def is_keep_alive(datagram: bytes) -> bool:
    """A datagram that only keeps a hole in a NAT open: line breaks, or the NULs some phones send."""
    return datagram[:1] in (b"", b"\r", b"\n", b"\0") and not datagram.strip(b"\r\n\0")


def parse(data: bytes, limits: Limits = LIMITS) -> Message:
    """Read a message that came whole: a datagram or a web socket message. Raises BadMessage.

    Octets after Content-Length are dropped, too few are an error (RFC 3261 s18.3).
    """
    if len(data) > limits.message:
        raise BadMessage("Message Too Large", 513)
    if data[:1] in (b"\r", b"\n"):
        data = data.lstrip(b"\r\n")
    end = data.find(b"\r\n\r\n")
    message, fault = _read_head(data[:end] if end >= 0 else data.rstrip(b"\r\n"), limits)
    if message is None:
        raise fault or BadMessage("Bad start line")
    if fault is None and end < 0:
        fault = BadMessage("Missing end of headers")
    if fault is None:
        fault = _fault_of(message)
    if fault is None:
        rest = data[end + 4 :]
        length = message.content_length
        if length == len(rest) or length is None:
            message.body = rest
        elif length < len(rest):
            message.body = rest[:length]
        else:
            fault = BadMessage("Body shorter than Content-Length")
    if fault is not None:
        raise _blamed(fault, message)
    return message


def _blamed(fault: BadMessage, message: Message) -> BadMessage:
    fault.request = message if isinstance(message, Request) else None
    return fault


def _read_head(head: bytes, limits: Limits) -> tuple[Message | None, BadMessage | None]:
    """The message as far as it could be read (its faulty lines left out), and the first fault."""
    text = head.decode("utf-8", "surrogateescape")
    fault: BadMessage | None = None
    breaks = text.count("\r\n")
    if len(head) > limits.head or breaks > limits.lines:
        text = "\r\n".join(text[: limits.head].split("\r\n")[: limits.lines])
        fault = BadMessage("Too many headers", 513)
    elif text.count("\n") != breaks or text.count("\r") != breaks:
        # What one element takes for a line break and the next does not is how headers are smuggled.
        text = re.sub(r"\r(?!\n)|(?<!\r)\n", " ", text)
        fault = BadMessage("Bare CR or LF")
    start_line, *lines = text.split("\r\n")
    keys: list[str] = []
    values: dict[str, str] = {}
    firsts: dict[str, str] | None = values
    try:
        # Nearly every line has a name in a spelling we know, and one pass over them is enough: none is folded then.
        for line in lines:
            name, value = line.split(":", 1)
            key = KEYS[name]
            keys.append(key)
            if key not in values:
                values[key] = value.strip(" \t")
    except (KeyError, ValueError):
        keys, lines, bad_line = _read_names(_unfolded(lines))
        firsts = None
        fault = fault or bad_line
    message, bad_start = _read_start_line(start_line, Headers.from_lines(keys, lines, firsts))
    return message, bad_start or fault


def _read_names(lines: list[str]) -> tuple[list[str], list[str], BadMessage | None]:
    """The keys and the lines that have one, and a fault if some have none."""
    keys: list[str] = []
    kept: list[str] = []
    fault: BadMessage | None = None
    for line in lines:
        name, colon, _ = line.partition(":")
        name = name.rstrip(" \t")
        if colon and is_token(name):
            keys.append(header_key(name))
            kept.append(line)
        else:
            fault = fault or BadMessage("Bad header line")
    return keys, kept, fault


def _unfolded(lines: list[str]) -> list[str]:
    """Each header on one item, a folded one with the line breaks it came with (RFC 3261 s7.3.1)."""
    joined: list[str] = []
    for line in lines:
        # A start line cannot be folded: white space after it starts a line that has no name, which is a fault.
        if line[:1] in (" ", "\t") and joined:
            joined[-1] += "\r\n" + line
        else:
            joined.append(line)
    return joined


def _read_start_line(line: str, headers: Headers) -> tuple[Message | None, BadMessage | None]:
    if line[:4].upper() == "SIP/":
        match = _STATUS_LINE.fullmatch(line)
        if match is None:
            return None, BadMessage("Bad status line")
        return Response(int(match[1]), match[2], headers), None
    parts = line.split(" ")
    if len(parts) == 3 and parts[2] == "SIP/2.0" and (parts[0] in METHODS or is_token(parts[0])) and parts[1]:
        return Request(parts[0], parts[1], headers), None
    # Not a Request-Line. If it looks as though it was meant to be one, read enough to answer it.
    words = line.split()
    if len(words) < 2 or not is_token(words[0]) or _VERSION.fullmatch(words[-1]) is None:
        return None, BadMessage("Bad start line")
    request = Request(words[0], " ".join(words[1:-1]), headers)
    if words[-1].upper() != "SIP/2.0":
        return request, BadMessage("Version Not Supported", 505)
    if len(words) == 3 and parts == words:
        # RFC 3261 s7.1: the version is read in any case.
        return request, None
    return request, BadMessage("Bad Request-Line")


def _fault_of(message: Message) -> BadMessage | None:
    try:
        _check(message)
    except BadMessage as fault:
        return fault
    return None


def _check(message: Message) -> None:
    keys = message.headers.keys
    names = message.headers.firsts().keys()
    if not names >= _MANDATORY:
        raise BadMessage(
            f"Missing {next(name for key, name in (*_ONCE, ('via', 'Via')) if key not in names)}"
        )
    if len(names) != len(keys):
        for key, name in (*_ONCE, *_AT_MOST_ONCE):
            if keys.count(key) > 1:
                raise BadMessage(f"Repeated {name}")
    if not message.call_id:
        raise BadMessage("Missing Call-ID")
    _ = message.top_via, message.from_, message.to, message.content_length
    cseq = message.cseq
    if "contact" in names:
        _ = message.contacts
    if "expires" in names:
        _ = message.expires
    if isinstance(message, Request):
        if cseq.method != message.method:
            raise BadMessage("CSeq method does not match")
        uri = message.uri
        if isinstance(uri, SipUri) and uri.headers:
            raise BadMessage("Headers in Request-URI")
        max_forwards = message.max_forwards
        if max_forwards is not None and max_forwards > 255:
            raise BadMessage("Bad Max-Forwards")
        if "route" in names:
            _ = message.routes
        if "record-route" in names:
            _ = message.record_routes


class StreamParser:
    """Messages out of a TCP or TLS stream.

    It never holds more than one message and the last piece fed. Once `broken` it cannot tell where a next message
    would start: the connection is to be closed. `awaits_pong` is to be set with each ping of ours (RFC 5626 §4.4.1): a
    line break alone is then the answer to it.
    """

    __slots__ = (
        "_body_size",
        "_buffer",
        "_fault",
        "_limits",
        "_message",
        "_searched",
        "awaits_pong",
        "broken",
    )

    def __init__(self, limits: Limits = LIMITS) -> None:
        self._limits = limits
        self._buffer = bytearray()
        self._searched = 0
        self._message: Message | None = None
        self._fault: BadMessage | None = None
        self._body_size = 0
        self.awaits_pong = False
        self.broken = False

    @property
    def idle(self) -> bool:
        """Nothing has begun that is not finished."""
        # A line break alone is half a ping or a pong: no message waits for its end.
        return self._message is None and len(self._buffer) <= 2 and not self._buffer.strip(b"\r\n")

    def feed(self, data: bytes) -> list[Message | KeepAlive | BadMessage]:
        """What this piece completed. A BadMessage is the place of a message that could be framed but not read, or,
        with `broken`, the end."""
        out: list[Message | KeepAlive | BadMessage] = []
        if self.broken:
            return out
        self._buffer += data
        while self._next(out):
            pass
        return out

    def _next(self, out: list[Message | KeepAlive | BadMessage]) -> bool:
        buffer = self._buffer
        if self._message is None:
            if buffer.startswith(b"\r\n"):
                return self._keep_alive(out)
            end = buffer.find(b"\r\n\r\n", max(0, self._searched - 3))
            if end > self._limits.head or (end < 0 and len(buffer) > self._limits.head):
                self._break(out, BadMessage("Too many headers", 513))
                return False
            if end < 0:
                self._searched = len(buffer)
                return False
            head = bytes(buffer[:end])
            del buffer[: end + 4]
            self._searched = 0
            return self._begin(head, out)
        if len(buffer) < self._body_size:
            return False
        message, fault = self._message, self._fault
        message.body = bytes(buffer[: self._body_size])
        del buffer[: self._body_size]
        self._message = self._fault = None
        fault = fault or _fault_of(message)
        out.append(message if fault is None else _blamed(fault, message))
        return True

    def _keep_alive(self, out: list[Message | KeepAlive | BadMessage]) -> bool:
        buffer = self._buffer
        if buffer.startswith(b"\r\n\r\n"):
            out.append(KeepAlive.PING)
            del buffer[:4]
            return True
        if not self.awaits_pong and (len(buffer) == 2 or buffer[2:] == b"\r"):
            return False  # the first half of a ping, or a pong: what follows will tell
        self.awaits_pong = False
        out.append(KeepAlive.PONG)
        del buffer[:2]
        return True

    def _begin(self, head: bytes, out: list[Message | KeepAlive | BadMessage]) -> bool:
        message, fault = _read_head(head, self._limits)
        if message is None:
            self._break(out, fault or BadMessage("Bad start line"))
            return False
        try:
            length = message.content_length
            if message.headers.count("content-length") > 1:
                raise BadMessage("Repeated Content-Length")
            if length is None:
                # RFC 3261 s20.14: without it a stream has no next message.
                raise BadMessage("Missing Content-Length")
            if length > self._limits.message - len(head):
                raise BadMessage("Message Too Large", 513)
        except BadMessage as unframed:
            self._break(out, _blamed(fault or unframed, message))
            return False
        self._message, self._fault, self._body_size = message, fault, length
        return True

    def _break(self, out: list[Message | KeepAlive | BadMessage], fault: BadMessage) -> None:
        self.broken = True
        self._buffer.clear()
        out.append(fault)
