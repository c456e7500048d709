from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sip_trunk.sip.errors import BadMessage, SipError
from sip_trunk.sip.message import Message, Request
from sip_trunk.sip.parser import KeepAlive, Limits, StreamParser, is_keep_alive, parse

OPTIONS = (
    b"OPTIONS sip:us@example.com SIP/2.0\r\n"
    b"Via: SIP/2.0/TCP 192.0.2.1:5070;branch=z9hG4bK1;rport\r\n"
    b"From: <sip:ana@example.com>;tag=a\r\n"
    b"To: <sip:us@example.com>\r\n"
    b"Call-ID: c1\r\n"
    b"CSeq: 1 OPTIONS\r\n"
    b"Content-Length: 4\r\n"
    b"\r\n"
    b"body"
)


def refusal(data: bytes, limits: Limits | None = None) -> BadMessage:
    with pytest.raises(BadMessage) as caught:
        parse(data, limits or Limits())
    return caught.value


def test_line_breaks_before_a_message_are_ignored() -> None:
    assert parse(b"\r\n\r\n" + OPTIONS).to_bytes() == OPTIONS


def test_without_content_length_the_datagram_is_the_body() -> None:
    assert parse(OPTIONS.replace(b"Content-Length: 4\r\n", b"")).body == b"body"


def test_a_keep_alive_is_told_from_a_message() -> None:
    assert is_keep_alive(b"\r\n\r\n")
    assert is_keep_alive(b"\0")
    assert is_keep_alive(b"")
    assert not is_keep_alive(OPTIONS)


@pytest.mark.parametrize("bare", [b"X: a\nb: c\r\n", b"X: a\rb\r\n", b"X: a\n b\r\n"])
def test_a_bare_cr_or_lf_is_refused(bare: bytes) -> None:
    assert refusal(OPTIONS.replace(b"Call-ID", bare + b"Call-ID")).reason == "Bare CR or LF"


@pytest.mark.parametrize("line", [b"no colon\r\n", b": x\r\n", b"b ad: x\r\n", b"\xff: x\r\n"])
def test_a_line_that_is_no_header_is_refused_and_left_out_of_the_answer(line: bytes) -> None:
    error = refusal(OPTIONS.replace(b"Call-ID", line + b"Call-ID"))
    assert (error.status, error.reason) == (400, "Bad header line")
    assert error.request is not None
    assert error.request.call_id == "c1"


def test_what_does_not_look_like_sip_cannot_be_answered() -> None:
    for data in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02", b"SIP/2.0 abc\r\n\r\n", b"hello"):
        assert refusal(data).request is None


def test_a_head_without_an_end_is_refused() -> None:
    assert refusal(OPTIONS.partition(b"\r\n\r\n")[0]).reason == "Missing end of headers"


def test_limits_on_size_and_number() -> None:
    assert refusal(OPTIONS, Limits(message=100)).status == 513
    many = OPTIONS.replace(b"Call-ID", b"X: 1\r\n" * 300 + b"Call-ID")
    assert refusal(many).status == 513
    large = OPTIONS.replace(b"Call-ID", b"X: " + b"1" * 40_000 + b"\r\nCall-ID")
    assert refusal(large).status == 513


def test_the_version_is_read_in_any_case() -> None:
    assert isinstance(parse(OPTIONS.replace(b"SIP/2.0\r\n", b"sip/2.0\r\n", 1)), Request)


def test_octets_that_are_not_utf_8_are_sent_on_as_they_came() -> None:
    data = OPTIONS.replace(b"Call-ID", b"Subject: \xff\xfe\r\nCall-ID")
    assert parse(data).to_bytes() == data


def test_a_very_long_number_is_only_a_bad_one() -> None:
    assert refusal(OPTIONS.replace(b"CSeq: 1 ", b"CSeq: " + b"1" * 9000 + b" ")).reason == "Bad CSeq"
    assert refusal(OPTIONS.replace(b"Length: 4", b"Length: " + b"9" * 9000)).status == 400


def test_a_stream_may_be_cut_anywhere() -> None:
    data = b"\r\n\r\n" + OPTIONS + OPTIONS.replace(b"c1", b"c2") + b"\r\n\r\n" + OPTIONS.replace(b"c1", b"c3")
    for size in (1, 2, 3, 7, 100, len(data)):
        parser = StreamParser()
        found = [item for at in range(0, len(data), size) for item in parser.feed(data[at : at + size])]
        assert [item.call_id for item in found if isinstance(item, Message)] == ["c1", "c2", "c3"]
        assert [item for item in found if isinstance(item, KeepAlive)] == [KeepAlive.PING, KeepAlive.PING]
        assert parser.idle


def test_a_single_line_break_in_a_stream_is_a_pong() -> None:
    assert StreamParser().feed(b"\r\n" + OPTIONS)[0] is KeepAlive.PONG


def test_a_stream_goes_on_after_a_message_that_could_be_framed() -> None:
    bad, good = StreamParser().feed(OPTIONS.replace(b"1 OPTIONS", b"x OPTIONS") + OPTIONS)
    assert isinstance(bad, BadMessage)
    assert (bad.reason, bad.request is not None) == ("Bad CSeq", True)
    assert isinstance(good, Request)


@pytest.mark.parametrize(
    "data",
    [
        OPTIONS.replace(b"Content-Length: 4\r\n", b""),
        OPTIONS.replace(b"Length: 4", b"Length: -4"),
        OPTIONS.replace(b"Length: 4", b"Length: 99999999"),
        OPTIONS.replace(b"Content-Length: 4", b"Content-Length: 4\r\nl: 5"),
        b"GET / HTTP/1.1\r\n\r\n",
        b"x" * 100_000,
    ],
)
def test_a_stream_that_cannot_be_framed_is_broken_and_holds_nothing(data: bytes) -> None:
    parser = StreamParser()
    (fault,) = parser.feed(data)
    assert isinstance(fault, BadMessage)
    assert parser.broken
    assert parser.idle
    assert parser.feed(OPTIONS) == []


def test_a_stream_never_makes_us_hold_more_than_a_message() -> None:
    parser = StreamParser()
    for _ in range(2000):
        parser.feed(b"X-Slow: 1234567890\r\n")
    assert parser.broken
    assert parser.idle


token = st.text(alphabet="abcXYZ0189-.!%*_+`'~", min_size=1, max_size=12)
line = st.binary(max_size=40).filter(lambda value: b"\r" not in value and b"\n" not in value)
fold = st.sampled_from([b"", b"\r\n ", b"\r\n\t", b" \r\n   "])


@given(
    method=token,
    extra=st.lists(st.tuples(token, fold, line, fold, line), max_size=6),
    body=st.binary(max_size=80),
    spaces=st.sampled_from([b"", b" ", b"  \t"]),
)
def test_an_untouched_message_is_written_as_it_came(
    method: str, extra: list[tuple[str, bytes, bytes, bytes, bytes]], body: bytes, spaces: bytes
) -> None:
    name = method.encode()
    lines = [
        name + b" sip:us@example.com SIP/2.0",
        b"v" + spaces + b":" + spaces + b"SIP/2.0/UDP h;branch=z9hG4bK1",
        b"FROM: sip:a@h;tag=1",
        b"To" + spaces + b": <sip:b@h>",
        b"i:c1",
        b"CSeq: 1 " + name,
    ]
    lines += [f"X-{key}".encode() + b":" + b"".join(parts) for key, *parts in extra]
    lines += [b"l: " + str(len(body)).encode(), b"", b""]
    data = b"\r\n".join(lines) + body
    message = parse(data)
    assert message.to_bytes() == data
    assert message.body == body
    assert StreamParser().feed(data)[0] == message


@settings(max_examples=300)
@given(st.binary(max_size=400))
def test_no_octets_raise_anything_else(data: bytes) -> None:
    try:
        parse(data)
    except SipError:
        pass
    StreamParser().feed(data)


@settings(max_examples=400)
@given(
    st.integers(0, len(OPTIONS) - 1),
    st.integers(0, 30),
    st.one_of(
        st.binary(max_size=20),
        st.sampled_from([b"\r\n", b"\r\n ", b";", b",", b'"', b"<", b">", b"\0", b"%", b":"]),
    ),
)
def test_no_damage_to_a_message_raises_anything_else(at: int, removed: int, inserted: bytes) -> None:
    data = OPTIONS[:at] + inserted + OPTIONS[at + removed :]
    refused: SipError | None = None
    try:
        parse(data).to_bytes()
    except SipError as error:
        refused = error
    assert refused is None or 400 <= refused.status < 600
    if isinstance(refused, BadMessage) and refused.request is not None:
        refused.request.response(refused.status, refused.reason, to_tag="t").to_bytes()
    for item in StreamParser().feed(data):
        if isinstance(item, Message):
            item.to_bytes()


LONG = 30_000


@pytest.mark.parametrize(
    "header, value",
    [
        (b"From", b"a" + b" " * LONG + b"b"),
        (b"From", b'"' + b'\\"' * (LONG // 2)),
        (b"From", b"<sip:" + b"a" * LONG),
        (b"From", b"<sip:a@" + b"a-" * (LONG // 2) + b">"),
        (b"From", b"<sip:a@h>" + b";a" * (LONG // 2)),
        (b"From", b"<sip:a@h>" + b" ;a=" * (LONG // 4)),
        (b"Via", b"SIP/2.0/UDP h" + b" " * LONG + b"x"),
        (b"Via", b"SIP/2.0/UDP h;branch=1" + b",SIP/2.0/UDP h" * (LONG // 14)),
        (b"Contact", b"<sip:a@h>," * (LONG // 10)),
        (b"Contact", b'"' + b",<" * (LONG // 2)),
        (b"Route", b"<" * LONG),
        (b"X", b"a\r\n " + b" " * LONG + b"a"),
        (b"To", b" \t" * (LONG // 2) + b"\r\n x"),
    ],
)
def test_no_header_takes_long_to_read(header: bytes, value: bytes) -> None:
    lines = [line for line in OPTIONS.split(b"\r\n") if not line.startswith(header)]
    data = b"\r\n".join([lines[0], header + b": " + value, *lines[1:]])
    start = time.process_time()
    try:
        parse(data)
    except BadMessage:
        pass
    # Linear work takes some milliseconds; quadratic work takes seconds.
    assert time.process_time() - start < 0.2


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"From: " + b"\x0b" * 30_000, id="white space before an address that never comes"),
        pytest.param(b"Contact: <tel:" + b"1" * 30_000 + b"!>", id="a number that is none at its end"),
    ],
)
def test_no_line_takes_the_square_of_its_length_to_read(line: bytes) -> None:
    name = line.partition(b":")[0]
    kept = [other for other in OPTIONS.split(b"\r\n") if not other.startswith(name + b":")]
    began = time.process_time()
    refusal(b"\r\n".join([kept[0], line, *kept[1:]]))
    assert time.process_time() - began < 1.0


@pytest.mark.parametrize("port", [b"0", b"65536", b"99999"])
@pytest.mark.parametrize("space", [b" ", b"  "])
def test_a_via_names_a_port_that_can_be_answered_to(port: bytes, space: bytes) -> None:
    assert (
        refusal(OPTIONS.replace(b"/TCP 192.0.2.1:5070", b"/TCP" + space + b"192.0.2.1:" + port)).reason
        == "Bad Via"
    )
