"""What a peer says of where it is: never may that send our packets to ourselves, or to what is no peer at all."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from config.errors import TheirError
from media.peer_address import NOBODY
from media.plain import PortRange, bind
from media.sdp import parse
from tests.media.descriptions import FINGERPRINT, plain
from tests.media.media_servers import Open, house, ports
from tests.media.phone import HOST
from tests.media.tone_phone import TonePhone
from tests.peers.process import free_range, until

PUBLIC = "192.0.2.1"
NOT_PEERS = (HOST, "0.0.0.0", "0:0::0", "::ffff:127.0.0.1", "::127.0.0.1", "localhost")
CRYPTO = b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" + b"A" * 40 + b"\r\n"
BROWSER = (
    f"a=mid:0\r\na=rtcp-mux\r\na=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\na=setup:actpass\r\n"
    f"a=fingerprint:sha-256 {FINGERPRINT}\r\n"
).encode()
DTLS = f"a=fingerprint:sha-256 {FINGERPRINT}\r\na=setup:passive\r\n".encode()


@pytest.fixture(params=["embedded", "rtpengine"])
def far(request: pytest.FixtureRequest, tmp_path: Path, made_prompts: Path) -> Open:
    """A media server of each kind whose peers are elsewhere: the address that they are told is none of this machine
    alone."""
    return partial(house, request.param, tmp_path, made_prompts, public=PUBLIC)


@contextlib.contextmanager
def bystander(host: str = HOST) -> Iterator[socket.socket]:
    """Something else on this machine that takes UDP."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((host, 0))
        sock.setblocking(False)
        yield sock


def heard(sock: socket.socket) -> int:
    count = 0
    with contextlib.suppress(BlockingIOError):
        while sock.recv(2048):
            count += 1
    return count


def offered(how: str, port: int, address: str) -> bytes:
    offer = plain(port, address=address)
    match how:
        case "SDES":
            return offer.replace(b"RTP/AVP", b"RTP/SAVP") + CRYPTO
        case "DTLS":
            return offer.replace(b"RTP/AVP", b"UDP/TLS/RTP/SAVP") + DTLS
        case "WebRTC":
            candidate = f"a=candidate:1 1 udp 2130706431 {address} {port} typ host\r\n"
            bundle = offer.replace(b"t=0 0\r\n", b"t=0 0\r\na=group:BUNDLE 0\r\n")
            return bundle.replace(b"RTP/AVP", b"UDP/TLS/RTP/SAVPF") + BROWSER + candidate.encode()
    return offer


@pytest.mark.parametrize("how", ["plain", "SDES", "DTLS", "WebRTC"])
async def test_nothing_is_sent_to_this_machine_because_a_description_says_so(far: Open, how: str) -> None:
    with bystander() as sock:
        async with far() as opened:
            for number, address in enumerate(NOT_PEERS):
                with contextlib.suppress(TheirError):
                    offer = offered(how, sock.getsockname()[1], address)
                    await opened.media.answer(f"c{number}", "a", offer)
                    await opened.media.play(f"c{number}", "a", "music", repeat=True)
            await asyncio.sleep(1.0)
        assert heard(sock) == 0


async def test_nor_are_reports(far: Open) -> None:
    with bystander() as sock:
        async with far() as opened, TonePhone("pcmu", 440) as phone:
            for number, address in enumerate(NOT_PEERS):
                at = f"a=rtcp:{sock.getsockname()[1]} IN IP4 {address}\r\n".encode()
                with contextlib.suppress(TheirError):
                    await opened.media.answer(f"c{number}", "a", plain(phone.port, address=HOST) + at)
                    await opened.media.play(f"c{number}", "a", "music", repeat=True)
            await asyncio.sleep(6.0)  # the first is due after 5 s
        assert heard(sock) == 0


async def test_what_names_no_address_of_one_host_is_refused_and_never_looked_up(far: Open) -> None:
    async with far() as opened:
        for body in (
            plain(4000, address="phone.example.com"),
            plain(4000, address=HOST) + b"a=rtcp:4001 IN IP4 phone.example.com\r\n",
            plain(4000, address="255.255.255.255"),
            plain(4000, address="239.1.1.1"),
        ):
            with pytest.raises(TheirError) as refused:
                await opened.media.answer("c", "a", body)
            assert refused.value.status == 488


async def test_who_says_that_they_are_here_is_sent_something_once_they_were_heard(far: Open) -> None:
    """A phone that names its loopback address is at least where its packets come from."""
    async with far() as opened, TonePhone("pcmu", 440) as phone:
        answer = await opened.media.answer("c", "a", phone.offer())
        await opened.media.seen_at("c", "a", HOST)
        await opened.media.play("c", "a", "music", repeat=True)
        await asyncio.sleep(0.3)
        phone.start(answer)
        await until(lambda: len(phone.headers) > 10, "the music")


async def test_from_elsewhere_than_their_signalling_nobody_is_believed(
    tmp_path: Path, made_prompts: Path
) -> None:
    async with (
        house("embedded", tmp_path, made_prompts, public=PUBLIC) as opened,
        TonePhone("pcmu", 440) as phone,
    ):
        with bystander("127.0.0.2") as stranger:
            answer = await opened.media.answer("c", "a", phone.offer())
            await opened.media.seen_at("c", "a", HOST)
            await opened.media.play("c", "a", "music", repeat=True)
            for _ in range(10):
                stranger.sendto(bytes((0x80, *bytes(171))), (HOST, parse(answer).media[0].port))
                await asyncio.sleep(0.02)
            assert heard(stranger) == 0
            phone.start(answer)
            await until(lambda: len(phone.headers) > 10, "the music")
            assert heard(stranger) == 0


async def test_two_of_our_own_ports_do_not_send_to_each_other(opened: Open) -> None:
    """Joined, they would pass a packet round and round for ever."""
    async with opened() as house, TonePhone("pcmu", 440) as a, TonePhone("pcmu", 880) as b:
        (at_a,), (at_b,) = [
            ports(await house.media.answer("c", branch, phone.offer()))
            for branch, phone in (("a", a), ("b", b))
        ]
        refusals = 0
        for branch, port, phone in (("a", at_b, a), ("b", at_a, b)):
            try:
                await house.media.answer("c", branch, phone.offer().replace(b"%d" % phone.port, b"%d" % port))
            except TheirError as error:
                refusals += error.status == 488
        await house.media.join("c", "a", "b")
        await house.media.keys("c", "a", "123")
        await asyncio.sleep(1.0)
        came = [leg["kinds"]["audio"]["packets_in"] for leg in (await house.media.stats("c")).values()]
        assert sum(came) == 0
        assert refusals == 2


async def test_a_port_that_was_ours_may_be_another_programs() -> None:
    ours = PortRange(HOST, *free_range(4))
    assert not ours.is_ours(HOST, 40000)
    rtp, rtcp = ours.take()
    port = rtp.getsockname()[1]
    for each in (port, port + 1):
        assert ours.is_ours(HOST, each)
        assert ours.destination(HOST, each) == (NOBODY, each)
    assert not ours.is_ours("127.0.0.2", port), "another address of this machine, at which we do not listen"
    rtp.close()
    rtcp.close()
    ours.give_back(port)
    assert ours.destination(HOST, port) == (HOST, port)


@pytest.mark.parametrize(
    ("address", "where"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("10.0.0.7", "10.0.0.7"),
        ("::ffff:198.51.100.7", "198.51.100.7"),
        (HOST, NOBODY),
        ("127.8.8.8", NOBODY),
        ("::ffff:127.0.0.1", NOBODY),
        ("169.254.169.254", NOBODY),
        ("0.1.2.3", NOBODY),
        ("0.0.0.0", "0.0.0.0"),
        ("224.0.0.251", None),
        ("255.255.255.255", None),
        ("240.0.0.1", None),
        ("", None),
        ("phone.example.com", None),
        ("2001:db8::7", "2001:db8::7"),
        ("::1", NOBODY),
        ("fe80::1", NOBODY),
        ("::127.0.0.1", NOBODY),
        ("::ffff:224.0.0.1", None),
        ("ff02::1", None),
        ("fe80::1%eth0", None),
    ],
)
def test_where_a_description_may_send_our_packets(address: str, where: str | None) -> None:
    """Nowhere else than to one host that is not this one."""
    our_ports = PortRange("::", 2, 4, [PUBLIC, "2001:db8::1"])
    if where is None:
        with pytest.raises(TheirError) as refused:
            our_ports.destination(address, 4000)
        assert refused.value.status == 488
    else:
        expected = where if ":" in where or where == "0.0.0.0" else f"::ffff:{where}"
        assert our_ports.destination(address, 4000)[:2] == (expected, 4000)


@pytest.mark.parametrize(
    ("address", "where"),
    [("198.51.100.7", "198.51.100.7"), ("::ffff:198.51.100.7", "198.51.100.7"), ("::ffff:127.0.0.1", NOBODY)],
)
def test_so_too_where_there_is_ipv4_alone(address: str, where: str) -> None:
    assert PortRange("0.0.0.0", 2, 4, [PUBLIC]).destination(address, 4000) == (where, 4000)


@pytest.mark.parametrize("host", [HOST, "::1"])
def test_where_all_peers_are_on_this_machine_they_may_say_so(host: str) -> None:
    for ports_ in (PortRange(host, 2, 4), PortRange("::", 2, 4, [HOST, "::1"])):
        assert ports_.destination(host, 4000)[0].removeprefix("::ffff:") == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", HOST])
def test_a_socket_of_ours_sends_nothing_to_nobody(host: str) -> None:
    with bind(host, 0) as sock, pytest.raises(PermissionError):
        sock.sendto(b"x", PortRange(host, 2, 4, [PUBLIC]).destination("127.0.0.1", 4000))
