from __future__ import annotations

import pytest

from sip_trunk.sip.errors import BadMessage, SipFault
from sip_trunk.sip.message import Request, Response
from sip_trunk.sip.parser import parse
from sip_trunk.sip.uri import parse_uri


def invite() -> Request:
    return Request(
        "INVITE",
        "sip:bob@example.com",
        [
            ("Via", "SIP/2.0/UDP 192.0.2.1:5070;branch=z9hG4bK1;rport"),
            ("Via", "SIP/2.0/UDP 192.0.2.2;branch=z9hG4bK0"),
            ("Record-Route", "<sip:p@h;lr>"),
            ("From", "<sip:ana@example.com>;tag=a"),
            ("To", "<sip:bob@example.com>"),
            ("Call-ID", "c1"),
            ("CSeq", "7 INVITE"),
            ("Max-Forwards", "70"),
        ],
        b"v=0\r\n",
        "application/sdp",
    )


def test_content_length_is_written_and_put_right() -> None:
    request = invite()
    assert b"\r\nContent-Length: 5\r\n\r\nv=0\r\n" in request.to_bytes()
    request.body = b""
    assert request.to_bytes().endswith(b"\r\nContent-Length: 0\r\n\r\n")
    assert request.to_bytes().count(b"Content-Length") == 1


def test_a_response_carries_what_it_must_and_nothing_else() -> None:
    response = invite().response(180, to_tag="b", headers=[("Contact", "<sip:us@h>")])
    assert response.to_bytes().decode().split("\r\n") == [
        "SIP/2.0 180 Ringing",
        "Via: SIP/2.0/UDP 192.0.2.1:5070;branch=z9hG4bK1;rport",
        "Via: SIP/2.0/UDP 192.0.2.2;branch=z9hG4bK0",
        "Record-Route: <sip:p@h;lr>",
        "From: <sip:ana@example.com>;tag=a",
        "To: <sip:bob@example.com>;tag=b",
        "Call-ID: c1",
        "CSeq: 7 INVITE",
        "Contact: <sip:us@h>",
        "Content-Length: 0",
        "",
        "",
    ]


@pytest.mark.parametrize("status, routed", [(100, False), (180, True), (200, True), (404, False)])
def test_only_what_can_make_a_dialog_carries_record_route(status: int, routed: bool) -> None:
    assert ("Record-Route" in invite().response(status).headers) is routed


def test_a_to_that_has_a_tag_keeps_it() -> None:
    request = invite()
    request.headers.set("To", "<sip:bob@example.com>;tag=old")
    assert request.response(200, to_tag="new").to.tag == "old"


def test_the_source_is_noted_on_the_top_via_alone() -> None:
    request = invite()
    request.stamp_source("198.51.100.7", 4711)
    assert (request.top_via.received, request.top_via.rport) == ("198.51.100.7", 4711)
    assert request.vias[1].received is None


def test_the_source_is_not_noted_where_the_via_tells_it_and_nobody_asked() -> None:
    request = invite()
    request.headers.set("Via", "SIP/2.0/UDP 192.0.2.1:5070;branch=z9hG4bK1")
    request.stamp_source("192.0.2.1", 5070)
    assert request.headers.get("Via") == "SIP/2.0/UDP 192.0.2.1:5070;branch=z9hG4bK1"


def test_a_received_the_sender_wrote_itself_is_overwritten() -> None:
    request = invite()
    request.headers.set("Via", "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1;received=10.0.0.1;rport=1")
    request.stamp_source("192.0.2.1", 5070)
    assert (request.top_via.received, request.top_via.rport) == ("192.0.2.1", 5070)


def test_what_was_parsed_is_kept_and_forgotten_with_its_header() -> None:
    request = invite()
    assert request.from_ is request.from_
    assert request.vias is request.vias
    first = request.top_via
    request.headers.prepend("Via", "SIP/2.0/TCP us;branch=z9hG4bK9")
    assert request.top_via.branch == "z9hG4bK9"
    assert request.vias[1] == first
    request.headers.set("CSeq", "8 INVITE")
    assert request.cseq.number == 8


@pytest.mark.parametrize("name", ["Via", "From", "To", "Call-ID", "CSeq"])
def test_a_missing_header_is_named(name: str) -> None:
    request = invite()
    request.headers.remove(name)
    with pytest.raises(BadMessage, match=f"Missing {name}"):
        _ = request.top_via, request.from_, request.to, request.call_id, request.cseq


def test_a_start_line_that_would_break_the_message_is_not_written() -> None:
    with pytest.raises(SipFault):
        Request("INVITE", "sip:a@h SIP/2.0\r\nEvil: 1").to_bytes()
    with pytest.raises(SipFault):
        Response(200, "OK\r\nEvil: 1").to_bytes()
    with pytest.raises(SipFault):
        Request("INVITE", "sip:a@h\rEvil:1").to_bytes()
    with pytest.raises(SipFault):
        Request("INVITE\r\nEvil:", "sip:a@h").to_bytes()


def test_a_name_that_is_no_valid_unicode_stops_nothing() -> None:
    request = invite()
    request.headers.set("Subject", "\ud800")
    assert b"Subject: ?" in request.to_bytes()


def test_the_request_uri_can_be_changed() -> None:
    request = invite()
    assert request.uri.user == "bob"
    request.uri = parse_uri("sip:carol@192.0.2.9")
    assert request.to_bytes().startswith(b"INVITE sip:carol@192.0.2.9 SIP/2.0\r\n")


@pytest.mark.parametrize(
    "accept, answer",
    [
        (None, True),
        ("application/sdp", True),
        ("text/html, Application/SDP;q=0.3", True),
        ("application/*", True),
        ("*/*;q=0.1", True),
        ("", False),
        ("text/html", False),
        ("application/sdp;q=0.0", False),
    ],
)
def test_what_an_answer_may_hold(accept: str | None, answer: bool) -> None:
    request = invite()
    if accept is not None:
        request.headers.set("Accept", accept)
    assert request.accepts("application/sdp") is answer


def test_an_accept_that_cannot_be_read_is_named() -> None:
    request = invite()
    request.headers.set("Accept", "sdp")
    with pytest.raises(BadMessage, match="Bad Accept"):
        request.accepts("application/sdp")


def test_a_copy_is_its_own() -> None:
    request = invite()
    other = request.copy()
    other.headers.set("To", "<sip:x@h>")
    other.body = b""
    assert request.to.uri.user == "bob"
    assert request.body
    assert parse(request.to_bytes()) == request
