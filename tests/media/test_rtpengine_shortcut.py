from __future__ import annotations

import pytest

from config.errors import TheirError
from media.peer_address import NOBODY
from media.sdp import Direction, parse
from media.server import Profile
from media.shortcut import Agreed, for_rtpengine, from_peer, shortcut, with_protocols
from tests.media.descriptions import CHROMIUM, FINGERPRINT, SIPP, plain

VIDEO = b"m=video 5000 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\n"


def agreed(
    theirs: bytes, ours: bytes, *, peer_offered: bool = True, profile: Profile = Profile.RTP
) -> Agreed:
    return Agreed(profile, peer_offered, parse(theirs), parse(ours))


def offered(codecs: str, answered: str) -> Agreed:
    return agreed(plain(4000, codecs=codecs), plain(6000, codecs=answered))


CALLER = offered("0 8", "0 8")
CALLEE = agreed(plain(4002), plain(6002, codecs="0 8"), peer_offered=False)


def test_two_who_agreed_on_the_same_are_told_of_each_other_with_what_both_know() -> None:
    words = shortcut(offered("0 8 18", "0"), CALLEE)
    assert words is not None
    assert [parse(each).media[0].formats for each in words] == [("0",), ("0",)]
    assert [parse(each).media[0].port for each in words] == [4000, 4002]


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (CALLER, offered("8", "8")),
        (
            CALLER,
            offered("8 0", "8 0").__class__(
                Profile.RTP, True, parse(plain(4, direction="inactive")), parse(SIPP)
            ),
        ),
        (CALLER, agreed(plain(4002), plain(6002, direction="sendonly"))),
        (CALLER, agreed(plain(4002, address="0.0.0.0"), plain(6002))),
        (CALLER, agreed(plain(4002) + VIDEO, plain(6002) + VIDEO)),
        (CALLER, agreed(plain(0), plain(6002))),
        (CALLER, agreed(plain(4002), plain(6002, codecs="8"))),
    ],
    ids=[
        "another codec first",
        "hold",
        "held by us",
        "nowhere",
        "video on one side",
        "refused",
        "none in common",
    ],
)
def test_who_has_not_the_same_needs_somebody_between(a: Agreed, b: Agreed) -> None:
    assert shortcut(a, b) is None
    assert shortcut(b, a) is None


@pytest.mark.parametrize(
    ("profile", "short"), [(Profile.SDES, True), (Profile.WEBRTC, True), (Profile.DTLS, False)]
)
def test_a_phone_that_shakes_hands_stays_with_the_studio(profile: Profile, short: bool) -> None:
    secure = agreed(plain(4002), plain(6002, codecs="0 8"), peer_offered=False, profile=profile)
    assert (shortcut(CALLER, secure) is not None) is short
    assert (shortcut(secure, CALLER) is not None) is short


def test_a_number_that_means_two_codecs_needs_somebody_between() -> None:
    dynamic = (
        b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4004 RTP/AVP 0 96\r\n"
        b"a=rtpmap:96 "
    )
    events, opus = dynamic + b"telephone-event/8000\r\n", dynamic + b"opus/48000/2\r\n"
    assert shortcut(agreed(events, events), agreed(events, events)) is not None
    assert shortcut(agreed(events, events), agreed(opus, opus)) is None


def test_refused_media_at_the_end_are_nobodys_trouble() -> None:
    refused = VIDEO.replace(b"5000", b"0")
    words = shortcut(CALLER, agreed(plain(4002) + VIDEO, plain(6002) + refused))
    assert words is not None
    assert all(len(parse(each).media) == 1 for each in words)


def test_feedback_is_no_matter_between_us_and_rtpengine_but_stays_the_peers_own() -> None:
    chromium = parse(CHROMIUM)
    told = for_rtpengine(chromium)
    assert [media.protocol for media in told.media] == ["UDP/TLS/RTP/SAVP"] * 2
    back = parse(with_protocols(told.to_bytes(), [media.protocol for media in chromium.media]))
    assert back.media == chromium.media


def test_every_medium_has_an_address() -> None:
    refused = parse(SIPP.replace(b"c=IN IP4 127.0.0.1\r\n", b"").replace(b"audio 6000", b"audio 0"))
    assert for_rtpengine(refused).media[0].address == "0.0.0.0"


@pytest.mark.parametrize("address", ["224.0.0.1", "255.255.255.255", "ff02::1", "phone.example.com"])
def test_what_is_no_address_of_one_host_is_refused(address: str) -> None:
    rtcp = plain(4000, address="198.51.100.7") + f"a=rtcp:4001 IN IP4 {address}\r\n".encode()
    for body in (plain(4000, address=address), rtcp):
        for all_here in (False, True):
            with pytest.raises(TheirError) as wrong:
                from_peer(parse(body), Profile.RTP, all_here=all_here)
            assert wrong.value.status == 488


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("::ffff:198.51.100.7", "198.51.100.7"),
        ("127.0.0.1", NOBODY),
        ("::ffff:127.0.0.1", NOBODY),
        ("169.254.169.254", NOBODY),
        ("::1", NOBODY),
    ],
)
def test_nothing_is_sent_to_where_no_peer_can_be(address: str, told: str) -> None:
    rtcp = f"a=rtcp:4001 IN IP4 {address}\r\n".encode()
    (media,) = from_peer(parse(plain(4000, address=address) + rtcp), Profile.RTP, all_here=False).media
    assert (media.address, media.port) == (told, 4000)
    assert (media.rtcp_address, media.rtcp_port) == (told, 4001)
    assert media.direction is Direction.SENDRECV
    (media,) = from_peer(parse(plain(4000, address=address) + rtcp), Profile.RTP, all_here=True).media
    assert media.address == media.rtcp_address == address.removeprefix("::ffff:")


@pytest.mark.parametrize(("said", "told"), [("sendrecv", "sendonly"), ("recvonly", "inactive")])
def test_who_is_nowhere_is_on_hold(said: str, told: str) -> None:
    offer = plain(4000, address="0.0.0.0", direction=said) + b"a=rtcp:4001 IN IP4 127.0.0.1\r\n"
    (media,) = from_peer(parse(offer), Profile.RTP, all_here=True).media
    assert (media.address, media.direction.value, media.rtcp_address) == (NOBODY, told, "")


def test_of_a_browsers_candidates_none_leads_here() -> None:
    candidates = "".join(
        f"a=candidate:1 1 udp 2130706431 {address} 4000 typ host\r\n"
        for address in ("127.0.0.1", "fe80::1", "a1b2.local", "198.51.100.7", "::1", "224.0.0.1")
    )
    offer = CHROMIUM.replace(b"0.0.0.0", b"127.0.0.1") + candidates.encode() + b"a=candidate:short\r\n"
    audio, video = from_peer(parse(offer), Profile.WEBRTC, all_here=False).media
    assert [value and value.split()[4] for name, value in video.attributes if name == "candidate"] == [
        "198.51.100.7"
    ]
    assert (audio.address, audio.port, audio.rtcp_port, audio.rtcp_address) == ("0.0.0.0", 9, None, "")


@pytest.mark.parametrize(
    ("profile", "left"),
    [(Profile.SDES, (True, False)), (Profile.DTLS, (False, True)), (Profile.WEBRTC, (False, True))],
)
def test_rtpengine_is_told_only_the_keys_that_were_chosen(profile: Profile, left: tuple[bool, bool]) -> None:
    both = f"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{'A' * 40}\r\na=fingerprint:sha-256 {FINGERPRINT}\r\n"
    offer = plain(4000, address="198.51.100.7") + both.encode() + b"a=setup:actpass\r\n"
    (media,) = from_peer(parse(offer), profile, all_here=False).media
    assert ("crypto" in dict(media.attributes), media.fingerprint is not None) == left
    assert bool(media.setup) is left[1]
