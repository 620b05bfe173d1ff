"""Rows of a database's table or query, through SQLAlchemy; its address is never shown or kept."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
from sqlalchemy import (
    URL,
    ColumnElement,
    Connection,
    Engine,
    FromClause,
    Row,
    Select,
    column,
    create_engine,
    func,
    make_url,
    select,
    table,
    text,
)
from sqlalchemy.exc import SQLAlchemyError

from hejin_node.errors import IngestError, SourceGoneError
from hejin_node.sources import (
    Block,
    Place,
    Progress,
    Query,
    refuse,
    refuse_empty,
    rows_before,
    spelled,
)
from hejin_trust.keys import read_private

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

_PAGE: Final = 16_384


@dataclass(frozen=True, slots=True)
class SqlSource:
    """A table or query that was looked at.

    digest   without key that of the content; with key, of the query and where it goes on after:
             what is behind a key never changes
    content  without key: hex SHA-256 of all rows, whatever their order in the database; else None
    after    the key's value at the end of the last load, None at the first
    rows     how many there are to read
    """

    url: URL
    query: Query
    columns: Sequence[str]
    formats: Mapping[str, str]
    digest: str
    content: str | None
    after: int | str | None
    rows: int

    @property
    def name(self) -> str:
        """`sql:` and the query's name."""
        return f"sql:{self.query.name}"

    def blocks(self, place: Place | None, progress: Progress) -> Generator[Block]:
        """Yield the rows after `place`; see `sources.Source`.

        raises   SourceGoneError: the database failed; what was read can be kept
        """
        done = rows_before(place)
        try:
            with _connected(self.url) as connection:
                pages = self._by_key if self.query.key else self._whole
                for block in pages(connection, place):
                    done = rows_before(block.place)
                    progress(min(done, self.rows), self.rows)
                    yield block
        except SQLAlchemyError as reason:
            kind = type(reason).__name__
            raise SourceGoneError(
                f"{self.name}: the database failed after {done} rows ({kind}). Nothing is visible "
                "of them yet; run the same command again, and it goes on where it can.",
                f"{self.name}：读取 {done} 行后数据库出错（{kind}）。已读部分尚不可见；"
                "请重新执行同一命令，将从中断处继续。",
            ) from None

    def _by_key(self, connection: Connection, place: Place | None) -> Iterator[Block]:
        key: int | str | None = place["key"] if place else self.after
        rows = rows_before(place)
        while True:
            page = connection.execute(_page(self.query, self.columns, key)).all()
            connection.rollback()
            fresh = page[:_PAGE]
            if not fresh:
                return
            keys = [row[-1] for row in page]
            self._check_keys(keys)
            key = keys[len(fresh) - 1]
            rows += len(fresh)
            yield Block(self._table(fresh), {"rows": rows, "key": key})
            if len(page) <= _PAGE:
                return

    def _whole(self, connection: Connection, place: Place | None) -> Iterator[Block]:
        skip, rows = rows_before(place), 0
        digest = hashlib.sha256()
        for page in _pages(connection, _sorted(self.query, self.columns)):
            whole = self._table(page)
            _digest_rows(digest, whole)
            fresh = whole.slice(max(skip - rows, 0))
            rows += len(page)
            if fresh.num_rows:
                yield Block(fresh, {"rows": rows, "content": str(self.content)})
        if digest.hexdigest() != self.content:
            refuse(
                self.name,
                "its rows changed while they were read; try again, or give a `key`.",
                "读取期间数据发生变化，请重试，或在映射文件中写明 `key`。",
            )

    def _table(self, rows: Sequence[Row[Any]]) -> pa.Table:
        return _table(self.name, rows, self.columns, self.formats)

    def _check_keys(self, keys: Sequence[object]) -> None:
        if not all(type(key) in (int, str) for key in keys):
            refuse(
                self.name,
                f"the key {self.query.key} must hold integers or texts; choose another column.",
                f"键列 {self.query.key} 应为整数或文本，请换用其他列。",
            )
        if len(set(keys)) != len(keys):
            refuse(
                self.name,
                f"the key {self.query.key} is not unique, rows could be lost; choose another "
                "column, or none.",
                f"键列 {self.query.key} 的值有重复，可能漏行；请换用其他列或不设键。",
            )


def url_in_file(file: Path) -> URL:
    """Return the address in a file that only its owner reads; raises IngestError, KeyFileError."""
    return _url(read_private(file).decode("utf-8", "replace").strip())


def url_in_environment(variable: str) -> URL:
    """Return the address in an environment variable; raises IngestError."""
    return _url(os.environ.get(variable, ""))


def _url(given: str) -> URL:
    """Return a database's address; IngestError, which does not repeat it, if it is none."""
    try:
        return make_url(given)
    except (SQLAlchemyError, ValueError):
        raise IngestError(
            "The database's address is empty or no SQLAlchemy URL, such as "
            "postgresql+psycopg://USER:PASSWORD@HOST/DATABASE: correct the variable or file.",
            "数据库地址为空或不是 SQLAlchemy URL（如 "
            "postgresql+psycopg://用户:密码@主机/库名）：请更正变量或文件。",
        ) from None


def open_query(
    url: URL,
    query: Query,
    columns: Sequence[str],
    formats: Mapping[str, str],
    after: int | str | None,
) -> SqlSource:
    """Look at a query: are its columns there, how many rows are new, and are they known?

    after    where the last load of this name ended
    raises   IngestError
    """
    name = f"sql:{query.name}"
    try:
        with _connected(url) as connection:
            if query.key:
                rows, none = _count(connection, query, after)
                if none:
                    refuse(
                        name,
                        f"{none} rows have no {query.key}, so that they would never be read; "
                        "choose another key column, or none.",
                        f"{none} 行没有键值 {query.key}，将永远无法读取；请换用其他列或不设键。",
                    )
                # Are the columns there? Better now than after the loading began.
                connection.execute(_page(query, columns, after).limit(0)).all()
                told = json.dumps({"sql": query.name, "key": query.key, "after": after})
                digest = hashlib.sha256(told.encode("utf-8"))
            else:
                rows, digest = 0, hashlib.sha256()
                for page in _pages(connection, _sorted(query, columns)):
                    rows += len(page)
                    _digest_rows(digest, _table(name, page, columns, formats))
                if not rows:
                    refuse_empty(name)
    except SQLAlchemyError as reason:
        kind = type(reason).__name__
        refuse(
            name,
            f"the database does not answer the question ({kind}); check its address, the names of "
            "table and columns in the mapping, and the user's rights.",
            f"数据库无法查询（{kind}）；请检查地址、映射文件中的表名与列名及用户权限。",
        )
    found = digest.hexdigest()
    content = None if query.key else found
    return SqlSource(url, query, tuple(columns), formats, found, content, after, rows)


@contextmanager
def _connected(url: URL) -> Iterator[Connection]:
    engine = _engine(url)
    try:
        with engine.connect() as connection:
            # Others do not know the option; a question inside a SELECT changes nothing anyway.
            yield connection.execution_options(postgresql_readonly=True)
    finally:
        engine.dispose()


def _engine(url: URL) -> Engine:
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
        # SQLite would make an empty database there.
        raise IngestError(
            "The address names a SQLite file that is not there: correct it. Nothing was loaded.",
            "地址所指的 SQLite 文件不存在：请更正。未载入任何数据。",
        )
    try:
        return create_engine(url, hide_parameters=True)
    except (ImportError, SQLAlchemyError):
        driver = url.drivername
        raise IngestError(
            f"No driver for {driver} is installed: use postgresql+psycopg, mysql+pymysql or "
            "sqlite, or install it. Nothing was loaded.",
            f"未安装 {driver} 的驱动：请使用 postgresql+psycopg、mysql+pymysql 或 sqlite，"
            "或安装该驱动。未载入任何数据。",
        ) from None


def _from(query: Query, columns: Sequence[str]) -> FromClause:
    if query.query is not None:
        # Inside a SELECT, and with no `;` (see mapping), it can change nothing; a colon would be
        # taken for a parameter.
        given = text(query.query.replace(":", "\\:"))
        return given.columns(*map(column, columns)).subquery("source")
    schema, _, name = (query.table or "").rpartition(".")
    return table(name, *map(column, columns), schema=schema or None)


def _sorted(query: Query, columns: Sequence[str]) -> Select[Any]:
    origin = _from(query, columns)
    return select(*(origin.c[name] for name in columns)).order_by(
        *(origin.c[name] for name in columns)
    )


def _page(query: Query, columns: Sequence[str], after: int | str | None) -> Select[Any]:
    """Return a page's SELECT: one row more than a page, and the key as the last column."""
    origin, key = _keyed(query, columns)
    found = select(*(origin.c[name] for name in columns), key.label("hejin_key"))
    return _after(found, key, after).order_by(key).limit(_PAGE + 1)


def _keyed(query: Query, columns: Sequence[str]) -> tuple[FromClause, ColumnElement[Any]]:
    name = str(query.key)
    origin = _from(query, tuple(dict.fromkeys((*columns, name))))
    return origin, origin.c[name]


def _after(found: Select[Any], key: ColumnElement[Any], after: int | str | None) -> Select[Any]:
    return found if after is None else found.where(key > after)


def _pages(connection: Connection, statement: Select[Any]) -> Iterator[Sequence[Row[Any]]]:
    streamed = connection.execution_options(stream_results=True, yield_per=_PAGE)
    with streamed.execute(statement) as found:
        yield from found.partitions()


def _count(connection: Connection, query: Query, after: int | str | None) -> tuple[int, int]:
    """Return how many rows are after a key, and how many have none."""
    origin, key = _keyed(query, ())
    rows = connection.execute(
        _after(select(func.count()).select_from(origin), key, after)
    ).scalar_one()
    none = connection.execute(
        select(func.count()).select_from(origin).where(key.is_(None))
    ).scalar_one()
    return int(rows), int(none)


def _table(
    name: str, rows: Sequence[Row[Any]], columns: Sequence[str], formats: Mapping[str, str]
) -> pa.Table:
    cells = {}
    for place, title in enumerate(columns):
        pattern = formats.get(title)
        try:
            cells[title] = pa.array([spelled(row[place], pattern) for row in rows], pa.string())
        except (TypeError, ValueError):
            refuse(
                name,
                f"column {title} is binary or no text; choose another column.",
                f"列 {title} 为二进制或非文本，请换用其他列。",
            )
    return pa.table(cells)


def _digest_rows(digest: Hash, rows: pa.Table) -> None:
    for row in zip(*(cells.to_pylist() for cells in rows.columns), strict=True):
        digest.update(json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass"))
