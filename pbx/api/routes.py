"""Every REST route of a customer's contact, and the stream that follows it.

    GET  /api/help?product=&article=      HTML: which channels can be had now
    POST /api/contacts                    ask for help                          201
    GET  /api/contacts/current            the contact that is still open        200, 204
    GET  /api/contacts/<id>               with its messages                     200
    GET  /api/contacts/<id>/live          server-sent events: state, message, delivered, read, composing
    POST /api/contacts/<id>/messages      say a line; stored before answered    201
    POST /api/contacts/<id>/composing     active: the customer writes, or not   200
    POST /api/contacts/<id>/seen          message: shown, and all before it     200
    POST /api/contacts/<id>/channel       channel: they go on in that one       200
    POST /api/contacts/<id>/call-back     way (app, phone) or number: their own 200
    POST /api/contacts/<id>/call-back/refuse   called back: not now             200
    POST /api/contacts/<id>/call-back/cancel   they wait on the line instead    200
    POST /api/contacts/<id>/recording     allow: the call may be recorded, or not     200
    POST /api/contacts/<id>/end                                                 200
    POST /api/contacts/<id>/feedback                                            200
    POST /api/sip-credentials             a few minutes of being a SIP phone    200

What moves a contact is answered with the contact as it then is, and with 409 and the reason where it cannot be.
Every route needs a customer's login (401 without), every POST its CSRF token (403), and a contact that is somebody
else's is answered exactly like one that does not exist (404).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast

from klein import Klein, KleinRenderable
from klein.resource import KleinResource
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.server import Request

from config.errors import TheirError
from config.login import Login, Logins
from config.rate_limit import RateLimit
from pbx.api import help_fragment
from pbx.api.desk import CustomerDesk
from pbx.api.edge import (
    Answer,
    Body,
    Refusal,
    Streamed,
    Work,
    argument,
    identifier,
    json_answer,
    json_refusal,
    refusal_of,
    settle,
)
from pbx.api.follow import follow_contact
from pbx.api.limits import StreamCount
from pbx.app_credentials import AppCredentials
from pbx.contact import Contact

CHANNELS = ("chat", "voice", "video")
WAYS = ("app", "phone")
LONGEST_NUMBER = 20
MAX_STREAMS = 8
# Nothing here is a page: whatever a browser takes it for, it must not run it or frame it.
API_CSP = "default-src 'none'; frame-ancestors 'none'"


@dataclass(frozen=True)
class Limits:
    """Tokens: how many at once, and how many more each second, per customer."""

    contacts: tuple[float, float] = (10, 1 / 6)
    messages: tuple[float, float] = (20, 2)
    signs: tuple[float, float] = (20, 1)
    moves: tuple[float, float] = (10, 1 / 6)
    credentials: tuple[float, float] = (20, 1 / 3)


class Api:
    """The customer's API over a FrontDesk."""

    app = Klein()

    def __init__(
        self,
        *,
        desk: CustomerDesk,
        logins: Logins,
        credentials: AppCredentials,
        clock: IReactorTime,
        limits: Limits | None = None,
        allow_recording: Callable[[Contact, bool], Awaitable[None]] | None = None,
    ) -> None:
        limits = limits or Limits()
        self._desk = desk
        self._logins = logins
        self._credentials = credentials
        self._clock = clock
        self._allow_recording = allow_recording
        self._new_contacts = RateLimit(*limits.contacts, clock.seconds)
        self._new_messages = RateLimit(*limits.messages, clock.seconds)
        self._new_signs = RateLimit(*limits.signs, clock.seconds)
        self._moves = RateLimit(*limits.moves, clock.seconds)
        self._new_credentials = RateLimit(*limits.credentials, clock.seconds)
        self.streams = StreamCount(MAX_STREAMS)

    def resource(self) -> KleinResource:
        return self.app.resource()

    async def close(self) -> None:
        """End every stream, before the server stops."""
        await self.streams.close()

    # --- routes

    @app.route("/api/help", methods=["GET"])
    def help(self, request: Request) -> Deferred[bytes]:
        async def work() -> Answer:
            try:
                login = await self._customer(request)
            except TheirError:
                return help_fragment.log_in_first()
            if self._desk.draining:
                return help_fragment.closing()
            found = await self._desk.availability(
                login.subject,
                identifier(argument(request, "product"), "product"),
                identifier(argument(request, "article"), "article"),
                identifier(argument(request, "visit"), "visit"),
            )
            return help_fragment.render(found)

        return self._settle(request, work)

    @app.route("/api/contacts", methods=["POST"])
    def request_contact(self, request: Request) -> Deferred[bytes]:
        async def work() -> Answer:
            login = await self._customer(request, acting=True)
            body = Body.of(request)
            channel = _channel(body)
            asked = {
                "product_id": body.optional_id("product"),
                "article_id": body.optional_id("article"),
                "visit_id": body.optional_id("visit"),
                "text": body.optional_text("text"),
                "key": body.optional_id("key"),
            }
            self._new_contacts.take(login.subject, "That is a lot of requests for help.")
            contact = await self._desk.request(login.subject, channel, **asked)
            view = self._desk.view(contact)
            return json_answer(
                {name: view[name] for name in ("id", "channel", "state", "uri", "position")},
                201,
                {"Location": f"/api/contacts/{contact.id}"},
            )

        return self._settle(request, work, to_the_end=True)

    @app.route("/api/contacts/current", methods=["GET"])
    def current_contact(self, request: Request) -> Deferred[bytes]:
        async def work() -> Answer:
            login = await self._customer(request)
            contact = self._desk.current(login.subject)
            if contact is None:
                return Answer(status=204, headers={"Cache-Control": "no-store"})
            return json_answer(await self._whole(contact))

        return self._settle(request, work)

    @app.route("/api/contacts/<contact_id>", methods=["GET"])
    def one_contact(self, request: Request, contact_id: str) -> Deferred[bytes]:
        async def work() -> Answer:
            contact = await self._own(await self._customer(request), contact_id)
            return json_answer(await self._whole(contact))

        return self._settle(request, work)

    @app.route("/api/contacts/<contact_id>/live", methods=["GET"])
    def live(self, request: Request, contact_id: str) -> Deferred[bytes]:
        async def work() -> Answer | Streamed:
            login = await self._customer(request)
            contact = await self._own(login, contact_id)

            async def still_theirs() -> bool:
                now = await self._logins.who(request, "customer")
                return now is not None and now.subject == login.subject

            with self.streams.one(login.subject):
                return await follow_contact(request, self._desk, contact, self._clock, still_theirs)

        return self._settle(request, work)

    @app.route("/api/contacts/<contact_id>/messages", methods=["POST"])
    def say(self, request: Request, contact_id: str) -> Deferred[bytes]:
        async def work() -> Answer:
            login = await self._customer(request, acting=True)
            contact = await self._own(login, contact_id)
            body = Body.of(request)
            key, text = body.id("key"), body.text("text")
            self._new_messages.take(login.subject, "That is a lot of messages.")
            return json_answer({"id": await self._desk.say(contact.id, key, text)}, 201)

        return self._settle(request, work, to_the_end=True)

    @app.route("/api/contacts/<contact_id>/composing", methods=["POST"])
    def composing(self, request: Request, contact_id: str) -> Deferred[bytes]:
        async def work() -> Answer:
            login = await self._customer(request, acting=True)
            contact = await self._own(login, contact_id)
            active = Body.of(request).flag("active")
            self._new_signs.take(login.subject, "That is a lot of signs of writing.")
            self._desk.composing(contact.id, "customer", active)
            return json_answer({"heard": True})

        return self._settle(request, work)

    @app.route("/api/contacts/<contact_id>/seen", methods=["POST"])
    def seen(self, request: Request, contact_id: str) -> Deferred[bytes]:
        async def work() -> Answer:
            login = await self._customer(request, acting=True)
            contact = await self._own(login, contact_id)
            message_id = Body.of(request).id("message")
            self._new_signs.take(login.subject, "That is a lot of signs of reading.")
            self._desk.seen(contact.id, "customer", message_id)
            return json_answer({"heard": True})

        return self._settle(request, work)

    @app.route("/api/contacts/<contact_id>/channel", methods=["POST"])
    def change_channel(self, request: Request, contact_id: str) -> Deferred[bytes]:
        async def move() -> None:
            await self._desk.change_channel(contact_id, _channel(Body.of(request)))

        return self._moved(request, contact_id, move)

    @app.route("/api/contacts/<contact_id>/call-back", methods=["POST"])
    def call_back(self, request: Request, contact_id: str) -> Deferred[bytes]:
        async def move() -> None:
            body = Body.of(request)
            number = body.optional_text("number") or ""
            way = body.optional_text("way") or ("phone" if number else "app")
            if way not in WAYS or len(number) > LONGEST_NUMBER:
                raise TheirError("A call back comes by app or by phone, to a number of yours.", 422)
            await self._desk.ask_call_back(contact_id, way, number)

        return self._moved(request, contact_id, move)

    @app.route("/api/contacts/<contact_id>/call-back/refuse", methods=["POST"])
    def refuse_call_back(self, request: Request, contact_id: str) -> Deferred[bytes]:
        async def move() -> None:
            self._desk.refuse_call_back(contact_id)

        return self._moved(request, contact_id, move)

    @app.route("/api/contacts/<contact_id>/call-back/cancel", methods=["POST"])
    def cancel_call_back(self, request: Request, contact_id: str) -> Deferred[bytes]:
        async def move() -> None:
            await self._desk.cancel_call_back(contact_id)

        return self._moved(request, contact_id, move)

    @app.route("/api/contacts/<contact_id>/recording", methods=["POST"])
    def allow_recording(self, request: Request, contact_id: str) -> Deferred[bytes]:
        async def work() -> Answer:
            login = await self._customer(request, acting=True)
            contact = await self._own(login, contact_id)
            given = Body.of(request).flag("allow")
            self._new_signs.take(login.subject, "That is a lot of changes.")
            if self._allow_recording is None:
                raise TheirError("This call is not recorded.", 409)
            await self._allow_recording(contact, given)
            return json_answer(self._desk.view(contact))

        return self._settle(request, work, to_the_end=True)

    @app.route("/api/contacts/<contact_id>/end", methods=["POST"])
    def end(self, request: Request, contact_id: str) -> Deferred[bytes]:
        async def work() -> Answer:
            contact = await self._own(await self._customer(request, acting=True), contact_id)
            await self._desk.end(contact.id, "customer")
            return json_answer({"ended": True})

        return self._settle(request, work, to_the_end=True)

    @app.route("/api/contacts/<contact_id>/feedback", methods=["POST"])
    def feedback(self, request: Request, contact_id: str) -> Deferred[bytes]:
        async def work() -> Answer:
            contact = await self._own(await self._customer(request, acting=True), contact_id)
            body = Body.of(request)
            helped, comment = body.flag("helped"), body.optional_text("comment")
            self._moves.take(contact.facts.customer_id or "", "That is a lot of answers.")
            await self._desk.feedback(contact.id, helped, comment)
            return json_answer({"thanks": True})

        return self._settle(request, work, to_the_end=True)

    @app.route("/api/sip-credentials", methods=["POST"])
    def sip_credentials(self, request: Request) -> Deferred[bytes]:
        async def work() -> Answer:
            login = await self._customer(request, acting=True)
            self._new_credentials.take(login.subject, "That is a lot of phones.")
            issued = self._credentials.issue(login.subject)
            host = request.getHeader("host") or ""
            return json_answer(
                {
                    "uri": issued.uri,
                    "username": issued.username,
                    "password": issued.password,
                    "realm": issued.realm,
                    "ws": f"{'wss' if request.isSecure() else 'ws'}://{host}/sip",
                    "expires_s": int(issued.expires_s),
                }
            )

        return self._settle(request, work)

    @app.handle_errors(Exception)
    def not_routed(self, request: IRequest, failure: Failure) -> KleinRenderable:
        answer = json_refusal(refusal_of(failure.value))
        answer.write_head(cast(Request, request))
        return answer.body

    # --- what they share

    def _settle(
        self,
        request: Request,
        work: Work,
        *,
        to_the_end: bool = False,
    ) -> Deferred[bytes]:
        request.setHeader(b"content-security-policy", API_CSP.encode("ascii"))
        return settle(request, work, _refuse, to_the_end=to_the_end)

    def _moved(
        self, request: Request, contact_id: str, move: Callable[[], Awaitable[None]]
    ) -> Deferred[bytes]:
        async def work() -> Answer:
            login = await self._customer(request, acting=True)
            contact = await self._own(login, contact_id)
            self._moves.take(login.subject, "That is a lot of changes.")
            await move()
            return json_answer(self._desk.view(contact))

        return self._settle(request, work, to_the_end=True)

    async def _customer(self, request: Request, *, acting: bool = False) -> Login:
        """Who asks. TheirError 401 when nobody is logged in, 403 when one is to act without their CSRF token."""
        login = await self._logins.who(request, "customer")
        if login is None:
            raise TheirError("Please log in first.", 401)
        if acting and not self._logins.csrf_ok(login, request):
            raise TheirError("This page is out of date. Please load it again.", 403)
        return login

    async def _own(self, login: Login, contact_id: str) -> Contact:
        contact = None
        if len(contact_id) <= 100 and contact_id.isprintable():
            contact = await self._desk.get(contact_id)
        if contact is None or contact.facts.customer_id != login.subject:
            raise TheirError("There is no such contact.", 404)
        return contact

    async def _whole(self, contact: Contact) -> dict[str, Any]:
        return {**self._desk.view(contact), "messages": list(await self._desk.messages(contact.id))}


def _channel(body: Body) -> str:
    channel = body.text("channel", limit=20)
    if channel not in CHANNELS:
        raise TheirError(f"There is no channel “{channel}”: it is chat, voice or video.", 422)
    return channel


def _refuse(refusal: Refusal) -> Answer:
    return json_refusal(refusal)
