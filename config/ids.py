"""Identifiers: made anywhere without asking anyone, in the order of their time, safe in URIs, URLs and file names."""

from __future__ import annotations

import secrets
import time

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_TIME_DIGITS = 11  # microseconds since 1970 in base 36, until the year 6000
_CHANCE_DIGITS = 10  # 51 bits, against two nodes in the same microsecond
_CHANCE = 36**_CHANCE_DIGITS

_last = 0

_AT_ONCE = 256
_tokens: list[str] = []


def token(digits: int = 32) -> str:
    """So many random hexadecimal digits, 32 at most. The system is asked for many at once, for each asking costs it
    more than all else that is done with the digits."""
    if not _tokens:
        chance = secrets.token_hex(16 * _AT_ONCE)
        _tokens.extend(chance[at : at + 32] for at in range(0, len(chance), 32))
    return _tokens.pop()[:digits]


def new_id(prefix: str) -> str:
    """A new identifier such as ``c_0hra0vcz9yt8k2…``: ``prefix``, then time, then chance, of ``[a-z0-9_]`` only.

    Those made later in one process sort later, even within one tick of the clock.
    """
    global _last
    _last = max(_last + 1, time.time_ns() // 1000)
    return f"{prefix}_{_base36(_last, _TIME_DIGITS)}{_base36(int(token(16), 16) % _CHANCE, _CHANCE_DIGITS)}"


def _base36(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, 36)
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))
