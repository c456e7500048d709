"""What anybody may send to a media port: RTP, RTCP, STUN, DTLS, and those in the wrong place.

python -m tests.fuzz media_packets CORPUS. The first byte of an input says where it arrives.
"""

from __future__ import annotations

import asyncio
import struct
from functools import partial
from typing import Any

from media import rtcp, sdes, stun
from media.dtls import Certificate, Srtp, datagrams
from media.heard_keys import HeardKeys
from media.plain import PlainEndpoint, PortRange
from media.resending import Recent
from media.rtp import Packet, Stream
from media.secure import SecureEndpoint
from media.webrtc import BrowserPort, BrowserTransport

_PEER = ("127.0.0.1", 4000)
_KEY = sdes.make("AES_CM_128_HMAC_SHA1_80")
_HELLO = bytes.fromhex("16feff0000000000000000") + b"\x00\x05\x01\x00\x00\x00\x00"


class _Socket:
    """One datagram to be read, and nowhere to send."""

    def __init__(self) -> None:
        self.waiting: list[bytes] = []
        self.sent = 0

    def recvfrom_into(self, buffer: bytearray, size: int) -> tuple[int, Any]:
        return self.recv_into(buffer, size), _PEER

    def recv_into(self, buffer: bytearray, size: int) -> int:
        if not self.waiting:
            raise BlockingIOError
        data = self.waiting.pop()[:size]
        buffer[: len(data)] = data
        return len(data)

    def recvfrom(self, size: int) -> tuple[bytes, Any]:
        if not self.waiting:
            raise BlockingIOError
        return self.waiting.pop()[:size], _PEER

    def sendto(self, data: bytes, address: Any) -> int:
        assert 0 < address[1] < 65536
        self.sent += 1
        return len(data)

    def send(self, data: bytes) -> int:
        self.sent += 1
        return len(data)

    def connect(self, address: Any) -> None: ...

    def fileno(self) -> int:
        return 0

    def close(self) -> None: ...

    def getsockname(self) -> tuple[str, int]:
        return "127.0.0.1", 30000


class _Ports(PortRange):
    def __init__(self) -> None:
        super().__init__("127.0.0.1", 2, 4)

    def take(self) -> Any:
        return _Socket(), _Socket()


class _Arrivals:
    def __init__(self) -> None:
        self.readers: list[Any] = []

    def watch(self, descriptor: int, reader: Any) -> None:
        self.readers.append(reader)

    def forget(self, descriptor: int) -> None: ...


class _World:
    """A browser's port and endpoints of phones, each with one stream, and a browser's two."""

    def __init__(self) -> None:
        self.packet = Packet()
        self.certificate = Certificate()
        self.loop: Any = asyncio.new_event_loop()
        self.streams = [Stream("video" if n % 2 else "audio", self.packet) for n in range(4)]
        for n, stream in enumerate(self.streams):
            stream.taken = [number != 101 for number in range(128)]
            stream.listeners = {101: HeardKeys(lambda key: None).heard}
            stream.sink, stream.takes = self.streams[3 - n], True
            stream.payload_map = list(range(128))
            stream.ssrc, stream.ssrc_in = 0x1000 + n, 0xA0 + n
            stream.source, stream.source_ssrc = self.streams[3 - n], 0xA0 + 3 - n
            stream.mends = True
            stream.recent = Recent(self.packet)
            stream.recent.before(lambda size: None)

    def rtcp_arrived(self, stream: Stream, data: bytes) -> None:
        for to, report in rtcp.forward(data, (stream,), 0.0):
            assert rtcp.packets(report)
            to.send_rtcp(report)

    def plain(self, data: bytes, *, control: bool, mux: bool) -> None:
        arrivals: Any = _Arrivals()
        ports: Any = _Ports()
        endpoint = PlainEndpoint(arrivals, ports, self.packet, self.streams[0], self.rtcp_arrived)
        endpoint.reach(_PEER, None, mux=mux)
        sock: Any = endpoint._rtcp if control else endpoint._rtp
        for reader in (arrivals.readers[1 if control else 0], arrivals.readers[-1]):
            sock.waiting.append(data)
            reader(1.0)
        endpoint.close()

    def secure(self, data: bytes, *, handshake: bool, control: bool, server: bool = True) -> None:
        arrivals: Any = _Arrivals()
        ports: Any = _Ports()
        endpoint = SecureEndpoint(
            *(self.loop, arrivals, ports, self.packet, self.streams[1], self.rtcp_arrived),
            certificate=self.certificate if handshake else None,
            on_ready=lambda: None,
            on_gone=lambda why: None,
        )
        fingerprint = self.certificate.fingerprint if handshake else None
        endpoint.agree(None if handshake else _KEY, fingerprint, "active" if server else "passive")
        endpoint.reach(_PEER, None, mux=not control)
        port: Any = endpoint._rtcp if control else endpoint._rtp
        port.sock.waiting.append(data)
        arrivals.readers[control](1.0)
        if not handshake:
            self._protected(port, data, arrivals.readers[control])
        endpoint.close()

    def _protected(self, port: Any, data: bytes, reader: Any) -> None:
        """The same by somebody who has the key."""
        number = 1
        peer = Srtp(self.packet, (number, _KEY.key, _KEY.key))
        if 12 <= len(data) <= 2000:
            self.packet.data[: len(data)] = data
            if size := peer.protect(len(data)):
                port.sock.waiting.append(bytes(self.packet.view[:size]))
                reader(1.0)
            if sealed := peer.protect_rtcp(data):
                port.sock.waiting.append(sealed)
                reader(1.0)

    def browser(self, data: bytes) -> None:
        arrivals: Any = _Arrivals()
        port = BrowserPort.__new__(BrowserPort)
        port.loop, port.packet, port.now = self.loop, self.packet, lambda: 1.0
        port.certificate = self.certificate
        sock: Any = _Socket()
        port._sock, port._arrivals, port.port = sock, arrivals, 30000
        port.by_ufrag, port.by_address, port.sendto = {}, {}, sock.sendto
        transport = BrowserTransport(
            port, on_ready=lambda: None, on_gone=lambda why: None, on_rtcp=lambda data: None
        )
        transport.ufrag, transport.pwd = "ours", "p" * 24
        port.by_ufrag = {"ours": transport}
        transport.carry(tuple(self.streams[:2]))
        transport.reach("theirs", self.certificate.fingerprint)
        transport.checked(_PEER, 1.0, nominated=True)
        sock.waiting.append(data)
        port._arrived(1.0)
        transport.close()


def _inside(data: bytes) -> None:
    """The readers themselves."""
    for kind, count, body in rtcp.packets(data):
        rtcp.write(kind, count, body)
    rtcp.forward(data, _WORLD.streams, 0.0)
    assert b"".join(datagrams(data)) == data
    request = stun.parse_request(data)
    if request is not None and not request.authentic("p" * 24):
        stun.role_conflict(request, "x")
    for stream in _WORLD.streams:
        _WORLD.packet.data[: min(len(data), 2048)] = data[:2048]
        stream.arrived(min(len(data), 2048), 1.0)


_WORLD = _World()
_ENTRIES = (
    partial(_WORLD.plain, control=False, mux=False),
    partial(_WORLD.plain, control=False, mux=True),
    partial(_WORLD.plain, control=True, mux=False),
    partial(_WORLD.secure, handshake=False, control=False),
    partial(_WORLD.secure, handshake=False, control=True),
    partial(_WORLD.secure, handshake=True, control=False),
    partial(_WORLD.secure, handshake=True, control=True, server=False),
    _WORLD.browser,
    _inside,
)


def seeds() -> list[bytes]:
    packets = [
        struct.pack("!BBHII", 0x80, 96, 7, 160, 0xA0) + b"sound",
        struct.pack("!BBHII", 0xB1, 0xE5, 7, 160, 0xA0)
        + bytes(4)
        + b"\xbe\xde\x00\x01"
        + bytes(8)
        + b"\x01\x02",
        struct.pack("!BBHII", 0x80, 101, 7, 160, 0xA0) + b"\x05\x8a\x03\x20",
        rtcp.write(rtcp.RR, 1, struct.pack("!7I", 0xA0, 0x1000, 0, 0x10005, 1, 2, 3)),
        rtcp.write(rtcp.SR, 1, struct.pack("!12I", 0xA0, 1, 2, 3, 4, 5, 0x1000, 0, 9, 1, 2, 3)),
        rtcp.write(rtcp.RTPFB, rtcp.NACK, struct.pack("!IIHH", 0xA0, 0x1000, 4, 0xFFFF)),
        rtcp.write(rtcp.PSFB, rtcp.PLI, struct.pack("!II", 0xA0, 0x1001)),
        rtcp.write(rtcp.PSFB, rtcp.FIR, struct.pack("!4I", 0xA0, 0, 0x1001, 1 << 24)),
        stun.request("ours:theirs", "p" * 24, bytes(12)),
        _HELLO,
        b"",
    ]
    return [bytes([entry]) + packet for entry in range(len(_ENTRIES)) for packet in packets]


def check(data: bytes) -> None:
    """Raises anything at all only for a bug."""
    if data:
        _ENTRIES[data[0] % len(_ENTRIES)](data[1:])
