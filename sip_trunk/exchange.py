"""One request of ours until its final response: the way there, the answer to a challenge, a failure made a response."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from sip_trunk.locate import Hop
from sip_trunk.sip.dialog import Dialog
from sip_trunk.sip.digest import answer, choose_challenge
from sip_trunk.sip.message import Request, Response
from sip_trunk.sip.session_timer import longer
from sip_trunk.sip.uri import Uri, bracketed
from sip_trunk.transactions import ClientTransaction

if TYPE_CHECKING:
    from sip_trunk.flow import Flow
    from sip_trunk.user_agent import UserAgent

# What a Via and a Contact of ours are long beside the addresses in them.
_VIA = len("Via: SIP/2.0/UDP ;branch=z9hG4bK0123456789abcdef;rport\r\n")
_CONTACT = len("Contact: <>\r\n")
CHALLENGES = {
    401: ("WWW-Authenticate", "Authorization"),
    407: ("Proxy-Authenticate", "Proxy-Authorization"),
}

LARGE = 1300
"""RFC 3261 §18.1.1: a request of more octets goes by a connection, for its datagram could be cut up on the way."""
HOP_S = 4.0
"""Where there is another hop to try, one that says nothing at all for this long counts as down: 64*T1 is too long for
somebody who waits to hear it ring."""
QUIET_HOP_S = 10.0
"""The same for any other request, of which nobody may say a word for the first 4 s (RFC 4320 §4.1)."""

MOST_LENGTHENED = 3
"""How often a session is asked for again with a longer interval (422): each hop may want a longer one than the last."""


class Exchange:
    """`on_response` gets every response but the challenges that are answered here, and 422 where a longer session
    interval may do (RFC 4028 §7.3). A hop that cannot be reached, says nothing or answers 503 is left for the next one
    (RFC 3263 §4.3), if the name it came from has more.

    A timeout or a broken way is a 408 or 503 with `local` set (RFC 3261 §8.1.3.1). After such a 408 to an INVITE a
    late real response may still follow. `on_response` is never called before `start` returns.
    """

    __slots__ = (
        "_agent", "_answered", "_attempt", "_credentials", "_dialog", "_dropped", "_heard", "_hops",
        "_keeps_flow", "_lengthened", "_on_response", "_outside", "_starting", "_streamed",
        "contact_user", "flow", "hop", "request", "transaction",
    )  # fmt: skip

    def __init__(
        self,
        agent: UserAgent,
        request: Request,
        on_response: Callable[[Response], None],
        *,
        flow: Flow | None,
        hop: Uri,
        contact_user: str | None = None,
        credentials: tuple[str, str] | None = None,
        dialog: Dialog | None = None,
        keeps_flow: bool | None = None,
        outside: bool = False,
    ) -> None:
        self._agent = agent
        self.request = request
        self._on_response = on_response
        self.flow = flow
        self.hop = hop
        self.contact_user = contact_user
        self._credentials = credentials
        self._dialog = dialog
        # A flow that was given is the way a phone registered by, perhaps the only one through its NAT.
        self._keeps_flow = flow is not None if keeps_flow is None else keeps_flow
        # See `UserAgent.reach`.
        self._outside = outside
        self._hops: list[Hop] = []
        self._attempt = 0
        self._heard = False
        self._streamed: tuple[str, int] | None = None
        self._answered: dict[int, int] = {}
        self._lengthened = 0
        self._starting = False
        self._dropped = False
        self.transaction: ClientTransaction | None = None

    def start(self) -> None:
        """Find the way and send."""
        self._starting = True
        self._agent.reach(self.flow, self.hop, self._go, self._unreachable, self._hops, outside=self._outside)
        self._starting = False

    def cancel(self, headers: Iterable[tuple[str, str]] = ()) -> None:
        """CANCEL an INVITE as soon as that is allowed; one that has not left yet never will."""
        self._dropped = True
        if self.transaction is not None:
            self.transaction.cancel(headers)

    def limit(self) -> None:
        """The answer matters no more; do not wait for it for ever."""
        if self.transaction is not None:
            self.transaction.limit()
        else:
            self._dropped = True

    def _go(self, flow: Flow) -> None:
        if self._dropped:
            return
        if flow.transport == "UDP" and flow.peer != self._streamed and self._too_large(flow):
            self._streamed = flow.peer
            # Not answered by TCP, it is tried as a datagram after all.
            self._hops.insert(0, Hop("UDP", *flow.peer))
            self._agent.transports.stream_instead(flow.peer, self._put, lambda: self._put_small(flow))
            return
        self._put(flow)

    def _too_large(self, flow: Flow) -> bool:
        """RFC 3261 §18.1.1, with the Via and Contact that are still to come. Down a registered flow there is no other
        way (RFC 5626 §5.3): a phone behind NAT takes no connection, and a datagram cut up may still arrive."""
        if self._keeps_flow:
            return False
        _, host, port = self._agent.transports.via(flow)
        size = len(self.request.to_bytes()) + _VIA + len(f"{bracketed(host)}:{port}")
        if self.contact_user is not None and "contact" not in self.request.headers.keys:
            size += _CONTACT + len(self._agent.contact(flow, self.contact_user))
        return size > LARGE

    def _put_small(self, flow: Flow) -> None:
        """No connection can be had: it goes as a datagram, however large."""
        del self._hops[0]
        self._put(flow)

    def _put(self, flow: Flow) -> None:
        if self._dropped:
            return
        self.flow = flow
        if self.contact_user is not None and "contact" not in self.request.headers.keys:
            self.request.headers.add("Contact", f"<{self._agent.contact(flow, self.contact_user)}>")
        self._send(flow)

    def _send(self, flow: Flow) -> None:
        attempt = self._attempt
        self._heard = False
        self.transaction = self._agent.transactions.send_request(
            self.request,
            flow,
            lambda response: self._hear(response, attempt),
            lambda kind: self._fail(kind, attempt),
        )
        if self._hops:
            patience = HOP_S if self.request.method == "INVITE" else QUIET_HOP_S
            self._agent.transactions.timers.after(patience, lambda: self._unheard(attempt))

    def _unheard(self, attempt: int) -> None:
        if attempt == self._attempt and not self._heard:
            self._fail_over()

    def _hear(self, response: Response, attempt: int) -> None:
        if attempt == self._attempt:
            self._heard = True
            if response.status != 503 or not self._fail_over():
                self._receive(response)
        elif response.status // 100 == 2 and self.request.method == "INVITE":
            # A hop that was given up has answered after all: that is the call, and the attempts after it are over,
            # one whose hop is only just being reached as well.
            self._attempt += 1
            self.cancel()
            self._on_response(response)

    def _fail(self, kind: str, attempt: int) -> None:
        if attempt == self._attempt and not self._fail_over():
            self._failed(kind)

    def _fail_over(self) -> bool:
        """Ask the next hop, with the same request in a new transaction (RFC 3263 §4.3); False: there is none."""
        if self._dropped or not self._hops:
            return False
        if self.transaction is not None and self.request.method == "INVITE":
            # Should it ring there yet, it stops at once.
            self.transaction.cancel()
        self._attempt += 1
        self._answered.clear()
        self.request = self.request.copy()
        self.request.headers.remove_first("Via")
        if self.contact_user is not None:
            self.request.headers.remove("Contact")
        self._agent.fail_over(self._hops, self._go, self._unreachable)
        return True

    def _receive(self, response: Response) -> None:
        status = response.status
        if status in CHALLENGES and not self._dropped and self._answer(response):
            return
        if status == 422 and not self._dropped and self._lengthen(response):
            return
        self._on_response(response)

    def _answer(self, response: Response) -> bool:
        """Ask again with credentials (§22.2): once for each asker, and once more if only the nonce was too old."""
        status = response.status
        if self._credentials is None or self.flow is None or not self.flow.alive:
            return False
        asked, answered = CHALLENGES[status]
        challenge = choose_challenge(response.headers.all(asked))
        times = self._answered.get(status, 0)
        if challenge is None or times > 1 or (times == 1 and not challenge.stale):
            return False
        self._answered[status] = times + 1
        request = self._anew()
        username, password = self._credentials
        request.headers.set(
            answered,
            answer(challenge, username, password, request.method, request.uri_text, body=request.body),
        )
        self.request = request
        self._go(self.flow)
        return True

    def _lengthen(self, response: Response) -> bool:
        headers = longer(self.request, response)
        if headers is None or self._lengthened >= MOST_LENGTHENED or self.flow is None or not self.flow.alive:
            return False
        self._lengthened += 1
        request = self._anew()
        for name, value in headers:
            request.headers.set(name, value)
        self.request = request
        self._go(self.flow)
        return True

    def _anew(self) -> Request:
        """The request once more, as the next one of its dialog or call."""
        request = self.request.copy()
        request.headers.remove_first("Via")
        if self._dialog is not None:
            self._dialog.local_seq += 1
            number = self._dialog.local_seq
        else:
            number = request.cseq.number + 1
        request.headers.set("CSeq", f"{number} {request.method}")
        return request

    def _unreachable(self) -> None:
        if not self._dropped:
            self._failed("transport")

    def _failed(self, kind: str) -> None:
        if self._starting:
            # Whoever called `start` does not hold what it returns yet.
            self._agent.transactions.timers.after(0, lambda: self._failed(kind))
            return
        response = self.request.response(408 if kind == "timeout" else 503)
        response.local = True
        self._on_response(response)
