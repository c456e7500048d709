"""A 2xx of ours to an INVITE, sent again until its ACK comes (RFC 3261 §13.3.1.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sip_trunk.sip.message import Response

if TYPE_CHECKING:
    from sip_trunk.call import Call
    from sip_trunk.deadlines import Deadline
    from sip_trunk.transactions import ServerTransaction


class Answer:
    """`number` is the CSeq its ACK will have. After 64*T1 without one the call is told that it is unacknowledged."""

    __slots__ = ("_at", "_call", "_deadline", "_interval", "_transaction", "_until", "number")

    def __init__(self, call: Call, transaction: ServerTransaction, response: Response) -> None:
        self._call = call
        self._transaction = transaction
        self.number = transaction.request.cseq.number
        layer = call.agent.transactions
        self._interval = layer.timing.t1
        now = layer.timers.now()
        self._until = now + layer.timing.lifetime
        self._at = now + self._interval
        self._deadline: Deadline = layer.timers.at(self._at, self._again)
        transaction.respond(response)

    def stop(self) -> None:
        self._deadline.cancel()

    def _again(self) -> None:
        layer = self._call.agent.transactions
        # Not what the clock says: deadlines are met a little early, and the last one would be met again and again.
        if self._at >= self._until:
            self._call.unacknowledged()
            return
        self._transaction.repeat()
        self._interval = min(self._interval * 2, layer.timing.t2)
        self._at = min(self._at + self._interval, self._until)
        self._deadline = layer.timers.at(self._at, self._again)
