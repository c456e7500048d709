"""Call backs: a customer hangs up, their contact waits on in its place, and when an agent has it they are called.

    asked -> waits without a leg -> an agent answers -> the customer is called -> answered: joined
                  ^                                          |
                  +---- two minutes later, three times ------+ not answered

The agent comes first: whoever is called back must never be the one who waits again. The customer is called in their
page, which then INVITEs the contact's address as it would have done at first, or by a trunk, by telephone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from secrets import token_hex
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from config.bridge import spawn
from config.errors import TheirError, WarmlineError
from config.events import EventLog
from config.queue_settings import QueueSettings
from kb_portal.customer import Customer
from media.server import MediaServer
from pbx.calling_back import NOT_ANSWERED, CallingBack, Ending
from pbx.calls import Calls
from pbx.contact import CallBack, Channel, Contact, Disposition, State
from pbx.open_contacts import OpenContacts
from pbx.prompt import Taken
from pbx.store import PbxStore

log = Logger()

ATTEMPTS = 3
AGAIN_S = 120.0
# For a caller to hear that they will be called back; they are hung up on then, whoever forgot it.
GOODBYE_S = 20.0
MOST_OF_ONE_NUMBER = 3
"""Call backs that one number is owed at a time: whose it is, only the telephone network has told us."""
# An INVITE sent before the call back was asked for may come after it.
ON_ITS_WAY_S = 5.0
# Till the media process is back.
MEDIA_BACK_S = 5.0


class CallBacks:
    """`now` is wall time in epoch seconds. `settings` gives a queue's by its name, `customer` who has that id;
    `again_s` seconds after nobody answered they are called again."""

    def __init__(
        self,
        contacts: OpenContacts,
        calls: Calls,
        calling: CallingBack,
        media: MediaServer,
        store: PbxStore,
        events: EventLog,
        clock: IReactorTime,
        now: Callable[[], float],
        *,
        settings: Callable[[str], QueueSettings],
        customer: Callable[[str | None], Awaitable[Customer | None]],
        again_s: float = AGAIN_S,
    ) -> None:
        self._contacts = contacts
        self._calls = calls
        self._calling = calling
        self._media = media
        self._store = store
        self._events = events
        self._clock = clock
        self._now = now
        self._settings = settings
        self._customer = customer
        self._again_s = again_s
        self._timers: dict[str, IDelayedCall] = {}  # by contact: it is routed, or its caller let go, then
        self._asking: set[str] = set()  # contacts whose wish is being stored
        self._numbers: dict[str, str] = {}  # by contact: the number on file of its customer
        self._by_phone: set[str] = set()  # contacts whose customer we have called by telephone
        self._owed: dict[str, str] = {}  # by contact, the number that is to be called
        self._stopped = False
        calling.on_telephone = self._on_telephone
        contacts.on_ended.append(self._contact_ended)
        calls.on_arrived = self._arrived
        calls.on_let_go = self._let_go

    # Before: what may be asked for

    def know(self, contact: Contact, customer: Customer | None) -> None:
        """Whose contact it is: the number that they have proved may be called."""
        if customer is not None and customer.phone is not None and customer.phone_proved:
            self._numbers[contact.id] = customer.phone

    def number_of(self, contact: Contact) -> str | None:
        """The one telephone number this customer may be called back at; None: there is none that can be called."""
        number = contact.facts.number or self._numbers.get(contact.id, "")
        return number if number and self._calling.destination(number) is not None else None

    def may_ask(self, contact: Contact, number: str = "") -> bool:
        """Whether `ask` would be granted, as far as can be said at once."""
        try:
            self._allowed(contact)
        except TheirError:
            return False
        if not number:
            return contact.facts.customer_id is not None
        return (
            number in (contact.facts.number, self._numbers.get(contact.id))
            and self._calling.destination(number) is not None
            and not self._owed_enough(contact, number)
        )

    def is_asking(self, contact_id: str) -> bool:
        """Whether the wish to be called back is being stored just now."""
        return contact_id in self._asking

    def is_by_phone(self, contact: Contact) -> bool:
        """Whether the customer speaks, or will, by a telephone: their page has no call to make then."""
        by_trunk = not contact.facts.from_app
        to_be_called = contact.call_back is not None and bool(contact.call_back.number)
        return by_trunk or to_be_called or contact.id in self._by_phone

    def view(self, contact: Contact) -> dict[str, Any] | None:
        """How things stand with the call back of this contact, as its customer is shown it."""
        call_back = contact.call_back
        if call_back is None:
            return None
        return {
            "way": "phone" if call_back.number else "app",
            "number": masked(call_back.number) if call_back.number else None,
            "calling": contact.id in self._calling,
            "again_at": call_back.not_before if call_back.not_before > self._now() else None,
            "attempts": call_back.attempts,
        }

    # Asking

    async def ask(self, contact: Contact, number: str) -> None:
        """The customer will be called back, at `number` or ("") in their page; durable when this returns.

        A customer of the app is hung up on; a caller stays on the line until `Calls.let_go`, so that they can be told.
        TheirError 403 for a number that is not known to be theirs, 409 where there is nothing to be had.
        """
        await self._theirs(contact, number)
        self._allowed(contact)
        before, was_routable = contact.call_back, contact.routable
        if before is not None and before.number == number:
            return
        if contact.id in self._asking:
            raise TheirError("You have just asked for that. Please wait a moment.", 409)
        # From here on no agent is found for it, until the customer's own leg is out of the way.
        # Whoever could begin anew by asking otherwise would have agents wait on the line without end.
        contact.call_back = CallBack(
            number, self._now(), attempts=before.attempts if before is not None else 0
        )
        self._owe(contact)
        self._asking.add(contact.id)
        self._contacts.set_routable(contact, False)
        # A video call back would ring an agent's phone without pictures: there is nobody yet whose codecs to offer.
        asked_for, contact.facts = contact.facts, replace(contact.facts, channel=Channel.VOICE)
        self._keep_session(contact)
        try:
            stored = self._store.moved(contact)
            # In the commit that keeps the promise: a crash leaves both or neither.
            way = "phone" if number else "app"
            self._events.write("contact.call_back_asked", contact=contact.id, way=way, number=number or None)
            await stored
        except BaseException:
            contact.call_back, contact.facts = before, asked_for
            self._owe(contact)
            self._events.write(
                "contact.call_back_cancelled", contact=contact.id, why="it could not be stored"
            )
            if self._calls.branch_of(contact.id) is not None or before is not None:
                self._contacts.set_routable(contact, was_routable)
            elif contact.open:
                self._calls.expect(contact)
            raise
        finally:
            self._asking.discard(contact.id)
        if not contact.open:
            raise TheirError("This contact has ended.", 409)
        if contact.call_back is None:
            raise TheirError("You are on the line again.", 409)
        if self._calls.branch_of(contact.id) is not None and not contact.facts.from_app:
            self._wake_after(contact, GOODBYE_S, self._calls.let_go, contact, "they are called back")
        else:
            self._calls.let_go(contact, "they are called back")
        self._contacts.tell(contact.id, "state", contact)

    async def farewell(self, contact: Contact) -> None:
        """Tell a caller who is still on the line that they will be called back, and hang up."""
        branch = self._calls.branch_of(contact.id)
        if branch is None:
            return
        try:
            length_s = await self._media.play(contact.id, branch, "callback-taken")
        except WarmlineError:
            length_s = 0.0
        if contact.open and contact.call_back is not None and self._calls.branch_of(contact.id) == branch:
            self._wake_after(contact, length_s, self._calls.let_go, contact, "they are called back")

    def overflow(self, contact: Contact) -> bool:
        """A contact has waited as long as it may: from now on it waits to be called back. False: it cannot be."""
        if contact.call_back is not None:
            return True
        number = "" if contact.facts.from_app else self.number_of(contact)
        if contact.channel is Channel.CHAT or number is None or contact.state is not State.WAITING:
            return False
        spawn(self._overflow(contact, number), f"the call back of {contact.id}")
        return True

    async def _overflow(self, contact: Contact, number: str) -> None:
        try:
            await self.ask(contact, number)
            await self.farewell(contact)
        except WarmlineError as error:
            log.info("{id} is not called back: {error}", id=contact.id, error=error.reason)
            self._contacts.end(contact, Disposition.NO_AGENT)

    async def cancel(self, contact: Contact) -> None:
        """They would rather wait on the line: their page calls the contact's address next. TheirError 409."""
        if contact.call_back is None:
            return
        if contact.state is not State.WAITING or contact.id in self._asking:
            raise TheirError("We are calling you back this very moment.", 409)
        if not contact.facts.from_app:
            raise TheirError("You called us by telephone: please wait for our call, or call again.", 409)
        call_back = contact.call_back
        self.forget(contact)
        self._contacts.set_routable(contact, False)
        stored = self._store.moved(contact)
        self._events.write("contact.call_back_cancelled", contact=contact.id)
        try:
            await stored
        except BaseException:
            if self._is_left_alone(contact):
                contact.call_back = call_back
                self._owe(contact)
                self._wait(contact)
            raise
        if self._is_left_alone(contact):
            self._calls.expect(contact)
            self._contacts.tell(contact.id, "state", contact)

    def forget(self, contact: Contact) -> None:
        """Nobody calls this customer back any more. Whoever says so stores it, and says how the contact goes on."""
        contact.call_back = None
        self._owe(contact)
        self._cancel_timer(contact)

    def _is_left_alone(self, contact: Contact) -> bool:
        """Whether nothing else has come of it while something was stored: a call, a chat, another wish."""
        waits = contact.state is State.WAITING and contact.channel is not Channel.CHAT
        return waits and contact.call_back is None and self._calls.branch_of(contact.id) is None

    def _owe(self, contact: Contact) -> None:
        """As its call back is now."""
        if contact.call_back is not None and contact.call_back.number:
            self._owed[contact.id] = contact.call_back.number
        else:
            self._owed.pop(contact.id, None)

    def _owed_enough(self, contact: Contact, number: str) -> bool:
        others = sum(owed == number for contact_id, owed in self._owed.items() if contact_id != contact.id)
        return others >= MOST_OF_ONE_NUMBER

    def _allowed(self, contact: Contact) -> None:
        if contact.channel is Channel.CHAT:
            raise TheirError("A chat needs no call back: it stays open while you read on.", 409)
        if not contact.open:
            raise TheirError("This contact has ended.", 409)
        if contact.state is not State.WAITING:
            raise TheirError("Somebody is being rung for you this very moment. Please stay.", 409)
        if self._calls.is_apart(contact.id):
            raise TheirError("You are leaving a message just now.", 409)
        if not self._settings(contact.queue).call_back and contact.call_back is None:
            raise TheirError("Call backs cannot be had just now. Please wait, or try again later.", 409)

    async def _theirs(self, contact: Contact, number: str) -> None:
        """Whoever could have any number called could make others pay for it."""
        if not number:
            if contact.facts.customer_id is None:
                raise TheirError("We do not know where to call you back.", 403)
            return
        if number != contact.facts.number:
            customer = await self._customer(contact.facts.customer_id)
            if customer is None or not customer.phone_proved or customer.phone != number:
                raise TheirError("We call back only at a number that we know to be yours.", 403)
        if self._calling.destination(number) is None:
            raise TheirError("That number cannot be called from here just now.", 409)
        if self._owed_enough(contact, number):
            raise TheirError("That number is to be called several times already.", 409)

    # Waiting without a leg

    def resume(self, contact: Contact) -> None:
        """At start: one that a dead process left waiting to be called back is in its place again."""
        assert contact.call_back is not None
        if contact.state is not State.WAITING:
            contact.back()
        self._keep_session(contact)
        self._owe(contact)
        self._wait(contact)

    def _wait(self, contact: Contact) -> None:
        """It may be routed, or may be when its time has come."""
        call_back = contact.call_back
        if call_back is None or not contact.open:
            return
        left_s = call_back.not_before - self._now()
        if left_s > 0:
            self._contacts.set_routable(contact, False)
            self._wake_after(contact, left_s, self._wait, contact)
        else:
            self._cancel_timer(contact)
            self._contacts.set_routable(contact, True)

    def _let_go(self, contact: Contact) -> None:
        """Calls: the customer has no leg any more."""
        if contact.id not in self._asking and contact.id not in self._calling:
            self._wait(contact)

    def _arrived(self, contact: Contact) -> bool:
        """Calls: the customer's page has called the contact's address."""
        if contact.call_back is None:
            return False
        if contact.id in self._calling:
            self._answered(contact)
            return self._calling.decide(contact.id, Ending.ANSWERED)
        if contact.state is State.WAITING and self._now() - contact.call_back.asked_at < ON_ITS_WAY_S:
            # Their page called before they asked, and hangs up as soon as it hears of it: that must end no contact.
            self._calls.let_go(contact, "they are called back")
            return True
        # They are back by themselves, in a page that was loaded again, say: then they wait on the line.
        self.forget(contact)
        self._store.moved(contact).add_done_callback(_look)
        self._events.write("contact.call_back_cancelled", contact=contact.id)
        return False

    @staticmethod
    def _keep_session(contact: Contact) -> None:
        if contact.session is None:
            contact.session = token_hex(16)  # there may never be a call of the customer's to bring one

    # Calling

    async def connect(self, contact: Contact, taken: Taken) -> bool:
        """For `Dispatch`: the agent has answered. Call the customer if they wait for that, and join the two.

        False: not joined; the agent is hung up on, and the contact, unless it has ended, is to wait again. It is not
        routable then until its time has come, but where it was the agent who left.
        """
        if contact.call_back is None:
            return await self._calls.connect(contact, taken)
        number, attempts = contact.call_back.number, contact.call_back.attempts
        self._events.write(
            "contact.calling_back",
            contact=contact.id,
            agent=contact.agent_id,
            way="phone" if number else "app",
            attempt=attempts + 1,
        )
        ending = await self._calling.call(contact, taken.leg, number)
        if contact.open and self._calls.branch_of(contact.id) is not None:
            return await self._calls.connect(contact, taken)
        taken.leg.end("the customer could not be reached" if ending in NOT_ANSWERED else ending.value)
        self._not_answered(contact, ending)
        return False

    def refuse(self, contact: Contact) -> None:
        """The customer says in their page: not now. Nothing when they are not being called."""
        self._calling.decide(contact.id, Ending.REFUSED)

    def _answered(self, contact: Contact) -> None:
        # Stored with the joining: should this process die before it, they are called back again.
        attempts = contact.call_back.attempts + 1 if contact.call_back is not None else 1
        self.forget(contact)
        self._events.write(
            "contact.call_back_answered", contact=contact.id, agent=contact.agent_id, attempt=attempts
        )

    def _on_telephone(self, contact: Contact) -> None:
        self._answered(contact)
        self._by_phone.add(contact.id)

    def _not_answered(self, contact: Contact, ending: Ending) -> None:
        call_back = contact.call_back
        if not contact.open or call_back is None:
            return
        now = self._now()
        if ending in NOT_ANSWERED:
            call_back = replace(call_back, attempts=call_back.attempts + 1, not_before=now + self._again_s)
        elif ending is Ending.MEDIA_GONE:
            call_back = replace(call_back, not_before=now + MEDIA_BACK_S)
        contact.call_back = call_back
        failed = call_back.attempts >= ATTEMPTS
        self._events.write(
            "contact.call_back_failed",
            contact=contact.id,
            agent=contact.agent_id,
            why=ending.value,
            attempt=call_back.attempts,
            again_at=None if failed else max(call_back.not_before, now),
        )
        if failed:
            self._contacts.end(contact, Disposition.CALL_BACK_FAILED, attempts=call_back.attempts)
            return
        self._store.moved(contact).add_done_callback(_look)
        if ending is Ending.STOPPED:
            self._contacts.set_routable(contact, False)
        else:
            self._wait(contact)

    # News

    def _contact_ended(self, contact: Contact) -> None:
        self._cancel_timer(contact)
        self._numbers.pop(contact.id, None)
        self._owed.pop(contact.id, None)
        self._by_phone.discard(contact.id)
        self._calling.decide(contact.id, Ending.OVER)

    def stop(self) -> None:
        """Nobody is called any more; who waits for it is stored, and waits again after the next start."""
        self._stopped = True
        for timer in self._timers.values():
            if timer.active():
                timer.cancel()
        self._timers.clear()
        self._calling.stop()

    # Timers: one for each contact at most

    def _wake_after(
        self, contact: Contact, seconds: float, what: Callable[..., None], *arguments: Any
    ) -> None:
        self._cancel_timer(contact)
        if not self._stopped:
            self._timers[contact.id] = self._clock.callLater(seconds, self._wake, contact, what, arguments)

    def _wake(self, contact: Contact, what: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        self._timers.pop(contact.id, None)
        what(*arguments)

    def _cancel_timer(self, contact: Contact) -> None:
        timer = self._timers.pop(contact.id, None)
        if timer is not None and timer.active():
            timer.cancel()


def _look(written: asyncio.Future[None]) -> None:
    if not written.cancelled() and (error := written.exception()) is not None:
        log.error("What became of a call back was not stored: {error}", error=error)


def masked(number: str) -> str:
    """A number as its owner knows it again, and nobody else: "+15…01"."""
    return f"{number[:3]}…{number[-2:]}"
