"""The pages of recordings.

    GET  /agent/recordings             contact: of that one alone; else the latest
    GET  /agent/recordings/<id>/sound  the recording itself, or a part of it (Range)
    POST /agent/recordings/<id>/hold   held=yes|no: kept whatever its day; for supervisors

Supervisors see those of their providers; agents their own, where that is set. Each playback is an event.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.web.server import Request

from agent_presence.roster import Agent, Roster
from config.errors import TheirError
from config.login import Logins
from config.rate_limit import RateLimit
from pbx.api.edge import Answer, Streamed, argument, identifier
from pbx.api.limits import StreamCount
from pbx.api.site import peer_of
from pbx.pages import words
from pbx.pages.sound import send
from pbx.pages.staff import StaffPages, see, staff_app
from pbx.recording_archive import RecordingArchive
from pbx.recording_store import Recording, TapeState

MAX_STREAMS = 8


class RecordingPages(StaffPages):
    """`now` is wall time in epoch seconds."""

    app = staff_app()

    def __init__(
        self,
        archive: RecordingArchive,
        roster: Roster,
        logins: Logins,
        *,
        clock: IReactorTime,
        now: Callable[[], float],
    ) -> None:
        super().__init__(roster, logins, clock)
        self._archive = archive
        self._now = now
        self._plays = RateLimit(120, 10, clock.seconds)
        self._streams = StreamCount(MAX_STREAMS)

    async def close(self) -> None:
        """End what is being sent, before the server stops."""
        await self._streams.close()

    @app.route("/agent/recordings", methods=["GET"])
    @app.route("/agent/recordings/", methods=["GET"])
    def latest(self, request: Request) -> Deferred[bytes]:
        async def work() -> Answer:
            if await self._who(request) is None:
                return see("/agent/login")
            agent, login = await self._agent(request)
            contact_id = identifier((argument(request, "contact") or "").strip(), "contact")
            found = await self._archive.list(agent, contact_id)
            return self._page(
                "recordings.html",
                csrf=login.csrf,
                agent=agent,
                looked_for=contact_id or "",
                recordings=self._shown(agent, found),
            )

        return self._settle(request, work)

    @app.route("/agent/recordings/<recording_id>/sound", methods=["GET"])
    def sound(self, request: Request, recording_id: str) -> Deferred[bytes]:
        async def work() -> Answer | Streamed:
            agent, _ = await self._agent(request)
            self._plays.take(agent.id, "That was a lot at once.")
            with self._streams.one(agent.id):
                playback = await self._archive.play(agent, _known_as(recording_id), peer_of(request))
                return await send(request, playback.sound, playback.content_type, playback.recording.id)

        return self._settle(request, work)

    @app.route("/agent/recordings/<recording_id>/hold", methods=["POST"])
    def hold(self, request: Request, recording_id: str) -> Deferred[bytes]:
        async def work() -> Answer:
            agent, _ = await self._supervisor(request, acting=True)
            held = argument(request, "held")
            if held not in ("yes", "no"):
                raise TheirError("A recording is held, yes or no.", 422)
            await self._archive.hold(agent, _known_as(recording_id), held == "yes")
            contact = identifier(argument(request, "contact"), "contact")
            return self._done(
                request, "/agent/recordings" + (f"?contact={quote(contact, safe='')}" if contact else "")
            )

        return self._settle(request, work, to_the_end=True)

    def _shown(self, agent: Agent, recordings: Sequence[Recording]) -> list[dict[str, Any]]:
        return [self._one(agent, each) for each in recordings]

    def _one(self, agent: Agent, recording: Recording) -> dict[str, Any]:
        had = self._roster.ever(recording.agent_id)
        unnamed = "Anonymous" if recording.customer_id is not None else "Unknown caller"
        return {
            "id": recording.id,
            "contact": recording.contact_id,
            "caller": recording.customer_name or recording.number or unnamed,
            "about": recording.product_name or recording.provider_name,
            "agent": had.name if had is not None else "somebody who has left",
            "day": words.date(recording.started_at),
            "iso": words.iso(recording.started_at),
            "time": words.clock_time(recording.started_at),
            "length": words.length(recording.seconds or 0.0),
            "video": "video" in recording.kinds,
            "can_be_played": recording.can_be_played,
            "note": _note(recording),
            "until": words.date(recording.delete_after) if recording.delete_after is not None else "",
            "held": recording.held,
            "can_hold": agent.supervisor and recording.can_be_played,
        }


def _note(recording: Recording) -> str:
    match recording.state:
        case TapeState.RUNNING:
            return "Being recorded now."
        case TapeState.CUT:
            return "It broke off: this is what there is."
        case TapeState.DELETED:
            return f"Deleted {words.date(recording.deleted_at or 0.0)}."
        case _:
            return ""


def _known_as(name: str) -> str:
    return identifier(name, "recording") or ""
