"""Each fuzz target over its seeds: what it promises holds for them, and it goes on working between long runs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.fuzz import media_descriptions, media_packets, message_bodies, sip_messages

CASES = [
    pytest.param(target.check, seed, id=f"{target.__name__.rpartition('.')[2]}-{number}")
    for target in (sip_messages, message_bodies, media_descriptions, media_packets)
    for number, seed in enumerate(target.seeds())
]


@pytest.mark.parametrize("check, seed", CASES)
def test_a_target_finds_nothing_in_its_seeds(check: Callable[[bytes], None], seed: bytes) -> None:
    check(seed)
    # Cut off, and with something torn out of its middle.
    for at in range(0, len(seed), max(1, len(seed) // 12)):
        check(seed[:at])
        check(seed[:at] + seed[at + 9 :])


def test_there_are_seeds() -> None:
    assert len(CASES) >= 61
