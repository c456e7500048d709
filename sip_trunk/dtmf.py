"""Keys pressed on a phone that says them in INFO, as phones did before RFC 4733 brought them in RTP."""

from __future__ import annotations

from sip_trunk.incoming_request import IncomingRequest
from sip_trunk.sip.errors import BadMessage
from sip_trunk.sip.message import Request

KEYS = frozenset("0123456789*#ABCD")
MOST_KEYS = 32
_LONGEST_BODY = 256
# Event codes of RFC 4733 §3.2, which some gateways write in place of the key.
_CODES = {"10": "*", "11": "#", "12": "A", "13": "B", "14": "C", "15": "D"}


def keys_of(request: IncomingRequest | Request) -> str:
    """The keys an INFO brings, of 0-9, *, #, A-D; empty for any other body, and for one that is malformed.

    application/dtmf-relay brings one key (`Signal=5` and a duration), application/dtmf one or several, bare or so.
    """
    message = request.message if isinstance(request, IncomingRequest) else request
    try:
        kind = message.content_type
    except BadMessage:
        return ""
    if kind not in ("application/dtmf-relay", "application/dtmf") or len(message.body) > _LONGEST_BODY:
        return ""
    text = message.body.decode("latin-1").strip().upper()
    if kind == "application/dtmf" and "=" not in text:
        return _checked(text)
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals and name.strip() == "SIGNAL":
            value = value.strip()
            key = _CODES.get(value, value)
            return _checked(key) if len(key) == 1 else ""
    return ""


def relay_body(key: str) -> bytes:
    """The application/dtmf-relay body of an INFO that brings one key."""
    return f"Signal={key}\r\nDuration=160\r\n".encode()


def _checked(keys: str) -> str:
    return keys if len(keys) <= MOST_KEYS and KEYS.issuperset(keys) else ""
