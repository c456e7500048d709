"""RFC 4475: the messages a parser must understand, and what it must read from them."""

from __future__ import annotations

import pytest

from sip_trunk.sip.errors import BadMessage
from sip_trunk.sip.message import Request, Response
from sip_trunk.sip.multipart import part
from sip_trunk.sip.parser import StreamParser, parse
from sip_trunk.sip.uri import OtherUri, SipUri
from tests.sip_trunk.sip.torture_messages import RFC4475, RFC5118, SECTIONS, titles

VALID = """wsinv intmeth esc01 escnull esc02 lwsdisp longreq semiuri transports mpart01 unreason noreason baddate
    badbranch unkscm novelsc unksm2 bext01 invut regaut01 bcast zeromf cparam01 cparam02 regescrt sdp01
    inv2543""".split()  # noqa: SIM905


def request(name: str) -> Request:
    message = parse(RFC4475[name])
    assert isinstance(message, Request)
    return message


def response(name: str) -> Response:
    message = parse(RFC4475[name])
    assert isinstance(message, Response)
    return message


def sip(uri: object) -> SipUri:
    assert isinstance(uri, SipUri)
    return uri


def test_all_49_messages_are_here() -> None:
    assert set(RFC4475) == set(SECTIONS)
    assert len(RFC4475) == 49
    assert len(RFC5118) == 12
    for data in (*RFC4475.values(), *RFC5118.values()):
        head = data.partition(b"\r\n\r\n")[0]
        assert head.count(b"\n") == head.count(b"\r\n")


@pytest.mark.parametrize("name", VALID, ids=titles(VALID))
def test_a_sound_message_is_read_and_written_as_it_came(name: str) -> None:
    data = RFC4475[name]
    message = parse(data)
    if name != "inv2543":  # which has no Content-Length: a datagram may, and what we send gets one
        assert message.content_length == len(message.body)
        assert message.to_bytes() == data
        assert StreamParser().feed(data) == [message]


def test_wsinv_s3_1_1_1_a_short_tortuous_invite() -> None:
    message = request("wsinv")
    assert sip(message.uri).params == (("unknownparam", None),)
    assert message.to.tag == "1918181833n"
    assert str(message.to.uri) == "sip:vivekg@chair-dnrc.example.com"
    assert (message.from_.display, message.from_.tag) == ('J Rosenberg \\"', "98asjd8")
    assert message.max_forwards == 68
    assert message.cseq == (9, "INVITE")
    assert [(via.transport, via.host, via.branch) for via in message.vias] == [
        ("UDP", "192.0.2.2", "390skdjuw"),
        ("TCP", "spindle.example.com", "z9hG4bK9ikj8"),
        ("UDP", "192.168.255.111", "z9hG4bK30239"),
    ]
    assert message.headers.get("Subject") == ""
    assert message.headers.get("newfangledheader") == "newfangled value continued newfangled value"
    assert message.headers.all("UnknownHeaderWithUnusualValue") == [";;,,;;,;"]
    (route,) = message.routes
    assert sip(route.uri).params == (("lr", None), ("unknownwith", "value"), ("unknown-no-value", None))
    (contact,) = message.contacts
    assert (contact.display, contact.q) == ('Quoted string ""', 0.33)
    assert dict(contact.params) == {"newparam": "newvalue", "secondparam": None, "q": "0.33"}


def test_intmeth_s3_1_1_2_a_wide_range_of_valid_characters() -> None:
    message = request("intmeth")
    assert message.method == "!interesting-Method0123456789_*+`.%indeed'~"
    uri = sip(message.uri)
    assert uri.user == "1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*"
    assert uri.password == "&it+has=1,weird!*pas$wo~d_too.(doesn't-it)"
    assert message.top_via.branch == "z9hG4bK-.!%66*_+`'~"
    assert message.to.display == "BEL:\x07 NUL:\x00 DEL:\x7f"
    assert message.from_.display == "token1~` token2'+_ token3*%!.-"
    assert message.from_.param("fromparam''~+*_!.-%") == "работающий"
    assert message.from_.tag == "_token~1'+`*%!-."
    assert message.call_id == "intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{"
    assert message.headers.get("extensionHeader-!.%*+_`'~") == "\ufeff大停電"


def test_esc01_s3_1_1_3_escapes_are_undone_once() -> None:
    message = request("esc01")
    uri = sip(message.uri)
    assert (uri.scheme, uri.user, uri.host) == ("sip", "sips:user@example.com", "example.net")
    assert message.to.uri.matches(SipUri(user="user", host="example.com"))
    assert message.from_.uri.user == "I have spaces"
    (contact,) = message.contacts
    assert contact.uri.user == "caller"
    assert (contact.uri.param("lr"), contact.uri.param("name")) == ("", "value%41")


def test_escnull_s3_1_1_4_an_escaped_nul_does_not_end_a_user() -> None:
    message = request("escnull")
    assert message.to.uri.user == message.from_.uri.user == "null-\0-null"
    assert [contact.uri.user for contact in message.contacts] == ["\0", "\0\0"]
    assert not message.contacts[0].uri.matches(message.contacts[1].uri)


def test_esc02_s3_1_1_5_a_percent_that_is_no_escape() -> None:
    message = request("esc02")
    assert message.method == "RE%47IST%45R"
    assert message.to.display == message.from_.display == "%Z%45"
    assert [contact.uri.user for contact in message.contacts] == ["alias1", "alias3"]
    assert message.top_via.branch == "z9hG4bK209%fzsnel234"


def test_lwsdisp_s3_1_1_6_no_space_between_display_name_and_bracket() -> None:
    assert (request("lwsdisp").from_.display, request("lwsdisp").from_.tag) == ("caller", "323")


def test_longreq_s3_1_1_7_long_values() -> None:
    message = request("longreq")
    assert message.to.display == f"I have a user name of {'extreme' * 10} proportion"
    assert sip(message.to.uri).param(f"longparam{'name' * 25}") == "shortvalue"
    assert message.from_.tag == f"12{'982' * 50}424"
    assert message.call_id == f"longreq.one{'really' * 20}longcallid"
    assert len(message.vias) == 34
    assert message.top_via.host == "sip33.example.com"
    assert (message.vias[-1].received, message.vias[-1].branch) == (
        "192.0.2.5",
        f"very{'long' * 50}branchvalue",
    )
    assert message.contacts[0].uri.user == "amazinglylongcallername" * 5


def test_dblreq_s3_1_1_8_what_follows_a_whole_message_in_its_datagram_is_dropped() -> None:
    message = request("dblreq")
    assert (message.method, message.call_id, message.body) == (
        "REGISTER",
        "dblreq.0ha0isndaksdj99sdfafnl3lk233412",
        b"",
    )
    assert RFC4475["dblreq"].startswith(message.to_bytes() + b"\r\nINVITE ")


def test_semiuri_s3_1_1_9_a_semicolon_in_the_user() -> None:
    message = request("semiuri")
    uri = sip(message.uri)
    assert (uri.user, uri.host, uri.params) == ("user;par=u@example.net", "example.com", ())
    assert message.headers.all("Accept") == [
        "application/sdp",
        "application/pkcs7-mime",
        "multipart/mixed",
        "multipart/signed",
        "message/sip",
        "message/sipfrag",
    ]


def test_transports_s3_1_1_10_varied_and_unknown() -> None:
    assert [via.transport for via in request("transports").vias] == ["UDP", "SCTP", "TLS", "UNKNOWN", "TCP"]


def test_mpart01_s3_1_1_11_the_parts_of_a_multipart_are_octets() -> None:
    message = request("mpart01")
    assert message.content_type == "multipart/mixed"
    assert part(message, "text/plain") == b"Hello"
    binary = part(message, "application/octet-stream")
    assert binary is not None
    assert (len(binary), binary[:4], binary[-4:]) == (342, b"0\x82\x01R", b"\xbc\x99\xd0\x05")


def test_unreason_s3_1_1_12_an_unusual_reason_phrase() -> None:
    message = response("unreason")
    assert (message.status, message.reason) == (200, "= 2**3 * 5**2 но сто девяносто девять - простое")


def test_noreason_s3_1_1_13_an_empty_reason_phrase() -> None:
    assert (response("noreason").status, response("noreason").reason) == (100, "")


def test_baddate_s3_1_2_12_a_date_nobody_asks_for_spoils_nothing() -> None:
    # It may be refused, and may be ignored by whoever has no use for it.
    assert request("baddate").headers.get("Date") == "Fri, 01 Jan 2010 16:00:00 EST"


def test_badbranch_s3_2_1_a_branch_that_is_only_the_cookie_is_read() -> None:
    assert request("badbranch").top_via.branch == "z9hG4bK"


def test_unkscm_and_novelsc_s3_3_2_schemes_of_other_worlds() -> None:
    assert request("unkscm").uri == OtherUri("nobodyknowsthisscheme", "totallyopaquecontent")
    assert request("novelsc").uri == OtherUri("soap.beep", "//192.0.2.103:3002")


def test_unksm2_s3_3_4_unknown_schemes_in_addresses() -> None:
    message = request("unksm2")
    assert message.to.uri == OtherUri("isbn", "2983792873")
    assert (message.from_.uri, message.from_.tag) == (OtherUri("http", "//www.example.com"), "3234233")
    assert message.contacts[0].uri == OtherUri("name", "John_Smith")


def test_bext01_s3_3_5_required_extensions_are_listed() -> None:
    headers = request("bext01").headers
    assert headers.all("Require") == ["nothingSupportsThis", "nothingSupportsThisEither"]
    assert headers.all("Proxy-Require") == ["noProxiesSupportThis", "norDoAnyProxiesSupportThis"]


def test_bcast_s3_3_10_a_broadcast_address_is_an_address() -> None:
    assert [via.host for via in response("bcast").vias] == ["192.0.2.198", "255.255.255.255"]


def test_cparam_s3_3_12_an_unknown_parameter_is_the_headers_without_brackets_and_the_uris_within() -> None:
    (contact,) = request("cparam01").contacts
    assert dict(contact.params) == {"unknownparam": None}
    assert contact.uri == SipUri(user="+19725552222", host="gw1.example.net")
    (contact,) = request("cparam02").contacts
    assert not contact.params
    assert contact.uri.param("unknownparam") == ""


def test_regescrt_s3_3_14_headers_in_a_contact_uri_are_not_the_messages() -> None:
    message = request("regescrt")
    assert message.routes == []
    assert sip(message.contacts[0].uri).header("Route") == "<sip:sip.example.com>"


def test_sdp01_s3_3_15_what_may_be_answered_is_told() -> None:
    assert not request("sdp01").accepts("application/sdp")
    assert request("sdp01").accepts("text/nobodyknowsthis")
    assert request("wsinv").accepts("application/sdp")
    assert request("semiuri").accepts("multipart/mixed")


def test_inv2543_s3_4_1_a_request_of_rfc_2543() -> None:
    message = request("inv2543")
    assert (message.from_.tag, message.top_via.branch, message.content_length) == (None, None, None)
    assert message.to.params == {"user": "phone"}
    assert message.body.endswith(b"m=audio 49217 RTP/AVP 0\r\n")
    # RFC 3261 s20.14: over a stream nobody could tell where it ends.
    (fault,) = StreamParser().feed(RFC4475["inv2543"])
    assert isinstance(fault, BadMessage)
