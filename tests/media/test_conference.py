"""Conferences by real sockets: who hears whom, and what becomes of them when others come and go."""

from __future__ import annotations

import asyncio
import struct
from itertools import pairwise

import pytest

from config.errors import OurError
from media import rtcp
from media.conferences import MOST_MIXING
from media.server import Profile
from media.speech import Decoder
from tests.media.descriptions import plain
from tests.media.relay_house import House, Phone, video
from tests.media.test_keys import called
from tests.peers.process import until

LOUDEST, LOUDEST_BELOW, SILENCE = 0x80, 0x00, 0xFF
"""Octets of PCMU: +32124, -32124, 0."""
QUIETER = 0x90  # +15996


@pytest.fixture
def port_count() -> int:
    return 48


class Speakers:
    """Phones that each say one octet over and over, until the test ends."""

    def __init__(self, phones: dict[Phone, int]) -> None:
        self._phones = phones

    async def __aenter__(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._speak())

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _speak(self) -> None:
        due = asyncio.get_running_loop().time()
        while True:
            for phone, octet in self._phones.items():
                phone.say(bytes([octet]) * 160)
            due += 0.02
            await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))


async def hears(phone: Phone, octet: int, *, within: int = 60) -> list[bytes]:
    """All packets up to the first that is this octet throughout."""
    packets = []
    for _ in range(within):
        packets.append(await phone.hear())
        if packets[-1][12:] == bytes([octet]) * 160:
            return packets
    raise AssertionError(f"{octet:#x} was not heard, but {packets[-1][12:16].hex()}")


async def empty(phone: Phone) -> None:
    """What has come so far is forgotten."""
    while True:
        try:
            phone.sock.recv(2048)
        except BlockingIOError:
            return


async def test_each_hears_the_sum_of_the_others(house: House) -> None:
    a, b, x = (house.called(branch) for branch in "abx")
    house.relay.confer("c", ["a", "b", "x"])
    async with Speakers({a: QUIETER, b: SILENCE, x: SILENCE}):
        await hears(b, QUIETER)
        await hears(x, QUIETER)
        await empty(a)
        heard = {(await a.hear())[12:] for _ in range(5)}
    assert heard == {bytes([SILENCE]) * 160}, "nobody hears himself"


async def test_what_is_too_loud_together_is_as_loud_as_can_be(house: House) -> None:
    a, b, x = (house.called(branch) for branch in "abx")
    house.relay.confer("c", ["a", "b", "x"])
    async with Speakers({a: LOUDEST, b: LOUDEST, x: LOUDEST_BELOW}):
        await hears(x, LOUDEST)
        await hears(a, SILENCE)  # the two others cancel each other out


async def test_it_begins_where_music_was_and_gives_way_to_a_join_in_one_stream(house: House) -> None:
    a, b = house.called("a"), house.called("b")
    house.relay.play("c", "a", ["music"], repeat=True)
    heard = [await a.hear() for _ in range(3)]
    house.relay.confer("c", ["a", "b"])
    async with Speakers({b: QUIETER}):
        heard += await hears(a, QUIETER)
        house.relay.join("c", "a", "b")
        await asyncio.sleep(0.1)
    heard += [await a.hear() for _ in range(3)]
    headers = [struct.unpack_from("!BBHII", packet) for packet in heard]
    assert len({ssrc for *_, ssrc in headers}) == 1
    assert {
        (later - earlier) & 0xFFFF for (_, _, earlier, _, _), (_, _, later, _, _) in pairwise(headers)
    } == {1}
    assert all(
        0 < (later - earlier) & 0xFFFFFFFF < 4000
        for (_, _, _, earlier, _), (_, _, _, later, _) in pairwise(headers)
    )


async def test_two_who_are_joined_leave_and_the_third_hears_silence(house: House) -> None:
    a, b, x = (house.called(branch) for branch in "abx")
    house.relay.confer("c", ["a", "b", "x"])
    async with Speakers({a: QUIETER, b: LOUDEST}):
        await hears(x, LOUDEST, within=100)
        house.relay.join("c", "a", "b")
        await hears(x, SILENCE)
        await empty(a)
        await hears(a, LOUDEST, within=3)
    stream = house.relay._leg("c", "a").carried[0]
    assert stream.taken[0], "packets pass untouched again"
    assert not stream.listeners


async def test_who_takes_part_can_be_changed_without_a_gap(house: House) -> None:
    a, b, x = (house.called(branch) for branch in "abx")
    house.relay.confer("c", ["a", "b"])
    async with Speakers({b: QUIETER}):
        await hears(a, QUIETER)
        house.relay.confer("c", ["b", "x", "a"])
        await hears(x, QUIETER)
        packets = await hears(a, QUIETER)
        assert len(packets) == 1, "whoever stays hears nothing of it"
        house.relay.confer("c", ["b", "x"])
        await empty(a)
        await asyncio.sleep(0.05)
        assert await a.silent()
        await hears(x, QUIETER, within=3)
        house.relay.confer("c", ["b"])
        await asyncio.sleep(0.05)
        await empty(x)
        assert await x.silent()
    assert house.relay._conferences.all == set()
    house.relay.confer("nothing", [])


async def test_a_prompt_is_for_one_of_them_while_the_others_go_on(house: House) -> None:
    a, b, x = (house.called(branch) for branch in "abx")
    house.relay.confer("c", ["a", "b", "x"])
    async with Speakers({a: LOUDEST, b: QUIETER}):
        await hears(x, LOUDEST, within=100)
        await hears(a, QUIETER)
        house.relay.play("c", "a", ["goodbye"])
        packets = await hears(a, ord("m"))
        packets += await hears(a, QUIETER)
        assert sum(packet[12:] == b"m" * 160 for packet in packets) == 3
        await hears(b, LOUDEST, within=100)
    numbers = [struct.unpack_from("!H", packet, 2)[0] for packet in packets]
    assert {(later - earlier) & 0xFFFF for earlier, later in pairwise(numbers)} == {1}


async def test_a_phone_on_hold_hears_nothing_and_then_again(house: House) -> None:
    a, b = house.called("a"), house.called("b")
    house.relay.confer("c", ["a", "b"])
    async with Speakers({b: QUIETER}):
        await hears(a, QUIETER)
        house.relay.answer("c", "a", plain(a.port, direction="inactive"))
        await empty(a)
        assert await a.silent()
        house.relay.answer("c", "a", plain(a.port, codecs="8"))
        packets = [await a.hear() for _ in range(10)]
    assert {packet[1] & 0x7F for packet in packets} == {8}, "in the codec it has now"
    sound = Decoder("pcma", 8000).decode(packets[-1][12:])
    assert abs(int(sound[80]) - 15996) < 600


async def test_those_who_are_dropped_leave_and_the_last_hears_silence(house: House) -> None:
    a, b, x = (house.called(branch) for branch in "abx")
    house.relay.confer("c", ["a", "b", "x"])
    async with Speakers({b: QUIETER, x: SILENCE}):
        await hears(a, QUIETER)
        house.relay.drop("c", "b")
        await hears(a, SILENCE)
        house.relay.drop("c", "x")
        await hears(a, SILENCE)
    house.relay.delete("c")
    assert house.relay._conferences.all == set()


async def test_pictures_pass_between_the_first_two_who_have_any(house: House) -> None:
    phones = {branch: house.phone() for branch in "abx"}
    for branch, phone in phones.items():
        phone.heard_answer(house.relay.answer("c", branch, video(phone.port)))
        phone.say(b"picture", kind=96)
    await asyncio.sleep(0.05)
    house.called("sound")
    house.relay.confer("c", ["sound", "a", "b", "x"])
    for branch in "ab":
        kind, count, body = rtcp.packets(await phones[branch].hear())[-1]
        assert (kind, count) == (rtcp.PSFB, rtcp.PLI)
        assert body[4:] == struct.pack("!I", phones[branch].ssrc)
    phones["a"].say(b"of a", kind=96)
    assert await phones["b"].hears() == b"of a"
    assert await phones["x"].silent()
    house.relay.drop("c", "a")
    assert rtcp.packets(await phones["b"].hear())[-1][:2] == (rtcp.PSFB, rtcp.PLI)
    assert rtcp.packets(await phones["x"].hear())[-1][:2] == (rtcp.PSFB, rtcp.PLI)
    phones["x"].say(b"of x", kind=96)
    while (heard := await phones["b"].hears()) != b"of x":
        assert heard[:1] != b"o"
    house.relay.confer("c", [])
    while not await phones["b"].silent():
        pass
    phones["x"].say(b"over", kind=96)
    assert await phones["b"].silent()


async def test_what_cannot_be_changes_nothing(house: House) -> None:
    a, b = house.called("a"), house.called("b")
    for branch in "defg":
        house.called(branch)
    house.relay.join("c", "a", "b")
    for branches in (["a", "a"], ["a", "nobody"], list("abdefg")):
        with pytest.raises(OurError) as wrong:
            house.relay.confer("c", branches)
        assert wrong.value.status == 500
    a.say(b"still joined")
    assert await b.hears() == b"still joined"


async def test_when_mixing_takes_too_much_no_other_conference_begins(house: House) -> None:
    for call in ("one", "two"):
        for branch in "ab":
            house.called(branch, call=call)
    house.relay.confer("one", ["a", "b"])
    (conference,) = house.relay._conferences.all
    conference.share = MOST_MIXING
    with pytest.raises(OurError) as too_many:
        house.relay.confer("two", ["a", "b"])
    assert too_many.value.status == 503
    house.relay.confer("one", ["b", "a"])
    house.relay.delete("one")
    house.relay.confer("two", ["a", "b"])


async def test_a_branch_that_has_not_answered_yet_hears_once_it_has(house: House) -> None:
    a = house.called("a")
    late = house.phone()
    late.heard_answer(house.relay.offer("c", "late", profile=Profile.RTP, like="a"))
    house.relay.confer("c", ["a", "late"])
    async with Speakers({a: QUIETER}):
        await asyncio.sleep(0.05)
        house.relay.accept("c", "late", plain(late.port))
        await hears(late, QUIETER)


async def test_deleting_leaves_nothing_behind(house: House) -> None:
    for number in range(5):
        for branch in "abx":
            house.called(branch, call=str(number))
        house.relay.confer(str(number), ["a", "b", "x"])
        house.relay.delete(str(number))
    await asyncio.sleep(0.05)
    assert not house.relay._conferences.all
    assert not house.relay._calls


async def test_keys_in_a_conference_are_told_and_not_mixed(house: House) -> None:
    a, b = called(house, "a", 101), called(house, "b", 101)
    house.relay.confer("c", ["a", "b"])
    a.say(b"\x05\x0a\x00\xa0", kind=101)
    await until(lambda: house.pressed == [("c", "a", "5")], "the key", seconds=2)
    await hears(b, SILENCE)
