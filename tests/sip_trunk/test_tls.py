"""TLS between real sockets: whom we believe, and who may keep us waiting (RFC 5922)."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import socket
import ssl
import time
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from config.certificates import ServerCertificate, server_certificate
from pbx.tls import client_context, context_factory
from sip_trunk.locate import Hop
from sip_trunk.peer_certificate import is_for
from sip_trunk.sip.errors import SipFault
from tests.sip_trunk.node import Node, nodes


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> ServerCertificate:
    return server_certificate(tmp_path_factory.mktemp("tls"), ["peer.test", "127.0.0.1"], time.time())


def trusting(node: Node, certificate: ServerCertificate) -> None:
    node.transports.connector.tls = client_context(certificate.authority, None)


async def test_a_peer_is_spoken_to_when_its_certificate_is_for_the_name_meant(
    certificate: ServerCertificate,
) -> None:
    async with nodes(2) as (us, peer):
        us.listen()
        trusting(us, certificate)
        port = peer.transports.listen_tls("127.0.0.1", 0, context_factory(certificate))
        flow = await us.transports.first_of([Hop("TLS", "127.0.0.1", port, "peer.test")])
        assert flow is await us.transports.first_of([Hop("TLS", "127.0.0.1", port, "peer.test")])
        # RFC 5923 s5: for the same host by another name it is not good, and nobody vouched for that name.
        with pytest.raises(SipFault):
            await us.transports.first_of([Hop("TLS", "127.0.0.1", port, "other.test")])
        assert us.transports.flow_to_address("TLS", "127.0.0.1", port) is None
        response = await us.options(f"sip:127.0.0.1:{port};transport=tls")
        assert (response.status, [transport for transport, _ in peer.came("OPTIONS")]) == (200, ["TLS"])


async def test_an_authority_we_do_not_know_vouches_for_nobody(certificate: ServerCertificate) -> None:
    async with nodes(2) as (us, peer):
        us.listen()
        us.transports.connector.tls = client_context(None, None)
        port = peer.transports.listen_tls("127.0.0.1", 0, context_factory(certificate))
        response = await us.options(f"sip:127.0.0.1:{port};transport=tls")
        assert (response.status, response.local, peer.seen) == (503, True, [])


async def test_a_peer_that_never_finishes_its_handshake_is_left_after_the_time_allowed(
    certificate: ServerCertificate,
) -> None:
    async with nodes(1) as (us,):
        us.listen()
        trusting(us, certificate)
        us.transports.limits = replace(us.transports.limits, connect_s=0.3)
        with socket.create_server(("127.0.0.1", 0)) as deaf:
            began = time.monotonic()
            with pytest.raises(SipFault):
                await us.transports.first_of([Hop("TLS", "127.0.0.1", deaf.getsockname()[1], "peer.test")])
        assert time.monotonic() - began < 3


async def test_a_client_that_connects_and_never_shakes_hands_is_closed(
    certificate: ServerCertificate,
) -> None:
    async with nodes(1) as (us,):
        us.transports.limits = replace(us.transports.limits, quiet_s=0.3)
        port = us.transports.listen_tls("127.0.0.1", 0, context_factory(certificate))
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        # The first bytes of a handshake, and nothing after them.
        writer.write(b"\x16\x03\x01\x02\x00")
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), 5)
        writer.close()


async def test_what_is_older_than_tls_1_2_is_refused(certificate: ServerCertificate) -> None:
    async with nodes(1) as (us,):
        port = us.transports.listen_tls("127.0.0.1", 0, context_factory(certificate))
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname = False
        old.verify_mode = ssl.CERT_NONE
        old.set_ciphers("ALL:@SECLEVEL=0")
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection("127.0.0.1", port, ssl=old)
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=old)
        writer.close()


async def test_our_certificate_is_shown_to_a_peer_that_asks(
    certificate: ServerCertificate, tmp_path: Path
) -> None:
    asking = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    asking.load_cert_chain(certificate.certificate, certificate.private_key)
    key = ec.generate_private_key(ec.SECP256R1())
    ours = ServerCertificate(tmp_path / "us.pem", tmp_path / "us.pem", tmp_path / "us.key")
    ours.certificate.write_bytes(made_for(x509.DNSName("us.test"), key=key).public_bytes(Encoding.PEM))
    ours.private_key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    asking.load_verify_locations(ours.certificate)
    asking.verify_mode = ssl.CERT_REQUIRED
    shown: asyncio.Future[dict[str, object]] = asyncio.get_running_loop().create_future()

    async def met(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        shown.set_result(writer.get_extra_info("peercert"))
        writer.close()

    server = await asyncio.start_server(met, "127.0.0.1", 0, ssl=asking)
    async with server, nodes(1) as (us,):
        us.transports.connector.tls = client_context(certificate.authority, ours)
        port = server.sockets[0].getsockname()[1]
        await us.transports.first_of([Hop("TLS", "127.0.0.1", port, "peer.test")])
        assert (await asyncio.wait_for(shown, 5))["subjectAltName"] == (("DNS", "us.test"),)


def made_for(*names: x509.GeneralName, key: ec.EllipticCurvePrivateKey | None = None) -> x509.Certificate:
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "common.test")])
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=36_500))
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256())


@pytest.mark.parametrize(
    ("names", "name", "good"),
    [
        ([x509.DNSName("peer.test")], "peer.test", True),
        ([x509.DNSName("Peer.Test")], "peer.test.", True),
        ([x509.DNSName("a.peer.test")], "peer.test", False),
        # RFC 5922 s7.2: no wildcards.
        ([x509.DNSName("*.peer.test")], "a.peer.test", False),
        # s7.1: a sip: URI leaves DNS names without a say; one of a person is none of a domain.
        ([x509.UniformResourceIdentifier("sip:peer.test"), x509.DNSName("web.test")], "peer.test", True),
        ([x509.UniformResourceIdentifier("sip:peer.test"), x509.DNSName("web.test")], "web.test", False),
        ([x509.UniformResourceIdentifier("sip:ana@peer.test")], "peer.test", False),
        ([x509.UniformResourceIdentifier("sips:peer.test")], "peer.test", False),
        ([x509.UniformResourceIdentifier("http://a:b:c"), x509.DNSName("peer.test")], "peer.test", True),
        ([x509.IPAddress(ipaddress.ip_address("192.0.2.1"))], "192.0.2.1", True),
        ([x509.IPAddress(ipaddress.ip_address("192.0.2.1"))], "192.0.2.2", False),
        ([x509.DNSName("192.0.2.1")], "192.0.2.1", False),
        ([], "common.test", False),
    ],
)
def test_whom_a_certificate_is_for(names: list[x509.GeneralName], name: str, good: bool) -> None:
    assert is_for(made_for(*names), name) is good
