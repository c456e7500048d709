"""Keys of callers who wait: what 1 and 2 do, when they count, and who has none."""

from __future__ import annotations

import asyncio

import pytest

from config.errors import TheirError
from config.queue_settings import Overflow
from pbx.contact import Contact, Disposition, State
from sip_trunk import user_agent as sip
from sip_trunk.sip.message import Request
from tests.pbx.callers import by_phone, heard, hears, press, set_queue
from tests.pbx.centre import Caller, Centre

OFFERS = ["callback-offer", "voicemail-offer"]


async def waits(
    *, overflow: Overflow = Overflow.VOICEMAIL, **settings: object
) -> tuple[Centre, Contact, Caller]:
    """A caller to whom the keys have just been offered."""
    centre = await Centre.open()
    set_queue(centre, overflow=overflow, comfort_s=10.0, **settings)
    contact, caller = await by_phone(centre)
    await centre.passes(17.0)
    assert "comfort" in heard(centre, contact)
    return centre, contact, caller


async def test_after_the_first_comfort_both_are_offered() -> None:
    centre, contact, _ = await waits()
    assert heard(centre, contact)[-3:] == ["comfort", *OFFERS]


async def test_what_cannot_be_had_is_not_offered() -> None:
    centre, contact, _ = await waits(overflow=Overflow.END, call_back=False)
    assert not set(OFFERS) & set(heard(centre, contact))
    for key in "12":
        press(centre, contact, key)
    await centre.settle()
    assert (contact.state, contact.call_back) == (State.WAITING, None)
    assert contact.id not in centre.voicemails


@pytest.mark.parametrize("number", ["anonymous", "+4412345"])
async def test_whom_we_cannot_call_is_not_offered_it(number: str) -> None:
    centre = await Centre.open()
    set_queue(centre, comfort_s=10.0)
    contact, _ = await by_phone(centre, number)
    await centre.passes(20.0)
    assert "callback-offer" not in heard(centre, contact)
    press(centre, contact, "1")
    await centre.settle()
    assert contact.call_back is None


async def test_one_to_be_called_back_and_hung_up_on_once_it_was_said() -> None:
    centre, contact, caller = await waits()
    place = contact.place_at
    press(centre, contact, "1")
    await centre.settle()
    assert hears(centre, contact) == "callback-taken"
    assert caller.over is None
    await centre.passes(3.5)
    assert caller.log == ["BYE"]
    assert contact.call_back is not None
    assert contact.call_back.number == contact.facts.number
    assert (contact.state, contact.routable, contact.place_at) == (State.WAITING, True, place)
    assert centre.dispatch.position(contact.id) == 1
    assert [event.facts["key"] for event in centre.events("contact.key_pressed")] == ["1"]


async def test_nothing_else_is_said_to_who_will_be_called_back() -> None:
    centre, contact, _ = await waits()
    press(centre, contact, "1")
    press(centre, contact, "1")
    press(centre, contact, "2")
    await centre.passes(60.0)
    assert heard(centre, contact)[-2:] == ["voicemail-offer", "callback-taken"]
    assert len(centre.events("contact.call_back_asked")) == 1


async def test_a_call_back_that_is_refused_leaves_the_caller_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    centre, contact, caller = await waits()

    async def refused(*_: object) -> None:
        raise TheirError("Not now.", 409)

    monkeypatch.setattr(centre.call_backs, "ask", refused)
    press(centre, contact, "1")
    await centre.passes(10.0)
    assert (contact.state, contact.routable, caller.over) == (State.WAITING, True, None)
    assert hears(centre, contact) == "music"


async def test_keys_count_once_they_were_offered() -> None:
    centre = await Centre.open()
    set_queue(centre, overflow=Overflow.VOICEMAIL, comfort_s=10.0)
    contact, _ = await by_phone(centre)
    await centre.passes(8.0)
    press(centre, contact, "1")
    press(centre, contact, "2")
    await centre.passes(1.0)
    assert (contact.call_back, contact.routable) == (None, True)


@pytest.mark.parametrize("key", ["0", "3", "#", "*", "A"])
async def test_other_keys_are_nothing(key: str) -> None:
    centre, contact, _ = await waits()
    press(centre, contact, key)
    await centre.settle()
    assert (contact.state, contact.routable, contact.call_back) == (State.WAITING, True, None)


async def test_two_leaves_a_message() -> None:
    centre, contact, _ = await waits()
    press(centre, contact, "2")
    await centre.settle()
    assert contact.id in centre.voicemails
    assert hears(centre, contact) == ("voicemail-leave", "beep")
    assert not contact.routable


async def test_keys_may_come_by_info() -> None:
    centre, contact, caller = await waits()
    request = Request(
        "INFO", "sip:us@x", [("Content-Type", "application/dtmf-relay")], b"Signal=2\r\nDuration=160\r\n"
    )
    said: list[int] = []

    class Info:
        message = request

        def respond(self, status: int, *_: object, **__: object) -> None:
            said.append(status)

    caller.tell(sip.InDialog(Info()))  # type: ignore[arg-type]
    await centre.settle()
    assert said == [200]
    assert contact.id in centre.voicemails


async def test_a_key_pressed_while_an_agent_is_rung_counts_when_they_do_not_answer() -> None:
    centre, contact, _ = await waits()
    await centre.agent()
    assert contact.state is State.RINGING
    press(centre, contact, "2")
    await centre.settle()
    assert contact.id not in centre.voicemails
    centre.phone.rung[0].refuse(603)
    await centre.settle()
    assert contact.id in centre.voicemails


async def test_a_key_pressed_while_an_agent_is_rung_is_forgotten_when_they_answer() -> None:
    centre, contact, _ = await waits()
    await centre.agent()
    press(centre, contact, "2")
    centre.phone.rung[0].pick_up()
    await centre.settle()
    assert contact.state is State.CONNECTED
    press(centre, contact, "2")
    await centre.passes(1.0)
    assert contact.state is State.CONNECTED
    centre.phone.rung[0].hang_up()
    await centre.settle()
    assert contact.disposition is Disposition.AGENT_HUNG_UP
    assert centre.menu._wanted == {}


async def test_a_key_from_before_a_conversation_does_not_count_after_it() -> None:
    centre, contact, _ = await waits()
    await centre.agent()
    press(centre, contact, "2")
    centre.phone.rung[0].pick_up()
    await centre.settle()
    assert contact.state is State.CONNECTED
    centre.calls.back_to_queue(contact, None)
    await centre.settle()
    assert contact.id not in centre.voicemails
    assert contact.open


async def test_keys_of_the_agent_are_not_the_callers() -> None:
    centre, contact, _ = await waits()
    for branch in ("agent-1", "customer-2", ""):
        centre.media.on_keys(contact.id, branch, "2")
    centre.media.on_keys("c_nobody", "customer-1", "2")
    await asyncio.sleep(0)
    await centre.settle()
    assert contact.id not in centre.voicemails


async def test_a_customer_of_the_app_presses_nothing() -> None:
    centre = await Centre.open()
    set_queue(centre, overflow=Overflow.VOICEMAIL, comfort_s=10.0)
    contact = await centre.asks()
    await centre.calls_in(contact)
    await centre.passes(20.0)
    for key in "12":
        press(centre, contact, key)
    await centre.settle()
    assert (contact.call_back, contact.routable) == (None, True)
