from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from argon2 import PasswordHasher
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.web.server import Request
from twisted.web.test.requesthelper import DummyChannel

from config.database import Database
from config.errors import TheirError
from config.login import Attempts, Login, Logins, login_session

FAST = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@pytest.fixture
def logins(database: Database, now: Callable[[], float]) -> Iterator[Logins]:
    made = Logins(database, now, hasher=FAST, attempts_per_name=3, attempts_per_address=5)
    yield made
    made.close()


def request(*before: Request, fields: dict[bytes, list[bytes]] | None = None) -> Request:
    """A real request of a browser that keeps the cookies which the answers to ``before`` set."""
    channel: Any = DummyChannel()
    made = Request(channel, False)
    made.client = IPv4Address("TCP", "192.0.2.1", 40000)
    made.args = fields or {}
    jar: dict[bytes, bytes] = {}
    for each in before:
        for cookie in each.cookies:
            name, _, value = cookie.split(b";")[0].partition(b"=")
            jar[name] = value
    made.received_cookies.update(jar)
    return made


async def test_who_logged_in_is_known_by_the_cookie(logins: Logins) -> None:
    answer = request()
    await logins.start("customer", "cu_1", answer)
    login = await logins.who(request(answer), "customer")
    assert isinstance(login, Login)
    assert (login.kind, login.subject) == ("customer", "cu_1")
    assert await logins.who(request(), "customer") is None


async def test_the_cookie_is_out_of_reach_for_scripts_and_other_sites(logins: Logins) -> None:
    answer = request()
    await logins.start("customer", "cu_1", answer)
    words = answer.cookies[0].decode().lower()
    assert "httponly" in words
    assert "samesite=lax" in words
    assert "secure" not in words


async def test_on_https_the_cookie_is_for_https_alone(
    logins: Logins, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = request()
    monkeypatch.setattr(answer, "isSecure", lambda: True)
    await logins.start("customer", "cu_1", answer)
    assert b"secure" in answer.cookies[0].lower()


async def test_a_login_on_https_stands_in_nobodys_way_on_http(
    logins: Logins, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A browser neither shows a secure cookie to http nor lets http replace it (RFC 6265bis 5.7)."""
    secure, plain, both = request(), request(), request()
    monkeypatch.setattr(secure, "isSecure", lambda: True)
    await logins.start("customer", "cu_1", secure)
    await logins.start("customer", "cu_2", plain)
    name = secure.cookies[0].partition(b"=")[0]
    assert name.startswith(b"__Host-")
    assert name != plain.cookies[0].partition(b"=")[0]
    both = request(secure, plain)
    login = await logins.who(both, "customer")
    assert login is not None
    assert login.subject == "cu_2"
    monkeypatch.setattr(both, "isSecure", lambda: True)
    login = await logins.who(both, "customer")
    assert login is not None
    assert login.subject == "cu_1"


async def test_one_browser_may_be_a_customer_and_an_agent(logins: Logins) -> None:
    first, second = request(), request()
    await logins.start("customer", "cu_1", first)
    await logins.start("agent", "a_1", second)
    both = request(first, second)
    customer, agent = await logins.who(both, "customer"), await logins.who(both, "agent")
    assert customer is not None
    assert agent is not None
    assert (customer.subject, agent.subject) == ("cu_1", "a_1")


async def test_a_customers_token_is_no_agents_token(logins: Logins) -> None:
    answer = request()
    await logins.start("customer", "cu_1", answer)
    forged = request()
    forged.received_cookies[b"warmline_agent"] = request(answer).received_cookies[b"warmline_customer"]
    assert await logins.who(forged, "agent") is None


async def test_a_login_ends_by_logging_out_by_time_and_by_a_new_login(logins: Logins, clock: Clock) -> None:
    first = request()
    await logins.start("agent", "a_1", first)
    second = request(first)
    await logins.start("agent", "a_1", second)
    assert await logins.who(request(first), "agent") is None
    await logins.end(request(second), "agent")
    assert await logins.who(request(second), "agent") is None
    third = request()
    await logins.start("agent", "a_1", third)
    clock.advance(14 * 3600)
    assert await logins.who(request(third), "agent") is None


async def test_the_database_holds_nothing_to_log_in_by(logins: Logins, database: Database) -> None:
    answer = request()
    await logins.start("agent", "a_1", answer)
    token = request(answer).received_cookies[b"warmline_agent"].decode()
    rows = await database.read(sa.select(login_session))
    assert len(rows) == 1
    assert token not in str(rows)


async def test_a_form_or_a_header_must_carry_this_logins_csrf(logins: Logins) -> None:
    answer, other = request(), request()
    await logins.start("agent", "a_1", answer)
    await logins.start("agent", "a_2", other)
    login, theirs = await logins.who(request(answer), "agent"), await logins.who(request(other), "agent")
    assert login is not None
    assert theirs is not None
    assert logins.csrf_ok(login, request(fields={b"csrf": [login.csrf.encode()]}))
    by_header = request()
    by_header.requestHeaders.setRawHeaders("X-CSRF-Token", [login.csrf])
    assert logins.csrf_ok(login, by_header)
    assert not logins.csrf_ok(login, request())
    assert not logins.csrf_ok(login, request(fields={b"csrf": [theirs.csrf.encode()]}))
    assert not logins.csrf_ok(login, request(fields={b"csrf": ["ünïcode".encode()]}))
    nonsense = request()
    nonsense.requestHeaders.setRawHeaders(b"X-CSRF-Token", [b"\xff\xfe"])
    assert not logins.csrf_ok(login, nonsense)


async def test_passwords_are_checked(logins: Logins) -> None:
    stored = await logins.hash_password("Grüße")
    assert stored.startswith("$argon2id$")
    assert await logins.check_password(stored, "Grüße")
    assert not await logins.check_password(stored, "Gruesse")
    assert not await logins.check_password(None, "")
    assert not await logins.check_password("not a hash", "x")
    assert not await logins.check_password(stored, "x" * 100_000)
    with pytest.raises(TheirError):
        await logins.hash_password("")


async def test_an_unknown_name_takes_a_hash_too(logins: Logins, monkeypatch: pytest.MonkeyPatch) -> None:
    verified: list[str] = []
    verify = FAST.verify

    def counted(stored: str, password: str) -> bool:
        verified.append(stored)
        return verify(stored, password)

    monkeypatch.setattr(logins, "_hasher", FAST)
    monkeypatch.setattr(PasswordHasher, "verify", lambda self, stored, password: counted(stored, password))
    assert not await logins.check_password(None, "guess")
    assert len(verified) == 1


async def test_too_many_wrong_passwords_for_a_name_wait(logins: Logins, clock: Clock) -> None:
    stored = await logins.hash_password("right")
    for number in range(3):
        assert not await logins.check_password(stored, "wrong", name="Ana", address=f"192.0.2.{number}")
    with pytest.raises(TheirError) as caught:
        await logins.check_password(stored, "right", name="ana", address="192.0.2.9")
    assert caught.value.status == 429
    assert not await logins.check_password(stored, "wrong", name="bob", address="192.0.2.9")
    clock.advance(300)
    assert await logins.check_password(stored, "right", name="ana", address="192.0.2.9")


async def test_too_many_wrong_passwords_from_an_address_wait(logins: Logins) -> None:
    for number in range(5):
        assert not await logins.check_password(None, "wrong", name=f"name {number}", address="192.0.2.1")
    with pytest.raises(TheirError):
        await logins.check_password(None, "wrong", name="name 6", address="192.0.2.1")


async def test_whoever_has_one_address_of_a_network_has_them_all(logins: Logins) -> None:
    for number in range(5):
        of_ours = f"2001:db8:0:1::{number}"
        assert not await logins.check_password(None, "wrong", name=f"name {number}", address=of_ours)
    with pytest.raises(TheirError):
        await logins.check_password(None, "wrong", name="name 6", address="2001:db8:0:1:ffff::1%eth0")
    for elsewhere in ("2001:db8:0:2::1", "::ffff:192.0.2.1", "192.0.2.2", "unknown"):
        assert not await logins.check_password(None, "wrong", name=f"from {elsewhere}", address=elsewhere)


async def test_the_right_password_forgives_the_wrong_ones(logins: Logins) -> None:
    stored = await logins.hash_password("right")
    for _ in range(4):
        assert not await logins.check_password(stored, "wrong", name="ana", address="192.0.2.1")
        assert await logins.check_password(stored, "right", name="ana", address="192.0.2.1")


async def test_a_login_of_ones_own_buys_no_more_guesses_at_others(logins: Logins) -> None:
    stored = await logins.hash_password("right")
    for number in range(5):
        assert not await logins.check_password(None, "wrong", name=f"name {number}", address="192.0.2.1")
        if number < 4:
            assert await logins.check_password(stored, "right", name="mallory", address="192.0.2.1")
    with pytest.raises(TheirError):
        await logins.check_password(None, "wrong", name="name 6", address="192.0.2.1")


def test_a_flood_of_names_takes_no_more_than_its_room(clock: Clock) -> None:
    attempts = Attempts(clock.seconds, limit=1, size=100)
    for number in range(1000):
        attempts.wrong(str(number))
    assert len(attempts._wrong) == 100
    assert not attempts.allowed("999")


async def test_who_is_logged_out_everywhere_is_so_in_every_browser_and_nobody_else_is(logins: Logins) -> None:
    first, second, other, customer = request(), request(), request(), request()
    await logins.start("agent", "a_1", first)
    await logins.start("agent", "a_1", second)
    await logins.start("agent", "a_2", other)
    await logins.start("customer", "a_1", customer)
    await logins.end_all("agent", "a_1")
    assert await logins.who(request(first), "agent") is None
    assert await logins.who(request(second), "agent") is None
    assert await logins.who(request(other), "agent") is not None
    assert await logins.who(request(customer), "customer") is not None
