from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sip_trunk.sip.errors import BadMessage
from sip_trunk.sip.message import Request
from sip_trunk.sip.session_timer import (
    Agreement,
    agreed_by_them,
    agreed_by_us,
    asking,
    longer,
    too_brief,
)


def invite(expires: str | None = None, *, knows: bool = True, least: str | None = None) -> Request:
    headers = [("Supported", "replaces, TIMER")] if knows else [("Supported", "replaces")]
    if expires is not None:
        headers.append(("Session-Expires", expires))
    if least is not None:
        headers.append(("Min-SE", least))
    return Request("INVITE", "sip:a@b", headers)


@pytest.mark.parametrize(
    ("expires", "knows", "least", "seconds", "ours", "said", "required"),
    [
        # RFC 4028 table 2, and what we do where it leaves the choice.
        ("1800", True, None, 1800, False, "1800;refresher=uac", True),
        ("1800;refresher=uac", True, None, 1800, False, "1800;refresher=uac", True),
        ("1800;refresher=uas", True, None, 1800, True, "1800;refresher=uas", False),
        ("1800", False, None, 1800, True, "1800;refresher=uas", False),
        ("1800;refresher=uac", False, None, 1800, True, "1800;refresher=uas", False),
        (None, True, None, 1800, True, "1800;refresher=uas", False),
        (None, False, None, 1800, True, "1800;refresher=uas", False),
        # Shorter than ours is theirs to choose, longer is cut, but not below what they want at least.
        ("90", True, None, 90, False, "90;refresher=uac", True),
        ("7200", True, None, 1800, False, "1800;refresher=uac", True),
        ("7200", True, "3600", 3600, False, "3600;refresher=uac", True),
        (None, True, "2000", 2000, True, "2000;refresher=uas", False),
        # A proxy that asks for next to nothing on behalf of a caller who cannot be told 422.
        ("1", False, None, 90, True, "90;refresher=uas", False),
        ("nonsense", True, "nonsense", 1800, True, "1800;refresher=uas", False),
    ],
)
def test_what_the_callee_agrees_to(
    expires: str | None,
    knows: bool,
    least: str | None,
    seconds: int,
    ours: bool,
    said: str,
    required: bool,
) -> None:
    agreement, headers = agreed_by_us(invite(expires, knows=knows, least=least), 1800, 90)
    assert agreement is not None
    assert (agreement.seconds, agreement.ours) == (seconds, ours)
    assert dict(headers)["Session-Expires"] == said
    assert ("Require", "timer") in headers if required else len(headers) == 1


def test_without_a_wish_on_either_side_there_is_no_timer() -> None:
    assert agreed_by_us(invite(), 0, 90) == (None, ())
    assert agreed_by_them(Request("INVITE", "sip:a@b"), invite().response(200), 90) is None
    agreement, _ = agreed_by_us(invite("600"), 0, 90)
    assert agreement == Agreement(600, False, True)


@pytest.mark.parametrize(
    ("asked", "answer", "expected"),
    [
        ("1800", None, Agreement(1800, True, False)),
        ("1800", "1800;refresher=uac", Agreement(1800, True, True)),
        ("1800", "1800;refresher=uas", Agreement(1800, False, True)),
        ("1800", "300;refresher=uas", Agreement(300, False, True)),
        ("1800", "300", Agreement(300, True, True)),
        ("1800", "9999;refresher=uas", Agreement(1800, False, True)),
        ("1800", "0;refresher=uac", Agreement(90, True, True)),
        ("1800", "never", Agreement(1800, True, False)),
        (None, "600;refresher=uac", Agreement(600, True, True)),
    ],
)
def test_what_the_caller_makes_of_the_answer(
    asked: str | None, answer: str | None, expected: Agreement
) -> None:
    request = invite(asked)
    headers = [("Session-Expires", answer)] if answer is not None else []
    assert agreed_by_them(request, request.response(200, headers=headers), 90) == expected


def test_too_brief_is_only_who_could_do_better() -> None:
    assert too_brief(invite("89"), 90)
    assert not too_brief(invite("90"), 90)
    assert not too_brief(invite("1", knows=False), 90)
    assert not too_brief(invite(), 90)
    with pytest.raises(BadMessage):
        too_brief(invite("-1"), 90)


@pytest.mark.parametrize(
    ("asked", "least", "again"),
    [
        ("1800;refresher=uac", "3600", ("3600;refresher=uac", "3600")),
        ("1800", "3600", ("3600", "3600")),
        ("1800", "1800", None),
        ("1800", "60", None),
        ("1800", None, None),
        ("1800", "x", None),
        (None, "3600", None),
    ],
)
def test_after_a_422_it_asks_for_longer(
    asked: str | None, least: str | None, again: tuple[str, str] | None
) -> None:
    request = invite(asked)
    headers = [("Min-SE", least)] if least is not None else []
    found = longer(request, request.response(422, headers=headers))
    assert found == (None if again is None else (("Session-Expires", again[0]), ("Min-SE", again[1])))


def test_times() -> None:
    assert Agreement(1800, True, True).refresh_after == 900
    assert Agreement(1800, True, True).ends_after == 1768
    assert Agreement(90, True, True).ends_after == 60
    assert asking(0, 90) == ()
    assert asking(30, 90) == (("Session-Expires", "90"), ("Min-SE", "90"))
    assert Agreement(90, False, True, 95).headers() == (
        ("Session-Expires", "90;refresher=uas"),
        ("Min-SE", "95"),
    )


@given(st.text(alphabet='0123456789;=refshuac ,"x', max_size=60), st.booleans())
def test_any_header_gives_a_bearable_interval(value: str, knows: bool) -> None:
    request = invite(value, knows=knows, least=value)
    for agreement in (
        agreed_by_us(request, 1800, 90)[0],
        agreed_by_them(invite("1800"), request.response(200, headers=[("Session-Expires", value)]), 90),
    ):
        assert agreement is not None
        assert agreement.seconds >= 90
    try:
        too_brief(request, 90)
    except BadMessage:
        pass
