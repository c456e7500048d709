"""A relay of the embedded media server on this machine, and the phones and browsers that talk through it."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from pathlib import Path

from media import stun
from media.dtls import Certificate, Dtls, Srtp
from media.prompts import NAMES, TICKS, Prompts, encoded_path, pack
from media.relay import Relay
from media.rtp import Packet
from media.sdp import Media, parse
from tests.media.descriptions import plain
from tests.peers.process import free_range

HOST = "127.0.0.1"


class House:
    """A relay on this machine, the news it gives, and a clock that can be moved on."""

    def __init__(self, folder: Path, size: int) -> None:
        for name in NAMES:
            (folder / f"{name}.wav").write_bytes(b"sound")
            for codec in TICKS:
                encoded_path(folder, name, codec).write_bytes(pack([b"m" * 160] * 3))
        self.ports = free_range(size)
        self.gone: list[tuple[str, str, str]] = []
        self.pressed: list[tuple[str, str, str]] = []
        self.recorded: list[tuple[str, str, str, float]] = []
        self.silent: list[str] = []
        self.later = 0.0
        self.loop = asyncio.get_event_loop()
        self.relay = Relay(
            self.loop,
            host=HOST,
            public=HOST,
            ports=self.ports,
            prompts=Prompts(folder),
            on_gone=lambda *news: self.gone.append(news),
            on_keys=lambda *news: self.pressed.append(news),
            on_recorded=lambda *news: self.recorded.append(news),
            on_quality=lambda _, branch, what, __: self.silent.append(branch) if what == "silent" else None,
            now=lambda: self.loop.time() + self.later,
        )
        self.phones: list[Phone | Browser] = []

    def phone(self) -> Phone:
        phone = Phone(self.loop)
        self.phones.append(phone)
        return phone

    def called(self, branch: str, *, codecs: str = "0", call: str = "c") -> Phone:
        """A phone that has offered and been answered."""
        phone = self.phone()
        phone.heard_answer(self.relay.answer(call, branch, plain(phone.port, codecs=codecs)))
        return phone

    async def browser(self, branch: str, *, call: str = "c") -> Browser:
        browser = Browser(self.loop)
        self.phones.append(browser)
        await browser.connect(parse(self.relay.answer(call, branch, browser.offer())).media[0])
        return browser

    def close(self) -> None:
        self.relay.close()
        for phone in self.phones:
            phone.close()


class Phone:
    """A plain RTP phone: one socket, an SSRC of its own."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind((HOST, 0))
        self.sock.setblocking(False)
        self.port: int = self.sock.getsockname()[1]
        self.ssrc = self.port
        self.seq = 10
        self.to = (HOST, 0)

    def heard_answer(self, answer: bytes) -> Media:
        media = parse(answer).media[0]
        self.to = (HOST, media.port)
        return media

    def say(self, text: bytes, *, kind: int = 0) -> None:
        self.seq += 1
        head = struct.pack("!BBHII", 0x80, kind, self.seq & 0xFFFF, self.seq * 160, self.ssrc)
        self.sock.sendto(head + text, self.to)

    async def hear(self) -> bytes:
        return await asyncio.wait_for(self.loop.sock_recv(self.sock, 2048), 2)

    async def hears(self) -> bytes:
        """Only the payload."""
        return (await self.hear())[12:]

    async def silent(self) -> bool:
        try:
            await asyncio.wait_for(self.loop.sock_recv(self.sock, 2048), 0.1)
        except TimeoutError:
            return True
        return False

    def close(self) -> None:
        self.sock.close()


class Browser(Phone):
    """A WebRTC peer of one audio stream: ICE checks, DTLS as the client, SRTP."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.certificate = Certificate()
        self.packet = Packet()
        self.srtp: Srtp | None = None
        self.media: Media | None = None

    def offer(self) -> bytes:
        value = self.certificate.fingerprint.value
        head = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n"
        lines = [
            "m=audio 9 UDP/TLS/RTP/SAVPF 0",
            "c=IN IP4 0.0.0.0",
            *("a=mid:0", "a=rtcp-mux", "a=ice-ufrag:abcd", "a=ice-pwd:abcdefghijklmnopqrstuvwx"),
            *("a=setup:actpass", f"a=fingerprint:sha-256 {value}"),
        ]
        return (head + "\r\n".join(lines) + "\r\n").encode()

    def check(self) -> None:
        assert self.media is not None
        username = f"{self.media.ice_ufrag}:abcd"
        self.sock.sendto(stun.request(username, self.media.ice_pwd, os.urandom(12)), self.to)

    async def connect(self, media: Media) -> None:
        self.media = media
        self.to = (HOST, media.port)
        self.check()
        assert (await self.hear())[:2] == b"\x01\x01"
        assert media.fingerprint is not None
        self.dtls = Dtls(self.certificate, media.fingerprint, self._send, server=False)
        self.dtls.handshake()
        while self.dtls.keys is None:
            self.dtls.received(await self.hear())
        self.srtp = Srtp(self.packet, self.dtls.keys)

    def _send(self, datagram: bytes) -> None:
        self.sock.sendto(datagram, self.to)

    def say(self, text: bytes, *, kind: int = 0) -> None:
        assert self.srtp is not None
        self.seq += 1
        size = 12 + len(text)
        struct.pack_into("!BBHII", self.packet.data, 0, 0x80, kind, self.seq, self.seq * 160, self.ssrc)
        self.packet.data[12:size] = text
        size = self.srtp.protect(size)
        self.sock.sendto(self.packet.view[:size], self.to)

    async def hears(self) -> bytes:
        assert self.srtp is not None
        while True:
            data = await self.hear()
            if not 20 <= data[0] < 64:  # the last flight of DTLS may still come
                break
        self.packet.data[: len(data)] = data
        return bytes(self.packet.view[12 : self.srtp.unprotect(len(data))])


def video(port: int, direction: str = "sendrecv") -> bytes:
    offer = plain(port, direction=direction).replace(b"m=audio", b"m=video").replace(b" 0\r\n", b" 96\r\n")
    return offer + b"a=rtpmap:96 VP8/90000\r\na=rtcp-mux\r\n"


def with_video(offer: bytes, port: int) -> bytes:
    return offer + b"m=video %d RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\n" % port
