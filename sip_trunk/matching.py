"""What belongs to one transaction: its messages are known by it (RFC 3261 §17.2.3), an ACK and a CANCEL made for it."""

from __future__ import annotations

from sip_trunk.answered import Key
from sip_trunk.sip.message import Request

COOKIE = "z9hG4bK"


def server_key(request: Request, method: str) -> Key:
    """What is the same for all messages of one server transaction (RFC 3261 §17.2.3)."""
    via = request.top_via
    branch = via.branch
    # The cookie alone is no branch of anybody's own (RFC 4475 §3.2.1).
    if branch is not None and branch.startswith(COOKIE) and branch != COOKIE:
        return (branch, via.host, via.port, method)
    # A peer older than RFC 3261: its branch is not unique; its ACK has a To tag and may have another Request-URI.
    cseq = request.cseq
    return (str(via), request.call_id, request.from_.tag, cseq.number, method)


def same_hop(request: Request, method: str, to: str) -> Request:
    """An ACK or CANCEL that belongs to the INVITE itself (RFC 3261 §9.1, §17.1.1.3)."""
    headers = request.headers
    pairs = [("Via", str(request.top_via))]
    pairs += [("Route", route) for route in headers.all("Route")]
    pairs += [
        ("Max-Forwards", "70"),
        ("From", headers.get("From") or ""),
        ("To", to),
        ("Call-ID", request.call_id),
        ("CSeq", f"{request.cseq.number} {method}"),
    ]
    return Request(method, request.uri_text, pairs)
