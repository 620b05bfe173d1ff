"""Rows of a database's table or query, through SQLAlchemy; its address is never shown or kept."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

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
    event,
    func,
    make_url,
    select,
    table,
    text,
)
from sqlalchemy.exc import DataError, SQLAlchemyError

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
from hejin_node.sql_size import CELL, bound, measured, rows_together, size_of
from hejin_trust.keys import read_private

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

_S = TypeVar("_S", bound="Select[*tuple[Any, ...]]")

#: A block ends with the first of both.
_BLOCK_ROWS: Final = 16_384
_BLOCK_BYTES: Final = 16 << 20
_MYSQL: Final = ("mysql", "mariadb")


class _UnreachableError(SQLAlchemyError):
    """No connection: its text names the driver's kind of error and nothing else."""


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
                parts = self._by_key if self.query.key else self._whole
                for block in _gathered(parts(connection, place)):
                    done = rows_before(block.place)
                    progress(min(done, self.rows), self.rows)
                    yield block
        except DataError:
            _refuse_value(self.url, self.query, self.columns)
        except SQLAlchemyError as reason:
            kind = _kind(reason)
            raise SourceGoneError(
                f"{self.name}: the database failed after {done} rows ({kind}). Nothing is visible "
                "of them yet; run the same command again, and it goes on where it can.",
                f"{self.name}：读取 {done} 行后数据库出错（{kind}）。已读部分尚不可见；"
                "请重新执行同一命令，将从中断处继续。",
            ) from None

    def _by_key(self, connection: Connection, place: Place | None) -> Iterator[Block]:
        last: int | str | None = place["key"] if place else self.after
        rows = rows_before(place)
        for part in _parts(connection, self.query, self.columns, last):
            keys = [row[len(self.columns)] for row in part]
            self._check_keys(last, keys)
            last = keys[-1]
            rows += len(part)
            by = str(self.query.key)
            yield Block(self._table(part), {"rows": rows, "key": last, "by": by})

    def _whole(self, connection: Connection, place: Place | None) -> Iterator[Block]:
        skip, rows = rows_before(place), 0
        digest = hashlib.sha256()
        for part in _parts(connection, self.query, self.columns, None):
            whole = self._table(part)
            _digest_rows(digest, whole)
            fresh = whole.slice(max(skip - rows, 0))
            rows += len(part)
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

    def _check_keys(self, last: int | str | None, keys: Sequence[object]) -> None:
        if not all(type(key) in (int, str) for key in keys):
            refuse(
                self.name,
                f"the key {self.query.key} must hold integers or texts; choose another column.",
                f"键列 {self.query.key} 应为整数或文本，请换用其他列。",
            )
        if len({last, *keys}) != len(keys) + 1:
            _refuse_twice(self.query)


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
                rows = _count(connection, query, after)
                # Are the columns there? Better now than after the loading began.
                connection.execute(_asked(connection, query, columns, after).limit(0)).all()
                told = json.dumps({"sql": query.name, "key": query.key, "after": after})
                digest = hashlib.sha256(told.encode("utf-8"))
            else:
                rows, digest = 0, hashlib.sha256()
                for part in _parts(connection, query, columns, None):
                    rows += len(part)
                    _digest_rows(digest, _table(name, part, columns, formats))
                if not rows:
                    refuse_empty(name)
    except DataError:
        _refuse_value(url, query, columns)
    except _UnreachableError as reason:
        refuse(
            name,
            f"the database cannot be reached, or does not let the user in ({reason}); check the "
            "address, its options, the user and the password.",
            f"无法连接数据库，或用户被拒绝（{reason}）；请检查地址及其参数、用户名与密码。",
        )
    except SQLAlchemyError as reason:
        kind = _kind(reason)
        refuse(
            name,
            f"the database does not answer the question ({kind}); check the names of table and "
            "columns in the mapping, and the user's rights.",
            f"数据库无法查询（{kind}）；请检查映射文件中的表名与列名及用户权限。",
        )
    found = digest.hexdigest()
    content = None if query.key else found
    return SqlSource(url, query, tuple(columns), formats, found, content, after, rows)


@contextmanager
def _connected(url: URL) -> Iterator[Connection]:
    """Connect, to read only."""
    engine = _engine(url)
    try:
        try:
            connection = engine.connect()
        except Exception as reason:  # noqa: BLE001 - an option that the driver does not know
            raise _UnreachableError(type(reason).__name__) from None
        with connection:
            if url.get_backend_name() in _MYSQL:
                connection.exec_driver_sql("SET SESSION TRANSACTION READ ONLY")
            if pymysql := url.get_driver_name() == "pymysql":
                from hejin_node.mysql_cursor import fetch_as_asked

                fetch_as_asked(connection.connection.driver_connection)
            # Others do not know such an option; a question in a SELECT changes nothing anyway.
            yield connection.execution_options(postgresql_readonly=True, stream_results=not pymysql)
    finally:
        engine.dispose()


def _kind(reason: SQLAlchemyError) -> str:
    return str(reason) if isinstance(reason, _UnreachableError) else type(reason).__name__


def _engine(url: URL) -> Engine:
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
        # SQLite would make an empty database there.
        raise IngestError(
            "The address names a SQLite file that is not there: correct it. Nothing was loaded.",
            "地址所指的 SQLite 文件不存在：请更正。未载入任何数据。",
        )
    try:
        engine = create_engine(url, hide_parameters=True)
    except (ImportError, SQLAlchemyError):
        driver = url.drivername
        raise IngestError(
            f"No driver for {driver} is installed: use postgresql+psycopg, mysql+pymysql or "
            "sqlite, or install it. Nothing was loaded.",
            f"未安装 {driver} 的驱动：请使用 postgresql+psycopg、mysql+pymysql 或 sqlite，"
            "或安装该驱动。未载入任何数据。",
        ) from None
    if url.get_backend_name() == "sqlite":
        event.listen(engine, "connect", lambda connection, _record: bound(connection))
    return engine


def _from(query: Query, columns: Sequence[str]) -> FromClause:
    if query.query is not None:
        # Inside a SELECT, and with no `;` (see mapping), it can change nothing; a colon would be
        # taken for a parameter.
        given = text(query.query.replace(":", "\\:"))
        return given.columns(*map(column, columns)).subquery("source")
    schema, _, name = (query.table or "").rpartition(".")
    return table(name, *map(column, columns), schema=schema or None)


def _asked(
    connection: Connection, query: Query, columns: Sequence[str], after: int | str | None
) -> Select[Any]:
    """Return the SELECT: the columns, with a key that too, and which of them is too long."""
    backend = connection.dialect.name
    origin = _from(query, _titles(query, columns))
    cells = [origin.c[name] for name in columns]
    if query.key is None:
        return select(*measured(backend, cells)).order_by(*_exactly(backend, cells))
    key = origin.c[query.key]
    found = select(*measured(backend, [*cells, key.label("hejin_key")]))
    return _after(found, key, after).order_by(key)


def _titles(query: Query, columns: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(columns if query.key is None else (*columns, query.key)))


def _exactly(backend: str, cells: Sequence[ColumnElement[Any]]) -> Iterable[ColumnElement[Any]]:
    """Return by what rows are sorted so that only equal ones change places."""
    # MySQL takes texts for equal that differ in case, accents or after 1,024 bytes.
    return (func.sha2(one, 256) for one in cells) if backend in _MYSQL else cells


def _after(found: _S, key: ColumnElement[Any], after: int | str | None) -> _S:
    return found if after is None else found.where(key > after)


def _parts(
    connection: Connection, query: Query, columns: Sequence[str], after: int | str | None
) -> Iterator[Sequence[Row[Any]]]:
    """Yield rows in their order, as many as may be fetched at once; refuse one that is too long."""
    titles = list(columns) if query.key is None else [*columns, query.key]
    most = min(rows_together(len(titles)), _BLOCK_ROWS)
    with connection.execute(_asked(connection, query, columns, after)) as found:
        try:
            for part in found.partitions(most):
                if long := next((row[-1] for row in part if row[-1]), 0):
                    _refuse_long(query, titles[long - 1])
                yield part
        except BaseException:
            # What is still to come is given up with the connection, not read to its end.
            connection.invalidate()
            raise


def _gathered(parts: Iterator[Block]) -> Iterator[Block]:
    """Yield blocks of some size in place of what was fetched at once."""
    waiting: list[pa.Table] = []
    rows = held = 0
    for part in parts:
        waiting.append(part.table)
        rows += part.table.num_rows
        held += part.table.nbytes
        if rows >= _BLOCK_ROWS or held >= _BLOCK_BYTES:
            yield Block(pa.concat_tables(waiting).combine_chunks(), part.place)
            waiting, rows, held = [], 0, 0
    if waiting:
        yield Block(pa.concat_tables(waiting).combine_chunks(), part.place)


def _count(connection: Connection, query: Query, after: int | str | None) -> int:
    """Return how many rows are after a key; refuse a key that comes twice, or not at all."""
    origin = _from(query, (str(query.key),))
    key = origin.c[str(query.key)]
    # The database says what it takes for the same, as 'a' and 'A': one of them would not be read.
    counted = _after(select(func.count(key), func.count(key.distinct())), key, after)
    rows, different = connection.execute(counted).one()
    without = select(func.count()).select_from(origin).where(key.is_(None))
    none = connection.execute(without).scalar_one()
    if none:
        refuse(
            f"sql:{query.name}",
            f"{none} rows have no {query.key}, so that they would never be read; "
            "choose another key column, or none.",
            f"{none} 行没有键值 {query.key}，将永远无法读取；请换用其他列或不设键。",
        )
    if rows != different:
        _refuse_twice(query)
    return int(rows)


def _refuse_twice(query: Query) -> NoReturn:
    refuse(
        f"sql:{query.name}",
        f"the key {query.key} is not unique, rows could be lost; choose another column, or none.",
        f"键列 {query.key} 的值有重复，可能漏行；请换用其他列或不设键。",
    )


def _refuse_long(query: Query, title: str) -> NoReturn:
    refuse(
        f"sql:{query.name}",
        f"column {title} holds a value of more than {CELL >> 10} KB; shorten it with a `query`, or "
        "choose another column.",
        f"列 {title} 有超过 {CELL >> 10} KB 的值，请用 `query` 截短，或换用其他列。",
    )


def _refuse_value(url: URL, query: Query, columns: Sequence[str]) -> NoReturn:
    """Refuse a value that a driver cannot read; in SQLite it was too long even to be measured."""
    if url.get_backend_name() == "sqlite":
        titles = _titles(query, columns)
        origin = _from(query, titles)
        for title in titles:
            try:
                with _connected(url) as connection:
                    longest = connection.execute(
                        select(func.max(size_of("sqlite", origin.c[title])))
                    ).scalar_one()
            except DataError:
                _refuse_long(query, title)
            except SQLAlchemyError:
                break
            if longest is not None and longest > CELL:
                _refuse_long(query, title)
    refuse(
        f"sql:{query.name}",
        "it holds a value that cannot be read, such as a date after the year 9999 or of infinity; "
        "leave it out with a `query`.",
        "含有无法读取的值（如 9999 年之后或无穷的日期），请用 `query` 排除。",
    )


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
