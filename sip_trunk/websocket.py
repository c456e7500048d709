"""SIP over web sockets (RFC 7118), to be mounted in the web site: `site.putChild(b"sip", sip_resource(...))`."""

# Autobahn's functions have no types.
# mypy: disallow-untyped-calls=False

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from autobahn.twisted.resource import WebSocketResource
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.types import ConnectionDeny
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IDelayedCall, ISSLTransport
from twisted.logger import Logger
from twisted.web.resource import IResource

from sip_trunk.flow import Connection, tell
from sip_trunk.sip.errors import BadMessage
from sip_trunk.sip.parser import KeepAlive, is_keep_alive, parse
from sip_trunk.stream import Backlog, plain_host
from sip_trunk.transport import Transports

log = Logger()

PING_EVERY_S = 12.0
"""A browser that is gone without a word is noticed after twice this, at most."""


class SipWebSocket(WebSocketServerProtocol):
    """One browser. Its connection is the only way to it: the host in its Contact does not exist (RFC 7118 s5)."""

    factory: SipWebSocketFactory
    flow: Connection | None = None
    _alarm: IDelayedCall | None = None
    _backlog: Backlog | None = None
    _heard = True

    def onConnect(self, request: Any) -> str:
        if "sip" not in request.protocols:
            raise ConnectionDeny(ConnectionDeny.BAD_REQUEST, "The subprotocol must be sip")
        origin = request.headers.get("origin")
        if not self.factory.may_come_from(origin, request.headers.get("host", "")):
            log.info("A page of {origin} may not open a web socket here", origin=origin)
            raise ConnectionDeny(ConnectionDeny.FORBIDDEN, "Not from this page")
        return "sip"

    def onOpen(self) -> None:
        transports = self.factory.transports
        assert self.transport is not None
        address = self.transport.getPeer()
        assert isinstance(address, IPv4Address | IPv6Address)
        name = "WSS" if ISSLTransport.providedBy(self.transport) else "WS"
        flow = Connection(name, (plain_host(address.host), address.port), self._write, self._drop)
        if not transports.opened(flow):
            self.sendClose(1000, "Too many connections")
            return
        self.flow = flow
        # The web site's own producer is still there; it holds back what a page would ask next, and counts nothing.
        self.unregisterProducer()
        self._backlog = Backlog(transports.limits.unsent)
        self.registerProducer(self._backlog, True)
        self._arm()

    def _arm(self) -> None:
        self._alarm = self.factory.transports.reactor.callLater(PING_EVERY_S, self._ping)

    def _ping(self) -> None:
        self._alarm = None
        if not self._heard:
            log.debug("{flow!r} is silent", flow=self.flow)
            self.dropConnection(abort=True)
            return
        self._heard = False
        self.sendPing()
        self._arm()

    def onPong(self, payload: bytes) -> None:
        self._heard = True

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self._heard = True
        flow = self.flow
        if flow is None:
            return
        if is_keep_alive(payload):
            if payload == KeepAlive.PING.value:
                self._write(KeepAlive.PONG.value)
            return
        if flow.wires:
            tell(flow.wires, False, flow, payload)
        transports = self.factory.transports
        try:
            message = parse(payload, transports.limits.message)
        except BadMessage as error:
            transports.refuse(error, flow)
            return
        transports.deliver(message, flow)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self.flow is not None:
            self.factory.transports.closed(self.flow)

    def _write(self, data: bytes) -> None:
        if self._backlog is not None and not self._backlog.add(len(data)):
            log.info("{flow!r} does not take what it is sent", flow=self.flow)
            self.dropConnection(abort=True)
            return
        try:
            data.decode()
        except UnicodeDecodeError:
            # RFC 7118 s4.2: a text frame must be UTF-8, a message need not be.
            self.sendMessage(data, isBinary=True)
        else:
            self.sendMessage(data, isBinary=False)

    def _drop(self) -> None:
        # 1001 would be the word for it (RFC 6455 s7.4.1), but Autobahn sends none below 3000 except 1000.
        self.sendClose(1000, "Going away")


class SipWebSocketFactory(WebSocketServerFactory):
    protocol = SipWebSocket  # type: ignore[assignment]

    def __init__(self, transports: Transports) -> None:
        super().__init__(protocols=["sip"], server="", reactor=transports.reactor)
        self.transports = transports
        size = transports.limits.message.message
        self.setProtocolOptions(
            versions=[13],
            maxFramePayloadSize=size,
            maxMessagePayloadSize=size,
            openHandshakeTimeout=5,
            closeHandshakeTimeout=2,
            tcpNoDelay=True,
        )

    def may_come_from(self, origin: str | None, host: str) -> bool:
        """Whether a page of this origin may use the socket, so that another site's page cannot borrow a login.

        What is no browser sends no origin, and needs none.
        """
        return origin is None or urlsplit(origin).netloc.lower() == host.lower() != ""


def sip_resource(transports: Transports) -> IResource:
    """The resource to put at /sip of a twisted.web site."""
    factory = SipWebSocketFactory(transports)
    factory.startFactory()
    resource: IResource = WebSocketResource(factory)
    return resource
