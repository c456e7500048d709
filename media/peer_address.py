"""Which addresses a description may name, whoever wrote it: those of one host elsewhere. Pure.

What leads back to this machine (loopback, 0.0.0.0/8) or to whatever is on its cable (link-local) is somebody's mistake,
or a try to have our packets sent to our own ports. Such a peer is `NOBODY` until it is heard.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache

from media.sdp import LONGEST_IP

Ip = ipaddress.IPv4Address | ipaddress.IPv6Address

NOBODY = "255.255.255.255"
"""Stands for where a peer is as long as that is not known: without SO_BROADCAST a socket sends nothing there
(socket(7)), and nothing comes from there."""

_HERE = ipaddress.ip_network("0.0.0.0/8")  # RFC 6890 section 2.2.2: "this host on this network"
_EMBEDDED = ipaddress.ip_network("::/96")  # RFC 4291 section 2.5.5.1, and ::1 with it


@lru_cache(4096)
def one_host(address: str) -> Ip | None:
    """None for what is no address (names are not looked up), or not that of one host: multicast, broadcast.

    An IPv4-mapped one (RFC 4291 section 2.5.5.2) is the IPv4 address that is in it: a socket would send there.
    """
    if len(address) > LONGEST_IP or "%" in address:
        return None
    try:
        ip: Ip = ipaddress.ip_address(address)
    except ValueError:
        return None
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    # RFC 1112 section 4: what is reserved are the addresses behind those of groups, up to that for broadcasts.
    several = ip.is_multicast or (ip.version == 4 and ip.is_reserved)
    return None if several or ip.is_unspecified else ip


def is_far(ip: Ip) -> bool:
    """Whether packets to it leave this machine, and may be routed."""
    return not (ip.is_loopback or ip.is_link_local or ip in (_HERE if ip.version == 4 else _EMBEDDED))


def is_loopback(address: str) -> bool:
    """False, too, for what is no address."""
    ip = one_host(address)
    return ip is not None and ip.is_loopback
