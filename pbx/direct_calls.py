"""Direct calls: an agent's phone calls a colleague or a number, or a trunk's caller an agent's extension.

    INVITE -> phones rung -> the first to answer: the two are joined, and only then is the caller answered
                          -> a carrier's announcement (183): heard before any answer
                          -> nobody: the caller hears what they said (486, 480, 404 ...)

Both sides are legs of ours and media is anchored here; either one's BYE ends both. A call that an agent makes while
they are in another, or talk to a customer, has its branches in the same media call: so the two can be joined with each
other when the agent leaves (an attended transfer).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from agent_presence.agent_state import AgentStates
from config.errors import OurError, TheirError, WarmlineError
from config.events import EventLog
from config.ids import new_id
from media.server import ALL_KINDS, MediaServer
from pbx.bridge import Bridge, share_pictures
from pbx.destination import Destination, Destinations
from pbx.direct_call import Caller, DirectCall, Party
from pbx.early_media import EarlyMedia
from pbx.leg import Gone, Leg, LegEvent, tidy
from pbx.profile import profile_of_call
from pbx.prompt import (
    Busy,
    Declined,
    Early,
    Invitation,
    NoAnswer,
    Note,
    Outcome,
    Prompt,
    Settle,
    Taken,
    Unreachable,
    status_of,
)
from pbx.staffing import Phone, Staffing
from sip_trunk import user_agent as sip
from sip_trunk.deadlines import Deadlines

if TYPE_CHECKING:
    from sip_trunk.refer import Refer

log = Logger()

MOST_OF_ONE = 4
"""How many direct calls one agent may be in, held ones included: more is a phone gone mad, or stolen."""


class DirectCalls:
    """`agent_changed` is told of an agent who went into a direct call or came out. `now` is wall time."""

    def __init__(
        self,
        destinations: Destinations,
        staffing: Staffing,
        states: AgentStates,
        user_agent: sip.UserAgent,
        media: MediaServer,
        events: EventLog,
        clock: IReactorTime,
        now: Callable[[], float],
        *,
        agent_changed: Callable[[str], None],
        ring_s: float,
        unreachable_s: float,
    ) -> None:
        self._destinations = destinations
        self._staffing = staffing
        self._states = states
        self._user_agent = user_agent
        self._media = media
        self._early = EarlyMedia(media)
        self._events = events
        self._deadlines = Deadlines(clock)
        self._now = now
        self._agent_changed = agent_changed
        self._ring_s = ring_s
        self._unreachable_s = unreachable_s
        self._calls: dict[str, DirectCall] = {}
        self._of_agent: dict[str, list[DirectCall]] = {}
        self._in_media: Counter[str] = Counter()  # how many direct calls have branches in a media call
        self._stopped = False
        self.on_transfer: Callable[[DirectCall, Party, Refer], None] | None = None
        self.on_ended: list[Callable[[DirectCall], None]] = []

    def __len__(self) -> int:
        return len(self._calls)

    def __iter__(self) -> Iterator[DirectCall]:
        return iter(tuple(self._calls.values()))

    def find(self, call: sip.Call) -> tuple[DirectCall, Party] | None:
        """The direct call of which this is a leg, and whose."""
        for direct in self._calls.values():
            for party in direct.parties:
                if party.leg is not None and party.leg.call is call:
                    return direct, party
        return None

    def with_whom(self, agent_id: str, destination: Destination) -> tuple[DirectCall, Party] | None:
        """The connected direct call that this agent has with them, and the agent's side of it."""
        for direct in self._of_agent.get(agent_id, ()):
            party = direct.caller if direct.caller.agent_id == agent_id else direct.callee
            other = direct.other(party)
            if destination.agent_id is not None:
                same = other.agent_id == destination.agent_id
            else:
                same = other.agent_id is None and other.shown == destination.shown
            if same and direct.connected_at is not None and other.leg is not None:
                return direct, party
        return None

    def shared(self, media_call: str) -> bool:
        """Whether any direct call has branches in this media call."""
        return media_call in self._in_media

    # A call, from its INVITE to the answer

    async def place(self, call: sip.IncomingCall, caller: Caller, destination: Destination) -> None:
        """Ring whom they want, and join the two.

        TheirError 480, 486 at once for an agent who cannot be rung, OurError 503 while the server stops.
        """
        if self._stopped:
            raise OurError("The Server Is Stopping", 503)
        if caller.agent_id is not None and self._answers_for(caller.agent_id) >= MOST_OF_ONE:
            raise TheirError("Too Many Calls", 486)
        phones = self._destinations.phones(destination, caller.agent_id)
        direct = self._begin(call, caller, destination)
        try:
            outcome = await self._ring(direct, caller, destination, phones)
        except BaseException:
            self._end(direct, "server", "failed", status=500)
            raise
        if isinstance(outcome, Taken):
            self._taken(direct, outcome)
        else:
            self._end(direct, "callee", _how(outcome), status=status_of(outcome))

    def _answers_for(self, agent_id: str) -> int:
        """Calls they are in, and those they have put together of people outside: a stolen phone makes no more."""
        return sum(
            agent_id in agents or (agents == {None} and direct.arranged_by == agent_id)
            for direct in self._calls.values()
            for agents in ({party.agent_id for party in direct.parties},)
        )

    def _begin(self, call: sip.IncomingCall, caller: Caller, destination: Destination) -> DirectCall:
        call_id = new_id("d")
        media_call = self._media_call_of(caller.agent_id) or call_id
        direct = DirectCall(
            call_id,
            media_call,
            call.session_id,
            Party(caller.shown, caller.from_, caller.agent_id),
            Party(destination.shown, destination.from_, destination.agent_id, destination.trunk_name),
            offer=call.offer,
        )
        self._calls[call_id] = direct
        self._in_media[media_call] += 1
        direct.caller.leg = Leg(
            call, self._media, media_call, direct.next_branch(), profile=profile_of_call(call), tidies=False
        )
        self._listen(direct, direct.caller)
        for party in direct.parties:
            self._occupy(direct, party)
        self._tell("started", direct, call_id=call.id, trunk=caller.trunk, through=destination.trunk_name)
        return direct

    def _media_call_of(self, agent_id: str | None) -> str | None:
        """Where the agent's other calls have their media."""
        if agent_id is None:
            return None
        present = self._of_agent.get(agent_id)
        if present:
            return present[-1].media_call
        active = self._states.of(agent_id).active
        return next((contact for contact, channel in active.items() if channel != "chat"), None)

    async def _ring(
        self, direct: DirectCall, caller: Caller, destination: Destination, phones: list[Phone]
    ) -> Outcome:
        leg = direct.caller.leg
        assert leg is not None
        offer = direct.offer
        answering: asyncio.Future[bytes] | None = None
        if offer:
            # Asked for before the offers to the phones, which are like it: media does things in the order it is asked.
            answering = asyncio.ensure_future(self._media.answer(direct.media_call, leg.branch, offer))
            await asyncio.sleep(0)
            leg.seen(offer)
        direct.prompt = prompt = self._prompt(
            direct,
            caller.from_,
            destination,
            phones,
            like=leg.branch if offer else None,
            note=lambda kind, phone, call_id, facts: self._noted(direct, kind, phone, call_id, facts),
            settle=lambda branch, body: self._settle(direct, branch, body),
            # Agents' phones ring, several at once maybe; a carrier is one, and says what is wrong with the number.
            early=(lambda branch, body: self._early.heard(direct, branch, body))
            if offer and destination.trunk is not None
            else None,
        )
        if direct.over:
            prompt.withdraw("the caller gave up")
        outcome = await prompt.ring()
        if answering is not None and not isinstance(outcome, Taken):
            try:
                await answering
            except WarmlineError as error:
                return Unreachable({"": error.reason}, error.status)
        return outcome

    def prompt_for(
        self, direct: DirectCall, leaving: Party, destination: Destination, phones: list[Phone]
    ) -> Prompt:
        """Rings whom `leaving` wants to pass the other party on to."""
        other = direct.other(leaving)
        assert other.leg is not None
        return self._prompt(
            direct, other.from_, destination, phones, like=other.leg.branch, note=_nothing, settle=None
        )

    def _prompt(
        self,
        direct: DirectCall,
        from_: str,
        destination: Destination,
        phones: list[Phone],
        *,
        like: str | None,
        note: Note,
        settle: Settle | None,
        early: Early | None = None,
    ) -> Prompt:
        headers: tuple[tuple[str, str], ...] = ()
        if destination.trunk is not None:
            from_, headers = self._destinations.calling_card(destination.trunk)
        return Prompt(
            Invitation(direct.media_call, from_, headers, like, ALL_KINDS, direct.session),
            phones,
            user_agent=self._user_agent,
            media=self._media,
            deadlines=self._deadlines,
            ring_s=self._ring_s,
            unreachable_s=self._unreachable_s,
            prefix=direct.next_branch(),
            note=note,
            settle=settle,
            early=early,
            tidies=False,
        )

    async def _settle(self, direct: DirectCall, branch: str, body: bytes) -> None:
        """A phone answered: the caller is answered in its codecs, and the two are joined."""
        leg, media, media_call = direct.caller.leg, self._media, direct.media_call
        if leg is None or direct.over:
            raise TheirError("The caller gave up", 487)
        if direct.offer:
            direct.answer = await self._early.joined(direct, leg, branch, body)
            return
        # RFC 3261 s13.2.1: the caller left it to us to offer; they answer in their ACK.
        await media.accept(media_call, branch, body)
        direct.answer = await media.offer(media_call, leg.branch, profile=leg.profile, like=branch)
        await media.join(media_call, leg.branch, branch)

    def _noted(
        self, direct: DirectCall, kind: str, phone: Phone, call_id: str | None, facts: dict[str, Any]
    ) -> None:
        if kind != "ringing" or direct.rang or direct.over:
            return
        direct.rang = True
        leg = direct.caller.leg
        if leg is not None and isinstance(leg.call, sip.IncomingCall) and not direct.heard_early:
            leg.call.ring(180)
        self._tell("ringing", direct, device=phone.device_id, call_id=call_id, **facts)

    def _taken(self, direct: DirectCall, taken: Taken) -> None:
        caller = direct.caller.leg
        if direct.over or caller is None or not caller.alive:
            taken.leg.end("the caller gave up")
            _drop(taken.leg)
            return
        direct.prompt = None
        direct.callee.leg = taken.leg
        direct.connected_at = self._now()
        caller.answer(direct.answer, offered=bool(direct.offer))
        direct.answer = direct.offer = direct.their_answer = b""
        direct.answering = None
        self._tell(
            "connected",
            direct,
            caller_call_id=caller.call.id,
            callee_call_id=taken.leg.call.id,
            device=taken.phone.device_id,
        )
        self._listen(direct, direct.callee)
        share_pictures(caller, taken.leg)

    # What happens in it

    def _listen(self, direct: DirectCall, party: Party) -> None:
        leg = party.leg
        assert leg is not None
        leg.on_transfer = lambda refer: self._transfer_asked(direct, party, refer)
        leg.on_keys = lambda keys: self._keys_pressed(direct, party, leg, keys)
        leg.on_event = lambda event: self._heard(direct, party, leg, event)

    @staticmethod
    def _keys_pressed(direct: DirectCall, party: Party, leg: Leg, keys: str) -> None:
        """By INFO: the other one hears of it, once the two are joined."""
        other = direct.other(party).leg
        joined = direct.connected_at is not None and direct.leaving is None and not direct.over
        if joined and party.leg is leg and other is not None and other.alive:
            other.press(keys)

    def _heard(self, direct: DirectCall, party: Party, leg: Leg, event: LegEvent) -> None:
        if direct.over or party.leg is not leg or not isinstance(event, Gone):
            return
        if direct.leaving is party:
            leg.drop()
            self._forget(direct, party)
            return
        how = "lost" if event.by == "lost" else "hung_up" if direct.connected_at is not None else "gave_up"
        self._end(direct, direct.side(party), how, reason=event.reason)

    def _transfer_asked(self, direct: DirectCall, party: Party, refer: Refer) -> None:
        if direct.over or direct.connected_at is None or party.leg is None:
            refer.refuse(481)
        elif party.agent_id is None or self.on_transfer is None:
            refer.refuse(403, "Only Agents Transfer Calls")
        else:
            self.on_transfer(direct, party, refer)

    def media_gone(self, media_call: str, branch: str, why: str) -> None:
        """MediaServer: nothing comes from this branch any more."""
        if media_call not in self._in_media:
            return
        for direct in self:
            for party in direct.parties:
                if direct.media_call == media_call and party.leg is not None and party.leg.branch == branch:
                    leg = party.leg
                    leg.on_event = None
                    leg.end("nothing is heard")
                    self._heard(direct, party, leg, Gone("lost", why))

    def media_silent(self, media_call: str, branch: str) -> None:
        """MediaServer: this phone sends nothing, muted or gone; it is asked which."""
        for direct in self if media_call in self._in_media else ():
            for party in direct.parties:
                if direct.media_call == media_call and party.leg is not None and party.leg.branch == branch:
                    party.leg.keep_asking(self._deadlines)

    def media_died(self) -> None:
        """All packets stopped."""
        for direct in self:
            self._end(direct, "server", "media_failed", status=503)

    def stop(self) -> None:
        """The server stops: everybody is told so, and whoever calls from now on."""
        self._stopped = True
        for direct in self:
            self._end(direct, "server", "server_stopped", status=503)

    # Passing a party on (see transfer.py)

    def set_aside(self, direct: DirectCall, leaving: Party) -> None:
        """From now on `leaving` may hang up without ending the call, until `take_over` or `give_back`."""
        direct.leaving = leaving

    @contextmanager
    def rung(self, agent_id: str | None) -> Iterator[None]:
        """While it lasts nobody offers this agent anything."""
        if agent_id is not None:
            self._staffing.occupy(agent_id)
            self._agent_changed(agent_id)
        try:
            yield
        finally:
            if agent_id is not None:
                self._staffing.vacate(agent_id)
                self._agent_changed(agent_id)

    async def play_music(self, direct: DirectCall, leaving: Party) -> None:
        """Something to hear for the other party while somebody else is rung."""
        other = direct.other(leaving).leg
        if other is None:
            return
        try:
            await self._media.play(direct.media_call, other.branch, "music", repeat=True)
        except WarmlineError as error:
            log.info("No music in {call}: {error}", call=direct.id, error=error.reason)

    async def join_again(self, direct: DirectCall) -> None:
        """The two hear each other as before, or that is the end of it."""
        caller, callee = direct.caller.leg, direct.callee.leg
        if direct.over or caller is None or callee is None:
            return
        try:
            await self._media.join(direct.media_call, caller.branch, callee.branch)
        except WarmlineError as error:
            self._end(direct, "server", "media_failed", reason=error.reason)

    async def give_back(self, direct: DirectCall) -> None:
        """Nobody took them: the two hear each other again; if one has left, that is the end."""
        leaving, direct.leaving = direct.leaving, None
        if direct.over or leaving is None:
            return
        if leaving.leg is None:
            self._end(direct, direct.side(leaving), "hung_up", reason="nobody took the call")
        else:
            await self.join_again(direct)

    async def take_over(
        self,
        direct: DirectCall,
        leaving: Party,
        new: Party,
        leg: Leg,
        decide: Callable[[], bool] = lambda: True,
    ) -> bool:
        """Join the other party with another leg, in the place of `leaving`. Nothing has changed when it is False.

        `decide` is asked when the two are joined, before the leg of whoever leaves is ended.
        """
        other = direct.other(leaving)
        if direct.over or other.leg is None:
            return False
        try:
            joined = await Bridge(self._media, direct.media_call, other.leg, leg).join()
        except WarmlineError as error:
            log.warn("Call {id} could not be joined: {error}", id=direct.id, error=error.reason)
            joined = False
        if not (joined and leg.alive and direct.id in self._calls and leaving in direct.parties and decide()):
            return False
        before = leaving.leg
        self._forget(direct, leaving)
        direct.put(new, leaving)
        direct.leaving, direct.arranged_by = None, leaving.agent_id
        new.leg = leg
        leg.tidies = False
        self._occupy(direct, new)
        self._tell(
            "transferred",
            direct,
            from_agent=leaving.agent_id,
            to_agent=new.agent_id,
            through=new.trunk,
            call_id=leg.call.id,
        )
        if before is not None:
            before.on_event = None
            before.end("transferred")
            before.drop()
        self._listen(direct, new)
        return True

    def hand_out(self, direct: DirectCall, party: Party) -> None:
        """This party's leg belongs to another call now, and the one they talked to leaves: this call is over."""
        party.leg = None
        self._end(direct, direct.side(direct.other(party)), "transferred")

    # The end

    def _end(
        self, direct: DirectCall, whose: str, how: str, *, status: int | None = None, reason: str = ""
    ) -> None:
        if direct.over:
            return
        direct.over = True
        del self._calls[direct.id]
        if direct.prompt is not None:
            direct.prompt.withdraw("the caller gave up")
        legs = [party.leg for party in direct.parties if party.leg is not None]
        for leg in legs:
            leg.on_event = None
            if status is not None and direct.connected_at is None:
                leg.refuse(status)
            else:
                leg.end(reason or how)
        self._in_media[direct.media_call] -= 1
        if self._in_media[direct.media_call] <= 0:
            del self._in_media[direct.media_call]
        if direct.media_call == direct.id and direct.media_call not in self._in_media:
            tidy(self._media.delete(direct.media_call), f"deleting the media of {direct.id}")
        else:
            for leg in legs:
                _drop(leg)
        now = self._now()
        self._tell(
            "ended",
            direct,
            whose=whose,
            how=how,
            status=status,
            reason=reason,
            talked_s=round(now - direct.connected_at, 3) if direct.connected_at is not None else None,
        )
        for party in direct.parties:
            self._forget(direct, party)
        for listener in tuple(self.on_ended):
            listener(direct)

    def _occupy(self, direct: DirectCall, party: Party) -> None:
        if party.agent_id is not None:
            self._of_agent.setdefault(party.agent_id, []).append(direct)
            self._staffing.occupy(party.agent_id)
            self._agent_changed(party.agent_id)

    def _forget(self, direct: DirectCall, party: Party) -> None:
        """This party is in it no longer."""
        party.leg = None
        agent_id = party.agent_id or ""
        present = self._of_agent.get(agent_id)
        if present is None or direct not in present:
            return
        present.remove(direct)
        if not present:
            del self._of_agent[agent_id]
        self._staffing.vacate(agent_id)
        self._agent_changed(agent_id)

    def _tell(self, kind: str, direct: DirectCall, **facts: Any) -> None:
        caller, callee = direct.caller, direct.callee
        self._events.write(
            f"call.{kind}",
            agent=caller.agent_id or callee.agent_id,
            call=direct.id,
            session=direct.session,
            from_=caller.shown,
            to=callee.shown,
            **facts,
        )


def _how(outcome: Outcome) -> str:
    match outcome:
        case Declined():
            return "declined"
        case Busy():
            return "busy"
        case NoAnswer():
            return "no_answer"
        case _:
            return "unreachable"


def _drop(leg: Leg) -> None:
    if not leg.tidies:
        leg.drop()


def _nothing(*_: object) -> None:
    return
