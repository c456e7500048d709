"""What the documents say is so."""

from __future__ import annotations

import ast
import re
from functools import cache

from tests.peers.warmline import ROOT
from tools import diagrams

SIP = ROOT / "docs" / "sip.md"
YES, NO = "yes", "no"


def test_the_pictures_of_the_machines_are_those_of_the_tables() -> None:
    assert diagrams.PAGE.read_text("utf-8") == diagrams.page(), "python -m tools.diagrams draws them anew"


def rows_of(text: str) -> list[list[str]]:
    """The cells of every row of every table, but for heads and rules."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [row for row in rows if row[0].strip("| ").startswith("§") or row[0].strip("| ") == "all"]


@cache
def names_in(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    return {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }


def test_every_section_that_is_said_to_be_supported_names_a_test_that_is_there() -> None:
    rows = rows_of(SIP.read_text("utf-8"))
    assert len(rows) > 100
    for row in rows:
        assert len(row) == 4, row
        _, _, supported, shown = row
        assert supported.split(":")[0] in (YES, NO, "partly"), row
        named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", shown)
        assert named or supported.startswith(NO), row
        for path, name in named:
            assert not name or name in names_in(path), f"{path} has no {name}"
