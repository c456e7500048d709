"""The agent's pages: who may see what, and what their forms do."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from argon2 import PasswordHasher
from twisted.internet.task import Clock
from twisted.web.resource import Resource

from agent_presence.agent_state import AgentState
from config.database import Database
from config.login import Logins
from kb_portal.customer import Customer
from kb_portal.product import OwnedProduct, Product
from kb_portal.visit import PageView, Search, Trail
from pbx.api.desk import AgentDesk, CustomerDesk
from pbx.api.event_stream import HEARTBEAT_S
from pbx.api.site import WarmlineSite, build_root
from pbx.front_desk import Context, FrontDesk
from pbx.pages.actions import PageActions
from pbx.pages.panels import SoftphoneSetup
from pbx.pages.routes import AgentPages
from pbx.skills import Need
from tests.conftest import run
from tests.pbx.agents import ForgetfulStore, People
from tests.pbx.desk import AT, FakeDesk
from tests.pbx.page_actions import FakeActions, FakeMessages
from tests.pbx.web import Browser, CookieLogins, Reply, Stream, settle, words

JSON = "application/json"


class Rig:
    def __init__(self, clock: Clock, now: Callable[[], float]) -> None:
        self.clock = clock
        self.people = People(clock, now)
        self.desk = FakeDesk()
        self.logins = CookieLogins()
        self.actions = FakeActions(
            ForgetfulStore(), self.people.states, self.people.roster, self.people.events
        )
        self.messages = FakeMessages()
        self.pages = AgentPages(
            desk=self.desk,
            logins=self.logins,  # type: ignore[arg-type]
            roster=self.people.roster,
            states=self.people.states,
            location=self.people.location,
            events=self.people.events,
            clock=clock,
            now=now,
            setup=SoftphoneSetup("help.example", "192.0.2.1:5060", ("UDP", "TCP")),
            actions=PageActions(self.actions, self.messages, self.people.events, contact_of=self.desk.get),
        )
        root = build_root(api=Resource(), pages=self.pages.resource(), portal=Resource(), sip=None)
        self.site = WarmlineSite(root, clock, access_log=lambda line: None)
        self.ana = Browser(self.site, {"warmline_agent": "ana"})
        self.bo = Browser(self.site, {"warmline_agent": "bo"})
        self.stranger = Browser(self.site)

    def state(self, agent_id: str) -> AgentState:
        return self.people.states.of(agent_id).state


@pytest.fixture
def rig(clock: Clock, now: Callable[[], float]) -> Iterator[Rig]:
    rig = Rig(clock, now)
    yield rig
    run(rig.ana.close())


# Coming and going


async def log_in(rig: Rig, login: str, password: str, **fields: str) -> tuple[Browser, Reply]:
    browser = Browser(rig.site)
    form = await browser.get("/agent/login")
    token = re.search(r'name="csrf" value="([^"]+)"', form.body)
    assert token is not None
    return browser, await browser.submit(
        "/agent/login", {"login": login, "password": password, **fields}, csrf=token.group(1)
    )


async def test_an_agent_logs_in_and_out(rig: Rig) -> None:
    await rig.people.hire()
    browser, reply = await log_in(rig, "Ana", "ana-agent")
    assert (reply.status, reply.headers["location"]) == (303, "/agent")
    assert "Ana Sousa" in words(await browser.get("/agent"))
    reply = await browser.submit("/agent/logout", {})
    assert (reply.status, reply.headers["location"]) == (303, "/agent/login")
    assert (await browser.get("/agent")).status == 303


async def test_a_wrong_password_is_told_and_the_name_kept(rig: Rig) -> None:
    await rig.people.hire()
    for login in ("ana", "nobody", '"><script>'):
        _, reply = await log_in(rig, login, "wrong")
        assert reply.status == 401
        assert "isn’t right" in words(reply)
        assert "<script>" not in reply.body.replace('<script src="', "")
        assert "set-cookie" not in reply.headers or "warmline_agent=" not in reply.headers["set-cookie"]


async def test_a_login_form_from_elsewhere_is_refused(rig: Rig) -> None:
    await rig.people.hire()
    fields = {"login": "ana", "password": "ana-agent"}
    bare = await Browser(rig.site).submit("/agent/login", fields, csrf=None)
    assert bare.status == 403
    guessed = Browser(rig.site)
    await guessed.get("/agent/login")
    assert (await guessed.submit("/agent/login", fields, csrf="guess")).status == 403
    assert "warmline_agent" not in guessed.cookies


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://["])
async def test_a_login_form_posted_from_another_origin_is_refused(rig: Rig, origin: str) -> None:
    await rig.people.hire()
    browser = Browser(rig.site)
    form = await browser.get("/agent/login")
    token = re.search(r'name="csrf" value="([^"]+)"', form.body)
    assert token is not None
    fields = {"login": "ana", "password": "ana-agent"}
    assert (await browser.submit("/agent/login", fields, csrf=token.group(1), Origin=origin)).status == 403


async def test_the_login_leads_back_to_the_context_and_nowhere_else(rig: Rig) -> None:
    await rig.people.hire()
    asked = await rig.stranger.get("/context/c_1")
    assert (asked.status, asked.headers["location"]) == (303, "/agent/login?next=/context/c_1")
    for way, leads in (
        ("/context/c_1", "/context/c_1"),
        ("https://evil.example/", "/agent"),
        ("//evil.example/context/c_1", "/agent"),
        ("/context/../api", "/agent"),
    ):
        _, reply = await log_in(rig, "ana", "ana-agent", next=way)
        assert reply.headers["location"] == leads


@pytest.mark.parametrize("path", ["/agent", "/context/c_1"])
async def test_a_stranger_is_sent_to_the_login(rig: Rig, path: str) -> None:
    reply = await rig.stranger.get(path)
    assert reply.status == 303
    assert reply.headers["location"].startswith("/agent/login")


async def test_a_customers_login_is_no_agents(rig: Rig) -> None:
    await rig.people.hire()
    customer = Browser(rig.site, {"warmline_customer": "ana"})
    assert (await customer.get("/agent")).status == 303
    assert (await customer.get("/agent/live")).status == 401


ACTS = [
    ("/agent/state", {"state": "ready"}),
    ("/agent/devices/d_ana/capability", {"channel": "video", "can": "yes"}),
    ("/agent/devices/d_ana/password", {}),
    ("/agent/contacts/c_1/messages", {"key": "k", "text": "t"}),
    ("/agent/contacts/c_1/composing", {"active": "yes"}),
    ("/agent/contacts/c_1/seen", {"message": "m_1"}),
    ("/agent/contacts/c_1/end", {}),
    ("/agent/logout", {}),
]


@pytest.mark.parametrize(("path", "fields"), ACTS)
@pytest.mark.parametrize("csrf", [None, "wrong"])
async def test_nothing_is_done_without_the_csrf_token(
    rig: Rig, path: str, fields: dict[str, str], csrf: str | None
) -> None:
    await rig.people.hire()
    rig.people.register("ana")
    before = rig.people.roster.device("d_ana")
    rig.desk.connect(rig.desk.make("c_1"), "ana")
    reply = await rig.ana.submit(path, fields, csrf=csrf)
    assert reply.status == 403
    assert rig.state("ana") is AgentState.NOT_READY
    assert rig.people.roster.device("d_ana") == before
    assert rig.desk.agent_said == []
    assert rig.desk.signs == []
    assert rig.desk.ended_by == []


@pytest.mark.parametrize(("path", "fields"), ACTS)
async def test_a_stranger_can_do_nothing(rig: Rig, path: str, fields: dict[str, str]) -> None:
    await rig.people.hire()
    reply = await rig.stranger.submit(path, fields)
    assert reply.status == 401
    reply = await rig.stranger.submit(path, fields, Accept=JSON)
    assert reply.status == 401
    assert "error" in reply.json()


# State


async def test_ready_and_not_ready_are_one_press_each(rig: Rig) -> None:
    await rig.people.hire()
    rig.people.register("ana")
    assert "Not ready" in words(await rig.ana.get("/agent"))
    reply = await rig.ana.submit("/agent/state", {"state": "ready"})
    assert (reply.status, reply.headers["location"]) == (303, "/agent")
    assert rig.state("ana") is AgentState.READY
    page = await rig.ana.get("/agent")
    assert 'data-state="ready"' in page.body
    assert re.search(r'id="be-ready" aria-pressed="true"', page.body)
    reply = await rig.ana.submit("/agent/state", {"state": "not-ready"}, Accept=JSON)
    assert reply.json() == {"done": True}
    assert rig.state("ana") is AgentState.NOT_READY
    assert rig.state("bo") is AgentState.OFFLINE


async def test_not_ready_during_a_contact_is_shown_as_pending(rig: Rig) -> None:
    await rig.people.hire()
    rig.people.register("ana")
    await rig.people.states.ready("ana")
    await rig.people.states.reserve("ana", "c_1", channel="voice", lease_s=60)
    await rig.ana.submit("/agent/state", {"state": "not-ready"})
    assert rig.state("ana") is AgentState.RESERVED
    assert "Not ready when this contact ends" in words(await rig.ana.get("/agent"))


async def test_ready_without_a_phone_is_refused_with_the_reason(rig: Rig) -> None:
    await rig.people.hire()
    reply = await rig.ana.submit("/agent/state", {"state": "ready"}, Accept=JSON)
    assert reply.status == 409
    assert "registered" in reply.json()["error"]
    page = await rig.ana.submit("/agent/state", {"state": "ready"})
    assert page.status == 409
    assert "can’t be done just now" in words(page)


@pytest.mark.parametrize("state", ["", "maybe", "READY\x00"])
async def test_a_state_that_is_none_is_refused(rig: Rig, state: str) -> None:
    await rig.people.hire()
    assert (await rig.ana.submit("/agent/state", {"state": state})).status == 422


# Phones


async def test_a_phone_shows_where_it_is_and_what_it_can_do(rig: Rig) -> None:
    await rig.people.hire()
    assert "Not registered" in words(await rig.ana.get("/agent"))
    rig.people.register("ana", features={"audio": ""})
    page = words(await rig.ana.get("/agent"))
    assert "UDP from 192.0.2.9:5062" in page
    assert "baresip v1.0.0" in page
    assert "Sound yes the phone says so when it registers" in page
    assert "Video unknown the phone did not say" in page
    await rig.people.roster.learn("d_ana", {"video": False})
    assert "Video no the phone answered so when it was asked" in words(await rig.ana.get("/agent"))


@pytest.mark.parametrize(
    ("can", "override"), [("yes", {"video": True}), ("no", {"video": False}), ("auto", {})]
)
async def test_video_is_set_by_hand(rig: Rig, can: str, override: dict[str, bool]) -> None:
    await rig.people.hire()
    await rig.ana.submit("/agent/devices/d_ana/capability", {"channel": "video", "can": "no"})
    reply = await rig.ana.submit("/agent/devices/d_ana/capability", {"channel": "video", "can": can})
    assert reply.status == 303
    device = rig.people.roster.device("d_ana")
    assert device is not None
    assert device.override == override
    assert re.search(rf'id="video-d_ana-{can}" aria-pressed="true"', (await rig.ana.get("/agent")).body)


@pytest.mark.parametrize("path", ["capability", "password"])
async def test_another_agents_phone_looks_like_none_at_all(rig: Rig, path: str) -> None:
    await rig.people.hire()
    before = rig.people.roster.device("d_bo")
    fields = {"channel": "video", "can": "yes"}
    theirs = await rig.ana.submit(f"/agent/devices/d_bo/{path}", fields)
    missing = await rig.ana.submit(f"/agent/devices/d_none/{path}", fields)
    assert theirs.status == missing.status == 404
    assert theirs.body == missing.body
    assert rig.people.roster.device("d_bo") == before


async def test_a_new_password_is_shown_once_and_works(rig: Rig) -> None:
    await rig.people.hire()
    before = rig.people.roster.credentials_of("ana")
    reply = await rig.ana.submit("/agent/devices/d_ana/password", {})
    assert reply.status == 200
    assert reply.headers["cache-control"] == "no-store"
    shown = re.search(r'id="secret">([a-z0-9-]{19})<', reply.body)
    assert shown is not None
    after = rig.people.roster.credentials_of("ana")
    assert after != before
    await rig.people.roster.set_password("d_ana", shown.group(1))
    assert rig.people.roster.credentials_of("ana") == after, "the password shown is the one kept"
    assert shown.group(1) not in (await rig.ana.get("/agent")).body


# Contacts


async def test_contacts_are_shown_to_their_agent_alone(rig: Rig) -> None:
    await rig.people.hire()
    contact = rig.desk.make("c_1", customer_name="<b>Maria</b>", article_title="Pressure keeps dropping")
    rig.desk.ring(contact, "ana")
    page = await rig.ana.get("/agent")
    assert "<b>Maria</b>" in words(page)
    assert "<b>Maria" not in page.body
    assert "Boiler 200 · Pressure keeps dropping" in words(page)
    assert "Maria" not in (await rig.bo.get("/agent")).body


async def test_a_chat_is_read_along_answered_and_ended(rig: Rig) -> None:
    await rig.people.hire()
    rig.desk.connect(rig.desk.make("c_1"), "ana")
    rig.desk.line("c_1", "customer", "Grüße <3")
    page = await rig.ana.get("/agent")
    assert "Grüße &lt;3" in page.body
    reply = await rig.ana.submit("/agent/contacts/c_1/messages", {"key": "k1", "text": " Hello 🙂 "})
    assert reply.status == 303
    assert rig.desk.agent_said == [("ana", "c_1", "k1", "Hello 🙂")]
    assert (await rig.ana.submit("/agent/contacts/c_1/messages", {"key": "k", "text": " "})).status == 400
    assert (
        await rig.ana.submit("/agent/contacts/c_1/messages", {"key": "k", "text": "x" * 4001})
    ).status == 422
    assert (await rig.ana.submit("/agent/contacts/c_1/end", {})).status == 303
    assert rig.desk.ended_by == [("c_1", "agent")]


async def test_a_contact_that_still_rings_cannot_be_ended_here(rig: Rig) -> None:
    await rig.people.hire()
    rig.desk.ring(rig.desk.make("c_1"), "ana")
    assert (await rig.ana.submit("/agent/contacts/c_1/end", {})).status == 409
    assert (await rig.ana.submit("/agent/contacts/c_1/messages", {"key": "k", "text": "t"})).status == 409
    assert rig.desk.ended_by == []


async def test_writing_and_reading_here_are_told_of_a_chat_that_is_joined(rig: Rig) -> None:
    await rig.people.hire()
    contact = rig.desk.make("c_1")
    rig.desk.ring(contact, "ana")
    assert (await rig.ana.submit("/agent/contacts/c_1/seen", {"message": "m_1"}, Accept=JSON)).status == 200
    assert rig.desk.signs == [], "what rings is not the agent's yet"
    contact.join(AT)
    for path, fields in (
        ("composing", {"active": "yes"}),
        ("composing", {"active": "no"}),
        ("seen", {"message": "m_1"}),
    ):
        assert (await rig.ana.submit(f"/agent/contacts/c_1/{path}", fields, Accept=JSON)).status == 200
    assert rig.desk.signs == [("c_1", "agent", True), ("c_1", "agent", False), ("c_1", "agent", "m_1")]
    assert (await rig.ana.submit("/agent/contacts/c_1/composing", {"active": "perhaps"})).status == 422
    assert (await rig.ana.submit("/agent/contacts/c_1/seen", {})).status == 422


@pytest.mark.parametrize("path", ["messages", "composing", "seen", "end"])
async def test_another_agents_contact_looks_like_none_at_all(rig: Rig, path: str) -> None:
    await rig.people.hire()
    rig.desk.connect(rig.desk.make("c_1"), "bo")
    theirs = await rig.ana.submit(f"/agent/contacts/c_1/{path}", {"key": "k", "text": "t"})
    missing = await rig.ana.submit(f"/agent/contacts/c_none/{path}", {"key": "k", "text": "t"})
    assert theirs.status == missing.status == 404
    assert theirs.body == missing.body
    assert rig.desk.ended_by == []
    assert rig.desk.agent_said == []


# Context


def product(product_id: str, provider_id: str = "kestrel") -> OwnedProduct:
    name = product_id.replace("-", " ").title()
    return OwnedProduct(
        Product(product_id, provider_id, product_id, name, "", "", "", ()),
        provider_id.title(),
        "K-7731",
        None,
    )


async def test_the_context_says_who_what_and_why(rig: Rig) -> None:
    await rig.people.hire()
    contact = rig.desk.make("c_1", channel="video", article_id="a_1", article_title="Pressure keeps dropping")
    contact.needs = (
        Need("heating", 0, True, ("owns Boiler 200",)),
        Need("boiler-hydraulics", 74, True, ("read 'Pressure keeps dropping' for 74 s",)),
    )
    rig.desk.ring(contact, "ana")
    rig.desk.contexts["c_1"] = Context(
        contact=contact,
        customer=Customer("maria", "Maria Lopez", "maria@example.org", "+15550100", True),
        trail=Trail(
            "v_1",
            "maria",
            (PageView("a_1", "Pressure keeps dropping", "boiler-200", (), AT - 80, 74, "/"),),
            (Search("pressure leak", AT - 90, 0),),
            (product("boiler-200"), product("camera-s2", "lumen")),
        ),
        past=(),
        first_words="",
    )
    reply = await rig.ana.get("/context/c_1")
    assert reply.status == 200
    page = words(reply)
    for part in (
        "Maria Lopez",
        "Video",
        "About Boiler 200, while reading “Pressure keeps dropping”",
        "boiler hydraulics level 5",
        "read 'Pressure keeps dropping' for 74 s",
        "Searched “pressure leak”",
        "found nothing",
        "read for 74 s",
        "This is their first.",
        "maria@example.org",
    ):
        assert part in page, part
    assert "Camera S2" not in page, "another provider's product stays behind its wall"


async def test_the_context_is_for_that_agent_and_only_while_the_contact_is_theirs(rig: Rig) -> None:
    await rig.people.hire()
    contact = rig.desk.make("c_1")
    waiting = await rig.ana.get("/context/c_1")
    assert waiting.status == 404
    rig.desk.ring(contact, "ana")
    assert (await rig.ana.get("/context/c_1")).status == 200, "before it is accepted, too"
    theirs, missing = await rig.bo.get("/context/c_1"), await rig.bo.get("/context/c_none")
    assert theirs.status == missing.status == 404
    assert theirs.body == missing.body, "nobody learns whether a contact exists"
    assert "Maria" not in theirs.body
    contact.back()
    assert (await rig.ana.get("/context/c_1")).status == 404


async def test_the_context_stays_open_during_wrap_up_and_no_longer(rig: Rig) -> None:
    await rig.people.hire()
    rig.people.register("ana")
    states = rig.people.states
    await states.ready("ana")
    contact = rig.desk.make("c_1")
    await states.reserve("ana", "c_1", channel="chat", lease_s=60)
    rig.desk.connect(contact, "ana")
    states.accepted("ana", "c_1")
    rig.desk.finish(contact)
    states.release("ana", "c_1", wrap_up_s=10)
    rig.people.events.write("contact.ended", contact="c_1", agent="ana")
    assert rig.state("ana") is AgentState.WRAP_UP
    assert (await rig.ana.get("/context/c_1")).status == 200
    assert "Maria Lopez" in words(await rig.ana.get("/agent"))
    assert (await rig.bo.get("/context/c_1")).status == 404
    assert (await rig.ana.submit("/agent/contacts/c_1/end", {})).status == 404
    rig.clock.advance(11)
    assert rig.state("ana") is AgentState.READY
    assert (await rig.ana.get("/context/c_1")).status == 404


# Live


def panels(stream: Stream, name: str) -> list[str]:
    return [event.data["html"] for event in stream.events("panel") if event.data["name"] == name]


async def changes(rig: Rig) -> None:
    await settle()
    rig.clock.advance(0.1)
    await settle()


async def test_the_page_follows_state_phones_contacts_and_lines(rig: Rig) -> None:
    await rig.people.hire()
    stream = await rig.ana.follow("/agent/live")
    assert stream.status == 200
    assert {event.data["name"] for event in stream.events("panel")} == {
        *("state", "contacts", "messages", "devices"),
    }
    rig.people.register("ana")
    await changes(rig)
    assert "Registered" in panels(stream, "devices")[-1]
    await rig.people.states.ready("ana")
    await changes(rig)
    assert 'data-state="ready"' in panels(stream, "state")[-1]
    contact = rig.desk.make("c_1")
    await rig.people.states.reserve("ana", "c_1", channel="chat", lease_s=60)
    rig.desk.ring(contact, "ana")
    await changes(rig)
    assert "Maria Lopez" in panels(stream, "contacts")[-1]
    contact.join(AT)
    rig.desk.tell("c_1", "state", {})
    await changes(rig)
    assert "compose" in panels(stream, "contacts")[-1]
    rig.desk.line("c_1", "customer", "<i>hi</i>")
    await changes(rig)
    said = stream.events("message")[-1].data
    assert said["contact"] == "c_1"
    assert "&lt;i&gt;hi&lt;/i&gt;" in said["html"]


async def test_the_page_shows_who_writes_and_what_became_of_lines(rig: Rig) -> None:
    await rig.people.hire()
    rig.desk.connect(rig.desk.make("c_1"), "ana")
    rig.desk.line("c_1", "customer", "hi")
    rig.desk.line("c_1", "agent", "hello")
    rig.desk.writers["c_1"] = ("customer",)
    stream = await rig.ana.follow("/agent/live")
    assert [event.data["words"] for event in stream.events("composing")] == ["Maria Lopez is writing…"]
    assert '<span class="line-mark">sent</span>' in panels(stream, "contacts")[-1]
    rig.desk.tell("c_1", "composing", {"from": "customer", "active": False})
    rig.desk.tell("c_1", "composing", {"from": "agent", "active": True})
    rig.desk.deliver("c_1", "m_1")
    rig.desk.show("c_1", "m_2")
    rig.desk.show("c_1", "m_1")
    await changes(rig)
    assert [event.data["words"] for event in stream.events("composing")][1:] == [""]
    assert [(event.data["id"], event.data["words"]) for event in stream.events("mark")] == [
        ("m_1", "on phone"),
        ("m_2", "read"),
    ]
    page = (await rig.ana.get("/agent")).body
    assert '<span class="line-mark">on phone</span>' in page
    assert '<span class="line-mark">read</span>' in page


async def test_nothing_is_sent_when_nothing_changed_and_nothing_of_others(rig: Rig) -> None:
    await rig.people.hire()
    stream = await rig.ana.follow("/agent/live")
    before = len(stream.events())
    rig.people.register("bo")
    await rig.people.states.ready("bo")
    rig.desk.ring(rig.desk.make("c_1"), "bo")
    rig.people.events.write("contact.ringing", contact="c_1", agent="bo")
    await changes(rig)
    rig.clock.advance(HEARTBEAT_S)
    await settle()
    assert len(stream.events()) == before
    assert ": still here" in stream.text


async def test_nothing_is_left_behind_when_the_page_closes(rig: Rig) -> None:
    await rig.people.hire()
    rig.desk.connect(rig.desk.make("c_1"), "ana")
    before = len(rig.clock.getDelayedCalls())
    stream = await rig.ana.follow("/agent/live")
    assert rig.desk.listeners
    stream.leave()
    await settle()
    assert not rig.desk.listeners
    assert len(rig.pages.news) == 0
    assert len(rig.pages.streams) == 0
    assert len(rig.clock.getDelayedCalls()) == before


async def test_the_stream_ends_when_the_login_does(rig: Rig) -> None:
    await rig.people.hire()
    stream = await rig.ana.follow("/agent/live")
    rig.logins.ended.add("ana")
    for _ in range(4):
        rig.clock.advance(HEARTBEAT_S)
        await settle()
    assert stream.closed


# Everywhere


async def test_the_login_works_with_real_passwords_and_sessions(
    clock: Clock, now: Callable[[], float], database: Database
) -> None:
    rig = Rig(clock, now)
    await rig.people.hire()
    logins = Logins(database, now, hasher=PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    try:
        await rig.people.roster.add_agent(
            "Carla", "carla", await logins.hash_password("carla-agent"), skills={}, agent_id="carla"
        )
        rig.pages._logins = logins
        browser, reply = await log_in(rig, "carla", "carla-agent")
        assert (reply.status, reply.headers["location"]) == (303, "/agent")
        assert "HttpOnly" in reply.headers["set-cookie"]
        page = await browser.get("/agent")
        assert "Carla" in words(page)
        csrf = re.search(r'name="csrf"[^>]*?(?:value|content)="([^"]+)"', page.body)
        assert csrf is not None
        assert (await browser.submit("/agent/state", {"state": "not-ready"}, csrf="wrong")).status == 403
        assert (
            await browser.submit("/agent/state", {"state": "not-ready"}, csrf=csrf.group(1))
        ).status == 303
        _, wrong = await log_in(rig, "carla", "x" * 5000)
        assert wrong.status == 401
    finally:
        logins.close()


def test_the_real_front_desk_is_what_the_pages_ask_for() -> None:
    def checked_by_mypy(desk: FrontDesk) -> tuple[CustomerDesk, AgentDesk]:
        return desk, desk

    assert {name for name in vars(FakeDesk) if not name.startswith("_")} - vars(FrontDesk).keys() == {
        "make",
        "line",
        "finish",
        "connect",
        "ring",
        "deliver",
        "show",
        "tell",
    }


async def test_pages_run_no_foreign_script_and_are_not_kept(rig: Rig) -> None:
    await rig.people.hire()
    rig.desk.connect(rig.desk.make("c_1"), "ana")
    for browser, path in (
        (rig.stranger, "/agent/login"),
        (rig.ana, "/agent"),
        (rig.ana, "/context/c_1"),
        (rig.ana, "/agent/static/none"),
    ):
        reply = await browser.get(path)
        assert reply.status == (404 if "static" in path else 200)
        assert "script-src 'self'" in reply.headers["content-security-policy"]
        assert "unsafe" not in reply.headers["content-security-policy"]
        assert reply.headers["cache-control"] == "no-store"
        assert not re.search(r"<script(?![^>]*\ssrc=)", reply.body)
        assert not re.search(r"\s(style|on\w+)=", reply.body)


async def test_static_files_are_kept_by_browsers_and_nothing_else_is_served(rig: Rig) -> None:
    page = await rig.stranger.get("/agent/login")
    found = re.search(r'href="(/agent/static/agent.css\?v=\w+)"', page.body)
    assert found is not None
    reply = await rig.stranger.get(found.group(1))
    assert reply.status == 200
    assert "immutable" in reply.headers["cache-control"]
    for path in ("/agent/static/none.css", "/agent/static/..%2froutes.py", "/agent/nothing", "/context/"):
        assert (await rig.stranger.get(path)).status == 404


async def test_a_fault_shows_a_reference_and_no_traceback(rig: Rig) -> None:
    await rig.people.hire()
    rig.desk.ring(rig.desk.make("c_1"), "ana")

    async def breaks(contact_id: str) -> Any:
        raise RuntimeError("the secret inside")

    rig.desk.context = breaks  # type: ignore[method-assign]
    reply = await rig.ana.get("/context/c_1")
    assert reply.status == 500
    assert "secret" not in reply.body
    assert re.search(r"<code>[0-9a-f]{8}</code>", reply.body)
    asked = await rig.ana.get("/context/c_1", Accept=JSON)
    assert set(json.loads(asked.body)) == {"error", "reference"}
