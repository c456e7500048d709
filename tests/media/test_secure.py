"""Phones that speak SRTP: SDES and DTLS, whoever offers."""

from __future__ import annotations

import socket

import pytest

from config.errors import TheirError
from media import sdes
from media.sdp import parse
from media.server import Profile
from tests.media.descriptions import plain
from tests.media.relay_house import HOST, House, Phone
from tests.media.secure_phone import SecurePhone
from tests.peers.process import PeerFailed, until


@pytest.fixture
def port_count() -> int:
    return 60


def sdes_phone(house: House, suite: str = "AES_CM_128_HMAC_SHA1_80") -> SecurePhone:
    phone = SecurePhone(house.loop, crypto=sdes.make(suite, 7))
    house.phones.append(phone)
    return phone


def dtls_phone(house: House, setup: str) -> SecurePhone:
    phone = SecurePhone(house.loop, setup=setup)
    house.phones.append(phone)
    return phone


async def both_hear(secure: SecurePhone, other: Phone) -> None:
    for number in range(3):
        secure.say(b"secret %d" % number)
        assert await other.hears() == b"secret %d" % number
        other.say(b"open %d" % number)
        assert await secure.hears() == b"open %d" % number


@pytest.mark.parametrize("suite", sdes.SUITES)
async def test_an_sdes_phone_that_offers_speaks_with_a_plain_one(house: House, suite: str) -> None:
    secure, other = sdes_phone(house, suite), house.called("b")
    answer = secure.take(house.relay.answer("c", "a", secure.session()))
    assert answer.protocol == "RTP/SAVP"
    mine = [value for name, value in answer.attributes if name == "crypto"]
    assert [value.split()[:2] for value in mine if value] == [["7", suite]], "the tag and suite it offered"
    house.relay.join("c", "a", "b")
    await both_hear(secure, other)


@pytest.mark.parametrize("suite", sdes.SUITES)
async def test_an_sdes_phone_that_is_offered_to_takes_the_suite_it_likes(house: House, suite: str) -> None:
    secure, other = sdes_phone(house, suite), house.called("b")
    offer = parse(house.relay.offer("c", "a", profile=Profile.SDES, like="b")).media[0]
    assert offer.protocol == "RTP/SAVP"
    offered = [sdes.read(value) for name, value in offer.attributes if name == "crypto" and value]
    assert [each.suite for each in offered if each] == list(sdes.SUITES)
    assert len({each.key for each in offered if each}) == len(sdes.SUITES), "a key of its own for each"
    secure.heard_answer(house.relay.offer("c", "a", profile=Profile.SDES))
    secure.key(next(each for each in offered if each and each.suite == suite))
    house.relay.accept("c", "a", secure.session())
    house.relay.join("c", "a", "b")
    await both_hear(secure, other)


async def test_the_first_suite_that_can_be_done_is_taken_and_others_are_passed_over(house: House) -> None:
    phone = sdes_phone(house)
    lines = (
        "crypto:1 AES_256_CM_HMAC_SHA1_80 inline:" + "A" * 62,
        "crypto:2 AEAD_AES_128_GCM inline:tooshort",
        "crypto:3 AEAD_AES_128_GCM inline:" + "A" * 37 + "===|2^20|1:4",
        "crypto:4 AEAD_AES_128_GCM inline:" + "A" * 37 + "=== UNENCRYPTED_SRTP",
        "crypto:x AEAD_AES_128_GCM",
    )
    offer = phone.session().replace(
        b"a=crypto:", b"".join(b"a=%s\r\n" % line.encode() for line in lines) + b"a=crypto:"
    )
    answer = parse(house.relay.answer("c", "a", offer)).media[0]
    (chosen,) = [value for name, value in answer.attributes if name == "crypto" and value]
    assert chosen.startswith("7 AES_CM")


@pytest.mark.parametrize("crypto", [b"", b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:short\r\n"])
async def test_without_a_key_that_can_be_used_it_is_488(house: House, crypto: bytes) -> None:
    with pytest.raises(TheirError, match="RTP/SAVP is not carried") as caught:
        house.relay.answer("c", "a", plain(4000).replace(b"RTP/AVP", b"RTP/SAVP") + crypto)
    assert caught.value.status == 488


async def test_keys_stay_over_a_re_offer_and_new_ones_are_taken(house: House) -> None:
    secure, other = sdes_phone(house), house.called("b")
    first = secure.take(house.relay.answer("c", "a", secure.session()))
    house.relay.join("c", "a", "b")
    await both_hear(secure, other)
    again = parse(house.relay.answer("c", "a", secure.session("sendonly"))).media[0]
    assert sdes.first(again.attributes) == sdes.first(first.attributes)
    house.relay.answer("c", "a", secure.session())
    await both_hear(secure, other)
    ours = sdes.first(parse(house.relay.offer("c", "a", profile=Profile.SDES)).media[0].attributes)
    assert ours is not None
    secure.crypto = sdes.make("AES_CM_128_HMAC_SHA1_80")
    house.relay.accept("c", "a", secure.session())
    secure.key(ours)
    await both_hear(secure, other)


async def test_a_peers_new_key_does_not_make_us_count_from_the_start_under_our_own(house: House) -> None:
    """RFC 3711 section 9.1: two packets of one number would be hidden by one key stream."""
    secure, other = sdes_phone(house), house.called("b")
    secure.take(house.relay.answer("c", "a", secure.session()))
    house.relay.join("c", "a", "b")
    assert secure.srtp is not None
    other.seq = 0xFFFD
    for number in range(12):  # its numbers wrap around, and so do ours
        other.seq += 0x2000
        other.say(b"open %d" % number)
        assert await secure.hears() == b"open %d" % number
    ours = sdes.first(parse(house.relay.offer("c", "a", profile=Profile.SDES)).media[0].attributes)
    assert ours is not None
    secure.crypto = sdes.make("AES_CM_128_HMAC_SHA1_80")
    house.relay.accept("c", "a", secure.session())
    hearing = secure.srtp
    secure.key(ours)
    secure.say(b"under the new key")
    assert await other.hears() == b"under the new key"
    secure.srtp = hearing
    other.seq += 1
    other.say(b"it goes on")
    assert await secure.hears() == b"it goes on"


async def test_what_does_not_carry_the_key_is_not_heard_and_does_not_move_the_phone(house: House) -> None:
    secure, other = sdes_phone(house), house.called("b")
    secure.take(house.relay.answer("c", "a", secure.session()))
    house.relay.join("c", "a", "b")
    await both_hear(secure, other)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as thief:
        thief.bind((HOST, 0))
        thief.sendto(b"\x80\x00\x00\x99" + bytes(40), secure.to)
        replayed = secure.protected(b"once")
        secure.sock.sendto(replayed, secure.to)
        assert await other.hears() == b"once"
        thief.sendto(replayed, secure.to)
    await both_hear(secure, other)


async def test_a_phone_that_holds_the_key_may_move(house: House) -> None:
    secure, other = sdes_phone(house), house.called("b")
    secure.take(house.relay.answer("c", "a", secure.session()))
    house.relay.join("c", "a", "b")
    await both_hear(secure, other)
    secure.sock.close()
    secure.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    secure.sock.bind((HOST, 0))
    secure.sock.setblocking(False)
    await both_hear(secure, other)


@pytest.mark.parametrize(
    "setup, ours", [("actpass", "passive"), ("active", "passive"), ("passive", "active")]
)
async def test_a_dtls_phone_that_offers(house: House, setup: str, ours: str) -> None:
    secure, other = dtls_phone(house, setup), house.called("b")
    answer = house.relay.answer("c", "a", secure.session())
    media = secure.take(answer)
    assert (media.protocol, media.setup, media.rtcp_mux) == ("UDP/TLS/RTP/SAVP", ours, True)
    house.relay.join("c", "a", "b")
    await secure.shake(answer)
    await until(lambda: house.relay.stats("c")["a"]["ready"], "the handshake to be over")
    await both_hear(secure, other)


@pytest.mark.parametrize("setup", ["active", "passive"])
async def test_a_dtls_phone_that_is_offered_to(house: House, setup: str) -> None:
    secure, other = dtls_phone(house, setup), house.called("b")
    offer = house.relay.offer("c", "a", profile=Profile.DTLS, like="b")
    assert secure.take(offer).setup == "actpass"
    house.relay.accept("c", "a", secure.session())
    house.relay.join("c", "a", "b")
    await secure.shake(offer)
    await until(lambda: house.relay.stats("c")["a"]["ready"], "the handshake to be over")
    await both_hear(secure, other)
    # A hold and its end change nothing of the keys, nor of who is the client.
    again = parse(house.relay.answer("c", "a", secure.session("sendonly"))).media[0]
    assert again.setup == ("passive" if setup == "active" else "active")
    house.relay.answer("c", "a", secure.session())
    await both_hear(secure, other)


async def test_a_certificate_other_than_the_one_named_ends_it(house: House) -> None:
    secure, named = dtls_phone(house, "active"), dtls_phone(house, "active")
    offer = secure.session().replace(
        secure.certificate.fingerprint.value.encode(), named.certificate.fingerprint.value.encode()
    )
    answer = house.relay.answer("c", "a", offer)
    secure.take(answer)
    await secure.shake(answer)  # the client is done before the server has looked at its certificate
    await until(lambda: house.gone, "the news")
    assert house.gone == [("c", "a", "DTLS: the certificate is not the one named in the SDP")]
    assert not house.relay.stats("c")["a"]["ready"]


@pytest.mark.parametrize("hangs_up", [True, False])
async def test_a_goodbye_waits_for_the_bye_that_says_whose_doing_it_was(
    house: House, hangs_up: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("media.secure.GOODBYE_S", 0.2)
    secure, other = dtls_phone(house, "active"), house.called("b")
    answer = house.relay.answer("c", "a", secure.session())
    secure.take(answer)
    await secure.shake(answer)
    house.relay.join("c", "a", "b")
    await both_hear(secure, other)
    assert secure.dtls is not None
    secure.dtls.close()
    await until(lambda: not house.relay.stats("c")["a"]["ready"], "the goodbye")
    assert house.gone == []
    if hangs_up:
        house.relay.drop("c", "a")
        with pytest.raises(PeerFailed):
            await until(lambda: house.gone, "the news", seconds=0.5)
    else:
        await until(lambda: house.gone, "the news")
        assert house.gone == [("c", "a", "DTLS: closed by the peer")]


async def test_rtcp_of_its_own_port_has_an_association_of_its_own(house: House) -> None:
    """RFC 5764 section 4.2: without rtcp-mux, one handshake for RTP and one for RTCP."""
    secure, control = dtls_phone(house, "active"), dtls_phone(house, "active")
    control.certificate = secure.certificate
    offer = secure.session(f"rtcp:{control.port}").replace(b"a=rtcp-mux\r\n", b"")
    answer = house.relay.answer("c", "a", offer)
    media = secure.take(answer)
    assert not media.rtcp_mux
    control.to = (HOST, media.rtcp_port or 0)
    await secure.shake(answer)
    await control.shake(answer)
    assert secure.dtls is not None
    assert control.dtls is not None
    assert secure.dtls.keys != control.dtls.keys


async def test_a_browser_sees_an_sdes_phone_as_any_other(house: House) -> None:
    browser, secure = await house.browser("a"), sdes_phone(house)
    offer = house.relay.offer("c", "b", profile=Profile.SDES, like="a")
    secure.heard_answer(offer)
    ours = sdes.first(parse(offer).media[0].attributes)
    assert ours is not None
    secure.key(ours)
    house.relay.accept("c", "b", secure.session())
    house.relay.join("c", "a", "b")
    await both_hear(secure, browser)


async def test_nothing_goes_out_in_clear(house: House) -> None:
    secure, other = sdes_phone(house), house.called("b")
    secure.take(house.relay.answer("c", "a", secure.session()))
    house.relay.join("c", "a", "b")
    secure.say(b"first")
    await other.hears()
    other.say(b"a sentence nobody else shall read")
    assert b"sentence" not in await secure.hear_raw()


async def test_a_phone_with_candidates_of_its_own_and_no_bundle_is_answered_without(house: House) -> None:
    phone = dtls_phone(house, "actpass")
    offer = phone.session(
        "ice-ufrag:abcd", "ice-pwd:abcdefghijklmnopqrstuvwx", "candidate:1 1 udp 1 127.0.0.1 9 typ host"
    )
    answer = parse(house.relay.answer("c", "a", offer))
    assert not answer.ice_lite
    assert not answer.media[0].ice_ufrag
    assert answer.media[0].setup == "passive"


async def test_ports_are_given_back(house: House) -> None:
    free = len(house.relay._ports)
    for number in range(5):
        house.relay.answer("c", f"a{number}", sdes_phone(house).session())
        house.relay.offer("c", f"b{number}", profile=Profile.DTLS)
    assert len(house.relay._ports) == free - 10
    house.relay.delete("c")
    assert len(house.relay._ports) == free
