"""Whether the database is away, or is there and does not take what it was told."""

from __future__ import annotations

import sqlite3
from typing import Any

from sqlalchemy.exc import DBAPIError

from config.errors import OurError

# SQLSTATE's classes: connections, too few resources, an operator's word such as a shutdown, the system below it.
_CLASSES = ("08", "53", "57", "58")
# Lost to another transaction, or to our own limit; a standby, which takes no writes until it is the first.
_STATES = ("40001", "40P01", "25P03", "25006")
_OF_SQLITE = (
    "SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_READONLY",
)  # fmt: skip


class NotAnswering(OurError):
    """The database took longer than it may. Whether what it was told has happened is not known."""

    def __init__(self) -> None:
        super().__init__("The database does not answer.", 503)


def is_away(error: BaseException) -> bool:
    """Whether this says that the database could not be had just now: the same may do later."""
    if isinstance(error, NotAnswering | OSError):
        return True
    of_statement = isinstance(error, DBAPIError)
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    said: Any = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(said, sqlite3.Error):
        return str(getattr(said, "sqlite_errorname", "")).startswith(_OF_SQLITE)
    state = getattr(said, "sqlstate", None)
    if not isinstance(state, str):
        return False
    # asyncpg's own errors come to us from connecting alone.
    return not of_statement or state.startswith(_CLASSES) or state in _STATES
