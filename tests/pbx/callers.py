"""Telephone callers of the contact centre in memory."""

from __future__ import annotations

from config.queue_settings import QueueSettings
from pbx.contact import Contact
from tests.agent_presence.house import DOMAIN
from tests.pbx.centre import Caller, Centre, FakeFlow

MARIAS = "+15550100001"


def set_queue(centre: Centre, **settings: object) -> None:
    """How the queue is in which everybody waits; the carrier may call American numbers back."""
    centre.queues["default"] = QueueSettings("default", **settings)  # type: ignore[arg-type]
    centre.trunks.trunks["carrier"].dial = ("+49", "+1555")


async def by_phone(centre: Centre, number: str = MARIAS) -> tuple[Contact, Caller]:
    flow = FakeFlow("UDP", ("192.0.2.50", 5070), "udp")
    caller = Caller(
        f"sip:+15550200@{DOMAIN}", from_=f"sip:{number}@carrier.example", flow=flow, body=b"offer"
    )
    known = {contact.id for contact in centre.contacts}
    centre.inbound().on_invite(caller)
    await centre.settle()
    return next(contact for contact in centre.contacts if contact.id not in known), caller


def hears(centre: Centre, contact: Contact) -> str | tuple[str, ...] | None:
    return centre.media.playing.get((contact.id, "customer-1"))


def heard(centre: Centre, contact: Contact) -> list[str]:
    """Every word said to this customer up to now, but the music."""
    branch_of_this = [
        what for (call, branch), what in centre.media.heard if (call, branch) == (contact.id, "customer-1")
    ]
    words = [word for what in branch_of_this for word in ([what] if isinstance(what, str) else what)]
    return [word for word in words if word != "music"]


def press(centre: Centre, contact: Contact, key: str) -> None:
    """A key as a telephone event (RFC 4733)."""
    centre.media.on_keys(contact.id, "customer-1", key)
