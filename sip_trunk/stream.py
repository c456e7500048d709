"""SIP over TCP and TLS: one connection (RFC 3261 s18, RFC 5626 s4.4.1)."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cryptography import x509
from twisted.internet.interfaces import IAddress, IDelayedCall, IHandshakeListener, IPushProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from sip_trunk.flow import Connection, tell
from sip_trunk.sip.errors import BadMessage
from sip_trunk.sip.parser import KeepAlive, StreamParser

if TYPE_CHECKING:
    from sip_trunk.transport import Transports

log = Logger()

CLOSING_S = 4.0
"""A connection we end is cut after this, whether or not the peer has taken the rest and, by TLS, our good-bye."""
PING_EVERY_S = 95.0
"""RFC 5626 s4.4.1: a connection we opened gets a ping after at most this, and after four fifths of it at least."""
PONG_S = 10.0
"""A peer that has ever answered a ping and does not answer one within this is gone."""


@implementer(IPushProducer)
class Backlog:
    """What a peer has not taken yet of what it was sent; registered as its connection's push producer, it is told when
    the peer stops taking, and counts from then on."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._unsent = 0
        self.stuck = False

    def add(self, size: int) -> bool:
        """Whether this much more may be sent; False: the peer is to be cut off."""
        if self.stuck:
            self._unsent += size
        return self._unsent <= self._most

    def pauseProducing(self) -> None:
        self.stuck = True

    def resumeProducing(self) -> None:
        self.stuck = False
        self._unsent = 0

    def stopProducing(self) -> None:
        self.stuck = True


@implementer(IHandshakeListener)
class StreamProtocol(Protocol):
    """Reads messages off a connection. It ends the connection when that brings no whole message for `quiet_s` (a TLS
    handshake that never ends is no message either), is silent for `idle_s`, or does not take what we send. One that we
    opened is kept open by pings, and ended when no message has passed for `unused_s`."""

    flow: Connection | None = None

    def __init__(self, transports: Transports, name: str) -> None:
        self._transports = transports
        self._name = name
        self._parser = StreamParser(transports.limits.message)
        self._spoke = False
        self._backlog = Backlog(transports.limits.unsent)
        self._heard_at = self._whole_at = transports.reactor.seconds()
        self._used_at = self._heard_at
        self._check: IDelayedCall | None = None
        self._ping_timer: IDelayedCall | None = None
        self._ponged = False
        self._secured = False
        self._on_secured: Callable[[], None] | None = None
        # The transport; no one interface of Twisted's has all of what a TCP or TLS one can do.
        self._wire: Any = None

    def connectionMade(self) -> None:
        self._wire = self.transport
        address = self._wire.getPeer()
        flow = Connection(self._name, (plain_host(address.host), address.port), self._send, self._drop)
        if not self._transports.opened(flow):
            self._wire.abortConnection()
            return
        self.flow = flow
        self._wire.setTcpNoDelay(True)
        self._wire.setTcpKeepAlive(True)
        self._wire.registerProducer(self._backlog, True)
        self._arm()

    def _arm(self) -> None:
        self._check = self._transports.reactor.callLater(self._transports.limits.quiet_s, self._look)

    def _look(self) -> None:
        now, limits = self._transports.reactor.seconds(), self._transports.limits
        unfinished = (not self._spoke or not self._parser.idle) and now - self._whole_at >= limits.quiet_s
        if unfinished or now - self._heard_at >= limits.idle_s:
            self._check = None
            self._drop()
        else:
            self._arm()

    def dataReceived(self, data: bytes) -> None:
        flow = self.flow
        if flow is None:
            return
        self._heard_at = self._transports.reactor.seconds()
        if self._parser.idle:
            self._whole_at = self._heard_at  # what begins now has as long as anything to come whole
        for item in self._parser.feed(data):
            if not flow.alive:
                return
            self._whole_at = self._heard_at
            if isinstance(item, KeepAlive):
                if item is KeepAlive.PING:
                    self._write(KeepAlive.PONG.value)
                else:
                    self._ponged = True
            elif isinstance(item, BadMessage):
                if flow.wires:
                    # What could not be framed has no bounds to be cut out by: the piece that ended it is shown.
                    tell(flow.wires, False, flow, data)
                self._transports.refuse(item, flow)
            else:
                self._spoke = True
                self._used_at = self._heard_at
                if flow.wires:
                    tell(flow.wires, False, flow, item.to_bytes())
                self._transports.deliver(item, flow)
        if self._parser.broken:
            self._drop()

    def spoken_to(self) -> None:
        """We opened this connection: the peer may wait for us to speak first, and it is ours to keep open."""
        self._spoke = True
        self._ping_later()

    def _ping_later(self) -> None:
        wait = random.uniform(0.8, 1) * PING_EVERY_S
        self._ping_timer = self._transports.reactor.callLater(wait, self._ping)

    def _ping(self) -> None:
        self._ping_timer = None
        now = self._transports.reactor.seconds()
        if now - self._used_at >= self._transports.limits.unused_s:
            self._drop()
            return
        self._parser.awaits_pong = True
        self._write(KeepAlive.PING.value)
        if self._ponged:
            self._ping_timer = self._transports.reactor.callLater(PONG_S, self._pong_due, now)
        else:
            self._ping_later()

    def _pong_due(self, asked_at: float) -> None:
        self._ping_timer = None
        if self._heard_at < asked_at:
            log.info("{flow!r} answers no ping", flow=self.flow)
            self._wire.abortConnection()
            return
        self._ping_later()

    def handshakeCompleted(self) -> None:
        self._secured = True
        if self._on_secured is not None:
            self._on_secured()

    def when_secured(self, then: Callable[[], None]) -> None:
        """Call `then` once the TLS handshake is over, which may be now."""
        self._on_secured = then
        if self._secured:
            then()

    def peer_certificate(self) -> x509.Certificate | None:
        """What the other end showed of itself by TLS, its chain checked."""
        certificate = self._wire.getPeerCertificate()
        return certificate.to_cryptography() if certificate is not None else None

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        for timer in (self._check, self._ping_timer):
            if timer is not None:
                timer.cancel()
        self._check = self._ping_timer = None
        if self.flow is not None:
            self._transports.closed(self.flow)

    def _send(self, data: bytes) -> None:
        self._used_at = self._transports.reactor.seconds()
        self._write(data)

    def _write(self, data: bytes) -> None:
        if not self._backlog.add(len(data)):
            log.info("{flow!r} does not take what it is sent", flow=self.flow)
            self._wire.abortConnection()
            return
        self._wire.write(data)

    def _drop(self) -> None:
        # registerProducer keeps loseConnection waiting for ever.
        self._wire.unregisterProducer()
        if self._backlog.stuck:
            self._wire.abortConnection()
            return
        if self._check is not None:
            self._check.cancel()
        self._check = self._transports.reactor.callLater(CLOSING_S, self._cut)
        self._wire.loseConnection()

    def _cut(self) -> None:
        self._check = None
        self._wire.abortConnection()


def plain_host(host: str) -> str:
    """A peer's address as it is otherwise called: a socket for both families gives IPv4 ones as ::ffff:192.0.2.1, and
    link-local ones with a zone, which is good on this machine alone."""
    if host.startswith("::ffff:") and "." in host:
        return host[7:]
    return host.partition("%")[0]


class StreamFactory(Factory):
    """Makes a protocol for each connection of one transport."""

    noisy = False

    def __init__(self, transports: Transports, name: str) -> None:
        self._transports = transports
        self._name = name

    def buildProtocol(self, addr: IAddress | None) -> StreamProtocol:
        return StreamProtocol(self._transports, self._name)
