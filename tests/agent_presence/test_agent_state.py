from __future__ import annotations

import pytest

from agent_presence.agent_state import MOVES, AgentState, AgentStateRecord, Move, moved
from config.errors import OurError, TheirError
from tests.agent_presence.house import House
from tests.conftest import run

ANA = "agent-ana"


@pytest.fixture
def house() -> House:
    async def opened() -> House:
        house = await House().open()
        await house.hire("ana")
        return house

    return run(opened())


@pytest.fixture
def ready(house: House) -> House:
    async def made_ready() -> House:
        await house.bind("ana")
        await house.states.ready(ANA)
        return house

    return run(made_ready())


async def reserve(house: House, contact: str = "c1", channel: str = "voice", lease_s: float = 60.0) -> bool:
    return await house.states.reserve(ANA, contact, channel=channel, lease_s=lease_s)


async def talk(house: House, contact: str = "c1", channel: str = "voice") -> None:
    assert await reserve(house, contact, channel)
    assert house.states.accepted(ANA, contact)


async def test_every_state_can_be_left_and_every_state_but_the_first_can_be_reached() -> None:
    left = {state for (state, _), after in MOVES.items() if after is not state}
    reached = {after for (state, _), after in MOVES.items() if after is not state}
    assert left == reached == set(AgentState)


async def test_from_every_state_there_is_a_way_to_ready() -> None:
    for start in AgentState:
        found, todo = {start}, [start]
        while todo:
            state = todo.pop()
            for (before, _), after in MOVES.items():
                if before is state and after not in found:
                    found.add(after)
                    todo.append(after)
        assert AgentState.READY in found


async def test_a_move_that_the_table_does_not_know_is_refused() -> None:
    with pytest.raises(OurError):
        moved(AgentStateRecord("a", AgentState.OFFLINE), Move.RESERVED, 0.0)


async def test_registering_makes_not_ready_because_readiness_is_an_act_of_its_own(house: House) -> None:
    assert house.states.of(ANA).state is AgentState.OFFLINE
    await house.bind("ana")
    assert house.states.of(ANA).state is AgentState.NOT_READY


async def test_ready_without_a_registered_phone_is_refused_in_words(house: House) -> None:
    with pytest.raises(TheirError) as refused:
        await house.states.ready(ANA)
    assert refused.value.status == 409


async def test_ready_of_nobody_is_refused(house: House) -> None:
    with pytest.raises(TheirError) as refused:
        await house.states.ready("agent-nobody")
    assert refused.value.status == 404


async def test_two_contacts_cannot_hold_one_agent(ready: House) -> None:
    assert await reserve(ready, "c1")
    assert not await reserve(ready, "c2")
    assert not await reserve(ready, "c2", "chat")
    assert ready.states.of(ANA).contact_id == "c1"


async def test_an_agent_held_by_another_server_is_not_reserved_here(ready: House) -> None:
    assert await ready.shared.claim(f"reservation/{ANA}", "elsewhere", 60.0)
    assert not await reserve(ready)
    assert ready.states.of(ANA).state is AgentState.READY


async def test_a_released_agent_can_be_reserved_again(ready: House) -> None:
    assert await reserve(ready, "c1")
    assert ready.states.release(ANA, "c1")
    assert not ready.states.release(ANA, "c1")
    assert await reserve(ready, "c2")


async def test_a_reservation_ends_with_its_lease_and_then_cannot_be_accepted(ready: House) -> None:
    assert await reserve(ready, "c1", lease_s=30.0)
    ready.advance(29)
    assert ready.states.of(ANA).state is AgentState.RESERVED
    ready.advance(1)
    assert ready.states.of(ANA).state is AgentState.READY
    assert not ready.states.accepted(ANA, "c1")
    assert await reserve(ready, "c2")


async def test_the_lease_does_not_end_a_conversation(ready: House) -> None:
    await talk(ready)
    ready.advance(120)
    assert ready.states.of(ANA).state is AgentState.TALKING


async def test_leases_that_were_over_before_their_time_are_not_waited_for(ready: House) -> None:
    timers = len(ready.clock.getDelayedCalls())
    for contact in ("c1", "c2", "c3"):
        await talk(ready, contact)
        ready.states.release(ANA, contact)
        ready.advance(5)
    ready.advance(46)  # the first lease's time has come
    assert len(ready.clock.getDelayedCalls()) == timers


async def test_a_lease_ends_in_time_behind_one_that_was_over_before(ready: House) -> None:
    await talk(ready, "c1")
    ready.states.release(ANA, "c1")
    ready.advance(10)
    assert await reserve(ready, "c2")
    ready.advance(59)
    assert ready.states.of(ANA).state is AgentState.RESERVED
    ready.advance(1)
    assert ready.states.of(ANA).state is AgentState.READY


async def test_after_a_conversation_comes_wrap_up_and_then_ready(ready: House) -> None:
    await talk(ready)
    ready.states.release(ANA, "c1", wrap_up_s=10.0)
    assert ready.states.of(ANA).state is AgentState.WRAP_UP
    assert not await reserve(ready, "c2")
    ready.advance(10)
    assert ready.states.of(ANA).state is AgentState.READY


async def test_a_declined_offer_costs_no_wrap_up(ready: House) -> None:
    await reserve(ready)
    ready.states.release(ANA, "c1", wrap_up_s=10.0)
    assert ready.states.of(ANA).state is AgentState.READY


async def test_an_agent_may_cut_wrap_up_short(ready: House) -> None:
    await talk(ready)
    ready.states.release(ANA, "c1", wrap_up_s=10.0)
    await ready.states.ready(ANA)
    assert ready.states.of(ANA).state is AgentState.READY
    ready.advance(11)
    assert ready.states.of(ANA).state is AgentState.READY


@pytest.mark.parametrize("talking", [False, True])
async def test_not_ready_during_a_contact_is_visible_at_once_and_holds_when_it_ends(
    ready: House, talking: bool
) -> None:
    await reserve(ready)
    if talking:
        ready.states.accepted(ANA, "c1")
    before = ready.states.of(ANA).state
    await ready.states.not_ready(ANA, "lunch")
    assert ready.states.of(ANA).state is before
    assert ready.states.of(ANA).pending_not_ready
    assert ready.kinds("agent.state_changed")[-1].facts["pending"] == "NotReady"
    ready.states.release(ANA, "c1")
    assert ready.states.of(ANA).state is AgentState.NOT_READY


async def test_not_ready_during_a_conversation_holds_after_its_wrap_up(ready: House) -> None:
    await talk(ready)
    await ready.states.not_ready(ANA)
    ready.states.release(ANA, "c1", wrap_up_s=5.0)
    assert ready.states.of(ANA).state is AgentState.WRAP_UP
    ready.advance(5)
    assert ready.states.of(ANA).state is AgentState.NOT_READY


async def test_ready_said_again_takes_a_pending_break_back(ready: House) -> None:
    await talk(ready)
    await ready.states.not_ready(ANA)
    await ready.states.ready(ANA)
    ready.states.release(ANA, "c1")
    assert ready.states.of(ANA).state is AgentState.READY


async def test_two_chats_at_a_time_and_no_third(ready: House) -> None:
    await talk(ready, "c1", "chat")
    assert ready.states.free_for(ANA, "chat")
    await talk(ready, "c2", "chat")
    assert dict(ready.states.of(ANA).active) == {"c1": "chat", "c2": "chat"}
    assert not await reserve(ready, "c3", "chat")
    ready.states.release(ANA, "c1", wrap_up_s=10.0)
    assert ready.states.of(ANA).state is AgentState.TALKING
    assert await reserve(ready, "c3", "chat")


async def test_no_call_beside_a_chat_and_no_chat_beside_a_call(ready: House) -> None:
    await talk(ready, "c1", "chat")
    assert not await reserve(ready, "c2", "voice")
    assert not await reserve(ready, "c2", "video")
    ready.states.release(ANA, "c1")
    await talk(ready, "c3", "video")
    assert not await reserve(ready, "c4", "chat")


async def test_only_one_offer_at_a_time_rings_an_agent_who_chats(ready: House) -> None:
    await talk(ready, "c1", "chat")
    assert await reserve(ready, "c2", "chat")
    assert not await reserve(ready, "c3", "chat")
    ready.states.release(ANA, "c2")
    assert ready.states.of(ANA).state is AgentState.TALKING


async def test_when_the_chat_ends_while_another_is_offered_the_agent_is_reserved(ready: House) -> None:
    await talk(ready, "c1", "chat")
    assert await reserve(ready, "c2", "chat")
    ready.states.release(ANA, "c1", wrap_up_s=10.0)
    assert ready.states.of(ANA).state is AgentState.RESERVED
    assert ready.states.accepted(ANA, "c2")
    assert ready.states.of(ANA).state is AgentState.TALKING


async def test_an_agent_on_a_pending_break_gets_no_second_chat(ready: House) -> None:
    await talk(ready, "c1", "chat")
    await ready.states.not_ready(ANA)
    assert not await reserve(ready, "c2", "chat")


async def test_listeners_hear_of_capacity_too(ready: House) -> None:
    heard: list[tuple[str, AgentState, AgentState]] = []
    await talk(ready, "c1", "chat")
    await talk(ready, "c2", "chat")
    ready.states.on_change.append(lambda agent, old, new: heard.append((agent, old, new)))
    ready.states.release(ANA, "c1")
    assert heard == [(ANA, AgentState.TALKING, AgentState.TALKING)]


async def test_a_listener_that_fails_stops_nobody_else(ready: House, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[AgentState] = []

    def broken(agent: str, old: AgentState, new: AgentState) -> None:
        raise RuntimeError("broken")

    ready.states.on_change += [broken, lambda agent, old, new: heard.append(new)]
    assert await reserve(ready)
    assert heard == [AgentState.RESERVED]


async def test_a_phone_that_registers_again_while_it_rings_costs_nothing(ready: House) -> None:
    await reserve(ready)
    ready.drop("ana")
    assert ready.states.of(ANA).state is AgentState.RESERVED
    await ready.bind("ana")
    assert ready.states.accepted(ANA, "c1")
    ready.states.release(ANA, "c1")
    assert ready.states.of(ANA).state is AgentState.READY


async def test_an_offer_that_outlives_the_registration_leaves_the_agent_offline(ready: House) -> None:
    await reserve(ready)
    ready.drop("ana")
    ready.states.release(ANA, "c1")
    assert ready.states.of(ANA).state is AgentState.OFFLINE
    await ready.settle()
    assert await ready.shared.holder(f"reservation/{ANA}") is None
    await ready.bind("ana")
    assert ready.states.of(ANA).state is AgentState.READY, "it was a short absence"


async def test_who_misses_too_many_in_a_row_is_not_ready_and_it_says_why(ready: House) -> None:
    for number in (1, 2):
        assert await reserve(ready, f"c{number}")
        assert ready.states.missed(ANA, f"c{number}", "no_answer", 2) is (number == 2)
        ready.states.release(ANA, f"c{number}")
    record = ready.states.of(ANA)
    assert (record.state, record.why, record.wants_ready) == (AgentState.NOT_READY, "no_answer", False)
    await ready.states.ready(ANA)
    record = ready.states.of(ANA)
    assert (record.state, record.why, record.missed) == (AgentState.READY, "", 0)


async def test_taking_one_forgives_those_that_were_missed(ready: House) -> None:
    await reserve(ready, "c1")
    ready.states.missed(ANA, "c1", "no_answer", 2)
    ready.states.release(ANA, "c1")
    await talk(ready, "c2")
    record = ready.states.of(ANA)
    assert (record.missed, record.taken) == (0, 1)
    ready.states.release(ANA, "c2")
    await reserve(ready, "c3")
    assert not ready.states.missed(ANA, "c3", "no_answer", 2)


async def test_an_outcome_that_never_counts_counts_nothing(ready: House) -> None:
    for number in range(5):
        await reserve(ready, f"c{number}")
        assert not ready.states.missed(ANA, f"c{number}", "declined", 0)
        ready.states.release(ANA, f"c{number}")
    assert ready.states.of(ANA).missed == 0


async def test_a_break_said_during_an_offer_survives_it(ready: House) -> None:
    await reserve(ready)
    await ready.states.not_ready(ANA)
    ready.states.release(ANA, "c1")
    assert ready.states.of(ANA).state is AgentState.NOT_READY


async def test_a_conversation_outlives_its_registration_and_then_the_agent_is_offline(ready: House) -> None:
    await talk(ready)
    ready.drop("ana")
    assert ready.states.of(ANA).state is AgentState.TALKING
    ready.states.release(ANA, "c1", wrap_up_s=10.0)
    assert ready.states.of(ANA).state is AgentState.OFFLINE


async def test_ready_comes_back_after_a_short_absence(ready: House) -> None:
    ready.drop("ana")
    ready.advance(60)
    await ready.bind("ana")
    assert ready.states.of(ANA).state is AgentState.READY


async def test_ready_does_not_come_back_after_a_long_absence(ready: House) -> None:
    ready.drop("ana")
    ready.advance(301)
    await ready.bind("ana")
    assert ready.states.of(ANA).state is AgentState.NOT_READY


async def test_a_phone_that_changes_its_address_does_not_take_the_agent_away(ready: House) -> None:
    heard: list[AgentState] = []
    ready.states.on_change.append(lambda agent, old, new: heard.append(new))
    await ready.bind("ana", contact_uri="sip:ana@198.51.100.9:5062", flow_token="udp:198.51.100.9:5062")
    assert heard == []


async def test_every_change_is_told_with_its_reason(ready: House) -> None:
    await reserve(ready)
    told = [
        (event.agent, event.contact, event.facts["old"], event.facts["new"], event.facts["reason"])
        for event in ready.kinds("agent.state_changed")
    ]
    assert told == [
        (ANA, None, "Offline", "NotReady", "a phone registered"),
        (ANA, None, "NotReady", "Ready", "said so"),
        (ANA, "c1", "Ready", "Reserved", "reserved"),
    ]


@pytest.mark.parametrize("talking", [False, True])
async def test_after_a_restart_nobody_is_held_by_what_died(ready: House, talking: bool) -> None:
    await reserve(ready)
    if talking:
        ready.states.accepted(ANA, "c1")
    again = await ready.again()
    assert again.states.of(ANA).state is AgentState.READY
    assert dict(again.states.of(ANA).active) == {}
    assert again.kinds("agent.state_changed")[-1].facts["reason"] == "the server started again"
    assert await again.states.reserve(ANA, "c2", channel="voice", lease_s=60.0)


async def test_after_a_restart_a_break_is_still_a_break(ready: House) -> None:
    await talk(ready)
    await ready.states.not_ready(ANA)
    assert (await ready.again()).states.of(ANA).state is AgentState.NOT_READY


async def test_after_a_restart_an_agent_whose_connection_died_comes_back_ready_if_soon(house: House) -> None:
    house.live_flows.add("tcp-1")
    await house.bind("ana", transport="TCP", flow_token="tcp-1")
    await house.states.ready(ANA)
    again = await house.again()
    assert again.states.of(ANA).state is AgentState.OFFLINE
    again.advance(20)
    again.live_flows.add("tcp-2")
    await again.bind("ana", transport="TCP", flow_token="tcp-2")
    assert again.states.of(ANA).state is AgentState.READY


async def test_after_a_long_outage_readiness_must_be_said_again(ready: House) -> None:
    await ready.settle()
    for call in tuple(ready.clock.getDelayedCalls()):
        call.cancel()
    ready.clock.advance(3600)
    again = await ready.again()
    assert again.states.of(ANA).state is AgentState.OFFLINE
    await again.bind("ana")
    assert again.states.of(ANA).state is AgentState.NOT_READY


async def test_a_reservation_that_cannot_be_claimed_leaves_the_agent_ready(
    ready: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def out_of_reach(*_: object) -> bool:
        raise ConnectionError("no shared state")

    monkeypatch.setattr(ready.shared, "claim", out_of_reach)
    with pytest.raises(ConnectionError):
        await reserve(ready)
    assert ready.states.of(ANA).state is AgentState.READY
    assert not ready.states.of(ANA).active


async def test_a_contact_is_handed_over_and_both_agents_move_at_once(ready: House) -> None:
    await ready.hire("bo")
    await ready.bind("bo", key="sip:bo@192.0.2.8", contact_uri="sip:bo@192.0.2.8")
    await talk(ready)
    assert await ready.states.reserve("agent-bo", "c1", channel="voice", lease_s=60.0, named=True)
    seen: list[tuple[AgentState, AgentState]] = []
    ready.states.on_change.append(
        lambda *_: seen.append((ready.states.of(ANA).state, ready.states.of("agent-bo").state))
    )
    assert ready.states.hand_over("c1", ANA, "agent-bo", wrap_up_s=10.0)
    assert seen[-1] == (AgentState.WRAP_UP, AgentState.TALKING)
    assert all(AgentState.TALKING in pair for pair in seen), "somebody has the contact all the time"
    assert not ready.states.hand_over("c1", ANA, "agent-bo", wrap_up_s=10.0), "it is theirs already"


async def test_an_agent_on_a_break_is_held_by_name_only_and_goes_back_to_the_break(ready: House) -> None:
    await ready.states.not_ready(ANA)
    assert not await reserve(ready)
    assert await ready.states.reserve(ANA, "c1", channel="voice", lease_s=60.0, named=True)
    assert ready.states.of(ANA).state is AgentState.RESERVED
    assert not await ready.states.reserve(ANA, "c2", channel="voice", lease_s=60.0, named=True)
    ready.states.release(ANA, "c1")
    assert ready.states.of(ANA).state is AgentState.NOT_READY


async def test_nobody_without_a_phone_is_held_by_name(house: House) -> None:
    assert not await house.states.reserve(ANA, "c1", channel="voice", lease_s=60.0, named=True)
