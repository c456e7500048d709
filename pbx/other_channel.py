"""A customer who waits goes on in another channel: the same contact, in its place, with all that is known of it."""

from __future__ import annotations

from dataclasses import replace
from secrets import token_hex

from config.errors import TheirError
from config.events import EventLog
from pbx.call_back import CallBacks
from pbx.calls import Calls
from pbx.chat import Chats
from pbx.contact import Channel, Contact, State
from pbx.open_contacts import OpenContacts
from pbx.policies import Policies, group_of
from pbx.staffing import Staffing
from pbx.store import Message, PbxStore


class OtherChannel:
    """Moves a waiting contact of the app between chat, voice and video."""

    def __init__(
        self,
        contacts: OpenContacts,
        calls: Calls,
        chats: Chats,
        call_backs: CallBacks,
        staffing: Staffing,
        policies: Policies,
        store: PbxStore,
        events: EventLog,
    ) -> None:
        self._contacts = contacts
        self._calls = calls
        self._chats = chats
        self._call_backs = call_backs
        self._staffing = staffing
        self._policies = policies
        self._store = store
        self._events = events
        self._moving: set[str] = set()  # contacts whose change is being stored

    @staticmethod
    def choices(contact: Contact) -> list[str]:
        """The channels that this contact may go on in."""
        if contact.state is not State.WAITING or not contact.facts.from_app:
            return []
        return [channel.value for channel in Channel if channel is not contact.channel]

    async def move(self, contact: Contact, channel: Channel) -> None:
        """Durable when this returns. A chat can be routed then; a call, once the page has called the contact's address.

        TheirError 409: it does not wait, or nobody can be reached so.
        """
        if channel is contact.channel and contact.call_back is None:
            return
        if contact.id in self._moving or self._call_backs.is_asking(contact.id):
            raise TheirError("That is being changed already. Please wait a moment.", 409)
        self._moving.add(contact.id)
        try:
            # Before anything is changed: should they not be readable, nothing is.
            lines = await self._store.messages(contact.id) if channel is Channel.CHAT else []
            await self._move(contact, channel, lines)
        finally:
            self._moving.discard(contact.id)

    async def _move(self, contact: Contact, channel: Channel, lines: list[Message]) -> None:
        if contact.state is not State.WAITING:
            raise TheirError("Somebody is with you, or is just being rung. Please stay here.", 409)
        if not contact.facts.from_app:
            raise TheirError("You called us by telephone: this goes on there.", 409)
        # Where nobody at all is at work, they may as well wait in the channel they like best.
        here = group_of(contact)
        there = replace(here, channel=channel.value)
        if self._staffing.outlook(there) == "none" != self._staffing.outlook(here):
            raise TheirError(f"Nobody who can help with this can be reached by {channel.value} now.", 409)
        before, queue, call_back = contact.facts, contact.queue, contact.call_back
        said = self._chats.lines(contact.id) or []
        if before.channel is Channel.CHAT:
            self._chats.shelve(contact)
        self._call_backs.forget(contact)
        self._contacts.set_routable(contact, False)
        contact.facts = replace(before, channel=channel)
        # Where it has overflowed to, or was passed on to, it stays: only what the channel chose is chosen anew.
        if queue == self._policies.queue_for(before):
            contact.queue = self._policies.queue_for(contact.facts)
        self._calls.let_go(contact, "they go on by another channel")
        try:
            await self._store.moved(contact)
        except BaseException:
            contact.facts, contact.queue = before, queue
            if call_back is not None and contact.state is State.WAITING:
                contact.call_back = call_back
                self._call_backs.resume(contact)
            else:
                self._begin(contact, said)
            raise
        self._events.write(
            "contact.channel_changed", contact=contact.id, before=before.channel.value, channel=channel.value
        )
        self._begin(contact, lines)
        self._contacts.tell(contact.id, "state", contact)

    def _begin(self, contact: Contact, lines: list[Message]) -> None:
        if not contact.open:
            return
        if contact.channel is Channel.CHAT:
            contact.session = contact.session or token_hex(16)
            if self._chats.lines(contact.id) is None:
                self._chats.open(contact, lines)
        elif self._calls.branch_of(contact.id) is None:
            self._calls.expect(contact)
