"""Delivered and read: what phones and pages tell of a line, and what they are told."""

from __future__ import annotations

from typing import Any

import pytest

from pbx.contact import Contact
from sip_trunk.sip import cpim, imdn
from sip_trunk.sip.cpim import Cpim, parse_cpim
from sip_trunk.sip.imdn import About, Receipt, asked_for, read_receipt
from tests.agent_presence.house import DOMAIN
from tests.pbx.centre import Centre
from tests.pbx.test_chat import joined, typed

KNOWS_BOTH = f"text/plain, {cpim.MEDIA_TYPE}, {imdn.MEDIA_TYPE}"


async def chat(customer: str = "maria", **more: Any) -> tuple[Centre, Contact]:
    """A chat with an agent whose phone knows receipts."""
    centre = await Centre.open()
    centre.phone.accepts = KNOWS_BOTH
    await centre.agent()
    contact, _ = await joined(centre, customer, **more)
    return centre, contact


def wrapped_to(centre: Centre, contact: Contact) -> list[Cpim]:
    return [
        parse_cpim(text.encode())
        for _, from_, text, _ in centre.phone.sent
        if f"<sip:{contact.id}@{DOMAIN}>" in from_ and "NS: imdn" in text
    ]


def receipts_to(centre: Centre, contact: Contact) -> list[tuple[str, str]]:
    found = [read_receipt(each) for each in wrapped_to(centre, contact)]
    return [(each.message_id, each.status) for each in found if each is not None]


async def receives(
    centre: Centre,
    contact_id: str,
    line_id: str,
    *,
    about: About = About.DISPLAY,
    status: str = "displayed",
    **more: Any,
) -> int | None:
    body = imdn.answer(Receipt(line_id, 0.0, about, status), "x1", "<sip:a@b>", "<sip:c@d>", 0.0).decode()
    return await typed(centre, contact_id, body, content_type=cpim.MEDIA_TYPE, **more)


async def asks_for_receipts(
    centre: Centre, contact: Contact, text: str = "Hello Maria", wanted: str = "", **more: Any
) -> int | None:
    body = imdn.request(
        "from-the-phone", "<sip:ana@x>", "<sip:somebody-else@x>", 1_600_000_000.0, text
    ).decode()
    if wanted:
        body = body.replace("positive-delivery, display", wanted)
    return await typed(centre, contact.id, body, content_type=cpim.MEDIA_TYPE, **more)


def marks(lines: list[dict[str, Any]]) -> list[tuple[str, bool, bool]]:
    return [(line["text"], line["delivered"], line["read"]) for line in lines]


async def test_a_line_asks_a_phone_that_knows_receipts_for_them() -> None:
    centre, contact = await chat(text="Grüße 🙂")
    (wrapped,) = wrapped_to(centre, contact)
    asked = asked_for(wrapped)
    (line,) = await centre.desk.messages(contact.id)
    assert asked is not None
    assert (asked.message_id, asked.delivery, asked.display) == (line["id"], True, True)
    assert wrapped.text == "Grüße 🙂"
    assert marks([line]) == [("Grüße 🙂", True, False)], "taken by the phone, and not read yet"


async def test_a_receipt_of_the_phone_marks_the_line_as_read_for_good() -> None:
    centre, contact = await chat()
    told: list[tuple[str, dict[str, Any]]] = []
    centre.desk.listen(contact.id, lambda kind, data: told.append((kind, data)))
    (line,) = await centre.desk.messages(contact.id)
    assert await receives(centre, contact.id, line["id"], about=About.DELIVERY, status="delivered") == 200
    assert told == []
    for _ in range(2):
        assert await receives(centre, contact.id, line["id"]) == 200
    assert [(kind, data["id"], data["from"]) for kind, data in told] == [("read", line["id"], "customer")]
    assert [stored.read_at is not None for stored in await centre.store.messages(contact.id)] == [True]
    again = await centre.again()
    assert marks(await again.desk.messages(contact.id)) == [("Hello", True, True)]


async def test_a_receipt_that_overtakes_the_200_is_not_lost() -> None:
    centre, contact = await chat(text=None)
    device = centre.house.roster.device_by_username("ana")
    assert device is not None

    def answer_of_it(target: str) -> int:
        line = centre.chats.lines(contact.id)[-1]  # type: ignore[index]
        centre.chats.receipt(contact, device.id, Receipt(line.id, 0.0, About.DISPLAY, "displayed"))
        return 200

    centre.phone.answer_message = answer_of_it
    await centre.desk.say(contact.id, "k", "quick")
    await centre.settle()
    assert marks(await centre.desk.messages(contact.id)) == [("quick", True, True)]


async def test_a_receipt_counts_only_from_the_device_the_line_went_to() -> None:
    centre, contact = await chat()
    agent_id = contact.agent_id
    assert agent_id is not None
    await centre.house.roster.add_device(
        agent_id, "Mobile", "ana-mobile", "secret", device_id="device-mobile"
    )
    (line,) = await centre.desk.messages(contact.id)
    assert await receives(centre, contact.id, line["id"], who="ana-mobile") == 200
    assert marks(await centre.desk.messages(contact.id)) == [("Hello", True, False)]


async def test_unknown_ids_and_those_of_other_chats_change_nothing_and_harm_nobody() -> None:
    centre, first = await chat()
    second, _ = await joined(centre, "jonas", "from Jonas")
    (theirs,) = await centre.desk.messages(second.id)
    assert await receives(centre, first.id, theirs["id"]) == 200
    assert await receives(centre, first.id, "m_nobody") == 200
    assert marks(await centre.desk.messages(first.id)) == [("Hello", True, False)]
    assert marks(await centre.desk.messages(second.id)) == [("from Jonas", True, False)]


@pytest.mark.parametrize("status", ["forbidden", "error"])
async def test_a_phone_that_will_not_tell_has_told_nothing(status: str) -> None:
    centre, contact = await chat()
    (line,) = await centre.desk.messages(contact.id)
    assert await receives(centre, contact.id, line["id"], status=status) == 200
    assert marks(await centre.desk.messages(contact.id)) == [("Hello", True, False)]


async def test_a_receipt_for_a_chat_that_is_over_is_no_fault_of_its_sender() -> None:
    centre, contact = await chat()
    (line,) = await centre.desk.messages(contact.id)
    await centre.desk.end(contact.id, "customer")
    assert await receives(centre, contact.id, line["id"]) == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("not cpim at all", 400),
        ("To: a\r\n\r\nContent-Type: message/imdn+xml\r\n\r\n<imdn/>", 400),
        ("To: a\r\n\r\nContent-Type: message/imdn+xml\r\n\r\n<!DOCTYPE a><imdn/>", 400),
        ("To: a\r\n\r\nContent-Type: message/imdn+xml\r\n\r\n" + " " * 5000, 413),
        ("a: " + "b" * 5000, 413),
        ("To: a\r\n\r\nContent-Type: image/png\r\n\r\nxx", 415),
        ("To: a\r\n\r\nContent-Type: text/plain\r\n\r\n" + "x" * 21000, 413),
        ("To: a\r\n\r\nContent-Type: text/plain\r\n\r\n   ", 400),
    ],
)
async def test_what_is_no_wrapped_line_or_receipt_is_refused(body: str, status: int) -> None:
    centre, contact = await chat()
    assert await typed(centre, contact.id, body, content_type=cpim.MEDIA_TYPE) == status
    assert len(await centre.desk.messages(contact.id)) == 1


async def test_a_wrapped_line_is_unwrapped_taken_and_its_phone_told_when_it_is_durable_and_when_it_is_shown() -> (
    None
):
    centre, contact = await chat()
    assert await asks_for_receipts(centre, contact) == 200
    assert (await centre.store.messages(contact.id))[-1].text == "Hello Maria"
    assert receipts_to(centre, contact) == [("from-the-phone", "delivered")]
    line = (await centre.desk.messages(contact.id))[-1]
    for _ in range(2):
        centre.desk.seen(contact.id, "customer", line["id"])
        await centre.settle()
    assert receipts_to(centre, contact) == [("from-the-phone", "delivered"), ("from-the-phone", "displayed")]
    (told, _) = [found for each in wrapped_to(centre, contact) if (found := read_receipt(each)) is not None]
    assert told.at == 1_600_000_000.0, "the time of the line it is about"


@pytest.mark.parametrize(
    ("wanted", "told"),
    [("positive-delivery", ["delivered"]), ("display", ["displayed"]), ("negative-delivery", [])],
)
async def test_a_phone_is_told_what_it_asked_for_and_no_more(wanted: str, told: list[str]) -> None:
    centre, contact = await chat()
    assert await asks_for_receipts(centre, contact, wanted=wanted) == 200
    line = (await centre.desk.messages(contact.id))[-1]
    centre.desk.seen(contact.id, "customer", line["id"])
    await centre.settle()
    assert [status for _, status in receipts_to(centre, contact)] == told


async def test_a_line_that_is_not_taken_is_not_said_to_be_delivered() -> None:
    centre, contact = await chat()
    assert await asks_for_receipts(centre, contact, text="x" * 5000) == 413
    assert receipts_to(centre, contact) == []


async def test_the_address_inside_moves_no_line_to_another_chat() -> None:
    centre, first = await chat()
    second, _ = await joined(centre, "jonas", "from Jonas")
    body = imdn.request("x", "<sip:ana@x>", f"<sip:{second.id}@{DOMAIN}>", 0.0, "for Maria").decode()
    assert await typed(centre, first.id, body, content_type=cpim.MEDIA_TYPE) == 200
    assert [line["text"] for line in await centre.desk.messages(first.id)] == ["Hello", "for Maria"]
    assert len(await centre.desk.messages(second.id)) == 1


async def test_what_the_customer_has_seen_is_every_line_of_the_agent_up_to_there() -> None:
    centre, contact = await chat()
    told: list[tuple[str, str]] = []
    for text in ("one", "two", "three"):
        await centre.desk.agent_says("agent-ana", contact.id, text, text)
    lines = {line["text"]: line["id"] for line in await centre.desk.messages(contact.id)}
    centre.desk.listen(contact.id, lambda kind, data: told.append((kind, data["id"])))
    centre.desk.seen(contact.id, "customer", lines["two"])
    centre.desk.seen(contact.id, "customer", "m_nobody")
    await centre.settle()
    assert told == [("read", lines["one"]), ("read", lines["two"])]
    assert [mark[2] for mark in marks(await centre.desk.messages(contact.id))] == [False, True, True, False]


async def test_what_the_agent_has_seen_in_the_page_is_read() -> None:
    centre, contact = await chat()
    (line,) = await centre.desk.messages(contact.id)
    centre.desk.seen(contact.id, "agent", line["id"])
    await centre.settle()
    assert marks(await centre.desk.messages(contact.id)) == [("Hello", True, True)]


async def test_a_phone_that_refuses_what_it_said_it_reads_gets_plain_text() -> None:
    centre = await Centre.open()
    centre.phone.accepts = KNOWS_BOTH
    await centre.agent()
    answers = [415, 200, 200]
    centre.phone.answer_message = lambda target: answers.pop(0)
    contact, _ = await joined(centre)
    await centre.desk.say(contact.id, "k", "again")
    await centre.settle()
    assert [text for _, _, text, _ in centre.phone.sent] == ["Hello", "again"]


async def test_a_phone_that_does_not_answer_what_it_reads_gets_its_line_as_text_in_a_second() -> None:
    centre = await Centre.open()
    centre.phone.silent_to_options = True
    await centre.agent()
    await joined(centre)
    assert centre.phone.sent == []
    await centre.passes(1)
    assert [text for _, _, text, _ in centre.phone.sent] == ["Hello"]


async def test_another_phone_at_the_next_agent_is_asked_anew() -> None:
    centre, contact = await chat(text=None)
    centre.house.drop("ana")
    await centre.desk.say(contact.id, "k", "are you there?")
    await centre.passes(70)
    centre.phone.accepts = "text/plain"
    await centre.agent("bo")
    centre.phone.rung[-1].pick_up()
    await centre.settle()
    assert centre.phone.sent[-1][:1] + centre.phone.sent[-1][2:3] == (
        "<sip:bo@warmline.test>",
        "are you there?",
    )
