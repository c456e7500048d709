"""What nodes must agree on: who holds a key, for how long. In-process by default, Redis where several nodes serve."""

from __future__ import annotations

from typing import Any, Protocol

from redis.asyncio import Redis
from twisted.internet.interfaces import IReactorTime


class SharedState(Protocol):
    """Leases on keys. A lease ends by release or by its time, so that what a dead node held comes free."""

    async def claim(self, key: str, holder: str, lease_s: float) -> bool:
        """Take ``key`` for ``lease_s`` seconds; False if another holds it. Its own holder may claim it again."""

    async def renew(self, key: str, holder: str, lease_s: float) -> bool:
        """Hold on for ``lease_s`` seconds from now; False if ``holder`` no longer holds it."""

    async def release(self, key: str, holder: str) -> bool:
        """Give ``key`` back; False if ``holder`` did not hold it, and then nothing changes."""

    async def holder(self, key: str) -> str | None:
        """Who holds ``key`` now."""

    async def close(self) -> None:
        """Let go of connections; leases stay."""


class InProcessState:
    """For one node: a dictionary and a clock."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._leases: dict[str, tuple[str, float]] = {}
        self._sweep_at = 1024

    async def claim(self, key: str, holder: str, lease_s: float) -> bool:
        if self._holder(key) not in (None, holder):
            return False
        self._leases[key] = holder, self._clock.seconds() + lease_s
        if len(self._leases) >= self._sweep_at:
            self._sweep()
        return True

    async def renew(self, key: str, holder: str, lease_s: float) -> bool:
        if self._holder(key) != holder:
            return False
        self._leases[key] = holder, self._clock.seconds() + lease_s
        return True

    async def release(self, key: str, holder: str) -> bool:
        if self._holder(key) != holder:
            return False
        del self._leases[key]
        return True

    async def holder(self, key: str) -> str | None:
        return self._holder(key)

    async def close(self) -> None:
        return None

    def _holder(self, key: str) -> str | None:
        lease = self._leases.get(key)
        if lease is None:
            return None
        holder, ends_at = lease
        if ends_at <= self._clock.seconds():
            del self._leases[key]
            return None
        return holder

    def _sweep(self) -> None:
        # A lease nobody asks about again would stay for ever; sweeping at each doubling costs little per claim.
        now = self._clock.seconds()
        self._leases = {key: lease for key, lease in self._leases.items() if lease[1] > now}
        self._sweep_at = max(1024, 2 * len(self._leases))


# Each is one step for Redis, so that no other node comes between the question and the deed.
_CLAIM = """
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
_RENEW = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
"""
_RELEASE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
return 1
"""


class RedisState:
    """For several nodes: the same leases, kept by Redis, timed by its clock."""

    def __init__(self, url: str, *, prefix: str = "warmline:") -> None:
        self._redis: Any = Redis.from_url(url, decode_responses=True)
        self._prefix = prefix
        self._claim = self._redis.register_script(_CLAIM)
        self._renew = self._redis.register_script(_RENEW)
        self._release = self._redis.register_script(_RELEASE)

    async def claim(self, key: str, holder: str, lease_s: float) -> bool:
        return bool(await self._claim(keys=[self._prefix + key], args=[holder, _milliseconds(lease_s)]))

    async def renew(self, key: str, holder: str, lease_s: float) -> bool:
        return bool(await self._renew(keys=[self._prefix + key], args=[holder, _milliseconds(lease_s)]))

    async def release(self, key: str, holder: str) -> bool:
        return bool(await self._release(keys=[self._prefix + key], args=[holder]))

    async def holder(self, key: str) -> str | None:
        held: str | None = await self._redis.get(self._prefix + key)
        return held

    async def close(self) -> None:
        await self._redis.aclose()


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))
