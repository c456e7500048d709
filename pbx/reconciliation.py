"""Whether everybody who is held is held by something: what must never be otherwise, looked at every few seconds.

An agent who is Reserved or Talking while no offer and no call is left that says so would be asked for nothing more,
and nobody would know why. Whoever is found so twice in a row is let go of, and it is said loudly.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from agent_presence.agent_state import AgentStates
from config.events import EventLog
from pbx.contact import Contact, Disposition, State
from pbx.open_contacts import OpenContacts
from sip_trunk.deadlines import Deadline, Deadlines

log = Logger()

EVERY_S = 5.0


class Reconciliation:
    """`accounts_for` says whether something here holds this agent for this contact."""

    def __init__(
        self,
        states: AgentStates,
        contacts: OpenContacts,
        events: EventLog,
        deadlines: Deadlines,
        accounts_for: Callable[[str, Contact], bool],
    ) -> None:
        self._states = states
        self._contacts = contacts
        self._events = events
        self._deadlines = deadlines
        self._accounts_for = accounts_for
        self._suspects: set[tuple[str, str]] = set()
        self._next: Deadline | None = None

    def start(self) -> None:
        self._next = self._deadlines.after(EVERY_S, self._look)

    def stop(self) -> None:
        if self._next is not None:
            self._next.cancel()

    def say_stuck(self, agent_id: str, contact_id: str, why: str) -> None:
        """An agent was held by a fault of ours."""
        log.error(
            "{agent} was stuck with {contact}, a fault of ours: {why}",
            agent=agent_id,
            contact=contact_id,
            why=why,
        )
        self._events.write("agent.released_stuck", agent=agent_id, contact=contact_id, why=why)

    def _look(self) -> None:
        self.start()
        suspects: set[tuple[str, str]] = set()
        for record in self._states.held():
            for contact_id in record.active:
                contact = self._contacts.get(contact_id)
                if contact is not None and self._accounts_for(record.agent_id, contact):
                    continue
                who = record.agent_id, contact_id
                if who not in self._suspects:
                    suspects.add(who)  # it may be over in a moment
                    continue
                try:
                    self._free(record.agent_id, contact_id, contact)
                except Exception:  # the others are looked at all the same, and this one again
                    log.failure("{agent} could not be let go of", agent=record.agent_id)
                    suspects.add(who)
        self._suspects = suspects

    def _free(self, agent_id: str, contact_id: str, contact: Contact | None) -> None:
        self.say_stuck(agent_id, contact_id, "nothing here holds them")
        try:
            if contact is not None and contact.agent_id == agent_id:
                if contact.state is State.CONNECTED:
                    # The customer is on the line, and nobody with them.
                    self._contacts.end(contact, Disposition.AGENT_LOST, reason="the agent's call is gone")
                elif contact.state is State.RINGING:
                    self._contacts.back(contact)
        finally:
            self._states.release(agent_id, contact_id, reason="held by nothing")
