"""A dialog: what two user agents remember of each other between requests (RFC 3261 §12)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from sip_trunk.sip.errors import BadMessage
from sip_trunk.sip.header_values import parse_name_addr
from sip_trunk.sip.message import Request, Response
from sip_trunk.sip.uri import SipUri, Uri, parse_uri


class State(Enum):
    EARLY = "early"
    CONFIRMED = "confirmed"
    TERMINATED = "terminated"


class Event(Enum):
    PROVISIONAL = "1xx"
    SUCCESS = "2xx"
    OVER = "refused, BYE, 481, 408 or silence"


MOVES: Mapping[tuple[State, Event], State] = {
    (State.EARLY, Event.PROVISIONAL): State.EARLY,
    (State.EARLY, Event.SUCCESS): State.CONFIRMED,
    (State.EARLY, Event.OVER): State.TERMINATED,
    (State.CONFIRMED, Event.OVER): State.TERMINATED,
}

DialogId = tuple[str, str, str]
"""Call-ID, our tag, their tag ("" when a peer older than RFC 3261 sent none)."""

TARGET_REFRESH = frozenset({"INVITE", "UPDATE"})


class Dialog:
    """One dialog as one side sees it.

    `local` and `remote` are From and To values as they go on the wire, tags included; `target` is the remote target
    and `routes` the route set, both as text. `local_seq` is the CSeq number we used last, `remote_seq` theirs.
    Of an early dialog: `rseq` is that of the last reliable provisional response in it, `answer` the SDP it brought.
    """

    __slots__ = (
        "answer", "call_id", "local", "local_seq", "local_tag", "remote", "remote_seq", "remote_tag",
        "routes", "rseq", "state", "target",
    )  # fmt: skip

    def __init__(
        self,
        call_id: str,
        local: str,
        local_tag: str,
        remote: str,
        remote_tag: str,
        target: str,
        routes: tuple[str, ...],
        local_seq: int,
        remote_seq: int | None,
    ) -> None:
        self.call_id = call_id
        self.local = local
        self.local_tag = local_tag
        self.remote = remote
        self.remote_tag = remote_tag
        self.target = target
        self.routes = routes
        self.local_seq = local_seq
        self.remote_seq = remote_seq
        self.state = State.EARLY
        self.rseq: int | None = None
        self.answer = b""

    @classmethod
    def of_caller(cls, request: Request, response: Response) -> Dialog:
        """The dialog that a response above 100 to our INVITE makes (RFC 3261 §12.1.2). Raises BadMessage."""
        dialog = cls(
            request.call_id,
            request.headers.get("From") or "",
            request.from_.tag or "",
            response.headers.get("To") or "",
            response.to.tag or "",
            request.uri_text,
            (),
            request.cseq.number,
            None,
        )
        dialog.learn(response)
        return dialog

    @classmethod
    def of_callee(cls, request: Request, local_tag: str) -> Dialog:
        """The dialog that our answer to their INVITE makes (RFC 3261 §12.1.1). Raises BadMessage."""
        contacts = request.contacts
        if contacts and not isinstance(contacts[0].uri, SipUri):
            raise BadMessage("Not a SIP address in Contact")  # §8.1.1.8
        dialog = cls(
            request.call_id,
            f"{request.headers.get('To') or ''};tag={local_tag}",
            local_tag,
            request.headers.get("From") or "",
            request.from_.tag or "",
            str(contacts[0].uri if contacts else request.from_.uri),
            tuple(request.headers.all("Record-Route")),
            0,
            request.cseq.number,
        )
        dialog.next_hop()
        return dialog

    @property
    def id(self) -> DialogId:
        return (self.call_id, self.local_tag, self.remote_tag)

    def move(self, event: Event) -> None:
        """What is not in the table changes nothing: a confirmed dialog stays so when a late 180 comes."""
        self.state = MOVES.get((self.state, event), self.state)

    def learn(self, response: Response) -> None:
        """Take state, target and route set from a response to the INVITE that made the dialog.

        A provisional's are only good until the 2xx, which has the last word (RFC 3261 §13.2.2.4).
        """
        if self.state is not State.EARLY:
            return
        try:
            routes = tuple(reversed(response.headers.all("Record-Route")))
            if routes or response.status >= 200:
                next_hop(self.target, routes)
                self.routes = routes
        except BadMessage:
            self.routes = ()  # an answered call must be acknowledged, if only by the shortest way
        self.refresh(response)
        self.move(Event.SUCCESS if response.status >= 200 else Event.PROVISIONAL)

    def in_order(self, request: Request) -> bool:
        """Note their CSeq; False if it went backwards, which is answered 500 (RFC 3261 §12.2.2). Raises BadMessage."""
        number = request.cseq.number
        if self.remote_seq is not None and number < self.remote_seq:
            return False
        self.remote_seq = number
        return True

    def refresh(self, message: Request | Response) -> None:
        """Take the new remote target from a re-INVITE or UPDATE, or from its 2xx (RFC 3261 §12.2).

        Raises BadMessage for a request's Contact that is malformed or no SIP address; a response's is passed over.
        """
        if "contact" not in message.headers.keys:
            return
        try:
            uris = [contact.uri for contact in message.contacts[:1]]
            if uris and not isinstance(uris[0], SipUri):
                raise BadMessage("Not a SIP address in Contact")
            self.target = str(uris[0]) if uris else self.target
        except BadMessage:
            if isinstance(message, Request):
                raise

    def request(self, method: str, number: int | None = None) -> Request:
        """A request inside the dialog (RFC 3261 §12.2.1.1), without Via and Contact.

        `number` is the CSeq of the INVITE for an ACK; any other request takes the next one.
        """
        if number is None:
            self.local_seq = number = self.local_seq + 1
        uri, routes = through(self.target, self.routes)
        headers = [("Route", route) for route in routes]
        headers += (
            ("Max-Forwards", "70"),
            ("From", self.local),
            ("To", self.remote),
            ("Call-ID", self.call_id),
            ("CSeq", f"{number} {method}"),
        )
        return Request(method, uri, headers)

    def next_hop(self) -> Uri:
        """Where the next request goes (RFC 3261 §8.1.2). Raises BadMessage."""
        return next_hop(self.target, self.routes)


def through(target: str, routes: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """The Request-URI and Route values to reach `target` through `routes` (RFC 3261 §12.2.1.1, §16.12.1.2)."""
    if not routes:
        return target, routes
    first = parse_name_addr(routes[0]).uri
    if first.param("lr") is not None:
        return target, routes
    # A strict router wants itself in the Request-URI and the target at the end of the route.
    return str(first), (*routes[1:], f"<{target}>")


def next_hop(target: str, routes: tuple[str, ...]) -> Uri:
    """The URI to send to (RFC 3261 §8.1.2): the first route, or the target when there is none. Raises BadMessage."""
    return parse_name_addr(routes[0]).uri if routes else parse_uri(target)
