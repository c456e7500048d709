"""All transactions there are: finds the one a message belongs to, or makes it (RFC 3261 §17.1.3, §17.2.3).

What one of them does is in `transaction.py`.
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
from sip_trunk.deadlines import Deadlines
from sip_trunk.flow import is_elsewhere
from sip_trunk.matching import COOKIE, server_key
from sip_trunk.sip.errors import BadMessage, SipError
from sip_trunk.sip.machine import Event
from sip_trunk.sip.message import Message, Request, Response
from sip_trunk.sip.timers import TIMING, Timing
from sip_trunk.sip.uri import bracketed
from sip_trunk.transaction import ClientTransaction, SentBy, ServerTransaction, Transaction, ignore
from sip_trunk.way_back import way_back

if TYPE_CHECKING:
    from sip_trunk.flow import Flow
    from sip_trunk.transport import Transports

__all__ = ["ClientTransaction", "Screen", "ServerTransaction", "TransactionLayer"]

log = Logger()

MOST_REFUSED = 4096
"""How many refusals are kept of those given as the request came: anybody can make us give them."""
MOST_ANSWERED = 65_536
"""How many other answers: those of Timer J's 32 seconds at 2,000 requests a second."""

Screen = Callable[[Request, "Flow"], tuple[int, str] | None]
Challenging = Callable[[Request, "Flow"], Iterable[tuple[str, str]] | None]


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
        self.on_ack: Callable[[Request, Flow], None] = ignore
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
        # RFC 3261 §18.1.2, §8.1.3.3: not ours, or not only ours, by another line or a comma (there is none in what we
        # write); RFC 6026 §7.2: strays end here.
        if (
            transaction is None
            or transaction.sent_by != (via.host.lower(), via.port)
            or response.headers.keys.count("via") != 1
            or "," in (response.headers.first("via") or "")
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
        transaction = ServerTransaction(self, request, way_back(request, flow, self.transports), key)
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
        # §18.2.2: the answer to what came by a connection goes back by that one, which its INVITE's need not be.
        back = flow if flow.reliable else invite.flow
        ServerTransaction(self, request, back, key).respond(_tagged(request, 200, "OK", invite.to_tag))
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
                back = way_back(request, flow, self.transports)
                response = request.response(status, reason, to_tag=self.tag_for(request), headers=headers)
                back.send(response.to_bytes())
        except SipError:
            return

    def _stamp(self, request: Request, flow: Flow) -> tuple[str, SentBy]:
        transport, host, port = self.transports.via(flow)
        where = bracketed(host) if port is None else f"{bracketed(host)}:{port}"
        branch = f"{COOKIE}{token(16)}"
        request.headers.prepend("Via", f"SIP/2.0/{transport} {where};branch={branch};rport")
        return branch, (host.lower(), port)

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
            if not (isinstance(transaction, ServerTransaction) and transaction.outlives()):
                transaction.step(Event.TRANSPORT_ERROR)

    def moved(self, transaction: ServerTransaction) -> None:
        """It has another flow; should it be over, there was only something left to say."""
        if self._servers.get(transaction.key) is transaction:
            self._watch(transaction)

    def lost(self, transaction: ServerTransaction) -> None:
        """There is no way to its peer any more."""
        if self._servers.get(transaction.key) is transaction:
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
