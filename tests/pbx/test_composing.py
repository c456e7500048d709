"""That one side of a chat is writing, and who hears of it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from pbx.composing import ACTIVE_EVERY_S, Told, Writing
from pbx.contact import Contact, Disposition
from sip_trunk.sip import composing
from sip_trunk.sip.composing import Composing, parse_composing
from tests.pbx.centre import Centre
from tests.pbx.test_chat import joined, lines_to, typed


class Side:
    def __init__(self) -> None:
        self.clock = Clock()
        self.told: list[tuple[float, Told]] = []
        self.writing = Writing(self.clock, lambda told: self.told.append((self.clock.seconds(), told)))

    def heard(self, active: bool, lasts_s: float = 120) -> None:
        self.writing.heard(active, lasts_s)
        self.clock.advance(0)


def test_writing_is_told_once_and_ends_by_itself() -> None:
    side = Side()
    for _ in range(5):
        side.heard(True, 30)
        side.clock.advance(1)
    assert side.told == [(0, Told.ACTIVE)]
    side.clock.pump([1] * 40)
    assert side.told == [(0, Told.ACTIVE), (34, Told.IDLE)]
    assert not side.clock.getDelayedCalls()


def test_who_goes_on_writing_is_repeated_every_minute_and_no_sooner() -> None:
    side = Side()
    for _ in range(15):
        side.heard(True, 25)
        side.clock.advance(10)
    assert side.told == [(0, Told.ACTIVE), (60, Told.STILL), (120, Told.STILL)]


def test_a_line_says_that_its_writing_is_over() -> None:
    side = Side()
    side.heard(True)
    side.writing.said()
    side.writing.said()
    assert [told for _, told in side.told] == [Told.ACTIVE, Told.SAID]
    assert not side.clock.getDelayedCalls()


def test_beginning_again_at_once_is_told_when_its_time_has_come_if_it_still_is_so() -> None:
    side = Side()
    side.heard(True)
    side.writing.said()
    side.clock.advance(3)
    side.heard(True)
    assert len(side.told) == 2
    side.clock.advance(7)
    assert side.told[-1] == (10, Told.ACTIVE)
    side.heard(False)
    side.clock.advance(1)
    side.heard(True)
    side.heard(False)
    side.clock.advance(60)
    assert side.told[-1] == (10, Told.IDLE)


@given(st.lists(st.tuples(st.sampled_from(["active", "idle", "said"]), st.floats(0, 30)), max_size=40))
def test_whatever_is_heard_beginning_is_told_no_oftener_than_it_may_be_and_always_ends(
    heard: list[tuple[str, float]],
) -> None:
    side = Side()
    for what, pause_s in heard:
        if what == "said":
            side.writing.said()
        else:
            side.heard(what == "active", 20)
        side.clock.advance(pause_s)
    side.clock.pump([1] * 60)
    began = [at for at, told in side.told if told is Told.ACTIVE]
    assert all(later - earlier >= ACTIVE_EVERY_S - 1e-6 for earlier, later in pairwise(began))
    ends = [told for _, told in side.told if told is not Told.STILL]
    assert all((told is Told.ACTIVE) == (number % 2 == 0) for number, told in enumerate(ends))
    assert len(ends) % 2 == 0
    assert not side.clock.getDelayedCalls()


# In the whole chat


def states_to(centre: Centre) -> list[Composing]:
    """What phones were told of the customer's writing."""
    return [parse_composing(text.encode()) for _, _, text, _ in centre.phone.sent if "<isComposing" in text]


def seen_by_pages(centre: Centre, contact: Contact) -> list[dict[str, Any]]:
    shown: list[dict[str, Any]] = []
    centre.desk.listen(contact.id, lambda kind, data: shown.append(data) if kind == "composing" else None)
    return shown


async def says(centre: Centre, contact: Contact, state: Composing, **more: Any) -> int | None:
    body = state.to_bytes().decode()
    return await typed(centre, contact.id, body, content_type=composing.MEDIA_TYPE, **more)


async def test_what_the_phone_says_is_shown_in_pages_and_nothing_is_kept_of_it() -> None:
    centre = await Centre.open()
    await centre.agent()
    contact, _ = await joined(centre)
    shown = seen_by_pages(centre, contact)
    events = len(centre.house.told)
    assert await says(centre, contact, Composing(True, 60)) == 200
    assert await says(centre, contact, Composing(True, 60)) == 200
    assert shown == [{"from": "agent", "active": True}]
    assert list(centre.desk.writing(contact.id)) == ["agent"]
    assert await says(centre, contact, Composing(False)) == 200
    assert shown[1:] == [{"from": "agent", "active": False}]
    assert [line["text"] for line in await centre.desk.messages(contact.id)] == ["Hello"]
    assert len(centre.house.told) == events, "no event of it"


async def test_a_phone_that_falls_silent_writes_no_more() -> None:
    centre = await Centre.open()
    await centre.agent()
    contact, _ = await joined(centre)
    shown = seen_by_pages(centre, contact)
    await says(centre, contact, Composing(True))
    await centre.passes(119)
    assert [each["active"] for each in shown] == [True]
    await centre.passes(2)
    assert [each["active"] for each in shown] == [True, False]


async def test_the_agents_line_ends_their_writing() -> None:
    centre = await Centre.open()
    await centre.agent()
    contact, _ = await joined(centre)
    await says(centre, contact, Composing(True))
    shown = seen_by_pages(centre, contact)
    await typed(centre, contact.id, "Here I am")
    assert shown == [{"from": "agent", "active": False}]


@pytest.mark.parametrize(
    ("what", "status"),
    [
        ({"who": "bo"}, 403),
        ({"contact_id": "c_nobody"}, 404),
        ({"text": "<isComposing/>"}, 400),
        ({"text": "<!DOCTYPE a><a/>"}, 400),
        ({"text": " " * 5000}, 413),
    ],
)
async def test_what_is_no_state_of_this_chat_is_refused(what: dict[str, Any], status: int) -> None:
    centre = await Centre.open()
    await centre.agent()
    await centre.house.hire("bo", wifi=1)
    contact, _ = await joined(centre)
    shown = seen_by_pages(centre, contact)
    given = {"contact_id": contact.id, "text": Composing(True).to_bytes().decode(), **what}
    contact_id, text = given.pop("contact_id"), given.pop("text")
    assert await typed(centre, contact_id, text, content_type=composing.MEDIA_TYPE, **given) == status
    assert shown == []


async def test_a_phone_that_knows_only_text_is_never_sent_anything_else() -> None:
    centre = await Centre.open()
    await centre.agent()
    contact, _ = await joined(centre)
    centre.desk.composing(contact.id, "customer", True)
    await centre.passes(20)
    await centre.desk.say(contact.id, "k", "my line")
    await centre.settle()
    assert [text for _, _, text, _ in centre.phone.sent] == ["Hello", "my line"]


@pytest.mark.parametrize("accepts", ["text/*, */*", "application/*", "text/plain, nonsense", ""])
async def test_a_phone_that_would_take_anything_is_not_sent_xml(accepts: str) -> None:
    centre = await Centre.open()
    centre.phone.accepts = accepts
    await centre.agent()
    contact, _ = await joined(centre)
    centre.desk.composing(contact.id, "customer", True)
    await centre.passes(1)
    assert lines_to(centre, contact) == ["Hello"]


async def test_a_phone_that_says_it_reads_them_hears_of_the_customers_writing() -> None:
    centre = await Centre.open()
    centre.phone.accepts = f"text/plain, {composing.MEDIA_TYPE};q=0.5"
    await centre.agent()
    contact, _ = await joined(centre)
    for _ in range(8):
        centre.desk.composing(contact.id, "customer", True)
        await centre.passes(10)
    await centre.passes(20)
    assert states_to(centre) == [
        Composing(True, 90, "text/plain"),
        Composing(True, 90, "text/plain"),
        Composing(False, None, "text/plain"),
    ]


async def test_a_phone_that_sent_one_reads_them_and_its_line_needs_no_idle_after_it() -> None:
    centre = await Centre.open()
    await centre.agent()
    contact, _ = await joined(centre)
    await says(centre, contact, Composing(False))
    centre.desk.composing(contact.id, "customer", True)
    await centre.settle()
    await centre.desk.say(contact.id, "k", "done")
    await centre.passes(1)
    assert states_to(centre) == [Composing(True, 90, "text/plain")]
    assert lines_to(centre, contact)[-1] == "done"


async def test_a_phone_that_refuses_them_after_all_gets_no_more() -> None:
    centre = await Centre.open()
    centre.phone.accepts = composing.MEDIA_TYPE
    await centre.agent()
    contact, _ = await joined(centre)
    tried: list[str] = []

    def refuse(target: str) -> int:
        tried.append(target)
        return 415

    centre.phone.answer_message = refuse
    centre.desk.composing(contact.id, "customer", True)
    await centre.settle()
    centre.desk.composing(contact.id, "customer", False)
    await centre.settle()
    assert len(tried) == 1


async def test_writing_in_the_page_is_heard_on_the_other_side_as_well() -> None:
    centre = await Centre.open()
    await centre.agent()
    contact, _ = await joined(centre)
    shown = seen_by_pages(centre, contact)
    centre.desk.composing(contact.id, "agent", True)
    centre.desk.composing(contact.id, "customer", True)
    await centre.settle()
    assert sorted(each["from"] for each in shown) == ["agent", "customer"]
    await centre.passes(26)
    assert centre.desk.writing(contact.id) == ()


async def test_one_who_waits_for_an_agent_writes_to_nobody() -> None:
    centre = await Centre.open()
    contact = await centre.asks("maria", "chat", "Hello")
    centre.desk.composing(contact.id, "customer", True)
    centre.desk.composing("c_nobody", "customer", True)
    await centre.settle()
    assert centre.desk.writing(contact.id) == ()


async def test_a_customer_who_writes_is_waited_for_and_a_forgotten_phone_is_not() -> None:
    centre = await Centre.open()
    await centre.agent()
    await centre.house.bind("ana", contact_uri="sip:ana@192.0.2.7:5062", expires_s=3600.0)
    contact, _ = await joined(centre)
    centre.clock.advance(400)
    centre.desk.composing(contact.id, "customer", True)
    centre.clock.advance(400)
    await centre.settle()
    assert contact.open
    for _ in range(3):
        await says(centre, contact, Composing(True))
        centre.clock.advance(80)
    await centre.settle()
    assert contact.disposition is Disposition.IDLE


async def test_two_chats_of_one_agent_never_mix_their_signs() -> None:
    centre = await Centre.open()
    centre.phone.accepts = composing.MEDIA_TYPE
    await centre.agent()
    first, _ = await joined(centre, "maria")
    second, _ = await joined(centre, "jonas")
    shown_first, shown_second = seen_by_pages(centre, first), seen_by_pages(centre, second)
    await says(centre, second, Composing(True))
    centre.desk.composing(first.id, "customer", True)
    await centre.settle()
    assert shown_first == [{"from": "customer", "active": True}]
    assert shown_second == [{"from": "agent", "active": True}]
    told = [from_ for _, from_, text, _ in centre.phone.sent if "<isComposing" in text]
    assert len(told) == 1
    assert f"<sip:{first.id}@" in told[0]


async def test_the_end_of_a_chat_stops_every_timer_of_its_writers() -> None:
    centre = await Centre.open()
    await centre.agent()
    contact, _ = await joined(centre)
    await centre.passes(5)
    centre.desk.composing(contact.id, "customer", True)
    await says(centre, contact, Composing(True))
    await centre.desk.end(contact.id, "customer")
    await centre.settle()
    shown = seen_by_pages(centre, contact)
    await centre.passes(130)
    assert shown == []
    assert centre.desk.writing(contact.id) == ()
