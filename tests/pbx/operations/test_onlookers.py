"""The door for whoever runs the server, by a real Unix socket."""

from __future__ import annotations

import asyncio
import json
import stat
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from config.database import Database
from config.events import EventLog
from pbx.operations import onlookers as module
from pbx.operations.onlooker_socket import NAME, socket_path
from pbx.operations.onlookers import Onlookers
from sip_trunk.flow import Flow
from sip_trunk.guard import Guard, Rates
from sip_trunk.sip.errors import BadMessage
from sip_trunk.trace import Tracer

PHONE = Flow("UDP", ("192.0.2.7", 5060), "a")
SESSION = "0123456789abcdef0123456789abcdef"


def message(call_id: str, start: str = "INFO sip:h SIP/2.0", more: str = "") -> bytes:
    return f"{start}\r\nFrom: <sip:x@h>;tag=1\r\nCall-ID: {call_id}\r\nCSeq: 1 INFO\r\n{more}\r\n".encode()


class House:
    def __init__(self, folder: Path, database: Database) -> None:
        self.folder = folder
        self.tracer = Tracer(time.time)
        self.guard = Guard(time.time, rates=Rates(junk=0.001, junk_at_once=1))
        self.events = EventLog(database, time.time)
        self.onlookers = Onlookers(
            self.tracer, self.guard, self.events, time.time, folder=folder, party_of=lambda flow: "phone"
        )


@asynccontextmanager
async def opened(folder: Path, database: Database) -> AsyncIterator[House]:
    await database.create_all()
    house = House(folder, database)
    await house.onlookers.start()
    try:
        yield house
    finally:
        await house.onlookers.stop()


class Asker:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def ask(cls, folder: Path, asked: object) -> Asker:
        with socket_path(folder) as path:
            reader, writer = await asyncio.open_unix_connection(path)
        writer.write((asked if isinstance(asked, bytes) else json.dumps(asked).encode()) + b"\n")
        return cls(reader, writer)

    async def next(self) -> dict[str, Any] | None:
        line = await asyncio.wait_for(self.reader.readline(), 5)
        found: dict[str, Any] | None = json.loads(line) if line else None
        return found

    async def all(self) -> list[dict[str, Any]]:
        found = []
        while (answer := await self.next()) is not None:
            found.append(answer)
        return found


async def once(check: Any) -> None:
    while not check():
        await asyncio.sleep(0.005)


async def test_only_the_servers_own_user_may_look_on(tmp_path: Path, database: Database) -> None:
    async with opened(tmp_path, database):
        assert stat.S_IMODE((tmp_path / NAME).stat().st_mode) == 0o600
    assert not (tmp_path / NAME).exists()


async def test_messages_come_as_they_pass_masked_and_with_their_party(
    tmp_path: Path, database: Database
) -> None:
    async with opened(tmp_path, database) as house:
        asker = await Asker.ask(tmp_path, {"command": "trace"})
        await asyncio.wait_for(once(lambda: house.tracer._onlookers), 5)
        house.tracer.wire(False, PHONE, message("1", more='Authorization: Digest response="5ECRET"\r\n'))
        told = await asker.next()
        assert told is not None
        assert "5ECRET" not in told["text"]
        assert (told["sent"], told["transport"], told["host"], told["port"], told["party"]) == (
            False, "UDP", "192.0.2.7", 5060, "phone",
        )  # fmt: skip
        asker.writer.close()
        await asyncio.wait_for(once(lambda: not house.tracer._onlookers), 5)


async def test_what_was_is_told_and_then_the_end(tmp_path: Path, database: Database) -> None:
    async with opened(tmp_path, database) as house:
        house.tracer.wire(False, PHONE, message("1"))
        asker = await Asker.ask(tmp_path, {"command": "trace", "since": 30, "follow": False})
        assert len(await asker.all()) == 1
        assert not house.tracer._onlookers


async def test_the_event_log_tells_which_calls_are_a_contacts(tmp_path: Path, database: Database) -> None:
    """Those it had before, and those it hears of while somebody looks on."""
    async with opened(tmp_path, database) as house:
        await house.events.write("contact.invited", contact="c_1", call_id="old")
        house.tracer.wire(False, PHONE, message("old"))
        asker = await Asker.ask(tmp_path, {"command": "trace", "contact": "c_1", "since": 30})
        assert "Call-ID: old" in (await asker.next() or {})["text"]
        house.tracer.wire(False, PHONE, message("stranger"))
        house.tracer.wire(True, PHONE, message("new", more=f"Session-ID: {SESSION}\r\n"))
        house.events.write("contact.accepted", contact="c_2", call_id="stranger")
        house.events.write("contact.prompted", contact="c_1", session=SESSION)
        assert "Call-ID: new" in (await asker.next() or {})["text"]
        asker.writer.close()


async def test_a_reader_that_sleeps_is_cut_off(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_UNREAD", 100_000)
    async with opened(tmp_path, database) as house:
        asker = await Asker.ask(tmp_path, {"command": "trace"})
        await asyncio.wait_for(once(lambda: house.tracer._onlookers), 5)
        for _ in range(2000):
            house.tracer.wire(False, PHONE, message("1", more="Subject: " + "x" * 1000 + "\r\n"))
        await asyncio.wait_for(once(lambda: not house.tracer._onlookers), 5)
        assert not house.onlookers._writers
        asker.writer.close()


async def test_who_is_dropped_is_listed_and_forgiven(tmp_path: Path, database: Database) -> None:
    async with opened(tmp_path, database) as house:
        for _ in range(3):
            house.guard.admits(BadMessage("x"), PHONE)
        (told,) = await (await Asker.ask(tmp_path, {"command": "guard"})).all()
        assert (told["source"], told["why"]) == ("192.0.2.7", {"junk": 2})
        forgive = {"command": "forgive", "who": "192.0.2.7"}
        assert await (await Asker.ask(tmp_path, forgive)).all() == [{"forgiven": True}]
        assert await (await Asker.ask(tmp_path, forgive)).all() == [{"forgiven": False}]
        assert await (await Asker.ask(tmp_path, {"command": "guard"})).all() == []


@pytest.mark.parametrize(
    "asked",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b'{"command": "rm"}',
        b'{"command": "trace", "since": "x"}',
        b"[" * 5000,
        b"x" * 20_000,
    ],
)
async def test_what_is_not_understood_is_said_and_harms_nobody(
    tmp_path: Path, database: Database, asked: bytes
) -> None:
    async with opened(tmp_path, database) as house:
        (answer,) = await (await Asker.ask(tmp_path, asked)).all()
        assert "error" in answer
        assert not house.tracer._onlookers
        assert await (await Asker.ask(tmp_path, {"command": "guard"})).all() == []


async def test_there_is_a_limit_to_those_who_look_on(tmp_path: Path, database: Database) -> None:
    async with opened(tmp_path, database) as house:
        askers = [await Asker.ask(tmp_path, {"command": "trace"}) for _ in range(module.MOST_READERS)]
        await asyncio.wait_for(once(lambda: len(house.tracer._onlookers) == module.MOST_READERS), 5)
        (answer,) = await (await Asker.ask(tmp_path, {"command": "trace"})).all()
        assert "look on already" in answer["error"]
        for asker in askers:
            asker.writer.close()


async def test_the_socket_of_a_server_that_was_killed_is_no_hindrance(
    tmp_path: Path, database: Database
) -> None:
    async with opened(tmp_path, database), opened(tmp_path, database):
        assert await (await Asker.ask(tmp_path, {"command": "guard"})).all() == []


async def test_a_folder_with_a_long_name_has_a_socket_too(tmp_path: Path, database: Database) -> None:
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    async with opened(folder, database):
        assert await (await Asker.ask(folder, {"command": "guard"})).all() == []
    assert not (folder / NAME).exists()
