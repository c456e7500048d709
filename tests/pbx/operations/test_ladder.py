from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbx.operations.ladder import ASCII, Ladder, cells, clean, fit

SESSION = "0123456789abcdef0123456789abcdef"


def record(
    start: str, *, sent: bool = False, at: float = 1000.0, port: int = 5060, call: str = "1@h", host: str = "192.0.2.7",
    party: str = "phone", session: str = "", transport: str = "UDP", method: str = "INVITE", more: str = "",
) -> dict[str, Any]:  # fmt: skip
    text = f"{start}\r\nFrom: <sip:maria@h>;tag=1\r\nTo: <sip:ana@h>\r\nCall-ID: {call}\r\nCSeq: 1 {method}\r\n{more}"
    if session:
        text += f"Session-ID: {session}\r\n"
    return {
        "at": at, "sent": sent, "transport": transport, "host": host, "port": port, "party": party,
        "text": text + "\r\n",
    }  # fmt: skip


INVITE = "INVITE sip:c_1@h SIP/2.0"


def drawn(*records: dict[str, Any], **options: Any) -> list[str]:
    ladder = Ladder(**options)
    return [line for each in records for line in ladder.lines(each)]


def test_a_call_through_us_is_one_ladder_of_three_columns() -> None:
    lines = drawn(
        record(INVITE, party="trunk carrier", session=SESSION),
        record("SIP/2.0 100 Trying", sent=True, at=1000.001, party="trunk carrier", session=SESSION),
        record("INVITE sip:ana@h SIP/2.0", sent=True, at=1000.25, call="2@h", port=5070, session=SESSION),
        record("SIP/2.0 180 Ringing", at=1000.5, call="2@h", port=5070),
        width=100,
    )
    first, second = [place for place, line in enumerate(lines) if line.startswith("── 1 ")]
    assert SESSION in lines[first]
    assert lines[first + 1].strip() == "Call-ID 1@h"
    assert "trunk carrier" in lines[first + 2]
    assert "Warmline" in lines[first + 2]
    assert "UDP 192.0.2.7:5060" in lines[first + 3]
    names = lines[second + 2]
    assert names.index("trunk carrier") < names.index("Warmline") < names.index("phone ana")
    out, back = lines[-2:]
    assert out.startswith("+0.250")
    assert out.index("INVITE") > out.index("│") + 20, "it goes from the middle to the right"
    assert out.rstrip("│").endswith("▶")
    assert back.startswith("+0.500")
    assert "◀" in back
    assert "180 Ringing (INVITE)" in back


def test_what_comes_again_is_marked() -> None:
    lines = drawn(record(INVITE), record(INVITE, at=1000.5), record(INVITE, at=1001.5))
    assert "again" not in lines[-3]
    assert "again(2) INVITE" in lines[-2]
    assert "again(3) INVITE" in lines[-1]


def test_calls_that_have_nothing_in_common_are_apart() -> None:
    lines = drawn(record(INVITE), record(INVITE, call="2@h"), record("BYE sip:x SIP/2.0", at=1002.0))
    assert [line[:5] for line in lines if line.startswith("──")] == ["── 1 ", "── 2 ", "── 1 "]
    assert lines[-1].startswith("+2.000")


def test_ipv6_and_browsers_have_their_columns() -> None:
    text = "\n".join(drawn(record(INVITE, host="2001:db8::7", transport="WSS", party="browser")))
    assert "WSS [2001:db8::7]:5060" in text
    assert "browser maria" in text


HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\r\x08\u202e\u200b\x00\ud800\udc80"


@pytest.mark.parametrize("raw", [False, True])
def test_a_hostile_message_tells_the_terminal_nothing(raw: bool) -> None:
    nasty = HOSTILE.replace("\ud800", "")
    for each in (
        record(f"INVITE sip:{nasty}@h SIP/2.0"),
        record(f"SIP/2.0 200 {nasty}", call=nasty),
        record(f"{nasty} {nasty} {nasty}", party=nasty, session=nasty),
        record(INVITE, more=f"Subject: {nasty}\r\n"),
        record(nasty, sent=True),
    ):
        for line in drawn(each, raw=raw):
            assert all(c.isprintable() for c in line), ascii(line)
    assert clean(HOSTILE).isprintable()
    assert clean("\x1b\udcff\u202e") == "\\x1b\\xff\\u202e"


@given(st.text(max_size=200), st.integers(20, 200), st.booleans(), st.booleans())
def test_whatever_comes_is_drawn_within_the_width(text: str, width: int, sent: bool, raw: bool) -> None:
    ladder = Ladder(width=width)
    for line in ladder.lines(record(text, sent=sent)) + ladder.lines(record(INVITE, sent=sent, port=1)):
        assert line.isprintable()
        assert len(cells(line)) <= max(40, width)


def test_a_narrow_terminal_gets_a_list() -> None:
    lines = drawn(
        record(INVITE),
        *(record(INVITE, sent=True, port=port, at=1001) for port in range(5070, 5076)),
        width=60,
    )
    assert "Warmline ─▶ UDP 192.0.2.7:5075" in lines[-1]
    assert all(len(line) <= 60 for line in lines)


def test_without_colours_nothing_but_text_and_with_them_all_is_put_back() -> None:
    assert not any(
        "\x1b" in line for line in drawn(record(INVITE), record("SIP/2.0 486 Busy Here", sent=True))
    )
    for line in drawn(record(INVITE), record("SIP/2.0 486 Busy Here", sent=True), colours=True):
        assert line.count("\x1b[0m") == line.count("\x1b[") / 2


def test_ascii_where_nothing_else_can_be_written() -> None:
    assert all(line.isascii() for line in drawn(record(INVITE), strokes=ASCII))


def test_raw_shows_the_whole_message_under_its_arrow() -> None:
    lines = drawn(record(INVITE, more="Subject: the boiler\r\n"), raw=True)
    assert f"{'':11}Subject: the boiler" in lines


def test_wide_characters_take_the_room_they_take() -> None:
    assert cells("a日e\u0301") == ["a", "日", "", "e\u0301"]
    assert fit("日本語", 4, "…") == ["日", "", " ", "…"] or len(fit("日本語", 4, "…")) == 4
    assert len(fit("日本語", 5, "…")) == 5


def test_what_the_ladder_remembers_is_bounded() -> None:
    ladder = Ladder()
    for number in range(6000):
        ladder.lines(record(INVITE, call=str(number)))
    assert len(ladder._groups) <= 5000
