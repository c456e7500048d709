"""Pictures that come into a call while it goes on, leave it again, or are refused; the sound goes on all the time.

One server serves all of it. Either side begins: the agent's browser, or the customer in the page.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from tests.conftest import run
from tests.peers.agent_page import AgentPage
from tests.peers.baresip import Baresip
from tests.peers.browser_phone import BrowserPhone
from tests.peers.people import (
    BOILER_ARTICLE,
    CAMERA_ARTICLE,
    Reader,
    has_colours,
    make_ready_by_page,
    phone_hears,
)
from tests.peers.process import until
from tests.scenarios.test_hold import arriving
from tests.scenarios.test_media_pairs import House

CARLA, MARIA, BARESIP = 1000, 620, 880  # Hz
LONG = 30.0  # seconds: for a machine that does much else


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    made = House(tmp_path_factory.mktemp("house"))
    try:
        run(made.start())
        yield made
    finally:
        run(made.stop())


@asynccontextmanager
async def carla_calls(house: House, user: str, **options: Any) -> AsyncIterator[tuple[BrowserPhone, Baresip]]:
    """Carla's browser has called that user's baresip, without pictures, and both hear each other."""
    async with (
        house.phone(user, tone=BARESIP, **options) as other,
        BrowserPhone(house.server, user="carla", password="carla-phone", tone=CARLA) as carla,
    ):
        await carla.dial(user)
        await other.event("CALL_INCOMING", seconds=LONG)
        assert "m=video" not in other.invites()[-1].body
        await other.accept()
        await until(carla.talks, "Carla's call to be answered", seconds=LONG)
        await until(lambda: carla.hears_tone(BARESIP), "the phone's tone in Carla's browser", seconds=LONG)
        await until(lambda: phone_hears(other, CARLA), "Carla's tone in the phone", seconds=LONG)
        yield carla, other
        await carla.hang_up()
        await other.event("CALL_CLOSED", seconds=LONG)


def video_ports(device: Baresip) -> list[int]:
    """What the phone was offered of video by each re-INVITE: its port, 0 where it was taken back."""
    found = {
        (m.header("Call-ID"), m.header("CSeq")): int(m.body.split("m=video ")[1].split()[0])
        for m in device.trace()
        if m.received and m.start.startswith("INVITE ") and "m=video " in m.body
    }
    return list(found.values())


def taken_back(device: Baresip, times: int) -> bool:
    ports = video_ports(device)
    return len(ports) == 2 * times and ports[-1] == 0


async def video_of(phone: BrowserPhone) -> list[str]:
    """The direction agreed on for each video line that is not stopped."""
    found: list[str] = await phone.page.evaluate(
        """() => window.phone.session.connection.getTransceivers()
             .filter((each) => each.receiver.track.kind === 'video' && !each.stopped)
             .map((each) => String(each.currentDirection))"""
    )
    return found


async def test_an_agents_browser_adds_video_to_a_phone_and_drops_it_and_adds_it_again(house: House) -> None:
    async with carla_calls(house, "ana") as (carla, ana):
        for times in (1, 2):
            await carla.add_video()
            await until(lambda: arriving(ana)[1] > 5000, "Carla's picture at the phone", seconds=LONG)
            await until(carla.sees_moving_pictures, "the phone's picture in Carla's browser", seconds=LONG)
            assert has_colours(await ana.picture())
            await carla.drop_video()
            await until(partial(taken_back, ana, times), "the video to be taken back", seconds=LONG)
            await until(lambda: arriving(ana)[1] <= 0, "no picture to come any more", seconds=LONG)
        await until(lambda: carla.hears_tone(BARESIP), "the phone's tone after all", seconds=LONG)
        await until(lambda: arriving(ana)[0] > 5000, "Carla's sound after all", seconds=LONG)


async def test_a_phone_without_pictures_refuses_them_and_the_call_goes_on(house: House) -> None:
    """Whoever offered them learns it, and films for nobody no longer."""
    async with carla_calls(house, "bo", video=False) as (carla, bo):
        await carla.add_video()
        await until(lambda: bool(video_ports(bo)), "the phone to be offered video", seconds=LONG)

        async def given_up() -> bool:
            return await video_of(carla) == []

        await until(given_up, "Carla's browser to be told that there is no video", seconds=LONG)
        await until(lambda: carla.hears_tone(BARESIP), "the phone's tone after it", seconds=LONG)
        await until(lambda: phone_hears(bo, CARLA), "Carla's tone after it", seconds=LONG)


async def test_an_agent_shows_herself_later_and_hides_again(house: House) -> None:
    """A video call that she takes without her camera: the page has sound, then pictures, then sound again."""
    async with (
        BrowserPhone(house.server, user="carla", password="carla-phone", tone=CARLA) as carla,
        Reader(house.folder, house.server, CAMERA_ARTICLE) as maria,
    ):
        await make_ready_by_page(house.server, "carla")
        await maria.ask_for("video")
        await carla.rings(LONG)
        await carla.answer(video=False)
        await maria.reaches("connected", seconds=LONG)
        await until(lambda: maria.hears_tone(CARLA), "Carla's tone in Maria's browser", seconds=LONG)
        await until(lambda: carla.hears_tone(MARIA), "Maria's tone in Carla's browser", seconds=LONG)
        await until(carla.sees_moving_pictures, "Maria's picture in Carla's browser", seconds=LONG)
        await until(
            lambda: shows_a_face_instead(maria), "the page to say that there is no picture", seconds=LONG
        )

        await carla.add_video()
        await until(maria.sees_moving_pictures, "Carla's picture in Maria's browser", seconds=LONG)
        assert not await shows_a_face_instead(maria)
        await until(carla.sees_moving_pictures, "Maria's picture all the same", seconds=LONG)

        await carla.drop_video()
        await until(
            lambda: shows_a_face_instead(maria), "no frozen picture to be left in the page", seconds=LONG
        )
        await until(lambda: maria.hears_tone(CARLA), "Carla's tone after it", seconds=LONG)
        await until(lambda: carla.hears_tone(MARIA), "Maria's tone after it", seconds=LONG)
        assert await maria.in_state("connected")
        await maria.hang_up()
        await carla.is_over(LONG)


# A page whose first re-INVITE comes to nothing: it is answered here, with the status of `window.refuse`.
REFUSE_ONCE = """
window.refuse = 0;
const send = WebSocket.prototype.send;
WebSocket.prototype.send = function (data) {
  const again = /^INVITE /.test(data) && /^To: .*;tag=/im.test(data);
  if (!window.refuse || !again) return send.call(this, data);
  const head = data.split('\\r\\n\\r\\n')[0].split('\\r\\n');
  const kept = head.filter((line) => /^(Via|From|To|Call-ID|CSeq):/i.test(line));
  const answer = [`SIP/2.0 ${window.refuse} Not Now`, ...kept, 'Content-Length: 0', '', ''].join('\\r\\n');
  window.refuse = 0;
  setTimeout(() => this.dispatchEvent(new MessageEvent('message', {data: answer})), 20);
};
"""


@asynccontextmanager
async def maria_calls(house: House, device: Baresip) -> AsyncIterator[Reader]:
    """Maria's page and that phone, whose agent is ready, hear each other."""
    async with Reader(house.folder, house.server, BOILER_ARTICLE) as maria:
        await maria.context.add_init_script(REFUSE_ONCE)
        await maria.page.reload()
        await maria.ask_for("voice")
        await device.event("CALL_INCOMING", seconds=LONG)
        assert "m=video" not in device.invites()[-1].body
        await device.accept()
        await maria.reaches("connected", seconds=LONG)
        await until(lambda: maria.hears_tone(BARESIP), "the phone's tone in the page", seconds=LONG)
        await until(lambda: phone_hears(device, MARIA), "Maria's tone in the phone", seconds=LONG)
        yield maria
        assert await maria.in_state("connected")
        await until(lambda: maria.hears_tone(BARESIP), "the phone's tone after all", seconds=LONG)
        await until(
            lambda: arriving(device)[0] > 5000 or phone_hears(device, MARIA),
            "Maria's sound in the phone after all",
            seconds=LONG,
        )
        await maria.hang_up()
        await until(lambda: not device.open_calls(), "the phone to be free", seconds=LONG)


async def video_button(maria: Reader) -> str:
    return await maria.page.locator("#help-video").inner_text()


async def films(maria: Reader) -> bool:
    """Whether the camera's light is on."""
    found: bool = await maria.page.evaluate(
        """() => (document.querySelector('#local-video').srcObject?.getVideoTracks() ?? [])
             .some((track) => track.readyState === 'live')"""
    )
    return found


async def says(maria: Reader, words: str) -> None:
    told = maria.page.locator("#help-trouble", has_text=words)
    await until(told.is_visible, f"“{words}” in the page", seconds=LONG)


async def test_a_customer_adds_video_to_a_voice_call_and_drops_it_and_adds_it_again(house: House) -> None:
    async with house.ready("ana") as ana, maria_calls(house, ana) as maria:
        for times in (1, 2):
            assert await video_button(maria) == "Add video"
            await maria.page.click("#help-video")
            await until(lambda: arriving(ana)[1] > 5000, "Maria's picture at the phone", seconds=LONG)
            await until(maria.sees_moving_pictures, "the phone's picture in the page", seconds=LONG)
            assert has_colours(await ana.picture())
            assert await films(maria)
            await until(lambda: video_is(maria, "Stop video"), "the button to stop it", seconds=LONG)
            await maria.page.click("#help-video")
            await until(partial(taken_back, ana, times), "the video to be taken back", seconds=LONG)
            await until(lambda: video_is(maria, "Add video"), "the button to add it again", seconds=LONG)
            assert not await films(maria)


async def video_is(maria: Reader, words: str) -> bool:
    return await video_button(maria) == words and await maria.page.locator("#help-video").is_enabled()


async def test_an_offer_of_the_customers_that_crosses_another_is_made_again(house: House) -> None:
    async with house.ready("ana") as ana, maria_calls(house, ana) as maria:
        await maria.page.evaluate("window.refuse = 491")
        await maria.page.click("#help-video")
        await until(maria.sees_moving_pictures, "the phone's picture in the page", seconds=LONG)
        assert await maria.page.evaluate("window.refuse") == 0, "nothing was refused"
        await until(lambda: video_is(maria, "Stop video"), "the button to stop it", seconds=LONG)


async def test_what_the_server_refuses_leaves_a_call_of_voice(house: House) -> None:
    async with house.ready("ana") as ana, maria_calls(house, ana) as maria:
        await maria.page.evaluate("window.refuse = 488")
        await maria.page.click("#help-video")
        await says(maria, "did not take the picture")
        assert not await films(maria)
        assert await video_is(maria, "Add video")
        await maria.page.click("#help-video")
        await until(maria.sees_moving_pictures, "the phone's picture in the page", seconds=LONG)


async def says_of_video(page: AgentPage, can: str) -> None:
    status, _ = await page.post("/agent/devices/device-ana/capability", {"channel": "video", "can": can})
    assert status == 200


async def test_a_phone_that_turns_out_to_have_no_pictures_leaves_a_call_of_voice(house: House) -> None:
    page = AgentPage(house.server.portal)
    await page.log_in("ana", "ana-agent")
    await says_of_video(page, "yes")
    try:
        async with house.ready("ana", video=False) as ana, maria_calls(house, ana) as maria:
            await maria.page.click("#help-video")
            await says(maria, "did not take the picture")
            assert not await films(maria)
            assert await video_is(maria, "Add video")
    finally:
        await says_of_video(page, "auto")


async def test_a_camera_that_is_not_lent_leaves_a_call_of_voice(house: House) -> None:
    async with house.ready("ana") as ana, maria_calls(house, ana) as maria:
        for name, words in (
            ("NotAllowedError", "not allowed to use the camera"),
            ("NotFoundError", "no camera"),
        ):
            await maria.page.evaluate(
                """(name) => {
                  navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('no', name); };
                }""",
                name,
            )
            await maria.page.click("#help-video")
            await says(maria, words)
            assert await video_is(maria, "Add video")
        assert not video_ports(ana)


async def shows_a_face_instead(customer: Reader) -> bool:
    """Whether the page has the agent's initial where their picture would be, and words for it."""
    face, words = customer.page.locator(".voice-card"), customer.page.locator(".no-picture")
    return await face.is_visible() and await words.is_visible()
