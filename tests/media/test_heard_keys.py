"""Keys that a phone presses (RFC 4733): each is told once, whatever is lost, repeated or late."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from media.heard_keys import MOST_A_SECOND, HeardKeys
from media.keys import EVENTS
from media.rtp import Heard, Packet, Stream, payload_of
from tests.media.relay_house import House
from tests.media.test_keys import called
from tests.peers.process import until

TICKS = 160


def event(
    key: str, began: int, seq: int, *, lasts: int = 6, ssrc: int = 7, at: float = 1.0, marked: bool = True
) -> list[Heard]:
    """All packets of one event: updates, and the end three times."""
    packets = []
    for step in range(lasts + 3):
        end = 0x80 if step >= lasts else 0
        duration = min(step + 1, lasts + 1) * TICKS
        body = bytes((EVENTS[key], end | 10)) + duration.to_bytes(2, "big")
        marker = marked and step == 0
        packets.append(Heard(marker, (seq + step) & 0xFFFF, began & 0xFFFFFFFF, ssrc, body, at + step * 0.02))
    return packets


def told(packets: list[Heard]) -> str:
    keys: list[str] = []
    heard = HeardKeys(keys.append)
    for packet in packets:
        heard.heard(packet)
    return "".join(keys)


def test_an_event_is_one_key_told_with_its_first_packet() -> None:
    packets = event("5", 1000, 1)
    assert told(packets[:1]) == "5"
    assert told(packets) == "5"


def test_each_of_the_sixteen_keys_is_known_by_its_code() -> None:
    packets = [p for n, key in enumerate("0123456789*#ABCD") for p in event(key, n * 2000, n * 9, at=n)]
    assert told(packets) == "0123456789*#ABCD"


def test_the_same_key_twice_is_two_keys() -> None:
    assert told(event("1", 1000, 1) + event("1", 4000, 10)) == "11"


def test_an_event_whose_beginning_or_end_is_lost_is_still_one_key() -> None:
    first, second = event("1", 1000, 1), event("2", 4000, 10)
    assert told(first[3:] + second[:4]) == "12"
    assert told([first[-1], second[-1]]) == "12"


def test_a_straggler_of_the_key_before_tells_nothing() -> None:
    first, second = event("1", 1000, 1), event("2", 4000, 10)
    assert told(first[:-1] + second[:2] + first[-1:] + second[2:]) == "12"


def test_a_marker_begins_a_new_key_even_under_the_old_timestamp() -> None:
    assert told(event("1", 1000, 1) + event("1", 1000, 10)) == "11"
    assert told(event("1", 1000, 1)[:4] + event("1", 1000, 10)) == "11", (
        "the end was lost, the duration is less"
    )
    assert told(event("1", 1000, 1)[:4] + event("2", 1000, 10)) == "12"


def test_a_first_packet_that_is_sent_three_times_is_one_key() -> None:
    first = event("9", 1000, 3)[0]
    assert told([first._replace(seq=seq) for seq in (1, 2)] + event("9", 1000, 3)) == "9"


def test_a_key_held_for_nine_seconds_is_one_key() -> None:
    held = Heard(True, 1, 1000, 7, b"\x05\x0a\xff\xff", 1.0)
    more = Heard(False, 2, 1000 + 0xFFFF, 7, b"\x05\x0a\x00\xa0", 9.2)
    end = Heard(False, 3, 1000 + 0xFFFF, 7, b"\x05\x8a\x01\x40", 9.3)
    assert told([held, more, end]) == "5"


def test_a_source_that_changes_is_heard_on() -> None:
    assert told(event("1", 1000, 1) + event("2", 50, 60000, ssrc=8)) == "12"


def test_what_is_no_key_is_passed_over() -> None:
    assert (
        told([Heard(True, 1, 1, 7, body, 1.0) for body in (b"", b"\x01\x0a\x00", b"\x10\x0a\x00\xa0")]) == ""
    )


def test_a_flood_of_keys_is_told_at_twenty_a_second() -> None:
    flood = [Heard(True, n, n * 800, 7, b"\x01\x0a\x00\xa0", 1.0 + n / 1000) for n in range(1000)]
    assert len(told(flood)) == MOST_A_SECOND
    assert len(told([*flood, Heard(True, 1000, 800_000, 7, b"\x01\x0a\x00\xa0", 2.5)])) == MOST_A_SECOND + 1


@given(
    st.text("0123456789*#", min_size=1, max_size=8),
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFFFFFF),
    st.randoms(use_true_random=False),
)
def test_whatever_is_lost_or_comes_twice_no_key_is_told_twice_or_forgotten(
    keys: str, seq: int, began: int, chance: object
) -> None:
    sent: list[Heard] = []
    expected = ""
    for number, key in enumerate(keys):
        packets = event(key, began + number * 4000, seq + number * 9, at=number)
        kept = [packet for packet in packets if chance.random() < 0.4]  # type: ignore[attr-defined]
        sent += [packet for packet in kept for _ in range(chance.choice((1, 1, 2)))]  # type: ignore[attr-defined]
        expected += key if kept else ""
    assert told(sent) == expected


def test_the_payload_is_found_behind_whatever_a_header_may_hold() -> None:
    view = memoryview(bytearray(64))
    view[0:1] = b"\x80"
    view[12:16] = b"body"
    assert payload_of(view, 16) == b"body"
    view[0:1] = b"\xb1"  # padding, an extension, one CSRC
    view[12:32] = struct.pack("!IHH", 9, 0xBEDE, 1) + b"extn" + b"body" + b"\0\0\0\4"
    assert payload_of(view, 32) == b"body"
    for size in range(12, 28):
        assert b"body" not in payload_of(view, size)
    view[0:1], view[31:32] = b"\xa0", b"\xff"
    assert payload_of(view, 32) == b"", "padding that is longer than the packet"


@given(st.binary(min_size=12, max_size=80))
def test_no_packet_from_the_network_does_harm(data: bytes) -> None:
    packet = Packet()
    stream = Stream("audio", packet)
    heard = HeardKeys(lambda key: None)
    stream.listeners = dict.fromkeys(range(128), heard.heard)
    packet.data[: len(data)] = data
    stream.arrived(len(data), 1.0)


async def test_keys_are_heard_from_whoever_waits_and_from_those_who_are_joined(house: House) -> None:
    a, b = called(house, "a", 101), called(house, "b", 96)
    a.say(b"\x05\x0a\x00\xa0", kind=101)
    await until(lambda: house.pressed == [("c", "a", "5")], "the key of one who waits", seconds=2)
    house.relay.join("c", "a", "b")
    b.say(b"\x0b\x0a\x00\xa0", kind=96)
    assert (await a.hear())[12:] == b"\x0b\x0a\x00\xa0", "it is forwarded as well"
    assert house.pressed[1:] == [("c", "b", "#")]
    a.say(b"speech")
    assert await b.hears() == b"speech"


async def test_keys_of_a_phone_on_hold_are_not_for_us(house: House) -> None:
    a = called(house, "a", 101, direction="recvonly")
    a.say(b"\x05\x0a\x00\xa0", kind=101)
    assert await a.silent()
    assert house.pressed == []


async def test_a_browser_bundle_still_knows_which_stream_its_events_belong_to(house: House) -> None:
    """What is listened to belongs to a stream as what passes untouched does."""
    called(house, "a", 101)
    (stream,) = house.relay._leg("c", "a").carried
    assert [number for number in range(128) if stream.hears(number)] == [0, 101]
    assert [number for number in range(128) if stream.taken[number]] == [0]
