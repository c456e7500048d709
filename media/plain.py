"""Plain RTP: a port pair for each medium, and the one peer that may speak through it."""

from __future__ import annotations

import ipaddress
import socket
from collections import deque
from collections.abc import Callable, Sequence

from config.errors import OurError, TheirError
from media.arrivals import Arrivals
from media.peer_address import NOBODY, is_far, is_loopback, one_host
from media.rtp import MAX_PACKET, Packet, Stream, is_rtcp, nowhere
from media.sdp import LONGEST_IP, NOWHERE, NOWHERES

HIGHEST_PORT = 65535
LEARN_S = 3.0
"""How long a packet of an earlier call, from another port of the same host, may be mistaken for the peer's."""

Address = tuple[str, int] | tuple[str, int, int, int]
"""As sockets name it: of IPv6 with flow and scope."""


class PortRange:
    """Even ports with the odd one above them (RFC 3550 section 11), used again as late as possible.

    `announced` are the addresses that peers are told to send to. Where those (or without them `host`) are loopback
    addresses, all peers are on this machine, and may say so.
    """

    def __init__(self, host: str, first: int, last: int, announced: Sequence[str] = ()) -> None:
        self.host = host
        self._announced = announced
        self.anywhere = ipaddress.ip_address(host).is_unspecified
        self.all_here = all(map(is_loopback, announced or (host,)))
        self._six = ":" in host
        self._free = deque(range(first + first % 2, last, 2))
        self._taken: set[int] = set()

    def __len__(self) -> int:
        return len(self._free)

    def take(self) -> tuple[socket.socket, socket.socket]:
        """Two bound sockets. Raises OurError(503) when no pair is left."""
        for _ in range(len(self._free)):
            port = self._free.popleft()
            try:
                rtp = bind(self.host, port)
            except OSError:
                self._free.append(port)  # somebody else's for now
                continue
            try:
                rtcp = bind(self.host, port + 1)
            except OSError:
                rtp.close()
                self._free.append(port)
                continue
            self._taken.add(port)
            return rtp, rtcp
        raise OurError("No media ports are free", 503)

    def may_connect(self, peer: Address) -> bool:
        """Whether a socket that is connected to this peer still hears what comes to the address we announced.

        One that listens on every address of the machine is narrowed to that by which the kernel routes to the peer.
        """
        return not self.anywhere or self._address_towards(peer) in self._announced

    def _address_towards(self, peer: Address) -> str:
        """Ours by which the kernel routes to this peer; empty where it does not."""
        with socket.socket(socket.AF_INET6 if self._six else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect(peer)
            except OSError:
                return ""
            ours: str = probe.getsockname()[0]
        return ours.removeprefix("::ffff:")

    def give_back(self, port: int) -> None:
        self._taken.discard(port)
        self._free.append(port)

    def destination(self, address: str, port: int) -> Address:
        """Where a description says its writer is, as these sockets name it: `NOBODY`'s place where it names a place of
        which no peer can be. TheirError(488) for what they cannot reach.
        """
        if address in NOWHERES:
            return NOWHERE, port
        ip = one_host(address)
        if (
            ip is None
            or (ip.version == 6) > self._six
            or (ip.version == 4 and self._six and not self.anywhere)
        ):
            raise TheirError(f"The media address {address[:LONGEST_IP]} cannot be reached from here", 488)
        if (self.all_here or is_far(ip)) and not self.is_ours(address, port):
            return self._place(str(ip), port)
        return self._place(NOBODY, port)

    def is_ours(self, address: str, port: int) -> bool:
        """Whether one of these ports is there: packets would go round and round, or into another call."""
        if port - port % 2 not in self._taken:
            return False
        ip = one_host(address)
        if ip is None:
            return False
        if str(ip) in (self.host, *self._announced):
            return True
        # The kernel routes to each address of this machine by that address.
        return self.anywhere and self._address_towards(self._place(str(ip), port)) == str(ip)

    def host_of(self, seen: str) -> str:
        """An address that packets were seen to come from, as these sockets name it."""
        ip = one_host(seen)
        return self._place(str(ip), 0)[0] if ip is not None else seen

    def _place(self, address: str, port: int) -> Address:
        """A socket for both families sees IPv4 peers by mapped addresses (RFC 4291 section 2.5.5.2)."""
        if not self._six:
            return address, port
        return address if ":" in address else f"::ffff:{address}", port, 0, 0


def bind(host: str, port: int, receive_buffer: int = 0) -> socket.socket:
    """A UDP socket that never blocks."""
    six = ":" in host
    sock = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        if six:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host != "::")
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, receive_buffer)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock


class PlainEndpoint:
    """One medium's sockets.

    Only the signalled address may speak. Its first packet fixes the port, which behind a NAT is not the signalled
    one; from the signalled port itself, the sockets are connected, so that the kernel keeps everyone else out and
    spares us addresses, where it may (`PortRange.may_connect`). It counts more than another port that was heard before
    it, but only for `LEARN_S`. A new description starts this anew, for a NAT forgets during a hold which port was
    whose; until somebody is heard we go on to send to whom we did. `seen_at` is as good as the signalled address: that
    of the peer's NAT.

    Of a peer that names no place where it can be (`PortRange.destination`) nothing is known but `seen_at`: from there
    its first packet is taken, and until then nothing is sent.

    Where we listen on loopback only, every peer is on this machine, and a phone that names its LAN address still
    sends to us from 127.0.0.1: there, that address stands for any.
    """

    ready = True
    """Whether there is anything to send with: nothing is needed here."""

    def __init__(
        self,
        arrivals: Arrivals,
        ports: PortRange,
        packet: Packet,
        stream: Stream,
        on_rtcp: Callable[[Stream, bytes], None],
        seen_at: str = "",
    ) -> None:
        self._arrivals = arrivals
        self._ports = ports
        self._packet = packet
        self._stream = stream
        self._on_rtcp = on_rtcp
        self.seen_at = seen_at
        self._rtp, self._rtcp = ports.take()
        self.port: int = self._rtp.getsockname()[1]
        self._signalled: Address | None = None
        self._rtcp_target: Address | None = None
        self._latched: Address | None = None
        # Whether it is known whose packets these are: nobody else's, then, until another description comes.
        self._settled = self._rtcp_settled = False
        self._learns_until = 0.0
        self._connected = False
        self._mux = False
        self._closed = False
        self._local = ports.all_here and ports.host.startswith("127.")
        self._may_connect = False
        self._read()
        arrivals.watch(self._rtcp.fileno(), self._rtcp_arrived)

    def reach(self, rtp: tuple[str, int], rtcp: tuple[str, int] | None, *, mux: bool) -> None:
        """The peer is at `rtp`, says its description; `rtcp` is None for the port above (RFC 3550 section 11)."""
        self._mux = mux
        self._settled = self._rtcp_settled = False
        above = rtp[0], min(rtp[1] + 1, HIGHEST_PORT)
        self._rtcp_target = None if mux else self._ports.destination(*(rtcp or above))
        place = self._ports.destination(*rtp)
        if place != self._signalled:
            if self._connected:
                self._rebind()
            self._latched = None
            self._signalled = place if place[1] else None
            self._may_connect = self._signalled is not None and self._ports.may_connect(self._signalled)
        silent = self._signalled is None or place[0] == NOWHERE
        self._stream.send = nowhere if silent else (self._send_connected if self._connected else self._send)
        self._stream.send_rtcp = nowhere if silent else self._send_rtcp

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for sock in (self._rtp, self._rtcp):
            self._arrivals.forget(sock.fileno())
            sock.close()
        self._stream.send = self._stream.send_rtcp = nowhere
        self._ports.give_back(self.port)

    def _read(self) -> None:
        reader = self._arrived_connected if self._connected else self._arrived
        self._arrivals.watch(self._rtp.fileno(), reader)

    def _rebind(self) -> None:
        """Python cannot disconnect a UDP socket, so a new one takes its place on the same port."""
        self._arrivals.forget(self._rtp.fileno())
        self._rtp.close()
        self._connected = False
        try:
            self._rtp = bind(self._ports.host, self.port)
        except OSError as error:
            raise OurError(f"Media port {self.port} was lost: {error.strerror}", 503) from None
        self._read()

    def _arrived_connected(self, now: float) -> None:
        data = self._packet.data
        try:
            size = self._rtp.recv_into(data, MAX_PACKET)
        except OSError:  # nothing there after all, or the peer's port is closed (ICMP)
            return
        if is_rtcp(data[1]) and self._mux:
            self._on_rtcp(self._stream, bytes(self._packet.view[:size]))
        else:
            self._stream.arrived(size, now)

    def _arrived(self, now: float) -> None:
        data = self._packet.data
        try:
            size, address = self._rtp.recvfrom_into(data, MAX_PACKET)
        except OSError:
            return
        if not self._believed(address, now) or size < 8 or data[0] & 0xC0 != 0x80:
            return
        if is_rtcp(data[1]) and self._mux:
            self._on_rtcp(self._stream, bytes(self._packet.view[:size]))
        else:
            self._stream.arrived(size, now)

    def _believed(self, address: Address, now: float) -> bool:
        if address == self._signalled:
            if self._settled and self._latched not in (None, address) and now > self._learns_until:
                return False
            if not self._may_connect:
                self._latched = address
                self._settled = True
                return True
            try:
                self._rtp.connect(address)
            except OSError:
                return True
            self._connected = True
            self._read()
            if self._stream.send == self._send:
                self._stream.send = self._send_connected
            return True
        if self._signalled is None or not self._same_host(address[0], self._signalled[0]):
            return False
        if not self._settled:
            if self._ports.is_ours(address[0], address[1]):
                return False
            self._latched = address
            self._settled = True
            self._learns_until = now + LEARN_S
        return address == self._latched

    def _same_host(self, address: str, signalled: str) -> bool:
        return address in (signalled, self.seen_at) or (self._local and address.startswith("127."))

    def _rtcp_arrived(self, now: float) -> None:
        try:
            data, address = self._rtcp.recvfrom(MAX_PACKET)
        except OSError:
            return
        target = self._rtcp_target
        if target is None or not self._same_host(address[0], target[0]):
            return
        if self._rtcp_settled and address != target:
            return
        if len(data) >= 8 and is_rtcp(data[1]):
            self._rtcp_target = address
            self._rtcp_settled = True
            self._on_rtcp(self._stream, data)

    def _send_connected(self, size: int) -> None:
        try:
            self._rtp.send(self._packet.view[:size])
        except OSError:  # full, or refused by the peer's host: lost, as on any network
            return

    def _send(self, size: int) -> None:
        try:
            self._rtp.sendto(self._packet.view[:size], self._latched or self._signalled or ("", 0))
        except OSError:
            return

    def _send_rtcp(self, data: bytes) -> None:
        try:
            if not self._mux:
                self._rtcp.sendto(data, self._rtcp_target or ("", 0))
            elif self._connected:
                self._rtp.send(data)
            else:
                self._rtp.sendto(data, self._latched or self._signalled or ("", 0))
        except OSError:
            return
