"""RFC 4475: messages that are wrong, each with the answer the RFC asks for."""

from __future__ import annotations

import re

import pytest

from sip_trunk.sip.errors import BadMessage
from sip_trunk.sip.message import Request
from sip_trunk.sip.parser import StreamParser, parse
from tests.sip_trunk.sip.torture_messages import RFC4475, titles

REFUSED = {
    "badinv01": (400, "Bad Via"),
    "clerr": (400, "Body shorter than Content-Length"),
    "ncl": (400, "Bad Content-Length"),
    "scalar02": (400, "Bad CSeq"),
    # The RFC lets these four be guessed at, or refused: nobody sends them, and a guess is what a smuggler hopes for.
    "quotbal": (400, "Bad address in To"),
    "ltgtruri": (400, "Bad Request-URI"),
    "lwsruri": (400, "Bad Request-Line"),
    "lwsstart": (400, "Bad Request-Line"),
    "trws": (400, "Bad Request-Line"),
    "escruri": (400, "Headers in Request-URI"),
    "regbadct": (400, "Bad header parameter in Contact"),
    "badaspec": (400, "Bad address in To"),
    "baddn": (400, "Bad URI in From"),
    "badvers": (505, "Version Not Supported"),
    "mismatch01": (400, "CSeq method does not match"),
    # 400 or 501, as we like.
    "mismatch02": (400, "CSeq method does not match"),
    "insuf": (400, "Missing To"),
    "multi01": (400, "Repeated To"),
    "mcl01": (400, "Repeated Content-Length"),
}

DROPPED = {"scalarlg": "Bad CSeq", "bigcode": "Bad status line"}


@pytest.mark.parametrize("name", REFUSED, ids=titles(REFUSED))
def test_a_wrong_request_is_refused_with_a_reason_and_can_be_answered(name: str) -> None:
    status, reason = REFUSED[name]
    with pytest.raises(BadMessage) as caught:
        parse(RFC4475[name])
    assert (caught.value.status, caught.value.reason) == (status, reason)
    request = caught.value.request
    assert isinstance(request, Request)
    answer = request.response(status, reason, to_tag="t").to_bytes()
    assert answer.startswith(f"SIP/2.0 {status} {reason}\r\n".encode())
    via = re.search(rb"\r\nVia: *(.*)", RFC4475[name])
    assert via is not None
    assert via[1] in answer


@pytest.mark.parametrize("name", DROPPED, ids=titles(DROPPED))
def test_a_wrong_response_is_dropped(name: str) -> None:
    with pytest.raises(BadMessage) as caught:
        parse(RFC4475[name])
    assert caught.value.reason == DROPPED[name]
    assert caught.value.request is None  # so there is nothing to answer


def changed(name: str, old: bytes, new: bytes) -> bytes:
    assert RFC4475[name].count(old) == 1
    return RFC4475[name].replace(old, new)


def test_clerr_s3_1_2_2_over_a_stream_the_rest_is_waited_for() -> None:
    parser = StreamParser()
    assert parser.feed(RFC4475["clerr"]) == []
    assert not parser.idle
    (message,) = parser.feed(b"." * (9999 - 154))
    assert isinstance(message, Request)
    assert len(message.body) == 9999


def test_ncl_s3_1_2_3_over_a_stream_is_answered_and_the_end() -> None:
    parser = StreamParser()
    (fault,) = parser.feed(RFC4475["ncl"])
    assert isinstance(fault, BadMessage)
    assert (fault.status, fault.request is not None, parser.broken) == (400, True, True)


def test_scalar02_s3_1_2_4_each_of_its_faults_alone() -> None:
    sound_cseq = changed("scalar02", b"36893488147419103232 ", b"1 ")
    with pytest.raises(BadMessage) as caught:
        parse(sound_cseq)
    assert caught.value.reason == "Bad Max-Forwards"
    message = parse(sound_cseq.replace(b"Max-Forwards: 300", b"Max-Forwards: 70"))
    # Too large for 32 bits: the largest there is, and it is for the registrar to say how long.
    assert (message.expires, message.contacts[0].expires) == (2**32 - 1, 2**32 - 1)


def test_scalarlg_s3_1_2_5_a_retry_after_nobody_could_wait_for_is_only_read() -> None:
    message = parse(changed("scalarlg", b"9292394834772304023312 ", b"9 "))
    assert message.headers.get("Retry-After") == "949302838503028349304023988"
    assert message.headers.all("Warning") == ['1812 overture "In Progress"']


@pytest.mark.parametrize("name", ["To", "From", "Call-ID", "CSeq", "Via"])
def test_insuf_s3_3_1_each_mandatory_header_is_missed(name: str) -> None:
    with pytest.raises(BadMessage) as caught:
        parse(re.sub(rb"\r\n" + name.encode() + rb":[^\r]*", b"", RFC4475["lwsdisp"]))
    assert caught.value.reason == f"Missing {name}"


@pytest.mark.parametrize("name", ["To", "From", "Call-ID", "CSeq", "Max-Forwards"])
def test_multi01_s3_3_8_each_header_that_must_stand_once(name: str) -> None:
    data = RFC4475["lwsdisp"]
    line = re.search(rb"\r\n" + name.encode() + rb":[^\r]*", data)
    assert line is not None
    with pytest.raises(BadMessage) as caught:
        parse(data.replace(b"\r\nl: 0", line[0] + b"\r\nl: 0"))
    assert caught.value.reason == f"Repeated {name}"


def test_mcl01_s3_3_9_two_lengths_end_a_stream() -> None:
    parser = StreamParser()
    (fault,) = parser.feed(RFC4475["mcl01"])
    assert isinstance(fault, BadMessage)
    assert (fault.reason, parser.broken) == ("Repeated Content-Length", True)
