"""A call: what its owner hears of it (events), and what happens in its dialog once it is there.

RFC 3261 §12 to §15, RFC 3311. How a call comes about is in `outgoing_call.py` and `incoming_call.py`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from twisted.logger import Logger

from sip_trunk.exchange import Exchange
from sip_trunk.incoming_request import IncomingRequest
from sip_trunk.sip import dialog as dialogs
from sip_trunk.sip.dialog import Dialog
from sip_trunk.sip.errors import BadMessage
from sip_trunk.sip.headers import Headers
from sip_trunk.sip.message import Message, Request, Response
from sip_trunk.sip.uri import SipUri

if TYPE_CHECKING:
    from sip_trunk.deadlines import Deadline
    from sip_trunk.flow import Flow
    from sip_trunk.transactions import ServerTransaction
    from sip_trunk.user_agent import UserAgent

log = Logger()

HeaderPairs = Iterable[tuple[str, str]]

MOST_RETRIES = 5
"""How often a re-INVITE is tried again after a glare before its owner is told."""


@dataclass(frozen=True, slots=True)
class Progress:
    """A provisional response to our INVITE, 100 included."""

    status: int
    headers: Headers
    body: bytes


@dataclass(frozen=True, slots=True)
class Accepted:
    """They answered our INVITE with a 2xx, which was acknowledged; `body` is their SDP."""

    body: bytes
    message: Response


@dataclass(frozen=True, slots=True)
class Confirmed:
    """Their ACK came for our 2xx; `body` is their SDP if our 2xx made the offer. Of a re-INVITE only with a body."""

    body: bytes


@dataclass(frozen=True, slots=True)
class Reoffered:
    """A re-INVITE or UPDATE came: `answer_reoffer` is due. An empty body asks for an offer of ours."""

    body: bytes


@dataclass(frozen=True, slots=True)
class ReinviteAnswered:
    body: bytes


@dataclass(frozen=True, slots=True)
class ReinviteRefused:
    """The call goes on as it was."""

    status: int


@dataclass(frozen=True, slots=True)
class InDialog:
    """A MESSAGE or INFO inside the call; it has to be responded to."""

    request: IncomingRequest


@dataclass(frozen=True, slots=True)
class Refused:
    """Over before it began: they refused, nobody answered (408, `local`), no way to them (503, `local`), or we refused
    theirs (`local`)."""

    status: int
    reason: str
    local: bool
    message: Message | None


@dataclass(frozen=True, slots=True)
class Cancelled:
    """Over before an answer, by the caller: the peer, or we ourselves hanging up a call of ours."""

    reason: str


@dataclass(frozen=True, slots=True)
class Ended:
    """Over after an answer. `by` is "peer", "us" or "lost" (no ACK, a dialog they no longer know, no way to them)."""

    by: str
    reason: str


CallEvent = (
    Progress
    | Accepted
    | Confirmed
    | Reoffered
    | ReinviteAnswered
    | ReinviteRefused
    | InDialog
    | Refused
    | Cancelled
    | Ended
)


class CallState(Enum):
    CALLING = "calling"  # INVITE sent or received
    RINGING = "ringing"
    ANSWERED = "answered"  # our 2xx waits for its ACK
    CONFIRMED = "confirmed"
    ENDED = "ended"


class Answer:
    """A 2xx of ours to an INVITE, sent again until its ACK comes (RFC 3261 §13.3.1.4)."""

    __slots__ = ("_call", "_deadline", "_interval", "_transaction", "_until", "number")

    def __init__(self, call: Call, transaction: ServerTransaction, response: Response) -> None:
        self._call = call
        self._transaction = transaction
        self.number = transaction.request.cseq.number
        layer = call.agent.transactions
        self._interval = layer.timing.t1
        self._until = layer.timers.now() + layer.timing.lifetime
        self._deadline: Deadline = layer.timers.after(self._interval, self._again)
        transaction.respond(response)

    def stop(self) -> None:
        self._deadline.cancel()

    def _again(self) -> None:
        layer = self._call.agent.transactions
        now = layer.timers.now()
        if now >= self._until:
            self._call.unacknowledged()
            return
        self._transaction.repeat()
        self._interval = min(self._interval * 2, layer.timing.t2)
        self._deadline = layer.timers.at(min(now + self._interval, self._until), self._again)


class Call:
    """What both kinds of call share.

    `on_event` gets the events, the last of which is exactly one of Refused, Cancelled and Ended. It may be set anew at
    any time; what happened while there was none is told as it is set. `flow` is the way to the peer, `request` the
    INVITE, `remote_uri` the peer's address as it calls itself.
    """

    # Which side chose the Call-ID settles how long to wait after a glare (RFC 3261 §14.1).
    GLARE_WAIT = (0.0, 2.0)

    def __init__(
        self,
        agent: UserAgent,
        request: Request,
        on_event: Callable[[CallEvent], None] | None,
        credentials: tuple[str, str] | None,
    ) -> None:
        self.agent = agent
        self.request = request
        self.id = request.call_id
        self.flow: Flow | None = None
        self.state = CallState.CALLING
        self._on_event = on_event
        self._unheard: list[CallEvent] = []
        self.dialog: Dialog | None = None
        self._credentials = credentials
        self._keeps_flow = False
        self._contact_user = ""
        self._answer: Answer | None = None
        self._reoffer: ServerTransaction | None = None
        self._reinvite: Exchange | None = None
        self._wanted: tuple[bytes, tuple[tuple[str, str], ...]] | None = None
        self._retries = 0
        self._retry: Deadline | None = None
        agent.calls.add(self)

    @property
    def on_event(self) -> Callable[[CallEvent], None] | None:
        return self._on_event

    @on_event.setter
    def on_event(self, listener: Callable[[CallEvent], None] | None) -> None:
        self._on_event = listener
        unheard, self._unheard = self._unheard, []
        for event in unheard:
            self._tell(event)

    @property
    def remote_uri(self) -> str:
        raise NotImplementedError

    @property
    def ended(self) -> bool:
        return self.state is CallState.ENDED

    # -- what the owner asks for

    def hangup(self, *, reason: str | None = None, headers: HeaderPairs = ()) -> None:
        """End the call in whichever way its state wants; the terminal event comes before this returns.

        `reason` is for the event; written like a Reason header (`SIP;cause=200;text="…"`, RFC 3326) it is sent too.
        Does nothing to a call that is over.
        """
        if self.ended:
            return
        extra = list(headers)
        if reason is not None and ";" in reason:
            extra.append(("Reason", reason))
        self._hangup(reason or "", extra)

    def _hangup(self, reason: str, headers: list[tuple[str, str]]) -> None:
        self._bye(headers)
        self._finish(Ended("us", reason))

    def reinvite(self, body: bytes, headers: HeaderPairs = ()) -> None:
        """Offer anew; one ReinviteAnswered or ReinviteRefused follows, or the call's end.

        It waits until no other offer is under way; asked again before it has left, the later offer takes its place.
        """
        if not self.ended:
            self._wanted = (body, tuple(headers))
            self._try_reinvite()

    def answer_reoffer(self, body: bytes | None, status: int = 200, reason: str | None = None) -> None:
        """Answer the last Reoffered: with our SDP, or with a refusal. Does nothing if it was withdrawn meanwhile."""
        transaction, self._reoffer = self._reoffer, None
        if transaction is None or self.ended:
            return
        if status >= 300:
            response = transaction.request.response(status, reason)
        else:
            response = self._success(transaction.request, body or b"", ())
        if status < 300 and transaction.request.method == "INVITE":
            self._answer = Answer(self, transaction, response)
        else:
            transaction.respond(response)
            self._try_reinvite()

    def send(
        self,
        method: str,
        body: bytes = b"",
        content_type: str | None = None,
        headers: HeaderPairs = (),
    ) -> asyncio.Future[Response]:
        """Send a request inside the dialog; the future holds its final response, a local 408 or 503 included."""
        future: asyncio.Future[Response] = asyncio.get_event_loop().create_future()

        def on_response(response: Response) -> None:
            if response.status < 200:
                return
            if not future.done():
                future.set_result(response)
            if response.status == 481:  # RFC 5057 §5.1: they know nothing of this call
                self._lost("The peer no longer knows the call")

        if self.dialog is None or self.ended:
            future.set_result(Response(481, local=True))
        else:
            self._send(method, on_response, body, content_type, headers)
        return future

    # -- requests of ours

    def _send(
        self,
        method: str,
        on_response: Callable[[Response], None],
        body: bytes = b"",
        content_type: str | None = None,
        headers: HeaderPairs = (),
        dialog: Dialog | None = None,
    ) -> Exchange:
        dialog = dialog or self.dialog
        assert dialog is not None
        request = dialog.request(method)
        for name, value in headers:
            request.headers.add(name, value)
        if body:
            request.body = body
            request.headers.set("Content-Type", content_type or "application/sdp")
        exchange = Exchange(
            self.agent,
            request,
            on_response,
            flow=self._way(dialog),
            hop=dialog.next_hop(),
            contact_user=self._contact_user if method in dialogs.TARGET_REFRESH else None,
            credentials=self._credentials,
            dialog=dialog,
        )
        exchange.start()
        return exchange

    def _way(self, dialog: Dialog) -> Flow | None:
        """The call's own flow, unless its peer is plainly to be reached elsewhere (RFC 3261 §8.1.2, RFC 5626 §5.3)."""
        flow = self.flow
        if flow is None or not flow.alive:
            return None
        if flow.reliable or self._keeps_flow:
            return flow
        hop = dialog.next_hop()
        if isinstance(hop, SipUri) and hop.transport in (None, "udp") and hop.scheme == "sip":
            return flow if (hop.host, hop.port or 5060) == flow.peer else None
        return None

    def _acknowledge(
        self, dialog: Dialog, number: int, again: dict[object, Callable[[], None]], key: object
    ) -> None:
        """Send the ACK for a 2xx, and remember how to send it again."""
        ack = dialog.request("ACK", number)
        for name in ("Authorization", "Proxy-Authorization"):  # RFC 3261 §22.1: those of the INVITE
            for value in self.request.headers.all(name):
                ack.headers.add(name, value)
        sent: list[tuple[Flow, bytes]] = []

        def go(flow: Flow) -> None:
            sent.append((flow, self.agent.transactions.send_ack(ack, flow)))

        def repeat() -> None:
            for flow, data in sent:
                if flow.alive:
                    flow.send(data)

        again[key] = repeat
        self.agent.reach(self._way(dialog), dialog.next_hop(), go, _nothing)

    def _bye(self, headers: HeaderPairs = (), dialog: Dialog | None = None) -> None:
        dialog = dialog or self.dialog
        if dialog is None or dialog.state is dialogs.State.TERMINATED:
            return
        dialog.move(dialogs.Event.OVER)
        # Their BYE may cross ours: the dialog is known, as a dead one, until ours is answered.
        self.agent.dialogs[dialog.id] = (self, dialog)

        def on_response(response: Response) -> None:
            if response.status >= 200:
                self.agent.dialogs.pop(dialog.id, None)

        self._send("BYE", on_response, headers=headers, dialog=dialog)

    # -- re-INVITE

    def _try_reinvite(self) -> None:
        # RFC 3261 §14.1: not while another INVITE is under way in either direction.
        if (
            self._wanted is None
            or self.state is not CallState.CONFIRMED
            or self._reinvite is not None
            or self._reoffer is not None
            or self._answer is not None
            or self._retry is not None
        ):
            return
        body, headers = self._wanted
        self._wanted = None
        acks: dict[object, Callable[[], None]] = {}
        exchange: Exchange

        def on_response(response: Response) -> None:
            if 200 <= response.status < 300:
                if "ack" in acks:
                    acks["ack"]()
                    return
                assert self.dialog is not None
                self.dialog.refresh(response)
                self._acknowledge(self.dialog, exchange.request.cseq.number, acks, "ack")
                self._reinvite_over(response, body, headers)
            elif response.status >= 300 and self._reinvite is exchange:
                self._reinvite_over(response, body, headers)

        exchange = self._reinvite = self._send(
            "INVITE", on_response, body, headers=(*self.agent.capabilities(), *headers)
        )

    def _reinvite_over(self, response: Response, body: bytes, headers: tuple[tuple[str, str], ...]) -> None:
        status = response.status
        self._reinvite = None
        if self.ended:
            return
        if status < 300:
            self._retries = 0
            self._emit(ReinviteAnswered(response.body))
        elif status in (408, 481) or response.local:  # §14.1, §12.2.1.2
            self._bye()
            self._lost("No answer to a re-INVITE" if status != 481 else "The peer no longer knows the call")
            return
        elif (status == 491 or "retry-after" in response.headers.keys) and self._retries < MOST_RETRIES:
            self._retries += 1
            if self._wanted is None:
                self._wanted = (body, headers)
            least, most = self.GLARE_WAIT
            wait = random.uniform(least, most)
            self._retry = self.agent.transactions.timers.after(wait, self._retry_reinvite)
            return
        else:
            self._retries = 0
            self._emit(ReinviteRefused(status))
        self._try_reinvite()

    def _retry_reinvite(self) -> None:
        self._retry = None
        self._try_reinvite()

    # -- requests of theirs

    def receive(self, transaction: ServerTransaction, request: Request, dialog: Dialog) -> None:
        """A request inside one of the call's dialogs."""
        if dialog.state is dialogs.State.TERMINATED:
            transaction.respond(request.response(200 if request.method == "BYE" else 481))
            return
        if not dialog.in_order(request):
            transaction.respond(request.response(500, "CSeq Out Of Order"))
            return
        if self.flow is None or not self.flow.alive:
            self.flow = transaction.flow
        method = request.method
        if method == "BYE":
            self._receive_bye(transaction, request, dialog)
        elif method in dialogs.TARGET_REFRESH:
            self._receive_reoffer(transaction, request, dialog)
        elif method in ("INFO", "MESSAGE"):
            self._emit(InDialog(IncomingRequest(transaction)))
        elif method == "OPTIONS":
            self.agent.answer_options(IncomingRequest(transaction))
        else:
            self.agent.refuse_method(transaction)

    def _receive_bye(self, transaction: ServerTransaction, request: Request, dialog: Dialog) -> None:
        transaction.respond(request.response(200))
        dialog.move(dialogs.Event.OVER)
        self.agent.dialogs.pop(dialog.id, None)
        self._finish(Ended("peer", request.headers.get("Reason") or ""))

    def _receive_reoffer(self, transaction: ServerTransaction, request: Request, dialog: Dialog) -> None:
        if request.method == "UPDATE" and not request.body:  # RFC 3311 §5.2, RFC 4028: a refresh, no offer
            self._follow(transaction, request, dialog)
            transaction.respond(self._success(request, b"", ()))
        elif self._reinvite is not None or (dialog is not self.dialog):
            transaction.respond(request.response(491))  # §14.2; RFC 3311 §5.2: our offer is out
        elif self.state is not CallState.CONFIRMED or self._reoffer is not None or self._answer is not None:
            wait = str(random.randint(0, 10))  # §14.2
            transaction.respond(request.response(500, headers=[("Retry-After", wait)]))
        else:
            self._follow(transaction, request, dialog)
            self._reoffer = transaction
            transaction.on_cancel = lambda _: self._reoffer_withdrawn(transaction)
            self._emit(Reoffered(request.body))

    def _follow(self, transaction: ServerTransaction, request: Request, dialog: Dialog) -> None:
        """The peer says where it is now: a phone that moved to another network is no longer behind its old flow."""
        dialog.refresh(request)
        self.flow = transaction.flow

    def _reoffer_withdrawn(self, transaction: ServerTransaction) -> None:
        transaction.respond(transaction.request.response(487))
        if self._reoffer is transaction:
            self._reoffer = None
            self._try_reinvite()

    def receive_ack(self, request: Request) -> None:
        """An ACK inside the dialog: for the answer that waits, or a repeated one."""
        answer = self._answer
        if answer is None or request.cseq.number != answer.number:
            return
        answer.stop()
        self._answer = None
        self._acknowledged(request)
        self._try_reinvite()

    def _acknowledged(self, request: Request) -> None:
        if request.body:
            self._emit(Confirmed(request.body))

    def unacknowledged(self) -> None:
        """64*T1 have passed without an ACK (RFC 3261 §13.3.1.4)."""
        self._answer = None
        self._bye()
        self._lost("No ACK came")

    # -- the end

    def _success(self, request: Request, body: bytes, headers: HeaderPairs) -> Response:
        """A 2xx to an INVITE or UPDATE of theirs."""
        assert self.flow is not None
        pairs = [
            ("Contact", f"<{self.agent.contact(self.flow, self._contact_user)}>"),
            *self.agent.capabilities(),
        ]
        expires = request.headers.get("Session-Expires")
        if (
            expires is not None
            and "refresher=uas" not in expires.replace(" ", "").lower()
            and _knows_timer(request)
        ):
            # RFC 4028 §9: they refresh, and we answer. A proxy may have asked for it on behalf of a peer that cannot.
            pairs.append(("Session-Expires", f"{expires.partition(';')[0].strip()};refresher=uac"))
            pairs.append(("Require", "timer"))
        pairs += headers
        tag = self.dialog.local_tag if self.dialog is not None else None
        return request.response(
            200, to_tag=tag, headers=pairs, body=body, content_type="application/sdp" if body else None
        )

    def _lost(self, reason: str) -> None:
        if self.dialog is not None and self.dialog.state is not dialogs.State.TERMINATED:
            self.dialog.move(dialogs.Event.OVER)
            self.agent.dialogs.pop(self.dialog.id, None)
        self._finish(Ended("lost", reason))

    def _finish(self, event: Refused | Cancelled | Ended) -> None:
        """Give the terminal event, once, and stop what is under way."""
        if self.ended:
            return
        if self._answer is not None and not self._must_wait_for_ack():
            self._answer.stop()
            self._answer = None
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        self._wanted = None
        if self._reinvite is not None:
            # After a BYE they may have stopped repeating the 2xx to our re-INVITE that got lost.
            self._reinvite.limit()
            self._reinvite = None
        self.state = CallState.ENDED
        self.agent.calls.discard(self)
        reoffer, self._reoffer = self._reoffer, None
        if reoffer is not None:  # RFC 3261 §15.1.2
            reoffer.respond(reoffer.request.response(487))
        self._tell(event)

    def _must_wait_for_ack(self) -> bool:
        return False

    def _emit(self, event: CallEvent) -> None:
        if not self.ended:
            self._tell(event)

    def _tell(self, event: CallEvent) -> None:
        if self._on_event is None:
            self._unheard.append(event)
            return
        try:
            self._on_event(event)
        except Exception:
            log.failure("The owner of call {id} failed on {event}", id=self.id, event=type(event).__name__)


def _knows_timer(request: Request) -> bool:
    try:
        tags = [*request.headers.all("Supported"), *request.headers.all("Require")]
    except BadMessage:
        return False
    return any(tag.lower() == "timer" for tag in tags)


def _nothing() -> None:
    return
