"""The user agent: places calls, takes calls, and gives every other request to whom it concerns (RFC 3261 §8).

Calls and their events are in `call.py`; they can be imported from here too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from secrets import token_hex
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from config.bridge import spawn
from sip_trunk.call import (
    Accepted,
    Call,
    CallEvent,
    CallState,
    Cancelled,
    Confirmed,
    Ended,
    InDialog,
    Progress,
    Refused,
    ReinviteAnswered,
    ReinviteRefused,
    Reoffered,
)
from sip_trunk.exchange import Exchange
from sip_trunk.incoming_call import IncomingCall
from sip_trunk.incoming_request import IncomingRequest
from sip_trunk.locate import is_numeric
from sip_trunk.outgoing_call import OutgoingCall
from sip_trunk.sip.dialog import Dialog, DialogId, next_hop, through
from sip_trunk.sip.errors import BadMessage, SipError
from sip_trunk.sip.headers import parse_name_addr
from sip_trunk.sip.message import REASONS, Request, Response
from sip_trunk.sip.uri import OtherUri, SipUri, Uri
from sip_trunk.transactions import Screen, ServerTransaction, TransactionLayer

if TYPE_CHECKING:
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
    "Refused",
    "ReinviteAnswered",
    "ReinviteRefused",
    "Reoffered",
    "Target",
    "UserAgent",
]

log = Logger()

IN_DIALOG = ("INVITE", "ACK", "CANCEL", "BYE", "UPDATE", "INFO", "MESSAGE", "OPTIONS")
"""What a call understands; together with the keys of `methods` this is our Allow."""


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
    - `extensions`: option tags we understand (420 for the others);
    - `calls`: those not over yet.

    domain_names: the names we answer to in a Request-URI; addresses are always taken. Empty: any name.
    """

    def __init__(
        self,
        transactions: TransactionLayer,
        transports: Transports,
        *,
        clock: IReactorTime,
        domain_names: set[str],
        product: str = "Warmline",
    ) -> None:
        self.transactions = transactions
        self.transports = transports
        self.clock = clock
        self.domain_names = {name.lower() for name in domain_names}
        self.product = product
        self.on_invite: Callable[[IncomingCall], None] | None = None
        self.methods: dict[str, Callable[[IncomingRequest], None]] = {"OPTIONS": self.answer_options}
        self.screen: Screen | None = None
        self.extensions: set[str] = {"timer"}
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
        contact_user: str | None = None,
    ) -> OutgoingCall:
        """Call somebody. No event comes before this returns.

        from_, to: an address, with or without display name ('"Maria" <sip:c1@example.org>').
        contact_user: the user of our Contact; that of `from_` unless told. Raises BadMessage for a malformed address.
        """
        request, hop = self._compose("INVITE", target, from_, to, headers, body, content_type)
        for name, value in self.capabilities():
            request.headers.add(name, value)
        user = contact_user if contact_user is not None else request.from_.uri.user
        flow = target.flow if target.flow is not None and target.flow.alive else None
        return OutgoingCall(self, request, on_event, credentials, flow=flow, hop=hop, contact_user=user or "")

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
            ("From", f"{_address(from_)};tag={token_hex(8)}"),
            ("To", _address(to)),
            ("Call-ID", token_hex(16)),
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
    ) -> None:
        """Call `then` with a way to `hop`: the flow given if it lives, at once for a numeric UDP address, else after
        looking the name up and connecting."""
        if flow is not None and flow.alive:
            then(flow)
            return
        if isinstance(hop, SipUri) and hop.scheme == "sip" and is_numeric(hop.host):
            try:
                known = self.transports.flow_to_address(
                    (hop.transport or "udp").upper(), hop.host, hop.port or 5060
                )
            except SipError:
                failed()
                return
            if known is not None:
                then(known)
                return
        spawn(self._connect(hop, then, failed), f"way to {hop}")

    async def _connect(self, hop: Uri, then: Callable[[Flow], None], failed: Callable[[], None]) -> None:
        try:
            if not isinstance(hop, SipUri):
                raise BadMessage("Not a sip URI", 416)
            flow = await self.transports.flow_to(hop)
        except Exception as error:
            log.info("No way to {hop}: {error}", hop=str(hop), error=error)
            failed()
            return
        then(flow)

    def contact(self, flow: Flow, user: str) -> str:
        """What we say of ourselves on that flow."""
        return self.transports.contact_uri(flow, user)

    def capabilities(self) -> list[tuple[str, str]]:
        """Allow and Supported, as every INVITE and its 2xx should say (RFC 3261 §13.2.1)."""
        return [("Allow", ", ".join(self._allowed())), ("Supported", ", ".join(sorted(self.extensions)))]

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
        if take is None and (method != "INVITE" or self.on_invite is None):
            self.refuse_method(transaction)
        elif isinstance(request.uri, OtherUri):
            self._refuse(transaction, 416)
        elif not self._is_ours(request.uri):
            self._refuse(transaction, 404)
        elif self._lacks(transaction, request):
            return
        elif take is not None:
            take(IncomingRequest(transaction))
        elif request.body and request.content_type != "application/sdp":
            self._refuse(transaction, 415, [("Accept", "application/sdp")])
        elif self.on_invite is not None:
            self._offer_call(IncomingCall(self, transaction), self.on_invite)

    def _offer_call(self, call: IncomingCall, take: Callable[[IncomingCall], None]) -> None:
        try:
            take(call)
        except Exception:
            log.failure("Call {id} could not be dealt with", id=call.id)
            call.refuse(500)
            call.hangup()

    def _receive_in_dialog(self, transaction: ServerTransaction, request: Request) -> None:
        call, dialog = self.dialogs[_dialog_id(request)]
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
                ("Accept", "application/sdp, text/plain"),
                ("Accept-Language", "en"),
                ("Server", self.product),
            ],
        )


def _dialog_id(request: Request) -> DialogId:
    return (request.call_id, request.to.tag or "", request.from_.tag or "")


def _address(text: str) -> str:
    address = text if "<" in text else f"<{text}>"
    parse_name_addr(address)
    return address
