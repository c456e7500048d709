from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sip_trunk.sip.cpim import parse_cpim
from sip_trunk.sip.errors import BadMessage
from sip_trunk.sip.imdn import (
    CPIM_NAMESPACE,
    STATUSES,
    XML_NAMESPACE,
    About,
    Receipt,
    answer,
    asked_for,
    parse_imdn,
    read_receipt,
    request,
)
from tests.sip_trunk.sip.test_composing import verdict

# After the examples of RFC 5438 s7: a message that asks for receipts, and its delivery notification.
ASKS = (
    b"From: Alice <im:alice@example.com>\r\n"
    b"To: Bob <im:bob@example.com>\r\n"
    b"NS: imdn <urn:ietf:params:imdn>\r\n"
    b"imdn.Message-ID: 34jk324j\r\n"
    b"DateTime: 2006-04-04T12:16:49-05:00\r\n"
    b"imdn.Disposition-Notification: positive-delivery, negative-delivery\r\n"
    b"\r\n"
    b"Content-type: text/plain\r\n"
    b"Content-length: 12\r\n"
    b"\r\n"
    b"Hello World\r\n"
)
TELLS = b"""<?xml version="1.0" encoding="UTF-8"?>
<imdn xmlns="urn:ietf:params:xml:ns:imdn">
  <message-id>34jk324j</message-id>
  <datetime>2008-04-04T12:16:49-05:00</datetime>
  <recipient-uri>im:bob@example.com</recipient-uri>
  <original-recipient-uri>im:bob@example.com</original-recipient-uri>
  <delivery-notification>
    <status>
      <delivered/>
    </status>
  </delivery-notification>
</imdn>
"""


def test_a_message_that_asks_is_read() -> None:
    asked = asked_for(parse_cpim(ASKS))
    assert asked is not None
    assert (asked.message_id, asked.delivery, asked.display, asked.sent_at) == (
        "34jk324j",
        True,
        False,
        1144171009.0,
    )


def test_a_receipt_is_read() -> None:
    assert parse_imdn(TELLS) == Receipt("34jk324j", 1207329409.0, About.DELIVERY, "delivered")


def test_the_prefix_is_whatever_its_sender_bound() -> None:
    asked = asked_for(parse_cpim(ASKS.replace(b"imdn.", b"i.").replace(b"NS: imdn", b"NS: i")))
    assert asked is not None
    assert asked.delivery


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"imdn.Message-ID: 34jk324j\r\n", b""),
        (b"positive-delivery, negative-delivery", b"negative-delivery"),
        (b"positive-delivery, negative-delivery", b"processing"),
        (b"NS: imdn <urn:ietf:params:imdn>\r\n", b""),
        (b"text/plain", b"message/imdn+xml"),
    ],
)
def test_nobody_is_told_who_did_not_ask_or_cannot_be_named(old: bytes, new: bytes) -> None:
    assert asked_for(parse_cpim(ASKS.replace(old, new))) is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"34jk324j", b"a b"),
        (b"34jk324j", b"x" * 201),
        (b"2006-04-04T12:16:49-05:00", b"noon"),
    ],
)
def test_a_malformed_wish_is_refused(old: bytes, new: bytes) -> None:
    with pytest.raises(BadMessage):
        asked_for(parse_cpim(ASKS.replace(old, new)))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"<message-id>34jk324j</message-id>", b""),
        (b"34jk324j", b""),
        (b"34jk324j", b"x" * 201),
        (b"<datetime>2008-04-04T12:16:49-05:00</datetime>", b""),
        (b"2008-04-04T12:16:49-05:00", b"noon"),
        (b"<delivered/>", b"<displayed/>"),
        (b"<delivered/>", b""),
        (b"<delivered/>", b"<delivered/><failed/>"),
        (b"<delivered/>", b'<delivered xmlns="urn:x"/>'),
        (b"</imdn>", b"<display-notification><status><displayed/></status></display-notification></imdn>"),
        (b"delivery-notification", b"arrival-notification"),
        (b"urn:ietf:params:xml:ns:imdn", b"urn:x"),
        (b"<imdn", b"<!DOCTYPE imdn><imdn"),
    ],
)
def test_what_is_no_receipt_is_refused(old: bytes, new: bytes) -> None:
    assert old in TELLS
    with pytest.raises(BadMessage) as refused:
        parse_imdn(TELLS.replace(old, new))
    assert refused.value.status == 400


def test_our_line_asks_for_delivery_and_display_under_its_own_id() -> None:
    wrapped = parse_cpim(request("m_1", "Maria <sip:c_1@x>", "<sip:ana@x>", 1_700_000_000.0, "Grüße 🙂"))
    asked = asked_for(wrapped)
    assert asked is not None
    assert (asked.message_id, asked.delivery, asked.display, asked.sent_at) == (
        "m_1",
        True,
        True,
        1_700_000_000.0,
    )
    assert wrapped.text == "Grüße 🙂"


def test_our_receipt_asks_for_none_and_is_read_again() -> None:
    told = Receipt("34jk324j", 1_700_000_000.0, About.DISPLAY, "displayed")
    wrapped = parse_cpim(answer(told, "r_1", "Maria <sip:c_1@x>", "<sip:ana@x>", 1_700_000_005.0))
    assert read_receipt(wrapped) == told
    assert asked_for(wrapped) is None
    assert wrapped.get("Message-ID", CPIM_NAMESPACE) == "r_1"
    assert ("Content-Disposition", "notification") in wrapped.part_headers


@given(
    st.sampled_from([(about, status) for about in About for status in STATUSES[about]]),
    st.integers(0, 2_000_000_000),
    st.text("abc<&>\"'é", min_size=1, max_size=20),
)
def test_what_is_written_is_read_again(what: tuple[About, str], at: int, message_id: str) -> None:
    told = Receipt(message_id, at, *what)
    assert parse_imdn(told.to_bytes()) == told
    assert XML_NAMESPACE.encode() in told.to_bytes()


@given(st.sampled_from([ASKS, TELLS]), st.binary(max_size=40), st.integers(0, 500), st.integers(0, 30))
def test_nothing_but_a_refusal_is_ever_raised(whole: bytes, noise: bytes, at: int, gone: int) -> None:
    body = whole[:at] + noise + whole[at + gone :]
    for read in (
        parse_imdn,
        lambda found: asked_for(parse_cpim(found)),
        lambda found: read_receipt(parse_cpim(found)),
    ):
        assert verdict(read, body) in (200, 400, 413, 415)
