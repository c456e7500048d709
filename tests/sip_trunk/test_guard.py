from __future__ import annotations

import pytest

from sip_trunk.flow import Flow
from sip_trunk.guard import Guard, Rates
from sip_trunk.sip.errors import BadMessage
from sip_trunk.sip.message import Request, Response

AWAY = Flow("UDP", ("192.0.2.7", 5060), "t1")
OTHER = Flow("UDP", ("192.0.2.8", 5060), "t2")
LOOPBACK = Flow("UDP", ("127.0.0.1", 5060), "t3")
RATES = Rates(requests=10, requests_at_once=20, failures=1, failures_at_once=5)


def request(method: str = "REGISTER", agent: str = "phone", to_tag: str = "") -> Request:
    return Request(method, "sip:h", [("To", f"<sip:a@h>{to_tag}"), ("User-Agent", agent)])


def make(**options: object) -> Guard:
    return Guard(lambda: 100.0, rates=RATES, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("agent", ["friendly-scanner", "SIPVicious", "sipcli/v1.8", "VaxSIPUserAgent/3.1"])
def test_scanners_are_dropped_from_anywhere(agent: str) -> None:
    guard = make()
    assert not guard.allow(LOOPBACK, request(agent=agent), 100.0)
    assert guard.dropped["scanner"] == 1


def test_a_flood_from_one_address_is_dropped_and_others_are_heard() -> None:
    guard = make()
    assert [guard.allow(AWAY, request(), 100.0) for _ in range(25)] == [True] * 20 + [False] * 5
    assert guard.allow(OTHER, request(), 100.0)
    assert [guard.allow(AWAY, request(), 101.0) for _ in range(11)] == [True] * 10 + [False]
    assert guard.dropped["flood"] == 6


def test_a_guesser_is_slowed_to_the_rate_of_failures() -> None:
    guard = make()
    for _ in range(5):
        assert guard.allow(AWAY, request(), 100.0)
        guard.failed(AWAY, 100.0)
    assert not guard.allow(AWAY, request(), 100.0)
    assert guard.allow(AWAY, request(), 101.5)
    assert guard.dropped["guessing"] == 1


def test_proofs_give_back_what_they_cost_so_real_phones_are_never_slowed() -> None:
    guard = make()
    for _ in range(1000):
        assert guard.allow(AWAY, request(), 100.0)
        assert guard.allow(AWAY, request(), 100.0)
        guard.proved(AWAY, 100.0)


def test_a_thousand_registrations_at_once_pass_by_default() -> None:
    guard = Guard(lambda: 100.0)
    assert all(guard.allow(AWAY, request(), 100.0) for _ in range(1000))


def test_calls_in_progress_and_responses_go_on_in_a_flood() -> None:
    guard = make()
    while guard.allow(AWAY, request(), 100.0):
        pass
    assert guard.allow(AWAY, request("BYE", to_tag=";tag=1"), 100.0)
    assert guard.allow(AWAY, request("ACK"), 100.0)
    assert guard.allow(AWAY, request("CANCEL"), 100.0)
    assert guard.admits(Response(200), AWAY)
    assert not guard.admits(request(), AWAY)
    assert not guard.admits(BadMessage("x"), AWAY)


def test_loopback_and_trusted_addresses_are_not_limited() -> None:
    guard = make(trusted=["192.0.2.8"])
    for flow in (LOOPBACK, OTHER):
        assert all(guard.allow(flow, request(), 100.0) for _ in range(100))
        assert guard.admits(BadMessage("x"), flow)


def test_the_table_is_bounded() -> None:
    guard = make(addresses=3)
    for number in range(10):
        guard.allow(Flow("UDP", (f"192.0.2.{number}", 1), "t"), request(), 100.0)
    assert len(guard._sources) == 3


def test_a_to_tag_does_not_hide_a_register_from_the_guard() -> None:
    guard = make()
    for _ in range(5):
        assert guard.allow(AWAY, request(to_tag=";tag=x"), 100.0)
        guard.failed(AWAY, 100.0)
    assert not guard.allow(AWAY, request(to_tag=";tag=x"), 100.0)
    assert guard.allow(AWAY, request("BYE", to_tag=";tag=x"), 100.0)
