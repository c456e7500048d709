"""What every MediaServer promises, asked of each: the embedded one and rtpengine, as processes, by their sockets."""

from __future__ import annotations

import asyncio
import wave
from pathlib import Path
from typing import Any

import numpy
import pytest

from config.errors import OurError, TheirError, WarmlineError
from media.server import AUDIO_ONLY, Profile
from tests.media.descriptions import CHROMIUM, plain
from tests.media.media_servers import (
    House,
    Open,
    hear_each_other,
    only_embedded,
    ports,
    silent,
)
from tests.media.reporting_phone import ReportingPhone
from tests.media.tone_phone import LEVEL, TonePhone, level
from tests.peers.process import until


@pytest.mark.parametrize("codec", ["pcmu", "pcma", "g722", "opus"])
async def test_two_phones_hear_each_other_while_they_are_joined(opened: Open, codec: str) -> None:
    async with opened() as house, TonePhone(codec, 440) as a, TonePhone(codec, 880) as b:
        await house.called("a", a)
        await house.calls("b", b, like="a")
        assert await house.media.compatible("c", "a", "b")
        assert await silent(a, b)
        for _ in range(2):
            await house.media.join("c", "a", "b")
            await hear_each_other(a, b)
            await house.media.part("c", "a", "b")
            assert await silent(a, b)


async def test_a_callee_is_joined_in_one_step(opened: Open) -> None:
    async with opened() as house, TonePhone("opus", 440) as a, TonePhone("opus", 880) as b:
        first = await house.media.answer("c", "a", a.offer())
        offer = await house.media.offer("c", "b", profile=Profile.RTP, like="a")
        again = await house.media.answer_joined("c", "a", a.offer(), peer="b", answer=b.offer())
        assert ports(again) == ports(first)
        b.start(offer)
        a.start(again)
        await hear_each_other(a, b)


async def test_the_caller_hears_music_then_the_agent_then_music_then_the_agent(opened: Open) -> None:
    async with opened() as house, TonePhone("opus", 440) as a, TonePhone("opus", 880) as b:
        await house.called("a", a)
        await house.calls("b", b, like="a")
        for _ in range(2):
            assert await house.media.play("c", "a", "music", repeat=True) > 1
            await until(lambda: not_silent(a) and a.hears(b.tone) < LEVEL * 0.1, "music and nobody's voice")
            assert await silent(b)
            await house.media.join("c", "a", "b")
            await hear_each_other(a, b)
        await house.media.play("c", "b", "music", repeat=True)
        await house.media.stop("c", "b")
        assert await silent(a, b), "to play something ends what was joined"


def not_silent(phone: TonePhone) -> bool:
    return len(phone.sound) > phone.rate and float(numpy.abs(phone.sound[-phone.rate // 2 :]).mean()) > 20


async def test_of_two_phones_that_ring_one_is_joined_and_the_other_leaves_nothing(opened: Open) -> None:
    async with (
        opened() as house,
        TonePhone("pcmu", 440) as a,
        TonePhone("pcmu", 880) as b,
        TonePhone("pcmu", 620) as x,
    ):
        await house.called("a", a)
        offers = [await house.media.offer("c", name, profile=Profile.RTP, like="a") for name in ("b", "x")]
        assert len({ports(offer) for offer in offers}) == 2
        await house.media.drop("c", "x")
        await house.media.accept("c", "b", b.offer())
        b.start(offers[0])
        x.start(offers[1])
        await house.media.join("c", "a", "b")
        await hear_each_other(a, b)
        assert a.hears(x.tone) < LEVEL * 0.05
        assert set(await house.media.stats("c")) == {"a", "b"}
        await house.media.drop("c", "b")
        assert await silent(a, b)
        await house.media.play("c", "a", "goodbye")
        await until(lambda: len(a.headers) > 5, "what is played to who is left")


async def test_the_codec_of_one_is_offered_again_to_the_other(opened: Open) -> None:
    async with opened() as house, TonePhone("pcmu", 440) as a, TonePhone("pcma", 880) as b:
        both = plain(a.port, codecs="0 8")
        await house.media.answer("c", "a", both)
        offer = await house.media.offer("c", "b", profile=Profile.RTP, like="a")
        await house.media.accept("c", "b", b.offer())
        assert not await house.media.compatible("c", "a", "b")
        again = await house.media.offer("c", "a", profile=Profile.RTP, like="b")
        assert b" RTP/AVP 8\r\n" in again
        await house.media.accept("c", "a", plain(a.port, codecs="8"))
        assert await house.media.compatible("c", "a", "b")
        async with TonePhone("pcma", 620) as alaw:
            # The same phone, speaking the other codec.
            answer = await house.media.answer("c", "a", plain(alaw.port, codecs="8"))
            alaw.start(answer)
            b.start(offer)
            await house.media.join("c", "a", "b")
            await hear_each_other(alaw, b)


async def test_payload_types_of_the_two_sides_may_differ(opened: Open) -> None:
    async with opened() as house, TonePhone("opus", 440) as a, TonePhone("opus", 880) as b:
        await house.called("a", a)
        b._number = 96
        b.start(await house.media.answer("c", "b", b.offer().replace(b"111", b"96")))
        await house.media.join("c", "a", "b")
        await hear_each_other(a, b)


async def test_who_is_on_hold_gets_nothing_until_they_resume(opened: Open) -> None:
    async with opened() as house, TonePhone("pcmu", 440) as a, TonePhone("pcmu", 880) as b:
        await house.called("a", a)
        await house.calls("b", b, like="a")
        await house.media.join("c", "a", "b")
        await hear_each_other(a, b)
        held = await house.media.answer("c", "b", plain(b.port, direction="inactive"))
        assert b"a=inactive" in held
        assert await silent(b)
        await house.media.answer("c", "b", plain(b.port))
        await hear_each_other(a, b)


async def test_a_new_description_lets_a_phone_move(opened: Open) -> None:
    async with opened() as house, TonePhone("pcmu", 440) as a, TonePhone("pcmu", 880) as b:
        first = await house.media.answer("c", "a", a.offer())
        a.start(first)
        await house.calls("b", b, like="a")
        await house.media.join("c", "a", "b")
        await hear_each_other(a, b)
        async with TonePhone("pcmu", 620) as moved:
            answer = await house.media.answer("c", "a", moved.offer())
            assert ports(answer) == ports(first)
            moved.start(answer)
            await hear_each_other(moved, b)


async def test_a_third_party_is_not_heard_and_gets_nothing(opened: Open) -> None:
    async with (
        opened() as house,
        TonePhone("pcmu", 440) as a,
        TonePhone("pcmu", 880) as b,
        TonePhone("pcmu", 620) as thief,
    ):
        answer = await house.media.answer("c", "a", a.offer())
        a.start(answer)
        await house.calls("b", b, like="a")
        await house.media.join("c", "a", "b")
        await hear_each_other(a, b)
        thief.start(answer)
        await asyncio.sleep(0.5)
        assert b.hears(thief.tone) < LEVEL * 0.05
        assert not thief.headers
        await hear_each_other(a, b)


async def test_keys_are_told_and_passed_on(opened: Open) -> None:
    async with opened() as house, TonePhone("pcmu", 440) as a, TonePhone("pcmu", 880) as b:
        await house.called("a", a)
        a.press(5)
        await until(lambda: house.pressed == [("c", "a", "5")], "the key")
        assert await house.media.keys("c", "a", "12#")
        await house.calls("b", b, like="a")
        await house.media.join("c", "a", "b")
        await hear_each_other(a, b)
        assert await house.media.keys("c", "b", "9")
        await hear_each_other(a, b)


async def test_keys_of_who_is_joined_are_told_too(opened: Open) -> None:
    async with opened() as house, TonePhone("pcmu", 440) as a, TonePhone("pcmu", 880) as b:
        await house.called("a", a)
        await house.calls("b", b, like="a")
        await house.media.join("c", "a", "b")
        await hear_each_other(a, b)
        a.press(7)
        await until(lambda: house.pressed == [("c", "a", "7")], "the key", seconds=2)
        b.press(11)
        await until(lambda: house.pressed[1:] == [("c", "b", "#")], "the other's key", seconds=2)
        await house.media.part("c", "a", "b")
        await asyncio.sleep(0.1)
        a.press(7)
        await until(lambda: len(house.pressed) > 2, "the key, heard another way", seconds=2)
        await asyncio.sleep(0.2)
        assert house.pressed[2:] == [("c", "a", "7")]


@only_embedded("rtpengine forwards the streams of those it joins as they come")
async def test_music_and_the_agent_are_one_stream(opened: Open) -> None:
    async with opened() as house, TonePhone("pcmu", 440) as a, TonePhone("pcmu", 880) as b:
        await house.called("a", a)
        await house.calls("b", b, like="a")
        await house.media.play("c", "a", "music", repeat=True)
        await until(lambda: len(a.headers) > 10, "the music")
        await house.media.join("c", "a", "b")
        await until(lambda: a.hears(b.tone) > LEVEL * 0.6, "the agent")
        assert len({ssrc for *_, ssrc in a.headers}) == 1


async def test_three_confer_and_two_go_on(opened: Open) -> None:
    async with (
        opened() as house,
        TonePhone("opus", 440) as a,
        TonePhone("opus", 880) as b,
        TonePhone("pcmu", 620) as x,
    ):
        await house.called("a", a)
        await house.calls("b", b, like="a")
        await house.media.join("c", "a", "b")
        await hear_each_other(a, b)
        await house.called("x", x)
        await house.media.confer("c", ["a", "b", "x"])
        for one, other in ((a, b), (b, x), (x, a)):
            await hear_each_other(one, other)
        await house.media.drop("c", "x")
        await hear_each_other(a, b)
        await house.media.join("c", "a", "b")
        await hear_each_other(a, b)


async def test_who_listens_is_not_heard(opened: Open) -> None:
    async with (
        opened() as house,
        TonePhone("pcmu", 440) as a,
        TonePhone("pcmu", 880) as b,
        TonePhone("pcmu", 620) as x,
    ):
        await house.called("a", a)
        await house.calls("b", b, like="a")
        await house.media.join("c", "a", "b")
        await hear_each_other(a, b)
        await house.called("x", x)
        await house.media.confer("c", ["a", "b", "x"], hears={"a": ["b"], "b": ["a"]})
        await until(lambda: min(x.hears(a.tone), x.hears(b.tone)) > LEVEL * 0.6, "both of them at the third")
        await hear_each_other(a, b)
        assert max(a.hears(x.tone), b.hears(x.tone)) < LEVEL * 0.05


async def test_who_are_alike_are_joined_and_others_are_not(opened: Open) -> None:
    async with (
        opened() as house,
        TonePhone("pcmu", 440) as a,
        TonePhone("pcmu", 880) as b,
        TonePhone("opus", 620) as x,
    ):
        await house.called("a", a)
        await house.calls("b", b, like="a")
        await house.called("x", x)
        assert not await house.media.join_alike("c", "a", "x")
        assert await silent(a, x)
        assert await house.media.join_alike("c", "a", "b")
        await hear_each_other(a, b)


async def test_two_who_share_no_codec_hear_each_other_all_the_same(opened: Open) -> None:
    async with opened() as house, TonePhone("opus", 440) as a, TonePhone("pcma", 880) as b:
        await house.called("a", a)
        await house.called("b", b)
        assert not await house.media.compatible("c", "a", "b")
        await house.media.join("c", "a", "b")
        await hear_each_other(a, b)


async def test_a_conversation_is_recorded_each_on_a_side_of_their_own(opened: Open, tmp_path: Path) -> None:
    path = tmp_path / "calls" / "one.wav"
    async with opened() as house, TonePhone("pcmu", 440) as a, TonePhone("pcmu", 880) as b:
        await house.called("a", a)
        await house.calls("b", b, like="a")
        await house.media.join("c", "a", "b")
        await hear_each_other(a, b)
        await house.media.tap("c", "a", "b", str(path), limit_s=60)
        await asyncio.sleep(1.5)
        await hear_each_other(a, b)
        assert await house.media.end_tap("c") > 1.0
        with wave.open(str(path), "rb") as file:
            assert file.getnchannels() == 2
            sound = numpy.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2)
            for side, (said, heard) in enumerate(((440, 880), (880, 440))):
                last = sound[-4000:, side]
                assert level(last, file.getframerate(), said) > LEVEL * 0.6
                assert level(last, file.getframerate(), heard) < LEVEL * 0.05


async def test_what_a_branch_says_is_recorded(opened: Open, tmp_path: Path) -> None:
    path = tmp_path / "messages" / "one.wav"
    async with opened() as house, TonePhone("opus", 440) as a:
        await house.called("a", a)
        await house.media.record("c", "a", str(path), limit_s=30, silence_s=10)
        await asyncio.sleep(1.0)
        assert await house.media.stop_recording("c", "a") == pytest.approx(1.0, abs=0.4)
        with wave.open(str(path), "rb") as file:
            sound = numpy.frombuffer(file.readframes(file.getnframes()), "<i2")
            assert level(sound[-4000:], file.getframerate(), 440) > LEVEL * 0.6
        await house.media.record("c", "a", str(tmp_path / "two.wav"), limit_s=30, silence_s=10)
        await asyncio.sleep(0.5)
        await house.media.drop("c", "a")
        await until(lambda: [news[:3] for news in house.recorded] == [("c", "a", "gone")], "its end")


async def test_packets_are_counted_wherever_they_go(opened: Open) -> None:
    async with opened() as house, TonePhone("pcmu", 440) as a, TonePhone("pcmu", 880) as b:
        await house.called("a", a)
        await house.calls("b", b, like="a")
        await house.media.join("c", "a", "b")
        await hear_each_other(a, b)
        before = await house.media.stats("c")
        await asyncio.sleep(1.0)
        after = await house.media.stats("c")
        for branch in "ab":
            assert after[branch]["ready"]
            was, now = (each[branch]["kinds"]["audio"] for each in (before, after))
            for name, least in (("packets_in", 30), ("packets_out", 30), ("bytes_in", 30 * 172)):
                assert now[name] - was[name] >= least, name
            assert now["last_packet_at"] > was["last_packet_at"]


async def heard_over(house: House, a: ReportingPhone, b: ReportingPhone) -> dict[str, dict[str, Any]]:
    """The qualities of the two voices after they have heard each other for a while."""
    await house.called("a", a)
    await house.calls("b", b, like="a")
    await house.media.join("c", "a", "b")
    await hear_each_other(a, b)
    await house.media.stats("c")
    await asyncio.sleep(4.0)
    found = await house.media.stats("c")
    return {branch: found[branch]["kinds"]["audio"]["quality"] for branch in "ab"}


async def test_how_well_they_hear_each_other_is_known_and_told_at_the_end(opened: Open) -> None:
    async with (
        opened() as house,
        ReportingPhone("pcmu", 440, loss=0.1) as a,
        ReportingPhone("pcmu", 880) as b,
    ):
        qualities = await heard_over(house, a, b)
        for each in qualities.values():
            assert set(each) == {"loss_in", "loss_out", "jitter_ms", "round_trip_ms", "mos"}
            assert 0 <= each["round_trip_ms"] < 100
            assert 0 <= each["jitter_ms"] < 50
        assert qualities["a"]["loss_out"] < 0.02
        lossy = max(qualities.values(), key=lambda each: max(each["loss_in"] or 0.0, each["loss_out"]))
        assert 0.04 < max(lossy["loss_in"] or 0.0, lossy["loss_out"]) < 0.2
        assert 1.0 < lossy["mos"] < 4.2
        await house.media.drop("c", "a")
        await house.media.delete("c")
        await until(lambda: len(house.qualities) == 2, "the news")
        for (*_, what, facts), branch in zip(house.qualities, "ab", strict=True):
            assert (what, _) == ("ended", ["c", branch])
            assert facts["audio"]["received"] > 150
            assert 3 < facts["audio"]["seconds"] < 60
            assert facts["audio"]["mos"] == pytest.approx(qualities[branch]["mos"], abs=0.5)
            assert facts["audio"]["mos_lately"] > 1


@only_embedded(
    "rtpengine 10.5 counts no gaps in what it forwards: only the other tells what it has missed, all the way"
)
async def test_on_whose_side_packets_are_lost_is_known(opened: Open) -> None:
    async with (
        opened() as house,
        ReportingPhone("pcmu", 440, loss=0.1) as a,
        ReportingPhone("pcmu", 880) as b,
    ):
        qualities = await heard_over(house, a, b)
        assert 0.04 < qualities["a"]["loss_in"] < 0.2
        assert qualities["b"]["loss_out"] < 0.02


async def test_bad_descriptions_are_refused_and_leave_nothing(opened: Open) -> None:
    async with opened() as house:
        media = house.media
        for offer, status in (
            (b"", 400),
            (b"v=0\r\nno sdp", 400),
            (plain(4000, codecs="18"), 488),
            (plain(4000).replace(b"RTP/AVP", b"TCP/MRCPv2"), 488),
            (plain(4000, address="ff02::1").replace(b"IP4 ff", b"IP6 ff"), 488),
            (CHROMIUM.replace(b"a=fingerprint", b"a=x-fingerprint"), 488),
        ):
            with pytest.raises(TheirError) as refused:
                await media.answer("c", "a", offer)
            assert refused.value.status == status, offer
        with pytest.raises(OurError):
            await media.stats("c")
        async with TonePhone("pcmu", 440) as a, TonePhone("pcmu", 880) as b:
            await house.called("a", a)
            await house.calls("b", b, like="a")
            await media.join("c", "a", "b")
            await hear_each_other(a, b)
            with pytest.raises(TheirError):
                await media.answer("c", "a", plain(a.port, codecs="18"))
            await hear_each_other(a, b)


async def test_what_is_not_there_is_an_error_but_to_end_it_may_come_late(opened: Open) -> None:
    async with opened() as house, TonePhone("pcmu", 440) as a:
        media = house.media
        await house.called("a", a)
        for asked in (
            media.play("c", "b", "music"),
            media.join("c", "a", "b"),
            media.join("c", "a", "a"),
            media.compatible("c", "a", "b"),
            media.offer("c", "b", profile=Profile.RTP, like="nobody"),
            media.accept("c", "b", a.offer()),
            media.stats("d"),
        ):
            with pytest.raises(WarmlineError):
                await asked
        await media.part("c", "a", "b")
        await media.drop("c", "b")
        await media.delete("d")


async def test_only_wanted_media_are_taken(opened: Open) -> None:
    async with opened() as house:
        offer = plain(4000) + b"m=video 4002 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\n"
        answer = await house.media.answer("c", "a", offer, kinds=AUDIO_ONLY)
        assert b"m=video 0 RTP/AVP 96" in answer
        again = await house.media.offer("c", "b", profile=Profile.RTP, like="a")
        assert b"m=video" not in again
        full = await house.media.answer("c", "x", offer)
        assert b"m=video 0" not in full


async def test_ports_are_free_when_calls_are_over(opened: Open) -> None:
    async with opened() as house:
        media = house.media
        for number in range(40):  # four times what there are ports for
            name = f"c{number}"
            await media.answer(name, "a", plain(4000))
            await media.offer(name, "b", profile=Profile.RTP, like="a")
            await media.accept(name, "b", plain(4002))
            await media.join(name, "a", "b")
            if number % 2:
                await media.drop(name, "b")
                await media.drop(name, "a")
            else:
                await media.delete(name)
        if house.engine is not None:
            assert await house.engine.used_ports() == 0
