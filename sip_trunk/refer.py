"""A peer asks us to call somebody else in its place: REFER and the subscription that comes with it.

RFC 3515, with Replaces inside Refer-To (RFC 3891), Referred-By (RFC 3892), Refer-Sub (RFC 4488); the notes of how it
goes are sipfrags (RFC 3420). Nothing is called here: that is the owner's to do, or to refuse.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sip_trunk.call_events import TransferRequested
from sip_trunk.sip.dialog import Dialog
from sip_trunk.sip.errors import BadMessage
from sip_trunk.sip.extension_headers import Replaces, parse_replaces
from sip_trunk.sip.header_values import parse_name_addr, parse_params
from sip_trunk.sip.message import REASONS, Request, Response
from sip_trunk.sip.uri import OtherUri, SipUri, Uri

if TYPE_CHECKING:
    from sip_trunk.call import Call
    from sip_trunk.deadlines import Deadline
    from sip_trunk.transactions import ServerTransaction

LASTS_S = 180
"""How long a subscription lasts unless it is refreshed."""

LONGEST_S = 1800
"""How long one can be kept alive by refreshing it: an owner who never finishes must not be asked for ever."""

MOST_ACTIVE = 4
"""How many transfers of one call may be under way."""

LAST_WORDS_S = 2.0
"""How long a BYE of ours waits for the last NOTIFY to be answered."""

UNHEARD_AFTER = 60
"""In units of T1: an owner who is silent until then is answered for, while the peer still listens (RFC 4320 §4)."""


class Refer:
    """`target` is the Refer-To without its headers, `replaces` what those name, `replaces_call` that call if it is
    ours, `referred_by` the Referred-By as it came, which proves nothing.

    Accept or refuse it, then tell how it goes; each does nothing when it comes too late. After the call has ended the
    peer still hears it (RFC 5057 §4).
    """

    def __init__(
        self,
        of: Referrals,
        transaction: ServerTransaction,
        target: Uri,
        replaces: Replaces | None,
        replaces_call: Call | None,
        *,
        event: str,
        silent: bool,
    ) -> None:
        self.target = target
        self.replaces = replaces
        self.replaces_call = replaces_call
        self.referred_by = transaction.request.headers.get("Referred-By")
        self.event = event
        self.number = transaction.request.cseq.number
        self._of = of
        self._silent = silent
        self._transaction: ServerTransaction | None = transaction
        self._said = "100 Trying"
        self._over = False  # nothing more is to be told
        self._notifying = False
        self._due = False
        timers = of.call.agent.transactions.timers
        timing = of.call.agent.transactions.timing
        self._expires_at = 0.0
        self._longest_at = 0.0
        self._deadline: Deadline | None = timers.after(UNHEARD_AFTER * timing.t1, lambda: self.refuse(500))
        transaction.on_failure = lambda _: self.withdrawn()

    # -- the owner's

    def accept(self) -> None:
        """Agree to try (202); the peer is told 100 Trying, unless it wants to be told nothing."""
        transaction, self._transaction = self._transaction, None
        if transaction is None:
            return
        self._stop()
        of = self._of
        where = ("Contact", of.contact(transaction))
        if self._silent:  # RFC 4488 §4
            of.call.respond(transaction, 202, headers=[where, ("Refer-Sub", "false")])
            of.over(self)
            return
        of.call.respond(transaction, 202, headers=[where])
        timers = of.call.agent.transactions.timers
        self._longest_at = timers.now() + LONGEST_S
        self._lasts(LASTS_S)
        self._notify()

    def refuse(self, status: int, reason: str | None = None) -> None:
        """Decline to try."""
        transaction, self._transaction = self._transaction, None
        if transaction is not None:
            self._stop()
            self._of.call.respond(transaction, status, reason)
            self._of.over(self)

    def progress(self, status: int) -> None:
        """Tell a provisional answer of whom we call in their place."""
        self._tell(status, over=False)

    def finish(self, status: int) -> None:
        """Tell the final answer; the subscription ends with it."""
        self._tell(status, over=True)

    def _tell(self, status: int, *, over: bool) -> None:
        if self._transaction is not None or self._over or self._silent or not self._of.knows(self):
            return
        self._said = f"{status} {REASONS.get(status, '')}"
        self._over = over
        if over:
            self._stop()
        self._notify()

    # -- the subscription

    def subscribe(self, seconds: int) -> int:
        """The peer asks for more time, or, with 0, for no more of it; how long it has got (RFC 3515 §2.4.4)."""
        now = self._of.call.agent.transactions.timers.now()
        seconds = int(min(seconds, LASTS_S, max(0.0, self._longest_at - now)))
        if self._over:
            return 0
        self._lasts(seconds)
        return seconds

    def tell_again(self) -> None:
        """A SUBSCRIBE was answered: a NOTIFY has to follow (RFC 6665 §4.2.1.2)."""
        self._notify()

    @property
    def accepted(self) -> bool:
        return self._transaction is None

    @property
    def telling_the_end(self) -> bool:
        """The last NOTIFY is not answered yet."""
        return self.accepted and self._over and not self._silent

    def withdrawn(self) -> None:
        """The peer's way is gone, or its patience, before an answer."""
        if self._transaction is not None:
            self._transaction = None
            self._stop()
            self._of.over(self)

    def _lasts(self, seconds: int) -> None:
        self._stop()
        timers = self._of.call.agent.transactions.timers
        self._expires_at = timers.now() + seconds
        if seconds:
            self._deadline = timers.at(self._expires_at, self._expired)
        else:
            self._over = True

    def _expired(self) -> None:
        self._over = True
        self._notify()

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _notify(self) -> None:
        # One at a time: a late one must not overtake the last word.
        if self._notifying:
            self._due = True
            return
        self._due = False
        over = self._over
        call = self._of.call
        self._notifying = True

        def on_response(response: Response) -> None:
            if response.status < 200:
                return
            self._notifying = False
            if over or response.status >= 300:
                # RFC 6665 §4.2.2; RFC 5057 §5.2: the call is not touched by it.
                self._over = True
                self._stop()
                self._of.over(self)
            elif self._due:
                self._notify()

        call.exchange(
            "NOTIFY",
            on_response,
            f"SIP/2.0 {self._said}\r\n".encode("utf-8", "replace"),
            "message/sipfrag;version=2.0",
            [("Event", self.event), ("Subscription-State", self._state(over))],
            self._of.dialog,
        )

    def _state(self, over: bool) -> str:
        now = self._of.call.agent.transactions.timers.now()
        left = int(self._expires_at - now)
        if not over:
            return f"active;expires={max(left, 1)}"
        final = not self._said.startswith("1")
        return f"terminated;reason={'noresource' if final else 'timeout'}"


class Referrals:
    """The transfers asked for inside one call."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.dialog: Dialog | None = None
        self._refers: list[Refer] = []
        self._first = True
        self._afterwards: Callable[[], None] | None = None
        self._patience: Deadline | None = None

    @property
    def active(self) -> bool:
        return bool(self._refers)

    def knows(self, refer: Refer) -> bool:
        return refer in self._refers

    def contact(self, transaction: ServerTransaction) -> str:
        return self.call.contact_on(transaction.flow)

    def receive(self, transaction: ServerTransaction, request: Request, dialog: Dialog) -> None:
        """A REFER. Raises BadMessage."""
        call = self.call
        if not call.answered or dialog is not call.dialog:
            call.respond(transaction, 403, "Not Before The Call Is Answered")
            return
        if len(self._refers) >= MOST_ACTIVE:
            call.respond(transaction, 486, "Too Many Transfers")
            return
        target, replaces = _refer_to(request)
        self.dialog = dialog
        # RFC 3515 §2.4.6: which REFER a NOTIFY is about; for the first it may be left out.
        event = "refer" if self._first else f"refer;id={request.cseq.number}"
        self._first = False
        silent = (request.headers.get("Refer-Sub") or "").partition(";")[0].strip().lower() == "false"
        named = call.agent.call_to_replace(replaces) if replaces is not None else None
        refer = Refer(self, transaction, target, replaces, named, event=event, silent=silent)
        self._refers.append(refer)
        call.emit(TransferRequested(refer))

    def subscribe(self, transaction: ServerTransaction, request: Request) -> None:
        """A SUBSCRIBE inside the dialog: for more or less of the subscription a REFER has made. Raises BadMessage."""
        call = self.call
        event = request.headers.get("Event") or ""
        package = event.partition(";")[0]
        if package.strip().lower() != "refer":
            call.respond(transaction, 489, headers=[("Allow-Events", "refer")])
            return
        written = parse_params(event, len(package)).get("id")
        refer = next((one for one in self._refers if one.accepted and _names(one, written)), None)
        if refer is None:
            call.respond(transaction, 481)
            return
        expires = request.expires
        seconds = refer.subscribe(LASTS_S if expires is None else expires)
        where = ("Contact", self.contact(transaction))
        call.respond(transaction, 200, headers=[where, ("Expires", str(seconds))])
        refer.tell_again()

    def after_last_words(self, then: Callable[[], None]) -> bool:
        """Have `then` called once every transfer that has ended was told to the peer, or has had time to be; False if
        there is nothing to wait for. RFC 5057 lets a NOTIFY follow the BYE, but a phone such as pjsua forgets a
        transfer with the call, and never tells its user that it went well."""
        if not any(refer.telling_the_end for refer in self._refers):
            return False
        self._afterwards = then
        self._patience = self.call.agent.transactions.timers.after(LAST_WORDS_S, self._go_on)
        return True

    def _go_on(self) -> None:
        then, self._afterwards = self._afterwards, None
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        if then is not None:
            then()

    def over(self, refer: Refer) -> None:
        if refer in self._refers:
            self._refers.remove(refer)
        if not any(one.telling_the_end for one in self._refers):
            self._go_on()
        if not self._refers:
            self.call.release()

    def call_over(self) -> None:
        """The call has ended; what was agreed to goes on (RFC 5057 §4), the rest cannot be (RFC 3261 §15.1.2)."""
        for refer in list(self._refers):
            refer.refuse(487)


def _names(refer: Refer, written: str | None) -> bool:
    own = refer.event.partition(";id=")[2]
    # RFC 3515 §2.4.6: the first may be named by its CSeq number or not at all.
    return written == str(refer.number) or (not own and written is None)


def _refer_to(request: Request) -> tuple[Uri, Replaces | None]:
    values = request.headers.all("Refer-To")
    if len(values) != 1:  # RFC 3515 §2.4.2
        raise BadMessage("One Refer-To is needed")
    uri = parse_name_addr(values[0]).uri
    if isinstance(uri, OtherUri):
        raise BadMessage("Unsupported URI Scheme", 416)
    if not isinstance(uri, SipUri):
        return uri, None
    method = uri.param("method")
    if method is not None:
        if method.upper() != "INVITE":
            raise BadMessage("Only INVITE can be referred to", 403)
        uri = uri.replace(params=tuple(pair for pair in uri.params if pair[0] != "method"))
    if sum(name.lower() == "replaces" for name, _ in uri.headers) > 1:  # RFC 3891 §3
        raise BadMessage("Several Replaces")
    written = uri.header("Replaces")
    return uri.without_headers(), parse_replaces(written) if written is not None else None
