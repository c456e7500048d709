"""The customer's API, as help.js meets it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, globalLogPublisher
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from zope.interface import implementer

from config.errors import OurError
from pbx.api.routes import Api, Limits
from pbx.api.site import WarmlineSite, build_root
from pbx.app_credentials import AppCredentials
from tests.pbx.desk import FakeDesk
from tests.pbx.web import Browser, CookieLogins

ASK = {"channel": "chat", "product": "boiler-200", "article": None, "visit": "v_1", "text": "Grüße 🙂"}


class Rig:
    def __init__(self, clock: Clock, now: Callable[[], float], limits: Limits | None = None) -> None:
        self.desk = FakeDesk()
        self.logins = CookieLogins()
        self.credentials = AppCredentials(domain="help.example", realm="warmline", now=now)
        self.api = Api(
            desk=self.desk,
            logins=self.logins,  # type: ignore[arg-type]
            credentials=self.credentials,
            clock=clock,
            limits=limits,
        )
        root = build_root(api=self.api.resource(), pages=Resource(), portal=Resource(), sip=None)
        self.site = WarmlineSite(root, clock, access_log=lambda line: None)
        self.maria = Browser(self.site, {"warmline_customer": "maria"})
        self.jonas = Browser(self.site, {"warmline_customer": "jonas"})
        self.stranger = Browser(self.site)


@pytest.fixture
def rig(clock: Clock, now: Callable[[], float]) -> Rig:
    return Rig(clock, now)


async def test_a_contact_is_asked_for(rig: Rig) -> None:
    reply = await rig.maria.post("/api/contacts", ASK)
    assert reply.status == 201
    assert reply.json() == {
        "id": "c_1",
        "channel": "chat",
        "state": "waiting",
        "uri": "sip:c_1@help.example",
        "position": 1,
    }
    assert rig.desk.asked == [("maria", "chat", "boiler-200", None, "v_1", "Grüße 🙂")]


async def test_the_open_contact_is_found_again_and_none_is_204(rig: Rig) -> None:
    assert (await rig.maria.get("/api/contacts/current")).status == 204
    contact = rig.desk.make("c_1")
    rig.desk.line("c_1", "customer", "Hello")
    reply = await rig.maria.get("/api/contacts/current")
    assert reply.status == 200
    assert reply.json()["messages"] == [
        {
            "id": "m_1",
            "from": "customer",
            "text": "Hello",
            "at": pytest.approx(1767225660),
            "delivered": False,
            "read": False,
        }
    ]
    rig.desk.finish(contact)
    assert (await rig.maria.get("/api/contacts/current")).status == 204
    assert (await rig.maria.get("/api/contacts/c_1")).json()["state"] == "ended"


async def test_a_line_said_twice_with_one_key_is_one_line(rig: Rig) -> None:
    rig.desk.make("c_1")
    first = await rig.maria.post("/api/contacts/c_1/messages", {"key": "k1", "text": "Is this on?"})
    again = await rig.maria.post("/api/contacts/c_1/messages", {"key": "k1", "text": "Is this on?"})
    assert first.status == again.status == 201
    assert first.json() == again.json()
    assert len(rig.desk.said["c_1"]) == 1


async def test_ending_and_feedback(rig: Rig) -> None:
    rig.desk.make("c_1")
    assert (await rig.maria.post("/api/contacts/c_1/end")).status == 200
    assert rig.desk.ended_by == [("c_1", "customer")]
    reply = await rig.maria.post("/api/contacts/c_1/feedback", {"helped": True, "comment": " Kind. "})
    assert reply.status == 200
    assert rig.desk.fed_back == [("c_1", True, "Kind.")]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/contacts/current"),
        ("GET", "/api/contacts/c_1"),
        ("GET", "/api/contacts/c_1/live"),
        ("POST", "/api/contacts"),
        ("POST", "/api/contacts/c_1/messages"),
        ("POST", "/api/contacts/c_1/composing"),
        ("POST", "/api/contacts/c_1/seen"),
        ("POST", "/api/contacts/c_1/channel"),
        ("POST", "/api/contacts/c_1/call-back"),
        ("POST", "/api/contacts/c_1/call-back/refuse"),
        ("POST", "/api/contacts/c_1/call-back/cancel"),
        ("POST", "/api/contacts/c_1/end"),
        ("POST", "/api/contacts/c_1/feedback"),
        ("POST", "/api/sip-credentials"),
    ],
)
async def test_a_stranger_is_told_to_log_in(rig: Rig, method: str, path: str) -> None:
    rig.desk.make("c_1")
    reply = await rig.stranger.ask(method, path)
    assert reply.status == 401
    assert reply.json() == {"error": "Please log in first."}


@pytest.mark.parametrize(
    "path",
    [
        "/api/contacts",
        "/api/contacts/c_1/messages",
        "/api/contacts/c_1/composing",
        "/api/contacts/c_1/seen",
        "/api/contacts/c_1/channel",
        "/api/contacts/c_1/call-back",
        "/api/contacts/c_1/call-back/refuse",
        "/api/contacts/c_1/call-back/cancel",
        "/api/contacts/c_1/end",
        "/api/sip-credentials",
    ],
)
@pytest.mark.parametrize("csrf", [None, "wrong"])
async def test_nothing_is_done_without_the_csrf_token(rig: Rig, path: str, csrf: str | None) -> None:
    rig.desk.make("c_1")
    reply = await rig.maria.post(path, {**ASK, "key": "k"}, csrf=csrf)
    assert reply.status == 403
    assert rig.desk.asked == []
    assert rig.desk.ended_by == []
    assert not rig.desk.said["c_1"]
    assert rig.desk.signs == []
    assert rig.desk.moved == []
    assert not rig.credentials._known


async def test_signs_of_writing_and_reading_are_taken_in_measure(rig: Rig) -> None:
    rig.desk.make("c_1")
    for active in (True, False):
        assert (await rig.maria.post("/api/contacts/c_1/composing", {"active": active})).status == 200
    assert (await rig.maria.post("/api/contacts/c_1/seen", {"message": "m_1"})).status == 200
    assert rig.desk.signs == [
        ("c_1", "customer", True),
        ("c_1", "customer", False),
        ("c_1", "customer", "m_1"),
    ]
    for path, value in (
        ("composing", {"active": "yes"}),
        ("composing", {}),
        ("seen", {}),
        ("seen", {"message": 3}),
    ):
        assert (await rig.maria.post(f"/api/contacts/c_1/{path}", value)).status in (400, 422)
    statuses = [
        (await rig.maria.post("/api/contacts/c_1/composing", {"active": True})).status for _ in range(30)
    ]
    assert statuses[0] == 200
    assert statuses[-1] == 429
    assert (await rig.maria.post("/api/contacts/c_1/messages", {"key": "k", "text": "t"})).status == 201


MOVES = ["/channel", "/call-back", "/call-back/refuse", "/call-back/cancel"]


async def test_a_call_back_is_asked_for_refused_and_cancelled(rig: Rig) -> None:
    rig.desk.make("c_1", channel="voice")
    path = "/api/contacts/c_1/call-back"
    for body in ({}, {"way": "phone"}, {"number": "+15550100001"}):
        reply = await rig.maria.post(path, body)
        assert (reply.status, reply.json()["id"]) == (200, "c_1")
    for rest in ("refuse", "cancel"):
        assert (await rig.maria.post(f"{path}/{rest}")).status == 200
    assert rig.desk.moved == [
        ("call-back", "c_1", "app", ""),
        ("call-back", "c_1", "phone", ""),
        ("call-back", "c_1", "phone", "+15550100001"),
        ("refuse", "c_1"),
        ("cancel", "c_1"),
    ]


@pytest.mark.parametrize("body", [{"way": "pigeon"}, {"way": 1}, {"number": 7}, {"number": "+1" * 300}])
async def test_a_call_back_by_no_way_is_refused(rig: Rig, body: Any) -> None:
    rig.desk.make("c_1", channel="voice")
    assert (await rig.maria.post("/api/contacts/c_1/call-back", body)).status in (400, 413, 422)
    assert rig.desk.moved == []


async def test_a_waiting_contact_goes_on_in_another_channel(rig: Rig) -> None:
    contact = rig.desk.make("c_1", channel="voice")
    reply = await rig.maria.post("/api/contacts/c_1/channel", {"channel": "chat"})
    assert (reply.status, rig.desk.moved) == (200, [("channel", "c_1", "chat")])
    assert (await rig.maria.post("/api/contacts/c_1/channel", {"channel": "fax"})).status == 422
    rig.desk.connect(contact, "ana")
    reply = await rig.maria.post("/api/contacts/c_1/channel", {"channel": "chat"})
    assert (reply.status, reply.json()) == (409, {"error": "Somebody is with you."})


async def test_feedback_has_its_measure(clock: Clock, now: Callable[[], float]) -> None:
    rig = Rig(clock, now, Limits(moves=(2, 0.1)))
    rig.desk.make("c_1")
    for expected in (200, 200, 429):
        assert (await rig.maria.post("/api/contacts/c_1/feedback", {"helped": True})).status == expected


async def test_moving_to_and_fro_has_its_measure(clock: Clock, now: Callable[[], float]) -> None:
    rig = Rig(clock, now, Limits(moves=(2, 0.1)))
    rig.desk.make("c_1", channel="voice")
    for expected in (200, 200, 429):
        assert (await rig.maria.post("/api/contacts/c_1/channel", {"channel": "chat"})).status == expected


@pytest.mark.parametrize(
    "rest", ["", "/live", "/messages", "/composing", "/seen", *MOVES, "/end", "/feedback"]
)
async def test_somebody_elses_contact_looks_like_none_at_all(rig: Rig, rest: str) -> None:
    rig.desk.make("c_1", "maria")
    value = {"key": "k", "text": "t", "helped": True}
    answers = []
    for contact in ("c_1", "c_none"):
        path = f"/api/contacts/{contact}{rest}"
        answers.append(await (rig.jonas.get(path) if rest in ("", "/live") else rig.jonas.post(path, value)))
    theirs, missing = answers
    assert theirs.status == missing.status == 404
    assert theirs.body == missing.body
    assert rig.desk.ended_by == []
    assert rig.desk.moved == []
    assert not rig.desk.said["c_1"]


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"{", 400, "valid JSON"),
        (b"[]", 400, "JSON object"),
        (b"\xff\xfe", 400, "valid JSON"),
        (b'{"channel": NaN}', 400, "valid JSON"),
        (b"[" * 100_000, 400, "valid JSON"),
        ({**ASK, "channel": 5}, 400, "“channel” must be text"),
        ({**ASK, "channel": "smoke"}, 422, "no channel “smoke”"),
        ({"channel": "chat"}, 400, "which of your products"),
        ({**ASK, "product": {"a": 1}}, 400, "“product” must be text"),
        ({**ASK, "product": "x" * 101}, 400, "not an id"),
        ({**ASK, "product": "no\nsuch"}, 400, "not an id"),
        ({**ASK, "product": "hub-mini"}, 404, "no such product"),
        ({**ASK, "text": 5}, 400, "“text” must be text"),
        ({**ASK, "text": "x" * 4001}, 422, "too long"),
        (b'{"channel": "chat", "product": "boiler-200", "text": "\\ud800"}', 400, "not text"),
        (b'{"channel": "chat", "product": "boiler-200", "text": "a\\u0000b"}', 400, "not text"),
    ],
)
async def test_a_wrong_request_is_told_what_is_wrong(rig: Rig, body: Any, status: int, says: str) -> None:
    reply = await rig.maria.post("/api/contacts", body)
    assert reply.status == status
    assert says in reply.json()["error"]
    assert rig.desk.asked == []


@pytest.mark.parametrize(
    "value", [{}, {"key": "k"}, {"key": "k", "text": "  "}, {"key": "", "text": "t"}, {"key": 1, "text": "t"}]
)
async def test_a_line_without_key_or_text_is_refused(rig: Rig, value: Any) -> None:
    rig.desk.make("c_1")
    assert (await rig.maria.post("/api/contacts/c_1/messages", value)).status == 400


@pytest.mark.parametrize("value", [{}, {"helped": "yes"}, {"helped": 1}, {"helped": True, "comment": []}])
async def test_feedback_must_say_whether_it_helped(rig: Rig, value: Any) -> None:
    rig.desk.make("c_1")
    assert (await rig.maria.post("/api/contacts/c_1/feedback", value)).status == 400
    assert rig.desk.fed_back == []


async def test_a_form_is_not_json(rig: Rig) -> None:
    reply = await rig.maria.submit("/api/contacts", {"channel": "chat", "product": "boiler-200"})
    assert reply.status == 415


async def test_no_new_contacts_while_the_server_drains(rig: Rig) -> None:
    rig.desk.draining = True
    reply = await rig.maria.post("/api/contacts", ASK)
    assert reply.status == 503
    assert reply.headers["retry-after"] == "10"
    assert rig.desk.asked == []
    assert 'data-available="no"' in (await rig.maria.get("/api/help?product=boiler-200")).body


async def test_an_unknown_fault_shows_a_reference_that_is_in_the_log_and_nothing_else(rig: Rig) -> None:
    rig.desk.breaks = RuntimeError("the secret inside")
    seen: list[str] = []

    @implementer(ILogObserver)
    def observe(event: Any) -> None:
        if "reference" in event:
            seen.append(event["reference"])

    globalLogPublisher.addObserver(observe)
    try:
        reply = await rig.maria.post("/api/contacts", ASK)
    finally:
        globalLogPublisher.removeObserver(observe)
    assert reply.status == 500
    assert "secret" not in reply.body
    assert "Traceback" not in reply.body
    assert seen == [reply.json()["reference"]]


async def test_a_fault_of_ours_keeps_its_status_and_reason(rig: Rig) -> None:
    rig.desk.breaks = OurError("The database is away.", 503)
    reply = await rig.maria.post("/api/contacts", ASK)
    assert (reply.status, reply.json()["error"]) == (503, "The database is away.")


async def test_too_many_requests_for_help_are_slowed_down_and_only_for_that_customer(
    clock: Clock, now: Callable[[], float]
) -> None:
    rig = Rig(clock, now, Limits(contacts=(2, 0.1), messages=(1, 1)))
    rig.desk.make("c_9")
    for expected in (201, 201, 429):
        assert (await rig.maria.post("/api/contacts", ASK)).status == expected
    assert (await rig.jonas.post("/api/contacts", ASK)).status == 201
    clock.advance(10)
    assert (await rig.maria.post("/api/contacts", ASK)).status == 201
    assert (await rig.maria.post("/api/contacts/c_9/messages", {"key": "1", "text": "a"})).status == 201
    refused = await rig.maria.post("/api/contacts/c_9/messages", {"key": "2", "text": "b"})
    assert refused.status == 429
    assert "retry-after" in refused.headers


async def test_a_customer_who_hangs_up_in_the_middle_has_still_asked(rig: Rig) -> None:
    gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    inner = rig.desk.request

    async def slow(*args: Any, **more: Any) -> Any:
        await gate
        return await inner(*args, **more)

    rig.desk.request = slow  # type: ignore[method-assign]
    body = b'{"channel":"chat","product":"boiler-200"}'
    headers = {"Content-Type": "application/json", "X-CSRF-Token": "the-token"}
    _, protocol = rig.maria._send(rig.maria._raw("POST", "/api/contacts", headers, body))
    for _ in range(20):
        await asyncio.sleep(0)
    protocol.connectionLost(Failure(ConnectionLost()))
    await asyncio.sleep(0)
    gate.set_result(None)
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(rig.desk.asked) == 1


async def test_sip_credentials_are_the_customers_own_and_the_web_socket_is_where_the_page_came_from(
    rig: Rig,
) -> None:
    reply = await rig.maria.post("/api/sip-credentials")
    assert reply.status == 200
    issued = reply.json()
    assert issued["uri"] == f"sip:{issued['username']}@help.example"
    assert issued["ws"] == "ws://help.example/sip"
    assert issued["expires_s"] == 600
    assert rig.credentials.customer_of(issued["username"]) == "maria"
    assert rig.credentials.credentials_of(issued["username"]) is not None
    assert issued["password"] not in repr(rig.credentials.__dict__)


async def test_help_offers_what_can_be_had_and_says_what_cannot(rig: Rig) -> None:
    reply = await rig.maria.get("/api/help?product=boiler-200&article=a_1")
    assert reply.status == 200
    assert reply.headers["content-type"].startswith("text/html")
    assert 'data-channel="chat" data-wait="no"' in reply.body
    assert 'data-channel="voice" data-wait="yes"' in reply.body
    assert 'data-channel="video"' not in reply.body
    assert 'data-missing="video"' in reply.body
    assert "Try chat or voice." in reply.body


async def test_help_says_honestly_that_nobody_is_there(rig: Rig) -> None:
    rig.desk.outlook = {"chat": "none", "voice": "none", "video": "none"}
    reply = await rig.maria.get("/api/help?product=boiler-200")
    assert "data-channel" not in reply.body
    assert 'data-available="no"' in reply.body


async def test_help_sends_a_stranger_to_the_login(rig: Rig) -> None:
    reply = await rig.stranger.get("/api/help?product=boiler-200")
    assert reply.status == 401
    assert 'href="/login"' in reply.body


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/nothing", 404),
        ("GET", "/api//contacts/current", 404),
        ("DELETE", "/api/contacts/c_1", 405),
        ("GET", "/api/sip-credentials", 405),
        ("GET", "/api/contacts/%ff", 400),
    ],
)
async def test_addresses_that_are_not_there_are_answered_without_a_traceback(
    rig: Rig, method: str, path: str, status: int
) -> None:
    reply = await rig.maria.ask(method, path)
    assert reply.status in (status, 404)
    assert "Traceback" not in reply.body


async def test_answers_are_not_kept_framed_or_guessed_at(rig: Rig) -> None:
    reply = await rig.maria.get("/api/contacts/current")
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert "server" not in reply.headers
    assert "strict-transport-security" not in reply.headers
