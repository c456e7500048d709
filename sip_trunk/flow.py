"""A Flow: one way to reach a peer (RFC 5626 s3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from secrets import token_hex
from typing import TYPE_CHECKING

from twisted.logger import Logger

if TYPE_CHECKING:
    from sip_trunk.udp import UdpPort

log = Logger()

Address = tuple[str, int]
"""What the socket calls a peer: host, with the zone of a link-local address behind a %, and port."""


class Flow:
    """A UDP (local port, peer) pair, or a connection.

    transport: "UDP", "TCP", "TLS", "WS" or "WSS". peer: numeric host and port. token: what a binding remembers it by,
    for `Transports.flow_by_token`; it never goes on the wire. reliable: nothing sent needs sending again.
    on_closed: called with the flow, once, when a connection is gone. tags: what others note on it.
    """

    __slots__ = ("alive", "on_closed", "peer", "reliable", "tags", "token", "transport")

    def __init__(self, transport: str, peer: tuple[str, int], token: str) -> None:
        self.transport = transport
        self.peer = peer
        self.token = token
        self.reliable = transport != "UDP"
        self.alive = True
        self.on_closed: set[Callable[[Flow], None]] = set()
        self.tags: dict[str, str] = {}

    def send(self, data: bytes) -> None:
        """Send one message. What cannot be sent is dropped: whoever needs to know has a timer or `on_closed`."""
        raise NotImplementedError

    def close(self) -> None:
        """End a connection; a UDP flow has none."""

    def __repr__(self) -> str:
        return f"<Flow {self.transport} {self.peer[0]}:{self.peer[1]}>"


class UdpFlow(Flow):
    __slots__ = ("_address", "port")

    def __init__(self, port: UdpPort, address: Address) -> None:
        host, number = address
        # RFC 6874: a zone is good on this machine alone, and is none of the peer's business.
        super().__init__(
            "UDP", (host.partition("%")[0], number), f"udp|{port.host}|{port.number}|{host}|{number}"
        )
        self.port = port
        self._address = address

    def send(self, data: bytes) -> None:
        port = self.port
        if port.wires:
            tell(port.wires, True, self, data)
        port.send(data, self._address, self)


class Connection(Flow):
    """A flow that is a connection, TCP, TLS or web socket; `write` and `drop` are its protocol's."""

    __slots__ = ("_drop", "_write", "wires")

    def __init__(
        self, transport: str, peer: tuple[str, int], write: Callable[[bytes], None], drop: Callable[[], None]
    ) -> None:
        super().__init__(transport, peer, f"{transport.lower()}-{token_hex(12)}")
        self._write = write
        self._drop = drop
        self.wires: Sequence[Wire] = ()

    def send(self, data: bytes) -> None:
        if not self.alive:
            return
        if self.wires:
            tell(self.wires, True, self, data)
        self._write(data)

    def close(self) -> None:
        if self.alive:
            self._drop()

    def closed(self) -> None:
        """The connection is gone: tell everybody who asked, whatever some of them make of it."""
        if not self.alive:
            return
        self.alive = False
        callbacks, self.on_closed = list(self.on_closed), set()
        for callback in callbacks:
            try:
                callback(self)
            except Exception:
                log.failure("The end of {flow!r} could not be dealt with", flow=self)


def is_elsewhere(flow: Flow, connection: Flow) -> bool:
    """Whether a flow leads to another host than that connection. By UDP everybody is where they say they are, so that
    nothing can be told there."""
    return connection.reliable and flow.peer[0] != connection.peer[0]


Wire = Callable[[bool, Flow, bytes], None]
"""Hears every message: whether we sent it, its flow, its bytes as they stood on the wire. Keep-alives are none."""


def tell(wires: Sequence[Wire], sent: bool, flow: Flow, data: bytes) -> None:
    """Let the wires hear one message; one of them that fails harms neither the message nor the others."""
    for wire in list(wires):
        try:
            wire(sent, flow, data)
        except Exception:
            log.failure("A listener on the wire failed over a message of {flow!r}", flow=flow)
