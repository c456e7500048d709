"""Chromium on a network that loses packets, or that it leaves for another: pictures go on."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page

from media.client import EmbeddedMedia
from media.server import Profile
from tests.media.phone import PlainPhone
from tests.media.test_browser_through_relay import (
    ANSWERED,
    MICROPHONE,
    OFFER,
    PHONE,
    call,
    chromium,
    frames,
    hears,
    media_process,
)
from tests.peers.lossy_network import LossyNetwork
from tests.peers.process import until

RECEIVED = """
async () => {
  const found = [...(await window.connection.getStats()).values()];
  const video = found.find((each) => each.type === 'inbound-rtp' && each.kind === 'video');
  return {frames: video.framesDecoded, asked: video.nackCount, key_frames: video.pliCount + video.firCount};
}
"""
RESTART = "() => window.connection.restartIce()"


async def received(page: Page) -> dict[str, Any]:
    found: dict[str, Any] = await page.evaluate(RECEIVED)
    return found


async def talking(stack: AsyncExitStack, media: EmbeddedMedia, page: Page) -> tuple[PlainPhone, LossyNetwork]:
    """The page and a phone see and hear each other."""
    answer = await media.answer("c", "customer", await call(page))
    port = int(answer.split(b"m=audio ")[1].split()[0])
    network = await stack.enter_async_context(LossyNetwork(port))
    await page.evaluate(ANSWERED, network.through(answer))
    phone = await stack.enter_async_context(PlainPhone(tone=PHONE, patience=1))
    offer = await media.offer("c", "agent", profile=Profile.RTP, like="customer")
    await media.accept("c", "agent", phone.answer(offer))
    phone.start()
    await media.join("c", "customer", "agent")
    await until(lambda: hears(page, PHONE), "the customer to hear the agent")
    await until(lambda: frames(page, 15), "the customer to see the agent")
    await until(lambda: phone.pictures > 15, "the agent to see the customer")
    return phone, network


@pytest.mark.interop
async def test_pictures_move_while_one_packet_in_twenty_is_lost(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    async with (
        media_process(tmp_path_factory.mktemp("prompts")) as process,
        chromium(tmp_path, loopback=False) as page,
        AsyncExitStack() as stack,
    ):
        phone, network = await talking(stack, process.media, page)
        before, pictures = await received(page), phone.pictures
        network.loss = 0.05
        began = time.monotonic()
        await asyncio.sleep(5)

        async def moved() -> bool:
            now = await received(page)
            return bool(now["asked"] > before["asked"] and now["frames"] - before["frames"] > 40)

        # 15 pictures a second are made, or as many as a busy machine can; the phone cannot send again, so that only its
        # own way is mended by key frames.
        await until(moved, "it to say what it has lost, and pictures to move", seconds=15)
        await until(lambda: phone.pictures - pictures > 20, "pictures to move on the other side")
        assert network.lost > 5
        after, fives = await received(page), (time.monotonic() - began) / 5
        assert after["key_frames"] - before["key_frames"] <= 3 * fives, (
            "what was lost is sent again, not made anew"
        )
        assert await hears(page, PHONE)


@pytest.mark.interop
async def test_a_browser_that_restarts_ice_is_heard_and_seen_on_its_new_path(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    async with (
        media_process(tmp_path_factory.mktemp("prompts")) as process,
        chromium(tmp_path, loopback=False) as page,
        AsyncExitStack() as stack,
    ):
        media = process.media
        phone, network = await talking(stack, media, page)
        await page.evaluate(RESTART)
        answer = await media.answer("c", "customer", str(await page.evaluate(OFFER)).encode())
        other = await stack.enter_async_context(LossyNetwork(network._target[1]))
        await page.evaluate(ANSWERED, other.through(answer))
        await until(lambda: len(other._far) > 0, "a check by the new path")
        network.loss = 1.0  # the old one is gone
        before, pictures = (await received(page))["frames"], phone.pictures
        await until(lambda: frames(page, before + 15), "the customer to see the agent")
        await until(lambda: phone.pictures > pictures + 15, "the agent to see the customer")
        await until(lambda: phone.hears(MICROPHONE), "the agent to hear the customer")
        await until(lambda: hears(page, PHONE), "the customer to hear the agent")
