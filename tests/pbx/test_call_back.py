"""Called back instead of waiting: who may ask, where the place stays, and every way in which calling may end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from config.errors import OurError, TheirError
from config.queue_settings import QueueSettings
from media.server import AUDIO_ONLY
from pbx.call_back import AGAIN_S, ATTEMPTS, GOODBYE_S, MOST_OF_ONE_NUMBER, masked
from pbx.calling_back import PAGE_S, RING_S
from pbx.contact import Channel, Contact, Disposition, State
from sip_trunk import user_agent as sip
from tests.agent_presence.house import DOMAIN
from tests.pbx.centre import Caller, Centre, FakeFlow, Ringing

MARIAS = "+15550100001"
STRANGER = "+15557654321"


async def opened(*, page: bool = True, **settings: Any) -> Centre:
    """`page`: whether everybody has one open, whether or not it listens."""
    centre = await Centre.open()
    wire(centre)
    if page:
        centre.calling_back.has_page = lambda contact_id: True
    centre.queues["default"] = QueueSettings("default", **settings)
    return centre


def wire(centre: Centre) -> None:
    """The carrier dials American numbers too."""
    carrier = centre.trunks.trunks["carrier"]
    carrier.dial = ("+49", "+1555")


async def by_phone(centre: Centre, number: str = MARIAS) -> tuple[Contact, Caller]:
    flow = FakeFlow("UDP", ("192.0.2.50", 5070), "udp")
    caller = Caller(
        f"sip:+15550200@{DOMAIN}", from_=f"sip:{number}@carrier.example", flow=flow, body=b"offer"
    )
    centre.inbound().on_invite(caller)
    await centre.settle()
    return next(iter(centre.contacts)), caller


async def asked(centre: Centre, number: str = "") -> Contact:
    """Maria waited in the app, and is to be called back."""
    contact = await centre.asks()
    await centre.calls_in(contact)
    await centre.call_backs.ask(contact, number)
    await centre.settle()
    return contact


async def taken(centre: Centre, which: int = -1) -> Ringing:
    """An agent who is rung answers."""
    phone = centre.phone.rung[which]
    phone.pick_up()
    await centre.settle()
    return phone


def outside(centre: Centre) -> Ringing:
    """The call to the customer's telephone."""
    call = centre.phone.rung[-1]
    assert MARIAS in call.to
    return call


def failed(centre: Centre) -> list[str]:
    return [str(event.facts["why"]) for event in centre.events("contact.call_back_failed")]


def waits_in_its_place(centre: Centre, contact: Contact) -> bool:
    return contact.state is State.WAITING and contact.call_back is not None and contact in centre.contacts


# Asking


async def test_a_customer_who_asks_is_hung_up_on_and_keeps_the_place() -> None:
    centre = await opened()
    contact = await centre.asks()
    caller = await centre.calls_in(contact)
    await centre.passes(20)
    await centre.call_backs.ask(contact, "")
    await centre.settle()
    assert caller.over is not None
    assert contact.open
    assert (contact.routable, contact.place_at) == (True, contact.facts.asked_at)
    assert centre.kinds(contact)[-2:] == ["call_back_asked", "queued"]
    assert not centre.media.branches


async def test_a_call_back_outlasts_the_longest_wait_in_the_queue_and_not_a_day() -> None:
    centre = await Centre.open()  # nobody is there
    contact = await centre.asks()
    await centre.calls_in(contact)
    await centre.call_backs.ask(contact, "")
    await centre.passes(7200)
    assert waits_in_its_place(centre, contact)
    await centre.passes(86400)
    assert contact.disposition is Disposition.NO_AGENT


async def test_it_is_stored_before_it_is_promised_and_not_promised_when_it_cannot_be() -> None:
    centre = await opened()
    contact = await centre.asks()
    caller = await centre.calls_in(contact)

    def broken(contact: Contact) -> asyncio.Future[None]:
        lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        lost.set_exception(OurError("The disk is full."))
        return lost

    store: Any = centre.store
    store.moved = broken
    with pytest.raises(OurError):
        await centre.call_backs.ask(contact, "")
    assert (contact.call_back, contact.routable, caller.over) == (None, True, None)
    assert centre.kinds(contact)[-3:] == ["call_back_asked", "call_back_cancelled", "queued"]


async def test_the_log_tells_of_it_in_the_commit_that_keeps_the_promise() -> None:
    """Told later, a crash in between would leave a contact that is called back and nobody knows why."""
    centre = await opened()
    contact = await centre.asks()
    await centre.calls_in(contact)
    stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    store: Any = centre.store
    store.moved = lambda contact: stored
    asking = asyncio.ensure_future(centre.call_backs.ask(contact, ""))
    await centre.settle()
    assert not asking.done()
    assert centre.kinds(contact)[-1] == "call_back_asked"
    del store.moved
    stored.set_result(None)
    await asking


async def test_a_crash_leaves_whoever_asked_in_their_place_and_routable() -> None:
    centre = await opened()
    contact = await asked(centre)
    again = await centre.again()
    found = again.contacts.get(contact.id)
    assert found is not None
    assert found.call_back is not None
    assert (found.place_at, found.routable, found.state) == (contact.place_at, True, State.WAITING)
    await again.agent()
    assert len(again.phone.rung) == 1


async def test_a_phone_caller_who_is_to_be_called_back_survives_a_crash_and_one_on_the_line_does_not() -> (
    None
):
    centre = await opened()
    contact, _ = await by_phone(centre)
    await centre.call_backs.ask(contact, MARIAS)
    other, _ = await by_phone(centre, STRANGER)
    other = next(each for each in centre.contacts if each is not contact)
    again = await centre.again()
    assert again.contacts.get(contact.id) is not None
    assert again.contacts.get(other.id) is None
    stored = await again.store.contact(other.id)
    assert stored is not None
    assert stored.disposition is Disposition.SERVER_DIED


@pytest.mark.parametrize(
    ("person", "number", "status"),
    [
        ("maria", STRANGER, 403),  # typed freely: toll fraud
        ("maria", "+15550100002", 403),  # somebody else's
        ("aiko", "+15550100003", 403),  # hers, but not proved
        ("maria", "+4415550100", 403),
        ("maria", "tel:900", 403),
    ],
)
async def test_only_a_number_known_to_be_theirs_is_called(person: str, number: str, status: int) -> None:
    centre = await opened()
    contact = await centre.asks(person)
    await centre.calls_in(contact)
    with pytest.raises(TheirError) as refused:
        await centre.call_backs.ask(contact, number)
    assert refused.value.status == status
    assert (contact.call_back, contact.routable) == (None, True)
    assert not centre.call_backs.may_ask(contact, number)


async def test_a_caller_nobody_knows_may_be_called_at_the_number_they_call_from_and_nowhere_else() -> None:
    centre = await opened()
    contact, caller = await by_phone(centre, STRANGER)
    for number in (MARIAS, ""):
        with pytest.raises(TheirError) as refused:
            await centre.call_backs.ask(contact, number)
        assert refused.value.status == 403
    assert centre.call_backs.may_ask(contact, STRANGER)
    await centre.call_backs.ask(contact, STRANGER)
    assert contact.call_back is not None
    assert caller.over is None, "they are told before they are hung up on"


async def test_a_number_that_no_trunk_may_call_is_refused() -> None:
    centre = await opened()
    centre.trunks.trunks["carrier"].dial = ("+49",)
    contact = await centre.asks()
    with pytest.raises(TheirError) as refused:
        await centre.call_backs.ask(contact, MARIAS)
    assert refused.value.status == 409
    assert centre.call_backs.number_of(contact) is None


async def test_a_chat_an_ended_contact_and_a_queue_that_does_not_want_it_have_none() -> None:
    centre = await opened(call_back=False)
    voice = await centre.asks()
    chat = await centre.asks("jonas", "chat", "hello")
    for contact in (voice, chat):
        with pytest.raises(TheirError) as refused:
            await centre.call_backs.ask(contact, "")
        assert refused.value.status == 409
    await centre.desk.end(voice.id, "customer")
    with pytest.raises(TheirError) as refused:
        await centre.desk.ask_call_back(voice.id)
    assert refused.value.status == 409


async def test_who_is_just_being_put_through_is_asked_to_stay() -> None:
    centre = await opened()
    await centre.agent()
    contact = await centre.asks()
    await centre.calls_in(contact)
    assert contact.state is State.RINGING
    with pytest.raises(TheirError) as refused:
        await centre.call_backs.ask(contact, "")
    assert refused.value.status == 409


async def test_a_video_call_is_called_back_as_a_voice_call() -> None:
    centre = await opened()
    contact = await centre.asks(channel="video")
    await centre.calls_in(contact)
    await centre.call_backs.ask(contact, "")
    assert contact.channel is Channel.VOICE
    stored = await centre.store.contact(contact.id)
    assert stored is not None
    assert stored.channel is Channel.VOICE


async def test_a_caller_on_the_line_is_told_and_routed_only_when_they_have_hung_up() -> None:
    centre = await opened()
    await centre.agent()
    await centre.house.states.not_ready("agent-ana")
    contact, caller = await by_phone(centre)
    await centre.desk.ask_call_back(contact.id, "phone")
    await centre.settle()
    assert (centre.media.played[-1][1], contact.routable, caller.over) == ("callback-taken", False, None)
    caller.hang_up()
    await centre.settle()
    assert contact.open
    assert contact.routable


async def test_a_caller_who_is_forgotten_on_the_line_is_let_go_in_the_end() -> None:
    centre = await opened()
    contact, caller = await by_phone(centre)
    await centre.call_backs.ask(contact, MARIAS)
    await centre.passes(GOODBYE_S + 1)
    assert caller.over is not None
    assert contact.routable


async def test_a_wait_that_is_too_long_becomes_a_call_back_where_a_way_is_known() -> None:
    centre = await opened()
    contact, _ = await by_phone(centre)
    assert centre.call_backs.overflow(contact)
    await centre.settle()
    assert contact.call_back is not None
    assert contact.call_back.number == MARIAS
    chat = await centre.asks("jonas", "chat", "hello")
    assert not centre.call_backs.overflow(chat)
    await centre.passes(4)
    assert contact.routable


async def test_who_would_rather_wait_on_the_line_does_so_in_their_place() -> None:
    centre = await opened()
    contact = await asked(centre)
    place = contact.place_at
    await centre.call_backs.cancel(contact)
    assert (contact.call_back, contact.routable) == (None, False)
    await centre.calls_in(contact)
    assert (contact.routable, contact.place_at, contact.state) == (True, place, State.WAITING)
    assert "call_back_cancelled" in centre.kinds(contact)


async def test_who_calls_the_contact_from_another_page_waits_on_the_line() -> None:
    centre = await opened()
    contact = await asked(centre)
    await centre.passes(6)
    await centre.calls_in(contact)
    assert (contact.call_back, contact.routable) == (None, True)
    await centre.agent()
    await taken(centre)
    assert contact.state is State.CONNECTED


# Calling, in the page


async def test_the_agent_first_then_the_page_rings_and_the_two_are_joined() -> None:
    centre = await opened()
    contact = await asked(centre)
    await centre.agent()
    phone = await taken(centre)
    assert contact.state.value == "ringing"
    view = centre.desk.view(contact)["call_back"]
    assert (view["calling"], view["way"]) == (True, "app")
    assert centre.media.played[-1][1] == ("callback-connecting", "music")
    await centre.passes(3)
    caller = await centre.calls_in(contact)
    assert contact.state is State.CONNECTED
    assert caller.accepted is not None
    assert phone.over is None
    assert centre.media.joined
    assert centre.state() == "Talking"
    assert "call_back_answered" in centre.kinds(contact)
    assert centre.desk.view(contact)["call_back"] is None
    caller.hang_up()
    await centre.settle()
    assert contact.disposition is Disposition.CUSTOMER_HUNG_UP


async def test_not_now_frees_the_agent_at_once_and_is_tried_again() -> None:
    centre = await opened()
    contact = await asked(centre)
    await centre.agent()
    phone = await taken(centre)
    centre.desk.refuse_call_back(contact.id)
    await centre.settle()
    assert phone.over is not None
    assert centre.state() == "Ready", "no wrap-up for a call that was none"
    assert waits_in_its_place(centre, contact)
    assert (failed(centre), contact.refusals, contact.routable) == (["refused"], {}, False)
    await centre.passes(AGAIN_S - 2)
    assert len(centre.phone.rung) == 1
    await centre.passes(3)
    assert len(centre.phone.rung) == 2
    await taken(centre)
    await centre.calls_in(contact)
    assert contact.state is State.CONNECTED


async def test_a_page_that_rings_unheard_is_tried_three_times_and_no_more() -> None:
    centre = await opened()
    contact = await asked(centre)
    await centre.agent()
    for _ in range(ATTEMPTS):
        assert contact.open
        await taken(centre)
        await centre.passes(RING_S + 1)
        await centre.house.bind(
            "ana", contact_uri="sip:ana@192.0.2.7:5062"
        )  # phones register again and again
        await centre.passes(AGAIN_S)
    assert contact.disposition is Disposition.CALL_BACK_FAILED
    assert failed(centre) == ["no_answer"] * ATTEMPTS
    assert [event.facts["attempt"] for event in centre.events("contact.call_back_failed")] == [1, 2, 3]
    assert centre.state() == "Ready"
    assert not centre.call_backs._timers
    assert not centre.calling_back._attempts


async def test_a_customer_with_no_page_open_does_not_keep_an_agent_waiting() -> None:
    centre = await opened(page=False)
    await asked(centre)
    await centre.agent()
    await taken(centre)
    await centre.passes(PAGE_S + 0.5)
    assert failed(centre) == ["unreachable"]
    assert centre.state() == "Ready"


async def test_pages_are_counted_while_they_listen() -> None:
    centre = await opened(page=False)
    contact = await asked(centre)
    assert not centre.calling_back.has_page(contact.id)
    leave = centre.desk.listen(contact.id, lambda kind, data: None, by="customer")
    centre.desk.listen(contact.id, lambda kind, data: None)
    assert centre.calling_back.has_page(contact.id)
    leave()
    assert not centre.calling_back.has_page(contact.id)


async def test_an_agent_who_hangs_up_meanwhile_has_left_and_another_is_asked() -> None:
    centre = await opened()
    contact = await asked(centre)
    await centre.agent()
    phone = await taken(centre)
    await centre.agent("bo")
    phone.hang_up()
    await centre.settle()
    assert waits_in_its_place(centre, contact) or contact.state is State.RINGING
    assert failed(centre) == ["agent_left"]
    assert contact.call_back is not None
    assert contact.call_back.attempts == 0
    assert "agent-ana" in contact.refusals
    assert "bo@" in centre.phone.rung[-1].to, "and at once"


async def test_an_agent_whose_phone_falls_silent_has_left() -> None:
    centre = await opened()
    contact = await asked(centre)
    await centre.agent()
    await taken(centre)
    branch = next(branch for _, branch in centre.media.branches if branch.startswith("agent"))
    centre.media.on_gone(contact.id, branch, "silence")
    await centre.settle()
    assert failed(centre) == ["agent_left"]
    assert contact.open


async def test_a_customer_who_gives_up_while_it_rings_ends_it_and_frees_the_agent() -> None:
    centre = await opened()
    contact = await asked(centre)
    await centre.agent()
    phone = await taken(centre)
    await centre.desk.end(contact.id, "customer")
    await centre.settle()
    assert contact.disposition is Disposition.CUSTOMER_GAVE_UP
    assert phone.over is not None
    assert centre.state() == "Ready"
    assert failed(centre) == []


async def test_a_media_process_that_dies_costs_neither_the_place_nor_an_attempt() -> None:
    centre = await opened()
    contact = await asked(centre)
    await centre.agent()
    await taken(centre)
    centre.calling_back.media_died()
    await centre.settle()
    assert waits_in_its_place(centre, contact)
    assert failed(centre) == ["media_gone"]
    assert contact.call_back is not None
    assert contact.call_back.attempts == 0
    await centre.passes(6)
    assert len(centre.phone.rung) == 2


async def test_a_server_that_stops_while_it_calls_keeps_the_call_back_for_the_next_start() -> None:
    centre = await opened()
    contact = await asked(centre)
    await centre.agent()
    phone = await taken(centre)
    await centre.desk.drain()
    await centre.settle()
    assert phone.over is not None
    assert contact.open
    again = await centre.again()
    found = again.contacts.get(contact.id)
    assert found is not None
    assert found.routable


async def test_a_crash_while_the_page_rings_puts_the_contact_back_in_its_place() -> None:
    centre = await opened()
    contact = await asked(centre)
    await centre.agent()
    await taken(centre)
    again = await centre.again()
    wire(again)
    found = again.contacts.get(contact.id)
    assert found is not None
    assert (found.place_at, found.call_back is not None) == (contact.place_at, True)
    assert again.state() in ("Ready", "Reserved", "NotReady", "Offline")


async def test_a_crash_while_it_is_to_be_tried_again_later_keeps_that_time() -> None:
    centre = await opened()
    contact = await asked(centre)
    await centre.agent()
    await taken(centre)
    centre.desk.refuse_call_back(contact.id)
    await centre.settle()
    again = await centre.again()
    found = again.contacts.get(contact.id)
    assert found is not None
    assert found.call_back is not None
    assert (found.call_back.attempts, found.routable) == (1, False)
    assert not again.phone.rung
    await again.passes(AGAIN_S + 1)
    assert found.routable


# Calling, by telephone


async def test_the_telephone_is_rung_through_the_trunk_in_the_agents_codecs() -> None:
    centre = await opened()
    contact, caller = await by_phone(centre)
    await centre.call_backs.ask(contact, MARIAS)
    caller.hang_up()
    await centre.settle()
    await centre.agent()
    await taken(centre)
    call = outside(centre)
    assert call.more["from_"] == f"<sip:+15550100@{DOMAIN}>"
    offered = next(offer for offer in centre.media.offers if offer["branch"].startswith("called-back"))
    assert offered["like"].startswith("agent-")
    assert offered["kinds"] == AUDIO_ONLY
    call.ring()
    call.pick_up()
    await centre.settle()
    assert contact.state is State.CONNECTED
    assert centre.media.joined
    assert centre.desk.view(contact)["by_phone"]
    call.hang_up()
    await centre.settle()
    assert contact.disposition is Disposition.CUSTOMER_HUNG_UP


async def test_a_customer_of_the_app_is_called_at_the_number_on_file() -> None:
    centre = await opened()
    contact = await centre.asks()
    await centre.calls_in(contact)
    assert centre.desk.view(contact)["can_call_back"] == {"app": True, "phone": "+15…01"}
    await centre.desk.ask_call_back(contact.id, "phone")
    await centre.settle()
    assert centre.desk.view(contact)["call_back"]["number"] == "+15…01"
    await centre.agent()
    await taken(centre)
    outside(centre).pick_up()
    await centre.settle()
    assert contact.state is State.CONNECTED
    assert centre.desk.view(contact)["by_phone"], "her page has no call to make"


async def test_an_agents_phone_that_chose_another_codec_goes_over_to_the_telephones() -> None:
    centre = await opened()
    contact = await asked(centre, MARIAS)
    await centre.agent()
    phone = await taken(centre)
    centre.media.different = True
    outside(centre).pick_up()
    await centre.settle()
    assert len(phone.reinvites) == 1
    assert outside(centre).reinvites == [], "it has just said what it speaks"
    centre.media.different = False
    phone.tell(sip.ReinviteAnswered(b"the telephone's codec"))
    await centre.settle()
    assert contact.state is State.CONNECTED


@pytest.mark.parametrize(
    ("status", "why"), [(603, "refused"), (486, "refused"), (404, "unreachable"), (503, "unreachable")]
)
async def test_a_telephone_that_is_not_answered_is_tried_again(status: int, why: str) -> None:
    centre = await opened()
    contact = await asked(centre, MARIAS)
    await centre.agent()
    phone = await taken(centre)
    call = outside(centre)
    if why == "refused":
        call.ring()
        await centre.passes(3)
    call.refuse(status)
    await centre.settle()
    assert failed(centre) == [why]
    assert phone.over is not None
    assert centre.state() == "Ready"
    assert waits_in_its_place(centre, contact)
    assert not contact.routable


async def test_a_telephone_that_rings_on_is_given_up() -> None:
    centre = await opened()
    await asked(centre, MARIAS)
    await centre.agent()
    await taken(centre)
    call = outside(centre)
    call.ring()
    await centre.passes(RING_S + 1)
    assert failed(centre) == ["no_answer"]
    assert call.log == ["CANCEL"]


async def test_an_agent_who_hangs_up_stops_the_telephone_from_ringing() -> None:
    centre = await opened()
    contact = await asked(centre, MARIAS)
    await centre.agent()
    phone = await taken(centre)
    call = outside(centre)
    call.ring()
    phone.hang_up()
    await centre.settle()
    assert call.log == ["CANCEL"]
    assert failed(centre) == ["agent_left"]
    assert waits_in_its_place(centre, contact)


async def test_a_trunk_that_is_down_when_it_is_their_turn_is_tried_again() -> None:
    centre = await opened()
    await asked(centre, MARIAS)
    centre.trunks.trunks["carrier"].dial = ()
    await centre.agent()
    await taken(centre)
    assert failed(centre) == ["no_trunk"]
    assert centre.state() == "Ready"


async def test_a_customer_who_answers_as_the_agent_goes_waits_on_the_line() -> None:
    centre = await opened()
    contact = await asked(centre, MARIAS)
    await centre.agent()
    phone = await taken(centre)
    call = outside(centre)
    call.ring()
    call.pick_up()  # both in one moment
    phone.hang_up()
    await centre.settle()
    if contact.open and contact.state is not State.CONNECTED:
        assert call.over is None or waits_in_its_place(centre, contact)
        assert contact.routable


async def test_no_end_of_the_contact_leaves_anything_behind() -> None:
    centre = await opened()
    contact = await asked(centre, MARIAS)
    await centre.agent()
    await taken(centre)
    outside(centre).refuse(486)
    await centre.settle()
    await centre.desk.end(contact.id, "customer")
    await centre.settle()
    backs = centre.call_backs
    for kept in (
        backs._timers,
        centre.calling_back._attempts,
        backs._numbers,
        backs._by_phone,
        backs._asking,
    ):
        assert not kept
    assert not centre.media.branches


def test_a_number_is_shown_so_that_only_its_owner_knows_it() -> None:
    assert masked("+4915112345689") == "+49…89"


async def test_a_wish_to_stay_that_cannot_be_stored_leaves_them_waiting_to_be_called() -> None:
    centre = await opened()
    contact = await asked(centre)
    promised = contact.call_back

    def broken(contact: Contact) -> asyncio.Future[None]:
        lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        lost.set_exception(OurError("The disk is full."))
        return lost

    store: Any = centre.store
    store.moved = broken
    with pytest.raises(OurError):
        await centre.call_backs.cancel(contact)
    await centre.passes(60)
    assert (contact.call_back, contact.routable, contact.open) == (promised, True, True)


async def test_two_pages_that_answer_at_once_leave_one_call_that_is_heard() -> None:
    centre = await opened()
    contact = await asked(centre)
    await centre.passes(6)
    pages = [Caller(centre.desk.uri(contact)) for _ in range(2)]
    greetings = [await centre.calls.greet(contact.id, contact.channel, page) for page in pages]
    for greeting in greetings:
        await centre.calls.arrive(contact, greeting)
    await centre.settle()
    assert [page.log for page in pages] == [["BYE"], []]
    assert (contact.id, centre.calls.branch_of(contact.id)) in centre.media.branches
    await centre.passes(10)
    assert contact.state is State.WAITING


async def test_another_way_of_being_called_is_no_further_try() -> None:
    centre = await opened(page=False)
    contact = await asked(centre)
    await centre.agent()
    await taken(centre)
    await centre.passes(PAGE_S + 1)
    assert contact.call_back is not None
    assert contact.call_back.attempts == 1
    await centre.call_backs.ask(contact, MARIAS)
    assert contact.call_back is not None
    assert contact.call_back.attempts == 1


async def test_one_number_is_owed_a_few_calls_and_no_more() -> None:
    """Whoever shows somebody else's number to us could have them rung without end."""
    centre = await opened()
    owed: list[Contact] = []
    for _ in range(MOST_OF_ONE_NUMBER):
        await by_phone(centre, STRANGER)
        contact = list(centre.contacts)[-1]
        owed.append(contact)
        assert centre.call_backs.may_ask(contact, STRANGER)
        await centre.call_backs.ask(contact, STRANGER)
    await by_phone(centre, STRANGER)
    further = list(centre.contacts)[-1]
    assert not centre.call_backs.may_ask(further, STRANGER)
    with pytest.raises(TheirError) as refused:
        await centre.call_backs.ask(further, STRANGER)
    assert refused.value.status == 409
    assert further.call_back is None
    again = await centre.again()
    wire(again)
    await by_phone(again, STRANGER)
    further = list(again.contacts)[-1]
    assert not again.call_backs.may_ask(further, STRANGER), "a crash forgets none of them"
    await again.desk.end(owed[0].id, "customer")
    assert again.call_backs.may_ask(further, STRANGER)


async def test_who_leaves_a_message_is_not_called_back_in_the_middle_of_it() -> None:
    centre = await opened()
    contact, caller = await by_phone(centre)
    assert centre.voicemails.take(contact)
    await centre.settle()
    with pytest.raises(TheirError) as refused:
        await centre.desk.ask_call_back(contact.id, "phone")
    assert refused.value.status == 409
    assert (contact.call_back, caller.over) == (None, None)


async def test_who_wants_to_be_called_in_the_page_is_not_called_by_telephone() -> None:
    centre = await opened()
    contact = await centre.asks()
    await centre.calls_in(contact)
    await centre.desk.ask_call_back(contact.id, "app", MARIAS)
    assert contact.call_back is not None
    assert contact.call_back.number == ""


async def test_after_a_crash_the_number_on_file_is_known_as_before() -> None:
    centre = await opened()
    called_back = await asked(centre)
    chat = await centre.asks("jonas", "chat", "it drips")
    again = await centre.again()
    wire(again)
    found = again.contacts.get(called_back.id)
    assert found is not None
    assert again.desk.view(found)["can_call_back"]["phone"] == masked(MARIAS)
    await again.desk.ask_call_back(found.id, "phone")
    assert found.call_back is not None
    assert found.call_back.number == MARIAS
    other = again.contacts.get(chat.id)
    assert other is not None
    assert again.call_backs.number_of(other) == "+15550100002"


async def test_a_call_that_was_on_its_way_when_they_asked_ends_neither_the_wish_nor_the_contact() -> None:
    centre = await opened()
    contact = await centre.asks()
    asking = asyncio.ensure_future(centre.call_backs.ask(contact, ""))
    await asyncio.sleep(0)
    stored_meanwhile = await centre.calls_in(contact)
    await asking
    a_moment_later = await centre.calls_in(contact)
    await centre.settle()
    assert [page.log[-1] for page in (stored_meanwhile, a_moment_later)] == ["BYE", "BYE"]
    assert waits_in_its_place(centre, contact)
    assert contact.routable
