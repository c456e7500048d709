"""Ringing phones that sleep: each is woken once, rung where it comes back, and given up when it does not."""

from __future__ import annotations

from typing import Any

import pytest

from agent_presence.location import Binding
from config.errors import OurError
from pbx.contact import Contact, State
from pbx.pages.panels import device_panel
from sip_trunk.user_agent import Refused
from tests.pbx.centre import Centre

PUSH = "pn-provider=fcm;pn-param=app-1;pn-prid=5ecret"
MOBILE = f"sip:ana@10.0.0.5:5062;transport=tls;{PUSH}"
MOVED = f"sip:ana@10.9.9.9:40123;transport=tls;{PUSH}"
BY_UDP = f"sip:ana@192.0.2.7:5062;{PUSH}"
OUTCOMES = ("declined", "busy", "no_answer", "unreachable", "asleep")


async def opened(**binding: Any) -> Centre:
    """A centre with one agent, who is ready, and whose phone can be woken; by TLS, if it is not said otherwise."""
    centre = await Centre.open(providers=["fcm"])
    agent = await centre.house.hire("ana", heating=3)
    await registers(centre, **({"contact_uri": MOBILE, "key": "m", **binding}))
    await centre.house.states.ready(agent.id)
    await centre.settle()
    return centre


async def registers(
    centre: Centre, contact_uri: str = MOVED, token: str = "tls-1", key: str = "m", **more: Any
) -> Binding:
    how = {} if "transport=tls" not in contact_uri else {"transport": "TLS", "flow_token": token}
    binding = await centre.house.register(
        contact_uri=contact_uri, key=key, expires_s=3000.0, **{**how, **more}
    )
    await centre.settle()
    return binding


async def waiting(centre: Centre, customer: str = "maria") -> Contact:
    contact = await centre.asks(customer)
    await centre.calls_in(contact)
    return contact


def rung(centre: Centre) -> list[str]:
    return [str(call.target.uri).partition("@")[2].partition(";")[0] for call in centre.phone.rung]


def pushes(centre: Centre) -> list[str]:
    return centre.house.gateway.reasons


# Its connection is gone: nothing but a push reaches it


async def test_a_sleeping_phone_is_woken_rung_where_it_comes_back_and_takes_the_call() -> None:
    centre = await opened()
    centre.house.close("tls-1")
    assert centre.state() == "Ready", "who can be woken is there"
    contact = await waiting(centre)
    assert (pushes(centre), rung(centre)) == (["call"], [])
    await centre.passes(3)
    await registers(centre, token="tls-2")
    assert rung(centre) == ["10.9.9.9:40123"]
    centre.phone.rung[0].ring()
    centre.phone.rung[0].pick_up()
    await centre.settle()
    assert (contact.state, centre.state()) == (State.CONNECTED, "Talking")
    story = [kind for kind in centre.kinds(contact) if kind in ("waking", "woken", "prompted", "accepted")]
    assert story == ["waking", "woken", "prompted", "accepted"]
    assert centre.events("contact.woken")[0].facts["after_s"] == 3.0
    assert len(pushes(centre)) == 1


async def test_it_is_rung_once_though_its_new_registration_is_news_before_it_is_answered() -> None:
    centre = await opened()
    centre.house.close("tls-1")
    await waiting(centre)
    centre.house.live_flows.add("tls-2")
    binding = await centre.house.bind(
        contact_uri=MOVED, key="m", transport="TLS", flow_token="tls-2", expires_s=3000.0
    )
    await centre.settle()
    assert rung(centre) == [], "its REGISTER is not answered yet"
    centre.house.push.registered(binding)
    await centre.settle()
    assert rung(centre) == ["10.9.9.9:40123"]


async def test_one_that_does_not_come_is_asleep_and_the_next_agent_is_rung() -> None:
    centre = await opened()
    centre.house.close("tls-1")
    await centre.passes(1)
    await centre.agent("bo")
    contact = await waiting(centre)
    assert (pushes(centre), centre.state(), centre.state("bo")) == (["call"], "Reserved", "Ready")
    await centre.passes(8.5)
    (event,) = centre.events("contact.asleep")
    assert event.agent == "agent-ana"
    assert event.facts["phones"] == {"Phone": "it did not come back within 8 s of a push"}
    assert event.facts["pause_s"] == 15.0
    assert rung(centre) == ["192.0.2.7:5062"]
    assert (contact.agent_id, centre.state()) == ("agent-bo", "Ready")


@pytest.mark.parametrize("answer", [OurError("the push gateway answered 503", 502), None])
async def test_a_gateway_that_fails_costs_the_agent_the_offer_and_nobody_more(
    answer: Exception | None,
) -> None:
    centre = await opened()
    centre.house.close("tls-1")
    centre.house.gateway.answer = answer
    contact = await waiting(centre)
    if answer is None:
        await centre.passes(8.5)
    assert "asleep" in centre.kinds(contact)
    assert (centre.state(), contact.state) == ("Ready", State.WAITING)


async def test_a_phone_its_service_has_forgotten_is_no_phone_any_more() -> None:
    centre = await opened()
    centre.house.close("tls-1")
    centre.house.gateway.answer = False
    contact = await waiting(centre)
    await centre.passes(4)
    assert "asleep" in centre.kinds(contact) or "unreachable" in centre.kinds(contact)
    assert (centre.state(), contact.state) == ("Offline", State.WAITING)
    assert rung(centre) == []


async def test_a_customer_who_leaves_while_it_is_woken_leaves_nobody_held() -> None:
    centre = await opened()
    centre.house.close("tls-1")
    contact = await centre.asks()
    caller = await centre.calls_in(contact)
    await centre.passes(2)
    caller.hang_up()
    await centre.settle()
    assert (contact.state, centre.state()) == (State.ENDED, "Ready")
    assert not set(OUTCOMES) & set(centre.kinds(contact))
    await registers(centre, token="tls-2")
    await centre.passes(20)
    assert rung(centre) == []


async def test_an_agent_who_begins_a_call_of_their_own_meanwhile_is_not_rung() -> None:
    centre = await opened()
    centre.house.close("tls-1")
    contact = await waiting(centre)
    await centre.agent("bo")
    await centre.dials("ana", "bo")
    assert "busy" in centre.kinds(contact)
    await registers(centre, token="tls-2")
    assert "10.9.9.9:40123" not in rung(centre)


async def test_an_agent_who_unregisters_meanwhile_is_lost() -> None:
    centre = await opened()
    centre.house.close("tls-1")
    contact = await waiting(centre)
    centre.house.drop()
    await centre.passes(4)
    assert set(OUTCOMES) & set(centre.kinds(contact)) <= {"unreachable", "asleep"}
    assert (centre.state(), contact.state) == ("Offline", State.WAITING)


async def test_the_time_to_ring_includes_the_time_to_wake() -> None:
    centre = await opened()
    centre.house.push._wait_s = 60.0
    centre.house.close("tls-1")
    contact = await waiting(centre)
    await centre.passes(20.5)
    assert [kind for kind in centre.kinds(contact) if kind in OUTCOMES] == ["asleep"]
    assert centre.state() == "Ready"


async def test_after_a_crash_while_it_is_woken_nobody_is_held_and_it_can_be_woken_again() -> None:
    centre = await opened()
    centre.house.close("tls-1")
    contact = await waiting(centre)
    assert centre.state() == "Reserved"
    again = await centre.again()
    assert again.state() == "Ready"
    kept = again.contacts.get(contact.id)
    assert kept is not None
    await again.calls_in(kept)
    assert again.house.gateway.reasons == ["call"]
    await registers(again, token="tls-2")
    again.phone.rung[0].pick_up()
    await again.settle()
    assert kept.state is State.CONNECTED


async def test_every_other_phone_of_the_agent_is_rung_meanwhile() -> None:
    centre = await opened()
    centre.house.close("tls-1")
    await centre.house.bind(contact_uri="sip:ana@192.0.2.9:5060", key="desk")
    contact = await waiting(centre)
    assert (pushes(centre), rung(centre)) == (["call"], ["192.0.2.9:5060"])
    centre.phone.rung[0].ring()
    await centre.passes(2)
    await registers(centre, token="tls-2")
    assert rung(centre) == ["192.0.2.9:5060", "10.9.9.9:40123"]
    centre.phone.rung[1].pick_up()
    await centre.settle()
    assert contact.state is State.CONNECTED
    assert centre.phone.rung[0].log == ["CANCEL"]


async def test_a_phone_is_pushed_once_a_prompt_whatever_else_registers_meanwhile() -> None:
    centre = await opened()
    centre.house.close("tls-1")
    await centre.house.bind(contact_uri="sip:ana@192.0.2.9:5060", key="desk")
    await waiting(centre)
    centre.phone.rung[0].ring()
    await centre.passes(9)
    assert centre.phone.rung[0].over is None, "the other one rings on"
    await centre.house.bind(contact_uri="sip:ana@192.0.2.11:5060", key="third")
    await centre.passes(2)
    assert pushes(centre) == ["call"]
    assert len(centre.phone.rung) == 2


async def test_one_that_answers_while_another_is_woken_ends_the_waiting() -> None:
    centre = await opened()
    centre.house.close("tls-1")
    await centre.house.bind(contact_uri="sip:ana@192.0.2.9:5060", key="desk")
    contact = await waiting(centre)
    centre.phone.rung[0].pick_up()
    await centre.settle()
    assert contact.state is State.CONNECTED
    await registers(centre, token="tls-2")
    assert len(centre.phone.rung) == 1


# It may sleep, or not: it is rung, and woken when it stays silent


@pytest.mark.parametrize("contact_uri", [MOBILE, BY_UDP])
async def test_one_that_is_awake_rings_at_once_and_is_not_pushed(contact_uri: str) -> None:
    centre = await opened(contact_uri=contact_uri)
    contact = await waiting(centre)
    assert len(centre.phone.rung) == 1
    centre.phone.rung[0].ring()
    await centre.passes(5)
    assert pushes(centre) == []
    assert contact.state is State.RINGING


@pytest.mark.parametrize("contact_uri", [MOBILE, BY_UDP])
async def test_one_that_stays_silent_is_pushed_and_rung_where_it_comes_back(contact_uri: str) -> None:
    centre = await opened(contact_uri=contact_uri)
    contact = await waiting(centre)
    await centre.passes(0.5)
    assert pushes(centre) == []
    await centre.passes(1)
    assert pushes(centre) == ["call"]
    await centre.passes(4)
    assert not set(OUTCOMES) & set(centre.kinds(contact)), "it has the time a push takes"
    await registers(centre, token="tls-2")
    old, new = centre.phone.rung
    assert old.log == ["CANCEL"]
    assert "10.9.9.9" in str(new.target.uri)
    new.ring()
    new.pick_up()
    await centre.settle()
    assert contact.state is State.CONNECTED


async def test_one_that_comes_back_where_it_was_may_have_got_the_invite_and_else_gets_another() -> None:
    centre = await opened(contact_uri=BY_UDP)
    contact = await waiting(centre)
    await centre.passes(1.5)
    await registers(centre, contact_uri=BY_UDP)
    assert len(centre.phone.rung) == 1
    await centre.passes(1)
    old, new = centre.phone.rung
    assert (old.log, str(new.target.uri)) == (["CANCEL"], BY_UDP)
    new.pick_up()
    await centre.settle()
    assert contact.state is State.CONNECTED


async def test_an_invite_that_does_arrive_late_ends_the_waiting() -> None:
    centre = await opened(contact_uri=BY_UDP)
    contact = await waiting(centre)
    await centre.passes(2)
    centre.phone.rung[0].ring()
    await registers(centre, contact_uri=BY_UDP)
    await centre.passes(9)
    assert (len(centre.phone.rung), contact.state) == (1, State.RINGING)
    centre.phone.rung[0].pick_up()
    await centre.settle()
    assert contact.state is State.CONNECTED


async def test_one_that_comes_back_and_stays_silent_all_the_same_is_unreachable() -> None:
    centre = await opened(contact_uri=BY_UDP)
    contact = await waiting(centre)
    await centre.passes(1.5)
    await registers(centre)
    await centre.passes(5)
    assert [kind for kind in centre.kinds(contact) if kind in OUTCOMES] == ["unreachable"]


async def test_a_push_that_fails_takes_nothing_from_the_invite_that_is_under_way() -> None:
    centre = await opened(contact_uri=BY_UDP)
    centre.house.gateway.answer = OurError("the push gateway answered 503", 502)
    contact = await waiting(centre)
    await centre.passes(3)
    assert not set(OUTCOMES) & set(centre.kinds(contact))
    centre.phone.rung[0].ring()
    await centre.passes(5)
    assert contact.state is State.RINGING


async def test_a_push_that_fails_and_an_invite_that_nobody_hears_is_asleep() -> None:
    centre = await opened(contact_uri=BY_UDP)
    centre.house.gateway.answer = OurError("the push gateway answered 503", 502)
    contact = await waiting(centre)
    await centre.passes(4.5)
    assert [kind for kind in centre.kinds(contact) if kind in OUTCOMES] == ["asleep"]
    assert centre.phone.rung[0].log == ["CANCEL"]


@pytest.mark.parametrize(("status", "local"), [(503, True), (430, False)])
async def test_an_invite_that_cannot_be_delivered_is_a_reason_to_push(status: int, local: bool) -> None:
    centre = await opened()
    contact = await waiting(centre)
    centre.phone.rung[0].tell(Refused(status, "", local, None))
    await centre.settle()
    assert pushes(centre) == ["call"]
    await centre.passes(2)
    await registers(centre, token="tls-2")
    centre.phone.rung[1].pick_up()
    await centre.settle()
    assert contact.state is State.CONNECTED


async def test_the_word_of_a_phone_that_is_awake_counts_and_needs_no_push() -> None:
    centre = await opened()
    contact = await waiting(centre)
    centre.phone.rung[0].refuse(486)
    await centre.settle()
    assert "busy" in centre.kinds(contact)
    assert pushes(centre) == []


async def test_a_100_of_a_proxy_on_the_way_is_no_sign_of_the_phone() -> None:
    centre = await opened(contact_uri=BY_UDP, path=("<sip:192.0.2.1;lr>",))
    await waiting(centre)
    centre.phone.rung[0].ring(100)
    await centre.passes(1.5)
    assert pushes(centre) == ["call"]


# Who calls them otherwise


async def test_a_colleagues_call_wakes_a_phone_too() -> None:
    centre = await opened()
    centre.house.close("tls-1")
    await centre.agent("bo")
    caller = await centre.dials("bo", "ana")
    assert (pushes(centre), caller.refused) == (["call"], None)
    await registers(centre, token="tls-2")
    centre.phone.rung[0].ring()
    centre.phone.rung[0].pick_up()
    await centre.settle()
    assert caller.answered


async def test_a_colleague_is_told_480_of_a_phone_that_does_not_wake() -> None:
    centre = await opened()
    centre.house.close("tls-1")
    await centre.agent("bo")
    caller = await centre.dials("bo", "ana")
    await centre.passes(8.5)
    assert caller.refused is not None
    assert caller.refused[0] == 480
    assert len(centre.direct_calls) == 0


async def test_a_customers_line_wakes_the_phone_its_chat_is_on_and_reaches_it_then() -> None:
    centre = await opened()
    contact = await centre.asks(channel="chat", text="hello")
    centre.phone.rung[0].pick_up()
    await centre.settle()
    assert [text for _, _, text, _ in centre.phone.sent] == ["hello"]
    centre.house.close("tls-1")
    await centre.desk.say(contact.id, "key-1", "are you there?")
    await centre.settle()
    assert pushes(centre) == ["message"]
    assert len(centre.phone.sent) == 1
    await registers(centre, token="tls-2")
    await centre.settle()
    assert [text for _, _, text, _ in centre.phone.sent] == ["hello", "are you there?"]
    assert centre.phone.sent[-1][3] == MOVED


async def test_an_agent_whose_phone_does_not_wake_for_a_chat_leaves_it_to_another() -> None:
    centre = await opened()
    contact = await centre.asks(channel="chat", text="hello")
    centre.phone.rung[0].pick_up()
    await centre.settle()
    centre.house.close("tls-1")
    await centre.desk.say(contact.id, "key-1", "are you there?")
    await centre.passes(75)
    assert contact.agent_id != "agent-ana" or contact.state is not State.CONNECTED


async def test_the_agents_page_says_that_a_phone_sleeps() -> None:
    centre = await opened()
    house = centre.house
    device = house.device()

    def said() -> list[str]:
        panel = device_panel(
            device, house.location.bindings(house.location.aor("ana")), house.location.asleep
        )
        return [binding["where"] for binding in panel["bindings"]]

    assert said() == ["TLS from 192.0.2.7:5062"]
    house.close("tls-1")
    assert said() == ["asleep; it is woken when somebody wants you"]
