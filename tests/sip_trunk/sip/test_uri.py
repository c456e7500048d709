from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sip_trunk.sip.errors import BadMessage
from sip_trunk.sip.uri import OtherUri, SipUri, TelUri, parse_sip_uri, parse_uri


def sip(text: str) -> SipUri:
    uri = parse_uri(text)
    assert isinstance(uri, SipUri)
    return uri


def test_every_part_is_read() -> None:
    uri = sip("sips:ana:pw@example.com:5061;transport=tcp;lr?subject=hi&priority=urgent")
    assert (uri.scheme, uri.user, uri.password, uri.host, uri.port) == (
        "sips",
        "ana",
        "pw",
        "example.com",
        5061,
    )
    assert (uri.transport, uri.param("lr"), uri.param("maddr")) == ("tcp", "", None)
    assert uri.headers == (("subject", "hi"), ("priority", "urgent"))


@pytest.mark.parametrize(
    "text",
    [
        "sip:example.com",
        "sip:*71@127.0.0.1",
        "sip:ana@[2001:db8::1]:5080;transport=ws",
        "SIP:Ana@Example.COM;LR",
        "sip:%61na@example.com",
        "sip:xyz@0v8n5qc7.invalid;transport=ws",
        "tel:+1-201-555-0123;phone-context=+1",
        "urn:service:sos",
    ],
)
def test_a_uri_is_written_as_it_came(text: str) -> None:
    assert str(parse_uri(text)) == text


def test_a_built_uri_escapes_what_it_must_and_brackets_ipv6() -> None:
    uri = SipUri(user="a b@c:d", host="2001:db8::1", port=5060, params=(("transport", "tcp"),))
    assert str(uri) == "sip:a%20b%40c%3Ad@[2001:db8::1]:5060;transport=tcp"
    assert parse_uri(str(uri)) == uri


def test_a_changed_uri_forgets_how_it_came() -> None:
    assert str(sip("sip:%61na@h;lr").replace(host="k")) == "sip:ana@k;lr"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sip:",
        "sip:@example.com",
        "sip:ana@",
        "sip:ana@h:0",
        "sip:ana@h:99999",
        "sip:ana@h:5060x",
        "sip:a%4@h",
        "sip:a%zz@h",
        "sip:ana@h;",
        "sip:ana@h;;x",
        "sip:ana@h;x=1;x=2",
        "sip:ana@h?x",
        "sip:a na@h",
        "sip:ana@h>",
        "sip:ana@[::1",
        "sip:ana@-h",
        "tel:abc xyz",
        "tel:+12AB",
        "tel:+",
        "tel:-()",
        "tel:1;ext=1;ext=2",
        "sip:ana@h;a%62=1;ab=2",
        "tel:",
        "<sip:ana@h>",
        "no scheme",
    ],
)
def test_what_is_no_uri_is_refused(text: str) -> None:
    with pytest.raises(BadMessage):
        parse_uri(text)


# The pairs of RFC 3261 s19.1.4.
@pytest.mark.parametrize(
    "one, other",
    [
        ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp"),
        ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
        ("sip:carol@chicago.com", "sip:carol@chicago.com;security=on"),
        (
            "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
            "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
        ),
        (
            "sip:alice@atlanta.com?subject=x&priority=urgent",
            "sip:alice@atlanta.com?priority=urgent&subject=x",
        ),
        ("tel:+1-201-555-0123", "tel:+1(201)555.0123"),
        # RFC 3966 s4: neither visual separators, nor case, nor the order of parameters count.
        ("tel:7042;phone-context=Example.COM", "tel:70-42;PHONE-CONTEXT=example.com"),
        ("tel:7042;phone-context=+1-201", "tel:7042;phone-context=+1201"),
        ("tel:+12015550123;ext=4-2;isub=5", "tel:+12015550123;isub=5;ext=42"),
        ("tel:*AB#", "tel:*ab#"),
        ("sip:ana@h;n%61me=v%61lue", "sip:ana@h;name=value"),
    ],
)
def test_uris_that_match(one: str, other: str) -> None:
    assert parse_uri(one).matches(parse_uri(other))
    assert parse_uri(other).matches(parse_uri(one))


@pytest.mark.parametrize(
    "one, other",
    [
        ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"),
        ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"),
        ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
        ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"),
        ("sip:ana@h", "sips:ana@h"),
        ("tel:+12015550123", "tel:2015550123"),
        ("sip:ana@h", "tel:1"),
        ("tel:7042;phone-context=+1", "tel:7042;phone-context=+2"),
        ("tel:+12015550123;ext=42", "tel:+12015550123"),
        ("tel:+12015550123;isub=1-2", "tel:+12015550123;isub=12"),
    ],
)
def test_uris_that_do_not_match(one: str, other: str) -> None:
    assert not parse_uri(one).matches(parse_uri(other))


def test_the_address_of_record_has_no_port_parameters_or_escapes() -> None:
    assert sip("sips:%61na@Example.COM:5061;transport=tcp").aor == "sip:ana@example.com"
    assert sip("sip:*71@h").aor == sip("sip:%2A71@h").aor


def test_a_tel_uri_tells_its_digits() -> None:
    uri = parse_uri("tel:+44-20-7946-0123;phone-context=example.com")
    assert isinstance(uri, TelUri)
    assert (uri.digits, uri.param("phone-context")) == ("+442079460123", "example.com")


def test_a_local_number_tells_where_it_holds() -> None:
    uri = parse_uri("tel:7042;phone-context=+1-201;ext=1.2;isub=12%2034")
    assert isinstance(uri, TelUri)
    assert (uri.user, uri.context, uri.param("isub")) == ("7042", "+1-201", "12 34")
    bare = parse_uri("tel:112")
    assert isinstance(bare, TelUri)
    assert (bare.digits, bare.context, bare.param("isub")) == ("112", None, None)


def test_an_escaped_parameter_is_found_under_its_own_name_and_written_safely() -> None:
    uri = sip("sip:a@h;%6C%72;a%3Bb=1")
    assert (uri.param("lr"), uri.param("a;b")) == ("", "1")
    assert str(uri) == "sip:a@h;%6C%72;a%3Bb=1"
    assert str(uri.replace(host="k")) == "sip:a@k;lr;a%3Bb=1"


def test_another_scheme_is_416_where_sip_is_needed() -> None:
    assert isinstance(parse_uri("mailto:ana@example.com"), OtherUri)
    with pytest.raises(BadMessage) as caught:
        parse_sip_uri("mailto:ana@example.com")
    assert caught.value.status == 416


@given(st.text(max_size=60))
def test_no_text_raises_anything_else(text: str) -> None:
    for candidate in (text, f"sip:{text}", f"sip:ana@h{text}", f"tel:{text}"):
        try:
            uri = parse_uri(candidate)
        except BadMessage:
            continue
        assert parse_uri(str(uri)) == uri


@given(st.text(max_size=30), st.sampled_from(["example.com", "192.0.2.1", "2001:db8::7"]))
def test_any_user_survives_being_written_and_read(user: str, host: str) -> None:
    if user:
        surrogates = any("\ud800" <= character <= "\udfff" for character in user)
        if not surrogates:
            assert sip(str(SipUri(user=user, host=host))).user == user
