from __future__ import annotations

from typing import Any

from twisted.logger import LogLevel

from pbx.log import line_of


def line(format_: str, **values: Any) -> str:
    text = line_of(
        {
            "log_format": format_,
            "log_time": 1_700_000_000.0,
            "log_level": LogLevel.info,
            "log_namespace": "pbx.calls",
            **values,
        }
    )
    assert text is not None
    return text


def test_a_line_about_a_contact_and_its_session_says_so() -> None:
    said = line("The leg is gone", contact="c_1", session="0123")
    assert said.endswith("The leg is gone contact=c_1 session=0123\n")


def test_what_the_line_says_already_is_not_said_again() -> None:
    assert line("{contact} is over", contact="c_1", session=None).endswith("c_1 is over\n")
    assert line("Nothing of that sort").endswith("Nothing of that sort\n")


def test_the_marks_stand_at_the_end_of_the_first_line() -> None:
    said = line("first\nsecond", contact="c_1")
    assert "first contact=c_1\n" in said
    assert said.rstrip().endswith("second")


def test_a_stranger_cannot_speak_to_the_terminal_by_way_of_the_log() -> None:
    said = line("{agent}", agent="\x1b[2J\x07\u202e\x9b", contact="\x1b]0;x")
    assert all(c.isprintable() or c == "\n" for c in said)
    assert "\\x1b[2J" in said
