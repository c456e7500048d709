"""RFC 4475 s3.1.1, s3.2, s3.3, s3.4: messages that must be understood, or whose answer comes from above the parser.

What is asked here is what the text layer owes: that they are read, and read right.
"""

# The messages' own lines are as long as they are.
# ruff: noqa: E501

from __future__ import annotations

from sip_trunk.sip.message import Message, Request, Response
from sip_trunk.sip.parser import parse
from sip_trunk.sip.uri import OtherUri, SipUri

SDP = """v=0
o=mhandley 29739 7272939 IN IP4 192.0.2.3
s=-
c=IN IP4 192.0.2.4
t=0 0
m=audio 49217 RTP/AVP 0 12
m=video 3227 RTP/AVP 31
a=rtpmap:31 LPC
"""


def wire(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode("utf-8", "surrogateescape")


def request(text: str) -> Request:
    message = parse(wire(text))
    assert isinstance(message, Request)
    assert message.to_bytes() == wire(text)
    return message


def response(text: str) -> Response:
    message = parse(wire(text))
    assert isinstance(message, Response)
    assert message.to_bytes() == wire(text)
    return message


def test_wsinv_a_short_tortuous_invite() -> None:
    message = request(
        """INVITE sip:vivekg@chair-dnrc.example.com;unknownparam SIP/2.0
TO :
 sip:vivekg@chair-dnrc.example.com ;   tag    = 1918181833n
from   : "J Rosenberg \\\\\\""       <sip:jdrosen@example.com>
  ;
  tag = 98asjd8
MaX-fOrWaRdS: 0068
Call-ID: wsinv.ndaksdj@192.0.2.1
Content-Length   : 150
cseq: 0009
  INVITE
Via  : SIP  /   2.0
 /UDP
    192.0.2.2;branch=390skdjuw
s :
NewFangledHeader:   newfangled value
 continued newfangled value
UnknownHeaderWithUnusualValue: ;;,,;;,;
Content-Type: application/sdp
Route:
 <sip:services.example.com;lr;unknownwith=value;unknown-no-value>
v:  SIP  / 2.0  / TCP     spindle.example.com   ;
  branch  =   z9hG4bK9ikj8  ,
 SIP  /    2.0   / UDP  192.168.255.111   ; branch=
 z9hG4bK30239
m:"Quoted string \\"\\"" <sip:jdrosen@example.com> ; newparam =
      newvalue ;
  secondparam ; q = 0.33

"""
        + SDP
    )
    assert isinstance(message.uri, SipUri)
    assert message.uri.params == (("unknownparam", None),)
    assert message.to.tag == "1918181833n"
    assert str(message.to.uri) == "sip:vivekg@chair-dnrc.example.com"
    assert (message.from_.display, message.from_.tag) == ('J Rosenberg \\"', "98asjd8")
    assert message.max_forwards == 68
    assert message.cseq == (9, "INVITE")
    assert message.content_length == len(message.body) == 150
    assert [(via.transport, via.host, via.branch) for via in message.vias] == [
        ("UDP", "192.0.2.2", "390skdjuw"),
        ("TCP", "spindle.example.com", "z9hG4bK9ikj8"),
        ("UDP", "192.168.255.111", "z9hG4bK30239"),
    ]
    assert message.headers.get("Subject") == ""
    assert message.headers.get("newfangledheader") == "newfangled value continued newfangled value"
    assert message.headers.all("UnknownHeaderWithUnusualValue") == [";;,,;;,;"]
    (route,) = message.routes
    assert isinstance(route.uri, SipUri)
    assert route.uri.param("lr") == ""
    (contact,) = message.contacts
    assert (contact.display, contact.q) == ('Quoted string ""', 0.33)
    assert dict(contact.params) == {"newparam": "newvalue", "secondparam": None, "q": "0.33"}


def test_intmeth_a_wide_range_of_valid_characters() -> None:
    method = "!interesting-Method0123456789_*+`.%indeed'~"
    message = request(
        f"""{method} sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too.(doesn't-it)@example.com SIP/2.0
Via: SIP/2.0/TCP host1.example.com;branch=z9hG4bK-.!%66*_+`'~
To: "BEL:\\\x07 NUL:\\\x00 DEL:\\\x7f" <sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*@example.com>
From: token1~` token2'+_ token3*%!.- <sip:mundane@example.com>;fromParam''~+*_!.-%="работающий";tag=_token~1'+`*%!-.
Call-ID: intmeth.word%ZK-!.*_+'@word`~)(><:\\/"][?}}{{
CSeq: 139122385 {method}
Max-Forwards: 255
extensionHeader-!.%*+_`'~: \ufeff大停電
Content-Length: 0

"""
    )
    assert message.method == method
    assert isinstance(message.uri, SipUri)
    assert message.uri.user == "1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*"
    assert message.uri.password == "&it+has=1,weird!*pas$wo~d_too.(doesn't-it)"
    assert message.to.display == "BEL:\x07 NUL:\x00 DEL:\x7f"
    assert message.from_.display == "token1~` token2'+_ token3*%!.-"
    assert message.from_.param("fromparam''~+*_!.-%") == "работающий"
    assert message.from_.tag == "_token~1'+`*%!-."
    assert message.call_id == "intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{"
    assert message.headers.get("extensionHeader-!.%*+_`'~") == "\ufeff大停電"


def test_esc01_escapes_in_uris() -> None:
    message = request(
        """INVITE sip:sips%3Auser%40example.com@example.net SIP/2.0
To: sip:%75se%72@example.com
From: <sip:I%20have%20spaces@example.net>;tag=938
Max-Forwards: 87
i: esc01.239409asdfakjkn23onasd0-3234
CSeq: 234234 INVITE
Via: SIP/2.0/UDP host5.example.net;branch=z9hG4bKkdjuw
C: application/sdp
Contact:
  <sip:cal%6Cer@host5.example.net;%6C%72;n%61me=v%61lue%25%34%31>
Content-Length: 150

"""
        + SDP
    )
    assert isinstance(message.uri, SipUri)
    assert (message.uri.user, message.uri.host) == ("sips:user@example.com", "example.net")
    assert message.to.uri.matches(SipUri(user="user", host="example.com"))
    assert message.from_.uri.user == "I have spaces"
    (contact,) = message.contacts
    assert contact.uri.user == "caller"


def test_escnull_an_escaped_nul_does_not_end_a_user() -> None:
    message = request(
        """REGISTER sip:example.com SIP/2.0
To: sip:null-%00-null@example.com
From: sip:null-%00-null@example.com;tag=839923423
Max-Forwards: 70
Call-ID: escnull.39203ndfvkjdasfkq3w4otrq0adsfdfnavd
CSeq: 14398234 REGISTER
Via: SIP/2.0/UDP host5.example.com;branch=z9hG4bKkdjuw
Contact: <sip:%00@host5.example.com>
Contact: <sip:%00%00@host5.example.com>
L:0

"""
    )
    assert message.to.uri.user == "null-\0-null"
    assert [contact.uri.user for contact in message.contacts] == ["\0", "\0\0"]


def test_esc02_a_percent_that_is_no_escape() -> None:
    message = request(
        """RE%47IST%45R sip:registrar.example.com SIP/2.0
To: "%Z%45" <sip:resource@example.com>
From: "%Z%45" <sip:resource@example.com>;tag=f232jadfj23
Call-ID: esc02.asdfnqwo34rq23i34jrjasdcnl23nrlknsdf
Via: SIP/2.0/TCP host.example.com;branch=z9hG4bK209%fzsnel234
CSeq: 29344 RE%47IST%45R
Max-Forwards: 70
Contact: <sip:alias1@host1.example.com>
C%6Fntact: <sip:alias2@host2.example.com>
Contact: <sip:alias3@host3.example.com>
l: 0

"""
    )
    assert message.method == "RE%47IST%45R"
    assert message.to.display == "%Z%45"
    assert len(message.contacts) == 2
    assert message.top_via.branch == "z9hG4bK209%fzsnel234"


def test_lwsdisp_no_space_between_display_name_and_bracket() -> None:
    message = request(
        """OPTIONS sip:user@example.com SIP/2.0
To: sip:user@example.com
From: caller<sip:caller@example.com>;tag=323
Max-Forwards: 70
Call-ID: lwsdisp.1234abcd@funky.example.com
CSeq: 60 OPTIONS
Via: SIP/2.0/UDP funky.example.com;branch=z9hG4bKkdjuw
l: 0

"""
    )
    assert (message.from_.display, message.from_.tag) == ("caller", "323")


def test_longreq_long_values() -> None:
    long = "l" + "o" * 20 + "ng"
    vias = "".join(f"v: SIP/2.0/TCP sip{number}.example.com\n" for number in range(34))
    message = request(
        f"""INVITE sip:user@example.com SIP/2.0
To: "I have a user name of {"extreme" * 10} proportion"<sip:user@example.com:6000;unknownparam1=very{"long" * 20}value;longparam{"name" * 25}=shortvalue;very{"long" * 25}ParameterNameWithNoValue>
F: sip:amazinglylongcallername{"e" * 40}@example.net;tag=12982{"424" * 50};unknownheaderparam{"name" * 20}=unknowheaderparam{"value" * 15};unknownValueless{"paramname" * 10}
Call-ID: longreq.one{"really" * 20}longcallid
CSeq: 3882340 INVITE
Unknown-{"Long-" * 20}Name: unknown-{"long-" * 20}value; unknown-{"long-" * 20}parameter-name = unknown-{"long-" * 20}parameter-value
Via: SIP/2.0/TCP sip33.example.com
{vias}V: SIP/2.0/TCP host.example.com;received=192.0.2.5;branch=verylong{"branch" * 50}value
Max-Forwards: 70
Contact: <sip:amazinglylongcallername{"e" * 40}@host5.example.net>
Content-Type: application/sdp
l: 150

"""
        + SDP
    )
    assert long not in message.to.display
    assert len(message.vias) == 36
    assert message.vias[-1].received == "192.0.2.5"
    assert message.from_.tag == "12982" + "424" * 50
    assert message.call_id == f"longreq.one{'really' * 20}longcallid"


def test_dblreq_a_second_request_in_one_datagram_is_dropped() -> None:
    first = wire(
        """REGISTER sip:example.com SIP/2.0
To: sip:j.user@example.com
From: sip:j.user@example.com;tag=43251j3j324
Max-Forwards: 8
I: dblreq.0ha0isndaksdj99sdfafnl3lk233412
Contact: sip:j.user@host.example.com
CSeq: 8 REGISTER
Via: SIP/2.0/UDP 192.0.2.125;branch=z9hG4bKkdjuw23492
Content-Length: 0

"""
    )
    second = wire("\nINVITE sip:joe@example.com SIP/2.0\nt: sip:joe@example.com\n\n")
    message = parse(first + second)
    assert message.body == b""
    assert message.to_bytes() == first


def test_semiuri_a_semicolon_in_the_user() -> None:
    message = request(
        """OPTIONS sip:user;par=u%40example.net@example.com SIP/2.0
To: sip:j_user@example.com
From: sip:caller@example.org;tag=33242
Max-Forwards: 3
Call-ID: semiuri.0ha0isndaksdj
CSeq: 8 OPTIONS
Accept: application/sdp, application/pkcs7-mime,
        multipart/mixed, multipart/signed,
        message/sip, message/sipfrag
Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKkdjuw
l: 0

"""
    )
    assert isinstance(message.uri, SipUri)
    assert (message.uri.user, message.uri.host, message.uri.params) == (
        "user;par=u@example.net",
        "example.com",
        (),
    )
    assert len(message.headers.all("Accept")) == 6


def test_transports_varied_and_unknown() -> None:
    message = request(
        """OPTIONS sip:user@example.com SIP/2.0
To: sip:user@example.com
From: <sip:caller@example.com>;tag=323
Max-Forwards: 70
Call-ID: transports.kijh4akdnaqjkwendsasfdj
Accept: application/sdp
CSeq: 60 OPTIONS
Via: SIP/2.0/UDP t1.example.com;branch=z9hG4bKkdjuw
Via: SIP/2.0/SCTP t2.example.com;branch=z9hG4bKklasjdhf
Via: SIP/2.0/TLS t3.example.com;branch=z9hG4bK2980unddj
Via: SIP/2.0/UNKNOWN t4.example.com;branch=z9hG4bKasd0f3en
Via: SIP/2.0/TCP t5.example.com;branch=z9hG4bK0a9idfnee
l: 0

"""
    )
    assert [via.transport for via in message.vias] == ["UDP", "SCTP", "TLS", "UNKNOWN", "TCP"]


def test_mpart01_a_multipart_body_is_octets() -> None:
    body = b"--7a9cbec02ceef655\r\nContent-Type: text/plain\r\n\r\nHello\r\n--7a9cbec02ceef655\r\n"
    body += b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n\r\n"
    body += bytes(range(256)) + b"\r\n\r\n\r\n--7a9cbec02ceef655--\r\n"
    head = wire(
        f"""MESSAGE sip:kumiko@example.org SIP/2.0
Via: SIP/2.0/UDP 127.0.0.1:5070;branch=z9hG4bK-d87543-4dade06d0bdb11ee-1--d87543-;rport
Max-Forwards: 70
Route: <sip:127.0.0.1:5080>
Identity: r5mwreLuyDRYBi/0TiPwEsY3rEVsk/G2WxhgTV1PF7hHuLIK0YWVKZhKv9Mj8UeXqkMVbnVq37CD+813gvYjcBUaZngQmXc9WNZSDNGCzA+fWl9MEUHWIZo1CeJebdY/XlgKeTa0Olvq0rt70Q5jiSfbqMJmQFteeivUhkMWYUA=
Contact: <sip:fluffy@127.0.0.1:5070>
To: <sip:kumiko@example.org>
From: <sip:fluffy@example.com>;tag=2fb0dcc9
Call-ID: 3d9485ad0c49859b@Zmx1ZmZ5LW1hYy0xNi5sb2NhbA..
CSeq: 1 MESSAGE
Content-Transfer-Encoding: binary
Content-Type: multipart/mixed;boundary=7a9cbec02ceef655
Date: Sat, 15 Oct 2005 04:44:56 GMT
User-Agent: SIPimp.org/0.2.5 (curses)
Content-Length: {len(body)}

"""
    )
    message = parse(head + body)
    assert message.content_type == "multipart/mixed"
    assert message.body == body
    assert message.to_bytes() == head + body


def test_unreason_an_unusual_reason_phrase() -> None:
    message = response(
        """SIP/2.0 200 = 2**3 * 5**2 но сто девяносто девять - простое
Via: SIP/2.0/UDP 192.0.2.198;branch=z9hG4bK1324923
Call-ID: unreason.1234ksdfak3j2erwedfsASdf
CSeq: 35 INVITE
From: sip:user@example.com;tag=11141343
To: sip:user@example.edu;tag=2229
Content-Length: 150
Content-Type: application/sdp
Contact: <sip:user@host198.example.com>

"""
        + SDP
    )
    assert (message.status, message.reason) == (200, "= 2**3 * 5**2 но сто девяносто девять - простое")


def test_noreason_an_empty_reason_phrase() -> None:
    message = response(
        """SIP/2.0 100\x20
Via: SIP/2.0/UDP 192.0.2.105;branch=z9hG4bK2398ndaoe
Call-ID: noreason.asndj203insdf99223ndf
CSeq: 35 INVITE
From: <sip:user@example.com>;tag=39ansfi3
To: <sip:user@example.edu>;tag=902jndnke3
Content-Length: 0
Contact: <sip:user@host105.example.com>

"""
    )
    assert (message.status, message.reason) == (100, "")


def _options(name: str, uri: str = "sip:user@example.com", **changes: str) -> str:
    lines = {
        "To": "sip:user@example.com",
        "From": "sip:caller@example.net;tag=323",
        "Via": "SIP/2.0/UDP host.example.com;branch=z9hG4bKzzxdiwo34sw",
        "Max-Forwards": "70",
        "Call-ID": f"{name}.asdaddsad",
        "CSeq": "8 OPTIONS",
        "l": "0",
    } | {key.replace("_", "-"): value for key, value in changes.items()}
    return f"OPTIONS {uri} SIP/2.0\n" + "".join(f"{key}: {value}\n" for key, value in lines.items()) + "\n"


def test_badbranch_a_branch_that_is_only_the_cookie_is_read() -> None:
    assert (
        request(_options("badbranch", Via="SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK")).top_via.branch == "z9hG4bK"
    )


def test_unkscm_and_novelsc_another_scheme_in_the_request_uri_is_left_to_the_user_agent() -> None:
    assert request(_options("unkscm", "nobodyKnowsThisScheme:totallyopaquecontent")).uri == OtherUri(
        "nobodyknowsthisscheme", "totallyopaquecontent"
    )
    assert request(_options("novelsc", "soap.beep://192.0.2.103:3002")).uri == OtherUri(
        "soap.beep", "//192.0.2.103:3002"
    )


def test_unksm2_unknown_schemes_in_addresses() -> None:
    message = request(
        _options(
            "unksm2",
            To="isbn:2983792873",
            From="<http://www.example.com>;tag=3234233",
            Contact="<name:John_Smith>",
        )
    )
    assert message.to.uri == OtherUri("isbn", "2983792873")
    assert message.from_.tag == "3234233"
    assert message.contacts[0].uri == OtherUri("name", "John_Smith")


def test_bext01_unknown_extensions_required_are_listed_for_the_user_agent() -> None:
    message = request(
        _options(
            "bext01",
            Require="nothingSupportsThis, nothingSupportsThisEither",
            Proxy_Require="noProxiesSupportThis",
        )
    )
    assert message.headers.all("Require") == ["nothingSupportsThis", "nothingSupportsThisEither"]


def test_zeromf_max_forwards_zero() -> None:
    assert request(_options("zeromf", Max_Forwards="0")).max_forwards == 0


def test_inv2543_a_request_of_rfc_2543() -> None:
    message = request(
        """INVITE sip:UserB@example.com SIP/2.0
Via: SIP/2.0/UDP iftgw.example.com
From: <sip:+13035551111@ift.client.example.net;user=phone>
Record-Route: <sip:UserB@example.com;maddr=ss1.example.com>
To: sip:+16505552222@ss1.example.net;user=phone
Call-ID: inv2543.1717@ift.client.example.com
CSeq: 56 INVITE
Content-Type: application/sdp
Content-Length: 150

"""
        + SDP
    )
    assert message.from_.tag is None
    assert message.top_via.branch is None
    assert message.to.params == {"user": "phone"}


def test_cparam01_an_unknown_parameter_is_the_headers_and_cparam02_the_uris() -> None:
    template = """REGISTER sip:example.com SIP/2.0
Via: SIP/2.0/UDP saturn.example.com:5060;branch=z9hG4bKkdjuw
Max-Forwards: 70
From: sip:watson@example.com;tag=DkfVgjkrtMwaerKKpe
To: sip:watson@example.com
Call-ID: cparam01.70710@saturn.example.com
CSeq: 2 REGISTER
Contact: {}
l: 0

"""
    (contact,) = request(template.format("sip:+19725552222@gw1.example.net;unknownparam")).contacts
    assert "unknownparam" in contact.params
    assert contact.uri == SipUri(user="+19725552222", host="gw1.example.net")
    (contact,) = request(template.format("<sip:+19725552222@gw1.example.net;unknownparam>")).contacts
    assert not contact.params
    assert isinstance(contact.uri, SipUri)
    assert contact.uri.param("unknownparam") == ""


def test_regescrt_headers_in_a_contact_uri_are_not_the_messages() -> None:
    message: Message = request(
        """REGISTER sip:example.com SIP/2.0
To: sip:user@example.com
From: sip:user@example.com;tag=8
Max-Forwards: 70
Call-ID: regescrt.k345asrl3fdbv@192.0.2.1
CSeq: 14398234 REGISTER
Via: SIP/2.0/UDP host5.example.com;branch=z9hG4bKkdjuw
M: <sip:user@example.com?Route=%3Csip:sip.example.com%3E>
L:0

"""
    )
    assert message.routes == []
    (contact,) = message.contacts
    assert isinstance(contact.uri, SipUri)
    assert contact.uri.headers == (("Route", "%3Csip:sip.example.com%3E"),)
