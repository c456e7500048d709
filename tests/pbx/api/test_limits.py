"""Rate limits and stream counts, and that their tables stay small."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from config.errors import TheirError
from config.rate_limit import RateLimit
from pbx.api.limits import StreamCount


def allowed(limit: RateLimit, owner: str) -> bool:
    try:
        limit.take(owner, "Too fast.")
    except TheirError:
        return False
    return True


@given(
    st.integers(1, 5),
    st.floats(0.1, 5),
    st.lists(st.floats(0, 10, allow_nan=False), max_size=60),
)
def test_never_more_than_the_burst_and_the_rate_allow(burst: int, per_s: float, pauses: list[float]) -> None:
    clock = Clock()
    limit = RateLimit(burst, per_s, clock.seconds)
    taken = 0
    for pause in pauses:
        clock.advance(pause)
        taken += allowed(limit, "maria")
        assert taken <= burst + per_s * clock.seconds() + 1e-6


def test_one_persons_haste_is_not_anothers(clock: Clock) -> None:
    limit = RateLimit(1, 0.1, clock.seconds)
    assert allowed(limit, "maria")
    assert not allowed(limit, "maria")
    assert allowed(limit, "jonas")
    clock.advance(10)
    assert allowed(limit, "maria")


def test_the_table_stays_small(clock: Clock) -> None:
    limit = RateLimit(1, 0.1, clock.seconds, remembered=100)
    for number in range(1000):
        allowed(limit, f"customer {number}")
    assert len(limit) == 100


async def test_streams_are_counted_and_forgotten() -> None:
    streams = StreamCount(1)
    with streams.one("maria"):
        with pytest.raises(TheirError), streams.one("maria"):
            pass
        with streams.one("jonas"):
            assert len(streams) == 2
    assert len(streams) == 0
