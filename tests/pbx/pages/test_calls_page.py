"""The page of calls that go on: who may see, hear and join which, and what it says of how they are heard."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.web.resource import Resource

from pbx.api.site import WarmlineSite, build_root
from pbx.contact import Contact, State
from pbx.pages.calls import CallPages
from pbx.quality import Qualities
from pbx.quality_store import QualityStore
from tests.conftest import run
from tests.pbx.centre import Centre
from tests.pbx.test_quality import audio
from tests.pbx.web import Browser, CookieLogins, Reply, words


class Rig:
    """Maria talks to Ana. Carla supervises all providers and has a phone, Lena Lumio's alone."""

    contact: Contact

    def __init__(self, centre: Centre) -> None:
        self.centre = centre
        logins: Any = CookieLogins()
        self.qualities = Qualities(
            centre.contacts, QualityStore(centre.house.database), centre.media, centre.house.events
        )
        pages = CallPages(
            centre.contacts,
            centre.desk.get,
            self.qualities,
            centre.supervisions,
            centre.house.roster,
            logins,
            clock=centre.clock,
            now=centre.house.now,
        )
        root = build_root(
            api=Resource(),
            pages=Resource(),
            portal=Resource(),
            sip=None,
            more={"agent/calls": pages.resource()},
        )
        self.site = WarmlineSite(root, centre.clock, access_log=lambda line: None)
        self.carla = self.browser("agent-carla")
        self.lena = self.browser("agent-lena")
        self.ana = self.browser("agent-ana")
        self.bo = self.browser("agent-bo")
        self.stranger = Browser(self.site)

    def browser(self, agent_id: str) -> Browser:
        return Browser(self.site, {"warmline_agent": agent_id})

    async def presses(self, browser: Browser, what: str) -> Reply:
        reply = await browser.submit(f"/agent/calls/{self.contact.id}/{what}", {})
        await self.centre.settle()
        return reply


async def open_rig() -> Rig:
    centre = await Centre.open()
    rig = Rig(centre)
    for name, providers in (("carla", ()), ("lena", ("lumio",))):
        hired = await centre.house.roster.add_agent(
            name.title(),
            name,
            "hash",
            skills={},
            provider_ids=providers,
            supervisor=True,
            agent_id=f"agent-{name}",
        )
        await centre.house.roster.add_device(
            hired.id, "Phone", name, f"{name}-phone", device_id=f"device-{name}"
        )
        await centre.house.bind(name, contact_uri=f"sip:{name}@192.0.2.7:5062")
    await centre.agent("ana", heating=3)
    await centre.agent("bo", wifi=1)
    rig.contact = await centre.asks("maria", "voice")
    await centre.calls_in(rig.contact)
    centre.phone.rung[-1].pick_up()
    await centre.settle()
    assert rig.contact.state is State.CONNECTED
    return rig


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = run(open_rig())
    yield rig
    for call in tuple(rig.centre.clock.getDelayedCalls()):
        call.cancel()


@pytest.mark.parametrize("path", ["", "/now"])
async def test_only_a_supervisor_sees_calls_and_only_of_their_providers(rig: Rig, path: str) -> None:
    assert (await rig.stranger.get(f"/agent/calls{path}")).status == 401
    assert (await rig.ana.get(f"/agent/calls{path}")).status == 404
    seen = await rig.carla.get(f"/agent/calls{path}")
    assert "Maria with Ana" in words(seen)
    assert "Maria" not in words(await rig.lena.get(f"/agent/calls{path}"))
    assert "default-src 'none'" in seen.headers["content-security-policy"]


async def test_the_button_rings_the_supervisors_own_phone(rig: Rig) -> None:
    reply = await rig.presses(rig.carla, "listen")
    assert (reply.status, reply.headers["location"]) == (303, "/agent/calls")
    phone = rig.centre.phone.rung[-1]
    assert "carla" in phone.to
    assert "Your phone rings" in words(await rig.carla.get("/agent/calls/now"))
    phone.pick_up()
    await rig.centre.settle()
    assert "You listen. Nobody hears you." in words(await rig.carla.get("/agent/calls/now"))
    await rig.presses(rig.carla, "whisper")
    assert 'aria-pressed="true">Whisper' in (await rig.carla.get("/agent/calls/now")).body
    await rig.presses(rig.carla, "leave")
    assert phone.log == ["BYE"]


@pytest.mark.parametrize(
    ("who", "what", "status"),
    [
        ("stranger", "listen", 401),
        ("ana", "listen", 404),
        ("bo", "leave", 404),
        ("lena", "listen", 404),
        ("lena", "leave", 404),
        ("carla", "record", 404),
    ],
)
async def test_nobody_else_hears_anything(rig: Rig, who: str, what: str, status: int) -> None:
    rung = len(rig.centre.phone.rung)
    assert (await rig.presses(getattr(rig, who), what)).status == status
    assert len(rig.centre.phone.rung) == rung
    assert rig.centre.supervisions.of(rig.contact.id) is None


async def test_a_press_without_the_pages_token_is_refused(rig: Rig) -> None:
    path = f"/agent/calls/{rig.contact.id}/listen"
    assert (await rig.carla.submit(path, {}, csrf=None)).status == 403
    assert rig.centre.supervisions.of(rig.contact.id) is None


async def test_why_it_cannot_be_is_said(rig: Rig) -> None:
    rig.centre.house.drop("carla")
    reply = await rig.presses(rig.carla, "listen")
    assert reply.status == 409
    assert "No phone of yours is registered" in words(reply)


async def test_how_a_call_is_heard_is_seen_by_its_agent_and_its_supervisors(rig: Rig) -> None:
    path = f"/agent/calls/{rig.contact.id}/quality"
    rig.qualities.told(rig.contact.id, "customer-1", "ended", {"audio": audio(2.4)})
    await rig.centre.settle()
    for browser in (rig.carla, rig.ana):
        told = (await browser.get(path, accept="application/json")).json()
        assert told["contact"] == rig.contact.id
        assert [(leg["party"], leg["mos"], leg["live"]) for leg in told["legs"]] == [("customer", 2.4, False)]
    shown = words(await rig.carla.get(path))
    assert "Customer Sound hard to follow, 2.4 1.0 % – 2 ms 40 ms 60 s" in shown
    for browser, status in ((rig.stranger, 401), (rig.lena, 404), (rig.bo, 404)):
        assert (await browser.get(path)).status == status
    assert (await rig.carla.get("/agent/calls/c_none/quality")).status == 404


async def test_a_supervisor_who_has_left_is_not_shown_any_more(rig: Rig) -> None:
    measures = {"loss_in": 0.0, "loss_out": 0.0, "jitter_ms": 1.0, "round_trip_ms": None, "mos": 4.4}

    async def stats(call: str) -> dict[str, Any]:
        leg = {"ready": True, "kinds": {"audio": {"quality": measures}}}
        return {"agent-1-1": leg, "supervisor-1-1": leg}

    rig.centre.media.stats = stats  # type: ignore[method-assign]
    await rig.presses(rig.carla, "listen")
    rig.centre.phone.rung[-1].pick_up()
    await rig.centre.settle()
    assert "Supervisor clear 4.4" in words(await rig.carla.get("/agent/calls/now"))
    await rig.presses(rig.carla, "leave")
    shown = words(await rig.carla.get("/agent/calls"))
    assert "Supervisor clear" not in shown, "media has said so a moment ago, and they have gone since"
    assert "Agent clear 4.4" in shown


async def test_a_call_that_goes_on_says_how_it_is_heard_now(rig: Rig) -> None:
    asked = 0

    async def stats(call: str) -> dict[str, Any]:
        nonlocal asked
        asked += 1
        measures = {"loss_in": 0.2, "loss_out": 0.0, "jitter_ms": 1.0, "round_trip_ms": None, "mos": 2.3}
        return {"agent-1-1": {"ready": True, "kinds": {"audio": {"quality": measures}}}}

    rig.centre.media.stats = stats  # type: ignore[method-assign]
    shown = words(await rig.carla.get("/agent/calls"))
    assert "Agent hard to follow 2.3" in shown
    await rig.carla.get("/agent/calls/now")
    assert asked == 1, "however many look, media is asked once"
