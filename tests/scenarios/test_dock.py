"""The Help dock on bad days: lost networks, lost servers, two tabs, two browsers, a login that has ended."""

from __future__ import annotations

from pathlib import Path

from playwright.async_api import Page, Route

from tests.peers.browser import Customer
from tests.peers.people import BOILER_ARTICLE, Reader
from tests.peers.process import until
from tests.peers.warmline import Warmline

# Every track the page was ever lent: at the end none may be live, or the camera's light stays on.
KEEP_TRACKS = """
window.testTracks = [];
const lend = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
navigator.mediaDevices.getUserMedia = async (wish) => {
  const stream = await lend(wish);
  window.testTracks.push(...stream.getTracks());
  return stream;
};
"""


async def wait_in_a_chat(maria: Reader) -> str:
    """Nobody is at work; the page finds its waiting contact again when it is loaded."""
    contact = await maria.request_by_api("chat", "boiler-200")
    await maria.page.reload()
    await maria.reaches("waiting")
    return str(contact["id"])


async def help_is_at_hand(server: Warmline) -> None:
    await server.event("device.registered")
    await server.agent_is("agent-robin", "Ready", seconds=30)


async def shown(page: Page, selector: str, words: str) -> bool:
    place = page.locator(selector)
    return await place.is_visible() and words in await place.inner_text()


async def test_a_wait_says_that_the_server_is_gone_and_goes_on_when_it_is_back(tmp_path: Path) -> None:
    async with Warmline(tmp_path) as server, Reader(tmp_path, server, BOILER_ARTICLE) as maria:
        await wait_in_a_chat(maria)
        assert await shown(maria.page, "#help-status", "You are next")
        await server.kill()
        await until(lambda: shown(maria.page, "#help-status", "Connection lost"), "the loss to be told")
        await server.start()
        await until(
            lambda: shown(maria.page, "#help-status", "You are next"), "the wait to go on", seconds=20
        )
        assert await maria.in_state("waiting")


async def test_who_leaves_while_the_server_cannot_be_reached_has_left_when_it_can(tmp_path: Path) -> None:
    async with Warmline(tmp_path) as server, Reader(tmp_path, server, BOILER_ARTICLE) as maria:
        contact = await wait_in_a_chat(maria)
        lost = 0

        async def lose(route: Route) -> None:
            nonlocal lost
            lost += 1
            await (route.abort() if lost <= 2 else route.continue_())

        await maria.page.route("**/end", lose)
        await maria.hang_up()
        assert await maria.in_state("ended")
        ended = await server.event("contact.ended", contact_id=contact)
        assert ended["facts"]["disposition"] == "customer_gave_up"


async def test_a_link_pressed_without_a_network_costs_neither_page_nor_chat(tmp_path: Path) -> None:
    async with Warmline(tmp_path) as server, Reader(tmp_path, server, BOILER_ARTICLE) as maria:
        await wait_in_a_chat(maria)
        await maria.context.set_offline(True)
        await maria.page.click("nav >> text=Search")
        await until(
            lambda: shown(maria.page, "#page-trouble", "cannot reach"), "the page to say why it does not move"
        )
        assert await maria.in_state("waiting")
        await maria.context.set_offline(False)
        await maria.page.click("nav >> text=Search")
        await maria.page.wait_for_url("**/search")
        assert not await maria.page.locator("#page-trouble").is_visible()
        assert await maria.in_state("waiting")


async def test_back_after_the_login_has_ended_leads_to_the_login(tmp_path: Path) -> None:
    async with Warmline(tmp_path) as server, Reader(tmp_path, server, BOILER_ARTICLE) as maria:
        await maria.page.click(".crumbs >> text=Boiler 200")
        await maria.page.wait_for_url("**/products/boiler-200")
        other = await maria.context.new_page()
        await other.goto(f"{server.portal}/account")
        await other.click("text=Log out")
        await other.wait_for_url("**/login")
        await maria.page.go_back()
        await maria.page.wait_for_selector("input[name=password]")
        assert "Pressure" not in await maria.page.inner_text("main")


async def test_two_tabs_never_take_a_call_from_each_other(tmp_path: Path) -> None:
    async with (
        Warmline(tmp_path, robot_agent="on") as server,
        Reader(tmp_path, server, BOILER_ARTICLE) as maria,
    ):
        await help_is_at_hand(server)
        other = await maria.context.new_page()
        await other.goto(maria.page.url)
        await maria.page.bring_to_front()
        await maria.ask_for("voice")
        await maria.reaches("connected", seconds=30)
        for channel, told in (("voice", "another tab"), ("chat", "Please end that first")):
            await other.bring_to_front()
            if not await other.locator("#help-sheet").is_visible():
                await other.click("#help-button")
            await other.click(f"[data-channel={channel}]")
            trouble = other.locator("#help-trouble", has_text=told)
            await until(trouble.is_visible, f"“{told}” in the other tab")
        await other.click("#help-actions >> text=Go on with it")
        await until(lambda: shown(other, "#help-trouble", "another tab"), "where to go on")
        assert await maria.in_state("connected")
        assert server.kinds().count("contact.invited") == 1


async def test_a_call_taken_over_by_another_browser_is_not_taken_back(tmp_path: Path) -> None:
    async with (
        Warmline(tmp_path, robot_agent="on") as server,
        Reader(tmp_path, server, BOILER_ARTICLE) as phone,
        Customer(tmp_path, server.portal, tone=740) as desktop,
    ):
        await help_is_at_hand(server)
        await phone.context.add_init_script(KEEP_TRACKS)
        await phone.page.reload()
        await phone.ask_for("video")
        await phone.reaches("connected", seconds=30)
        await desktop.log_in("maria@example.org", "maria-demo")
        await desktop.reaches("connected", seconds=20)
        await until(lambda: shown(phone.page, "#help-trouble", "another browser"), "the phone to be told")
        assert await tracks(phone.page) == ["ended", "ended"]
        await phone.page.wait_for_timeout(4000)
        assert server.kinds().count("contact.invited") == 2
        assert await desktop.in_state("connected")
        await desktop.hang_up()
        await server.event("contact.ended")


async def test_a_call_says_that_its_line_is_interrupted_and_then_that_it_is_lost(tmp_path: Path) -> None:
    async with (
        Warmline(tmp_path, robot_agent="on") as server,
        Reader(tmp_path, server, BOILER_ARTICLE) as maria,
    ):
        await help_is_at_hand(server)
        await maria.context.add_init_script(KEEP_TRACKS)
        await maria.page.reload()
        await maria.ask_for("video")
        await maria.reaches("connected", seconds=30)
        await server.event(
            "contact.connected"
        )  # stored: one that is cut sooner waits again, and is answered anew
        await server.kill()
        await until(
            lambda: shown(maria.page, "#help-status", "interrupted"), "the silence to be told", seconds=40
        )
        await server.start()
        await maria.reaches("ended", seconds=60)
        assert await shown(maria.page, "#help-status", "was lost")
        assert await tracks(maria.page) == ["ended", "ended"]


async def test_a_line_says_that_it_was_delivered_also_after_a_reload(tmp_path: Path) -> None:
    async with (
        Warmline(tmp_path, robot_agent="on") as server,
        Reader(tmp_path, server, BOILER_ARTICLE) as maria,
    ):
        await help_is_at_hand(server)
        await maria.ask_for("chat")
        await maria.reaches("connected", seconds=30)
        await maria.say("Is it the valve?")
        line = maria.page.locator('#chat-log li[data-delivery="delivered"]', has_text="Is it the valve?")
        await until(line.is_visible, "the line to be marked delivered")
        await maria.page.reload()
        await maria.reaches("connected")
        await until(line.is_visible, "it to be marked so after a reload")


async def test_by_keyboard_on_a_small_phone_from_the_button_to_the_thanks(tmp_path: Path) -> None:
    small = {"width": 320, "height": 560}
    async with (
        Warmline(tmp_path, robot_agent="on") as server,
        Reader(tmp_path, server, BOILER_ARTICLE, viewport=small) as maria,
    ):
        await help_is_at_hand(server)
        page = maria.page
        await page.focus("#help-button")
        await page.keyboard.press("Enter")
        await page.focus("[data-channel=chat]")
        await page.keyboard.press("Enter")
        await maria.reaches("connected", seconds=30)
        assert await focused(page) == "help-title"
        await page.focus("#chat-input")
        await page.keyboard.type("W" * 200)
        await page.keyboard.press("Enter")
        await until(page.locator('[data-delivery="delivered"]').is_visible, "the line to be delivered")
        await page.focus("#help-hangup")
        await page.keyboard.press("Enter")
        await maria.reaches("ended")
        assert await focused(page) == "help-title"
        assert await page.evaluate(
            "document.querySelector('#chat-log').getBoundingClientRect().bottom"
            " <= document.querySelector('#feedback-question').getBoundingClientRect().top"
        ), "the question covers the lines"
        await page.focus("#feedback-yes")
        await page.keyboard.press("Enter")
        await until(page.locator("#feedback-comment").is_visible, "room for a comment")
        await page.focus("#feedback-comment")
        await page.keyboard.type("It was the valve.")
        await page.focus("#feedback-send")
        await page.keyboard.press("Enter")
        await until(page.locator("#feedback-thanks").is_visible, "the thanks")
        assert await focused(page) == "help-title"
        assert (await server.event("contact.feedback"))["facts"]["helped"] is True
        assert await page.evaluate("document.documentElement.scrollWidth") <= small["width"]


async def tracks(page: Page) -> list[str]:
    """The states of the camera's and the microphone's tracks, of all that the page was lent."""
    found: list[str] = await page.evaluate("window.testTracks.map((track) => track.readyState)")
    return found


async def focused(page: Page) -> str:
    return str(await page.evaluate("document.activeElement.id"))
