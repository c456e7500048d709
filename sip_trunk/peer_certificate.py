"""Connections of ours by TLS: only to a peer whose certificate is for the name we meant (RFC 5922)."""

from __future__ import annotations

import ipaddress

from cryptography import x509
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IOpenSSLContextFactory
from twisted.internet.ssl import CertificateOptions, TLSVersion, platformTrust
from zope.interface import implementer

from sip_trunk.sip.errors import BadMessage
from sip_trunk.sip.uri import parse_sip_uri


def default_context() -> CertificateOptions:
    """TLS 1.2 or later, the peer's chain checked against the system's authorities."""
    return CertificateOptions(trustRoot=platformTrust(), raiseMinimumTo=TLSVersion.TLSv1_2)


@implementer(IOpenSSLClientConnectionCreator)
class ClientConnections:
    """Says, as a connection begins, which name is meant; whether it was met `is_for` tells once it is there."""

    def __init__(self, context: IOpenSSLContextFactory, name: str) -> None:
        self._context = context
        self._name = name

    def clientConnectionForTLS(self, tlsProtocol: object) -> SSL.Connection:
        connection = SSL.Connection(self._context.getContext(), None)
        # RFC 6066 s3: an address is no server name.
        if not _is_address(self._name):
            connection.set_tlsext_host_name(self._name.encode("idna"))
        connection.set_connect_state()
        return connection


def is_for(certificate: x509.Certificate, name: str) -> bool:
    """Whether a certificate whose chain is good is one for this domain or address (RFC 5922 s7.1, s7.2).

    A sip: URI among its names leaves its DNS names without a say; wildcards match nothing; a common name counts for
    nothing.
    """
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return False
    if _is_address(name):
        return ipaddress.ip_address(name) in names.get_values_for_type(x509.IPAddress)
    domains = []
    for text in names.get_values_for_type(x509.UniformResourceIdentifier):
        try:
            uri = parse_sip_uri(text)
        except BadMessage:
            continue
        if uri.scheme == "sip" and uri.user is None:
            domains.append(uri.host)
    domains = domains or names.get_values_for_type(x509.DNSName)
    return name.lower().rstrip(".") in (domain.lower().rstrip(".") for domain in domains)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
