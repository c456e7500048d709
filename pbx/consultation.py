"""Consultations: an agent asks a colleague, or a number, about a customer who hears music meanwhile.

    ringing     whoever is asked is rung; the agent waits
    talking     the two hear each other
    conferred   all three hear each other

and each ends in one of these ways, whatever happens in it:

    completed   the customer goes on with whom was asked, the agent writes up: said so, or left a conference
    cancelled   the agent has the customer again: said so; nobody took it; whoever was asked hung up
    left        the agent went before the three were together: the customer is back in the queue, in their place
    over        the customer went, or the server stops, or media failed: everybody is let go
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from twisted.logger import Logger

from config.bridge import spawn
from config.errors import TheirError, WarmlineError
from config.events import EventLog
from media.server import MediaServer
from pbx.bridge import Bridge
from pbx.by_name import ByName
from pbx.calls import Calls
from pbx.contact import Contact, State
from pbx.destination import Destination, Destinations
from pbx.dispatch import Dispatch
from pbx.leg import Gone, Leg, LegEvent
from pbx.open_contacts import OpenContacts
from pbx.other_phone import Claims
from pbx.prompt import Prompt, Taken, status_of
from pbx.reservation import Reservation

log = Logger()


class Stage(StrEnum):
    RINGING = "ringing"
    TALKING = "talking"
    CONFERRED = "conferred"


class Ending(StrEnum):
    """Why it does not go on; what follows is said at the top."""

    COMPLETED = "completed"
    CANCELLED = "cancelled"
    NOT_TAKEN = "not_taken"
    HUNG_UP = "hung_up"  # whoever was asked
    AGENT_LEFT = "agent_left"
    AGENT_LEFT_CONFERENCE = "agent_left_conference"
    OVER = "over"


@dataclass(slots=True, eq=False)
class Consultation:
    """`giver` is the agent whose customer it is, `destination` whom they ask, and `leg` that one's call."""

    contact: Contact
    giver: str
    destination: Destination
    stage: Stage = Stage.RINGING
    prompt: Prompt | None = None
    reservation: Reservation | None = None
    leg: Leg | None = None
    agent_gone: bool = False
    status: int = 480  # what whoever was asked said, as SIP says it
    ending: asyncio.Future[Ending] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def end(self, ending: Ending) -> None:
        """The first ending counts; what rings then, rings no longer."""
        if not self.ending.done():
            self.ending.set_result(ending)
            if self.prompt is not None:
                self.prompt.withdraw(ending)


class Consultations:
    """`claims` are shared with transfers: of one contact, one thing at a time."""

    def __init__(
        self,
        contacts: OpenContacts,
        calls: Calls,
        dispatch: Dispatch,
        destinations: Destinations,
        by_name: ByName,
        media: MediaServer,
        events: EventLog,
        claims: Claims,
    ) -> None:
        self._contacts = contacts
        self._calls = calls
        self._dispatch = dispatch
        self._destinations = destinations
        self._by_name = by_name
        self._media = media
        self._events = events
        self._claims = claims
        self._open: dict[str, Consultation] = {}
        self.on_failed: Callable[[Contact, Destination, int], None] = lambda contact, destination, status: (
            None
        )
        """Nobody took it, or whoever was asked hung up, and the agent has the customer again; by which SIP status."""
        self.on_conferred: Callable[[Contact, str], None] = lambda contact, branch: None
        """All three hear each other; the branch of whom was asked."""
        contacts.on_ended.append(self._contact_ended)

    def of(self, contact_id: str) -> Consultation | None:
        return self._open.get(contact_id)

    def asked_about(self, agent_id: str) -> list[Contact]:
        """The contacts this agent is being asked about by a colleague."""
        return [each.contact for each in self._open.values() if each.destination.agent_id == agent_id]

    # What the agent asks for

    def begin(self, contact: Contact, giver: str, destination: Destination) -> Consultation:
        """Ring them while the customer hears music.

        TheirError 480 or 486 for a colleague who cannot be rung, 491 while something else is done with the contact.
        """
        phones = self._destinations.phones(destination, giver)
        self._claims.take(contact.id)
        consultation = self._open[contact.id] = Consultation(contact, giver, destination)
        self._calls.set_aside(
            contact, lambda: self._agent_left(consultation), lambda: self._customer_came_back(consultation)
        )
        self._tell("contact.consulting", consultation, to=destination.shown, to_agent=destination.agent_id)

        async def story() -> None:
            try:
                consultation.reservation = await self._by_name.hold(contact, destination)
                await self._calls.play_music(contact)
                if not consultation.ending.done():
                    consultation.prompt = self._by_name.prompt(contact, giver, destination, phones)
                    outcome = await self._by_name.ring(contact, destination, consultation.prompt)
                    consultation.status = status_of(outcome)
                    if isinstance(outcome, Taken):
                        await self._answered(consultation, outcome.leg)
                    consultation.end(Ending.NOT_TAKEN)  # unless it was, and has ended since
            except WarmlineError as error:
                consultation.status = error.status
                consultation.end(Ending.NOT_TAKEN)
            finally:
                await self._finish(consultation)

        spawn(story(), f"consulting about {contact.id}")
        return consultation

    def complete(self, contact: Contact) -> None:
        """The customer goes on with whom was asked. TheirError 409 before they have answered."""
        self._answered_one(contact).end(Ending.COMPLETED)

    def cancel(self, contact: Contact) -> None:
        """Whoever was asked is let go, and the agent has the customer again; also out of a conference."""
        consultation = self._open.get(contact.id)
        if consultation is not None:
            consultation.end(Ending.CANCELLED)

    async def confer(self, contact: Contact) -> None:
        """All three hear each other from now on. TheirError 409 before they have answered, and what media says."""
        consultation = self._answered_one(contact)
        if consultation.stage is Stage.CONFERRED:
            return
        consultation.stage = Stage.CONFERRED
        try:
            await self._mix(consultation)
        except WarmlineError:
            if not consultation.ending.done():
                consultation.stage = Stage.TALKING
                await self._join_the_two(consultation)
            raise
        self._tell("contact.conferenced", consultation, **{"with": consultation.destination.shown})

    def _answered_one(self, contact: Contact) -> Consultation:
        consultation = self._open.get(contact.id)
        if consultation is None or consultation.ending.done():
            raise TheirError("You are not asking anybody about this contact.", 409)
        if consultation.stage is Stage.RINGING:
            raise TheirError("They have not answered yet.", 409)
        return consultation

    # Answered, and what is heard

    async def _answered(self, consultation: Consultation, leg: Leg) -> None:
        """Returns when it is over, or at once if the two could not be joined."""
        consultation.leg, consultation.status = leg, 480
        reservation = consultation.reservation
        leg.on_event = lambda event: self._heard(consultation, event)
        if not leg.alive or consultation.ending.done():
            return
        if reservation is not None and not reservation.accepted():
            return
        if not await self._join_the_two(consultation):
            consultation.status = 488
            return
        consultation.stage = Stage.TALKING
        self._tell("contact.consulted", consultation, call_id=leg.call.id)
        await asyncio.wait([consultation.ending])

    async def _join_the_two(self, consultation: Consultation) -> bool:
        agent, asked = self._calls.agent_leg(consultation.contact), consultation.leg
        if agent is None or asked is None:
            return False
        return await Bridge(self._media, consultation.contact.id, agent, asked).join()

    async def _mix(self, consultation: Consultation) -> None:
        contact, asked = consultation.contact, consultation.leg
        customer, agent = self._calls.branch_of(contact.id), self._calls.agent_leg(contact)
        if customer is None or agent is None or asked is None:
            raise TheirError("Somebody has just hung up.", 409)
        await self._media.confer(contact.id, [customer, agent.branch, asked.branch])
        self.on_conferred(contact, asked.branch)

    async def _customer_came_back(self, consultation: Consultation) -> None:
        """A page that was loaded again calls again: by then they are in the conference, or hear music."""
        try:
            if consultation.stage is Stage.CONFERRED and not consultation.ending.done():
                await self._mix(consultation)
                return
        except WarmlineError as error:
            log.warn("{id} is not in the conference: {error}", id=consultation.contact.id, error=error.reason)
        await self._calls.play_music(consultation.contact)

    # What the others do

    def _heard(self, consultation: Consultation, event: LegEvent) -> None:
        if isinstance(event, Gone):
            consultation.end(Ending.HUNG_UP)

    def _agent_left(self, consultation: Consultation) -> None:
        consultation.agent_gone = True
        together = consultation.stage is Stage.CONFERRED
        consultation.end(Ending.AGENT_LEFT_CONFERENCE if together else Ending.AGENT_LEFT)

    def _contact_ended(self, contact: Contact) -> None:
        consultation = self._open.get(contact.id)
        if consultation is not None:
            consultation.end(Ending.OVER)
            # At once: the contact's media goes now, and nobody is to listen to nothing.
            self._let_go(consultation)

    def media_gone(self, call: str, branch: str, why: str) -> None:
        """MediaServer: nothing comes from this branch any more."""
        consultation = self._open.get(call)
        if consultation is not None and consultation.leg is not None and consultation.leg.branch == branch:
            consultation.leg.end("nothing is heard")
            consultation.end(Ending.HUNG_UP)

    # The end

    async def _finish(self, consultation: Consultation) -> None:
        contact = consultation.contact
        consultation.end(Ending.OVER)
        ending = consultation.ending.result()
        passed_on = False
        try:
            if ending in (Ending.COMPLETED, Ending.AGENT_LEFT_CONFERENCE):
                passed_on = await self._hand_over(consultation, ending)
        finally:
            self._open.pop(contact.id, None)
            self._claims.drop(contact.id)
            if not passed_on:
                await self._give_back(consultation, ending)
            self._tell(
                "contact.consultation_ended",
                consultation,
                how=ending.value,
                status=consultation.status if ending is Ending.NOT_TAKEN else None,
            )

    async def _hand_over(self, consultation: Consultation, ending: Ending) -> bool:
        contact, leg, destination = consultation.contact, consultation.leg, consultation.destination
        if leg is None or not leg.alive:
            return False

        def decide() -> bool:
            if not self._dispatch.hand_over(contact, consultation.reservation):
                return False
            self._contacts.transferred(
                contact,
                destination.agent_id,
                from_agent=consultation.giver,
                to=destination.shown,
                through=destination.trunk_name,
                how="conference" if ending is Ending.AGENT_LEFT_CONFERENCE else "consulted",
                call_id=leg.call.id,
                session=contact.session,
            )
            return True

        return contact.open and await self._calls.take_over(contact, leg, decide)

    async def _give_back(self, consultation: Consultation, ending: Ending) -> None:
        contact = consultation.contact
        self._let_go(consultation)
        if not contact.open or contact.state is not State.CONNECTED:
            return
        if consultation.agent_gone or self._calls.agent_leg(contact) is None:
            self._dispatch.let_go(contact)
            self._calls.back_to_queue(contact, consultation.giver)
            return
        await self._calls.give_back(contact)
        if ending in (Ending.NOT_TAKEN, Ending.HUNG_UP) and contact.open:
            self.on_failed(contact, consultation.destination, consultation.status)

    def _let_go(self, consultation: Consultation) -> None:
        leg, consultation.leg = consultation.leg, None
        if leg is not None:
            leg.on_event = None
            leg.end("the consultation is over")
        if consultation.reservation is not None:
            consultation.reservation.release()

    def _tell(self, kind: str, consultation: Consultation, **facts: Any) -> None:
        self._events.write(
            kind,
            contact=consultation.contact.id,
            agent=consultation.giver,
            session=consultation.contact.session,
            **facts,
        )
