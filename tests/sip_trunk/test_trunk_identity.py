from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.trunk_settings import TrunkSettings
from sip_trunk.identity import CallerIdentity, identity_of
from sip_trunk.sip.message import Request
from sip_trunk.trunk import TrunkTable

TRUNK = TrunkTable([TrunkSettings("carrier", ("192.0.2.1",))]).trunks["carrier"]


def request(*headers: tuple[str, str], from_: str = '"Ana" <sip:+49301234567@x>;tag=1') -> Request:
    return Request("INVITE", "sip:+4930111222@x", [("From", from_), ("To", "<sip:+4930111222@x>"), *headers])


def test_only_a_trunk_may_assert_hide_or_divert() -> None:
    headers = [
        ("P-Asserted-Identity", '"M" <sip:+4915112345678@carrier>, <tel:+4912>'),
        ("Privacy", "id"),
        ("Diversion", "<sip:+4930999@x>"),
    ]
    assert identity_of(request(*headers), None) == CallerIdentity("+49301234567", "Ana", False, None)
    assert identity_of(request(*headers), TRUNK) == CallerIdentity("+4915112345678", "", True, "+4930999")


def test_without_an_assertion_a_trunks_from_serves() -> None:
    assert identity_of(request(), TRUNK) == CallerIdentity("+49301234567", "Ana", False, None)


@pytest.mark.parametrize(
    ("privacy", "anonymous"),
    [
        ("none", False),
        ("id", True),
        ("header;user", True),
        ("critical", False),
        ("id;critical", True),
        (";;", True),
    ],
)
def test_privacy_hides_the_caller(privacy: str, anonymous: bool) -> None:
    assert identity_of(request(("Privacy", privacy)), TRUNK).anonymous is anonymous


@pytest.mark.parametrize(
    "from_", ['"Anonymous" <sip:anonymous@anonymous.invalid>;tag=1', "<sip:Anonymous@carrier>;tag=1"]
)
def test_an_anonymous_from_is_no_number_but_the_assertion_is(from_: str) -> None:
    assert identity_of(request(from_=from_), TRUNK) == CallerIdentity(None, "", True, None)
    asserted = request(("P-Asserted-Identity", "<tel:+4930123456>"), from_=from_)
    assert identity_of(asserted, TRUNK) == CallerIdentity("+4930123456", "", True, None)


@pytest.mark.parametrize(
    ("header", "value", "diverter"),
    [
        # RFC 7044: B was called and sent it on to C, where it found C's phone.
        (
            "History-Info",
            "<sip:+4930100@x>;index=1, <sip:+4930200@x;cause=302>;index=1.1;mp=1, <sip:c@10.0.0.1>;index=1.1.1;rc=1.1",
            "+4930100",
        ),
        # Two were called one after the other: the last one who sent it on.
        (
            "History-Info",
            "<sip:+4930100@x>;index=1,<sip:+4930200@x>;index=2;mp=1,<sip:+4930300@x>;index=3;mp=2",
            "+4930200",
        ),
        # It only found its way.
        ("History-Info", "<sip:+4930100@x>;index=1, <sip:+4930100@gw>;index=1.1;rc=1", None),
        # RFC 4458 and RFC 4244, from before there was mp.
        ("History-Info", "<sip:+4930100@x>;index=1, <sip:+4930200@x;cause=486>;index=1.1", "+4930100"),
        (
            "History-Info",
            "<sip:bob@x?Reason=SIP%3Bcause%3D302>;index=1, <sip:+4930200@x>;index=2",
            "bob@x",
        ),
        (
            "History-Info",
            "<sip:+4930100@x?Privacy=history>;index=1, <sip:+4930200@x>;index=1.1;mp=1",
            None,
        ),
        ("History-Info", "nonsense", None),
        ("Diversion", '"B" <sip:+4930200@x>;reason=no-answer, <sip:+4930100@x>;reason=user-busy', "+4930200"),
        ("Diversion", "<tel:+4930200>;privacy=full", None),
        ("Diversion", ";;", None),
    ],
)
def test_who_sent_the_call_on_is_read(header: str, value: str, diverter: str | None) -> None:
    assert identity_of(request((header, value)), TRUNK).diverted_from == diverter


@given(
    st.sampled_from(["P-Asserted-Identity", "Privacy", "History-Info", "Diversion"]),
    st.text(st.characters(min_codepoint=32, max_codepoint=126)),
)
def test_no_header_of_a_trunk_loses_the_call(header: str, value: str) -> None:
    assert identity_of(request((header, value)), TRUNK).name in ("Ana", "") or header == "P-Asserted-Identity"
