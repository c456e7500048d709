"""TLS contexts from PEM files, for HTTPS and SIP over TLS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificates
from OpenSSL.crypto import X509, PKey
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    TLSVersion,
    platformTrust,
    trustRootFromCertificates,
)
from twisted.web.client import BrowserLikePolicyForHTTPS

from config.certificates import ServerCertificate


def context_factory(certificate: ServerCertificate) -> CertificateOptions:
    """TLS 1.2 and later. Raises OSError or ValueError for files that are missing or no PEM."""
    return CertificateOptions(raiseMinimumTo=TLSVersion.TLSv1_2, **_shown(certificate))


def client_context(trusted: Path | None, certificate: ServerCertificate | None) -> CertificateOptions:
    """For connections of ours: the peer's chain is checked against the authorities in that PEM file, or the system's;
    our certificate, if there is one, is shown to a peer that asks. Raises as `context_factory` does."""
    shown = _shown(certificate) if certificate is not None else {}
    return CertificateOptions(trustRoot=_authorities(trusted), raiseMinimumTo=TLSVersion.TLSv1_2, **shown)


def https_policy(trusted: str) -> BrowserLikePolicyForHTTPS:
    """For requests of ours by HTTPS: the server's name is checked, and its chain as `client_context` does; "" stands
    for the system's authorities."""
    return BrowserLikePolicyForHTTPS(_authorities(Path(trusted) if trusted else None))


def _authorities(trusted: Path | None) -> Any:
    if trusted is None:
        return platformTrust()
    found = load_pem_x509_certificates(trusted.read_bytes())
    return trustRootFromCertificates([Certificate(X509.from_cryptography(each)) for each in found])


def _shown(certificate: ServerCertificate) -> dict[str, Any]:
    key = load_pem_private_key(certificate.private_key.read_bytes(), password=None)
    chain = [
        X509.from_cryptography(each)
        for each in load_pem_x509_certificates(certificate.certificate.read_bytes())
    ]
    return {
        "privateKey": PKey.from_cryptography_key(key),  # type: ignore[arg-type]
        "certificate": chain[0],
        "extraCertChain": chain[1:],
    }
