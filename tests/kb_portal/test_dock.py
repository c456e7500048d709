"""The Help dock in Chromium, with answers of the API that a test gives: what a customer reads and may press."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Page, Route, async_playwright, expect

from tests.kb_portal.browser import Browser
from tests.peers.browser import CHROMIUM, DESKTOP, FLAGS

pytestmark = pytest.mark.interop

SOON_MS = 15_000.0
ON_THE_PHONE: dict[str, Any] = {
    "id": "c_1", "channel": "voice", "state": "connected", "agent": {"name": "Ana Keller"}, "by_phone": True,
    "on_hold": False, "supervisor": None, "recording": None, "connected_at": 1.0, "disposition": None,
    "call_back": None, "channels": [], "can_call_back": {"app": False, "phone": None}, "position": None,
}  # fmt: skip
STATUS, WORDS, YES, NO = "#help-status", "#recording-words", "#recording-yes", "#recording-no"


class Dock:
    """A page of Maria's in which a contact is open. `contact` is what the server says when it is asked."""

    def __init__(self, page: Page, contact: dict[str, Any]) -> None:
        self.page = page
        self.contact = contact
        self.posted: list[tuple[str, dict[str, Any]]] = []
        self._once_pressed: dict[str, Any] = {}

    async def answer(self, route: Route) -> None:
        path, body = urlsplit(route.request.url).path, route.request.post_data
        if path.endswith("/live"):
            # It ends at once, and the page asks again after so many milliseconds.
            state = f"retry: 100\nevent: state\ndata: {json.dumps(self.contact)}\n\n"
            await route.fulfill(content_type="text/event-stream", body=state)
            return
        if body is not None:
            self.posted.append((path.rpartition("/")[2], json.loads(body)))
            self.told(**self._once_pressed)
        await route.fulfill(json=self.contact)

    def told(self, **changed: Any) -> None:
        self.contact = {**self.contact, **changed}

    async def presses(self, place: str, **changed: Any) -> None:
        """What has changed then is told in the answer, and not before: the button might be gone."""
        self._once_pressed = changed
        await self.page.click(place)

    async def reads(self, place: str, text: str) -> None:
        await expect(self.page.locator(place)).to_have_text(text, timeout=SOON_MS)

    async def offers(self, place: str, text: str | None) -> None:
        button = self.page.locator(place)
        if text is None:
            await expect(button).to_be_hidden(timeout=SOON_MS)
        else:
            await expect(button).to_be_visible(timeout=SOON_MS)
            await self.reads(place, text)


Opens = Callable[..., Any]


@pytest.fixture
def opens(new_browser: Callable[[], Browser]) -> Opens:
    """Opens the dock of a contact like ON_THE_PHONE, but for what is named."""
    portal = new_browser().origin

    @asynccontextmanager
    async def opened(**different: Any) -> AsyncIterator[Dock]:
        async with async_playwright() as playwright:
            chromium = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            page = await chromium.new_page(viewport=DESKTOP, reduced_motion="reduce")  # type: ignore[arg-type]
            dock = Dock(page, {**ON_THE_PHONE, **different})
            await page.route("**/api/**", dock.answer)
            await page.goto(f"{portal}/login")
            await page.fill("input[name=email]", "maria@example.org")
            await page.fill("input[name=password]", "maria-demo")
            await page.click("form [type=submit]")
            await page.wait_for_selector("#help[data-open]")
            try:
                yield dock
            finally:
                await chromium.close()

    return opened


def recording(state: str, mode: str = "ask", *, kept: bool = False) -> dict[str, Any]:
    return {"mode": mode, "state": state, "may_choose": mode != "always", "kept": kept}


async def test_who_stops_the_recording_reads_what_is_kept_and_may_agree_again(opens: Opens) -> None:
    async with opens(recording=recording("recording")) as dock:
        await dock.reads(WORDS, "Recorded")
        await dock.offers(YES, None)
        await dock.presses(NO, recording=recording("refused", kept=True))
        await dock.reads(WORDS, "No longer recorded. What was recorded until now is kept.")
        await dock.offers(NO, None)
        await dock.offers(YES, "Record again")
        await dock.presses(YES, recording=recording("recording", kept=True))
        await dock.reads(WORDS, "Recorded")
        assert dock.posted == [("recording", {"allow": False}), ("recording", {"allow": True})]


async def test_who_has_refused_before_anything_was_recorded_may_agree_later(opens: Opens) -> None:
    async with opens(recording=recording("refused")) as dock:
        await dock.reads(WORDS, "This call is not recorded.")
        await dock.offers(YES, "Allow recording")
        dock.told(recording=recording("failed"))
        await dock.offers(YES, None)
        dock.told(recording=recording("asked"))
        await dock.offers(YES, "Yes")
        await dock.offers(NO, "No")


async def test_it_says_who_has_put_them_on_hold_and_who_has_joined(opens: Opens) -> None:
    async with opens() as dock:
        talking = "You are talking with Ana on your telephone."
        await dock.reads(STATUS, talking)
        dock.told(on_hold=True)
        await dock.reads(STATUS, "Ana has put you on hold.")
        dock.told(on_hold=False, supervisor={"name": "Carla Weber"})
        await dock.reads(STATUS, f"{talking} Carla has joined the call.")
        dock.told(supervisor=None)
        await dock.reads(STATUS, talking)


async def test_video_is_offered_in_a_call_of_the_pages_own_where_the_agents_phone_can_show_it(
    opens: Opens,
) -> None:
    async with opens(by_phone=False, agent_video=None) as dock:
        button, why = dock.page.locator("#help-video"), "#help-no-video"
        await dock.offers("#help-video", "Add video")
        await expect(button).to_be_enabled(timeout=SOON_MS)
        await dock.offers(why, None)
        dock.told(agent_video=False)
        await dock.offers(why, "Ana’s phone cannot show pictures.")
        await expect(button).to_be_disabled()
        dock.told(agent_video=True, on_hold=True)
        await dock.offers(why, "You can add video when you are off hold.")
        await expect(button).to_be_disabled()
        dock.told(on_hold=False)
        await dock.offers(why, None)
        await expect(button).to_be_enabled()
        dock.told(by_phone=True)
        await dock.offers("#help-video", None)
        await dock.offers(why, None)


@pytest.mark.parametrize("comment", ["", "It was the valve."])
async def test_the_thanks_stand_there_until_they_are_closed(opens: Opens, comment: str) -> None:
    async with opens() as dock:
        dock.told(state="ended", disposition="agent_hung_up")
        await dock.page.click("#feedback-yes")
        await dock.page.fill("#feedback-comment", comment)
        await dock.page.click("#feedback-send")
        await expect(dock.page.locator("#feedback-thanks")).to_be_visible(timeout=SOON_MS)
        for gone in ("#feedback-question", "#feedback-answers", "#feedback-more"):
            await dock.offers(gone, None)
        said = [body for path, body in dock.posted if path == "feedback"]
        assert said[-1] == ({"helped": True, "comment": comment} if comment else {"helped": True})
        await dock.page.click("#help-close")
        await dock.reads("#help-button-text", "Get help")


async def test_nobody_is_asked_whether_it_helped_when_the_server_stopped(opens: Opens) -> None:
    async with opens() as dock:
        dock.told(state="ended", disposition="server_stopped")
        await dock.reads(STATUS, "The help desk has closed for a moment. Please try again in a minute.")
        await dock.offers("#feedback-question", None)
        await dock.offers("#feedback-yes", None)
        await dock.page.click("#help-close")
        await dock.reads("#help-button-text", "It has ended")


@pytest.mark.parametrize(("width", "height"), [(640, 480), (480, 640), (1280, 720)])
async def test_the_whole_of_the_agents_picture_is_in_sight(opens: Opens, width: int, height: int) -> None:
    async with opens(channel="video") as dock:
        # Who is on their telephone is shown no picture: it is put there as in a call of the page's.
        await dock.page.evaluate(
            """([width, height]) => {
              const canvas = Object.assign(document.createElement('canvas'), {width, height});
              setInterval(() => canvas.getContext('2d').fillRect(0, 0, width, height), 50);
              document.querySelector('#remote-video').srcObject = canvas.captureStream();
              document.querySelector('.stage').style.setProperty('display', 'grid', 'important');
            }""",
            [width, height],
        )
        await expect(dock.page.locator("#help[data-picture]")).to_have_count(1, timeout=SOON_MS)
        stage, picture = dock.page.locator(".stage"), dock.page.locator("#remote-video")
        around = await stage.bounding_box()
        assert around is not None
        assert around["height"] > 300
        assert await picture.bounding_box() == around, "what is beyond the stage is cut off"
        assert await picture.evaluate("video => getComputedStyle(video).objectFit") == "contain"
