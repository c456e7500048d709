"""Whose customer hears music although they have an agent: on hold, passed on just now, or a colleague is asked."""

from __future__ import annotations

from config.events import Event, EventLog
from pbx.calls import Calls
from pbx.contact import Channel, Contact, State
from pbx.open_contacts import OpenContacts

HEAR_EACH_OTHER = {
    "contact.connected": True,
    "contact.held": False,
    "contact.unheld": True,
    "contact.consulting": False,
    "contact.conferenced": True,
    "contact.consultation_ended": True,
    "contact.transfer_requested": False,
    "contact.transfer_failed": True,
    "contact.transferred": True,
}
"""Whether customer and agent hear each other, after these events."""
_PHONE_KEYS = ("contact.phone_held", "contact.phone_unheld")


class OnHold:
    """Called with a contact, says whether its customer is on hold. Whoever listens to the contact is told when that
    changes."""

    def __init__(self, contacts: OpenContacts, calls: Calls, events: EventLog) -> None:
        self._contacts = contacts
        self._calls = calls
        self._apart: set[str] = set()
        events.subscribe(self._happened, (*HEAR_EACH_OTHER, *_PHONE_KEYS))
        contacts.on_ended.append(lambda contact: self._apart.discard(contact.id))

    def __call__(self, contact: Contact) -> bool:
        if contact.state is not State.CONNECTED or contact.channel is Channel.CHAT:
            return False
        agent = self._calls.agent_leg(contact)
        # A phone's own key is its leg's affair: whoever has the customer next holds nobody.
        return contact.id in self._apart or (agent is not None and agent.holds)

    def _happened(self, event: Event) -> None:
        contact = self._contacts.get(event.contact) if event.contact is not None else None
        if contact is None:
            return
        before = contact.id in self._apart
        apart = not HEAR_EACH_OTHER.get(event.kind, not before)
        if apart:
            self._apart.add(contact.id)
        else:
            self._apart.discard(contact.id)
        if apart is not before or event.kind in _PHONE_KEYS:
            self._contacts.tell(contact.id, "state", contact)
