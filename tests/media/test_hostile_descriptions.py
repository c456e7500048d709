"""Descriptions of somebody who means harm: refused with a reason, in no time, with nothing left of them."""

from __future__ import annotations

import pytest

from config.errors import TheirError
from media import offer_answer as oa
from media.sdp import parse
from media.server import ALL_KINDS
from tests.media.descriptions import CHROMIUM, plain
from tests.media.relay_house import House
from tests.media.test_offer_answer import take
from tests.moment import moments

HEAD = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
NUMBERS = b" ".join(b"%d" % number for number in range(128))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (HEAD + b"a=x:" + b"y" * (1 << 20) + b"\r\n", "longer than 65536 bytes"),
        (HEAD + b"m=audio 4000 RTP/AVP 0\r\n" * 1000, "more than 32 media"),
        (HEAD + b"a=x\r\n" * 2000, "longer than 1500 lines"),
        (plain(4000).replace(b"PCMU", b"PC\0MU") + b"a=\0\r\n", "NUL"),
        (plain(4000).replace(b"sendrecv", b"send\0recv"), "NUL"),
        (HEAD + b"m=audio 4000 RTP/AVP" + b" 0" * 30000 + b"\r\n", "twice"),
        (HEAD + b"m=audio " + b"9" * 60000 + b" RTP/AVP 0\r\n", "bad port"),
        (HEAD.replace(b"o=- 1 1", b"o=- 1 " + b"9" * 60000), "bad version"),
        (HEAD + b"m=audio 4000 RTP/AVP 96\r\na=rtpmap:96 x/" + b"8" * 60000 + b"\r\n", "bad clock rate"),
        (HEAD + b"c=IN IP6 " + b":" * 60000 + b"\r\n", "bad address"),
        (HEAD + b"a=fingerprint:sha-256 " + b"AB:" * 20000 + b"AB\r\n", "bad a=fingerprint"),
    ],
    ids=[
        *("a line of 1 MB", "1,000 m-lines", "2,000 lines", "NUL in an attribute", "NUL in a direction"),
        *("30,000 formats", "a port of 60,000 digits", "a version of them", "a clock of them"),
        *("an address of colons", "a long fingerprint"),
    ],
)
def test_what_is_too_much_is_refused_with_a_reason_in_no_time(body: bytes, reason: str) -> None:
    def refused() -> None:
        with pytest.raises(TheirError, match=reason) as caught:
            take(body)
        assert caught.value.status == 400
        assert len(caught.value.reason) < 200

    assert moments(refused) < 4


@pytest.mark.parametrize(
    "body",
    [
        HEAD + (b"m=audio 4000 RTP/AVP " + NUMBERS + b"\r\n") * 32,
        HEAD + b"m=video 4000 RTP/AVP " + NUMBERS + b"\r\n" + b"a=rtcp-fb:* nack pli\r\n" * 1400,
        HEAD + b"m=video 4000 RTP/AVP " + NUMBERS + b"\r\n" + b"a=rtpmap:96 H264/90000\r\n" * 1400,
        HEAD + b"m=audio 4000 RTP/AVP 0\r\n" + b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:AA\r\n" * 1100,
        HEAD + b"m=video 4000 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 " + b"a=b;" * 15000 + b"\r\n",
        CHROMIUM.replace(b"BUNDLE 0 1", b"BUNDLE" + b" 0 1" * 10000),
    ],
    ids=["all that is allowed", "feedback", "maps", "keys", "parameters", "a bundle"],
)
def test_the_most_that_is_allowed_is_read_and_answered_in_no_time(body: bytes) -> None:
    def read_and_answered() -> None:
        try:
            profile, lines = oa.read_offer(parse(body), ALL_KINDS)
            oa.read_answer(oa.offer_lines(profile, lines, None), parse(body), profile)
        except TheirError as error:
            assert error.status == 488  # noqa: PT017

    assert moments(read_and_answered) < 16


def test_of_two_media_of_one_name_a_bundle_has_the_first() -> None:
    """RFC 5888 section 4: a name is one medium's."""
    lines = take(CHROMIUM.replace(b"a=mid:1", b"a=mid:0"))
    assert [line.accepted for line in lines] == [True, False]


async def test_a_thousand_of_them_leave_no_port_and_no_call(house: House) -> None:
    free = len(house.relay._ports)
    bad = (
        HEAD + b"m=audio 4000 RTP/AVP 0\r\n" * 33,
        plain(4000).replace(b"sendrecv", b"send\0recv"),
        # More media than there are ports for: what was taken for the first of them goes back.
        HEAD + b"m=audio 4000 RTP/AVP 0\r\n" * 32,
        plain(4000, address="host.example"),
        plain(4000) + b"m=video 4002 RTP/AVP 96\r\nc=IN IP4 239.1.1.1/3\r\na=rtpmap:96 VP8/90000\r\n",
    )
    for number in range(1000):
        with pytest.raises(Exception, match=r"\w"):
            house.relay.answer(f"c{number}", "a", bad[number % len(bad)])
    assert len(house.relay._ports) == free
    assert not house.relay._calls
