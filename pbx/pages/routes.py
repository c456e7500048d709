"""The agent's pages.

    GET  /agent                            state, phones, contacts
    GET  /agent/login   POST /agent/login   POST /agent/logout
    GET  /agent/live                       server-sent events: panel, message, mark, composing
    POST /agent/state                      state=ready|not-ready
    POST /agent/devices/<id>/capability    channel=video, can=yes|no|auto
    POST /agent/devices/<id>/password      a new SIP password, shown this once
    POST /agent/contacts/<id>/messages     key, text
    POST /agent/contacts/<id>/composing    active=yes|no
    POST /agent/contacts/<id>/seen         message: it, and all before it, were shown
    POST /agent/contacts/<id>/end
    POST /agent/contacts/<id>/do/<what>    hold, unhold; transfer, consult: to; complete, confer, call-off;
                                           wrap-up: code, note, needed; pause-, resume-recording; what the
                                           customer says of it: allow-, refuse-recording
    GET  /agent/contacts/<id>/candidates   q: whom it may go to, as JSON
    GET  /agent/voicemails/<id>            the recording
    POST /agent/voicemails/<id>/done
    GET  /context/<contact id>             who asks, what, and why you
    GET  /agent/static/<name>

Every POST needs the CSRF token. A form is answered with the page it came from (303); agent.js asks for JSON instead.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.web.server import Request

from agent_presence.roster import Agent, Device, Roster
from config.errors import TheirError
from config.events import EventLog
from config.login import Logins
from config.rate_limit import RateLimit
from media.recorded import PlainFile
from pbx.api.desk import AgentDesk
from pbx.api.edge import (
    MAX_TEXT,
    Answer,
    Streamed,
    argument,
    clean_text,
    identifier,
    json_answer,
)
from pbx.api.limits import StreamCount
from pbx.contact import Channel, Contact, State
from pbx.pages import words
from pbx.pages.actions import PageActions
from pbx.pages.context import context_page
from pbx.pages.forms import easy_to_type, form_token, from_our_own_form, way_on
from pbx.pages.live import AgentPageStream, Panel
from pbx.pages.news import AgentNews
from pbx.pages.panels import (
    LocationView,
    SoftphoneSetup,
    StatesView,
    contact_panel,
    device_panel,
    line,
    sign,
    state_panel,
)
from pbx.pages.sound import send
from pbx.pages.staff import StaffPages, see, staff_app

MAX_STREAMS = 6
NOT_YOURS = (
    "This contact isn’t yours to see",
    "A contact’s context can be opened only by the agent it rings for or who is with it, and only while that lasts.",
)


class AgentPages(StaffPages):
    """The agent's pages over roster, states, location and FrontDesk. `now` is wall time in epoch seconds.
    `hears_recordings`: whether every agent has recordings to listen to."""

    app = staff_app()

    def __init__(
        self,
        *,
        desk: AgentDesk,
        logins: Logins,
        roster: Roster,
        states: StatesView,
        location: LocationView,
        events: EventLog,
        clock: IReactorTime,
        now: Callable[[], float],
        setup: SoftphoneSetup,
        actions: PageActions,
        hears_recordings: bool = False,
    ) -> None:
        super().__init__(roster, logins, clock, burst=40, per_s=4)
        self._desk = desk
        self._states = states
        self._location = location
        self._now = now
        self._setup = setup
        self._actions = actions
        self._hears_recordings = hears_recordings
        self._searches = RateLimit(60, 6, clock.seconds)
        self.news = AgentNews(states=states, location=location, roster=roster, events=events)
        self.streams = StreamCount(MAX_STREAMS)

    async def close(self) -> None:
        """End every stream, before the server stops."""
        await self.streams.close()

    # --- coming and going

    @app.route("/agent/login", methods=["GET"])
    def login_page(self, request: Request) -> Deferred[bytes]:
        async def work() -> Answer:
            way = way_on(argument(request, "next"))
            if await self._who(request) is not None:
                return see(way)
            return self._login_page(request, way)

        return self._settle(request, work)

    @app.route("/agent/login", methods=["POST"])
    def log_in(self, request: Request) -> Deferred[bytes]:
        async def work() -> Answer:
            way = way_on(argument(request, "next"))
            if not from_our_own_form(request):
                return self._login_page(
                    request, way, 403, problem="This form was out of date. Please try again."
                )
            name = argument(request, "login") or ""
            agent = self._roster.by_login(name)
            try:
                right = await self._logins.check_password(
                    None if agent is None else agent.password_hash,
                    argument(request, "password") or "",
                    name=f"agent:{name.strip()}",
                    address=request.getClientAddress().host,
                )
            except TheirError as error:
                return self._login_page(request, way, error.status, login=name, problem=error.reason)
            if not right or agent is None:
                return self._login_page(
                    request, way, 401, login=name, problem="This login or password isn’t right."
                )
            await self._logins.start("agent", agent.id, request)
            return see(way)

        return self._settle(request, work)

    @app.route("/agent/logout", methods=["POST"])
    def log_out(self, request: Request) -> Deferred[bytes]:
        async def work() -> Answer:
            await self._agent(request, acting=True)
            await self._logins.end(request, "agent")
            return see("/agent/login")

        return self._settle(request, work)

    # --- the page

    @app.route("/agent", methods=["GET"])
    @app.route("/agent/", methods=["GET"])
    def agent_page(self, request: Request) -> Deferred[bytes]:
        async def work() -> Answer:
            if await self._who(request) is None:
                return see("/agent/login")
            agent, login = await self._agent(request)
            devices = self._devices(agent)
            return self._page(
                "agent.html",
                csrf=login.csrf,
                agent=agent,
                setup=self._setup,
                skills=[words.skill(name) for name in sorted(agent.skills)],
                state=state_panel(self._states.of(agent.id), self._now()),
                devices=devices,
                any_registered=any(device["bindings"] for device in devices),
                messages_left=await self._actions.messages(agent),
                hears_recordings=self._hears_recordings,
                **await self._contacts(agent),
            )

        return self._settle(request, work)

    @app.route("/agent/live", methods=["GET"])
    def live(self, request: Request) -> Deferred[bytes]:
        async def work() -> Answer | Streamed:
            agent, login = await self._agent(request)

            async def still_logged_in() -> bool:
                now = await self._who(request)
                return now is not None and now[0].id == agent.id

            stream = AgentPageStream(
                request,
                desk=self._desk,
                clock=self._clock,
                panels=lambda: self._panels(agent.id, login.csrf),
                contact_ids=lambda: {contact.id for contact in self._desk.contacts_of(agent.id)},
                draw=lambda contact_id, kind, data: self._happened(agent.id, contact_id, kind, data),
                watch=lambda callback: self.news.watch(agent.id, callback),
                still_logged_in=still_logged_in,
            )
            with self.streams.one(agent.id):
                return await stream.run()

        return self._settle(request, work)

    # --- what the agent does there

    @app.route("/agent/state", methods=["POST"])
    def set_state(self, request: Request) -> Deferred[bytes]:
        async def work() -> Answer:
            agent, _ = await self._agent(request, acting=True)
            match argument(request, "state"):
                case "ready":
                    await self._states.ready(agent.id, "said so in the page")
                case "not-ready":
                    await self._states.not_ready(agent.id, "said so in the page")
                case _:
                    raise TheirError("You can be ready or not ready.", 422)
            return self._done(request)

        return self._settle(request, work, to_the_end=True)

    @app.route("/agent/devices/<device_id>/capability", methods=["POST"])
    def set_capability(self, request: Request, device_id: str) -> Deferred[bytes]:
        async def work() -> Answer:
            agent, _ = await self._agent(request, acting=True)
            device = self._own_device(agent, device_id)
            can = argument(request, "can")
            if argument(request, "channel") != "video" or can not in ("yes", "no", "auto"):
                raise TheirError("Video can be set to yes, no or auto.", 422)
            await self._roster.set_capability(
                device.id, "video", {"yes": True, "no": False, "auto": None}[can]
            )
            return self._done(request)

        return self._settle(request, work, to_the_end=True)

    @app.route("/agent/devices/<device_id>/password", methods=["POST"])
    def new_password(self, request: Request, device_id: str) -> Deferred[bytes]:
        async def work() -> Answer:
            agent, login = await self._agent(request, acting=True)
            device = self._own_device(agent, device_id)
            password = easy_to_type()
            await self._roster.set_password(device.id, password)
            return self._page(
                "device_password.html", csrf=login.csrf, device=device, password=password, setup=self._setup
            )

        return self._settle(request, work, to_the_end=True)

    @app.route("/agent/contacts/<contact_id>/messages", methods=["POST"])
    def say(self, request: Request, contact_id: str) -> Deferred[bytes]:
        async def work() -> Answer:
            agent, _ = await self._agent(request, acting=True)
            contact = self._own_contact(agent, contact_id)
            key = identifier(argument(request, "key"), "key")
            text = clean_text(argument(request, "text") or "", "text", limit=MAX_TEXT)
            if key is None or text is None:
                raise TheirError("There is nothing to send.")
            await self._desk.agent_says(agent.id, contact.id, key, text)
            return self._done(request)

        return self._settle(request, work, to_the_end=True)

    @app.route("/agent/contacts/<contact_id>/composing", methods=["POST"])
    def composing(self, request: Request, contact_id: str) -> Deferred[bytes]:
        async def work() -> Answer:
            agent, _ = await self._agent(request, acting=True)
            contact = self._own_contact(agent, contact_id)
            active = argument(request, "active")
            if active not in ("yes", "no"):
                raise TheirError("You are writing, yes or no.", 422)
            self._desk.composing(contact.id, "agent", active == "yes")
            return self._done(request)

        return self._settle(request, work)

    @app.route("/agent/contacts/<contact_id>/seen", methods=["POST"])
    def seen(self, request: Request, contact_id: str) -> Deferred[bytes]:
        async def work() -> Answer:
            agent, _ = await self._agent(request, acting=True)
            contact = self._own_contact(agent, contact_id)
            message_id = identifier(argument(request, "message"), "message")
            if message_id is None:
                raise TheirError("Which line was shown?", 422)
            if contact.state is State.CONNECTED:
                self._desk.seen(contact.id, "agent", message_id)
            return self._done(request)

        return self._settle(request, work)

    @app.route("/agent/contacts/<contact_id>/end", methods=["POST"])
    def end(self, request: Request, contact_id: str) -> Deferred[bytes]:
        async def work() -> Answer:
            agent, _ = await self._agent(request, acting=True)
            contact = self._own_contact(agent, contact_id)
            if contact.state is State.CONNECTED:
                await self._desk.end(contact.id, "agent")
            elif contact.open:
                # It would end for the customer too, who only waits for somebody.
                raise TheirError(
                    "It still rings. Decline it on your phone; somebody else will be asked.", 409
                )
            return self._done(request)

        return self._settle(request, work, to_the_end=True)

    @app.route("/agent/contacts/<contact_id>/do/<what>", methods=["POST"])
    def do(self, request: Request, contact_id: str, what: str) -> Deferred[bytes]:
        async def work() -> Answer:
            agent, _ = await self._agent(request, acting=True)
            fields = {
                name: clean_text(value, name, limit=MAX_TEXT) or ""
                for name in ("to", "code", "note", "needed")
                if (value := argument(request, name)) is not None
            }
            await self._actions.do(agent, contact_id, what, fields)
            return self._done(request)

        return self._settle(request, work, to_the_end=True)

    @app.route("/agent/contacts/<contact_id>/candidates", methods=["GET"])
    def candidates(self, request: Request, contact_id: str) -> Deferred[bytes]:
        async def work() -> Answer:
            agent, _ = await self._agent(request)
            self._searches.take(agent.id, "That was a lot at once.")
            return json_answer(self._actions.candidates(agent, contact_id, argument(request, "q") or ""))

        return self._settle(request, work)

    @app.route("/agent/voicemails/<voicemail_id>", methods=["GET"])
    def voicemail(self, request: Request, voicemail_id: str) -> Deferred[bytes]:
        async def work() -> Answer | Streamed:
            agent, _ = await self._agent(request)
            path = await self._actions.audio(agent, voicemail_id)
            with self.streams.one(agent.id):
                return await send(
                    request, await asyncio.to_thread(PlainFile, path), "audio/wav", voicemail_id
                )

        return self._settle(request, work)

    @app.route("/agent/voicemails/<voicemail_id>/done", methods=["POST"])
    def voicemail_done(self, request: Request, voicemail_id: str) -> Deferred[bytes]:
        async def work() -> Answer:
            agent, _ = await self._agent(request, acting=True)
            await self._actions.done(agent, voicemail_id)
            return self._done(request)

        return self._settle(request, work, to_the_end=True)

    @app.route("/context/<contact_id>", methods=["GET"])
    def context(self, request: Request, contact_id: str) -> Deferred[bytes]:
        async def work() -> Answer:
            if await self._who(request) is None:
                return see(f"/agent/login?next={quote(way_on(f'/context/{contact_id}'))}")
            agent, login = await self._agent(request)
            if all(contact.id != contact_id for contact in await self._theirs(agent)):
                # The same words whether it exists or not.
                return self._notice(404, *NOT_YOURS)
            found = await self._desk.context(contact_id)
            return self._page(
                "context.html", csrf=login.csrf, agent=agent, **context_page(found, agent, self._now())
            )

        return self._settle(request, work)

    @app.route("/agent/static/<name>", methods=["GET"])
    def static(self, request: Request, name: str) -> bytes:
        self._secure(request)
        found = self._assets.get(name)
        if found is None:
            answer = self._notice(404, "There is nothing here", "This address leads nowhere.")
        else:
            keep = "public, max-age=31536000, immutable" if b"v" in (request.args or {}) else "no-cache"
            answer = Answer(found[0], content_type=found[1], headers={"Cache-Control": keep})
        answer.write_head(request)
        return answer.body

    # --- parts of the page

    def _devices(self, agent: Agent) -> list[dict[str, Any]]:
        return [
            device_panel(
                device, self._location.bindings(self._location.aor(device.username)), self._location.asleep
            )
            for device in self._roster.devices_of(agent.id)
        ]

    async def _contacts(self, agent: Agent) -> dict[str, Any]:
        panels = []
        for contact in await self._theirs(agent):
            messages = await self._desk.messages(contact.id) if contact.channel is Channel.CHAT else ()
            panel = contact_panel(contact, messages, self._now())
            had = self._roster.ever(contact.agent_id or "")
            more = self._actions.panel(agent, contact, had.name if had is not None else None)
            panels.append({**panel, **more, "new_key": secrets.token_hex(8)})
        state = self._states.of(agent.id)
        nobody = "Nobody is with you. When a phone of yours rings, you see here who it is and why."
        if not state.wants_ready:
            nobody = "Nobody is with you, and nobody is sent to you until you are ready."
        return {"contacts": panels, "nobody": nobody}

    async def _theirs(self, agent: Agent) -> list[Contact]:
        """The agent's contacts: those that ring, those they are with, one that a colleague asks them about, and the
        one they are wrapping up."""
        contacts = list(self._desk.contacts_of(agent.id))
        return contacts + [each for each in await self._actions.others(agent) if each not in contacts]

    async def _panels(self, agent_id: str, csrf: str) -> dict[str, Panel]:
        agent = self._roster.agent(agent_id)
        if agent is None:
            return {}
        state = state_panel(self._states.of(agent_id), self._now())
        devices = self._devices(agent)
        contacts = await self._contacts(agent)
        messages_left = await self._actions.messages(agent)
        return {
            "state": Panel(
                self._drawing.draw("panel_state.html", csrf=csrf, state=state),
                {**state, "since_words": None},
            ),
            "contacts": Panel(
                self._drawing.draw("panel_contacts.html", csrf=csrf, **contacts),
                [
                    {**contact, "since_words": None, "new_key": None, "messages": None}
                    for contact in contacts["contacts"]
                ]
                or contacts["nobody"],
            ),
            "messages": Panel(
                self._drawing.draw("panel_messages.html", csrf=csrf, messages_left=messages_left),
                messages_left,
            ),
            "devices": Panel(self._drawing.draw("panel_devices.html", csrf=csrf, devices=devices), devices),
        }

    def _happened(
        self, agent_id: str, contact_id: str, kind: str, data: Mapping[str, Any]
    ) -> Mapping[str, Any] | None:
        for contact in self._desk.contacts_of(agent_id):
            if contact.id == contact_id:
                if kind != "message":
                    return sign(contact, kind, data)
                return {"id": data["id"], "html": self._drawing.line(line(data, contact.facts.caller))}
        return None

    # --- what they share

    def _login_page(
        self, request: Request, way: str, status: int = 200, *, login: str = "", problem: str = ""
    ) -> Answer:
        return self._page(
            "login.html",
            status,
            token=form_token(request),
            way="" if way == "/agent" else way,
            name=login[:100],
            error=problem,
        )

    def _own_device(self, agent: Agent, device_id: str) -> Device:
        device = self._roster.device(device_id)
        if device is None or device.agent_id != agent.id:
            raise TheirError("You have no such phone.", 404)
        return device

    def _own_contact(self, agent: Agent, contact_id: str) -> Contact:
        for contact in self._desk.contacts_of(agent.id):
            if contact.id == contact_id:
                return contact
        raise TheirError("You have no such contact.", 404)
