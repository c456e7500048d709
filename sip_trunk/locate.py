"""From a URI to the hops to try, in order (RFC 3263). Nothing here blocks: DNS is asked asynchronously."""

from __future__ import annotations

import asyncio
import ipaddress
import random
import socket
from dataclasses import dataclass
from typing import Protocol

import dns.asyncresolver
import dns.exception
from dns.rdtypes.IN.NAPTR import NAPTR
from dns.rdtypes.IN.SRV import SRV
from twisted.logger import Logger

from sip_trunk.sip.errors import SipFault
from sip_trunk.sip.uri import SipUri

log = Logger()

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


class DnsResolver:
    """NAPTR and SRV by dnspython, which caches; addresses by the system, which knows /etc/hosts, in a thread."""

    def __init__(self, *, timeout_s: float = 3.0) -> None:
        self._timeout_s = timeout_s
        self._resolver: dns.asyncresolver.Resolver | None = None

    async def _ask(self, name: str, kind: str) -> list[object]:
        try:
            if self._resolver is None:
                self._resolver = dns.asyncresolver.Resolver()
                self._resolver.cache = dns.resolver.LRUCache(10_000)
            answer = await self._resolver.resolve(name, kind, lifetime=self._timeout_s)
        except (dns.exception.DNSException, OSError) as error:
            log.debug("DNS: no {kind} for {name}: {error}", kind=kind, name=name, error=str(error))
            return []
        return list(answer)

    async def naptr(self, name: str) -> list[Naptr]:
        return [
            Naptr(
                record.order,
                record.preference,
                record.flags.decode("ascii", "replace").lower(),
                record.service.decode("ascii", "replace").upper(),
                record.replacement.to_text(omit_final_dot=True),
            )
            for record in await self._ask(name, "NAPTR")
            if isinstance(record, NAPTR)
        ]

    async def srv(self, name: str) -> list[Srv]:
        return [
            Srv(record.priority, record.weight, record.port, record.target.to_text(omit_final_dot=True))
            for record in await self._ask(name, "SRV")
            if isinstance(record, SRV)
        ]

    async def addresses(self, name: str) -> list[str]:
        loop = asyncio.get_running_loop()
        try:
            found = await asyncio.wait_for(
                loop.getaddrinfo(name, None, type=socket.SOCK_DGRAM), self._timeout_s
            )
        except (OSError, TimeoutError, UnicodeError) as error:
            log.debug("DNS: no address for {name}: {error}", name=name, error=str(error))
            return []
        return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def is_numeric(host: str) -> bool:
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
    return hops


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
    hops: list[Hop] = []
    for kind, name in names:
        for record in in_order(await resolver.srv(name)):
            found = await resolver.addresses(record.target)
            hops += [Hop(kind, address, record.port, host) for address in found]
    if hops:
        return hops
    kind = transport or ("TLS" if secure else "UDP")
    return [Hop(kind, address, DEFAULT_PORTS[kind], host) for address in await resolver.addresses(host)]


def in_order(records: list[Srv], chance: random.Random | None = None) -> list[Srv]:
    """By priority, and within one by chance in proportion to weight (RFC 2782)."""
    pick = chance or random
    ordered: list[Srv] = []
    for priority in sorted({record.priority for record in records}):
        left = [record for record in records if record.priority == priority and record.target]
        while left:
            chosen = pick.choices(left, [record.weight or 0.01 for record in left])[0]
            left.remove(chosen)
            ordered.append(chosen)
    return ordered
