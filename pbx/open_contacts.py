"""The contacts that are open now: in memory, every move of theirs stored, written to the event log and told.

Nothing else moves a contact. Others hear of it by `on_waiting` (may it be routed now, or no longer?), `on_ended`, and
whoever watches one contact by `listen`.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from twisted.logger import Logger

from config.errors import TheirError
from config.events import EventLog
from pbx.contact import Contact, Disposition, Move, Refusal, State
from pbx.skills import Need
from pbx.store import Message, PbxStore

log = Logger()

_REMEMBERED = 1000
# Who has left a customer is not the next one asked for them.
LEFT_PAUSE_S = 30.0

Watcher = Callable[[str, Any], None]
"""Gets ("state", Contact), ("message" or "delivered" or "read", Message) or ("composing", (side, whether))."""


class OpenContacts:
    """`now` is wall time in epoch seconds."""

    def __init__(self, store: PbxStore, events: EventLog, now: Callable[[], float]) -> None:
        self._store = store
        self._events = events
        self._now = now
        self._open: dict[str, Contact] = {}
        self._of_customer: dict[str, Contact] = {}
        self._of_agent: dict[str, dict[str, Contact]] = {}
        self._agent_of: dict[str, str] = {}  # by contact, as it is in `_of_agent`
        self._ended: OrderedDict[str, Contact] = (
            OrderedDict()
        )  # the latest, so that pages need no read to see the end
        self._watchers: dict[str, list[Watcher]] = {}
        self.on_waiting: list[Callable[[Contact], None]] = []
        self.on_ended: list[Callable[[Contact], None]] = []

    def __iter__(self) -> Iterator[Contact]:
        return iter(tuple(self._open.values()))

    def __len__(self) -> int:
        return len(self._open)

    def get(self, contact_id: str) -> Contact | None:
        return self._open.get(contact_id)

    def known(self, contact_id: str) -> Contact | None:
        """An open contact, or one that ended lately."""
        return self._open.get(contact_id) or self._ended.get(contact_id)

    def of_customer(self, customer_id: str) -> Contact | None:
        return self._of_customer.get(customer_id)

    def of_agent(self, agent_id: str) -> list[Contact]:
        """Contacts this agent is rung for or talks in, in the order in which they became theirs."""
        theirs = self._of_agent.get(agent_id, {}).values()
        return [contact for contact in theirs if contact.agent_id == agent_id]

    # What may happen to a contact

    def add(self, contact: Contact, *messages: Message) -> asyncio.Future[None]:
        """Take a new contact in, at once; the future resolves when it is durable, and forgets it where that fails.

        TheirError 409: this customer has one open already.
        """
        customer_id = contact.facts.customer_id
        if customer_id is not None and customer_id in self._of_customer:
            raise TheirError("You have already asked for help. Please end that first.", 409)
        added = self._store.add(contact, *messages)
        self.take_back(contact)

        def look(done: asyncio.Future[None]) -> None:
            if done.cancelled() or done.exception() is not None:
                self._forget(contact)

        added.add_done_callback(look)
        return added

    def take_back(self, contact: Contact) -> None:
        """Hold a contact that is stored already: one a dead process left open."""
        self._open[contact.id] = contact
        self._file(contact)
        if contact.facts.customer_id is not None:
            self._of_customer[contact.facts.customer_id] = contact

    def set_routable(self, contact: Contact, routable: bool) -> None:
        """Whether it may be given to an agent now: a chat once posted, a call while its caller is on the line."""
        if contact.routable == routable or not contact.open:
            return
        contact.routable = routable
        self._tell_waiting(contact)

    def requeue(self, contact: Contact, queue: str) -> None:
        """It waits in another queue from now on, in its place."""
        contact.queue = queue
        self._stored(self._store.moved(contact, patient=True))
        self._tell_waiting(contact)

    def ring(self, contact: Contact, agent_id: str) -> None:
        contact.ring(agent_id)
        self._tell(contact)

    def back(self, contact: Contact) -> None:
        """Waiting again, and nobody has refused it."""
        contact.back()
        self._tell(contact)
        self._tell_waiting(contact)

    def refused(
        self, contact: Contact, agent_id: str, outcome: str = "left", pause_s: float = LEFT_PAUSE_S
    ) -> None:
        """Waiting again; the agent who was rung, or has left it, is not the next one asked."""
        now = self._now()
        contact.refused_by(agent_id, Refusal(now, outcome, now + pause_s))
        self._stored(self._store.moved(contact, patient=True))
        self._tell(contact)
        self._tell_waiting(contact)

    def needs_now(self, contact: Contact, needs: Iterable[Need], queue: str) -> None:
        """The agent who has it, and passes it back into the queue, says what it needs."""
        contact.needs = tuple(needs)
        contact.queue = queue
        self._stored(self._store.needs_changed(contact))

    def join(self, contact: Contact, **facts: Any) -> None:
        contact.join(self._now())
        self._stored(self._store.moved(contact, patient=True))
        waited_s = round((contact.connected_at or 0.0) - contact.facts.asked_at, 3)
        self._events.write(
            "contact.connected", contact=contact.id, agent=contact.agent_id, waited_s=waited_s, **facts
        )
        self._tell(contact)

    def agent_left(self, contact: Contact, ringing: str | None) -> None:
        """The agent who passes a contact on has gone before anybody took it; whoever is rung is `ringing`.

        Stored as waiting: should this process die now, the contact is back in its place.
        """
        contact.back()
        self._stored(self._store.moved(contact, patient=True))
        contact.ring(ringing)
        self._tell(contact)

    def transferred(self, contact: Contact, agent_id: str | None, **facts: Any) -> None:
        """Another agent (None: somebody outside) has it now."""
        contact.pass_on(agent_id, self._now())
        self._stored(self._store.moved(contact, patient=True))
        self._events.write("contact.transferred", contact=contact.id, agent=agent_id, **facts)
        self._tell(contact)

    def end(self, contact: Contact, disposition: Disposition, **facts: Any) -> asyncio.Future[None]:
        """The end, once: a second one, by whoever was slower, is nothing. The future resolves when it is durable."""
        if not contact.can(Move.END):
            over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            over.set_result(None)
            return over
        before = contact.state
        now = self._now()
        contact.end(disposition, now)
        self._forget(contact)
        self._ended[contact.id] = contact
        while len(self._ended) > _REMEMBERED:
            self._ended.popitem(last=False)
        # Together with what is told of it: by itself it would cost a commit of its own.
        written = self._store.moved(contact, patient=True)
        self._stored(written)
        talked_s = round(now - contact.connected_at, 3) if contact.connected_at is not None else None
        self._events.write(
            "contact.ended",
            contact=contact.id,
            agent=contact.agent_id,
            disposition=disposition.value,
            whose=disposition.whose,
            during=before.value,
            talked_s=talked_s,
            session=contact.session,
            **facts,
        )
        _call_all(self.on_ended, contact)
        self._tell(contact)
        return written

    # Watching

    def listen(self, contact_id: str, watcher: Watcher) -> Callable[[], None]:
        """Hear what happens to one contact; returns what ends that."""
        self._watchers.setdefault(contact_id, []).append(watcher)

        def unsubscribe() -> None:
            watchers = self._watchers.get(contact_id, [])
            if watcher in watchers:
                watchers.remove(watcher)
            if not watchers:
                self._watchers.pop(contact_id, None)

        return unsubscribe

    @property
    def any_watched(self) -> bool:
        return bool(self._watchers)

    def watched(self) -> list[Contact]:
        return [self._open[contact_id] for contact_id in tuple(self._watchers) if contact_id in self._open]

    def tell(self, contact_id: str, kind: str, what: Any) -> None:
        _call_all(self._watchers.get(contact_id, ()), kind, what)

    def _tell(self, contact: Contact) -> None:
        self._file(contact)
        self.tell(contact.id, "state", contact)

    def _tell_waiting(self, contact: Contact) -> None:
        _call_all(self.on_waiting, contact)

    def _file(self, contact: Contact) -> None:
        """Under the agent who has it now."""
        before, now = self._agent_of.get(contact.id), contact.agent_id if contact.open else None
        if before == now:
            return
        if before is not None:
            del self._agent_of[contact.id]
            del self._of_agent[before][contact.id]
            if not self._of_agent[before]:
                del self._of_agent[before]
        if now is not None:
            self._agent_of[contact.id] = now
            self._of_agent.setdefault(now, {})[contact.id] = contact

    def _forget(self, contact: Contact) -> None:
        self._open.pop(contact.id, None)
        customer_id = contact.facts.customer_id
        if customer_id is not None and self._of_customer.get(customer_id) is contact:
            del self._of_customer[customer_id]

    @staticmethod
    def _stored(written: asyncio.Future[None]) -> None:
        # Nobody waits for it and nothing was promised; but whoever is on call must see it.
        def look(done: asyncio.Future[None]) -> None:
            if not done.cancelled() and (error := done.exception()) is not None:
                log.error("A move of a contact was not stored: {error}", error=error)

        written.add_done_callback(look)


def _call_all(listeners: Iterable[Callable[..., None]], *what: Any) -> None:
    """One that fails keeps no other from hearing it: a page's mistake must leave no agent stuck."""
    for listener in tuple(listeners):
        try:
            listener(*what)
        except Exception:
            log.failure("A listener to contacts failed")


def is_waiting(contact: Contact) -> bool:
    """Whether the router may give it to an agent."""
    return contact.routable and contact.state is State.WAITING
