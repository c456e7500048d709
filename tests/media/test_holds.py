"""What every MediaServer promises of hold: by direction or address, from either side, from both at once."""

from __future__ import annotations

import pytest

from media.sdp import parse
from tests.media.marked_phone import MarkedPhone
from tests.media.media_servers import House, Open
from tests.media.phone import HOST
from tests.media.test_pictures_of_phones import both_get, gets, gets_none, talking


async def says(house: House, branch: str, phone: MarkedPhone, direction: str, *, address: str = HOST) -> str:
    """The phone's re-offer of its sound; how it is answered."""
    answer = await house.media.answer("c", branch, phone.describes(audio=direction, address=address))
    return parse(answer).media[0].direction.value


@pytest.mark.parametrize("holds", ["caller", "callee"])
async def test_who_holds_with_music_of_their_own_is_heard_and_hears_nothing(opened: Open, holds: str) -> None:
    async with opened() as house, talking(house, None) as phones:
        branch = "a" if holds == "caller" else "b"
        me, other = phones if holds == "caller" else phones[::-1]
        for _ in range(2):
            assert await says(house, branch, me, "sendonly") == "recvonly"
            assert await gets_none(me, "audio")
            await gets(other, me, "audio")
            assert await says(house, branch, me, "sendrecv") == "sendrecv"
            await both_get(me, other, "audio")


async def test_both_hold_and_each_comes_back_in_their_own_time(opened: Open) -> None:
    async with opened() as house, talking(house, None) as (a, b):
        assert await says(house, "a", a, "inactive") == "inactive"
        assert await says(house, "b", b, "sendonly") == "recvonly"
        assert await gets_none(a, "audio")
        assert await gets_none(b, "audio")
        await says(house, "a", a, "sendrecv")
        await gets(a, b, "audio")
        assert await gets_none(b, "audio"), "who still holds hears nothing"
        await says(house, "b", b, "sendrecv")
        await both_get(a, b, "audio")


async def test_who_only_listens_is_not_heard(opened: Open) -> None:
    async with opened() as house, talking(house, None) as (a, b):
        assert await says(house, "a", a, "recvonly") == "sendonly"
        assert await gets_none(b, "audio")
        await gets(a, b, "audio")
        await says(house, "a", a, "sendrecv")
        await both_get(a, b, "audio")


async def test_an_address_of_zeros_holds_too(opened: Open) -> None:
    """As RFC 2543 had it, and older phones still do."""
    async with opened() as house, talking(house, None) as (a, b):
        await says(house, "a", a, "sendrecv", address="0.0.0.0")
        assert await gets_none(a, "audio")
        await says(house, "a", a, "sendrecv")
        await both_get(a, b, "audio")
