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
from config.absence import NotAnswering, is_away
from config.database import Database
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


async def test_a_server_that_cannot_be_reached_is_knocked_at_once_for_all_that_wait() -> None:
    knocks = 0

    async def slam(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal knocks
        knocks += 1
        writer.close()

    server = await asyncio.start_server(slam, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    database = Database.open(f"postgresql+asyncpg://warmline@127.0.0.1:{port}/nothing")
    writes = [database.write((INSERT, {"text": f"{number}"})) for number in range(20)]
    found = await asyncio.gather(*writes, return_exceptions=True)
    assert all(isinstance(error, Exception) and is_away(error) for error in found)
    assert knocks <= 2  # asyncpg asks once more without TLS
    await database.close()
    server.close()


class Door:
    """Stands between us and the server. Once all words of `shuts_after` have gone by, one after the other, it lets
    nothing through any more."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.shuts_after: list[bytes] = []
        self._shut = False
        self._writers: list[asyncio.StreamWriter] = []

    async def open(self) -> int:
        self._server = await asyncio.start_server(self._meet, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    def close(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers += (writer, server_writer)
        await asyncio.gather(self._carry(reader, server_writer), self._carry(server_reader, writer))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            if not self._shut:
                writer.write(data)
            if self.shuts_after and self.shuts_after[0] in data:
                del self.shuts_after[0]
                self._shut = not self.shuts_after
        writer.close()


async def test_a_server_that_hangs_while_each_is_tried_alone_is_not_waited_for_by_each(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_WRITE_S", ANSWER_S)
    url = postgres.new_database()
    straight = Database.open(url)
    await straight.write(sa.schema.CreateTable(note))
    door = Door(postgres.port)
    database = Database.open(url.replace(f":{postgres.port}/", f":{await door.open()}/"))
    await database.write((INSERT, {"text": "there"}))
    door.shuts_after = [b"duplicate key", b"ROLLBACK;", b"ROLLBACK"]
    began = time.monotonic()
    # One that cannot be written has all tried again, each alone.
    writes = [database.write((INSERT, {"text": text})) for text in ("there", *"abcdefghijklmnopqrst")]
    found = await asyncio.gather(*writes, return_exceptions=True)
    assert time.monotonic() - began < ANSWER_S + LEEWAY_S
    assert {type(error) for error in found} == {NotAnswering}
    await database.close()
    await straight.close()
    door.close()


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
