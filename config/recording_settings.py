"""What is set about recordings: whether calls are recorded, for how many days they are kept, and what seals them.

All readers raise ValueError, which never shows a key.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

LONGEST_DAYS = 36500
MOST_PROVIDERS = 1000
_KEY = re.compile(r"[0-9A-Fa-f]{64}")
_FOR_EVER = "ever"


class Recording(StrEnum):
    """Whether the calls of a queue are recorded, and what its customers have to say in it."""

    OFF = "off"
    ANNOUNCE = "announce"  # all are told before they wait; who stays agrees, and may take it back
    ASK = "ask"  # nothing is recorded until the customer says yes
    ALWAYS = "always"  # nobody is asked: for where the law wants it so


@dataclass(frozen=True, slots=True)
class Retention:
    """For how many days what was recorded is kept: `days`, or what a provider has of its `own`. None: for ever."""

    days: int | None = 90
    own: tuple[tuple[str, int | None], ...] = ()

    def of(self, provider_id: str) -> int | None:
        return dict(self.own).get(provider_id, self.days)

    def until(self, provider_id: str, since: float) -> float | None:
        """When it is deleted, in epoch seconds; None: never."""
        days = self.of(provider_id)
        return None if days is None else since + 86400.0 * days

    def __str__(self) -> str:
        named = (f"{provider}={_shown(days)}" for provider, days in self.own)
        return ", ".join([_shown(self.days), *named])


@dataclass(frozen=True, slots=True, repr=False)
class Keys:
    """Keys of 32 bytes: the first seals what is recorded from now on, all open what was. Without any: not sealed."""

    keys: tuple[bytes, ...] = ()

    @property
    def first(self) -> bytes | None:
        return self.keys[0] if self.keys else None

    def by_name(self, name: str) -> bytes | None:
        """The key that is called so; None where it is not set any more."""
        return next((key for key in self.keys if key_name(key) == name), None)

    def __str__(self) -> str:
        return "***" if self.keys else ""

    __repr__ = __str__


def key_name(key: bytes) -> str:
    """What a key is called where it must not be told."""
    return hashlib.sha256(b"warmline recording key " + key).hexdigest()[:16]


def retention(raw: Any) -> Retention:
    """``90``, or ``90, thermea=30, lumio=ever``; in the file also a table, where ``days`` is everybody else's."""
    if isinstance(raw, Mapping):
        raw = ", ".join(str(days) if name == "days" else f"{name}={days}" for name, days in raw.items())
    parts = [part.strip() for part in str(raw).split(",") if part.strip()]
    if len(parts) > MOST_PROVIDERS:
        raise ValueError(f"names more than {MOST_PROVIDERS} providers")
    days: int | None = Retention().days
    own: dict[str, int | None] = {}
    for part in parts:
        name, named, text = part.rpartition("=")
        if not named:
            days = _days(text)
        elif name.strip() in own or not name.strip():
            raise ValueError(f"{part!r} should be a provider, =, and its days, once")
        else:
            own[name.strip()] = _days(text.strip())
    return Retention(days, tuple(own.items()))


def keys(raw: Any) -> Keys:
    """64 hexadecimal digits, or the path of a file that holds them (or 32 bytes); more of them after commas."""
    if not isinstance(raw, str):
        raise ValueError("should be text")
    return Keys(tuple(_key(part.strip()) for part in raw.split(",") if part.strip()))


def _key(text: str) -> bytes:
    if _KEY.fullmatch(text):
        return bytes.fromhex(text)
    try:
        held = Path(text).read_bytes()[:4096]
    except (OSError, ValueError):
        raise ValueError("should be 64 hexadecimal digits, or the path of a file that can be read") from None
    digits = held.decode("ascii", "replace").strip()
    if _KEY.fullmatch(digits):
        return bytes.fromhex(digits)
    if len(held) == 32:
        return held
    raise ValueError("names a file that holds neither 64 hexadecimal digits nor 32 bytes")


def _days(text: str) -> int | None:
    if text == _FOR_EVER:
        return None
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:6]) <= LONGEST_DAYS or len(text) > 5:
        raise ValueError(f"{text!r} should be a number of days from 1 to {LONGEST_DAYS}, or {_FOR_EVER!r}")
    return int(text)


def _shown(days: int | None) -> str:
    return _FOR_EVER if days is None else str(days)
