"""A call of theirs until it is answered (RFC 3261 §13.3, RFC 3262 §3)."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

from config.ids import token
from sip_trunk.answer import Answer
from sip_trunk.call import NOBODY, Call, CallState, HeaderPairs
from sip_trunk.call_events import Cancelled, Confirmed, Ended, Refused
from sip_trunk.locate import is_numeric
from sip_trunk.reliable_provisional import ReliableProvisionals
from sip_trunk.sip import description
from sip_trunk.sip import dialog as dialogs
from sip_trunk.sip.dialog import Dialog
from sip_trunk.sip.errors import BadMessage
from sip_trunk.sip.message import REASONS, Request
from sip_trunk.sip.option_tags import names, supports
from sip_trunk.sip.uri import SipUri, parse_uri

if TYPE_CHECKING:
    from sip_trunk.deadlines import Deadline
    from sip_trunk.flow import Flow
    from sip_trunk.transactions import ServerTransaction
    from sip_trunk.user_agent import UserAgent


class IncomingCall(Call):
    """Ring, accept or refuse it. Each does nothing once the call is over, for the caller may give up at any moment.

    `offer` is their SDP, empty when they want ours. `replaces` is the call it is to take the place of, if it says so;
    whether this caller may is the owner's to judge, and so is hanging up the other (RFC 3891 §3).
    """

    def __init__(
        self, agent: UserAgent, transaction: ServerTransaction, offer: bytes, replaces: Call | None = None
    ) -> None:
        request = transaction.request
        dialog = Dialog.of_callee(request, transaction.to_tag)
        theirs = _session_id(request)
        super().__init__(agent, request, None, None, theirs or token(), theirs or NOBODY)
        self.flow = transaction.flow
        self.dialog = dialog
        self.offer = offer
        self.replaces = replaces
        self._peer = request
        self._transaction = transaction
        uri = request.uri
        self._contact_user = uri.user or ""
        via = request.top_via
        # Where they say they are is not where they sent from: NAT, and only this flow leads back through it.
        host, port = transaction.flow.peer
        # A name says nothing of NAT: then a Contact that only its own network knows does.
        hidden = via.host != host if is_numeric(via.host) else _is_private(dialog.target)
        self._keeps_flow = not dialog.routes and (hidden or (via.port or 5060) != port)
        self._bye_is_due: list[tuple[str, str]] | None = None
        self._provisionals: ReliableProvisionals | None = None
        self._accepting: tuple[bytes, tuple[tuple[str, str], ...]] | None = None
        self._expiry: Deadline | None = None
        if "expires" in request.headers.keys:
            self._expiry = agent.transactions.timers.after(request.expires or 0, self._expired)
        transaction.on_cancel = self._receive_cancel
        transaction.on_failure = self._transport_failed
        transaction.on_moved = self._moved
        agent.dialogs[dialog.id] = (self, dialog)

    @property
    def unanswered(self) -> bool:
        return self.state in (CallState.CALLING, CallState.RINGING)

    def ring(
        self,
        status: int = 180,
        headers: HeaderPairs = (),
        body: bytes = b"",
        *,
        reliable: bool | None = None,
    ) -> None:
        """Send a provisional response; with a body (early media) usually 183.

        reliable: whether it is sent until it is acknowledged (PRACK); never to a caller who cannot, always to one who
        requires it, else, unless told, if there is a body. An SDP that was sent so is our answer (RFC 3261 §13.2.1):
        what `accept` is given is not sent any more. Nobody acknowledging it within 64*T1 ends the call, Refused 504.
        """
        if not self.unanswered or self._accepting is not None:
            return
        if status >= 180:
            self.state = CallState.RINGING
        if not (self.offer or body or self._provisionals) and status > 100 and self._reliably(body, reliable):
            return  # RFC 3261 §13.2.1: the first reliable one would have to bring our offer
        assert self.flow is not None
        response = self.request.response(
            status,
            to_tag=self._transaction.to_tag,
            headers=(("Contact", self.contact_on(self.flow)), self._session_header, *headers),
            body=body,
            content_type="application/sdp" if body else None,
        )
        if status > 100 and self._reliably(body, reliable):
            if self._provisionals is None:
                self._provisionals = ReliableProvisionals(self, self._transaction)
            if body:
                self.local_body = body
            self._provisionals.send(response)
        else:
            self._transaction.respond(response)

    def _reliably(self, body: bytes, reliable: bool | None) -> bool:
        if "require" in self.request.headers.keys and "100rel" in names(self.request, "require"):
            return True
        wanted = bool(body) if reliable is None else reliable
        return wanted and supports(self.request, "100rel")

    def accept(self, body: bytes, headers: HeaderPairs = ()) -> None:
        """Answer 200 with our SDP; Confirmed follows, or Ended by "lost" when no ACK comes within 64*T1.

        While a reliable provisional response with our SDP waits for its PRACK, so does the 200 (RFC 3262 §3).
        """
        if not self.unanswered or self._accepting is not None:
            return
        provisionals = self._provisionals
        if provisionals is not None:
            if provisionals.pending_sdp:
                self._accepting = (body, tuple(headers))
                return
            provisionals.stop()
            if provisionals.answered:
                body = b""
        self.state = CallState.ANSWERED
        assert self.dialog is not None
        self.dialog.move(dialogs.Event.SUCCESS)
        self.local_body = body or self.local_body
        self.offers.answer = Answer(self, self._transaction, self.success(self.request, body, headers))

    def provisional_acknowledged(self) -> None:
        """Their PRACK came."""
        accepting, self._accepting = self._accepting, None
        if accepting is not None:
            self.accept(*accepting)
        else:
            self.offers.go_on()

    def refuse(self, status: int, reason: str | None = None, headers: HeaderPairs = ()) -> None:
        """Answer with a final refusal; Refused, `local`, comes before this returns."""
        if not self.unanswered:
            return
        self._respond_and_forget(status, reason, headers)
        self._finish(Refused(status, reason or REASONS.get(status, ""), True, None))

    def _respond_and_forget(self, status: int, reason: str | None, headers: HeaderPairs = ()) -> None:
        assert self.dialog is not None
        self.dialog.move(dialogs.Event.OVER)
        self.agent.dialogs.pop(self.dialog.id, None)
        self._transaction.respond(
            self.request.response(
                status, reason, to_tag=self._transaction.to_tag, headers=(self._session_header, *headers)
            )
        )

    def _hangup(self, reason: str, headers: list[tuple[str, str]]) -> None:
        if self.unanswered:
            self.refuse(603, headers=headers)
        elif self._must_wait_for_ack():
            self._bye_is_due = headers
            self._finish(Ended("us", reason))
        else:
            super()._hangup(reason, headers)

    def _must_wait_for_ack(self) -> bool:
        # RFC 3261 §15: no BYE of ours before the ACK for our 2xx has come, or can come no more.
        return (
            self.offers.answer is not None
            and self.offers.answer.number == self.request.cseq.number
            and self.dialog is not None
            and self.dialog.state is dialogs.State.CONFIRMED
        )

    def _receive_cancel(self, cancel: Request) -> None:
        if self.unanswered:
            self._respond_and_forget(487, None)
            self._finish(Cancelled(cancel.headers.get("Reason") or ""))

    def _expired(self) -> None:
        """The caller waits no longer, as its INVITE said (§13.3.1)."""
        if self.unanswered:
            self._respond_and_forget(487, None)
            self._finish(Cancelled("The invitation has expired"))

    def lost(self, reason: str) -> None:
        if self.unanswered:  # whatever became of the dialog, their INVITE is to be answered
            self._respond_and_forget(487, None)
            self._finish(Cancelled(reason))
        else:
            super().lost(reason)

    def _receive_bye(self, transaction: ServerTransaction, request: Request, dialog: Dialog) -> None:
        if not self.unanswered:
            if self._bye_is_due is not None:
                # They leave before acknowledging our answer: neither it nor our own BYE is of use any more.
                self._bye_is_due = None
                self.offers.stop(keep_answer=False)
            super()._receive_bye(transaction, request, dialog)
            return
        # §15.1.2: a caller may end an early dialog by BYE.
        self.respond(transaction, 200)
        self._respond_and_forget(487, None)
        self._finish(Cancelled(request.headers.get("Reason") or ""))

    def _acknowledged(self, request: Request) -> None:
        if self.ended:
            if self._bye_is_due is not None:
                headers, self._bye_is_due = self._bye_is_due, None
                self.bye(headers)
            return
        if self.state is CallState.ANSWERED:
            self.state = CallState.CONFIRMED
            early = self._provisionals.acknowledged_with if self._provisionals is not None else b""
            self.emit(Confirmed(description.answered(request) or early))
        else:
            super()._acknowledged(request)

    def unacknowledged(self) -> None:
        if self._bye_is_due is not None:
            self.offers.answer = None
            headers, self._bye_is_due = self._bye_is_due, None
            self.bye(headers)
        else:
            super().unacknowledged()

    def _transport_failed(self, kind: str) -> None:
        if kind != "transport" or self.ended:
            return
        if self.unanswered:
            self._respond_and_forget(487, None)
            self._finish(Cancelled("The caller's connection closed"))
        elif self.state is CallState.ANSWERED:
            self.lost("The caller's connection closed")

    def _moved(self, flow: Flow) -> None:
        # Unless it was heard of by another way meanwhile.
        if self.flow is None or not self.flow.alive:
            self.flow = flow

    def _receive_prack(self, transaction: ServerTransaction, request: Request) -> None:
        if self._provisionals is None:
            super()._receive_prack(transaction, request)
        else:
            self._provisionals.receive(transaction, request)

    def dialog_to_offer_in(self, method: str) -> Dialog | None:
        if self.unanswered and method == "UPDATE" and self.allows("UPDATE"):
            return self.dialog if self._answered_early else None
        return super().dialog_to_offer_in(method)

    def has_answered(self, dialog: Dialog) -> bool:
        return self.confirmed or self._answered_early

    @property
    def _answered_early(self) -> bool:
        provisionals = self._provisionals
        return (
            provisionals is not None
            and self._accepting is None
            and provisionals.answered
            and not provisionals.pending_sdp
        )

    def _finish(self, event: Refused | Cancelled | Ended) -> None:
        if self._provisionals is not None:
            self._provisionals.stop()
        self._accepting = None
        if self._expiry is not None:
            self._expiry.cancel()
        # Nothing that becomes of the INVITE matters to a call that is over, and its transaction stays for 64*T1.
        self._transaction.listen_no_more()
        super()._finish(event)


def _is_private(target: str) -> bool:
    uri = parse_uri(target)
    return not isinstance(uri, SipUri) or not is_numeric(uri.host) or ip_address(uri.host).is_private


def _session_id(request: Request) -> str | None:
    if "session-id" not in request.headers.keys:
        return None
    try:
        said = request.session_id
    except BadMessage:
        return None
    return None if said is None or said.nil else said.local
