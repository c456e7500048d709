from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.errors import TheirError
from media import offer_answer as oa
from media.sdp import Direction, Origin, Payload, SessionDescription, parse
from media.server import ALL_KINDS, AUDIO_ONLY, Profile
from tests.media.descriptions import BARESIP_ANSWER, CHROMIUM, SIPP, plain

HERE = oa.Local("127.0.0.1", 30000)


def take(data: bytes) -> tuple[oa.Line, ...]:
    return oa.read_offer(parse(data), ALL_KINDS)[1]


def answer_to(data: bytes, kinds: frozenset[str] = ALL_KINDS) -> SessionDescription:
    profile, lines = oa.read_offer(parse(data), kinds)
    where = [HERE if line.accepted else None for line in lines]
    return parse(oa.write(Origin(), profile, lines, where, answering=True).to_bytes())


def names(codecs: tuple[Payload, ...]) -> list[str]:
    return [f"{p.number} {p.name}" for p in codecs]


def h264(number: int, fmtp: str) -> Payload:
    return Payload(number, "H264", 90000, 1, fmtp)


def test_a_browser_is_answered_with_all_we_carry_in_its_own_order() -> None:
    answer = answer_to(CHROMIUM)
    audio, video = answer.media
    assert names(audio.payloads) == [
        "111 opus",
        "9 G722",
        "0 PCMU",
        "8 PCMA",
        "110 telephone-event",
        "126 telephone-event",
    ]
    assert names(video.payloads) == ["96 VP8", "103 H264", "107 H264"]
    assert answer.bundle == ("0", "1")
    assert answer.ice_lite
    assert (audio.mid, video.mid, audio.rtcp_mux, video.rtcp_mux) == ("0", "1", True, True)


def test_only_feedback_that_was_offered_and_that_mends_pictures_is_answered() -> None:
    video = answer_to(CHROMIUM).media[1]
    assert video.payloads[0].feedback == ("ccm fir", "nack", "nack pli")
    assert video.payloads[2].feedback == ()


def test_no_header_extensions_are_agreed() -> None:
    assert not [a for m in answer_to(CHROMIUM).media for a in m.attributes if a[0] == "extmap"]


def test_media_that_are_not_wanted_keep_their_place_with_port_zero() -> None:
    answer = answer_to(CHROMIUM, AUDIO_ONLY)
    assert [m.port for m in answer.media] == [30000, 0]
    assert answer.bundle == ("0",)


@pytest.mark.parametrize("origin", [Origin(), Origin(address="::1")])
def test_refused_media_have_an_address_too_and_read_the_same(origin: Origin) -> None:
    profile, lines = oa.read_offer(parse(CHROMIUM), AUDIO_ONLY)
    answer = oa.write(origin, profile, lines, [HERE, None], answering=True)
    assert [m.address for m in answer.media] == [HERE.address, origin.address]
    written = answer.to_bytes()
    assert written.count(b"\r\nc=IN ") == written.count(b"\r\nm=")
    assert parse(written).to_bytes() == written


@pytest.mark.parametrize(
    "offered, answered",
    [
        ("sendrecv", Direction.SENDRECV),
        ("sendonly", Direction.RECVONLY),
        ("recvonly", Direction.SENDONLY),
        ("inactive", Direction.INACTIVE),
    ],
)
def test_hold_is_answered_by_its_counterpart(offered: str, answered: Direction) -> None:
    assert answer_to(plain(4000, direction=offered)).media[0].direction is answered


def test_an_address_of_zeros_is_hold_too() -> None:
    line = take(plain(4000, address="0.0.0.0"))[0]
    assert (line.they_send, line.they_receive) == (True, False)


@pytest.mark.parametrize(
    "offer, reason",
    [
        (plain(4000, codecs="3 18"), "No common codec"),
        (plain(4000, codecs="13"), "No common codec"),
        (plain(4000).replace(b"RTP/AVP", b"RTP/SAVP"), "RTP/SAVP is not carried"),
        (plain(0), "No media offered"),
        (b"v=0\no=- 1 1 IN IP4 1.1.1.1\ns=-\n", "No media offered"),
        (CHROMIUM.replace(b"a=rtcp-mux\r\n", b""), "rtcp-mux"),
    ],
)
def test_nothing_in_common_is_488(offer: bytes, reason: str) -> None:
    with pytest.raises(TheirError, match=reason) as caught:
        take(offer)
    assert caught.value.status == 488


def test_media_of_a_browser_outside_the_bundle_are_refused() -> None:
    lines = take(CHROMIUM.replace(b"BUNDLE 0 1", b"BUNDLE 0"))
    assert [line.accepted for line in lines] == [True, False]


def test_a_phone_is_offered_the_callers_codecs_under_the_callers_payload_types() -> None:
    lines = oa.offer_lines(Profile.RTP, take(CHROMIUM), None)
    assert names(lines[0].ours)[:3] == ["111 opus", "9 G722", "0 PCMU"]
    assert names(lines[1].ours) == ["96 VP8", "103 H264", "107 H264"]
    offer = oa.write(Origin(), Profile.RTP, lines, [HERE, HERE], answering=False)
    assert {m.protocol for m in offer.media} == {"RTP/AVP"}
    assert offer.media[1].payloads[0].feedback == ("ccm fir", "nack pli")
    assert not offer.bundle


def test_without_anyone_to_follow_our_own_audio_is_offered() -> None:
    (line,) = oa.offer_lines(Profile.RTP, None, None)
    assert [p.name for p in line.ours] == ["opus", "G722", "PCMA", "PCMU", "telephone-event"]


def test_a_call_that_goes_on_to_the_telephone_network_is_offered_what_that_carries() -> None:
    (line,) = oa.offer_lines(Profile.RTP, None, None, telephone=True)
    assert names(line.ours) == ["8 PCMA", "0 PCMU", "101 telephone-event"]


def test_only_the_kinds_asked_for_are_offered() -> None:
    assert [x.kind for x in oa.offer_lines(Profile.RTP, take(CHROMIUM), AUDIO_ONLY)] == ["audio"]


def test_an_answer_narrows_the_offer_and_keeps_both_sides_numbers() -> None:
    offered = oa.offer_lines(Profile.RTP, take(CHROMIUM), None)
    answer = BARESIP_ANSWER.replace(b"28000 RTP/AVP 111", b"28000 RTP/AVP 97")
    answer = answer.replace(b"rtpmap:111", b"rtpmap:97").replace(b"fmtp:111", b"fmtp:97")
    audio, video = oa.read_answer(offered, parse(answer), Profile.RTP)
    assert (names(audio.ours), names(audio.theirs)) == (["111 opus"], ["97 opus"])
    assert names(video.ours) == ["96 VP8"]
    assert oa.payload_map(take(CHROMIUM)[0], audio)[111] == 97
    assert oa.payload_map(audio, take(CHROMIUM)[0])[111] == 111
    assert oa.payload_map(take(CHROMIUM)[0], audio)[0] == -1


@pytest.mark.parametrize(
    "answer, reason",
    [
        (SIPP, "another number of media"),
        (BARESIP_ANSWER.replace(b"m=audio", b"m=text"), "other media"),
        (BARESIP_ANSWER.replace(b"opus", b"speex").replace(b"VP8", b"VP9"), "No common codec"),
        (BARESIP_ANSWER.replace(b"audio 28000", b"audio 0").replace(b"video 28002", b"video 0"), "No common"),
    ],
)
def test_an_answer_that_does_not_fit_is_488(answer: bytes, reason: str) -> None:
    offered = oa.offer_lines(Profile.RTP, take(CHROMIUM), None)
    with pytest.raises(TheirError, match=reason) as caught:
        oa.read_answer(offered, parse(answer), Profile.RTP)
    assert caught.value.status == 488


def test_who_shares_no_first_codec_must_be_offered_again() -> None:
    caller = take(CHROMIUM)
    agent = take(SIPP)
    assert not oa.can_hear(caller, agent)
    narrowed = oa.offer_lines(Profile.WEBRTC, agent, None, caller)
    assert names(narrowed[0].ours) == ["0 PCMU", "126 telephone-event"]
    assert [line.accepted for line in narrowed] == [True, False]
    assert oa.can_hear(narrowed, agent)


def test_video_is_added_beside_audio_that_is_transcoded() -> None:
    """Opus alone at one end, PCMU alone at the other: the offer with pictures in it leaves the sound as it is."""
    phone = take(plain(4000, codecs="0"))
    browser = take(CHROMIUM)
    browser = (replace(browser[0], ours=browser[0].ours[:1], theirs=browser[0].theirs[:1]), browser[1])
    audio, video = oa.offer_lines(Profile.RTP, browser, None, phone, adding=True)
    assert (audio, video.kind, video.accepted) == (phone[0], "video", True)
    with pytest.raises(TheirError, match="No common codec"):
        oa.offer_lines(Profile.RTP, browser, None, phone)


def test_who_shares_no_kind_of_media_cannot_be_joined() -> None:
    assert not oa.can_hear((oa.Line("audio", "RTP/AVP", ("0",)),), take(SIPP))


def test_a_reoffer_in_codecs_never_agreed_is_488() -> None:
    with pytest.raises(TheirError, match="No common codec for audio"):
        oa.offer_lines(Profile.RTP, take(plain(4000, codecs="8")), None, take(SIPP))


def test_payload_types_that_collide_in_a_bundle_are_renumbered() -> None:
    audio = oa.Line("audio", "RTP/AVP", ("96",), "", True, (Payload(96, "opus", 48000, 2),))
    video = oa.Line("video", "RTP/AVP", ("96",), "", True, (Payload(96, "VP8", 90000),))
    lines = oa.offer_lines(Profile.WEBRTC, (audio, video), None)
    assert [line.ours[0].number for line in lines] == [96, 97]
    assert [line.ours[0].number for line in oa.offer_lines(Profile.RTP, (audio, video), None)] == [96, 96]


@pytest.mark.parametrize(
    "a, b, same",
    [
        # RFC 6184 table 5: constrained baseline can be written in several ways
        ("profile-level-id=42e01f", "profile-level-id=42c00d", True),
        ("profile-level-id=42e01f", "profile-level-id=4d801f", True),
        ("profile-level-id=42001f", "profile-level-id=42e01f", False),
        ("profile-level-id=42001f", "profile-level-id=64001f", False),
        ("profile-level-id=42001f;packetization-mode=1", "profile-level-id=42001f", False),
        ("", "profile-level-id=42000a;packetization-mode=0", True),
        ("profile-level-id=nonsense", "profile-level-id=nonsense", True),
    ],
)
def test_h264_is_the_same_when_profile_and_packetization_are(a: str, b: str, same: bool) -> None:
    assert oa.same_codec(h264(96, a), h264(97, b)) is same


def test_a_phone_that_names_another_profile_under_our_number_means_our_format() -> None:
    offered = oa.offer_lines(Profile.RTP, take(CHROMIUM), frozenset({"video"}))
    answer = parse(
        b"v=0\no=- 1 1 IN IP4 1.1.1.1\ns=-\nc=IN IP4 127.0.0.1\nm=video 4000 RTP/AVP 103\n"
        b"a=rtpmap:103 H264/90000\na=fmtp:103 profile-level-id=42e00c;packetization-mode=1\n"
    )
    assert names(oa.read_answer(offered, answer, Profile.RTP)[0].ours) == ["103 H264"]


def test_h264_sent_under_another_of_the_offered_numbers_is_taken_for_what_was_agreed() -> None:
    caller = take(CHROMIUM.replace(b"packetization-mode=0", b"packetization-mode=1"))
    offered = oa.offer_lines(Profile.RTP, caller, frozenset({"video"}))
    answer = parse(
        b"v=0\no=- 1 1 IN IP4 1.1.1.1\ns=-\nc=IN IP4 127.0.0.1\nm=video 4000 RTP/AVP 107\n"
        b"a=rtpmap:107 H264/90000\na=fmtp:107 profile-level-id=42e01f;packetization-mode=1\n"
    )
    (agreed,) = oa.read_answer(offered, answer, Profile.RTP)
    assert names(agreed.ours) == ["107 H264"]
    table = oa.payload_map(agreed, caller[1])
    assert (table[107], table[103], table[96]) == (107, 107, -1)


CODECS = st.lists(
    st.sampled_from(["0", "3", "8", "9", "13", "18", "34", "77"]), min_size=1, max_size=8, unique=True
)


@given(CODECS, CODECS)
def test_any_two_phones_share_what_both_have_in_the_callers_order_or_get_488(
    caller: list[str], callee: list[str]
) -> None:
    carried = [c for c in caller if c in ("0", "8", "9")]
    try:
        lines = take(plain(4000, codecs=" ".join(caller)))
    except TheirError as error:
        assert (error.status, carried) == (488, [])  # noqa: PT017
        return
    assert [str(p.number) for p in lines[0].ours] == carried
    offered = oa.offer_lines(Profile.RTP, lines, None)
    try:
        agreed = oa.read_answer(offered, parse(plain(4002, codecs=" ".join(callee))), Profile.RTP)
    except TheirError:
        assert not set(carried) & set(callee)
        return
    assert {str(p.number) for p in agreed[0].ours} == set(carried) & set(callee)
    narrowed = oa.offer_lines(Profile.RTP, agreed, None, lines)
    assert oa.can_hear(narrowed, agreed)
