"""The ways out: from a URI to its hops, from a hop to a flow, connected where needed (RFC 3261 s18.1, RFC 3263)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.internet.abstract import isIPv6Address
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, wrapClientTLS
from twisted.internet.error import ConnectError, ConnectionClosed
from twisted.internet.interfaces import IOpenSSLContextFactory, IStreamClientEndpoint
from twisted.logger import Logger

from config.bridge import as_future, spawn
from sip_trunk.flow import Connection, Flow
from sip_trunk.locate import Hop, Resolver, is_numeric, locate
from sip_trunk.peer_certificate import ClientConnections, default_context, is_for
from sip_trunk.sip.errors import SipError, SipFault
from sip_trunk.sip.uri import SipUri, parse_sip_uri
from sip_trunk.stream import StreamFactory, StreamProtocol

if TYPE_CHECKING:
    from sip_trunk.transport import Transports

log = Logger()

DEAF_FOR_S = 3_600.0
"""Who takes no TCP connection is not asked again for this long."""
_DEAF_AT_MOST = 1_000
MOST_AGAIN = 256
"""How many connections may be on their way at once when one is wanted because its peer's own has closed: whoever closes
theirs makes us open one."""
MOST_AGAIN_EACH = 4
"""And how many of those to one address."""
STREAM_S = 1.5
"""How long somebody who rings waits for a connection that a datagram could do without; a firewall drops in silence."""


class Connector:
    """Opens connections, each at most once at a time, and knows who takes none."""

    def __init__(self, transports: Transports, resolver: Resolver) -> None:
        self.tls: IOpenSSLContextFactory | None = None
        self._transports = transports
        self._resolver = resolver
        self._opening: dict[Hop, asyncio.Task[Flow]] = {}
        self._deaf: dict[tuple[str, int], float] = {}

    def stop(self) -> None:
        for task in self._opening.values():
            task.cancel()

    async def hops(self, where: SipUri | str) -> list[Hop]:
        """Raises SipFault 503 when there are none, BadMessage for a URI that is none."""
        return await locate(where if isinstance(where, SipUri) else parse_sip_uri(where), self._resolver)

    async def first(self, hops: list[Hop]) -> Flow:
        """The way to the first of these hops that can be reached; it and those before it are taken off the list.
        Raises SipFault 503 when none can (RFC 3263 s4.3)."""
        while hops:
            hop = hops.pop(0)
            try:
                return await self.reach(hop)
            except SipFault as fault:
                log.info("No way to {hop}: {fault}", hop=hop, fault=str(fault))
        raise SipFault("Unreachable", 503)

    async def reach(self, hop: Hop) -> Flow:
        """Raises SipFault 503."""
        if not is_numeric(hop.host):
            raise SipFault("Unreachable", 503)
        flow = self._transports.flow_to_address(hop.transport, hop.host, hop.port, name=hop.name or hop.host)
        if flow is not None:
            return flow
        if hop.transport not in ("TCP", "TLS"):
            # RFC 7118 s1: a browser cannot be connected to.
            raise SipFault("Unreachable", 503)
        task = self._opening.get(hop)
        if task is None:
            task = self._opening[hop] = asyncio.ensure_future(self._open(hop))
            task.add_done_callback(lambda done: self._opened(hop, done))
        return await asyncio.shield(task)

    def _opened(self, hop: Hop, task: asyncio.Task[Flow]) -> None:
        del self._opening[hop]
        if not task.cancelled():
            # Whoever asked may have stopped waiting; that it failed is then no news to anybody.
            task.exception()

    def stream_instead(
        self, peer: tuple[str, int], then: Callable[[Flow], None], not_: Callable[[], None]
    ) -> None:
        """A TCP connection to a peer known by UDP, for what is too large for a datagram (RFC 3261 s18.1.1); `not_` is
        called when it takes none. Either may be called before this returns."""
        host, port = peer
        try:
            flow = self._transports.flow_to_address("TCP", host, port)
        except SipError:
            flow = None
        if flow is not None:
            then(flow)
        elif self._deaf.get(peer, 0.0) > self._transports.reactor.seconds():
            not_()
        else:
            spawn(self._stream(peer, then, not_), f"a connection to {host}:{port}")

    async def _stream(
        self, peer: tuple[str, int], then: Callable[[Flow], None], not_: Callable[[], None]
    ) -> None:
        opening = asyncio.ensure_future(self.reach(Hop("TCP", *peer)))
        late = self._transports.reactor.callLater(STREAM_S, opening.cancel)
        try:
            flow = await opening
        except (SipFault, asyncio.CancelledError):
            if len(self._deaf) >= _DEAF_AT_MOST:
                self._deaf.clear()
            self._deaf[peer] = self._transports.reactor.seconds() + DEAF_FOR_S
            not_()
            return
        finally:
            if late.active():
                late.cancel()
        then(flow)

    def open_again(self, hop: Hop, then: Callable[[Flow], None], not_: Callable[[], None]) -> None:
        """Call `then` with a way to a peer whose own connection has closed, or `not_` when there is none within
        `connect_s`; neither before this returns."""
        spawn(self._open_again(hop, then, not_), f"a connection to {hop.host}:{hop.port} again")

    async def _open_again(self, hop: Hop, then: Callable[[Flow], None], not_: Callable[[], None]) -> None:
        under_way = [each.host for each in self._opening if each != hop]
        try:
            if len(under_way) >= MOST_AGAIN or under_way.count(hop.host) >= MOST_AGAIN_EACH:
                raise SipFault("Too many connections", 503)
            flow = await self.reach(hop)
        except (SipFault, asyncio.CancelledError) as error:
            log.info("No way back to {hop}: {error}", hop=hop, error=str(error))
            not_()
            return
        then(flow)

    async def _open(self, hop: Hop) -> Flow:
        transports = self._transports
        kind = TCP6ClientEndpoint if isIPv6Address(hop.host) else TCP4ClientEndpoint
        endpoint: IStreamClientEndpoint = kind(
            transports.reactor, hop.host, hop.port, timeout=transports.limits.connect_s
        )
        name = hop.name or hop.host
        if hop.transport == "TLS":
            if self.tls is None:
                self.tls = default_context()
            endpoint = wrapClientTLS(ClientConnections(self.tls, name), endpoint)
        try:
            protocol = await as_future(endpoint.connect(StreamFactory(transports, hop.transport)))
        except (ConnectError, ConnectionClosed, OSError, ValueError) as error:
            raise SipFault("Unreachable", 503) from error
        if not isinstance(protocol, StreamProtocol) or protocol.flow is None:
            raise SipFault("Too many connections", 503)
        flow = protocol.flow
        if hop.transport == "TLS":
            await self._secure(protocol, flow, name)
        protocol.spoken_to()
        return flow

    async def _secure(self, protocol: StreamProtocol, flow: Connection, name: str) -> None:
        """Wait until the peer has shown who it is; it ends by that, by the connection's end, or by the time allowed."""
        settled: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def settle(good: bool) -> None:
            if not settled.done():
                settled.set_result(good)

        late = self._transports.reactor.callLater(self._transports.limits.connect_s, settle, False)
        flow.on_closed.add(lambda _: settle(False))
        protocol.when_secured(lambda: settle(True))
        try:
            good = await settled
        finally:
            if late.active():
                late.cancel()
        certificate = protocol.peer_certificate() if good else None
        if certificate is None or not is_for(certificate, name):
            flow.close()
            raise SipFault(
                "Not a trusted peer" if certificate is None else f"Its certificate is not for {name}", 503
            )
        # RFC 5923 s5: a TLS connection is only good for the name its certificate was checked for.
        flow.tags["checked name"] = name
