from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock

from config.trunk_settings import TrunkSettings
from sip_trunk.locate import Hop
from sip_trunk.qualify import TrunkProbe
from sip_trunk.sip.message import Request
from sip_trunk.trunk import TrunkTable, called_number
from sip_trunk.trunk_registration import (
    BASE_S,
    LEAST_REFRESH_S,
    MOST_S,
    MOVES,
    Event,
    State,
    TrunkRegistration,
)
from sip_trunk.user_agent import IncomingRequest
from tests.sip_trunk.network import MemoryFlow, Network, Phone, pass_time

CHALLENGE = 'Digest realm="carrier", nonce="n1", algorithm=MD5, qop="auth"'
Answer = Callable[[IncomingRequest], None]


def grants(seconds: int | None = 600, *headers: tuple[str, str]) -> Answer:
    def respond(request: IncomingRequest) -> None:
        contact = request.message.headers.get("Contact")
        expires = f";expires={seconds}" if seconds is not None else ""
        request.respond(200, headers=[("Contact", f"{contact}{expires}"), *headers])

    return respond


def refuses(status: int, *headers: tuple[str, str]) -> Answer:
    return lambda request: request.respond(status, headers=headers)


def silent(request: IncomingRequest) -> None:
    return


class Carrier:
    """A trunk that wants a REGISTER, and the registrar it has; `answers` are given in turn, the last one for ever."""

    def __init__(self, *answers: Answer, transport: str = "UDP", **more: Any) -> None:
        self.clock = Clock()
        self.network = Network(self.clock)
        self.us = Phone(self.network, "10.0.0.1", transport=transport)
        self.registrar = Phone(self.network, "10.0.0.2", transport=transport)
        self.answers = list(answers)
        self.asked_at: list[float] = []
        self.registrar.agent.methods["REGISTER"] = self._asked
        trunk = {
            "via": f"10.0.0.2;transport={transport.lower()}",
            "username": "us", "password": "secret", "register": True, "dial": ("+49",), **more,
        }  # fmt: skip
        self.table = TrunkTable([TrunkSettings("carrier", (), **trunk)])
        self.trunk = self.table.trunks["carrier"]
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.it = TrunkRegistration(
            self.trunk, self.us.agent, lambda kind, trunk, facts: self.told.append((kind, facts)), lambda: 1.0
        )

    def _asked(self, request: IncomingRequest) -> None:
        self.asked_at.append(self.clock.seconds())
        respond = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        respond(request)

    def wait(self, seconds: float, step: float = 0.5) -> None:
        pass_time(self.clock, seconds, step)

    @property
    def sent(self) -> list[Request]:
        """Each REGISTER once, however often it was sent."""
        return list({request.cseq.number: request for request in self.network.requests("REGISTER")}.values())

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.told]

    @property
    def timers(self) -> int:
        """The registration's own, once no transaction is under way."""
        return len(self.us.agent.transactions.timers)


def test_a_register_says_what_it_must_and_the_trunk_is_up_once_it_is_granted() -> None:
    it = Carrier(grants(), register_as="sip:+4930123@10.0.0.2")
    assert not it.trunk.up
    it.it.start()
    it.wait(1)
    (request,) = it.sent
    assert (request.uri_text, request.headers.get("To")) == ("sip:10.0.0.2", "<sip:+4930123@10.0.0.2>")
    assert request.from_.uri == request.to.uri
    assert it.trunk.account is not None
    assert f"sip:{it.trunk.account.user}@10.0.0.1" in (request.headers.get("Contact") or "")
    assert request.headers.get("Expires") == "600"
    assert (it.it.state, it.trunk.up) == (State.REGISTERED, True)
    assert it.told == [("registered", {"address": "sip:+4930123@10.0.0.2", "expires_s": 600})]
    assert it.table.for_number("+4930999") is it.trunk


@pytest.mark.parametrize(("status", "asks"), [(401, "WWW-Authenticate"), (407, "Proxy-Authenticate")])
def test_a_challenge_is_answered(status: int, asks: str) -> None:
    it = Carrier(refuses(status, (asks, CHALLENGE)), grants())
    it.it.start()
    it.wait(1)
    assert it.it.state is State.REGISTERED
    name = {401: "Authorization", 407: "Proxy-Authorization"}[status]
    given_ = it.sent[1].headers.get(name) or ""
    assert 'username="us"' in given_
    assert 'uri="sip:10.0.0.2"' in given_
    it.wait(301)
    numbers = {r.headers.get("Via"): r.cseq.number for r in it.network.requests("REGISTER")}
    assert list(numbers.values()) == [1, 2, 3], "each transaction's is higher than the last one's"


@pytest.mark.parametrize(("granted", "again"), [(600, 300), (1200, 600), (3600, 3240), (4, 10)])
def test_it_is_refreshed_in_time_with_the_same_call_id_and_a_higher_cseq(granted: int, again: int) -> None:
    it = Carrier(grants(granted))
    it.it.start()
    it.wait(again - 2)
    assert len(it.sent) == 1
    it.wait(4)
    first, second = it.sent
    assert first.call_id == second.call_id
    assert second.cseq.number > first.cseq.number
    assert first.headers.get("Contact") == second.headers.get("Contact")
    assert it.kinds == ["registered"], "a refresh is no news"


def test_what_our_contact_says_counts_before_expires_and_what_was_asked_for_without_either() -> None:
    for answered, again in (
        (lambda r: r.respond(200, headers=[("Expires", "100")]), 50),
        (lambda r: r.respond(200), 300),
        (grants(200, ("Expires", "9999")), 100),
    ):
        it = Carrier(answered)
        it.it.start()
        it.wait(again - 2)
        assert len(it.sent) == 1
        it.wait(4)
        assert len(it.sent) == 2


def test_a_longer_one_is_asked_for_where_the_registrar_wants_it() -> None:
    it = Carrier(refuses(423, ("Min-Expires", "3600")), grants(3600))
    it.it.start()
    it.wait(1)
    assert [request.headers.get("Expires") for request in it.sent] == ["600", "3600"]
    assert it.it.state is State.REGISTERED


@pytest.mark.parametrize("least", ["600", "4294967295", "soon", ""])
def test_a_423_that_makes_no_sense_is_a_refusal(least: str) -> None:
    it = Carrier(refuses(423, ("Min-Expires", least)))
    it.it.start()
    it.wait(60)
    assert (len(it.sent), it.it.state) == (1, State.REFUSED)


def test_failures_back_off_from_30_seconds_to_half_an_hour() -> None:
    it = Carrier(refuses(500))
    it.it.start()
    it.wait(10_000, 1)
    gaps = [round(b - a) for a, b in zip(it.asked_at, it.asked_at[1:], strict=False)]
    assert gaps[:7] == pytest.approx([30, 60, 120, 240, 480, 960, 1800], abs=2)
    assert gaps[7:] == pytest.approx([1800] * len(gaps[7:]), abs=2)
    assert set(it.kinds) == {"registration_failed"}
    assert it.told[0][1] == {"status": 500, "reason": "Server Internal Error", "again_s": 30}


@pytest.mark.parametrize(
    "answered", [grants(0), lambda request: request.respond(200, headers=[("Expires", "0")])]
)
def test_a_registrar_that_keeps_nothing_is_a_failure(answered: Answer) -> None:
    it = Carrier(answered)
    it.it.start()
    it.wait(1)
    assert (it.it.state, it.trunk.up, it.kinds) == (State.WAITING, False, ["registration_failed"])


def test_retry_after_is_waited_for() -> None:
    it = Carrier(refuses(503, ("Retry-After", "500 (maintenance)")), grants())
    it.it.start()
    it.wait(495)
    assert len(it.sent) == 1
    it.wait(10)
    assert it.trunk.up


@pytest.mark.parametrize("status", [403, 404, 603])
def test_a_refusal_is_told_and_asked_about_again_only_after_long(status: int) -> None:
    it = Carrier(refuses(status), grants())
    it.it.start()
    it.wait(MOST_S - 10, 1)
    assert (it.it.state, it.trunk.up, len(it.sent)) == (State.REFUSED, False, 1)
    assert it.told[0][0] == "registration_failed"
    assert (it.told[0][1]["status"], it.told[0][1]["again_s"]) == (status, MOST_S)
    it.wait(20)
    assert it.kinds == ["registration_failed", "registered"]


def test_a_wrong_password_is_a_refusal_and_is_not_tried_again_at_once() -> None:
    it = Carrier(refuses(401, ("WWW-Authenticate", CHALLENGE)))
    it.it.start()
    it.wait(600, 1)
    assert (len(it.sent), it.it.state) == (2, State.REFUSED)


def test_a_registrar_that_says_nothing_is_asked_again() -> None:
    it = Carrier(silent, grants())
    it.it.start()
    it.wait(33)
    assert (it.it.state, it.told[0][1]["status"]) == (State.WAITING, 408)
    it.answers = [grants()]
    it.wait(BASE_S + 1)
    assert it.trunk.up


def test_a_refresh_that_fails_takes_the_trunk_down_until_it_succeeds() -> None:
    it = Carrier(grants(), refuses(503), grants())
    it.it.start()
    it.wait(301)
    assert (it.trunk.up, it.it.state) == (False, State.WAITING)
    it.wait(31)
    assert it.trunk.up
    assert it.kinds == ["registered", "registration_failed", "registered"]


def test_a_connection_that_ends_is_soon_opened_again_but_not_over_and_over() -> None:
    it = Carrier(grants(), transport="TCP")
    it.it.start()
    it.wait(150)
    flow = it.trunk.flow
    assert isinstance(flow, MemoryFlow)
    flow.close()
    assert (it.trunk.up, it.trunk.flow) == (False, None)
    it.wait(3)
    assert it.trunk.up
    assert it.trunk.flow is not flow
    it.trunk.flow.close()
    it.wait(28)
    assert not it.trunk.up
    it.wait(3)
    assert it.trunk.up


def test_a_trunk_that_answers_no_options_is_registered_with_again() -> None:
    it = Carrier(grants())
    it.it.start()
    it.wait(1)
    it.trunk.answers = False
    it.it.lost()
    assert not it.trunk.up
    it.wait(31)
    assert it.trunk.up


async def test_a_carrier_that_never_answers_options_is_no_less_there_for_it() -> None:
    it = Carrier(grants(), options_s=10.0)
    it.registrar.agent.methods["OPTIONS"] = silent
    lost: list[str] = []
    probe = TrunkProbe(
        it.table, it.us.agent, it.clock, domain="example.com", on_change=lambda trunk: lost.append(trunk.name)
    )
    probe.start()
    it.it.start()
    for answering in (False, True):
        if answering:
            it.registrar.agent.methods["OPTIONS"] = it.registrar.agent.answer_options
        for _ in range(120):
            it.wait(1)
            await asyncio.sleep(0)
        assert (it.trunk.up, lost) == (True, [])
    it.registrar.agent.methods["OPTIONS"] = silent
    for _ in range(60):
        it.wait(1)
        await asyncio.sleep(0)
    assert (it.trunk.up, lost) == (False, ["carrier"]), "one that has answered is missed"
    probe.stop()


def test_the_service_route_is_used_for_calls_out_and_a_new_answer_takes_its_place() -> None:
    first, second = (
        ("Service-Route", "<sip:p1.carrier;lr>, <sip:p2.carrier;lr>"),
        ("Service-Route", "<sip:p3;lr>"),
    )
    it = Carrier(grants(600, first), grants(600, second), grants())
    it.it.start()
    it.wait(1)
    assert it.trunk.target("+4930999").route == ("<sip:p1.carrier;lr>", "<sip:p2.carrier;lr>")
    it.wait(301)
    assert it.trunk.target("+4930999").route == ("<sip:p3;lr>",)
    it.wait(301)
    assert it.trunk.target("+4930999").route == ()


def test_calls_out_are_for_the_domain_of_the_account_by_way_of_the_proxy() -> None:
    it = Carrier(grants(), transport="TCP", register_as="sip:+4930123@carrier.example")
    it.it.start()
    it.wait(1)
    target = it.trunk.target("+4930999")
    assert str(target.uri) == "sip:+4930999@carrier.example;user=phone"
    assert target.route == ("<sip:10.0.0.2;transport=tcp;lr>",)
    assert target.flow is it.trunk.flow


def test_only_what_comes_by_the_way_we_registered_is_the_trunks() -> None:
    it = Carrier(grants(), transport="TCP")
    it.it.start()
    it.wait(1)
    flow = it.trunk.flow
    assert flow is not None
    assert it.table.by_peer(flow) is it.trunk
    other = MemoryFlow(it.us.transports, "TCP", ("10.0.0.2", 5060))
    assert it.table.by_peer(other) is None  # type: ignore[arg-type]
    assert it.trunk.account is not None
    invite = Request(
        "INVITE", f"sip:{it.trunk.account.user}@10.0.0.1",
        [("To", "<sip:+4930123@carrier>"), ("From", "<sip:x@y>;tag=1"), ("CSeq", "1 INVITE"), ("Call-ID", "c")],
    )  # fmt: skip
    assert it.table.of(invite, flow) is it.trunk
    assert it.table.of(invite, other) is None, "the Contact alone proves nothing"  # type: ignore[arg-type]
    assert called_number(invite, it.trunk) == "+4930123"


def test_by_udp_it_is_the_address_and_port_we_registered_at() -> None:
    it = Carrier(grants())
    it.it.start()
    it.wait(1)
    assert it.table.by_peer(("10.0.0.2", 5060)) is it.trunk
    assert it.table.by_peer(("10.0.0.2", 5061)) is None
    assert it.table.by_peer(("10.0.0.3", 5060)) is None


async def test_a_registrar_whose_first_hop_is_down_is_found_at_the_next() -> None:
    it = Carrier(grants(), via="carrier.example")

    async def hops(uri: object) -> list[Hop]:
        return [Hop("UDP", "10.0.0.9", 5060), Hop("UDP", "10.0.0.2", 5060)]

    async def first_of(left: list[Hop]) -> MemoryFlow:
        hop = left.pop(0)
        return it.us.transports.flow_to_address(hop.transport, hop.host, hop.port)

    it.us.transports.hops = hops  # type: ignore[method-assign]
    it.us.transports.first_of = first_of  # type: ignore[attr-defined]
    it.it.start()
    for _ in range(24):
        it.wait(0.5)
        await asyncio.sleep(0)
    assert it.trunk.up
    assert it.trunk.flow is not None
    assert it.trunk.flow.peer == ("10.0.0.2", 5060)
    assert it.table.by_peer(("10.0.0.9", 5060)) is None
    target = it.trunk.target("+4930999")
    assert target.flow is it.trunk.flow, "calls out take the hop we registered by"


def test_before_it_is_registered_and_after_a_refusal_nobody_is_the_trunk() -> None:
    it = Carrier(grants(), refuses(403))
    assert it.table.by_peer(("10.0.0.2", 5060)) is None
    it.it.start()
    it.wait(301)
    assert it.it.state is State.REFUSED
    assert it.table.by_peer(("10.0.0.2", 5060)) is None


def test_it_is_taken_back_at_the_end() -> None:
    it = Carrier(grants())
    it.it.start()
    it.wait(1)
    left: list[bool] = []
    it.it.on_left = lambda: left.append(True)
    it.it.stop()
    assert left == []
    it.wait(1)
    assert it.sent[-1].headers.get("Expires") == "0"
    assert (left, it.it.state, it.trunk.up) == ([True], State.UNREGISTERED, False)
    it.wait(1000, 1)
    assert len(it.sent) == 2
    assert it.timers == 0


def test_the_end_waits_for_the_answer_that_is_under_way_and_for_nobody_for_long() -> None:
    late: list[IncomingRequest] = []
    it = Carrier(late.append, grants())
    it.it.start()
    it.wait(0.5)
    it.it.stop()
    grants()(late[0])
    it.wait(0.5)
    assert it.sent[-1].headers.get("Expires") == "0"
    assert it.it.state is State.UNREGISTERED

    deaf = Carrier(silent)
    deaf.it.start()
    deaf.wait(0.5)
    deaf.it.stop()
    deaf.wait(2.5)
    assert deaf.it.state is State.UNREGISTERED


def test_every_state_has_an_end_when_the_server_stops() -> None:
    for state in State:
        after = state
        for event in (Event.STOP, Event.GRANTED, Event.DUE):
            after = MOVES.get((after, event), after)
        assert after is State.UNREGISTERED


ANSWERS = st.one_of(
    st.builds(grants, st.sampled_from([None, 0, 1, 30, 60, 600, 3600, 2**32])),
    st.builds(refuses, st.sampled_from([300, 302, 400, 403, 404, 408, 480, 486, 500, 503, 603])),
    st.builds(lambda s: refuses(423, ("Min-Expires", s)), st.sampled_from(["0", "900", "3600", "x"])),
    st.builds(lambda s: refuses(503, ("Retry-After", s)), st.sampled_from(["0", "20", "4000", "?"])),
    st.just(refuses(401, ("WWW-Authenticate", CHALLENGE))),
    st.just(silent),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(ANSWERS, min_size=1, max_size=6))
def test_whatever_is_answered_it_tries_again_never_faster_than_it_should_and_has_one_timer(
    answers: list[Answer],
) -> None:
    it = Carrier(*answers, grants())
    it.it.start()
    bound = 0
    while it.it.state is not State.REGISTERED or len(it.answers) > 1:
        it.wait(50, 2)
        bound += 1
        assert bound < 400, "it is registered in the end"
        if it.it._exchange is None:
            assert it.it._deadline is not None
            assert it.it._deadline.pending
    # Challenges and two 423 may follow one another at once; nothing else may.
    for earlier, later in zip(it.asked_at, it.asked_at[6:], strict=False):
        assert later - earlier >= LEAST_REFRESH_S - 1
