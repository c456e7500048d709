"""How much one person, or one phone, may ask for in a while: a token bucket for each.

The table is bounded, so that being asked by very many costs a known amount of memory.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache

from config.errors import TheirError


class RateLimit:
    """`burst` at once, then `per_s` each second, for each owner.

    The table keeps the `remembered` owners seen last; one who is forgotten starts afresh, which is the generous error.
    """

    def __init__(
        self, burst: float, per_s: float, seconds: Callable[[], float], *, remembered: int = 10_000
    ) -> None:
        self._burst = burst
        self._per_s = per_s
        self._seconds = seconds
        self._remembered = remembered
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, owner: str, what: str) -> None:
        """Take one token; TheirError 429 saying `what` came too fast when there is none."""
        if not self.allows(owner):
            raise TheirError(f"{what} Please wait a moment and try again.", 429)

    def allows(self, owner: str) -> bool:
        """Take one token; False when there is none."""
        at = self._seconds()
        tokens, since = self._buckets.pop(owner, (self._burst, at))
        tokens = min(self._burst, tokens + max(0.0, at - since) * self._per_s)
        allowed = tokens >= 1
        self._buckets[owner] = (tokens - 1 if allowed else tokens, at)
        if len(self._buckets) > self._remembered:
            self._buckets.popitem(last=False)
        return allowed

    def __len__(self) -> int:
        return len(self._buckets)


@lru_cache(maxsize=4096)
def source_of(host: str) -> str:
    """What all addresses one attacker has at hand have in common."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
