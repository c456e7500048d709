"""Who waits goes on in another channel: the same contact in the same place, with all that was known of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from config.errors import OurError, TheirError
from pbx.contact import Channel, Contact, Disposition, State
from tests.pbx.centre import Centre
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
