"""Events of a time when the database is away: kept, written in order when it is back, and no event twice."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import implementer

from config import database as database_module
from config import kept_events
from config.absence import NotAnswering, is_away
from config.database import Database
from config.events import Event, EventLog
from tests.config.postgres import Postgres
from tests.config.test_database_hangs import hanging
from tests.conftest import run

AWAY = ConnectionRefusedError("nobody is there")
ONLY = sa.Table("only", sa.MetaData(), sa.Column("text", sa.String(40)))


class Moody:
    """A store that is away when it is told to be. `took`: what it does not answer, it has done all the same."""

    def __init__(self, path: Path) -> None:
        self.store: Any = database_module._Sqlite(make_url(f"sqlite:///{path}"))
        self.away: BaseException | None = None
        self.took = False
        self.outlasted = 0

    async def commit(self, calls: Sequence[Any]) -> list[BaseException | None]:
        if self.away is None or self.took:
            outcome: list[BaseException | None] = await self.store.commit(calls)
            if self.away is None:
                return outcome
        return [self.away] * len(calls)

    async def read(self, statement: sa.Executable, parameters: Any) -> Any:
        if self.away is not None:
            raise self.away
        return await self.store.read(statement, parameters)

    async def outlast(self, table: sa.Table) -> None:
        self.outlasted += 1
        if self.away is not None:
            raise self.away

    async def create_all(self) -> None:
        await self.store.create_all()

    async def close(self) -> None:
        await self.store.close()


class House:
    """An event log upon such a store; its clock stands still, unless somebody moves it."""

    def __init__(self, path: Path) -> None:
        self.store = Moody(path)
        self.database = Database(self.store)
        self.at = 1000.0
        self.log = EventLog(self.database, lambda: self.at)
        self.path = path

    async def numbers(self) -> list[int]:
        """Those of all events, as they stand in the log."""
        return [event.facts["number"] for event in await self.log.read()]

    async def until(self, there: int) -> None:
        async with asyncio.timeout(10):
            kept = self.log._kept
            while len(await self.log.read(limit=100_000)) < there or kept or kept._attempt:
                await asyncio.sleep(0.01)

    def tell(self, *numbers: int) -> list[asyncio.Future[None]]:
        told = []
        for number in numbers:
            self.at += 0.001
            told.append(self.log.write("contact.queued", contact="c_1", number=number))
        return told


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_events, "RETRY_S", 0.02)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    opened = House(tmp_path / "events.sqlite")
    run(opened.database.create_all())
    yield opened
    run(opened.database.close())


@asynccontextmanager
async def in_house(folder: Path) -> AsyncIterator[House]:
    house = House(folder / "events.sqlite")
    await house.database.create_all()
    yield house
    await house.database.close()


@contextmanager
def logged() -> Iterator[list[str]]:
    said: list[str] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        if event.get("log_namespace") == "config.kept_events":
            said.append((event.get("log_format") or "").format(**event))

    globalLogPublisher.addObserver(observe)
    try:
        yield said
    finally:
        globalLogPublisher.removeObserver(observe)


async def given_up(futures: Sequence[asyncio.Future[None]]) -> list[object]:
    return list(await asyncio.gather(*futures, return_exceptions=True))


@pytest.mark.parametrize("error", [NotAnswering(), AWAY], ids=["no answer", "nobody there"])
async def test_they_are_written_in_order_once_it_is_back(house: House, error: BaseException) -> None:
    await asyncio.gather(*house.tell(1, 2))
    house.store.away = error
    assert await given_up(house.tell(3, 4)) == [error, error]
    assert [type(each) for each in await given_up(house.tell(5))] == [NotAnswering]
    await asyncio.sleep(0.1)
    house.store.away = None
    house.tell(6)
    await house.until(6)
    await asyncio.gather(*house.tell(7))
    assert await house.numbers() == [1, 2, 3, 4, 5, 6, 7]
    assert house.store.outlasted > 0


async def test_each_keeps_its_own_time_and_facts(house: House) -> None:
    house.store.away = AWAY
    facts: dict[str, Any] = {"why": ["ready", {"skill": "Heizung – Störung"}], "devices": {1}}
    told = house.log.write("contact.reserved", contact="c_1", visit="v_1", agent="a_1", **facts)
    await given_up([told])
    facts["why"].append("said later")
    house.at += 60
    house.store.away = None
    await house.until(1)
    why = ["ready", {"skill": "Heizung – Störung"}]
    assert await house.log.read() == [
        Event(1, 1000.0, "contact.reserved", "c_1", "v_1", "a_1", {"why": why, "devices": "{1}"})
    ]


async def test_listeners_hear_at_once_all_the_same(house: House) -> None:
    heard: list[str] = []
    house.log.subscribe(lambda event: heard.append(event.kind))
    house.store.away = AWAY
    await given_up(house.tell(1))
    house.tell(2)
    assert heard == ["contact.queued"] * 2


async def test_what_was_written_unheard_is_not_written_again(house: House) -> None:
    house.store.away, house.store.took = NotAnswering(), True
    await given_up(house.tell(1, 2, 3))
    house.tell(4)
    house.store.took = False
    await asyncio.sleep(0.1)
    house.store.away = None
    await house.until(4)
    assert await house.numbers() == [1, 2, 3, 4]


async def test_what_waits_behind_is_kept_and_comes_after(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "_LARGEST_BATCH", 2)
    commit = house.store.commit

    async def once(calls: Sequence[Any]) -> list[BaseException | None]:
        house.store.commit = commit  # type: ignore[method-assign]
        return [AWAY] * len(calls)

    house.store.commit = once  # type: ignore[method-assign]
    await given_up(house.tell(*range(6)))
    await house.until(6)
    assert await house.numbers() == [0, 1, 2, 3, 4, 5]


async def test_those_behind_a_batch_without_events_are_kept_too(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "_LARGEST_BATCH", 1)
    await house.database.write(sa.schema.CreateTable(ONLY))
    house.store.away = NotAnswering()
    other = house.database.write((ONLY.insert(), {"text": "a contact"}))
    assert [type(each) for each in await given_up([other, *house.tell(1)])] == [NotAnswering] * 2
    house.store.away = None
    await house.until(1)
    assert await house.numbers() == [1]
    assert await house.database.read(sa.select(ONLY)) == [], "nobody keeps what is no event"


async def test_only_so_many_are_kept_and_the_log_says_what_was_lost(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_events, "MOST", 3)
    house.store.away = AWAY
    with logged() as said:
        await given_up(house.tell(1, 2))
        later = house.tell(3, 4, 5)
        assert [type(each) for each in await given_up(later)] == [NotAnswering] * 3
        house.store.away = None
        await house.until(3)
    assert await house.numbers() == [1, 2, 3]
    assert len(said) == 3
    assert "no more events can be kept" in said[1]
    assert "2 were lost" in said[2]


async def test_only_so_much_is_kept(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_events, "MOST_OCTETS", 50)
    house.store.away = AWAY
    await given_up([house.log.write("x", number=1)])
    await given_up([house.log.write("x", number=2, text="y" * 60), house.log.write("x", number=3)])
    house.store.away = None
    await house.until(2)
    assert await house.numbers() == [1, 3]


async def test_one_that_nobody_takes_keeps_no_other_from_being_written(house: House) -> None:
    with logged() as said:
        house.store.away = AWAY
        await given_up(house.tell(1))
        house.log.write(None, number=2)  # type: ignore[arg-type]
        house.tell(3)
        house.store.away = None
        await house.until(2)
    assert await house.numbers() == [1, 3]
    assert any("does not take" in each for each in said)


async def test_they_are_written_before_it_is_closed(tmp_path: Path) -> None:
    async with in_house(tmp_path) as house:
        house.store.away = AWAY
        await given_up(house.tell(1, 2))
        house.store.away = None
    async with in_house(tmp_path) as again:
        assert await again.numbers() == [1, 2]


async def test_what_cannot_be_written_before_it_is_closed_is_said_to_be_lost(tmp_path: Path) -> None:
    with logged() as said:
        async with in_house(tmp_path) as house:
            house.store.away = AWAY
            house.tell(1, 2)
            await asyncio.sleep(0.1)
    assert "2 events are lost" in said[-1]
    await asyncio.sleep(0.1)  # and nobody tries again


STEPS = st.lists(
    st.sampled_from(["event", "event", "event", "written", "away", "deaf", "back"]), min_size=1, max_size=30
)


@settings(max_examples=25, deadline=None)
@given(steps=STEPS)
def test_whenever_it_goes_and_comes_back_each_event_is_there_once_and_in_order(
    steps: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    async def tell_it() -> None:
        async with in_house(tmp_path_factory.mktemp("moods")) as house:
            count = 0
            futures: list[asyncio.Future[None]] = []
            for step in steps:
                if step == "event":
                    futures += house.tell(count)
                    count += 1
                elif step == "away":
                    house.store.away, house.store.took = AWAY, False
                elif step == "deaf":
                    house.store.away, house.store.took = NotAnswering(), True
                elif step == "back":
                    house.store.away, house.store.took = None, False
                elif step == "written":
                    await given_up(futures)
                if step != "event":
                    await asyncio.sleep(0.01)
            house.store.away = None
            await given_up(futures)
            await house.until(count)
            assert await house.numbers() == list(range(count))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kept_events, "RETRY_S", 0.005)
        patch.setattr(database_module, "_PATIENCE_S", 0.001)
        # Its own loop: Hypothesis calls this from within the reactor's.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, tell_it()).result()


def test_what_says_that_a_database_is_away() -> None:
    def of_statement(said: BaseException) -> DBAPIError:
        return DBAPIError("INSERT", {}, said)

    class Said(Exception):
        def __init__(self, sqlstate: str) -> None:
            super().__init__(sqlstate)
            self.sqlstate = sqlstate

    locked = sqlite3.OperationalError("database is locked")
    locked.sqlite_errorname = "SQLITE_BUSY_SNAPSHOT"
    unknown = sqlite3.OperationalError("no such table")
    unknown.sqlite_errorname = "SQLITE_ERROR"
    away = [
        NotAnswering(), AWAY, of_statement(Said("57P01")), of_statement(Said("53100")), Said("28P01"),
        of_statement(locked), locked, DBAPIError("INSERT", {}, Said("XX000"), connection_invalidated=True),
    ]  # fmt: skip
    there = [of_statement(Said("23505")), of_statement(Said("22021")), of_statement(unknown), ValueError("x")]
    assert [is_away(each) for each in (*away, *there)] == [True] * len(away) + [False] * len(there)


# On a PostgreSQL of its own.


@pytest.fixture
def in_postgres(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], EventLog]]:
    """Makes an event log upon this URL's database."""
    monkeypatch.setattr(database_module, "_WRITE_S", 0.5)
    monkeypatch.setattr(database_module, "_READ_S", 0.5)
    opened: list[Database] = []

    def log_upon(url: str) -> EventLog:
        opened.append(Database.open(url))
        clock = iter(range(1_000_000))
        return EventLog(opened[-1], lambda: 1000.0 + next(clock) / 1000)

    yield log_upon
    for database in opened:
        run(database.close())


async def all_numbers(log: EventLog, count: int) -> list[int]:
    async with asyncio.timeout(30):
        while True:
            try:
                numbers = [event.facts["number"] for event in await log.read()]
            except NotAnswering:
                continue
            if len(numbers) >= count and not log._kept:
                return numbers
            await asyncio.sleep(0.05)


async def test_a_server_that_hung_has_all_events_of_that_time_once_and_in_order(
    postgres: Postgres, in_postgres: Callable[[str], EventLog]
) -> None:
    log = in_postgres(postgres.new_database())
    await log._database.create_all()
    await log.write("x", number=0)
    with hanging(postgres):
        told = []
        for number in range(1, 21):
            told.append(log.write("x", number=number))
            await asyncio.sleep(0.05)
        assert {type(each) for each in await given_up(told)} == {NotAnswering}
        await asyncio.sleep(1)
    assert await all_numbers(log, 21) == list(range(21))


class Between:
    """Stands between us and the server, and has its own way with the first COMMIT after `armed` is set: `held_s` is how
    much later it comes to the server, whose answer to it is never heard."""

    def __init__(self, port: int) -> None:
        self.server_port = port
        self.armed = False
        self.held_s = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    async def meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self.server_port)
        deaf = asyncio.Event()

        async def answers() -> None:
            while data := await server_reader.read(65_536):
                if not deaf.is_set():
                    writer.write(data)

        back = asyncio.ensure_future(answers())
        self._tasks.add(back)
        while data := await reader.read(65_536):
            if self.armed and b"COMMIT" in data:
                self.armed = False
                deaf.set()
                await asyncio.sleep(self.held_s)
            server_writer.write(data)
        await asyncio.sleep(0.1 if deaf.is_set() else 0)
        server_writer.close()
        writer.close()
        await back


@pytest.mark.parametrize("held_s", [0.0, 2.0], ids=["not answered", "and late"])
async def test_a_commit_that_took_unheard_is_not_written_again_however_late_it_was(
    postgres: Postgres, in_postgres: Callable[[str], EventLog], held_s: float
) -> None:
    between = Between(postgres.port)
    between.held_s = held_s
    server = await asyncio.start_server(between.meet, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    log = in_postgres(postgres.new_database().replace(f":{postgres.port}/", f":{port}/"))
    await log._database.create_all()
    await log.write("x", number=0)
    between.armed = True
    first = [log.write("x", number=number) for number in range(1, 5)]
    assert [type(each) for each in await given_up(first)] == [NotAnswering] * 4
    assert await all_numbers(log, 5) == [0, 1, 2, 3, 4]
    await asyncio.sleep(held_s)
    await log.write("x", number=5)
    assert [event.facts["number"] for event in await log.read()] == [0, 1, 2, 3, 4, 5]
    server.close()
