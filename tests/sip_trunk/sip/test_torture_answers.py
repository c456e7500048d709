"""RFC 4475, whole: what a server in memory answers to each message that its parser lets through."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from twisted.internet.task import Clock

from sip_trunk.authentication import Authenticator, Challenge
from sip_trunk.sip.digest import Nonces
from sip_trunk.sip.message import Message, Request, Response
from sip_trunk.sip.parser import parse
from tests.sip_trunk.network import Network, Phone, with_loop
from tests.sip_trunk.sip.torture_messages import RFC4475, titles

SENDER = ("192.0.2.9", 5060)


class Server:
    """A user agent with a network about it; `answers` are what the sender of the messages gets back."""

    def __init__(self) -> None:
        self.network = Network(Clock())
        self.phone = Phone(self.network, "192.0.2.200")
        self.taken: list[Request] = []
        for method in ("REGISTER", "MESSAGE"):
            self.phone.agent.methods[method] = lambda incoming: self.taken.append(incoming.message)

    def receive(self, data: bytes) -> None:
        self.phone.transports.arrived(SENDER, data)
        self.network.clock.advance(0.1)

    @property
    def sent(self) -> list[Message]:
        return [message for _, _, message in self.network.seen]

    @property
    def answers(self) -> list[Response]:
        return [message for message in self.sent if isinstance(message, Response)]

    def close(self) -> None:
        for call in self.phone.incoming:
            call.refuse(486)
        self.phone.transactions.stop()


@pytest.fixture
def server() -> Iterator[Server]:
    loop = with_loop()
    server = Server()
    yield server
    server.close()
    loop.close()


ANSWERS: dict[str, int] = {
    # Well-formed requests of methods we do not know.
    "intmeth": 405,
    "esc02": 405,
    # Questions.
    "lwsdisp": 200,
    "semiuri": 200,
    "transports": 200,
    "badbranch": 200,
    # s3.3.11: only who would send it on has to refuse it.
    "zeromf": 200,
    # Its To has a tag, so it belongs to a dialog that is not here (RFC 3261 s12.2.2).
    "wsinv": 481,
    "unkscm": 416,
    "novelsc": 416,
    "bext01": 420,
    "invut": 415,
}


@pytest.mark.parametrize("name", ANSWERS, ids=titles(ANSWERS))
def test_the_answer_is_what_the_rfc_asks_for(server: Server, name: str) -> None:
    server.receive(RFC4475[name])
    assert [answer.status for answer in server.answers] == [ANSWERS[name]]
    (answer,) = server.answers
    request = parse(RFC4475[name])
    assert (answer.call_id, answer.cseq) == (request.call_id, request.cseq)
    assert [via.branch for via in answer.vias] == [via.branch for via in request.vias]
    assert answer.to.tag
    assert not server.phone.incoming


def test_bext01_s3_3_5_the_answer_lists_what_is_not_supported(server: Server) -> None:
    server.receive(RFC4475["bext01"])
    # Proxy-Require is for proxies alone.
    assert server.answers[0].headers.all("Unsupported") == [
        "nothingSupportsThis",
        "nothingSupportsThisEither",
    ]


def test_invut_s3_3_6_the_answer_says_what_would_be_understood(server: Server) -> None:
    server.receive(RFC4475["invut"])
    assert "application/sdp" in server.answers[0].headers.all("Accept")


CALLS = ["esc01", "longreq", "baddate", "inv2543"]


@pytest.mark.parametrize("name", CALLS, ids=titles(CALLS))
def test_a_sound_invite_becomes_a_call(server: Server, name: str) -> None:
    server.receive(RFC4475[name])
    assert len(server.phone.incoming) == 1
    server.phone.incoming[0].refuse(486)
    assert server.answers[-1].status == 486
    assert server.answers[-1].call_id == parse(RFC4475[name]).call_id


TAKEN = ["escnull", "dblreq", "mpart01", "unksm2", "regaut01", "cparam01", "cparam02", "regescrt"]


@pytest.mark.parametrize("name", TAKEN, ids=titles(TAKEN))
def test_a_sound_request_is_handed_to_who_takes_it(server: Server, name: str) -> None:
    server.receive(RFC4475[name])
    assert [request.call_id for request in server.taken] == [parse(RFC4475[name]).call_id]
    assert not server.phone.incoming  # the INVITE that follows in dblreq's datagram is dropped


IGNORED = ["unreason", "noreason", "bcast"]


@pytest.mark.parametrize("name", IGNORED, ids=titles(IGNORED))
def test_an_answer_nobody_waits_for_is_dropped(server: Server, name: str) -> None:
    # s3.3.10: nothing may be sent to where bcast's second Via points.
    server.receive(RFC4475[name])
    assert server.sent == []


def test_regaut01_s3_3_7_an_unknown_scheme_is_met_with_a_challenge() -> None:
    authenticator = Authenticator(
        "warmline", Nonces(b"0123456789abcdef", 300.0), lambda name: None, lambda: 0.0
    )
    request = parse(RFC4475["regaut01"])
    assert isinstance(request, Request)
    challenge = authenticator.check(request)
    assert isinstance(challenge, Challenge)
    assert (challenge.status, challenge.headers[0][0]) == (401, "WWW-Authenticate")


def test_badbranch_s3_2_1_is_told_from_another_request_with_no_more_of_a_branch(server: Server) -> None:
    server.receive(RFC4475["badbranch"])
    server.receive(RFC4475["badbranch"].replace(b"Call-ID: badbranch.", b"Call-ID: another."))
    assert [answer.call_id.partition(".")[0] for answer in server.answers] == ["badbranch", "another"]
    server.receive(RFC4475["badbranch"])  # a retransmission all the same
    assert server.answers[2] == server.answers[0]


def test_sdp01_s3_3_15_an_offer_that_may_not_be_answered_is_refused(server: Server) -> None:
    # The RFC: 406, or 400 since every INVITE must accept an answer in SDP.
    server.receive(RFC4475["sdp01"])
    assert [answer.status for answer in server.answers] == [406]
    assert not server.phone.incoming
