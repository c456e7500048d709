from __future__ import annotations

import re

import pytest

from sip_trunk.authentication import Authenticator, Challenge
from sip_trunk.sip.digest import Credentials, Nonces, answer, choose_challenge
from sip_trunk.sip.message import Request

ANA = Credentials.of("ana", "warmline", "secret")


class Fixture:
    def __init__(self) -> None:
        self.time = 1000.0
        self.asked: list[str] = []
        self.sent = 0
        self.authenticator = Authenticator(
            "warmline", Nonces(b"0123456789abcdef", 300.0), self.credentials_of, lambda: self.time
        )

    def credentials_of(self, name: str) -> Credentials | None:
        self.asked.append(name)
        return ANA if name == "ana" else None

    def request(self, *authorizations: str, agent: str = "phone") -> Request:
        self.sent += 1
        headers = [
            ("Via", f"SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK{self.sent}"),
            ("Call-ID", "c"),
            ("CSeq", f"{self.sent} REGISTER"),
            ("User-Agent", agent),
        ]
        return Request(
            "REGISTER", "sip:h", [*headers, *(("Authorization", value) for value in authorizations)]
        )

    def challenge(self, request: Request | None = None) -> Challenge:
        result = self.authenticator.check(request or self.request())
        assert isinstance(result, Challenge)
        return result

    def proof(
        self, user: str = "ana", password: str = "secret", nc: int = 1, method: str = "REGISTER"
    ) -> str:
        chosen = choose_challenge(value for _, value in self.challenge().headers)
        assert chosen is not None
        return answer(chosen, user, password, method, "sip:h", nc=nc)


def test_a_request_without_proof_is_asked_for_one_in_md5_and_sha_256() -> None:
    challenge = Fixture().challenge()
    assert (challenge.status, challenge.reason, challenge.failed) == (401, "Unauthorized", False)
    assert [name for name, _ in challenge.headers] == ["WWW-Authenticate"] * 2
    assert [re.findall(r"algorithm=([\w-]+)", value) for _, value in challenge.headers] == [
        ["MD5"],
        ["SHA-256"],
    ]


@pytest.mark.parametrize(
    "agent", ["baresip v1.0.0 (x86_64/linux)", "JsSIP 3.13.8", "Warmline portal (JsSIP)"]
)
def test_a_phone_that_gives_up_on_sha_256_is_offered_md5_alone(agent: str) -> None:
    it = Fixture()
    challenge = it.challenge(it.request(agent=agent))
    assert len(challenge.headers) == 1


@pytest.mark.parametrize("index", [0, 1])
def test_a_right_proof_by_either_algorithm_gives_the_name(index: int) -> None:
    it = Fixture()
    chosen = choose_challenge([it.challenge().headers[index][1]])
    assert chosen is not None
    assert it.authenticator.check(it.request(answer(chosen, "ana", "secret", "REGISTER", "sip:h"))) == "ana"


def test_a_wrong_password_and_an_unknown_name_are_refused_alike() -> None:
    it = Fixture()
    wrong, unknown = (it.challenge(it.request(it.proof(user, "guess"))) for user in ("ana", "nobody"))
    assert it.asked == ["ana", "nobody"]
    assert wrong.failed
    assert unknown.failed

    def shape(challenge: Challenge) -> object:
        headers = [(name, re.sub(r'nonce="[^"]*"', "", value)) for name, value in challenge.headers]
        return challenge.status, challenge.reason, headers

    assert shape(wrong) == shape(unknown) == shape(it.challenge())


def test_a_proof_is_good_once_and_its_replay_is_stale() -> None:
    it = Fixture()
    proof = it.proof()
    assert it.authenticator.check(it.request(proof)) == "ana"
    replayed = it.challenge(it.request(proof))
    assert not replayed.failed
    assert all("stale=true" in value for _, value in replayed.headers)


def test_a_nonce_serves_again_with_the_next_nc() -> None:
    it = Fixture()
    chosen = choose_challenge(value for _, value in it.challenge().headers)
    assert chosen is not None
    for nc in (1, 2, 3):
        assert (
            it.authenticator.check(it.request(answer(chosen, "ana", "secret", "REGISTER", "sip:h", nc=nc)))
            == "ana"
        )


def test_a_right_proof_that_comes_too_late_is_stale_and_a_wrong_one_is_not() -> None:
    it = Fixture()
    right, wrong = it.proof(), it.proof(password="guess")
    it.time += 301.0
    assert "stale=true" in it.challenge(it.request(right)).headers[0][1]
    late = it.challenge(it.request(wrong))
    assert late.failed
    assert "stale=true" not in late.headers[0][1]


def test_a_proof_for_another_method_is_wrong() -> None:
    it = Fixture()
    assert it.challenge(it.request(it.proof(method="INVITE"))).failed


def test_proofs_for_other_realms_and_by_other_schemes_are_passed_over() -> None:
    it = Fixture()
    other = 'Digest username="ana", realm="elsewhere", nonce="n", uri="u", response="x"'
    scheme = "NoOneKnowsThisScheme opaque-data=here"
    assert not it.challenge(it.request(other, scheme)).failed
    assert it.authenticator.check(it.request(other, scheme, it.proof())) == "ana"


def test_a_malformed_proof_is_400() -> None:
    it = Fixture()
    assert it.challenge(it.request('Digest username="ana')).status == 400


def test_a_request_that_comes_again_is_asked_the_same_again_and_another_is_not() -> None:
    it = Fixture()
    request = it.request()
    first = it.challenge(request)
    it.time += 1.0
    assert it.challenge(request) == first
    assert it.challenge(it.request()) != first
    it.time += 100.0
    assert it.challenge(request) != first
