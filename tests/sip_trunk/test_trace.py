from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sip_trunk.flow import Flow
from sip_trunk.trace import Brief, Traced, Tracer, Trail, brief
from tests.moment import moments

PHONE = Flow("UDP", ("192.0.2.7", 5060), "a")
AGENT = Flow("TCP", ("2001:db8::7", 5060), "b")
SESSION = "0123456789abcdef0123456789abcdef"
OTHER = "fedcba9876543210fedcba9876543210"


def message(
    call_id: str,
    *,
    start: str = "INFO sip:h SIP/2.0",
    method: str = "INFO",
    from_: str = "sip:x@h",
    to: str = "sip:y@h",
    session: str = "",
) -> bytes:
    lines = [start, f"From: <{from_}>;tag=1", f"t: <{to}>", f"Call-ID: {call_id}", f"CSeq: 1 {method}"]
    if session:
        lines.append(f"Session-ID: {session};remote={'0' * 32}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def make(**options: int) -> Tracer:
    return Tracer(Clock(), **options)


def watched(tracer: Tracer, trail: Trail, since: float | None = None) -> list[Traced]:
    told: list[Traced] = []
    tracer.watch(trail, told.append, since=since)
    return told


def test_everything_is_told_with_its_way_and_time() -> None:
    tracer = make()
    told = watched(tracer, Trail())
    tracer.wire(False, PHONE, message("1"))
    tracer.wire(True, AGENT, b"garbage \x1b[2J")
    assert [(each.sent, each.flow, each.data) for each in told] == [
        (False, PHONE, message("1")), (True, AGENT, b"garbage \x1b[2J"),
    ]  # fmt: skip
    assert told[0].at < told[1].at


def test_what_was_is_told_from_the_time_asked_for_and_no_earlier() -> None:
    tracer = make()
    for number in range(5):
        tracer.wire(False, PHONE, message(str(number)))
    assert [brief(each.data).call_id for each in watched(tracer, Trail(), since=1003.5)] == ["3", "4"]
    assert not watched(tracer, Trail())


def test_the_ring_is_bounded_by_number_and_by_size() -> None:
    tracer = make(messages=3)
    for number in range(10):
        tracer.wire(False, PHONE, message(str(number)))
    assert [brief(each.data).call_id for each in tracer.kept()] == ["7", "8", "9"]
    tracer = make(size=1000)
    for _ in range(10):
        tracer.wire(False, PHONE, b"x" * 400)
    assert len(tracer.kept()) == 2
    tracer.wire(False, PHONE, b"x" * 5000)
    assert not tracer.kept()


def test_a_contacts_trail_finds_all_its_legs_by_the_session() -> None:
    tracer = make()
    told = watched(tracer, Trail(contact="c_1"))
    tracer.wire(False, PHONE, message("customer", start="INVITE sip:c_1@h SIP/2.0"))
    tracer.wire(True, PHONE, message("customer", start="SIP/2.0 100 Trying", session=SESSION))
    tracer.wire(True, AGENT, message("agent", start="INVITE sip:ana@h SIP/2.0", session=SESSION))
    tracer.wire(
        False, AGENT, message("agent", start="SIP/2.0 180 Ringing")
    )  # a phone that knows no Session-ID
    tracer.wire(False, AGENT, message("stranger", session=OTHER))
    assert [brief(each.data).call_id for each in told] == ["customer", "customer", "agent", "agent"]


def test_of_a_contact_only_refused_questions_whether_somebody_is_there_are_told() -> None:
    tracer = make()
    told, whole = watched(tracer, Trail(contact="c_1")), watched(tracer, Trail(call="agent"))
    invite = message("agent", start="INVITE sip:ana@h SIP/2.0", method="INVITE", from_="sip:c_1@h")
    asked, there, gone = (
        message("agent", start=start, method="OPTIONS")
        for start in ("OPTIONS sip:ana@h SIP/2.0", "SIP/2.0 200 OK", "SIP/2.0 481 Call Does Not Exist")
    )
    for data in (invite, asked, there, asked, gone):
        tracer.wire(True, AGENT, data)
    assert [each.data for each in told] == [invite, gone]
    assert len(whole) == 5


def test_what_turns_out_later_to_belong_is_told_then_and_once() -> None:
    tracer = make()
    told: list[Traced] = []
    onlooker = tracer.watch(Trail(contact="c_1"), told.append)
    tracer.wire(False, PHONE, message("trunk", start="INVITE sip:+15550200@h SIP/2.0"))
    tracer.wire(True, AGENT, message("agent", session=SESSION))
    assert not told
    onlooker.learn(["trunk"])  # as the event log tells
    onlooker.learn(["trunk"])
    assert [brief(each.data).call_id for each in told] == ["trunk"]
    tracer.wire(True, PHONE, message("trunk", start="SIP/2.0 200 OK", session=SESSION))
    assert [brief(each.data).call_id for each in told] == ["trunk", "trunk", "agent"]


@pytest.mark.parametrize("asked", ["+4930123456", "004930123456", "030123456", "030 12 34 56"])
@pytest.mark.parametrize(
    "said", ["sip:+4930123456@h;user=phone", "tel:+49-30-123456", "sip:030123456;phone-context=x@h"]
)
def test_a_number_is_found_however_it_is_written(asked: str, said: str) -> None:
    assert Trail(number=asked).wants(brief(message("1", from_=said)))
    assert not Trail(number=asked).wants(brief(message("1", from_="sip:+4930123457@h")))


def test_a_user_is_found_in_addresses_and_in_proofs() -> None:
    trail = Trail(user="ana")
    assert trail.wants(brief(message("1", to="sip:Ana@h")))
    assert trail.wants(brief(b'REGISTER sip:h SIP/2.0\r\nAuthorization: Digest username="ana"\r\n\r\n'))
    assert not trail.wants(brief(message("1", to="sip:anabel@h")))


def test_an_onlooker_who_fails_is_let_go_and_harms_nobody() -> None:
    tracer = make()

    def fail(message: Traced) -> None:
        raise RuntimeError

    tracer.watch(Trail(), fail)
    told = watched(tracer, Trail())
    tracer.wire(False, PHONE, message("1"))
    tracer.wire(False, PHONE, message("2"))
    assert len(told) == 2


def test_stopped_means_told_no_more() -> None:
    tracer = make()
    told: list[Traced] = []
    tracer.watch(Trail(), told.append).stop()
    tracer.wire(False, PHONE, message("1"))
    assert not told


def test_the_ids_one_onlooker_follows_are_bounded() -> None:
    trail = Trail(call="x")
    trail.learn(str(number) for number in range(5000))
    assert len(trail._ids) == 2000


@given(st.binary(max_size=300))
def test_no_message_is_too_odd_to_be_looked_at(data: bytes) -> None:
    assert isinstance(brief(data), Brief)


def test_nobody_looking_on_costs_next_to_nothing() -> None:
    tracer = Tracer(time.time)
    data = message("1")

    def a_minute_of_traffic() -> None:
        for _ in range(20_000):
            tracer.wire(False, PHONE, data)

    assert moments(a_minute_of_traffic) < 3
