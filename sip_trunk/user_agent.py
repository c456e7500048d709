"""The user agent: places calls, takes calls, and gives every other request to whom it concerns (RFC 3261 §8).

Calls are in `call.py` and their events in `call_events.py`; they can be imported from here too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from config.bridge import spawn
from config.ids import token
from sip_trunk.call import Call, CallState
from sip_trunk.call_events import (
    Accepted,
    CallEvent,
    Cancelled,
    Confirmed,
    Ended,
    InDialog,
    Progress,
    Refreshed,
    Refused,
    ReinviteAnswered,
    ReinviteRefused,
    Reoffered,
    TransferRequested,
)
from sip_trunk.exchange import Exchange
from sip_trunk.flow import is_elsewhere
from sip_trunk.incoming_call import IncomingCall
from sip_trunk.incoming_request import IncomingRequest
from sip_trunk.locate import Hop, is_numeric, numeric_hop
from sip_trunk.outgoing_call import OutgoingCall
from sip_trunk.own_network import leads_here
from sip_trunk.refer import Refer
from sip_trunk.sip import description
from sip_trunk.sip import session_timer as sessions
from sip_trunk.sip.dialog import Dialog, DialogId, State, next_hop, through
from sip_trunk.sip.errors import BadMessage, SipError
from sip_trunk.sip.extension_headers import Replaces, parse_replaces
from sip_trunk.sip.header_values import parse_name_addr
from sip_trunk.sip.message import REASONS, Request, Response
from sip_trunk.sip.uri import OtherUri, SipUri, Uri
from sip_trunk.transactions import Screen, ServerTransaction, TransactionLayer

if TYPE_CHECKING:
    from sip_trunk.authentication import Challenge
    from sip_trunk.flow import Flow
    from sip_trunk.transport import Transports

__all__ = [
    "Accepted",
    "Call",
    "CallEvent",
    "CallState",
    "Cancelled",
    "Confirmed",
    "Ended",
    "InDialog",
    "IncomingCall",
    "IncomingRequest",
    "OutgoingCall",
    "Progress",
    "Refer",
    "Refreshed",
    "Refused",
    "ReinviteAnswered",
    "ReinviteRefused",
    "Reoffered",
    "Target",
    "TransferRequested",
    "UserAgent",
]

log = Logger()

IN_DIALOG = ("INVITE", "ACK", "CANCEL", "BYE", "PRACK", "UPDATE", "INFO", "MESSAGE", "OPTIONS", "REFER")
"""What a call understands; together with the keys of `methods` this is our Allow."""

ONLY_IN_DIALOG = frozenset(("BYE", "PRACK", "UPDATE", "INFO", "NOTIFY"))
"""What makes no sense outside one: 481, whoever asks."""

ACCEPT = (description.READABLE, "application/dtmf-relay", "application/dtmf", "text/plain")


@dataclass(frozen=True)
class Target:
    """Where a request goes: the Request-URI, the Route values before it (a binding's Path), and the flow it came by."""

    uri: SipUri | str
    route: tuple[str, ...] = ()
    flow: Flow | None = None


class UserAgent:
    """One for the whole server.

    - `on_invite(call)`: an INVITE outside a dialog; unless it was answered at once, a 100 follows by itself;
    - `methods[name](request)`: other requests outside a dialog. OPTIONS has an answer already;
    - `screen(request, flow)`: asked before anything is kept of a request; (status, reason) refuses it;
    - `vouches(call, request, flow)`: asked about a request inside a call that goes by a connection, when it comes from
      another host: a phone that has changed its network can prove who it is, and whoever has only seen the call's
      tags cannot. A Challenge refuses it;
    - `extensions`: option tags we understand (420 for the others);
    - `accept`: media types we read, as OPTIONS is told;
    - `calls`: those not over yet.

    domain_names: the names we answer to in a Request-URI; addresses are always taken. Empty: any name.
    session_expires_s: after how many seconds a call is over that nobody refreshed, 0 for never of our own accord;
    min_se_s: the shortest that a peer may ask for (RFC 4028).
    """

    def __init__(
        self,
        transactions: TransactionLayer,
        transports: Transports,
        *,
        clock: IReactorTime,
        domain_names: set[str],
        product: str = "Warmline",
        session_expires_s: float = 1800.0,
        min_se_s: float = 90.0,
    ) -> None:
        self.transactions = transactions
        self.transports = transports
        self.clock = clock
        self.domain_names = {name.lower() for name in domain_names}
        self.product = product
        self.on_invite: Callable[[IncomingCall], None] | None = None
        self.methods: dict[str, Callable[[IncomingRequest], None]] = {"OPTIONS": self.answer_options}
        self.screen: Screen | None = None
        self.vouches: Callable[[Call, Request, Flow], Challenge | None] | None = None
        self.extensions: set[str] = {"100rel", "norefersub", "replaces", "timer"}
        self.accept: tuple[str, ...] = ACCEPT
        self.session_expires_s = int(session_expires_s)
        self.min_se_s = int(min_se_s)
        self.session_headers = sessions.asking(self.session_expires_s, self.min_se_s)
        self._capabilities: tuple[tuple[str, str], ...] = ()
        self._capable_of: tuple[str, ...] = ()
        self.calls: set[Call] = set()
        self.dialogs: dict[DialogId, tuple[Call, Dialog]] = {}
        transactions.on_request = self._receive
        transactions.on_ack = self._receive_ack
        transactions.screen = self._screen

    # -- requests of ours

    def invite(
        self,
        target: Target,
        *,
        from_: str,
        to: str,
        body: bytes,
        headers: Iterable[tuple[str, str]] = (),
        content_type: str = "application/sdp",
        on_event: Callable[[CallEvent], None],
        credentials: tuple[str, str] | None = None,
        session_id: str | None = None,
    ) -> OutgoingCall:
        """Call somebody. No event comes before this returns.

        from_, to: an address, with or without display name ('"Maria" <sip:c1@example.org>').
        session_id: 32 hex digits that stand in every message of the call (Session-ID, RFC 7989); made up unless told.
        Raises BadMessage for a bad address.
        """
        request, hop = self._compose("INVITE", target, from_, to, headers, body, content_type)
        for name, value in self.capabilities():
            request.headers.add(name, value)
        if self.session_headers and "session-expires" not in request.headers.keys:
            for name, value in self.session_headers:
                request.headers.add(name, value)
        flow = target.flow if target.flow is not None and target.flow.alive else None
        return OutgoingCall(
            self,
            request,
            on_event,
            credentials,
            flow=flow,
            hop=hop,
            contact_user=request.from_.uri.user or "",
            # Our Call-IDs are as long and as random as a session's identity is to be.
            session_id=session_id or request.call_id,
        )

    def request(
        self,
        method: str,
        target: Target,
        *,
        from_: str,
        to: str,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        content_type: str | None = None,
        credentials: tuple[str, str] | None = None,
    ) -> asyncio.Future[Response]:
        """Send a request outside any dialog; the future holds its final response, of ours (`local`) if need be."""
        future: asyncio.Future[Response] = asyncio.get_event_loop().create_future()

        def on_response(response: Response) -> None:
            if response.status >= 200 and not future.done():
                future.set_result(response)

        request, hop = self._compose(method, target, from_, to, headers, body, content_type)
        user = request.from_.uri.user if method in ("OPTIONS", "SUBSCRIBE") else None
        Exchange(
            self, request, on_response, flow=target.flow, hop=hop, contact_user=user, credentials=credentials
        ).start()
        return future

    def _compose(
        self,
        method: str,
        target: Target,
        from_: str,
        to: str,
        headers: Iterable[tuple[str, str]],
        body: bytes,
        content_type: str | None,
    ) -> tuple[Request, Uri]:
        uri = str(target.uri)
        hop = next_hop(uri, target.route)
        line, routes = through(uri, target.route)
        pairs = [("Route", route) for route in routes]
        pairs += (
            ("Max-Forwards", "70"),
            ("From", f"{_address(from_)};tag={token(16)}"),
            ("To", _address(to)),
            ("Call-ID", token()),
            ("CSeq", f"1 {method}"),
            ("User-Agent", self.product),
            *headers,
        )
        return Request(method, line, pairs, body, content_type if body else None), hop

    def reach(
        self,
        flow: Flow | None,
        hop: Uri,
        then: Callable[[Flow], None],
        failed: Callable[[], None],
        left: list[Hop] | None = None,
        *,
        outside: bool = False,
    ) -> None:
        """Call `then` with a way to `hop`: the flow given if it lives, at once for a numeric UDP address, else after
        looking the name up and connecting. `left` is filled with the hops that may be tried after it: see
        `fail_over`. outside: `hop` was named by a peer from elsewhere, to whom nothing on this host is open."""
        if flow is not None and flow.alive:
            then(flow)
            return
        there = numeric_hop(hop) if isinstance(hop, SipUri) else None
        if there is not None:
            if outside and leads_here(there.host):
                failed()
                return
            try:
                known = self.transports.flow_to_address(there.transport, there.host, there.port)
            except SipError:
                failed()
                return
            if known is not None:
                then(known)
                return
        spawn(
            self._connect(hop, then, failed, left if left is not None else [], outside=outside),
            f"way to {hop}",
        )

    def fail_over(self, left: list[Hop], then: Callable[[Flow], None], failed: Callable[[], None]) -> None:
        """Call `then` with a way to the next of these hops that can be reached (RFC 3263 §4.3)."""
        spawn(self._connect(None, then, failed, left), "way to the next hop")

    async def _connect(
        self,
        hop: Uri | None,
        then: Callable[[Flow], None],
        failed: Callable[[], None],
        left: list[Hop],
        *,
        outside: bool = False,
    ) -> None:
        try:
            if isinstance(hop, SipUri):
                hops = await self.transports.hops(hop)
                left[:] = [one for one in hops if not (outside and leads_here(one.host))]
            elif hop is not None:
                raise BadMessage("Not a sip URI", 416)
            flow = await self.transports.first_of(left)
        except Exception as error:
            log.info("No way to {hop}: {error}", hop=str(hop or "the next hop"), error=error)
            failed()
            return
        then(flow)

    def contact(self, flow: Flow, user: str) -> str:
        """What we say of ourselves on that flow."""
        return self.transports.contact_uri(flow, user)

    def capabilities(self) -> tuple[tuple[str, str], ...]:
        """Allow and Supported, as every INVITE and its 2xx should say (RFC 3261 §13.2.1)."""
        capable_of = (*self.methods, *self.extensions)
        if capable_of != self._capable_of:
            self._capable_of = capable_of
            self._capabilities = (
                ("Allow", ", ".join(self._allowed())),
                ("Supported", ", ".join(sorted(self.extensions))),
            )
        return self._capabilities

    # -- requests of theirs

    def _screen(self, request: Request, flow: Flow) -> tuple[int, str] | None:
        if not request.outside_dialog and _dialog_id(request) not in self.dialogs:
            return 481, REASONS[481]  # §12.2.2; anybody can make up a tag, so nothing is kept for it
        return self.screen(request, flow) if self.screen is not None else None

    def _receive(self, transaction: ServerTransaction, request: Request) -> None:
        """RFC 3261 §8.2, in its order: the method, the Request-URI, Require, the body; then whoever it is for."""
        method = request.method
        if not request.outside_dialog:
            self._receive_in_dialog(transaction, request)
            return
        take = self.methods.get(method)
        if take is None and method in ONLY_IN_DIALOG:
            self._refuse(transaction, 481)  # RFC 3261 §15.1.2, RFC 3262 §3, RFC 3311 §5.2
        elif take is None and method == "REFER":
            self._refuse(transaction, 403)  # whom we call is not for strangers to say
        elif take is None and (method != "INVITE" or self.on_invite is None):
            self.refuse_method(transaction)
        elif isinstance(request.uri, OtherUri):
            self._refuse(transaction, 416)
        elif not self._is_ours(request.uri):
            self._refuse(transaction, 404)
        elif self._lacks(transaction, request):
            return
        elif method != "INVITE" and "replaces" in request.headers.keys:
            raise BadMessage("Only an INVITE replaces a call")  # RFC 3891 §3
        elif take is not None:
            take(IncomingRequest(transaction))
        elif self.on_invite is not None:
            self._receive_invite(transaction, request, self.on_invite)

    def _receive_invite(
        self, transaction: ServerTransaction, request: Request, take: Callable[[IncomingCall], None]
    ) -> None:
        try:
            offer = description.offered(request)
        except BadMessage as error:
            if error.status != 415:
                raise
            self._refuse(transaction, 415, [("Accept", description.READABLE)])
            return
        if not request.accepts(description.SDP):
            self._refuse(transaction, 406)  # RFC 4475 §3.3.15: no answer of ours would be read
            return
        if sessions.too_brief(request, self.min_se_s):
            self._refuse(transaction, 422, [("Min-SE", str(self.min_se_s))])
            return
        if (request.call_id, transaction.to_tag, request.from_.tag or "") in self.dialogs:
            # It came again after its transaction was over, and its tag is the same: its call is another one's.
            self._refuse(transaction, 482)
            return
        replaced: Call | None = None
        if "replaces" in request.headers.keys:
            replaced = self._replaced(transaction, request)
            if replaced is None:
                return
        self._offer_call(IncomingCall(self, transaction, offer, replaced), take)

    def _replaced(self, transaction: ServerTransaction, request: Request) -> Call | None:
        """The call that this INVITE is to take the place of; refuses it where there is none (RFC 3891 §3)."""
        values = request.headers.all("Replaces")
        if len(values) != 1 or "join" in request.headers.keys:
            raise BadMessage("Only one call can be replaced")
        replaces = parse_replaces(values[0])
        known = self._dialog_to_replace(replaces)
        if known is None:
            self._refuse(transaction, 481)
            return None
        call, dialog = known
        if dialog.state is State.TERMINATED or call.ended:
            self._refuse(transaction, 603)
        elif dialog.state is State.EARLY and isinstance(call, IncomingCall):
            self._refuse(transaction, 481)  # an early dialog is only ever taken over from who began it
        elif dialog.state is State.CONFIRMED and replaces.early_only:
            self._refuse(transaction, 486)
        else:
            return call
        return None

    def call_to_replace(self, replaces: Replaces) -> Call | None:
        """The call of ours that `replaces` names and that is not over."""
        known = self._dialog_to_replace(replaces)
        return known[0] if known is not None and not known[0].ended else None

    def _dialog_to_replace(self, replaces: Replaces) -> tuple[Call, Dialog] | None:
        call_id, to_tag, from_tag = replaces.call_id, replaces.to_tag, replaces.from_tag
        known = self.dialogs.get((call_id, to_tag, from_tag))
        if known is None and from_tag == "0":  # a peer older than RFC 3261 has no tag
            known = self.dialogs.get((call_id, to_tag, ""))
        return known

    def _offer_call(self, call: IncomingCall, take: Callable[[IncomingCall], None]) -> None:
        try:
            take(call)
        except Exception:
            log.failure("Call {id} could not be dealt with", id=call.id)
            call.refuse(500)
            call.hangup()

    def _receive_in_dialog(self, transaction: ServerTransaction, request: Request) -> None:
        call, dialog = self.dialogs[_dialog_id(request)]
        if self.vouches is not None and call.flow is not None and is_elsewhere(transaction.flow, call.flow):
            refusal = self.vouches(call, request, transaction.flow)
            if refusal is not None:
                self._refuse(transaction, refusal.status, refusal.headers)
                return
        if "replaces" in request.headers.keys:
            # RFC 3891 §3: not in any other request, nor in a dialog that replaces nothing by now.
            raise BadMessage("Replaces inside a dialog")
        if not self._lacks(transaction, request):
            call.receive(transaction, request, dialog)

    def _receive_ack(self, request: Request, flow: Flow) -> None:
        known = self.dialogs.get(_dialog_id(request))
        if known is not None:
            known[0].receive_ack(request)

    def _lacks(self, transaction: ServerTransaction, request: Request) -> bool:
        """Refuse what asks for more than we can do (RFC 3261 §8.2.2.3, §8.2.3)."""
        keys = request.headers.keys
        if "require" in keys:
            unknown = [tag for tag in request.headers.all("Require") if tag.lower() not in self.extensions]
            if unknown:
                self._refuse(transaction, 420, [("Unsupported", ", ".join(unknown))])
                return True
        if "content-encoding" in keys and request.body:
            encoding = request.headers.get("Content-Encoding") or ""
            if encoding.lower() != "identity":
                self._refuse(transaction, 415, [("Accept-Encoding", "identity")])
                return True
        return False

    def _is_ours(self, uri: Uri) -> bool:
        if not self.domain_names or not isinstance(uri, SipUri):
            return True
        host = uri.host.lower()
        return host in self.domain_names or host == "localhost" or is_numeric(host)

    def _allowed(self) -> list[str]:
        return [*IN_DIALOG, *sorted(set(self.methods) - set(IN_DIALOG))]

    def _refuse(
        self, transaction: ServerTransaction, status: int, headers: Iterable[tuple[str, str]] = ()
    ) -> None:
        request = transaction.request
        transaction.respond(request.response(status, to_tag=transaction.to_tag, headers=headers))

    def refuse_method(self, transaction: ServerTransaction) -> None:
        """405 with what would have been allowed (RFC 3261 §8.2.1)."""
        self._refuse(transaction, 405, [("Allow", ", ".join(self._allowed()))])

    def answer_options(self, request: IncomingRequest) -> None:
        """What we can do, truthfully (RFC 3261 §11.2)."""
        user = request.message.uri.user
        request.respond(
            200,
            headers=[
                ("Contact", f"<{self.contact(request.flow, user or '')}>"),
                *self.capabilities(),
                ("Accept", ", ".join(self.accept)),
                ("Accept-Language", "en"),
                ("Allow-Events", "refer"),
                ("Server", self.product),
            ],
        )


def _dialog_id(request: Request) -> DialogId:
    return (request.call_id, request.to.tag or "", request.from_.tag or "")


def _address(text: str) -> str:
    address = text if "<" in text else f"<{text}>"
    parse_name_addr(address)
    return address
