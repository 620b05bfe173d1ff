"""What every source of rows gives: a name, a digest, and blocks that know where to go on."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NoReturn, Protocol

import pyarrow as pa

from hejin_node.errors import IngestError

Place = Mapping[str, int | str]
"""Where reading goes on, as JSON: `rows` are those before it; the rest is the source's own."""

Progress = Callable[[int, int], None]
"""Called with (done, in all) now and then: bytes of a file, rows of a database."""

BLOCK_ROWS: Final = 65_536


@dataclass(frozen=True, slots=True)
class Block:
    """Some rows in their order, and the place after them."""

    table: pa.Table
    place: Place


@dataclass(frozen=True, slots=True)
class Layout:
    """How a source is written; each kind of source reads what is meant for it.

    encoding   of a CSV file: utf-8 or gb18030
    delimiter  of a CSV file, one ASCII character
    sheet      of an Excel workbook; None where it has only one
    formats    column -> strptime pattern in which dates among texts are spelled
    """

    encoding: str = "utf-8"
    delimiter: str = ","
    sheet: str | None = None
    formats: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Query:
    """What is read from a database.

    name   of this source in the warehouse; one name is one table or query of one database
    table  its name, perhaps `schema.table`; None where `query` is a SELECT
    key    a column by which rows are only ever added at the end: integers or texts, unique
    """

    name: str
    table: str | None = None
    query: str | None = None
    key: str | None = None


class Source(Protocol):
    """A file, or a query's result.

    name    what the operator knows it by; never a path or an address
    digest  hex SHA-256 that is the same for the same content
    """

    @property
    def name(self) -> str: ...  # noqa: D102 - see above

    @property
    def digest(self) -> str: ...  # noqa: D102 - see above

    def blocks(self, place: Place | None, progress: Progress) -> Generator[Block]:
        """Yield the rows after `place` (None: all); raises IngestError.

        It may come after some rows were yielded: the caller publishes nothing then.
        """


class Tally:
    """Adds up what was done since the last call, and tells how much that is of all."""

    def __init__(self, progress: Progress, size: int) -> None:
        self._progress, self._done, self._size = progress, 0, size

    def __call__(self, more: int) -> None:
        """Take note of `more`."""
        self._done += more
        self._progress(self._done, self._size)


def silent(_done: int, _all: int) -> None:
    """Show no progress."""


def file_name(path: Path) -> str:
    """Return a file's name as it may be shown and kept, without its folder.

    Whoever delivers a file chooses its name: bytes that are no text would stop the command, control
    characters move the terminal's cursor.
    """
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in path.name)


def refuse(name: str, en: str, zh: str) -> NoReturn:
    """Raise an IngestError about the source `name`."""
    raise IngestError(
        f"{name}: {en} Nothing was loaded.", f"{name}：{zh}未载入任何数据。"
    ) from None


def refuse_empty(name: str) -> NoReturn:
    """Refuse a source that has a header at most."""
    refuse(name, "it has no rows; export it again.", "没有数据行，请重新导出。")


def check_header(name: str, present: Sequence[str], wanted: Sequence[str]) -> None:
    """Refuse a source that lacks a column, or has two of its name."""
    absent = [column for column in wanted if column not in present]
    if absent:
        names = ", ".join(absent)
        refuse(
            name,
            f"it has no column {names}; correct the mapping, or its encoding or delimiter, or "
            "name an optional column in the mapping's `absent`.",
            f"缺少列 {names}，请更正映射文件，或其编码、分隔符；非必填列可写入映射的 `absent`。",
        )
    twice = [column for column in wanted if list(present).count(column) > 1]
    if twice:
        refuse(
            name,
            f"two columns are named {twice[0]}; give each its own name.",
            f"有两列同名 {twice[0]}，请使列名唯一。",
        )


def rows_before(place: Place | None) -> int:
    """Return how many rows were read before a place."""
    return int(place["rows"]) if place else 0


def spelled(cell: object, pattern: str | None = None) -> str | None:
    """Return a cell of a workbook or database as a CSV file would spell it: 12.5, 3, true.

    pattern  how its column's dates are spelled; else as YYYY-MM-DD, with the time if it has one
    raises   TypeError: it is binary
    """
    if cell is None or isinstance(cell, str):
        return cell
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float):
        return repr(cell)
    if isinstance(cell, dt.date):
        if pattern is not None:
            return cell.strftime(pattern)
        timed = isinstance(cell, dt.datetime) and cell.time() != dt.time()
        return (
            cell.isoformat(" ") if timed and isinstance(cell, dt.datetime) else f"{cell:%Y-%m-%d}"
        )
    if isinstance(cell, bytes | bytearray | memoryview):
        raise TypeError("binary")
    return str(cell)
