"""The supervisor's pages of people: who there is, what each may be asked, which phones they have.

    GET  /agent/people                               q, page: everybody who serves a provider of the supervisor's
    GET  /agent/people/new      POST                 an entry
    GET  /agent/people/<id>     POST                 base, and an entry: name, login, skill-N with level-N, languages,
                                                     serves=all|some with provider, chats, standby, supervisor
    POST /agent/people/<id>/password                 another one for their page, shown this once
    POST /agent/people/<id>/phones                   name: another phone; its password is shown this once
    POST /agent/people/<id>/phones/<phone>/password
    POST /agent/people/<id>/phones/<phone>/remove    sure=yes; without it, the question
    POST /agent/people/<id>/deactivate               sure=yes; without it, the question
    POST /agent/people/<id>/rest                     no new contacts for them, until they are ready again
    POST /agent/people/<id>/back                     who had left is here again

Only a supervisor sees any of it; whom they may change is said in `pbx.people`. Every POST needs the CSRF token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.web.server import Request

from agent_presence.roster import Agent, Device, Roster
from config.errors import TheirError
from config.login import Login, Logins
from config.rate_limit import RateLimit
from kb_portal.provider import Provider
from kb_portal.store import PortalStore
from pbx.api.edge import Answer, argument, clean_text
from pbx.pages.forms import easy_to_type
from pbx.pages.panels import LocationView, SoftphoneSetup, StatesView
from pbx.pages.people_form import LEVELS, WrongEntry, base_of, entry, fields_of, typed
from pbx.pages.people_panels import busy_panel, matches, person_panel, phone_panel
from pbx.pages.staff import StaffPages, see, staff_app
from pbx.people import MOST_PHONES, People, may_change
from pbx.rules import Rules

SHOWN = 50
"""People on one page."""
MOST_LEFT = 50
LONGEST_PHONE_NAME = 60
CHANGED_MEANWHILE = (
    "Somebody else has changed this entry meanwhile. Load it again, and then change what is left."
)
_DONE = {
    "saved": "Saved. It counts from now on.",
    "resting": "They finish what they have, and are asked for nothing more until they say they are ready.",
    "removed": "The phone is taken back: it can neither register nor be rung.",
    "left": "Deactivated. They are logged out, and their phones are taken back.",
}


class PeoplePages(StaffPages):
    """`chats`: how many at a time who has no number of their own. `now` is wall time in epoch seconds."""

    app = staff_app()
    home = ("/agent/people", "To the people")

    def __init__(
        self,
        people: People,
        roster: Roster,
        states: StatesView,
        location: LocationView,
        portal: PortalStore,
        rules: Rules,
        logins: Logins,
        *,
        setup: SoftphoneSetup,
        chats: int,
        clock: IReactorTime,
        now: Callable[[], float],
    ) -> None:
        super().__init__(roster, logins, clock)
        self._people = people
        self._states = states
        self._location = location
        self._portal = portal
        self._rules = rules
        self._setup = setup
        self._chats = chats
        self._now = now
        self._looks = RateLimit(60, 4, clock.seconds)

    # --- everybody

    @app.route("/agent/people", methods=["GET"])
    @app.route("/agent/people/", methods=["GET"])
    def everybody(self, request: Request) -> Deferred[bytes]:
        async def work() -> Answer:
            agent, login = await self._supervisor(request)
            self._looks.take(agent.id, "That was a lot at once.")
            wanted = clean_text(argument(request, "q") or "", "q", limit=100) or ""
            found = [each for each in self._people.seen_by(agent) if matches(each, wanted)]
            pages = max(1, -(-len(found) // SHOWN))
            page = min(max(_whole(argument(request, "page") or "1"), 1), pages)
            providers = await self._providers(agent)
            return self._page(
                "people.html",
                csrf=login.csrf,
                agent=agent,
                wanted=wanted,
                count=len(found),
                page=page,
                pages=pages,
                people=[
                    self._person(agent, each, providers) for each in found[(page - 1) * SHOWN : page * SHOWN]
                ],
                left=[
                    self._person(agent, each, providers)
                    for each in self._people.left_seen_by(agent)
                    if matches(each, wanted)
                ][:MOST_LEFT],
                done=_DONE.get(argument(request, "done") or "", ""),
            )

        return self._settle(request, work)

    # --- one entry

    @app.route("/agent/people/new", methods=["GET"])
    def new(self, request: Request) -> Deferred[bytes]:
        async def work() -> Answer:
            agent, login = await self._supervisor(request)
            return await self._form(agent, login, None)

        return self._settle(request, work)

    @app.route("/agent/people/new", methods=["POST"])
    def add(self, request: Request) -> Deferred[bytes]:
        async def work() -> Answer:
            agent, login = await self._supervisor(request, acting=True)
            fields = typed(request.args or {})
            password = easy_to_type()
            try:
                wanted = await self._entry(agent, fields, None)
                added = await self._people.add(agent, wanted, password)
            except TheirError as error:
                return await self._form(agent, login, None, fields=fields, error=error)
            return self._login_secret(login, added, password)

        return self._settle(request, work, to_the_end=True)

    @app.route("/agent/people/<agent_id>", methods=["GET"])
    def person(self, request: Request, agent_id: str) -> Deferred[bytes]:
        async def work() -> Answer:
            agent, login = await self._supervisor(request)
            self._looks.take(agent.id, "That was a lot at once.")
            done = _DONE.get(argument(request, "done") or "", "")
            return await self._form(agent, login, self._people.find(agent, agent_id), done=done)

        return self._settle(request, work)

    @app.route("/agent/people/<agent_id>", methods=["POST"])
    def change(self, request: Request, agent_id: str) -> Deferred[bytes]:
        async def work() -> Answer:
            agent, login = await self._supervisor(request, acting=True)
            fields = typed(request.args or {})
            before = self._people.theirs(agent, agent_id)
            if argument(request, "base") != base_of(before):
                raise TheirError(CHANGED_MEANWHILE, 409)
            try:
                wanted = await self._entry(agent, fields, before)
                if base_of(self._people.theirs(agent, agent_id)) != base_of(before):
                    raise TheirError(CHANGED_MEANWHILE, 409)
                await self._people.change(agent, wanted)
            except TheirError as error:
                return await self._form(agent, login, before, fields=fields, error=error)
            return see(_address(agent_id, done="saved"))

        return self._settle(request, work, to_the_end=True)

    @app.route("/agent/people/<agent_id>/password", methods=["POST"])
    def password(self, request: Request, agent_id: str) -> Deferred[bytes]:
        async def work() -> Answer:
            agent, login = await self._supervisor(request, acting=True)
            password = easy_to_type()
            changed = await self._people.new_password(agent, agent_id, password)
            return self._login_secret(login, changed, password)

        return self._settle(request, work, to_the_end=True)

    # --- phones

    @app.route("/agent/people/<agent_id>/phones", methods=["POST"])
    def give_phone(self, request: Request, agent_id: str) -> Deferred[bytes]:
        async def work() -> Answer:
            agent, login = await self._supervisor(request, acting=True)
            name = clean_text(argument(request, "name") or "", "name", limit=LONGEST_PHONE_NAME) or ""
            if not name or not name.isprintable():
                raise TheirError("Please give the phone a name: “Softphone”, “Desk”.", 422)
            password = easy_to_type()
            device = await self._people.give_phone(agent, agent_id, name, password)
            return self._phone_secret(login, device, password)

        return self._settle(request, work, to_the_end=True)

    @app.route("/agent/people/<agent_id>/phones/<device_id>/password", methods=["POST"])
    def phone_password(self, request: Request, agent_id: str, device_id: str) -> Deferred[bytes]:
        async def work() -> Answer:
            agent, login = await self._supervisor(request, acting=True)
            password = easy_to_type()
            device = await self._people.new_phone_password(agent, agent_id, device_id, password)
            return self._phone_secret(login, device, password)

        return self._settle(request, work, to_the_end=True)

    @app.route("/agent/people/<agent_id>/phones/<device_id>/remove", methods=["POST"])
    def take_phone(self, request: Request, agent_id: str, device_id: str) -> Deferred[bytes]:
        async def work() -> Answer:
            agent, login = await self._supervisor(request, acting=True)
            device = self._people.device(agent, agent_id, device_id)
            if argument(request, "sure") != "yes":
                return self._sure(agent, login, self._people.find(agent, agent_id), device)
            await self._people.take_phone(agent, agent_id, device_id)
            return see(_address(agent_id, done="removed"))

        return self._settle(request, work, to_the_end=True)

    # --- coming and going

    @app.route("/agent/people/<agent_id>/deactivate", methods=["POST"])
    def deactivate(self, request: Request, agent_id: str) -> Deferred[bytes]:
        async def work() -> Answer:
            agent, login = await self._supervisor(request, acting=True)
            if argument(request, "sure") == "yes":
                ends = argument(request, "end") == "yes"
                try:
                    await self._people.leave(agent, agent_id, end_contacts=ends)
                    return see("/agent/people?done=left")
                except TheirError as error:
                    if error.status != 409 or ends:
                        raise
            return self._sure(agent, login, self._people.may_leave(agent, agent_id), None)

        return self._settle(request, work, to_the_end=True)

    @app.route("/agent/people/<agent_id>/rest", methods=["POST"])
    def rest(self, request: Request, agent_id: str) -> Deferred[bytes]:
        async def work() -> Answer:
            agent, _ = await self._supervisor(request, acting=True)
            await self._people.rest(agent, agent_id)
            return see(_address(agent_id, done="resting"))

        return self._settle(request, work, to_the_end=True)

    @app.route("/agent/people/<agent_id>/back", methods=["POST"])
    def back(self, request: Request, agent_id: str) -> Deferred[bytes]:
        async def work() -> Answer:
            agent, login = await self._supervisor(request, acting=True)
            password = easy_to_type()
            returned = await self._people.come_back(agent, agent_id, password)
            return self._login_secret(login, returned, password)

        return self._settle(request, work, to_the_end=True)

    # --- what they share

    async def _form(
        self,
        agent: Agent,
        login: Login,
        person: Agent | None,
        *,
        fields: dict[str, Any] | None = None,
        error: TheirError | None = None,
        done: str = "",
    ) -> Answer:
        providers = await self._providers(agent)
        known = {provider.id: provider.name for provider in providers}
        theirs = _shared(agent, person)
        busy = self._people.busy(person.id) if person is not None else None
        fields = fields or fields_of(person)
        if person is None and not fields["providers"] and len(known) == 1:
            fields["providers"] = list(known)
        faults: Sequence[str] = ()
        if error is not None:
            faults = error.faults if isinstance(error, WrongEntry) else (error.reason,)
        return self._page(
            "person.html",
            200 if error is None else error.status,
            csrf=login.csrf,
            agent=agent,
            person=self._person(agent, person, providers) if person is not None else None,
            busy=busy_panel(busy, agent, self._now()) if busy is not None else None,
            phones=self._phones(person) if person is not None and may_change(agent, person) else [],
            most_phones=MOST_PHONES,
            editable=person is None or (may_change(agent, person) and person.left_at is None),
            base=base_of(person) if person is not None else "",
            fields=fields,
            faults=list(faults),
            done=done,
            levels=LEVELS,
            skills=sorted(self._known_skills(agent, providers)),
            providers=[*known.items(), *((each, each) for each in theirs if each not in known)],
            may_serve_all=not agent.provider_ids,
            chats=self._chats,
        )

    async def _entry(self, agent: Agent, fields: dict[str, Any], before: Agent | None) -> Agent:
        providers = await self._providers(agent)
        return entry(
            fields,
            before,
            known_skills=self._known_skills(agent, providers),
            providers={*(provider.id for provider in providers), *_shared(agent, before)},
            may_serve_all=not agent.provider_ids,
        )

    def _known_skills(self, agent: Agent, providers: Sequence[Provider]) -> set[str]:
        known = {str(skill) for each in self._people.seen_by(agent) for skill in each.skills}
        for provider in providers:
            known.update(rule.skill for rule in self._rules.current(provider.id).rules)
        return known

    def _person(self, agent: Agent, person: Agent, providers: Sequence[Provider]) -> dict[str, Any]:
        registered = sum(bool(self._bindings(each)) for each in self._roster.devices_of(person.id))
        return person_panel(
            person,
            agent,
            self._states.of(person.id),
            {provider.id: provider.name for provider in providers},
            phones=len(self._roster.devices_of(person.id)),
            registered=registered,
            chats=self._chats,
            now=self._now(),
        )

    def _phones(self, person: Agent) -> list[dict[str, Any]]:
        return [phone_panel(each, self._bindings(each)) for each in self._roster.devices_of(person.id)]

    def _bindings(self, device: Device) -> Sequence[Any]:
        return self._location.bindings(self._location.aor(device.username))

    def _sure(self, agent: Agent, login: Login, person: Agent, device: Device | None) -> Answer:
        return self._page(
            "people_sure.html",
            csrf=login.csrf,
            agent=agent,
            person=person,
            device=device,
            busy=busy_panel(self._people.busy(person.id), agent, self._now()),
        )

    def _login_secret(self, login: Login, person: Agent, password: str) -> Answer:
        return self._page(
            "people_secret.html", csrf=login.csrf, person=person, device=None, password=password, setup=None
        )

    def _phone_secret(self, login: Login, device: Device, password: str) -> Answer:
        return self._page(
            "people_secret.html",
            csrf=login.csrf,
            person=self._roster.agent(device.agent_id),
            device=device,
            password=password,
            setup=self._setup,
        )

    async def _providers(self, agent: Agent) -> list[Provider]:
        """Those the supervisor serves, by name."""
        found = []
        for provider_id in sorted(await self._portal.ids("provider")):
            if agent.serves(provider_id):
                provider = await self._portal.provider(provider_id)
                found += [provider] if provider is not None else []
        return sorted(found, key=lambda provider: provider.name)


def _shared(supervisor: Agent, person: Agent | None) -> list[str]:
    """Their providers that the supervisor serves, too: one that is gone from the portal is still a wall around them."""
    return [each for each in person.provider_ids if supervisor.serves(each)] if person is not None else []


def _address(agent_id: str, *, done: str) -> str:
    return f"/agent/people/{quote(agent_id, safe='')}?done={done}"


def _whole(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 7 else 1
