"""A phone of one socket that speaks SRTP, its keys by SDES or by DTLS."""

from __future__ import annotations

import asyncio
import struct

from media import sdes
from media.dtls import PROFILES, Certificate, Dtls, Srtp
from media.rtp import Packet
from media.sdes import Crypto
from media.sdp import Media, parse
from tests.media.relay_house import HOST, Phone


class SecurePhone(Phone):
    """`crypto`: it uses SDES, and offers this key; else DTLS, as `setup` says."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, *, crypto: Crypto | None = None, setup: str = ""
    ) -> None:
        super().__init__(loop)
        self.crypto = crypto
        self.certificate = Certificate()
        self.setup = setup
        self.packet = Packet()
        self.srtp: Srtp | None = None
        self.dtls: Dtls | None = None

    def session(self, *attributes: str, codecs: str = "0", port: int | None = None) -> bytes:
        """Its offer or answer."""
        protocol = "RTP/SAVP" if self.crypto is not None else "UDP/TLS/RTP/SAVP"
        lines = ["v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=-", f"c=IN IP4 {HOST}", "t=0 0"]
        lines += [f"m=audio {self.port if port is None else port} {protocol} {codecs}"]
        if self.crypto is not None:
            lines.append(f"a=crypto:{self.crypto}")
        else:
            fingerprint = self.certificate.fingerprint
            lines += [f"a=fingerprint:sha-256 {fingerprint.value}", f"a=setup:{self.setup}", "a=rtcp-mux"]
        return "".join(f"{line}\r\n" for line in (*lines, *(f"a={each}" for each in attributes))).encode()

    def take(self, description: bytes) -> Media:
        """The other side's answer or offer. With SDES it can speak from here on."""
        media = self.heard_answer(description)
        if self.crypto is not None:
            theirs = sdes.first(media.attributes)
            assert theirs is not None
            self.key(theirs)
        return media

    def key(self, theirs: Crypto) -> None:
        assert self.crypto is not None
        number = PROFILES[sdes.SUITES[self.crypto.suite][0]][0]
        self.srtp = Srtp(self.packet, (number, self.crypto.key, theirs.key))

    async def shake(self, description: bytes) -> None:
        """The DTLS handshake, begun by whoever is "active"."""
        media = parse(description).media[0]
        assert media.fingerprint is not None
        active = media.setup == "passive" or (media.setup == "actpass" and self.setup == "active")
        self.dtls = Dtls(self.certificate, media.fingerprint, self._send, server=not active)
        if active:
            self.dtls.handshake()
        while self.dtls.keys is None:
            datagram = await self.hear_raw()
            if 19 < datagram[0] < 64:
                self.dtls.received(datagram)
        self.srtp = Srtp(self.packet, self.dtls.keys)

    def _send(self, datagram: bytes) -> None:
        self.sock.sendto(datagram, self.to)

    async def hear_raw(self) -> bytes:
        return await asyncio.wait_for(self.loop.sock_recv(self.sock, 2048), 2)

    def protected(self, text: bytes, *, kind: int = 0) -> bytes:
        assert self.srtp is not None
        self.seq += 1
        packet = struct.pack("!BBHII", 0x80, kind, self.seq & 0xFFFF, self.seq * 160, self.ssrc) + text
        self.packet.data[: len(packet)] = packet
        return bytes(self.packet.view[: self.srtp.protect(len(packet))])

    def say(self, text: bytes, *, kind: int = 0) -> None:
        self._send(self.protected(text, kind=kind))

    async def hear(self) -> bytes:
        """In clear; what is no media is left out."""
        assert self.srtp is not None
        while True:
            data = await self.hear_raw()
            if 127 < data[0] < 192:
                self.packet.data[: len(data)] = data
                size = self.srtp.unprotect(len(data))
                assert size, "the tag does not fit"
                return bytes(self.packet.view[:size])
