"""`warmline recordings`: what is told of recordings, and done to them."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from config.database import Database
from config.events import EventLog
from pbx.cli import main
from pbx.contact import Channel, Contact, Facts
from pbx.recording_store import Recording, RecordingStore, TapeState
from pbx.store import PbxStore
from tests.conftest import run
from tests.pbx.recorded import write_wav


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WARMLINE_DATA", str(tmp_path))
    monkeypatch.delenv("WARMLINE_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    run(fill(tmp_path))
    return tmp_path


async def fill(folder: Path) -> None:
    main_database = f"sqlite:///{folder / 'warmline.sqlite3'}"
    database = Database.open(main_database)
    await database.create_all()
    await PbxStore(database).add(
        Contact(Facts("c_1", Channel.VOICE, 1000.0, "thermea", "Thermea", customer_name="Maria"))
    )
    store = RecordingStore(database)
    await store.add(Recording("r_1", "c_1", "thermea", "agent-ana", 1000.0, "r_1.wav", "", "audio", 9e9))
    await store.ended("r_1", 2.0, "audio", TapeState.KEPT)
    await EventLog(database, lambda: 1.0).write("x")
    await database.close()
    (folder / "recordings").mkdir()
    write_wav(folder / "recordings" / "r_1.wav", 2)


async def told(command: list[str]) -> int:
    """In a thread: a command has a loop of its own."""
    return await asyncio.to_thread(main, command)


def kinds(data: Path) -> list[str]:
    with sqlite3.connect(data / "warmline.sqlite3") as database:
        return [row[0] for row in database.execute("select kind from event where kind like 'recording.%'")]


async def test_they_are_listed_exported_held_and_deleted(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await told(["recordings", "list"]) == 0
    assert "r_1 " in capsys.readouterr().out
    for other in (["--provider", "lumio"], ["--contact", "c_2"]):
        assert await told(["recordings", "list", *other]) == 0
        assert capsys.readouterr().out == ""
    assert await told(["recordings", "export", "r_1", "out.wav"]) == 0
    assert (data / "out.wav").read_bytes() == (data / "recordings" / "r_1.wav").read_bytes()
    assert await told(["recordings", "export", "r_1", "out.wav"]) == 1
    assert await told(["recordings", "hold", "r_1"]) == 0
    assert await told(["recordings", "delete", "r_1"]) == 1
    assert "held" in capsys.readouterr().err
    assert await told(["recordings", "release", "r_1"]) == 0
    assert await told(["recordings", "delete", "r_1"]) == 0
    assert not (data / "recordings" / "r_1.wav").exists()
    assert await told(["recordings", "export", "r_1", "again.wav"]) == 1
    assert kinds(data) == [
        "recording.exported", "recording.exported", "recording.held", "recording.released", "recording.deleted",
    ]  # fmt: skip


async def test_one_that_is_not_there_is_said_so(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["export", "r_9", "x.wav"], ["hold", "r_9"], ["delete", "r_9"]):
        assert await told(["recordings", *command]) == 1
        assert "There is no such recording." in capsys.readouterr().err
