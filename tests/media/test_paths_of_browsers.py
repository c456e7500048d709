"""What every MediaServer promises to browsers on bad networks: Chromium loses packets, and leaves for another path."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from playwright.async_api import Page

from media.sdp import parse
from media.server import Profile
from tests.media.media_servers import House, Open
from tests.media.phone import PlainPhone
from tests.media.test_bad_network import RESTART
from tests.media.test_browser_through_relay import (
    ANSWERED,
    MICROPHONE,
    OFFER,
    PHONE,
    call,
    chromium,
    frames,
    hears,
    statistics,
)
from tests.peers.lossy_network import LossyNetwork
from tests.peers.process import until


async def by_a_network(stack: AsyncExitStack, page: Page, answer: bytes) -> LossyNetwork:
    """The page is told the answer as if the media server were at the other end of a network."""
    network = await stack.enter_async_context(LossyNetwork(parse(answer).media[0].port))
    await page.evaluate(ANSWERED, network.through(answer))
    return network


async def talking(stack: AsyncExitStack, house: House, page: Page) -> tuple[PlainPhone, LossyNetwork]:
    media = house.media
    network = await by_a_network(stack, page, await media.answer("c", "customer", await call(page)))
    phone = await stack.enter_async_context(PlainPhone(tone=PHONE, patience=1))
    offer = await media.offer("c", "agent", profile=Profile.RTP, like="customer")
    await media.accept("c", "agent", phone.answer(offer))
    phone.start()
    await media.join("c", "customer", "agent")
    await all_passes(page, phone)
    assert network._far, "by that network and no other way"
    return phone, network


async def all_passes(page: Page, phone: PlainPhone) -> None:
    shown, pictures = (await statistics(page))["framesDecoded"], phone.pictures
    await until(lambda: hears(page, PHONE), "the customer to hear the agent", seconds=15)
    await until(lambda: phone.hears(MICROPHONE), "the agent to hear the customer", seconds=15)
    await until(lambda: frames(page, shown + 15), "the customer to see the agent move", seconds=15)
    await until(lambda: phone.pictures > pictures + 15, "the agent to see the customer move", seconds=15)


@pytest.mark.interop
async def test_pictures_move_while_one_packet_in_twenty_is_lost(opened: Open, tmp_path: Path) -> None:
    async with opened() as house, chromium(tmp_path, loopback=False) as page, AsyncExitStack() as stack:
        phone, network = await talking(stack, house, page)
        network.loss = 0.05
        for _ in range(3):
            await all_passes(page, phone)
        assert network.lost > 5


@pytest.mark.interop
async def test_a_browser_that_restarts_ice_goes_on_by_its_new_path(opened: Open, tmp_path: Path) -> None:
    async with opened() as house, chromium(tmp_path, loopback=False) as page, AsyncExitStack() as stack:
        phone, network = await talking(stack, house, page)
        await page.evaluate(RESTART)
        offer = str(await page.evaluate(OFFER)).encode()
        answer = await house.media.answer("c", "customer", offer)
        other = await by_a_network(stack, page, answer)
        await until(lambda: len(other._far) > 0, "a check by the new path")
        network.loss = 1.0  # the old one is gone
        await all_passes(page, phone)
