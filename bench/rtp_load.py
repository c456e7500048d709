"""Phones and browsers that send RTP through a MediaServer and count what comes back, as cheaply as Python can.

They never wait for a packet but look for all of them once a millisecond, so that nothing the server sends has to wake
anybody, as no packet that leaves by a network card does. How long a packet was under way is told by the kernel's time
of its arrival, whenever it is looked at.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from media import stun
from media.dtls import Certificate, Dtls, Srtp, ice_credentials
from media.rtp import Packet, is_rtcp, nowhere
from media.sdp import Media, parse

HOST = "127.0.0.1"
ROUND_S = 0.02
SLOTS = 40
LOOK_EVERY = 4
LAST_S = 0.2
# Of so many phones one has its packets' times told, which is dear to ask for.
TIMED = 8
HANDSHAKE_S = 5.0
LONGEST_S = 5.0
_HEAD = struct.Struct("!BBHIId")  # an RTP header, and the time of sending where the sound would be
_SENT_AT = struct.Struct("!d")
_SECONDS = struct.Struct("qq")
SO_TIMESTAMPNS = 35


@dataclass(frozen=True, slots=True)
class Kind:
    """What one medium sends: so many packets at once, every 20 ms."""

    name: str
    payload: int
    rtpmap: str
    bytes: int
    at_once: int = 1


PCMU = Kind("audio", 0, "PCMU/8000", 160)
OPUS = Kind("audio", 111, "opus/48000/2", 80)
VP8 = Kind("video", 96, "VP8/90000", 1000, at_once=2)


@dataclass(slots=True)
class Counted:
    """What a run has shown. Delays are those of packets that arrived in clear, in seconds, sorted."""

    sent: int = 0
    received: int = 0
    seconds: float = 0.0
    late: float = 0.0
    """The most by which we ourselves were behind our time table."""
    delays: list[float] | None = None

    @property
    def lost(self) -> int:
        return max(0, self.sent - self.received)

    def delay(self, part: float) -> float:
        delays = self.delays or [0.0]
        return delays[min(len(delays) - 1, int(len(delays) * part))]


class Voice:
    """One medium of a peer, both ways."""

    def __init__(self, kind: Kind, packet: Packet) -> None:
        self.kind = kind
        self.size = 12 + kind.bytes
        self.packet = packet
        self.ssrc = int.from_bytes(os.urandom(4)) or 1
        self.seq = 0
        self.send: Callable[[int], object] = nowhere

    def speak(self) -> None:
        data = self.packet.data
        for _ in range(self.kind.at_once):
            self.seq += 1
            seq, timestamp = self.seq & 0xFFFF, self.seq * 160 & 0xFFFFFFFF
            _HEAD.pack_into(data, 0, 0x80, self.kind.payload, seq, timestamp, self.ssrc, time.time())
            self.send(self.size)


class Phone:
    """Plain RTP: a socket for each medium."""

    def __init__(self, kinds: tuple[Kind, ...], packet: Packet, *, timed: bool) -> None:
        self.packet = packet
        self.voices = [Voice(kind, packet) for kind in kinds]
        self.sockets = [_socket(timed) for _ in kinds]

    def offer(self) -> bytes:
        lines = ["v=0", f"o=- 1 1 IN IP4 {HOST}", "s=-", f"c=IN IP4 {HOST}", "t=0 0"]
        for voice, sock in zip(self.voices, self.sockets, strict=True):
            kind = voice.kind
            lines += [
                f"m={kind.name} {sock.getsockname()[1]} RTP/AVP {kind.payload}",
                f"a=rtpmap:{kind.payload} {kind.rtpmap}",
            ]
        return ("\r\n".join(lines) + "\r\n").encode()

    def answered(self, answer: bytes) -> None:
        for voice, sock, media in zip(self.voices, self.sockets, parse(answer).media, strict=True):
            sock.connect((media.address, media.port))
            voice.send = self._sender(sock)

    def _sender(self, sock: socket.socket) -> Callable[[int], object]:
        send, view = sock.send, self.packet.view
        return lambda size: send(view[:size])

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()


class IcePath:
    """One socket of a browser: ICE, DTLS, and then SRTP."""

    certificate = Certificate()

    def __init__(self, packet: Packet) -> None:
        self._packet = packet
        self.sock = _socket(timed=False)
        self.port: int = self.sock.getsockname()[1]
        self.ufrag, self.pwd = ice_credentials()
        self._request = b""

    def describe(self) -> list[str]:
        return [
            *(f"a=ice-ufrag:{self.ufrag}", f"a=ice-pwd:{self.pwd}"),
            f"a=candidate:1 1 udp 2130706431 {HOST} {self.port} typ host",
            *("a=setup:actpass", f"a=fingerprint:sha-256 {self.certificate.fingerprint.value}"),
        ]

    def connect(self, media: Media) -> Callable[[int], object]:
        """What sends through it. TimeoutError if there is no association."""
        sock = self.sock
        sock.connect((HOST, media.port))
        sock.settimeout(HANDSHAKE_S)
        self._request = stun.request(f"{media.ice_ufrag}:{self.ufrag}", media.ice_pwd, os.urandom(12))
        self.check()
        srtp = Srtp(self._packet, self._shaken(media))
        sock.setblocking(False)
        view, send, protect = self._packet.view, sock.send, srtp.protect
        return lambda size: send(view[: protect(size)])

    def check(self) -> None:
        """Consent to go on (RFC 7675); a run must not outlast it."""
        self.sock.send(self._request)

    def _shaken(self, media: Media) -> tuple[int, bytes, bytes]:
        sock = self.sock
        if media.fingerprint is None:
            raise ValueError("the answer has no fingerprint")

        def send(datagram: bytes) -> None:
            sock.send(datagram)

        dtls = Dtls(self.certificate, media.fingerprint, send, server=media.setup == "active")
        begun = media.setup == "active"
        deadline = time.monotonic() + HANDSHAKE_S
        while dtls.keys is None:
            if time.monotonic() > deadline:
                raise TimeoutError("no DTLS association")
            data = sock.recv(2048)
            if data[0] < 4:
                if (request := stun.parse_request(data)) is not None:
                    sock.send(stun.success(request, (HOST, media.port), self.pwd))
                elif not begun:
                    begun = True
                    dtls.handshake()
            elif 19 < data[0] < 64:
                dtls.received(data)
        return dtls.keys


class Browser:
    """Everything on one path where the answer bundles it (RFC 9143), else a path for each medium."""

    def __init__(self, kinds: tuple[Kind, ...], packet: Packet) -> None:
        self.voices = [Voice(kind, packet) for kind in kinds]
        self._paths = [IcePath(packet) for _ in kinds]
        self.sockets = [path.sock for path in self._paths]

    def offer(self) -> bytes:
        names = " ".join(str(number) for number in range(len(self.voices)))
        lines = ["v=0", f"o=- 1 1 IN IP4 {HOST}", "s=-", "t=0 0", f"a=group:BUNDLE {names}"]
        for number, (voice, path) in enumerate(zip(self.voices, self._paths, strict=True)):
            kind = voice.kind
            lines += [
                f"m={kind.name} {path.port} UDP/TLS/RTP/SAVPF {kind.payload}",
                f"c=IN IP4 {HOST}",
                f"a=rtpmap:{kind.payload} {kind.rtpmap}",
                *(f"a=mid:{number}", "a=rtcp-mux", "a=sendrecv", f"a=ssrc:{voice.ssrc} cname:load"),
                *path.describe(),
            ]
        return ("\r\n".join(lines) + "\r\n").encode()

    def answered(self, answer: bytes) -> None:
        """Checks the paths and shakes hands; TimeoutError if that comes to nothing."""
        description = parse(answer)
        bundled = description.bundle
        send: Callable[[int], object] = nowhere
        for number, (voice, media) in enumerate(zip(self.voices, description.media, strict=True)):
            if not number or not bundled:
                send = self._paths[number].connect(media)
            voice.send = send
        if bundled:
            del self._paths[1:]

    def check(self) -> None:
        for path in self._paths:
            path.check()

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()


class Load:
    """All peers of a measurement."""

    def __init__(self) -> None:
        self.packet = Packet()
        self.peers: list[Phone | Browser] = []
        self._made = 0

    def phone(self, *kinds: Kind) -> Phone:
        self._made += 1
        phone = Phone(kinds, self.packet, timed=self._made % TIMED == 0)
        self.peers.append(phone)
        return phone

    def browser(self, *kinds: Kind) -> Browser:
        browser = Browser(kinds, self.packet)
        self.peers.append(browser)
        return browser

    def close(self) -> None:
        for peer in self.peers:
            peer.close()

    def until_heard(self, peers: Sequence[Phone | Browser]) -> None:
        """All speak until each of them hears something; TimeoutError if that takes too long."""
        ears = [_Ears([peer]) for peer in peers]
        end = time.monotonic() + LONGEST_S
        while not all(each.received for each in ears):
            if time.monotonic() > end:
                raise TimeoutError("they do not hear each other")
            for peer in peers:
                for voice in peer.voices:
                    voice.speak()
            time.sleep(0.001)
            for each in ears:
                each.look()
        for each in ears:
            each.close()

    def run(self, seconds: float) -> Counted:
        """Everybody speaks, evenly spread over each 20 ms."""
        slots: list[list[Voice]] = [[] for _ in range(SLOTS)]
        every = [voice for peer in self.peers for voice in peer.voices]
        for number, voice in enumerate(every):
            slots[number * SLOTS // len(every)].append(voice)
        ears = _Ears(self.peers)
        counted = Counted(delays=ears.delays)
        for peer in self.peers:
            if isinstance(peer, Browser):
                peer.check()
        begun = due = time.monotonic()
        turn = 0
        while due - begun < seconds:
            for voice in slots[turn % SLOTS]:
                voice.speak()
                counted.sent += voice.kind.at_once
            turn += 1
            if turn % LOOK_EVERY == 0:
                ears.look()
            due = begun + turn * ROUND_S / SLOTS
            early = due - time.monotonic()
            if early > 0:
                time.sleep(early)
            else:
                counted.late = max(counted.late, -early)
        counted.seconds = time.monotonic() - begun
        end = time.monotonic() + LAST_S
        while time.monotonic() < end:
            ears.look()
            time.sleep(0.001)
        counted.received = ears.received
        ears.delays.sort()
        ears.close()
        return counted


class _Ears:
    def __init__(self, peers: list[Phone | Browser]) -> None:
        self._poll = select.epoll()
        self._by_number: dict[int, tuple[socket.socket, bool]] = {}
        for peer in peers:
            for sock in peer.sockets:
                timed = sock.getsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS) == 1
                self._by_number[sock.fileno()] = sock, timed
                self._poll.register(sock.fileno(), select.EPOLLIN)
        self._data = bytearray(2048)
        self.received = 0
        self.delays: list[float] = []

    def look(self) -> None:
        """Everything that has come."""
        data = self._data
        while ready := self._poll.poll(0, 1024):
            for number, _ in ready:
                sock, timed = self._by_number[number]
                if timed:
                    self._timed(sock)
                    continue
                try:
                    sock.recv_into(data)
                except OSError:
                    continue
                if 127 < data[0] < 192 and not is_rtcp(data[1]):
                    self.received += 1

    def _timed(self, sock: socket.socket) -> None:
        try:
            size, told, _, _ = sock.recvmsg_into([self._data], 64)
        except OSError:
            return
        if not told or size < 20 or is_rtcp(self._data[1]):
            return
        self.received += 1
        seconds, nanoseconds = _SECONDS.unpack_from(told[0][2])
        self.delays.append(seconds + nanoseconds / 1e9 - _SENT_AT.unpack_from(self._data, 12)[0])

    def close(self) -> None:
        self._poll.close()


def _socket(timed: bool) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((HOST, 0))
    sock.setblocking(False)
    if timed:
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    return sock
