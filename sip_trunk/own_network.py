"""Addresses that lead nowhere but to this host and the links it is on."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address, ip_address

_EVERYBODY = ip_address("255.255.255.255")


def leads_here(host: str) -> bool:
    """Whether a numeric host is loopback, link-local, multicast, broadcast or none at all; False for a name.

    A peer from elsewhere that names such an address as its own would have us knock at our own doors, or a cloud's
    metadata service, in its place.
    """
    return len(host) <= 64 and _leads_here(host)


@lru_cache(maxsize=4096)
def _leads_here(host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return (
        address.is_loopback
        or address.is_link_local
        or address.is_multicast
        or address.is_unspecified
        or address == _EVERYBODY
    )
