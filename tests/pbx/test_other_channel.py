"""Who waits goes on in another channel: the same contact in the same place, with all that was known of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from config.errors import OurError, TheirError
from config.queue_settings import Overflow, QueueSettings
from pbx.contact import Channel, Contact, Disposition, State
from tests.pbx.centre import Caller, Centre
from tests.pbx.test_call_back import by_phone


async def staffed() -> Centre:
    """Ana could help by chat and voice, and Bo by video too; both are on a call, so that everybody waits."""
    centre = await Centre.open()
    await centre.agent()
    for customer in ("jonas",):
        contact = await centre.asks(customer)
        await centre.calls_in(contact)
        centre.phone.rung[-1].pick_up()
        await centre.settle()
    return centre


async def waiting(centre: Centre, channel: str, text: str | None = None) -> Contact:
    contact = await centre.asks("maria", channel, text)
    if channel != "chat":
        await centre.calls_in(contact)
    await centre.passes(5)
    assert contact.state is State.WAITING
    return contact


async def test_from_voice_to_chat_the_place_the_needs_and_the_visit_stay() -> None:
    centre = await staffed()
    contact = await centre.asks()
    caller = await centre.calls_in(contact)
    before = (contact.id, contact.place_at, contact.needs, contact.facts.visit_id)
    await centre.passes(30)
    await centre.desk.change_channel(contact.id, "chat")
    await centre.settle()
    assert (contact.id, contact.place_at, contact.needs, contact.facts.visit_id) == before
    assert (contact.channel, contact.routable, contact.state) == (Channel.CHAT, True, State.WAITING)
    assert caller.over is not None, "the call has ended, and nothing else"
    await centre.desk.say(contact.id, "k1", "now in writing")
    assert [line["text"] for line in await centre.desk.messages(contact.id)] == ["now in writing"]
    assert centre.events("contact.channel_changed")[0].facts == {"before": "voice", "channel": "chat"}
    stored = await centre.store.contact(contact.id)
    assert stored is not None
    assert stored.channel is Channel.CHAT


async def test_from_chat_to_voice_the_lines_stay_and_the_call_is_awaited() -> None:
    centre = await staffed()
    contact = await waiting(centre, "chat", "it drips")
    await centre.desk.change_channel(contact.id, "voice")
    assert (contact.channel, contact.routable) == (Channel.VOICE, False)
    assert [line["text"] for line in await centre.desk.messages(contact.id)] == ["it drips"]
    with pytest.raises(TheirError):
        await centre.desk.say(contact.id, "k2", "too late")
    await centre.calls_in(contact)
    assert contact.routable
    await centre.desk.change_channel(contact.id, "chat")
    assert [line["text"] for line in await centre.desk.messages(contact.id)] == ["it drips"]
    await centre.desk.say(contact.id, "k3", "and back")
    assert len(await centre.desk.messages(contact.id)) == 2


async def test_who_asks_for_a_call_and_never_makes_it_has_given_up() -> None:
    centre = await staffed()
    contact = await waiting(centre, "chat", "it drips")
    await centre.desk.change_channel(contact.id, "voice")
    await centre.passes(31)
    assert contact.disposition is Disposition.CUSTOMER_GAVE_UP


async def test_the_next_agent_is_one_who_can_do_what_is_wanted_now() -> None:
    centre = await staffed()
    contact = await waiting(centre, "voice")
    await centre.desk.change_channel(contact.id, "chat")
    await centre.agent("bo")
    rung = centre.phone.rung[-1]
    assert "bo@" in rung.to
    assert rung.header("Subject").startswith("Chat:")
    rung.pick_up()
    await centre.settle()
    assert contact.state is State.CONNECTED


async def test_nobody_is_moved_to_where_nobody_can_be_reached() -> None:
    centre = await staffed()
    contact = await waiting(centre, "voice")
    with pytest.raises(TheirError) as refused:
        await centre.desk.change_channel(contact.id, "video")
    assert refused.value.status == 409
    assert (contact.channel, contact.routable) == (Channel.VOICE, True)


async def test_the_same_channel_again_changes_nothing() -> None:
    centre = await staffed()
    contact = await centre.asks()
    caller = await centre.calls_in(contact)
    await centre.desk.change_channel(contact.id, "voice")
    assert (caller.over, contact.routable) == (None, True)


@pytest.mark.parametrize("state", ["ringing", "connected", "ended"])
async def test_who_is_not_waiting_stays_where_they_are(state: str) -> None:
    centre = await Centre.open()
    await centre.agent()
    contact = await centre.asks()
    caller = await centre.calls_in(contact)
    if state != "ringing":
        centre.phone.rung[-1].pick_up()
        await centre.settle()
    if state == "ended":
        await centre.desk.end(contact.id, "customer")
    with pytest.raises(TheirError) as refused:
        await centre.desk.change_channel(contact.id, "chat")
    assert refused.value.status == 409
    assert contact.channel is Channel.VOICE
    assert (caller.over is None) == (state != "ended")


async def test_a_phone_caller_stays_on_the_phone() -> None:
    centre = await staffed()
    contact, _ = await by_phone(centre)
    contact = next(each for each in centre.contacts if each.facts.trunk)
    with pytest.raises(TheirError) as refused:
        await centre.desk.change_channel(contact.id, "chat")
    assert refused.value.status == 409
    assert centre.desk.view(contact)["channels"] == []


async def test_what_cannot_be_stored_has_not_happened() -> None:
    centre = await staffed()
    contact = await waiting(centre, "chat", "it drips")
    moved = centre.store.moved

    def broken(contact: Contact) -> asyncio.Future[None]:
        lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        lost.set_exception(OurError("The disk is full."))
        return lost

    store: Any = centre.store
    store.moved = broken
    with pytest.raises(OurError):
        await centre.desk.change_channel(contact.id, "voice")
    store.moved = moved
    assert (contact.channel, contact.routable) == (Channel.CHAT, True)
    await centre.desk.say(contact.id, "k", "still here")


async def test_a_crash_finds_it_in_the_channel_it_was_moved_to() -> None:
    centre = await staffed()
    contact = await waiting(centre, "voice")
    await centre.desk.change_channel(contact.id, "chat")
    again = await centre.again()
    found = again.contacts.get(contact.id)
    assert found is not None
    assert (found.channel, found.routable, found.place_at) == (Channel.CHAT, True, contact.place_at)


async def test_who_was_to_be_called_back_goes_on_in_writing_instead() -> None:
    centre = await staffed()
    contact = await waiting(centre, "voice")
    await centre.desk.ask_call_back(contact.id)
    assert centre.desk.view(contact)["channels"] == ["chat", "video"]
    await centre.desk.change_channel(contact.id, "chat")
    assert (contact.call_back, contact.channel, contact.routable) == (None, Channel.CHAT, True)


def broken_store(centre: Centre) -> None:
    """From now on nothing that a contact does can be stored."""

    def broken(contact: Contact) -> asyncio.Future[None]:
        lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        lost.set_exception(OurError("The disk is full."))
        return lost

    store: Any = centre.store
    store.moved = broken


async def test_a_call_back_that_was_promised_stays_so_when_the_change_cannot_be_stored() -> None:
    centre = await staffed()
    contact = await waiting(centre, "voice")
    await centre.desk.ask_call_back(contact.id)
    await centre.settle()
    promised = contact.call_back
    assert promised is not None
    broken_store(centre)
    with pytest.raises(OurError):
        await centre.desk.change_channel(contact.id, "chat")
    await centre.passes(60)
    assert (contact.call_back, contact.channel, contact.routable) == (promised, Channel.VOICE, True)
    assert contact.open


async def test_a_chat_goes_on_when_neither_the_change_can_be_stored_nor_its_lines_be_read() -> None:
    centre = await staffed()
    contact = await waiting(centre, "chat", "it drips")
    broken_store(centre)

    async def unread(contact_id: str) -> list[Any]:
        raise OurError("The disk is gone.")

    store: Any = centre.store
    store.messages = unread
    with pytest.raises(OurError):
        await centre.desk.change_channel(contact.id, "voice")
    assert (contact.channel, contact.routable) == (Channel.CHAT, True)
    assert [line["text"] for line in await centre.desk.messages(contact.id)] == ["it drips"]


async def test_of_two_changes_at_once_one_is_made() -> None:
    centre = await staffed()
    contact = await waiting(centre, "voice")
    both = await asyncio.gather(
        centre.desk.change_channel(contact.id, "chat"),
        centre.desk.change_channel(contact.id, "chat"),
        return_exceptions=True,
    )
    await centre.settle()
    assert [getattr(each, "status", None) for each in both] == [None, 409]
    assert (contact.channel, contact.routable) == (Channel.CHAT, True)
    assert len(centre.events("contact.channel_changed")) == 1


async def test_a_call_that_was_on_its_way_when_they_went_over_to_a_chat_has_no_part_in_it() -> None:
    centre = await staffed()
    contact = await waiting(centre, "voice")
    late = Caller(centre.desk.uri(contact))
    greeting = await centre.calls.greet(contact.id, contact.channel, late)
    await centre.desk.change_channel(contact.id, "chat")
    await centre.calls.arrive(contact, greeting)
    await centre.settle()
    assert (late.answered, late.over is not None) == (False, True)
    assert (contact.state, contact.routable) == (State.WAITING, True)
    assert not centre.media.branches.keys() & {(contact.id, greeting.leg.branch)}


async def test_who_would_rather_stay_and_then_writes_is_not_waited_for_on_the_line() -> None:
    centre = await staffed()
    contact = await waiting(centre, "voice")
    await centre.desk.ask_call_back(contact.id)
    await centre.settle()
    await asyncio.gather(
        centre.desk.cancel_call_back(contact.id),
        centre.desk.change_channel(contact.id, "chat"),
        return_exceptions=True,
    )
    await centre.passes(60)
    assert (contact.open, contact.channel) == (True, Channel.CHAT)


async def test_the_queue_is_that_of_the_channel_they_go_on_in() -> None:
    queues = [QueueSettings("calls", channel="voice"), QueueSettings("writing", channel="chat")]
    centre = await Centre.open(queues=queues)
    await centre.agent()
    first = await centre.asks("jonas")
    await centre.calls_in(first)
    centre.phone.rung[-1].pick_up()
    await centre.settle()
    contact = await waiting(centre, "voice")
    assert contact.queue == "calls"
    await centre.desk.change_channel(contact.id, "chat")
    await centre.settle()
    assert contact.queue == "writing"
    standing = centre.dispatch.floor.waiting(contact.id)
    assert standing is not None
    assert standing.group.queue == "writing"
    stored = await centre.store.contact(contact.id)
    assert stored is not None
    assert stored.queue == "writing"


async def test_who_has_overflowed_into_another_queue_stays_there() -> None:
    queues = [
        QueueSettings("calls", channel="voice", overflow=Overflow.QUEUE, overflow_queue="everybody"),
        QueueSettings("everybody"),
    ]
    centre = await Centre.open(queues=queues)
    await centre.agent()
    first = await centre.asks("jonas")
    await centre.calls_in(first)
    centre.phone.rung[-1].pick_up()
    await centre.settle()
    contact = await waiting(centre, "voice")
    centre.contacts.requeue(contact, "everybody")
    await centre.desk.change_channel(contact.id, "chat")
    assert contact.queue == "everybody"
