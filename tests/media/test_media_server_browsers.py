"""What every MediaServer promises to browsers: Chromium, as users run it."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest

from media.rtpengine import Rtpengine
from media.server import Profile
from tests.media.media_servers import Open, only_embedded
from tests.media.phone import PlainPhone
from tests.media.test_browser_through_relay import (
    ANSWERED,
    MICROPHONE,
    OFFERED,
    PHONE,
    PREPARE,
    call,
    chromium,
    frames,
    hears,
    hears_anything,
    hears_other_than,
    statistics,
)
from tests.peers.process import until


def shows(phone: PlainPhone, more_than: int) -> bool:
    return phone.pictures > more_than


@pytest.mark.interop
async def test_a_browser_hears_music_and_then_has_video_with_a_phone(opened: Open, tmp_path: Path) -> None:
    async with opened() as house, chromium(tmp_path, loopback=False) as page:
        media = house.media
        answer = await media.answer("c", "customer", await call(page))
        await media.play("c", "customer", "music", repeat=True)
        await page.evaluate(ANSWERED, answer.decode())
        await until(lambda: hears_anything(page), "the music to be heard")
        async with PlainPhone(tone=PHONE) as phone:
            offer = await media.offer("c", "agent", profile=Profile.RTP, like="customer")
            await media.accept("c", "agent", phone.answer(offer))
            assert await media.compatible("c", "customer", "agent")
            phone.start()
            for times in range(3):
                seen, shown = phone.pictures, (await statistics(page))["framesDecoded"]
                await media.join("c", "customer", "agent")
                if isinstance(media, Rtpengine):
                    # A second time Chromium would not listen to the agent's own stream.
                    assert media._calls["c"].branches["agent"].direct is (times == 0)
                await until(lambda: hears(page, PHONE), "the customer to hear the agent")
                await until(lambda: phone.hears(MICROPHONE), "the agent to hear the customer")
                await until(partial(frames, page, shown + 15), "the customer to see the agent")
                await until(partial(shows, phone, seen + 15), "the agent to see the customer")
                await media.play("c", "customer", "music", repeat=True)
                await until(lambda: hears_other_than(page, PHONE), "the music, and nothing else")


@pytest.mark.interop
async def test_a_prompt_for_a_browser_is_heard_from_its_beginning(opened: Open, tmp_path: Path) -> None:
    async with opened() as house, chromium(tmp_path, loopback=False) as page:
        answer = await house.media.answer("c", "customer", await call(page))
        await house.media.play("c", "customer", "goodbye")
        await asyncio.sleep(1.0)
        before = (await house.media.stats("c"))["customer"]
        assert not before["ready"]
        assert before["kinds"]["audio"]["packets_out"] == 0
        await page.evaluate(ANSWERED, answer.decode())
        await until(lambda: hears_anything(page), "the prompt")


@pytest.mark.interop
async def test_a_browser_is_offered_the_codec_of_the_phone(opened: Open, tmp_path: Path) -> None:
    async with opened() as house, chromium(tmp_path, loopback=False) as page:
        media = house.media
        answer = await media.answer("c", "customer", await call(page))
        await page.evaluate(ANSWERED, answer.decode())
        async with PlainPhone(tone=PHONE, codec="PCMU") as phone:
            offer = await media.offer("c", "agent", profile=Profile.RTP, like="customer")
            await media.accept("c", "agent", phone.answer(offer))
            assert not await media.compatible("c", "customer", "agent")
            again = await media.offer("c", "customer", profile=Profile.WEBRTC, like="agent")
            await media.accept("c", "customer", (await page.evaluate(OFFERED, again.decode())).encode())
            phone.start()
            await media.join("c", "customer", "agent")
            await until(lambda: hears(page, PHONE), "the customer to hear the agent")
            await until(lambda: phone.hears(MICROPHONE), "the agent to hear the customer")
            await until(lambda: frames(page, 15), "the customer to see the agent")


@pytest.mark.interop
async def test_a_browser_can_be_called(opened: Open, tmp_path: Path) -> None:
    async with opened() as house, chromium(tmp_path, loopback=False) as page:
        media = house.media
        async with PlainPhone(tone=PHONE) as phone:
            offer = await media.offer("c", "phone", profile=Profile.RTP)
            await media.accept("c", "phone", phone.answer(offer))
            phone.start()
            await page.evaluate(PREPARE, False)
            offer = await media.offer("c", "browser", profile=Profile.WEBRTC, like="phone")
            await media.accept("c", "browser", (await page.evaluate(OFFERED, offer.decode())).encode())
            await media.join("c", "phone", "browser")
            await until(lambda: hears(page, PHONE), "the browser to hear the phone")
            await until(lambda: phone.hears(MICROPHONE), "the phone to hear the browser")


@pytest.mark.interop
async def test_two_browsers_see_and_hear_each_other(opened: Open, tmp_path: Path) -> None:
    async with (
        opened() as house,
        chromium(tmp_path, loopback=False) as customer,
        chromium(tmp_path, loopback=False) as agent,
    ):
        media = house.media
        answer = await media.answer("c", "customer", await call(customer))
        await customer.evaluate(ANSWERED, answer.decode())
        await media.play("c", "customer", "music", repeat=True)
        await until(lambda: hears_anything(customer), "the music")
        await agent.evaluate(PREPARE, True)
        offer = await media.offer("c", "agent", profile=Profile.WEBRTC, like="customer")
        await media.accept("c", "agent", (await agent.evaluate(OFFERED, offer.decode())).encode())
        for _ in range(2):
            pages = [(page, (await statistics(page))["framesDecoded"]) for page in (customer, agent)]
            await media.join("c", "customer", "agent")
            for page, seen in pages:
                await until(partial(hears, page, MICROPHONE), "the other's tone")
                await until(partial(frames, page, seen + 15), "the other's picture")
            await media.play("c", "customer", "music", repeat=True)
            await until(lambda: hears_other_than(customer, MICROPHONE), "the music, and nothing else")


@pytest.mark.interop
@only_embedded("rtpengine does not tell that DTLS was closed: its browser is missed, after 12 s")
async def test_a_browser_that_closes_is_told_of_at_once(opened: Open, tmp_path: Path) -> None:
    async with opened() as house, chromium(tmp_path, loopback=False) as page:
        answer = await house.media.answer("c", "customer", await call(page))
        await house.media.play("c", "customer", "music", repeat=True)
        await page.evaluate(ANSWERED, answer.decode())
        await until(lambda: hears_anything(page), "the music to be heard")
        await page.evaluate("window.connection.close()")
        await until(lambda: [news[:2] for news in house.gone] == [("c", "customer")], "the news", seconds=3)
