"""A network in memory: user agents on it exchange real bytes, which it may lose, delay, repeat and reorder."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock

from sip_trunk.call import Call
from sip_trunk.call_events import CallEvent, Cancelled, Ended, Refused
from sip_trunk.incoming_call import IncomingCall
from sip_trunk.locate import Hop
from sip_trunk.sip.message import Message, Request, Response
from sip_trunk.sip.parser import parse
from sip_trunk.sip.uri import SipUri
from sip_trunk.transactions import TransactionLayer
from sip_trunk.user_agent import Target, UserAgent

OFFER = b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\n"
ANSWER = b"v=0\r\no=- 2 1 IN IP4 127.0.0.1\r\ns=-\r\n"

Address = tuple[str, int]


class Network:
    """`lose`, `repeat`: chances from 0 to 1; `delay`: the longest, in seconds. `seen`: all messages, as sent."""

    def __init__(
        self, clock: Clock, *, seed: int = 0, lose: float = 0, repeat: float = 0, delay: float = 0
    ) -> None:
        self.clock = clock
        self.chance = random.Random(seed)
        self.lose = lose
        self.repeat = repeat
        self.delay = delay
        self.hosts: dict[Address, MemoryTransports] = {}
        self.seen: list[tuple[Address, Address, Message]] = []
        # Whatever this says True of never arrives.
        self.drops: Callable[[Message, Address], bool] = lambda message, to: False

    def carry(self, sender: Address, to: Address, data: bytes) -> None:
        message = parse(data)
        self.seen.append((sender, to, message))
        if self.drops(message, to):
            return
        for _ in range(2 if self.chance.random() < self.repeat else 1):
            if self.chance.random() >= self.lose:
                self.clock.callLater(self.chance.uniform(0, self.delay), self._arrive, sender, to, data)

    def _arrive(self, sender: Address, to: Address, data: bytes) -> None:
        host = self.hosts.get(to)
        if host is not None:
            host.arrived(sender, data)

    def methods(self, to: Address | None = None) -> list[str]:
        """Requests by method and responses by status, in the order sent."""
        return [
            message.method if isinstance(message, Request) else str(message.status)
            for _, where, message in self.seen
            if (to is None or where == to) and isinstance(message, Request | Response)
        ]

    def requests(self, method: str) -> list[Request]:
        return [m for _, _, m in self.seen if isinstance(m, Request) and m.method == method]

    def responses(self, status: int, method: str | None = None) -> list[Response]:
        return [
            m
            for _, _, m in self.seen
            if isinstance(m, Response) and m.status == status and method in (None, m.cseq.method)
        ]


class MemoryFlow:
    def __init__(self, of: MemoryTransports, transport: str, peer: Address) -> None:
        self.of = of
        self.transport = transport
        self.peer = peer
        self.token = f"{transport}:{peer[0]}:{peer[1]}"
        self.alive = True
        self.reliable = transport != "UDP"
        self.on_closed: set[Callable[[Any], None]] = set()
        self.tags: dict[str, str] = {}

    def send(self, data: bytes) -> None:
        self.of.network.carry(self.of.address, self.peer, data)

    def close(self) -> None:
        self.alive = False
        callbacks, self.on_closed = list(self.on_closed), set()
        for callback in callbacks:
            callback(self)


class MemoryTransports:
    def __init__(self, network: Network, address: Address, transport: str = "UDP") -> None:
        self.network = network
        self.address = address
        self.transport = transport
        self.flows: dict[Address, MemoryFlow] = {}
        # Whether, and after how long, another takes a connection of ours in place of its own that has closed.
        self.connects = True
        self.connect_s = 0.0
        self.opened_again: list[Hop] = []
        self.on_message: Callable[[Message, Any], None] = lambda message, flow: None
        network.hosts[address] = self

    def flow_to_address(self, transport: str, host: str, port: int) -> MemoryFlow:
        flow = self.flows.get((host, port))
        if flow is None or not flow.alive:
            flow = self.flows[(host, port)] = MemoryFlow(self, self.transport, (host, port))
        return flow

    async def hops(self, uri: Any) -> list[Any]:
        raise OSError("there are no names here")

    def stream_instead(self, peer: Address, then: Callable[[Any], None], not_: Callable[[], None]) -> None:
        not_()

    def open_again(self, hop: Hop, then: Callable[[Any], None], not_: Callable[[], None]) -> None:
        self.opened_again.append(hop)

        def connect() -> None:
            if (hop.host, hop.port) in self.network.hosts and self.connects:
                then(self.flow_to_address(hop.transport, hop.host, hop.port))
            else:
                not_()

        self.network.clock.callLater(self.connect_s, connect)

    def via(self, flow: MemoryFlow) -> tuple[str, str, int]:
        return (flow.transport, *self.address)

    def contact_uri(self, flow: MemoryFlow, user: str) -> str:
        return str(SipUri("sip", user or None, *self.address))

    def arrived(self, sender: Address, data: bytes) -> None:
        message = parse(data)
        if isinstance(message, Request):
            message.stamp_source(*sender)
        self.on_message(message, self.flow_to_address(self.transport, *sender))


class Phone:
    """A user agent on the network, with everything that happened to its calls."""

    def __init__(self, network: Network, host: str, *, transport: str = "UDP", **settings: Any) -> None:
        self.clock = network.clock
        self.address = (host, 5060)
        self.transports = MemoryTransports(network, self.address, transport)
        self.transactions = TransactionLayer(self.transports, network.clock)  # type: ignore[arg-type]
        self.agent = UserAgent(
            self.transactions,
            self.transports,  # type: ignore[arg-type]
            clock=network.clock,
            domain_names=set(),
            **settings,
        )
        self.events: dict[Call, list[CallEvent]] = {}
        self.incoming: list[IncomingCall] = []
        self.on_invite: Callable[[IncomingCall], None] = lambda call: None
        self.on_call_event: Callable[[Call, CallEvent], None] = lambda call, event: None
        self.agent.on_invite = self._invited

    def _invited(self, call: IncomingCall) -> None:
        self.incoming.append(call)
        self.listen(call)
        self.on_invite(call)

    def listen(self, call: Call) -> None:
        self.events[call] = []
        call.on_event = lambda event: self._record(call, event)

    def _record(self, call: Call, event: CallEvent) -> None:
        self.events[call].append(event)
        self.on_call_event(call, event)

    def call(self, other: Phone, **more: Any) -> Any:
        call = self.agent.invite(
            Target(f"sip:{other.address[0]}:{other.address[1]}"),
            from_=f"<sip:me@{self.address[0]}>",
            to=f"sip:you@{other.address[0]}",
            **{"body": OFFER, "on_event": lambda event: None, **more},
        )
        self.listen(call)
        return call

    def kinds(self, call: Call) -> list[str]:
        return [type(event).__name__ for event in self.events[call]]

    def endings(self, call: Call) -> list[CallEvent]:
        return [event for event in self.events[call] if isinstance(event, Refused | Cancelled | Ended)]

    def at_rest(self) -> bool:
        """Nothing is remembered of any call or transaction."""
        return not (len(self.transactions) or self.agent.calls or self.agent.dialogs)


class Pair:
    """Two phones; `settings` are those of their user agents."""

    def __init__(self, transport: str = "UDP", **settings: Any) -> None:
        self.clock = Clock()
        self.network = Network(self.clock)
        self.ana = Phone(self.network, "10.0.0.1", transport=transport, **settings)
        self.bob = Phone(self.network, "10.0.0.2", transport=transport, **settings)

    def wait(self, seconds: float = 0.1) -> None:
        pass_time(self.clock, seconds)

    def talk(self, **more: Any) -> tuple[Call, IncomingCall]:
        call = self.ana.call(self.bob, **more)
        self.wait()
        self.bob.incoming[-1].accept(ANSWER)
        self.wait()
        return call, self.bob.incoming[-1]

    def called(self, **more: Any) -> tuple[Any, IncomingCall]:
        call = self.ana.call(self.bob, **more)
        self.wait()
        return call, self.bob.incoming[-1]

    def rest(self) -> None:
        self.wait(200)
        assert self.ana.at_rest()
        assert self.bob.at_rest()
        assert not self.clock.getDelayedCalls()


def pass_time(clock: Clock, seconds: float, step: float = 0.05) -> None:
    for _ in range(round(seconds / step)):
        clock.advance(step)


def with_loop() -> asyncio.AbstractEventLoop:
    """Futures need a loop to belong to, though none runs here."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    return loop


def ask(call: Call, method: str, headers: list[tuple[str, str]] | None = None, **more: Any) -> list[Response]:
    """Send a request inside the call, whatever its state; the list fills with its final responses."""
    came: list[Response] = []

    def on_response(response: Response) -> None:
        if response.status >= 200:
            came.append(response)

    call.exchange(method, on_response, headers=headers or [], **more)
    return came
