"""Somebody is asked for by name, for a contact that an agent has: a colleague, or a number outside."""

from __future__ import annotations

from config.errors import TheirError
from config.events import EventLog
from pbx.contact import Contact
from pbx.destination import Destination, Destinations
from pbx.dispatch import Dispatch, as_event
from pbx.invitation import Ringer
from pbx.prompt import Outcome, Prompt
from pbx.reservation import Reservation
from pbx.staffing import Phone


class ByName:
    """Holds and rings whom an agent has named. Whoever asks releases what was held."""

    def __init__(
        self, dispatch: Dispatch, destinations: Destinations, ringer: Ringer, events: EventLog
    ) -> None:
        self._dispatch = dispatch
        self._destinations = destinations
        self._ringer = ringer
        self._events = events

    async def hold(self, contact: Contact, destination: Destination) -> Reservation | None:
        """Hold the colleague; None for a number. TheirError 486 where they are not to be had."""
        if destination.agent_id is None:
            return None
        reservation = await self._dispatch.hold(contact, destination.agent_id)
        if reservation is None:
            raise TheirError("Busy Here", 486)
        return reservation

    def prompt(self, contact: Contact, giver: str, destination: Destination, phones: list[Phone]) -> Prompt:
        """What rings them, on the word of the agent `giver`; told as it begins."""
        contact.attempts += 1
        if destination.agent_id is not None:
            self._events.write("contact.reserved", contact=contact.id, agent=destination.agent_id, by=giver)
            return self._ringer(contact, destination.agent_id, named=True)
        assert destination.trunk is not None
        from_, headers = self._destinations.calling_card(destination.trunk)
        return self._ringer.outside(contact, phones[0], from_, headers)

    async def ring(self, contact: Contact, destination: Destination, prompt: Prompt) -> Outcome:
        outcome = await prompt.ring()
        kind, facts = as_event(outcome)
        if kind:
            self._events.write(kind, contact=contact.id, agent=destination.agent_id, **facts)
        return outcome


def wall(contact: Contact, destination: Destination) -> None:
    """TheirError 403 for a colleague who is not to see this provider's customers."""
    agent = destination.agent
    if agent is not None and not agent.serves(contact.facts.provider_id):
        raise TheirError("Not For That Provider", 403)
