"""Alembic's migrations, and the two questions that are asked of them: is the database current; if not, make it so.

Alembic is imported only when there is something to do: it costs more than all the rest of a start.
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from sqlalchemy import MetaData, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ProgrammingError

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy.engine import Connection

FOLDER = Path(__file__).parent


def head(versions: Path = FOLDER / "versions") -> str | None:
    """The newest revision, read from the files' own lines; None if there is none."""
    revisions: dict[str, str] = {}
    for path in versions.glob("*.py"):
        words = dict(
            re.findall(
                r"^(revision|down_revision)\b[^=\n]*=\s*[\"']([^\"']+)[\"']", path.read_text("utf-8"), re.M
            )
        )
        if "revision" in words:
            revisions[words["revision"]] = words.get("down_revision", "")
    heads = revisions.keys() - set(revisions.values())
    return heads.pop() if len(heads) == 1 else None


def is_current(database_url: str, versions: Path = FOLDER / "versions") -> bool:
    """Whether the database is at the newest revision. Not to be called in a running loop."""
    newest = head(versions)
    return newest is not None and _stored(make_url(database_url)) == newest


def upgrade(database_url: str, metadata: MetaData, versions: Path = FOLDER / "versions") -> bool:
    """Bring the database to the newest revision; True if there was anything to do. Blocks till done."""
    if is_current(database_url, versions):
        return False
    from alembic import command

    _with_connection(
        make_url(database_url),
        lambda connection: command.upgrade(_alembic(connection, metadata, versions), "head"),
    )
    return True


def draft(database_url: str, metadata: MetaData, message: str, versions: Path = FOLDER / "versions") -> None:
    """Write the next revision's file from the difference between the database at ``database_url`` and ``metadata``."""
    from alembic import command

    number = f"{len(list(versions.glob('[0-9]*.py'))) + 1:04d}"

    def work(connection: Connection) -> None:
        config = _alembic(connection, metadata, versions)
        command.upgrade(config, "head")
        command.revision(config, message=message, autogenerate=True, rev_id=number)

    _with_connection(make_url(database_url), work)


def lacking(database_url: str, metadata: MetaData, versions: Path = FOLDER / "versions") -> list[str]:
    """What ``metadata`` has and the newest revision has not, or the other way round: one line each."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    upgrade(database_url, metadata, versions)
    found: list[str] = []

    def work(connection: Connection) -> None:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        found.extend(str(each)[:160] for each in compare_metadata(context, metadata))

    _with_connection(make_url(database_url), work)
    return found


def _alembic(connection: Connection, metadata: MetaData, versions: Path) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.set_main_option("version_locations", str(versions).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    config.attributes.update(connection=connection, metadata=metadata)
    return config


def _stored(url: URL) -> str | None:
    """The revision the database says it is at; None if it has none or is not there yet."""
    if url.get_backend_name() == "sqlite":
        if not url.database or not Path(url.database).is_file():
            return None
        connection = sqlite3.connect(url.database, timeout=5.0)
        try:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        except sqlite3.OperationalError:
            return None
        finally:
            connection.close()
        return str(row[0]) if row else None
    found: list[str | None] = [None]

    def work(connection: Connection) -> None:
        try:
            found[0] = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        except ProgrammingError:
            found[0] = None

    _with_connection(url, work)
    return found[0]


class _Work(Protocol):
    def __call__(self, connection: Connection, /) -> None: ...


def _with_connection(url: URL, work: _Work) -> None:
    """Do ``work`` on a connection of its own; its transactions are its own affair."""
    if url.get_backend_name() == "sqlite":
        if url.database:
            Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(url.set(drivername="sqlite+pysqlite"))
        # Left to itself, sqlite3 commits before each change of a table, and a failed migration would stay half done.
        event.listen(engine, "connect", lambda driver, _: setattr(driver, "isolation_level", None))
        event.listen(engine, "begin", lambda begun: begun.exec_driver_sql("BEGIN IMMEDIATE"))
        with engine.begin() as connection:
            work(connection)
        engine.dispose()
        return

    async def in_loop() -> None:
        from sqlalchemy.ext.asyncio import create_async_engine

        engine = create_async_engine(url.set(drivername="postgresql+asyncpg"))
        async with engine.begin() as connection:
            await connection.run_sync(work)
        await engine.dispose()

    asyncio.run(in_loop())
