from __future__ import annotations

import pytest

from config.rate_limit import source_of
from sip_trunk.flow import Flow
from sip_trunk.guard import Guard, Rates
from sip_trunk.sip.errors import BadMessage
from sip_trunk.sip.message import Request, Response

AWAY = Flow("UDP", ("192.0.2.7", 5060), "t1")
OTHER = Flow("UDP", ("192.0.2.8", 5060), "t2")
LOOPBACK = Flow("UDP", ("127.0.0.1", 5060), "t3")
RATES = Rates(
    requests=10, requests_at_once=20, failures=1, failures_at_once=5, junk=1, junk_at_once=3, dialled=0.1,
    dialled_at_once=2, account_failures=1, account_failures_at_once=8, known=1, known_at_once=4,
)  # fmt: skip


def request(method: str = "REGISTER", agent: str = "phone", to_tag: str = "") -> Request:
    return Request(method, "sip:h", [("To", f"<sip:a@h>{to_tag}"), ("User-Agent", agent)])


def proof(account: str, method: str = "REGISTER", realm: str = "warmline") -> Request:
    value = f'Digest username="{account}", realm="{realm}", nonce="n", uri="sip:h", response="{"0" * 32}"'
    return Request(method, "sip:h", [("To", "<sip:a@h>"), ("Authorization", value)])


def away(number: int, port: int = 5060) -> Flow:
    return Flow("UDP", (f"198.51.{number // 250}.{number % 250 + 1}", port), f"{number}:{port}")


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


def test_loopback_and_trusted_addresses_are_not_limited() -> None:
    guard = make(trusted=lambda flow: flow.peer == OTHER.peer)
    for flow in (LOOPBACK, OTHER):
        assert all(guard.allow(flow, request(), 100.0) for _ in range(100))
        assert guard.admits(BadMessage("x"), flow)
    neighbour = Flow("UDP", (OTHER.peer[0], 40000), "t4")
    assert not all(guard.allow(neighbour, request(), 100.0) for _ in range(100))


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


def guess(guard: Guard, flow: Flow, account: str, times: int = 1, now: float = 100.0) -> int:
    """How many of so many wrong proofs were looked at."""
    heard = 0
    for _ in range(times):
        if guard.allow(flow, proof(account), now):
            heard += 1
            guard.failed(flow, now, proof(account))
    return heard


def prove(guard: Guard, flow: Flow, account: str, now: float = 100.0) -> bool:
    if not guard.allow(flow, proof(account), now):
        return False
    guard.proved(flow, now, account)
    return True


def test_a_guesser_is_stopped_whatever_accounts_he_tries() -> None:
    guard = make()
    assert sum(guess(guard, AWAY, f"user{number}") for number in range(50)) == 5


def test_the_phone_next_door_to_a_guesser_is_heard_all_the_same() -> None:
    """Both are behind one NAT: one address, two ports."""
    guard = make()
    phone, guesser = away(1, 5060), away(1, 40000)
    assert prove(guard, phone, "ana")
    assert guess(guard, guesser, "ana", 50) == 5
    for _ in range(20):
        assert guard.allow(phone, request(), 100.0)
        assert prove(guard, phone, "ana")
    assert not guard.allow(guesser, request(), 100.0)
    assert not guard.allow(phone, proof("bo"), 100.0), "known for ana is not known for bo"


def test_many_sources_guess_one_account_no_faster_than_one_would() -> None:
    guard = make()
    assert sum(guess(guard, away(number), "ana") for number in range(200)) == 8
    assert sum(guess(guard, away(number), "ana", now=103.0) for number in range(200)) == 3
    assert guard.dropped["account under attack"] > 300
    assert guess(guard, away(300), "bo") == 1, "other accounts are not touched"


def test_a_registered_phone_is_heard_while_its_account_is_guessed_at() -> None:
    """By its peer where it proved the account before, by its address where the location knows it from a binding."""
    guard = make(known=lambda account, host: (account, host) == ("ana", away(901).peer[0]))
    phone = away(900)
    assert prove(guard, phone, "ana")
    assert sum(guess(guard, away(number), "ana") for number in range(200)) == 8
    assert prove(guard, phone, "ana")
    assert prove(guard, away(901), "ana")
    assert not guard.allow(away(902), proof("ana"), 100.0)
    assert guard.allow(away(902), request(), 100.0), "who brings no proof of it is challenged as ever"


def test_an_account_that_does_not_exist_is_guarded_alike() -> None:
    guard = make()
    assert sum(guess(guard, away(number), "nobody") for number in range(200)) == 8


def test_a_known_peer_that_guesses_is_known_no_more() -> None:
    guard = make()
    assert prove(guard, AWAY, "ana")
    assert guess(guard, AWAY, "ana", 100) == 10 + 5, "its own row, then its address's few"
    assert not guard.allow(AWAY, proof("ana"), 100.0)


def test_one_right_proof_forgives_a_row_of_wrong_ones() -> None:
    guard = make()
    for now in range(100, 150, 10):
        assert prove(guard, AWAY, "ana", now)
        assert guess(guard, AWAY, "ana", 9, now) == 9


def test_a_proof_for_another_realm_is_none() -> None:
    guard = make()
    assert sum(guess(guard, away(number), "ana") for number in range(200)) == 8
    assert guard.allow(away(500), proof("ana", realm="elsewhere"), 100.0)


def test_all_addresses_of_one_ipv6_network_are_one_source() -> None:
    guard = make()
    flows = [Flow("UDP", (f"2001:db8:1:2::{number:x}", 5060), "t") for number in range(1, 30)]
    assert [guard.allow(flow, request(), 100.0) for flow in flows] == [True] * 20 + [False] * 9
    assert guard.allow(Flow("UDP", ("2001:db8:1:3::1", 5060), "t"), request(), 100.0)
    assert source_of("::ffff:192.0.2.7") == source_of("192.0.2.7") == "192.0.2.7"
    assert source_of("fe80::1%eth0") == "fe80::/64"


def test_junk_has_a_rate_of_its_own() -> None:
    guard = make()
    assert [guard.admits(BadMessage("x"), AWAY) for _ in range(5)] == [True] * 3 + [False] * 2
    assert guard.allow(AWAY, request(), 100.0)
    assert guard.dropped["junk"] == 2


def test_who_dials_what_nobody_may_dial_is_heard_no_more() -> None:
    guard = make()
    for _ in range(2):
        assert guard.allow(AWAY, request("INVITE"), 100.0)
        guard.dialled(AWAY.peer[0], 100.0)
    assert not guard.allow(AWAY, request("INVITE"), 100.0)
    assert guard.allow(AWAY, proof("ana", "INVITE"), 100.0), "who can prove who they are may call"
    assert guard.allow(AWAY, request(), 100.0)
    assert guard.dropped["toll fraud"] == 1


def test_exempt_are_only_those_named() -> None:
    guard = make(exempt=["127.0.0.1", "10.0.0.0/8"])
    for host, limited in (("127.0.0.1", False), ("127.0.0.2", True), ("10.9.9.9", False), ("::1", True)):
        flow = Flow("UDP", (host, 5060), "t")
        assert all(guard.allow(flow, request(), 100.0) for _ in range(100)) is not limited
    nobody = make(exempt=[])
    assert not all(nobody.allow(LOOPBACK, request(), 100.0) for _ in range(100))


def test_who_is_dropped_is_seen_and_can_be_forgiven() -> None:
    now = 100.0
    guard = Guard(lambda: now, rates=RATES)
    told: list[tuple[str, str, str]] = []
    guard.on_drop = lambda source, why, account: told.append((source, why, account))
    assert guess(guard, AWAY, "ana", 7) == 5
    assert told == [("192.0.2.7", "guessing", "ana")] * 2
    (seen,) = guard.dropping()
    assert (seen.source, seen.why, seen.account) == ("192.0.2.7", {"guessing": 2}, "ana")
    assert guard.forgive("192.0.2.7")
    assert not guard.dropping()
    assert guard.allow(AWAY, proof("ana"), now)
    assert not guard.forgive("192.0.2.99")
    guess(guard, AWAY, "ana", 7)
    now = 161.0
    assert not guard.dropping()


def test_every_table_is_bounded() -> None:
    guard = make(addresses=10, exempt=[])
    for number in range(100):
        prove(guard, away(number), f"a{number}")
        guess(guard, away(number), f"b{number}", 10)
    assert all(count <= 10 for count in guard.tables.values())
    for number in range(3000):
        guard.proved(AWAY, 100.0, f"c{number}")
    assert len(guard._peers[AWAY.peer].accounts) == 1000


def test_when_the_attack_is_over_nobody_is_looked_at_more_closely() -> None:
    guard = make()
    assert sum(guess(guard, away(number), "ana") for number in range(200)) == 8
    assert guard._exhausted == {"ana"}
    assert guard.allow(OTHER, proof("bo"), 109.0)
    assert not guard._exhausted
    assert sum(guess(guard, away(number), "ana", now=109.0) for number in range(300, 400)) == 8
