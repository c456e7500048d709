"""Two phones that share no codec, joined: each hears the other's tone."""

from __future__ import annotations

import struct
from collections.abc import Callable
from itertools import pairwise

import pytest

from config.errors import OurError
from media import transcoding as transcoding_module
from media.rtp import Heard
from media.sdp import parse
from media.server import Profile
from tests.media.descriptions import plain
from tests.media.relay_house import House
from tests.media.tone_phone import EVENTS, LEVEL, TonePhone
from tests.peers.process import until


def answered(house: House, branch: str, phone: TonePhone) -> None:
    phone.start(house.relay.answer("c", branch, phone.offer()))


def each_hears_the_other(a: TonePhone, b: TonePhone) -> bool:
    return a.hears(b.tone) > LEVEL * 0.6 and b.hears(a.tone) > LEVEL * 0.6 and a.hears(a.tone) < LEVEL * 0.05


@pytest.mark.parametrize(
    ("codecs", "loss"),
    [
        (("pcmu", "opus"), 0.0),
        (("pcmu", "pcma"), 0.0),
        (("g722", "opus"), 0.0),
        (("pcma", "g722"), 0.0),
        (("pcmu", "opus"), 0.05),
    ],
    ids=lambda each: "-".join(each) if isinstance(each, tuple) else f"loss {each}",
)
async def test_tones_pass_both_ways(house: House, codecs: tuple[str, str], loss: float) -> None:
    async with (
        TonePhone(codecs[0], 440, loss=loss, overtaking=loss) as a,
        TonePhone(codecs[1], 880, loss=loss, overtaking=loss) as b,
    ):
        answered(house, "a", a)
        answered(house, "b", b)
        assert not house.relay.compatible("c", "a", "b")
        house.relay.join("c", "a", "b")
        await until(lambda: each_hears_the_other(a, b), "each to hear the other")
        assert [each["transcoded"] for each in house.relay.stats("c").values()] == [True, True]
        # One stream, whose time and numbers go on: what was lost on the way in is missing here too, and no more.
        for phone in (a, b):
            steps = [
                ((now[3] - before[3]) & 0xFFFFFFFF, (now[2] - before[2]) & 0xFFFF)
                for before, now in pairwise(phone.headers[-40:])
            ]
            assert len({header[4] for header in phone.headers}) == 1
            if not loss:
                assert set(steps) == {(phone._ticks, 1)}
            else:
                assert all(ticks == phone._ticks * count for ticks, count in steps)


async def test_phones_that_share_a_codec_are_left_alone(house: House) -> None:
    told: list[object] = []
    house.relay._transcodings._on_begun = lambda *legs: told.append(legs)
    a, b = house.called("a", codecs="8 0"), house.called("b", codecs="8")
    house.relay.join("c", "a", "b")
    a.say(b"untouched", kind=8)
    assert await b.hears() == b"untouched"
    assert not told
    assert house.relay._transcodings.transcoder is None


async def test_it_is_told_once_and_ends_with_a_re_offer_that_finds_a_codec(house: House) -> None:
    told: list[tuple[str, ...]] = []
    house.relay._transcodings._on_begun = lambda *legs: told.append(tuple(leg.branch for leg in legs))
    a, b = house.called("a", codecs="0"), house.called("b", codecs="8")
    house.relay.join("c", "a", "b")
    house.relay.join("c", "a", "b")
    assert told == [("a", "b")]
    b.heard_answer(house.relay.answer("c", "b", plain(b.port, codecs="0")))
    a.say(b"as it is")
    assert await b.hears() == b"as it is"
    assert not house.relay.stats("c")["a"]["transcoded"]
    assert not house.relay._transcodings._all


@pytest.mark.parametrize("ending", ["part", "drop", "delete", "play", "join", "confer"])
async def test_nothing_is_left_of_it(house: House, ending: str) -> None:
    house.called("a", codecs="0")
    house.called("b", codecs="8")
    house.called("x", codecs="0")
    relay = house.relay
    relay.join("c", "a", "b")
    assert relay._transcodings._all
    endings: dict[str, Callable[[], object]] = {
        "part": lambda: relay.part("c", "a", "b"),
        "drop": lambda: relay.drop("c", "b"),
        "delete": lambda: relay.delete("c"),
        "play": lambda: relay.play("c", "a", ["music"]),
        "join": lambda: relay.join("c", "x", "a"),
        "confer": lambda: relay.confer("c", ["a", "b", "x"]),
    }
    endings[ending]()
    assert not relay._transcodings._all


async def test_keys_pass_as_keys(house: House) -> None:
    async with TonePhone("opus", 880) as a:
        answered(house, "a", a)
        b = house.phone()
        events = b"a=rtpmap:101 telephone-event/8000\r\n"
        b.heard_answer(house.relay.answer("c", "b", plain(b.port, codecs="0 101") + events))
        house.relay.join("c", "a", "b")
        b.say(b"\xff" * 160)  # so that it is known where it is
        await b.hear()
        a.press(5)
        await until(lambda: house.pressed == [("c", "a", "5")], "the key to be heard")
        while (heard := await b.hear())[1] & 0x7F != EVENTS:
            pass
        assert heard[12] == 5


async def test_too_much_of_it_is_refused_and_what_runs_goes_on(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.called("a", codecs="0")
    house.called("b", codecs="8")
    house.relay.join("c", "a", "b")
    monkeypatch.setattr(transcoding_module, "MOST_SHARE", 0.0)
    house.called("a", codecs="0", call="d")
    house.called("b", codecs="8", call="d")
    with pytest.raises(OurError) as caught:
        house.relay.join("d", "a", "b")
    assert caught.value.status == 503
    assert house.relay._calls["d"]["a"].peer is house.relay._calls["d"]["b"].peer is None, (
        "nor are they half joined"
    )
    house.relay.join("c", "a", "b")
    assert house.relay.stats("c")["a"]["transcoded"]


async def test_who_talks_already_may_change_codecs_whatever_else_is_transcoded(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused, their re-offer would leave the two sides with different minds of what was agreed."""
    house.called("a", codecs="0")
    b = house.called("b", codecs="0")
    house.relay.join("c", "a", "b")
    monkeypatch.setattr(transcoding_module, "MOST_SHARE", 0.0)
    b.heard_answer(house.relay.answer("c", "b", plain(b.port, codecs="8")))
    assert house.relay.stats("c")["a"]["transcoded"]


async def test_a_phone_that_sends_more_than_it_can_say_takes_no_more_of_everybodys_time(house: House) -> None:
    house.called("a", codecs="0")
    house.called("b", codecs="8")
    house.relay.join("c", "a", "b")
    transcoder = await until(lambda: house.relay._transcodings.transcoder, "the codecs")
    leg = house.relay._calls["c"]["b"]
    stream, way = leg.carried[0], transcoder.Way(leg, "pcmu", 8000)
    for number in range(1000):
        way.carry(Heard(False, number, number * 160, 7, b"\xff" * 160, 0.0), 100.0)
    assert stream.packets_out == transcoder.AHEAD_S * 50
    for number in range(1000):  # each as if it were somebody else
        way.carry(Heard(False, 1, 1, number, b"\xff" * 160, 0.0), 100.5)
    assert stream.packets_out == (transcoder.AHEAD_S + 0.5) * 50
    for number in range(200):
        way.carry(Heard(False, number, number * 160, 9, b"\xff" * 160, 0.0), 101.02 + number / 50)
    assert stream.packets_out == (transcoder.AHEAD_S + 0.5) * 50 + 200, "then it is heard as ever"


async def test_garbage_in_place_of_sound_ends_nothing(house: House) -> None:
    async with TonePhone("opus", 880) as b, TonePhone("pcmu", 440) as a:
        answered(house, "a", a)
        answered(house, "b", b)
        house.relay.join("c", "a", "b")
        await until(lambda: each_hears_the_other(a, b), "each to hear the other")
        for junk in (b"", b"\xff" * 1400, b"\x00", bytes(range(256))):
            b._timestamp += b._ticks
            b._send(junk, 111)
            b._sock.sendto(struct.pack("!BBHII", 0xBF, 111, 1, 2, 3) + junk, b._to)
        a.sound = a.sound[:0]
        await until(lambda: each_hears_the_other(a, b), "each to hear the other again")


async def test_an_offer_for_somebody_who_may_share_nothing_has_our_codecs_behind_theirs(house: House) -> None:
    house.called("a", codecs="0")
    offer = parse(house.relay.offer("c", "b", profile=Profile.RTP, like="a", wide=True)).media[0]
    assert [p.name for p in offer.payloads] == ["PCMU", "opus", "G722", "PCMA", "telephone-event"]
    narrow = parse(house.relay.offer("c", "x", profile=Profile.RTP, like="a")).media[0]
    assert [p.name for p in narrow.payloads] == ["PCMU"]


async def test_a_caller_is_answered_in_its_codecs_where_the_callee_has_others(house: House) -> None:
    """A direct call: the callee has answered before the caller is."""
    async with TonePhone("pcmu", 440) as a, TonePhone("opus", 880) as b:
        house.relay.answer("c", "a", a.offer())
        b_offer = house.relay.offer("c", "b", profile=Profile.RTP, like="a", wide=True)
        b.start(b_offer)
        a.start(house.relay.answer_joined("c", "a", a.offer(), peer="b", answer=b.offer()))
        await until(lambda: each_hears_the_other(a, b), "each to hear the other")
