"""A Prompt: every phone of one agent is rung for one contact, under one deadline, and one outcome comes of it.

All endings of the wait are the members of `Outcome`; `ring` returns one of them, whatever happens, and by then no
other phone of the agent rings any more (or is being hung up on by the user agent, if it is a silent one).

The agent's word on one phone, declined or busy, counts for all of them: who is in a call is not rung elsewhere. Which
refusal is the agent's word is told in `refusal`.

A phone that sleeps is woken by a push, once, and then rung where it has come back (RFC 8599 s5.6.2). One that only may
sleep is rung at once, and woken when it stays silent: who is awake answers sooner than a push arrives.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from twisted.logger import Logger

from agent_presence.push_contact import PushAddress
from config.bridge import spawn
from config.errors import TheirError, WarmlineError
from media.server import MediaServer
from pbx.leg import Leg, tidy
from pbx.phone_media import REFUSALS, Terms, is_ipv6, next_terms
from pbx.refusal import meaning
from pbx.staffing import Phone
from sip_trunk import user_agent as sip
from sip_trunk.deadlines import Deadline, Deadlines
from sip_trunk.sip.errors import SipError

log = Logger()

# An INVITE reaches a phone that is awake, and its 100 or 180 us, sooner than this.
_AWAKE_S = 1.0
# RFC 5626 s5.3: a proxy has lost the flow to the phone.
_FLOW_FAILED = 430
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
    """No phone could be made to ring, and one that has not come back can be woken by a push (RFC 8599)."""

    why: dict[str, str]


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """The customer left while it rang, or before."""

    why: str


Outcome = Taken | Declined | Busy | NoAnswer | Unreachable | Asleep | Withdrawn

Note = Callable[[str, Phone, str | None, dict[str, Any]], None]
"""Gets ("waking" | "woken" | "prompted" | "ringing" | "hung_up_late", phone, Call-ID, facts) as it happens."""

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
    silent_at: float = 0.0  # when it is unreachable, if it is not being woken
    waking: Callable[[], None] | None = None  # ends the waiting for it to come back
    woken: bool = False  # it has come back

    @property
    def terms(self) -> Terms:
        return self.tried[-1]

    def settle(self) -> None:
        """It has shown life, or it is of no interest any more: nothing waits for it."""
        _cancel(self.silence)
        waking, self.waking = self.waking, None
        if waking is not None:
            waking()


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
        self._pushed: set[PushAddress | None] = {None}
        self._ringing: dict[str, _Ringing] = {}
        for phone in phones:
            self._add(phone)
        self._why: dict[str, str] = {}
        self._status: int | None = None
        self._any_heard = False
        self._answered = False  # by a phone, though media may not have taken its answer yet
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
                await self._reach(devices[0])
            else:
                await asyncio.gather(*(self._reach(device) for device in devices))
            if not self._decided.done():
                self._deadline = self._deadlines.after(self._ring_s, self._limit)
            return await self._decided
        finally:
            self._stop_others()

    def also(self, phones: Iterable[Phone]) -> None:
        """The agent's phones, as they are registered now: one that has come while it rings is rung too.

        A phone that rings already is not rung twice because it has registered from somewhere else.
        """
        if self._decided.done() or self._answered:
            return
        for phone in phones:
            if phone.asleep and phone.push in self._pushed:
                continue  # it did not come
            if not any(_same(phone, device) for device in self._ringing.values()):
                device = self._add(phone)
                spawn(self._reach(device), f"ringing {phone.name} too")

    def withdraw(self, why: str) -> None:
        """Stop: nobody is to answer this any more. Takes effect at once, whatever the phones do."""
        if not self._decided.done():
            self._decide(Withdrawn(why))
            self._stop_others()

    def lose_agent(self, why: str) -> None:
        """The agent cannot be asked any more; what is ringing is stopped."""
        if not self._decided.done() and not self._answered:
            self._decide(Unreachable({**self._why, "all": why}, self._status))
            self._stop_others()

    def find_busy(self) -> None:
        """The agent is in a call of their own by now: nothing of theirs is to ring, unless one was answered already."""
        if self._ringing and not self._decided.done():
            self._decide(Busy(486, next(iter(self._ringing.values())).phone))
            self._stop_others()

    # One phone

    async def _reach(self, device: _Ringing) -> None:
        if not device.phone.asleep:
            await self._invite(device)
        elif not self._wake(device):
            self._sleeps(device, "it sleeps")

    def _wake(self, device: _Ringing) -> bool:
        """Have it woken. False: nobody can, or it was pushed already."""
        phone = device.phone
        if device.waking is not None:
            return True
        if phone.wake is None or phone.push in self._pushed or self._decided.done():
            return False
        self._pushed.add(phone.push)
        self._note("waking", device)
        since = self._deadlines.now()
        device.waking = phone.wake("call", lambda now, why: self._woken(device, now, why, since))
        return True

    def _woken(self, device: _Ringing, phone: Phone | None, why: str, since: float) -> None:
        """It is back, at `phone`, or will not be."""
        device.waking = None
        if self._decided.done() or device.branch not in self._ringing:
            return
        now = self._deadlines.now()
        if phone is None:
            # No push is no proof that it sleeps: an INVITE that is under way has the time it would have had.
            if device.call is not None and now < device.silent_at:
                device.silence = self._deadlines.after(device.silent_at - now, lambda: self._silent(device))
            else:
                self._sleeps(device, why)
            return
        self._note("woken", device, after_s=round(now - since, 3))
        device.woken = True
        if device.call is None or phone.target != device.phone.target:
            self._ring_anew(device, phone)
        else:
            # It has not moved, so that the INVITE may be with it already; or was lost while it slept.
            device.silence = self._deadlines.after(_AWAKE_S, lambda: self._ring_anew(device, phone))

    def _ring_anew(self, device: _Ringing, phone: Phone) -> None:
        again = self._add(phone)
        again.woken = True
        device.settle()
        del self._ringing[device.branch]
        self._drop(device.branch)
        if device.call is not None:
            device.call.hangup(reason="no sign of life")
        spawn(self._invite(again), f"ringing {phone.name}, which is awake")

    def _sleeps(self, device: _Ringing, why: str) -> None:
        self._asleep = True
        self._over(device, why)
        if device.call is not None:
            device.call.hangup(reason="no sign of life")

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
        device.silent_at = self._deadlines.now() + self._unreachable_s
        can_wake = device.phone.wake is not None and device.phone.push not in self._pushed
        patience_s = min(_AWAKE_S, self._unreachable_s) if can_wake else self._unreachable_s
        device.silence = self._deadlines.after(patience_s, lambda: self._silent(device))
        device.call.on_late = lambda status: self._late(device, status)
        self._note("prompted", device)

    def _heard(self, device: _Ringing, event: sip.CallEvent) -> None:
        if device.branch not in self._ringing:
            return  # what is over for this phone is over
        match event:
            case sip.Progress(100) if device.phone.push is not None and device.phone.target.route:
                pass  # a proxy on the way is awake: that says nothing of the phone behind it
            case sip.Progress(status, _, body):
                device.heard = self._any_heard = True
                device.settle()
                if body and self._early is not None:
                    self._early(device.branch, body)
                if status > 100 and device.rang_at is None:
                    device.rang_at = self._deadlines.now()
                    self._note("ringing", device, status=status)
            case sip.Accepted(body):
                self._won(device, body)
            case sip.Refused() if (event.local or event.status == _FLOW_FAILED) and self._wake(device):
                _cancel(device.silence)
                device.call = None  # it went nowhere
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
        match meaning(refused, rang_s):
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
        device.settle()
        del self._ringing[device.branch]
        self._drop(device.branch)
        self._decide(outcome)

    def _offer_else(self, device: _Ringing) -> bool:
        """It will not do what it was offered. False: there is nothing else that it may do."""
        terms = next_terms(device.phone.target, device.tried)
        if terms is None:
            return False
        again = self._add(device.phone, (*device.tried, terms))
        device.settle()
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
        self._answered = True
        device.settle()
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
        if self._wake(device):
            return
        why = f"silent for {self._unreachable_s:g} s"
        if device.phone.push is not None and not device.woken:
            self._sleeps(device, why)
            return
        self._over(device, why)
        if device.call is not None:
            device.call.hangup(reason="no sign of life")

    def _over(self, device: _Ringing, why: str, status: int | None = None) -> None:
        """This phone will not answer; if it was the last, that is the outcome."""
        if self._ringing.pop(device.branch, None) is None:
            return
        device.settle()
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
        for device in self._ringing.values():
            if device.waking is not None:
                self._asleep = True
                self._why[device.phone.name] = "it did not come back while there was time"
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
            device.settle()
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


def _same(phone: Phone, device: _Ringing) -> bool:
    if phone.target.uri == device.phone.target.uri:
        return True
    if device.waking is not None and phone.is_as(device.phone):
        return True  # it is rung when its REGISTER is answered (RFC 8599 s5.6.2)
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
