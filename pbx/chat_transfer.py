"""A chat goes to a colleague: they are rung as for any chat, and it stays with the agent who has it until they answer.

taken                           the lines go along; who had it writes up
declined, no answer, called off the agent has it as before
the chat has ended, or its agent has gone meanwhile: nobody is rung any more
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from config.bridge import spawn
from config.errors import TheirError, WarmlineError
from config.events import EventLog
from pbx.by_name import ByName
from pbx.chat import Chats
from pbx.contact import Channel, Contact, State
from pbx.destination import Destination
from pbx.dispatch import Dispatch
from pbx.open_contacts import OpenContacts
from pbx.other_phone import Claims
from pbx.prompt import Outcome, Prompt, Taken, Withdrawn, status_of
from pbx.reservation import Reservation
from pbx.staffing import Staffing


class Told(Protocol):
    """Whoever asked: `finish` is told once how it went, as SIP says it (200: taken)."""

    def finish(self, status: int) -> None: ...


@dataclass(slots=True, eq=False)
class _Passing:
    contact: Contact
    giver: str
    destination: Destination
    told: Told
    prompt: Prompt | None = None
    over: bool = False

    def give_up(self, why: str) -> None:
        self.over = True
        if self.prompt is not None:
            self.prompt.withdraw(why)

    @property
    def theirs(self) -> bool:
        """Whether the agent who asked still has it."""
        return self.contact.state is State.CONNECTED and self.contact.agent_id == self.giver


class ChatTransfers:
    def __init__(
        self,
        contacts: OpenContacts,
        chats: Chats,
        dispatch: Dispatch,
        staffing: Staffing,
        by_name: ByName,
        events: EventLog,
        claims: Claims,
    ) -> None:
        self._contacts = contacts
        self._chats = chats
        self._dispatch = dispatch
        self._staffing = staffing
        self._by_name = by_name
        self._events = events
        self._claims = claims
        self._open: dict[str, _Passing] = {}
        contacts.on_ended.append(self._ended)
        contacts.on_waiting.append(self._waiting_changed)

    def begin(self, contact: Contact, giver: str, destination: Destination, told: Told) -> None:
        """Ring the colleague. TheirError 480 where none of their phones is here, 491 while it is done already."""
        agent_id = destination.agent_id
        if agent_id is None or agent_id == giver:
            raise TheirError("A Colleague Only", 403)
        phones = self._staffing.phones(agent_id, Channel.CHAT)
        if not phones:
            raise TheirError("No Phone Is Registered", 480)
        self._claims.take(contact.id)
        passing = self._open[contact.id] = _Passing(contact, giver, destination, told)
        self._tell("contact.transfer_requested", passing, how="blind")

        async def story() -> None:
            reservation: Reservation | None = None
            status = 500
            try:
                reservation = await self._by_name.hold(contact, destination)
                outcome: Outcome = Withdrawn("the chat has ended")
                if passing.theirs and not passing.over:
                    passing.prompt = self._by_name.prompt(contact, giver, destination, phones)
                    outcome = await self._by_name.ring(contact, destination, passing.prompt)
                status = status_of(outcome)
                if isinstance(outcome, Taken):
                    taken = self._chats.take_over(
                        contact, outcome, lambda: self._decide(passing, reservation)
                    )
                    status = 200 if taken else 487
            except WarmlineError as error:
                status = error.status
            finally:
                del self._open[contact.id]
                self._claims.drop(contact.id)
                if status != 200:
                    if reservation is not None:
                        reservation.release()
                    then = "with the agent still" if passing.theirs else "elsewhere"
                    self._tell("contact.transfer_failed", passing, status=status, then=then)
                told.finish(status)

        spawn(story(), f"passing on {contact.id}")

    def call_off(self, contact: Contact) -> bool:
        """Whoever is rung is rung no longer. False: nothing was under way."""
        return self._given_up(contact.id, "the agent thought better of it")

    def _decide(self, passing: _Passing, reservation: Reservation | None) -> bool:
        contact = passing.contact
        if not passing.theirs or passing.over or not self._dispatch.hand_over(contact, reservation):
            return False
        self._contacts.transferred(
            contact,
            passing.destination.agent_id,
            from_agent=passing.giver,
            to=passing.destination.shown,
            through=None,
            how="blind",
            session=contact.session,
        )
        return True

    def _given_up(self, contact_id: str, why: str) -> bool:
        passing = self._open.get(contact_id)
        if passing is not None:
            passing.give_up(why)
        return passing is not None

    def _ended(self, contact: Contact) -> None:
        self._given_up(contact.id, "the chat has ended")

    def _waiting_changed(self, contact: Contact) -> None:
        if contact.state is State.WAITING:
            self._given_up(contact.id, "the agent has left")

    def _tell(self, kind: str, passing: _Passing, **facts: Any) -> None:
        self._events.write(
            kind,
            contact=passing.contact.id,
            agent=passing.giver,
            to=passing.destination.shown,
            to_agent=passing.destination.agent_id,
            session=passing.contact.session,
            **facts,
        )
