"""Nothing is sent to a browser that does not consent any more (RFC 7675), and ICE begins anew when it says so."""

from __future__ import annotations

import asyncio
import os

from media import stun, webrtc
from media.dtls import Dtls
from media.sdp import parse
from tests.media.relay_house import Browser, House


async def drained(browser: Browser) -> None:
    while not await browser.silent():
        pass


async def test_a_handshake_that_was_begun_is_not_said_again_to_who_is_gone(house: House) -> None:
    """Our part of it is repeated by a timer, for a minute and more."""
    browser = Browser(house.loop)
    house.phones.append(browser)
    media = browser.media = parse(house.relay.answer("c", "a", browser.offer())).media[0]
    browser.to = ("127.0.0.1", media.port)
    browser.check()
    assert (await browser.hear())[:2] == b"\x01\x01"
    assert media.fingerprint is not None
    dtls = Dtls(browser.certificate, media.fingerprint, browser._send, server=False)
    dtls.handshake()
    await drained(browser)  # and it is never heard of again
    house.later += webrtc.CONSENT_S + 1
    house.relay._sweep()
    assert [news[:2] for news in house.gone] == [("c", "a")]
    transport = house.relay._leg("c", "a").transport
    assert transport is not None
    assert transport._timer is not None
    await asyncio.sleep(1.1)  # OpenSSL's own clock: it is said again after a second
    assert await browser.silent()
    browser.check()
    assert (await browser.hear())[:2] == b"\x01\x01"
    assert await asyncio.wait_for(house.loop.sock_recv(browser.sock, 2048), 8), "with consent it goes on"


async def test_neither_sound_nor_reports_nor_what_was_lost_goes_out_without_consent(house: House) -> None:
    browser, phone = await house.browser("a"), house.called("b")
    house.relay.join("c", "a", "b")
    phone.say(b"heard")
    assert await browser.hears() == b"heard"
    house.later += webrtc.CONSENT_S + 1
    house.relay._sweep()
    (stream,) = house.relay._leg("c", "a").carried
    phone.say(b"not heard")
    await asyncio.sleep(0.05)
    stream.send_rtcp(b"\x80\xc9\x00\x01" + bytes(4))
    stream.send(20)
    assert await browser.silent()
    browser.check()
    assert (await browser.hear())[:2] == b"\x01\x01"
    phone.say(b"heard again")
    assert await browser.hears() == b"heard again"


async def test_a_check_by_the_names_of_before_a_restart_is_no_consent(house: House) -> None:
    browser, phone = await house.browser("a"), house.called("b")
    house.relay.join("c", "a", "b")
    before = browser.media
    assert before is not None
    answer = parse(house.relay.answer("c", "a", browser.offer().replace(b"ufrag:abcd", b"ufrag:efgh"))).media[
        0
    ]
    assert (answer.ice_ufrag, answer.ice_pwd) != (before.ice_ufrag, before.ice_pwd)
    assert answer.fingerprint == before.fingerprint
    phone.say(b"by the old path")
    assert await browser.hears() == b"by the old path"
    browser.check()
    assert await browser.silent(), "the old names are nobody's"
    assert answer.ice_pwd is not None
    wrong = stun.request(f"{answer.ice_ufrag}:abcd", answer.ice_pwd, os.urandom(12))
    browser.sock.sendto(wrong, browser.to)
    assert await browser.silent(), "and so is the browser's old one"
    right = stun.request(f"{answer.ice_ufrag}:efgh", answer.ice_pwd, os.urandom(12))
    browser.sock.sendto(right, browser.to)
    assert (await browser.hear())[:2] == b"\x01\x01"
    phone.say(b"by the new one")
    assert await browser.hears() == b"by the new one"


async def test_offered_the_same_again_ice_goes_on_as_it_is(house: House) -> None:
    """RFC 8839 section 4.4.1.1.1: other credentials, and nothing else, begin it anew."""
    browser, phone = await house.browser("a"), house.called("b")
    house.relay.join("c", "a", "b")
    answer = parse(house.relay.answer("c", "a", browser.offer())).media[0]
    assert browser.media is not None
    assert (answer.ice_ufrag, answer.ice_pwd) == (browser.media.ice_ufrag, browser.media.ice_pwd)
    browser.say(b"as before")
    assert await phone.hears() == b"as before"
