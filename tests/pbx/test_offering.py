"""From Help to two people joined, and every way in which it does not come to that."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from config.errors import OurError, TheirError
from pbx.contact import Contact, Disposition, State
from sip_trunk.sip.errors import BadMessage
from sip_trunk.user_agent import ReinviteAnswered, Reoffered
from tests.pbx.centre import Caller, Centre, FakeFlow, FakeMedia


async def ana_is_rung_and_bo_is_next() -> tuple[Centre, Contact]:
    centre = await Centre.open()
    await centre.agent("ana")
    await centre.passes(5)
    await centre.agent("bo")
    contact = await centre.asks()
    await centre.calls_in(contact)
    return centre, contact


async def test_the_events_of_a_call_that_goes_well_in_their_order() -> None:
    centre = await Centre.open()
    await centre.agent()
    contact = await centre.asks()
    caller = await centre.calls_in(contact)
    phone = centre.phone.rung[0]
    phone.ring()
    phone.pick_up()
    await centre.settle()
    assert (contact.state, centre.state()) == (State.CONNECTED, "Talking")
    assert centre.media.joined == [(contact.id, "customer-1", "agent-1-1")]
    phone.hang_up()
    await centre.settle()
    assert centre.kinds(contact) == [
        "requested",
        "skills_inferred",
        "invited",
        "queued",
        "agent.state_changed",
        "reserved",
        "prompted",
        "ringing",
        "accepted",
        "agent.state_changed",
        "connected",
        "ended",
        "agent.state_changed",
    ]
    assert contact.disposition is Disposition.AGENT_HUNG_UP
    assert caller.log == ["BYE"]
    assert centre.state() == "WrapUp"
    await centre.passes(10)
    assert centre.state() == "Ready"
    assert centre.media.branches == {}


async def test_the_invite_says_who_what_and_where_to_read_more() -> None:
    centre = await Centre.open()
    await centre.agent()
    contact = await centre.asks()
    await centre.calls_in(contact)
    phone = centre.phone.rung[0]
    assert phone.more["from_"] == f'"Maria (Boiler 200)" <sip:{contact.id}@warmline.test>'
    assert phone.header("Subject") == "Voice: Boiler 200"
    assert phone.header("Call-Info") == f"<https://help.test/context/{contact.id}>;purpose=info"
    assert phone.header("X-Warmline-Contact") == contact.id
    assert centre.media.offers[0]["like"] == "customer-1"


async def test_nobody_is_rung_before_the_callers_invite_is_there() -> None:
    centre = await Centre.open()
    await centre.agent()
    await centre.asks()
    assert centre.phone.rung == []


async def test_a_caller_hears_what_goes_on_and_then_music() -> None:
    centre = await Centre.open()
    contact = await centre.asks()
    await centre.calls_in(contact)
    assert centre.media.playing == {(contact.id, "customer-1"): "please-wait"}
    await centre.passes(3.5)
    assert centre.media.playing == {(contact.id, "customer-1"): ("queue-next",)}
    await centre.passes(3.5)
    assert centre.media.playing == {(contact.id, "customer-1"): "music"}


@pytest.mark.parametrize(
    ("status", "kind"),
    [(486, "busy"), (603, "declined"), (600, "declined"), (480, "unreachable"), (503, "unreachable")],
)
async def test_a_refusal_goes_on_to_the_next_agent_and_the_customer_keeps_their_place(
    status: int, kind: str
) -> None:
    centre, contact = await ana_is_rung_and_bo_is_next()
    first = centre.phone.rung[0]
    assert first.to == "<sip:ana@warmline.test>"
    first.refuse(status)
    await centre.settle()
    assert kind in centre.kinds(contact)
    assert centre.state("ana") == "Ready"
    assert [call.to for call in centre.phone.rung] == ["<sip:ana@warmline.test>", "<sip:bo@warmline.test>"]
    centre.phone.rung[1].pick_up()
    await centre.settle()
    assert (contact.state, contact.agent_id) == (State.CONNECTED, "agent-bo")


async def test_one_who_declined_is_rung_again_after_a_pause_when_nobody_else_is_there() -> None:
    centre = await Centre.open()
    await centre.agent()
    contact = await centre.asks()
    await centre.calls_in(contact)
    centre.phone.rung[0].refuse(603)
    await centre.passes(29)
    assert len(centre.phone.rung) == 1
    assert contact.state is State.WAITING
    await centre.passes(2)
    assert len(centre.phone.rung) == 2


async def test_no_answer_within_the_limit_goes_on() -> None:
    centre, contact = await ana_is_rung_and_bo_is_next()
    centre.phone.rung[0].ring()
    await centre.passes(19)
    assert len(centre.phone.rung) == 1
    await centre.passes(2)
    assert centre.phone.rung[0].log == ["CANCEL"]
    assert "no_answer" in centre.kinds(contact)
    assert centre.phone.rung[1].to == "<sip:bo@warmline.test>"


async def test_a_silent_phone_is_unreachable_after_four_seconds_and_its_late_answer_harms_nobody() -> None:
    centre, contact = await ana_is_rung_and_bo_is_next()
    await centre.passes(4.5)
    assert "unreachable" in centre.kinds(contact)
    silent, other = centre.phone.rung
    assert silent.log == ["CANCEL"]
    silent.pick_up()
    other.pick_up()
    await centre.settle()
    assert contact.agent_id == "agent-bo"
    assert [event.facts["status"] for event in centre.events("device.hung_up_late")] == [200]
    assert centre.state("ana") == "Ready"


async def two_phones(centre: Centre) -> None:
    agent = await centre.agent("ana")
    await centre.house.roster.add_device(
        agent.id, "Mobile", "ana-mobile", "secret", device_id="device-mobile"
    )
    aor = centre.house.location.aor("ana-mobile")
    await centre.house.bind("ana-mobile", key="sip:mobile", contact_uri="sip:mobile@192.0.2.8:5070")
    assert centre.house.location.bindings(aor)


async def test_all_phones_ring_and_the_first_to_answer_wins() -> None:
    centre = await Centre.open()
    await two_phones(centre)
    contact = await centre.asks()
    await centre.calls_in(contact)
    desk, mobile = centre.phone.rung
    desk.ring()
    mobile.ring()
    mobile.pick_up()
    await centre.settle()
    assert contact.state is State.CONNECTED
    assert desk.log == ["CANCEL"]
    assert desk.reason == 'SIP;cause=200;text="Call completed elsewhere"'
    assert sorted(branch for _, branch in centre.media.branches) == ["agent-1-2", "customer-1"]


async def test_two_answers_in_one_moment_leave_one_call() -> None:
    centre = await Centre.open()
    await two_phones(centre)
    contact = await centre.asks()
    await centre.calls_in(contact)
    desk, mobile = centre.phone.rung
    desk.pick_up()
    mobile.pick_up()
    await centre.settle()
    assert contact.state is State.CONNECTED
    assert (desk.log, mobile.log) == ([], ["CANCEL"])
    assert len(centre.events("device.hung_up_late")) == 1


async def test_a_decline_on_one_phone_is_the_agents_word_for_all() -> None:
    centre = await Centre.open()
    await two_phones(centre)
    contact = await centre.asks()
    await centre.calls_in(contact)
    desk, mobile = centre.phone.rung
    mobile.ring()
    desk.ring()
    await centre.passes(1)
    desk.refuse(486)
    await centre.settle()
    assert mobile.log == ["CANCEL"]
    assert centre.kinds(contact).count("declined") == 1


async def test_one_dead_phone_does_not_spoil_the_other() -> None:
    centre = await Centre.open()
    await two_phones(centre)
    contact = await centre.asks()
    await centre.calls_in(contact)
    desk, mobile = centre.phone.rung
    mobile.ring()
    desk.refuse(503)
    await centre.passes(6)
    mobile.pick_up()
    await centre.settle()
    assert contact.state is State.CONNECTED


@pytest.mark.parametrize("silent", [True, False])
async def test_a_customer_who_leaves_while_it_rings_frees_the_agent_at_once(silent: bool) -> None:
    centre = await Centre.open()
    await centre.agent()
    contact = await centre.asks()
    caller = await centre.calls_in(contact)
    phone = centre.phone.rung[0]
    if not silent:
        phone.ring()
    assert centre.state() == "Reserved"
    caller.hang_up()
    await centre.settle()  # no time passes
    assert (contact.disposition, centre.state()) == (Disposition.CUSTOMER_GAVE_UP, "Ready")
    assert phone.log == ["CANCEL"]
    phone.pick_up()
    await centre.passes(30)
    assert (centre.state(), centre.media.branches) == ("Ready", {})


async def test_a_customer_who_leaves_in_the_moment_of_the_answer_leaves_nobody_talking_to_nobody() -> None:
    centre = await Centre.open()
    await centre.agent()
    contact = await centre.asks()
    caller = await centre.calls_in(contact)
    phone = centre.phone.rung[0]
    phone.pick_up()
    caller.hang_up()
    await centre.settle()
    assert phone.log == ["BYE"]
    assert centre.state() == "Ready"
    assert contact.disposition is Disposition.CUSTOMER_GAVE_UP


async def test_an_agent_whose_registration_goes_while_it_rings_is_given_up() -> None:
    centre = await Centre.open()
    await centre.agent()
    contact = await centre.asks()
    await centre.calls_in(contact)
    centre.phone.rung[0].ring()
    centre.house.drop()
    await centre.passes(4)
    assert centre.phone.rung[0].log == ["CANCEL"]
    assert "unreachable" in centre.kinds(contact)
    assert (contact.state, centre.state()) == (State.WAITING, "Offline")


async def test_an_agent_who_hangs_up_before_anybody_heard_them_is_passed_over() -> None:
    centre, contact = await ana_is_rung_and_bo_is_next()
    centre.phone.rung[0].pick_up()
    centre.phone.rung[0].hang_up()
    await centre.settle()
    assert contact.state is State.RINGING
    assert centre.phone.rung[1].to == "<sip:bo@warmline.test>"


async def test_an_answer_without_a_common_codec_is_hung_up_on_and_the_next_agent_rung() -> None:
    centre, contact = await ana_is_rung_and_bo_is_next()
    centre.phone.rung[0].pick_up(b"nothing in common")
    await centre.settle()
    assert centre.phone.rung[0].log == ["BYE"]
    assert "unreachable" in centre.kinds(contact)
    assert len(centre.phone.rung) == 2


async def test_a_dead_media_process_costs_no_agent_their_state() -> None:
    centre = await Centre.open()
    await centre.agent()
    contact = await centre.asks()
    centre.media.dead = True
    await centre.calls_in(contact)
    assert centre.phone.rung == []
    assert (contact.state, centre.state()) == (State.WAITING, "Ready")


async def test_where_codecs_differ_the_caller_is_reoffered_before_anybody_is_connected() -> None:
    centre = await Centre.open()
    await centre.agent()
    contact = await centre.asks()
    caller = await centre.calls_in(contact)
    centre.media.different = True
    centre.phone.rung[0].pick_up()
    await centre.settle()
    assert caller.reinvites == [b"offer of ours"]
    assert "connected" not in centre.kinds(contact)
    caller.tell(ReinviteAnswered(b"their answer"))
    await centre.settle()
    assert contact.state is State.CONNECTED


async def test_an_agent_who_is_not_ready_not_registered_or_not_skilled_is_never_rung() -> None:
    centre = await Centre.open()
    await centre.agent("bo", wifi=3)
    await centre.agent("carla")
    await centre.house.states.not_ready("agent-carla")
    agent = await centre.house.hire("deniz", heating=5)
    contact = await centre.asks()
    await centre.calls_in(contact)
    await centre.passes(60)
    assert centre.phone.rung == []
    assert centre.state("deniz") == "Offline"
    assert agent.id == "agent-deniz"


async def test_video_rings_only_a_phone_known_to_have_it() -> None:
    centre = await Centre.open()
    await centre.agent()
    contact = await centre.asks(channel="video")
    await centre.calls_in(contact)
    assert centre.phone.rung == []
    await centre.house.roster.set_capability("device-ana", "video", True)
    centre.dispatch.agent_changed("agent-ana")
    await centre.settle()
    assert len(centre.phone.rung) == 1


async def test_one_agent_is_never_rung_for_two_contacts_at_once() -> None:
    centre = await Centre.open()
    await centre.agent()
    first, second = await centre.asks("maria"), await centre.asks("jonas")
    await asyncio.gather(centre.calls_in(first), centre.calls_in(second))
    assert [call.header("X-Warmline-Contact") for call in centre.phone.rung] == [first.id]
    centre.phone.rung[0].pick_up()
    await centre.settle()
    assert len(centre.phone.rung) == 1
    centre.phone.rung[0].hang_up()
    await centre.passes(11)
    assert [call.header("X-Warmline-Contact") for call in centre.phone.rung] == [first.id, second.id]


# The customer's side


async def test_a_customer_hangs_up_and_the_agent_writes_up() -> None:
    centre = await Centre.open()
    await centre.agent()
    contact = await centre.asks()
    caller = await centre.calls_in(contact)
    centre.phone.rung[0].pick_up()
    await centre.settle()
    caller.hang_up()
    await centre.settle()
    assert contact.disposition is Disposition.CUSTOMER_HUNG_UP
    assert centre.phone.rung[0].log == ["BYE"]
    assert centre.state() == "WrapUp"


async def test_a_browser_that_closes_in_a_call_is_waited_for_five_seconds() -> None:
    centre = await Centre.open()
    await centre.agent()
    contact = await centre.asks()
    flow = FakeFlow("WS", ("192.0.2.1", 1234), "ws")
    await centre.calls_in(contact, flow=flow)
    centre.phone.rung[0].pick_up()
    await centre.settle()
    flow.close()
    await centre.passes(4)
    assert contact.open
    await centre.passes(2)
    assert contact.disposition is Disposition.CUSTOMER_LOST
    assert centre.phone.rung[0].log == ["BYE"]


async def test_a_page_loaded_again_gets_its_agent_back() -> None:
    centre = await Centre.open()
    await centre.agent()
    contact = await centre.asks()
    flow = FakeFlow("WS", ("192.0.2.1", 1234), "ws")
    before = await centre.calls_in(contact, flow=flow)
    centre.phone.rung[0].pick_up()
    await centre.settle()
    flow.close()
    await centre.passes(2)
    again = await centre.calls_in(contact)
    await centre.passes(20)
    assert contact.state is State.CONNECTED
    assert before.log == ["BYE"]
    assert again.accepted is not None
    assert centre.media.joined[-1] == (contact.id, "customer-2", "agent-1-1")
    assert centre.phone.rung[0].log == []


async def test_a_browser_that_goes_away_in_the_queue_keeps_its_place_for_a_while() -> None:
    centre = await Centre.open()
    contact = await centre.asks()
    flow = FakeFlow("WS", ("192.0.2.1", 1234), "ws")
    await centre.calls_in(contact, flow=flow)
    flow.close()
    await centre.agent()
    await centre.passes(10)
    assert centre.phone.rung == []
    await centre.calls_in(contact)
    assert len(centre.phone.rung) == 1


async def test_a_browser_that_does_not_come_back_to_the_queue_is_given_up() -> None:
    centre = await Centre.open()
    contact = await centre.asks()
    flow = FakeFlow("WS", ("192.0.2.1", 1234), "ws")
    await centre.calls_in(contact, flow=flow)
    flow.close()
    await centre.passes(16)
    assert contact.disposition is Disposition.CUSTOMER_GAVE_UP


async def test_a_browser_that_never_calls_is_given_up() -> None:
    centre = await Centre.open()
    contact = await centre.asks()
    await centre.passes(31)
    assert contact.disposition is Disposition.CUSTOMER_GAVE_UP
    assert centre.desk.current("maria") is None


async def test_media_that_goes_silent_ends_an_agents_call_and_says_so() -> None:
    centre = await Centre.open()
    await centre.agent()
    contact = await centre.asks()
    await centre.calls_in(contact)
    centre.phone.rung[0].pick_up()
    await centre.settle()
    centre.media.on_gone(contact.id, "agent-1-1", "no packets")
    await centre.settle()
    assert contact.disposition is Disposition.AGENT_LOST
    assert centre.state() == "WrapUp"


async def test_hold_is_answered_on_the_branch_it_came_from() -> None:
    centre = await Centre.open()
    await centre.agent()
    contact = await centre.asks()
    await centre.calls_in(contact)
    phone = centre.phone.rung[0]
    phone.pick_up()
    await centre.settle()
    phone.tell(Reoffered(b"hold"))
    phone.tell(Reoffered(b"nothing in common"))
    await centre.settle()
    assert phone.reoffer_answers == [b"answer to hold", 488]
    assert contact.state is State.CONNECTED


async def test_nobody_waits_for_ever() -> None:
    centre = await Centre.open()
    contact = await centre.asks()
    await centre.calls_in(contact)
    centre.clock.advance(1801)
    await centre.settle()
    assert contact.disposition is Disposition.NO_AGENT


# One customer, one contact


async def test_pressing_help_twice_is_one_contact() -> None:
    centre = await Centre.open()
    first, second = await asyncio.gather(
        centre.desk.request("maria", "voice", "boiler"), centre.desk.request("maria", "voice", "boiler")
    )
    assert first is second
    assert len(centre.events("contact.requested")) == 1


async def test_another_channel_beside_an_open_contact_is_refused_in_words() -> None:
    centre = await Centre.open()
    await centre.asks(channel="chat", text="hello")
    with pytest.raises(TheirError, match="chat about Boiler 200") as refused:
        await centre.asks(channel="voice")
    assert refused.value.status == 409


@pytest.mark.parametrize(("channel", "product", "status"), [("fax", "boiler", 400), ("voice", "camera", 404)])
async def test_nonsense_and_other_peoples_products_are_refused(
    channel: str, product: str, status: int
) -> None:
    centre = await Centre.open()
    with pytest.raises(TheirError) as refused:
        await centre.desk.request("maria", channel, product)
    assert refused.value.status == status
    assert centre.desk.current("maria") is None


# Stopping, dying, starting again


async def test_drain_ends_calls_takes_nothing_new_and_frees_everybody() -> None:
    centre = await Centre.open()
    await centre.agent("ana")
    await centre.agent("bo")
    talking = await centre.asks("maria")
    first = await centre.calls_in(talking)
    centre.phone.rung[0].pick_up()
    await centre.settle()
    ringing = await centre.asks("jonas")
    second = await centre.calls_in(ringing)
    await centre.desk.drain()
    await centre.settle()
    assert (first.log, second.log) == (["BYE"], ["BYE"])
    assert [call.log for call in centre.phone.rung] == [["BYE"], ["CANCEL"]]
    assert talking.disposition is ringing.disposition is Disposition.SERVER_STOPPED
    with pytest.raises(OurError) as refused:
        await centre.asks("aiko")
    assert refused.value.status == 503
    stored = await centre.store.contact(talking.id)
    assert stored is not None
    assert stored.disposition is Disposition.SERVER_STOPPED


async def test_after_a_crash_calls_are_recorded_as_lost_and_nobody_is_stuck() -> None:
    centre = await Centre.open()
    await centre.agent()
    contact = await centre.asks()
    await centre.calls_in(contact)
    centre.phone.rung[0].pick_up()
    again = await centre.again()
    stored = await again.store.contact(contact.id)
    assert stored is not None
    assert stored.disposition is Disposition.SERVER_DIED
    assert again.state() == "Ready"
    assert again.desk.current("maria") is None


async def test_after_a_crash_whoever_waited_in_the_app_is_back_in_their_place() -> None:
    centre = await Centre.open()
    chat = await centre.asks("maria", "chat", "The boiler drips")
    call = await centre.asks("jonas")
    await centre.calls_in(call)
    again = await centre.again()
    back = again.desk.current("jonas")
    assert back is not None
    assert (back.id, back.facts.asked_at, back.state) == (call.id, call.facts.asked_at, State.WAITING)
    await again.agent()
    assert [ring.header("X-Warmline-Contact") for ring in again.phone.rung] == [chat.id]
    assert [line["text"] for line in await again.desk.messages(chat.id)] == ["The boiler drips"]
    await again.calls_in(back)
    assert again.dispatch.position(call.id) == 1


async def test_after_a_crash_a_call_that_nobody_takes_up_again_ends() -> None:
    centre = await Centre.open()
    call = await centre.asks("jonas")
    again = await centre.again()
    await again.passes(61)
    stored = await again.store.contact(call.id)
    assert stored is not None
    assert stored.disposition is Disposition.CUSTOMER_GAVE_UP


async def test_calls_whose_media_process_died_end_and_free_their_agents() -> None:
    centre = await Centre.open()
    await centre.agent()
    contact = await centre.asks()
    caller = await centre.calls_in(contact)
    centre.phone.rung[0].pick_up()
    await centre.settle()
    centre.calls.media_died()
    await centre.settle()
    assert contact.disposition is Disposition.MEDIA_FAILED
    assert (caller.log, centre.phone.rung[0].log, centre.state()) == (["BYE"], ["BYE"], "WrapUp")


# Moments between two answers


class Slow:
    """Holds one method of the fake media back until it is let go."""

    def __init__(self, centre: Centre, method: str) -> None:
        self._go = asyncio.Event()
        work = getattr(centre.media, method)

        async def held(*arguments: Any, **more: Any) -> Any:
            await self._go.wait()
            return await work(*arguments, **more)

        setattr(centre.media, method, held)

    def go(self) -> None:
        self._go.set()


async def test_a_page_loaded_again_while_it_is_offered_other_codecs_is_joined_all_the_same() -> None:
    centre = await Centre.open()
    await centre.agent()
    contact = await centre.asks()
    before = await centre.calls_in(contact)
    centre.media.different = True
    centre.phone.rung[0].pick_up()
    await centre.settle()
    assert before.reinvites == [b"offer of ours"]
    centre.media.different = False
    await centre.calls_in(contact)
    assert (contact.state, contact.disposition) == (State.CONNECTED, None)
    assert centre.media.joined[-1] == (contact.id, "customer-2", "agent-1-1")


async def test_a_customer_lost_while_it_rings_keeps_their_place_and_the_agent_is_not_said_to_have_refused() -> (
    None
):
    centre = await Centre.open()
    await centre.agent()
    contact = await centre.asks()
    caller = await centre.calls_in(contact)
    centre.phone.rung[0].ring()
    caller.hang_up("lost")
    centre.phone.rung[0].pick_up()
    await centre.settle()
    assert (contact.state, contact.refusals, centre.state()) == (State.WAITING, {}, "Ready")
    assert centre.phone.rung[0].log == ["BYE"]
    await centre.calls_in(contact)
    assert len(centre.phone.rung) == 2


async def test_a_phone_is_not_rung_after_another_has_answered() -> None:
    centre = await Centre.open()
    await two_phones(centre)
    contact = await centre.asks()
    await centre.calls_in(contact)
    centre.phone.rung[0].refuse(603)
    await centre.settle()
    slow = Slow(centre, "offer")
    quick = FakeMedia.offer
    offered = 0

    async def offer(*arguments: Any, **more: Any) -> bytes:
        nonlocal offered
        offered += 1
        if offered == 1:
            return await quick(centre.media, *arguments, **more)
        await slow._go.wait()
        return await quick(centre.media, *arguments, **more)

    centre.media.offer = offer  # type: ignore[method-assign]
    accepting = Slow(centre, "accept")
    await centre.passes(31)
    assert len(centre.phone.rung) == 3  # the other phone's offer is still being made
    centre.phone.rung[2].pick_up()
    slow.go()
    await centre.settle()
    accepting.go()
    await centre.settle()
    assert (contact.state, len(centre.phone.rung)) == (State.CONNECTED, 3)


async def test_a_phone_whose_address_cannot_be_called_does_not_spoil_the_others() -> None:
    centre = await Centre.open()
    await two_phones(centre)
    invite = centre.phone.invite

    def picky(target: Any, **more: Any) -> Any:
        if "mobile" in str(target.uri):
            raise BadMessage("Not a SIP address")
        return invite(target, **more)

    centre.phone.invite = picky  # type: ignore[method-assign]
    contact = await centre.asks()
    await centre.calls_in(contact)
    centre.phone.rung[0].pick_up()
    await centre.settle()
    assert contact.state is State.CONNECTED


async def test_a_broken_web_socket_is_no_lost_customer_while_their_sound_comes_in() -> None:
    centre = await Centre.open()
    await centre.agent()
    contact = await centre.asks()
    flow = FakeFlow("WS", ("192.0.2.1", 1234), "ws")
    await centre.calls_in(contact, flow=flow)
    centre.phone.rung[0].pick_up()
    await centre.settle()
    flow.close()
    for _ in range(40):
        centre.media.last_packet_at["customer-1"] = centre.house.now()
        await centre.passes(1)
    assert contact.state is State.CONNECTED
    await centre.passes(11)
    assert contact.disposition is Disposition.CUSTOMER_LOST


async def test_a_customer_in_the_queue_whose_web_socket_broke_is_served_while_their_sound_comes_in() -> None:
    centre = await Centre.open()
    contact = await centre.asks()
    flow = FakeFlow("WS", ("192.0.2.1", 1234), "ws")
    await centre.calls_in(contact, flow=flow)
    flow.close()
    for _ in range(16):
        centre.media.last_packet_at["customer-1"] = centre.house.now()
        await centre.passes(1)
    await centre.agent()
    assert len(centre.phone.rung) == 1


async def test_a_caller_whose_media_is_gone_is_not_left_in_silence() -> None:
    centre = await Centre.open()
    contact = await centre.asks()
    caller = Caller(centre.desk.uri(contact))
    greeting = await centre.calls.greet(contact.id, contact.channel, caller)
    centre.media.branches.clear()  # the media process died in this moment
    await centre.calls.arrive(contact, greeting)
    await centre.settle()
    assert (contact.disposition, caller.log) == (Disposition.MEDIA_FAILED, ["BYE"])


async def test_a_page_that_fails_to_show_it_keeps_no_agent_from_being_freed() -> None:
    centre = await Centre.open()
    await centre.agent()
    contact = await centre.asks()

    def broken(*_: object) -> None:
        raise RuntimeError("a page's mistake")

    centre.contacts.listen(contact.id, broken)
    centre.contacts.on_ended.insert(0, broken)
    caller = await centre.calls_in(contact)
    centre.phone.rung[0].pick_up()
    await centre.settle()
    assert contact.state is State.CONNECTED
    caller.hang_up()
    await centre.settle()
    assert centre.state() == "WrapUp"


async def test_a_fault_in_joining_leaves_nobody_talking_to_nobody() -> None:
    centre = await Centre.open()
    await centre.agent()
    contact = await centre.asks()
    caller = await centre.calls_in(contact)
    write = centre.house.events.write

    def failing(kind: str, **facts: Any) -> Any:
        if kind == "contact.connected":
            raise RuntimeError("a fault of ours")
        return write(kind, **facts)

    centre.house.events.write = failing  # type: ignore[method-assign]
    centre.phone.rung[0].pick_up()
    await centre.settle()
    assert contact.disposition is Disposition.MEDIA_FAILED
    assert (caller.log, centre.phone.rung[0].log, centre.media.branches) == (["BYE"], ["BYE"], {})
    await centre.passes(11)
    assert centre.state() == "Ready"


# Promises


async def test_a_page_that_goes_away_while_its_contact_is_stored_finds_it_again() -> None:
    centre = await Centre.open()
    asking = asyncio.ensure_future(centre.desk.request("maria", "chat", "boiler", None, None, "hello"))
    while centre.desk.current("maria") is None:
        await asyncio.sleep(0)
    asking.cancel()
    await centre.settle()
    contact = centre.desk.current("maria")
    assert contact is not None
    assert contact.routable
    await centre.agent()
    assert len(centre.phone.rung) == 1


async def test_pressed_twice_both_are_told_only_when_it_is_durable() -> None:
    centre = await Centre.open()
    stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    centre.store.add = lambda contact, *lines: stored  # type: ignore[method-assign]
    presses = [asyncio.ensure_future(centre.desk.request("maria", "voice", "boiler")) for _ in range(2)]
    await centre.settle()
    assert [press.done() for press in presses] == [False, False]
    stored.set_exception(OSError("the disk is full"))
    results = await asyncio.gather(*presses, return_exceptions=True)
    assert all(isinstance(result, OSError) for result in results)
    assert centre.desk.current("maria") is None


async def test_a_contact_ended_while_it_was_being_stored_leaves_nothing_behind() -> None:
    centre = await Centre.open()
    asking = asyncio.ensure_future(centre.desk.request("maria", "voice", "boiler"))
    while (contact := centre.desk.current("maria")) is None:
        await asyncio.sleep(0)
    await centre.desk.end(contact.id, "customer")
    await asking
    await centre.settle()
    assert not centre.calls._lines
    stored = await centre.store.contact(contact.id)
    assert stored is not None
    assert stored.disposition is Disposition.CUSTOMER_GAVE_UP


async def test_one_on_standby_is_rung_only_when_no_other_agent_is_free() -> None:
    centre = await Centre.open()
    await centre.house.roster.add_agent(
        "Robin", "robin", "hash", skills={"heating": 1}, standby=True, agent_id="agent-robin"
    )
    await centre.house.roster.add_device("agent-robin", "Robot", "robin", "secret", device_id="device-robin")
    await centre.house.bind("robin", contact_uri="sip:robin@192.0.2.6:5062")
    await centre.house.states.ready("agent-robin")
    await centre.passes(60)
    await centre.agent("ana")
    for customer in ("maria", "jonas"):
        await centre.calls_in(await centre.asks(customer))
    assert [call.to for call in centre.phone.rung] == [
        "<sip:ana@warmline.test>",
        "<sip:robin@warmline.test>",
    ]
