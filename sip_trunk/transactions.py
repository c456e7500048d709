"""Drives the transaction machines: finds the transaction of a message, carries out effects, keeps the timers.

RFC 3261 §17 with RFC 6026; the rules themselves are the tables in `sip_trunk.sip`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import blake2b
from secrets import token_bytes
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from config.ids import token
from sip_trunk.answered import Answered, Key
from sip_trunk.deadlines import Deadline, Deadlines
from sip_trunk.flow import is_elsewhere
from sip_trunk.matching import COOKIE, same_hop, server_key
from sip_trunk.sip import client_transaction as client
from sip_trunk.sip import server_transaction as server
from sip_trunk.sip.errors import BadMessage, SipError
from sip_trunk.sip.machine import Do, Effect, Event, StartTimer, StopTimer
from sip_trunk.sip.message import Message, Request, Response
from sip_trunk.sip.timers import ONLY_FORGETS, RETRANSMISSION, TIMING, Timer, Timing
from sip_trunk.sip.uri import bracketed

if TYPE_CHECKING:
    from sip_trunk.flow import Flow
    from sip_trunk.transport import Transports

log = Logger()

MOST_REFUSED = 4096
"""How many refusals are kept of those given as the request came: anybody can make us give them."""
MOST_ANSWERED = 65_536
"""How many other answers: those of Timer J's 32 seconds at 2,000 requests a second."""

SentBy = tuple[str, int | None]
Screen = Callable[[Request, "Flow"], tuple[int, str] | None]
Challenging = Callable[[Request, "Flow"], Iterable[tuple[str, str]] | None]


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
        self._layer.start_client(request, self.flow, str(self.key[0]), self.sent_by, _ignore, _ignore)
        # §9.1: no final response within 64*T1 of the CANCEL, and the INVITE counts as cancelled.
        self.limit()

    def limit(self) -> None:
        """Wait no longer than 64*T1 for a final response, ringing or not."""
        self._layer.timers.after(self._layer.timing.lifetime, self._give_up)

    def _give_up(self) -> None:
        if self.machine.state is client.State.PROCEEDING:
            self.step(Event.ABANDON)

    def _let_go(self) -> None:
        self.on_response = self.on_failure = _ignore

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
    refusal; no answer within 64*T1, of a non-INVITE) or "transport".
    """

    __slots__ = ("_handed_over", "_responded", "_to_tag", "merge_key", "on_cancel", "on_failure")

    def __init__(self, layer: TransactionLayer, request: Request, flow: Flow, key: Key) -> None:
        kind = server.InviteServer if request.method == "INVITE" else server.NonInviteServer
        super().__init__(layer, request, flow, key, kind(flow.reliable, layer.timing))
        self.merge_key: Key | None = None
        self._to_tag: str | None = None
        self._responded = 0
        self._handed_over = False
        self.on_cancel: Callable[[Request], None] = _ignore
        self.on_failure: Callable[[str], None] = _ignore

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
        self.on_cancel = self.on_failure = _ignore

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


class TransactionLayer:
    """Sits between `Transports` and the `UserAgent`.

    - `on_request(transaction, request)`: a new request, never ACK or CANCEL;
    - `on_ack(ack, flow)`: an ACK for a 2xx, or for nothing we know;
    - `screen(request, flow)`: asked before any state is made; (status, reason) refuses without keeping anything;
    - `challenges[method](request, flow)`: asked after it about a request outside a dialog that brings no proof: the
      headers of the 401 to refuse it with, again keeping nothing, or None to take it as any other.
    """

    def __init__(self, transports: Transports, clock: IReactorTime, timing: Timing = TIMING) -> None:
        self.transports = transports
        self.timers = Deadlines(clock)
        self.timing = timing
        self.on_request: Callable[[ServerTransaction, Request], None] = _refuse_all
        self.on_ack: Callable[[Request, Flow], None] = _ignore
        self.screen: Screen | None = None
        self.challenges: dict[str, Challenging] = {}
        self._clients: dict[Key, ClientTransaction] = {}
        self._servers: dict[Key, ServerTransaction] = {}
        self._merged: dict[Key, ServerTransaction] = {}
        self._answered = Answered(self.timers, timing.lifetime, MOST_ANSWERED)
        self._refused = Answered(self.timers, timing.lifetime, MOST_REFUSED)
        # A copy of it has taken in the key already.
        self._keyed = blake2b(key=token_bytes(16), digest_size=8)
        # Only connections close; a UDP flow has nothing to tell.
        self._by_flow: dict[Flow, set[Transaction]] = {}
        transports.on_message = self.receive

    def __len__(self) -> int:
        return len(self._clients) + len(self._servers) + len(self._answered) + len(self._refused)

    def send_request(
        self,
        request: Request,
        flow: Flow,
        on_response: Callable[[Response], None],
        on_failure: Callable[[str], None],
    ) -> ClientTransaction:
        """Put our Via on top and start a transaction. On a dead flow `on_failure` is called before this returns."""
        branch, sent_by = self._stamp(request, flow)
        return self.start_client(request, flow, branch, sent_by, on_response, on_failure)

    def send_ack(self, request: Request, flow: Flow) -> bytes:
        """Send an ACK for a 2xx, outside any transaction; returns its bytes, to be sent again with the 2xx."""
        self._stamp(request, flow)
        data = request.to_bytes()
        if flow.alive:
            flow.send(data)
        return data

    def start_client(
        self,
        request: Request,
        flow: Flow,
        branch: str,
        sent_by: SentBy,
        on_response: Callable[[Response], None],
        on_failure: Callable[[str], None],
    ) -> ClientTransaction:
        """Start a transaction for a request whose top Via is already ours."""
        key = (branch, request.method)
        transaction = ClientTransaction(self, request, flow, key, sent_by, on_response, on_failure)
        self._clients[key] = transaction
        self._watch(transaction)
        transaction.step(Event.START)
        return transaction

    def receive(self, message: Message, flow: Flow) -> None:
        """A message came in. What is malformed is answered 400, or dropped if it cannot be answered."""
        try:
            if isinstance(message, Response):
                self._receive_response(message)
            elif isinstance(message, Request):
                self._receive_request(message, flow)
        except BadMessage as error:
            if isinstance(message, Request) and message.method != "ACK":
                self._refuse(message, flow, error.status, error.reason)
        except Exception:
            log.failure("Could not deal with {message!r}", message=message)

    def _receive_response(self, response: Response) -> None:
        via = response.top_via
        transaction = self._clients.get((via.branch, response.cseq.method))
        # RFC 3261 §18.1.2, §8.1.3.3: not ours, or not only ours; RFC 6026 §7.2: strays end here.
        if (
            transaction is None
            or transaction.sent_by != (via.host, via.port)
            or response.headers.keys.count("via") != 1
        ):
            return
        transaction.receive(response)

    def _receive_request(self, request: Request, flow: Flow) -> None:
        method = request.method
        key = server_key(request, "INVITE" if method in ("ACK", "CANCEL") else method)
        transaction = self._servers.get(key)
        if method == "CANCEL":
            self._receive_cancel(request, flow, transaction)
        elif transaction is not None:
            transaction.receive(request)
        elif key in self._answered.answers or key in self._refused.answers:
            if method != "ACK":
                _ = self._answered.say_again(key) or self._refused.say_again(key)
        elif method == "ACK":
            self.on_ack(request, flow)
        else:
            self._new_request(request, flow, key)

    def _new_request(self, request: Request, flow: Flow, key: Key) -> None:
        refusal = self.screen(request, flow) if self.screen is not None else None
        if refusal is not None:
            self._refuse(request, flow, *refusal)
            return
        if "authorization" not in request.headers.keys and self._challenged(request, flow):
            return
        merge_key: Key | None = None
        if request.to.tag is None:
            merge_key = (request.call_id, request.from_.tag, request.cseq.number, request.method)
            if merge_key in self._merged or self._answered.merged(
                merge_key
            ):  # §8.2.2.2: the same request by another path
                self._refuse(request, flow, 482, "Loop Detected")
                return
        transaction = ServerTransaction(self, request, self._way_back(request, flow), key)
        self._servers[key] = transaction
        if merge_key is not None:
            transaction.merge_key = merge_key
            self._merged[merge_key] = transaction
        self._watch(transaction)
        try:
            self.on_request(transaction, request)
        except BadMessage as error:
            transaction.respond(_tagged(request, error.status, error.reason, transaction.to_tag))
        except Exception:
            log.failure("A {method} could not be dealt with", method=request.method)
            transaction.respond(_tagged(request, 500, "Server Internal Error", transaction.to_tag))
        transaction.handed_over()

    def _receive_cancel(self, request: Request, flow: Flow, invite: ServerTransaction | None) -> None:
        key = server_key(request, "CANCEL")
        if self._answered.say_again(key):
            return
        # §22.1: nobody can be challenged for a CANCEL, so it has to come from where its INVITE did.
        if invite is None or is_elsewhere(flow, invite.flow):  # §9.2; nothing is kept for it
            if server_key(request, "INVITE") in self._refused.answers:
                self._refuse(request, flow, 200, "OK")
            else:
                self._refuse(request, flow, 481, "Call/Transaction Does Not Exist")
            return
        ServerTransaction(self, request, invite.flow, key).respond(_tagged(request, 200, "OK", invite.to_tag))
        if not invite.answered:
            invite.on_cancel(request)

    def _challenged(self, request: Request, flow: Flow) -> bool:
        # §26.3.2.4: who has proved nothing gets no state; nor is any needed, for the same request is asked the same.
        challenge = self.challenges.get(request.method)
        headers = challenge(request, flow) if challenge is not None and request.outside_dialog else None
        if headers is None:
            return False
        self._refuse(request, flow, 401, "Unauthorized", headers)
        return True

    def _refuse(
        self, request: Request, flow: Flow, status: int, reason: str, headers: Iterable[tuple[str, str]] = ()
    ) -> None:
        """Answer without keeping anything (§8.2.7); the tag is the same when the request comes again."""
        try:
            if request.method != "ACK":
                back = self._way_back(request, flow)
                response = request.response(status, reason, to_tag=self.tag_for(request), headers=headers)
                back.send(response.to_bytes())
        except SipError:
            return

    def _way_back(self, request: Request, flow: Flow) -> Flow:
        """Where the responses go (§18.2.2, RFC 3581 §4)."""
        if flow.reliable:
            return flow
        via = request.top_via
        if via.wants_rport or (via.port or 5060) == flow.peer[1]:
            return flow
        return self.transports.flow_to_address("UDP", flow.peer[0], via.port or 5060)

    def _stamp(self, request: Request, flow: Flow) -> tuple[str, SentBy]:
        transport, host, port = self.transports.via(flow)
        where = bracketed(host) if port is None else f"{bracketed(host)}:{port}"
        branch = f"{COOKIE}{token(16)}"
        request.headers.prepend("Via", f"SIP/2.0/{transport} {where};branch={branch};rport")
        return branch, (host, port)

    def _watch(self, transaction: Transaction) -> None:
        flow = transaction.flow
        if not flow.reliable:
            return
        known = self._by_flow.get(flow)
        if known is None:
            known = self._by_flow[flow] = set()
            flow.on_closed.add(self._flow_closed)
        known.add(transaction)

    def _flow_closed(self, flow: Flow) -> None:
        for transaction in list(self._by_flow.pop(flow, ())):
            transaction.step(Event.TRANSPORT_ERROR)

    def tag_for(self, request: Request) -> str:
        """The To tag of our answers to a request, which is the same when it comes again (RFC 3261 §8.2.6.2)."""
        text = f"{request.top_via.branch} {request.cseq.number} {request.from_.tag} {request.call_id}"
        keyed = self._keyed.copy()
        keyed.update(text.encode("utf-8", "surrogateescape"))
        return keyed.hexdigest()

    def answered_at_once(self, transaction: ServerTransaction, status: int, data: bytes) -> None:
        """Its answer was given while it was handed over: the answer is all that has to be kept, if that."""
        if self._servers.get(transaction.key) is transaction:
            self.forget(transaction)
        # Timer J is 0 on a reliable transport. A challenge costs us nothing to make anew, and nothing may be kept for
        # somebody who has proved nothing (§26.3.2.4).
        if transaction.flow.reliable or status in (401, 407):
            return
        if status >= 300:
            self._refused.keep(transaction.key, transaction.flow, data)
        else:
            # A REGISTER by two paths is told by its CSeq and nc.
            merge_key = transaction.merge_key if transaction.request.method != "REGISTER" else None
            self._answered.keep(transaction.key, transaction.flow, data, merge_key)

    def forget(self, transaction: Transaction) -> None:
        """It is over; its messages are strays from now on."""
        if isinstance(transaction, ServerTransaction):
            self._servers.pop(transaction.key, None)
            if transaction.merge_key is not None:
                self._merged.pop(transaction.merge_key, None)
        else:
            self._clients.pop(transaction.key, None)
        flow = transaction.flow
        if flow.reliable:
            known = self._by_flow.get(flow)
            if known is not None:
                known.discard(transaction)
                if not known:
                    del self._by_flow[flow]
                    flow.on_closed.discard(self._flow_closed)

    def stop(self) -> None:
        """Forget everything, without a word to anybody."""
        self.timers.stop()
        self._clients.clear()
        self._servers.clear()
        self._merged.clear()
        self._answered.clear()
        self._refused.clear()
        for flow in self._by_flow:
            flow.on_closed.discard(self._flow_closed)
        self._by_flow.clear()


def _tagged(request: Request, status: int, reason: str, tag: str) -> Response:
    return request.response(status, reason, to_tag=tag)


def _refuse_all(transaction: ServerTransaction, request: Request) -> None:
    transaction.respond(_tagged(request, 501, "Not Implemented", transaction.to_tag))


def _ignore(*_: object) -> None:
    return
