"""Draws every page as people see it into docs/screenshots: ``python -m tools.screenshots``.

A server of its own, a real browser in both sizes, and baresip as the agent's phone.
"""

import asyncio
import tempfile
from pathlib import Path

from tests.peers.baresip import Baresip
from tests.peers.browser import DESKTOP, PHONE
from tests.peers.people import BOILER_ARTICLE, CAMERA_ARTICLE, Reader, make_ready, phone
from tests.peers.process import until
from tests.peers.warmline import ROOT, Warmline

FOLDER = ROOT / "docs" / "screenshots"
READING = {
    "home": "/",
    "product": "/products/boiler-200",
    "article": f"/articles/{BOILER_ARTICLE}",
    "search": "/search?q=pressure",
    "account": "/account",
    "trust": "/trust",
    "not-found": "/articles/no-such-article",
}


class Camera:
    """Takes pictures of one size; `full` shows the whole page, not only the first screen."""

    def __init__(self, size: str, viewport: dict[str, int]) -> None:
        self.size = size
        self.viewport = viewport

    async def shoot(self, reader: Reader, name: str, *, full: bool = False) -> None:
        await reader.page.wait_for_timeout(350)
        await reader.page.screenshot(path=FOLDER / f"{name}-{self.size}.png", full_page=full)


async def portal(camera: Camera, folder: Path, server: Warmline, ana: Baresip) -> None:
    async with Reader(folder, server, BOILER_ARTICLE, viewport=camera.viewport) as maria:
        for name, path in READING.items():
            await maria.page.goto(server.portal + path)
            await camera.shoot(maria, name, full=name == "article")
        await maria.read(BOILER_ARTICLE)
        await maria.page.click("#help-button")
        await maria.page.wait_for_selector("[data-channel=video]")
        await camera.shoot(maria, "help-choosing")
        before = len(ana.seen("CALL_INCOMING"))
        await maria.page.click("[data-channel=video]")
        await ana.event("CALL_INCOMING", count=before + 1)
        await maria.reaches("ringing")
        await camera.shoot(maria, "help-ringing")
        await agent_pages(camera, server, maria, "ringing")
        await ana.accept()
        await maria.reaches("connected")
        await until(maria.sees_moving_pictures, "pictures")
        await camera.shoot(maria, "help-video")
        await agent_pages(camera, server, maria, "talking")
        await maria.hang_up()
        await maria.reaches("ended")
        await camera.shoot(maria, "help-feedback")
        await server.agent_is("agent-ana", "Ready")


async def chat(camera: Camera, folder: Path, server: Warmline, deniz: Baresip) -> None:
    async with Reader(folder, server, CAMERA_ARTICLE, viewport=camera.viewport) as maria:
        before = len(deniz.seen("CALL_INCOMING"))
        await maria.ask_for("chat")
        await deniz.event("CALL_INCOMING", count=before + 1)
        await deniz.accept()
        await maria.reaches("connected")
        contact = (
            server.events()[-1]["contact_id"]
            or server.rows("SELECT id FROM contact ORDER BY asked_at DESC")[0]["id"]
        )
        await maria.say("The blue light blinks, but the app finds nothing.")
        await until(lambda: len(deniz.texts()) > 0, "her line")
        await deniz.send_message(
            f"sip:{contact}@127.0.0.1", "Hello Maria! Is your phone on the 2.4 GHz network?"
        )
        await until(lambda: _shows(maria, "2.4 GHz"), "the answer")
        await maria.say("Yes – since this morning.")
        await maria.page.wait_for_timeout(800)
        await camera.shoot(maria, "help-chat")
        await maria.hang_up()
        await maria.reaches("ended")
        await server.agent_is("agent-deniz", "Ready")


async def _shows(reader: Reader, text: str) -> bool:
    return text in await reader.chat()


async def agent_pages(camera: Camera, server: Warmline, maria: Reader, state: str) -> None:
    """The agent's own browser, beside the customer's."""
    page = await maria.context.new_page()
    try:
        await page.goto(f"{server.portal}/agent/login")
        if state == "ringing" and await page.locator("input[name=password]").count():
            await page.screenshot(path=FOLDER / f"agent-login-{camera.size}.png")
        if await page.locator("input[name=password]").count():
            await page.fill("input[name=login]", "ana")
            await page.fill("input[name=password]", "ana-agent")
            await page.click("form [type=submit]")
            await page.wait_for_url(lambda url: "login" not in url)
        await page.wait_for_timeout(700)
        await page.screenshot(path=FOLDER / f"agent-{state}-{camera.size}.png")
        if state == "talking":
            contact = server.rows("SELECT id FROM contact ORDER BY asked_at DESC")[0]["id"]
            await page.goto(f"{server.portal}/context/{contact}")
            await page.wait_for_timeout(400)
            await page.screenshot(path=FOLDER / f"context-{camera.size}.png", full_page=True)
    finally:
        await page.close()


async def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="warmline-pictures-") as name:
        folder = Path(name)
        async with (
            Warmline(folder, wrap_up_s=0) as server,
            phone(folder, server, "ana") as ana,
            phone(folder, server, "deniz", video=False) as deniz,
        ):
            await make_ready(server, ana)
            await make_ready(server, deniz)
            for size, viewport in (("phone", PHONE), ("desktop", DESKTOP)):
                camera = Camera(size, viewport)
                async with Reader(folder, server, BOILER_ARTICLE, viewport=viewport) as stranger:
                    await stranger.context.clear_cookies()
                    await stranger.page.goto(f"{server.portal}/login")
                    await camera.shoot(stranger, "login")
                await portal(camera, folder, server, ana)
                await chat(camera, folder, server, deniz)


if __name__ == "__main__":
    asyncio.run(main())
