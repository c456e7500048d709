"""SDES (RFC 4568): SRTP keys said in the description itself. As secret as the signalling that carries them."""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field

# As they are offered: first what every phone has, and the short tag (RFC 4568 section 6.2.2) last of all.
# Name here -> its name in DTLS-SRTP, length of key and salt (RFC 4568 section 6.2, RFC 7714 section 14.1).
SUITES = {
    "AES_CM_128_HMAC_SHA1_80": (b"SRTP_AES128_CM_SHA1_80", 16 + 14),
    "AEAD_AES_256_GCM": (b"SRTP_AEAD_AES_256_GCM", 32 + 12),
    "AEAD_AES_128_GCM": (b"SRTP_AEAD_AES_128_GCM", 16 + 12),
    "AES_CM_128_HMAC_SHA1_32": (b"SRTP_AES128_CM_SHA1_32", 16 + 14),
}
MOST_LINES = 16
# RFC 4568 section 6.3: they change what stands in the packets. WSH only advises a window, and "-" means it may be
# left out of account.
_HARMLESS = ("WSH=", "-")


@dataclass(frozen=True, slots=True)
class Crypto:
    """One a=crypto. `key` is the master key and salt that its writer encrypts with."""

    tag: int
    suite: str
    key: bytes = field(repr=False)

    def __str__(self) -> str:
        """The attribute's value, secret and all."""
        return f"{self.tag} {self.suite} inline:{base64.b64encode(self.key).decode()}"


def make(suite: str, tag: int = 1) -> Crypto:
    """A key of our own."""
    return Crypto(tag, suite, secrets.token_bytes(SUITES[suite][1]))


def make_all() -> tuple[Crypto, ...]:
    """What we offer: a key for each suite, for each must be used in one transform only."""
    return tuple(make(suite, tag) for tag, suite in enumerate(SUITES, start=1))


def first(attributes: Iterable[tuple[str, str | None]]) -> Crypto | None:
    """The first a=crypto among these that we can do: their order is the writer's preference (section 5.1.1).

    What is malformed or unknown is passed over (section 5.1.2).
    """
    lines = [value for name, value in attributes if name == "crypto" and value]
    return next((found for line in lines[:MOST_LINES] if (found := read(line)) is not None), None)


def read(value: str) -> Crypto | None:
    """None for what is malformed, or asks for what we cannot do."""
    tag, *rest = value.split()
    if len(rest) < 2 or not (tag.isascii() and tag.isdigit()) or len(tag) > 9:
        return None
    suite, key, parameters = rest[0].upper(), rest[1], rest[2:]
    if suite not in SUITES or not all(p.upper().startswith(_HARMLESS) for p in parameters):
        return None
    method, _, info = key.partition(":")
    written, *conditions = info.split("|")
    # A lifetime is longer than any call; an MKI would stand in every packet, and several keys need one.
    if method.lower() != "inline" or ";" in key or any(":" in each for each in conditions):
        return None
    try:
        secret = base64.b64decode(written + "=" * (-len(written) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
    return Crypto(int(tag), suite, secret) if len(secret) == SUITES[suite][1] else None
