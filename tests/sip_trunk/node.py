"""A user agent on real sockets of this machine, for what only sockets can show."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from sip_trunk.call_events import CallEvent
from sip_trunk.flow import Flow
from sip_trunk.incoming_call import IncomingCall
from sip_trunk.locate import Resolver
from sip_trunk.outgoing_call import OutgoingCall
from sip_trunk.sip.message import Message, Response
from sip_trunk.sip.parser import parse
from sip_trunk.transactions import TransactionLayer
from sip_trunk.transport import Transports
from sip_trunk.user_agent import Target, UserAgent

OFFER = b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\n"


class Node:
    """`seen` is all it sent and received: (sent, transport, message)."""

    def __init__(self, reactor: Any, host: str, resolver: Resolver | None = None) -> None:
        self.reactor = reactor
        self.host = host
        self.transports = Transports(reactor, public_host=host, resolver=resolver)
        self.transactions = TransactionLayer(self.transports, reactor)
        self.agent = UserAgent(self.transactions, self.transports, clock=reactor, domain_names=set())
        self.calls: list[IncomingCall] = []
        self.events: list[CallEvent] = []
        self.seen: list[tuple[bool, Flow, Message]] = []
        self.transports.wires.append(lambda sent, flow, data: self.seen.append((sent, flow, parse(data))))
        self.on_invite: Callable[[IncomingCall], None] = lambda call: call.accept(OFFER)
        self.agent.on_invite = self._invited

    def _invited(self, call: IncomingCall) -> None:
        self.calls.append(call)
        self.on_invite(call)

    def listen(self, tcp: bool = True) -> int:
        port = self.transports.listen_udp(self.host, 0)
        if tcp:
            self.transports.listen_tcp(self.host, port)
        return port

    def invite(self, uri: str, body: bytes = OFFER, flow: Flow | None = None) -> OutgoingCall:
        return self.agent.invite(
            Target(uri, (), flow),
            from_=f"<sip:us@{'[::1]' if ':' in self.host else self.host}>",
            to=f"<{uri}>",
            body=body,
            on_event=self.events.append,
        )

    async def options(self, uri: str) -> Response:
        return await self.agent.request("OPTIONS", Target(uri), from_="<sip:us@example.com>", to=f"<{uri}>")

    async def event(self, kind: type[CallEvent]) -> CallEvent:
        """Wait for an event of the calls it placed."""
        async with asyncio.timeout(10):
            while True:
                for event in self.events:
                    if isinstance(event, kind):
                        return event
                await asyncio.sleep(0.01)

    def came(self, what: str) -> list[tuple[str, Message]]:
        """What was received whose start line has this in it, with the transport it came by."""
        return [
            (flow.transport, message)
            for sent, flow, message in self.seen
            if not sent and what in message.start_line
        ]


@asynccontextmanager
async def nodes(
    count: int, host: str = "127.0.0.1", resolver: Resolver | None = None
) -> AsyncIterator[list[Node]]:
    """The first has the resolver; all of them are stopped at the end."""
    from twisted.internet import reactor

    made = [Node(reactor, host, resolver if number == 0 else None) for number in range(count)]
    try:
        yield made
    finally:
        for node in made:
            node.transactions.stop()
            await node.transports.stop()
