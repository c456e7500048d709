"""Lines between a page and an agent's softphone."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from config.errors import TheirError
from pbx.agent_message import AgentMessages
from pbx.contact import Contact, Disposition, State
from sip_trunk.authentication import Challenge
from sip_trunk.sip.message import Request
from tests.agent_presence.house import DOMAIN
from tests.pbx.centre import Centre, FakeFlow, Ringing


async def joined(
    centre: Centre, customer: str = "maria", text: str | None = "Hello"
) -> tuple[Contact, Ringing]:
    contact = await centre.asks(customer, "chat", text)
    phone = centre.phone.rung[-1]
    assert phone.header("X-Warmline-Contact") == contact.id
    phone.ring()
    phone.pick_up()
    await centre.settle()
    return contact, phone


def lines_to(centre: Centre, contact: Contact) -> list[str]:
    return [text for _, from_, text, _ in centre.phone.sent if f"<sip:{contact.id}@{DOMAIN}>" in from_]


class Typed:
    """A MESSAGE of an agent's phone."""

    _number = 0

    def __init__(self, contact_id: str, text: bytes = "Guten Tag, Zoë ✓".encode(), **more: Any) -> None:
        Typed._number += 1
        to = f"sip:{contact_id}@{DOMAIN}"
        headers = [
            ("From", f"<sip:ana@{DOMAIN}>;tag=1"),
            ("To", f"<{to}>"),
            ("Call-ID", more.get("call_id", f"message-{Typed._number}")),
            ("CSeq", "7 MESSAGE"),
        ]
        content_type = more.get("content_type", "text/plain")
        self.message = Request("MESSAGE", to, headers, text, content_type)
        self.flow = FakeFlow("UDP", ("192.0.2.7", 5062), "udp")
        self.status: int | None = None

    def respond(self, status: int, reason: str | None = None, **more: Any) -> None:
        assert self.status is None
        self.status = status


def agents_messages(centre: Centre, who: str | Challenge = "ana") -> AgentMessages:
    return AgentMessages(centre.contacts, centre.chats, centre.house.roster, lambda request, flow: who)


async def typed(
    centre: Centre, contact_id: str, text: str, who: str | Challenge = "ana", **more: Any
) -> int | None:
    message = Typed(contact_id, text.encode(), **more)
    request: Any = message
    agents_messages(centre, who).on_message(request)
    await centre.settle()
    return message.status


async def test_a_chat_is_asked_for_by_a_short_call_and_its_end_ends_nothing() -> None:
    centre = await Centre.open()
    await centre.agent()
    contact, phone = await joined(centre)
    assert centre.media.offers[0]["like"] is None
    assert contact.state is State.CONNECTED
    assert list(centre.media.playing.values()) == ["chat-request"]
    await centre.passes(4)
    assert phone.log == ["BYE"]
    assert (contact.state, centre.state()) == (State.CONNECTED, "Talking")
    assert centre.media.branches == {}


async def test_an_agent_may_hang_up_the_short_call_themselves() -> None:
    centre = await Centre.open()
    await centre.agent()
    contact, phone = await joined(centre)
    phone.hang_up()
    await centre.passes(5)
    assert contact.state is State.CONNECTED


async def test_earlier_lines_come_first_and_in_order() -> None:
    centre = await Centre.open()
    contact = await centre.asks("maria", "chat", "one")
    for number, text in enumerate(("two", "three")):
        await centre.desk.say(contact.id, f"key-{number}", text)
    await centre.agent()
    centre.phone.rung[0].pick_up()
    await centre.settle()
    await centre.desk.say(contact.id, "key-9", "four")
    await centre.settle()
    assert lines_to(centre, contact) == ["one", "two", "three", "four"]


async def test_words_sent_with_a_second_press_of_help_are_not_lost() -> None:
    centre = await Centre.open()
    contact = await centre.desk.request("maria", "chat", "boiler", None, None, "Hello", "k1")
    for key, text in (("k1", "Hello"), ("k2", "Is anybody there?")):
        assert await centre.desk.request("maria", "chat", "boiler", None, None, text, key) is contact
    stored = await centre.store.messages(contact.id)
    assert [line.text for line in stored] == ["Hello", "Is anybody there?"]


async def test_a_chat_that_lasted_long_is_back_in_its_place_after_a_crash() -> None:
    centre = await Centre.open()
    await centre.agent()
    await centre.house.bind("ana", contact_uri="sip:ana@192.0.2.7:5062", expires_s=36000.0)
    contact, _ = await joined(centre)
    for number in range(6):
        centre.clock.advance(400)
        await centre.desk.say(contact.id, f"k{number}", "still here")
    await centre.house.states.not_ready("agent-ana")
    again = await centre.again()
    back = again.desk.current("maria")
    assert back is not None
    await again.passes(1)
    assert (back.state, back.disposition) == (State.WAITING, None)
    again.clock.advance(1801)
    await again.settle()
    assert back.disposition is Disposition.NO_AGENT


async def test_a_line_is_stored_before_it_is_acknowledged() -> None:
    centre = await Centre.open()
    contact = await centre.asks("maria", "chat", "Hello")
    line_id = await centre.desk.say(contact.id, "k1", "Zoë says ✓")
    assert [(line.id, line.text) for line in await centre.store.messages(contact.id)][1] == (
        line_id,
        "Zoë says ✓",
    )


async def test_the_same_key_is_the_same_line_even_at_once_and_after_a_crash() -> None:
    centre = await Centre.open()
    contact = await centre.asks("maria", "chat", "Hello")
    ids = await asyncio.gather(*(centre.desk.say(contact.id, "k1", "twice") for _ in range(3)))
    again = await centre.again()
    ids.append(await again.desk.say(contact.id, "k1", "twice"))
    assert len(set(ids)) == 1
    assert [line["text"] for line in await again.desk.messages(contact.id)] == ["Hello", "twice"]


async def test_the_agents_line_is_stored_then_taken_then_shown() -> None:
    centre = await Centre.open()
    await centre.agent()
    contact, _ = await joined(centre)
    shown: list[tuple[str, dict[str, Any]]] = []
    centre.desk.listen(contact.id, lambda kind, data: shown.append((kind, data)))
    assert await typed(centre, contact.id, "Guten Tag, Zoë ✓") == 200
    assert [(kind, data["from"], data["text"]) for kind, data in shown] == [
        ("message", "agent", "Guten Tag, Zoë ✓")
    ]
    assert (await centre.store.messages(contact.id))[-1].text == "Guten Tag, Zoë ✓"


async def test_a_line_the_phone_says_again_is_one_line() -> None:
    centre = await Centre.open()
    await centre.agent()
    contact, _ = await joined(centre)
    for _ in range(2):
        assert await typed(centre, contact.id, "once", call_id="same") == 200
    assert [line["text"] for line in await centre.desk.messages(contact.id)] == ["Hello", "once"]


@pytest.mark.parametrize(
    ("what", "status"),
    [
        ({"who": Challenge(401, "Unauthorized")}, 401),
        ({"who": "cust-1"}, 403),
        ({"who": "bo"}, 403),
        ({"contact_id": "c_nobody"}, 404),
        ({"content_type": "text/html"}, 415),
        ({"text": "x" * 20_000}, 413),
        ({"text": "   "}, 400),
    ],
)
async def test_what_is_no_line_of_this_chat_is_refused(what: dict[str, Any], status: int) -> None:
    centre = await Centre.open()
    await centre.agent()
    await centre.house.hire("bo", wifi=1)
    contact, _ = await joined(centre)
    given = {"contact_id": contact.id, "text": "hello", **what}
    assert await typed(centre, given.pop("contact_id"), given.pop("text"), **given) == status
    assert len(await centre.desk.messages(contact.id)) == 1


async def test_two_chats_of_one_agent_never_mix() -> None:
    centre = await Centre.open()
    await centre.agent()
    first, _ = await joined(centre, "maria", "from Maria")
    second, _ = await joined(centre, "jonas", "from Jonas")
    assert (first.agent_id, second.agent_id) == ("agent-ana", "agent-ana")
    await typed(centre, second.id, "to Jonas")
    await typed(centre, first.id, "to Maria")
    await centre.desk.say(first.id, "k", "more of Maria")
    await centre.settle()
    assert lines_to(centre, first) == ["from Maria", "more of Maria"]
    assert lines_to(centre, second) == ["from Jonas"]
    assert [line["text"] for line in await centre.desk.messages(first.id)] == [
        "from Maria",
        "to Maria",
        "more of Maria",
    ]
    assert [line["text"] for line in await centre.desk.messages(second.id)] == ["from Jonas", "to Jonas"]
    await centre.desk.end(first.id, "customer")
    await centre.settle()
    assert (second.state, centre.state()) == (State.CONNECTED, "Talking")


async def test_a_third_chat_waits_and_a_call_is_not_put_beside_chats() -> None:
    centre = await Centre.open()
    await centre.agent()
    await joined(centre, "maria")
    call = await centre.asks("aiko")
    await centre.calls_in(call)
    assert len(centre.phone.rung) == 1
    await joined(centre, "jonas")
    assert len(centre.phone.rung) == 2


async def test_a_line_the_phone_does_not_take_is_tried_again_and_said_to_be_undelivered() -> None:
    centre = await Centre.open()
    await centre.agent()
    centre.phone.answer_message = lambda target: 480
    contact, _ = await joined(centre)
    assert [line["delivered"] for line in await centre.desk.messages(contact.id)] == [False]
    told: list[str] = []
    centre.desk.listen(contact.id, lambda kind, data: told.append(kind))
    centre.phone.answer_message = lambda target: 200
    await centre.passes(2)
    assert lines_to(centre, contact) == ["Hello"]
    assert told == ["delivered"]
    assert [line["delivered"] for line in await centre.desk.messages(contact.id)] == [True]


async def test_a_line_the_first_phone_does_not_take_goes_to_another_of_the_agent() -> None:
    centre = await Centre.open()
    agent = await centre.agent()
    await centre.house.roster.add_device(
        agent.id, "Mobile", "ana-mobile", "secret", device_id="device-mobile"
    )
    await centre.house.bind("ana-mobile", key="sip:mobile", contact_uri="sip:mobile@192.0.2.8:5070")
    contact = await centre.asks("maria", "chat", "Hello")
    centre.phone.answer_message = lambda target: 200 if "mobile" in target else 503
    centre.phone.rung[0].pick_up()
    await centre.settle()
    assert [target for _, _, _, target in centre.phone.sent] == ["sip:mobile@192.0.2.8:5070"]
    assert lines_to(centre, contact) == ["Hello"]


async def test_a_phone_that_comes_back_gets_what_it_missed_at_once() -> None:
    centre = await Centre.open()
    await centre.agent()
    contact, _ = await joined(centre, text=None)
    centre.phone.answer_message = lambda target: 503
    await centre.desk.say(contact.id, "k", "are you there?")
    await centre.passes(40)
    centre.phone.answer_message = lambda target: 200
    await centre.house.bind("ana", key="sip:ana@192.0.2.9:5062", contact_uri="sip:ana@192.0.2.9:5062")
    await centre.settle()
    assert lines_to(centre, contact) == ["are you there?"]


async def test_a_phone_that_moved_is_written_to_where_it_is_now_and_its_old_place_no_more() -> None:
    centre = await Centre.open()
    await centre.agent()
    contact, _ = await joined(centre, text=None)
    tried: list[str] = []

    def taken(target: str) -> int:
        tried.append(target)
        return 200

    centre.phone.answer_message = taken
    centre.house.drop()
    await centre.desk.say(contact.id, "k", "in the tunnel")
    await centre.settle()
    assert tried == [], "whoever has that address now is nobody we know"
    await centre.house.bind("ana", key="sip:new", contact_uri="sip:ana@192.0.2.9:5062")
    await centre.settle()
    assert tried == ["sip:ana@192.0.2.9:5062"]


async def test_a_customer_whose_agent_has_vanished_gets_another_who_gets_all_they_wrote() -> None:
    centre = await Centre.open()
    await centre.agent("ana")
    contact, _ = await joined(centre)
    await centre.house.bind("ana", contact_uri="sip:ana@192.0.2.7:5062")
    centre.house.drop("ana")
    await centre.desk.say(contact.id, "k", "are you there?")
    await centre.passes(45)
    assert contact.state is State.CONNECTED
    await centre.passes(60)
    assert (contact.state, centre.state("ana")) == (State.WAITING, "Offline")
    stored = await centre.store.contact(contact.id)
    assert stored is not None
    assert stored.state is State.WAITING
    await centre.agent("bo")
    centre.phone.rung[-1].pick_up()
    await centre.settle()
    assert (contact.state, contact.agent_id) == (State.CONNECTED, "agent-bo")
    assert [(to, text) for to, _, text, _ in centre.phone.sent] == [
        ("<sip:ana@warmline.test>", "Hello"),
        ("<sip:bo@warmline.test>", "Hello"),
        ("<sip:bo@warmline.test>", "are you there?"),
    ]
    assert centre.house.states.of("agent-ana").active == {}


async def test_an_agent_who_answers_in_the_page_keeps_a_chat_their_phone_has_left() -> None:
    centre = await Centre.open()
    await centre.agent("ana")
    contact, _ = await joined(centre)
    centre.house.drop("ana")
    await centre.desk.say(contact.id, "k", "are you there?")
    for number in range(4):
        await centre.passes(40)
        await centre.desk.agent_says("agent-ana", contact.id, f"a{number}", "yes")
    assert contact.state is State.CONNECTED


@pytest.mark.parametrize("text", ["/end", " /end\n"])
async def test_an_agent_ends_a_chat_by_a_line(text: str) -> None:
    centre = await Centre.open()
    await centre.agent()
    contact, _ = await joined(centre)
    assert await typed(centre, contact.id, text) == 200
    assert (contact.disposition, centre.state()) == (Disposition.AGENT_HUNG_UP, "WrapUp")
    assert await typed(centre, contact.id, "too late") == 410


async def test_the_agents_phone_is_told_that_the_customer_ended_the_chat() -> None:
    centre = await Centre.open()
    await centre.agent()
    contact, _ = await joined(centre)
    await centre.desk.end(contact.id, "customer")
    await centre.settle()
    assert contact.disposition is Disposition.CUSTOMER_HUNG_UP
    assert lines_to(centre, contact) == ["Hello", "[The customer has ended this chat.]"]
    with pytest.raises(TheirError) as refused:
        await centre.desk.say(contact.id, "late", "hello?")
    assert refused.value.status == 409


async def test_a_chat_in_which_nobody_writes_ends_and_every_line_puts_that_off() -> None:
    centre = await Centre.open()
    await centre.agent()
    await centre.house.bind("ana", contact_uri="sip:ana@192.0.2.7:5062", expires_s=3600.0)
    contact, _ = await joined(centre)
    centre.clock.advance(400)
    await centre.desk.say(contact.id, "k", "still here")
    centre.clock.advance(400)
    await centre.settle()
    assert contact.open
    centre.clock.advance(201)
    await centre.settle()
    assert contact.disposition is Disposition.IDLE


async def test_after_a_crash_a_chat_goes_to_an_agent_with_all_its_lines_and_none_twice() -> None:
    centre = await Centre.open()
    await centre.agent()
    contact, _ = await joined(centre)
    await typed(centre, contact.id, "One moment")
    again = await centre.again()
    assert again.state() == "Reserved"
    again.phone.rung[0].pick_up()
    await again.settle()
    await again.desk.say(contact.id, "k2", "back again")
    await again.settle()
    assert [text for _, _, text, _ in again.phone.sent] == ["back again"], (
        "the same agent has read the first one"
    )
    assert [line["text"] for line in await again.desk.messages(contact.id)] == [
        "Hello",
        "One moment",
        "back again",
    ]


async def test_drain_keeps_chats_for_the_next_start() -> None:
    centre = await Centre.open()
    await centre.agent()
    contact = await centre.asks("maria", "chat", "Hello")
    await centre.desk.drain()
    await centre.settle()
    assert centre.phone.rung[0].log == ["CANCEL"]
    again = await centre.again()
    back = again.desk.current("maria")
    assert back is not None
    assert back.id == contact.id


@pytest.mark.parametrize(("text", "status"), [("", 400), ("\n ", 400), ("x" * 4001, 413)])
async def test_no_line_and_a_book_are_refused(text: str, status: int) -> None:
    centre = await Centre.open()
    contact = await centre.asks("maria", "chat", "Hello")
    with pytest.raises(TheirError) as refused:
        await centre.desk.say(contact.id, "k", text)
    assert refused.value.status == status
