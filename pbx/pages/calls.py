"""The supervisor's page of calls that are going on: how well they are heard, and buttons to hear them oneself.

    GET  /agent/calls                     every call of the supervisor's providers
    GET  /agent/calls/now                 the same, only what changes
    GET  /agent/calls/<contact>/quality   as a page, or as JSON for whoever accepts that; also for the contact's agent
    POST /agent/calls/<contact>/<what>    listen, whisper, barge, leave: the supervisor's own phone is rung for it

A supervisor sees and hears the calls of the providers they serve, and no others.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.web.server import Request

from agent_presence.roster import Agent, Roster
from config.errors import TheirError
from config.login import Logins
from config.rate_limit import RateLimit
from pbx.api.edge import Answer, json_answer
from pbx.contact import Channel, Contact, State
from pbx.pages import words
from pbx.pages.staff import StaffPages, staff_app, wants_json
from pbx.quality import Qualities
from pbx.supervision import Mode, Supervisions

MOST_SHOWN = 60
FRESH_S = 1.5
"""How long what media has said of a call is good for all who look."""
NOT_FOUND = "There is no such contact, or it is of a provider you do not serve."
_PARTIES = {"customer": "Customer", "agent": "Agent", "supervisor": "Supervisor", "other": "Colleague"}
_YOU = {
    Mode.LISTEN: "You listen. Nobody hears you.",
    Mode.WHISPER: "The agent hears you, the customer does not.",
    Mode.BARGE: "You are in the call: all hear you.",
}
_DOES = {Mode.LISTEN: "listens.", Mode.WHISPER: "speaks to the agent.", Mode.BARGE: "is in the call."}


class CallPages(StaffPages):
    """`contacts` are the open ones; `contact_of` finds any, ended ones too. `now` is wall time in epoch seconds."""

    app = staff_app()
    home = ("/agent/calls", "To the calls")

    def __init__(
        self,
        contacts: Iterable[Contact],
        contact_of: Callable[[str], Awaitable[Contact | None]],
        qualities: Qualities,
        supervisions: Supervisions,
        roster: Roster,
        logins: Logins,
        *,
        clock: IReactorTime,
        now: Callable[[], float],
    ) -> None:
        super().__init__(roster, logins, clock)
        self._contacts = contacts
        self._contact_of = contact_of
        self._qualities = qualities
        self._supervisions = supervisions
        self._now = now
        self._looks = RateLimit(60, 4, clock.seconds)
        self._lately: dict[str, tuple[float, list[dict[str, Any]]]] = {}  # by contact: good until, what

    @app.route("/agent/calls", methods=["GET"])
    @app.route("/agent/calls/", methods=["GET"])
    def calls(self, request: Request) -> Deferred[bytes]:
        async def work() -> Answer:
            agent, login = await self._supervisor(request)
            return self._page(
                "calls.html", csrf=login.csrf, agent=agent, **await self._live(agent, login.csrf)
            )

        return self._settle(request, work)

    @app.route("/agent/calls/now", methods=["GET"])
    def calls_again(self, request: Request) -> Deferred[bytes]:
        async def work() -> Answer:
            agent, login = await self._supervisor(request)
            return self._page("calls_now.html", csrf=login.csrf, **await self._live(agent, login.csrf))

        return self._settle(request, work)

    @app.route("/agent/calls/<contact_id>/quality", methods=["GET"])
    def quality(self, request: Request, contact_id: str) -> Deferred[bytes]:
        async def work() -> Answer:
            agent, login = await self._agent(request)
            self._looks.take(agent.id, "That was a lot at once.")
            contact = await self._contact(agent, contact_id)
            legs = await self._qualities.of(contact.id)
            if wants_json(request):
                return json_answer({"contact": contact.id, "legs": legs})
            return self._page(
                "quality.html",
                csrf=login.csrf,
                agent=agent,
                contact=contact.id,
                caller=contact.facts.caller,
                about=contact.facts.product_name or contact.facts.provider_name,
                legs=[_leg(each) for each in legs],
            )

        return self._settle(request, work)

    @app.route("/agent/calls/<contact_id>/<what>", methods=["POST"])
    def do(self, request: Request, contact_id: str, what: str) -> Deferred[bytes]:
        async def work() -> Answer:
            agent, _ = await self._supervisor(request, acting=True)
            contact = await self._contact(agent, contact_id)
            if what == "leave":
                self._supervisions.leave(agent.id, contact.id)
            elif what in list(Mode):
                self._supervisions.begin(agent, contact, Mode(what))
            else:
                raise TheirError("There is no such thing to do.", 404)
            return self._done(request)

        return self._settle(request, work, to_the_end=True)

    async def _contact(self, agent: Agent, contact_id: str) -> Contact:
        known = len(contact_id) <= 100 and contact_id.isprintable()
        contact = await self._contact_of(contact_id) if known else None
        theirs = contact is not None and (
            contact.agent_id == agent.id or (agent.supervisor and agent.serves(contact.facts.provider_id))
        )
        if contact is None or not theirs:
            raise TheirError(NOT_FOUND, 404)
        return contact

    async def _live(self, agent: Agent, csrf: str) -> dict[str, Any]:
        talking = [
            each
            for each in self._contacts
            if each.state is State.CONNECTED
            and each.channel is not Channel.CHAT
            and agent.serves(each.facts.provider_id)
        ]
        talking.sort(key=lambda contact: (contact.connected_at or 0.0, contact.id))
        shown = talking[:MOST_SHOWN]
        heard = [await self._heard(contact.id) for contact in shown]
        moment = self._clock.seconds()
        self._lately = {who: each for who, each in self._lately.items() if each[0] > moment}
        return {
            "calls": [self._call(agent, each, legs) for each, legs in zip(shown, heard, strict=True)],
            "more": len(talking) - len(shown),
        }

    async def _heard(self, contact_id: str) -> Sequence[dict[str, Any]]:
        moment = self._clock.seconds()
        until, legs = self._lately.get(contact_id, (0.0, []))
        if moment >= until:
            legs = await self._qualities.live(contact_id)
            self._lately[contact_id] = moment + FRESH_S, legs
        return legs

    def _call(self, agent: Agent, contact: Contact, legs: Sequence[dict[str, Any]]) -> dict[str, Any]:
        facts = contact.facts
        supervision = self._supervisions.of(contact.id)
        mine = supervision is not None and supervision.supervisor.id == agent.id
        by = ""
        if supervision is not None:
            mode, who = supervision.mode, supervision.supervisor.name
            if supervision.there:
                by = _YOU[mode] if mine else f"{who} {_DOES[mode]}"
            else:
                by = "Your phone rings: answer it to hear them." if mine else f"{who} is about to listen."
        has = self._roster.agent(contact.agent_id) if contact.agent_id is not None else None
        return {
            "id": contact.id,
            "channel": str(facts.channel),
            "channel_word": words.CHANNEL_WORDS[facts.channel],
            "caller": facts.caller,
            "agent": has.name if has is not None else "somebody outside",
            "about": facts.product_name or facts.provider_name,
            "since_words": words.length(self._now() - (contact.connected_at or facts.asked_at)),
            # What was measured of a supervisor is known a moment longer than they are there.
            "legs": [
                _leg(each)
                for each in legs
                if each["kind"] == "audio"
                and (each["party"] != "supervisor" or (supervision is not None and supervision.there))
            ],
            "by": by,
            "mine": mine,
            "mode": str(supervision.mode) if supervision is not None and mine else "",
            "can": contact.agent_id != agent.id and (supervision is None or mine),
        }


def _leg(leg: dict[str, Any]) -> dict[str, Any]:
    """In words; a MOS of 4 is a good telephone call, below 3 people begin to complain."""
    worth = leg["mos"]
    grade = "unknown" if worth is None else "good" if worth >= 4 else "fair" if worth >= 3 else "poor"
    return {
        "party": _PARTIES[leg["party"]],
        "kind": {"audio": "Sound", "video": "Picture"}.get(leg["kind"], leg["kind"]),
        "grade": grade,
        "word": {"unknown": "not known yet", "good": "clear", "fair": "fair", "poor": "hard to follow"}[
            grade
        ],
        "mos": "" if worth is None else f"{worth:.1f}",
        "from_them": _percent(leg["loss_in"]),
        "to_them": _percent(leg["loss_out"]),
        "jitter": _ms(leg["jitter_ms"]),
        "round_trip": _ms(leg["round_trip_ms"]),
        "length": "now" if leg["live"] else words.length(leg["seconds"] or 0.0),
    }


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f} ms"
