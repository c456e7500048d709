"""What an agent's phone shows when it is rung: who asks, about what, why it is this agent, and where to read more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.interfaces import IReactorTime

from config.events import EventLog
from media.server import AUDIO_ONLY, MediaServer
from pbx.calls import kinds_of
from pbx.contact import Channel, Contact
from pbx.prompt import Invitation, Note, Prompt
from pbx.staffing import Phone, Staffing
from sip_trunk.deadlines import Deadlines
from sip_trunk.sip.header_values import quote_string
from sip_trunk.user_agent import UserAgent

# Phones have small displays and smaller parsers.
_SHOWN = 120


class Ringer:
    """Makes the Prompt of a contact for an agent, or for a number outside.

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
        self._deadlines = Deadlines(clock)
        self._domain = domain
        self._customer_branch = customer_branch
        self._context_url = context_url
        self._ring_s = ring_s
        self._unreachable_s = unreachable_s

    def __call__(self, contact: Contact, agent_id: str, *, named: bool = False) -> Prompt:
        """`named`: a colleague wants this agent and no other; without pictures, if their phones have none."""
        channel = contact.channel
        phones = self._staffing.phones(agent_id, channel)
        if named and not phones:
            channel = Channel.VOICE
            phones = self._staffing.phones(agent_id, channel)
        return self._prompt(
            contact,
            phones,
            contact_from(contact, self._domain, product=True),
            (
                ("Subject", subject(contact)),
                ("Call-Info", f"<{self._context_url(contact.id)}>;purpose=info"),
                ("X-Warmline-Contact", contact.id),
            ),
            self._note(contact, agent_id),
            channel,
        )

    def outside(
        self, contact: Contact, phone: Phone, from_: str, headers: tuple[tuple[str, str], ...]
    ) -> Prompt:
        """Ring a number by a trunk: nothing of what we know of the customer goes there."""
        return self._prompt(contact, [phone], from_, headers, self._note(contact, None), contact.channel)

    def call_back(
        self,
        contact: Contact,
        phone: Phone,
        from_: str,
        headers: tuple[tuple[str, str], ...],
        *,
        like: str,
        ring_s: float,
    ) -> Prompt:
        """Call the customer by a trunk, in the codecs of the agent who waits for them on the branch `like`."""
        invitation = Invitation(contact.id, from_, headers, like, AUDIO_ONLY, contact.session)
        return Prompt(
            invitation,
            [phone],
            user_agent=self._user_agent,
            media=self._media,
            deadlines=self._deadlines,
            ring_s=ring_s,
            unreachable_s=self._unreachable_s,
            # Their own names: the agent's branches are counted by the same contact.
            prefix=f"called-back-{contact.attempts}",
            note=self._note(contact, None, "call_back_"),
        )

    def _prompt(
        self,
        contact: Contact,
        phones: Sequence[Phone],
        from_: str,
        headers: tuple[tuple[str, str], ...],
        note: Note,
        channel: Channel,
    ) -> Prompt:
        chat = channel is Channel.CHAT
        invitation = Invitation(
            media_call=contact.id,
            from_=from_,
            headers=headers,
            like=None if chat else self._customer_branch(contact.id),
            kinds=AUDIO_ONLY if chat else kinds_of(channel),
            session=contact.session,
            telephone=contact.call_back is not None and bool(contact.call_back.number),
        )
        return Prompt(
            invitation,
            phones,
            user_agent=self._user_agent,
            media=self._media,
            deadlines=self._deadlines,
            ring_s=self._ring_s,
            unreachable_s=self._unreachable_s,
            prefix=f"agent-{contact.attempts}",
            note=note,
        )

    def _note(self, contact: Contact, agent_id: str | None, prefix: str = "") -> Note:
        def note(kind: str, phone: Phone, call_id: str | None, facts: dict[str, Any]) -> None:
            name = "device.hung_up_late" if kind == "hung_up_late" else f"contact.{prefix}{kind}"
            self._events.write(
                name,
                contact=contact.id,
                agent=agent_id,
                device=phone.device_id,
                call_id=call_id,
                session=contact.session,
                **facts,
            )

        return note


def contact_from(contact: Contact, domain: str, *, product: bool = False, what: str = "") -> str:
    """The From of what is sent on the contact's behalf: its own address, so that two contacts never mix.

    `what` it is stands before the name, which is all that many phones show.
    """
    name = contact.facts.caller if not contact.anonymous else "Anonymous"
    if what:
        name = f"{what}: {name}"
    if product and contact.facts.product_name:
        name = f"{name} ({contact.facts.product_name})"
    return f"{quote_string(plain(name))} <sip:{contact.id}@{domain}>"


def subject(contact: Contact) -> str:
    """`Video: Boiler 200 - Pairing fails`."""
    facts = contact.facts
    about = facts.product_name or facts.provider_name
    trouble = f" - {facts.article_title}" if facts.article_title else ""
    return plain(f"{facts.channel.value.capitalize()}: {about}{trouble}")


def plain(text: str) -> str:
    """Text for a phone's display: printable, on one line, and short."""
    if not text.isprintable():
        text = "".join(char if char.isprintable() else " " for char in text)
    return " ".join(text.split())[:_SHOWN]
