"""What an agent's phone shows when it is rung: who asks, about what, why it is this agent, and where to read more."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from config.events import EventLog
from media.server import AUDIO_ONLY, MediaServer
from pbx.calls import kinds_of
from pbx.contact import Channel, Contact
from pbx.prompt import Invitation, Prompt
from pbx.staffing import Staffing
from sip_trunk.sip.headers import quote_string
from sip_trunk.user_agent import UserAgent

# Phones have small displays and smaller parsers.
_SHOWN = 120


class Ringer:
    """Makes the Prompt of a contact for an agent.

    `customer_branch` gives a contact's customer leg in media; `context_url` where the agent may read about it. `domain`
    is the SIP domain the contact's own address is in. Times in seconds.
    """

    def __init__(
        self,
        user_agent: UserAgent,
        media: MediaServer,
        staffing: Staffing,
        events: EventLog,
        clock: IReactorTime,
        *,
        domain: str,
        customer_branch: Callable[[str], str | None],
        context_url: Callable[[str], str],
        ring_s: float,
        unreachable_s: float,
    ) -> None:
        self._user_agent = user_agent
        self._media = media
        self._staffing = staffing
        self._events = events
        self._clock = clock
        self._domain = domain
        self._customer_branch = customer_branch
        self._context_url = context_url
        self._ring_s = ring_s
        self._unreachable_s = unreachable_s

    def __call__(self, contact: Contact, agent_id: str) -> Prompt:
        chat = contact.channel is Channel.CHAT
        invitation = Invitation(
            contact_id=contact.id,
            agent_id=agent_id,
            from_=contact_from(contact, self._domain, product=True),
            headers=(
                ("Subject", subject(contact)),
                ("Call-Info", f"<{self._context_url(contact.id)}>;purpose=info"),
                ("X-Warmline-Contact", contact.id),
            ),
            like=None if chat else self._customer_branch(contact.id),
            kinds=AUDIO_ONLY if chat else kinds_of(contact.channel),
        )
        return Prompt(
            invitation,
            self._staffing.phones(agent_id, contact.channel),
            user_agent=self._user_agent,
            media=self._media,
            events=self._events,
            clock=self._clock,
            ring_s=self._ring_s,
            unreachable_s=self._unreachable_s,
            attempt=contact.attempts,
        )


def contact_from(contact: Contact, domain: str, *, product: bool = False) -> str:
    """The From of what is sent on the contact's behalf: its own address, so that two contacts never mix."""
    name = contact.facts.caller
    if product and contact.facts.product_name:
        name = f"{name} ({contact.facts.product_name})"
    return f"{quote_string(_plain(name))} <sip:{contact.id}@{domain}>"


def subject(contact: Contact) -> str:
    """`Video: Boiler 200 - Pairing fails`."""
    facts = contact.facts
    about = facts.product_name or facts.provider_name
    trouble = f" - {facts.article_title}" if facts.article_title else ""
    return _plain(f"{facts.channel.value.capitalize()}: {about}{trouble}")


def _plain(text: str) -> str:
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())[:_SHOWN]
