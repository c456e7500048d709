"""Each way in which an offer comes to nothing: what it is called, what it costs the agent, and who is asked next."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from agent_presence.agent_state import AgentState
from config.queue_settings import Consequence, Overflow, QueueSettings, Step, Strategy
from pbx.contact import Contact, Disposition, State
from sip_trunk.sip.message import Response
from sip_trunk.user_agent import Refused
from tests.pbx.centre import Caller, Centre


async def opened(**settings: Any) -> Centre:
    """A centre whose queue `default` is set so."""
    return await Centre.open(queues=[QueueSettings("default", **settings)])


async def waiting(centre: Centre, customer: str = "maria") -> Contact:
    contact = await centre.asks(customer)
    await centre.calls_in(contact)
    return contact


def called(centre: Centre) -> list[str]:
    return [call.to.removeprefix("<sip:").partition("@")[0] for call in centre.phone.rung]


async def two(centre: Centre) -> None:
    await centre.agent("ana")
    await centre.passes(5)
    await centre.agent("bo")


# What a refusal means


@pytest.mark.parametrize(
    ("rings_s", "status", "outcome"),
    [
        (1.0, 486, "declined"),  # a reject key
        (0.1, 486, "busy"),  # faster than a finger: do-not-disturb, or no free line
        (None, 486, "busy"),
        (1.0, 603, "declined"),
        (None, 603, "declined"),
        (None, 607, "declined"),
        (None, 480, "unreachable"),
        (12.0, 480, "no_answer"),  # the phone's own limit was shorter than ours
        (12.0, 408, "no_answer"),
        (1.0, 503, "unreachable"),
        (None, 404, "unreachable"),
    ],
)
async def test_what_a_refusal_means(rings_s: float | None, status: int, outcome: str) -> None:
    centre = await Centre.open()
    await two(centre)
    contact = await waiting(centre)
    phone = centre.phone.rung[0]
    if rings_s is not None:
        phone.ring()
        await centre.passes(rings_s)
    phone.refuse(status)
    await centre.settle()
    told = [kind for kind in centre.kinds(contact) if kind in OUTCOMES]
    assert told == [outcome]
    assert called(centre) == ["ana", "bo"], "the next agent is asked"


OUTCOMES = ("declined", "busy", "no_answer", "unreachable", "asleep")


@pytest.mark.parametrize(
    ("cause", "outcome"), [(17, "busy"), (19, "no_answer"), (21, "declined"), (3, "unreachable")]
)
async def test_a_gateway_says_what_it_was(cause: int, outcome: str) -> None:
    centre = await Centre.open()
    await centre.agent()
    contact = await waiting(centre)
    response = Response(480, headers=[("Reason", f"Q.850;cause={cause}")])
    centre.phone.rung[0].tell(Refused(480, "", False, response))
    await centre.settle()
    assert outcome in centre.kinds(contact)


async def test_an_agent_who_is_busy_on_one_phone_is_not_rung_on_the_other() -> None:
    centre = await Centre.open()
    agent = await centre.agent("ana")
    await centre.house.roster.add_device(agent.id, "Mobile", "ana-2", "secret", device_id="device-2")
    await centre.house.bind("ana-2", key="sip:2", contact_uri="sip:ana@192.0.2.8:5070")
    contact = await waiting(centre)
    desk, mobile = centre.phone.rung
    mobile.ring()
    desk.refuse(486)
    await centre.settle()
    assert mobile.log == ["CANCEL"]
    assert "busy" in centre.kinds(contact)


async def test_a_phone_that_can_be_woken_and_stays_silent_is_asleep() -> None:
    centre = await Centre.open()
    agent = await centre.house.hire("ana", heating=3)
    uri = "sip:ana@192.0.2.7:5062;pn-provider=apns;pn-prid=00fc13adff78512;pn-param=ABC"
    await centre.house.bind("ana", contact_uri=uri)
    await centre.house.states.ready(agent.id)
    contact = await waiting(centre)
    await centre.passes(5)
    (event,) = centre.events("contact.asleep")
    assert (event.contact, event.agent) == (contact.id, agent.id)
    assert event.facts["pause_s"] == 15.0


# What it costs


async def test_the_pause_is_that_of_the_outcome_and_the_event_says_so() -> None:
    centre = await opened(declined=Consequence(7.0))
    await centre.agent()
    contact = await waiting(centre)
    centre.phone.rung[0].refuse(603)
    await centre.settle()
    (event,) = centre.events("contact.declined")
    assert event.facts["pause_s"] == 7.0
    assert event.facts["again_at"] == centre.house.now() + 7.0
    assert contact.refusals["agent-ana"].outcome == "declined"
    await centre.passes(6)
    assert len(centre.phone.rung) == 1
    await centre.passes(2)
    assert len(centre.phone.rung) == 2


async def test_never_means_never_for_this_contact_and_not_for_the_next() -> None:
    centre = await opened(declined=Consequence(math.inf), max_wait_s=600.0)
    await centre.agent()
    first = await waiting(centre)
    centre.phone.rung[0].refuse(603)
    await centre.passes(200)
    assert len(centre.phone.rung) == 1
    (event,) = centre.events("contact.declined")
    assert (event.facts["pause_s"], event.facts["again_at"]) == ("never", None)
    second = await waiting(centre, "jonas")
    assert centre.phone.rung[1].header("X-Warmline-Contact") == second.id
    assert first.state is State.WAITING


async def test_who_lets_it_ring_twice_is_not_ready_and_the_page_can_say_why() -> None:
    centre = await opened(no_answer=Consequence(5.0, 2))
    await centre.agent()
    contact = await waiting(centre)
    for number in (1, 2):
        centre.phone.rung[-1].ring()
        await centre.passes(21)
        assert centre.kinds(contact).count("no_answer") == number
        await centre.passes(6)
    record = centre.house.states.of("agent-ana")
    assert (record.state, record.why) == (AgentState.NOT_READY, "no_answer")
    (event,) = centre.events("agent.made_not_ready")
    assert (event.agent, event.facts["outcome"], event.facts["after"]) == ("agent-ana", "no_answer", 2)
    assert len(centre.phone.rung) == 2
    await centre.house.states.ready("agent-ana")
    await centre.settle()
    assert len(centre.phone.rung) == 3


async def test_who_takes_one_starts_anew() -> None:
    centre = await opened(unreachable=Consequence(1.0, 2))
    await centre.agent()
    await waiting(centre)
    centre.phone.rung[0].refuse(503)
    await centre.passes(2)
    centre.phone.rung[1].pick_up()
    await centre.settle()
    assert centre.house.states.of("agent-ana").missed == 0
    centre.phone.rung[1].hang_up()
    await centre.passes(11)
    await waiting(centre, "jonas")
    centre.phone.rung[2].refuse(503)
    await centre.settle()
    assert centre.state() == "Ready"


async def test_a_break_said_while_it_rings_survives_the_offer() -> None:
    centre = await Centre.open()
    await centre.agent()
    await waiting(centre)
    centre.phone.rung[0].ring()
    await centre.house.states.not_ready("agent-ana")
    await centre.passes(1)
    assert centre.state() == "Reserved"
    centre.phone.rung[0].refuse(486)
    await centre.settle()
    assert centre.state() == "NotReady"


# Phones that come and go while it rings


async def test_to_register_again_while_it_rings_is_no_refusal() -> None:
    centre = await Centre.open()
    await centre.agent()
    contact = await waiting(centre)
    phone = centre.phone.rung[0]
    phone.ring()
    centre.house.drop()
    await centre.passes(1)
    await centre.house.bind("ana", contact_uri="sip:ana@192.0.2.7:5062")
    await centre.passes(10)
    assert contact.state is State.RINGING
    assert not set(OUTCOMES) & set(centre.kinds(contact))
    phone.pick_up()
    await centre.settle()
    assert (contact.state, centre.state()) == (State.CONNECTED, "Talking")


async def test_a_phone_that_registers_from_elsewhere_while_it_rings_is_rung_there_too() -> None:
    centre = await Centre.open()
    await centre.agent()
    contact = await waiting(centre)
    await centre.house.bind("ana", key="sip:new", contact_uri="sip:ana@192.0.2.9:5062")
    await centre.settle()
    old, new = centre.phone.rung
    assert str(new.target.uri) == "sip:ana@192.0.2.9:5062"
    new.pick_up()
    await centre.settle()
    assert contact.state is State.CONNECTED
    assert old.log == ["CANCEL"]


async def test_a_phone_that_rings_already_is_not_rung_twice_because_it_moved() -> None:
    centre = await Centre.open()
    agent = await centre.house.hire("ana", heating=3)
    await centre.house.bind("ana", instance="urn:uuid:1", contact_uri="sip:ana@192.0.2.7:5062")
    await centre.house.states.ready(agent.id)
    await waiting(centre)
    centre.phone.rung[0].ring()
    await centre.house.bind("ana", key="n", instance="urn:uuid:1", contact_uri="sip:ana@192.0.2.9:5062")
    await centre.settle()
    assert len(centre.phone.rung) == 1


# Whose turn it is


async def test_nobody_is_asked_twice_in_a_row_while_another_is_free() -> None:
    centre = await opened(strategy=Strategy.FEWEST_CONTACTS, declined=Consequence(0.0))
    await two(centre)
    await waiting(centre)
    for _ in range(5):
        centre.phone.rung[-1].refuse(603)
        await centre.settle()
    assert all(before != after for before, after in zip(called(centre), called(centre)[1:], strict=False))


async def talks_to(centre: Centre, customer: str) -> str:
    """The customer is helped by whoever is rung, and it is over again."""
    contact = await waiting(centre, customer)
    centre.phone.rung[-1].pick_up()
    await centre.settle()
    agent_id = contact.agent_id
    centre.phone.rung[-1].hang_up()
    await centre.passes(11)
    assert agent_id is not None
    return agent_id


async def test_a_customer_gets_the_agent_who_helped_last() -> None:
    centre = await opened(prefer_last_s=30.0)
    await two(centre)
    assert await talks_to(centre, "maria") == "agent-ana"
    contact = await waiting(centre)  # it would be bo's turn
    assert contact.preferred_agent_id == "agent-ana"
    assert called(centre)[-1] == "ana"
    (first, last) = centre.events("contact.reserved")
    assert (first.facts["preferred"], last.facts["preferred"]) == (False, True)


async def test_a_customer_waits_a_while_for_the_agent_who_helped_last_and_then_for_anybody() -> None:
    centre = await opened(prefer_last_s=30.0)
    await two(centre)
    await talks_to(centre, "maria")
    await waiting(centre, "jonas")
    centre.phone.rung[-1].pick_up()  # bo's turn
    other = await waiting(centre, "aiko")
    centre.phone.rung[-1].pick_up()
    await centre.settle()
    assert other.agent_id == "agent-ana"
    contact = await waiting(centre)  # both are talking, and bo is free first
    centre.phone.rung[1].hang_up()
    await centre.passes(15)
    assert centre.state("bo") == "Ready"
    assert contact.state is State.WAITING
    await centre.passes(16)
    assert (contact.state, contact.agent_id) == (State.RINGING, "agent-bo")


async def test_nobody_waits_for_an_agent_who_has_gone_home() -> None:
    centre = await opened(prefer_last_s=60.0)
    await two(centre)
    await talks_to(centre, "maria")
    await waiting(centre, "jonas")
    centre.phone.rung[-1].pick_up()  # bo
    await waiting(centre, "aiko")
    centre.phone.rung[-1].pick_up()  # ana
    await centre.settle()
    contact = await waiting(centre)
    centre.phone.rung[1].hang_up()
    await centre.passes(11)
    assert contact.state is State.WAITING
    await centre.house.states.not_ready("agent-ana")  # a break, as soon as this call is over
    await centre.settle()
    assert (contact.state, contact.agent_id) == (State.RINGING, "agent-bo")


async def test_less_is_asked_for_with_time() -> None:
    centre = await opened(relax=(Step(30.0, drop=9),))
    await centre.house.hire("bo", heating=1)  # at home today
    await centre.agent("ana", plumbing=5)
    contact = await waiting(centre)
    await centre.passes(29)
    assert centre.phone.rung == []
    await centre.passes(2)
    assert contact.agent_id == "agent-ana"
    (event,) = centre.events("contact.reserved")
    assert event.facts["step"] == 1
    (event,) = centre.events("contact.relaxed")
    assert event.facts["group"]["required"] == {}


# The longest wait


async def test_who_has_waited_as_long_as_anyone_may_is_told_and_it_ends() -> None:
    centre = await opened(max_wait_s=60.0)
    contact = await waiting(centre)
    await centre.passes(61)
    assert contact.disposition is Disposition.NO_AGENT


async def test_a_contact_goes_on_in_another_queue_in_its_place() -> None:
    centre = await Centre.open(
        queues=[
            QueueSettings(
                "heat",
                provider="thermea",
                max_wait_s=60.0,
                overflow=Overflow.QUEUE,
                overflow_queue="patience",
                relax=(),
            ),
            QueueSettings("patience", max_wait_s=100.0, relax=(Step(0.0, drop=9),)),
        ]
    )
    contact = await waiting(centre)
    assert contact.queue == "heat"
    place = contact.place_at
    await centre.passes(61)
    assert (contact.queue, contact.place_at, contact.state) == ("patience", place, State.WAITING)
    (event,) = centre.events("contact.overflowed")
    assert (event.facts["how"], event.facts["to"]) == ("queue", "patience")
    stored = await centre.store.contact(contact.id)
    assert stored is not None
    assert stored.queue == "patience"
    await centre.agent("ana", plumbing=1)
    assert centre.phone.rung[0].header("X-Warmline-Contact") == contact.id
    centre.phone.rung[0].refuse(603)
    await centre.house.states.not_ready("agent-ana")
    await centre.passes(101)
    assert contact.disposition is Disposition.NO_AGENT


@pytest.mark.parametrize("goes", [True, False, None])
async def test_an_overflow_that_somebody_else_sees_to(goes: bool | None) -> None:
    centre = await opened(max_wait_s=60.0, overflow=Overflow.VOICEMAIL)
    seen: list[Contact] = []

    def take(contact: Contact) -> bool:
        seen.append(contact)
        assert goes is not None, "a fault of theirs"
        return goes

    centre.dispatch.overflow[Overflow.VOICEMAIL] = take
    contact = await waiting(centre)
    await centre.passes(61)
    assert seen == [contact]
    assert contact.open is (goes is True)
    assert len(centre.events("contact.overflowed")) == (goes is True)


async def test_who_is_rung_when_the_time_is_over_may_still_take_it() -> None:
    centre = await opened(max_wait_s=25.0)
    contact = await waiting(centre)
    await centre.passes(20)
    await centre.agent()
    centre.phone.rung[0].ring()
    await centre.passes(10)
    assert contact.state is State.RINGING
    centre.phone.rung[0].refuse(603)
    await centre.settle()
    assert contact.disposition is Disposition.NO_AGENT


# Nobody is stuck


async def test_an_offer_that_hangs_in_our_own_code_ends_and_freezes_nothing() -> None:
    centre = await Centre.open()
    await two(centre)

    async def hangs(*_: Any, **__: Any) -> bytes:
        await asyncio.get_running_loop().create_future()
        return b""

    offer, centre.media.offer = centre.media.offer, hangs  # type: ignore[method-assign]
    contact = await waiting(centre)
    await centre.passes(30)
    assert centre.state("ana") == "Reserved"
    centre.media.offer = offer  # type: ignore[method-assign]
    await centre.passes(31)
    (event,) = centre.events("agent.released_stuck")
    assert event.agent == "agent-ana"
    assert centre.state("ana") == "Ready"
    assert called(centre) == ["bo"]
    assert contact.state is State.RINGING


async def test_a_joining_that_hangs_ends_and_the_agent_is_free_again() -> None:
    centre = await Centre.open()
    await centre.agent()
    contact = await waiting(centre)

    async def hangs(*_: Any) -> bool:
        return bool(await asyncio.get_running_loop().create_future())

    centre.media.compatible = hangs  # type: ignore[method-assign,assignment]
    centre.phone.rung[0].pick_up()
    await centre.passes(121)
    assert centre.phone.rung[0].log == ["BYE"]
    assert centre.state() == "Ready"
    assert contact.state is State.WAITING


async def test_who_is_held_by_nothing_is_let_go_of_within_ten_seconds() -> None:
    centre = await Centre.open()
    await centre.agent()
    assert await centre.house.states.reserve("agent-ana", "c-nobodys", channel="voice", lease_s=600.0)
    assert centre.house.states.accepted("agent-ana", "c-nobodys")
    await centre.passes(4)
    assert centre.state() == "Talking"
    await centre.passes(7)
    assert centre.state() == "Ready"
    (event,) = centre.events("agent.released_stuck")
    assert (event.agent, event.contact) == ("agent-ana", "c-nobodys")


async def test_a_colleague_held_by_name_is_held_by_something() -> None:
    centre = await Centre.open()
    await two(centre)
    contact = await waiting(centre)
    centre.phone.rung[0].pick_up()
    await centre.settle()
    reservation = await centre.dispatch.hold(contact, "agent-bo")
    assert reservation is not None
    await centre.passes(20)
    assert centre.state("bo") == "Reserved"
    reservation.release()
    assert centre.state("bo") == "Ready"
    assert not centre.events("agent.released_stuck")


async def talking(centre: Centre) -> tuple[Contact, Caller]:
    contact = await centre.asks()
    caller = await centre.calls_in(contact)
    centre.phone.rung[0].pick_up()
    await centre.settle()
    assert contact.state is State.CONNECTED
    return contact, caller


async def test_a_phone_that_crashes_in_a_call_costs_its_agent_half_a_minute() -> None:
    centre = await Centre.open()
    await centre.agent()
    contact, caller = await talking(centre)
    await centre.passes(60)
    assert contact.state is State.CONNECTED
    centre.phone.rung[0].options = None  # it answers no more
    await centre.passes(30)
    assert contact.disposition is Disposition.AGENT_LOST
    assert caller.log == ["BYE"]
    assert centre.state() in ("WrapUp", "Ready")


async def test_a_bye_that_was_lost_costs_its_agent_ten_seconds() -> None:
    centre = await Centre.open()
    await centre.agent()
    contact, _ = await talking(centre)
    centre.phone.rung[0].options = 481
    await centre.passes(12)
    assert contact.disposition is Disposition.AGENT_LOST
    assert centre.state() == "WrapUp"


async def test_a_dropped_registration_ends_no_call_that_goes_on() -> None:
    centre = await Centre.open()
    await centre.agent()
    contact, _ = await talking(centre)
    centre.house.drop()
    await centre.passes(120)
    assert (contact.state, centre.state()) == (State.CONNECTED, "Talking")
    centre.phone.rung[0].hang_up()
    await centre.settle()
    assert centre.state() == "Offline"
