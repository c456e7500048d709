"""Both families by one socket: each peer is told an address of its own, and heard by it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.errors import TheirError
from media import sdes, stun
from media.plain import PortRange
from media.prompts import Prompts
from media.relay import Relay
from media.sdp import parse
from media.server import Profile
from tests.media.descriptions import CHROMIUM, plain
from tests.media.relay_house import Phone
from tests.media.secure_phone import SecurePhone
from tests.peers.process import free_range

SIX = "::1"


class SixPhone(SecurePhone):
    """At ::1, plain unless it has a key."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, secure: bool = False) -> None:
        super().__init__(loop, crypto=sdes.make("AES_CM_128_HMAC_SHA1_80") if secure else None)
        self.sock.close()
        self.sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        self.sock.bind((SIX, 0))
        self.sock.setblocking(False)
        self.port = self.sock.getsockname()[1]

    def offer(self) -> bytes:
        written = self.session() if self.crypto is not None else plain(self.port)
        return written.replace(b"c=IN IP4 127.0.0.1", b"c=IN IP6 0:0:0:0:0:0:0:1")

    def heard(self, description: bytes) -> None:
        media = parse(description).media[0]
        assert media.address == SIX
        self.take(description) if self.crypto is not None else None
        self.to = (SIX, media.port)


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relay]:
    made = Relay(
        asyncio.get_event_loop(),
        host="::",
        public=f"127.0.0.1,{SIX}",
        ports=free_range(16),
        prompts=Prompts(tmp_path),
        on_gone=lambda *_: None,
        on_keys=lambda *_: None,
        on_recorded=lambda *_: None,
    )
    yield made
    made.close()


async def say_and_hear(a: Phone, b: Phone) -> None:
    for one, other in ((a, b), (b, a), (a, b)):
        Phone.say(one, b"hello") if not isinstance(one, SecurePhone) or one.crypto is None else one.say(
            b"hello"
        )
        heard = await (Phone.hear(other) if getattr(other, "crypto", None) is None else other.hear())
        assert heard[12:] == b"hello"


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "SDES"])
async def test_an_ipv6_phone_talks_to_an_ipv4_one(relay: Relay, secure: bool) -> None:
    loop = asyncio.get_running_loop()
    six, four = SixPhone(loop, secure=secure), Phone(loop)
    six.heard(relay.answer("c", "six", six.offer()))
    media = four.heard_answer(relay.answer("c", "four", plain(four.port)))
    assert media.address == "127.0.0.1"
    relay.join("c", "six", "four")
    await say_and_hear(six, four)
    for phone in (six, four):
        phone.close()


async def test_an_offer_names_the_family_the_peer_is_reached_by(relay: Relay) -> None:
    for ipv6, address in ((True, SIX), (False, "127.0.0.1")):
        offer = parse(relay.offer("c", f"b{ipv6}", profile=Profile.RTP, ipv6=ipv6))
        assert (offer.media[0].address, offer.origin.address) == (address, address)


async def test_a_browser_is_told_both_and_checks_by_either(relay: Relay) -> None:
    media = parse(relay.answer("c", "a", CHROMIUM)).media[0]
    candidates = [value.split() for name, value in media.attributes if name == "candidate" and value]
    assert [each[4] for each in candidates] == [SIX, "127.0.0.1"]
    assert int(candidates[0][3]) > int(candidates[1][3])
    loop = asyncio.get_running_loop()
    for phone, host in ((SixPhone(loop), SIX), (Phone(loop), "127.0.0.1")):
        phone.to = (host, int(candidates[0][5]))
        phone.sock.sendto(stun.request(f"{media.ice_ufrag}:Hw1z", media.ice_pwd, bytes(12)), phone.to)
        reply = await asyncio.wait_for(loop.sock_recv(phone.sock, 2048), 2)
        assert reply[:2] == b"\x01\x01"
        # XOR-MAPPED-ADDRESS is the first attribute: its family is that of the check.
        assert reply[25] == (2 if host == SIX else 1)
        phone.close()


def test_hosts_that_cannot_be_reached_are_refused() -> None:
    four, six, both = (PortRange(host, 2, 4) for host in ("0.0.0.0", SIX, "::"))
    assert four.destination("192.0.2.1", 9) == ("192.0.2.1", 9)
    assert six.destination("2001:DB8::1", 9) == ("2001:db8::1", 9, 0, 0)
    assert both.destination("192.0.2.1", 9) == ("::ffff:192.0.2.1", 9, 0, 0)
    for ports, address in (
        (four, SIX),
        (six, "192.0.2.1"),
        (both, "ff02::1"),
        (both, "fe80::1%eth0"),
        (both, "x"),
    ):
        with pytest.raises(TheirError) as caught:
            ports.destination(address, 9)
        assert caught.value.status == 488
