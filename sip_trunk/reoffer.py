"""The offers made inside a call: one at a time, by re-INVITE or UPDATE, ours or theirs (RFC 3261 §14, RFC 3311)."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sip_trunk.answer import Answer
from sip_trunk.call_events import Refreshed, ReinviteAnswered, ReinviteRefused, Reoffered
from sip_trunk.reliable_provisional import acknowledge, is_reliable
from sip_trunk.sip import description
from sip_trunk.sip.dialog import Dialog, State
from sip_trunk.sip.errors import BadMessage
from sip_trunk.sip.message import Request, Response

if TYPE_CHECKING:
    from sip_trunk.call import Call
    from sip_trunk.deadlines import Deadline
    from sip_trunk.exchange import Exchange
    from sip_trunk.transactions import ServerTransaction

PATIENCE_S = 60.0
"""How long a re-INVITE may go unanswered, for somebody may have to agree to it; then it is taken back."""

MOST_RETRIES = 5
"""How often an offer is made again after a glare before its owner is told."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """An offer of ours that is to be made. `refresh`: nobody but the session timer asked for it, and it offers what
    holds already, by the time it leaves."""

    method: str
    body: bytes = b""
    refresh: bool = False


class Reoffers:
    """`answer` is a 2xx of ours to an INVITE, the first one too, that waits for its ACK; `ours` and `theirs` are the
    offers under way."""

    __slots__ = ("_of", "_patience", "_retries", "_retry", "_wanted", "answer", "ours", "theirs")

    def __init__(self, call: Call) -> None:
        self._of: Call | None = call  # until it is over: a ring would be the garbage collector's to find
        self._wanted: Wanted | None = None
        self._retries = 0
        self._retry: Deadline | None = None
        self._patience: Deadline | None = None
        self.answer: Answer | None = None
        self.ours: Exchange | None = None
        self.theirs: ServerTransaction | None = None

    @property
    def _call(self) -> Call:
        assert self._of is not None
        return self._of

    # -- ours

    def want(self, wanted: Wanted) -> None:
        """Make the offer as soon as no other is under way; the later one takes an earlier one's place."""
        if not (wanted.refresh and (self._wanted is not None or self.ours is not None)):
            self._wanted = wanted
            self.go_on()

    def go_on(self) -> None:
        """Make the offer that waits, if it may be made now."""
        wanted = self._wanted
        # RFC 3261 §14.1: not while another INVITE is under way in either direction; RFC 3311 §5.1: nor another offer.
        if (
            wanted is None
            or self.ours is not None
            or self.theirs is not None
            or self.answer is not None
            or self._retry is not None
        ):
            return
        dialog = self._call.dialog_to_offer_in(wanted.method)
        if dialog is None:
            return
        self._wanted = None
        method = wanted.method
        if method == "UPDATE" and self._call.confirmed and not self._call.allows("UPDATE"):
            method = "INVITE"
        self._offer(wanted, method, dialog)

    def _offer(self, wanted: Wanted, method: str, dialog: Dialog) -> None:
        call = self._call
        again: dict[object, Callable[[], None]] = {}
        exchange: Exchange

        def on_response(response: Response) -> None:
            if response.status < 200:
                if method == "INVITE" and is_reliable(response):
                    acknowledge(call, dialog, response)
                return
            if response.status < 300:
                if "ack" in again:
                    again["ack"]()
                    return
                dialog.refresh(response)
                if method == "INVITE":
                    call.acknowledge(dialog, exchange.request, again, "ack")
            if self.ours is exchange:
                self.ours = None
                self._wait_no_more()
                if dialog.state is State.TERMINATED and not call.ended:
                    # Another phone of the fork has answered the call meanwhile: this one's word counts no more.
                    call.emit(ReinviteRefused(481))
                    self.go_on()
                    return
                self._over(response, wanted, exchange.request)

        if method == "INVITE":
            dialog.rseq, dialog.answer = None, b""  # RFC 3262 §3: each INVITE counts anew
        headers = (*call.agent.capabilities(), *call.session_headers())
        body = call.local_body if wanted.refresh else wanted.body
        exchange = self.ours = call.exchange(method, on_response, body, headers=headers, dialog=dialog)
        if method == "INVITE":
            self._patience = call.agent.transactions.timers.after(
                PATIENCE_S, lambda: self._take_back(exchange)
            )

    def _take_back(self, exchange: Exchange) -> None:
        # RFC 3261 §9.1: whoever does not answer a CANCEL either is gone.
        exchange.cancel()
        layer = self._call.agent.transactions
        self._patience = layer.timers.after(layer.timing.lifetime, self._unanswered)

    def _unanswered(self) -> None:
        self._patience = None
        self._call.bye()
        self._call.lost("No answer to a re-INVITE")

    def _wait_no_more(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _over(self, response: Response, wanted: Wanted, request: Request) -> None:
        call = self._call
        status = response.status
        if call.ended:
            return
        if status < 300:
            self._retries = 0
            call.local_body = wanted.body or call.local_body
            call.answered_by_them(request, response)
            answer = description.answered(response)
            if request.method == "INVITE" and call.dialog is not None:
                answer = answer or call.dialog.answer
            if not wanted.refresh:
                call.emit(ReinviteAnswered(answer))
            elif request.body and answer:
                # RFC 3264 §8: what answers an offer that has not changed may be new all the same.
                call.emit(Refreshed(answer))
        elif (status in (408, 481) or response.local) and call.confirmed:  # RFC 3261 §14.1, §12.2.1.2
            call.bye()
            call.lost("No answer to a re-INVITE" if status != 481 else "The peer no longer knows the call")
            return
        elif _is_glare(response) and self._retries < MOST_RETRIES:
            self._retries += 1
            if self._wanted is None:
                self._wanted = wanted
            wait = random.uniform(*call.GLARE_WAIT)
            self._retry = call.agent.transactions.timers.after(wait, self._try_again)
            return
        elif status in (405, 501) and request.method == "UPDATE" and call.confirmed:
            call.peer_allows = frozenset(("invite",))
            if self._wanted is None:
                self._wanted = wanted
        else:
            self._retries = 0
            if wanted.refresh:
                call.not_refreshed()
            else:
                call.emit(ReinviteRefused(status))
        self.go_on()

    def _try_again(self) -> None:
        self._retry = None
        self.go_on()

    # -- theirs

    def receive(self, transaction: ServerTransaction, request: Request, dialog: Dialog) -> None:
        """A re-INVITE or UPDATE."""
        call = self._call
        try:
            body = description.offered(request)
        except BadMessage as error:
            if error.status != 415:
                raise
            call.respond(transaction, 415, headers=[("Accept", description.READABLE)])
            return
        if call.too_brief(transaction, request):
            return
        if request.method == "UPDATE" and not body:  # RFC 3311 §5.2, RFC 4028: a refresh, no offer
            call.follow(transaction, request, dialog)
            transaction.respond(call.success(request, b"", ()))
        elif self.theirs is not None or self.answer is not None or not call.has_answered(dialog):
            wait = str(random.randint(0, 10))  # RFC 3261 §14.2, RFC 3311 §5.2
            call.respond(transaction, 500, headers=[("Retry-After", wait)])
        elif self.ours is not None or not call.was_answered(dialog):
            call.respond(transaction, 491)  # §14.2; RFC 3311 §5.2: our offer is out
        else:
            call.follow(transaction, request, dialog)
            self.theirs = transaction
            transaction.on_cancel = lambda _: self._withdrawn(transaction)
            transaction.on_failure = lambda _: self._withdrawn(transaction)
            call.emit(Reoffered(body))

    def answer_theirs(self, body: bytes | None, status: int, reason: str | None) -> None:
        transaction, self.theirs = self.theirs, None
        if transaction is None:
            return
        call = self._call
        if status >= 300:
            call.respond(transaction, status, reason)
            self.go_on()
            return
        call.local_body = body or call.local_body
        response = call.success(transaction.request, body or b"", ())
        if transaction.request.method == "INVITE":
            self.answer = Answer(call, transaction, response)
        else:
            transaction.respond(response)
            self.go_on()

    def _withdrawn(self, transaction: ServerTransaction) -> None:
        """By CANCEL, or with its connection: even then an answer has to end the transaction of an INVITE."""
        if self._of is None:
            return  # it was answered as the call ended
        self._call.respond(transaction, 487)
        if self.theirs is transaction:
            self.theirs = None
            self.go_on()

    def acknowledged(self, request: Request) -> bool:
        """Whether this ACK is the one our answer waits for; then it waits no more."""
        answer = self.answer
        if answer is None or request.cseq.number != answer.number:
            return False
        answer.stop()
        self.answer = None
        return True

    def stop(self, *, keep_answer: bool) -> None:
        """The call is over."""
        if self.answer is not None and not keep_answer:
            self.answer.stop()
            self.answer = None
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        self._wanted = None
        self._wait_no_more()
        if self.ours is not None:
            # After a BYE they may have stopped repeating the 2xx to our re-INVITE that got lost.
            self.ours.limit()
            self.ours = None
        theirs, self.theirs = self.theirs, None
        if theirs is not None:  # RFC 3261 §15.1.2
            self._call.respond(theirs, 487)
        self._of = None


def _is_glare(response: Response) -> bool:
    """Another offer was under way there (RFC 3261 §14.2): with any other status Retry-After may speak of hours."""
    return response.status == 491 or (response.status == 500 and "retry-after" in response.headers.keys)
