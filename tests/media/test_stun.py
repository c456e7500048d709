from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media import stun

# RFC 5769 section 2.1, and the address of section 2.2.
SAMPLE = bytes.fromhex(
    "000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e74002400046e0001ff"
    "80290008932ff9b151263b36000600096576746a3a68367659202020000800149aeaa70cbfd8cb56781ef2b5b2d3f249"
    "c1b571a280280004e57a3bcf"
)
PASSWORD = "VOkJxbRl1RmTxUk/WvJxBt"
MAPPED = bytes.fromhex("002000080001a147e112a643")


def test_the_rfcs_sample_request_is_read_and_believed() -> None:
    request = stun.parse_request(SAMPLE)
    assert request is not None
    assert (request.username, request.controlled, request.nominates) == ("evtj:h6vY", True, False)
    assert request.authentic(PASSWORD)
    assert not request.authentic(PASSWORD + "x")


def test_the_answer_says_where_the_request_came_from_as_the_rfc_writes_it() -> None:
    request = stun.parse_request(SAMPLE)
    assert request is not None
    answer = stun.success(request, ("192.0.2.1", 32853), PASSWORD)
    assert MAPPED in answer
    assert answer[:2] == b"\x01\x01"
    assert answer[8:20] == request.transaction


# Bytes 100 and 101 say that the fingerprint is one; without it there is only the integrity to check.
@pytest.mark.parametrize("at", [*range(100), *range(102, len(SAMPLE))])
def test_one_changed_byte_is_noticed(at: int) -> None:
    changed = SAMPLE[:at] + bytes([SAMPLE[at] ^ 1]) + SAMPLE[at + 1 :]
    request = stun.parse_request(changed)
    assert request is None or not request.authentic(PASSWORD)


def test_what_follows_the_integrity_is_not_believed() -> None:
    request = stun.request("a:b", PASSWORD, bytes(12), nominates=False)
    without_fingerprint = request[:-8]
    added = without_fingerprint + b"\x00\x25\x00\x00"
    smuggled = added[:2] + (len(added) - 20).to_bytes(2, "big") + added[4:]
    read = stun.parse_request(smuggled)
    assert read is not None
    assert not read.nominates


def test_a_nominating_check_is_told_from_a_plain_one() -> None:
    for nominates in (True, False):
        read = stun.parse_request(stun.request("a:b", PASSWORD, bytes(12), nominates=nominates))
        assert read is not None
        assert read.nominates is nominates
        assert read.authentic(PASSWORD)


@given(st.binary(max_size=200), st.integers(0, len(SAMPLE)))
def test_no_bytes_break_it(data: bytes, cut: int) -> None:
    stun.parse_request(data)
    stun.parse_request(SAMPLE[:cut] + data)
    stun.parse_request(SAMPLE[:2] + ((len(data) + cut) & 0xFFFC).to_bytes(2, "big") + SAMPLE[4:cut] + data)
