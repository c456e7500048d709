from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sip_trunk.sip.errors import BadMessage
from sip_trunk.sip.small_xml import DEEPEST, LARGEST, MOST_ELEMENTS, moment, parse_xml, written

BILLION_LAUGHS = (
    b'<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">]><a>&c;&c;&c;</a>'
)


def test_a_small_document_is_read_with_its_namespaces() -> None:
    root = parse_xml('<x:a xmlns:x="urn:x" xmlns="urn:y"> <x:b> Grüße &amp; mehr </x:b><c/></x:a>'.encode())
    assert (root.namespace, root.name, root.words("b"), root.words("c")) == (
        "urn:x",
        "a",
        "Grüße & mehr",
        None,
    )
    assert [(child.namespace, child.name) for child in root.children] == [("urn:x", "b"), ("urn:y", "c")]


@pytest.mark.parametrize(
    "body",
    [
        BILLION_LAUGHS,
        b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>',
        b'<!DOCTYPE a [<!ENTITY x SYSTEM "http://127.0.0.1/">]><a>&x;</a>',
        b"<!DOCTYPE a><a/>",
        b"<a>&unknown;</a>",
        b"<a>" * (DEEPEST + 1) + b"</a>" * (DEEPEST + 1),
        b"<a>" + b"<b/>" * MOST_ELEMENTS + b"</a>",
        b"",
        b"   ",
        b"words",
        b"<a><b></a>",
        b"<a/><a/>",
        b"<a>\xff</a>",
        b"<a>\x00</a>",
        b'<?xml version="1.0" encoding="UTF-16"?><a>\xed\xa0\x80</a>',
    ],
)
def test_what_could_grow_reach_out_or_is_no_xml_is_refused(body: bytes) -> None:
    with pytest.raises(BadMessage) as refused:
        parse_xml(body)
    assert refused.value.status == 400


def test_a_large_document_is_not_even_looked_at() -> None:
    with pytest.raises(BadMessage) as refused:
        parse_xml(b"<a>" + b" " * LARGEST + b"</a>")
    assert refused.value.status == 413


def test_two_where_one_belongs_are_refused() -> None:
    with pytest.raises(BadMessage):
        parse_xml(b"<a><b/><b/></a>").child("b")


@given(st.binary(max_size=300) | st.text(alphabet="<>/a&;![]\"'= \n?-xmlns:", max_size=80).map(str.encode))
def test_nothing_else_is_ever_raised(body: bytes) -> None:
    try:
        parse_xml(body)
    except BadMessage:
        pass


@given(st.text(max_size=40))
def test_a_date_is_read_or_refused(text: str) -> None:
    try:
        moment(text)
    except BadMessage:
        pass


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"])
def test_a_date_that_could_not_be_said_again_is_refused(text: str) -> None:
    with pytest.raises(BadMessage):
        moment(text)


@given(st.integers(min_value=0, max_value=4_000_000_000))
def test_a_date_that_is_written_is_read_again(at: int) -> None:
    assert moment(written(at)) == at
