"""What every MediaServer promises of pictures between phones: there from the start, added, held, dropped, refused."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from media.sdp import parse
from media.server import Profile
from tests.media.marked_phone import VP8, MarkedPhone, Pictures
from tests.media.media_servers import House, Open
from tests.peers.process import until

ENOUGH = 10  # packets


async def gets(phone: MarkedPhone, other: MarkedPhone, *kinds: str) -> None:
    phone.heard.clear()
    await until(
        lambda: all(phone.heard[kind, other.name] >= ENOUGH for kind in kinds),
        f"{' and '.join(kinds)} of {other.name.decode()} at {phone.name.decode()}",
        seconds=5,
    )


async def both_get(a: MarkedPhone, b: MarkedPhone, *kinds: str) -> None:
    await gets(a, b, *kinds)
    await gets(b, a, *kinds)


async def gets_none(phone: MarkedPhone, kind: str) -> bool:
    await asyncio.sleep(0.1)  # what is on its way
    phone.heard.clear()
    await asyncio.sleep(0.3)
    return not any(count for (each, _), count in phone.heard.items() if each == kind)


@asynccontextmanager
async def talking(
    house: House,
    video: str | None,
    *,
    between: bytes = b"",
    pictures: tuple[Pictures, Pictures] = (VP8, VP8),
) -> AsyncIterator[tuple[MarkedPhone, MarkedPhone]]:
    """Two phones, the second called by us, that hear each other."""
    async with MarkedPhone(b"a", pictures[0]) as a, MarkedPhone(b"b", pictures[1]) as b:
        media = house.media
        a.start(await media.answer("c", "a", a.describes(video=video, between=between)))
        offer = await media.offer("c", "b", profile=Profile.RTP, like="a")
        await media.accept("c", "b", b.describes(video=video))
        b.start(offer)
        await media.join("c", "a", "b")
        await both_get(a, b, "audio")
        yield a, b


async def re_offers(house: House, branch: str, phone: MarkedPhone, video: str) -> bytes:
    answer = await house.media.answer("c", branch, phone.describes(video=video))
    phone.start(answer)
    return answer


async def is_offered(house: House, branch: str, like: str, phone: MarkedPhone, video: str) -> bytes:
    """The other side of a re-offer; the phone takes what there is of pictures as `video` says."""
    offer = await house.media.offer("c", branch, profile=Profile.RTP, like=like, adding=True)
    await house.media.accept("c", branch, phone.describes(video=video))
    phone.start(offer)
    return offer


async def test_two_phones_see_and_hear_each_other(opened: Open) -> None:
    async with opened() as house, talking(house, "sendrecv") as (a, b):
        await both_get(a, b, "audio", "video")


async def test_a_request_for_a_key_frame_is_with_its_maker_within_a_second(opened: Open) -> None:
    async with opened() as house, talking(house, "sendrecv") as (a, b):
        await both_get(a, b, "video")
        for watcher, maker in ((a, b), (b, a)):
            await asyncio.sleep(0.3)  # those of the beginning
            maker.asked, began = 0, time.monotonic()
            watcher.ask()
            await until(lambda: maker.asked > 0, "the request", seconds=1)  # noqa: B023
            assert time.monotonic() - began < 1


@pytest.mark.parametrize("begins", ["caller", "callee"])
async def test_either_side_adds_pictures_drops_them_and_adds_them_again(opened: Open, begins: str) -> None:
    async with opened() as house, talking(house, None) as phones:
        mine, theirs = ("a", "b") if begins == "caller" else ("b", "a")
        me, other = phones if begins == "caller" else phones[::-1]
        for _ in range(2):
            await re_offers(house, mine, me, "sendrecv")
            offer = parse(await is_offered(house, theirs, mine, other, "sendrecv"))
            assert [(m.kind, m.port > 0) for m in offer.media] == [("audio", True), ("video", True)]
            await both_get(me, other, "audio", "video")
            answer = parse(await re_offers(house, mine, me, "refused"))
            assert [(m.kind, m.port > 0) for m in answer.media] == [("audio", True), ("video", False)]
            offer = parse(await is_offered(house, theirs, mine, other, "refused"))
            assert [(m.kind, m.port > 0) for m in offer.media] == [("audio", True), ("video", False)]
            assert await gets_none(me, "video")
            assert await gets_none(other, "video")
            await both_get(me, other, "audio")


async def test_one_side_adds_pictures_and_the_other_drops_them(opened: Open) -> None:
    async with opened() as house, talking(house, None) as (a, b):
        await re_offers(house, "a", a, "sendrecv")
        await is_offered(house, "b", "a", b, "sendrecv")
        await both_get(a, b, "audio", "video")
        await re_offers(house, "b", b, "refused")
        offer = parse(await is_offered(house, "a", "b", a, "refused"))
        assert [(m.kind, m.port > 0) for m in offer.media] == [("audio", True), ("video", False)]
        assert await gets_none(b, "video")
        await both_get(a, b, "audio")


async def test_pictures_that_the_other_refuses_end_nothing(opened: Open) -> None:
    async with opened() as house, talking(house, None) as (a, b):
        await re_offers(house, "a", a, "sendrecv")
        await is_offered(house, "b", "a", b, "refused")
        offer = parse(await is_offered(house, "a", "b", a, "refused"))
        assert [(m.kind, m.port > 0) for m in offer.media] == [("audio", True), ("video", False)]
        assert await gets_none(b, "video")
        await both_get(a, b, "audio")


async def test_pictures_alone_are_held_while_both_go_on_talking(opened: Open) -> None:
    async with opened() as house, talking(house, "sendrecv") as (a, b):
        await both_get(a, b, "audio", "video")
        answer = parse(await re_offers(house, "a", a, "sendonly"))
        assert [m.direction.value for m in answer.media] == ["sendrecv", "recvonly"]
        assert await gets_none(a, "video")
        await both_get(a, b, "audio")
        await gets(b, a, "video")
        await re_offers(house, "a", a, "inactive")
        assert await gets_none(a, "video")
        assert await gets_none(b, "video")
        await both_get(a, b, "audio")
        await re_offers(house, "a", a, "sendrecv")
        await both_get(a, b, "audio", "video")


async def test_a_medium_nobody_takes_keeps_its_place_over_all_that_follows(opened: Open) -> None:
    """RFC 3264 section 8: m-lines are never taken away nor change their order."""
    floor = b"m=application 5070 UDP/BFCP *\r\na=floorctrl:c-s\r\n"
    async with opened() as house, talking(house, "sendrecv", between=floor) as (a, b):
        kinds = [("audio", True), ("application", False), ("video", True)]
        answer = parse(await house.media.answer("c", "a", a.describes(video="sendrecv", between=floor)))
        assert [(m.kind, m.port > 0) for m in answer.media] == kinds
        await both_get(a, b, "audio", "video")
        answer = parse(await house.media.answer("c", "a", a.describes(video="refused", between=floor)))
        assert [(m.kind, m.port > 0) for m in answer.media] == [*kinds[:2], ("video", False)]
        await is_offered(house, "b", "a", b, "refused")
        await both_get(a, b, "audio")
        # Now the other adds them again, and the caller is offered them where they were.
        await re_offers(house, "b", b, "sendrecv")
        offer = await house.media.offer("c", "a", profile=Profile.RTP, like="b", adding=True)
        assert [(m.kind, m.port > 0) for m in parse(offer).media] == kinds
        refused = floor.replace(b"5070", b"0")
        await house.media.accept("c", "a", a.describes(video="sendrecv", between=refused))
        a.start(offer)
        await both_get(a, b, "audio", "video")


def h264(number: int, profile: str, mode: int = 1) -> Pictures:
    return Pictures(number, "H264/90000", f"profile-level-id={profile};packetization-mode={mode}")


@pytest.mark.parametrize(
    "pictures",
    [
        (h264(99, "42e01f"), h264(99, "42e01f")),
        # RFC 6184 table 5: the same profile in other words, another level, and each under a number of its own.
        (h264(99, "42e01f"), h264(104, "42c00d")),
        (h264(104, "4d801f"), h264(99, "42e01f")),
        (h264(99, "64001f", 0), h264(110, "640028", 0)),
    ],
    ids=["alike", "other words", "and the other way round", "high"],
)
async def test_phones_of_one_profile_see_each_other_in_h264(
    opened: Open, pictures: tuple[Pictures, Pictures]
) -> None:
    async with opened() as house, talking(house, "sendrecv", pictures=pictures) as (a, b):
        await both_get(a, b, "audio", "video")


@pytest.mark.parametrize(
    "pictures",
    [
        (h264(99, "42e01f"), h264(99, "42e01f", 0)),
        (h264(99, "42e01f", 0), h264(99, "42e01f")),
        (h264(99, "42e01f"), h264(104, "64001f")),
        (VP8, h264(99, "42e01f")),
    ],
    ids=["mode", "the other way round", "profile", "codec"],
)
async def test_phones_whose_pictures_differ_talk_without(
    opened: Open, pictures: tuple[Pictures, Pictures]
) -> None:
    """What one of them cannot show is not sent there (RFC 6184 section 8.2.2)."""
    async with opened() as house, MarkedPhone(b"a", pictures[0]) as a, MarkedPhone(b"b", pictures[1]) as b:
        media = house.media
        a.start(await media.answer("c", "a", a.describes(video="sendrecv")))
        b.start(await media.answer("c", "b", b.describes(video="sendrecv")))
        await media.join("c", "a", "b")
        await both_get(a, b, "audio")
        assert await gets_none(a, "video")
        assert await gets_none(b, "video")
