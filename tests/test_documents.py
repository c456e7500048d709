"""What the documents say is so."""

from __future__ import annotations

from tools import diagrams


def test_the_pictures_of_the_machines_are_those_of_the_tables() -> None:
    assert diagrams.PAGE.read_text("utf-8") == diagrams.page(), "python -m tools.diagrams draws them anew"
