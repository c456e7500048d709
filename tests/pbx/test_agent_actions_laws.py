"""Whatever agents press and phones do, in whatever order: never two agents with one customer who did not confer, and in
the end nobody is stuck and nothing is left."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from config.errors import TheirError
from pbx.consultation import Stage
from pbx.contact import State
from tests.pbx.centre import Centre
from tests.pbx.test_transfer_laws import AGENTS, Chaos

TARGETS = ("agent:agent-ana", "agent:agent-bo", "agent:agent-cy", "number:+4930123456", "skill:heating")
PRESSES = (
    "hold",
    "unhold",
    "transfer",
    "consult",
    "consult",
    "complete",
    "confer",
    "confer",
    "call_off",
    "wrap_up",
)
PHONES = (
    "ring",
    "pick up",
    "pick up",
    "refuse",
    "hang up",
    "refer",
    "dial",
    "time",
    "gone",
    "back",
    "nonsense",
)

steps = st.lists(
    st.tuples(
        st.sampled_from((*PRESSES, *PHONES, "reload", "media")),
        st.integers(0, 9),
        st.integers(0, 9),
        st.sampled_from(["settled", "a moment", "at once"]),
    ),
    max_size=16,
)


class Pages(Chaos):
    def __init__(self, centre: Centre) -> None:
        super().__init__(centre)
        self.refused: set[int] = set()

    async def press(self, what: str, which: int, until: str) -> None:
        actions, contact = self.centre.actions, next(iter(self.centre.contacts), None)
        if contact is None or contact.agent_id is None:
            return
        try:
            if what in ("transfer", "consult"):
                await getattr(actions, what)(contact.agent_id, contact.id, TARGETS[which % len(TARGETS)])
            elif what == "wrap_up":
                await actions.wrap_up(contact.agent_id, contact, "resolved", None, None)
            else:
                await getattr(actions, what)(contact.agent_id, contact.id)
        except TheirError as error:
            self.refused.add(error.status)
        if until == "settled":
            await self.centre.settle()
        elif until == "a moment":
            await asyncio.sleep(0)


@settings(max_examples=25, deadline=None)
@given(steps)
async def test_nobody_is_stuck_and_nothing_is_left(happens: list[tuple[str, int, int, str]]) -> None:
    centre = await Centre.open()
    for name in AGENTS:
        await centre.agent(name)
    pages = Pages(centre)
    contact = await centre.asks("maria")
    customer = await centre.calls_in(contact)
    centre.phone.rung[-1].pick_up()
    await centre.settle()
    for what, which, other, until in happens:
        if what in PRESSES:
            await pages.press(what, which, until)
        elif what == "reload" and contact.open:
            customer = await centre.calls_in(contact)
        elif what == "media":
            branches = [branch for call, branch in centre.media.branches if branch.startswith("agent-")]
            if branches:
                centre.media.on_gone(contact.id, branches[which % len(branches)], "silence")
        elif what != "reload":
            await pages.step(what, which, other, until)
        consultation = centre.consultations.of(contact.id)
        asked = consultation is not None and consultation.stage is not Stage.RINGING
        holders = pages.holders(contact.id)
        assert len(holders) <= (2 if asked else 1)
        if contact.state is State.CONNECTED and contact.agent_id is not None:
            assert contact.agent_id in holders
        conference = centre.media.conferences.get(contact.id)
        assert conference is None or consultation is not None
    assert pages.refused <= {403, 404, 409, 422}
    await centre.settle()
    if contact.open:
        assert customer.over is None, "a customer is never lost"
        customer.hang_up()
    await centre.settle()
    for call in pages.calls:
        if call.answered or call in pages.incoming:
            call.hang_up()
    await centre.settle()
    await centre.passes(90)
    for call in pages.calls:
        call.hang_up()
    await centre.settle()
    await centre.passes(30)
    assert not contact.open
    assert centre.media.branches == {}
    assert centre.consultations.of(contact.id) is None
    assert not centre.transfers.claims.busy(contact.id)
    assert centre.transfers._under_way == {}
    assert centre.staffing._in_calls == {}
    assert not centre.events("agent.released_stuck")
    for name in AGENTS:
        assert centre.state(name) in ("Ready", "NotReady", "Offline")
    assert [call for call in (*pages.incoming, *centre.phone.rung) if call.over is None] == []
