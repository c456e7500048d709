"""From a URI to the hops to try, in order (RFC 3263). Nothing here blocks: DNS is asked asynchronously."""

from __future__ import annotations

import asyncio
import ipaddress
import random
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from sip_trunk.sip.errors import SipFault
from sip_trunk.sip.uri import SipUri

MOST_HOPS = 16
"""What a name may lead to is somebody else's choice, and each hop may cost us a wait."""

DEFAULT_PORTS = {"UDP": 5060, "TCP": 5060, "TLS": 5061, "WS": 80, "WSS": 443}
# RFC 3263 s4.1, RFC 7118: what a NAPTR record's service field stands for, of what we can open ourselves.
_SERVICES = {"SIP+D2U": "UDP", "SIP+D2T": "TCP", "SIPS+D2T": "TLS"}
_PREFIXES = {"UDP": "_sip._udp", "TCP": "_sip._tcp", "TLS": "_sips._tcp"}


@dataclass(frozen=True, slots=True)
class Hop:
    """Somewhere to send to: a transport ("UDP", "TCP", "TLS", …), a numeric host without brackets, and a port.

    `name` is the host name it came from: what a TLS certificate must be for.
    """

    transport: str
    host: str
    port: int
    name: str = ""


@dataclass(frozen=True, slots=True)
class Srv:
    priority: int
    weight: int
    port: int
    target: str


@dataclass(frozen=True, slots=True)
class Naptr:
    order: int
    preference: int
    flags: str
    service: str
    replacement: str


class Resolver(Protocol):
    """What is asked of the DNS. Each gives an empty list for a name that is not there."""

    async def naptr(self, name: str) -> list[Naptr]: ...

    async def srv(self, name: str) -> list[Srv]: ...

    async def addresses(self, name: str) -> list[str]: ...


def is_numeric(host: str) -> bool:
    # No address is longer, and nobody shall fill the cache with long names.
    return len(host) <= 64 and _is_numeric(host)


@lru_cache(maxsize=4096)
def _is_numeric(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def numeric_hop(uri: SipUri) -> Hop | None:
    """The one hop of a URI that needs no DNS; None if it needs it."""
    host = uri.param("maddr") or uri.host
    if not is_numeric(host):
        return None
    transport = _wanted_transport(uri) or ("TLS" if uri.scheme == "sips" else "UDP")
    return Hop(transport, host, uri.port or DEFAULT_PORTS.get(transport, 5060), host)


def _wanted_transport(uri: SipUri) -> str | None:
    transport = (uri.transport or "").upper()
    if uri.scheme == "sips":
        return {"": None, "TCP": "TLS", "WS": "WSS"}.get(transport, transport)
    return transport or None


async def locate(uri: SipUri, resolver: Resolver) -> list[Hop]:
    """Every hop worth trying, best first (RFC 3263 s4). Raises SipFault 503 if there is none."""
    host = uri.param("maddr") or uri.host
    # RFC 7118 s5: a browser makes such a name up; it is only ever reached by the connection it came on.
    if host.lower().rstrip(".").endswith(".invalid"):
        raise SipFault("Unreachable", 503)
    hop = numeric_hop(uri)
    if hop is not None:
        return [hop]
    transport = _wanted_transport(uri)
    if uri.port is not None or transport in ("WS", "WSS"):
        transport = transport or ("TLS" if uri.scheme == "sips" else "UDP")
        port = uri.port or DEFAULT_PORTS.get(transport, 5060)
        hops = [Hop(transport, address, port, host) for address in await resolver.addresses(host)]
    else:
        hops = await _by_srv(host, transport, uri.scheme == "sips", resolver)
    if not hops:
        raise SipFault("Unreachable", 503)
    return hops[:MOST_HOPS]


async def _by_srv(host: str, transport: str | None, secure: bool, resolver: Resolver) -> list[Hop]:
    if transport is not None:
        names = [(transport, f"{_PREFIXES.get(transport, '_sip._udp')}.{host}")]
    else:
        records = sorted(await resolver.naptr(host), key=lambda record: (record.order, record.preference))
        names = [
            (_SERVICES[record.service], record.replacement)
            for record in records
            if record.flags == "s" and record.service in _SERVICES
        ]
        names = [pair for pair in names if pair[0] == "TLS" or not secure]
        if not names:
            kinds = ("TLS",) if secure else ("UDP", "TCP")
            names = [(kind, f"{_PREFIXES[kind]}.{host}") for kind in kinds]
    answers = await asyncio.gather(*(resolver.srv(name) for _, name in names[:MOST_HOPS]))
    targets = [
        (kind, record) for (kind, _), found in zip(names, answers, strict=False) for record in in_order(found)
    ][:MOST_HOPS]
    if any(answers):
        # RFC 2782: whoever has SRV records is nowhere else; a lone "." says that there is no such service.
        addresses = await asyncio.gather(*(resolver.addresses(record.target) for _, record in targets))
        return [
            Hop(kind, address, record.port, host)
            for (kind, record), found in zip(targets, addresses, strict=True)
            for address in found
        ]
    kind = transport or ("TLS" if secure else "UDP")
    return [Hop(kind, address, DEFAULT_PORTS[kind], host) for address in await resolver.addresses(host)]


def in_order(records: list[Srv], chance: random.Random | None = None) -> list[Srv]:
    """By priority, and within one by chance in proportion to weight (RFC 2782)."""
    pick = chance or random
    ordered: list[Srv] = []
    for priority in sorted({record.priority for record in records}):
        left = [record for record in records if record.priority == priority and record.target.strip(".")]
        while left:
            chosen = pick.choices(left, [record.weight or 0.01 for record in left])[0]
            left.remove(chosen)
            ordered.append(chosen)
    return ordered
