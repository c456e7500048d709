from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sip_trunk.stun import is_stun, stun_answer

ID = b"0123456789ab"
REQUEST = b"\0\x01\0\0\x21\x12\xa4\x42" + ID


def test_a_binding_request_is_told_where_it_came_from() -> None:
    # RFC 5769 s2.2 has the same address, hidden the same way.
    request = b"\0\x01\0\0" + bytes.fromhex("2112a442b7e7a701bc34d686fa87dfae")
    answer = stun_answer(request, ("192.0.2.1", 32853))
    assert answer == bytes.fromhex("0101000c2112a442b7e7a701bc34d686fa87dfae002000080001a147e112a643")


def test_an_ipv6_address_is_hidden_with_the_transaction_too() -> None:
    # RFC 5769 s2.3.
    request = b"\0\x01\0\0" + bytes.fromhex("2112a442b7e7a701bc34d686fa87dfae")
    answer = stun_answer(request, ("2001:db8:1234:5678:11:2233:4455:6677", 32853))
    assert answer is not None
    assert answer[20:] == bytes.fromhex("002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9")


def test_what_must_be_understood_and_is_not_is_refused() -> None:
    request = b"\0\x01\0\x08" + REQUEST[4:] + b"\0\x7f\0\x02ab\0\0"
    answer = stun_answer(request, ("192.0.2.1", 1))
    assert answer is not None
    assert answer[:2] == b"\x01\x11"
    assert answer[-8:] == b"\0\x0a\0\x02\0\x7f\0\0"


@pytest.mark.parametrize(
    "datagram",
    [
        b"\x01\x01" + REQUEST[2:],
        b"\0\x11" + REQUEST[2:],
        b"\0\x01\0\x04" + REQUEST[4:],
        b"\0\x01\0\x04" + REQUEST[4:] + b"\x80\x22\0\x08",
    ],
)
def test_responses_indications_and_malformed_requests_get_no_answer(datagram: bytes) -> None:
    assert is_stun(datagram)
    assert stun_answer(datagram, ("192.0.2.1", 1)) is None


@pytest.mark.parametrize(
    "datagram", [b"\0\0", b"\0" * 24, b"OPTIONS sip:us@example.com SIP/2.0\r\n", b"\r\n\r\n"]
)
def test_sip_and_other_keep_alives_are_no_stun(datagram: bytes) -> None:
    assert not is_stun(datagram)


@given(st.binary(max_size=80), st.ip_addresses().map(str), st.integers(0, 65535))
def test_whatever_comes_is_answered_or_not_and_never_much_larger(tail: bytes, host: str, port: int) -> None:
    datagram = b"\0\x01" + len(tail).to_bytes(2, "big") + REQUEST[4:] + tail
    answer = stun_answer(datagram, (host, port))
    assert answer is None or len(answer) <= 20 + 24 + 4 + 16 + 8
