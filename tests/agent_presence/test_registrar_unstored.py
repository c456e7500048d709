"""A database that fails once: whoever is answered 200 afterwards is stored, or gone, as they were told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from agent_presence.location import SWEEP_S
from tests.agent_presence.house import House
from tests.agent_presence.test_registrar import AOR, Desk
from tests.agent_presence.test_registrar_push import MOBILE
from tests.conftest import run


class Full:
    """Refuses so many changes of bindings, then none."""

    def __init__(self, house: House, times: int) -> None:
        self.left = times
        self.tried = 0
        for name in ("change_bindings", "replace_bindings"):
            setattr(house.store, name, self._failing(getattr(house.store, name)))

    def _failing(self, write: Any) -> Any:
        def tried(*arguments: Any) -> asyncio.Future[None]:
            self.tried += 1
            if not self.left:
                written: asyncio.Future[None] = write(*arguments)
                return written
            self.left -= 1
            refused: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            refused.set_exception(RuntimeError("database or disk is full"))
            return refused

        return tried


@pytest.fixture
def desk() -> Desk:
    async def opened() -> Desk:
        house = await House(providers=("fcm",)).open()
        await house.hire("ana")
        return Desk(house)

    return run(opened())


async def known_after_a_crash(desk: Desk) -> Sequence[Any]:
    return (await desk.house.again()).location.bindings(AOR)


async def test_who_registers_again_after_a_500_is_stored(desk: Desk) -> None:
    Full(desk.house, 2)
    answers = [(await desk.register(MOBILE)).status for _ in range(3)]
    assert answers == [500, 500, 200]
    assert len(await known_after_a_crash(desk)) == 1


async def test_who_is_told_to_be_gone_after_a_500_is_gone(desk: Desk) -> None:
    assert (await desk.register(MOBILE)).status == 200
    Full(desk.house, 1)
    answers = [(await desk.register(MOBILE, "Expires: 0")).status for _ in range(2)]
    assert answers == [500, 200]
    assert not await known_after_a_crash(desk)


async def test_what_could_not_be_stored_is_tried_again_once_a_sweep(desk: Desk) -> None:
    full = Full(desk.house, 3)
    assert (await desk.register(MOBILE)).status == 500
    for tried in (2, 3, 4, 4):
        desk.house.clock.advance(SWEEP_S)
        await desk.house.settle()
        assert full.tried == tried
    assert len(await known_after_a_crash(desk)) == 1
