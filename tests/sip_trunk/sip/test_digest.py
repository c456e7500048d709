from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sip_trunk.sip.digest import (
    Challenge,
    Credentials,
    Nonces,
    NonceState,
    answer,
    challenges,
    choose_challenge,
    parse_authorization,
    parse_challenge,
    verify,
)
from sip_trunk.sip.errors import BadMessage

ANA = Credentials.of("ana", "warmline", "pässword")
SECRET = b"0123456789abcdef"


# RFC 7616 s3.9.1, with the method and URI of HTTP.
@pytest.mark.parametrize(
    "algorithm, response",
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_the_rfcs_own_example(algorithm: str, response: str) -> None:
    challenge = Challenge("http-auth@example.org", "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", algorithm)
    value = answer(
        challenge,
        "Mufasa",
        "Circle of Life",
        "GET",
        "/dir/index.html",
        cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
    )
    assert f'response="{response}"' in value
    credentials = Credentials.of("Mufasa", "http-auth@example.org", "Circle of Life")
    assert verify(parse_authorization(value), credentials, "GET")


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256"])
@pytest.mark.parametrize("qop", [("auth",), ("auth-int",), ("auth", "auth-int")])
def test_a_right_answer_is_right_and_any_change_makes_it_wrong(algorithm: str, qop: tuple[str, ...]) -> None:
    challenge = Challenge("warmline", "n1", algorithm, qop)
    right = parse_authorization(answer(challenge, "ana", "pässword", "INVITE", "sip:h", body=b"x"))
    assert verify(right, ANA, "INVITE", b"x")
    assert not verify(right, ANA, "BYE", b"x")
    assert not verify(right, Credentials.of("ana", "warmline", "other"), "INVITE", b"x")
    assert not verify(right, Credentials.of("ben", "warmline", "pässword"), "INVITE", b"x")
    assert verify(right, ANA, "INVITE", b"y") is ("auth" in qop)
    by_ha1 = parse_authorization(answer(challenge, "ana", ANA, "INVITE", "sip:h", body=b"x"))
    assert verify(by_ha1, ANA, "INVITE", b"x")


def test_the_legacy_form_without_qop_is_taken_with_md5_only() -> None:
    old = parse_authorization(
        answer(Challenge("warmline", "n1", "MD5", ()), "ana", "pässword", "REGISTER", "sip:h")
    )
    assert (old.qop, old.nc) == (None, 1)
    assert verify(old, ANA, "REGISTER")
    new = parse_authorization(
        answer(Challenge("warmline", "n1", "SHA-256", ()), "ana", "pässword", "REGISTER", "sip:h")
    )
    assert not verify(new, ANA, "REGISTER")


def test_an_ha1_that_is_not_kept_proves_nothing() -> None:
    only_md5 = Credentials("ana", "warmline", ANA.md5, "")
    value = answer(Challenge("warmline", "n1", "SHA-256"), "ana", only_md5, "REGISTER", "sip:h")
    assert not verify(parse_authorization(value), only_md5, "REGISTER")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Digest",
        "Basic YTpi",
        'Digest username="ana"',
        'Digest username="a", realm="r", nonce="n", uri="u", response="x", qop=auth',
        'Digest username="a", realm="r", nonce="n", uri="u", response="x", qop=auth, nc=1, cnonce="c"',
        'Digest username="a", realm="r", nonce="n", uri="u", response="x", qop=other, nc=00000001, cnonce="c"',
        'Digest username="a", username="b", realm="r", nonce="n", uri="u", response="x"',
        'Digest username="a, realm="r"',
        'Digest username="a" realm="r"',
    ],
)
def test_what_is_no_authorization_is_refused(text: str) -> None:
    with pytest.raises(BadMessage):
        parse_authorization(text)


def test_a_name_in_the_extended_form() -> None:
    text = 'Digest username*=UTF-8\'\'J%C3%A4s%C3%B8n, realm="r", nonce="n", uri="u", response="x"'
    assert parse_authorization(text).username == "Jäsøn"


def test_challenges_come_in_the_order_given_and_the_first_that_can_be_answered_is() -> None:
    first, second = challenges("warmline", "n1", stale=True)
    assert "algorithm=SHA-256" in first
    assert "algorithm=MD5" in second
    assert 'qop="auth"' in first
    assert "stale=true" in first
    chosen = choose_challenge(
        ['Basic realm="x"', "Digest nonsense", first.replace("SHA-256", "SHA-512"), second]
    )
    assert chosen == Challenge("warmline", "n1", "MD5", ("auth",), None, True)
    assert choose_challenge([]) is None
    assert parse_challenge('Digest realm="r", nonce="n", qop="auth-conf"') is None


def test_a_nonce_is_fresh_then_stale_and_a_made_up_one_is_neither() -> None:
    nonces = Nonces(SECRET, lifetime_s=60)
    nonce = nonces.issue(1000.0)
    assert nonces.check(nonce, 1000.0) is NonceState.FRESH
    assert nonces.check(nonce, 1059.0) is NonceState.FRESH
    assert nonces.check(nonce, 1061.0) is NonceState.STALE
    for forged in ("", "x", nonce[:-1], "9" + nonce, nonce.replace(".", ".0", 1), "é.1.2", "0" * 500):
        assert nonces.check(forged, 1000.0) is NonceState.INVALID
    assert Nonces(b"another secret, as long").check(nonce, 1000.0) is NonceState.INVALID
    assert Nonces(SECRET).check(nonce, 1000.0) is NonceState.FRESH


def test_each_nc_is_taken_once_in_any_near_order() -> None:
    nonces = Nonces(SECRET)
    nonce = nonces.issue(1.0)
    assert [nonces.use(nonce, nc, 1.0) for nc in (1, 3, 2, 3, 1, 2, 4)] == [
        True,
        True,
        True,
        False,
        False,
        False,
        True,
    ]
    assert nonces.use(nonce, 1000, 1.0)
    assert not nonces.use(nonce, 5, 1.0)
    assert not nonces.use(nonce, 0, 1.0)


def test_the_table_is_bounded_and_what_it_forgets_is_stale_not_fresh() -> None:
    nonces = Nonces(SECRET, remembered=3)
    issued = [nonces.issue(float(at)) for at in range(1, 6)]
    for at, nonce in enumerate(issued, 1):
        assert nonces.use(nonce, 1, float(at))
    assert [nonces.check(nonce, 6.0) for nonce in issued] == [NonceState.STALE] * 2 + [NonceState.FRESH] * 3


def test_nonces_past_their_lifetime_leave_the_table() -> None:
    nonces = Nonces(SECRET, lifetime_s=60)
    for at in range(1000):
        assert nonces.use(nonces.issue(float(at)), 1, float(at))
    assert len(nonces) <= 62


@given(st.lists(st.integers(1, 200), max_size=80))
def test_no_nc_is_ever_taken_twice(order: list[int]) -> None:
    nonces = Nonces(SECRET)
    nonce = nonces.issue(1.0)
    taken = [nc for nc in order if nonces.use(nonce, nc, 1.0)]
    assert len(taken) == len(set(taken))


@given(st.text(max_size=200))
def test_no_text_raises_anything_else(text: str) -> None:
    for candidate in (
        text,
        f"Digest {text}",
        f'Digest username="a", realm="r", nonce="n", uri="u", response="{text}"',
    ):
        parse_challenge(candidate)
        try:
            authorization = parse_authorization(candidate)
        except BadMessage:
            continue
        assert not verify(authorization, ANA, "REGISTER")
        assert Nonces(SECRET).check(authorization.nonce, 1.0) is NonceState.INVALID


def read(text: str) -> object:
    try:
        return parse_authorization(text)
    except BadMessage as error:
        return error.reason


part = st.tuples(
    st.sampled_from(["username", "realm", "nonce", "uri", "response", "qop", "nc", "cnonce", "x-other"]),
    st.sampled_from(['"{}"', "{}", '"{}', "'{}'", "{}=", '"{}""']),
    st.sampled_from(["", "a", "00000001", "auth", "SHA-256", "sip:h", "é", "a b"]),
)


@given(st.lists(part, max_size=9), st.sampled_from([",", ", "]))
def test_how_it_is_spaced_does_not_change_what_is_read(
    parts: list[tuple[str, str, str]], between: str
) -> None:
    written = ['username="a"', 'realm="r"', 'nonce="n"', 'uri="u"', 'response="r"']
    written = [name + "=" + form.format(value) for name, form, value in parts] + written
    # White space before a comma is read part by part.
    assert read("Digest " + between.join(written)) == read("Digest " + " ,".join(written))


def test_a_secret_is_not_shown() -> None:
    assert ANA.md5 not in repr(ANA)


@pytest.mark.parametrize(
    "text", ["a" * 30_000, " " * 30_000, 'a="' + "\\" * 30_000, "a=1," * 7_000, "a" + " " * 30_000]
)
def test_no_authorization_takes_long_to_read(text: str) -> None:
    start = time.process_time()
    with pytest.raises(BadMessage):
        parse_authorization(f"Digest {text}")
    assert time.process_time() - start < 0.2
