"""One request of ours until its final response: the way there, the answer to a challenge, a failure made a response."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from sip_trunk.sip.dialog import Dialog
from sip_trunk.sip.digest import answer, choose_challenge
from sip_trunk.sip.message import Request, Response
from sip_trunk.sip.uri import Uri
from sip_trunk.transactions import ClientTransaction

if TYPE_CHECKING:
    from sip_trunk.flow import Flow
    from sip_trunk.user_agent import UserAgent

CHALLENGES = {
    401: ("WWW-Authenticate", "Authorization"),
    407: ("Proxy-Authenticate", "Proxy-Authorization"),
}


class Exchange:
    """`on_response` gets every response but the challenges that are answered here.

    A timeout or a broken way is a 408 or 503 with `local` set (RFC 3261 §8.1.3.1). After such a 408 to an INVITE a
    late real response may still follow. `on_response` is never called before `start` returns.
    """

    __slots__ = (
        "_agent",
        "_answered",
        "_credentials",
        "_dialog",
        "_dropped",
        "_on_response",
        "_starting",
        "contact_user",
        "flow",
        "hop",
        "request",
        "transaction",
    )

    def __init__(
        self,
        agent: UserAgent,
        request: Request,
        on_response: Callable[[Response], None],
        *,
        flow: Flow | None,
        hop: Uri,
        contact_user: str | None = None,
        credentials: tuple[str, str] | None = None,
        dialog: Dialog | None = None,
    ) -> None:
        self._agent = agent
        self.request = request
        self._on_response = on_response
        self.flow = flow
        self.hop = hop
        self.contact_user = contact_user
        self._credentials = credentials
        self._dialog = dialog
        self._answered: dict[int, int] = {}
        self._starting = False
        self._dropped = False
        self.transaction: ClientTransaction | None = None

    def start(self) -> None:
        """Find the way and send."""
        self._starting = True
        self._agent.reach(self.flow, self.hop, self._go, self._unreachable)
        self._starting = False

    def cancel(self, headers: Iterable[tuple[str, str]] = ()) -> None:
        """CANCEL an INVITE as soon as that is allowed; one that has not left yet never will."""
        self._dropped = True
        if self.transaction is not None:
            self.transaction.cancel(headers)

    def limit(self) -> None:
        """The answer matters no more; do not wait for it for ever."""
        if self.transaction is not None:
            self.transaction.limit()
        else:
            self._dropped = True

    def _go(self, flow: Flow) -> None:
        if self._dropped:
            return
        self.flow = flow
        if self.contact_user is not None and "contact" not in self.request.headers.keys:
            self.request.headers.add("Contact", f"<{self._agent.contact(flow, self.contact_user)}>")
        self._send(flow)

    def _send(self, flow: Flow) -> None:
        self.transaction = self._agent.transactions.send_request(
            self.request, flow, self._receive, self._failed
        )

    def _receive(self, response: Response) -> None:
        if response.status in CHALLENGES and not self._dropped and self._answer(response):
            return
        self._on_response(response)

    def _answer(self, response: Response) -> bool:
        """Ask again with credentials (§22.2): once for each asker, and once more if only the nonce was too old."""
        status = response.status
        if self._credentials is None or self.flow is None or not self.flow.alive:
            return False
        asked, answered = CHALLENGES[status]
        challenge = choose_challenge(response.headers.all(asked))
        times = self._answered.get(status, 0)
        if challenge is None or times > 1 or (times == 1 and not challenge.stale):
            return False
        self._answered[status] = times + 1
        request = self.request.copy()
        request.headers.remove_first("Via")
        if self._dialog is not None:
            self._dialog.local_seq += 1
            number = self._dialog.local_seq
        else:
            number = request.cseq.number + 1
        request.headers.set("CSeq", f"{number} {request.method}")
        username, password = self._credentials
        request.headers.set(
            answered,
            answer(challenge, username, password, request.method, request.uri_text, body=request.body),
        )
        self.request = request
        self._send(self.flow)
        return True

    def _unreachable(self) -> None:
        if not self._dropped:
            self._failed("transport")

    def _failed(self, kind: str) -> None:
        if self._starting:
            # Whoever called `start` does not hold what it returns yet.
            self._agent.transactions.timers.after(0, lambda: self._failed(kind))
            return
        response = self.request.response(408 if kind == "timeout" else 503)
        response.local = True
        self._on_response(response)
