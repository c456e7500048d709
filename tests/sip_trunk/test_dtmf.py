from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sip_trunk.dtmf import KEYS, keys_of
from sip_trunk.sip.message import Request
from sip_trunk.user_agent import InDialog
from tests.sip_trunk.network import Pair

RELAY = "application/dtmf-relay"
PLAIN = "application/dtmf"


def info(body: bytes, media_type: str) -> Request:
    return Request("INFO", "sip:a@b", (), body, media_type)


@pytest.mark.parametrize(
    ("media_type", "body", "keys"),
    [
        (RELAY, b"Signal=5\r\nDuration=160\r\n", "5"),
        (RELAY, b"Signal= *\r\nDuration= 250\r\n", "*"),
        (RELAY, b"Duration=100\nsignal = d\n", "D"),
        (RELAY, b"Signal=11\r\n", "#"),
        (RELAY, b"Signal=16\r\n", ""),
        (RELAY, b"Signal=12 34\r\n", ""),
        (RELAY, b"Duration=160\r\n", ""),
        (RELAY, b"5", ""),
        (RELAY, b"", ""),
        (RELAY, b"Signal=5" + b" " * 300, ""),
        ("Application/DTMF-Relay; charset=x", b"Signal=7", "7"),
        (PLAIN, b"123#\r\n", "123#"),
        (PLAIN, b"Signal=9\r\n", "9"),
        (PLAIN, b"1" * 33, ""),
        (PLAIN, b"12x", ""),
        (PLAIN, b"\xff", ""),
        ("text/plain", b"5", ""),
        ("nonsense", b"5", ""),
    ],
)
def test_keys_are_read_and_nothing_else(media_type: str, body: bytes, keys: str) -> None:
    assert keys_of(info(body, media_type)) == keys


@given(st.binary(max_size=300), st.sampled_from([RELAY, PLAIN, "a/b", ""]))
def test_anything_gives_keys_or_none(body: bytes, media_type: str) -> None:
    keys = keys_of(info(body, media_type))
    assert set(keys) <= KEYS
    assert len(keys) <= 32


def test_they_come_inside_a_call(pair: Pair) -> None:
    call, theirs = pair.talk()
    answer = call.send("INFO", b"Signal=3\r\nDuration=100\r\n", RELAY)
    pair.wait()
    event = pair.bob.events[theirs][-1]
    assert isinstance(event, InDialog)
    assert keys_of(event.request) == "3"
    event.request.respond(200)
    pair.wait()
    assert answer.result().status == 200
