"""Recordings in pages: the supervisor's list and player, the agent's buttons, and the customer's word."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.web.resource import Resource

from config.recording_settings import Recording as Mode
from pbx.api.routes import Api
from pbx.api.site import WarmlineSite, build_root
from pbx.pages.actions import PageActions
from pbx.pages.panels import SoftphoneSetup
from pbx.pages.recordings import RecordingPages
from pbx.pages.routes import AgentPages
from tests.conftest import run
from tests.pbx.centre import Centre
from tests.pbx.recorded import hire, opened, recorded, talking
from tests.pbx.web import Browser, CookieLogins, words


class Rig:
    def __init__(self, centre: Centre) -> None:
        self.centre = centre
        logins: Any = CookieLogins()
        house, clock, now = centre.house, centre.clock, centre.house.now
        actions = PageActions(
            centre.actions, centre.voicemails, house.events,
            contact_of=centre.desk.get, recorder=centre.recordings,
        )  # fmt: skip
        agents = AgentPages(
            desk=centre.desk, logins=logins, roster=house.roster, states=house.states, location=house.location,
            events=house.events, clock=clock, now=now, setup=SoftphoneSetup("help.example", "", ()),
            actions=actions,
        )  # fmt: skip
        pages = RecordingPages(centre.archive, house.roster, logins, clock=clock, now=now)
        api = Api(
            desk=centre.desk, logins=logins, credentials=centre.app_credentials, clock=clock,
            allow_recording=centre.recordings.allow,
        )  # fmt: skip
        root = build_root(
            api=api.resource(), pages=agents.resource(), portal=Resource(), sip=None,
            more={"agent/recordings": pages.resource()},
        )  # fmt: skip
        self.site = WarmlineSite(root, clock, access_log=lambda line: None)
        self.stranger = Browser(self.site)

    def agent(self, name: str) -> Browser:
        return Browser(self.site, {"warmline_agent": f"agent-{name}"})

    def customer(self, name: str) -> Browser:
        return Browser(self.site, {"warmline_customer": name})


async def open_rig(folder: Path, mode: Mode) -> Rig:
    centre = await opened(folder, mode)
    await hire(centre, "carla")
    await hire(centre, "lena", "lumio")
    return Rig(centre)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = run(open_rig(tmp_path, Mode.ANNOUNCE))
    yield rig
    for call in tuple(rig.centre.clock.getDelayedCalls()):
        call.cancel()


# The supervisor


async def test_the_list_and_the_sound_are_for_supervisors_of_the_provider_alone(rig: Rig) -> None:
    recording = await recorded(rig.centre)
    sound = f"/agent/recordings/{recording.id}/sound"
    page = await rig.agent("carla").get("/agent/recordings")
    assert "Maria with Ana" in words(page)
    assert sound in page.body
    assert recording.file not in page.body
    assert (await rig.agent("carla").get(sound, Range="bytes=0-3")).status == 206
    assert "Nothing" in words(
        await rig.agent("lena").get(f"/agent/recordings?contact={recording.contact_id}")
    )
    for who, status in ((rig.agent("lena"), 404), (rig.agent("ana"), 404), (rig.stranger, 401)):
        reply = await who.get(sound)
        assert (reply.status, "RIFF" in reply.body) == (status, False)
    assert (await rig.agent("ana").get("/agent/recordings")).status == 404
    assert (await rig.stranger.get("/agent/recordings")).status == 303
    assert [event.agent for event in rig.centre.events("recording.played")] == ["agent-carla"]
    assert rig.centre.events("recording.played")[0].facts["address"] == "192.0.2.7"


@pytest.mark.parametrize("name", ["r%00", "..%2F..%2Fetc%2Fpasswd", "r" * 101, "r_none"])
async def test_no_name_leads_to_another_file(rig: Rig, name: str) -> None:
    assert (await rig.agent("carla").get(f"/agent/recordings/{name}/sound")).status in (400, 404)


async def test_a_player_may_ask_for_a_part(rig: Rig) -> None:
    recording = await recorded(rig.centre)
    reply = await rig.agent("carla").ask(
        "GET", f"/agent/recordings/{recording.id}/sound", headers={"Range": "bytes=0-3"}
    )
    assert (reply.status, reply.body, reply.headers["content-type"]) == (206, "RIFF", "audio/wav")
    assert "media-src 'self'" in reply.headers["content-security-policy"]
    assert reply.headers["cache-control"] == "no-store"


async def test_a_recording_is_held_and_let_go_by_a_supervisor_with_their_token(rig: Rig) -> None:
    recording = await recorded(rig.centre)
    carla, path = rig.agent("carla"), f"/agent/recordings/{recording.id}/hold"
    assert (await carla.submit(path, {"held": "yes"}, csrf=None)).status == 403
    assert (await carla.submit(path, {"held": "perhaps"})).status == 422
    assert (await rig.agent("lena").submit(path, {"held": "yes"})).status == 404
    reply = await carla.submit(path, {"held": "yes", "contact": recording.contact_id})
    assert (reply.status, reply.headers["location"]) == (
        303, f"/agent/recordings?contact={recording.contact_id}",
    )  # fmt: skip
    assert "On legal hold: it is not deleted." in words(await carla.get("/agent/recordings"))
    await carla.submit(path, {"held": "no"})
    assert "Kept until" in words(await carla.get("/agent/recordings"))


# The agent


async def test_the_agents_page_says_what_is_recorded_and_pauses_it(rig: Rig) -> None:
    contact, ana = await talking(rig.centre), rig.agent("ana")
    page = words(await ana.get("/agent"))
    assert "Recorded Pause recording They object" in page
    path = f"/agent/contacts/{contact.id}/do"
    assert (await ana.submit(f"{path}/pause-recording", {}, csrf=None)).status == 403
    assert (await ana.submit(f"{path}/pause-recording", {})).status == 303
    assert rig.centre.media.taps[contact.id]["paused"]
    assert "Recording paused Resume recording" in words(await ana.get("/agent"))
    assert (await ana.submit(f"{path}/resume-recording", {})).status == 303
    assert not rig.centre.media.taps[contact.id]["paused"]
    assert (await rig.agent("carla").submit(f"{path}/pause-recording", {})).status == 404


async def test_what_the_customer_tells_the_agent_counts(rig: Rig) -> None:
    contact, ana = await talking(rig.centre), rig.agent("ana")
    path = f"/agent/contacts/{contact.id}/do"
    assert (await ana.submit(f"{path}/refuse-recording", {})).status == 303
    assert not rig.centre.media.taps
    assert "they did not want it They agree" in words(await ana.get("/agent"))
    await ana.submit(f"{path}/allow-recording", {})
    assert rig.centre.media.taps


# The customer


async def test_the_customer_sees_that_they_are_recorded_and_stops_it(rig: Rig) -> None:
    contact, maria = await talking(rig.centre), rig.customer("maria")
    path = f"/api/contacts/{contact.id}"
    told = (await maria.get(path)).json()["recording"]
    assert told == {"mode": "announce", "state": "recording", "may_choose": True, "kept": False}
    assert (await maria.post(f"{path}/recording", {"allow": False}, csrf=None)).status == 403
    assert (await maria.post(f"{path}/recording", {"allow": "no"})).status == 400
    assert (await rig.customer("jonas").post(f"{path}/recording", {"allow": False})).status == 404
    assert rig.centre.media.taps
    reply = await maria.post(f"{path}/recording", {"allow": False})
    assert reply.json()["recording"]["state"] == "refused"
    assert not rig.centre.media.taps


async def test_what_is_always_recorded_offers_the_customer_nothing(tmp_path: Path) -> None:
    rig = await open_rig(tmp_path / "always", Mode.ALWAYS)
    contact, maria = await talking(rig.centre), rig.customer("maria")
    view = (await maria.get(f"/api/contacts/{contact.id}")).json()["recording"]
    assert view == {"mode": "always", "state": "recording", "may_choose": False, "kept": False}
    assert (await maria.post(f"/api/contacts/{contact.id}/recording", {"allow": False})).status == 409
    assert "They object" not in words(await rig.agent("ana").get("/agent"))
