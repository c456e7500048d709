from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sip_trunk.sip.cpim import LARGEST_HEAD, MOST_HEADERS, Cpim, parse_cpim, wrap
from sip_trunk.sip.errors import BadMessage, SipFault
from tests.sip_trunk.sip.test_composing import verdict

# The example of RFC 3862 s5.1, without the line numbers.
EXAMPLE = (
    b"From: MR SANDERS <im:piglet@100akerwood.com>\r\n"
    b"To: Depressed Donkey <im:eeyore@100akerwood.com>\r\n"
    b"DateTime: 2000-12-13T13:40:00-08:00\r\n"
    b"Subject: the weather will be fine today\r\n"
    b"Subject:;lang=fr beau temps prevu pour aujourd'hui\r\n"
    b"NS: MyFeatures <mid:MessageFeatures@id.foo.com>\r\n"
    b"MyFeatures.VitalMessageOption: Confirmation-requested\r\n"
    b"MyFeatures.WackyMessageOption: Use-silly-font\r\n"
    b"\r\n"
    b"Content-type: text/xml; charset=utf-8\r\n"
    b"Content-ID: <1234567890@foo.com>\r\n"
    b"\r\n"
    b"<body>\r\nHere is the text of my message.\r\n</body>\r\n"
)


def message(head: str = "", part: str = "Content-Type: text/plain\r\n", content: bytes = b"hi") -> Cpim:
    return parse_cpim(f"{head}\r\n{part}\r\n".encode() + content)


def test_the_example_of_the_rfc_is_read() -> None:
    found = parse_cpim(EXAMPLE)
    assert found.get("From") == "MR SANDERS <im:piglet@100akerwood.com>"
    assert found.get("Subject") == "the weather will be fine today"
    assert found.get("WackyMessageOption", "mid:MessageFeatures@id.foo.com") == "Use-silly-font"
    assert found.get("WackyMessageOption") is None
    assert found.content_type == "text/xml"
    assert found.content.startswith(b"<body>")


def test_names_count_in_their_exact_case_and_prefixes_only_once_they_are_bound() -> None:
    found = message("from: a\r\nx.Name: unbound\r\nNS: x <urn:x>\r\nx.Name: bound\r\n")
    assert found.get("From") is None
    assert found.get("Name", "urn:x") == "bound"


def test_a_default_namespace_leaves_the_core_names_alone() -> None:
    found = message("NS: <urn:x>\r\nSubject: core\r\nMood: good\r\n")
    assert (found.get("Subject"), found.get("Mood", "urn:x"), found.get("Subject", "urn:x")) == (
        "core",
        "good",
        None,
    )


def test_bare_line_feeds_are_read_too() -> None:
    assert parse_cpim(b"To: a\n\nContent-Type: text/plain\n\nhi").text == "hi"


def test_text_is_utf_8_or_nothing() -> None:
    assert message("", 'Content-Type: text/plain; charset="UTF-8"\r\n', "Grüße".encode()).text == "Grüße"
    assert message("", "", b"plain").text == "plain"
    for part, content in (
        ("Content-Type: text/html\r\n", b""),
        ("Content-Type: text/plain;charset=koi8-r\r\n", b""),
        ("Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n", b"aGk="),
        ("Content-Type: text/plain\r\n", b"\xff"),
    ):
        with pytest.raises(BadMessage) as refused:
            _ = message("", part, content).text
        assert refused.value.status == 415


def test_what_follows_the_length_is_not_the_content() -> None:
    assert message("", "Content-Length: 2\r\n", b"hi there").content == b"hi"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"To: a\r\n", 400),
        (b"To: a\r\n\r\nContent-Type: text/plain\r\n", 400),
        (b"no colon\r\n\r\n\r\nhi", 400),
        (b"b\xff: x\r\n\r\n\r\nhi", 400),
        (b"To: a\r\n\r\nContent-Length: 9\r\n\r\nhi", 400),
        (b"To: a\r\n\r\nContent-Length: x\r\n\r\nhi", 400),
        (b"Require: Magic\r\n\r\n\r\nhi", 415),
        (b"a: b\r\n" * (MOST_HEADERS + 1) + b"\r\n\r\nhi", 413),
        (b"a: " + b"b" * LARGEST_HEAD + b"\r\n\r\n\r\nhi", 413),
    ],
)
def test_what_is_no_wrapped_message_is_refused(body: bytes, status: int) -> None:
    with pytest.raises(BadMessage) as refused:
        parse_cpim(body)
    assert refused.value.status == status


def test_a_bad_type_inside_is_refused_when_it_is_asked_for() -> None:
    with pytest.raises(BadMessage):
        _ = message("", "Content-Type: nonsense\r\n").content_type


def test_our_own_headers_have_no_way_to_break_out() -> None:
    told = parse_cpim(wrap([("From", 'a\r\nTo: evil <sip:e@x> \\ "q"')], "text/plain", b"x"))
    assert told.headers == (("From", 'a\r\nTo: evil <sip:e@x> \\ "q"'),)
    with pytest.raises(SipFault):
        wrap([], "text/plain\r\nEvil: 1", b"x")
    with pytest.raises(SipFault):
        wrap([("a b", "c")], "text/plain", b"x")


@given(
    st.lists(st.tuples(st.sampled_from(["From", "x.Name", "Subject"]), st.text(max_size=20)), max_size=6),
    st.binary(max_size=50),
)
def test_what_is_written_is_read_again(headers: list[tuple[str, str]], content: bytes) -> None:
    read = parse_cpim(wrap(headers, "text/plain", content))
    expected = [(name, value.encode("utf-8", "replace").decode().strip(" ")) for name, value in headers]
    assert [(name, value.strip()) for name, value in read.headers] == [
        (name, value.strip()) for name, value in expected
    ]
    assert read.content == content


@given(
    st.binary(max_size=300)
    | st.text(alphabet="a:. \r\n\\u0NS<>;=/", max_size=120).map(str.encode)
    | st.tuples(st.integers(0, len(EXAMPLE)), st.binary(max_size=20)).map(
        lambda cut: EXAMPLE[: cut[0]] + cut[1] + EXAMPLE[cut[0] :]
    )
)
def test_nothing_but_a_refusal_is_ever_raised(body: bytes) -> None:
    def read(body: bytes) -> str:
        found = parse_cpim(body)
        found.get("Name", "urn:x")
        return found.text

    assert verdict(read, body) in (200, 400, 413, 415)
