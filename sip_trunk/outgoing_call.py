"""A call of ours until it is answered: forks, refusals, hanging up in time and too late (RFC 3261 §9.1, §13.2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sip_trunk.call import Call, CallState
from sip_trunk.call_events import Accepted, CallEvent, Cancelled, Progress, Refused
from sip_trunk.exchange import Exchange
from sip_trunk.reliable_provisional import acknowledge, is_reliable
from sip_trunk.sip import description
from sip_trunk.sip import dialog as dialogs
from sip_trunk.sip.dialog import Dialog
from sip_trunk.sip.message import REASONS, Request, Response
from sip_trunk.sip.uri import Uri

if TYPE_CHECKING:
    from sip_trunk.flow import Flow
    from sip_trunk.transactions import ServerTransaction
    from sip_trunk.user_agent import UserAgent

MOST_FORKS = 32
"""How many phones of one call are told apart; what a proxy rings beyond that is neither acknowledged nor followed."""


class OutgoingCall(Call):
    """`on_late`, if set, is told the status of a provisional or 2xx that came after the call was over.

    Such a response is dealt with here (CANCEL, or ACK and BYE), for 64*T1 after the INVITE timed out or its CANCEL
    went unanswered.
    """

    # RFC 3261 §14.1: the side that chose the Call-ID waits longer.
    GLARE_WAIT = (2.1, 4.0)

    def __init__(
        self,
        agent: UserAgent,
        request: Request,
        on_event: Callable[[CallEvent], None] | None,
        credentials: tuple[str, str] | None,
        *,
        flow: Flow | None,
        hop: Uri,
        contact_user: str,
        session_id: str,
    ) -> None:
        super().__init__(agent, request, on_event, credentials, session_id)
        request.headers.add(*self._session_header)
        self.on_late: Callable[[int], None] | None = None
        self._contact_user = contact_user
        # A binding's flow is the only way to a phone behind NAT (RFC 5626 §5.3).
        self._keeps_flow = flow is not None
        self._early: dict[str, Dialog] = {}
        self._acks: dict[object, Callable[[], None]] = {}
        self._exchange = Exchange(
            agent,
            request,
            self._receive_response,
            flow=flow,
            hop=hop,
            contact_user=contact_user,
            credentials=credentials,
        )
        self._exchange.start()

    def _hangup(self, reason: str, headers: list[tuple[str, str]]) -> None:
        if self.state is CallState.CONFIRMED:
            super()._hangup(reason, headers)
            return
        self._exchange.cancel([self._session_header, *headers])
        self._drop_early()
        self._finish(Cancelled(reason))

    def _receive_response(self, response: Response) -> None:
        self.request = self._exchange.request
        if self.flow is None or not self.ended:
            self.flow = self._exchange.flow
        if response.status < 200:
            self._receive_provisional(response)
        elif response.status < 300:
            self._receive_success(response)
        else:
            self._drop_early()
            self._finish(Refused(response.status, response.reason, response.local, response))

    def _receive_provisional(self, response: Response) -> None:
        if self.ended:
            self._exchange.cancel()
            self._tell_late(response.status)
            return
        if self.state is CallState.CONFIRMED:
            return
        tag = response.to.tag
        if tag is not None and response.status > 100:
            dialog = self._early.get(tag)
            if dialog is None:
                if len(self._early) >= MOST_FORKS:
                    return
                dialog = self._early[tag] = Dialog.of_caller(self.request, response)
                self.agent.dialogs[dialog.id] = (self, dialog)
            else:
                dialog.learn(response)
            self.learn_session_id(response)
            if is_reliable(response) and not acknowledge(self, dialog, response):
                return
        if response.status >= 180:
            self.state = CallState.RINGING
        self.emit(Progress(response.status, response.headers, description.answered(response)))

    def _receive_success(self, response: Response) -> None:
        tag = response.to.tag or ""
        if tag in self._acks:  # §13.2.2.4: each repeated 2xx gets its ACK again
            self._acks[tag]()
            return
        if len(self._acks) >= MOST_FORKS:
            return
        dialog = self._early.pop(tag, None)
        if dialog is None:
            dialog = Dialog.of_caller(self.request, response)
        else:
            dialog.learn(response)
        self.acknowledge(dialog, self.request, self._acks, tag)
        if self.ended or self.state is CallState.CONFIRMED:
            # Answered after we hung up, or by another branch of a fork: nobody here wants it.
            if self.ended:
                self._tell_late(response.status)
            self.bye(dialog=dialog)
            return
        self.dialog = dialog
        self.agent.dialogs[dialog.id] = (self, dialog)
        self._drop_early()
        self.state = CallState.CONFIRMED
        self._peer = response
        self.local_body = self.local_body or self.request.body
        self.learn_session_id(response)
        self.answered_by_them(self.request, response)
        # RFC 3261 §13.2.1: after a reliable answer the 2xx need not bring one.
        self.emit(Accepted(description.answered(response) or dialog.answer, response))
        self.offers.go_on()

    def _receive_bye(self, transaction: ServerTransaction, request: Request, dialog: Dialog) -> None:
        if self.state is CallState.CONFIRMED:
            super()._receive_bye(transaction, request, dialog)
            return
        # RFC 3261 §15 forbids a callee to say BYE before its answer; one who does is taken at its word.
        self.respond(transaction, 200)
        self._exchange.cancel([self._session_header])
        self._drop_early()
        self._finish(Refused(487, REASONS[487], False, request))

    def dialog_to_offer_in(self, method: str) -> Dialog | None:
        if method == "UPDATE" and self.state in (CallState.CALLING, CallState.RINGING):
            # With several phones ringing there is no telling which of them would be the one to agree with.
            only = next(iter(self._early.values())) if len(self._early) == 1 else None
            return only if only is not None and only.answer else None
        return super().dialog_to_offer_in(method)

    def has_answered(self, dialog: Dialog) -> bool:
        return True  # the first offer is ours

    def was_answered(self, dialog: Dialog) -> bool:
        return dialog is self.dialog or bool(dialog.answer)

    def _drop_early(self) -> None:
        for dialog in self._early.values():
            dialog.move(dialogs.Event.OVER)
            self.agent.dialogs.pop(dialog.id, None)
        self._early.clear()

    def _tell_late(self, status: int) -> None:
        if self.on_late is not None:
            self.on_late(status)
