"""The STUN a SIP port answers: a phone behind a NAT keeps its UDP flow open by it (RFC 5626 s4.4.2, s8; RFC 5389)."""

from __future__ import annotations

import ipaddress
import struct

COOKIE = 0x2112A442
_HEADER = struct.Struct("!HHI12s")
_ATTRIBUTE = struct.Struct("!HH")
_BINDING_REQUEST, _BINDING_SUCCESS, _BINDING_ERROR = 0x0001, 0x0101, 0x0111
_XOR_MAPPED_ADDRESS, _ERROR_CODE, _UNKNOWN_ATTRIBUTES = 0x0020, 0x0009, 0x000A
# RFC 5389 s15: who sends these may be answered without them: we know no passwords here.
_PASSED_OVER = frozenset({0x0006, 0x0008})


def is_stun(datagram: bytes) -> bool:
    """RFC 5626 s8: the first two bits of a SIP message are never both zero, those of STUN always."""
    return len(datagram) >= 20 and datagram[0] < 0x40 and datagram[4:8] == b"\x21\x12\xa4\x42"


def stun_answer(datagram: bytes, peer: tuple[str, int]) -> bytes | None:
    """The response to a Binding request: where it came from. None for anything else, and for what is malformed: there
    is nobody to tell."""
    kind, length, _, transaction = _HEADER.unpack_from(datagram)
    if kind != _BINDING_REQUEST or length % 4 or length != len(datagram) - 20:
        return None
    unknown = []
    at = 20
    while at < len(datagram):
        attribute, size = _ATTRIBUTE.unpack_from(datagram, at)
        at += 4 + (size + 3) // 4 * 4
        if at > len(datagram):
            return None
        # RFC 5389 s7.3.1: what must be understood and is not refuses the request.
        if attribute < 0x8000 and attribute not in _PASSED_OVER:
            unknown.append(attribute)
    if unknown:
        names = struct.pack(f"!{len(unknown[:8])}H", *unknown[:8])
        body = _attribute(_ERROR_CODE, b"\0\0\x04\x14Unknown Attribute") + _attribute(
            _UNKNOWN_ATTRIBUTES, names
        )
        return _HEADER.pack(_BINDING_ERROR, len(body), COOKIE, transaction) + body
    body = _attribute(_XOR_MAPPED_ADDRESS, _xored(peer, transaction))
    return _HEADER.pack(_BINDING_SUCCESS, len(body), COOKIE, transaction) + body


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(kind, len(value)) + value + b"\0" * (-len(value) % 4)


def _xored(peer: tuple[str, int], transaction: bytes) -> bytes:
    """RFC 5389 s15.2: hidden from NATs that rewrite every address they see."""
    address = ipaddress.ip_address(peer[0])
    key = struct.pack("!I", COOKIE) + transaction
    host = bytes(mine ^ theirs for mine, theirs in zip(address.packed, key, strict=False))
    return struct.pack("!BBH", 0, 1 if address.version == 4 else 2, peer[1] ^ (COOKIE >> 16)) + host
