"""A call: what happens in its dialog once it is there (RFC 3261 §12 to §15).

What its owner hears is in `call_events.py`; how a call comes about in `outgoing_call.py` and `incoming_call.py`; new
offers inside it are in `reoffer.py`, its transfer in `refer.py`, its refreshes in `session_timer.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from enum import Enum
from typing import TYPE_CHECKING

from twisted.logger import Logger

from sip_trunk.call_events import (
    CallEvent,
    Cancelled,
    Confirmed,
    Ended,
    InDialog,
    Refused,
)
from sip_trunk.exchange import Exchange
from sip_trunk.incoming_request import IncomingRequest
from sip_trunk.locate import numeric_hop
from sip_trunk.own_network import leads_here
from sip_trunk.refer import Referrals
from sip_trunk.reoffer import Reoffers, Wanted
from sip_trunk.session_timer import SessionTimer
from sip_trunk.sip import description
from sip_trunk.sip import dialog as dialogs
from sip_trunk.sip import session_timer as sessions
from sip_trunk.sip.dialog import Dialog
from sip_trunk.sip.errors import BadMessage
from sip_trunk.sip.message import Message, Request, Response
from sip_trunk.sip.option_tags import names
from sip_trunk.sip.uri import SipUri

if TYPE_CHECKING:
    from sip_trunk.flow import Flow
    from sip_trunk.transactions import ServerTransaction
    from sip_trunk.user_agent import UserAgent

log = Logger()

HeaderPairs = Iterable[tuple[str, str]]

MOST_UNHEARD = 64
"""How many events are kept for an owner who does not listen yet; what could be sent without end is refused then."""

NOBODY = "0" * 32
"""The other half of a Session-ID while it is unknown (RFC 7989 §5)."""


class CallState(Enum):
    CALLING = "calling"  # INVITE sent or received
    RINGING = "ringing"
    ANSWERED = "answered"  # our 2xx waits for its ACK
    CONFIRMED = "confirmed"
    ENDED = "ended"


class Call:
    """What both kinds of call share.

    `on_event` gets the events, the last of which is exactly one of Refused, Cancelled and Ended. It may be set anew at
    any time; what happened while there was none is told as it is set. `flow` is the way to the peer, `request` the
    INVITE. `session_id` is what the call is known by across servers and both sides of them (RFC 7989), 32 hex digits.
    """

    # Which side chose the Call-ID settles how long to wait after a glare (RFC 3261 §14.1).
    GLARE_WAIT = (0.0, 2.0)

    def __init__(
        self,
        agent: UserAgent,
        request: Request,
        on_event: Callable[[CallEvent], None] | None,
        credentials: tuple[str, str] | None,
        session_id: str,
        their_session_id: str = NOBODY,
    ) -> None:
        self.agent = agent
        self.request = request
        self.id = request.call_id
        self.session_id = session_id
        self.flow: Flow | None = None
        self.state = CallState.CALLING
        self._on_event = on_event
        self._unheard: list[CallEvent] = []
        self.dialog: Dialog | None = None
        self.local_body = b""  # our side's SDP, as last agreed upon
        self.peer_allows: frozenset[str] | None = None
        self._peer: Message | None = None
        self._credentials = credentials
        self._session_header = ("Session-ID", f"{session_id};remote={their_session_id}")
        self._keeps_flow = False
        self._contact_user = ""
        self._leaving = False
        self.offers = Reoffers(self)
        self._session_timer: SessionTimer | None = None
        self._referrals: Referrals | None = None
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
    def confirmed(self) -> bool:
        return self.state is CallState.CONFIRMED

    @property
    def answered(self) -> bool:
        """By a 2xx, acknowledged or not, and not over yet."""
        return self.state is CallState.CONFIRMED or self.state is CallState.ANSWERED

    @property
    def ended(self) -> bool:
        return self.state is CallState.ENDED

    def allows(self, method: str) -> bool:
        """Whether the peer says that it takes requests of that method (Allow, RFC 3261 §20.5)."""
        if self.peer_allows is None:
            peer = self._peer
            try:
                self.peer_allows = names(peer, "allow") if peer is not None else frozenset()
            except BadMessage:
                self.peer_allows = frozenset()
        return method.lower() in self.peer_allows

    # -- what the owner asks for

    def hangup(self, *, reason: str | None = None) -> None:
        """End the call in whichever way its state wants; the terminal event comes before this returns.

        `reason` is for the event; written like a Reason header (`SIP;cause=200;text="…"`, RFC 3326) it is sent too.
        Does nothing to a call that is over.
        """
        if self.ended:
            return
        headers = [("Reason", reason)] if reason is not None and ";" in reason else []
        self._hangup(reason or "", headers)

    def _hangup(self, reason: str, headers: list[tuple[str, str]]) -> None:
        waits = self._referrals is not None and self._referrals.after_last_words(
            lambda: self._bye_now(headers)
        )
        if not waits:
            self.bye(headers)
        self._finish(Ended("us", reason))
        if waits:
            self.agent.calls.add(self)  # nobody is to stop the server before the BYE has left

    def _bye_now(self, headers: list[tuple[str, str]]) -> None:
        self.agent.calls.discard(self)
        self.bye(headers)

    def reinvite(self, body: bytes) -> None:
        """Offer anew; one ReinviteAnswered or ReinviteRefused follows, or the call's end.

        It waits until no other offer is under way; asked again before it has left, the later offer takes its place.
        """
        if not self.ended:
            self.offers.want(Wanted("INVITE", body))

    def update(self, body: bytes) -> None:
        """Offer anew as `reinvite` does, but by UPDATE, which leaves already while the call rings if its first offer
        was answered reliably (RFC 3311 §5.1). A peer that takes no UPDATE gets a re-INVITE, once the call is answered.
        """
        if not self.ended:
            self.offers.want(Wanted("UPDATE", body))

    def answer_reoffer(self, body: bytes | None, status: int = 200, reason: str | None = None) -> None:
        """Answer the last Reoffered: with our SDP, or with a refusal. Does nothing if it was withdrawn meanwhile."""
        if not self.ended:
            self.offers.answer_theirs(body, status, reason)

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
                self.lost("The peer no longer knows the call")

        if self.dialog is None or self.ended:
            future.set_result(Response(481, local=True))
        else:
            self.exchange(method, on_response, body, content_type, headers)
        return future

    # -- requests of ours

    def exchange(
        self,
        method: str,
        on_response: Callable[[Response], None],
        body: bytes = b"",
        content_type: str | None = None,
        headers: HeaderPairs = (),
        dialog: Dialog | None = None,
    ) -> Exchange:
        """Send a request inside the dialog, the call's own unless told, whatever state the call is in."""
        dialog = dialog or self.dialog
        assert dialog is not None
        request = dialog.request(method)
        request.headers.add(*self._session_header)
        for name, value in headers:
            request.headers.add(name, value)
        if body:
            request.body = body
            request.headers.set("Content-Type", content_type or "application/sdp")
        says_where = method in dialogs.TARGET_REFRESH or method == "NOTIFY"
        exchange = Exchange(
            self.agent,
            request,
            on_response,
            flow=self._way(dialog),
            hop=dialog.next_hop(),
            contact_user=self._contact_user if says_where else None,
            credentials=self._credentials,
            dialog=dialog,
            keeps_flow=self._keeps_flow,
            outside=self._from_outside,
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
        uri = dialog.next_hop()
        hop = numeric_hop(uri) if isinstance(uri, SipUri) else None
        if hop is None:
            return None
        there = (hop.transport, hop.host, hop.port) == (flow.transport, *flow.peer)
        return flow if there or (self._from_outside and leads_here(hop.host)) else None

    @property
    def _from_outside(self) -> bool:
        """The peer is not on this host, so that no address of this host can be where to reach it."""
        return self.flow is None or not leads_here(self.flow.peer[0])

    def acknowledge(
        self, dialog: Dialog, invite: Request, again: dict[object, Callable[[], None]], key: object
    ) -> None:
        """Send the ACK for a 2xx to this INVITE of ours, and remember how to send it again."""
        ack = dialog.request("ACK", invite.cseq.number)
        ack.headers.add(*self._session_header)
        for name in ("Authorization", "Proxy-Authorization"):  # RFC 3261 §22.1
            for value in invite.headers.all(name):
                ack.headers.add(name, value)
        sent: list[tuple[Flow, bytes]] = []

        def go(flow: Flow) -> None:
            sent[:] = [(flow, self.agent.transactions.send_ack(ack.copy(), flow))]

        def find_the_way() -> None:
            self.agent.reach(self._way(dialog), dialog.next_hop(), go, _nothing, outside=self._from_outside)

        def repeat() -> None:
            for flow, data in sent:
                if flow.alive:
                    flow.send(data)
                    return
            # There was no way at first, or its connection has closed and may have taken the ACK with it.
            find_the_way()

        again[key] = repeat
        find_the_way()

    def bye(self, headers: HeaderPairs = (), dialog: Dialog | None = None) -> None:
        """Say BYE in a dialog that is not over yet; the call itself is not told."""
        dialog = dialog or self.dialog
        if dialog is None or dialog.state is dialogs.State.TERMINATED:
            return
        own = dialog is self.dialog
        dialog.move(dialogs.Event.OVER)
        # Their BYE may cross ours: the dialog is known, as a dead one, until ours is answered.
        self.agent.dialogs[dialog.id] = (self, dialog)
        self._leaving = self._leaving or own

        def on_response(response: Response) -> None:
            if response.status < 200:
                return
            if own:
                self._leaving = False
                self.release()
            else:
                self.agent.dialogs.pop(dialog.id, None)

        self.exchange("BYE", on_response, headers=headers, dialog=dialog)

    def release(self) -> None:
        """Forget the dialog, if it is over and of no more use: a transfer may outlive the call (RFC 5057 §4)."""
        dialog = self.dialog
        if (
            dialog is not None
            and dialog.state is dialogs.State.TERMINATED
            and not self._leaving
            and (self._referrals is None or not self._referrals.active)
        ):
            self.agent.dialogs.pop(dialog.id, None)

    # -- requests of theirs

    def receive(self, transaction: ServerTransaction, request: Request, dialog: Dialog) -> None:
        """A request inside one of the call's dialogs."""
        method = request.method
        dead = dialog.state is dialogs.State.TERMINATED
        if (dead or (self.ended and method != "BYE")) and not (
            method == "SUBSCRIBE" and self._referrals is not None and self._referrals.active
        ):
            self.respond(transaction, 200 if method == "BYE" else 481)
            return
        if not dialog.in_order(request):
            self.respond(transaction, 500, "CSeq Out Of Order")
            return
        if self.flow is None or not self.flow.alive:
            self.flow = transaction.flow
        if method == "BYE":
            self._receive_bye(transaction, request, dialog)
        elif method in dialogs.TARGET_REFRESH:
            self.offers.receive(transaction, request, dialog)
        elif method == "INFO" and "info-package" in request.headers.keys:
            # RFC 6086 §4.2.2: we said of no package that we take it.
            self.respond(transaction, 469, headers=[("Recv-Info", "")])
        elif method in ("INFO", "MESSAGE"):
            self._receive_for_owner(transaction)
        elif method == "PRACK":
            self._receive_prack(transaction, request)
        elif method == "REFER":
            if self._referrals is None:
                self._referrals = Referrals(self)
            self._referrals.receive(transaction, request, dialog)
        elif method == "SUBSCRIBE":
            if self._referrals is None:
                self.agent.refuse_method(transaction)
            else:
                self._referrals.subscribe(transaction, request)
        elif method == "OPTIONS":
            self.agent.answer_options(IncomingRequest(transaction))
        else:
            self.agent.refuse_method(transaction)

    def _receive_bye(self, transaction: ServerTransaction, request: Request, dialog: Dialog) -> None:
        self.respond(transaction, 200)
        dialog.move(dialogs.Event.OVER)
        self._finish(Ended("peer", request.headers.get("Reason") or ""))
        self.release()

    def _receive_prack(self, transaction: ServerTransaction, request: Request) -> None:
        self.respond(transaction, 481)  # RFC 3262 §3: for nothing of ours

    def _receive_for_owner(self, transaction: ServerTransaction) -> None:
        if len(self._unheard) >= MOST_UNHEARD:
            self.respond(transaction, 480)
        else:
            self.emit(InDialog(IncomingRequest(transaction)))

    def follow(self, transaction: ServerTransaction, request: Request, dialog: Dialog) -> None:
        """The peer says where it is now: a phone that moved to another network is no longer behind its old flow."""
        dialog.refresh(request)
        self.flow = transaction.flow

    def receive_ack(self, request: Request) -> None:
        """An ACK inside the dialog: for the answer that waits, or a repeated one."""
        if self.offers.acknowledged(request):
            self._acknowledged(request)
            self.offers.go_on()

    def _acknowledged(self, request: Request) -> None:
        body = description.answered(request)
        if body:
            self.emit(Confirmed(body))

    def unacknowledged(self) -> None:
        """64*T1 have passed without an ACK (RFC 3261 §13.3.1.4)."""
        self.offers.answer = None
        self.bye()
        self.lost("No ACK came")

    # -- where offers stand; both kinds of call know more of it while they ring

    def dialog_to_offer_in(self, method: str) -> Dialog | None:
        """The dialog in which an offer of ours may be made now; None while there is none."""
        return self.dialog if self.confirmed else None

    def has_answered(self, dialog: Dialog) -> bool:
        """Whether no offer of theirs waits for our answer in that dialog, those of `offers` apart."""
        return self.confirmed

    def was_answered(self, dialog: Dialog) -> bool:
        """Whether no offer of ours waits for their answer in that dialog, those of `offers` apart."""
        return dialog is self.dialog

    # -- responses of ours

    def contact_on(self, flow: Flow) -> str:
        """What we say of ourselves on that flow, as a Contact has it."""
        return f"<{self.agent.contact(flow, self._contact_user)}>"

    def respond(
        self,
        transaction: ServerTransaction,
        status: int,
        reason: str | None = None,
        headers: HeaderPairs = (),
    ) -> None:
        """Answer a request inside the call, without a body."""
        request = transaction.request
        transaction.respond(request.response(status, reason, headers=(self._session_header, *headers)))

    def success(self, request: Request, body: bytes, headers: HeaderPairs) -> Response:
        """A 2xx to an INVITE or UPDATE of theirs; what it agrees to of session timers holds from now on."""
        assert self.flow is not None
        agent = self.agent
        session: HeaderPairs = ()
        if self.answered:
            agreement, session = sessions.agreed_by_us(request, agent.session_expires_s, agent.min_se_s)
            self._agree(agreement)
        pairs = [
            ("Contact", self.contact_on(self.flow)),
            *agent.capabilities(),
            self._session_header,
            *session,
            *headers,
        ]
        tag = self.dialog.local_tag if self.dialog is not None else None
        return request.response(
            200, to_tag=tag, headers=pairs, body=body, content_type="application/sdp" if body else None
        )

    # -- session timers (RFC 4028)

    def session_headers(self) -> tuple[tuple[str, str], ...]:
        """For a re-INVITE or UPDATE of ours."""
        agreement = self._session_timer.agreement if self._session_timer is not None else None
        return agreement.headers() if agreement is not None else self.agent.session_headers

    def too_brief(self, transaction: ServerTransaction, request: Request) -> bool:
        """Refuse a session that would want refreshing too often (§9)."""
        least = self.agent.min_se_s
        if not sessions.too_brief(request, least):
            return False
        self.respond(transaction, 422, headers=[("Min-SE", str(least))])
        return True

    def answered_by_them(self, request: Request, response: Response) -> None:
        """A 2xx to our INVITE or UPDATE came."""
        if self.answered:
            self._agree(sessions.agreed_by_them(request, response, self.agent.min_se_s))

    def not_refreshed(self) -> None:
        """A refresh was refused, and the session goes on as long as it may."""
        if self._session_timer is not None:
            self._session_timer.refused()

    def _agree(self, agreement: sessions.Agreement | None) -> None:
        if agreement is None and self._session_timer is None:
            return
        if self._session_timer is None:
            self._session_timer = SessionTimer(self)
        self._session_timer.agreed(agreement)

    def learn_session_id(self, response: Response) -> None:
        """Take their half of the Session-ID (RFC 7989 §6)."""
        if "session-id" not in response.headers.keys:
            return
        try:
            said = response.session_id
        except BadMessage:
            return
        if said is not None and not said.nil:
            self._session_header = ("Session-ID", f"{self.session_id};remote={said.local}")

    # -- the end

    def lost(self, reason: str) -> None:
        """The call is over, and not by anybody's wish."""
        if self.dialog is not None:
            self.dialog.move(dialogs.Event.OVER)
        self._finish(Ended("lost", reason))
        self.release()  # also of a call that had ended already and whose BYE waited for an ACK

    def _finish(self, event: Refused | Cancelled | Ended) -> None:
        """Give the terminal event, once, and stop what is under way."""
        if self.ended:
            return
        self.state = CallState.ENDED
        self.agent.calls.discard(self)
        if self._session_timer is not None:
            self._session_timer.stop()
            self._session_timer = None
        self.offers.stop(keep_answer=self._must_wait_for_ack())
        if self._referrals is not None:
            self._referrals.call_over()
        self.release()
        self._tell(event)

    def _must_wait_for_ack(self) -> bool:
        return False

    def emit(self, event: CallEvent) -> None:
        """Tell the owner, unless the call is over."""
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


def _nothing() -> None:
    return
