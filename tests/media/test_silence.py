"""When nothing comes of a phone any more, and what is a sign of life."""

from __future__ import annotations

import asyncio

from media.server import SILENCE_S
from tests.media.relay_house import House


async def test_comfort_noise_that_nobody_agreed_on_is_a_sign_of_life(house: House) -> None:
    """Gateways send it (RFC 3389) while their caller only listens, to music for minutes say."""
    phone = house.called("a")
    phone.say(b"hello")
    await asyncio.sleep(0.05)
    for _ in range(3):
        house.later += SILENCE_S - 5
        phone.say(b"\x40", kind=13)
        await asyncio.sleep(0.05)
        house.relay._sweep()
    assert house.gone == []
    house.later += SILENCE_S + 1
    house.relay._sweep()
    assert [news[:2] for news in house.gone] == [("c", "a")]


async def test_one_whose_sound_never_comes_through_may_listen_as_long_as_the_other_talks(
    house: House,
) -> None:
    """A call in one direction only: what they hear is what they want."""
    talks, listens = house.called("a"), house.called("b")
    house.relay.join("c", "a", "b")
    for _ in range(4):
        talks.say(b"sound")
        assert await listens.hears() == b"sound"
        house.later += SILENCE_S - 5
        house.relay._sweep()
    assert house.gone == []
    assert house.silent == ["b"], "and it is told that they do not come through"
    house.later += SILENCE_S
    house.relay._sweep()
    assert sorted(branch for _, branch, _ in house.gone) == ["a", "b"]


async def test_a_phone_that_is_muted_may_listen_as_long_as_the_other_talks(house: House) -> None:
    """It sends nothing at all, no report either: that is told once, until it is heard again."""
    talks, listens = house.called("a"), house.called("b")
    house.relay.join("c", "a", "b")
    listens.say(b"hello")
    assert await talks.hears() == b"hello"
    for times in (1, 2):
        for _ in range(3):
            house.later += SILENCE_S - 5
            talks.say(b"sound")
            assert await listens.hears() == b"sound"
            house.relay._sweep()
            house.relay._sweep()
        assert house.silent == ["b"] * times
        listens.say(b"back again")
        assert await talks.hears() == b"back again"
        house.relay._sweep()
    assert house.gone == []
    house.later += SILENCE_S + 1
    house.relay._sweep()
    assert sorted(branch for _, branch, _ in house.gone) == ["a", "b"]


async def test_who_waits_to_music_may_be_muted_and_is_still_there_when_somebody_answers(house: House) -> None:
    phone = house.called("a")
    phone.say(b"hello")
    await asyncio.sleep(0.05)
    house.relay.play("c", "a", ["music"], repeat=True)
    for _ in range(3):
        house.later += SILENCE_S - 5
        house.relay._sweep()
    assert (house.gone, house.silent) == ([], ["a"])
    agent = house.called("b")
    house.relay.join("c", "a", "b")
    house.relay._sweep()
    agent.say(b"good morning")
    while await phone.hears() != b"good morning":
        pass  # music that was on its way
    house.later += SILENCE_S - 5
    house.relay._sweep()
    assert house.gone == []


async def test_one_of_three_may_be_muted(house: House) -> None:
    phones = [house.called(branch) for branch in "abc"]
    for phone in phones:
        phone.say(b"sound")
    await asyncio.sleep(0.05)
    house.relay.confer("c", ["a", "b", "c"])
    for _ in range(3):
        house.later += SILENCE_S - 5
        phones[0].say(b"sound")
        await asyncio.sleep(0.05)
        house.relay._sweep()
    assert house.gone == []
    assert house.silent == ["b", "c"]
    house.later += SILENCE_S + 1
    house.relay._sweep()
    assert sorted(branch for _, branch, _ in house.gone) == ["a", "b", "c"]


async def test_one_side_on_hold_and_the_other_silent_is_no_end(house: House) -> None:
    a, b = house.called("a"), house.called("b")
    house.relay.join("c", "a", "b")
    a.say(b"sound")
    await b.hears()
    b.say(b"sound")
    await a.hears()
    for branch in "ab":
        body = house.relay.answer("c", branch, b"\r\n".join(_held(house, branch)))
        assert b"a=inactive" in body
    house.later += 10 * SILENCE_S
    house.relay._sweep()
    assert house.gone == []


def _held(house: House, branch: str) -> list[bytes]:
    port = house.phones["ab".index(branch)].port
    head = [b"v=0", b"o=- 1 2 IN IP4 127.0.0.1", b"s=-", b"c=IN IP4 127.0.0.1", b"t=0 0", b"a=inactive"]
    return [*head, b"m=audio %d RTP/AVP 0" % port, b""]
