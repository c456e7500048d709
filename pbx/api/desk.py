"""What the face asks of the contact centre: `pbx.front_desk.FrontDesk`, seen from outside.

The protocols are here so that routes and pages can be tried without a telephone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from pbx.contact import Contact
from pbx.front_desk import Context

Listener = Callable[[str, dict[str, Any]], None]


class CustomerDesk(Protocol):
    """What a customer's page may ask for. `draining`: the server is about to stop."""

    draining: bool

    async def request(
        self,
        customer_id: str,
        channel: str,
        product_id: str | None,
        article_id: str | None = None,
        visit_id: str | None = None,
        text: str | None = None,
        key: str | None = None,
    ) -> Contact: ...
    def current(self, customer_id: str) -> Contact | None: ...
    async def get(self, contact_id: str) -> Contact | None: ...
    def view(self, contact: Contact) -> dict[str, Any]: ...
    async def messages(self, contact_id: str) -> list[dict[str, Any]]: ...
    async def say(self, contact_id: str, key: str, text: str) -> str: ...
    async def end(self, contact_id: str, by: str) -> None: ...
    async def feedback(self, contact_id: str, helped: bool, comment: str | None = None) -> None: ...
    async def availability(
        self,
        customer_id: str,
        product_id: str | None,
        article_id: str | None = None,
        visit_id: str | None = None,
    ) -> dict[str, str]: ...
    def listen(self, contact_id: str, listener: Listener) -> Callable[[], None]: ...


class AgentDesk(Protocol):
    """What an agent's page may ask for."""

    async def get(self, contact_id: str) -> Contact | None: ...
    async def messages(self, contact_id: str) -> list[dict[str, Any]]: ...
    async def end(self, contact_id: str, by: str) -> None: ...
    def listen(self, contact_id: str, listener: Listener) -> Callable[[], None]: ...
    def contacts_of(self, agent_id: str) -> Sequence[Contact]: ...
    async def agent_says(self, agent_id: str, contact_id: str, key: str, text: str) -> str: ...
    async def context(self, contact_id: str) -> Context: ...
