"""RFC 5118: IPv6 in every place it may stand; and RFC 5954, when two addresses are the same."""

from __future__ import annotations

import pytest

from sip_trunk.sip.errors import BadMessage
from sip_trunk.sip.header_values import parse_via
from sip_trunk.sip.message import Message, Request
from sip_trunk.sip.parser import parse
from sip_trunk.sip.uri import SipUri, parse_sip_uri
from tests.sip_trunk.sip.torture_messages import RFC5118

# The RFC counts line breaks as one octet, and one of the bodies not even so.
LENGTHS = {"ipv6-in-sdp": (268, 251), "mult-ip-in-sdp": (181, 189), "ipv4-mapped-ipv6": (236, 245)}


def wire(name: str) -> bytes:
    if name not in LENGTHS:
        return RFC5118[name]
    told, true = LENGTHS[name]
    return RFC5118[name].replace(b"Content-Length: %d\r\n" % told, b"Content-Length: %d\r\n" % true)


def read(name: str) -> Request:
    message: Message = parse(wire(name))
    assert isinstance(message, Request)
    assert message.to_bytes() == wire(name)
    return message


def sip(uri: object) -> SipUri:
    assert isinstance(uri, SipUri)
    return uri


def test_ipv6_good_s4_1_an_address_in_brackets() -> None:
    message = read("ipv6-good")
    assert (sip(message.uri).host, sip(message.uri).port) == ("2001:db8::10", None)
    assert (message.top_via.host, message.top_via.port) == ("2001:db8::9:1", None)
    assert sip(message.contacts[0].uri).host == "2001:db8::1"


def test_ipv6_bad_s4_2_an_address_without_brackets_is_refused() -> None:
    with pytest.raises(BadMessage) as caught:
        parse(RFC5118["ipv6-bad"])
    assert (caught.value.status, caught.value.reason) == (400, "Bad Request-URI")
    assert caught.value.request is not None


def test_port_ambiguous_s4_3_what_is_within_the_brackets_is_no_port() -> None:
    uri = sip(read("port-ambiguous").uri)
    assert (uri.host, uri.port) == ("2001:db8::10:5070", None)


def test_port_unambiguous_s4_4() -> None:
    uri = sip(read("port-unambiguous").uri)
    assert (uri.host, uri.port) == ("2001:db8::10", 5070)


@pytest.mark.parametrize("name", ["via-received-param-with-delim", "via-received-param-no-delim"])
def test_via_received_s4_5_with_brackets_or_without(name: str) -> None:
    via = read(name).top_via
    assert (via.host, via.received) == ("2001:db8::9:1", "2001:db8::9:255")
    assert (via.branch or "").startswith("z9hG4bKas3")


def test_ipv6_in_sdp_s4_6() -> None:
    assert b"c=IN IP6 2001:db8::20\r\n" in read("ipv6-in-sdp").body
    # With the length as the RFC prints it, more is announced than comes (RFC 3261 s18.3).
    with pytest.raises(BadMessage):
        parse(RFC5118["ipv6-in-sdp"])


def test_mult_ip_in_header_s4_7_both_kinds_of_address() -> None:
    assert [(via.transport, via.host, via.port, via.received) for via in read("mult-ip-in-header").vias] == [
        ("UDP", "2001:db8::9:1", 6050, None),
        ("UDP", "192.0.2.1", None, None),
        ("TCP", "2001:db8::9:255", None, "192.0.2.200"),
    ]


def test_mult_ip_in_sdp_s4_8() -> None:
    body = read("mult-ip-in-sdp").body
    assert body.count(b"c=IN IP4 192.0.2.1\r\n") == body.count(b"c=IN IP6 2001:db8::1\r\n") == 1


def test_ipv4_mapped_ipv6_s4_9() -> None:
    message = read("ipv4-mapped-ipv6")
    assert [(via.host, via.port) for via in message.vias] == [
        ("::ffff:192.0.2.10", 19823),
        ("::ffff:192.0.2.2", None),
    ]
    assert sip(message.contacts[0].uri).host == "::ffff:192.0.2.2"


@pytest.mark.parametrize("name", ["ipv6-bug-abnf-3-colons", "ipv6-correct-abnf-2-colons"])
def test_ipv6_bug_abnf_s4_10_a_third_colon_before_an_ipv4_address_is_borne_with(name: str) -> None:
    message = read(name)
    assert sip(message.uri).host == sip(message.to.uri).host == "2001:db8::192.0.2.1"


@pytest.mark.parametrize(
    "host",
    [
        "[]",
        "[:]",
        "[1]",
        "[::1",
        "::1]",
        "[2001:db8:::10]",
        "[2001:db8::::192.0.2.1]",
        "[2001:db8::1::2]",
        "[1:2:3:4:5:6:7:8:9]",
        "[12345::]",
        "[::g]",
        "[::192.0.2.256]",
        "[192.0.2.1]",
        "[fe80::1%25eth0]",
        "[fe80::1%eth0]",
        "[::1]x",
        f"[{'0' * 50}::1]",
    ],
)
def test_what_is_no_ipv6_address_is_refused_and_so_is_a_zone(host: str) -> None:
    # A zone says something on the machine that wrote it, and on no other; the grammar has none.
    with pytest.raises(BadMessage):
        parse_sip_uri(f"sip:a@{host}")
    with pytest.raises(BadMessage):
        parse_via(f"SIP/2.0/UDP {host};branch=z9hG4bK1")


@pytest.mark.parametrize(
    "one, other",
    [
        # RFC 5954 s4.2
        ("::ffff:192.0.2.128", "::ffff:c000:280"),
        ("2001:db8::9:1", "2001:db8::9:01"),
        ("0:0:0:0:0:FFFF:129.144.52.38", "::FFFF:129.144.52.38"),
        ("2001:DB8::A", "2001:db8:0:0:0:0:0:a"),
    ],
)
def test_an_address_is_the_same_however_it_is_written(one: str, other: str) -> None:
    assert parse_sip_uri(f"sip:bob@[{one}]").matches(parse_sip_uri(f"sip:bob@[{other}]"))


def test_another_address_is_another() -> None:
    assert not parse_sip_uri("sip:bob@[::1]").matches(parse_sip_uri("sip:bob@[::2]"))
    assert not parse_sip_uri("sip:bob@[::ffff:192.0.2.1]").matches(parse_sip_uri("sip:bob@192.0.2.1"))


def test_a_stamp_names_an_ipv6_source() -> None:
    message = read("ipv6-good")
    message.stamp_source("2001:db8::77", 5071)
    assert (message.top_via.received, message.top_via.host) == ("2001:db8::77", "2001:db8::9:1")
    again = parse(message.to_bytes())
    assert again.top_via.received == "2001:db8::77"
