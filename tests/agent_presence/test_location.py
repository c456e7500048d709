from __future__ import annotations

import pytest
from sqlalchemy import select

from agent_presence.store import binding_table
from tests.agent_presence.house import DOMAIN, House
from tests.conftest import run

AOR = f"sip:ana@{DOMAIN}"


@pytest.fixture
def house() -> House:
    async def opened() -> House:
        house = await House().open()
        await house.hire("ana")
        return house

    return run(opened())


async def test_a_binding_is_there_until_it_expires_and_its_end_is_told_once(house: House) -> None:
    heard: list[tuple[int, int]] = []
    house.location.on_change.append(lambda aor, added, removed: heard.append((len(added), len(removed))))
    await house.bind(expires_s=60)
    house.advance(59)
    assert len(house.location.bindings(AOR)) == 1
    house.advance(1)
    assert house.location.bindings(AOR) == ()
    house.advance(5)
    assert heard == [(1, 0), (0, 1)]
    assert [event.kind for event in house.told if event.kind.startswith("device.")] == [
        "device.registered",
        "device.unregistered",
    ]
    assert house.kinds("device.unregistered")[0].facts["reason"] == "expired"


async def test_a_refreshed_binding_lives_on_and_its_new_expiry_is_stored(house: House) -> None:
    binding = await house.bind(expires_s=60)
    house.advance(50)
    until = house.now() + 60
    house.location.refresh(binding, until, "another-call", 7)
    house.advance(30)
    assert [each.expires_at for each in house.location.bindings(AOR)] == [until]
    await house.settle()
    rows = await house.database.read(select(binding_table))
    assert [(row.expires_at, row.call_id, row.cseq) for row in rows] == [(until, "another-call", 7)]
    house.advance(31)
    assert house.location.bindings(AOR) == ()


async def test_a_binding_refreshed_to_a_shorter_time_ends_then(house: House) -> None:
    binding = await house.bind(expires_s=600)
    house.location.refresh(binding, house.now() + 60, binding.call_id, binding.cseq + 1)
    house.advance(61)
    assert not house.location.all_bindings(AOR)


async def test_the_most_wanted_binding_comes_first_then_the_latest(house: House) -> None:
    await house.bind(key="old", q=0.5)
    house.advance(1)
    await house.bind(key="new", q=0.5)
    await house.bind(key="wanted", q=0.9)
    assert [binding.key for binding in house.location.bindings(AOR)] == ["wanted", "new", "old"]


async def test_a_binding_ends_with_its_connection(house: House) -> None:
    house.live_flows.add("tcp-1")
    await house.bind(transport="TCP", flow_token="tcp-1")
    await house.bind(key="other")
    house.live_flows.discard("tcp-1")
    assert [binding.key for binding in house.location.bindings(AOR)] == ["other"]
    house.location.flow_closed("tcp-1")
    assert set(house.location.all_bindings(AOR)) == {"other"}


async def test_a_phone_reached_by_udp_can_be_rung_at_once_after_a_restart(house: House) -> None:
    binding = await house.bind(
        features={"audio": "TRUE"}, path=("<sip:edge.test;lr>",), instance="urn:uuid:1", reg_id=1
    )
    house.live_flows.add("tcp-1")
    await house.bind(key="by-tcp", transport="TCP", flow_token="tcp-1")
    again = await house.again()
    assert again.location.bindings(AOR) == (binding,)
    await again.settle()
    assert len(await again.database.read(select(binding_table))) == 1


async def test_a_binding_that_expired_while_the_server_was_away_is_gone(house: House) -> None:
    await house.bind(expires_s=60)
    await house.settle()
    for call in tuple(house.clock.getDelayedCalls()):
        call.cancel()
    house.clock.advance(61)
    again = await house.again()
    assert again.location.bindings(AOR) == ()
    assert again.location.gone_at(AOR) == again.now() - 1


async def test_one_timer_sweeps_any_number_of_bindings(house: House) -> None:
    for number in range(50):
        await house.bind(key=f"phone {number}", expires_s=60 + number)
    assert len(house.clock.getDelayedCalls()) == 1
    house.advance(85)
    assert len(house.location.bindings(AOR)) == 24


async def test_an_address_names_its_user_and_only_one_of_ours(house: House) -> None:
    odd = "zoë;x@y"
    assert house.location.username(house.location.aor(odd)) == odd
    assert house.location.username("sip:ana@elsewhere.test") is None
