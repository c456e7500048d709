"""DTLS-SRTP (RFC 5764): keys by a DTLS handshake, packets by SRTP (RFC 3711, RFC 7714)."""

from __future__ import annotations

import datetime
import hashlib
import hmac
import secrets
import struct
from collections.abc import Callable

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from pylibsrtp import Policy, Session
from pylibsrtp._binding import ffi, lib

from media.rtp import Packet
from media.sdp import Fingerprint

# Profile name -> (number in libsrtp, length of key, length of salt), RFC 5764 section 4.1.2, RFC 7714 section 14.2.
PROFILES = {
    b"SRTP_AEAD_AES_128_GCM": (Policy.SRTP_PROFILE_AEAD_AES_128_GCM, 16, 12),
    b"SRTP_AES128_CM_SHA1_80": (Policy.SRTP_PROFILE_AES128_CM_SHA1_80, 16, 14),
    b"SRTP_AEAD_AES_256_GCM": (Policy.SRTP_PROFILE_AEAD_AES_256_GCM, 32, 12),
    b"SRTP_AES128_CM_SHA1_32": (Policy.SRTP_PROFILE_AES128_CM_SHA1_32, 16, 14),
}
# Those agreed by a handshake, as we like them best. AES-256 guards nothing here that AES-128 does not.
HANDSHAKE_PROFILES = (b"SRTP_AEAD_AES_128_GCM", b"SRTP_AES128_CM_SHA1_80", b"SRTP_AEAD_AES_256_GCM")
HASHES = {"sha-256": hashlib.sha256, "sha-384": hashlib.sha384, "sha-512": hashlib.sha512}
# Each source of an association has a state of its own in libsrtp, found by going through all of them. One that changes
# its SSRC with every hold does not have so many.
MOST_SOURCES = 64
_SSRC, _SSRC_AT, _RTCP_SSRC_AT = struct.Struct("!I").unpack_from, 8, 4
# Below the smallest MTU a path to a browser is likely to have (IPv6 minimum less headers, as browsers do).
DATAGRAM = 1200


class Certificate:
    """Our own self-signed one; WebRTC trusts it by its fingerprint in the SDP (RFC 8827 section 6.5)."""

    def __init__(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "warmline")])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=365))
            .sign(key, hashes.SHA256())
        )
        digest = certificate.fingerprint(hashes.SHA256()).hex(":").upper()
        self.fingerprint = Fingerprint("sha-256", digest)
        self.context = SSL.Context(SSL.DTLS_METHOD)
        self.context.use_certificate(certificate)
        self.context.use_privatekey(key)
        self.context.set_cipher_list(b"ECDHE+AESGCM:ECDHE+CHACHA20")
        self.context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_QUERY_MTU)
        self.context.set_tlsext_use_srtp(b":".join(HANDSHAKE_PROFILES))
        # The peer's certificate is self-signed too: it is asked for, taken, and checked against the SDP afterwards.
        self.context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_: True)


class DtlsFailed(Exception):
    """The handshake cannot succeed any more, or the peer ended the association. `str()` says why."""


class Dtls:
    """One association. Knows no sockets and no clock: `send` takes datagrams, `timeout` says when to call `tick`."""

    def __init__(
        self,
        certificate: Certificate,
        peer: Fingerprint,
        send: Callable[[bytes], None],
        *,
        server: bool = True,
    ) -> None:
        self._connection = SSL.Connection(certificate.context, None)
        self._connection.set_ciphertext_mtu(DATAGRAM)
        if server:
            self._connection.set_accept_state()
        else:
            self._connection.set_connect_state()
        self._server = server
        self._peer = peer
        self._send = send
        self.keys: tuple[int, bytes, bytes] | None = None
        """(libsrtp profile, our master key and salt, theirs) once the handshake is done."""

    def received(self, datagram: bytes) -> None:
        """Raises DtlsFailed."""
        if not datagram:  # UDP carries those too, and OpenSSL takes nothing for a fault
            return
        self._connection.bio_write(datagram)
        if self.keys is None:
            self.handshake()
        else:
            self._drain()

    def handshake(self) -> None:
        """Go on with the handshake; a client starts with this. Raises DtlsFailed."""
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            return
        except SSL.Error as error:
            raise DtlsFailed(_words(error)) from None
        else:
            self.keys = self._derive()
        finally:
            self._flush()

    def timeout(self) -> float | None:
        """Seconds until `tick` is due; None when nothing is outstanding."""
        return None if self.keys is not None else self._connection.DTLSv1_get_timeout()

    def tick(self) -> None:
        """Send again what got lost. Raises DtlsFailed when that was tried too often."""
        try:
            self._connection.DTLSv1_handle_timeout()
        except SSL.Error as error:
            raise DtlsFailed(_words(error)) from None
        self._flush()

    def close(self) -> None:
        try:
            self._connection.shutdown()
        except SSL.Error:
            return
        self._flush()

    def _drain(self) -> None:
        """After the handshake only alerts matter: a browser that closes its connection says so."""
        try:
            while True:
                self._connection.recv(DATAGRAM)
        except SSL.WantReadError:
            self._flush()  # a retransmitted Finished may have been answered
        except SSL.ZeroReturnError:
            raise DtlsFailed("closed by the peer") from None
        except SSL.Error as error:
            raise DtlsFailed(_words(error)) from None

    def _flush(self) -> None:
        pending = b""
        while True:
            try:
                pending += self._connection.bio_read(65536)
            except SSL.WantReadError:
                break
        for datagram in datagrams(pending):
            self._send(datagram)

    def _derive(self) -> tuple[int, bytes, bytes]:
        shown = self._connection.get_peer_certificate(as_cryptography=True)
        make = HASHES.get(self._peer.algorithm)
        if shown is None or make is None:
            raise DtlsFailed(f"cannot check a {self._peer.algorithm} fingerprint")
        digest = make(shown.public_bytes(Encoding.DER)).digest()
        if not hmac.compare_digest(digest, bytes.fromhex(self._peer.value.replace(":", ""))):
            raise DtlsFailed("the certificate is not the one named in the SDP")
        profile = PROFILES.get(self._connection.get_selected_srtp_profile())
        if profile is None:
            raise DtlsFailed("no common SRTP profile")
        number, key, salt = profile
        # RFC 5764 section 4.2: client key, server key, client salt, server salt.
        material = self._connection.export_keying_material(b"EXTRACTOR-dtls_srtp", 2 * (key + salt))
        client = material[:key] + material[2 * key : 2 * key + salt]
        server = material[key : 2 * key] + material[2 * key + salt :]
        return (number, server, client) if self._server else (number, client, server)


def datagrams(records: bytes) -> list[bytes]:
    """Cut a flight where records end (RFC 6347 section 4.1.1): OpenSSL's memory BIO forgets where its writes were."""
    cut = []
    start = at = 0
    while at + 13 <= len(records):
        end = at + 13 + int.from_bytes(records[at + 11 : at + 13], "big")
        if end - start > DATAGRAM and at > start:
            cut.append(records[start:at])
            start = at
        at = end
    if start < len(records):
        cut.append(records[start:])
    return cut


def _words(error: SSL.Error) -> str:
    if error.args and isinstance(error.args[0], list) and error.args[0]:
        return str(error.args[0][0][-1])
    return type(error).__name__


class Srtp:
    """Both directions of one association, working in place in the shared packet buffer.

    pylibsrtp's own methods copy a packet four times and refuse one of 1,357 bytes, which some phones send as video;
    so its sessions are used through the library underneath.
    """

    __slots__ = (
        "_cdata", "_in", "_length", "_out", "_packet", "_rtcp", "_rtcp_view", "_sessions", "_sources",
    )  # fmt: skip

    def __init__(self, packet: Packet, keys: tuple[int, bytes, bytes]) -> None:
        profile, ours, theirs = keys
        outbound = Policy(ours, Policy.SSRC_ANY_OUTBOUND, srtp_profile=profile)
        # Forwarded packets come as they are lost, repeated and reordered on the way here.
        outbound.allow_repeat_tx = True
        outbound.window_size = 1024
        self._sessions = [Session(outbound)]
        self._out = self._sessions[0]._srtp[0]
        self.hear(profile, theirs)
        self._packet = packet
        self._cdata = ffi.from_buffer(packet.data)
        self._length = ffi.new("int *")
        self._rtcp = bytearray(len(packet.data))
        self._rtcp_view = memoryview(self._rtcp)

    def hear(self, profile: int, theirs: bytes) -> None:
        """From now on the peer sends with this key. What we send goes on under ours: were it counted from the start
        again, one key stream would hide two packets (RFC 3711 section 9.1)."""
        inbound = Policy(theirs, Policy.SSRC_ANY_INBOUND, srtp_profile=profile)
        inbound.window_size = 1024
        self._sessions[1:] = [Session(inbound)]
        self._in = self._sessions[1]._srtp[0]
        self._sources: set[int] = set()

    def protect(self, size: int) -> int:
        """The new length of the packet in the buffer; 0 if it cannot be sent."""
        length = self._length
        length[0] = size
        return length[0] if lib.srtp_protect(self._out, self._cdata, length) == 0 else 0

    def unprotect(self, size: int) -> int:
        """The new length of the packet in the buffer; 0 for one that is forged, replayed or of one source too many."""
        (ssrc,) = _SSRC(self._packet.data, _SSRC_AT)
        known = ssrc in self._sources
        if not known and len(self._sources) >= MOST_SOURCES:
            return 0
        length = self._length
        length[0] = size
        if lib.srtp_unprotect(self._in, self._cdata, length) != 0:
            return 0
        if not known:
            self._sources.add(ssrc)
        clear: int = length[0]
        return clear

    def unprotect_rtcp(self, size: int) -> bytes:
        """The RTCP packet in the buffer, in clear; empty if it is forged, replayed or of one source too many."""
        (ssrc,) = _SSRC(self._packet.data, _RTCP_SSRC_AT)
        if ssrc not in self._sources and len(self._sources) >= MOST_SOURCES:
            return b""
        length = self._length
        length[0] = size
        if lib.srtp_unprotect_rtcp(self._in, self._cdata, length) != 0:
            return b""
        self._sources.add(ssrc)
        return bytes(self._packet.view[: length[0]])

    def protect_rtcp(self, data: bytes) -> bytes:
        size = len(data)
        self._rtcp[:size] = data
        length = self._length
        length[0] = size
        cdata = ffi.from_buffer(self._rtcp)
        if lib.srtp_protect_rtcp(self._out, cdata, length) != 0:
            return b""
        return bytes(self._rtcp_view[: length[0]])


def ice_credentials() -> tuple[str, str]:
    """(ufrag, pwd) with the randomness RFC 8445 section 5.3 asks for."""
    return secrets.token_hex(8), secrets.token_hex(16)
