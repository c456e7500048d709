"""A Prompt: every phone of one agent is rung for one contact, under one deadline, and one outcome comes of it.

All endings of the wait are the members of `Outcome`; `ring` returns one of them, whatever happens, and by then no
other phone of the agent rings any more (or is being hung up on by the user agent, if it is a silent one).

What a refusal means is told by its status, and by whether a person can have been behind it:

    603, 600, 607             declined: only a person says so
    486 once it has rung      declined: what most phones send for their reject key (baresip, Yealink)
    486 at once               busy: in another call, or on do-not-disturb
    480, 408 once it has rung no answer: the phone's own limit was shorter than ours
    480 at once               unreachable: do-not-disturb of some phones (Yealink), or nobody behind a proxy
    a Q.850 cause             what it says of itself, from a gateway (RFC 6432)
    488, 606                  it is offered something else, if there is anything: see `phone_media`
    anything else             unreachable

The agent's word on one phone, declined or busy, counts for all of them: who is in a call is not rung elsewhere.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from twisted.logger import Logger

from config.bridge import spawn
from config.errors import TheirError, WarmlineError
from media.server import MediaServer
from pbx.leg import Leg, tidy
from pbx.phone_media import REFUSALS, Terms, is_ipv6, next_terms
from pbx.staffing import Phone
from sip_trunk import user_agent as sip
from sip_trunk.deadlines import Deadline, Deadlines
from sip_trunk.sip.errors import SipError

log = Logger()

# RFC 3261 s21.6, RFC 8197 s4
_DECLINES = (600, 603, 607)
# A phone that says 486 sooner than this after its first ring was faster than any finger.
_HUMAN_S = 0.25
# RFC 6432: Q.850's user busy, no user responding, no answer, call rejected.
_Q850 = re.compile(r"Q\.850\s*;\s*cause=([0-9]{1,3})\b", re.IGNORECASE)
_CAUSES = {17: "busy", 18: "no_answer", 19: "no_answer", 21: "declined"}
# RFC 3326: told so, a phone does not list the call as missed.
_ANSWERED_ELSEWHERE = 'SIP;cause=200;text="Call completed elsewhere"'


@dataclass(frozen=True, slots=True)
class Taken:
    """A phone answered (2xx): its dialog is the agent's leg."""

    leg: Leg
    phone: Phone


@dataclass(frozen=True, slots=True)
class Declined:
    status: int
    phone: Phone


@dataclass(frozen=True, slots=True)
class Busy:
    """A phone is in another call, or wants not to be disturbed."""

    status: int
    phone: Phone


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """Rung until the limit."""


@dataclass(frozen=True, slots=True)
class Unreachable:
    """No phone could be made to ring; `why` says of each what it said or that it was silent.

    `status` is the SIP status that tells it best, None where nobody said one.
    """

    why: dict[str, str]
    status: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Asleep:
    """No phone could be made to ring, and one that stayed silent can be woken by a push (RFC 8599)."""

    why: dict[str, str]


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """The customer left while it rang, or before."""

    why: str


Outcome = Taken | Declined | Busy | NoAnswer | Unreachable | Asleep | Withdrawn

Note = Callable[[str, Phone, str | None, dict[str, Any]], None]
"""Gets ("prompted" | "ringing" | "hung_up_late", phone, Call-ID, facts) as it happens."""

Settle = Callable[[str, bytes], Awaitable[None]]
"""Have media take a phone's answer, given its branch; a WarmlineError makes the answer one of no use."""

Early = Callable[[str, bytes], None]
"""Gets a branch and the answer that came with a provisional response: there is something to hear before anybody takes
the call."""


@dataclass(frozen=True, slots=True)
class Invitation:
    """What the INVITE to the phones says: who, what, where to read more, and in whose codecs."""

    media_call: str
    from_: str
    headers: tuple[tuple[str, str], ...]
    like: str | None  # the branch of whoever calls; None: our own audio, for a chat
    kinds: frozenset[str]
    session: str | None = None  # the Session-ID all legs share (RFC 7989)
    telephone: bool = False  # without `like`: in what the phone network carries


@dataclass(slots=True)
class _Ringing:
    phone: Phone
    branch: str
    tried: tuple[Terms, ...]  # the last of them is what it is offered now
    call: sip.OutgoingCall | None = None
    heard: bool = False  # any provisional response
    rang_at: float | None = None  # by the deadlines' clock
    silence: Deadline | None = None

    @property
    def terms(self) -> Terms:
        return self.tried[-1]


class Prompt:
    """Times in seconds: `ring_s` for all phones, `unreachable_s` till the first provisional of each.

    Branches of media are called `prefix` and a number. `tidies` is that of the leg which comes of it.
    """

    def __init__(
        self,
        invitation: Invitation,
        phones: Sequence[Phone],
        *,
        user_agent: sip.UserAgent,
        media: MediaServer,
        deadlines: Deadlines,
        ring_s: float,
        unreachable_s: float,
        prefix: str,
        note: Note,
        settle: Settle | None = None,
        early: Early | None = None,
        tidies: bool = True,
    ) -> None:
        self._invitation = invitation
        self._user_agent = user_agent
        self._media = media
        self._deadlines = deadlines
        self._note_to = note
        self.on_ringing: Callable[[], None] | None = None
        """Told as each phone begins to ring."""
        self._settling = settle
        self._early = early
        self._tidies = tidies
        self._ring_s = ring_s
        self._unreachable_s = unreachable_s
        self._prefix = prefix
        self._branches = 0
        self._ringing: dict[str, _Ringing] = {}
        for phone in phones:
            self._add(phone)
        self._why: dict[str, str] = {}
        self._status: int | None = None
        self._any_heard = False
        self._rang_out = False
        self._asleep = False
        self._others_reason: str | None = None
        self._decided: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._deadline: Deadline | None = None

    def _add(self, phone: Phone, tried: tuple[Terms, ...] = ()) -> _Ringing:
        self._branches += 1
        branch = f"{self._prefix}-{self._branches}"
        device = _Ringing(phone, branch, tried or (Terms(phone.profile),))
        self._ringing[device.branch] = device
        return device

    async def ring(self) -> Outcome:
        if not self._ringing:
            self._decide(self._nobody())
        try:
            devices = tuple(self._ringing.values())
            if len(devices) == 1:
                await self._invite(devices[0])
            else:
                await asyncio.gather(*(self._invite(device) for device in devices))
            if not self._decided.done():
                self._deadline = self._deadlines.after(self._ring_s, self._limit)
            return await self._decided
        finally:
            self._stop_others()

    def also(self, phones: Iterable[Phone]) -> None:
        """The agent's phones, as they are registered now: one that has come while it rings is rung too.

        A phone that rings already is not rung twice because it has registered from somewhere else.
        """
        if self._decided.done():
            return
        for phone in phones:
            if not any(_same(phone, device) for device in self._ringing.values()):
                device = self._add(phone)
                spawn(self._invite(device), f"ringing {phone.name} too")

    def withdraw(self, why: str) -> None:
        """Stop: nobody is to answer this any more. Takes effect at once, whatever the phones do."""
        if not self._decided.done():
            self._decide(Withdrawn(why))
            self._stop_others()

    def lose_agent(self, why: str) -> None:
        """The agent cannot be asked any more; what is ringing is stopped."""
        if not self._decided.done():
            self._decide(Unreachable({**self._why, "all": why}, self._status))
            self._stop_others()

    def find_busy(self) -> None:
        """The agent is in a call of their own by now: nothing of theirs is to ring, unless one was answered already."""
        if self._ringing and not self._decided.done():
            self._decide(Busy(486, next(iter(self._ringing.values())).phone))
            self._stop_others()

    # One phone

    async def _invite(self, device: _Ringing) -> None:
        invitation = self._invitation
        try:
            offer = await self._media.offer(
                invitation.media_call,
                device.branch,
                profile=device.terms.profile,
                like=invitation.like,
                kinds=invitation.kinds,
                telephone=invitation.telephone,
                wide=device.terms.wide,
                ipv6=is_ipv6(device.phone.target),
            )
        except WarmlineError as error:
            self._over(device, error.reason, error.status)
            return
        if self._decided.done() or device.branch not in self._ringing:  # another phone has answered meanwhile
            self._drop(device.branch)
            return
        try:
            device.call = self._user_agent.invite(
                device.phone.target,
                from_=invitation.from_,
                to=f"<{device.phone.aor}>",
                body=offer,
                headers=invitation.headers,
                on_event=lambda event: self._heard(device, event),
                credentials=device.phone.credentials,
                session_id=invitation.session,
            )
        except SipError as error:  # an address that cannot be called must not spoil the other phones
            self._over(device, error.reason, error.status)
            return
        device.silence = self._deadlines.after(self._unreachable_s, lambda: self._silent(device))
        device.call.on_late = lambda status: self._late(device, status)
        self._note("prompted", device)

    def _heard(self, device: _Ringing, event: sip.CallEvent) -> None:
        if device.branch not in self._ringing:
            return  # what is over for this phone is over
        match event:
            case sip.Progress(status, _, body):
                device.heard = self._any_heard = True
                _cancel(device.silence)
                if body and self._early is not None:
                    self._early(device.branch, body)
                if status > 100 and device.rang_at is None:
                    device.rang_at = self._deadlines.now()
                    self._note("ringing", device, status=status)
            case sip.Accepted(body):
                self._won(device, body)
            case sip.Refused():
                self._refused(device, event)
            case sip.Ended(_, reason):
                self._over(device, reason or "hung up")
            case sip.Reoffered(body):
                spawn(self._reoffered(device, body), f"an UPDATE of {device.phone.name} before its answer")
            case _:
                pass

    def _refused(self, device: _Ringing, refused: sip.Refused) -> None:
        status = refused.status
        rang_s = self._deadlines.now() - device.rang_at if device.rang_at is not None else None
        match _meant(refused, rang_s):
            case "declined":
                outcome: Outcome = Declined(status, device.phone)
            case "busy":
                outcome = Busy(status, device.phone)
            case _ if status in REFUSALS and self._offer_else(device):
                return
            case meant:
                self._rang_out = self._rang_out or meant == "no_answer"
                self._over(device, f"{status} {refused.reason}".strip(), status)
                return
        _cancel(device.silence)
        del self._ringing[device.branch]
        self._drop(device.branch)
        self._decide(outcome)

    def _offer_else(self, device: _Ringing) -> bool:
        """It will not do what it was offered. False: there is nothing else that it may do."""
        terms = next_terms(device.phone.target, device.tried)
        if terms is None:
            return False
        again = self._add(device.phone, (*device.tried, terms))
        _cancel(device.silence)
        del self._ringing[device.branch]
        self._drop(device.branch)
        spawn(self._invite(again), f"offering {device.phone.name} something else")
        return True

    async def _reoffered(self, device: _Ringing, body: bytes) -> None:
        """RFC 3311 s5.2: a carrier moves the caller from its announcement to somebody else's, say."""
        assert device.call is not None
        try:
            if self._early is None:
                raise TheirError("Not Before The Answer", 488)
            answer = await self._media.answer(self._invitation.media_call, device.branch, body)
        except WarmlineError as error:
            device.call.answer_reoffer(None, status=error.status, reason=error.reason)
        else:
            device.call.answer_reoffer(answer)

    def _won(self, device: _Ringing, body: bytes) -> None:
        """The first answer: from here on no other answer, no deadline and no refusal counts."""
        assert device.call is not None
        _cancel(device.silence)
        del self._ringing[device.branch]
        device.call.on_late = None
        leg = Leg(
            device.call,
            self._media,
            self._invitation.media_call,
            device.branch,
            profile=device.terms.profile,
            kinds=self._invitation.kinds,
            tidies=self._tidies,
        )
        if not device.phone.outside:
            leg.device_id = device.phone.device_id
            leg.keep_asking(self._deadlines)
        self._others_reason = _ANSWERED_ELSEWHERE
        self._stop_others()
        spawn(self._settle(device, leg, body), f"the answer of {device.phone.name}")

    async def _settle(self, device: _Ringing, leg: Leg, body: bytes) -> None:
        try:
            await (self._settling or self._accept)(device.branch, body)
            leg.seen(body)
        except WarmlineError as error:
            log.info(
                "The answer of {device} is of no use: {error}", device=device.phone.name, error=error.reason
            )
            self._why[device.phone.name] = error.reason
            leg.end("no common codec")
            if not self._tidies:
                leg.drop()
            self._decide(Unreachable(self._why, error.status))
            return
        except Exception:
            leg.end("server error")  # else the agent would be in a call with nobody, and nobody would know
            if not self._tidies:
                leg.drop()
            self._decide(Unreachable({**self._why, device.phone.name: "a fault of ours"}, 500))
            raise
        device.phone.learn(device.terms.profile)
        if self._decided.done():
            leg.end("the customer left")
            if not self._tidies:
                leg.drop()
        else:
            self._decide(Taken(leg, device.phone))

    async def _accept(self, branch: str, body: bytes) -> None:
        await self._media.accept(self._invitation.media_call, branch, body)

    def _late(self, device: _Ringing, status: int) -> None:
        """It rang or answered after we had hung up: the user agent has seen to it (CANCEL, or ACK and BYE)."""
        self._note("hung_up_late", device, status=status)

    def _silent(self, device: _Ringing) -> None:
        self._asleep = self._asleep or device.phone.wakes
        self._over(device, f"silent for {self._unreachable_s:g} s")
        if device.call is not None:
            device.call.hangup(reason="no sign of life")

    def _over(self, device: _Ringing, why: str, status: int | None = None) -> None:
        """This phone will not answer; if it was the last, that is the outcome."""
        if self._ringing.pop(device.branch, None) is None:
            return
        _cancel(device.silence)
        self._drop(device.branch)
        self._why[device.phone.name] = why
        # RFC 3261 s16.7 item 6: of several refusals the lowest class tells most.
        if status is not None and (self._status is None or status // 100 < self._status // 100):
            self._status = status
        if not self._ringing:
            self._decide(self._nobody())

    # All phones

    def _limit(self) -> None:
        self._deadline = None
        self._decide(NoAnswer() if self._any_heard else self._nobody())

    def _nobody(self) -> Outcome:
        """None of the phones rings any more, and none was answered."""
        if self._rang_out:
            return NoAnswer()
        return Asleep(self._why) if self._asleep else Unreachable(self._why, self._status)

    def _decide(self, outcome: Outcome) -> None:
        if not self._decided.done():
            self._decided.set_result(outcome)

    def _stop_others(self) -> None:
        _cancel(self._deadline)
        ringing, self._ringing = self._ringing, {}
        for device in ringing.values():
            _cancel(device.silence)
            if device.call is not None:
                device.call.hangup(reason=self._others_reason)
            self._drop(device.branch)

    def _drop(self, branch: str) -> None:
        media_call = self._invitation.media_call
        tidy(self._media.drop(media_call, branch), f"dropping {branch} of {media_call}")

    def _note(self, kind: str, device: _Ringing, **facts: Any) -> None:
        self._note_to(kind, device.phone, device.call.id if device.call is not None else None, facts)
        if kind == "ringing" and self.on_ringing is not None:
            self.on_ringing()


def _cancel(deadline: Deadline | None) -> None:
    if deadline is not None:
        deadline.cancel()


def _meant(refused: sip.Refused, rang_s: float | None) -> str:
    """What the agent is said to be: "declined", "busy", "no_answer" or "unreachable". See the head of this file."""
    if refused.local:
        return "unreachable"
    if refused.status in _DECLINES:
        return "declined"
    reasons = ",".join(refused.message.headers.all("Reason")) if refused.message is not None else ""
    cause = _Q850.search(reasons)
    if cause is not None and int(cause[1]) in _CAUSES:
        return _CAUSES[int(cause[1])]
    if refused.status == 486:
        return "declined" if rang_s is not None and rang_s >= _HUMAN_S else "busy"
    if refused.status in (408, 480) and rang_s is not None and rang_s >= _HUMAN_S:
        return "no_answer"
    return "unreachable"


def _same(phone: Phone, device: _Ringing) -> bool:
    if phone.target.uri == device.phone.target.uri:
        return True
    # It was heard where it was before, so it rings; one that was silent there may only be reached where it is now.
    return device.heard and phone.instance is not None and phone.instance == device.phone.instance


def status_of(outcome: Outcome) -> int:
    """What somebody who called, or asked for a transfer, is told of it."""
    match outcome:
        case Taken():
            return 200
        case Declined(status, _) | Busy(status, _):
            return status
        case NoAnswer() | Asleep():
            return 480
        case Unreachable(_, status):
            # 408 and 503 are made here for a phone that is silent: 480 says just that (RFC 3261 s21.4.18).
            return 480 if status in (None, 408, 503) else status
        case Withdrawn():
            return 487
