"""Asking the DNS, by dnspython: nothing blocks, nothing is asked twice in its time, nothing is kept without bound."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path

import dns.asyncresolver
import dns.exception
import dns.resolver
from dns.rdtypes.IN.NAPTR import NAPTR
from dns.rdtypes.IN.SRV import SRV
from twisted.logger import Logger

from sip_trunk.locate import Naptr, Srv, is_numeric

log = Logger()

LONGEST_S = 3_600.0
"""How long an answer is kept, if its own time to live is longer."""
NOTHING_S = 30.0
"""How long it is remembered that there is no such record."""
SILENCE_S = 5.0
"""How long a question that nobody answered is not asked again."""
STALE_S = 86_400.0
"""How long after its time an answer still serves while nobody gives another (RFC 8767 §5): a carrier is not gone
because its DNS is."""
STALE_AFTER_S = 0.5
"""How long another answer is waited for, then; it may be for the next call."""
MOST_KEPT = 10_000
MOST_ASKED = 256
"""Questions under way at once; what comes on top counts as unanswered."""

Records = tuple[object, ...]
Question = tuple[str, str]
# Until when they are good, and until when they serve where there are no others.
_Kept = tuple[float, Records, float]


class DnsResolver:
    """NAPTR, SRV, A and AAAA records, CNAMEs followed.

    nameservers, port: whom to ask; unless told, those of /etc/resolv.conf. timeout_s: how long one answer may take.
    hosts: a file of names that need no asking. `now`: seconds.
    """

    def __init__(
        self,
        *,
        nameservers: Iterable[str] | None = None,
        port: int = 53,
        timeout_s: float = 3.0,
        hosts: Path = Path("/etc/hosts"),
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._nameservers = list(nameservers) if nameservers is not None else None
        self._port = port
        self._timeout_s = timeout_s
        self._now = now
        self._hosts = _read_hosts(hosts)
        self._resolver: dns.asyncresolver.Resolver | None = None
        self._kept: OrderedDict[Question, _Kept] = OrderedDict()
        self._asking: dict[Question, asyncio.Task[Records]] = {}

    async def naptr(self, name: str) -> list[Naptr]:
        return [
            Naptr(
                record.order,
                record.preference,
                record.flags.decode("ascii", "replace").lower(),
                record.service.decode("ascii", "replace").upper(),
                record.replacement.to_text(omit_final_dot=True),
            )
            for record in await self._records(name, "NAPTR")
            if isinstance(record, NAPTR)
        ]

    async def srv(self, name: str) -> list[Srv]:
        return [
            Srv(record.priority, record.weight, record.port, record.target.to_text(omit_final_dot=True))
            for record in await self._records(name, "SRV")
            if isinstance(record, SRV)
        ]

    async def addresses(self, name: str) -> list[str]:
        """IPv4 first: media is IPv4 whatever signalling speaks."""
        if is_numeric(name):
            return [name]
        known = self._hosts.get(name.lower().rstrip("."))
        if known is not None:
            return list(known)
        four, six = await asyncio.gather(self._records(name, "A"), self._records(name, "AAAA"))
        return [str(record) for record in (*four, *six)]

    async def _records(self, name: str, kind: str) -> Records:
        question = (name.lower(), kind)
        kept = self._kept.get(question)
        if kept is not None and kept[0] > self._now():
            return kept[1]
        task = self._asking.get(question)
        if task is None:
            if len(self._asking) >= MOST_ASKED:
                log.warn(
                    "DNS: too many questions at once; {kind} for {name} is not asked", kind=kind, name=name
                )
                return ()
            task = self._asking[question] = asyncio.ensure_future(self._ask(question))
            task.add_done_callback(lambda _: self._asking.pop(question, None))
        if kept is not None and kept[2] > self._now():
            answered, _ = await asyncio.wait([task], timeout=STALE_AFTER_S)
            if not answered:
                return kept[1]
        # Whoever stops waiting leaves the others their answer.
        return await asyncio.shield(task)

    async def _ask(self, question: Question) -> Records:
        name, kind = question
        records: Records = ()
        serves_until = 0.0
        try:
            answer = await self._resolve(name, kind)
            if answer.rrset is None:
                good_for = NOTHING_S
            else:
                records, good_for = tuple(answer.rrset), min(_ttl(answer), LONGEST_S)
            serves_until = self._now() + good_for + STALE_S
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            good_for = NOTHING_S
            serves_until = self._now() + good_for + STALE_S
        except (dns.exception.DNSException, OSError, ValueError) as error:
            # A name that cannot be one is a ValueError of the IDNA codec.
            log.info("DNS: no answer about {kind} of {name}: {error}", kind=kind, name=name, error=str(error))
            good_for = SILENCE_S
            before = self._kept.get(question)
            if before is not None and before[2] > self._now():
                _, records, serves_until = before
        self._kept[question] = (self._now() + good_for, records, serves_until)
        self._kept.move_to_end(question)
        if len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return records

    async def _resolve(self, name: str, kind: str) -> dns.resolver.Answer:
        if self._resolver is None:
            configured = self._nameservers is None
            self._resolver = dns.asyncresolver.Resolver(configure=configured)
            if self._nameservers is not None:
                self._resolver.nameservers = list(self._nameservers)
                self._resolver.port = self._port
        # Only hosts may be called by a short name: a service is always asked for by its whole one.
        return await self._resolver.resolve(
            name, kind, lifetime=self._timeout_s, search=kind in ("A", "AAAA"), raise_on_no_answer=False
        )


def _ttl(answer: dns.resolver.Answer) -> float:
    """The least of the answer's and its CNAMEs'."""
    return float(answer.chaining_result.minimum_ttl)


def _read_hosts(path: Path) -> dict[str, list[str]]:
    """Names and their addresses as a hosts file has them; without the file, none."""
    found: dict[str, list[str]] = {}
    try:
        lines = path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return found
    for line in lines:
        words = line.partition("#")[0].split()
        if len(words) < 2 or not is_numeric(words[0].partition("%")[0]):
            continue
        for name in words[1:]:
            addresses = found.setdefault(name.lower(), [])
            if words[0] not in addresses:
                addresses.append(words[0])
    for addresses in found.values():
        addresses.sort(key=lambda address: ":" in address)
    return found
