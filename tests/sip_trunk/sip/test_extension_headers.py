from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sip_trunk.sip.errors import BadMessage
from sip_trunk.sip.extension_headers import (
    RAck,
    Reason,
    Replaces,
    SessionExpires,
    SessionId,
    parse_diversions,
    parse_history_info,
    parse_min_se,
    parse_privacy,
    parse_rack,
    parse_reason,
    parse_replaces,
    parse_rseq,
    parse_session_expires,
    parse_session_id,
)
from sip_trunk.sip.header_values import parse_name_addr
from sip_trunk.sip.message import Request
from sip_trunk.sip.uri import SipUri

HALF, OTHER = "ab30317f1a784dc48ff824d0d3715d86", "47755a9de7794ba387653f2099600ef2"


def test_replaces_names_a_dialog() -> None:
    # RFC 3891 s6.1, its own example
    value = "98732@sip.example.com;from-tag=r33th4x0r;to-tag=ff87ff"
    assert parse_replaces(value) == Replaces("98732@sip.example.com", "ff87ff", "r33th4x0r")
    early = parse_replaces("12adf2f34456gs5 ; to-tag=12345;\t from-tag=54321;early-only")
    assert early.early_only
    assert parse_replaces(str(early)) == early
    assert parse_replaces('a(b)<c>:\\/"?{};to-tag=1;from-tag=0').call_id == 'a(b)<c>:\\/"?{}'


def test_replaces_in_a_refer_to_is_read_and_written() -> None:
    # RFC 3891 s1 and RFC 5589 s7.3
    address = parse_name_addr(
        "<sips:transferee@example.com;gr=1?Replaces=090459243588173445%3B"
        "to-tag%3D7553452%3Bfrom-tag%3D31431&Require=replaces>"
    )
    assert isinstance(address.uri, SipUri)
    written = address.uri.header("replaces")
    assert written is not None
    replaces = parse_replaces(written)
    assert replaces == Replaces("090459243588173445", "7553452", "31431")
    assert address.uri.header("Require") == "replaces"
    assert address.uri.header("Subject") is None
    bare = address.uri.without_headers()
    assert str(bare) == "sips:transferee@example.com;gr=1"
    assert bare.without_headers() is bare


def test_a_header_in_a_uri_writes_no_line_of_its_own() -> None:
    uri = SipUri(host="h", headers=(("Subject", "a%0D%0AEvil:%201"), ("body", "a%0D%0Ab")))
    with pytest.raises(BadMessage):
        uri.header("Subject")
    assert uri.header("body") == "a\r\nb"


def test_reasons_are_read_in_order() -> None:
    # RFC 3326 s2
    value = 'SIP ;cause=200 ;text="Call completed elsewhere", Q.850;cause=16;text="Terminated, \\"so\\"";location=U'
    assert parse_reason(value) == [
        Reason("SIP", 200, "Call completed elsewhere"),
        Reason("Q.850", 16, 'Terminated, "so"'),
    ]
    assert parse_reason("preemption") == [Reason("preemption")]
    assert str(parse_reason(value)[0]) == 'SIP;cause=200;text="Call completed elsewhere"'


def test_rack_rseq_session_expires_and_min_se() -> None:
    assert parse_rack("776656 1 INVITE") == RAck(776656, 1, "INVITE")
    assert str(parse_rack("1  2\tINVITE")) == "1 2 INVITE"
    assert parse_rseq("988789") == 988789
    assert parse_session_expires("4000;refresher=UAC") == SessionExpires(4000, "uac")
    assert parse_session_expires("1800") == SessionExpires(1800)
    assert parse_session_expires("9" * 40).seconds == 2**32 - 1
    assert str(SessionExpires(90, "uas")) == "90;refresher=uas"
    assert parse_min_se("120;x=y") == 120


def test_privacy_is_a_set_of_words() -> None:
    assert parse_privacy("Id;critical") == {"id", "critical"}
    assert parse_privacy("user, header") == {"user", "header"}


def test_session_id_has_two_halves() -> None:
    # RFC 7989 s5, and a peer of RFC 7329, which sends one
    assert parse_session_id(f"{HALF};remote={OTHER}") == SessionId(HALF, OTHER)
    assert parse_session_id(HALF.upper()) == SessionId(HALF)
    assert str(SessionId(HALF, OTHER)) == f"{HALF};remote={OTHER}"
    assert SessionId("0" * 32).nil


def test_history_is_read_with_its_reasons() -> None:
    # RFC 7044 s10.1
    passed_on = "<sip:bob@192.0.2.4?Reason=SIP%3Bcause%3D302&Privacy=history>;index=1.1;rc=1"
    entries = parse_history_info(
        [f"<sip:bob@example.com>;index=1, {passed_on}", '"Bob" <tel:+15555550123>;index=1.2.1;mp=1.1']
    )
    assert [(entry.index, entry.mechanism, entry.changed_from) for entry in entries] == [
        ("1", None, None),
        ("1.1", "rc", "1"),
        ("1.2.1", "mp", "1.1"),
    ]
    assert entries[1].reasons == (Reason("SIP", 302),)
    assert entries[1].privacy == {"history"}
    assert entries[2].address.uri.user == "+15555550123"


def test_diversions_are_read() -> None:
    # RFC 5806 s7
    first, second = parse_diversions(
        ['<sip:+19195551002@h>;reason=User-Busy;counter=3;privacy="full";screen=yes, <tel:+1919555>']
    )
    assert (first.reason, first.counter, first.privacy, first.screen) == ("user-busy", 3, "full", True)
    assert (second.reason, second.counter, second.privacy, second.screen) == ("unknown", 1, None, None)


def test_a_message_reads_them_from_its_lines() -> None:
    message = Request(
        "INVITE",
        "sip:a@h",
        [
            ("Reason", "SIP;cause=302"),
            ("Reason", "Q.850;cause=16"),
            ("History-Info", "<sip:b@h>;index=1"),
            ("Diversion", "<sip:b@h>;reason=unconditional"),
            ("Privacy", "id"),
            ("Session-ID", HALF),
        ],
    )
    assert [reason.cause for reason in message.reasons] == [302, 16]
    assert message.history[0].index == "1"
    assert message.diversions[0].reason == "unconditional"
    assert message.privacy == {"id"}
    assert message.session_id == SessionId(HALF)
    bare = Request("INVITE", "sip:a@h")
    assert (bare.reasons, bare.history, bare.diversions, bare.privacy) == ([], [], [], frozenset())
    assert bare.session_id is None


WRONG: list[tuple[Callable[[str], object], str]] = [
    (parse_replaces, "98732;to-tag=1"),
    (parse_replaces, "98732;from-tag=1"),
    (parse_replaces, "98732;to-tag=1;from-tag=2;to-tag=3"),
    (parse_replaces, ";to-tag=1;from-tag=2"),
    (parse_replaces, "a b;to-tag=1;from-tag=2"),
    (parse_replaces, "a;to-tag=;from-tag=2"),
    (parse_replaces, f"{'a' * 600};to-tag=1;from-tag=2"),
    (parse_reason, "SIP;cause=many"),
    (parse_reason, "SIP;cause=-1"),
    (parse_reason, "SIP;cause=99999999999"),
    (parse_reason, "S IP;cause=1"),
    (parse_reason, 'SIP;text="open'),
    (parse_reason, ",".join(["SIP"] * 300)),
    (parse_rack, "1 1"),
    (parse_rack, "1 1 IN VITE"),
    (parse_rack, "4294967296 1 INVITE"),
    (parse_rack, "1 2147483648 INVITE"),
    (parse_rack, "-1 1 INVITE"),
    (parse_rseq, ""),
    (parse_rseq, "٣"),
    (parse_session_expires, "soon"),
    (parse_session_expires, "90;refresher=me"),
    (parse_session_expires, "90;refresher"),
    (parse_session_expires, ""),
    (parse_min_se, "-5"),
    (parse_privacy, ""),
    (parse_privacy, "id;;user"),
    (parse_privacy, ";".join(["id"] * 20)),
    (parse_session_id, "abc"),
    (parse_session_id, f"{HALF};remote=abc"),
    (parse_session_id, f"{HALF};remote"),
    (lambda value: parse_history_info([value]), "<sip:a@h>"),
    (lambda value: parse_history_info([value]), "<sip:a@h>;index=1..2"),
    (lambda value: parse_history_info([value]), "<sip:a@h?Reason=SIP%3Bcause%3Dx>;index=1"),
    (lambda value: parse_diversions([value]), "<sip:a@h>;counter=100"),
    (lambda value: parse_diversions([value]), "nobody"),
]


@pytest.mark.parametrize("read, value", WRONG)
def test_a_wrong_value_is_a_bad_message(read: Callable[[str], object], value: str) -> None:
    with pytest.raises(BadMessage) as caught:
        read(value)
    assert caught.value.status == 400


@given(
    st.sampled_from([read for read, _ in WRONG]),
    st.one_of(
        st.text(max_size=80),
        st.text(alphabet=' ;,="<>@:%?&abz019*.-\\\r\n\0é', max_size=80),
        st.tuples(st.sampled_from([value for _, value in WRONG]), st.text(max_size=5)).map("".join),
    ),
)
def test_no_value_raises_anything_else(read: Callable[[str], object], value: str) -> None:
    try:
        read(value)
    except BadMessage:
        pass
