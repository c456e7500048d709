"""SIP over UDP (RFC 3261 s18): one socket of ours, read by the loop itself.

Twisted's own UDP port costs twice as much for each datagram (70 µs of CPU in and out, where this takes 35), and cannot
listen on IPv6 beside IPv4 on one number.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from twisted.internet.abstract import isIPv6Address
from twisted.internet.error import CannotListenError
from twisted.logger import Logger

from sip_trunk.flow import Address, Flow, UdpFlow, tell
from sip_trunk.sip.errors import BadMessage
from sip_trunk.sip.parser import is_keep_alive, parse
from sip_trunk.stun import is_stun, stun_answer

if TYPE_CHECKING:
    from sip_trunk.transport import Transports

log = Logger()

RECEIVE_BUFFER = 4 << 20
"""A burst of registrations must fit while one message is being dealt with."""


class UdpPort:
    """One UDP socket. `unsent` counts the datagrams the kernel would not take: to those above, each is one lost on the
    way."""

    # A flow holds no state, so the table is only there to save making it anew, and may be emptied at any time.
    _KNOWN = 20_000

    def __init__(self, transports: Transports, host: str, sock: Any, number: int) -> None:
        self._transports = transports
        self.host = host
        self.number = number
        self.ipv6 = isIPv6Address(host)
        self.wires = transports.wires
        self.unsent = 0
        self._socket: Any = sock
        self._flows: dict[Address, UdpFlow] = {}

    @classmethod
    def open(cls, transports: Transports, host: str, number: int) -> UdpPort:
        """Listen. Raises CannotListenError."""
        family = socket.AF_INET6 if isIPv6Address(host) else socket.AF_INET
        try:
            sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        except OSError as error:
            raise CannotListenError(host, number, error) from error
        try:
            if family == socket.AF_INET6:
                # IPv4 has a socket of its own: an IPv4 peer is then called by its own address, everywhere.
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            sock.bind((host, number))
        except OSError as error:
            sock.close()
            raise CannotListenError(host, number, error) from error
        return cls(transports, host, sock, sock.getsockname()[1])

    def flow(self, address: Address) -> UdpFlow:
        flow = self._flows.get(address)
        if flow is None:
            if len(self._flows) >= self._KNOWN:
                self._flows.clear()
            flow = self._flows[address] = UdpFlow(self, address)
        return flow

    def send(self, data: bytes, address: Address, flow: Flow) -> None:
        try:
            self._socket.sendto(data, address)
        except (OSError, ValueError, OverflowError) as error:
            # A full buffer, no route, too long, closed: to the transaction above it is a datagram that got lost.
            self.unsent += 1
            # Each time there are twice as many: a socket that takes nothing must not fill the log.
            if not self.unsent & (self.unsent - 1):
                log.warn(
                    "{count} datagrams could not be sent, the last one of {size} octets by {flow!r}: {error}",
                    count=self.unsent, size=len(data), flow=flow, error=str(error),
                )  # fmt: skip

    def received(self, datagram: bytes, address: Address) -> None:
        if is_stun(datagram):
            answer = stun_answer(datagram, self.flow(address).peer)
            if answer is not None:
                self.send(answer, address, self.flow(address))
            return
        if is_keep_alive(datagram):
            return
        flow = self.flow(address)
        if self.wires:
            tell(self.wires, False, flow, datagram)
        try:
            message = parse(datagram, self._transports.limits.message)
        except BadMessage as error:
            self._transports.refuse(error, flow)
            return
        self._transports.deliver(message, flow)

    # What the loop asks.

    def read(self) -> None:
        """One datagram. The loop calls again while there are more: that costs half of finding out that there is none,
        and timers and connections have their turn in between."""
        try:
            datagram, address = self._socket.recvfrom(65_535)
        except BlockingIOError:
            return
        except OSError as error:
            # What an earlier datagram of ours met on its way may be told here; the next one is read all the same.
            log.debug("UDP port {number}: {error}", number=self.number, error=str(error))
            return
        try:
            self.received(datagram, address[:2])
        except Exception:
            log.failure("A datagram from {peer} could not be dealt with", peer=address)

    def fileno(self) -> int:
        return int(self._socket.fileno())

    def close(self) -> None:
        self._socket.close()
