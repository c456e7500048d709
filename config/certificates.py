"""An authority and a server certificate of our own, for trying out and for the LAN; real ones come by settings."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_AUTHORITY_DAYS = 3650
_SERVER_DAYS = 397  # the most that phones and browsers accept of an authority added by hand
_RENEW_DAYS = 30


@dataclass(frozen=True, slots=True)
class ServerCertificate:
    """Paths of PEM files: the authority to be trusted, the chain to be served, and its key."""

    authority: Path
    certificate: Path
    private_key: Path


def server_certificate(folder: Path, hosts: Sequence[str], now: float) -> ServerCertificate:
    """The certificate for ``hosts`` (names and addresses) in ``folder``, made or renewed if need be.

    ``now`` is in epoch seconds. The authority stays for ten years, so that phones which trust it go on doing so.
    """
    moment = datetime.fromtimestamp(now, UTC)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    files = ServerCertificate(folder / "ca.pem", folder / "server.pem", folder / "server.key")
    authority = _load(files.authority, folder / "ca.key")
    if authority is None or authority[0].not_valid_after_utc < moment + timedelta(days=_SERVER_DAYS):
        authority = _make_authority(moment)
        _store(folder / "ca.key", _key_pem(authority[1]), 0o600)
        _store(files.authority, _pem(authority[0]), 0o644)
    names = _alternative_names(hosts)
    server = _load(files.certificate, files.private_key)
    if server is None or not _still_good(server[0], authority[0], names, moment):
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _make_server(key, authority, names, moment)
        _store(files.private_key, _key_pem(key), 0o600)
        _store(files.certificate, _pem(certificate) + _pem(authority[0]), 0o644)
    return files


_Pair = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


def _load(certificate_path: Path, key_path: Path) -> _Pair | None:
    """A certificate and its key; None if either is missing, broken, or the two do not belong together."""
    try:
        certificate = x509.load_pem_x509_certificate(certificate_path.read_bytes())
        key = serialization.load_pem_private_key(key_path.read_bytes(), None)
    except (OSError, ValueError):
        return None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or certificate.public_key() != key.public_key():
        return None
    return certificate, key


def _still_good(
    certificate: x509.Certificate,
    authority: x509.Certificate,
    names: Sequence[x509.GeneralName],
    moment: datetime,
) -> bool:
    if certificate.not_valid_after_utc < moment + timedelta(days=_RENEW_DAYS):
        return False
    try:
        certificate.verify_directly_issued_by(authority)
        stored = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    return set(stored) == set(names)


def _alternative_names(hosts: Sequence[str]) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    for host in ("localhost", "127.0.0.1", "::1", *hosts):
        name: x509.GeneralName
        try:
            name = x509.IPAddress(ipaddress.ip_address(host))
        except ValueError:
            name = x509.DNSName(host)
        if name not in names:
            names.append(name)
    return names


def _make_authority(moment: datetime) -> _Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    # A name of its own each time: a phone that trusts two of the same name may look at the wrong one.
    serial = x509.random_serial_number()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Warmline authority {serial:x}"[:48])])
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    builder = _builder(name, name, key, moment, _AUTHORITY_DAYS).serial_number(serial)
    certificate = (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    return certificate, key


def _make_server(
    key: ec.EllipticCurvePrivateKey, authority: _Pair, names: Sequence[x509.GeneralName], moment: datetime
) -> x509.Certificate:
    issuer, issuer_key = authority
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Warmline")])
    builder = _builder(subject, issuer.subject, key, moment, _SERVER_DAYS)
    return (
        builder.serial_number(x509.random_serial_number())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
        )
        .sign(issuer_key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, moment: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        # A phone's clock may be behind ours.
        .not_valid_before(moment - timedelta(days=1))
        .not_valid_after(moment + timedelta(days=days - 1))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _store(path: Path, content: bytes, mode: int) -> None:
    """Write a file whole or not at all, never readable by more than ``mode`` says, not even for a moment."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    draft.replace(path)
