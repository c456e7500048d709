"""`warmline supervisor`: who takes on all others, where there is nobody yet."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher

from agent_presence.roster import Agent, Roster
from agent_presence.store import PresenceStore
from config.database import Database
from pbx.cli import main
from pbx.operations import supervisor_command
from tests.conftest import run


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WARMLINE_DATA", str(tmp_path))
    monkeypatch.delenv("WARMLINE_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pbx.cli.migrate", lambda settings: 0)  # alembic has a loop of its own
    run(made(tmp_path))
    return tmp_path


async def made(folder: Path) -> None:
    database = Database.open(f"sqlite:///{folder / 'warmline.sqlite3'}")
    await database.create_all()
    await database.close()


async def told(*command: str) -> int:
    """In a thread: a command has a loop of its own."""
    return await asyncio.to_thread(main, ["supervisor", *command])


async def roster_of(data: Path) -> tuple[Roster, Database]:
    database = Database.open(f"sqlite:///{data / 'warmline.sqlite3'}")
    roster = Roster(PresenceStore(database), realm="warmline")
    await roster.load()
    return roster, database


async def only(data: Path) -> Agent:
    roster, database = await roster_of(data)
    await database.close()
    (agent,) = roster.agents()
    return agent


async def test_the_first_one_gets_a_password_that_opens(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await told("Nora", "--name", "Nora Nagel") == 0
    said = capsys.readouterr().out
    nora = await only(data)
    assert (nora.name, nora.login, nora.supervisor, nora.provider_ids) == ("Nora Nagel", "nora", True, ())
    password = re.search(r"password +(\S+)", said)
    assert password is not None
    assert PasswordHasher().verify(nora.password_hash, password[1])


async def test_who_lost_theirs_or_has_left_gets_another(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await told("nora", "--name", "Nora Nagel") == 0
    before = await only(data)
    roster, database = await roster_of(data)
    await roster.change_agent(replace(before, supervisor=False, left_at=5.0, provider_ids=("lumio",)))
    await database.close()
    assert await told("NORA") == 0
    nora = await only(data)
    assert nora == replace(before, password_hash=nora.password_hash)
    assert nora.password_hash != before.password_hash


@pytest.mark.parametrize("command", [("nora",), ("nora", "--name", " "), ("no ra", "--name", "Nora")])
async def test_nobody_is_made_of_nothing(
    data: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    assert await told(*command) == 1
    assert capsys.readouterr().err.startswith("warmline: ")
    roster, database = await roster_of(data)
    await database.close()
    assert roster.agents() == ()


async def test_not_behind_the_back_of_a_server_that_runs(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    running: Any = lambda settings: True  # noqa: E731
    monkeypatch.setattr(supervisor_command, "_is_running", running)
    assert await told("nora", "--name", "Nora") == 1
    assert "the server runs" in capsys.readouterr().err
