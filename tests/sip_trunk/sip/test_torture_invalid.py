"""RFC 4475 s3.1.2 and s3.3: messages that are wrong, each with the answer the RFC asks for."""

from __future__ import annotations

import pytest

from sip_trunk.sip.errors import BadMessage
from sip_trunk.sip.message import Request
from sip_trunk.sip.parser import parse

SDP = "v=0\no=mhandley 29739 7272939 IN IP4 192.0.2.155\ns=-\nc=IN IP4 192.0.2.155\nt=0 0\nm=audio 49217 RTP/AVP 0 12\n"


def message(start: str, *, body: str = "", **changes: str | None) -> bytes:
    """A sound message, but for what is changed; "\v" in a value stands for the same header once more."""
    method = start.split()[0]
    lines = {
        "Via": "SIP/2.0/UDP 192.0.2.15;branch=z9hG4bKkdjuw",
        "Max-Forwards": "70",
        "To": "sip:j.user@example.com",
        "From": "sip:caller@example.net;tag=134161461246",
        "Call-ID": "torture.0ha0isndaksdjasdf3234nas",
        "CSeq": f"8 {method}",
        "Contact": "<sip:caller@host5.example.net>",
        "Content-Length": str(len(body.replace("\n", "\r\n"))),
    } | {name.replace("_", "-"): value for name, value in changes.items()}
    head = [start]
    for name, value in lines.items():
        if value is not None:
            head += [f"{name}: {one}" for one in value.split("\v")]
    return ("\n".join(head) + "\n\n" + body).replace("\n", "\r\n").encode()


INVITE = "INVITE sip:user@example.com SIP/2.0"
REGISTER = "REGISTER sip:example.com SIP/2.0"
OPTIONS = "OPTIONS sip:user@example.com SIP/2.0"

REFUSED: dict[str, tuple[bytes, int, str]] = {
    # s3.1.2.1: extraneous separators
    "badinv01": (
        message(INVITE, Via="SIP/2.0/UDP 192.0.2.15;;,;,,", Contact='"Joe" <sip:joe@example.org>;;;;'),
        400,
        "Bad Via",
    ),
    # s3.1.2.2: Content-Length larger than the message
    "clerr": (message(INVITE, body=SDP, Content_Length="9999"), 400, "Body shorter than Content-Length"),
    # s3.1.2.3
    "ncl": (message(INVITE, body=SDP, Content_Length="-999"), 400, "Bad Content-Length"),
    # s3.1.2.4: overlarge numbers
    "scalar02": (
        message(
            REGISTER,
            CSeq="36893488147419103232 REGISTER",
            Max_Forwards="300",
            Expires="1" + "0" * 30,
            Contact="<sip:user@host129.example.com>;expires=280297596632815",
        ),
        400,
        "Bad CSeq",
    ),
    "scalar02, Max-Forwards alone": (message(REGISTER, Max_Forwards="300"), 400, "Bad Max-Forwards"),
    # s3.1.2.6
    "quotbal": (message(INVITE, To='"Mr. J. User <sip:j.user@example.com>'), 400, "Bad address in To"),
    # s3.1.2.7
    "ltgtruri": (message("INVITE <sip:user@example.com> SIP/2.0"), 400, "Bad Request-URI"),
    # s3.1.2.8: white space in the Request-URI
    "lwsruri": (message("INVITE sip:user@example.com; lr SIP/2.0"), 400, "Bad Request-Line"),
    # s3.1.2.9: more than one space in the start line
    "lwsstart": (message("INVITE  sip:user@example.com  SIP/2.0"), 400, "Bad Request-Line"),
    # s3.1.2.10: a space after it
    "trws": (message("OPTIONS sip:remote-target@example.com SIP/2.0  "), 400, "Bad Request-Line"),
    # s3.1.2.11: headers in the Request-URI
    "escruri": (
        message("INVITE sip:user@example.com?Route=%3Csip:example.com%3E SIP/2.0"),
        400,
        "Headers in Request-URI",
    ),
    # s3.1.2.13: a Contact without angle brackets whose URI needs them
    "regbadct": (
        message(REGISTER, Contact="sip:user@example.com?Route=%3Csip:sip.example.com%3E"),
        400,
        "Bad header parameter in Contact",
    ),
    # s3.1.2.14: spaces within the angle brackets
    "badaspec": (
        message(OPTIONS, To='"Watson, Thomas" < sip:t.watson@example.org >'),
        400,
        "Bad address in To",
    ),
    # s3.1.2.15: a display name that needs quotes
    "baddn": (message(OPTIONS, From="Bell, Alexander <sip:a.g.bell@example.com>;tag=43"), 400, "in From"),
    # s3.1.2.16
    "badvers": (message("OPTIONS sip:t.watson@example.org SIP/7.0"), 505, "Version Not Supported"),
    # s3.1.2.17
    "mismatch01": (message(OPTIONS, CSeq="8 INVITE"), 400, "CSeq method does not match"),
    # s3.1.2.18 lets us choose between this and 501
    "mismatch02": (
        message("NEWMETHOD sip:user@example.com SIP/2.0", CSeq="8 INVITE"),
        400,
        "CSeq method does not match",
    ),
    # s3.3.1: no Call-ID, From or To
    "insuf": (message(INVITE, Call_ID=None, From=None, To=None), 400, "Missing To"),
    "insuf, Call-ID alone": (message(INVITE, Call_ID=None), 400, "Missing Call-ID"),
    # s3.3.8: singletons more than once
    "multi01": (
        message(
            INVITE, CSeq="5 INVITE\v59 INVITE", Call_ID="a\vb", To="sip:a@b\vsip:c@d", Max_Forwards="70\v5"
        ),
        400,
        "Repeated To",
    ),
    # s3.3.9
    "mcl01": (
        message(OPTIONS, body="There's no way to know\n", Content_Length="13\v5"),
        400,
        "Repeated Content-Length",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_wrong_request_is_refused_with_a_reason_and_can_be_answered(name: str) -> None:
    data, status, reason = REFUSED[name]
    with pytest.raises(BadMessage) as caught:
        parse(data)
    assert (caught.value.status, reason in caught.value.reason) == (status, True), caught.value.reason
    request = caught.value.request
    assert isinstance(request, Request)
    answer = request.response(caught.value.status, caught.value.reason, to_tag="t").to_bytes()
    assert answer.startswith(f"SIP/2.0 {status} {caught.value.reason}\r\n".encode())


DROPPED = {
    # s3.1.2.5: a response with overlarge numbers
    "scalarlg": message("SIP/2.0 503 Service Unavailable", CSeq="9292394834772304023312 OPTIONS"),
    # s3.1.2.19
    "bigcode": message("SIP/2.0 4294967301 better not break the receiver", CSeq="353494 INVITE"),
}


@pytest.mark.parametrize("name", DROPPED)
def test_a_wrong_response_is_refused_and_cannot_be_answered(name: str) -> None:
    with pytest.raises(BadMessage) as caught:
        parse(DROPPED[name])
    assert caught.value.request is None


def test_baddate_a_date_nobody_asks_for_spoils_nothing() -> None:
    # s3.1.2.12: an element may ignore a Date it has no use for
    assert parse(message(INVITE, Date="Fri, 01 Jan 2010 16:00:00 EST")).headers.get("Date") is not None


def test_regaut01_an_unknown_authorization_scheme_is_read() -> None:
    # s3.3.7: answered by a challenge, by whoever authenticates
    value = "NoOneKnowsThisScheme opaque-data=here"
    assert parse(message(REGISTER, Authorization=value)).headers.get("Authorization") == value
