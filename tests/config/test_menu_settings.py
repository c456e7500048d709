from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.menu_settings import Choice, menus

BOILER = {"key": "1", "say": "the Boiler 200", "product": "boiler"}
BILL = {"key": 2, "say": "a bill", "skills": ["billing"]}


def menu(**changes: Any) -> dict[str, Any]:
    return {"number": "+15550200", "choices": [BOILER, BILL], **changes}


def test_a_menu_is_read_from_tables_and_from_json() -> None:
    (read,) = menus([menu(greeting="Welcome to Thermea.", default="1")])
    assert menus(json.dumps([menu(greeting="Welcome to Thermea.", default="1")])) == (read,)
    assert read.choices == (
        Choice("1", "the Boiler 200", "boiler"),
        Choice("2", "a bill", "", ("billing",)),
    )
    assert read.spoken == "Welcome to Thermea. For the Boiler 200, press 1. For a bill, press 2."
    assert read.choice("2") == read.choices[1]
    assert read.choice("") is None


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ("{", "is not JSON"),
        ({}, "should be a list"),
        ([{"choices": [BOILER]}], "has no number"),
        ([menu(), menu()], "two menus have the number"),
        ([menu(choices=[])], "choices should be"),
        ([menu(choices=[BOILER, BOILER])], "two choices have the same key"),
        ([menu(choices=[{"key": "*", "say": "a star"}])], "should be one of 0 to 9"),
        ([menu(choices=[{"key": "", "say": "nothing"}])], "should be one of 0 to 9"),
        ([menu(choices=[{"key": "1"}])], "does not say what it is for"),
        ([menu(choices=[{"key": "1", "say": "x" * 301}])], "at most 300"),
        ([menu(choices=[{"key": "1", "say": "x", "queue": "q"}])], "unknown keys queue"),
        ([menu(rounds=0)], "from 1 to 5"),
        ([menu(timeout_s=-1)], "number of seconds"),
        ([menu(default="3")], "none of its keys"),
        ([menu(file="/there/is/none.wav")], "there is no file"),
        ([menu(strange=1)], "unknown keys strange"),
    ],
)
def test_what_is_wrong_with_one_is_said(wrong: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        menus(wrong)


def test_a_file_may_say_it(tmp_path: Path) -> None:
    (tmp_path / "menu.wav").write_bytes(b"sound")
    (read,) = menus([menu(file=str(tmp_path / "menu.wav"))])
    assert read.file.endswith("menu.wav")


names = st.sampled_from(["number", "choices", "key", "say"])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner),
)


@given(json_values)
def test_nothing_else_than_a_reason_comes_of_nonsense(raw: Any) -> None:
    with suppress(ValueError):
        menus(raw)
