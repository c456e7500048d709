"""Calling a customer back while an agent waits on the line: in the customer's page, or by telephone through a trunk.

`Ending` is all that may come of it. Each wait has a limit, and ends at once when the agent hangs up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from config.errors import TheirError, WarmlineError
from media.server import MediaServer
from pbx.calls import Calls
from pbx.contact import Contact
from pbx.destination import Destination, Destinations
from pbx.invitation import Ringer
from pbx.leg import Gone, Leg, LegEvent
from pbx.open_contacts import OpenContacts
from pbx.prompt import NoAnswer, Prompt, Taken, Unreachable
from pbx.reception import Guest
from sip_trunk.sip.uri import SipUri

log = Logger()

RING_S = 30.0
# A page that is not there by then is not there: an agent is on the line.
PAGE_S = 5.0


class Ending(StrEnum):
    """All that calling a customer back may come to."""

    ANSWERED = "answered"
    REFUSED = "refused"
    NO_ANSWER = "no_answer"
    UNREACHABLE = "unreachable"  # no page of theirs is open, or the trunk could not reach their telephone
    NO_TRUNK = "no_trunk"
    AGENT_LEFT = "agent_left"
    MEDIA_GONE = "media_gone"
    STOPPED = "stopped"  # the server stops
    OVER = "over"  # the contact ended: the customer gave up, say


NOT_ANSWERED = (Ending.REFUSED, Ending.NO_ANSWER, Ending.UNREACHABLE, Ending.NO_TRUNK)


@dataclass(slots=True)
class _Attempt:
    contact: Contact
    agent: Leg
    decided: asyncio.Future[Ending]
    prompt: Prompt | None = None
    timers: list[IDelayedCall] = field(default_factory=list)

    def decide(self, ending: Ending) -> None:
        if not self.decided.done():
            self.decided.set_result(ending)
            if self.prompt is not None:
                self.prompt.withdraw(ending.value)


class CallingBack:
    """`domain` is that of contacts' addresses."""

    def __init__(
        self,
        contacts: OpenContacts,
        calls: Calls,
        destinations: Destinations,
        ringer: Ringer,
        media: MediaServer,
        clock: IReactorTime,
        *,
        domain: str,
    ) -> None:
        self._contacts = contacts
        self._calls = calls
        self._destinations = destinations
        self._ringer = ringer
        self._media = media
        self._clock = clock
        self._domain = domain
        self._attempts: dict[str, _Attempt] = {}  # by contact
        self._stopped = False
        self.has_page: Callable[[str], bool] = lambda contact_id: True
        """Whether a page of the customer's listens to this contact now."""
        self.on_telephone: Callable[[Contact], None] = lambda contact: None
        """The customer has answered their telephone, and is about to be on the line."""
        self.tell: Callable[[Guest], Awaitable[None]] = _nothing
        """What they must be told there before the agent is joined to them."""

    def __contains__(self, contact_id: object) -> bool:
        return contact_id in self._attempts

    def destination(self, number: str) -> Destination | None:
        """A number and the trunk that may call it; agents are not called back."""
        try:
            found = self._destinations.find(SipUri(user=number, host=self._domain), numbers=True)
        except TheirError:
            return None
        return found if found.trunk is not None else None

    async def call(self, contact: Contact, agent: Leg, number: str) -> Ending:
        """Call at `number` or ("") in the page. ANSWERED: the customer is on the line, and may be joined.

        The agent's leg is listened to only meanwhile, and not hung up on.
        """
        attempt = _Attempt(contact, agent, asyncio.get_running_loop().create_future())
        self._attempts[contact.id] = attempt
        agent.on_event = lambda event: self._agent_event(attempt, event)
        try:
            if self._stopped:
                attempt.decide(Ending.STOPPED)
            await self._entertain(attempt)
            return await (self._by_trunk(attempt, number) if number else self._by_page(attempt))
        finally:
            for timer in attempt.timers:
                if timer.active():
                    timer.cancel()
            del self._attempts[contact.id]
            agent.on_event = None

    def decide(self, contact_id: str, ending: Ending) -> bool:
        """It ends like this, unless it has ended already. False: nobody is being called for this contact."""
        attempt = self._attempts.get(contact_id)
        if attempt is not None:
            attempt.decide(ending)
        return attempt is not None

    async def _entertain(self, attempt: _Attempt) -> None:
        """Something to hear for the agent, while the customer is called."""
        try:
            await self._media.play(
                attempt.contact.id, attempt.agent.branch, ("callback-connecting", "music"), repeat=True
            )
        except WarmlineError as error:
            if attempt.agent.alive:
                log.warn("The agent hears nothing: {error}", error=error.reason)

    async def _by_page(self, attempt: _Attempt) -> Ending:
        contact = attempt.contact
        attempt.timers.append(self._clock.callLater(RING_S, attempt.decide, Ending.NO_ANSWER))
        attempt.timers.append(self._clock.callLater(PAGE_S, self._look_for_page, attempt))
        self._contacts.tell(contact.id, "state", contact)
        return await attempt.decided

    def _look_for_page(self, attempt: _Attempt) -> None:
        if not self.has_page(attempt.contact.id):
            attempt.decide(Ending.UNREACHABLE)

    async def _by_trunk(self, attempt: _Attempt, number: str) -> Ending:
        contact = attempt.contact
        destination = self.destination(number)
        if destination is None or destination.trunk is None:
            return Ending.NO_TRUNK
        (phone,) = self._destinations.phones(destination, None)
        from_, headers = self._destinations.calling_card(destination.trunk)
        attempt.prompt = self._ringer.call_back(
            contact, phone, from_, headers, like=attempt.agent.branch, ring_s=RING_S
        )
        if attempt.decided.done():
            attempt.prompt.withdraw(attempt.decided.result().value)
        self._contacts.tell(contact.id, "state", contact)
        outcome = await attempt.prompt.ring()
        if isinstance(outcome, Taken):
            if not contact.open or contact.call_back is None:
                outcome.leg.end("they are on the line already")
                return Ending.OVER
            # Should the agent have gone in this moment: they wait on the line, as any caller.
            self.on_telephone(contact)
            self._calls.called_back(contact, outcome.leg)
            await self._agree(attempt, outcome.leg)
            await self._tell(attempt, outcome.leg)
            return Ending.ANSWERED
        if attempt.decided.done():
            return attempt.decided.result()
        match outcome:
            case NoAnswer():
                return Ending.NO_ANSWER
            case Unreachable():
                return Ending.UNREACHABLE
            case _:
                return Ending.REFUSED

    async def _tell(self, attempt: _Attempt, customer: Leg) -> None:
        guest = Guest(attempt.contact, customer, self._media, self._clock)
        # When either has gone there is nobody to tell, or nobody to wait for it.
        attempt.decided.add_done_callback(lambda _: guest.leave())
        try:
            await self.tell(guest)
        except Exception:
            log.failure("{id} was not told all before they were joined", id=attempt.contact.id)

    async def _agree(self, attempt: _Attempt, customer: Leg) -> None:
        """The agent's phone goes over to what the telephone network speaks: it has chosen before that was known."""
        try:
            branches = attempt.agent.branch, customer.branch
            if not await self._media.compatible(attempt.contact.id, *branches):
                # The agent's phone may take its time, and they have picked up.
                await self._calls.play_music(attempt.contact)
                await attempt.agent.agree(like=customer.branch)
        except WarmlineError as error:
            log.info("The agent's phone keeps its codec: {error}", error=error.reason)

    def _agent_event(self, attempt: _Attempt, event: LegEvent) -> None:
        if isinstance(event, Gone):
            attempt.decide(Ending.AGENT_LEFT)

    def media_gone(self, contact_id: str, branch: str, why: str) -> None:
        """MediaServer: nothing comes from this branch any more."""
        attempt = self._attempts.get(contact_id)
        if attempt is not None and attempt.agent.branch == branch:
            attempt.decide(Ending.AGENT_LEFT)

    def media_died(self) -> None:
        """All packets stopped."""
        for attempt in tuple(self._attempts.values()):
            attempt.decide(Ending.MEDIA_GONE)

    def stop(self) -> None:
        """Nobody is called any more."""
        self._stopped = True
        for attempt in tuple(self._attempts.values()):
            attempt.decide(Ending.STOPPED)


async def _nothing(guest: Guest) -> None:
    return
