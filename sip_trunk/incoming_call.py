"""A call of theirs until it is answered (RFC 3261 §13.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sip_trunk.call import (
    Answer,
    Call,
    CallState,
    Cancelled,
    Confirmed,
    Ended,
    HeaderPairs,
    Refused,
)
from sip_trunk.sip import dialog as dialogs
from sip_trunk.sip.dialog import Dialog
from sip_trunk.sip.message import REASONS, Request

if TYPE_CHECKING:
    from sip_trunk.transactions import ServerTransaction
    from sip_trunk.user_agent import UserAgent


class IncomingCall(Call):
    """Ring, accept or refuse it. Each does nothing once the call is over, for the caller may give up at any moment."""

    def __init__(self, agent: UserAgent, transaction: ServerTransaction) -> None:
        request = transaction.request
        dialog = Dialog.of_callee(request, transaction.to_tag)
        super().__init__(agent, request, None, None)
        self.flow = transaction.flow
        self.dialog = dialog
        self._transaction = transaction
        uri = request.uri
        self._contact_user = uri.user or ""
        via = request.top_via
        # Where they say they are is not where they sent from: NAT, and only this flow leads back through it.
        self._keeps_flow = not dialog.routes and (via.host, via.port or 5060) != transaction.flow.peer
        self._bye_is_due: list[tuple[str, str]] | None = None
        transaction.on_cancel = self._receive_cancel
        transaction.on_failure = self._transport_failed
        agent.dialogs[dialog.id] = (self, dialog)

    @property
    def remote_uri(self) -> str:
        return str(self.request.from_.uri)

    @property
    def unanswered(self) -> bool:
        return self.state in (CallState.CALLING, CallState.RINGING)

    def ring(self, status: int = 180, headers: HeaderPairs = (), body: bytes = b"") -> None:
        """Send a provisional response; with a body (early media) usually 183."""
        if not self.unanswered:
            return
        if status >= 180:
            self.state = CallState.RINGING
        assert self.flow is not None
        contact = ("Contact", f"<{self.agent.contact(self.flow, self._contact_user)}>")
        self._transaction.respond(
            self.request.response(
                status,
                to_tag=self._transaction.to_tag,
                headers=(contact, *headers),
                body=body,
                content_type="application/sdp" if body else None,
            )
        )

    def accept(self, body: bytes, headers: HeaderPairs = ()) -> None:
        """Answer 200 with our SDP; Confirmed follows, or Ended by "lost" when no ACK comes within 64*T1."""
        if not self.unanswered:
            return
        self.state = CallState.ANSWERED
        assert self.dialog is not None
        self.dialog.move(dialogs.Event.SUCCESS)
        self._answer = Answer(self, self._transaction, self._success(self.request, body, headers))

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
            self.request.response(status, reason, to_tag=self._transaction.to_tag, headers=headers)
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
            self._answer is not None
            and self._answer.number == self.request.cseq.number
            and self.dialog is not None
            and self.dialog.state is dialogs.State.CONFIRMED
        )

    def _receive_cancel(self, cancel: Request) -> None:
        if self.unanswered:
            self._respond_and_forget(487, None)
            self._finish(Cancelled(cancel.headers.get("Reason") or ""))

    def _receive_bye(self, transaction: ServerTransaction, request: Request, dialog: Dialog) -> None:
        if not self.unanswered:
            self._bye_is_due = None
            super()._receive_bye(transaction, request, dialog)
            return
        # §15.1.2: a caller may end an early dialog by BYE.
        transaction.respond(request.response(200))
        self._respond_and_forget(487, None)
        self._finish(Cancelled(request.headers.get("Reason") or ""))

    def _acknowledged(self, request: Request) -> None:
        if self.ended:
            if self._bye_is_due is not None:
                headers, self._bye_is_due = self._bye_is_due, None
                self._bye(headers)
            return
        if self.state is CallState.ANSWERED:
            self.state = CallState.CONFIRMED
            self._tell(Confirmed(request.body))
        else:
            super()._acknowledged(request)

    def unacknowledged(self) -> None:
        if self._bye_is_due is not None:
            self._answer = None
            headers, self._bye_is_due = self._bye_is_due, None
            self._bye(headers)
        else:
            super().unacknowledged()

    def _transport_failed(self, kind: str) -> None:
        if kind != "transport" or self.ended:
            return
        if self.unanswered:
            self._respond_and_forget(487, None)
            self._finish(Cancelled("The caller's connection closed"))
        elif self.state is CallState.ANSWERED:
            self._lost("The caller's connection closed")
