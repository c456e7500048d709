"""What nodes must agree on: who holds a key, for how long. In-process by default, Redis where several nodes serve."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, Protocol

from redis.asyncio import Redis
from redis.exceptions import RedisError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from config.errors import OurError

log = Logger()

ANSWER_S = 2.0
"""An answer takes a millisecond; a Redis that takes longer than this is not there."""

MOST_DOUBTFUL = 8
"""Questions without an answer that are remembered for each key."""


class SharedState(Protocol):
    """Leases on keys. A lease ends by release or by its time, so that what a dead node held comes free.

    Any of these raises OurError 503 where nothing can be known, within seconds. What was asked may then have been done.
    """

    async def claim(self, key: str, holder: str, lease_s: float) -> bool:
        """Take ``key`` for ``lease_s`` seconds; False if another holds it. Its own holder may claim it again."""

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
for doubtful = 3, #ARGV do
  if held == ARGV[doubtful] then held = false end
end
if held and held ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
_RELEASE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
return 1
"""


class RedisState:
    """For several nodes: the same leases, kept by Redis, timed by its clock. answer_s: how long it may take."""

    def __init__(self, url: str, *, prefix: str = "warmline:", answer_s: float = ANSWER_S) -> None:
        # Not tried again by the library: whoever asks is told in time, and knows best whether it is of use still.
        self._redis: Any = Redis.from_url(url, decode_responses=True, retry=None)
        self._prefix = prefix
        self._answer_s = answer_s
        self._answers = True
        # By key, who of us may hold it though nobody here thinks so: the question was heard, and its answer was not.
        self._doubtful: dict[str, tuple[str, ...]] = {}
        self._claim = self._redis.register_script(_CLAIM)
        self._release = self._redis.register_script(_RELEASE)

    async def claim(self, key: str, holder: str, lease_s: float) -> bool:
        args: list[str | int] = [holder, _milliseconds(lease_s), *self._doubtful.get(key, ())]
        claimed = await self._sure(key, holder, self._claim(keys=[self._prefix + key], args=args))
        self._doubtful.pop(key, None)  # either it is ours, or none of these holds it
        return bool(claimed)

    async def release(self, key: str, holder: str) -> bool:
        return bool(await self._sure(key, holder, self._release(keys=[self._prefix + key], args=[holder])))

    async def holder(self, key: str) -> str | None:
        held: str | None = await self._asked(self._redis.get(self._prefix + key))
        return held

    async def close(self) -> None:
        await self._redis.aclose()

    async def _sure(self, key: str, holder: str, question: Awaitable[Any]) -> Any:
        """As `_asked`; where it fails, what it left behind is not to be in our own way until its lease ends."""
        try:
            return await self._asked(question)
        except BaseException:
            self._doubtful[key] = (*self._doubtful.get(key, ()), holder)[-MOST_DOUBTFUL:]
            raise

    async def _asked(self, question: Awaitable[Any]) -> Any:
        """The answer; OurError 503 when there is none in time."""
        try:
            async with asyncio.timeout(self._answer_s):
                answer = await question
        except (RedisError, OSError) as error:  # a TimeoutError is an OSError
            if self._answers:
                self._answers = False
                why = str(error) or f"no answer in {self._answer_s:g} s"
                log.error("Redis does not answer, and no agent can be held until it does: {why}", why=why)
            raise OurError("The shared state does not answer.", 503) from error
        if not self._answers:
            self._answers = True
            log.info("Redis answers again")
        return answer


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))
