"""A PostgreSQL that has stopped to answer: every call ends, in a known time, with one error; and all is well after."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from config import database as module
from config.database import Database, NotAnswering
from tests.config.postgres import Postgres

ANSWER_S = 0.5
LEEWAY_S = 4.0
"""A connection that is given up has 2 s to say goodbye."""

metadata = sa.MetaData()
note = sa.Table("note", metadata, sa.Column("text", sa.String(40), primary_key=True))
INSERT = note.insert()
TEXTS = sa.select(note.c.text).order_by(note.c.text)


@contextmanager
def hanging(postgres: Postgres) -> Iterator[None]:
    """Its connections are there, and nobody reads them."""
    first = int((postgres.folder / "data" / "postmaster.pid").read_text().split()[0])
    stopped = [first, *_children(first)]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)


def _children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def test_what_waits_is_told_and_what_comes_after_is_written(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_WRITE_S", ANSWER_S)
    monkeypatch.setattr(module, "_READ_S", ANSWER_S)
    monkeypatch.setattr(module, "_LARGEST_BATCH", 10)
    database = Database.open(postgres.new_database())
    await database.write(sa.schema.CreateTable(note))
    await database.write((INSERT, {"text": "before"}))
    assert [row.text for row in await database.read(TEXTS)] == ["before"]
    with hanging(postgres):
        began = time.monotonic()
        writes = [database.write((INSERT, {"text": f"meanwhile {number}"})) for number in range(45)]
        found = await asyncio.gather(*writes, database.read(TEXTS), return_exceptions=True)
        assert time.monotonic() - began < ANSWER_S + LEEWAY_S, "one batch's time, not that of five"
        assert [type(error) for error in found] == [NotAnswering] * 46
        assert database.waiting == 0
        began = time.monotonic()
        with pytest.raises(NotAnswering):
            await database.write((INSERT, {"text": "by a new connection"}))
        assert time.monotonic() - began < ANSWER_S + LEEWAY_S
    await database.write((INSERT, {"text": "z after"}))
    texts = [row.text for row in await database.read(TEXTS)]
    assert (texts[0], texts[-1]) == ("before", "z after")
    await database.close()


async def test_closing_does_not_wait_for_a_server_that_hangs(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_WRITE_S", ANSWER_S)
    database = Database.open(postgres.new_database())
    await database.write(sa.schema.CreateTable(note))
    with hanging(postgres):
        began = time.monotonic()
        written = database.write((INSERT, {"text": "never"}))
        await database.close()
        assert time.monotonic() - began < ANSWER_S + 2 * LEEWAY_S
        with pytest.raises(NotAnswering):
            await written
