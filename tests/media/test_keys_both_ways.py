"""A phone that offers keys by SDES and by DTLS at once gets one of them, and hears by that."""

from __future__ import annotations

import asyncio

import pytest

from media import sdes
from media.sdp import parse
from tests.media.descriptions import FINGERPRINT
from tests.media.media_servers import Open
from tests.media.secure_phone import SecurePhone

SUITE = "AES_CM_128_HMAC_SHA1_80"


@pytest.mark.parametrize("protocol", ["RTP/SAVP", "RTP/SAVPF"])
async def test_under_the_old_name_it_is_sdes(opened: Open, protocol: str) -> None:
    phone = SecurePhone(asyncio.get_running_loop(), crypto=sdes.make(SUITE))
    offer = phone.session(f"fingerprint:sha-256 {FINGERPRINT}", "setup:actpass")
    async with opened() as house:
        answer = await house.media.answer("c", "a", offer.replace(b"RTP/SAVP", protocol.encode()))
        media = phone.take(answer)
        assert (media.protocol, media.fingerprint, media.setup) == (protocol, None, "")
        await house.media.play("c", "a", "music", repeat=True)
        phone.say(bytes(160))
        assert len(await phone.hears()) == 160
    phone.close()


@pytest.mark.parametrize("protocol", ["UDP/TLS/RTP/SAVP", "UDP/TLS/RTP/SAVPF"])
async def test_under_that_of_dtls_it_is_dtls(opened: Open, protocol: str) -> None:
    phone = SecurePhone(asyncio.get_running_loop(), setup="active")
    offer = phone.session(f"crypto:{sdes.make(SUITE)}")
    async with opened() as house:
        answer = await house.media.answer("c", "a", offer.replace(b"UDP/TLS/RTP/SAVP", protocol.encode()))
        media = parse(answer).media[0]
        assert (media.protocol, media.setup) == (protocol, "passive")
        assert sdes.first(media.attributes) is None
        phone.heard_answer(answer)
        await phone.shake(answer)
        await house.media.play("c", "a", "music", repeat=True)
        phone.say(bytes(160))
        assert len(await phone.hears()) == 160
    phone.close()
