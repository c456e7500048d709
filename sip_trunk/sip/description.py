"""The session description a message carries, alone or among other parts (RFC 3261 §13.2.1, RFC 5621)."""

from __future__ import annotations

from sip_trunk.sip.errors import BadMessage
from sip_trunk.sip.message import Message, Request
from sip_trunk.sip.multipart import part, unknown_required

SDP = "application/sdp"
READABLE = f"{SDP}, multipart/mixed, multipart/alternative, multipart/related"
"""For Accept."""


def offered(request: Request) -> bytes:
    """The SDP of a request; empty when there is none. Raises BadMessage, 415 for a body that must be understood."""
    if not request.body:
        return b""
    if request.content_type == SDP:
        return request.body
    if unknown_required(request, (SDP,)) is not None:
        raise BadMessage("Unsupported Media Type", 415)
    found = part(request, SDP)
    if found is None and (request.content_type or "").startswith("multipart/"):
        raise BadMessage("Unsupported Media Type", 415)
    return found or b""


def answered(message: Message) -> bytes:
    """The SDP of a response or an ACK; empty when none can be read, for such a message cannot be refused."""
    if not message.body:
        return b""
    try:
        return message.body if message.content_type in (SDP, None) else part(message, SDP) or b""
    except BadMessage:
        return b""
