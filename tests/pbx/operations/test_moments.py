from __future__ import annotations

import argparse
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbx.operations.moments import moment, typed

NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("text", "ago"),
    [("30", 30), ("30s", 30), ("10m", 600), ("1.5h", 5400), (" 2 h ", 7200), ("3d", 3 * 86400), ("0", 0)],
)
def test_so_long_ago(text: str, ago: float) -> None:
    assert moment(text, NOW) == NOW - ago


def test_a_date_is_of_the_zone_here_unless_it_tells_one() -> None:
    assert moment("2026-11-20", NOW) == datetime(2026, 11, 20).timestamp()  # noqa: DTZ001 (the zone here is meant)
    assert moment("2026-11-20T09:00+00:00", NOW) == datetime(2026, 11, 20, 9, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    "text", ["", "soon", "-5m", "5 weeks", "2026-13-01", "99999999999d", "1e9", "0001-01-01"]
)
def test_what_is_no_time_is_said_with_what_would_be(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="10m"):
        typed(text)


@given(st.text(max_size=20))
def test_whatever_is_typed_is_a_time_or_a_complaint(text: str) -> None:
    with suppress(argparse.ArgumentTypeError):
        assert abs(typed(text)) < 1e12
