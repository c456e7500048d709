"""A shared state that does not answer: nobody is lost or stuck, and all goes on when it is back."""

from __future__ import annotations

from config.errors import OurError
from config.shared_state import SharedState
from tests.pbx.callers import by_phone
from tests.pbx.centre import Centre


class Hangs:
    """As Redis then does, sooner."""

    def __init__(self, state: SharedState) -> None:
        self._state = state
        self.asked = 0
        self.answers = False

    async def claim(self, key: str, holder: str, lease_s: float) -> bool:
        self.asked += 1
        if self.answers:
            return await self._state.claim(key, holder, lease_s)
        raise OurError("The shared state does not answer.", 503)

    async def release(self, key: str, holder: str) -> bool:
        return await self._state.release(key, holder)


async def test_who_cannot_be_held_is_asked_again_and_the_contact_keeps_its_place() -> None:
    centre = await Centre.open()
    await centre.agent()
    states = centre.house.states
    hangs = Hangs(states._shared)
    states._shared = hangs  # type: ignore[assignment]
    first, _ = await by_phone(centre)
    second, _ = await by_phone(centre, "+15557654321")
    await centre.passes(30)
    assert 2 <= hangs.asked <= 60, "again and again, and not without end"
    assert centre.state() == "Ready"
    assert [centre.dispatch.position(each.id) for each in (first, second)] == [1, 2]
    hangs.answers = True
    await centre.passes(1.5)
    centre.phone.rung[-1].pick_up()
    await centre.settle()
    assert centre.state() == "Talking"
    assert [each.agent_id for each in (first, second)] == ["agent-ana", None]
