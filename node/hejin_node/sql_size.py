"""How long a database's cells may be: the database measures them, and keeps longer ones back."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Protocol

from sqlalchemy import (
    ColumnElement,
    LargeBinary,
    Text,
    case,
    cast,
    func,
    literal,
    literal_column,
)

#: Bytes of a cell. About twice Excel's longest text.
CELL: Final = 64 << 10
#: Bytes of the cells that may be fetched together.
_TOGETHER: Final = 32 << 20
#: SQLite measures a cell in our own memory, and sorts rows there: bytes of either. More than 200
#: columns that are as long as they may be, and as they come.
_SQLITE: Final = 32 << 20


class _Measure(Protocol):
    def __call__(self, cell: ColumnElement[Any], /) -> ColumnElement[int]: ...


def _octets(cell: ColumnElement[Any]) -> ColumnElement[int]:
    return func.octet_length(cell)


def _postgresql(cell: ColumnElement[Any]) -> ColumnElement[int]:
    # No text is unpacked for it. A CHAR(n) would lose, as a text, spaces that it is sent with.
    padded = func.pg_typeof(cell) == literal_column("'character'::regtype")
    return case(
        (padded, func.octet_length(func.concat(cell))), else_=func.octet_length(cast(cell, Text))
    )


def _sqlite(cell: ColumnElement[Any]) -> ColumnElement[int]:
    return func.length(cast(cell, LargeBinary))


_MEASURES: Final[Mapping[str, _Measure]] = MappingProxyType(
    {"postgresql": _postgresql, "mysql": _octets, "mariadb": _octets, "sqlite": _sqlite}
)


def measured(backend: str, cells: Sequence[ColumnElement[Any]]) -> list[ColumnElement[Any]]:
    """Return what is asked for: the cells, NULL for one that is too long; at last, which is.

    That is 0, or the first one's number from 1. Other databases than we know send all they have.
    """
    size = _MEASURES.get(backend)
    if size is None:
        return [*cells, literal(0)]
    # No ELSE NULL: MariaDB would make decimals of unsigned integers.
    whole = [case((size(cell) <= CELL, cell)).label(cell.key) for cell in cells]
    longest = case(*((size(cell) > CELL, at) for at, cell in enumerate(cells, 1)), else_=0)
    return [*whole, longest.label("hejin_long")]


def size_of(backend: str, cell: ColumnElement[Any]) -> ColumnElement[int]:
    """Return how long a cell is, in bytes, in a database that we know."""
    return _MEASURES[backend](cell)


def rows_together(columns: int) -> int:
    """Return how many rows may be fetched at a time."""
    return max(_TOGETHER // (CELL * columns), 1)


def bound(connection: sqlite3.Connection) -> None:
    """Let SQLite read no longer value, and sort no longer row: it raises DataError."""
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _SQLITE)
