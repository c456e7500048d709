"""What the documents say is so."""

from __future__ import annotations

import ast
import dataclasses
import math
import re
import tomllib
from functools import cache
from pathlib import Path

import pytest

from config.queue_settings import Consequence, Overflow, QueueSettings, Step, Strategy, queues
from config.recording_settings import Recording, retention
from config.settings import meanings
from pbx.contact import Disposition
from tests.peers.warmline import ROOT
from tools import diagrams

SIP = ROOT / "docs" / "sip.md"
ROUTING = ROOT / "docs" / "routing.md"
MEDIA = ROOT / "docs" / "media.md"
RECORDING = ROOT / "docs" / "recording.md"
YES, NO = "yes", "no"
ABOUT_RUNNING = (ROUTING, ROOT / "docs" / "operations.md", RECORDING, ROOT / "README.md")
PACKAGES = ("config", "sip_trunk", "agent_presence", "kb_portal", "media", "pbx")


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


@pytest.mark.parametrize("page", (SIP, MEDIA), ids=lambda page: page.name)
def test_every_section_that_is_said_to_be_supported_names_a_test_that_is_there(page: Path) -> None:
    rows = rows_of(page.read_text("utf-8"))
    assert len(rows) > 70
    for row in rows:
        assert len(row) == 4, row
        _, _, supported, shown = row
        assert supported.split(":")[0] in (YES, NO, "partly"), row
        named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", shown)
        assert named or supported.startswith(NO), row
        for path, name in named:
            assert not name or name in names_in(path), f"{path} has no {name}"


# docs/routing.md, and what is said of events, commands and settings elsewhere


def table_under(text: str, head: str) -> list[list[str]]:
    """The rows of the one table whose first cell is this, with code marks taken off."""
    lines = text.splitlines()
    (start,) = (place for place, line in enumerate(lines) if line.startswith(f"| {head} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip().strip("`") for cell in line.strip("|").split(" | ")])
    return rows


@cache
def code() -> str:
    return "\n".join(
        path.read_text("utf-8") for package in PACKAGES for path in (ROOT / package).rglob("*.py")
    )


def is_written(kind: str) -> bool:
    about, what = kind.split(".")
    return f'"{kind}"' in code() or (f'f"{about}.{{' in code() and f'"{what}"' in code())


def routing() -> str:
    return ROUTING.read_text("utf-8")


def test_the_file_with_every_setting_of_queues_is_read_and_has_every_setting() -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", routing(), re.DOTALL)
    raw = tomllib.loads(text)["queues"]
    assert [queue.name for queue in queues(raw)] == ["boilers", "anybody"]
    for kind, found in (
        (QueueSettings, raw[0].keys()),
        (Step, {key for step in raw[0]["relax"] for key in step}),
        (Consequence, raw[0]["no_answer"].keys()),
    ):
        assert {field.name for field in dataclasses.fields(kind)} == set(found)


def test_the_file_that_has_calls_recorded_is_read() -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", RECORDING.read_text("utf-8"), re.DOTALL)
    raw = tomllib.loads(text)
    assert set(raw) <= meanings().keys()
    (queue,) = queues(raw["queues"])
    assert queue.recording is Recording.ASK
    assert retention(raw["recording_days"]).of("thermea") == 30


def test_the_queue_of_the_example_is_read() -> None:
    (text,) = re.findall(r"    \[\[queues\]\]\n.*?\n\n", routing(), re.DOTALL)
    (queue,) = queues(tomllib.loads(text)["queues"])
    assert (queue.name, queue.overflow) == ("boilers", Overflow.CALL_BACK)


def test_every_strategy_has_its_row() -> None:
    assert [row[0] for row in table_under(routing(), "strategy")] == [strategy.value for strategy in Strategy]


def test_every_outcome_has_its_row_with_what_is_so_unless_set() -> None:
    rows = table_under(routing(), "event")
    assert len(rows) == sum(field.type == "Consequence" for field in dataclasses.fields(QueueSettings))
    for event, _, pause, after in rows:
        default = getattr(QueueSettings("default"), event.removeprefix("contact."))
        assert pause == f"{default.pause_s:g} s"
        assert default.pause_s < math.inf
        assert after == (str(default.not_ready_after) if default.not_ready_after else "never")


def test_every_disposition_has_its_row_and_says_whose_doing_it_was() -> None:
    rows = {row[0]: row[1] for row in table_under(routing(), "disposition")}
    assert rows == {each.value: each.whose for each in Disposition}


@pytest.mark.parametrize("page", (*ABOUT_RUNNING, MEDIA), ids=lambda page: page.name)
def test_every_event_that_is_named_is_written_somewhere(page: Path) -> None:
    kinds = r"`((?:agent|contact|guard|media|menu|queue|recording|rules|trunk|visit)\.(?!md`|py`)[a-z_]+)`"
    named = set(re.findall(kinds, page.read_text("utf-8")))
    assert named
    assert {kind for kind in named if not is_written(kind)} == set()


@pytest.mark.parametrize("page", ABOUT_RUNNING, ids=lambda page: page.name)
def test_every_command_that_is_named_is_there(page: Path) -> None:
    there = set(re.findall(r'add_parser\(\s*"([a-z-]+)"', code()))
    named = re.findall(
        r"(?:^    (?:\$ )?|`)(?:\.venv/bin/)?warmline ((?:(?:sip|rules) )?[a-z-]+)",
        page.read_text("utf-8"),
        re.M,
    )
    assert named
    assert {word for command in named for word in command.split()} <= there


def test_what_is_set_for_all_queues_is_as_it_is_said() -> None:
    named = re.findall(r"`(\w+)` \((\d+)(?: s)?\)", routing())
    assert len(named) >= 6
    for name, said in named:
        default = meanings()[name][0] if name in meanings() else getattr(QueueSettings("default"), name)
        assert float(said) == default, name
