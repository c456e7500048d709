"""The option tags of Supported and Require, and the methods of Allow: which a message names."""

from __future__ import annotations

from functools import lru_cache

from sip_trunk.sip.message import Message

_CACHED_UP_TO = 300


def names(message: Message, key: str) -> frozenset[str]:
    """The tokens of the headers with that `header_key`, in lower case; none when there is no such header."""
    keys = message.headers.keys
    if key not in keys:
        return frozenset()
    if keys.count(key) == 1:
        value = message.headers.first(key) or ""
    else:
        value = ",".join(message.headers.all(key))
    # A peer says the same in every message, and peers of one make say the same.
    return _split_cached(value) if len(value) <= _CACHED_UP_TO else _split(value)


def supports(message: Message, tag: str) -> bool:
    """Whether its sender knows that extension: what it requires, it knows."""
    return tag in names(message, "supported") or tag in names(message, "require")


def _split(value: str) -> frozenset[str]:
    return frozenset(name.strip().lower() for name in value.split(","))


_split_cached = lru_cache(maxsize=512)(_split)
