"""What callers and customers of the app hear who wait, when, and what they are never told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.queue_settings import QueueSettings
from pbx.contact import Contact, Disposition, State
from pbx.waiting import HIGHEST_NUMBER, Patter, Standing, position_words, wait_words
from tests.pbx.callers import by_phone, heard, hears, set_queue
from tests.pbx.centre import Caller, Centre, Ringing

# In words


@pytest.mark.parametrize(
    ("position", "words"),
    [
        (1, ("queue-next",)),
        (2, ("queue-position", "number-2", "queue-in-line")),
        (60, ("queue-position", "number-60", "queue-in-line")),
        (61, ()),  # sixty are ahead, and not more than sixty
        (62, ("queue-many",)),
        (100_000, ("queue-many",)),
    ],
)
def test_positions(position: int, words: tuple[str, ...]) -> None:
    assert position_words(position) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, ()),
        (0.0, ("wait-under-minute",)),
        (59.9, ("wait-under-minute",)),
        (60.0, ("wait-about", "wait-minute")),
        (61.0, ("wait-about", "number-2", "wait-minutes")),
        (290.0, ("wait-about", "number-5", "wait-minutes")),
        (600.0, ("wait-about", "number-10", "wait-minutes")),
        (610.0, ("wait-about", "number-15", "wait-minutes")),
        (3600.0, ("wait-about", "number-60", "wait-minutes")),
        (3601.0, ("wait-over-hour",)),
        (1e9, ("wait-over-hour",)),
    ],
)
def test_waits(seconds: float | None, words: tuple[str, ...]) -> None:
    assert wait_words(seconds) == words


@given(st.integers(1, 200), st.one_of(st.none(), st.floats(0.0, 1e6)))
def test_only_numbers_that_there_are_prompts_of(position: int, seconds: float | None) -> None:
    for word in (*position_words(position), *wait_words(seconds)):
        if word.startswith("number-"):
            assert 1 <= int(word.removeprefix("number-")) <= HIGHEST_NUMBER


@given(st.lists(st.one_of(st.none(), st.integers(1, 100)), max_size=30))
def test_no_position_is_told_that_got_worse(positions: list[int | None]) -> None:
    patter, told = Patter(), [101]
    for number, position in enumerate(positions):
        standing = Standing(position)
        words = patter.comfort(standing, ()) if number else patter.welcome(standing, (), comforts=True)
        if number:
            assert words  # there is always something to say
        if position is not None and words and words == position_words(position):
            assert position < told[-1]
            told.append(position)
        else:
            assert words in ((), ("comfort",))


def test_keys_are_offered_with_the_first_comfort_or_at_once_when_it_will_take_long() -> None:
    offers = ("callback-offer", "voicemail-offer")
    quick = Patter()
    assert quick.welcome(Standing(1, 60.0), offers, comforts=True)[-1] == "wait-minute"
    assert not quick.offered
    assert quick.comfort(Standing(1, 60.0), offers) == ("comfort", *offers)
    assert quick.offered
    slow = Patter()
    assert slow.welcome(Standing(1, 181.0), offers, comforts=True)[-2:] == offers
    assert slow.offered
    silent = Patter()  # nothing more will be said
    assert silent.welcome(Standing(1, None), offers, comforts=False) == ("queue-next", *offers)


# In the contact centre


async def test_a_caller_hears_how_things_stand_and_then_music_and_now_and_then_a_word() -> None:
    centre = await Centre.open()
    set_queue(centre, comfort_s=45.0, call_back=False)
    await by_phone(centre, "+15557654321")
    contact, _ = await by_phone(centre)
    assert hears(centre, contact) == "please-wait"
    await centre.passes(3.5)
    assert hears(centre, contact) == ("queue-position", "number-2", "queue-in-line")
    await centre.passes(9.5)
    assert hears(centre, contact) == "music"
    await centre.passes(43.0)
    assert hears(centre, contact) == "music"
    await centre.passes(2.0)
    assert hears(centre, contact) == ("comfort",)
    await centre.passes(3.5)
    assert hears(centre, contact) == "music"


async def test_a_better_position_is_told_with_the_next_word() -> None:
    centre = await Centre.open()
    set_queue(centre, comfort_s=20.0, call_back=False)
    first, caller = await by_phone(centre, "+15557654321")
    contact, _ = await by_phone(centre)
    await centre.passes(15.0)
    caller.hang_up()
    await centre.passes(18.0)
    assert first.disposition is Disposition.CUSTOMER_GAVE_UP
    assert heard(centre, contact)[-2:] == ["queue-in-line", "queue-next"]
    await centre.passes(40.0)
    assert heard(centre, contact)[-2:] == ["queue-next", "comfort"]


async def test_the_expected_wait_is_told_where_it_is_known() -> None:
    centre = await Centre.open()
    set_queue(centre, call_back=False)
    centre.calls.room.standing = lambda contact: Standing(centre.dispatch.position(contact.id), 290.0)
    contact, _ = await by_phone(centre)
    await centre.passes(3.5)
    assert hears(centre, contact) == ("queue-next", "wait-about", "number-5", "wait-minutes")


async def test_a_customer_of_the_app_hears_it_too_and_is_offered_no_keys() -> None:
    centre = await Centre.open()
    set_queue(centre, comfort_s=10.0)
    contact = await centre.asks(channel="video")
    await centre.calls_in(contact)
    await centre.passes(25.0)
    assert heard(centre, contact) == ["please-wait", "queue-next", "comfort"]


async def test_where_no_comfort_is_set_there_is_music_without_end() -> None:
    centre = await Centre.open()
    set_queue(centre, comfort_s=0.0, call_back=False)
    contact, _ = await by_phone(centre)
    await centre.passes(600.0)
    assert heard(centre, contact) == ["please-wait", "queue-next"]
    assert hears(centre, contact) == "music"


async def test_of_a_queue_its_own_settings_count() -> None:
    centre = await Centre.open()
    centre.queues["default"] = QueueSettings("default", comfort_s=0.0)
    centre.queues["vip"] = QueueSettings("vip", comfort_s=10.0, call_back=False)
    contact, _ = await by_phone(centre)
    contact.queue = "vip"
    await centre.passes(20.0)
    assert heard(centre, contact)[-1] == "comfort"


async def test_whoever_is_answered_hears_nothing_more_of_it() -> None:
    centre = await Centre.open()
    set_queue(centre, comfort_s=5.0)
    await centre.agent()
    contact, _ = await by_phone(centre)
    centre.phone.rung[0].pick_up()
    await centre.passes(60.0)
    assert contact.state is State.CONNECTED
    assert hears(centre, contact) is None
    assert heard(centre, contact) == ["please-wait"]


async def test_who_is_being_offered_is_told_no_position_before_the_music() -> None:
    centre = await Centre.open()
    set_queue(centre, call_back=False)
    await centre.agent()
    contact, _ = await by_phone(centre)
    await centre.passes(3.5)
    assert contact.state is State.RINGING
    assert hears(centre, contact) == "music"


async def test_a_page_that_is_loaded_again_hears_it_anew_and_no_worse() -> None:
    centre = await Centre.open()
    set_queue(centre, comfort_s=0.0)
    contact = await centre.asks()
    await centre.calls_in(contact)
    await centre.passes(4.0)
    await centre.calls_in(contact)
    await centre.passes(4.0)
    words = [what for branch, what in centre.media.played if branch == "customer-2"]
    assert words == ["please-wait", ("queue-next",)]


async def test_after_the_end_nothing_is_left_of_it() -> None:
    centre = await Centre.open()
    contact, caller = await by_phone(centre)
    await centre.passes(4.0)
    caller.hang_up()
    await centre.settle()
    before = len(centre.media.played)
    await centre.passes(120.0)
    assert contact.id not in centre.calls.room._patter
    assert contact.id not in centre.calls.room._seats
    assert len(centre.media.played) == before


async def test_to_whom_nothing_can_be_played_any_more_that_is_the_end() -> None:
    centre = await Centre.open()
    set_queue(centre, comfort_s=10.0)
    contact, _ = await by_phone(centre)
    centre.media.branches.clear()
    await centre.passes(4.0)
    assert contact.disposition is Disposition.MEDIA_FAILED


# Hold


async def talking(centre: Centre) -> tuple[Contact, Caller, Ringing]:
    await centre.agent()
    contact = await centre.asks()
    caller = await centre.calls_in(contact)
    phone = centre.phone.rung[0]
    phone.pick_up()
    await centre.settle()
    assert contact.state is State.CONNECTED
    return contact, caller, phone


async def test_on_hold_there_is_music_and_the_agents_call_stays() -> None:
    centre = await Centre.open()
    set_queue(centre, comfort_s=5.0)
    contact, caller, phone = await talking(centre)
    joined = len(centre.media.joined)
    assert await centre.calls.hold(contact)
    await centre.passes(60.0)
    assert hears(centre, contact) == "music"
    assert (phone.over, caller.over, contact.state) == (None, None, State.CONNECTED)
    assert await centre.calls.unhold(contact)
    await centre.settle()
    assert len(centre.media.joined) == joined + 1
    assert hears(centre, contact) is None


async def test_only_who_talks_can_be_put_on_hold_and_only_who_is_on_hold_taken_back() -> None:
    centre = await Centre.open()
    waiting, _ = await by_phone(centre)
    assert not await centre.calls.hold(waiting)
    assert not await centre.calls.unhold(waiting)
    await centre.desk.end(waiting.id, "customer")
    contact, _, _ = await talking(centre)
    assert not await centre.calls.unhold(contact)
    assert await centre.calls.hold(contact)
    assert not await centre.calls.hold(contact)  # is already
    await centre.desk.end(contact.id, "agent")
    assert not await centre.calls.unhold(contact)


async def test_a_page_loaded_again_on_hold_is_on_hold_still() -> None:
    centre = await Centre.open()
    contact, _, _ = await talking(centre)
    await centre.calls.hold(contact)
    joined = len(centre.media.joined)
    await centre.calls_in(contact)
    assert centre.media.playing[contact.id, "customer-2"] == "music"
    assert await centre.calls.unhold(contact)
    assert centre.media.joined[joined:] == [(contact.id, "customer-2", centre.media.joined[0][2])]


@pytest.mark.parametrize("who", ["customer", "agent"])
async def test_either_side_may_vanish_on_hold(who: str) -> None:
    centre = await Centre.open()
    contact, _, _ = await talking(centre)
    await centre.calls.hold(contact)
    branch = "customer-1" if who == "customer" else centre.media.joined[0][2]
    centre.calls.media_gone(contact.id, branch, "silence")
    await centre.passes(6.0)
    lost = Disposition.CUSTOMER_LOST if who == "customer" else Disposition.AGENT_LOST
    assert contact.disposition is lost
    assert centre.media.branches == {}


@pytest.mark.parametrize("who", ["customer", "agent"])
async def test_either_side_may_hang_up_on_hold(who: str) -> None:
    centre = await Centre.open()
    contact, caller, phone = await talking(centre)
    await centre.calls.hold(contact)
    (caller if who == "customer" else phone).hang_up()
    await centre.settle()
    assert contact.disposition is not None
    assert contact.disposition.whose == who
    assert caller.over is not None
    assert phone.over is not None
