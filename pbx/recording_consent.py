"""Who has agreed that a call is recorded: asked, said, stored, and taken back at any time.

    off        nobody is recorded
    announce   a prompt tells every caller before they wait; whoever stays agrees
    ask        a telephone caller is asked to press 1 or 2, and no key means no; a page asks at any time till the end
    always     nobody is asked, and it cannot be refused

A customer's word is an event, `contact.recording_consent`, which is durable before anything is recorded. It holds for
their contact, whoever serves it and whichever queue it is passed on to: who was promised that the call is not recorded
is not recorded where all others are, and who has only stayed after a notice has not said yes where that is asked for.
Of agents there is one for each of their legs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.logger import Logger

from config.errors import TheirError
from config.events import EventLog
from config.queue_settings import QueueSettings
from config.recording_settings import Recording
from pbx.calls import Calls
from pbx.contact import Channel, Contact, State
from pbx.open_contacts import OpenContacts
from pbx.reception import Guest

log = Logger()

KIND = "contact.recording_consent"
YES, NO = "1", "2"
ANSWER_S = 4.0
"""How long a caller has to press a key once the question is over."""
STAYED, SHOWN = "stayed after the notice", "shown in the page"
_SILENT = (STAYED, SHOWN)
_PAGE = 1000  # events


@dataclass(frozen=True, slots=True)
class _Word:
    """`silent`: they were told, and did not object; nothing was said."""

    given: bool
    silent: bool
    stored: asyncio.Future[None]


class Consents:
    """`settings` gives a queue's by its name. A step of the `Reception`."""

    def __init__(
        self,
        contacts: OpenContacts,
        calls: Calls,
        events: EventLog,
        *,
        settings: Callable[[str], QueueSettings],
    ) -> None:
        self._contacts = contacts
        self._calls = calls
        self._events = events
        self._settings = settings
        self._words: dict[str, _Word] = {}  # by contact, the customer's latest
        self.on_change: Callable[[Contact], None] = lambda contact: None
        self.has_page: Callable[[str], bool] = lambda contact_id: False
        """Whether a page of the customer's listens to this contact now, and so shows what is recorded."""
        contacts.on_ended.append(self._forget)

    def mode(self, contact: Contact) -> Recording:
        return Recording.OFF if contact.channel is Channel.CHAT else self._settings(contact.queue).recording

    def with_video(self, contact: Contact) -> bool:
        """Whether the pictures of a call are recorded, should there be any: they may join at any time."""
        return self._settings(contact.queue).recording_video

    def given(self, contact: Contact) -> bool | None:
        """What the customer has said; None: nothing yet, of what is asked in the queue they are in."""
        word = self._words.get(contact.id)
        if word is None or (word.silent and self.mode(contact) is Recording.ASK):
            return None
        return word.given

    def allows(self, contact: Contact) -> bool:
        """Whether this contact may be recorded, as things stand."""
        match self.mode(contact):
            case Recording.ALWAYS:
                return self.given(contact) is not False
            case Recording.ANNOUNCE | Recording.ASK:
                return self.given(contact) is True
            case _:
                return False

    async def durable(self, contact: Contact) -> None:
        """Returns when what `allows` relies on is stored. Raises what kept it from that."""
        word = self._words.get(contact.id)
        if word is not None:
            await asyncio.shield(word.stored)

    # What is said

    def say(self, contact: Contact, given: bool, how: str, **facts: Any) -> asyncio.Future[None]:
        """The customer's word from now on; durable when the future resolves. A no counts at once."""
        stored = self._events.write(
            KIND,
            contact=contact.id,
            party="customer",
            given=given,
            how=how,
            mode=self.mode(contact).value,
            call_id=self._call_id(contact),
            **facts,
        )
        stored.add_done_callback(_look)
        self._words[contact.id] = _Word(given, how in _SILENT, stored)
        self.on_change(contact)
        self._contacts.tell(contact.id, "state", contact)
        return stored

    async def from_page(self, contact: Contact, given: bool) -> None:
        """The customer says so in their page. TheirError 409 where nothing is asked."""
        self._may_say(contact)
        if self.given(contact) is not given:
            await self.say(contact, given, "page")

    async def told_agent(self, contact: Contact, given: bool, agent_id: str) -> None:
        """The customer has told their agent, who says so in theirs. TheirError 409 where nothing is asked."""
        self._may_say(contact)
        if self.given(contact) is not given:
            await self.say(contact, given, "told the agent", agent=agent_id)

    def _may_say(self, contact: Contact) -> None:
        mode = self.mode(contact)
        if not contact.open or mode is Recording.OFF:
            raise TheirError("This call is not recorded.", 409)
        if mode is Recording.ALWAYS:
            raise TheirError("Calls about this are always recorded; that cannot be changed in the call.", 409)

    def joined(self, contact: Contact, agent_id: str, call_id: str) -> asyncio.Future[None]:
        """A leg of an agent's is about to be recorded: they work on these terms, and their page says so. Durable when
        the future resolves."""
        return self._events.write(
            KIND, contact=contact.id, agent=agent_id, party="agent", given=True, how="terms of work",
            mode=self.mode(contact).value, call_id=call_id,
        )  # fmt: skip

    def connected(self, contact: Contact) -> None:
        """A contact is connected for the first time: what is known of its customer's consent without their word."""
        mode = self.mode(contact)
        if mode is Recording.ALWAYS:
            # They were not asked: that, too, is to be found afterwards.
            self._events.write(
                KIND, contact=contact.id, party="customer", given=None, how="not asked", mode=mode.value,
                call_id=self._call_id(contact),
            )  # fmt: skip
        elif self.has_page(contact.id):
            self._shown(contact)

    def page_came(self, contact_id: str) -> None:
        """A page of the customer's listens to this contact: it shows what is recorded of it."""
        contact = self._contacts.get(contact_id)
        if contact is not None and contact.state is State.CONNECTED:
            self._shown(contact)

    def _shown(self, contact: Contact) -> None:
        # Whoever was called back in their page has heard no prompt; the page shows it, and they can stop it there.
        unsaid = self.mode(contact) is Recording.ANNOUNCE and self.given(contact) is None
        if unsaid and contact.facts.from_app:
            self.say(contact, True, SHOWN)

    def _call_id(self, contact: Contact) -> str | None:
        leg = self._calls.customer_leg(contact)
        return leg.call.id if leg is not None else None

    # Before they wait

    def wants(self, contact: Contact) -> bool:
        if self.given(contact) is not None:
            return False
        match self.mode(contact):
            case Recording.ANNOUNCE:
                return True
            case Recording.ASK:
                return not contact.facts.from_app
            case _:
                return False

    async def meet(self, guest: Guest) -> None:
        contact = guest.contact
        if self.mode(contact) is Recording.ANNOUNCE:
            if await guest.hear("recording-notice") and self.given(contact) is None:
                self.say(contact, True, STAYED)  # what is recorded waits for it to be stored; they need not
            return
        key = await guest.choose("recording-ask", YES + NO, ANSWER_S)
        if guest.here and self.given(contact) is None:
            self.say(contact, key == YES, f"pressed {key}" if key else "pressed nothing")
            await guest.hear("recording-yes" if key == YES else "recording-no")

    async def tell_called_back(self, guest: Guest) -> None:
        """For `CallingBack`: who has just answered their telephone has perhaps heard no notice yet. They are asked
        nothing there: where a question is due, their page asks it, or their agent."""
        if self.mode(guest.contact) is Recording.ANNOUNCE and self.wants(guest.contact):
            await self.meet(guest)

    def _forget(self, contact: Contact) -> None:
        self._words.pop(contact.id, None)

    async def resume(self) -> None:
        """At start, once open contacts were taken up: what their customers have said before."""
        for contact in self._contacts:
            if self.mode(contact) is not Recording.OFF:
                await self._remember(contact)

    async def _remember(self, contact: Contact) -> None:
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        stored.set_result(None)
        after = 0
        while events := await self._events.read(contact=contact.id, after_seq=after, limit=_PAGE):
            after = events[-1].seq
            for event in events:
                facts = event.facts
                if event.kind == KIND and facts.get("party") == "customer" and facts.get("given") is not None:
                    word = _Word(facts["given"] is True, facts.get("how") in _SILENT, stored)
                    self._words[contact.id] = word


def _look(stored: asyncio.Future[None]) -> None:
    if not stored.cancelled() and (error := stored.exception()) is not None:
        why = getattr(error, "orig", error)  # without the statement, in which the event stands
        log.error("What a customer said of recording is not stored, so nothing is recorded: {why}", why=why)
