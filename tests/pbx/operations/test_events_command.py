from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from config.settings import Settings
from pbx.operations.events_command import read_events
from tests.conftest import run

SESSION = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A log of two contacts, whose events do not all name the session."""
    from config.database import Database
    from config.events import EventLog

    found = Settings.load({"WARMLINE_DATA": str(tmp_path)})

    async def fill() -> None:
        database = Database.open(found.database_url)
        await database.create_all()
        events = EventLog(database, lambda: 1_700_000_000.0)
        events.write("contact.requested", contact="c_1")
        events.write("contact.requested", contact="c_2", session="f" * 32)
        events.write("contact.invited", contact="c_1", session=SESSION)
        events.write("call.refused", session=SESSION)
        await events.write("contact.ended", contact="c_1")
        await database.close()

    run(fill())
    return found


async def _read(settings: Settings, *, contact: str | None, session: str | None) -> int:
    """In a thread of its own: a command has a loop of its own."""
    return await asyncio.to_thread(
        read_events, settings, contact=contact, session=session, as_json=True, follow=False
    )


def told(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [json.loads(line)["kind"] for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize(
    ("what", "kinds"),
    [
        ({"session": SESSION}, ["contact.requested", "contact.invited", "call.refused", "contact.ended"]),
        ({"session": "f" * 32}, ["contact.requested"]),
        ({"contact": "c_1"}, ["contact.requested", "contact.invited", "contact.ended"]),
        ({}, ["contact.requested", "contact.requested", "contact.invited", "call.refused", "contact.ended"]),
    ],
)
async def test_a_session_brings_all_there_is_of_its_contact(
    settings: Settings, capsys: pytest.CaptureFixture[str], what: dict[str, str], kinds: list[str]
) -> None:
    asked: dict[str, str | None] = {"contact": None, "session": None, **what}
    assert await _read(settings, **asked) == 0
    assert told(capsys) == kinds


async def test_a_session_nobody_had_is_said(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert await _read(settings, contact=None, session="x") == 1
    assert "there is no session x" in capsys.readouterr().err


async def test_what_was_before_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], settings: Settings
) -> None:
    from config.database import Database
    from config.events import EventLog

    clock = iter(range(1_700_000_100, 1_700_000_200, 10))
    database = Database.open(settings.database_url)
    events = EventLog(database, lambda: float(next(clock)))
    for number in range(3):
        await events.write(f"trial.{number}", contact="c_9")
    await database.close()

    async def read(since: float, contact: str | None = None) -> int:
        return await asyncio.to_thread(
            read_events, settings, contact=contact, session=None, as_json=True, follow=False, since=since
        )

    assert await read(1_700_000_110.0) == 0
    assert told(capsys) == ["trial.1", "trial.2"]
    assert await read(1_700_000_115.0, contact="c_9") == 0
    assert told(capsys) == ["trial.2"]
    assert await read(0.0) == 0
    assert len(told(capsys)) == 8
    assert await read(1_800_000_000.0) == 0
    assert told(capsys) == []
    assert await read(1_800_000_000.0, contact="c_9") == 1
    assert "no contact c_9 since then" in capsys.readouterr().err
