"""One transaction of either side: its machine, its timers, its way to the peer (RFC 3261 §17 with RFC 6026).

The rules themselves are the tables in `sip_trunk.sip`; which message belongs to which is for `transactions.py` to find.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from sip_trunk.answered import Key
from sip_trunk.deadlines import Deadline
from sip_trunk.matching import same_hop
from sip_trunk.sip import client_transaction as client
from sip_trunk.sip import server_transaction as server
from sip_trunk.sip.machine import Do, Effect, Event, StartTimer, StopTimer
from sip_trunk.sip.message import Message, Request, Response
from sip_trunk.sip.timers import ONLY_FORGETS, RETRANSMISSION, Timer
from sip_trunk.way_back import way_anew

if TYPE_CHECKING:
    from sip_trunk.flow import Flow
    from sip_trunk.transactions import TransactionLayer

SentBy = tuple[str, int | None]
AnyMachine = client.InviteClient | client.NonInviteClient | server.InviteServer | server.NonInviteServer


class Transaction:
    """What both sides share: a machine, its two timers, and the bytes it may have to send again."""

    __slots__ = ("_data", "_ending", "_layer", "_retransmission", "flow", "key", "machine", "request")

    def __init__(
        self, layer: TransactionLayer, request: Request, flow: Flow, key: Key, machine: AnyMachine
    ) -> None:
        self._layer = layer
        self.request = request
        self.flow = flow
        self.key = key
        self.machine = machine
        self._data: bytes | None = None
        # At most one timer of each sort runs at any time, whatever its letter.
        self._retransmission: Deadline | None = None
        self._ending: Deadline | None = None

    def step(self, event: Event | Timer, message: Message | None = None) -> None:
        """Feed the machine and carry out what it asks for."""
        failed = False
        for effect in self.machine.step(event, self._layer.timers.now()):
            if effect is Do.SEND:
                failed = not self._send(self._data) or failed
            elif type(effect) is StartTimer:
                self._start(effect)
            elif type(effect) is StopTimer:
                self._stop(effect.timer)
            elif effect is Do.TERMINATED:
                self._end()
            else:
                self._carry_out(effect, message)
        if failed:
            self.step(Event.TRANSPORT_ERROR)

    def _carry_out(self, effect: Effect, message: Message | None) -> None:
        raise NotImplementedError

    def _send(self, data: bytes | None) -> bool:
        """False when there is no way to the peer any more."""
        if data is None:
            return True
        if not self.flow.alive:
            return False
        self.flow.send(data)
        return True

    def _start(self, effect: StartTimer) -> None:
        timer = effect.timer
        timers = self._layer.timers
        start = timers.not_before if timer in ONLY_FORGETS else timers.at
        deadline = start(effect.at, self.step, timer)
        if timer in RETRANSMISSION or timer is Timer.TRYING:
            self._retransmission = deadline
        else:
            if self._ending is not None:
                self._ending.cancel()
            self._ending = deadline

    def _stop(self, timer: Timer) -> None:
        if timer in RETRANSMISSION or timer is Timer.TRYING:
            if self._retransmission is not None:
                self._retransmission.cancel()
                self._retransmission = None
        elif self._ending is not None:
            self._ending.cancel()
            self._ending = None

    def _end(self) -> None:
        self._stop(Timer.A)
        self._stop(Timer.B)
        self._layer.forget(self)
        self._let_go()

    def _let_go(self) -> None:
        """Nobody is told anything any more. Whoever listened often holds the transaction in turn: such a ring is
        left to the garbage collector, which has to look at everything there is to find it."""
        raise NotImplementedError


class ClientTransaction(Transaction):
    """A request of ours. `on_response` gets every response the machine delivers, `on_failure` "timeout" or "transport".

    A 2xx to INVITE is delivered each time it comes: the transaction user sends the ACK (RFC 3261 §13.2.2.4).
    """

    __slots__ = (
        "_cancel_headers",
        "_cancelled",
        "_provisional",
        "on_failure",
        "on_response",
        "sent_by",
    )

    def __init__(
        self,
        layer: TransactionLayer,
        request: Request,
        flow: Flow,
        key: Key,
        sent_by: SentBy,
        on_response: Callable[[Response], None],
        on_failure: Callable[[str], None],
    ) -> None:
        kind = client.InviteClient if request.method == "INVITE" else client.NonInviteClient
        super().__init__(layer, request, flow, key, kind(flow.reliable, layer.timing))
        self._data = request.to_bytes()
        self.sent_by = sent_by
        self.on_response = on_response
        self.on_failure = on_failure
        self._provisional = False
        self._cancelled = False
        self._cancel_headers: tuple[tuple[str, str], ...] = ()

    @property
    def unanswered(self) -> bool:
        """No final response yet, and none given up on for good."""
        return self.machine.state in (client.State.CALLING, client.State.PROCEEDING, client.State.ABANDONED)

    def cancel(self, headers: Iterable[tuple[str, str]] = ()) -> None:
        """Send CANCEL for an INVITE, once; before a provisional it waits for one (RFC 3261 §9.1)."""
        if self._cancelled or not self.unanswered:
            return
        self._cancelled = True
        self._cancel_headers = tuple(headers)
        if self._provisional:
            self._send_cancel()

    def receive(self, response: Response) -> None:
        first = not self._provisional and response.status < 200
        self._provisional = self._provisional or first
        self.step(self.machine.kind(response.status), response)
        if first and self._cancelled:
            self._send_cancel()

    def _send_cancel(self) -> None:
        if not self.unanswered or not self.flow.alive:
            return
        request = same_hop(self.request, "CANCEL", self.request.headers.get("To") or "")
        for name, value in self._cancel_headers:
            request.headers.add(name, value)
        self._layer.start_client(request, self.flow, str(self.key[0]), self.sent_by, ignore, ignore)
        # §9.1: no final response within 64*T1 of the CANCEL, and the INVITE counts as cancelled.
        self.limit()

    def limit(self) -> None:
        """Wait no longer than 64*T1 for a final response, ringing or not."""
        self._layer.timers.after(self._layer.timing.lifetime, self._give_up)

    def _give_up(self) -> None:
        if self.machine.state is client.State.PROCEEDING:
            self.step(Event.ABANDON)

    def _let_go(self) -> None:
        self.on_response = self.on_failure = ignore

    def _carry_out(self, effect: Effect, message: Message | None) -> None:
        if effect is Do.DELIVER:
            assert isinstance(message, Response)
            self.on_response(message)
        elif effect is Do.SEND_ACK:
            assert isinstance(message, Response)
            # §17.1.1.3: hop by hop, on the INVITE's own branch.
            self._send(same_hop(self.request, "ACK", message.headers.get("To") or "").to_bytes())
        elif effect is Do.TIMED_OUT:
            self.on_failure("timeout")
        elif effect is Do.TRANSPORT_FAILED:
            self.on_failure("transport")


class ServerTransaction(Transaction):
    """A request of theirs. `respond` any number of provisionals and one final response.

    All responses get one To tag, `to_tag`, and a repeated request gets the same. `on_cancel` is called with the CANCEL
    while an INVITE is unanswered (the CANCEL itself is answered here); `on_failure` with "timeout" (no ACK to a
    refusal; no answer within 64*T1, of a non-INVITE) or "transport". A connection that closes is opened anew, once,
    for what is still to be said (§18.2.2): `on_moved` is called with it.
    """

    __slots__ = (
        "_handed_over", "_reopening", "_responded", "_to_tag", "_unsent", "merge_key", "on_cancel", "on_failure",
        "on_moved",
    )  # fmt: skip

    def __init__(self, layer: TransactionLayer, request: Request, flow: Flow, key: Key) -> None:
        kind = server.InviteServer if request.method == "INVITE" else server.NonInviteServer
        super().__init__(layer, request, flow, key, kind(flow.reliable, layer.timing))
        self.merge_key: Key | None = None
        self._to_tag: str | None = None
        self._responded = 0
        self._handed_over = False
        # None: never tried. True: under way, and `_unsent` tells whether something waits for it.
        self._reopening: bool | None = None
        self._unsent = False
        self.on_cancel: Callable[[Request], None] = ignore
        self.on_failure: Callable[[str], None] = ignore
        self.on_moved: Callable[[Flow], None] = ignore

    @property
    def to_tag(self) -> str:
        if self._to_tag is None:
            self._to_tag = self._layer.tag_for(self.request)
        return self._to_tag

    @property
    def answered(self) -> bool:
        """A final response was given."""
        return self._responded >= 200

    def respond(self, response: Response) -> None:
        """Send it, unless the transaction is past that; a To tag is added where it is due (RFC 3261 §8.2.6.2)."""
        if self.answered and not (self._responded < 300 and 200 <= response.status < 300):
            return
        self._responded = response.status
        self._data = response.to_bytes()
        if not self._handed_over and self._needs_no_machine(response.status):
            self._send(self._data)
            self._layer.answered_at_once(self, response.status, self._data)
            return
        self.step(self.machine.kind(response.status), response)

    def _needs_no_machine(self, status: int) -> bool:
        # §8.2.7, §26.3.2.4: the refusal of an INVITE that took no thought is said again when asked again and not by
        # itself, so that one with a forged source does not make us send eleven answers there.
        if self.request.method == "INVITE":
            return status >= 300 and self.request.outside_dialog
        return status >= 200

    def repeat(self) -> None:
        """Send a 2xx to INVITE again: that is the transaction user's to do (RFC 3261 §13.3.1.4)."""
        self.step(Event.SUCCESS)

    def handed_over(self) -> None:
        """The transaction user has seen the request; if it did not answer at once, say or prepare to say 100."""
        self._handed_over = True
        if not self._responded:
            self.step(Event.UNANSWERED)

    def receive(self, request: Request) -> None:
        if request.method == "ACK":
            self.step(Event.ACK, request)
        else:
            self.step(Event.REQUEST, request)

    def _let_go(self) -> None:
        self.listen_no_more()

    def listen_no_more(self) -> None:
        """Whoever used this transaction is done with it."""
        self.on_cancel = self.on_failure = self.on_moved = ignore

    def outlives(self) -> bool:
        """Its connection has closed: whether there may be another."""
        if self.machine.state is server.State.ACCEPTED:
            # Mostly it is acknowledged by now; if not, the 2xx is to be repeated soon, and looks for its way then.
            return self._reopening is None and way_anew(self.request, self.flow) is not None
        return not self.answered and self._reopen()

    def _send(self, data: bytes | None) -> bool:
        if data is None or self.flow.alive:
            return super()._send(data)
        self._unsent = self._reopen()
        return self._unsent

    def _reopen(self) -> bool:
        if self._reopening is None:
            hop = way_anew(self.request, self.flow)
            self._reopening = hop is not None
            if hop is not None:
                self._layer.transports.open_again(hop, self._reopened, self._not_reopened)
        return self._reopening

    def _reopened(self, flow: Flow) -> None:
        self._reopening = False
        self.flow = flow
        self._layer.moved(self)
        if self._unsent:
            self._send(self._data)
        self.on_moved(flow)

    def _not_reopened(self) -> None:
        self._reopening = False
        self._layer.lost(self)

    def _carry_out(self, effect: Effect, message: Message | None) -> None:
        if effect is Do.SEND_TRYING:
            self._responded = 100
            self._data = self.request.response(100).to_bytes()
            self._send(self._data)
        elif effect is Do.DELIVER:
            assert isinstance(message, Request)
            self._layer.on_ack(message, self.flow)
        elif effect is Do.TIMED_OUT:
            self.on_failure("timeout")
        elif effect is Do.TRANSPORT_FAILED:
            self.on_failure("transport")


def ignore(*_: object) -> None:
    """Nobody listens."""
