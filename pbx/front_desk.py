"""The front desk: all that a customer's page, an agent's page and a telephone call may ask of the contact centre."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from secrets import token_hex
from typing import Any

from twisted.logger import Logger

from config.bridge import spawn
from config.errors import OurError, TheirError
from config.events import EventLog
from config.ids import new_id
from kb_portal.customer import Customer
from kb_portal.visit import Trail
from pbx.call_back import CallBacks
from pbx.calls import Calls, Greeting
from pbx.chat import Chats, checked
from pbx.composing import PAGE_LASTS_S
from pbx.contact import Channel, Contact, Disposition, Facts, State
from pbx.customer_view import CustomerView
from pbx.dispatch import Dispatch
from pbx.dossier import Dossier, Dossiers
from pbx.open_contacts import OpenContacts
from pbx.other_channel import OtherChannel
from pbx.queue import Group
from pbx.staffing import Staffing
from pbx.store import Message, PastContact, PbxStore

log = Logger()

LONGEST_COMMENT = 2000

Listener = Callable[[str, dict[str, Any]], None]
"""Gets ("state", view), ("message", line), ("delivered" or "read", {id, from, at}) or ("composing", {from, active}),
all as the API shows them."""


@dataclass(frozen=True, slots=True)
class Context:
    """What an agent may know of a contact: nothing of other providers. `customer` None: nobody knows who it is."""

    contact: Contact
    customer: Customer | None
    trail: Trail | None
    past: tuple[PastContact, ...]
    first_words: str


class FrontDesk:
    """`domain` is that of contacts' SIP addresses; `now` is wall time in epoch seconds. `expected_wait` tells of a
    contact how long it may yet wait, in seconds, None where nobody can say; `recording`, `on_hold` and `supervisor`
    what its customer is shown of the call."""

    def __init__(
        self,
        contacts: OpenContacts,
        dossiers: Dossiers,
        calls: Calls,
        chats: Chats,
        dispatch: Dispatch,
        staffing: Staffing,
        store: PbxStore,
        events: EventLog,
        now: Callable[[], float],
        *,
        domain: str,
        call_backs: CallBacks,
        expected_wait: Callable[[str], float | None] = lambda contact_id: None,
        recording: Callable[[Contact], dict[str, Any] | None] = lambda contact: None,
        on_hold: Callable[[Contact], bool] = lambda contact: False,
        supervisor: Callable[[Contact], str] = lambda contact: "",
    ) -> None:
        self._contacts = contacts
        self._dossiers = dossiers
        self._calls = calls
        self._chats = chats
        self._dispatch = dispatch
        self._staffing = staffing
        self._store = store
        self._events = events
        self._now = now
        self._domain = domain
        self._call_backs = call_backs
        self._view = CustomerView(
            dispatch, staffing, call_backs, expected_wait,
            uri=self.uri, recording=recording, on_hold=on_hold, supervisor=supervisor, agent_leg=calls.agent_leg,
        )  # fmt: skip
        self._other_channel = OtherChannel(
            contacts, calls, chats, call_backs, staffing, dispatch.policies, store, events
        )
        self._opening: dict[str, asyncio.Task[None]] = {}  # by contact, until it is durable
        self._pages: Counter[str] = Counter()  # by contact: the customer's pages that listen
        self.on_page: Callable[[str], None] = lambda contact_id: None
        """A page of the customer's listens to this contact from now on, and shows how things stand with it."""
        self.draining = False

    # Asking for help

    async def request(
        self,
        customer_id: str,
        channel: str,
        product_id: str | None,
        article_id: str | None = None,
        visit_id: str | None = None,
        text: str | None = None,
        key: str | None = None,
    ) -> Contact:
        """A customer presses Help; the contact, and a chat's first line, are durable when this returns.

        Pressed twice for the same thing it is one contact: the one that is open comes back. TheirError 400 or 404 for
        nonsense, 409 when they have another one open; OurError 503 while the server is stopping.
        """
        self._let_in()
        wanted = _channel(channel)
        first = checked(text) if text is not None and text.strip() and wanted is Channel.CHAT else None
        key = key or "first"
        present = self._same_again(customer_id, wanted, product_id)
        if present is None:
            dossier = await self._dossiers.for_app(customer_id, product_id, article_id, visit_id)
            contact = await self._contact(new_id("c"), wanted, dossier)
            self._let_in()
            present = self._same_again(
                customer_id, wanted, product_id
            )  # the other press may have been quicker
            if present is None:
                return await self._new(contact, key, first, dossier.customer)
        await self._opened(present)
        if first is not None:
            await self._chats.say(present, "customer", key, first)
        return present

    def _let_in(self) -> None:
        if self.draining:
            raise OurError("The server is about to stop. Please try again in a minute.", 503)

    async def _new(self, contact: Contact, key: str, first: str | None, customer: Customer | None) -> Contact:
        lines = []
        if contact.channel is Channel.CHAT:
            contact.session = token_hex(16)  # no call of the customer's brings one
        if first is not None:
            lines.append(Message(new_id("m"), contact.id, key, "customer", first, self._now()))
        self._tell_asked(contact)
        added = self._contacts.add(contact, *lines)
        opening = self._open(contact, lines, added, customer)
        self._opening[contact.id] = spawn(opening, f"opening {contact.id}")
        await self._opened(contact)
        return contact

    async def _open(
        self, contact: Contact, lines: list[Message], added: asyncio.Future[None], customer: Customer | None
    ) -> None:
        try:
            await added
        finally:
            del self._opening[contact.id]
        if not contact.open:  # ended while it was being stored
            return
        self._call_backs.know(contact, customer)
        if contact.channel is Channel.CHAT:
            self._chats.open(contact, lines)
        else:
            self._calls.expect(contact)

    async def _opened(self, contact: Contact) -> None:
        """Returns when the contact is durable. A page that goes away meanwhile stops nothing: it finds it again."""
        opening = self._opening.get(contact.id)
        if opening is not None:
            await asyncio.shield(opening)

    async def from_phone(
        self,
        trunk: str,
        dialled: str,
        caller: str,
        *,
        anonymous: bool = False,
        product_id: str = "",
        contact_id: str | None = None,
    ) -> Contact | None:
        """A call came by a trunk: its contact, not open yet; None when the number is not one of ours.

        `anonymous`: the number serves to find whose it is, and is then forgotten. `product_id`: what the caller says it
        is about; `contact_id`: the contact it was to be before that was known.
        """
        dossier = await self._dossiers.for_phone(dialled, caller, product_id)
        if dossier is None:
            return None
        contact = await self._contact(
            contact_id or new_id("c"), Channel.VOICE, dossier, trunk=trunk, number=caller, dialled=dialled
        )
        if anonymous:
            contact.anonymous = True
            contact.facts = replace(contact.facts, number="", customer_name="")
        return contact

    async def take_call(
        self, contact: Contact, greeting: Greeting, *, diverted_from: str | None = None
    ) -> None:
        """Open the contact of a phone call whose media is settled, and answer it. OurError 503 while stopping."""
        self._let_in()
        present = self._contacts.of_customer(contact.facts.customer_id or "")
        if present is not None:
            # They have one open in the app: this call is another, and cannot be both. It keeps its own place.
            contact.facts = _without_customer(contact.facts)
        contact.session = greeting.leg.call.session_id
        self._tell_asked(contact, diverted_from=diverted_from)
        await self._contacts.add(contact)
        await self._calls.arrive(contact, greeting)

    async def _contact(
        self,
        contact_id: str,
        channel: Channel,
        dossier: Dossier,
        trunk: str | None = None,
        number: str = "",
        dialled: str = "",
    ) -> Contact:
        product, article, customer = dossier.product, dossier.article, dossier.customer
        facts = Facts(
            id=contact_id,
            channel=channel,
            asked_at=self._now(),
            provider_id=dossier.provider.id,
            provider_name=dossier.provider.name,
            product_id=product.id if product is not None else None,
            product_name=product.name if product is not None else "",
            article_id=article.id if article is not None else None,
            article_title=article.title if article is not None else "",
            visit_id=dossier.visit_id,
            customer_id=customer.id if customer is not None else None,
            customer_name=customer.name if customer is not None else "",
            trunk=trunk,
            number=number,
            language=dossier.language,
        )
        queue = self._dispatch.policies.queue_for(facts, dialled)
        contact = Contact(facts, needs=dossier.inference.skills, queue=queue)
        if customer is not None and self._dispatch.policies.of(queue).prefer_last_s:
            contact.preferred_agent_id = await self._store.last_agent(customer.id, facts.provider_id)
        return contact

    def _tell_asked(self, contact: Contact, *, diverted_from: str | None = None) -> None:
        facts = contact.facts
        self._events.write(
            "contact.requested",
            contact=contact.id,
            visit=facts.visit_id,
            channel=facts.channel.value,
            customer=facts.customer_id,
            provider=facts.provider_id,
            product=facts.product_id,
            article=facts.article_id,
            trunk=facts.trunk,
            number=facts.number,
            language=facts.language,
            queue=contact.queue,
            preferred_agent=contact.preferred_agent_id,
            anonymous=contact.anonymous,
            diverted_from=diverted_from,
            session=contact.session,
        )
        self._events.write(
            "contact.skills_inferred",
            contact=contact.id,
            visit=facts.visit_id,
            skills=[
                {
                    "skill": need.skill,
                    "points": need.weight,
                    "required": need.required,
                    "level": need.level,
                    "reasons": list(need.reasons),
                }
                for need in contact.needs
            ],
            rules_version=self._dossiers.rules_version(facts.provider_id),
        )

    def _same_again(self, customer_id: str, channel: Channel, product_id: str | None) -> Contact | None:
        present = self._contacts.of_customer(customer_id)
        if present is None:
            return None
        if present.channel is channel and product_id in (None, present.facts.product_id):
            return present
        about = present.facts.product_name or present.facts.provider_name
        raise TheirError(
            f"You have a {present.channel.value} about {about} open. Please end that first.", 409
        )

    # One contact

    def current(self, customer_id: str) -> Contact | None:
        """The contact this customer has open."""
        return self._contacts.of_customer(customer_id)

    async def get(self, contact_id: str) -> Contact | None:
        """Any contact, open or long over."""
        return self._contacts.known(contact_id) or await self._store.contact(contact_id)

    async def of_customer(self, customer_id: str, contact_id: str) -> Contact:
        """That contact, if it is this customer's; TheirError 404 if it is anybody else's, or nobody's."""
        contact = await self.get(contact_id)
        if contact is None or contact.facts.customer_id != customer_id:
            raise TheirError("There is no such contact.", 404)
        return contact

    def uri(self, contact: Contact) -> str:
        """The contact's own SIP address."""
        return f"sip:{contact.id}@{self._domain}"

    def view(self, contact: Contact) -> dict[str, Any]:
        """The contact as the API shows it to its customer, without its lines."""
        return self._view(contact)

    async def messages(self, contact_id: str) -> list[dict[str, Any]]:
        """Every line of a chat in order, as the API shows them."""
        lines = self._chats.lines(contact_id)
        if lines is None:
            lines = await self._store.messages(contact_id)
        return [line_view(line) for line in lines]

    async def say(self, contact_id: str, key: str, text: str) -> str:
        """A line of the customer's: its id, durable when this returns; the same key twice is the same line.

        TheirError 400, 413 for the line, 404, 409 for the contact.
        """
        contact = self._contacts.known(contact_id)
        if contact is None or contact.channel is not Channel.CHAT:
            raise TheirError("There is no such chat.", 404)
        return (await self._chats.say(contact, "customer", key, text)).id

    def composing(self, contact_id: str, by: str, active: bool) -> None:
        """In a page somebody ("customer" or "agent") writes, or not any more. Nothing in a chat that is not joined."""
        contact = self._contacts.get(contact_id)
        if contact is not None:
            self._chats.composing(contact, by, active, PAGE_LASTS_S)

    def writing(self, contact_id: str) -> Sequence[str]:
        """Who writes in this chat now: "customer", "agent", both or nobody."""
        return self._chats.writing(contact_id)

    def seen(self, contact_id: str, by: str, message_id: str) -> None:
        """A page has shown its reader ("customer" or "agent") every line up to that one; an unknown one is nothing."""
        contact = self._contacts.get(contact_id)
        if contact is not None:
            self._chats.seen(contact, by, message_id)

    # While they wait

    async def ask_call_back(self, contact_id: str, way: str = "app", number: str = "") -> None:
        """The customer is called back instead of waiting: in their page ("app"), or by telephone ("phone") at the
        number given, or the one on file. Durable when this returns. TheirError 400, 403, 404, 409."""
        contact = self._waiting(contact_id)
        if way not in ("app", "phone"):
            raise TheirError("A call back comes by app or by phone.", 400)
        if way == "app":
            number = ""
        elif not number:
            number = self._call_backs.number_of(contact) or ""
            if not number:
                raise TheirError("We know no telephone number of yours that we could call.", 409)
        await self._call_backs.ask(contact, number)
        if not contact.facts.from_app:
            await self._call_backs.farewell(contact)

    def refuse_call_back(self, contact_id: str) -> None:
        """Their page rings, and they cannot talk now: they are called again later. Nothing when it does not ring."""
        contact = self._contacts.get(contact_id)
        if contact is not None:
            self._call_backs.refuse(contact)

    async def cancel_call_back(self, contact_id: str) -> None:
        """They wait on the line instead: their page calls the contact's address next. TheirError 404, 409."""
        await self._call_backs.cancel(self._waiting(contact_id))

    async def change_channel(self, contact_id: str, channel: str) -> None:
        """The contact goes on in another channel, in its place. TheirError 400, 404, 409 as `OtherChannel.move`."""
        await self._other_channel.move(self._waiting(contact_id), _channel(channel))

    def _waiting(self, contact_id: str) -> Contact:
        contact = self._contacts.known(contact_id)
        if contact is None:
            raise TheirError("There is no such contact.", 404)
        if not contact.open:
            raise TheirError("This contact has ended.", 409)
        self._let_in()
        return contact

    async def end(self, contact_id: str, by: str) -> None:
        """End a contact; `by` is "customer" or "agent". Durable when this returns; ending it twice is nothing."""
        contact = self._contacts.get(contact_id)
        if contact is None:
            return
        if by == "agent":
            disposition = Disposition.AGENT_HUNG_UP
        elif contact.state is State.CONNECTED:
            disposition = Disposition.CUSTOMER_HUNG_UP
        else:
            disposition = Disposition.CUSTOMER_GAVE_UP
        await self._contacts.end(contact, disposition)

    async def feedback(self, contact_id: str, helped: bool, comment: str | None = None) -> None:
        """Did it help? Durable when this returns; a later word replaces the first. TheirError 413."""
        comment = (comment or "").strip() or None
        if comment is not None and len(comment) > LONGEST_COMMENT:
            raise TheirError(f"A comment may have {LONGEST_COMMENT} characters at most.", 413)
        await self._store.feedback(contact_id, helped, comment)
        await self._events.write("contact.feedback", contact=contact_id, helped=helped, comment=comment)

    def has_page(self, contact_id: str) -> bool:
        """Whether a page of the customer's listens to this contact now."""
        return self._pages[contact_id] > 0

    def listen(self, contact_id: str, listener: Listener, *, by: str = "agent") -> Callable[[], None]:
        """Hear what happens to a contact, from now on; returns what ends that. `by` "customer": a page of theirs."""

        def tell(kind: str, what: Any) -> None:
            if kind == "state":
                listener("state", self.view(what))
            elif kind == "message":
                listener("message", line_view(what))
            elif kind == "composing":
                side, active = what
                listener("composing", {"from": side, "active": active})
            elif kind == "read":
                listener("read", {"id": what.id, "from": what.sender, "at": what.read_at})
            else:
                listener("delivered", {"id": what.id, "from": what.sender, "at": what.delivered_at})

        unsubscribe = self._contacts.listen(contact_id, tell)
        if by != "customer":
            return unsubscribe
        self._pages[contact_id] += 1
        self.on_page(contact_id)

        def leave() -> None:
            unsubscribe()
            self._pages[contact_id] -= 1
            if self._pages[contact_id] <= 0:
                del self._pages[contact_id]

        return leave

    # What help there is

    async def availability(
        self,
        customer_id: str,
        product_id: str | None,
        article_id: str | None = None,
        visit_id: str | None = None,
    ) -> dict[str, str]:
        """For each channel what a customer who asks now may expect: "now", "wait" (all are busy) or "none".

        TheirError as `request`.
        """
        dossier = await self._dossiers.for_app(customer_id, product_id, article_id, visit_id)
        return {
            channel.value: self._staffing.outlook(
                Group(dossier.provider.id, channel.value, dossier.inference.levels)
            )
            for channel in Channel
        }

    # For agents

    def contacts_of(self, agent_id: str) -> list[Contact]:
        """The contacts this agent is rung for or talks in."""
        return self._contacts.of_agent(agent_id)

    async def agent_says(self, agent_id: str, contact_id: str, key: str, text: str) -> str:
        """A line of the agent's, typed in a page: its id, durable when this returns. TheirError as `say`, and 403."""
        contact = self._contacts.known(contact_id)
        if contact is None or contact.channel is not Channel.CHAT:
            raise TheirError("There is no such chat.", 404)
        if contact.agent_id != agent_id:
            raise TheirError("This is not your chat.", 403)
        if contact.state is not State.CONNECTED:
            raise TheirError("This chat is not open.", 409)
        return (await self._chats.say(contact, "agent", key, text)).id

    async def context(self, contact_id: str) -> Context:
        """All that an agent's page shows of a contact. TheirError 404. Whose eyes it is for is asked before."""
        contact = await self.get(contact_id)
        if contact is None:
            raise TheirError("There is no such contact.", 404)
        facts = contact.facts
        # Of a caller who wants privacy the page tells what it is about, and not who it is (RFC 3323 s4.2).
        named = facts.customer_id if facts.customer_name else None
        customer, trail, past, lines = await asyncio.gather(
            self._dossiers.customer(named),
            self._dossiers.trail_for(facts.customer_id, facts.visit_id, facts.provider_id),
            self._past(replace(facts, customer_id=named)),
            self.messages(contact_id),
        )
        first = next((line["text"] for line in lines if line["from"] == "customer"), "")
        return Context(contact, customer, trail, tuple(past), first)

    async def _past(self, facts: Facts) -> list[PastContact]:
        if facts.customer_id is None:
            return []
        return await self._store.past_of(facts.customer_id, facts.provider_id, facts.asked_at)

    # The server's own start and stop

    async def resume(self) -> None:
        """Take up what a process that died (or stopped) left open: call it once, before anybody is let in.

        Chats, calls of the app that were waiting, and whoever is to be called back, are in their place again; calls
        that were joined died with their media, and a phone caller who waited was cut off: both are recorded as ended
        by the server.
        """
        left = await self._store.left_open()
        chats = [contact.id for contact in left if contact.channel is Channel.CHAT]
        lines = await self._store.messages_of(chats) if chats else {}
        for contact in left:
            self._contacts.take_back(contact)
            self._events.write("contact.resumed", contact=contact.id, was=contact.state.value)
            if contact.facts.from_app:
                self._call_backs.know(contact, await self._dossiers.customer(contact.facts.customer_id))
            if contact.channel is Channel.CHAT:
                if contact.state is not State.WAITING:
                    contact.back()
                self._chats.open(contact, lines.get(contact.id, []))
            elif contact.call_back is not None and contact.state is not State.CONNECTED:
                self._call_backs.resume(contact)
            elif contact.state is State.WAITING and contact.facts.from_app:
                self._calls.expect(contact, after_restart=True)
            else:
                self._contacts.end(contact, Disposition.SERVER_DIED)
        if left:
            log.info("{count} contacts were open when the server went away", count=len(left))

    async def drain(self) -> None:
        """Before the server stops: nothing new, calls are ended (BYE); chats, and who is to be called back, stay stored
        for the next start."""
        self.draining = True
        self._dispatch.stop()
        self._call_backs.stop()
        ended = [
            self._contacts.end(contact, Disposition.SERVER_STOPPED)
            for contact in self._contacts
            if contact.channel is not Channel.CHAT and contact.call_back is None
        ]
        for contact in self._contacts:
            if contact.call_back is not None:
                self._calls.let_go(contact, "the server stops")
        await self._dispatch.withdraw_all()
        self._chats.stop()
        await asyncio.gather(*ended, return_exceptions=True)


def line_view(line: Message) -> dict[str, Any]:
    """One line of a chat as the API shows it."""
    return {
        "id": line.id,
        "from": line.sender,
        "text": line.text,
        "at": line.at,
        "key": line.key if line.sender == "customer" else None,
        "delivered": line.delivered_at is not None,
        "read": line.read_at is not None,
    }


def _channel(text: str) -> Channel:
    try:
        return Channel(text)
    except ValueError:
        raise TheirError("A channel is chat, voice or video.", 400) from None


def _without_customer(facts: Facts) -> Facts:
    return replace(facts, customer_id=None)
