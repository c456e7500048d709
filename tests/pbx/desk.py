"""A FrontDesk for tests: contacts in a dictionary, and everybody who listens is told."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from config.errors import OurError, TheirError
from pbx.contact import Channel, Contact, Disposition, Facts, State
from pbx.front_desk import Context

AT = 1767225600.0


class FakeDesk:
    def __init__(self) -> None:
        self.draining = False
        self.agent_said: list[tuple[str, str, str, str]] = []
        self.contacts: dict[str, Contact] = {}
        self.said: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.keys: dict[tuple[str, str], str] = {}
        self.listeners: dict[str, list[Callable[[str, dict[str, Any]], None]]] = defaultdict(list)
        self.ended_by: list[tuple[str, str]] = []
        self.fed_back: list[tuple[str, bool, str | None]] = []
        self.outlook = {"chat": "now", "voice": "wait", "video": "none"}
        self.asked: list[tuple[Any, ...]] = []
        self.breaks: Exception | None = None
        self.contexts: dict[str, Context] = {}
        self.moved: list[tuple[str, ...]] = []
        self.waits: float | None = 240.0
        self.signs: list[tuple[str, str, bool | str]] = []  # (contact, by, active or the line seen)
        self.writers: dict[str, tuple[str, ...]] = {}

    def make(
        self, contact_id: str, customer_id: str = "maria", channel: str = "chat", **facts: Any
    ) -> Contact:
        known: dict[str, Any] = {
            "provider_id": "kestrel",
            "provider_name": "Kestrel Heating",
            "product_id": "boiler-200",
            "product_name": "Boiler 200",
            "customer_name": "Maria Lopez",
            **facts,
        }
        contact = Contact(Facts(contact_id, Channel(channel), AT, customer_id=customer_id, **known))
        self.contacts[contact_id] = contact
        return contact

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
        if self.draining:
            raise OurError("The server is about to stop.", 503)
        if self.breaks is not None:
            raise self.breaks
        if product_id is None:
            raise TheirError("Please say which of your products it is about.")
        if product_id != "boiler-200":
            raise TheirError("You have no such product.", 404)
        self.asked.append((customer_id, channel, product_id, article_id, visit_id, text))
        return self.make(f"c_{len(self.contacts) + 1}", customer_id, channel)

    def current(self, customer_id: str) -> Contact | None:
        return next(
            (c for c in self.contacts.values() if c.open and c.facts.customer_id == customer_id), None
        )

    async def get(self, contact_id: str) -> Contact | None:
        return self.contacts.get(contact_id)

    def view(self, contact: Contact) -> dict[str, Any]:
        return {
            "id": contact.id,
            "channel": str(contact.channel),
            "state": str(contact.state),
            "position": 1,
            "expected_wait_s": self.waits,
            "uri": f"sip:{contact.id}@help.example",
            "agent": {"name": "Ana"} if contact.agent_id else None,
            "provider": contact.facts.provider_name,
            "product": contact.facts.product_name,
            "disposition": str(contact.disposition) if contact.disposition else None,
        }

    async def say(self, contact_id: str, key: str, text: str) -> str:
        if (contact_id, key) not in self.keys:
            self.keys[contact_id, key] = self.line(contact_id, "customer", text)
        return self.keys[contact_id, key]

    def composing(self, contact_id: str, by: str, active: bool) -> None:
        self.signs.append((contact_id, by, active))

    def writing(self, contact_id: str) -> tuple[str, ...]:
        return self.writers.get(contact_id, ())

    def seen(self, contact_id: str, by: str, message_id: str) -> None:
        self.signs.append((contact_id, by, message_id))

    async def end(self, contact_id: str, by: str) -> None:
        self.ended_by.append((contact_id, by))
        self.finish(self.contacts[contact_id])

    async def agent_says(self, agent_id: str, contact_id: str, key: str, text: str) -> str:
        if self.contacts[contact_id].state is not State.CONNECTED:
            raise TheirError("This chat is not open.", 409)
        self.agent_said.append((agent_id, contact_id, key, text))
        return self.line(contact_id, "agent", text)

    async def feedback(self, contact_id: str, helped: bool, comment: str | None = None) -> None:
        self.fed_back.append((contact_id, helped, comment))

    async def availability(
        self,
        customer_id: str,
        product_id: str | None,
        article_id: str | None = None,
        visit_id: str | None = None,
    ) -> dict[str, str]:
        return self.outlook

    async def ask_call_back(self, contact_id: str, way: str = "app", number: str = "") -> None:
        self.moved.append(("call-back", contact_id, way, number))

    def refuse_call_back(self, contact_id: str) -> None:
        self.moved.append(("refuse", contact_id))

    async def cancel_call_back(self, contact_id: str) -> None:
        self.moved.append(("cancel", contact_id))

    async def change_channel(self, contact_id: str, channel: str) -> None:
        if self.contacts[contact_id].state is not State.WAITING:
            raise TheirError("Somebody is with you.", 409)
        self.moved.append(("channel", contact_id, channel))

    def listen(
        self,
        contact_id: str,
        listener: Callable[[str, dict[str, Any]], None],
        *,
        by: str = "agent",
    ) -> Callable[[], None]:
        self.listeners[contact_id].append(listener)

        def unsubscribe() -> None:
            self.listeners[contact_id].remove(listener)
            if not self.listeners[contact_id]:
                del self.listeners[contact_id]

        return unsubscribe

    async def messages(self, contact_id: str) -> list[dict[str, Any]]:
        return list(self.said[contact_id])

    def contacts_of(self, agent_id: str) -> list[Contact]:
        return [
            contact for contact in self.contacts.values() if contact.open and contact.agent_id == agent_id
        ]

    async def context(self, contact_id: str) -> Context:
        return self.contexts.get(contact_id) or Context(self.contacts[contact_id], None, None, (), "")

    # What a test lets happen

    def line(self, contact_id: str, sender: str, text: str) -> str:
        message = {
            "id": f"m_{len(self.said[contact_id]) + 1}",
            "from": sender,
            "text": text,
            "at": AT + 60,
            "delivered": False,
            "read": False,
        }
        self.said[contact_id].append(message)
        self.tell(contact_id, "message", dict(message))
        return str(message["id"])

    def deliver(self, contact_id: str, message_id: str) -> None:
        for message in self.said[contact_id]:
            if message["id"] == message_id:
                message["delivered"] = True
                self.tell(contact_id, "delivered", {"id": message_id, "from": message["from"], "at": AT + 61})

    def show(self, contact_id: str, message_id: str) -> None:
        for message in self.said[contact_id]:
            if message["id"] == message_id:
                message["read"] = True
                self.tell(contact_id, "read", {"id": message_id, "from": message["from"], "at": AT + 62})

    def finish(self, contact: Contact) -> None:
        contact.end(Disposition.CUSTOMER_HUNG_UP, AT + 90)
        self.tell(contact.id, "state", self.view(contact))

    def connect(self, contact: Contact, agent_id: str) -> None:
        self.ring(contact, agent_id)
        contact.join(AT + 30)
        self.tell(contact.id, "state", self.view(contact))

    def ring(self, contact: Contact, agent_id: str) -> None:
        contact.ring(agent_id)
        self.tell(contact.id, "state", self.view(contact))

    def tell(self, contact_id: str, kind: str, data: dict[str, Any]) -> None:
        for callback in tuple(self.listeners.get(contact_id, ())):
            callback(kind, data)
