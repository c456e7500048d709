"""Waking phones: whom a push is sent for, when, how often, and every ending of the wait for them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agent_presence.location import Binding
from agent_presence.push import BURST, MOST_AT_ONCE, Waking
from agent_presence.push_contact import PushAddress, push_address, without_prid
from config.errors import OurError
from tests.agent_presence.house import DOMAIN, House
from tests.conftest import run

AOR = f"sip:ana@{DOMAIN}"
PRID = "5ecret:token"
MOBILE = f"sip:ana@10.0.0.5:5062;transport=tls;pn-provider=fcm;pn-param=app-1;pn-prid={PRID}"
BY_TLS: dict[str, Any] = {"transport": "TLS", "flow_token": "tls-1", "contact_uri": MOBILE, "key": MOBILE}

Endings = list[tuple[Binding | None, str]]


@pytest.fixture
def house() -> House:
    async def opened() -> House:
        house = await House(providers=("fcm", "apns")).open()
        await house.hire("ana")
        return house

    return run(opened())


async def asleep(house: House, **changes: Any) -> Binding:
    """A phone that has registered, and whose connection is gone."""
    binding = await house.register(**{**BY_TLS, **changes})
    house.close(binding.flow_token)
    return binding


def wake(house: House, binding: Binding, why: str = "call") -> tuple[Waking, Endings]:
    endings: Endings = []
    waking = house.push.wake(binding, why, lambda now, reason: endings.append((now, reason)))
    assert endings == [], "never before the one who waits knows that they do"
    return waking, endings


async def soon(house: House) -> None:
    for _ in range(5):
        await asyncio.sleep(0)
    house.clock.advance(0)
    await house.settle()


def nothing_is_left(house: House) -> None:
    assert house.push._sleepers == {}
    assert house.push._refreshes == {}
    assert house.push._sending == set()
    assert len(house.push._deadlines) == 0


# What a Contact says


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("sip:a@h;pn-provider=fcm;pn-prid=1;pn-param=app", PushAddress("fcm", "1", "app")),
        ("sip:a@h;PN-Provider=fcm;PN-PRID=a%3Ab", PushAddress("fcm", "a:b")),
        ("sip:a@h;pn-provider=fcm", None),
        ("sip:a@h;pn-provider;pn-prid=1", None),
        ("sip:a@h;pn-prid=1", None),
        ("sip:a@h", None),
        ("tel:+49;pn-prid=1", None),
    ],
)
def test_how_a_contact_wants_to_be_woken(uri: str, address: PushAddress | None) -> None:
    assert push_address(uri) == address


def test_the_identifier_is_shown_to_nobody() -> None:
    assert without_prid("sip:a@h;pn-prid=s3c;pn-param=p") == "sip:a@h;pn-prid=***;pn-param=p"
    assert without_prid("sip:a@h;PN-PRID=s3c>;expires=3") == "sip:a@h;PN-PRID=***>;expires=3"
    assert "5ecret" not in repr(push_address(MOBILE))


# A binding whose connection is gone


async def test_a_phone_that_can_be_woken_sleeps_when_its_connection_ends_and_is_not_forgotten(
    house: House,
) -> None:
    binding = await asleep(house)
    assert house.location.bindings(AOR) == (binding,)
    assert house.location.asleep(binding)
    assert house.location.gone_at(AOR) is None
    assert house.states.of("agent-ana").present
    (event,) = house.kinds("device.asleep")
    assert event.facts["reason"] == "the connection ended"
    assert house.kinds("device.unregistered") == []


async def test_it_is_forgotten_when_it_expires(house: House) -> None:
    await asleep(house, expires_s=300.0)
    house.gateway.answer = OurError("no", 503)
    house.advance(301)
    assert house.location.bindings(AOR) == ()
    assert not house.states.of("agent-ana").present
    await soon(house)
    nothing_is_left(house)


async def test_it_is_there_still_when_the_server_starts_again(house: House) -> None:
    await asleep(house, expires_s=600.0)
    again = await house.again()
    (binding,) = again.location.bindings(AOR)
    assert again.location.asleep(binding)
    again.advance(481)
    await soon(again)
    assert again.gateway.reasons == ["refresh"]


@pytest.mark.parametrize("contact", ["sip:ana@10.0.0.5:5062", "sip:ana@10.0.0.5;pn-provider=other;pn-prid=1"])
async def test_who_cannot_be_woken_is_gone_with_its_connection(house: House, contact: str) -> None:
    await asleep(house, contact_uri=contact, key=contact)
    assert house.location.bindings(AOR) == ()


async def test_without_a_gateway_every_phone_is_gone_with_its_connection() -> None:
    house = await House().open()
    await house.hire("ana")
    await asleep(house)
    assert house.location.bindings(AOR) == ()
    assert not house.states.of("agent-ana").present


async def test_customers_are_not_woken(house: House) -> None:
    await asleep(house, device_id=None)
    assert house.location.bindings(AOR) == ()


async def test_who_is_awake_comes_before_who_sleeps(house: House) -> None:
    sleeps = await asleep(house)
    house.advance(1)
    sleeps_too = await asleep(house, key="2", contact_uri=MOBILE.replace("5ecret", "other"))
    awake = await house.bind(key="desk", registered_at=0.0)
    assert house.location.bindings(AOR) == (awake, sleeps_too, sleeps)


# Waking


async def test_a_phone_is_pushed_and_comes_back(house: House) -> None:
    binding = await asleep(house)
    _, endings = wake(house, binding)
    await soon(house)
    assert house.gateway.sent == [(PushAddress("fcm", PRID, "app-1"), "call", 8.0)]
    house.advance(3)
    back = await house.register(**{**BY_TLS, "flow_token": "tls-2", "contact_uri": MOBILE + ";x", "key": "n"})
    assert endings == [(back, "")]
    house.advance(20)
    assert len(endings) == 1
    (event,) = house.kinds("device.pushed")
    assert (event.agent, event.facts) == (
        "agent-ana",
        {"device": "device-ana", "provider": "fcm", "why": "call"},
    )


async def test_nothing_that_is_written_down_names_the_phones_identifier(house: House) -> None:
    binding = await asleep(house)
    wake(house, binding)
    house.gateway.answer = OurError("no", 503)
    await soon(house)
    house.advance(10)
    wake(house, binding)
    await soon(house)
    house.drop()
    assert len(house.told) >= 5
    assert not [event for event in house.told if PRID in str(event)]


async def test_an_instance_that_has_another_identifier_by_now_is_the_same_phone(house: House) -> None:
    binding = await asleep(house, instance="urn:uuid:1")
    _, endings = wake(house, binding)
    back = await house.register(instance="urn:uuid:1", key="urn:uuid:1")
    assert endings == [(back, "")]


async def test_another_phone_of_the_same_address_is_another_phone(house: House) -> None:
    binding = await asleep(house)
    _, endings = wake(house, binding)
    await house.register(key="desk", contact_uri="sip:ana@192.0.2.9")
    house.advance(7)
    assert endings == []


async def test_who_does_not_come_back_in_time_sleeps(house: House) -> None:
    binding = await asleep(house)
    _, endings = wake(house, binding)
    await soon(house)
    house.advance(7)
    assert endings == []
    house.advance(1)
    assert endings == [(None, "it did not come back within 8 s of a push")]


@pytest.mark.parametrize("error", [OurError("the push gateway answered 503", 502), ValueError("a fault")])
async def test_a_gateway_that_refuses_ends_the_wait_at_once(house: House, error: Exception) -> None:
    binding = await asleep(house)
    house.gateway.answer = error
    _, endings = wake(house, binding)
    await soon(house)
    why = error.reason if isinstance(error, OurError) else "a fault of ours"
    assert endings == [(None, why)]
    (event,) = house.kinds("device.push_failed")
    assert (event.facts["reason"], event.facts["why"]) == (why, "call")
    assert house.location.bindings(AOR) == (binding,)


async def test_a_gateway_that_never_answers_costs_no_more_than_the_wait(house: House) -> None:
    binding = await asleep(house)
    house.gateway.answer = None
    _, endings = wake(house, binding)
    await soon(house)
    house.advance(8)
    assert [now for now, _ in endings] == [None]
    await house.push.stop()
    await soon(house)
    nothing_is_left(house)


async def test_a_phone_its_service_has_forgotten_is_forgotten(house: House) -> None:
    binding = await asleep(house)
    house.gateway.answer = False
    _, endings = wake(house, binding)
    await soon(house)
    assert [now for now, _ in endings] == [None]
    assert house.location.bindings(AOR) == ()
    assert not house.states.of("agent-ana").present
    (event,) = house.kinds("device.unregistered")
    assert event.facts["reason"] == "its push service has forgotten it"
    nothing_is_left(house)


async def test_one_that_is_awake_is_not_forgotten_for_that(house: House) -> None:
    binding = await house.register(contact_uri=MOBILE)
    house.gateway.answer = False
    wake(house, binding)
    await soon(house)
    assert house.location.bindings(AOR) == (binding,)


async def test_a_phone_that_is_taken_out_meanwhile_is_waited_for_no_longer(house: House) -> None:
    binding = await asleep(house)
    _, endings = wake(house, binding)
    house.drop()
    assert endings == [(None, "its registration is gone")]


async def test_who_waits_no_longer_hears_nothing(house: House) -> None:
    binding = await asleep(house)
    waking, endings = wake(house, binding)
    waking.cancel()
    waking.cancel()
    assert house.push._sleepers == {}
    await house.register(**{**BY_TLS, "flow_token": "tls-2"})
    house.advance(20)
    assert endings == []


async def test_the_server_stops(house: House) -> None:
    binding = await asleep(house)
    _, endings = wake(house, binding)
    await house.push.stop()
    assert endings == [(None, "the server stops")]
    assert house.gateway.closed
    late: Endings = []
    house.push.wake(binding, "call", lambda now, why: late.append((now, why)))
    await soon(house)
    assert late == [(None, "the server stops")]
    house.push.registered(binding)
    await soon(house)
    nothing_is_left(house)


# How often


async def test_two_who_want_the_same_phone_at_once_cost_one_push_and_both_hear(house: House) -> None:
    binding = await asleep(house)
    _, first = wake(house, binding)
    house.advance(2)
    waking, second = wake(house, binding)
    waking.cancel()
    _, third = wake(house, binding)
    await soon(house)
    assert len(house.gateway.sent) == 1
    back = await house.register(**{**BY_TLS, "flow_token": "tls-2"})
    assert first == third == [(back, "")]
    assert second == []


async def test_a_push_that_has_had_its_time_is_sent_again_for_whoever_comes_then(house: House) -> None:
    binding = await asleep(house)
    wake(house, binding)
    await soon(house)
    house.advance(6)
    _, second = wake(house, binding)
    await soon(house)
    assert len(house.gateway.sent) == 2
    house.advance(7)
    assert second == []
    house.advance(1)
    assert len(second) == 1


async def test_a_phone_is_not_pushed_without_end(house: House) -> None:
    binding = await asleep(house, expires_s=80_000.0)
    said = []
    for _ in range(BURST + 10):
        waking, endings = wake(house, binding)
        await soon(house)
        said += endings
        waking.cancel()
    assert len(house.gateway.sent) == BURST
    assert said == [(None, "it was pushed too often")] * 10
    house.advance(15)
    wake(house, binding)
    await soon(house)
    assert len(house.gateway.sent) == BURST + 1


async def test_a_gateway_that_hangs_does_not_pile_up_requests(house: House) -> None:
    house.gateway.answer = None
    for number in range(MOST_AT_ONCE + 3):
        name = f"agent{number}"
        await house.hire(name)
        binding = await house.register(name, contact_uri=MOBILE)
        wake(house, binding)
    await soon(house)
    assert len(house.gateway.sent) == MOST_AT_ONCE
    assert [event.facts["reason"] for event in house.kinds("device.push_failed")] == [
        "too many pushes are under way"
    ] * 3
    await house.push.stop()


# Keeping a sleeping phone registered (RFC 8599 s5.5)


async def test_a_binding_is_kept_alive_by_one_push_before_it_runs_out(house: House) -> None:
    binding = await asleep(house, expires_s=600.0)
    house.advance(479)
    await soon(house)
    assert house.gateway.sent == []
    house.advance(1)
    await soon(house)
    assert house.gateway.sent == [(binding.push, "refresh", 120.0)]
    house.advance(119)
    await soon(house)
    assert len(house.gateway.sent) == 1
    back = await house.register(**{**BY_TLS, "flow_token": "tls-2", "expires_s": 600.0})
    house.advance(480)
    await soon(house)
    assert len(house.gateway.sent) == 2
    house.location.refresh(back, house.now() + 600, "c", 9)
    house.push.registered(back)
    house.advance(479)
    await soon(house)
    assert len(house.gateway.sent) == 2


async def test_a_phone_that_registers_in_time_by_itself_is_not_pushed(house: House) -> None:
    binding = await house.register(contact_uri=MOBILE, expires_s=600.0)
    for _ in range(3):
        house.advance(470)
        house.location.refresh(binding, house.now() + 600, "c", 9)
        house.push.registered(binding)
        await soon(house)
    assert house.gateway.sent == []


async def test_a_phone_that_has_left_is_not_pushed(house: House) -> None:
    await asleep(house, expires_s=600.0)
    house.drop()
    house.advance(600)
    await soon(house)
    assert house.gateway.sent == []
    nothing_is_left(house)


async def test_phones_that_registered_together_are_not_all_pushed_together() -> None:
    house = House(providers=["fcm"])
    house.push._spread = lambda least, most: least if house.push._refreshes else most
    await house.open()
    for name in ("ana", "bo"):
        await house.hire(name)
        await house.register(name, contact_uri=MOBILE.replace("ana", name), expires_s=600.0)
    house.advance(480)
    await soon(house)
    assert len(house.gateway.sent) == 1
    house.advance(60)
    await soon(house)
    assert len(house.gateway.sent) == 2
