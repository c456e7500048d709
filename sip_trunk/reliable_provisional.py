"""Provisional responses that must arrive, and the PRACK that says they did (RFC 3262)."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from sip_trunk.sip import description
from sip_trunk.sip.dialog import Dialog
from sip_trunk.sip.errors import BadMessage
from sip_trunk.sip.extension_headers import parse_rack, parse_rseq
from sip_trunk.sip.message import Request, Response
from sip_trunk.sip.option_tags import names

if TYPE_CHECKING:
    from sip_trunk.call import Call
    from sip_trunk.deadlines import Deadline
    from sip_trunk.incoming_call import IncomingCall
    from sip_trunk.transactions import ServerTransaction

MOST_WAITING = 8
"""How many may wait for the PRACK of the one before them; of more, the oldest without SDP is not sent."""


class ReliableProvisionals:
    """Ours, one under way at a time (§3).

    `answered`: one that brought our SDP was acknowledged. `acknowledged_with` is the SDP of its PRACK.
    """

    __slots__ = (
        "_at", "_call", "_deadline", "_interval", "_response", "_rseq", "_transaction", "_until",
        "_waiting", "acknowledged_with", "answered",
    )  # fmt: skip

    def __init__(self, call: IncomingCall, transaction: ServerTransaction) -> None:
        self._call = call
        self._transaction = transaction
        # §3: from 1 to 2**31 - 1; room is left for those that follow.
        self._rseq = random.randint(1, 2**31 - 1000)
        self._response: Response | None = None
        self._waiting: list[Response] = []
        self._interval = 0.0
        self._until = 0.0
        self._at = 0.0
        self._deadline: Deadline | None = None
        self.answered = False
        self.acknowledged_with = b""

    @property
    def pending_sdp(self) -> bool:
        """One with our SDP is not acknowledged yet, and a 2xx has to wait for that (§3)."""
        response = self._response
        return (response is not None and bool(response.body)) or any(one.body for one in self._waiting)

    def send(self, response: Response) -> None:
        """Send it, once the one before is acknowledged."""
        if self._response is None:
            self._start(response)
            return
        if len(self._waiting) == MOST_WAITING:
            dull = next((one for one in self._waiting if not one.body), None)
            if dull is None:
                return
            self._waiting.remove(dull)
        self._waiting.append(response)

    def _start(self, response: Response) -> None:
        layer = self._call.agent.transactions
        self._rseq += 1
        response.headers.add("Require", "100rel")
        response.headers.add("RSeq", str(self._rseq))
        self._response = response
        self._interval = layer.timing.t1
        now = layer.timers.now()
        self._until = now + layer.timing.lifetime
        self._at = now + self._interval
        self._deadline = layer.timers.at(self._at, self._again)
        self._transaction.respond(response)

    def _again(self) -> None:
        layer = self._call.agent.transactions
        if self._at >= self._until:  # as in `Answer`, not what the clock says
            self._deadline = None
            self._call.refuse(504)  # §3: 5xx, nobody has acknowledged it within 64*T1
            return
        if self._response is not None:
            self._transaction.respond(self._response)
        self._interval *= 2
        self._at = min(self._at + self._interval, self._until)
        self._deadline = layer.timers.at(self._at, self._again)

    def stop(self) -> None:
        """A final response was given: nothing is sent again, though a PRACK may still come (§3)."""
        self._waiting.clear()
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def receive(self, transaction: ServerTransaction, request: Request) -> None:
        """A PRACK. Raises BadMessage."""
        call = self._call
        written = request.headers.get("RAck")
        if written is None:
            raise BadMessage("Missing RAck")
        rack = parse_rack(written)
        response = self._response
        invite = call.request.cseq.number
        if response is None or (rack.rseq, rack.cseq, rack.method) != (self._rseq, invite, "INVITE"):
            call.respond(transaction, 481)
            return
        sdp = description.offered(request)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self._response = None
        if response.body:
            self.answered = True
        if sdp and call.offer:
            # A new offer belongs into an UPDATE here: while it rings there is nobody yet to answer one.
            call.respond(transaction, 488)
        else:
            self.acknowledged_with = sdp or self.acknowledged_with
            call.respond(transaction, 200)
        if call.unanswered:
            if self._waiting:
                self._start(self._waiting.pop(0))
            call.provisional_acknowledged()


def acknowledge(call: Call, dialog: Dialog, response: Response) -> bool:
    """Send PRACK for a reliable provisional response of theirs (§4).

    False for one that is repeated or comes before its time, and is to be passed over. Raises BadMessage.
    """
    written = response.headers.get("RSeq")
    if written is None:
        raise BadMessage("Missing RSeq")
    rseq = parse_rseq(written)
    if dialog.rseq is not None and rseq != dialog.rseq + 1:
        return False
    dialog.rseq = rseq
    dialog.answer = dialog.answer or description.answered(response)
    rack = f"{rseq} {response.cseq.number} {response.cseq.method}"
    call.exchange("PRACK", _ignore, headers=[("RAck", rack)], dialog=dialog)
    return True


def is_reliable(response: Response) -> bool:
    """Whether it is to be acknowledged."""
    return "rseq" in response.headers.keys and "100rel" in names(response, "require")


def _ignore(_: Response) -> None:
    # Its own transaction repeats it; if nobody answers, the INVITE's answer tells what became of the call.
    return
