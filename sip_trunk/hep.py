"""HEP version 3 (EEP): a copy of every message to a capture server such as Homer.

A datagram is "HEP3", its length, and chunks: vendor (0), type, length with these six octets, value.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from twisted.logger import Logger

from sip_trunk.flow import Flow
from sip_trunk.masking import mask
from sip_trunk.trace import Brief, brief

log = Logger()

_CHUNK = struct.Struct("!HHH")
_SIP = 1
_UDP, _TCP = 17, 6
_MOST = 65_507  # the largest datagram there is
_MOST_CALLS = 20_000


@dataclass(frozen=True, slots=True)
class Packet:
    """One captured message. at: epoch seconds. stream: it came by a connection (TCP, TLS, web socket).

    key: the capture server's password, "" for none. correlation: what all legs of one conversation share.
    """

    source: tuple[str, int]
    target: tuple[str, int]
    at: float
    payload: bytes
    stream: bool = False
    capture_id: int = 0
    key: str = ""
    correlation: str = ""


def encode(packet: Packet) -> bytes:
    """The datagram. ValueError when an address is none, or it would be too long for one."""
    source, target = ipaddress.ip_address(packet.source[0]), ipaddress.ip_address(packet.target[0])
    if source.version != target.version:
        raise ValueError(f"{source} and {target} are of two families")
    six = source.version == 6
    micros = round(packet.at * 1_000_000)
    chunks = [
        (0x01, bytes([10 if six else 2])),  # Linux' AF_INET6 and AF_INET, whatever they are here
        (0x02, bytes([_TCP if packet.stream else _UDP])),
        (0x05 if six else 0x03, source.packed),
        (0x06 if six else 0x04, target.packed),
        (0x07, struct.pack("!H", packet.source[1])),
        (0x08, struct.pack("!H", packet.target[1])),
        (0x09, struct.pack("!I", micros // 1_000_000)),
        (0x0A, struct.pack("!I", micros % 1_000_000)),
        (0x0B, bytes([_SIP])),
        (0x0C, struct.pack("!I", packet.capture_id)),
    ]
    if packet.key:
        chunks.append((0x0E, packet.key.encode()))
    if packet.correlation:
        chunks.append((0x11, packet.correlation.encode("utf-8", "surrogateescape")))
    chunks.append((0x0F, packet.payload))
    total = 6 + sum(_CHUNK.size + len(value) for _, value in chunks)
    if total > _MOST:
        raise ValueError(f"{total} octets do not fit into one datagram")
    parts = [b"HEP3", struct.pack("!H", total)]
    for kind, value in chunks:
        parts += (_CHUNK.pack(0, kind, _CHUNK.size + len(value)), value)
    return b"".join(parts)


def decode(data: bytes) -> Packet:
    """The packet of a datagram; ValueError when it is none. Chunks we do not know are passed over."""
    if len(data) < 6 or data[:4] != b"HEP3" or struct.unpack_from("!H", data, 4)[0] != len(data):
        raise ValueError("no HEP3 datagram")
    found: dict[int, bytes] = {}
    at = 6
    while at < len(data):
        if at + _CHUNK.size > len(data):
            raise ValueError("a chunk is cut off")
        vendor, kind, length = _CHUNK.unpack_from(data, at)
        if length < _CHUNK.size or at + length > len(data):
            raise ValueError("a chunk has an impossible length")
        if vendor == 0:
            found[kind] = data[at + _CHUNK.size : at + length]
        at += length
    try:
        six = found[0x01] == bytes([10])
        source, target = (found[0x05], found[0x06]) if six else (found[0x03], found[0x04])
        return Packet(
            (str(ipaddress.ip_address(source)), _number(found[0x07], 2)),
            (str(ipaddress.ip_address(target)), _number(found[0x08], 2)),
            _number(found[0x09], 4) + _number(found[0x0A], 4) / 1_000_000,
            found[0x0F],
            stream=found[0x02] == bytes([_TCP]),
            capture_id=_number(found[0x0C], 4),
            key=found.get(0x0E, b"").decode("utf-8", "surrogateescape"),
            correlation=found.get(0x11, b"").decode("utf-8", "surrogateescape"),
        )
    except KeyError as missing:
        raise ValueError(f"chunk {missing} is missing") from None


def _number(value: bytes, size: int) -> int:
    if len(value) != size:
        raise ValueError(f"{value!r} should be {size} octets")
    return int.from_bytes(value)


class HepExport:
    """Sends what passes; `wire` goes into `Transports.wires`. Sending never waits: what the network does not take at
    once is lost, and counted in `lost`.

    local_of(flow): our own address and port on a flow; a name stands for an address that is not known.
    """

    def __init__(
        self,
        now: Callable[[], float],
        local_of: Callable[[Flow], tuple[str, int]],
        *,
        capture_id: int = 0,
        key: str = "",
        masked: bool = True,
    ) -> None:
        self._now = now
        self._local_of = local_of
        self._capture_id = capture_id
        self._key = key
        self._masked = masked
        self._socket: socket.socket | None = None
        self._told = False
        self._sessions: OrderedDict[str, str] = OrderedDict()
        self.sent = 0
        self.lost = 0

    def open(self, host: str, port: int) -> None:
        """Begin, toward a numeric address. OSError when there is no way to it."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        export = socket.socket(family, socket.SOCK_DGRAM)
        try:
            export.setblocking(False)
            export.connect((host, port))
        except OSError:
            export.close()
            raise
        self._socket = export

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def wire(self, sent: bool, flow: Flow, data: bytes) -> None:
        """A message goes by."""
        export = self._socket
        if export is None:
            return
        try:
            export.send(encode(self._packet(sent, flow, data)))
            self.sent += 1
        except (OSError, ValueError) as error:
            # Nobody listens there (the last datagram was answered by ICMP), the buffer is full, or it is too long.
            self.lost += 1
            if not self._told:
                self._told = True
                log.warn("The capture server does not get everything: {error}", error=str(error))

    def _packet(self, sent: bool, flow: Flow, data: bytes) -> Packet:
        peer = _plain(flow.peer[0])
        ours = _numeric_like(self._local_of(flow), peer)
        theirs = (peer, flow.peer[1])
        found = brief(data)
        return Packet(
            source=ours if sent else theirs,
            target=theirs if sent else ours,
            at=self._now(),
            payload=mask(data) if self._masked else data,
            stream=flow.transport != "UDP",
            capture_id=self._capture_id,
            key=self._key,
            correlation=self._correlation(sent, found),
        )

    def _correlation(self, sent: bool, message: Brief) -> str:
        """RFC 7989: the Session-ID is the same on every leg, and the first UUID of ours is it. A phone that knows none
        says none back; its leg is known by its Call-ID."""
        call_id = message.call_id
        uuid = next((each for each in message.ids if each != call_id), None)
        if sent and uuid is not None:
            self._sessions[call_id] = uuid
            if len(self._sessions) > _MOST_CALLS:
                self._sessions.popitem(last=False)
        return self._sessions.get(call_id) or uuid or call_id


def _plain(host: str) -> str:
    """An IPv6 address without its zone; an IPv4 one out of its IPv6 clothes."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)


def _numeric_like(ours: tuple[str, int], peer: str) -> tuple[str, int]:
    try:
        host = _plain(ours[0])
    except ValueError:
        host = ""
    if not host or (":" in host) != (":" in peer):
        host = "::" if ":" in peer else "0.0.0.0"  # noqa: S104
    return host, ours[1]
