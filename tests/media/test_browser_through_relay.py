"""Chromium through the media process to a plain RTP phone: real DTLS-SRTP, real sound, real pictures."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, async_playwright

from media.process import MediaProcess
from media.server import Profile
from tests.media.phone import SIZE, PlainPhone
from tests.peers.browser import CHROMIUM, FLAGS, KEEP_CONNECTIONS, STATISTICS, TONE, write_tone
from tests.peers.process import free_range, until

MICROPHONE, PHONE = 620, 1000

PREPARE = """
async (video) => {
  const media = await navigator.mediaDevices.getUserMedia({audio: true, video: video && {width: 320, height: 240}});
  const connection = window.connection = new RTCPeerConnection();
  media.getTracks().forEach((track) => connection.addTrack(track, media));
  connection.ontrack = (event) => {  // Chromium decodes only what something plays
    const player = document.createElement(event.track.kind);
    player.autoplay = true;
    player.srcObject = new MediaStream([event.track]);
    document.body.append(player);
  };
}
"""
OFFER = """
async () => {
  await window.connection.setLocalDescription();
  return window.connection.localDescription.sdp;
}
"""
ANSWERED = "(sdp) => window.connection.setRemoteDescription({type: 'answer', sdp})"
OFFERED = """
async (sdp) => {
  await window.connection.setRemoteDescription({type: 'offer', sdp});
  await window.connection.setLocalDescription();
  return window.connection.localDescription.sdp;
}
"""


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prompts")


@asynccontextmanager
async def chromium(folder: Path, *, loopback: bool) -> AsyncIterator[Page]:
    tone = write_tone(folder / "microphone.wav", MICROPHONE)
    flags = [*FLAGS, f"--use-file-for-fake-audio-capture={tone}"]
    if loopback:
        flags.append("--allow-loopback-in-peer-connection")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        context = await browser.new_context(permissions=["camera", "microphone"])
        await context.add_init_script(KEEP_CONNECTIONS)
        await context.route("**/*", lambda route: route.fulfill(content_type="text/html", body="<p>Help</p>"))
        page = await context.new_page()
        await page.goto("http://localhost/")
        yield page
        await browser.close()


async def call(page: Page) -> bytes:
    """The page's offer of sound and pictures."""
    await page.evaluate(PREPARE, True)
    return str(await page.evaluate(OFFER)).encode()


async def hears(page: Page, frequency: int) -> bool:
    heard, level = map(float, await page.evaluate(TONE, 300))
    return level > -70 and abs(heard - frequency) < 0.03 * frequency


async def hears_anything(page: Page) -> bool:
    _, level = await page.evaluate(TONE, 300)
    return float(level or -200) > -75


async def hears_other_than(page: Page, frequency: int) -> bool:
    return await hears_anything(page) and not await hears(page, frequency)


async def statistics(page: Page) -> dict[str, Any]:
    found: dict[str, Any] = await page.evaluate(STATISTICS)
    return found


async def frames(page: Page, more_than: int) -> bool:
    return bool((await statistics(page))["framesDecoded"] > more_than)


@asynccontextmanager
async def media_process(prompts: Path) -> AsyncIterator[MediaProcess]:
    process = await MediaProcess.start(
        host="127.0.0.1", public="127.0.0.1", ports=free_range(32), prompts=prompts
    )
    try:
        yield process
    finally:
        await process.stop()


@pytest.mark.interop
@pytest.mark.parametrize("loopback", [True, False], ids=["loopback allowed", "as users run it"])
async def test_music_and_then_video_with_a_plain_phone(tmp_path: Path, prompts: Path, loopback: bool) -> None:
    async with media_process(prompts) as process, chromium(tmp_path, loopback=loopback) as page:
        media = process.media
        gone: list[tuple[str, str, str]] = []
        media.on_gone = lambda *news: gone.append(news)
        answer = await media.answer("c", "customer", await call(page))
        await media.play("c", "customer", "music", repeat=True)
        await page.evaluate(ANSWERED, answer.decode())
        await until(lambda: hears_anything(page), "the music to be heard")

        async with PlainPhone(tone=PHONE) as phone:
            offer = await media.offer("c", "agent", profile=Profile.RTP, like="customer")
            await media.accept("c", "agent", phone.answer(offer))
            assert await media.compatible("c", "customer", "agent")
            phone.start()
            await media.join("c", "customer", "agent")
            await until(lambda: hears(page, PHONE), "the customer to hear the agent")
            await until(lambda: phone.hears(MICROPHONE), "the agent to hear the customer")
            await until(
                lambda: frames(page, 15), "the customer to see the agent, once a key frame was asked for"
            )
            assert phone.requests >= 3
            await until(lambda: phone.pictures > 15, "the agent to see the customer")
            assert phone.picture_size == SIZE

            await media.part("c", "customer", "agent")
            await media.play("c", "customer", "music", repeat=True)
            await until(
                lambda: hears_other_than(page, PHONE), "the music to be heard again, and nothing else"
            )
            before = (await statistics(page))["framesDecoded"]
            await media.join("c", "customer", "agent")
            await until(lambda: hears(page, PHONE), "the customer to hear the agent again")
            await until(lambda: frames(page, before + 15), "the customer to see the agent again")

            await page.evaluate("window.connection.close()")
            await until(lambda: len(gone) == 1, "the news that the browser is gone", seconds=3)
            assert gone == [("c", "customer", "DTLS: closed by the peer")]


@pytest.mark.interop
async def test_a_browser_is_offered_again_where_the_phone_has_another_codec(
    tmp_path: Path, prompts: Path
) -> None:
    async with media_process(prompts) as process, chromium(tmp_path, loopback=False) as page:
        media = process.media
        answer = await media.answer("c", "customer", await call(page))
        await page.evaluate(ANSWERED, answer.decode())
        await media.play("c", "customer", "music", repeat=True)
        await until(lambda: hears_anything(page), "the music to be heard")
        async with PlainPhone(tone=PHONE, codec="PCMU") as phone:
            offer = await media.offer("c", "agent", profile=Profile.RTP, like="customer")
            await media.accept("c", "agent", phone.answer(offer))
            assert not await media.compatible("c", "customer", "agent")
            again = await media.offer("c", "customer", profile=Profile.WEBRTC, like="agent")
            await media.accept("c", "customer", (await page.evaluate(OFFERED, again.decode())).encode())
            assert await media.compatible("c", "customer", "agent")
            phone.start()
            await media.join("c", "customer", "agent")
            await until(lambda: hears(page, PHONE), "the customer to hear the agent")
            await until(lambda: phone.hears(MICROPHONE), "the agent to hear the customer")
            await until(lambda: frames(page, 15), "the customer to see the agent")


@pytest.mark.interop
async def test_a_browser_can_be_called_too(tmp_path: Path, prompts: Path) -> None:
    async with media_process(prompts) as process, chromium(tmp_path, loopback=False) as page:
        media = process.media
        async with PlainPhone(tone=PHONE) as phone:
            await media.accept(
                "c", "phone", phone.answer(await media.offer("c", "phone", profile=Profile.RTP))
            )
            phone.start()
            await page.evaluate(PREPARE, False)
            offer = await media.offer("c", "browser", profile=Profile.WEBRTC, like="phone")
            await media.accept("c", "browser", (await page.evaluate(OFFERED, offer.decode())).encode())
            await media.join("c", "phone", "browser")
            await until(lambda: hears(page, PHONE), "the browser to hear the phone")
            await until(lambda: phone.hears(MICROPHONE), "the phone to hear the browser")
