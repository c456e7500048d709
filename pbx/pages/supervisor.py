"""The supervisor's pages: who waits and why, who works, why a contact went where it went, and the rules.

    GET  /agent/supervisor                        live: queues and agents
    GET  /agent/supervisor/now                    the same, only what changes
    GET  /agent/supervisor/find?contact=…         to the contact of that id, or those of a caller's name or number
    GET  /agent/supervisor/contacts/<id>/why      as a page, or as JSON for whoever accepts that
    GET  /agent/supervisor/rules                  to the rules of the first provider
    GET  /agent/supervisor/rules/<provider>       version, q, page: which version, which rules of it
    POST /agent/supervisor/rules/<provider>       base, note, and the rules that were shown: when-N, value-N, …
    POST /agent/supervisor/rules/<provider>/back  base, version

Only an agent who is a supervisor sees any of it, and only of the providers they serve. Every POST needs the CSRF token.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.web.server import Request

from agent_presence.roster import Agent, Roster
from config.errors import TheirError
from config.login import Login, Logins
from config.rate_limit import RateLimit
from kb_portal.provider import Provider
from kb_portal.store import PortalStore
from pbx.api.edge import (
    Answer,
    argument,
    clean_text,
    identifier,
    json_answer,
)
from pbx.contact import Contact
from pbx.dossier import highest_levels
from pbx.operations.why_command import as_json
from pbx.pages.panels import StatesView
from pbx.pages.rules_form import edited, rules_page
from pbx.pages.staff import StaffPages, see, staff_app, wants_json
from pbx.pages.supervisor_panels import MOST_AGENTS, agents_panel, found_row, queues_panel, why_page
from pbx.past import MOST_LOOKED_AT, Past
from pbx.people import share
from pbx.router import Floor
from pbx.rule_text import LONGEST_VALUE, WrongRules
from pbx.rules import LONGEST_NOTE, Rules
from pbx.why import Choice

SHARE = 50.0
"""Making what goes on now may take one in so many seconds of the server."""
_CONTACT = re.compile(r"\bc_[0-9a-z]+")
MOST_FOUND = 20
FEWEST_LETTERS = 2
NOT_FOUND = "There is no such contact, or it is of a provider you do not serve."


@dataclass(frozen=True)
class Centre:
    """What the pages look at; none of it knows. `contacts` are the open ones, `floor` the router's."""

    roster: Roster
    states: StatesView
    contacts: Iterable[Contact]
    floor: Callable[[], Floor]
    past: Past
    rules: Rules
    portal: PortalStore


class SupervisorPages(StaffPages):
    """`now` is wall time in epoch seconds."""

    app = staff_app()
    home = ("/agent/supervisor", "To the overview")

    def __init__(
        self, centre: Centre, logins: Logins, *, clock: IReactorTime, now: Callable[[], float]
    ) -> None:
        super().__init__(centre.roster, logins, clock)
        self._centre = centre
        self._now = now
        # What was made lately, by whose providers it is about: (good until, what).
        self._made: dict[tuple[str, ...], tuple[float, dict[str, Any]]] = {}
        self._looks = RateLimit(60, 4, clock.seconds)
        self._searches = RateLimit(20, 1, clock.seconds)  # each reads thousands of rows

    # --- what is going on

    @app.route("/agent/supervisor", methods=["GET"])
    @app.route("/agent/supervisor/", methods=["GET"])
    def live(self, request: Request) -> Deferred[bytes]:
        async def work() -> Answer:
            agent, login = await self._supervisor(request)
            providers = await self._providers(agent)
            return self._page(
                "supervisor.html",
                csrf=login.csrf,
                agent=agent,
                providers=[provider.name for provider in providers],
                looked_for="",
                **self._live(agent),
            )

        return self._settle(request, work)

    @app.route("/agent/supervisor/now", methods=["GET"])
    def live_again(self, request: Request) -> Deferred[bytes]:
        async def work() -> Answer:
            agent, _ = await self._supervisor(request)
            return self._page("supervisor_now.html", **self._live(agent))

        return self._settle(request, work)

    def _live(self, agent: Agent) -> dict[str, Any]:
        centre, now = self._centre, self._now()
        began = self._clock.seconds()
        until, made = self._made.get(agent.provider_ids, (0.0, {}))
        if began < until:
            return made
        colleagues = [each for each in centre.roster.agents() if share(agent, each)]
        contacts = [each for each in centre.contacts if agent.serves(each.facts.provider_id)]
        made = {
            "queues": queues_panel(contacts, centre.floor(), colleagues, centre.states, now),
            "agents": agents_panel(colleagues, contacts, centre.states, now),
            "more_agents": max(0, len(colleagues) - MOST_AGENTS),
        }
        # In a centre of tens of thousands this takes a while, in which nobody is served: it is done the less often.
        took = self._clock.seconds() - began
        self._made = {who: each for who, each in self._made.items() if each[0] > began}
        self._made[agent.provider_ids] = (began + SHARE * took, made)
        return made

    # --- one contact

    @app.route("/agent/supervisor/find", methods=["GET"])
    def find(self, request: Request) -> Deferred[bytes]:
        async def work() -> Answer:
            agent, login = await self._supervisor(request)
            wanted = identifier((argument(request, "contact") or "").strip(), "contact")
            if wanted is None:
                return see("/agent/supervisor")
            if _CONTACT.match(wanted):
                return see(f"/agent/supervisor/contacts/{quote(wanted, safe='')}/why")
            self._searches.take(agent.id, "That was a lot at once.")
            return self._page(
                "supervisor_found.html",
                csrf=login.csrf,
                agent=agent,
                looked_for=wanted,
                found=[found_row(each) for each in await self._of_caller(agent, wanted)],
                most=MOST_FOUND,
                looked_at=MOST_LOOKED_AT,
            )

        return self._settle(request, work)

    async def _of_caller(self, agent: Agent, wanted: str) -> list[Contact]:
        if len(wanted) < FEWEST_LETTERS:
            return []
        past = self._centre.past
        ids = await past.of_caller(wanted, agent.provider_ids, limit=MOST_FOUND)
        return [await past.contact(contact_id) for contact_id in ids]

    @app.route("/agent/supervisor/contacts/<contact_id>/why", methods=["GET"])
    def why(self, request: Request, contact_id: str) -> Deferred[bytes]:
        async def work() -> Answer:
            agent, login = await self._supervisor(request)
            self._looks.take(agent.id, "That was a lot at once.")
            contact = await self._contact(agent, contact_id)
            choices = await self._behind_wall(agent, await self._centre.past.why(contact, self._now()))
            if wants_json(request):
                return json_answer(as_json(contact, choices))
            return self._page(
                "supervisor_why.html",
                csrf=login.csrf,
                agent=agent,
                looked_for=contact.id,
                **why_page(contact, choices),
            )

        return self._settle(request, work)

    async def _behind_wall(self, agent: Agent, choices: Sequence[Choice]) -> list[Choice]:
        """Nothing is told of agents who serve none of the supervisor's providers, nor which contacts of other providers
        the others were busy with."""
        roster = self._centre.roster
        known = {each.id for each in (*roster.agents(), *roster.left()) if share(agent, each)}
        seen = [[each for each in choice.candidates if each.agent_id in known] for choice in choices]
        named = {found for each in seen for one in each for found in _CONTACT.findall(one.words)}
        theirs: Set[str] = named
        if agent.provider_ids:
            theirs = await self._centre.past.of_providers(sorted(named), agent.provider_ids)
        return [
            replace(
                choice,
                candidates=tuple(
                    replace(
                        each,
                        words=_CONTACT.sub(lambda at: at[0] if at[0] in theirs else "somebody", each.words),
                    )
                    for each in candidates
                ),
            )
            for choice, candidates in zip(choices, seen, strict=True)
        ]

    async def _contact(self, agent: Agent, contact_id: str) -> Contact:
        try:
            contact = await self._centre.past.contact(contact_id)
        except TheirError:
            raise TheirError(NOT_FOUND, 404) from None
        if not agent.serves(contact.facts.provider_id):
            raise TheirError(NOT_FOUND, 404)
        return contact

    # --- the rules

    @app.route("/agent/supervisor/rules", methods=["GET"])
    def first_rules(self, request: Request) -> Deferred[bytes]:
        async def work() -> Answer:
            agent, _ = await self._supervisor(request)
            providers = await self._providers(agent)
            if not providers:
                raise TheirError("There is no provider whose rules you could change.", 404)
            return see(f"/agent/supervisor/rules/{quote(providers[0].id, safe='')}")

        return self._settle(request, work)

    @app.route("/agent/supervisor/rules/<provider_id>", methods=["GET"])
    def rules(self, request: Request, provider_id: str) -> Deferred[bytes]:
        async def work() -> Answer:
            agent, login = await self._supervisor(request)
            return await self._rules_page(request, agent, login, provider_id)

        return self._settle(request, work)

    @app.route("/agent/supervisor/rules/<provider_id>", methods=["POST"])
    def put_rules(self, request: Request, provider_id: str) -> Deferred[bytes]:
        async def work() -> Answer:
            agent, login = await self._supervisor(request, acting=True)
            await self._provider(agent, provider_id)
            rules = self._centre.rules
            base = _whole(argument(request, "base"), "base")
            note = clean_text(argument(request, "note") or "", "note", limit=LONGEST_NOTE) or ""
            if base != rules.current(provider_id).version:
                raise TheirError(
                    "Somebody else has changed these rules meanwhile. Load them again, and then change what is left.",
                    409,
                )
            before = rules.current(provider_id).rules
            try:
                changed = edited(before, request.args or {})
                if changed != before:
                    await rules.put(provider_id, changed, author=agent.name, note=note, base=base)
            except WrongRules as error:
                return await self._rules_page(
                    request, agent, login, provider_id, status=422, faults=error.faults, note=note
                )
            return see(f"/agent/supervisor/rules/{quote(provider_id, safe='')}")

        return self._settle(request, work, to_the_end=True)

    @app.route("/agent/supervisor/rules/<provider_id>/back", methods=["POST"])
    def put_back(self, request: Request, provider_id: str) -> Deferred[bytes]:
        async def work() -> Answer:
            agent, _ = await self._supervisor(request, acting=True)
            await self._provider(agent, provider_id)
            await self._centre.rules.put_back(
                provider_id,
                _whole(argument(request, "version"), "version"),
                author=agent.name,
                base=_whole(argument(request, "base"), "base"),
            )
            return see(f"/agent/supervisor/rules/{quote(provider_id, safe='')}")

        return self._settle(request, work, to_the_end=True)

    async def _rules_page(
        self,
        request: Request,
        agent: Agent,
        login: Login,
        provider_id: str,
        *,
        status: int = 200,
        faults: Iterable[str] = (),
        note: str = "",
    ) -> Answer:
        provider = await self._provider(agent, provider_id)
        rules = self._centre.rules
        current = rules.current(provider_id)
        asked = argument(request, "version") if request.method != b"POST" else None
        shown = current if asked is None else await rules.version(provider_id, _whole(asked, "version"))
        wanted = clean_text(argument(request, "q") or "", "q", limit=LONGEST_VALUE) or ""
        return self._page(
            "supervisor_rules.html",
            status,
            csrf=login.csrf,
            agent=agent,
            provider=provider,
            providers=await self._providers(agent),
            looked_for="",
            faults=list(faults),
            note=note,
            warnings=rules.warnings(provider_id, shown.rules),
            skills=sorted(highest_levels(self._centre.roster, provider_id)),
            history=await rules.history(provider_id, limit=30),
            **rules_page(
                current, shown, wanted, _whole(argument(request, "page") or "1", "page"),
                posted=(request.args or {}) if status == 422 else None,
            ),
        )  # fmt: skip

    async def _providers(self, agent: Agent) -> list[Provider]:
        found = []
        for provider_id in sorted(await self._centre.portal.ids("provider")):
            if agent.serves(provider_id):
                provider = await self._centre.portal.provider(provider_id)
                found += [provider] if provider is not None else []
        return found

    async def _provider(self, agent: Agent, provider_id: str) -> Provider:
        provider = await self._centre.portal.provider(provider_id) if agent.serves(provider_id) else None
        if provider is None:
            raise TheirError("There is no such provider, or you do not serve it.", 404)
        return provider


def _whole(text: str | None, name: str) -> int:
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 9:
        raise TheirError(f"“{name}” should be a whole number.", 422)
    return int(text)
