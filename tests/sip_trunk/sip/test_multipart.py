from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sip_trunk.sip.errors import BadMessage
from sip_trunk.sip.message import Request
from sip_trunk.sip.multipart import part, unknown_required

SDP = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\n"
PIDF = b"<presence/>"


NESTED_AND_REQUIRED = (
    b"Content-Type: multipart/mixed;boundary=b2\r\n\r\n--b2\r\nContent-Type: a/b\r\n"
    b"Content-Disposition: x;handling=required\r\n\r\nx\r\n--b2--"
)


def message(body: bytes, content_type: str | None = "multipart/mixed;boundary=b1", **more: str) -> Request:
    headers = [(name.replace("_", "-"), value) for name, value in more.items()]
    return Request("INVITE", "sip:a@h", headers, body, content_type)


def multipart(*parts: bytes, boundary: str = "b1") -> bytes:
    line = b"--" + boundary.encode()
    return b"".join(line + b"\r\n" + one + b"\r\n" for one in parts) + line + b"--\r\n"


def sdp_and(second: bytes) -> bytes:
    return multipart(b"Content-Type: application/sdp\r\n\r\n" + SDP, second)


def test_a_body_that_stands_alone_is_itself() -> None:
    assert part(message(SDP, "Application/SDP;charset=x"), "application/sdp") == SDP
    assert part(message(SDP, "application/sdp"), "text/plain") is None
    assert part(message(b"", "application/sdp"), "application/sdp") is None
    assert part(message(SDP, None), "application/sdp") is None


def test_the_first_part_of_a_type_is_found() -> None:
    body = sdp_and(b"Content-Type: application/pidf+xml\r\nContent-ID: <l@h>\r\n\r\n" + PIDF)
    for written in (body, b"a preamble\r\n" + body + b"an epilogue", b"\r\n" + body):
        assert part(message(written), "application/sdp") == SDP
        assert part(message(written), "application/pidf+xml") == PIDF
        assert part(message(written), "text/plain") is None


def test_parts_are_octets_and_only_a_whole_delimiter_line_ends_one() -> None:
    content = bytes(range(256)) + b"\r\n--b1x\r\n--b\r\n -- b1\r\n\r\n"
    body = multipart(b"content-type: application/isup\r\n\r\n" + content, b"\r\nhello")
    assert part(message(body), "application/isup") == content
    assert part(message(body), "text/plain") == b"hello"


def test_a_boundary_may_be_quoted_and_padded() -> None:
    body = multipart(b"\r\nhi", boundary="a b:?(c)").replace(b"(c)\r\n", b"(c) \t\r\n")
    assert part(message(body, 'multipart/mixed; boundary="a b:?(c)"'), "text/plain") == b"hi"


def test_parts_may_be_nested() -> None:
    inner = multipart(b"Content-Type: application/sdp\r\n\r\n" + SDP, boundary="b2")
    outer = multipart(b"Content-Type: multipart/related;\r\n boundary=b2\r\n\r\n" + inner, b"\r\nx")
    assert part(message(outer), "application/sdp") == SDP


def test_a_transfer_encoding_is_taken_off() -> None:
    body = multipart(
        b"Content-Type: application/sdp\r\nContent-Transfer-Encoding: Base64\r\n\r\ndj0w\r\nDQo=",
        b"Content-Type: text/html\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\na=3Db",
        b"Content-Transfer-Encoding: binary\r\n\r\nx=3D",
    )
    assert part(message(body), "application/sdp") == b"v=0\r\n"
    assert part(message(body), "text/html") == b"a=b"
    assert part(message(body), "text/plain") == b"x=3D"


@pytest.mark.parametrize(
    "second, found",
    [
        (b"Content-Type: application/isup;version=x\r\n\r\nx", None),
        (b"Content-Type: application/isup\r\nContent-Disposition: signal;handling=optional\r\n\r\nx", None),
        (
            b"Content-Type: application/isup\r\nContent-Disposition: signal ; handling=Required\r\n\r\nx",
            "application/isup",
        ),
        (b"Content-Type: application/sdp\r\nContent-Disposition: session;handling=required\r\n\r\nx", None),
        (NESTED_AND_REQUIRED, "a/b"),
    ],
)
def test_a_part_that_must_be_understood_is_told(second: bytes, found: str | None) -> None:
    assert unknown_required(message(sdp_and(second)), {"application/sdp"}) == found


def test_of_alternatives_one_is_enough() -> None:
    required = b"Content-Disposition: session;handling=required\r\n\r\nx"
    body = multipart(b"Content-Type: application/sdp\r\n" + required, b"Content-Type: a/b\r\n" + required)
    kind = "multipart/alternative;boundary=b1"
    assert unknown_required(message(body, kind), {"application/sdp"}) is None
    assert unknown_required(message(body, kind), {"text/plain"}) == "application/sdp"


def test_a_body_alone_must_be_understood_unless_it_is_optional() -> None:
    assert unknown_required(message(b"x", "a/b"), {"application/sdp"}) == "a/b"
    assert unknown_required(message(b"x", "a/b", Content_Disposition="x;handling=optional"), set()) is None
    assert unknown_required(message(SDP, "application/sdp"), {"application/sdp"}) is None
    assert unknown_required(message(b"", "a/b"), set()) is None
    assert unknown_required(message(b"x", None), set()) is None


def nested(levels: int) -> bytes:
    body = b"Content-Type: text/plain\r\n\r\nx"
    for level in range(levels, 1, -1):
        name = f"b{level}"
        body = f"Content-Type: multipart/mixed;boundary={name}\r\n\r\n".encode() + multipart(
            body, boundary=name
        )
    return multipart(body)


def test_three_levels_and_sixteen_parts_are_enough() -> None:
    assert part(message(nested(3)), "text/plain") == b"x"
    assert part(message(multipart(*[b"\r\nx"] * 16)), "text/plain") == b"x"
    for body in (nested(4), multipart(*[b"\r\nx"] * 17)):
        with pytest.raises(BadMessage):
            part(message(body), "text/plain")


@pytest.mark.parametrize(
    "body, content_type",
    [
        (b"", "multipart/mixed;boundary=b1"),
        (b"nothing", "multipart/mixed;boundary=b1"),
        (b"--b1--", "multipart/mixed;boundary=b1"),
        (b"--b1\r\n\r\nx", "multipart/mixed;boundary=b1"),
        (b"--b1\r\n\r\nx\r\n--b1", "multipart/mixed;boundary=b1"),
        (multipart(b"\r\nx"), "multipart/mixed"),
        (multipart(b"\r\nx"), 'multipart/mixed;boundary=""'),
        (multipart(b"\r\nx"), 'multipart/mixed;boundary="b1 "'),
        (multipart(b"\r\nx"), f"multipart/mixed;boundary={'b' * 71}"),
        (multipart(b"no header\r\n\r\nx"), "multipart/mixed;boundary=b1"),
        (multipart(b"Content-Type: sdp\r\n\r\nx"), "multipart/mixed;boundary=b1"),
        (multipart(b"X: " + b"y" * 5000 + b"\r\n\r\nx"), "multipart/mixed;boundary=b1"),
        (multipart(b"Content-Transfer-Encoding: zip\r\n\r\nx"), "multipart/mixed;boundary=b1"),
        (multipart(b"Content-Transfer-Encoding: base64\r\n\r\nx"), "multipart/mixed;boundary=b1"),
    ],
)
def test_a_malformed_multipart_is_a_bad_message(body: bytes, content_type: str) -> None:
    with pytest.raises(BadMessage) as caught:
        part(message(body, content_type), "application/sdp")
    assert caught.value.status == 400


WORDS = """--b1 --b2 --b1-- multipart/mixed ;boundary=b2 text/plain Content-Type: x base64 : \xff
    Content-Disposition:x;handling=required""".split()  # noqa: SIM905
pieces = st.sampled_from([b" ", b"\r\n", b"\r\n\r\n", *(word.encode() for word in WORDS)])


@given(st.lists(pieces, max_size=30).map(b"".join))
def test_no_body_raises_anything_else(body: bytes) -> None:
    for one in (body, b"--b1\r\n" + body + b"\r\n--b1--"):
        try:
            part(message(one), "text/plain")
            unknown_required(message(one), {"text/plain"})
        except BadMessage:
            pass
