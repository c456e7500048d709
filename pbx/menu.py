"""What a telephone caller may press while they wait: 1 to be called back, 2 to leave a message.

A page shows its customer the same as buttons. Keys come as RFC 4733 events or by INFO; they count once they have been
offered, and one that is pressed while an agent is being rung counts when that agent does not answer.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from config.bridge import spawn
from config.errors import WarmlineError
from config.events import EventLog
from config.queue_settings import Overflow, QueueSettings
from pbx.call_back import CallBacks
from pbx.calls import Calls
from pbx.contact import Contact, State
from pbx.open_contacts import OpenContacts
from pbx.voicemail import Voicemails

log = Logger()

CALL_BACK, MESSAGE = "1", "2"
OFFERS = {CALL_BACK: "callback-offer", MESSAGE: "voicemail-offer"}


class Menu:
    """`settings` gives a queue's by its name."""

    def __init__(
        self,
        contacts: OpenContacts,
        calls: Calls,
        call_backs: CallBacks,
        voicemails: Voicemails,
        events: EventLog,
        *,
        settings: Callable[[str], QueueSettings],
    ) -> None:
        self._calls = calls
        self._call_backs = call_backs
        self._voicemails = voicemails
        self._events = events
        self._settings = settings
        # By contact, while an agent is being rung: the last key, and the stay in which it was pressed.
        self._wanted: dict[str, tuple[str, object]] = {}
        self._asking: set[str] = set()  # contacts for which a call back is being asked
        calls.on_keys = self.pressed
        calls.room.offers = self.offers
        contacts.on_waiting.append(self._waiting_changed)
        contacts.on_ended.append(self._contact_ended)

    def offers(self, contact: Contact) -> tuple[str, ...]:
        """The prompts that tell a caller of their keys."""
        return tuple(OFFERS[key] for key in OFFERS if self._may(contact, key))

    def pressed(self, contact: Contact, key: str) -> None:
        """A customer who hears no agent has pressed a key."""
        if contact.id in self._voicemails:
            self._voicemails.pressed(contact, key)
        elif key not in OFFERS or not self._calls.room.offered(contact.id):
            return
        elif contact.state is State.RINGING:
            self._wanted[contact.id] = key, self._calls.room.stay(contact.id)
        else:
            self._do(contact, key)

    def _may(self, contact: Contact, key: str) -> bool:
        if contact.facts.from_app or contact.call_back is not None:
            return False
        if key == CALL_BACK:
            number = contact.facts.number
            return bool(number) and self._call_backs.may_ask(contact, number)
        overflow = self._settings(contact.queue).overflow
        return overflow is Overflow.VOICEMAIL and self._voicemails.may_take(contact)

    def _do(self, contact: Contact, key: str) -> None:
        if contact.id in self._asking or not self._may(contact, key):
            return
        self._events.write("contact.key_pressed", contact=contact.id, key=key, offered=OFFERS[key])
        if key == CALL_BACK:
            self._asking.add(contact.id)  # at once: the next key may be here already
            spawn(self._call_back(contact), f"the call back of {contact.id}")
        else:
            self._voicemails.take(contact)

    async def _call_back(self, contact: Contact) -> None:
        try:
            await self._call_backs.ask(contact, contact.facts.number)
        except WarmlineError as error:
            # They wait on, and hear music on.
            log.info("{id} asked in vain to be called back: {error}", id=contact.id, error=error.reason)
            return
        finally:
            self._asking.discard(contact.id)
        self._calls.room.leave(contact.id)
        await self._call_backs.farewell(contact)

    def _waiting_changed(self, contact: Contact) -> None:
        if contact.state is State.WAITING:
            key, stay = self._wanted.pop(contact.id, ("", None))
            # Who has talked to an agent meanwhile wanted it before that.
            if key and stay is self._calls.room.stay(contact.id):
                self._do(contact, key)

    def _contact_ended(self, contact: Contact) -> None:
        self._wanted.pop(contact.id, None)
