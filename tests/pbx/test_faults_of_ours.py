"""What goes wrong on our own side costs nobody else their turn: no agent is stuck, no queue stands still."""

from __future__ import annotations

from typing import Any

import pytest

from pbx.contact import Contact, State
from pbx.prompt import Prompt
from pbx.store import contact_table
from tests.pbx.centre import Centre


async def waiting(centre: Centre, customer: str = "maria") -> Contact:
    contact = await centre.asks(customer)
    await centre.calls_in(contact)
    return contact


async def test_a_contact_that_nobody_can_be_rung_for_keeps_no_other_from_being_served() -> None:
    centre = await Centre.open()
    ring, broken = centre.dispatch._ring, 0

    def breaks(contact: Contact, agent_id: str) -> Prompt:
        nonlocal broken
        if contact.facts.customer_id == "maria":
            broken += 1
            raise ValueError("a record that makes no sense")
        return ring(contact, agent_id)

    centre.dispatch._ring = breaks
    first = await waiting(centre, "maria")
    second = await waiting(centre, "jonas")
    await centre.agent()
    await centre.settle()
    assert (second.state, second.agent_id) == (State.RINGING, "agent-ana")
    assert (first.state, broken) == (State.WAITING, 1), "they are asked for it again later, and not at once"


async def test_an_answer_that_breaks_our_own_code_is_hung_up_on() -> None:
    centre = await Centre.open()
    await centre.agent()
    contact = await waiting(centre)

    async def breaks(*_: Any) -> None:
        raise ValueError("a fault of ours")

    centre.media.accept = breaks  # type: ignore[method-assign,assignment]
    phone = centre.phone.rung[0]
    phone.pick_up()
    await centre.settle()
    assert phone.log == ["BYE"], "no agent is left in a call with nobody"
    assert (contact.state, centre.state()) == (State.WAITING, "Ready")


async def test_looking_for_who_is_held_by_nothing_goes_on_after_a_fault() -> None:
    centre = await Centre.open()
    await centre.agent("ana")
    await centre.agent("bo")
    contact = await waiting(centre)
    centre.phone.rung[0].pick_up()
    await centre.settle()
    assert contact.agent_id == "agent-ana"
    centre.dispatch._held.clear()
    end = centre.contacts.end

    def breaks(*_: Any, **__: Any) -> Any:
        raise ValueError("a fault of ours")

    centre.contacts.end = breaks  # type: ignore[method-assign]
    await centre.passes(11)
    assert centre.state("ana") != "Talking", "whatever else goes wrong, the agent is let go of"
    centre.contacts.end = end  # type: ignore[method-assign]
    assert await centre.house.states.reserve("agent-bo", "c-nobodys", channel="voice", lease_s=600.0)
    assert centre.house.states.accepted("agent-bo", "c-nobodys")
    await centre.passes(11)
    assert centre.state("bo") == "Ready"


async def test_a_stale_wish_for_a_colleague_holds_nobody() -> None:
    centre = await Centre.open()
    await centre.agent("ana")
    contact = await waiting(centre)
    centre.phone.rung[0].pick_up()
    await centre.settle()
    await centre.agent("bo")
    wish = await centre.dispatch.hold(contact, "agent-bo")
    assert wish is not None
    wish.release()
    assert await centre.house.states.reserve("agent-bo", contact.id, channel="voice", lease_s=600.0)
    assert centre.house.states.accepted("agent-bo", contact.id)
    await centre.passes(11)
    assert centre.state("bo") == "Ready"


# An agent with something else to do


@pytest.mark.parametrize("rings", [True, False])
async def test_an_agent_who_calls_somebody_while_rung_is_rung_no_longer(rings: bool) -> None:
    centre = await Centre.open()
    agent = await centre.agent("ana")
    await centre.house.roster.add_device(agent.id, "Mobile", "ana-2", "secret", device_id="device-2")
    await centre.house.bind("ana-2", key="sip:2", contact_uri="sip:ana@192.0.2.8:5070")
    contact = await waiting(centre)
    desk, mobile = centre.phone.rung
    await centre.agent("bo")
    if rings:
        mobile.ring()
        desk.ring()
    caller = await centre.dials("ana", "+4930123456")
    assert (desk.log, mobile.log) == (["CANCEL"], ["CANCEL"])
    assert "busy" in centre.kinds(contact)
    assert (contact.state, contact.agent_id) == (State.RINGING, "agent-bo")
    assert centre.state("ana") == "Ready"
    caller.hang_up()
    await centre.settle()
    centre.phone.rung[-1].hang_up()


async def test_an_agent_who_calls_somebody_in_the_moment_of_the_choice_is_not_rung() -> None:
    centre = await Centre.open()
    await centre.agent("ana")
    claim = centre.house.states._shared.claim

    async def calls_meanwhile(*given: Any) -> bool:
        centre.staffing.occupy("agent-ana")
        centre.dispatch.agent_changed("agent-ana")
        return await claim(*given)

    centre.house.states._shared.claim = calls_meanwhile  # type: ignore[method-assign,assignment]
    contact = await waiting(centre)
    centre.house.states._shared.claim = claim  # type: ignore[method-assign]
    assert centre.phone.rung == []
    assert (contact.state, centre.state()) == (State.WAITING, "Ready")
    centre.staffing.vacate("agent-ana")
    centre.dispatch.agent_changed("agent-ana")
    await centre.settle()
    assert len(centre.phone.rung) == 1


async def test_who_has_answered_and_then_calls_somebody_keeps_the_contact() -> None:
    centre = await Centre.open()
    await centre.agent("ana")
    contact = await waiting(centre)
    centre.phone.rung[0].pick_up()
    centre.staffing.occupy("agent-ana")
    centre.dispatch.agent_changed("agent-ana")
    await centre.settle()
    assert (contact.state, contact.agent_id) == (State.CONNECTED, "agent-ana")


async def test_one_contact_stored_as_nonsense_keeps_the_server_from_nothing() -> None:
    centre = await Centre.open()
    first = await waiting(centre, "maria")
    second = await waiting(centre, "jonas")
    await centre.settle()
    await centre.house.database.write(
        contact_table.update().where(contact_table.c.id == first.id).values(call_back={"no": "call back"})
    )
    again = await centre.again()
    assert [contact.id for contact in again.contacts] == [second.id]
    assert await again.store.contact(first.id) is None
