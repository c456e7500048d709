"""What the registrar says to phones that want to be woken (RFC 8599 s4.1, s5.6.1)."""

from __future__ import annotations

import asyncio

import pytest

from agent_presence.location import Binding
from sip_trunk.sip.message import Response
from tests.agent_presence.house import DOMAIN, House
from tests.agent_presence.test_registrar import AOR, Desk, Line, expires
from tests.conftest import run

FCM = "pn-provider=fcm;pn-param=app-1;pn-prid=5ecret"
MOBILE = f"<sip:ana@10.0.0.5:5062;{FCM}>"


async def opened(*providers: str) -> Desk:
    house = await House(providers=providers).open()
    await house.hire("ana")
    return Desk(house)


@pytest.fixture
def desk() -> Desk:
    return run(opened("fcm", "apns"))


def told(answer: Response) -> list[str]:
    return answer.headers.all("Feature-Caps")


def tls(token: str) -> Line:
    return Line("TLS", ("198.51.100.9", 40000), token)


async def test_a_phone_that_wants_to_be_woken_is_told_that_it_will_be(desk: Desk) -> None:
    answer = await desk.register(MOBILE)
    assert (answer.status, told(answer)) == (200, ['*;+sip.pns="fcm"'])
    answer = await desk.register(MOBILE)
    assert told(answer) == ['*;+sip.pns="fcm"'], "at each refresh too"


async def test_one_that_registers_again_by_itself_is_told_how_soon(desk: Desk) -> None:
    answer = await desk.register(f"{MOBILE};+sip.pnsreg")
    assert told(answer) == ['*;+sip.pns="fcm";+sip.pnsreg="130"']


async def test_a_service_that_nobody_reaches_is_refused(desk: Desk) -> None:
    answer = await desk.register("<sip:ana@10.0.0.5;pn-provider=acme;pn-prid=1>")
    assert (answer.status, answer.reason) == (555, "Push Notification Service Not Supported")
    assert desk.uris() == []


async def test_who_asks_which_services_there_are_is_told_and_not_woken(desk: Desk) -> None:
    answer = await desk.register("<sip:ana@10.0.0.5;pn-provider>")
    assert told(answer) == ['*;+sip.pns="fcm"', '*;+sip.pns="apns"']
    answer = await desk.register("<sip:ana@10.0.0.5;pn-provider=apns>")
    assert told(answer) == ['*;+sip.pns="apns"']
    assert not any(desk.house.push.wakes(each) for each in desk.house.location.bindings(AOR))
    assert (await desk.register("<sip:ana@10.0.0.5;pn-provider=acme>")).status == 555


async def test_who_says_nothing_of_pushes_is_told_nothing(desk: Desk) -> None:
    assert told(await desk.register()) == []


async def test_without_a_gateway_nothing_is_said_of_pushes_and_nobody_refused() -> None:
    desk = await opened()
    answer = await desk.register("<sip:ana@10.0.0.5;pn-provider=acme;pn-prid=1>", "Expires: 60")
    assert (answer.status, told(answer), expires(answer)) == (200, [], [60])


async def test_what_a_proxy_on_the_way_has_promised_is_left_to_it(desk: Desk) -> None:
    contact = "<sip:ana@10.0.0.5;pn-provider=acme;pn-prid=1>"
    answer = await desk.register(contact, 'Feature-Caps: *;+sip.pns="acme"')
    assert (answer.status, told(answer)) == (200, [])
    assert (await desk.register(contact, 'Feature-Caps: *;+sip.pnspurr="x"')).status == 555


@pytest.mark.parametrize(
    ("asked", "status", "granted"),
    [("299", 423, []), ("300", 200, [300]), ("9999999", 200, [86400]), (None, 200, [300])],
)
async def test_how_long_the_binding_of_a_phone_lasts_that_is_woken(
    desk: Desk, asked: str | None, status: int, granted: list[int]
) -> None:
    answer = await desk.register(MOBILE, *([f"Expires: {asked}"] if asked else []))
    assert (answer.status, expires(answer)) == (status, granted)
    assert answer.headers.get("Min-Expires") == ("300" if status == 423 else None)


async def test_a_phone_that_comes_back_from_elsewhere_takes_its_own_place(desk: Desk) -> None:
    first = tls("tls-1")
    await desk.register(MOBILE, flow=first)
    first.ended()
    assert len(desk.uris()) == 1
    moved = f"<sip:ana@10.9.9.9:40123;{FCM}>"
    await desk.register(moved, flow=tls("tls-2"), call_id="call-2")
    assert desk.uris() == [moved[1:-1]]


async def test_two_flows_of_one_instance_are_both_kept(desk: Desk) -> None:
    for number in (1, 2):
        contact = f'{MOBILE};+sip.instance="<urn:uuid:1>";reg-id={number}'
        await desk.register(contact, flow=tls(f"tls-{number}"), call_id=f"call-{number}")
    assert len(desk.uris()) == 2


async def test_who_takes_its_contact_back_is_not_told_of_pushes_nor_woken(desk: Desk) -> None:
    await desk.register(MOBILE)
    answer = await desk.register("<sip:ana@10.0.0.5:5062;pn-provider=fcm;pn-param=app-1>;expires=0")
    assert (answer.status, told(answer), desk.uris()) == (200, [], [])


async def test_who_wants_it_no_longer_is_no_longer_woken(desk: Desk) -> None:
    await desk.register(MOBILE)
    await desk.register("<sip:ana@10.0.0.5:5062>")
    (binding,) = desk.house.location.bindings(AOR)
    assert binding.push is None
    desk.house.advance(300)
    assert desk.house.gateway.sent == []


async def test_who_waits_for_a_phone_hears_of_it_once_its_register_is_answered(desk: Desk) -> None:
    first = tls("tls-1")
    await desk.register(MOBILE, flow=first)
    first.ended()
    (binding,) = desk.house.location.bindings(AOR)
    heard: list[Binding | None] = []
    desk.house.push.wake(binding, "call", lambda now, why: heard.append(now))
    for _ in range(5):
        await asyncio.sleep(0)
    assert desk.house.gateway.reasons == ["call"]
    desk.registrar.on_registered.insert(0, lambda binding: heard.append(None))
    await desk.register(MOBILE, flow=tls("tls-2"))
    (now,) = desk.house.location.bindings(AOR)
    assert heard == [None, now]


async def test_a_refresh_is_heard_of_too(desk: Desk) -> None:
    await desk.register(MOBILE)
    desk.registered.clear()
    await desk.register(MOBILE)
    assert desk.registered == list(desk.house.location.bindings(AOR))


async def test_customers_are_told_nothing_of_pushes(desk: Desk) -> None:
    address = f"sip:c-1@{DOMAIN}"
    answer = await desk.register(f"<sip:c-1@10.0.0.5;{FCM}>", user="c-1", to=address)
    assert (answer.status, told(answer)) == (200, [])
    answer = await desk.register(
        "<sip:c-1@10.0.0.5;pn-provider=acme;pn-prid=1>", user="c-1", to=address, call_id="call-2"
    )
    assert answer.status == 200


async def test_the_password_comes_first(desk: Desk) -> None:
    answer = await desk.register("<sip:ana@10.0.0.5;pn-provider=acme;pn-prid=1>", user=None)
    assert answer.status == 401
