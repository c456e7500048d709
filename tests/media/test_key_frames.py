"""Of whom and in which words a key frame is asked for."""

from __future__ import annotations

import asyncio
import struct

import pytest

from media import rtcp
from media.offer_answer import only_fir
from tests.media.descriptions import BARESIP_ANSWER, CHROMIUM
from tests.media.relay_house import House, Phone
from tests.media.test_offer_answer import take

HEAD = b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"


def video(port: int, *feedback: str) -> bytes:
    said = "".join(f"a=rtcp-fb:96 {each}\r\n" for each in feedback)
    return HEAD + f"m=video {port} RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\na=rtcp-mux\r\n{said}".encode()


async def seen(house: House, branch: str, *feedback: str) -> Phone:
    """A phone that has offered so, and sends pictures."""
    phone = house.phone()
    phone.heard_answer(house.relay.answer("c", branch, video(phone.port, *feedback)))
    phone.say(b"picture", kind=96)
    await asyncio.sleep(0.05)
    return phone


async def asked(phone: Phone) -> tuple[int, bytes]:
    kind, count, body = rtcp.packets(await phone.hear())[-1]
    assert kind == rtcp.PSFB
    return count, body


async def test_who_knows_only_fir_is_asked_by_fir_and_each_time_by_another_number(house: House) -> None:
    """RFC 5104 section 4.3.1.1: one that bears the number of the last is a repetition, and makes no picture."""
    maker = await seen(house, "a", "ccm fir")
    await seen(house, "b", "nack pli")
    for number in (1, 2):
        house.relay.join("c", "a", "b")
        count, body = await asked(maker)
        assert count == rtcp.FIR
        assert struct.unpack("!IIB3x", body[4:]) == (0, maker.ssrc, number)


@pytest.mark.parametrize(
    "feedback", [("ccm fir", "nack pli"), ("nack pli",), ()], ids=["both", "PLI", "none"]
)
async def test_everybody_else_is_asked_by_pli(house: House, feedback: tuple[str, ...]) -> None:
    maker = await seen(house, "a", *feedback)
    await seen(house, "b", "nack pli")
    house.relay.join("c", "a", "b")
    count, body = await asked(maker)
    assert (count, body[4:]) == (rtcp.PLI, struct.pack("!I", maker.ssrc))


async def test_a_pli_of_one_is_a_fir_to_the_other(house: House) -> None:
    maker, watcher = await seen(house, "a", "ccm fir"), await seen(house, "b", "nack pli")
    house.relay.join("c", "a", "b")
    for phone in (maker, watcher):
        await phone.hear()
    maker.say(b"picture", kind=96)
    ssrc = struct.unpack_from("!I", await watcher.hear(), 8)[0]
    request = rtcp.write(rtcp.PSFB, rtcp.PLI, struct.pack("!II", watcher.ssrc, ssrc))
    watcher.sock.sendto(rtcp.write(rtcp.RR, 0, struct.pack("!I", watcher.ssrc)) + request, watcher.to)
    count, body = await asked(maker)
    assert (count, struct.unpack_from("!I", body, 8)[0]) == (rtcp.FIR, maker.ssrc)


def test_what_real_peers_say_is_read_so() -> None:
    assert not any(only_fir(line) for line in take(CHROMIUM))
    assert not any(only_fir(line) for line in take(BARESIP_ANSWER))
