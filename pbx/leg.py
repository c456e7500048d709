"""A Leg: one party's call and its branch of media, in words that know no SIP.

The B2BUA's two legs speak to each other in these events only. A leg looks after its own media on the way: an offer
of the peer's (hold, resume, a new network) is answered on its branch, whatever the other leg is doing.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from twisted.logger import Logger

from config.bridge import spawn
from config.errors import WarmlineError
from media.server import ALL_KINDS, AUDIO_ONLY, MediaServer, Profile
from pbx.phone_media import behind_nat, has_video, holds
from sip_trunk import user_agent as sip
from sip_trunk.deadlines import Deadline, Deadlines
from sip_trunk.dtmf import keys_of, relay_body
from sip_trunk.refer import Refer
from sip_trunk.sip.header_values import quote_string
from sip_trunk.sip.message import Response

log = Logger()

# How often a peer is asked whether it still has the call, how long it may take to answer, and how long is listened for
# its packets where it does not: together they find one that has crashed within half a minute.
ASK_S = 10.0
ANSWER_S = 10.0
LISTEN_S = 3.0

# RFC 3326 s2: what is a Reason already is passed on as it came.
_REASON = re.compile(r"(?:SIP|Q\.850)\s*;\s*cause=[0-9]{1,3}\b[^\r\n]{0,200}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Gone:
    """The leg is over. `by`: "peer" (they hung up), "us" or "lost" (nothing was heard any more)."""

    by: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Unplugged:
    """The peer's connection closed; the call may still be alive."""


@dataclass(frozen=True, slots=True)
class Plugged:
    """Signs of life again."""


LegEvent = Gone | Unplugged | Plugged


def tidy(work: Awaitable[None], what: str) -> None:
    """Have media put away; where there is none any more, there is nothing to put away. Nobody waits for it."""

    def put_away(done: asyncio.Future[None]) -> None:
        error = None if done.cancelled() else done.exception()
        if isinstance(error, WarmlineError):
            log.info("{what} failed: {error}", what=what, error=error.reason)
        elif error is not None:
            log.error("{what} failed: {error!r}", what=what, error=error)

    asyncio.ensure_future(work).add_done_callback(put_away)


class Leg:
    """Set `on_event` to hear of it; what happened before is told then.

    `kinds` bounds what media the peer may have, until `allow_pictures`. A leg whose answer was not needed yet (an
    INVITE without an offer, RFC 3261 s13.2.1) takes it from the ACK. `tidies` False: whoever owns the media call puts
    the branch away.

    `on_transfer` gets a REFER and answers it; without it, none is taken. `on_keys` gets the keys pressed in an INFO.
    """

    def __init__(
        self,
        call: sip.Call,
        media: MediaServer,
        media_call: str,
        branch: str,
        *,
        profile: Profile,
        kinds: frozenset[str] = ALL_KINDS,
        tidies: bool = True,
    ) -> None:
        self.call = call
        self.branch = branch
        self.profile = profile
        self.tidies = tidies
        self.on_transfer: Callable[[Refer], None] | None = None
        self.on_keys: Callable[[str], None] | None = None
        self.on_pictures: Callable[[], None] | None = None
        """The peer has added pictures to the call, or dropped them."""
        self._pictures: bool | None = None
        self._described = b""  # the peer, as media knows it
        self.of_sound = kinds == AUDIO_ONLY
        """It began as a call of sound alone."""
        self.device_id: str | None = None
        """The agent's phone that this leads to, where that is known."""
        self.on_hold: Callable[[bool], None] | None = None
        """The peer has put us on hold by their phone's own key, or taken us back."""
        self._holds = False
        self._kinds = kinds
        self._media = media
        self._media_call = media_call
        self._on_event: Callable[[LegEvent], None] | None = None
        self._untold: list[LegEvent] = []
        self._gone: Gone | None = None
        self._agreeing: asyncio.Future[bytes | int] | None = None
        self._one_at_a_time = asyncio.Lock()  # a second offer would take the answer to the first for its own
        self._answer_in_ack = False
        self._unplugged = False
        self._deadlines: Deadlines | None = None
        self._ask_next: Deadline | None = None
        self._listening = False
        self._spoke = False  # it answered while it was being listened for
        self._watch_flow()
        call.on_event = self._heard  # a caller who has given up meanwhile is heard of at once

    @property
    def alive(self) -> bool:
        return self._gone is None

    @property
    def gone(self) -> Gone | None:
        return self._gone

    @property
    def has_pictures(self) -> bool:
        """Whether there is video in what was last agreed on."""
        return bool(self._pictures)

    @property
    def holds(self) -> bool:
        """Whether the peer does not listen, by their phone's own key."""
        return self._holds

    @property
    def unplugged(self) -> bool:
        return self._unplugged

    @property
    def on_event(self) -> Callable[[LegEvent], None] | None:
        return self._on_event

    @on_event.setter
    def on_event(self, listener: Callable[[LegEvent], None] | None) -> None:
        self._on_event = listener
        while self._on_event is not None and self._untold:
            self._on_event(self._untold.pop(0))

    def allow_pictures(self) -> None:
        """From now on the peer may bring pictures into a call that began without."""
        self._kinds = ALL_KINDS

    def answer(self, body: bytes, *, offered: bool = True) -> None:
        """Answer the caller (200). `offered` False: the body is our offer, their answer comes in the ACK."""
        assert isinstance(self.call, sip.IncomingCall)
        self._answer_in_ack = not offered
        self._pictures = has_video(body)
        self.call.accept(body)

    async def agree(self, like: str, *, adding: bool = False) -> None:
        """Re-offer this leg the codecs of branch `like`, and with `adding` all its media. Raises the WarmlineError of
        what went wrong."""
        async with self._one_at_a_time:
            if not self.alive:
                raise WarmlineError("The other side has left.", 481)
            offer = await self._media.offer(
                self._media_call, self.branch, profile=self.profile, like=like, adding=adding
            )
            if not self.alive:  # they hung up while media made it: no answer will ever come
                raise WarmlineError("The other side has left.", 481)
            self._agreeing = asyncio.get_running_loop().create_future()
            try:
                self.call.reinvite(offer)
                answer = await self._agreeing
            finally:
                self._agreeing = None
            if isinstance(answer, int):
                raise WarmlineError(f"The other side refused the change with {answer}.", answer)
            await self._media.accept(self._media_call, self.branch, answer)
            self._described = answer
            self._pictures = has_video(answer)

    def seen(self, body: bytes) -> None:
        """Media has taken the peer's description: let it know where a NAT hides the peer."""
        self._described = body
        if self._pictures is None:
            self._pictures = has_video(body)
        address = behind_nat(body, self.call.flow)
        if address is not None:
            tidy(self._media.seen_at(self._media_call, self.branch, address), f"placing {self.branch}")

    def end(self, reason: str = "") -> None:
        """Hang up, in whatever state the call is; the media branch goes with it. The reason is told (RFC 3326)."""
        if self._gone is None:
            self._gone = Gone("us", reason)
            self._stop()
            self._tidy()
            self.call.hangup(reason=_as_reason(reason) if reason else None)
            self._forget()

    def keep_asking(self, deadlines: Deadlines) -> None:
        """From now on ask the peer every `ASK_S` whether it still has this call: a BYE may be lost, a phone crash.

        It is gone ("lost") when it knows the call no more, or says nothing and sends no packets either.
        """
        if self._deadlines is None:
            self._deadlines = deadlines
            self._ask_in(ASK_S * random.uniform(0.9, 1.1))

    def refuse(self, status: int, reason: str | None = None) -> None:
        """Refuse a caller who has not been answered."""
        assert isinstance(self.call, sip.IncomingCall)
        if self._gone is None:
            self._gone = Gone("us", reason or "")
            self._stop()
            self._tidy()
            self.call.refuse(status, reason)
            self._forget()

    def _heard(self, event: sip.CallEvent) -> None:
        self._replugged()
        match event:
            case sip.Ended(by, reason):
                self._is_gone(Gone(by, reason))
            case sip.Cancelled(reason):
                self._is_gone(Gone("peer", reason))
            case sip.Refused():
                self._is_gone(Gone("peer", event.reason))
            case sip.Confirmed(body):
                if self._answer_in_ack:
                    self._answer_in_ack = False
                    spawn(self._answered_in_ack(body), f"the answer in the ACK of {self.call.id}")
            case sip.Reoffered(body):
                spawn(self._reoffered(body), f"a re-offer in {self.call.id}")
            case sip.ReinviteAnswered(body):
                self._agreed(body)
            case sip.Refreshed(body):
                if body != self._described:
                    spawn(self._moved(body), f"a new description in {self.call.id}")
            case sip.ReinviteRefused(status):
                self._agreed(status)
            case sip.InDialog(request):
                self._asked(request)
            case sip.TransferRequested(refer):
                if self.on_transfer is not None:
                    self.on_transfer(refer)
                else:
                    refer.refuse(488, "Nothing Here Can Be Transferred")
            case _:
                pass

    async def _reoffered(self, body: bytes) -> None:
        before = self._pictures
        try:
            if body:
                answer = await self._media.answer(self._media_call, self.branch, body, kinds=self._kinds)
                self.seen(body)
                self._pictures = has_video(answer)
            else:
                # RFC 3261 s14.2: a re-INVITE without an offer asks for ours.
                answer = await self._media.offer(self._media_call, self.branch, profile=self.profile)
                self._answer_in_ack = True
        except WarmlineError as error:
            # The session goes on as it was (RFC 3261 s14.1).
            if self.alive:
                self.call.answer_reoffer(None, status=error.status, reason=error.reason)
            return
        if self.alive:
            self.call.answer_reoffer(answer)
            self._tell_of_pictures(before)
            if body:
                self._directed(body)

    async def _moved(self, body: bytes) -> None:
        """They answered a refresh with a description that is new: another address, on hold, without pictures."""
        before = self._pictures
        try:
            answer = await self._media.answer(self._media_call, self.branch, body, kinds=self._kinds)
        except WarmlineError as error:
            log.info(
                "A new description in {call} is of no use: {error}", call=self.call.id, error=error.reason
            )
            return
        if self.alive:
            self.seen(body)
            self._pictures = has_video(answer)
            self._tell_of_pictures(before)
            self._directed(body)

    def _tell_of_pictures(self, before: bool | None) -> None:
        if before not in (None, self._pictures) and self.on_pictures is not None:
            self.on_pictures()

    def _directed(self, body: bytes) -> None:
        before, self._holds = self._holds, holds(body)
        if self._holds is not before and self.on_hold is not None:
            self.on_hold(self._holds)

    async def _answered_in_ack(self, body: bytes) -> None:
        try:
            await self._media.accept(self._media_call, self.branch, body)
            self.seen(body)
            self._directed(body)
        except WarmlineError as error:
            log.info("No usable answer in the ACK of {call}: {error}", call=self.call.id, error=error.reason)
            self._is_gone(Gone("peer", "no common codec"))
            self.call.hangup(reason="no common codec")

    def _agreed(self, answer: bytes | int) -> None:
        if self._agreeing is not None and not self._agreeing.done():
            self._agreeing.set_result(answer)

    def _asked(self, request: sip.IncomingRequest) -> None:
        # Lines of a chat come to the contact's address, not into a call.
        if request.message.method != "INFO":
            request.respond(488, "Write To The Contact's Address")
            return
        # RFC 6086: phones that know no telephone-event say here which keys were pressed.
        keys = keys_of(request.message)
        kind = (request.message.headers.get("Content-Type") or "").lower()
        if not keys and kind.startswith("application/dtmf"):
            request.respond(400, "No Key That Is Known")
            return
        request.respond(200)
        if keys and self.on_keys is not None:
            self.on_keys(keys)

    def press(self, keys: str) -> None:
        """Let the peer know of keys that the other party has pressed: in its media, or by INFO where it has agreed on
        no telephone-event and takes that. Else they are lost."""
        pressed = self._media.keys(self._media_call, self.branch, keys)
        spawn(self._press(pressed, keys), f"keys for {self.call.id}")

    async def _press(self, pressed: Awaitable[bool], keys: str) -> None:
        try:
            if await pressed:
                return
        except WarmlineError as error:
            log.info("Keys for {call} are lost: {error}", call=self.call.id, error=error.reason)
            return
        if not self.call.allows("INFO"):
            log.info("Keys for {call} are lost: its peer takes none", call=self.call.id)
            return
        for key in keys:
            if not self.alive or self.call.dialog is None:
                return
            self.call.exchange("INFO", _unread, relay_body(key), "application/dtmf-relay")

    # Whether it is still there

    def _ask_in(self, seconds: float) -> None:
        if self._ask_next is not None:
            self._ask_next.cancel()
        if self._deadlines is not None and self._gone is None:
            self._ask_next = self._deadlines.after(seconds, self._ask)

    def _ask(self) -> None:
        assert self._deadlines is not None
        if self._gone is None and self.call.dialog is not None:
            self._ask_next = self._deadlines.after(ANSWER_S, self._no_answer)
            self.call.exchange("OPTIONS", self._answered)

    def _answered(self, response: Response) -> None:
        if self._gone is not None or response.status < 200:
            return
        if response.status == 481:
            self._lost("it knows this call no more")
        elif response.local or response.status == 408:
            # Nobody there, or no way there: ours or a proxy's word for it (RFC 3261 s8.1.3.1).
            self._no_answer()
        elif self._listening:
            self._spoke = True
        else:
            # 405, 501 and whatever else: there is somebody who refuses to answer this.
            self._ask_in(ASK_S * random.uniform(0.9, 1.1))

    def _no_answer(self) -> None:
        if not self._listening:
            self._listening, self._spoke = True, False
            spawn(self._listen(), f"listening for {self.call.id}")

    async def _listen(self) -> None:
        """There are phones that answer no OPTIONS inside a call; but then they are heard."""
        try:
            before = await self._last_packet()
            waited = asyncio.Event()
            assert self._deadlines is not None
            self._deadlines.after(LISTEN_S, waited.set)
            await waited.wait()
            # Told in epoch seconds by another process, the same moment is not twice the same number.
            heard = await self._last_packet() - before > LISTEN_S / 10
        finally:
            self._listening = False
        if heard or self._spoke:
            self._ask_in(ASK_S)
        else:
            self._lost("it answers no more and sends nothing")

    async def _last_packet(self) -> float:
        try:
            found = (await self._media.stats(self._media_call)).get(self.branch, {})
        except WarmlineError:
            return 0.0
        return max((kind["last_packet_at"] or 0.0 for kind in found.get("kinds", {}).values()), default=0.0)

    def _lost(self, why: str) -> None:
        if self._gone is None:
            self._is_gone(Gone("lost", why))
            self.call.hangup(reason=_as_reason(why))

    def _is_gone(self, gone: Gone) -> None:
        if self._gone is not None:
            return
        self._gone = gone
        self._stop()
        told = self._on_event is not None
        try:
            self._tell(gone)
        finally:
            self._tidy()  # after it was told: whoever heard it may have put away the whole media call
            if told:
                self._forget()

    def _stop(self) -> None:
        self._agreed(481)
        self._unwatch_flow()
        if self._ask_next is not None:
            self._ask_next.cancel()

    def _forget(self) -> None:
        """Nothing more is told. A call that is over is kept for half a minute, should its peer repeat itself: whoever
        listened, and all they hold, must not be kept with it."""
        self._on_event = self.on_transfer = self.on_keys = self.on_pictures = self.on_hold = None
        self.call.on_event = _unheard

    def _tidy(self) -> None:
        if self.tidies:
            self.drop()

    def drop(self) -> None:
        """Put the branch away: for whoever owns the media call of a leg that does not tidy."""
        tidy(self._media.drop(self._media_call, self.branch), f"dropping {self.branch} of {self._media_call}")

    def _tell(self, event: LegEvent) -> None:
        if self._on_event is not None:
            self._on_event(event)
        else:
            self._untold.append(event)

    # The connection below: a browser that was closed says nothing else.

    def _watch_flow(self) -> None:
        flow = self.call.flow
        self._flow = flow
        if flow is not None and flow.reliable:
            flow.on_closed.add(self._flow_closed)

    def _unwatch_flow(self) -> None:
        if self._flow is not None:
            self._flow.on_closed.discard(self._flow_closed)

    def _flow_closed(self, *_: object) -> None:
        if self._gone is None and not self._unplugged:
            self._unplugged = True
            self._tell(Unplugged())
            if not self._listening:
                self._ask_in(1.0)

    def _replugged(self) -> None:
        if self.call.flow is not self._flow:
            # A re-INVITE by a new connection moved the call there.
            self._unwatch_flow()
            self._watch_flow()
        if self._unplugged and self._flow is not None and self._flow.alive:
            self._unplugged = False
            self._tell(Plugged())


def _unheard(_: sip.CallEvent) -> None:
    """What may yet come of a call that is over is nobody's business."""


def _unread(_: object) -> None:
    """A key that was not taken is lost, as one that nobody heard."""


def _as_reason(reason: str) -> str:
    return reason if _REASON.fullmatch(reason) else f"SIP;cause=200;text={quote_string(reason)}"
