from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.errors import TheirError
from media.sdp import MAX_MEDIA, Direction, Fingerprint, Payload, parse
from tests.media.descriptions import BARESIP_ANSWER, CHROMIUM, FINGERPRINT, SIPP

REAL = (CHROMIUM, BARESIP_ANSWER, SIPP)


def test_a_browsers_offer_is_read_whole() -> None:
    offer = parse(CHROMIUM)
    audio, video = offer.media
    assert (offer.bundle, offer.has_audio, offer.has_video) == (("0", "1"), True, True)
    assert (audio.kind, audio.protocol, audio.mid) == ("audio", "UDP/TLS/RTP/SAVPF", "0")
    assert audio.payloads[0] == Payload(
        111, "opus", 48000, 2, "minptime=10;useinbandfec=1", ("transport-cc",)
    )
    assert audio.rtcp_mux
    assert (audio.ice_ufrag, audio.setup) == ("Hw1z", "actpass")
    assert audio.fingerprint == Fingerprint("sha-256", FINGERPRINT)
    assert video.payloads[0].feedback == ("goog-remb", "ccm fir", "nack", "nack pli")
    assert ("extmap", "1 urn:ietf:params:rtp-hdrext:ssrc-audio-level") in audio.attributes


def test_what_the_session_says_holds_for_media_that_do_not_say_otherwise() -> None:
    first, second = parse(
        b"v=0\no=- 1 1 IN IP4 10.0.0.1\ns=-\nc=IN IP4 10.0.0.1\nt=0 0\na=sendonly\na=setup:active\n"
        b"m=audio 4000 RTP/AVP 0\nm=audio 4002 RTP/AVP 8\nc=IN IP4 10.0.0.2\na=inactive\n"
    ).media
    assert (first.address, first.direction, first.setup) == ("10.0.0.1", Direction.SENDONLY, "active")
    assert (second.address, second.direction) == ("10.0.0.2", Direction.INACTIVE)


def test_feedback_for_all_formats_holds_for_each() -> None:
    assert parse(BARESIP_ANSWER).media[1].payloads[0].feedback == ("nack pli",)


def test_static_payload_types_have_their_names_without_an_rtpmap() -> None:
    media = parse(b"v=0\no=- 1 1 IN IP4 1.2.3.4\ns=-\nt=0 0\nm=audio 4000 RTP/AVP 0 8 9 77\n").media[0]
    assert [p.name for p in media.payloads] == ["PCMU", "PCMA", "G722", ""]


@pytest.mark.parametrize(
    "line, reason",
    [
        ("m=audio", "bad m= line"),
        ("m=audio 70000 RTP/AVP 0", "bad port"),
        ("m=audio -1 RTP/AVP 0", "bad port"),
        ("m=audio 4000 RTP/AVP 200", "bad payload type"),
        ("m=audio 4000 RTP/AVP 0 0", "payload type 0 twice"),
        ("m=audio 4000 RTP/AVP x", "bad payload type"),
        ("c=IN IP4 999.1.1.1", "bad address"),
        ("c=IN IP4 224.2.1.1/127", "multicast"),
        ("c=IN IP5 1.1.1.1", "bad c= line"),
        ("a=:value", "attribute without a name"),
        ("nonsense", "not of the form"),
        ("a=fingerprint:sha-256 AB:CD", "bad a=fingerprint"),
        ("a=fingerprint:sha-256 zz", "bad a=fingerprint"),
        ("a=setup:sideways", "bad a=setup"),
        ("a=ice-ufrag:ab", "bad a=ice-ufrag"),
        ("m=audio 4000 RTP/AVP 96\na=rtpmap:96 opus", "bad a=rtpmap"),
        ("m=audio 4000 RTP/AVP 96\na=rtpmap:96 opus/zero", "bad clock rate"),
        ("m=audio 4000 RTP/AVP 96\na=rtcp:99999", "bad port in a=rtcp"),
        ("m=audio 4000 RTP/AVP 96\na=ptime:\u0662\u0660", "bad ptime"),
    ],
)
def test_what_is_malformed_is_named(line: str, reason: str) -> None:
    with pytest.raises(TheirError, match=reason) as caught:
        parse(f"v=0\no=- 1 1 IN IP4 1.2.3.4\ns=-\nt=0 0\n{line}\n".encode())
    assert caught.value.status == 400
    assert "SDP line" in caught.value.reason


@pytest.mark.parametrize("data", [b"", b"\0", b"v=1\n", b"v=0\n", b"v=0\r\ns=-\r\n", b"v=0\n" * 2000])
def test_what_is_no_description_is_refused(data: bytes) -> None:
    with pytest.raises(TheirError):
        parse(data)


def test_sizes_are_bounded() -> None:
    start = b"v=0\no=- 1 1 IN IP4 1.2.3.4\ns=-\nt=0 0\n"
    with pytest.raises(TheirError, match="longer than"):
        parse(start + b"a=x:" + b"y" * 70000)
    with pytest.raises(TheirError, match="more than 32 media"):
        parse(start + b"m=audio 4 RTP/AVP 0\n" * (MAX_MEDIA + 1))


@pytest.mark.parametrize("data", REAL)
def test_what_is_written_reads_the_same(data: bytes) -> None:
    read = parse(data)
    assert parse(read.to_bytes()) == read
    assert parse(read.to_bytes()).to_bytes() == read.to_bytes()


@given(st.binary(max_size=400))
def test_no_bytes_raise_anything_but_their_error(data: bytes) -> None:
    for start in (b"", b"v=0\r\no=- 1 1 IN IP4 1.2.3.4\r\ns=-\r\n"):
        try:
            parse(start + data)
        except TheirError as error:
            assert error.status == 400  # noqa: PT017


LINES = st.sampled_from(sorted({line for data in REAL for line in data.decode().split("\r\n") if line}))
BROKEN = st.tuples(LINES, st.integers(0, 80), st.text(max_size=6)).map(
    lambda x: x[0][: x[1]] + x[2] + x[0][x[1] :]
)


@given(st.lists(st.one_of(LINES, BROKEN), max_size=30))
def test_shuffled_and_damaged_lines_are_read_or_refused_and_then_read_the_same(lines: list[str]) -> None:
    data = "\r\n".join(["v=0", "o=- 1 1 IN IP4 1.2.3.4", "s=-", *lines, ""]).encode("utf-8", "replace")
    try:
        read = parse(data)
    except TheirError:
        return
    assert parse(read.to_bytes()) == read
