from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from sip_trunk import transactions
from sip_trunk.sip.message import Request, Response
from sip_trunk.transactions import ServerTransaction, TransactionLayer
from tests.sip_trunk.network import MemoryFlow, MemoryTransports, Network, pass_time

PEER = ("10.0.0.9", 5060)


class Layer:
    def __init__(self, transport: str = "UDP") -> None:
        self.clock = Clock()
        self.network = Network(self.clock)
        self.transports = MemoryTransports(self.network, ("10.0.0.1", 5060), transport)
        self.layer = TransactionLayer(self.transports, self.clock)  # type: ignore[arg-type]
        self.requests: list[ServerTransaction] = []
        self.acks: list[Request] = []
        self.responses: list[Response] = []
        self.failures: list[str] = []
        self.layer.on_request = lambda transaction, request: self.requests.append(transaction)
        self.layer.on_ack = lambda request, flow: self.acks.append(request)

    def flow(self) -> MemoryFlow:
        return self.transports.flow_to_address(self.transports.transport, *PEER)

    def come(self, message: Request | Response, sender: tuple[str, int] = PEER) -> None:
        self.transports.arrived(sender, message.to_bytes())

    def send(self, method: str) -> Request:
        request = Request(
            method,
            "sip:x@10.0.0.9",
            [
                ("Max-Forwards", "70"),
                ("From", "<sip:a@x>;tag=1"),
                ("To", "<sip:x@10.0.0.9>"),
                ("Call-ID", "c"),
                ("CSeq", f"5 {method}"),
            ],
        )
        self.transaction = self.layer.send_request(
            request,
            self.flow(),  # type: ignore[arg-type]
            self.responses.append,
            self.failures.append,
        )
        return request

    def sent(self) -> list[str]:
        return self.network.methods()

    def wait(self, seconds: float) -> None:
        pass_time(self.clock, seconds)


@pytest.fixture
def layer() -> Layer:
    return Layer()


def their(
    method: str, branch: str = "z9hG4bKx", *extra: tuple[str, str], tag: str = "", via: str = ""
) -> Request:
    return Request(
        method,
        "sip:me@10.0.0.1",
        [
            ("Via", via or f"SIP/2.0/UDP 10.0.0.9:5060;branch={branch};rport"),
            ("Max-Forwards", "70"),
            ("From", "<sip:t@x>;tag=t1"),
            ("To", "<sip:me@10.0.0.1>" + (f";tag={tag}" if tag else "")),
            ("Call-ID", "their-call"),
            ("CSeq", f"1 {method}"),
            *extra,
        ],
    )


def test_a_repeated_request_gets_the_same_answer_and_is_passed_up_once(layer: Layer) -> None:
    layer.come(their("OPTIONS"))
    layer.requests[0].respond(layer.requests[0].request.response(200, to_tag="x"))
    layer.come(their("OPTIONS"))
    assert len(layer.requests) == 1
    assert layer.sent() == ["200", "200"]
    assert layer.network.seen[0][2] == layer.network.seen[1][2]


def test_the_same_branch_from_another_host_is_another_transaction(layer: Layer) -> None:
    layer.come(their("OPTIONS"))
    other = their("OPTIONS", via="SIP/2.0/UDP 10.0.0.8:5060;branch=z9hG4bKx;rport")
    other.headers.set("Call-ID", "other")
    layer.come(other)
    assert len(layer.requests) == 2


def test_an_invite_left_unanswered_gets_a_100_and_an_ack_ends_a_refusal(layer: Layer) -> None:
    layer.come(their("INVITE"))
    assert layer.sent() == ["100"]
    invite = layer.requests[0]
    invite.respond(invite.request.response(486, to_tag=invite.to_tag))
    layer.wait(2)
    assert layer.sent() == ["100", "486", "486", "486"]
    layer.come(their("ACK", tag=invite.to_tag))
    assert layer.acks == []
    layer.wait(40)
    assert layer.sent() == ["100", "486", "486", "486"]
    assert len(layer.layer) == 0


def refuse_all(layer: Layer, status: int = 403) -> None:
    layer.layer.on_request = lambda transaction, request: transaction.respond(
        request.response(status, to_tag=transaction.to_tag)
    )


@pytest.mark.parametrize("method", ["INVITE", "REGISTER"])
def test_a_refusal_at_once_is_said_again_when_asked_again_but_not_by_itself(
    layer: Layer, method: str
) -> None:
    refuse_all(layer)
    layer.come(their(method))
    layer.wait(1)
    layer.come(their(method))
    layer.come(their("ACK", tag="z"))
    layer.wait(40)
    assert layer.sent() == ["403", "403"]
    assert layer.network.seen[0][2] == layer.network.seen[1][2]
    assert (layer.acks == []) == (method == "INVITE")
    assert len(layer.layer) == 0
    assert not layer.clock.getDelayedCalls()


@pytest.mark.parametrize("method", ["INVITE", "REGISTER"])
def test_a_challenge_keeps_nothing_and_its_tag_is_the_same_when_asked_again(
    layer: Layer, method: str
) -> None:
    refuse_all(layer, 401)
    layer.come(their(method))
    assert len(layer.layer) == 0
    layer.wait(0.1)
    assert not layer.clock.getDelayedCalls()
    layer.come(their(method))
    first, second = layer.network.responses(401)
    assert first.to.tag == second.to.tag is not None


def test_another_request_gets_another_tag(layer: Layer) -> None:
    layer.come(their("OPTIONS"))
    other = their("OPTIONS", "z9hG4bKother")
    other.headers.set("Call-ID", "other")
    layer.come(other)
    assert layer.requests[0].to_tag != layer.requests[1].to_tag


def test_an_answer_given_at_once_is_all_that_is_kept_and_it_is_given_up_after_64_t1(layer: Layer) -> None:
    taken: list[Request] = []

    def answer(transaction: ServerTransaction, request: Request) -> None:
        taken.append(request)
        transaction.respond(request.response(200, to_tag=transaction.to_tag))

    layer.layer.on_request = answer
    layer.come(their("MESSAGE"))
    assert len(layer.layer) == 1
    layer.wait(31)
    layer.come(their("MESSAGE"))
    layer.come(their("MESSAGE", "z9hG4bKother"))
    assert layer.sent() == ["200", "200", "482"]
    layer.wait(3)
    assert len(layer.layer) == 0
    assert not layer.clock.getDelayedCalls()
    layer.come(their("MESSAGE"))
    assert len(taken) == 2


def test_of_what_was_answered_at_once_only_so_much_is_kept(
    layer: Layer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "MOST_ANSWERED", 10)
    layer = Layer()
    refuse_all(layer, 200)
    for number in range(50):
        request = their("OPTIONS", branch=f"z9hG4bK{number}")
        request.headers.set("Call-ID", str(number))
        layer.come(request)
    assert len(layer.layer) == 10
    layer.come(their("OPTIONS", branch="z9hG4bKnew"))
    assert layer.sent() == ["200"] * 51


def test_a_cancel_that_crosses_a_refusal_changes_nothing(layer: Layer) -> None:
    refuse_all(layer)
    layer.come(their("INVITE"))
    layer.come(their("CANCEL"))
    layer.come(their("INVITE"))
    assert layer.sent() == ["403", "200", "403"]


def test_over_a_connection_nothing_is_kept_of_what_was_answered_at_once() -> None:
    layer = Layer("TCP")
    refuse_all(layer, 200)
    layer.come(their("OPTIONS", via="SIP/2.0/TCP 10.0.0.9:5060;branch=z9hG4bKx"))
    assert layer.sent() == ["200"]
    assert len(layer.layer) == 0
    assert not layer.flow().on_closed


def test_of_what_was_refused_at_once_only_so_much_is_kept(
    layer: Layer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "MOST_REFUSED", 10)
    layer = Layer()
    refuse_all(layer)
    for number in range(50):
        request = their("OPTIONS", branch=f"z9hG4bK{number}")
        request.headers.set("Call-ID", str(number))
        layer.come(request)
    assert len(layer.layer) == 10
    layer.wait(40)
    assert len(layer.layer) == 0


def test_an_ack_for_a_2xx_goes_up(layer: Layer) -> None:
    layer.come(their("INVITE"))
    invite = layer.requests[0]
    invite.respond(invite.request.response(200, to_tag="u"))
    layer.come(their("ACK", "z9hG4bKother", tag="u"))
    layer.come(their("ACK", tag="u"))  # a peer that keeps the INVITE's branch
    assert len(layer.acks) == 2
    layer.come(their("INVITE"))
    assert layer.sent() == ["100", "200"]
    invite.repeat()
    assert layer.sent() == ["100", "200", "200"]


def test_a_request_that_came_by_two_paths_is_refused_482(layer: Layer) -> None:
    layer.come(their("INVITE"))
    layer.come(their("INVITE", "z9hG4bKother"))
    assert layer.sent() == ["100", "482"]
    assert len(layer.requests) == 1
    assert len(layer.layer) == 1


def test_a_cancel_is_answered_and_told_to_the_invite(layer: Layer) -> None:
    layer.come(their("INVITE"))
    told: list[Request] = []
    layer.requests[0].on_cancel = told.append
    layer.come(their("CANCEL"))
    layer.come(their("CANCEL"))
    assert layer.sent() == ["100", "200", "200"]
    assert len(told) == 1


def test_a_cancel_after_the_answer_changes_nothing(layer: Layer) -> None:
    layer.come(their("INVITE"))
    invite = layer.requests[0]
    told: list[Request] = []
    invite.on_cancel = told.append
    invite.respond(invite.request.response(200, to_tag="u"))
    layer.come(their("CANCEL"))
    assert layer.sent() == ["100", "200", "200"]
    assert told == []


def test_a_cancel_for_nothing_is_481_and_keeps_nothing(layer: Layer) -> None:
    layer.come(their("CANCEL"))
    layer.come(their("CANCEL"))
    assert layer.sent() == ["481", "481"]
    assert layer.network.seen[0][2] == layer.network.seen[1][2]
    assert len(layer.layer) == 0


def test_the_screen_is_asked_before_anything_is_kept(layer: Layer) -> None:
    layer.layer.screen = lambda request, flow: (503, "Later")
    layer.come(their("INVITE"))
    assert layer.sent() == ["503"]
    assert len(layer.layer) == 0
    layer.come(their("ACK", tag="whatever"))
    assert layer.sent() == ["503"]


def test_a_branch_from_before_rfc_3261_is_matched_by_the_whole(layer: Layer) -> None:
    via = "SIP/2.0/UDP 10.0.0.9:5060;branch=1"
    layer.come(their("INVITE", via=via))
    layer.come(their("INVITE", via=via))
    assert len(layer.requests) == 1
    invite = layer.requests[0]
    invite.respond(invite.request.response(486, to_tag="u"))
    layer.come(their("ACK", via=via, tag="u"))
    layer.wait(3)
    assert layer.sent() == ["100", "100", "486"]


def test_without_rport_the_answer_goes_to_the_port_in_the_via(layer: Layer) -> None:
    layer.come(their("OPTIONS", via="SIP/2.0/UDP 10.0.0.9:5080;branch=z9hG4bKq"), sender=("10.0.0.9", 41000))
    layer.requests[0].respond(layer.requests[0].request.response(200, to_tag="x"))
    assert layer.network.seen[0][1] == ("10.0.0.9", 5080)


def test_a_slow_owner_gets_its_peer_a_100_and_after_64_t1_nothing(layer: Layer) -> None:
    layer.come(their("MESSAGE"))
    layer.wait(3)
    assert layer.sent() == []
    layer.wait(1)
    assert layer.sent() == ["100"]
    layer.wait(30)
    layer.requests[0].respond(layer.requests[0].request.response(200, to_tag="x"))
    assert layer.sent() == ["100"]
    assert len(layer.layer) == 0


def test_an_owner_that_fails_answers_500(layer: Layer) -> None:
    def fail(transaction: ServerTransaction, request: Request) -> None:
        raise RuntimeError

    layer.layer.on_request = fail
    layer.come(their("OPTIONS"))
    assert layer.sent() == ["500"]


def test_responses_find_their_request_and_strays_are_dropped(layer: Layer) -> None:
    request = layer.send("OPTIONS")
    answer = request.response(200, to_tag="x")
    wrong_branch = answer.copy()
    wrong_branch.headers.set("Via", "SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bKwrong")
    wrong_sender = answer.copy()
    wrong_sender.headers.set("Via", (answer.headers.get("Via") or "").replace("10.0.0.1", "10.0.0.2"))
    two_vias = answer.copy()
    two_vias.headers.add("Via", "SIP/2.0/UDP 10.0.0.3;branch=z9hG4bKy")
    joined_vias = answer.copy()
    joined_vias.headers.set("Via", f"{answer.headers.get('Via')}, SIP/2.0/UDP 10.0.0.3;branch=z9hG4bKy")
    other_method = answer.copy()
    other_method.headers.set("CSeq", "5 INFO")
    for stray in (wrong_branch, wrong_sender, two_vias, joined_vias, other_method):
        layer.come(stray)
    assert layer.responses == []
    layer.come(answer)
    layer.come(answer)
    assert [response.status for response in layer.responses] == [200]
    layer.wait(6)
    assert len(layer.layer) == 0


def test_our_own_name_is_ours_however_a_proxy_writes_it(layer: Layer) -> None:
    layer.transports.address = ("PBX.Example.com", 5060)
    answer = layer.send("OPTIONS").response(200, to_tag="x")
    answer.headers.set("Via", (answer.headers.get("Via") or "").replace("PBX.Example.com", "pbx.example.com"))
    layer.come(answer)
    assert [response.status for response in layer.responses] == [200]


def test_every_2xx_to_an_invite_goes_up_and_a_refusal_is_acknowledged_here(layer: Layer) -> None:
    request = layer.send("INVITE")
    layer.come(request.response(200, to_tag="x"))
    layer.come(request.response(200, to_tag="x"))
    assert len(layer.responses) == 2
    assert layer.sent() == ["INVITE"]
    request = layer.send("INVITE")
    layer.come(request.response(486, to_tag="x"))
    layer.come(request.response(486, to_tag="x"))
    assert len(layer.responses) == 3
    acks = layer.network.requests("ACK")
    assert len(acks) == 2
    assert acks[0].headers.get("Via") == request.headers.get("Via")
    assert acks[0].to.tag == "x"
    assert str(acks[0].cseq) == "5 ACK"


def test_a_cancel_waits_for_a_provisional_and_goes_once(layer: Layer) -> None:
    request = layer.send("INVITE")
    layer.transaction.cancel([("Reason", "SIP;cause=200")])
    layer.wait(1)
    assert "CANCEL" not in layer.sent()
    layer.come(request.response(180, to_tag="x"))
    layer.come(request.response(180, to_tag="x"))
    layer.transaction.cancel()
    (cancel,) = layer.network.requests("CANCEL")
    assert cancel.headers.get("Via") == request.headers.get("Via")
    assert cancel.to.tag is None
    assert cancel.headers.get("Reason") == "SIP;cause=200"
    layer.wait(200)
    assert len(layer.layer) == 0


def test_a_request_on_a_dead_flow_fails_at_once(layer: Layer) -> None:
    layer.flow().alive = False
    flow = MemoryFlow(layer.transports, "UDP", PEER)
    flow.alive = False
    request = Request(
        "OPTIONS",
        "sip:x",
        [("From", "<sip:a@b>;tag=1"), ("To", "<sip:b@c>"), ("Call-ID", "1"), ("CSeq", "1 OPTIONS")],
    )
    layer.layer.send_request(request, flow, layer.responses.append, layer.failures.append)  # type: ignore[arg-type]
    assert layer.failures == ["transport"]
    assert len(layer.layer) == 0


def test_a_connection_that_closes_fails_its_requests_at_once() -> None:
    layer = Layer("TCP")
    layer.send("INVITE")
    layer.send("OPTIONS")
    flow = layer.flow()
    flow.close()
    assert layer.failures == ["transport", "transport"]
    assert len(layer.layer) == 0
    assert not flow.on_closed


def test_a_quiet_connection_keeps_nothing_of_ours() -> None:
    layer = Layer("TCP")
    request = layer.send("OPTIONS")
    layer.come(request.response(200, to_tag="x"))
    assert not layer.flow().on_closed
    assert len(layer.layer) == 0


def test_stopping_forgets_everything(layer: Layer) -> None:
    layer.send("INVITE")
    layer.come(their("INVITE"))
    layer.wait(0.1)
    layer.layer.stop()
    assert len(layer.layer) == 0
    assert not layer.clock.getDelayedCalls()


def test_what_brings_no_proof_is_challenged_without_anything_kept(layer: Layer) -> None:
    layer.layer.challenges["REGISTER"] = lambda request, flow: [("WWW-Authenticate", "Digest nonce")]
    layer.come(their("REGISTER"))
    layer.come(their("REGISTER"))
    assert layer.sent() == ["401", "401"]
    assert layer.network.seen[0][2] == layer.network.seen[1][2]
    assert layer.network.seen[0][2].headers.get("WWW-Authenticate") == "Digest nonce"
    assert layer.requests == []
    assert len(layer.layer) == 0


def test_what_brings_a_proof_or_is_not_challenged_is_taken(layer: Layer) -> None:
    asked: list[Request] = []

    def challenge(request: Request, flow: object) -> None:
        asked.append(request)

    layer.layer.challenges.update({"REGISTER": challenge, "MESSAGE": challenge})
    layer.come(their("REGISTER", "z9hG4bK1", ("Authorization", "Digest x")))
    assert asked == []
    layer.come(their("MESSAGE", "z9hG4bK2"))
    layer.come(their("OPTIONS", "z9hG4bK3"))
    assert [request.method for request in asked] == ["MESSAGE"]
    assert len(layer.requests) == 3
