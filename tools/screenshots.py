"""Draws every page as people see it into docs/screenshots: ``python -m tools.screenshots``.

A server of its own, a real browser in both sizes, and baresip as the agent's phone.
"""

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Page

from tests.peers.baresip import Baresip
from tests.peers.browser import DESKTOP, PHONE
from tests.peers.people import BOILER_ARTICLE, CAMERA_ARTICLE, Reader, make_ready, phone
from tests.peers.process import free_sip_port, until
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
        await self.shoot_page(reader.page, name, full=full)

    async def shoot_page(self, page: Page, name: str, *, full: bool = False) -> None:
        await page.wait_for_timeout(350)
        await page.screenshot(path=FOLDER / f"{name}-{self.size}.png", full_page=full)


async def waiting(camera: Camera, folder: Path, server: Warmline) -> None:
    """Jonas is first in line and Maria second, while nobody is ready who knows boilers; a supervisor looks on."""
    async with (
        Reader(folder, server, BOILER_ARTICLE, person="jonas", viewport=camera.viewport) as jonas,
        Reader(folder, server, BOILER_ARTICLE, viewport=camera.viewport) as maria,
    ):
        await waits_for_a_call(server, jonas)
        contact = await waits_for_a_call(server, maria)
        await maria.page.wait_for_selector("text=You are number 2")
        await camera.shoot(maria, "help-waiting")
        await maria.page.click("#help-call-back")
        await camera.shoot(maria, "help-call-back")
        await maria.page.click("#help-way-app")
        await maria.page.wait_for_selector("#help-stay:visible")
        await camera.shoot(maria, "help-called-back")
        async with logged_in(server, maria, "carla") as page:
            await page.goto(f"{server.portal}/agent/supervisor")
            await camera.shoot_page(page, "supervisor", full=True)
            await page.goto(f"{server.portal}/agent/supervisor/contacts/{contact}/why")
            await camera.shoot_page(page, "supervisor-why", full=True)
            await page.goto(f"{server.portal}/agent/supervisor/rules/thermea?q=boiler")
            await camera.shoot_page(page, "supervisor-rules", full=True)
        for customer in (maria, jonas):
            await customer.hang_up()
            await customer.reaches("ended")


async def waits_for_a_call(server: Warmline, customer: Reader) -> str:
    """They wait in the queue; by the API, since the page's buttons say that nobody is there. The contact's id."""
    contact = str((await customer.request_by_api("voice", "boiler-200", BOILER_ARTICLE))["id"])
    await customer.page.reload()
    await server.event("contact.queued", contact_id=contact)
    return contact


async def portal(camera: Camera, folder: Path, server: Warmline, ana: Baresip, bo: Baresip) -> None:
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
        async with logged_in(server, maria, "ana") as page:
            await with_a_customer(camera, page, bo)
            await maria.hang_up()
            await maria.reaches("ended")
            await camera.shoot(maria, "help-feedback")
            await page.wait_for_selector("button:has-text('Done')")
            await page.check("input[value=wrong-skill]")
            await camera.shoot_page(page, "agent-wrap-up", full=True)
            await page.check("input[value=resolved]")
            await page.click("button:has-text('Done')")
        await server.agent_is("agent-ana", "Ready")


async def with_a_customer(camera: Camera, page: Page, bo: Baresip) -> None:
    """What the agent may do while they talk: hold, find somebody, ask them, all three, and back."""
    await page.click("button:has-text('Hold')")
    await page.wait_for_selector("button:has-text('Resume')")
    await camera.shoot_page(page, "agent-on-hold", full=True)
    await page.click("button:has-text('Resume')")
    await page.wait_for_selector("button:has-text('Hold')")
    await page.click("summary:has-text('Ask or pass on')")
    await page.fill("input[type=search]", "i")
    await page.wait_for_selector(".candidate")
    await camera.shoot_page(page, "agent-passing-on", full=True)
    await page.fill("input[type=search]", "lindq")
    before = len(bo.seen("CALL_INCOMING"))
    await page.click("button[aria-label^='Ask first: Bo']")
    await bo.event("CALL_INCOMING", count=before + 1)
    await bo.accept()
    await page.wait_for_selector("text=You are talking with Bo Lindqvist")
    await camera.shoot_page(page, "agent-asking", full=True)
    await page.click("text=All three")
    await page.wait_for_selector("button:has-text('Leave the two')")
    await camera.shoot_page(page, "agent-conference", full=True)
    await page.click("button:has-text('Without Bo')")
    await page.wait_for_selector("button:has-text('Hold')")


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
        await server.agent_is("agent-deniz", "Ready", seconds=45)


async def recorded(camera: Camera, folder: Path, server: Warmline, ana: Baresip) -> None:
    """A call that Maria lets be recorded; a supervisor sees how it is heard, and then what was recorded."""
    async with Reader(folder, server, BOILER_ARTICLE, viewport=camera.viewport) as maria:
        before = len(ana.seen("CALL_INCOMING"))
        await maria.ask_for("video")
        await ana.event("CALL_INCOMING", count=before + 1)
        await ana.accept()
        await maria.reaches("connected")
        await until(maria.sees_moving_pictures, "pictures")
        await camera.shoot(maria, "help-recording")
        await maria.page.click("#recording-yes")
        await maria.page.wait_for_selector("text=Recorded")
        async with logged_in(server, maria, "ana") as page:
            await page.wait_for_selector("button:has-text('Pause recording')")
            await camera.shoot_page(page, "agent-recording", full=True)
            await page.click("button:has-text('Log out')")
        async with logged_in(server, maria, "carla") as page:
            await page.goto(f"{server.portal}/agent/calls")
            await page.wait_for_selector(".heard [data-grade]:not([data-grade=unknown])")
            await camera.shoot_page(page, "supervisor-calls", full=True)
            await maria.hang_up()
            await maria.reaches("ended")
            await page.goto(f"{server.portal}/agent/recordings")
            player = page.locator("video").first
            await player.evaluate("video => { video.muted = true; return video.play(); }")
            await until(lambda: player.evaluate("video => video.currentTime > 2"), "two seconds of it")
            await player.evaluate("video => video.pause()")
            await camera.shoot_page(page, "supervisor-recordings", full=True)
    await server.agent_is("agent-ana", "Ready", seconds=45)


async def _shows(reader: Reader, text: str) -> bool:
    return text in await reader.chat()


@asynccontextmanager
async def logged_in(server: Warmline, reader: Reader, agent: str) -> AsyncIterator[Page]:
    """That agent's page, beside the customer's."""
    page = await reader.context.new_page()
    try:
        await page.goto(f"{server.portal}/agent/login")
        if await page.locator("input[name=password]").count():
            await page.fill("input[name=login]", agent)
            await page.fill("input[name=password]", f"{agent}-agent")
            await page.click("form [type=submit]")
        await page.wait_for_selector("#live[data-live=on]")
        yield page
    finally:
        await page.close()


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
        trunk = {
            "name": "carrier",
            "peers": [f"127.0.0.1:{free_sip_port()}"],
            "options_s": 0,
            "dial": ["+1555"],
        }
        async with (
            Warmline(folder, wrap_up_s=30, trunks=json.dumps([trunk])) as server,
            phone(folder, server, "ana") as ana,
            phone(folder, server, "bo", video=False) as bo,
            phone(folder, server, "deniz", video=False) as deniz,
        ):
            await make_ready(server, deniz)
            cameras = [Camera("phone", PHONE), Camera("desktop", DESKTOP)]
            for camera in cameras:
                await waiting(camera, folder, server)
            await make_ready(server, ana)
            for camera in cameras:
                async with Reader(folder, server, BOILER_ARTICLE, viewport=camera.viewport) as stranger:
                    await stranger.context.clear_cookies()
                    await stranger.page.goto(f"{server.portal}/login")
                    await camera.shoot(stranger, "login")
                await portal(camera, folder, server, ana, bo)
                await chat(camera, folder, server, deniz)
        asks = json.dumps([{"name": "default", "recording": "ask"}])
        async with (
            Warmline(folder / "recorded", wrap_up_s=0, queues=asks) as server,
            phone(folder / "recorded", server, "ana") as ana,
        ):
            await make_ready(server, ana)
            for camera in cameras:
                await recorded(camera, folder, server, ana)


if __name__ == "__main__":
    asyncio.run(main())
