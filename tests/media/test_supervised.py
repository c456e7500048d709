"""Who hears whom while somebody listens, whispers or barges in: customer a, agent b, supervisor s."""

from __future__ import annotations

import asyncio
import struct
from itertools import pairwise

import pytest

from config.errors import OurError
from tests.media.relay_house import House, Phone
from tests.media.test_conference import QUIETER, SILENCE, Speakers, empty, hears

LISTEN = {"a": ["b"], "b": ["a"], "s": ["a", "b"]}
WHISPER = {"a": ["b"], "b": ["a", "s"], "s": ["a", "b"]}
# PCMU: +15996, and twice that.
ONE, TWO = 0x90, 0x80
A_SAYS, B_SAYS = 0x90, 0xA0


@pytest.fixture
def port_count() -> int:
    return 48


async def never(phone: Phone, *octets: int, packets: int = 20) -> None:
    """Of the next packets none is only one of these octets."""
    for _ in range(packets):
        assert (await phone.hear())[12:] not in [bytes([octet]) * 160 for octet in octets]


async def test_who_listens_hears_both_and_is_heard_by_nobody(house: House) -> None:
    a, b, s = (house.called(branch) for branch in "abs")
    house.relay.join("c", "a", "b")
    house.relay.confer("c", ["a", "b", "s"], hears=LISTEN)
    async with Speakers({a: A_SAYS, b: SILENCE, s: QUIETER}):
        await hears(s, A_SAYS)
        await hears(b, A_SAYS)
        await empty(b)
        await never(b, TWO, packets=10)
        await empty(a)
        await never(a, QUIETER, packets=10)
    async with Speakers({a: SILENCE, b: B_SAYS, s: QUIETER}):
        await hears(s, B_SAYS)
        await hears(a, B_SAYS)


async def test_to_the_two_who_talk_it_changes_nothing(house: House) -> None:
    """Their packets pass as they are, in one stream: no delay, no other sound, no gap."""
    a, b, s = (house.called(branch) for branch in "abs")
    house.relay.join("c", "a", "b")
    heard = []
    async with Speakers({a: SILENCE, b: B_SAYS, s: SILENCE}):
        heard += [await a.hear() for _ in range(5)]
        house.relay.confer("c", ["a", "b", "s"], hears=LISTEN)
        heard += [await a.hear() for _ in range(10)]
        house.relay.drop("c", "s")
        house.relay.join("c", "a", "b")
        heard += [await a.hear() for _ in range(5)]
    assert {packet[12:] for packet in heard} == {bytes([B_SAYS]) * 160}, "as b has said it"
    headers = [struct.unpack_from("!BBHII", packet) for packet in heard]
    assert len({ssrc for *_, ssrc in headers}) == 1
    assert {(y[2] - x[2]) & 0xFFFF for x, y in pairwise(headers)} == {1}
    assert house.relay._leg("c", "a").conference is None
    assert not house.relay._leg("c", "b").carried[0].listeners, "nothing of it is left behind"


async def test_a_whisper_is_heard_by_the_agent_alone(house: House) -> None:
    a, b, s = (house.called(branch) for branch in "abs")
    house.relay.confer("c", ["a", "b", "s"], hears=WHISPER)
    async with Speakers({a: SILENCE, b: SILENCE, s: ONE}):
        await hears(b, ONE)
        await empty(a)
        await never(a, ONE)
    async with Speakers({a: ONE, b: SILENCE, s: ONE}):
        await hears(b, TWO)  # both at once
        await hears(s, ONE)


async def test_from_listening_to_whispering_to_barging_in(house: House) -> None:
    a, b, s = (house.called(branch) for branch in "abs")
    async with Speakers({a: SILENCE, b: SILENCE, s: ONE}):
        house.relay.confer("c", ["a", "b", "s"], hears=LISTEN)
        await asyncio.sleep(0.2)
        await empty(a)
        await empty(b)
        await never(b, ONE, packets=5)
        house.relay.confer("c", ["a", "b", "s"], hears=WHISPER)
        await hears(b, ONE)
        await empty(a)
        await never(a, ONE, packets=5)
        house.relay.confer("c", ["a", "b", "s"])
        await hears(a, ONE)
        await hears(b, ONE)


async def test_the_supervisors_crash_ends_nothing(house: House) -> None:
    a, b, _ = (house.called(branch) for branch in "abs")
    house.relay.confer("c", ["a", "b", "s"], hears=WHISPER)
    async with Speakers({a: A_SAYS, b: B_SAYS}):
        await hears(b, A_SAYS)
        house.relay.drop("c", "s")
        await hears(b, A_SAYS)
        await hears(a, B_SAYS)


async def test_a_customer_on_hold_hears_music_and_nobody(house: House) -> None:
    a, b, s = (house.called(branch) for branch in "abs")
    house.relay.confer("c", ["a", "b", "s"], hears=LISTEN)
    async with Speakers({a: SILENCE, b: B_SAYS, s: SILENCE}):
        await hears(a, B_SAYS)
        house.relay.play("c", "a", ["music"], repeat=True)
        await asyncio.sleep(0.1)
        await empty(a)
        await never(a, B_SAYS)
        await hears(s, B_SAYS)
        house.relay.stop("c", "a")
        await hears(a, B_SAYS)


async def test_codecs_that_differ_are_no_obstacle(house: House) -> None:
    """A supervisor's phone speaks PCMA, the agent's PCMU, and the customer's PCMA: those two are mixed then."""
    a, b, s = house.called("a", codecs="8"), house.called("b"), house.called("s", codecs="8")
    house.relay.confer("c", ["a", "b", "s"], hears=LISTEN)
    async with Speakers({a: 0xD5, b: SILENCE, s: SILENCE}):  # PCMA's silence
        for phone in (a, b, s):
            assert len(await phone.hear()) == 172


async def test_nobody_hears_who_is_not_there(house: House) -> None:
    for branch in "ab":
        house.called(branch)
    with pytest.raises(OurError):
        house.relay.confer("c", ["a", "b"], hears={"a": ["stranger"]})
    assert house.relay._leg("c", "a").conference is None
