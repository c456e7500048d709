"""Session descriptions (RFC 8866): read once into frozen values, written out always in the same order.

What stands at session level and holds for every medium (connection, direction, ICE, fingerprint, setup) is
resolved into each `Media` while reading, so nobody above looks in two places.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from config.errors import TheirError

MAX_BYTES = 65536
MAX_LINES = 1500
MAX_MEDIA = 32
LONGEST_IP = 64

# RFC 3551 section 6: the numbers that mean a codec without an rtpmap.
STATIC_PAYLOADS = {
    0: ("PCMU", 8000),
    3: ("GSM", 8000),
    4: ("G723", 8000),
    8: ("PCMA", 8000),
    9: ("G722", 8000),
    13: ("CN", 8000),
    18: ("G729", 8000),
    31: ("H261", 90000),
    34: ("H263", 90000),
}
# What stands in c= for "nowhere": hold, as RFC 2543 had it, and a browser's placeholder.
NOWHERE = str(ipaddress.IPv4Address(0))
NOWHERES = (NOWHERE, "::")
FINGERPRINT_BYTES = {"sha-1": 20, "sha-224": 28, "sha-256": 32, "sha-384": 48, "sha-512": 64}
SETUPS = ("active", "passive", "actpass", "holdconn")


class Direction(Enum):
    """Which way media flows, as seen by whoever wrote the description (RFC 8866 section 6.7)."""

    SENDRECV = "sendrecv"
    SENDONLY = "sendonly"
    RECVONLY = "recvonly"
    INACTIVE = "inactive"

    @property
    def sends(self) -> bool:
        return self in (Direction.SENDRECV, Direction.SENDONLY)

    @property
    def receives(self) -> bool:
        return self in (Direction.SENDRECV, Direction.RECVONLY)

    @classmethod
    def of(cls, *, sends: bool, receives: bool) -> Direction:
        if sends:
            return cls.SENDRECV if receives else cls.SENDONLY
        return cls.RECVONLY if receives else cls.INACTIVE


@dataclass(frozen=True, slots=True)
class Payload:
    """One RTP format of an m-line. `name` is empty when nothing says what the number means."""

    number: int
    name: str
    clock: int
    channels: int = 1
    fmtp: str = ""
    feedback: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fingerprint:
    algorithm: str
    value: str


@dataclass(frozen=True, slots=True)
class Media:
    """One m-line with what belongs to it. `attributes` holds those that have no field of their own, in order."""

    kind: str
    port: int
    protocol: str
    formats: tuple[str, ...]
    payloads: tuple[Payload, ...] = ()
    address: str = ""
    direction: Direction = Direction.SENDRECV
    mid: str = ""
    rtcp_mux: bool = False
    rtcp_port: int | None = None
    rtcp_address: str = ""
    ice_ufrag: str = ""
    ice_pwd: str = ""
    fingerprint: Fingerprint | None = None
    setup: str = ""
    ptime: int | None = None
    attributes: tuple[tuple[str, str | None], ...] = ()

    @property
    def refused(self) -> bool:
        """RFC 3264 section 6: port zero. An m-line that only rides in a bundle (RFC 9143) is not refused."""
        return self.port == 0 and ("bundle-only", None) not in self.attributes


@dataclass(frozen=True, slots=True)
class Origin:
    username: str = "-"
    session_id: int = 0
    version: int = 0
    address: str = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class SessionDescription:
    origin: Origin
    media: tuple[Media, ...]
    name: str = "-"
    bundle: tuple[str, ...] = ()
    ice_lite: bool = False
    attributes: tuple[tuple[str, str | None], ...] = ()

    @property
    def has_audio(self) -> bool:
        return any(m.kind == "audio" and not m.refused for m in self.media)

    @property
    def has_video(self) -> bool:
        return any(m.kind == "video" and not m.refused for m in self.media)

    def to_bytes(self) -> bytes:
        origin = self.origin
        whose = f"{origin.username} {origin.session_id} {origin.version}"
        where = f"IN {_family(origin.address)} {origin.address}"
        lines = ["v=0", f"o={whose} {where}", f"s={self.name}", "t=0 0"]
        if self.bundle:
            lines.append("a=group:BUNDLE " + " ".join(self.bundle))
        if self.ice_lite:
            lines.append("a=ice-lite")
        lines += [_attribute(name, value) for name, value in self.attributes]
        for media in self.media:
            lines += _media_lines(media)
        return ("\r\n".join(lines) + "\r\n").encode()


def _family(address: str) -> str:
    return "IP6" if ":" in address else "IP4"


def _attribute(name: str, value: str | None) -> str:
    return f"a={name}" if value is None else f"a={name}:{value}"


def _media_lines(media: Media) -> list[str]:
    lines = [f"m={media.kind} {media.port} {media.protocol} {' '.join(media.formats)}"]
    if media.address:
        lines.append(f"c=IN {_family(media.address)} {media.address}")
    if media.rtcp_port is not None:
        where = f" IN {_family(media.rtcp_address)} {media.rtcp_address}" if media.rtcp_address else ""
        lines.append(f"a=rtcp:{media.rtcp_port}{where}")
    if media.mid:
        lines.append(f"a=mid:{media.mid}")
    lines.append(f"a={media.direction.value}")
    if media.rtcp_mux:
        lines.append("a=rtcp-mux")
    for payload in media.payloads:
        if payload.name:
            channels = f"/{payload.channels}" if payload.channels > 1 else ""
            lines.append(f"a=rtpmap:{payload.number} {payload.name}/{payload.clock}{channels}")
        if payload.fmtp:
            lines.append(f"a=fmtp:{payload.number} {payload.fmtp}")
        lines += [f"a=rtcp-fb:{payload.number} {feedback}" for feedback in payload.feedback]
    if media.ptime is not None:
        lines.append(f"a=ptime:{media.ptime}")
    if media.ice_ufrag:
        lines.append(f"a=ice-ufrag:{media.ice_ufrag}")
    if media.ice_pwd:
        lines.append(f"a=ice-pwd:{media.ice_pwd}")
    if media.fingerprint is not None:
        lines.append(f"a=fingerprint:{media.fingerprint.algorithm} {media.fingerprint.value}")
    if media.setup:
        lines.append(f"a=setup:{media.setup}")
    lines += [_attribute(name, value) for name, value in media.attributes]
    return lines


class _Section:
    """What is gathered of one section (the session's, or an m-line's) until its end is known."""

    def __init__(self, number: int, m_line: str = "") -> None:
        self.number = number
        self.m_line = m_line
        self.address = ""
        self.known: dict[str, str | None] = {}
        self.rtpmap: dict[int, tuple[str, int, int]] = {}
        self.fmtp: dict[int, str] = {}
        self.feedback: list[tuple[str, str]] = []
        self.bundle: tuple[str, ...] = ()
        self.others: list[tuple[str, str | None]] = []


def parse(data: bytes) -> SessionDescription:
    """Read a description. Raises TheirError(400) that names the line and the fault; nothing else."""
    if len(data) > MAX_BYTES:
        raise TheirError(f"SDP longer than {MAX_BYTES} bytes", 400)
    text = data.decode("utf-8", "replace")
    if "\0" in text:
        raise TheirError("SDP holds a NUL", 400)
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    while lines and not lines[-1]:
        lines.pop()
    if len(lines) > MAX_LINES:
        raise TheirError(f"SDP longer than {MAX_LINES} lines", 400)
    if not lines or lines[0].strip() != "v=0":
        raise TheirError("SDP does not start with v=0", 400)
    origin: Origin | None = None
    name = "-"
    session = _Section(1)
    section = session
    sections: list[_Section] = []
    for number, line in enumerate(lines, start=1):
        if len(line) < 2 or line[1] != "=" or not ("a" <= line[0] <= "z"):
            raise _fault(number, "not of the form x=value")
        letter, value = line[0], line[2:].strip()
        if letter == "m":
            if len(sections) == MAX_MEDIA:
                raise _fault(number, f"more than {MAX_MEDIA} media")
            section = _Section(number, value)
            sections.append(section)
        elif letter == "o" and section is session:
            origin = _origin(number, value)
        elif letter == "s" and section is session:
            name = value or "-"
        elif letter == "c":
            section.address = _connection(number, value)
        elif letter == "a":
            _read_attribute(section, number, value)
    if origin is None:
        raise TheirError("SDP has no o= line", 400)
    return SessionDescription(
        origin=origin,
        media=tuple(_media(each, session) for each in sections),
        name=name,
        bundle=session.bundle,
        ice_lite="ice-lite" in session.known,
        attributes=tuple(session.others),
    )


def _fault(line: int, what: str) -> TheirError:
    return TheirError(f"SDP line {line}: {what}", 400)


def _number(line: int, text: str, what: str, most: int) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 20 or int(text) > most:
        raise _fault(line, f"bad {what}")
    return int(text)


def _origin(line: int, value: str) -> Origin:
    parts = value.split()
    if len(parts) != 6 or parts[3] != "IN":
        raise _fault(line, "bad o= line")
    session_id = _number(line, parts[1], "session id in o=", 10**20)
    return Origin(parts[0], session_id, _number(line, parts[2], "version in o=", 10**20), parts[5])


def _connection(line: int, value: str) -> str:
    parts = value.split()
    if len(parts) != 3 or parts[0] != "IN" or parts[1] not in ("IP4", "IP6"):
        raise _fault(line, "bad c= line")
    address = parts[2]
    if "/" in address:
        raise _fault(line, "multicast is not carried")
    if (address[0].isdigit() or ":" in address) and not (len(address) < LONGEST_IP and _is_ip(address)):
        raise _fault(line, "bad address in c= line")
    return address


@lru_cache(4096)
def _is_ip(address: str) -> bool:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return True


# Attributes with a field of their own; all others are kept as they came.
_VALUED = ("mid", "rtcp", "ice-ufrag", "ice-pwd", "fingerprint", "setup", "ptime")
_FLAGS = ("rtcp-mux", "ice-lite")
_DIRECTIONS = tuple(d.value for d in Direction)


def _read_attribute(section: _Section, line: int, text: str) -> None:
    name, colon, value = text.partition(":")
    if not name:
        raise _fault(line, "attribute without a name")
    if name in _DIRECTIONS and not colon:
        section.known["direction"] = name
    elif name in _FLAGS:
        section.known[name] = None
    elif name in ("rtpmap", "fmtp", "rtcp-fb") and section.m_line:
        _read_format(section, line, name, value)
    elif name in _VALUED:
        if not value:
            raise _fault(line, f"a={name} without a value")
        if name == "fingerprint" and "fingerprint" in section.known:
            return  # RFC 8122 section 5: several may be given; the first is the preferred one.
        _check(line, name, value)
        section.known[name] = value
    elif name == "group" and value.split(" ")[0] == "BUNDLE" and not section.m_line:
        section.bundle = section.bundle or tuple(value.split()[1:])
    else:
        section.others.append((name, value if colon else None))


def _check(line: int, name: str, value: str) -> None:
    if name == "ptime":
        _number(line, value.split(".")[0], "ptime", 1000)
    elif name == "rtcp":
        parts = value.split()
        if len(parts) not in (1, 4):
            raise _fault(line, "bad a=rtcp")
        _number(line, parts[0], "port in a=rtcp", 65535)
        if len(parts) == 4:
            _connection(line, " ".join(parts[1:]))
    elif name == "setup" and value not in SETUPS:
        raise _fault(line, "bad a=setup")
    elif name == "fingerprint":
        algorithm, _, digest = value.partition(" ")
        pairs = digest.strip().split(":")
        hexes = all(len(p) == 2 and p.isalnum() and p.isascii() for p in pairs)
        try:
            bytes.fromhex("".join(pairs))
        except ValueError:
            hexes = False
        if not hexes or len(pairs) != FINGERPRINT_BYTES.get(algorithm.lower(), len(pairs)):
            raise _fault(line, "bad a=fingerprint")
    elif name in ("ice-ufrag", "ice-pwd"):
        # RFC 8839 section 5.4
        least = 4 if name == "ice-ufrag" else 22
        if not least <= len(value) <= 256 or not value.isascii() or not value.isprintable() or " " in value:
            raise _fault(line, f"bad a={name}")
    elif name == "mid" and (len(value) > 64 or " " in value):
        raise _fault(line, "bad a=mid")


def _read_format(section: _Section, line: int, name: str, value: str) -> None:
    first, _, rest = value.partition(" ")
    rest = rest.strip()
    if not rest:
        raise _fault(line, f"bad a={name}")
    if name == "rtcp-fb":
        section.feedback.append((first, rest))
        return
    if name == "fmtp":
        # An fmtp may name a format that is no RTP payload type (of an m-line that is not RTP).
        if first.isascii() and first.isdigit() and len(first) <= 3:
            section.fmtp[int(first)] = rest
        return
    number = _number(line, first, "payload type in a=rtpmap", 127)
    parts = rest.split("/")
    if len(parts) not in (2, 3) or not parts[0]:
        raise _fault(line, "bad a=rtpmap")
    clock = _number(line, parts[1], "clock rate in a=rtpmap", 10_000_000)
    channels = _number(line, parts[2], "channels in a=rtpmap", 64) if len(parts) == 3 else 1
    if not clock or not channels:
        raise _fault(line, "bad a=rtpmap")
    section.rtpmap[number] = (parts[0], clock, channels)


def _media(section: _Section, session: _Section) -> Media:
    line = section.number
    parts = section.m_line.split()
    if len(parts) < 4:
        raise _fault(line, "bad m= line")
    kind, ports, protocol, formats = parts[0], parts[1], parts[2], tuple(parts[3:])
    port = _number(line, ports.partition("/")[0], "port in m= line", 65535)
    known = {**session.known, **section.known}
    payloads: list[Payload] = []
    if "RTP/" in protocol:
        for text in formats:
            number = _number(line, text, "payload type in m= line", 127)
            if any(p.number == number for p in payloads):
                raise _fault(line, f"payload type {number} twice in m= line")
            static_name, static_clock = STATIC_PAYLOADS.get(number, ("", 0))
            name, clock, channels = section.rtpmap.get(number, (static_name, static_clock, 1))
            feedback = tuple(fb for to, fb in section.feedback if to in (text, "*"))
            payloads.append(Payload(number, name, clock, channels, section.fmtp.get(number, ""), feedback))
    rtcp = (section.known.get("rtcp") or "").split()
    fingerprint: Fingerprint | None = None
    if written := known.get("fingerprint"):
        algorithm, _, digest = written.partition(" ")
        fingerprint = Fingerprint(algorithm.lower(), digest.strip().upper())
    ptime = section.known.get("ptime")
    return Media(
        kind=kind,
        port=port,
        protocol=protocol,
        formats=formats,
        payloads=tuple(payloads),
        address=section.address or session.address,
        direction=Direction(known.get("direction") or "sendrecv"),
        mid=section.known.get("mid") or "",
        rtcp_mux="rtcp-mux" in known,
        rtcp_port=int(rtcp[0]) if rtcp else None,
        rtcp_address=rtcp[3] if len(rtcp) == 4 else "",
        ice_ufrag=known.get("ice-ufrag") or "",
        ice_pwd=known.get("ice-pwd") or "",
        fingerprint=fingerprint,
        setup=known.get("setup") or "",
        ptime=int(ptime.split(".")[0]) if ptime else None,
        attributes=tuple(section.others),
    )
