"""Who calls without an offer is made one, and answers when they have been answered (RFC 3261 section 13.2.1)."""

from __future__ import annotations

import pytest

from media.sdp import parse
from media.server import ALL_KINDS, AUDIO_ONLY, Profile
from tests.media.marked_phone import MarkedPhone
from tests.media.media_servers import Open
from tests.media.test_pictures_of_phones import both_get


def kinds(description: bytes) -> list[str]:
    return [media.kind for media in parse(description).media if media.port]


@pytest.mark.parametrize("video", [False, True], ids=["voice", "video"])
async def test_an_agent_is_rung_before_the_callers_answer_has_come(opened: Open, video: bool) -> None:
    async with opened() as house, MarkedPhone(b"a") as a, MarkedPhone(b"b") as b:
        media = house.media
        wanted = ALL_KINDS if video else AUDIO_ONLY
        offer = await media.offer("c", "a", profile=Profile.RTP, kinds=wanted)
        assert kinds(offer) == (["audio", "video"] if video else ["audio"])
        ringing = await media.offer("c", "b", profile=Profile.RTP, like="a", kinds=wanted)
        assert kinds(ringing) == kinds(offer)
        direction = "sendrecv" if video else None
        await media.accept("c", "a", a.describes(video=direction))
        a.start(offer)
        await media.accept("c", "b", b.describes(video=direction))
        b.start(ringing)
        assert await media.compatible("c", "a", "b")
        await media.join("c", "a", "b")
        await both_get(a, b, "audio", *(["video"] if video else []))


async def test_a_caller_who_takes_no_pictures_of_ours_talks_all_the_same(opened: Open) -> None:
    async with opened() as house, MarkedPhone(b"a") as a, MarkedPhone(b"b") as b:
        media = house.media
        offer = await media.offer("c", "a", profile=Profile.RTP, kinds=ALL_KINDS)
        await media.accept("c", "a", a.describes(video="refused"))
        a.start(offer)
        ringing = await media.offer("c", "b", profile=Profile.RTP, like="a", kinds=ALL_KINDS)
        assert kinds(ringing) == ["audio"]
        await media.accept("c", "b", b.describes())
        b.start(ringing)
        await media.join("c", "a", "b")
        await both_get(a, b, "audio")


async def test_asked_again_without_an_offer_they_are_made_that_of_what_was_agreed(opened: Open) -> None:
    """RFC 3261 section 14.2; with pictures."""
    async with opened() as house, MarkedPhone(b"a") as a, MarkedPhone(b"b") as b:
        media = house.media
        first = await media.answer("c", "a", a.describes(video="sendrecv"))
        a.start(first)
        ringing = await media.offer("c", "b", profile=Profile.RTP, like="a")
        await media.accept("c", "b", b.describes(video="sendrecv"))
        b.start(ringing)
        await media.join("c", "a", "b")
        await both_get(a, b, "audio", "video")
        again = await media.offer("c", "a", profile=Profile.RTP)
        assert [(m.kind, m.port) for m in parse(again).media] == [
            (m.kind, m.port) for m in parse(first).media
        ]
        await media.accept("c", "a", a.describes(video="sendrecv"))
        a.start(again)
        await both_get(a, b, "audio", "video")
