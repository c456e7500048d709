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
from pbx.policies import group_of
from pbx.staffing import Staffing
from pbx.store import PbxStore


class OtherChannel:
    """Moves a waiting contact of the app between chat, voice and video."""

    def __init__(
        self,
        contacts: OpenContacts,
        calls: Calls,
        chats: Chats,
        call_backs: CallBacks,
        staffing: Staffing,
        store: PbxStore,
        events: EventLog,
    ) -> None:
        self._contacts = contacts
        self._calls = calls
        self._chats = chats
        self._call_backs = call_backs
        self._staffing = staffing
        self._store = store
        self._events = events

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
        if contact.state is not State.WAITING:
            raise TheirError("Somebody is with you, or is just being rung. Please stay here.", 409)
        if not contact.facts.from_app:
            raise TheirError("You called us by telephone: this goes on there.", 409)
        # Where nobody at all is at work, they may as well wait in the channel they like best.
        here = group_of(contact)
        there = replace(here, channel=channel.value)
        if self._staffing.outlook(there) == "none" != self._staffing.outlook(here):
            raise TheirError(f"Nobody who can help with this can be reached by {channel.value} now.", 409)
        before = contact.facts
        if before.channel is Channel.CHAT:
            self._chats.shelve(contact)
        self._call_backs.forget(contact)
        self._contacts.set_routable(contact, False)
        contact.facts = replace(before, channel=channel)
        self._calls.let_go(contact, "they go on by another channel")
        try:
            await self._store.moved(contact)
        except BaseException:
            contact.facts = before
            await self._begin(contact)
            raise
        self._events.write(
            "contact.channel_changed", contact=contact.id, before=before.channel.value, channel=channel.value
        )
        await self._begin(contact)
        self._contacts.tell(contact.id, "state", contact)

    async def _begin(self, contact: Contact) -> None:
        if contact.channel is Channel.CHAT:
            contact.session = contact.session or token_hex(16)
            lines = await self._store.messages(contact.id)
            if contact.open:
                self._chats.open(contact, lines)
        elif contact.open and self._calls.branch_of(contact.id) is None:
            self._calls.expect(contact)
