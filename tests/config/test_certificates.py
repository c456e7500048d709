from __future__ import annotations

import os
import ssl
import time
from pathlib import Path

import pytest
from cryptography import x509

from config.certificates import server_certificate
from tests.moment import moments

NOW = 1767225600.0
DAY = 86400.0


def names(path: Path) -> set[str]:
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = {str(each) for each in found.get_values_for_type(x509.IPAddress)}
    return addresses | set(found.get_values_for_type(x509.DNSName))


def handshake(authority: Path, certificate: Path, key: Path, host: str) -> None:
    """A TLS handshake in memory, the client checking chain and name; raises ssl.SSLError where it may not trust."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    client = ssl.create_default_context(cafile=str(authority))
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = client.wrap_bio(back, there, server_hostname=host)
    other = server.wrap_bio(there, back, server_side=True)
    for _ in range(10):
        for each in (one, other):
            try:
                each.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert one.cipher()


def test_a_client_that_trusts_the_authority_trusts_every_host_asked_for(tmp_path: Path) -> None:
    made = server_certificate(tmp_path, ["help.example", "192.0.2.7"], time.time())
    for host in ("localhost", "127.0.0.1", "::1", "help.example", "192.0.2.7"):
        handshake(made.authority, made.certificate, made.private_key, host)
    with pytest.raises(ssl.SSLError):
        handshake(made.authority, made.certificate, made.private_key, "other.example")


def test_keys_are_for_their_owner_only(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        server_certificate(tmp_path / "tls", [], NOW)
    finally:
        os.umask(old)
    assert (tmp_path / "tls" / "server.key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "tls" / "ca.key").stat().st_mode & 0o777 == 0o600


def test_a_good_certificate_is_kept(tmp_path: Path) -> None:
    first = server_certificate(tmp_path, ["a.example"], NOW).certificate.read_bytes()
    assert server_certificate(tmp_path, ["a.example"], NOW + 100 * DAY).certificate.read_bytes() == first


def test_it_is_renewed_near_its_end_under_the_same_authority(tmp_path: Path) -> None:
    made = server_certificate(tmp_path, [], NOW)
    authority, first = made.authority.read_bytes(), made.certificate.read_bytes()
    server_certificate(tmp_path, [], NOW + 370 * DAY)
    assert made.certificate.read_bytes() != first
    assert made.authority.read_bytes() == authority


def test_it_is_made_anew_when_the_hosts_changed(tmp_path: Path) -> None:
    server_certificate(tmp_path, ["192.0.2.7"], NOW)
    made = server_certificate(tmp_path, ["192.0.2.8"], NOW)
    assert names(made.certificate) == {"localhost", "127.0.0.1", "::1", "192.0.2.8"}


@pytest.mark.parametrize("broken", ["ca.pem", "ca.key", "server.pem", "server.key"])
def test_a_broken_file_is_replaced(tmp_path: Path, broken: str) -> None:
    now = time.time()
    server_certificate(tmp_path, [], now)
    (tmp_path / broken).write_text("nonsense")
    made = server_certificate(tmp_path, [], now)
    handshake(made.authority, made.certificate, made.private_key, "localhost")


def test_making_all_of_it_takes_no_time_to_speak_of(tmp_path: Path) -> None:
    assert moments(lambda: server_certificate(tmp_path, [], NOW)) < 3
