from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sip_trunk.sip.composing import LONGEST_REFRESH_S, NAMESPACE, Composing, parse_composing
from sip_trunk.sip.errors import BadMessage

# The examples of RFC 3994 s5, their white space as printed.
ACTIVE = b"""<?xml version="1.0" encoding="UTF-8"?>
<isComposing xmlns="urn:ietf:params:xml:ns:im-iscomposing"
  xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
  xsi:schemaLocation="urn:ietf:params:xml:ns:im-composing iscomposing.xsd">
    <state>active</state>
    <contenttype>text/plain</contenttype>
    <refresh>90</refresh>
</isComposing>
"""
IDLE = b"""<?xml version="1.0" encoding="UTF-8"?>
<isComposing xmlns="urn:ietf:params:xml:ns:im-iscomposing"
  xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
  xsi:schemaLocation="urn:ietf:params:xml:ns:im-composing iscomposing.xsd">
    <state>idle</state>
    <lastactive>2003-01-27T10:43:00Z</lastactive>
    <contenttype>audio</contenttype>
</isComposing>
"""


def verdict(read: Callable[[bytes], object], body: bytes) -> int:
    try:
        read(body)
    except BadMessage as error:
        return error.status
    return 200


def state(inside: str) -> Composing:
    return parse_composing(f'<isComposing xmlns="{NAMESPACE}">{inside}</isComposing>'.encode())


def test_the_examples_of_the_rfc_are_read() -> None:
    assert parse_composing(ACTIVE) == Composing(True, 90, "text/plain")
    assert parse_composing(IDLE) == Composing(False, None, "audio", 1043664180.0)


def test_active_lasts_as_long_as_was_said_within_reason_and_120_seconds_when_nothing_was() -> None:
    assert state("<state>active</state><refresh>75</refresh>").lasts_s == 75
    assert state("<state>active</state>").lasts_s == 120
    assert state("<state>active</state><refresh>4000000000</refresh>").lasts_s == LONGEST_REFRESH_S


def test_a_state_of_days_to_come_is_idle_and_unknown_elements_are_nothing() -> None:
    assert not state("<state>dreaming</state>").active
    assert state('<state>active</state><mood xmlns="urn:x">good</mood>').active


@pytest.mark.parametrize(
    "inside",
    [
        "",
        "<state>active</state><state>idle</state>",
        "<state>active</state><refresh>soon</refresh>",
        "<state>active</state><refresh>0</refresh>",
        "<state>active</state><refresh>-1</refresh>",
        "<state>active</state><refresh>٣</refresh>",
        "<state>active</state><refresh>99999999999</refresh>",
        "<state>idle</state><lastactive>yesterday</lastactive>",
    ],
)
def test_what_is_no_state_is_refused(inside: str) -> None:
    with pytest.raises(BadMessage) as refused:
        state(inside)
    assert refused.value.status == 400


def test_another_document_is_refused() -> None:
    for body in (b"<isComposing><state>active</state></isComposing>", f'<x xmlns="{NAMESPACE}"/>'.encode()):
        with pytest.raises(BadMessage):
            parse_composing(body)


@given(
    st.builds(
        Composing,
        st.booleans(),
        st.none() | st.integers(1, 10**9),
        st.none() | st.sampled_from(["text/plain", "a&b/<c>"]),
        st.none() | st.integers(0, 2_000_000_000).map(float),
    )
)
def test_what_is_written_is_read_again(told: Composing) -> None:
    assert parse_composing(told.to_bytes()) == told


@given(st.binary(max_size=200), st.integers(0, len(ACTIVE)), st.integers(0, 20))
def test_a_document_with_anything_in_it_is_read_or_refused(noise: bytes, at: int, gone: int) -> None:
    assert verdict(parse_composing, ACTIVE[:at] + noise + ACTIVE[at + gone :]) in (200, 400, 413)
