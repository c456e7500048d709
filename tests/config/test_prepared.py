"""A statement with its parameters says the same to the driver as it does by way of SQLAlchemy."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import pysqlite

from config.prepared import prepared

table = sa.Table(
    "thing",
    sa.MetaData(),
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(20)),
    sa.Column("open", sa.Boolean),
    sa.Column("facts", sa.JSON),
    sa.Column("made_by", sa.String(20), default=lambda: "nobody"),
)
ROW = {"id": 1, "name": "Ana's", "open": True, "facts": {"a": [1, None]}, "made_by": "us"}


def stored(engine: sa.Engine) -> list[dict[str, Any]]:
    with engine.connect() as connection:
        return [dict(row._mapping) for row in connection.execute(sa.select(table))]


def said(engine: sa.Engine, statement: sa.Executable, *rows: dict[str, Any]) -> None:
    known = prepared(statement, tuple(rows[0]), engine.dialect)
    assert known is not None
    with engine.begin() as connection:
        connection.exec_driver_sql(known.text, known.rows(rows))


@pytest.fixture
def engine() -> sa.Engine:
    engine = sa.create_engine("sqlite://")
    table.create(engine)
    return engine


def test_rows_are_stored_as_they_were_given(engine: sa.Engine) -> None:
    others = [{**ROW, "id": 2, "name": None, "open": False, "facts": None}, {**ROW, "id": 3, "open": None}]
    said(engine, table.insert(), ROW, *others)
    assert stored(engine) == [ROW, *others]


def test_changes_and_deletions_find_their_rows(engine: sa.Engine) -> None:
    said(engine, table.insert(), ROW, {**ROW, "id": 2})
    change = table.update().where(table.c.id == sa.bindparam("its")).values(name=sa.bindparam("new"))
    said(engine, change, {"new": "Bo", "its": 2})
    assert [row["name"] for row in stored(engine)] == ["Ana's", "Bo"]
    said(engine, table.delete().where(table.c.id == sa.bindparam("its")), {"its": 1})
    assert [row["id"] for row in stored(engine)] == [2]


@pytest.mark.parametrize(
    ("statement", "names"),
    [
        (table.insert(), ("id", "name")),  # a default that Python makes
        (table.insert().returning(table.c.id), tuple(ROW)),
        (table.update().where(table.c.id == 7), ("name",)),  # a value of its own
        (table.update().where(table.c.id.in_(sa.bindparam("ids", expanding=True))), ("name", "ids")),
        (sa.text("UPDATE thing SET name = :name"), ("name",)),
    ],
)
def test_what_only_sqlalchemy_can_say_is_left_to_it(statement: sa.Executable, names: tuple[str, ...]) -> None:
    assert prepared(statement, names, pysqlite.dialect()) is None
