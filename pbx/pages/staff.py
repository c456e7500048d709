"""What every page of agents and supervisors has in common: who asks, whether they may, and how a refusal looks.

A set of pages is a subclass: `app = staff_app()`, routes that hand their work to `_settle`, in which `_agent` or
`_supervisor` says who asks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, cast

from klein import Klein
from klein.resource import KleinResource
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.server import Request

from agent_presence.roster import Agent, Roster
from config.errors import TheirError
from config.login import Login, Logins
from config.rate_limit import RateLimit
from pbx.api.edge import (
    Answer,
    Refusal,
    Work,
    json_answer,
    json_refusal,
    refusal_of,
    retry_header,
    settle,
)
from pbx.pages.drawing import Assets, Drawing

PAGE_CSP = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "media-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_TITLES = {
    401: "Please log in",
    403: "That didn’t come from this page",
    404: "There is nothing here",
    409: "That can’t be done just now",
    429: "A little slower, please",
}


class StaffPages:
    """`burst` and `per_s`: how often one person may act. `home`: where a refusal leads, and what its link says."""

    app: ClassVar[Klein]
    home: ClassVar[tuple[str, str]] = ("/agent", "To your page")

    def __init__(
        self, roster: Roster, logins: Logins, clock: IReactorTime, *, burst: float = 20, per_s: float = 1
    ) -> None:
        self._roster = roster
        self._logins = logins
        self._clock = clock
        self._assets = Assets()
        self._drawing = Drawing(self._assets)
        self._acts = RateLimit(burst, per_s, clock.seconds)

    def resource(self) -> KleinResource:
        return self.app.resource()

    # Who asks

    async def _who(self, request: Request) -> tuple[Agent, Login] | None:
        login = await self._logins.who(request, "agent")
        agent = None if login is None else self._roster.agent(login.subject)
        return None if login is None or agent is None else (agent, login)

    async def _agent(self, request: Request, *, acting: bool = False) -> tuple[Agent, Login]:
        """The agent who asks. TheirError 401 when nobody is logged in, 403 when one is to act without their token."""
        who = await self._who(request)
        if who is None:
            raise TheirError("Your login has ended. Please log in again.", 401)
        if acting:
            self._may_act(request, *who)
        return who

    async def _supervisor(self, request: Request, *, acting: bool = False) -> tuple[Agent, Login]:
        """The supervisor who asks. TheirError 401 when nobody is logged in, 404 for who is none, 403 for no token."""
        agent, login = await self._agent(request)
        if not agent.supervisor:
            raise TheirError("There is nothing at this address.", 404)
        if acting:
            self._may_act(request, agent, login)
        return agent, login

    def _may_act(self, request: Request, agent: Agent, login: Login) -> None:
        if not self._logins.csrf_ok(login, request):
            raise TheirError("The page you acted on is out of date. Please load it again.", 403)
        self._acts.take(agent.id, "That was a lot at once.")

    # How it is answered

    def not_routed(self, request: IRequest, failure: Failure) -> bytes:
        asked = cast(Request, request)
        self._secure(asked)
        answer = self._refuser(asked)(refusal_of(failure.value))
        answer.write_head(asked)
        return answer.body

    def _settle(self, request: Request, work: Work, *, to_the_end: bool = False) -> Deferred[bytes]:
        self._secure(request)
        return settle(request, work, self._refuser(request), to_the_end=to_the_end)

    def _secure(self, request: Request) -> None:
        request.setHeader(b"content-security-policy", PAGE_CSP.encode("ascii"))
        request.setHeader(b"cache-control", b"no-store")

    def _refuser(self, request: Request) -> Callable[[Refusal], Answer]:
        return json_refusal if wants_json(request) else self._refused

    def _refused(self, refusal: Refusal) -> Answer:
        other = "That didn’t work" if refusal.status < 500 else "Something went wrong on our side"
        title = _TITLES.get(refusal.status, other)
        link = ("/agent/login", "Log in") if refusal.status == 401 else self.home
        return self._notice(refusal.status, title, refusal.reason, refusal.reference, link)

    def _notice(
        self,
        status: int,
        title: str,
        text: str,
        reference: str | None = None,
        link: tuple[str, str] | None = None,
    ) -> Answer:
        href, words = link or self.home
        answer = self._page(
            "notice.html", status, title=title, text=text, reference=reference, link=href, link_text=words
        )
        return Answer(answer.body, status, answer.content_type, retry_header(status))

    def _page(self, template: str, status: int = 200, **values: Any) -> Answer:
        html = self._drawing.draw(template, **values)
        return Answer(html.encode("utf-8", "replace"), status, "text/html; charset=utf-8")

    def _done(self, request: Request, back: str | None = None) -> Answer:
        """What an act is answered with: the page it came from, or JSON for a script."""
        return json_answer({"done": True}) if wants_json(request) else see(back or self.home[0])


def staff_app() -> Klein:
    """The routes of a subclass; what none of them takes is refused as they refuse."""
    app = Klein()
    app.handle_errors(Exception)(StaffPages.not_routed)
    return app


def see(path: str) -> Answer:
    return Answer(status=303, headers={"Location": path})


def wants_json(request: Request) -> bool:
    return b"application/json" in (request.getHeader(b"accept") or b"")
