"""SRTP for phones: ports as in plain RTP, keys by SDES (RFC 4568) or by a DTLS handshake on each port (RFC 5763).

Here a packet shows by its tag whose it is. Whoever holds the key may move (a phone that changes networks), and
nobody else is heard; so addresses only count where a handshake has yet to say who is there.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from media import sdes
from media.arrivals import Arrivals
from media.dtls import PROFILES, Certificate, Dtls, DtlsFailed, Srtp
from media.plain import HIGHEST_PORT, Address, PortRange
from media.rtp import MAX_PACKET, Packet, Stream, is_rtcp, nowhere
from media.sdes import Crypto
from media.sdp import NOWHERE, Fingerprint

GOODBYE_S = 1.0
"""Who hangs up may say so here before their BYE is there, which says whose doing it was."""


class _Port:
    """One socket, where its peer is, and the association with it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.signalled: Address | None = None
        self.heard_at: Address | None = None
        self.dtls: Dtls | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.srtp: Srtp | None = None

    @property
    def target(self) -> Address | None:
        return self.heard_at or self.signalled

    def send(self, data: bytes | memoryview) -> None:
        target = self.target
        if target is None:
            return
        try:
            self.sock.sendto(data, target)
        except OSError:  # full, or refused by the peer's host: lost, as on any network
            return

    def forget(self) -> None:
        """The association; where the peer is stays known."""
        if self.timer is not None:
            self.timer.cancel()
        self.dtls = self.timer = self.srtp = None


class SecureEndpoint:
    """One medium's sockets. With a `certificate` keys are agreed by DTLS, without by SDES.

    `seen_at` is where the peer's signalling came from: behind a NAT that is its address, whatever it says.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        arrivals: Arrivals,
        ports: PortRange,
        packet: Packet,
        stream: Stream,
        on_rtcp: Callable[[Stream, bytes], None],
        *,
        certificate: Certificate | None,
        on_ready: Callable[[], None],
        on_gone: Callable[[str], None],
        seen_at: str = "",
    ) -> None:
        self._loop = loop
        self._arrivals = arrivals
        self._ports = ports
        self._packet = packet
        self._stream = stream
        self._on_rtcp = on_rtcp
        self._certificate = certificate
        self._on_ready = on_ready
        self._on_gone = on_gone
        self.seen_at = seen_at
        rtp, rtcp = ports.take()
        self.port: int = rtp.getsockname()[1]
        self._rtp, self._rtcp = _Port(rtp), _Port(rtcp)
        self._mux = self._closed = self._failed = False
        self._own = {crypto.suite: crypto for crypto in sdes.make_all()} if certificate is None else {}
        self._key: tuple[str, bytes] | None = None  # the peer's, and its suite
        self._srtps: dict[str, Srtp] = {}  # by suite
        self._peer: Fingerprint | None = None
        self._server = True
        self._local = ports.host.startswith("127.")
        for port in (self._rtp, self._rtcp):
            arrivals.watch(port.sock.fileno(), partial(self._arrived, port))

    @property
    def ready(self) -> bool:
        """Whether there are keys to send with."""
        return self._rtp.srtp is not None

    @property
    def by_handshake(self) -> bool:
        """Whether keys are agreed by DTLS."""
        return self._certificate is not None

    def cryptos(self, theirs: Crypto | None) -> tuple[Crypto, ...]:
        """Our a=crypto: in an answer to `theirs` one, in an offer (None) one for each suite; without SDES none."""
        if theirs is None or not self._own:
            return tuple(self._own.values())
        return (replace(self._own[theirs.suite], tag=theirs.tag),)

    def setup(self, *, answering: bool) -> str:
        """a=setup of our description (RFC 5763 section 5)."""
        if not answering:
            return "actpass"
        return "passive" if self._server else "active"

    def agree(self, crypto: Crypto | None, fingerprint: Fingerprint | None, setup: str) -> None:
        """What the peer's description says of keys; to be told before `reach`."""
        if crypto is not None:
            key = crypto.suite, crypto.key
            # The same keys go on as they are: an association begun anew would count packets from the start
            # (RFC 4568 section 7.1.4). Ours are the same for the whole call.
            if key != self._key:
                self._key = key
                profile, _, _ = PROFILES[sdes.SUITES[crypto.suite][0]]
                srtp = self._srtps.get(crypto.suite)
                if srtp is None:
                    keys = profile, self._own[crypto.suite].key, crypto.key
                    srtp = self._srtps[crypto.suite] = Srtp(self._packet, keys)
                else:
                    srtp.hear(profile, crypto.key)
                self._rtp.srtp = self._rtcp.srtp = srtp
        elif fingerprint is not None and fingerprint != self._peer:
            self._begin_anew()
            self._peer = fingerprint
            # To "actpass" we are the server: behind a NAT the peer can reach us, and not we the peer.
            self._server = setup != "passive"

    def reach(self, rtp: tuple[str, int], rtcp: tuple[str, int] | None, *, mux: bool) -> None:
        """The peer is at `rtp`, says its description; `rtcp` is None for the port above (RFC 3550 section 11)."""
        self._mux = mux
        above = rtp[0], min(rtp[1] + 1, HIGHEST_PORT)
        for port, said in ((self._rtp, rtp), (self._rtcp, rtcp or above)):
            place = self._ports.destination(*said)
            signalled = place if place[1] and place[0] != NOWHERE else None
            if signalled != port.signalled:
                port.signalled = signalled
                port.heard_at = None
        self._connect()
        if self._peer is not None and not self._server:
            for port in (self._rtp,) if mux else (self._rtp, self._rtcp):
                if port.dtls is None and port.signalled is not None:
                    self._shake(port)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for port in (self._rtp, self._rtcp):
            if port.dtls is not None and port.srtp is not None:
                port.dtls.close()
            port.forget()
            self._arrivals.forget(port.sock.fileno())
            port.sock.close()
        self._stream.send = self._stream.send_rtcp = nowhere
        self._ports.give_back(self.port)

    def _begin_anew(self) -> None:
        """RFC 8842 section 3.1: another certificate is another association."""
        for port in (self._rtp, self._rtcp):
            port.forget()
        self._failed = False

    def _connect(self) -> None:
        reachable = self._rtp.signalled is not None and not self._closed
        control = self._rtp if self._mux else self._rtcp
        self._stream.send = self._send if reachable and self._rtp.srtp is not None else nowhere
        self._stream.send_rtcp = self._send_rtcp if reachable and control.srtp is not None else nowhere

    def _arrived(self, port: _Port, now: float) -> None:
        data = self._packet.data
        try:
            size, address = port.sock.recvfrom_into(data, MAX_PACKET)
        except OSError:
            return
        if size < 8:
            return
        first = data[0]
        # RFC 7983 section 7: the first byte says what a packet is.
        if 127 < first < 192:
            self._protected(port, size, address, now)
        elif 19 < first < 64 and self._peer is not None and self._believed(port, address):
            self._shaken(port, bytes(self._packet.view[:size]), address)

    def _protected(self, port: _Port, size: int, address: Address, now: float) -> None:
        srtp = port.srtp
        if srtp is None:
            return
        if port is self._rtcp or (self._mux and is_rtcp(self._packet.data[1])):
            if clear := srtp.unprotect_rtcp(size):
                port.heard_at = address
                self._on_rtcp(self._stream, clear)
        elif size := srtp.unprotect(size):
            port.heard_at = address
            self._stream.arrived(size, now)

    def _send(self, size: int) -> None:
        srtp = self._rtp.srtp
        if srtp is not None and (size := srtp.protect(size)):
            self._rtp.send(self._packet.view[:size])

    def _send_rtcp(self, data: bytes) -> None:
        port = self._rtp if self._mux else self._rtcp
        if port.srtp is not None and (protected := port.srtp.protect_rtcp(data)):
            port.send(protected)

    # The handshake

    def _believed(self, port: _Port, address: Address) -> bool:
        """Who may shake hands. A stranger could not finish, but could spoil it for the peer."""
        if port.signalled is None:
            return False
        host = address[0]
        return host in (port.signalled[0], self.seen_at) or (self._local and host.startswith("127."))

    def _shake(self, port: _Port) -> Dtls | None:
        """The association of this port, begun if need be."""
        if (
            port.dtls is None
            and self._certificate is not None
            and self._peer is not None
            and not self._failed
        ):
            port.dtls = Dtls(self._certificate, self._peer, port.send, server=self._server)
            if not self._server:
                self._go_on(port, port.dtls.handshake)
        return port.dtls

    def _shaken(self, port: _Port, datagram: bytes, address: Address) -> None:
        dtls = self._shake(port)
        if dtls is None:
            return
        if port.srtp is None:
            port.heard_at = address
        self._go_on(port, lambda: dtls.received(datagram))

    def _go_on(self, port: _Port, step: Callable[[], None]) -> None:
        dtls = port.dtls
        if port.timer is not None:
            port.timer.cancel()
            port.timer = None
        try:
            step()
        except DtlsFailed as failure:
            was_there = dtls is not None and dtls.keys is not None
            self._failed = True
            self._rtp.forget()
            self._rtcp.forget()
            self._connect()
            if was_there:
                self._rtp.timer = self._loop.call_later(GOODBYE_S, self._on_gone, f"DTLS: {failure}")
            else:
                self._on_gone(f"DTLS: {failure}")
            return
        if dtls is None or dtls is not port.dtls:
            return
        if dtls.keys is not None and port.srtp is None:
            port.srtp = Srtp(self._packet, dtls.keys)
            self._connect()
            if port is self._rtp:
                self._on_ready()
        due = dtls.timeout()
        if due is not None:
            port.timer = self._loop.call_later(due + 0.001, self._go_on, port, dtls.tick)
