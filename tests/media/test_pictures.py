"""Packets of pictures put together: whole ones only, and after a loss none before the next key frame."""

from __future__ import annotations

from typing import Any

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from media import stereo_file
from media.parameter_sets import parameter_sets
from media.pictures import Picture, Pictures, avc_record, h264_units
from media.sdp import Payload
from media.stereo_file import size_of
from tests.media.moving import RATE, SIZE, Sent, shown

CODECS = ("vp8", "h264")


@pytest.fixture(scope="module", params=CODECS)
def packets(request: pytest.FixtureRequest) -> list[Sent]:
    return shown(request.param, 30, keys=(0, 20))


def taken(packets: list[Sent], until: float = 100.0) -> list[Picture]:
    pictures = Pictures()
    for packet in packets:
        pictures.put(*packet)
    return pictures.take(until)


def number(packet: Sent) -> int:
    return packet.timestamp * RATE // 90000


def test_every_picture_is_there_at_its_time_and_can_be_decoded(packets: list[Sent]) -> None:
    pictures = taken(packets)
    assert [picture.key for picture in pictures] == [n in (0, 20) for n in range(30)]
    assert [picture.at for picture in pictures] == [90000 + n * 6000 for n in range(30)]
    assert size_of(pictures[0]) == SIZE
    decoder: Any = av.CodecContext.create(packets[0].codec, "r")
    if pictures[0].setup:
        decoder.extradata = pictures[0].setup
    seen = [frame for picture in pictures for frame in decoder.decode(av.Packet(picture.data))]
    assert len(seen) + len(decoder.decode(None)) == 30


def test_after_a_loss_nothing_is_shown_before_the_next_key_frame(packets: list[Sent]) -> None:
    for lost in [n for n, packet in enumerate(packets) if number(packet) in (0, 5)]:
        pictures = Pictures()
        rest = packets[:lost] + packets[lost + 1 :]
        for packet in rest:
            pictures.put(*packet)
        until = 1.0 + 15 / RATE
        before = pictures.take(until)
        assert [picture.at for picture in before] == [90000 + n * 6000 for n in range(number(packets[lost]))]
        assert pictures.wanting, "a key frame is asked for"
        after = pictures.take(100.0)
        assert [picture.at for picture in after] == [90000 + n * 6000 for n in range(20, 30)]
        assert not pictures.wanting


def test_what_is_only_late_or_comes_twice_is_no_loss(packets: list[Sent]) -> None:
    order = sorted(range(len(packets)), key=lambda n: n + (n % 3) * 1.5)
    mixed = [packets[n] for n in (*order[:10], *order[:4], *order[10:])]
    assert [p.data for p in taken(mixed)] == [p.data for p in taken(packets)]


def test_nothing_is_taken_before_its_time(packets: list[Sent]) -> None:
    pictures = Pictures()
    for packet in packets:
        pictures.put(*packet)
    assert pictures.take(0.9) == []
    assert not pictures.wanting
    assert len(pictures.take(1.0 + 9.5 / RATE)) == 10
    assert len(pictures.take(100.0)) == 20


def test_another_source_begins_with_its_own_key_frame(packets: list[Sent]) -> None:
    codec = packets[0].codec
    other = shown(codec, 5, at=4.0, ssrc=10, seq=77)
    third = [
        packet._replace(ssrc=11, seq=packet.seq + 5000, at=8.0) for packet in packets if number(packet) == 7
    ]
    pictures = taken([*packets, *other, *third])
    assert len(pictures) == 35
    assert pictures[30].key
    assert pictures[30].at == 4 * 90000


def test_padding_is_no_loss(packets: list[Sent]) -> None:
    first = [packet for packet in packets if number(packet) < 10]
    padding = first[-1]._replace(seq=(first[-1].seq + 1) & 0xFFFF, payload=b"", marker=False)
    rest = [packet._replace(seq=(packet.seq + 1) & 0xFFFF) for packet in packets if number(packet) >= 10]
    assert len(taken([*first, padding, *rest])) == 30


def test_parameter_sets_may_come_on_their_own() -> None:
    packets = shown("h264", 3)
    sets, (first, *rest) = packets[0], packets[1:]
    assert sets.payload[0] == 0x78
    alone = sets._replace(marker=True, timestamp=first.timestamp - 10)
    pictures = taken([alone, first, *rest])
    assert len(pictures) == 3
    assert size_of(pictures[0]) == SIZE
    assert taken([first, *rest]) == [], "without them nobody could decode anything"


def test_parameter_sets_may_come_otherwise_and_a_player_finds_them_at_each_key_frame() -> None:
    packets = shown("h264", 6, keys=(0, 3))
    sets = h264_units([packets[0].payload])
    pictures = Pictures()
    pictures.know(sets)
    for packet in packets:
        if packet.payload[0] != 0x78:
            pictures.put(*packet._replace(seq=(packet.seq - (number(packet) >= 3)) & 0xFFFF))
    seen = pictures.take(100.0)
    assert [picture.key for picture in seen] == [True, False, False, True, False, False]
    assert size_of(seen[0]) == SIZE
    for picture in seen:
        assert (sets[0] in picture.data) == picture.key


@pytest.mark.parametrize("codec", CODECS)
def test_of_a_key_frame_that_is_damaged_is_seen_that_it_is_one(codec: str) -> None:
    packets = shown(codec, 3, keys=(0, 2), size=(640, 480))
    whole = [packet for packet in packets if number(packet) == 2]
    pictures = Pictures()
    for packet in packets[:-1]:
        if number(packet) != 0:
            pictures.put(*packet)
        assert not pictures.begun or number(packet) == 2
    assert pictures.begun, len(whole)
    assert pictures.take(100.0) == []


def test_parameter_sets_are_read_from_an_sdp() -> None:
    def of(fmtp: str, name: str = "H264") -> tuple[bytes, ...]:
        return parameter_sets([Payload(98, "VP8", 90000), Payload(99, name, 90000, fmtp=fmtp)])

    start = "packetization-mode=1;profile-level-id=42e01f; sprop-parameter-sets"
    assert of(f"{start}=Z0IACpZTBYmI,aMljiA==") == (
        bytes.fromhex("6742000a965305 8988"), bytes.fromhex("68c96388"),
    )  # fmt: skip
    for wrong in ("", "=", "=,", "=!!", "=Z0", "=" + "A" * 4000):
        assert of(start + wrong) == ()
    assert of(f"{start}=Z0IACpZTBYmI", "VP9") == ()
    assert len(of(f"{start}=" + ",".join(["aMljiA=="] * 50))) <= 8


def test_the_record_is_what_decoders_expect() -> None:
    assert avc_record({7: b"\x67\x42\xc0\x0a\x01", 8: b"\x68\xce"}) == bytes.fromhex(
        "0142c00affe1000567 42c00a01 01 0002 68ce"
    )
    assert avc_record({7: b"\x67\x42\xc0\x0a"}) == b""


def test_units_that_do_not_fit_together_are_none() -> None:
    assert h264_units([b"\x7c\x85ab", b"\x7c\x05cd", b"\x7c\x45ef"]) == [b"\x65abcdef"]
    for broken in (
        [b"\x7c\x05cd", b"\x7c\x45ef"],  # its beginning is missing
        [b"\x7c\x85ab", b"\x41ab"],  # its end is
        [b"\x7c\x85ab"],
        [b"\x78\x00\x09ab"],  # longer than it is
        [b"\x78\x00\x00ab"],
        [b"\x7c"],
        [b"\x1d\x00\x00"],  # FU-B, of a mode we do not agree on
        [b"\x00"],
    ):
        assert h264_units(broken) == []


@given(
    st.sampled_from(CODECS),
    st.lists(st.tuples(st.integers(0, 40), st.booleans(), st.integers(0, 3), st.binary(max_size=12))),
)
def test_whatever_comes_is_no_error_and_no_picture_without_a_key(
    codec: str, packets: list[tuple[int, bool, int, bytes]]
) -> None:
    pictures = Pictures()
    for seq, marker, stamp, payload in packets:
        pictures.put(codec, marker, seq, stamp, 9, payload, 1.0)
    shown = pictures.take(2.0)
    assert not shown or shown[0].key
    for picture in shown[:3]:
        size_of(picture)


def test_pictures_too_large_for_any_phone_are_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their size is what the peer says it is; memory would be taken for all of it."""
    (picture,) = taken(shown("h264", 1))
    monkeypatch.setattr(stereo_file, "MOST_PIXELS", SIZE[0] * SIZE[1] // 2)
    assert size_of(picture) == (0, 0)
