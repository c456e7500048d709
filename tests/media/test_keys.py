"""Keys as telephone events (RFC 4733), by real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from itertools import pairwise

import pytest

from media import keys as keys_module
from media.keys import EVENTS, MOST_WAITING, Keys
from media.rtp import Packet, Stream
from tests.media.relay_house import HOST, House, Phone

Told = tuple[bool, int, int, int, int, bytes]


class Wire:
    """A stream whose packets are kept, on a loop that has its own time."""

    def __init__(self) -> None:
        self.packet = Packet()
        self.stream = Stream("audio", self.packet)
        self.stream.send = self._sent
        self.stream.takes = True
        self.sent: list[tuple[float, Told]] = []
        self.time = 100.0
        self.calls: list[tuple[float, Handle]] = []

    def _sent(self, size: int) -> None:
        self.sent.append((self.time, told(bytes(self.packet.view[:size]))))

    def call_later(self, seconds: float, action: object) -> Handle:
        handle = Handle(action)
        self.calls.append((self.time + seconds, handle))
        return handle

    def call_soon(self, action: object) -> Handle:
        return self.call_later(0, action)

    def run(self) -> None:
        while self.calls:
            at, handle = self.calls.pop(0)
            self.time = at
            handle.meet()


class Handle:
    def __init__(self, action: object) -> None:
        self.action = action

    def cancel(self) -> None:
        self.action = None

    def meet(self) -> None:
        if callable(self.action):
            self.action()


def told(data: bytes) -> Told:
    """(marker, payload type, sequence number, timestamp, SSRC, payload)"""
    _, second, seq, timestamp, ssrc = struct.unpack_from("!BBHII", data)
    return bool(second & 0x80), second & 0x7F, seq, timestamp, ssrc, data[12:]


def press(keys: str, clock: int = 8000) -> tuple[Wire, list[bool]]:
    wire, over = Wire(), []
    played = Keys(wire, wire.stream, 101, clock, lambda: wire.time, lambda: over.append(True))  # type: ignore[arg-type]
    played.add(keys)
    wire.run()
    return wire, over


def test_a_key_is_one_event_with_a_rising_duration_that_ends_three_times() -> None:
    wire, over = press("5")
    packets = [each for _, each in wire.sent]
    assert len(packets) == 10
    assert [marker for marker, *_ in packets] == [True] + [False] * 9
    assert {number for _, number, *_ in packets} == {101}
    assert len({timestamp for _, _, _, timestamp, _, _ in packets}) == 1
    assert len({ssrc for *_, ssrc, _ in packets}) == 1
    for (_, _, before, *_), (_, _, after, *_) in pairwise(packets):
        assert after == (before + 1) & 0xFFFF
    bodies = [body for *_, body in packets]
    assert {body[0] for body in bodies} == {5}
    assert [bool(body[1] & 0x80) for body in bodies] == [False] * 7 + [True] * 3
    assert [int.from_bytes(body[2:], "big") for body in bodies] == [*range(160, 1280, 160), 1280, 1280, 1280]
    assert over == [True]


def test_two_keys_are_two_events_with_a_gap_and_time_goes_on() -> None:
    wire, _ = press("1#")
    first, second = wire.sent[:10], wire.sent[10:]
    assert second[0][1][5][0] == EVENTS["#"]
    assert second[0][1][0], "the marker says that another event begins"
    assert second[0][0] - first[-1][0] >= 0.08
    ticks = (second[0][1][3] - first[0][1][3]) & 0xFFFFFFFF
    assert ticks == pytest.approx((second[0][0] - first[0][0]) * 8000, abs=2)


def test_durations_are_told_in_the_clock_of_the_payload_type() -> None:
    wire, _ = press("0", clock=48000)
    assert int.from_bytes(wire.sent[-1][1][5][2:], "big") == 48000 * 0.16


def test_all_sixteen_keys_have_their_codes() -> None:
    wire, _ = press("0123456789*#ABCD")
    assert [packet[5][0] for _, packet in wire.sent[::10]] == list(range(16))


def test_what_is_no_key_is_left_out_and_so_is_more_than_can_wait() -> None:
    wire, over = press("?x" + "1" * 100)
    assert len(wire.sent) == MOST_WAITING * 10
    assert over == [True]


def called(house: House, branch: str, events: int | None, *, direction: str = "sendrecv") -> Phone:
    """A phone that has PCMU, and telephone-event under that number."""
    phone = house.phone()
    offer = (
        f"v=0\r\no=- 1 1 IN IP4 {HOST}\r\ns=-\r\nc=IN IP4 {HOST}\r\nt=0 0\r\n"
        f"m=audio {phone.port} RTP/AVP 0{f' {events}' if events else ''}\r\n"
        + (f"a=rtpmap:{events} telephone-event/8000\r\na=fmtp:{events} 0-15\r\n" if events else "")
        + f"a={direction}\r\n"
    )
    phone.heard_answer(house.relay.answer("c", branch, offer.encode()))
    return phone


async def collected(phone: Phone, count: int) -> list[Told]:
    return [told(await phone.hear()) for _ in range(count)]


async def test_keys_stand_in_the_stream_between_what_is_said_before_and_after(house: House) -> None:
    a, b = called(house, "a", 101), called(house, "b", 96)
    house.relay.join("c", "a", "b")
    a.say(b"before")
    (before,) = await collected(b, 1)
    assert house.relay.keys("c", "b", "7")
    a.say(b"held back")
    events = await collected(b, 10)
    assert {number for _, number, *_ in events} == {96}, "under the number this phone has for it"
    assert {body[0] for *_, body in events} == {7}
    await asyncio.sleep(keys_module.PACKET_S * 6)
    a.say(b"after")
    (after,) = await collected(b, 1)
    assert after[5] == b"after"
    line = [before, *events, after]
    assert len({ssrc for *_, ssrc, _ in line}) == 1
    for (_, _, earlier, *_), (_, _, later, *_) in pairwise(line):
        assert later == (earlier + 1) & 0xFFFF, "no number is missing or there twice"
    assert before[3] < events[0][3] < after[3]
    # 160 ms of key, and the gap: what is said after it is as much later as it was.
    assert 1280 <= (after[3] - events[0][3]) & 0xFFFFFFFF < 8000
    b.say(b"the other way goes on")
    assert await a.hears() == b"the other way goes on"


async def test_a_branch_without_telephone_events_says_so(house: House) -> None:
    phone = called(house, "a", None)
    assert not house.relay.keys("c", "a", "1")
    assert await phone.silent()


async def test_a_phone_on_hold_is_sent_no_keys(house: House) -> None:
    phone = called(house, "a", 101, direction="sendonly")
    assert house.relay.keys("c", "a", "1")
    assert await phone.silent()


async def test_a_branch_that_ends_while_keys_are_on_their_way_is_sent_no_more(house: House) -> None:
    phone = called(house, "a", 101)
    house.relay.keys("c", "a", "123")
    await collected(phone, 2)
    house.relay.drop("c", "a")
    with contextlib.suppress(BlockingIOError):  # what had come by then
        while phone.sock.recv(2048):
            pass
    await asyncio.sleep(0.05)
    assert await phone.silent()


async def test_what_is_agreed_anew_ends_keys_and_speech_goes_on(house: House) -> None:
    a, b = called(house, "a", 101), called(house, "b", 101)
    house.relay.join("c", "a", "b")
    house.relay.keys("c", "b", "123")
    await collected(b, 2)
    offer = (
        f"v=0\r\no=- 1 2 IN IP4 {HOST}\r\ns=-\r\nc=IN IP4 {HOST}\r\nt=0 0\r\nm=audio {b.port} RTP/AVP 0\r\n"
    )
    house.relay.answer("c", "b", offer.encode())
    a.say(b"still there")
    assert await b.hears() == b"still there"
    assert await b.silent()


async def test_events_from_a_phone_pass_under_the_number_the_other_has_for_them(house: House) -> None:
    a, b = called(house, "a", 101), called(house, "b", 96)
    house.relay.join("c", "a", "b")
    a.say(b"\x05\x0a\x00\xa0", kind=101)
    ((_, number, *_, body),) = await collected(b, 1)
    assert (number, body) == (96, b"\x05\x0a\x00\xa0")
    b.say(b"\x06\x8a\x05\x00", kind=96)
    ((_, number, *_, body),) = await collected(a, 1)
    assert (number, body) == (101, b"\x06\x8a\x05\x00")
