"""What reads the bodies of messages: CPIM, receipts, is-composing. As sip_messages.py, and run in the same way."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sip_trunk.sip.composing import Composing, parse_composing
from sip_trunk.sip.cpim import parse_cpim
from sip_trunk.sip.errors import BadMessage
from sip_trunk.sip.imdn import Receipt, asked_for, parse_imdn, read_receipt, request
from sip_trunk.sip.message import Request
from sip_trunk.sip.multipart import body_parts, unknown_required
from sip_trunk.sip.small_xml import moment, parse_xml

T = TypeVar("T")
RECEIPT = b"""<?xml version="1.0" encoding="UTF-8"?>
<imdn xmlns="urn:ietf:params:xml:ns:imdn"><message-id>34jk324j</message-id>
<datetime>2008-04-04T12:16:49-05:00</datetime>
<display-notification><status><displayed/></status></display-notification></imdn>
"""
PARTS = b"--b\r\nContent-Type: multipart/mixed;boundary=c\r\n\r\n--c\r\n\r\nx\r\n--c--\r\n--b--\r\n"


def seeds() -> list[bytes]:
    wrapped = request("id1", "<im:ana@example.com>", "<im:bob@example.com>", 1e9, "hello")
    return [
        wrapped,
        RECEIPT,
        wrapped.replace(b"hello", RECEIPT),
        *_composing(),
        PARTS,
        b"2008-04-04T12:16:49-05:00",
    ]


def _composing() -> list[bytes]:
    return [Composing(True, 60, "text/plain", 1e9).to_bytes(), Composing(False).to_bytes()]


def check(data: bytes) -> None:
    """Raises anything at all only for a bug."""
    composing = _tried(lambda: parse_composing(data))
    if isinstance(composing, Composing):
        composing.to_bytes()
    receipt = _tried(lambda: parse_imdn(data))
    assert receipt is None or isinstance(receipt, Receipt)
    _tried(lambda: parse_xml(data))
    _tried(lambda: moment(data.decode("utf-8", "replace")))
    cpim = _tried(lambda: parse_cpim(data))
    if cpim is not None:
        _tried(lambda: read_receipt(cpim))
        _tried(lambda: asked_for(cpim))
    for kind in ("multipart/mixed", "multipart/alternative"):
        message = Request("MESSAGE", "sip:a@h", [], data, f"{kind};boundary=b")
        _tried(lambda: body_parts(message))  # noqa: B023 (called at once)
        _tried(lambda: unknown_required(message, {"text/plain"}))  # noqa: B023


def _tried(read: Callable[[], T]) -> T | None:
    try:
        return read()
    except BadMessage:
        return None
