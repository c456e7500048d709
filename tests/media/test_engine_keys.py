from __future__ import annotations

import json
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.errors import OurError
from media.engine_keys import LONGEST, MOST_DATAGRAMS_A_SECOND, KeyLog, Pressed, Presses, read
from media.heard_keys import MOST_A_SECOND

# As rtpengine 10.5 sends it.
DATAGRAM = (
    b'{"callid":"314b52f5-c","source_tag":"a.0","tags":["b.1~","a.0","b.1","a.0~"],"type":"DTMF",'
    b'"timestamp":1795380912,"source_ip":"127.0.0.1","event":5,"duration":60,"volume":10}'
)
FIVE = Pressed("314b52f5-c", "a.0", "5", 0.06)


def changed(**facts: Any) -> bytes:
    return json.dumps({**json.loads(DATAGRAM), **facts}).encode()


def test_a_key_is_read_with_who_pressed_it_and_how_long() -> None:
    assert read(DATAGRAM) == FIVE
    assert read(changed(event=11)) == FIVE._replace(key="#")


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        b"null",
        b"[]",
        b"7",
        DATAGRAM[:-1],
        b"[" * LONGEST,
        DATAGRAM.replace(b"{", b'{"x":"' + b"x" * LONGEST + b'",', 1),
        b"\xff" + DATAGRAM,
        changed(event=16),
        changed(event="5"),
        changed(event=True),
        changed(event=[]),
        changed(duration=None),
        changed(callid=7),
        changed(source_tag=["a.0"]),
        changed(type="FAX"),
    ],
)
def test_what_tells_of_no_key_is_passed_over(datagram: bytes) -> None:
    assert read(datagram) is None


@given(
    st.binary(max_size=200)
    | st.dictionaries(
        st.sampled_from(["callid", "source_tag", "event", "duration", "type"]),
        st.none() | st.integers() | st.text(max_size=5) | st.floats() | st.lists(st.integers(), max_size=2),
    ).map(lambda said: json.dumps(said).encode())
)
def test_nothing_that_comes_is_an_error(datagram: bytes) -> None:
    assert read(datagram) is None or json.loads(datagram)["type"] == "DTMF"


def test_one_press_is_told_once_and_the_same_key_again_is_another() -> None:
    presses = Presses()
    long = FIVE._replace(seconds=0.2)
    told = [presses.is_new(long, at, 0.0) for at in (10.0, 10.001, 10.04, 10.3, 10.301)]
    assert told == [True, False, False, True, False]
    assert presses.is_new(long._replace(key="6"), 10.31, 0.0), "another key is another press, however soon"


def test_a_key_that_was_down_before_the_shortcut_was_told_by_the_studio() -> None:
    assert not Presses().is_new(FIVE, 10.05, 10.0)
    assert Presses().is_new(FIVE, 10.07, 10.0)


def test_there_is_a_limit_to_keys_in_a_second() -> None:
    presses = Presses()
    keys = [FIVE._replace(key="12"[number % 2]) for number in range(2 * MOST_A_SECOND)]
    assert sum(presses.is_new(key, 10.0, 0.0) for key in keys) == MOST_A_SECOND
    assert presses.is_new(keys[0], 11.1, 0.0)


def test_only_rtpengine_is_listened_to_and_that_not_without_end() -> None:
    heard: list[Pressed] = []
    now = [10.0]
    log = KeyLog("192.0.2.1", heard.append, lambda: now[0])
    log.datagram_received(DATAGRAM, ("192.0.2.2", 5000))
    log.datagram_received(b"nonsense", ("192.0.2.1", 5000))
    assert heard == []
    log.datagram_received(DATAGRAM, ("192.0.2.1", 5000))
    log.datagram_received(DATAGRAM, ("::ffff:192.0.2.1", 5000))
    assert heard == [FIVE, FIVE]
    for _ in range(MOST_DATAGRAMS_A_SECOND):
        log.datagram_received(DATAGRAM, ("192.0.2.1", 5000))
    assert len(heard) == MOST_DATAGRAMS_A_SECOND - 1
    now[0] += 1.0
    log.datagram_received(DATAGRAM, ("192.0.2.1", 5000))
    assert len(heard) == MOST_DATAGRAMS_A_SECOND


async def test_where_it_cannot_listen_it_says_which_setting_is_wrong() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(OurError) as refused:
            await KeyLog.at(taken.getsockname(), "127.0.0.1", print, lambda: 0.0)
    assert refused.value.status == 503
    assert "WARMLINE_RTPENGINE_KEYS" in refused.value.reason
