"""UDP, TCP, TLS and whatever else brings messages (RFC 3261 s18): bytes in, messages and their Flow out.

A response goes down the flow its request came by, so that a phone behind a NAT is reached (RFC 3581, RFC 5626). Others
know a flow by its token: a UDP one can be made again from it, a connection's is good while the connection lives.
"""

from __future__ import annotations

import asyncio
import resource
import socket
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, overload

from twisted.internet.abstract import isIPv6Address
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import maybeDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, wrapClientTLS
from twisted.internet.error import ConnectError, ConnectionClosed, MessageLengthError
from twisted.internet.interfaces import IListeningPort, IOpenSSLContextFactory, IStreamClientEndpoint
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.ssl import optionsForClientTLS
from twisted.logger import Logger

from config.bridge import as_future
from sip_trunk.flow import Connection, Flow
from sip_trunk.locate import DnsResolver, Hop, Resolver, is_numeric, locate
from sip_trunk.sip.errors import BadMessage, SipError, SipFault
from sip_trunk.sip.message import Message, Request
from sip_trunk.sip.parser import LIMITS, Limits, is_keep_alive, parse
from sip_trunk.sip.uri import SipUri, parse_sip_uri
from sip_trunk.stream import StreamFactory, StreamProtocol

log = Logger()

__all__ = ["Connection", "Flow", "TransportLimits", "Transports"]


@dataclass(frozen=True, slots=True)
class TransportLimits:
    """What one peer, or all together, may take of us.

    connections, per_address: how many may be open; unless told, half of the files we may open, for the database and
    the web site need some too. quiet_s: how long a message may take to come whole, and a new
    connection to bring its first. idle_s: how long a connection may be silent. unsent: octets kept for a peer that does
    not take them. connect_s: how long opening a connection may take.
    """

    message: Limits = LIMITS
    connections: int = field(default_factory=lambda: min(20_000, _files() // 2))
    per_address: int = 5_000
    quiet_s: float = 32.0
    idle_s: float = 7_500.0
    unsent: int = 1 << 20
    connect_s: float = 4.0


class UdpFlow(Flow):
    __slots__ = ("port",)

    def __init__(self, port: UdpPort, peer: tuple[str, int]) -> None:
        super().__init__("UDP", peer, f"udp|{port.host}|{port.number}|{peer[0]}|{peer[1]}")
        self.port = port

    def send(self, data: bytes) -> None:
        transport = self.port.transport
        if transport is None:
            return
        try:
            transport.write(data, self.peer)
        except (OSError, MessageLengthError, ValueError, OverflowError) as error:
            # A full buffer, no route, too long: to the transaction above it is a datagram that got lost.
            log.info(
                "{flow!r} did not take {size} octets: {error}", flow=self, size=len(data), error=str(error)
            )


class UdpPort(DatagramProtocol):
    """One UDP socket of ours."""

    # A flow holds no state, so the table is only there to save making it anew, and may be emptied at any time.
    _KNOWN = 20_000

    def __init__(self, transports: Transports, host: str) -> None:
        self._transports = transports
        self.host = host
        self.number = 0
        self._flows: dict[tuple[str, int], UdpFlow] = {}

    def flow(self, peer: tuple[str, int]) -> UdpFlow:
        flow = self._flows.get(peer)
        if flow is None:
            if len(self._flows) >= self._KNOWN:
                self._flows.clear()
            flow = self._flows[peer] = UdpFlow(self, peer)
        return flow

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        if is_keep_alive(datagram):
            return
        flow = self.flow(addr)
        try:
            message = parse(datagram, self._transports.limits.message)
        except BadMessage as error:
            self._transports.refuse(error, flow)
            return
        self._transports.deliver(message, flow)


class Transports:
    """Every way in and out.

    public_host: what we call ourselves in Via and Contact.
    on_message(message, flow): each message, its source noted on the top Via of a request.
    admits(message, flow): asked before anything is done about a message, good or bad; False drops it unanswered.
    on_bad(error, flow): told of each message that could not be read; the answer is given here.
    """

    def __init__(
        self,
        reactor: Any,
        *,
        public_host: str,
        resolver: Resolver | None = None,
        limits: TransportLimits | None = None,
        trust_root: Any = None,
    ) -> None:
        self.reactor = reactor
        self.public_host = public_host
        self.limits = limits or TransportLimits()
        self.on_message: Callable[[Message, Flow], None] = _unheard
        self.admits: Callable[[Message | BadMessage, Flow], bool] = _all
        self.on_bad: Callable[[BadMessage, Flow], None] | None = None
        self.ports: dict[str, int] = {}
        """What we listen on, by transport; the web site that mounts /sip may note its own as "WS" and "WSS"."""
        self._resolver = resolver or DnsResolver()
        self._trust_root = trust_root
        self._udp: list[UdpPort] = []
        self._listening: list[IListeningPort] = []
        self._by_token: dict[str, Connection] = {}
        self._by_peer: dict[tuple[str, str, int], Connection] = {}
        self._per_address: dict[str, int] = {}
        self._opening: dict[tuple[str, str, int, str], asyncio.Task[Flow]] = {}

    # Listening.

    def listen_udp(self, host: str, port: int) -> int:
        """Returns the port number, which matters when 0 was asked for. Raises CannotListenError."""
        protocol = UdpPort(self, host)
        listening = self.reactor.listenUDP(port, protocol, interface=host, maxPacketSize=65_535)
        # A burst of registrations must fit while one message is being dealt with.
        listening.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        return self.add_udp(protocol, listening)

    def add_udp(self, protocol: UdpPort, listening: IListeningPort) -> int:
        protocol.number = _number(listening)
        self._udp.append(protocol)
        self._listening.append(listening)
        self.ports.setdefault("UDP", protocol.number)
        return protocol.number

    def listen_tcp(self, host: str, port: int) -> int:
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
        for task in self._opening.values():
            task.cancel()
        await asyncio.gather(
            *(as_future(maybeDeferred(port.stopListening)) for port in listening), return_exceptions=True
        )
        self._udp.clear()

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
            if isIPv6Address(port.host) == isIPv6Address(peer[0]):
                return port.flow(peer)
        return None

    @overload
    def flow_to_address(self, transport: Literal["UDP"], host: str, port: int) -> Flow: ...

    @overload
    def flow_to_address(self, transport: str, host: str, port: int) -> Flow | None: ...

    def flow_to_address(self, transport: str, host: str, port: int) -> Flow | None:
        """The way to a numeric host at once: by UDP, or by a connection that is open already (else None).

        Raises SipFault 503 when we have no UDP port of that address family.
        """
        if transport != "UDP":
            return self._by_peer.get((transport, host, port))
        flow = self._udp_flow((host, port))
        if flow is None:
            raise SipFault("Unreachable", 503)
        return flow

    async def flow_to(self, where: SipUri | str | Hop) -> Flow:
        """The way to a URI or a hop, resolved, and connected if it is one for a connection; failing over from hop to
        hop (RFC 3263 s4.3). Raises SipFault 503 when nobody is there, BadMessage for a URI that is none."""
        if isinstance(where, Hop):
            hops = [where]
        else:
            uri = where if isinstance(where, SipUri) else parse_sip_uri(where)
            hops = await locate(uri, self._resolver)
        for hop in hops:
            try:
                return await self._reach(hop)
            except SipFault as fault:
                log.debug("No way to {hop}: {fault}", hop=hop, fault=str(fault))
        raise SipFault("Unreachable", 503)

    async def _reach(self, hop: Hop) -> Flow:
        if not is_numeric(hop.host):
            raise SipFault("Unreachable", 503)
        flow = self.flow_to_address(hop.transport, hop.host, hop.port)
        # RFC 5923 s5: a TLS connection is only good for the name its certificate was checked for.
        if flow is not None and (hop.transport != "TLS" or flow.tags.get("checked name") == hop.name):
            return flow
        if hop.transport not in ("TCP", "TLS"):
            # RFC 7118 s1: a browser cannot be connected to.
            raise SipFault("Unreachable", 503)
        key = (hop.transport, hop.host, hop.port, hop.name)
        task = self._opening.get(key)
        if task is None:
            task = self._opening[key] = asyncio.ensure_future(self._open(hop))
            task.add_done_callback(lambda _: self._opening.pop(key, None))
        return await asyncio.shield(task)

    async def _open(self, hop: Hop) -> Flow:
        kind = TCP6ClientEndpoint if isIPv6Address(hop.host) else TCP4ClientEndpoint
        endpoint: IStreamClientEndpoint = kind(
            self.reactor, hop.host, hop.port, timeout=self.limits.connect_s
        )
        if hop.transport == "TLS":
            endpoint = wrapClientTLS(optionsForClientTLS(hop.name or hop.host, self._trust_root), endpoint)
        try:
            protocol = await as_future(endpoint.connect(StreamFactory(self, hop.transport)))
        except (ConnectError, ConnectionClosed, OSError, ValueError) as error:
            raise SipFault("Unreachable", 503) from error
        if not isinstance(protocol, StreamProtocol) or protocol.flow is None:
            raise SipFault("Too many connections", 503)
        protocol.spoken_to()
        protocol.flow.tags["checked name"] = hop.name
        return protocol.flow

    # What we say of ourselves.

    def via(self, flow: Flow) -> tuple[str, str, int | None]:
        """Transport, host (an IPv6 one without brackets) and port for the Via of a request down this flow."""
        return flow.transport, self.public_host, self._port(flow)

    def _port(self, flow: Flow) -> int | None:
        return flow.port.number if isinstance(flow, UdpFlow) else self.ports.get(flow.transport)

    def contact_uri(self, flow: Flow, user: str) -> str:
        """Our address for the peer at the other end of this flow."""
        transport = {"UDP": "", "WSS": ";transport=ws"}.get(
            flow.transport, f";transport={flow.transport.lower()}"
        )
        uri = SipUri(user=user or None, host=self.public_host, port=self._port(flow))
        return f"{uri}{transport}"


def _files() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft != resource.RLIM_INFINITY else 1 << 20


def _number(listening: IListeningPort) -> int:
    address = listening.getHost()
    assert isinstance(address, IPv4Address | IPv6Address)
    return int(address.port)


def _all(message: Message | BadMessage, flow: Flow) -> bool:
    return True


def _unheard(message: Message, flow: Flow) -> None:
    log.debug("{message!r} came before anybody was there to take it", message=message)
