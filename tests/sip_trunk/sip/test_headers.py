from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sip_trunk.sip.errors import BadMessage, SipFault
from sip_trunk.sip.header_values import (
    NameAddr,
    Via,
    parse_contacts,
    parse_cseq,
    parse_media_type,
    parse_name_addr,
    parse_params,
    parse_via,
    quote_string,
    split_list,
    unquote_string,
)
from sip_trunk.sip.headers import Headers
from sip_trunk.sip.message import Request, Response
from sip_trunk.sip.uri import SipUri, TelUri


def test_a_header_is_found_in_any_case_and_in_its_compact_form() -> None:
    headers = Headers([("f", "<sip:a@h>;tag=1"), ("CALL-ID", "x"), ("X-Own", "1")])
    assert headers.get("From") == headers.get("F") == "<sip:a@h>;tag=1"
    assert headers.get("i") == headers.get("call-id") == "x"
    assert headers.get("x-oWN") == "1"
    assert "from" in headers
    assert "To" not in headers
    assert headers.get("To") is None


def test_list_headers_are_split_and_others_are_not() -> None:
    headers = Headers([("Supported", "path, gruu"), ("k", "outbound"), ("Date", "Sat, 15 Oct 2005")])
    assert headers.all("Supported") == ["path", "gruu", "outbound"]
    assert headers.all("Date") == ["Sat, 15 Oct 2005"]


def test_commas_in_quotes_and_brackets_do_not_split() -> None:
    assert split_list('"a, \\"b" <sip:x@h;y=1,2>;q=1,<sip:z@h>, sip:c@h') == [
        '"a, \\"b" <sip:x@h;y=1,2>;q=1',
        "<sip:z@h>",
        "sip:c@h",
    ]
    assert split_list(" , a,, b ,") == ["a", "b"]


@pytest.mark.parametrize("text", ['a, "b', "a, <b", 'a, "b\\"'])
def test_what_is_opened_must_be_closed(text: str) -> None:
    with pytest.raises(BadMessage):
        split_list(text)


def test_set_add_prepend_and_remove_keep_the_order_of_the_others() -> None:
    headers = Headers([("Via", "b"), ("To", "t"), ("v", "c"), ("From", "f")])
    headers.prepend("Via", "a")
    assert headers.all("via") == ["a", "b", "c"]
    headers.set("Via", "d")
    assert list(headers) == [("Via", "d"), ("To", "t"), ("From", "f")]
    headers.add("Via", "e, g")
    assert headers.remove_first("Via") == "d"
    assert headers.remove_first("Via") == "e"
    headers.replace_first("Via", "h")
    assert list(headers) == [("To", "t"), ("From", "f"), ("Via", "h")]
    headers.remove("to")
    headers.set("Expires", "5")
    assert list(headers) == [("From", "f"), ("Via", "h"), ("Expires", "5")]
    assert headers.remove_first("Route") is None


def test_a_copy_is_its_own() -> None:
    headers = Headers([("To", "t")])
    other = headers.copy()
    other.set("To", "u")
    assert headers.get("To") == "t"


@pytest.mark.parametrize("value", ["a\r\nEvil: 1", "a\nb", "a\rb", "a\r\n folded"])
def test_no_way_in_takes_a_line_break(value: str) -> None:
    headers = Headers([("To", "t")])
    for pairs in ([("Subject", value)], [(value, "subject")], [("Subject", "fine"), ("Subject", value)]):
        with pytest.raises(SipFault):
            Headers(pairs)
        with pytest.raises(SipFault):
            headers.extend(pairs)
        with pytest.raises(SipFault):
            Request("INVITE", "sip:a@h", pairs)
        with pytest.raises(SipFault):
            Request("INVITE", "sip:a@h", [("To", "t")]).response(200, headers=pairs)
    with pytest.raises(SipFault):
        Response(200, content_type=value)
    assert all("\n" not in line and "\r" not in line for line in headers.lines)


def test_what_is_read_first_follows_every_change() -> None:
    headers = Headers([("To", "one"), ("t", "two")])
    assert headers.get("To") == "one"
    headers.prepend("To", "zero")
    assert headers.get("To") == "zero"
    headers.replace_first("To", "0")
    assert headers.get("To") == "0"
    assert headers.remove_first("To") == "0"
    assert headers.get("To") == "one"
    headers.set("To", "only")
    assert headers.get("To") == "only"
    headers.remove("To")
    assert headers.get("To") is None
    headers.add("To", "again")
    assert headers.get("To") == "again"
    headers.extend([("From", "me")])
    assert headers.get("From") == "me"
    assert headers.copy().get("From") == "me"


@pytest.mark.parametrize("value", ["a\r\nEvil: 1", "a\nb", "a\rb"])
def test_a_value_cannot_bring_headers_of_its_own(value: str) -> None:
    headers = Headers([("To", "t")])
    for change in (headers.add, headers.set, headers.prepend, headers.replace_first):
        with pytest.raises(SipFault):
            change("To", value)
    assert list(headers) == [("To", "t")]


def test_addresses_in_all_their_forms() -> None:
    address = parse_name_addr('"Ana \\"A\\", B" <sip:ana@h;lr>;tag=1;x="y;z"')
    assert (address.display, str(address.uri), address.tag, address.param("x")) == (
        'Ana "A", B',
        "sip:ana@h;lr",
        "1",
        "y;z",
    )
    assert parse_name_addr("sip:ana@h;tag=2") == NameAddr("", SipUri(user="ana", host="h"), {"tag": "2"})
    assert parse_name_addr("Ana Lopez <sip:ana@h>").display == "Ana Lopez"
    assert isinstance(parse_name_addr("<tel:+1-2>").uri, TelUri)
    assert (
        str(NameAddr('Zoë "Z"', SipUri(user="z", host="h"), {"tag": "3"})) == '"Zoë \\"Z\\"" <sip:z@h>;tag=3'
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<>",
        "<sip:a@h",
        '"open <sip:a@h>',
        "A, B <sip:a@h>",
        "<sip:a@h>;tag=1;tag=2",
        "<sip:a@h>;;",
        "<sip:a@h> x",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(BadMessage):
        parse_name_addr(text)


def test_a_contact_tells_its_preference_instance_and_features() -> None:
    contact = parse_name_addr(
        '<sip:a@h>;+sip.instance="<urn:uuid:1>";reg-id=1;q=0.5;expires=60;audio;video="TRUE";+sip.ice;mobility="fixed"'
    )
    assert (contact.q, contact.expires, contact.instance) == (0.5, 60, "urn:uuid:1")
    assert contact.features() == {"audio": "TRUE", "video": "TRUE", "+sip.ice": "TRUE", "mobility": "fixed"}
    plain = parse_name_addr("<sip:a@h>")
    assert (plain.q, plain.expires, plain.instance, plain.features()) == (1.0, None, None, {})
    assert parse_name_addr("<sip:a@h>;expires=soon").expires == 3600
    assert parse_name_addr("<sip:a@h>;expires=99999999999999999999").expires == 2**32 - 1
    with pytest.raises(BadMessage):
        _ = parse_name_addr("<sip:a@h>;q=2").q


def test_the_star_stands_alone() -> None:
    assert parse_contacts(["*"]) == "*"
    with pytest.raises(BadMessage):
        parse_contacts(["*, <sip:a@h>"])


def test_a_via_in_all_its_forms() -> None:
    via = parse_via("SIP/2.0/UDP [2001:db8::9]:5070;branch=z9hG4bK1;rport;received=[2001:db8::1]")
    assert (via.transport, via.host, via.port, via.branch, via.received) == (
        "UDP",
        "2001:db8::9",
        5070,
        "z9hG4bK1",
        "2001:db8::1",
    )
    assert (via.wants_rport, via.rport) == (True, None)
    assert parse_via("SIP/2.0/WSS abc.invalid;branch=z9hG4bK2;rport=9").rport == 9
    assert (
        str(Via("TCP", "::1", 5060, {"branch": "b", "rport": None}))
        == "SIP/2.0/TCP [::1]:5060;branch=b;rport"
    )


@pytest.mark.parametrize(
    "text", ["", "SIP/2.0/UDP", "SIP/3.0/UDP h", "SIP/2.0/UDP h;;", "SIP/2.0/UDP h:x", "UDP h"]
)
def test_what_is_no_via_is_refused(text: str) -> None:
    with pytest.raises(BadMessage):
        parse_via(text)


@pytest.mark.parametrize(
    "text", ["", "INVITE", "1", "-1 INVITE", "2147483648 INVITE", "1 INVITE x", "١ INVITE"]
)
def test_what_is_no_cseq_is_refused(text: str) -> None:
    with pytest.raises(BadMessage):
        parse_cseq(text)


def test_a_media_type() -> None:
    assert parse_media_type('Text/Plain; charset="UTF-8"') == ("text/plain", {"charset": '"UTF-8"'})
    with pytest.raises(BadMessage):
        parse_media_type("text")


@given(st.text(st.characters(exclude_characters="\r\n\0"), max_size=40))
def test_any_text_survives_quoting(text: str) -> None:
    assert unquote_string(quote_string(text)) == text
    assert split_list(f"{quote_string(text)}, x") == [quote_string(text), "x"]
    address = NameAddr(text, SipUri(user="a", host="h"), {})
    assert parse_name_addr(str(address)) == address


@pytest.mark.parametrize("text", ["SIP/2.0/UDP h;branch=a\0b", "SIP/2.0/UDP h;x=\x7f"])
def test_a_parameter_without_quotes_has_no_control_characters(text: str) -> None:
    with pytest.raises(BadMessage):
        parse_via(text)


def test_what_would_break_a_line_becomes_a_space_in_a_quoted_string() -> None:
    assert quote_string("Eve\r\nEvil: 1\0") == '"Eve  Evil: 1 "'


def test_a_nul_in_a_value_goes_back_as_it_came() -> None:
    headers = Headers([("To", '"NUL:\\\0" <sip:a@h>;tag=1')])
    assert parse_name_addr(headers.get("To") or "").display == "NUL:\0"


@given(st.text(alphabet=' \t";,<>=\\@:*abc/.%[]0', max_size=60))
def test_no_text_raises_anything_else(text: str) -> None:
    for read in (parse_name_addr, parse_via, parse_cseq, split_list, parse_params, parse_media_type):
        try:
            read(text)
        except BadMessage:
            continue


@given(
    st.lists(
        st.tuples(
            st.sampled_from(("add", "prepend", "set", "replace_first", "remove_first", "remove")),
            st.sampled_from(("Via", "v", "To", "Contact", "Content-Length", "X-Odd")),
            st.sampled_from(("one", " two ", "three, four", "")),
        ),
        max_size=12,
    )
)
def test_what_was_read_once_is_never_older_than_its_line(changes: list[tuple[str, str, str]]) -> None:
    headers = Headers([("Via", "a, b"), ("To", "c")])
    for change, name, value in changes:
        if change in ("remove", "remove_first"):
            getattr(headers, change)(name)
        elif change != "replace_first" or name in headers:
            getattr(headers, change)(name, value)
        assert headers.firsts() == Headers.from_lines(headers.keys, headers.lines).firsts()
