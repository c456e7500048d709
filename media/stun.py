"""STUN (RFC 8489), as far as an ICE-lite agent needs it (RFC 8445 section 2.5): Binding requests and their answers."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import struct
import zlib
from dataclasses import dataclass

Address = tuple[str, int] | tuple[str, int, int, int]

MAGIC = 0x2112A442
_MAGIC_BYTES = struct.pack("!I", MAGIC)
BINDING_REQUEST = 0x0001
BINDING_SUCCESS = 0x0101
BINDING_ERROR = 0x0111

USERNAME, MESSAGE_INTEGRITY, ERROR_CODE = 0x0006, 0x0008, 0x0009
XOR_MAPPED_ADDRESS, PRIORITY, USE_CANDIDATE = 0x0020, 0x0024, 0x0025
FINGERPRINT, ICE_CONTROLLED, ICE_CONTROLLING = 0x8028, 0x8029, 0x802A


@dataclass(frozen=True, slots=True)
class BindingRequest:
    transaction: bytes
    username: str
    nominates: bool
    controlled: bool
    raw: bytes
    integrity_at: int

    def authentic(self, password: str) -> bool:
        """RFC 8489 section 14.5: HMAC-SHA1 over everything before, with the length as if the HMAC ended the message."""
        end = self.integrity_at
        signed = struct.pack("!HH", BINDING_REQUEST, end + 24 - 20) + self.raw[4:end]
        digest = hmac.digest(password.encode(), signed, hashlib.sha1)
        return hmac.compare_digest(digest, self.raw[end + 4 : end + 24])


def parse_request(data: bytes) -> BindingRequest | None:
    """A Binding request with MESSAGE-INTEGRITY, its FINGERPRINT checked where there is one; None for all else."""
    if len(data) < 20 or len(data) % 4 or data[4:8] != _MAGIC_BYTES:
        return None
    kind, length = struct.unpack_from("!HH", data)
    if kind != BINDING_REQUEST or length != len(data) - 20:
        return None
    username: str | None = None
    nominates = controlled = False
    integrity_at = 0
    at = 20
    while at + 4 <= len(data):
        attribute, size = struct.unpack_from("!HH", data, at)
        if at + 4 + size > len(data):
            return None
        if attribute == FINGERPRINT:
            if size != 4 or data[at + 4 : at + 8] != _fingerprint(data[:at], len(data)):
                return None
            break
        if not integrity_at:  # what follows MESSAGE-INTEGRITY is not covered by it and is not believed
            if attribute == USERNAME:
                username = data[at + 4 : at + 4 + size].decode("utf-8", "replace")
            elif attribute == USE_CANDIDATE:
                nominates = True
            elif attribute == ICE_CONTROLLED:
                controlled = True
            elif attribute == MESSAGE_INTEGRITY:
                if size != 20:
                    return None
                integrity_at = at
        at += 4 + size + (-size % 4)
    if username is None or not integrity_at:
        return None
    return BindingRequest(data[8:20], username, nominates, controlled, data, integrity_at)


def success(request: BindingRequest, address: Address, password: str) -> bytes:
    return _signed(BINDING_SUCCESS, request.transaction, _xor_address(address, request.transaction), password)


def role_conflict(request: BindingRequest, password: str) -> bytes:
    """RFC 8445 section 7.3.1.1: a lite agent is always controlled, so the other side may not be."""
    reason = b"Role Conflict"
    body = struct.pack("!HBB", 0, 4, 87) + reason
    return _signed(BINDING_ERROR, request.transaction, _attribute(ERROR_CODE, body), password)


def request(
    username: str, password: str, transaction: bytes, *, nominates: bool = True, tie_breaker: int = 1
) -> bytes:
    """A check as a full, controlling ICE agent sends it; tests are made of these."""
    body = _attribute(USERNAME, username.encode())
    body += _attribute(ICE_CONTROLLING, struct.pack("!Q", tie_breaker))
    body += _attribute(PRIORITY, struct.pack("!I", 1853817087))
    if nominates:
        body += _attribute(USE_CANDIDATE, b"")
    return _signed(BINDING_REQUEST, transaction, body, password)


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("!HH", kind, len(value)) + value + b"\0" * (-len(value) % 4)


def _signed(kind: int, transaction: bytes, body: bytes, password: str) -> bytes:
    head = _MAGIC_BYTES + transaction
    signed = struct.pack("!HH", kind, len(body) + 24) + head + body
    integrity = _attribute(MESSAGE_INTEGRITY, hmac.digest(password.encode(), signed, hashlib.sha1))
    message = struct.pack("!HH", kind, len(body) + len(integrity) + 8) + head + body + integrity
    return message + struct.pack("!HH", FINGERPRINT, 4) + _fingerprint(message, len(message) + 8)


def _fingerprint(before: bytes, total: int) -> bytes:
    """RFC 8489 section 14.7, over the message up to the attribute, with the length counting it in."""
    covered = before[:2] + struct.pack("!H", total - 20) + before[4:]
    return struct.pack("!I", zlib.crc32(covered) ^ 0x5354554E)


def _xor_address(address: Address, transaction: bytes) -> bytes:
    seen = ipaddress.ip_address(address[0])
    # A socket for both families shows an IPv4 peer by a mapped address; it would not know itself by that.
    ip = (getattr(seen, "ipv4_mapped", None) or seen).packed
    mask = (_MAGIC_BYTES + transaction)[: len(ip)]
    family = 1 if len(ip) == 4 else 2
    xored = bytes(a ^ b for a, b in zip(ip, mask, strict=True))
    return _attribute(XOR_MAPPED_ADDRESS, struct.pack("!BBH", 0, family, address[1] ^ (MAGIC >> 16)) + xored)
