"""A statement that is said again and again, as the database's driver takes it: its text, and rows of plain values.

SQLAlchemy looks at each statement anew every time it is executed, which costs more than SQLite needs to carry it out.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.sql.compiler import SQLCompiler

_KEPT = 256  # statements

Process = Callable[[Any], Any]


class Prepared:
    """`text` with question marks, and what stands at each: a parameter's name, and what is done to its value."""

    __slots__ = ("_places", "text")

    def __init__(self, text: str, places: Sequence[tuple[str, Process | None]]) -> None:
        self.text = text
        self._places = places

    def rows(self, parameters: Sequence[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
        places = self._places
        return [
            tuple([row[name] if process is None else process(row[name]) for name, process in places])
            for row in parameters
        ]


@functools.lru_cache(_KEPT)
def prepared(statement: sa.Executable, names: tuple[str, ...], dialect: Dialect) -> Prepared | None:
    """`statement`, to be given parameters of these names. None: only SQLAlchemy can say it, for it has values of its
    own in it, or gives rows back."""
    if not isinstance(statement, sa.Insert | sa.Update | sa.Delete):
        return None
    compiled = statement.compile(dialect=dialect, column_keys=list(names))
    assert isinstance(compiled, SQLCompiler)
    binds = [compiled.binds[name] for name in compiled.positiontup or ()]
    if (
        {bind.key for bind in binds} != set(names)
        or compiled.insert_prefetch
        or compiled.update_prefetch
        or compiled.post_compile_params
        or compiled.literal_execute_params
        or compiled.effective_returning
    ):
        return None
    return Prepared(
        compiled.string,
        [(bind.key, bind.type.dialect_impl(dialect).bind_processor(dialect)) for bind in binds],
    )
