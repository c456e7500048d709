"""The database: SQLite by default, PostgreSQL by URL. SQLAlchemy Core, reads at once, writes by group commit.

Calls to ``write`` gather while the last transaction commits, and then go together into the next one: under load
the price of a commit is shared by many calls, and nobody waits longer than one commit and a half.
"""

from __future__ import annotations

import asyncio
import functools
import json
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import StaticPool
from sqlalchemy.sql.util import find_tables
from twisted.logger import Logger

from config.absence import NotAnswering, is_away
from config.bridge import spawn
from config.errors import OurError
from config.prepared import prepared

log = Logger()

# Names for constraints, so that a migration can name what it drops, on either database.
metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

T = TypeVar("T")

Parameters = Mapping[str, Any]
Statement = sa.Executable | tuple[sa.Executable, Sequence[Parameters] | Parameters]
_Step = tuple[sa.Executable, list[Parameters] | None]
_Call = list[_Step]
_Outcome = list[BaseException | None]
Rescue = Callable[[Sequence[Parameters]], None]
"""Is given the parameters of a call that could not be written because the database is away."""
_Waiting = tuple[_Call, asyncio.Future[None], Rescue | None]

_BUSY_TIMEOUT_MS = 5000
_PATIENCE_S = 0.05  # how long a write that nobody waits for may wait for others to share its commit
_LARGEST_BATCH = 500  # calls in one transaction, so that one reader or crash never waits on thousands
_FARTHEST = 16  # steps that one passes to be said together with its like
# How long PostgreSQL may take for one statement: a commit takes milliseconds, what a report reads may take its time.
_WRITE_S = 10.0
_READ_S = 60.0
_IDLE_S = 30.0  # how long a transaction may say nothing
_REMEMBERED = 256  # statements of which it is known what they are about

# What happened must be written even where a fact is of a type JSON does not know.
to_json = json.JSONEncoder(default=str, separators=(",", ":")).encode


class _Store(Protocol):
    async def read(
        self, statement: sa.Executable, parameters: Parameters | None
    ) -> Sequence[sa.Row[Any]]: ...
    async def commit(self, calls: Sequence[_Call]) -> _Outcome: ...
    async def outlast(self, table: sa.Table) -> None: ...
    async def create_all(self) -> None: ...
    async def close(self) -> None: ...


class Database:
    """One database. ``open`` connects to nothing yet; the first read or write does."""

    def __init__(self, store: _Store) -> None:
        self._store = store
        self._waiting: list[_Waiting] = []
        self._writer: asyncio.Task[None] | None = None
        self._urgent = False
        self._linger: asyncio.TimerHandle | None = None
        self._closed = False
        self.before_closing: set[Callable[[], Awaitable[None]]] = set()
        """What has something left to write."""

    @classmethod
    def open(cls, url: str) -> Database:
        """Take ``sqlite:///path`` (any driver) or ``postgresql+asyncpg://…``; OurError for any other kind."""
        parsed = make_url(url)
        match parsed.get_backend_name():
            case "sqlite":
                return cls(_Sqlite(parsed))
            case "postgresql":
                return cls(_Postgres(parsed))
        raise OurError(f"Warmline knows SQLite and PostgreSQL, not {parsed.get_backend_name()}.")

    @property
    def waiting(self) -> int:
        """How many writes are not under way yet."""
        return len(self._waiting)

    async def read(
        self, statement: sa.Executable, parameters: Parameters | None = None
    ) -> Sequence[sa.Row[Any]]:
        """All rows of one short query. A ``write`` is seen by reads begun after its future resolved."""
        return await self._store.read(statement, parameters)

    def write(
        self, *statements: Statement, patient: bool = False, rescue: Rescue | None = None
    ) -> asyncio.Future[None]:
        """Write statements as one atomic call; the future resolves when they are durable.

        May be called without awaiting, from any code in the loop. Calls commit in the order they were made. A failing
        call fails only its own future, with SQLAlchemy's error; once PostgreSQL has not answered for 10 s, all that
        wait fail with NotAnswering. A statement may be ``(statement, parameters)`` or ``(statement, [parameters, …])``;
        an unchanging statement with parameters is the cheapest kind of all.

        ``patient``: nobody waits for it, so it may take 50 ms more and share its commit with what comes meanwhile; the
        next call that is not takes it along at once.

        ``rescue``: for a call of one statement; is called with its parameters when the database is away, in the order
        of the calls, and the future fails, too. Once one is rescued, those that wait are, too: else they would be
        written before it.
        """
        if self._closed:
            raise OurError("The database is closed.", 503)
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._waiting.append(([_step(statement) for statement in statements], done, rescue))
        self._urgent = self._urgent or not patient
        self._see_to_it(loop)
        return done

    async def close(self) -> None:
        """Write what waits, then close. Later writes are refused."""
        await self._flush()
        for last in list(self.before_closing):
            await last()
        self._closed = True
        await self._flush()
        await self._store.close()

    async def _flush(self) -> None:
        self._urgent = True
        self._see_to_it(asyncio.get_running_loop())
        if self._writer is not None:
            await self._writer

    async def create_all(self) -> None:
        """Make every table of ``metadata`` that is missing: for tests; production migrates."""
        await self._store.create_all()

    async def outlast(self, table: sa.Table) -> None:
        """Wait for the end of every write to this table that was begun, also by a connection that was given up."""
        await self._store.outlast(table)

    def _see_to_it(self, loop: asyncio.AbstractEventLoop) -> None:
        """What waits is written now, or has a timer that will see to it; a writer at work sees to it by itself."""
        if self._writer is not None or not self._waiting:
            return
        if self._urgent:
            if self._linger is not None:
                self._linger.cancel()
                self._linger = None
            self._writer = spawn(self._write_all(), "the database's writer")
        elif self._linger is None:
            self._linger = loop.call_later(_PATIENCE_S, self._patience_over)

    def _patience_over(self) -> None:
        self._linger = None
        self._urgent = True
        self._see_to_it(asyncio.get_running_loop())

    async def _write_all(self) -> None:
        try:
            while self._waiting and self._urgent:
                batch, self._waiting = self._waiting[:_LARGEST_BATCH], self._waiting[_LARGEST_BATCH:]
                self._urgent = bool(self._waiting)
                try:
                    outcome = await self._store.commit([call for call, _, _ in batch])
                except BaseException as error:
                    outcome = [error] * len(batch)
                    if not isinstance(error, Exception):
                        raise
                finally:
                    if any(outcome):
                        self._rescue(batch, outcome)
                    for (_, done, _), error_of_call in zip(batch, outcome, strict=True):
                        _resolve(done, error_of_call)
                if isinstance(outcome[0], NotAnswering):
                    self._give_up(outcome[0])
        finally:
            self._writer = None
            if not self._closed:
                self._see_to_it(asyncio.get_running_loop())

    def _give_up(self, error: NotAnswering) -> None:
        """Who has waited meanwhile is told, too: else ever more would wait while the server is away."""
        late, self._waiting = self._waiting, []
        self._urgent = False
        log.error("The database does not answer; {count} writes that waited are given up", count=len(late))
        for waiting in late:
            _fail(waiting, error)

    def _rescue(self, batch: Sequence[_Waiting], outcome: _Outcome) -> None:
        """Give the calls that failed because the database is away to whoever keeps them, and those after them."""
        away: BaseException | None = None
        for waiting, error in zip(batch, outcome, strict=True):
            if error is not None and waiting[2] is not None and is_away(error):
                away = error
                _fail(waiting, error)
        if away is None:
            return
        late, self._waiting = self._waiting, []
        for waiting in late:
            if waiting[2] is None:
                self._waiting.append(waiting)
            else:
                _fail(waiting, away)


def _step(statement: Statement) -> _Step:
    if not isinstance(statement, tuple):
        return statement, None
    executable, parameters = statement
    # To ask whether it is a Mapping would cost as much as all the rest of writing an event.
    if type(parameters) is list:
        return executable, parameters
    return executable, [parameters] if isinstance(parameters, Mapping) else list(parameters)


def _fail(waiting: _Waiting, error: BaseException) -> None:
    """By a database that is away."""
    call, done, rescue = waiting
    _resolve(done, error)
    if rescue is not None:
        rescue(call[0][1] or ())
        if not done.cancelled():
            done.exception()  # nobody has to look: it is kept, or said to be lost


def _resolve(done: asyncio.Future[None], error: BaseException | None) -> None:
    if done.done():  # whoever waited was cancelled; the write went on
        return
    if error is None:
        done.set_result(None)
    elif isinstance(error, asyncio.CancelledError):
        done.cancel()
    else:
        done.set_exception(error)


def _merged(calls: Sequence[_Call]) -> list[_Step]:
    """The calls' steps, where those that repeat one statement become one ``executemany``: to go through SQLAlchemy
    costs several times what SQLite does then.

    They are one transaction, so a step may pass others before it that have nothing to do with its tables. What one
    statement says, and what is said of one table, stays in order.
    """
    merged: list[_Step] = []
    latest: dict[sa.Executable, tuple[int, list[Parameters]]] = {}
    for call in calls:
        for statement, parameters in call:
            if not parameters:
                if parameters is None:  # an empty list has nothing to say
                    merged.append((statement, None))
                    latest.clear()  # nothing passes what was put together for the occasion
                continue
            at, run = latest.get(statement, (0, None))
            # executemany takes its columns from the first set and would drop a later set's others unasked.
            if run is not None and run[0].keys() == parameters[0].keys():
                between = merged[at + 1 :]
                if not between or (
                    len(between) <= _FARTHEST and all(_may_pass(statement, each) for each, _ in between)
                ):
                    run.extend(parameters)
                    continue
            run = list(parameters)
            latest[statement] = len(merged), run
            merged.append((statement, run))
    return merged


def _may_pass(statement: sa.Executable, other: sa.Executable) -> bool:
    changes, looks_at, parents = _tables(statement)
    others_changes, others_looks_at, _ = _tables(other)
    return (
        changes is not None
        and others_changes is not None
        and others_changes not in looks_at | parents
        and changes not in others_looks_at
    )


@functools.lru_cache(_REMEMBERED)
def _tables(
    statement: sa.Executable,
) -> tuple[sa.FromClause | None, frozenset[sa.FromClause], frozenset[sa.FromClause]]:
    """The table a statement changes (None: it may be about anything), all it reads or changes, and those in which the
    rows must be that it refers to."""
    if not isinstance(statement, sa.Insert | sa.Update):
        return None, frozenset(), frozenset()
    mentioned = find_tables(
        statement, check_columns=True, include_joins=True, include_selects=True, include_crud=True
    )
    parents = (key.column.table for key in statement.table.foreign_keys)
    return statement.table, frozenset((statement.table, *mentioned)), frozenset(parents)


def _arguments(parameters: list[Parameters] | None) -> Any:
    return parameters[0] if parameters is not None and len(parameters) == 1 else parameters


class _Sqlite:
    """SQLite in threads of its own: one writes, two read beside it (WAL). One hop a batch, not one a statement."""

    def __init__(self, url: URL) -> None:
        url = url.set(drivername="sqlite+pysqlite")
        in_memory = url.database in (None, "", ":memory:")
        self._write_engine = self._engine(url, in_memory=in_memory, reads=False)
        self._write_thread = ThreadPoolExecutor(1, "database-write")
        if in_memory:  # lives in its one connection
            self._read_engine, self._read_threads = self._write_engine, self._write_thread
        else:
            self._read_engine = self._engine(url, in_memory=False, reads=True)
            self._read_threads = ThreadPoolExecutor(2, "database-read")
        self._own = threading.local()  # each thread's connection
        self._connections: list[Connection] = []

    def _connection(self, engine: Engine) -> Connection:
        """This thread's own: to have one from the pool, and to give it back, costs more than a short query."""
        connection: Connection | None = getattr(self._own, "connection", None)
        if connection is None or connection.closed:
            connection = self._own.connection = engine.connect()
            self._connections = [*(each for each in self._connections if not each.closed), connection]
        return connection

    @staticmethod
    def _engine(url: URL, *, in_memory: bool, reads: bool) -> Engine:
        if in_memory:
            engine = sa.create_engine(
                url,
                poolclass=StaticPool,
                connect_args={"check_same_thread": False},
                json_serializer=to_json,
                hide_parameters=True,
            )
        else:
            engine = sa.create_engine(url, json_serializer=to_json, hide_parameters=True)

        def connected(connection: Any, record: Any) -> None:
            connection.isolation_level = None  # transactions begin where we say so, not where sqlite3 guesses
            connection.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
            connection.execute("PRAGMA foreign_keys = ON")
            if not in_memory:
                connection.execute("PRAGMA journal_mode = WAL")
            # With WAL, NORMAL loses nothing when the process dies, and no integrity when the machine does.
            connection.execute("PRAGMA synchronous = NORMAL")
            if reads:
                connection.execute("PRAGMA query_only = ON")

        def begun(connection: Connection) -> None:
            # IMMEDIATE waits its turn at once; a later upgrade to writing could only fail. Said to sqlite3 itself:
            # by way of SQLAlchemy it would cost as much as the insert that follows.
            driver: Any = connection.connection.driver_connection
            driver.execute("BEGIN IMMEDIATE")

        sa.event.listen(engine, "connect", connected)
        if not reads:
            sa.event.listen(engine, "begin", begun)
        return engine

    async def read(self, statement: sa.Executable, parameters: Parameters | None) -> Sequence[sa.Row[Any]]:
        def work() -> Sequence[sa.Row[Any]]:
            connection = self._connection(self._read_engine)
            with connection.begin():
                return connection.execute(statement, parameters).all()

        return await self._in(self._read_threads, work)

    async def commit(self, calls: Sequence[_Call]) -> _Outcome:
        return await self._in(self._write_thread, lambda: self._commit(calls))

    def _commit(self, calls: Sequence[_Call]) -> _Outcome:
        try:
            self._transact(calls)
        except _AllFailed as failed:
            return [failed.error] * len(calls)
        except Exception as error:
            if len(calls) == 1:
                return [error]
            outcome: _Outcome = []
            for call in calls:
                outcome += self._commit([call])
                if _no_more(outcome):
                    break
            return outcome + outcome[-1:] * (len(calls) - len(outcome))
        return [None] * len(calls)

    def _transact(self, calls: Sequence[_Call]) -> None:
        connection = self._connection(self._write_engine)
        try:
            connection.begin()
        except (SQLAlchemyError, sqlite3.Error) as error:
            connection.close()
            raise _AllFailed(error) from error
        try:
            for statement, parameters in _merged(calls):
                self._say(connection, statement, parameters)
        except BaseException:
            connection.close()  # which takes back what was said
            raise
        try:
            connection.commit()
        except SQLAlchemyError as error:
            connection.invalidate()
            connection.close()
            raise _judged(error) from error

    @staticmethod
    def _say(connection: Connection, statement: sa.Executable, parameters: list[Parameters] | None) -> None:
        known = prepared(statement, tuple(parameters[0]), connection.dialect) if parameters else None
        if known is None or parameters is None:
            connection.execute(statement, _arguments(parameters))
            return
        # By way of SQLAlchemy a statement costs as much again as SQLite needs for one row of it.
        rows = known.rows(parameters)
        driver: Any = connection.connection.driver_connection
        try:
            driver.executemany(known.text, rows)
        except sqlite3.Error as error:
            raise DBAPIError.instance(
                known.text, rows, error, sqlite3.Error, hide_parameters=True, dialect=connection.dialect
            ) from error

    async def outlast(self, table: sa.Table) -> None:
        """What one thread writes is over once it is answered."""

    async def create_all(self) -> None:
        def work() -> None:
            metadata.create_all(self._write_engine)

        await self._in(self._write_thread, work)

    async def close(self) -> None:
        # The executors' threads are idle by now: shutting them down does not wait.
        def end() -> None:
            for connection in self._connections:
                connection.close()
            self._write_engine.dispose()

        await self._in(self._write_thread, end)
        if self._read_engine is not self._write_engine:
            await self._in(self._read_threads, self._read_engine.dispose)
            self._read_threads.shutdown(wait=False)
        self._write_thread.shutdown(wait=False)

    @staticmethod
    async def _in(threads: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(threads, work)


class _Postgres:
    """PostgreSQL by asyncpg, in the loop."""

    def __init__(self, url: URL) -> None:
        self._write_engine = self._engine(url, size=1, answer_s=_WRITE_S)  # one batch at a time
        self._read_engine = self._engine(url, size=4, answer_s=_READ_S)

    @staticmethod
    def _engine(url: URL, *, size: int, answer_s: float) -> AsyncEngine:
        return create_async_engine(
            url.set(drivername="postgresql+asyncpg"),
            pool_size=size,
            pool_timeout=answer_s,
            pool_pre_ping=True,
            json_serializer=to_json,
            hide_parameters=True,
            connect_args={
                "timeout": _WRITE_S,
                "command_timeout": answer_s,
                # Of ours none is idle for as long: it is one whose connection is gone, and it holds locks.
                "server_settings": {"idle_in_transaction_session_timeout": str(int(_IDLE_S * 1000))},
            },
        )

    async def read(self, statement: sa.Executable, parameters: Parameters | None) -> Sequence[sa.Row[Any]]:
        try:
            async with self._read_engine.connect() as connection:
                return (await connection.execute(statement, parameters)).all()
        except (TimeoutError, sa.exc.TimeoutError) as error:
            raise NotAnswering from error

    async def commit(self, calls: Sequence[_Call]) -> _Outcome:
        try:
            await self._transact(calls)
        except (TimeoutError, sa.exc.TimeoutError):
            # Not each by itself: that would take as long again for each, and the commit may have taken.
            return [NotAnswering()] * len(calls)
        except _AllFailed as failed:
            return [failed.error] * len(calls)
        except Exception as error:
            if len(calls) == 1:
                return [error]
            outcome: _Outcome = []
            for call in calls:
                outcome += await self.commit([call])
                if _no_more(outcome):
                    break
            return outcome + outcome[-1:] * (len(calls) - len(outcome))
        return [None] * len(calls)

    async def _transact(self, calls: Sequence[_Call]) -> None:
        async with AsyncExitStack() as stack:
            try:
                connection = await stack.enter_async_context(self._write_engine.connect())
                await connection.begin()
            except (TimeoutError, sa.exc.TimeoutError):
                raise
            except Exception as error:
                # Whatever it is, each call by itself would meet the same, and take as long.
                raise _AllFailed(error) from error
            for statement, parameters in _merged(calls):
                await connection.execute(statement, _arguments(parameters))
            try:
                await connection.commit()
            except SQLAlchemyError as error:
                await connection.invalidate()
                raise _judged(error) from error

    async def outlast(self, table: sa.Table) -> None:
        # A server that hung may find the commit of a connection long given up among what it has yet to read. Whoever
        # has written holds a lock that this one waits for.
        name = self._write_engine.dialect.identifier_preparer.format_table(table)
        try:
            async with self._write_engine.begin() as connection:
                await connection.execute(sa.text(f"LOCK TABLE {name} IN SHARE ROW EXCLUSIVE MODE"))
        except (TimeoutError, sa.exc.TimeoutError) as error:
            raise NotAnswering from error

    async def create_all(self) -> None:
        async with self._write_engine.begin() as connection:
            await connection.run_sync(metadata.create_all)

    async def close(self) -> None:
        for engine in (self._write_engine, self._read_engine):
            with suppress(SQLAlchemyError):
                await engine.dispose()


def _no_more(outcome: _Outcome) -> bool:
    """Of calls tried each alone, the last one found the database away: the others need not wait to hear the same."""
    return outcome[-1] is not None and is_away(outcome[-1])


class _AllFailed(Exception):
    """No call of the batch may try again: the database does not answer, or whether the commit took is unknown."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


def _judged(error: SQLAlchemyError) -> Exception:
    # A deferred constraint speaks up at commit and is one call's fault: nothing was written, each may try alone.
    return error if isinstance(error, IntegrityError) else _AllFailed(error)
