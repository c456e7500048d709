"""A call that is over is freed as its last reference goes: nothing of it is left for the garbage collector to find."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from media.server import Profile
from tests.media.descriptions import SIPP, plain
from tests.media.relay_house import House


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    opened = House(tmp_path, 8)
    yield opened
    opened.relay.close()
    gc.enable()


@pytest.mark.parametrize("ends", ["at once", "one by one"])
async def test_a_call_that_was_joined(house: House, ends: str) -> None:
    relay = house.relay
    relay.answer("c", "a", SIPP)
    relay.offer("c", "b", profile=Profile.RTP, like="a")
    relay.answer_joined("c", "a", SIPP, peer="b", answer=plain(40000))
    kept = [weakref.ref(leg) for leg in relay._calls["c"].values()]
    gc.disable()
    if ends == "at once":
        relay.delete("c")
    else:
        relay.drop("c", "b")
        relay.drop("c", "a")
    assert [leg() for leg in kept] == [None, None]
