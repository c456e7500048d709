"""The resolver against a real DNS server on this machine."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sip_trunk import resolver as module
from sip_trunk.locate import Hop, locate
from sip_trunk.resolver import NOTHING_S, SILENCE_S, STALE_S, DnsResolver
from sip_trunk.sip.errors import SipFault
from sip_trunk.sip.uri import parse_sip_uri
from tests.peers.dns import DnsServer, Zone, dns_server

ZONE: Zone = {
    ("carrier.test", "NAPTR"): [
        '20 10 "s" "SIP+D2U" "" _sip._udp.carrier.test.',
        '10 10 "s" "SIP+D2T" "" _sip._tcp.carrier.test.',
        '10 20 "s" "SIPS+D2T" "" _sips._tcp.carrier.test.',
        '5 10 "u" "E2U+sip" "!^.*$!sip:x@y!" .',
    ],
    ("_sip._tcp.carrier.test", "SRV"): ["20 0 5070 b.carrier.test.", "10 0 5060 a.carrier.test."],
    ("_sip._udp.carrier.test", "SRV"): ["0 0 5080 alias.carrier.test."],
    ("_sips._tcp.carrier.test", "SRV"): ["0 0 5061 a.carrier.test."],
    ("a.carrier.test", "A"): ["192.0.2.1"],
    ("a.carrier.test", "AAAA"): ["2001:db8::1"],
    ("b.carrier.test", "A"): ["192.0.2.2"],
    ("alias.carrier.test", "CNAME"): ["b.carrier.test."],
    ("plain.test", "A"): ["192.0.2.9"],
}


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def asking(server: DnsServer, time: Time | None = None) -> DnsResolver:
    return DnsResolver(
        nameservers=["127.0.0.1"], port=server.port, timeout_s=0.6, hosts=Path("/nowhere"), now=time or Time()
    )


async def test_naptr_srv_cname_and_both_families_lead_to_the_hops_in_order() -> None:
    async with dns_server(ZONE) as server:
        assert await locate(parse_sip_uri("sip:x@carrier.test"), asking(server)) == [
            Hop("TCP", "192.0.2.1", 5060, "carrier.test"),
            Hop("TCP", "2001:db8::1", 5060, "carrier.test"),
            Hop("TCP", "192.0.2.2", 5070, "carrier.test"),
            Hop("TLS", "192.0.2.1", 5061, "carrier.test"),
            Hop("TLS", "2001:db8::1", 5061, "carrier.test"),
            Hop("UDP", "192.0.2.2", 5080, "carrier.test"),
        ]


async def test_a_sips_uri_leads_to_tls_alone() -> None:
    async with dns_server(ZONE) as server:
        hops = await locate(parse_sip_uri("sips:x@carrier.test"), asking(server))
        assert {hop.transport for hop in hops} == {"TLS"}
        hops = await locate(parse_sip_uri("sips:x@plain.test"), asking(server))
        assert hops == [Hop("TLS", "192.0.2.9", 5061, "plain.test")]


async def test_an_answer_is_kept_for_its_time_to_live() -> None:
    async with dns_server(ZONE, ttl=60) as server:
        time = Time()
        resolver = asking(server, time)
        for _ in range(3):
            assert await resolver.addresses("b.carrier.test") == ["192.0.2.2"]
        assert server.asked["b.carrier.test", "A"] == 1
        time.now += 61
        server.zone = {**ZONE, ("b.carrier.test", "A"): ["192.0.2.3"]}
        assert await resolver.addresses("b.carrier.test") == ["192.0.2.3"]


@pytest.mark.parametrize("name", ["nowhere.test", "plain.test"])
async def test_what_is_not_there_is_remembered_too(name: str) -> None:
    async with dns_server(ZONE) as server:
        time = Time()
        resolver = asking(server, time)
        assert await resolver.srv(name) == await resolver.srv(name) == []
        assert server.asked[name, "SRV"] == 1
        time.now += NOTHING_S + 1
        await resolver.srv(name)
        assert server.asked[name, "SRV"] == 2


async def test_a_silent_server_costs_the_timeout_once_and_then_nothing_for_a_while() -> None:
    async with dns_server(ZONE) as server:
        time = Time()
        resolver = asking(server, time)
        server.silent = True
        with pytest.raises(SipFault):
            await locate(parse_sip_uri("sip:x@plain.test:5060"), resolver)
        asked = server.asked["plain.test", "A"]
        with pytest.raises(SipFault):
            await locate(parse_sip_uri("sip:x@plain.test:5060"), resolver)
        assert server.asked["plain.test", "A"] == asked
        server.silent = False
        time.now += SILENCE_S + 1
        assert await resolver.addresses("plain.test") == ["192.0.2.9"]


async def test_what_was_answered_before_serves_while_the_server_is_silent_but_not_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "STALE_AFTER_S", 0.05)
    async with dns_server(ZONE, ttl=60) as server:
        time = Time()
        resolver = asking(server, time)
        uri = parse_sip_uri("sip:x@carrier.test")
        hops = await locate(uri, resolver)
        server.silent = True
        time.now += 61
        began = asyncio.get_running_loop().time()
        assert await locate(uri, resolver) == hops
        assert asyncio.get_running_loop().time() - began < 1.2, "nobody waits as long for it as for the first"
        await asyncio.sleep(1)
        time.now += SILENCE_S + 1
        assert await locate(uri, resolver) == hops
        await asyncio.sleep(1)
        time.now += STALE_S + 1
        with pytest.raises(SipFault):
            await locate(uri, resolver)
        time.now += SILENCE_S + 1
        server.silent = False
        assert await locate(uri, resolver) == hops


async def test_what_is_said_to_be_there_no_more_does_not_serve() -> None:
    async with dns_server(ZONE, ttl=60) as server:
        time = Time()
        resolver = asking(server, time)
        assert await resolver.addresses("plain.test") == ["192.0.2.9"]
        time.now += 61
        server.zone = {}
        assert await resolver.addresses("plain.test") == []
        server.silent = True
        time.now += NOTHING_S + 1
        assert await resolver.addresses("plain.test") == []


async def test_no_more_is_kept_or_asked_than_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with dns_server(ZONE) as server:
        resolver = asking(server)
        monkeypatch.setattr(module, "MOST_KEPT", 3)
        for number in range(10):
            await resolver.srv(f"n{number}.test")
        assert len(resolver._kept) == 3
        monkeypatch.setattr(module, "MOST_ASKED", 0)
        assert await resolver.addresses("plain.test") == []


@pytest.mark.parametrize("name", ["a..b", "x" * 70 + ".test", "\udcff.test", "." * 300, ""])
async def test_a_name_that_can_be_none_is_not_there(name: str) -> None:
    async with dns_server(ZONE) as server:
        assert await asking(server).addresses(name) == []


async def test_a_hosts_file_goes_before_the_dns(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("::1 pbx.test\n127.0.0.1\tpbx.test # ours\nnonsense\n192.0.2.4 PLAIN.test\n")
    resolver = DnsResolver(nameservers=["127.0.0.1"], port=9, hosts=hosts)
    assert await resolver.addresses("pbx.test") == ["127.0.0.1", "::1"]
    assert await resolver.addresses("plain.TEST.") == ["192.0.2.4"]
