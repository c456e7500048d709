"""Instant message disposition notifications (RFC 5438): that a message has arrived, or was shown.

Whoever wants to know says so in the CPIM headers of the message (`request`, `asked_for`); the answer is an XML body of
its own, wrapped in CPIM as well (`Receipt`, `parse_imdn`, `read_receipt`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sip_trunk.sip import cpim
from sip_trunk.sip.cpim import Cpim
from sip_trunk.sip.errors import BadMessage
from sip_trunk.sip.header_values import is_token
from sip_trunk.sip.small_xml import Element, escaped, moment, parse_xml, written

MEDIA_TYPE = "message/imdn+xml"
XML_NAMESPACE = "urn:ietf:params:xml:ns:imdn"
CPIM_NAMESPACE = "urn:ietf:params:imdn"
LONGEST_ID = 200


class About(StrEnum):
    """What a receipt tells of (s5)."""

    DELIVERY = "delivery"
    PROCESSING = "processing"
    DISPLAY = "display"


STATUSES = {
    About.DELIVERY: ("delivered", "failed", "forbidden", "error"),
    About.PROCESSING: ("processed", "stored", "forbidden", "error"),
    About.DISPLAY: ("displayed", "forbidden", "error"),
}


@dataclass(frozen=True, slots=True)
class Receipt:
    """`message_id` is that of the message it is about, `at` when that message was sent, in epoch seconds."""

    message_id: str
    at: float
    about: About
    status: str

    @property
    def delivered(self) -> bool:
        return self.status == "delivered"

    @property
    def displayed(self) -> bool:
        return self.status == "displayed"

    def to_bytes(self) -> bytes:
        kind = f"{self.about}-notification"
        return (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<imdn xmlns="{XML_NAMESPACE}">'
            f"<message-id>{escaped(self.message_id)}</message-id><datetime>{written(self.at)}</datetime>"
            f"<{kind}><status><{self.status}/></status></{kind}></imdn>\n"
        ).encode()


@dataclass(frozen=True, slots=True)
class AskedFor:
    """What the sender of a message wants to be told; `sent_at` is the message's own DateTime, or None."""

    message_id: str
    delivery: bool
    display: bool
    sent_at: float | None


def parse_imdn(body: bytes) -> Receipt:
    """Read a receipt's XML. Raises BadMessage: 413 when it is too large, 400 when it is none."""
    root = parse_xml(body)
    if (root.namespace, root.name) != (XML_NAMESPACE, "imdn"):
        raise BadMessage("Not an IMDN")
    message_id, at = root.words("message-id"), root.words("datetime")
    if not message_id or len(message_id) > LONGEST_ID or at is None:
        raise BadMessage("An IMDN Without Message-ID or Time")
    told = [(about, found) for about in About if (found := root.child(f"{about}-notification")) is not None]
    if len(told) != 1:
        # s11.1: one receipt tells one thing.
        raise BadMessage("An IMDN Tells One Thing")
    about, notification = told[0]
    return Receipt(message_id, moment(at), about, _status(about, notification))


def _status(about: About, notification: Element) -> str:
    status = notification.child("status")
    known = [child.name for child in status.children if child.namespace == XML_NAMESPACE] if status else []
    if len(known) != 1 or known[0] not in STATUSES[about]:
        raise BadMessage("Bad IMDN status")
    return known[0]


def read_receipt(message: Cpim) -> Receipt | None:
    """The receipt in a wrapped message, None when there is something else in it. Raises BadMessage."""
    return parse_imdn(message.content) if message.content_type == MEDIA_TYPE else None


def asked_for(message: Cpim) -> AskedFor | None:
    """What is to be told about this message, None when nothing is. Raises BadMessage for a malformed header."""
    message_id = message.get("Message-ID", CPIM_NAMESPACE)
    wanted = message.get("Disposition-Notification", CPIM_NAMESPACE)
    # s7.1.1.1: without an identifier there is nothing a receipt could name.
    if message_id is None or wanted is None:
        return None
    if not is_token(message_id) or len(message_id) > LONGEST_ID:
        raise BadMessage("Bad imdn.Message-ID")
    kinds = {item.partition(";")[0].strip() for item in wanted.split(",")}
    sent = message.get("DateTime")
    delivery, display = "positive-delivery" in kinds, "display" in kinds
    if not (delivery or display) or message.content_type == MEDIA_TYPE:
        return None  # s7.2.1: nobody is told about a receipt
    return AskedFor(message_id, delivery, display, None if sent is None else moment(sent))


def request(message_id: str, from_: str, to: str, at: float, text: str) -> bytes:
    """A line wrapped so that whoever gets it tells of its delivery and of its display (s7.1.1)."""
    return cpim.wrap(
        [
            ("From", from_),
            ("To", to),
            ("DateTime", written(at)),
            ("NS", f"imdn <{CPIM_NAMESPACE}>"),
            ("imdn.Message-ID", message_id),
            ("imdn.Disposition-Notification", "positive-delivery, display"),
        ],
        "text/plain;charset=UTF-8",
        text.encode("utf-8", "replace"),
    )


def answer(receipt: Receipt, own_id: str, from_: str, to: str, at: float) -> bytes:
    """A receipt as it is sent: wrapped, and asking for none itself (s7.2)."""
    return cpim.wrap(
        [
            ("From", from_),
            ("To", to),
            ("DateTime", written(at)),
            ("NS", f"imdn <{CPIM_NAMESPACE}>"),
            ("imdn.Message-ID", own_id),
        ],
        MEDIA_TYPE,
        receipt.to_bytes(),
        ("Content-Disposition", "notification"),
    )
