from __future__ import annotations

import pytest

from config.trunk_settings import TrunkSettings
from sip_trunk.identity import identity_of
from sip_trunk.sip.message import Request
from sip_trunk.trunk import TrunkTable, called_number, number_of

TABLE = TrunkTable(
    [TrunkSettings("carrier", ("192.0.2.1", "[2001:db8::1]:5070")), TrunkSettings("pbx", ("10.0.0.1:5070",))]
)


def request(uri: str, *headers: tuple[str, str]) -> Request:
    return Request(
        "INVITE", uri, [("From", "<sip:+49301234567@x>;tag=1"), ("To", "<sip:+4989777666@x>"), *headers]
    )


@pytest.mark.parametrize(
    ("peer", "name"),
    [
        (("192.0.2.1", 5060), "carrier"),
        (("192.0.2.1", 40000), "carrier"),
        (("2001:db8::1", 5070), "carrier"),
        (("2001:db8::1", 5060), None),
        (("10.0.0.1", 5070), "pbx"),
        (("10.0.0.1", 5060), None),
        (("10.0.0.2", 5070), None),
    ],
)
def test_a_trunk_is_known_by_its_address_alone(peer: tuple[str, int], name: str | None) -> None:
    trunk = TABLE.by_peer(peer)
    assert (trunk.name if trunk else None) == name


@pytest.mark.parametrize(
    ("uri", "number"),
    [
        ("sip:+49-30-123.45-67@x", "+49301234567"),
        ("sip:+49(30)1234567;phone-context=x@x;user=phone", "+49301234567"),
        ("tel:+49-30-1234567", "+49301234567"),
        ("tel:1234;phone-context=x", "1234"),
        ("sip:0049301234567@x", "+49301234567"),
        ("sip:*71@x", "*71"),
        ("sip:100@x", "100"),
        ("sip:+0123@x", None),
        ("sip:maria@x", None),
        ("sip:x", None),
    ],
)
def test_numbers_are_read_out_of_uris(uri: str, number: str | None) -> None:
    assert number_of(uri) == number


def test_an_asserted_identity_counts_only_from_a_trunk() -> None:
    asserted = request("sip:1@x", ("P-Asserted-Identity", '"M" <sip:+4915112345678@carrier>, <tel:+4912>'))
    assert identity_of(asserted, TABLE.trunks["carrier"]).number == "+4915112345678"
    assert identity_of(asserted, None).number == "+49301234567"


def test_a_malformed_assertion_is_passed_over() -> None:
    asserted = request("sip:1@x", ("P-Asserted-Identity", "<<>>"))
    assert identity_of(asserted, TABLE.trunks["carrier"]).number == "+49301234567"


def test_the_called_number_is_the_request_uris_or_else_tos() -> None:
    assert called_number(request("sip:+4930111222@x")) == "+4930111222"
    assert called_number(request("sip:account@x")) == "+4989777666"


OUT = TrunkTable(
    [
        TrunkSettings("pbx", ("10.0.0.1:5070",), dial=("+49",), caller_id="+49301"),
        TrunkSettings(
            "carrier", ("192.0.2.1",), dial=("+4930", "+1"), via="sip.example.net;transport=tcp",
            username="us", password="s3cret",
        ),
        TrunkSettings("in only", ("[2001:db8::1]:5080",)),
    ]
)  # fmt: skip


@pytest.fixture
def all_up() -> None:
    for trunk in OUT.trunks.values():
        trunk.answers = True


@pytest.mark.usefixtures("all_up")
@pytest.mark.parametrize(
    ("number", "name"),
    [
        ("+49891234567", "pbx"),
        ("+49301234567", "carrier"),
        ("+15550100999", "carrier"),
        ("+33123456789", None),
        ("0301234567", None),
        ("+49", None),
        ("+4930;x", None),
        ("", None),
    ],
)
def test_the_longest_prefix_chooses_the_trunk(number: str, name: str | None) -> None:
    trunk = OUT.for_number(number)
    assert (trunk.name if trunk else None) == name


@pytest.mark.parametrize(
    ("number", "name"),
    [
        ("+49301234567", "dear"),
        ("+49900123456", None),
        ("+49900555123", "dear"),
        ("+4913712345", "cheap"),
        ("+15550100999", "cheap"),
        ("+15559123456", None),
    ],
)
def test_what_is_excepted_may_not_be_called_through_that_trunk(number: str, name: str | None) -> None:
    table = TrunkTable(
        [
            TrunkSettings("dear", ("10.0.0.1",), dial=("+49", "!+49900", "+49900555", "!+49137")),
            TrunkSettings("cheap", ("10.0.0.2",), dial=("+", "!+1555912", "!+49900")),
        ]
    )
    trunk = table.for_number(number)
    assert (trunk.name if trunk else None) == name


@pytest.mark.usefixtures("all_up")
def test_a_trunk_that_is_down_is_never_chosen() -> None:
    OUT.trunks["carrier"].answers = False
    trunk = OUT.for_number("+49301234567")
    assert trunk is OUT.trunks["pbx"]
    assert OUT.for_number("+15550100999") is None


def test_a_trunk_says_where_its_calls_go_and_as_whom() -> None:
    carrier, pbx = OUT.trunks["carrier"], OUT.trunks["pbx"]
    assert (
        str(carrier.target("+15550100999").uri) == "sip:+15550100999@sip.example.net;transport=tcp;user=phone"
    )
    assert str(pbx.target("+49301").uri) == "sip:+49301@10.0.0.1:5070;user=phone"
    assert str(OUT.trunks["in only"].via) == "sip:[2001:db8::1]:5080"
    assert (carrier.credentials, pbx.credentials, pbx.caller_id) == (("us", "s3cret"), None, "+49301")
    assert "s3cret" not in repr(carrier)
