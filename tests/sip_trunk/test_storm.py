"""Two phones do anything at any time over a bad network, while somebody throws nonsense into their calls.

Whatever happens, each call has one end, nothing comes after it, nothing is logged as a failure and nothing stays.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.logger import globalLogPublisher

from sip_trunk.call import Call
from sip_trunk.call_events import CallEvent
from sip_trunk.incoming_call import IncomingCall
from sip_trunk.refer import Refer
from sip_trunk.sip.errors import BadMessage
from sip_trunk.sip.message import Request, Response
from sip_trunk.user_agent import InDialog, Reoffered, TransferRequested
from tests.sip_trunk.network import ANSWER, OFFER, Address, Pair, Phone, pass_time

METHODS = (
    "INVITE",
    "ACK",
    "BYE",
    "UPDATE",
    "INFO",
    "MESSAGE",
    "PRACK",
    "REFER",
    "SUBSCRIBE",
    "NOTIFY",
    "FOO",
)
REQUEST_HEADERS = [
    ("Session-Expires", "90"),
    ("Session-Expires", "4294967295;refresher=uac"),
    ("Session-Expires", "x"),
    ("Min-SE", "4294967295"),
    ("Require", "100rel"),
    ("Supported", "timer, 100rel"),
    ("RAck", "1 1 INVITE"),
    ("Refer-To", "<sip:a@b>"),
    ("Refer-To", "<tel:+1>"),
    ("Refer-To", "<sip:a@b?Replaces=x%3Bto-tag%3D1%3Bfrom-tag%3D2>"),
    ("Event", "refer"),
    ("Expires", "0"),
    ("Contact", "<sip:z@10.9.9.9:5060;transport=tcp>"),
    ("Contact", "<tel:+1>"),
    ("Replaces", "a;to-tag=1;from-tag=2"),
    ("Session-ID", "zz"),
    ("Content-Encoding", "gzip"),
    ("Content-Type", "application/sdp"),
    ("Content-Type", "multipart/mixed;boundary=b"),
]
RESPONSE_HEADERS = [
    ("RSeq", "1"),
    ("Require", "100rel"),
    ("Min-SE", "2000"),
    ("WWW-Authenticate", 'Digest realm="x",nonce="y"'),
    ("Retry-After", "1"),
    ("Contact", "<tel:+1>"),
    ("Record-Route", "<sip:10.0.0.2;lr>"),
    ("Session-Expires", "90;refresher=uas"),
    ("Session-ID", "q"),
]
STATUSES = (100, 180, 183, 200, 202, 302, 401, 407, 408, 422, 481, 487, 488, 491, 500, 503, 600)
BODIES = (b"", OFFER, b"--b\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n--b--\r\n", b"\xff\xfe")
NOBODY = ("10.7.7.7", 5060)


class Storm:
    def __init__(self, seed: int) -> None:
        self.chance = chance = random.Random(seed)
        transport = chance.choice(["UDP", "UDP", "TCP"])
        self.pair = Pair(transport, session_expires_s=chance.choice([0, 90, 1800]))
        network = self.pair.network
        if transport == "UDP":
            network.lose, network.repeat = chance.choice([0, 0.1, 0.3]), chance.choice([0, 0.2])
            network.delay = chance.choice([0, 0.2, 1])
        self.refers: list[Refer] = []
        self.thrown = 0
        self.pair.ana.on_call_event = self.pair.bob.on_call_event = self.heard
        self.deeds: list[Callable[[], None]] = [self.call, self.ring, self.accept, self.hang_up, self.offer]
        self.deeds += [self.send, self.transfer, self.close, self.throw, self.throw, self.lie]

    def heard(self, call: Call, event: CallEvent) -> None:
        chance = self.chance
        if isinstance(event, Reoffered) and chance.random() < 0.8:
            late = chance.choice([0, 3])
            self.pair.clock.callLater(late, call.answer_reoffer, ANSWER, chance.choice([200, 488]))
        elif isinstance(event, TransferRequested):
            self.refers.append(event.refer)
            if chance.random() < 0.5:
                event.refer.accept()
        elif isinstance(event, InDialog) and chance.random() < 0.8:
            event.request.respond(200)

    @property
    def calls(self) -> list[Call]:
        return [*self.pair.ana.events, *self.pair.bob.events]

    def any_call(self) -> Call | None:
        return self.chance.choice(self.calls) if self.calls else None

    def any_incoming(self) -> IncomingCall | None:
        return self.chance.choice(self.pair.bob.incoming) if self.pair.bob.incoming else None

    def call(self) -> None:
        if len(self.calls) < 6:
            self.pair.ana.call(self.pair.bob, headers=[("Supported", "100rel, timer")])

    def ring(self) -> None:
        call = self.any_incoming()
        if call is not None:
            call.ring(183, body=self.chance.choice([b"", ANSWER]), reliable=self.chance.choice([None, True]))

    def accept(self) -> None:
        call = self.any_incoming()
        if call is not None:
            call.accept(ANSWER)

    def hang_up(self) -> None:
        call = self.any_call()
        if call is not None and self.chance.random() < 0.3:
            call.hangup()

    def offer(self) -> None:
        call = self.any_call()
        if call is not None:
            self.chance.choice([call.reinvite, call.update])(b"v=0 newer")

    def send(self) -> None:
        call = self.any_call()
        if call is not None:
            call.send(self.chance.choice(METHODS[4:]), headers=[self.chance.choice(REQUEST_HEADERS)])

    def transfer(self) -> None:
        if self.refers:
            refer = self.chance.choice(self.refers)
            self.chance.choice([refer.progress, refer.finish])(180)

    def close(self) -> None:
        if self.chance.random() < 0.2:
            for phone in (self.pair.ana, self.pair.bob):
                for flow in list(phone.transports.flows.values()):
                    flow.close() if flow.reliable else None

    def throw(self) -> None:
        """A request that whoever knows a dialog could send."""
        chance = self.chance
        phone = chance.choice([self.pair.ana, self.pair.bob])
        known = list(phone.agent.dialogs.values())
        if not known:
            return
        dialog = chance.choice(known)[1]
        self.thrown += 1
        method = chance.choice(METHODS)
        number = chance.choice([0, 1, 2, self.thrown, 2**31 - 1])
        headers = [
            ("Via", f"SIP/2.0/UDP {NOBODY[0]}:5060;branch=z9hG4bK{self.thrown};rport"),
            ("From", dialog.remote),
            ("To", dialog.local),
            ("Call-ID", dialog.call_id),
            ("CSeq", f"{number} {method}"),
            *chance.sample(REQUEST_HEADERS, chance.randint(0, 4)),
        ]
        self.arrive(phone, NOBODY, Request(method, "sip:x@h", headers, chance.choice(BODIES)))

    def lie(self) -> None:
        """A response that nobody gave."""
        sent = [
            one for one in self.pair.network.seen if isinstance(one[2], Request) and one[2].method != "ACK"
        ]
        if not sent:
            return
        chance = self.chance
        sender, to, request = chance.choice(sent[-6:])
        assert isinstance(request, Request)
        response = request.response(
            chance.choice(STATUSES),
            to_tag=chance.choice(["a", "b", None]),
            headers=chance.sample(RESPONSE_HEADERS, chance.randint(0, 4)),
            body=chance.choice(BODIES),
        )
        for phone in (self.pair.ana, self.pair.bob):
            if phone.address == sender:
                self.arrive(phone, to, response)

    def arrive(self, phone: Phone, sender: Address, message: Request | Response) -> None:
        try:
            phone.transports.arrived(sender, message.to_bytes())
        except BadMessage:
            return  # the transports' to refuse

    def rage(self) -> None:
        for _ in range(self.chance.randint(10, 50)):
            self.chance.choice(self.deeds)()
            if self.chance.random() < 0.4:
                self.pair.wait(self.chance.choice([0.1, 1, 3, 10, 40]))

    def calm(self) -> None:
        self.pair.network.lose = 0
        for _ in range(2):  # an INVITE may still be on its way, and its caller believe a lie
            for call in self.calls:
                call.hangup()
            self.pair.wait(5)
        for refer in self.refers:
            refer.finish(487)
        pass_time(self.pair.clock, 700, step=0.5)


@pytest.fixture
def failures() -> Iterator[list[Any]]:
    seen: list[Any] = []

    def note(event: Any) -> None:
        if "log_failure" in event:
            seen.append(event["log_failure"].getTraceback())

    globalLogPublisher.addObserver(note)  # type: ignore[arg-type]
    yield seen
    globalLogPublisher.removeObserver(note)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(30))
def test_a_storm_passes_and_leaves_nothing(seed: int, failures: list[Any]) -> None:
    storm = Storm(seed)
    storm.rage()
    storm.calm()
    for phone in (storm.pair.ana, storm.pair.bob):
        for call, events in phone.events.items():
            assert phone.endings(call) == events[-1:]
        assert phone.at_rest()
    assert not storm.pair.clock.getDelayedCalls()
    assert not failures
