"""Who is taken for gone where rtpengine carries the packets, and when."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from media import engine_watch
from media.server import SILENCE_S, Profile
from tests.media.test_browser_through_relay import ANSWERED, OFFER, PREPARE, chromium, hears_anything
from tests.media.test_rtpengine import opened
from tests.media.tone_phone import TonePhone
from tests.peers.process import until

HELD = """
async () => {
  window.connection.getTransceivers().forEach((each) => { each.direction = "inactive"; });
  await window.connection.setLocalDescription();
  return window.connection.localDescription.sdp;
}
"""


def fall_silent(phone: TonePhone) -> None:
    for task in phone._tasks:
        task.cancel()


async def test_who_falls_silent_is_told_of_once_and_gone_when_the_other_does_too(
    tmp_path: Path, made_prompts: Path
) -> None:
    async with (
        opened(tmp_path, made_prompts) as house,
        TonePhone("pcmu", 440) as a,
        TonePhone("pcmu", 880) as b,
    ):
        await house.joined(a, b)
        fall_silent(a)
        for _ in range(4):
            house.later += engine_watch.LISTEN_S + 1
            await asyncio.sleep(engine_watch.LOOK_S)
        assert house.qualities == []
        house.later += SILENCE_S
        await until(lambda: house.qualities, "the news", seconds=2 * engine_watch.LOOK_S)
        for _ in range(2):
            house.later += engine_watch.LISTEN_S + 1
            await asyncio.sleep(engine_watch.LOOK_S)
        ((call, branch, what, facts),) = house.qualities
        assert (call, branch, what, list(facts)) == ("c", "a", "silent", ["audio"])
        assert house.gone == []
        fall_silent(b)
        for _ in range(3):  # its last packets are known a look later, or two
            await asyncio.sleep(2 * engine_watch.LOOK_S)
            house.later += SILENCE_S + 1
        await until(lambda: house.gone, "the end", seconds=2 * engine_watch.LOOK_S)
        await asyncio.sleep(engine_watch.LOOK_S)
        assert house.gone == [("c", each, "nothing was received for 60 s") for each in "ab"]


async def test_how_much_silence_ends_a_call_is_a_setting_by_the_shortcut_and_without(
    tmp_path: Path, made_prompts: Path
) -> None:
    async with (
        opened(tmp_path, made_prompts, silence_s=3.0) as house,
        TonePhone("pcmu", 440) as a,
        TonePhone("pcmu", 880) as b,
    ):
        await house.joined(a, b)
        await asyncio.sleep(4.0 + engine_watch.LOOK_S)
        assert house.gone == []
        await house.media.part("c", "a", "b")
        fall_silent(a)
        await until(lambda: house.gone, "the studio's news", seconds=6)
        assert house.gone == [("c", "a", "nothing was received for 3 s")]
        await house.media.join("c", "a", "b")
        fall_silent(b)
        await until(
            lambda: ("c", "b", "nothing was received for 3 s") in house.gone,
            "the news",
            seconds=4.0 + 2 * engine_watch.LOOK_S,
        )


async def test_no_silence_ends_a_call_where_the_setting_is_0(tmp_path: Path, made_prompts: Path) -> None:
    async with (
        opened(tmp_path, made_prompts, silence_s=0.0) as house,
        TonePhone("pcmu", 440) as a,
        TonePhone("pcmu", 880) as b,
    ):
        await house.joined(a, b)
        fall_silent(a)
        fall_silent(b)
        for _ in range(3):
            house.later += 100
            await asyncio.sleep(engine_watch.LOOK_S)
        assert house.gone == []


async def test_who_was_never_heard_is_not_gone_while_the_other_speaks(
    tmp_path: Path, made_prompts: Path
) -> None:
    async with (
        opened(tmp_path, made_prompts, silence_s=3.0) as house,
        TonePhone("pcmu", 440) as a,
        TonePhone("pcmu", 880) as b,
    ):
        a.start(await house.media.answer("c", "a", a.offer()))
        await house.media.offer("c", "b", profile=Profile.RTP, like="a")
        await house.media.accept("c", "b", b.offer())
        await house.media.join("c", "a", "b")
        await asyncio.sleep(7.0)
        assert house.gone == []
        fall_silent(a)
        await until(lambda: len(house.gone) == 2, "the end of both", seconds=8)


@pytest.mark.interop
@pytest.mark.parametrize("sends", [True, False], ids=["speaking", "on hold"])
async def test_a_browser_that_vanishes_is_told_of_soon(
    tmp_path: Path, made_prompts: Path, sends: bool
) -> None:
    async with opened(tmp_path, made_prompts) as house, chromium(tmp_path, loopback=False) as page:
        await page.evaluate(PREPARE, False)
        answer = await house.media.answer("c", "customer", str(await page.evaluate(OFFER)).encode())
        await house.media.play("c", "customer", "music", repeat=True)
        await page.evaluate(ANSWERED, answer.decode())
        await until(lambda: hears_anything(page), "the music to be heard")
        limit = engine_watch.BROWSER_SILENCE_S
        if not sends:
            await house.media.stop("c", "customer")
            held = str(await page.evaluate(HELD))
            assert "a=inactive" in held
            answer = await house.media.answer("c", "customer", held.encode())
            await page.evaluate(ANSWERED, answer.decode())
            # Its reports are enough to know that it is there.
            await asyncio.sleep(limit + 3 * engine_watch.LOOK_S)
            limit = engine_watch.REPORTS_SILENCE_S
        else:
            await asyncio.sleep(4 * engine_watch.LOOK_S)
        assert house.gone == []
        await page.evaluate("window.connection.close()")
        house.later += limit / 3
        await asyncio.sleep(2 * engine_watch.LOOK_S)
        assert house.gone == [], "its last packets are known only now"
        house.later += limit
        await until(lambda: house.gone, "the news", seconds=3 * engine_watch.LOOK_S)
        assert house.gone == [("c", "customer", f"nothing was received for {limit:.0f} s")]
