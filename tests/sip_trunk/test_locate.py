from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from sip_trunk.locate import MOST_HOPS, Hop, Naptr, Srv, in_order, locate, numeric_hop
from sip_trunk.sip.errors import SipFault
from sip_trunk.sip.uri import parse_sip_uri


class Names:
    """A DNS of our own. `asked` tells what was looked up."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.naptrs: dict[str, list[Naptr]] = {}
        self.srvs: dict[str, list[Srv]] = {}
        self.hosts = {
            "example.com": ["192.0.2.1", "2001:db8::1"],
            "a.example.com": ["192.0.2.2"],
            "b.example.com": ["192.0.2.3"],
        }

    async def naptr(self, name: str) -> list[Naptr]:
        self.asked.append(name)
        return self.naptrs.get(name, [])

    async def srv(self, name: str) -> list[Srv]:
        self.asked.append(name)
        return self.srvs.get(name, [])

    async def addresses(self, name: str) -> list[str]:
        self.asked.append(name)
        return self.hosts.get(name, [])


async def hops(uri: str, names: Names | None = None) -> list[Hop]:
    return await locate(parse_sip_uri(uri), names or Names())


@pytest.mark.parametrize(
    "uri, hop",
    [
        ("sip:a@192.0.2.1", Hop("UDP", "192.0.2.1", 5060, "192.0.2.1")),
        ("sip:a@192.0.2.1:5070;transport=TCP", Hop("TCP", "192.0.2.1", 5070, "192.0.2.1")),
        ("sip:a@192.0.2.1;transport=tls", Hop("TLS", "192.0.2.1", 5061, "192.0.2.1")),
        ("sips:a@192.0.2.1", Hop("TLS", "192.0.2.1", 5061, "192.0.2.1")),
        ("sips:a@192.0.2.1;transport=tcp", Hop("TLS", "192.0.2.1", 5061, "192.0.2.1")),
        ("sip:a@[2001:db8::1]", Hop("UDP", "2001:db8::1", 5060, "2001:db8::1")),
        ("sip:a@example.com;maddr=192.0.2.9", Hop("UDP", "192.0.2.9", 5060, "192.0.2.9")),
    ],
)
async def test_a_numeric_host_is_taken_as_it_is(uri: str, hop: Hop) -> None:
    names = Names()
    assert await hops(uri, names) == [hop]
    assert names.asked == []
    assert numeric_hop(parse_sip_uri(uri)) == hop


async def test_with_a_port_only_addresses_are_asked_for() -> None:
    names = Names()
    assert await hops("sip:a@example.com:5070", names) == [
        Hop("UDP", "192.0.2.1", 5070, "example.com"),
        Hop("UDP", "2001:db8::1", 5070, "example.com"),
    ]
    assert names.asked == ["example.com"]


async def test_naptr_chooses_the_transport_and_srv_the_order() -> None:
    names = Names()
    names.naptrs["example.com"] = [
        Naptr(20, 0, "s", "SIP+D2U", "_sip._udp.example.com"),
        Naptr(10, 0, "s", "SIP+D2T", "_sip._tcp.example.com"),
        Naptr(5, 0, "s", "SIP+D2S", "_sip._sctp.example.com"),
    ]
    names.srvs["_sip._tcp.example.com"] = [Srv(2, 0, 5080, "b.example.com"), Srv(1, 0, 5070, "a.example.com")]
    names.srvs["_sip._udp.example.com"] = [Srv(1, 0, 5090, "a.example.com")]
    assert await hops("sip:x@example.com", names) == [
        Hop("TCP", "192.0.2.2", 5070, "example.com"),
        Hop("TCP", "192.0.2.3", 5080, "example.com"),
        Hop("UDP", "192.0.2.2", 5090, "example.com"),
    ]


async def test_a_secure_uri_never_goes_in_the_clear() -> None:
    names = Names()
    names.naptrs["example.com"] = [Naptr(1, 0, "s", "SIP+D2U", "_sip._udp.example.com")]
    names.srvs["_sip._udp.example.com"] = [Srv(1, 0, 5060, "a.example.com")]
    assert {hop.transport for hop in await hops("sips:x@example.com", names)} == {"TLS"}


async def test_without_naptr_and_srv_the_addresses_serve() -> None:
    assert (await hops("sip:x@example.com"))[0] == Hop("UDP", "192.0.2.1", 5060, "example.com")
    assert (await hops("sip:x@example.com;transport=tcp"))[0] == Hop("TCP", "192.0.2.1", 5060, "example.com")


@pytest.mark.parametrize(
    "uri", ["sip:x@nowhere.example", "sip:x@abc.invalid", "sip:x@ABC.INVALID.;transport=ws"]
)
async def test_nowhere_is_503(uri: str) -> None:
    names = Names()
    with pytest.raises(SipFault) as caught:
        await hops(uri, names)
    assert caught.value.status == 503
    assert "abc.invalid" not in [name.lower() for name in names.asked]


def test_srv_weights_share_the_first_place() -> None:
    records = [Srv(1, 90, 1, "a"), Srv(1, 10, 2, "b"), Srv(0, 0, 3, "c")]
    chance = Random(7)
    second = Counter(in_order(records, chance)[1].target for _ in range(1000))
    assert all(in_order(records, chance)[0].target == "c" for _ in range(50))
    assert 850 < second["a"] < 950


async def test_whoever_has_srv_records_is_nowhere_else() -> None:
    names = Names()
    names.srvs["_sip._udp.example.com"] = [Srv(0, 0, 0, ".")]
    with pytest.raises(SipFault):
        await hops("sip:x@example.com", names)


async def test_a_name_leads_to_so_many_hops_and_no_more() -> None:
    names = Names()
    names.srvs["_sip._udp.example.com"] = [Srv(0, 0, port, "example.com") for port in range(1, 100)]
    assert len(await hops("sip:x@example.com", names)) == MOST_HOPS
