"""WebRTC's side of the relay: one UDP port for all browsers, ICE-lite (RFC 8445 section 2.5), DTLS-SRTP, BUNDLE."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from media import stun
from media.arrivals import Arrivals
from media.dtls import Certificate, Dtls, DtlsFailed, Srtp, ice_credentials
from media.plain import Address, bind
from media.rtp import MAX_PACKET, Packet, Stream, is_rtcp, nowhere
from media.sdp import Fingerprint

CONSENT_S = 30.0  # RFC 7675 section 5.1
FRESH_S = 15.0
# One wake-up reads at most this many packets, so that a flood of media cannot keep control requests waiting.
BATCH = 64
# Addresses a browser may be checking from at once.
MAX_PATHS = 16
RECEIVE_BUFFER = 4 << 20


class BrowserPort:
    """The socket all browsers share. A check's ufrag tells whose it is; media is told by where it comes from."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        arrivals: Arrivals,
        host: str,
        port: int,
        packet: Packet,
        now: Callable[[], float],
    ) -> None:
        self.loop = loop
        self._arrivals = arrivals
        self.packet = packet
        self.now = now
        self.certificate = Certificate()
        self._sock = bind(host, port, RECEIVE_BUFFER)
        self.port: int = self._sock.getsockname()[1]
        self.by_ufrag: dict[str, BrowserTransport] = {}
        self.by_address: dict[Address, BrowserTransport] = {}
        self.sendto = self._sock.sendto
        arrivals.watch(self._sock.fileno(), self._arrived)

    def close(self) -> None:
        self._arrivals.forget(self._sock.fileno())
        self._sock.close()

    def _arrived(self, now: float) -> None:
        data = self.packet.data
        receive = self._sock.recvfrom_into
        by_address = self.by_address
        for _ in range(BATCH):
            try:
                size, address = receive(data, MAX_PACKET)
            except OSError:
                return
            first = data[0]
            # RFC 7983 section 7: the first byte says what a packet is.
            if 127 < first < 192:
                transport = by_address.get(address)
                if transport is not None:
                    transport.media_arrived(size, now)
            elif first < 4:
                self._check(bytes(self.packet.view[:size]), address, now)
            elif 19 < first < 64:
                transport = by_address.get(address)
                if transport is not None:
                    transport.dtls_arrived(bytes(self.packet.view[:size]))

    def _check(self, data: bytes, address: Address, now: float) -> None:
        request = stun.parse_request(data)
        if request is None:
            return
        ufrag, _, theirs = request.username.partition(":")
        transport = self.by_ufrag.get(ufrag)
        # An unknown or wrongly signed check gets no answer: strangers learn nothing and amplify nothing.
        if transport is None or not request.authentic(transport.pwd):
            return
        if transport.peer_ufrag and theirs != transport.peer_ufrag:
            return
        if request.controlled:
            reply = stun.role_conflict(request, transport.pwd)
        else:
            transport.checked(address, now, nominated=request.nominates)
            reply = stun.success(request, address, transport.pwd)
        self.send(reply, address)

    def send(self, data: bytes, address: Address) -> None:
        try:
            self.sendto(data, address)
        except OSError:
            return


class BrowserTransport:
    """One browser: all its media in one bundle (RFC 9143), RTP and RTCP together (RFC 5761)."""

    def __init__(
        self,
        port: BrowserPort,
        *,
        on_ready: Callable[[], None],
        on_gone: Callable[[str], None],
        on_rtcp: Callable[[bytes], None],
    ) -> None:
        self._port = port
        self._packet = port.packet
        self._on_ready = on_ready
        self._on_gone = on_gone
        self._on_rtcp = on_rtcp
        self.ufrag, self.pwd = ice_credentials()
        port.by_ufrag[self.ufrag] = self
        self.peer_ufrag = ""
        self._fingerprint: Fingerprint | None = None
        self._paths: list[Address] = []
        self._address: Address = ("", 0)
        self._nominated = False
        self._checked_at = port.now()
        self._dtls: Dtls | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._srtp: Srtp | None = None
        self._silent = False
        self._streams: tuple[Stream, ...] = ()
        self._by_payload: list[Stream | None] = [None] * 128

    @property
    def ready(self) -> bool:
        return self._srtp is not None and not self._silent

    @property
    def known(self) -> bool:
        """Whether the peer's description has been taken."""
        return self._fingerprint is not None

    def carry(self, streams: tuple[Stream, ...]) -> None:
        """These share the transport; their payload types differ (RFC 9143 section 9.2)."""
        self._streams = streams
        self._by_payload = [next((s for s in streams if s.hears(n)), None) for n in range(128)]
        self._connect_streams()

    def restarted(self, ufrag: str) -> bool:
        """Whether a description with this ufrag restarts ICE (RFC 8445 section 9)."""
        return bool(self.peer_ufrag) and ufrag != self.peer_ufrag

    def renew_credentials(self) -> None:
        """For an ICE restart; the old path serves until the new one is checked."""
        self._port.by_ufrag.pop(self.ufrag, None)
        self.ufrag, self.pwd = ice_credentials()
        self._port.by_ufrag[self.ufrag] = self
        self._nominated = False

    def reach(self, ufrag: str, fingerprint: Fingerprint) -> None:
        """The peer's description is known; time for its first check runs from now."""
        if not self.known:
            self._checked_at = self._port.now()
        self.peer_ufrag = ufrag
        if self._fingerprint is not None and fingerprint != self._fingerprint:
            # RFC 8842 section 3.1: another certificate is another association.
            self._dtls = self._srtp = None
            self._connect_streams()
        self._fingerprint = fingerprint

    def checked(self, address: Address, now: float, *, nominated: bool) -> None:
        """A valid check came from here. It is consent to send (RFC 7675), and maybe the choice of the path."""
        owner = self._port.by_address.get(address)
        if owner is not None and owner is not self and owner.fresh(now):
            # Checks come by UDP, and their source can be forged: nobody takes over an address in use.
            return
        self._checked_at = now
        if address not in self._paths:
            self._paths.append(address)
            if len(self._paths) > MAX_PATHS:
                self._forget(self._paths.pop(0))
        self._port.by_address[address] = self
        if (nominated or not self._nominated) and self._address != address:
            self._address = address
        self._nominated = self._nominated or nominated
        if self._silent:
            self._silent = False
            self._connect_streams()

    def fresh(self, now: float) -> bool:
        """Whether its browser was there a moment ago; checks come at least every few seconds (RFC 7675 section 5.1)."""
        return not self._silent and now - self._checked_at < FRESH_S

    def sweep(self, now: float) -> None:
        """Called every second: consent that is not renewed ends."""
        if self.known and not self._silent and now - self._checked_at > CONSENT_S:
            why = "ICE consent was lost" if self._paths else "no ICE check came"
            self._silent = True
            self._connect_streams()
            self._on_gone(why)

    def dtls_arrived(self, datagram: bytes) -> None:
        if self._fingerprint is None:
            return  # the answer is still on its way; the browser sends its ClientHello again
        if self._dtls is None:
            self._dtls = Dtls(self._port.certificate, self._fingerprint, self._send)
        dtls = self._dtls
        was_ready = dtls.keys is not None
        try:
            dtls.received(datagram)
        except DtlsFailed as failure:
            self._fail(str(failure))
            return
        if dtls.keys is not None and not was_ready:
            self._srtp = Srtp(self._packet, dtls.keys)
            self._connect_streams()
            self._on_ready()
        self._schedule()

    def media_arrived(self, size: int, now: float) -> None:
        """An SRTP or SRTCP packet stands in the buffer."""
        srtp = self._srtp
        if srtp is None or size < 8:
            return
        second = self._packet.data[1]
        if is_rtcp(second):
            if clear := srtp.unprotect_rtcp(size):
                self._on_rtcp(clear)
            return
        stream = self._by_payload[second & 0x7F]
        if stream is not None:
            size = srtp.unprotect(size)
            if size:
                stream.arrived(size, now)

    def close(self) -> None:
        if self._dtls is not None and not self._silent:
            self._dtls.close()
        if self._timer is not None:
            self._timer.cancel()
        self._srtp = None
        self._connect_streams()
        self._port.by_ufrag.pop(self.ufrag, None)
        for address in self._paths:
            self._forget(address)

    def _fail(self, why: str) -> None:
        self._srtp = None
        self._connect_streams()
        if not self._silent:
            self._silent = True
            self._on_gone(f"DTLS: {why}")

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self._dtls.timeout() if self._dtls is not None else None
        if due is not None:
            self._timer = self._port.loop.call_later(due + 0.001, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if self._dtls is None:
            return
        try:
            self._dtls.tick()
        except DtlsFailed as failure:
            self._fail(str(failure))
            return
        self._schedule()

    def _forget(self, address: Address) -> None:
        if self._port.by_address.get(address) is self:
            del self._port.by_address[address]

    def _connect_streams(self) -> None:
        send = self._send_rtp if self.ready else nowhere
        for stream in self._streams:
            stream.send = send if stream.recent is None else stream.recent.before(send)
            stream.send_rtcp = self._send_rtcp if self.ready else nowhere

    def _send_rtp(self, size: int) -> None:
        srtp = self._srtp
        if srtp is None:
            return
        size = srtp.protect(size)
        if size:
            try:
                self._port.sendto(self._packet.view[:size], self._address)
            except OSError:
                return

    def _send_rtcp(self, data: bytes) -> None:
        if self._srtp is not None and (protected := self._srtp.protect_rtcp(data)):
            self._send(protected)

    def _send(self, datagram: bytes) -> None:
        # RFC 7675 section 5.1: without consent nothing is sent, a handshake's next attempt neither.
        if self._paths and not self._silent:
            self._port.send(datagram, self._address)
