"""Whatever phones do with direct calls and transfers, in whatever order: what is left when everybody has hung up."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pbx.contact import State
from sip_trunk.call_events import TransferRequested
from tests.pbx.centre import Centre
from tests.pbx.test_transfer import Asked

AGENTS = ("ana", "bo", "cy")
TARGETS = (*AGENTS, "+4930123456", "+1999999999", "nobody")

steps = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "ring",
                "pick up",
                "pick up",
                "pick up",
                "nonsense",
                "refuse",
                "hang up",
                "dial",
                "dial",
                "refer",
                "refer",
                "attended",
                "attended",
                "replace",
                "time",
                "gone",
                "back",
            ]
        ),
        st.integers(0, 9),
        st.integers(0, 9),
        st.sampled_from(["settled", "a moment", "at once"]),
    ),
    max_size=14,
)


class Chaos:
    def __init__(self, centre: Centre) -> None:
        self.centre = centre
        self.incoming: list[Any] = []
        self.refers: list[Asked] = []

    @property
    def calls(self) -> list[Any]:
        return [call for call in (*self.incoming, *self.centre.phone.rung) if call.over is None]

    async def step(self, what: str, which: int, other: int, until: str) -> None:
        centre, calls = self.centre, self.calls
        ringing = [call for call in centre.phone.rung if call.over is None and not call.answered]
        talking = [call for call in calls if call.answered]
        agent = AGENTS[which % len(AGENTS)]
        match what:
            case "ring" if ringing:
                ringing[which % len(ringing)].ring()
            case "pick up" if ringing:
                ringing[which % len(ringing)].pick_up()
            case "nonsense" if ringing:
                ringing[which % len(ringing)].pick_up(b"nothing in common")
            case "refuse" if ringing:
                ringing[which % len(ringing)].refuse((486, 480, 603, 404)[other % 4])
            case "hang up" if talking:
                talking[which % len(talking)].hang_up("lost" if other == 0 else "peer")
            case "dial":
                self.incoming.append(await centre.dials(agent, TARGETS[other % len(TARGETS)]))
            case "refer" if talking:
                self._refer(talking[which % len(talking)], Asked(TARGETS[other % len(TARGETS)]))
            case "attended" if talking:
                replaced = talking[other % len(talking)]
                self._refer(talking[which % len(talking)], Asked("x", replaced))
            case "replace" if talking:
                replaced = talking[other % len(talking)]
                self.incoming.append(await centre.dials(agent, "x", replaces=replaced))
            case "time":
                await centre.passes(float((1, 5, 21)[which % 3]))
            case "gone":
                centre.house.drop(agent)
            case "back":
                await centre.house.bind(agent, contact_uri=f"sip:{agent}@192.0.2.7:5062")
        if until == "settled":
            await centre.settle()
        elif until == "a moment":
            await asyncio.sleep(0)

    def _refer(self, call: Any, refer: Asked) -> None:
        self.refers.append(refer)
        call.tell(TransferRequested(refer))  # type: ignore[arg-type]

    def holders(self, contact_id: str) -> list[str]:
        """Who talks to that customer."""
        states = self.centre.house.states
        records = [states.of(f"agent-{name}") for name in AGENTS]
        return [
            record.agent_id
            for record in records
            if contact_id in record.active and record.reserved_for != contact_id
        ]


@settings(max_examples=25, deadline=None)
@given(steps)
async def test_nothing_is_left_of_any_of_it(happens: list[tuple[str, int, int, str]]) -> None:
    centre = await Centre.open()
    for name in AGENTS:
        await centre.agent(name)
    chaos = Chaos(centre)
    contact = await centre.asks("maria")
    customer = await centre.calls_in(contact)
    chaos.centre.phone.rung[-1].pick_up()
    await centre.settle()
    for each in happens:
        await chaos.step(*each)
        holders = chaos.holders(contact.id)
        assert len(holders) <= 1
        if contact.state is State.CONNECTED and contact.agent_id is not None:
            assert holders == [contact.agent_id]
    await centre.settle()
    if contact.open:
        assert customer.over is None, "a customer is never lost"
    for call in (customer, *chaos.calls):
        if call.over is None and (call.answered or call in chaos.incoming):
            call.hang_up()
    await centre.settle()
    await centre.passes(90)
    for call in chaos.calls:
        call.hang_up()
    await centre.settle()
    assert not contact.open
    assert all(refer.over for refer in chaos.refers), [refer.said for refer in chaos.refers]
    assert centre.media.branches == {}
    assert len(centre.direct_calls) == 0
    assert centre.direct_calls._of_agent == centre.direct_calls._in_media == {}
    assert centre.staffing._in_calls == {}
    assert centre.transfers._under_way == {}
    for left in (centre.dispatch._held, centre.dispatch._offers, centre.dispatch._asked):
        assert not left
    await centre.passes(30)
    for name in AGENTS:
        assert centre.state(name) in ("Ready", "NotReady", "Offline")
    assert [call for call in (*chaos.incoming, *centre.phone.rung) if call.over is None] == []
