"""The same promises on SQLite in a file and on a PostgreSQL of its own."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, StatementError

from config import database as module
from config.database import Database, metadata
from config.errors import OurError
from tests.conftest import run

trial = sa.Table(
    "trial",
    metadata,
    sa.Column("seq", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(20), nullable=False, unique=True),
    sa.Column("parent", sa.Integer, sa.ForeignKey("trial.seq", deferrable=True, initially="DEFERRED")),
    sa.Column("note", sa.JSON),
)
line = sa.Table(
    "trial_line",
    metadata,
    sa.Column("seq", sa.Integer, primary_key=True),
    sa.Column("trial_name", sa.String(20), sa.ForeignKey("trial.name"), nullable=False),
    sa.Column("copied", sa.Integer),
)
INSERT = trial.insert()
INSERT_LINE = line.insert()
RENAME = trial.update().where(trial.c.name == sa.bindparam("old")).values({trial.c.name: sa.bindparam("new")})
COUNT_LINES = trial.update().values(note=sa.select(sa.func.count()).select_from(line).scalar_subquery())
NAMES = sa.select(trial.c.name).order_by(trial.c.seq)


@pytest.fixture(params=["sqlite", "postgresql"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'trial.sqlite3'}"
    else:
        url = request.getfixturevalue("postgres").new_database()
    database = Database.open(url)
    run(database.create_all())
    yield database
    run(database.close())


async def names(database: Database) -> list[str]:
    return [row.name for row in await database.read(NAMES)]


async def test_what_was_written_is_read(opened: Database) -> None:
    await opened.write((INSERT, {"name": "a", "note": {"text": "Störung 🙂"}}))
    rows = await opened.read(
        sa.select(trial.c.note).where(trial.c.name == sa.bindparam("name")), {"name": "a"}
    )
    assert [row.note for row in rows] == [{"text": "Störung 🙂"}]


async def test_calls_commit_in_the_order_they_were_made(opened: Database) -> None:
    await asyncio.gather(*(opened.write((INSERT, [{"name": str(number)}])) for number in range(1200)))
    assert await names(opened) == [str(number) for number in range(1200)]


async def test_calls_made_together_share_transactions(
    opened: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits: list[int] = []
    commit = opened._store.commit

    async def counted(calls: list[module._Call]) -> list[BaseException | None]:
        commits.append(len(calls))
        return await commit(calls)

    monkeypatch.setattr(opened._store, "commit", counted)
    await asyncio.gather(*(opened.write((INSERT, {"name": str(number)})) for number in range(100)))
    assert commits == [100]


async def test_different_statements_keep_their_order_too(opened: Database) -> None:
    written = [
        opened.write((INSERT, {"name": "a"})),
        opened.write(trial.update().where(trial.c.name == "a").values(name="b")),
        opened.write((INSERT, {"name": "a"})),
        opened.write(trial.delete().where(trial.c.name == "b"), (INSERT, [])),
        opened.write((INSERT, [{"name": "c"}, {"name": "d"}])),
    ]
    await asyncio.gather(*written)
    assert await names(opened) == ["a", "c", "d"]


def said(*steps: tuple[sa.Executable, module.Parameters | None]) -> list[module._Step]:
    return module._merged([[(statement, None if row is None else [row])] for statement, row in steps])


def test_what_is_said_of_other_tables_between_costs_no_statement_more() -> None:
    steps = said(
        (INSERT, {"name": "a"}),
        (INSERT_LINE, {"trial_name": "a"}),
        (INSERT, {"name": "b"}),
        (INSERT_LINE, {"trial_name": "b"}),
    )
    assert steps == [
        (INSERT, [{"name": "a"}, {"name": "b"}]),
        (INSERT_LINE, [{"trial_name": "a"}, {"trial_name": "b"}]),
    ]


def test_nothing_passes_what_is_said_of_its_own_table_or_of_one_that_it_refers_to() -> None:
    rename = {"old": "a", "new": "b"}
    for steps in (
        [(INSERT, {"name": "a"}), (RENAME, rename), (INSERT, {"name": "a"})],
        [(INSERT_LINE, {"trial_name": "a"}), (RENAME, rename), (INSERT_LINE, {"trial_name": "b"})],
        [(INSERT_LINE, {"trial_name": "a"}), (INSERT, {"name": "b"}), (INSERT_LINE, {"trial_name": "b"})],
    ):
        assert [statement for statement, _ in said(*steps)] == [statement for statement, _ in steps]


def test_nothing_passes_what_reads_its_table_or_may_be_about_anything() -> None:
    one, two = {"trial_name": "a"}, {"trial_name": "b"}
    for between in (COUNT_LINES, trial.delete(), sa.text("SELECT 1")):
        row = {"unused": 1} if between is COUNT_LINES else None
        assert len(said((INSERT_LINE, one), (between, row), (INSERT_LINE, two))) == 3


async def test_rows_that_refer_to_others_of_the_same_commit_find_them(opened: Database) -> None:
    written = []
    for number in range(50):
        name = {"name": str(number)}
        written.append(opened.write((INSERT, name), (INSERT_LINE, {"trial_name": str(number)})))
        written.append(opened.write((RENAME, {"old": "0", "new": "0"}), patient=True))
    await asyncio.gather(*written)
    rows = await opened.read(sa.select(line.c.trial_name).order_by(line.c.seq))
    assert [row.trial_name for row in rows] == await names(opened) == [str(number) for number in range(50)]


async def test_rows_of_different_columns_lose_none_of_them(opened: Database) -> None:
    first = opened.write((INSERT, {"name": "a"}))
    second = opened.write((INSERT, {"name": "b", "note": [1]}))
    await asyncio.gather(first, second)
    rows = await opened.read(sa.select(trial.c.name, trial.c.note).order_by(trial.c.seq))
    assert [tuple(row) for row in rows] == [("a", None), ("b", [1])]


async def test_a_failing_call_fails_alone_and_as_a_whole(opened: Database) -> None:
    written = [
        opened.write((INSERT, {"name": "a"})),
        opened.write((INSERT, {"name": "half"}), (INSERT, {"name": "a"})),
        opened.write((INSERT, {"name": "b"})),
        opened.write((INSERT, {"wrong": "column"})),
        opened.write((INSERT, {"name": "c"})),
    ]
    outcome = await asyncio.gather(*written, return_exceptions=True)
    assert [type(each) for each in outcome[::2]] == [type(None)] * 3
    assert isinstance(outcome[1], IntegrityError)
    assert isinstance(outcome[3], sa.exc.CompileError | StatementError)
    assert await names(opened) == ["a", "b", "c"]


async def test_what_was_to_be_written_is_not_in_the_error(opened: Database) -> None:
    await opened.write((INSERT, {"name": "a"}))
    for refused in (
        (INSERT, {"name": "a", "note": "s3cret"}),
        (INSERT, [{"name": name, "note": "s3cret"} for name in "ba"]),
        trial.insert().values(name="a", note="s3cret"),
    ):
        with pytest.raises(IntegrityError) as caught:
            await opened.write(refused)
        assert "s3cret" not in str(caught.value)


async def test_a_fault_that_shows_only_at_commit_fails_its_own_call_alone(opened: Database) -> None:
    written = [
        opened.write((INSERT, {"name": "a"})),
        opened.write((INSERT, {"name": "orphan", "parent": 999})),
        opened.write((INSERT, {"name": "b"})),
    ]
    outcome = await asyncio.gather(*written, return_exceptions=True)
    assert [type(each) for each in outcome] == [type(None), IntegrityError, type(None)]
    assert await names(opened) == ["a", "b"]


async def test_a_writer_who_was_cancelled_harms_nobody(opened: Database) -> None:
    first, second = opened.write((INSERT, {"name": "a"})), opened.write((INSERT, {"name": "b"}))
    first.cancel()
    await second
    assert await names(opened) == ["a", "b"]


async def test_a_write_that_nobody_awaits_is_there_after_closing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'trial.sqlite3'}"
    first = Database.open(url)
    await first.create_all()
    for name in ("a", "b"):
        _ = first.write((INSERT, {"name": name}))
    await first.close()
    with pytest.raises(OurError):
        _ = first.write((INSERT, {"name": "late"}))
    second = Database.open(url)
    assert await names(second) == ["a", "b"]
    await second.close()


async def test_reads_do_not_write(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path / 'trial.sqlite3'}")
    await database.create_all()
    with pytest.raises(sa.exc.OperationalError):
        await database.read(INSERT.values(name="a").returning(trial.c.seq))
    await database.close()


async def test_a_database_in_memory_keeps_what_it_was_told() -> None:
    database = Database.open("sqlite+aiosqlite://")
    await database.create_all()
    await database.write((INSERT, {"name": "a"}))
    assert await names(database) == ["a"]
    await database.close()


def test_another_kind_of_database_is_refused() -> None:
    with pytest.raises(OurError, match="SQLite and PostgreSQL"):
        Database.open("mysql://db/x")


KILLED = """
import asyncio, os, signal, sys
import sqlalchemy as sa
from config.database import Database, metadata
trial = sa.Table("trial", metadata, sa.Column("name", sa.String, primary_key=True))
async def main():
    database = Database.open(sys.argv[1])
    await database.create_all()
    await asyncio.gather(*(database.write((trial.insert(), {"name": str(n)})) for n in range(50)))
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""


def test_what_was_acknowledged_survives_kill_nine(tmp_path: Path) -> None:
    file = tmp_path / "killed.sqlite3"
    killed = subprocess.run([sys.executable, "-c", KILLED, f"sqlite:///{file}"], check=False)
    assert killed.returncode == -9
    with sa.create_engine(f"sqlite:///{file}").connect() as connection:
        assert connection.execute(sa.text("select count(*) from trial")).scalar() == 50
        assert connection.execute(sa.text("pragma journal_mode")).scalar() == "wal"


async def test_a_patient_write_shares_the_commit_of_the_next_that_is_not(
    opened: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PATIENCE_S", 60)
    patient = opened.write((INSERT, {"name": "a"}), patient=True)
    assert await names(opened) == []
    assert not patient.done(), "it was committed alone"
    await opened.write((INSERT, {"name": "b"}))
    assert patient.done()
    assert await names(opened) == ["a", "b"]


async def test_a_patient_write_alone_is_written_soon(opened: Database) -> None:
    await asyncio.wait_for(opened.write((INSERT, {"name": "a"}), patient=True), 5)
    assert await names(opened) == ["a"]


async def test_patient_writes_are_written_by_close(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'trial.sqlite3'}"
    database = Database.open(url)
    await database.create_all()
    last = database.write((INSERT, {"name": "a"}), patient=True)
    await database.close()
    assert last.done()
    again = Database.open(url)
    assert await names(again) == ["a"]
    await again.close()
