"""The line of one voice or video contact, and what an end of it means."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pbx.bridge import Bridge
from pbx.contact import Contact, Disposition, State
from pbx.leg import Leg


@dataclass(slots=True)
class Line:
    """A contact's legs, and what becomes of them: only `Calls` touches it."""

    contact: Contact
    customer: Leg | None = None
    agent: Leg | None = None
    bridge: Bridge | None = None
    legs: int = 0
    held: bool = False  # the agent has put the customer on hold
    # The customer does something else than wait, leaves a message say; this is told when they hang up.
    apart: Callable[[], None] | None = None
    # While the agent passes the contact on the customer hears music; this is told when the agent goes before that.
    aside: Callable[[], None] | None = None
    came_back: Callable[[], Awaitable[None]] | None = None  # what a customer who calls again then hears


def is_called_back(contact: Contact) -> bool:
    """Whoever is to be called back may hang up: that ends nothing."""
    return contact.call_back is not None and contact.state is not State.CONNECTED


def lost(contact: Contact) -> Disposition:
    if contact.state is State.CONNECTED:
        return Disposition.CUSTOMER_LOST
    return Disposition.CUSTOMER_GAVE_UP


def other_side(contact: Contact, *, lost: bool) -> Disposition:
    """Who was with the customer has gone: their agent, or somebody outside to whom they were passed on."""
    if contact.agent_id is None:
        return Disposition.OTHER_LOST if lost else Disposition.OTHER_HUNG_UP
    return Disposition.AGENT_LOST if lost else Disposition.AGENT_HUNG_UP
