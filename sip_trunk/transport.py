"""UDP, TCP, TLS and whatever else brings messages (RFC 3261 s18): bytes in, messages and their Flow out.

A response goes down the flow its request came by, so that a phone behind a NAT is reached (RFC 3581, RFC 5626). Others
know a flow by its token: a UDP one can be made again from it, a connection's is good while the connection lives.
"""

from __future__ import annotations

import asyncio
import resource
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, overload

from twisted.internet.abstract import isIPv6Address
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import maybeDeferred
from twisted.internet.interfaces import IListeningPort, IOpenSSLContextFactory
from twisted.logger import Logger

from config.bridge import as_future
from sip_trunk.connector import Connector
from sip_trunk.flow import Connection, Flow, UdpFlow, Wire
from sip_trunk.locate import Hop, Resolver, is_numeric
from sip_trunk.resolver import DnsResolver
from sip_trunk.sip.errors import BadMessage, SipError, SipFault
from sip_trunk.sip.message import Message, Request
from sip_trunk.sip.parser import LIMITS, Limits
from sip_trunk.sip.uri import SipUri
from sip_trunk.stream import StreamFactory
from sip_trunk.udp import UdpPort

log = Logger()

__all__ = ["Connection", "Flow", "TransportLimits", "Transports", "Wire"]


@dataclass(frozen=True, slots=True)
class TransportLimits:
    """What one peer, or all together, may take of us.

    connections, per_address: how many may be open; unless told, half of the files we may open, for the database and
    the web site need some too. quiet_s: how long a message may take to come whole, and a new
    connection to bring its first. idle_s: how long a connection may be silent. unused_s: how long one that we opened is
    kept without a message. unsent: octets kept for a peer that does not take them. connect_s: how long opening a
    connection may take, and its TLS handshake again.
    """

    message: Limits = LIMITS
    connections: int = field(default_factory=lambda: min(20_000, _files() // 2))
    per_address: int = 5_000
    quiet_s: float = 32.0
    idle_s: float = 7_500.0
    unused_s: float = 3_600.0
    unsent: int = 1 << 20
    connect_s: float = 4.0


class Transports:
    """Every way in and out.

    public_host: what we call ourselves in Via and Contact; public_host6: to IPv6 peers, where public_host is an IPv4
    address. tls: the context of connections we open by TLS; unless set, the system's authorities are trusted.
    on_message(message, flow): each message, its source noted on the top Via of a request.
    admits(message, flow): asked before anything is done about a message, good or bad; False drops it unanswered.
    on_bad(error, flow): told of each message that could not be read; the answer is given here.
    """

    def __init__(
        self,
        reactor: Any,
        *,
        public_host: str,
        public_host6: str = "",
        resolver: Resolver | None = None,
        limits: TransportLimits | None = None,
    ) -> None:
        self.reactor = reactor
        self.public_host = public_host
        self._public_host6 = public_host6 if _is_ipv4(public_host) else ""
        self.limits = limits or TransportLimits()
        self.on_message: Callable[[Message, Flow], None] = _unheard
        self.admits: Callable[[Message | BadMessage, Flow], bool] = _all
        self.on_bad: Callable[[BadMessage, Flow], None] | None = None
        self.wires: list[Wire] = []
        """Who hears all that is sent and received, read or unreadable, admitted or not."""
        self.ports: dict[str, int] = {}
        """What we listen on, by transport; the web site that mounts /sip may note its own as "WS" and "WSS"."""
        self.connector = Connector(self, resolver or DnsResolver())
        self._udp: list[UdpPort] = []
        self._listening: list[IListeningPort] = []
        self._by_token: dict[str, Connection] = {}
        self._by_peer: dict[tuple[str, str, int], Connection] = {}
        self._per_address: dict[str, int] = {}

    # Listening.

    def listen_udp(self, host: str, port: int) -> int:
        """Returns the port number, which matters when 0 was asked for; "::" is IPv6 alone. Raises CannotListenError."""
        udp = UdpPort.open(self, host, port)
        # Not by the reactor, whose log context around each datagram costs as much as parsing it.
        asyncio.get_running_loop().add_reader(udp.fileno(), udp.read)
        return self.add_udp(udp)

    def add_udp(self, udp: UdpPort) -> int:
        self._udp.append(udp)
        return self.ports.setdefault("UDP", udp.number)

    def listen_tcp(self, host: str, port: int) -> int:
        """As `listen_udp`, but "::" is both families."""
        listening = self.reactor.listenTCP(port, StreamFactory(self, "TCP"), interface=host, backlog=1024)
        return self._stream_port("TCP", listening)

    def listen_tls(self, host: str, port: int, context_factory: IOpenSSLContextFactory) -> int:
        factory = StreamFactory(self, "TLS")
        listening = self.reactor.listenSSL(port, factory, context_factory, interface=host, backlog=1024)
        return self._stream_port("TLS", listening)

    def _stream_port(self, name: str, listening: IListeningPort) -> int:
        self._listening.append(listening)
        return self.ports.setdefault(name, _number(listening))

    async def stop(self) -> None:
        """Stop listening and end all connections."""
        listening, self._listening = self._listening, []
        for flow in list(self._by_token.values()):
            flow.close()
        self.connector.stop()
        for udp in self._udp:
            asyncio.get_running_loop().remove_reader(udp.fileno())
            udp.close()
        self._udp.clear()
        await asyncio.gather(
            *(as_future(maybeDeferred(port.stopListening)) for port in listening), return_exceptions=True
        )

    # What the protocols tell us.

    def opened(self, flow: Connection) -> bool:
        """A connection is there; False if it is one too many, and then it must be closed."""
        host = flow.peer[0]
        here = self._per_address.get(host, 0)
        if len(self._by_token) >= self.limits.connections or here >= self.limits.per_address:
            log.info("{flow!r} is one connection too many", flow=flow)
            flow.alive = False
            return False
        self._per_address[host] = here + 1
        flow.wires = self.wires
        self._by_token[flow.token] = flow
        self._by_peer[(flow.transport, *flow.peer)] = flow
        return True

    def closed(self, flow: Connection) -> None:
        """A connection that `opened` took is gone."""
        if self._by_token.pop(flow.token, None) is None:
            return
        key = (flow.transport, *flow.peer)
        if self._by_peer.get(key) is flow:
            del self._by_peer[key]
        host = flow.peer[0]
        left = self._per_address.get(host, 1) - 1
        if left:
            self._per_address[host] = left
        else:
            self._per_address.pop(host, None)
        flow.closed()

    def deliver(self, message: Message, flow: Flow) -> None:
        """A message came whole."""
        try:
            if isinstance(message, Request):
                message.stamp_source(*flow.peer)
            if self.admits(message, flow):
                self.on_message(message, flow)
        except Exception:
            # One message must not take the socket, and with it everybody's calls, down.
            log.failure("{message!r} from {flow!r} could not be dealt with", message=message, flow=flow)

    def refuse(self, bad: BadMessage, flow: Flow) -> None:
        """A message came that cannot be read: say so to whoever sent it, if that much can be read."""
        if not self.admits(bad, flow):
            return
        log.debug("{flow!r} sent something unreadable: {reason}", flow=flow, reason=bad.reason)
        if self.on_bad is not None:
            self.on_bad(bad, flow)
        request = bad.request
        # RFC 3261 s8.2.7, s17.1.1.3: an ACK is never answered.
        if request is None or request.method == "ACK":
            return
        try:
            request.stamp_source(*flow.peer)
        except SipError:
            log.debug("Its Via is unreadable too; the answer goes to where it came from")
        seed = f"{request.headers.get('call-id')}|{request.headers.get('via')}"
        tag = f"{zlib.crc32(seed.encode('utf-8', 'surrogateescape')):08x}"
        try:
            flow.send(request.response(bad.status, bad.reason, to_tag=tag).to_bytes())
        except SipError as error:
            log.debug("It cannot be answered: {error}", error=str(error))

    # Flows for others.

    def flow_by_token(self, token: str) -> Flow | None:
        """The flow a binding came by; None when its connection is gone."""
        kind, _, rest = token.partition("|")
        if kind != "udp":
            return self._by_token.get(token)
        try:
            host, number, peer, port = rest.split("|")
            address = (peer, int(port))
        except ValueError:
            return None
        for ours in self._udp:
            if ours.host == host and str(ours.number) == number:
                return ours.flow(address)
        return self._udp_flow(address)

    def _udp_flow(self, peer: tuple[str, int]) -> UdpFlow | None:
        for port in self._udp:
            if port.ipv6 == (":" in peer[0]):
                return port.flow(peer)
        return None

    @overload
    def flow_to_address(
        self, transport: Literal["UDP"], host: str, port: int, *, name: str | None = None
    ) -> Flow: ...

    @overload
    def flow_to_address(
        self, transport: str, host: str, port: int, *, name: str | None = None
    ) -> Flow | None: ...

    def flow_to_address(
        self, transport: str, host: str, port: int, *, name: str | None = None
    ) -> Flow | None:
        """The way to a numeric host at once: by UDP, or by a connection that is open already (else None).

        By TLS only one whose certificate was checked for `name` (unless told, the host itself) will do: what another
        claims in its Via (RFC 5923's alias) is no proof of who it is, and we ask nobody who connects for a certificate.
        Raises SipFault 503 when we have no UDP port of that address family.
        """
        if transport == "UDP":
            udp = self._udp_flow((host, port))
            if udp is None:
                raise SipFault("Unreachable", 503)
            return udp
        flow = self._by_peer.get((transport, host, port))
        if flow is not None and transport == "TLS" and flow.tags.get("checked name") != (name or host):
            return None
        return flow

    async def hops(self, where: SipUri | str) -> list[Hop]:
        """Everywhere a URI may lead to, best first. Raises SipFault 503, BadMessage for a URI that is none."""
        return await self.connector.hops(where)

    async def first_of(self, hops: list[Hop]) -> Flow:
        """The way to the first of them that can be reached; it and those before it are taken off the list. Raises
        SipFault 503."""
        return await self.connector.first(hops)

    def stream_instead(
        self, peer: tuple[str, int], then: Callable[[Flow], None], not_: Callable[[], None]
    ) -> None:
        """Call `then` with a TCP connection to a peer known by UDP, `not_` when it takes none; perhaps at once."""
        self.connector.stream_instead(peer, then, not_)

    def open_again(self, hop: Hop, then: Callable[[Flow], None], not_: Callable[[], None]) -> None:
        """Call `then` with a new connection to a peer whose own has closed, or `not_`; neither before this returns."""
        self.connector.open_again(hop, then, not_)

    # What we say of ourselves.

    def via(self, flow: Flow) -> tuple[str, str, int | None]:
        """Transport, host (an IPv6 one without brackets) and port for the Via of a request down this flow."""
        return flow.transport, self._host(flow), self._port(flow)

    def _host(self, flow: Flow) -> str:
        return self._public_host6 if self._public_host6 and ":" in flow.peer[0] else self.public_host

    def _port(self, flow: Flow) -> int | None:
        return flow.port.number if isinstance(flow, UdpFlow) else self.ports.get(flow.transport)

    def contact_uri(self, flow: Flow, user: str) -> str:
        """Our address for the peer at the other end of this flow."""
        # Many calls have the same; a long name is not kept, so that nobody can fill memory.
        write = _contact_uri if len(user) <= 64 else _contact_uri.__wrapped__
        return write(user, self._host(flow), self._port(flow), flow.transport)


@lru_cache(maxsize=4096)
def _contact_uri(user: str, host: str, port: int | None, transport: str) -> str:
    said = {"UDP": "", "WSS": ";transport=ws"}.get(transport, f";transport={transport.lower()}")
    return f"{SipUri(user=user or None, host=host, port=port)}{said}"


def _files() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft != resource.RLIM_INFINITY else 1 << 20


def _is_ipv4(host: str) -> bool:
    return is_numeric(host) and not isIPv6Address(host)


def _number(listening: IListeningPort) -> int:
    address = listening.getHost()
    assert isinstance(address, IPv4Address | IPv6Address)
    return int(address.port)


def _all(message: Message | BadMessage, flow: Flow) -> bool:
    return True


def _unheard(message: Message, flow: Flow) -> None:
    log.debug("{message!r} came before anybody was there to take it", message=message)
