"""A TLS context from PEM files, for HTTPS and SIP over TLS."""

from __future__ import annotations

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificates
from OpenSSL.crypto import X509, PKey
from twisted.internet.ssl import CertificateOptions, TLSVersion

from config.certificates import ServerCertificate


def context_factory(certificate: ServerCertificate) -> CertificateOptions:
    """TLS 1.2 and later. Raises OSError or ValueError for files that are missing or no PEM."""
    key = load_pem_private_key(certificate.private_key.read_bytes(), password=None)
    chain = [
        X509.from_cryptography(each)
        for each in load_pem_x509_certificates(certificate.certificate.read_bytes())
    ]
    return CertificateOptions(
        privateKey=PKey.from_cryptography_key(key),  # type: ignore[arg-type]
        certificate=chain[0],
        extraCertChain=chain[1:],
        raiseMinimumTo=TLSVersion.TLSv1_2,
    )
