"""DuckDB behind bars: no files, no network, no extensions, bounded memory and time, one SELECT."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, wait
from contextlib import contextmanager
from typing import Final, TypeVar

import duckdb
import pyarrow as pa
import structlog

from hejin_node.errors import QueryError, ViewFailedError
from hejin_trust.text import Text

T = TypeVar("T")

DEFAULT_MEMORY_MB = 256
"""What `full-v1` needs over a partition of the warehouse, and half as much again."""
_THREADS = 2
GRACE_SECONDS = 5.0
"""What an interrupted query gets to end. DuckDB looks between two batches of rows, not within."""
_LOOK_SECONDS: Final = 0.1
REMEDY = Text(" Correct the view's `source`.", "请更正视图的 `source`。")
"""The end of what is said about SQL that cannot be run; other SQL than a view's ends otherwise."""

#: Errors about the text of a query, before it runs; others may quote the data.
_ABOUT_THE_SQL = (
    duckdb.ParserException,
    duckdb.BinderException,
    duckdb.CatalogException,
    duckdb.PermissionException,
)

_log = structlog.get_logger(__name__)


@contextmanager
def locked_down(memory_mb: int = DEFAULT_MEMORY_MB) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open an in-memory DuckDB that can reach nothing but the tables registered with it.

    memory_mb  what it may hold, MB; it never spills to disk, where rows would lie in the clear
    """
    settings: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "enable_external_access": "false",
        "python_enable_replacements": "false",
        "temp_directory": "",
        "memory_limit": f"{memory_mb}MB",
        "threads": str(_THREADS),
    }
    with duckdb.connect(":memory:", config=settings) as connection:
        connection.execute("SET enable_progress_bar = false")
        connection.execute("SET lock_configuration = true")
        yield connection


@contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C during a query be what it is elsewhere, and no error of the query."""
    try:
        yield
    except duckdb.InterruptException:
        raise KeyboardInterrupt from None
    except RuntimeError as reason:
        if str(reason) != "Query interrupted":
            raise
        raise KeyboardInterrupt from None


def in_time(
    seconds: float,
    late: QueryError,
    work: Callable[[duckdb.DuckDBPyConnection], T],
    memory_mb: int = DEFAULT_MEMORY_MB,
) -> T:
    """Return what `work` makes of a locked-down DuckDB of its own, in so many seconds at most.

    It runs in a thread of its own: an interrupt in there is this limit's, Ctrl-C out here is
    Ctrl-C. What heeds no interrupt (one long function call over one row, a disk that hangs) is
    left behind and goes on being interrupted; it keeps its core and its files until it ends.
    raises   `late` if it takes longer; whatever `work` raises
    """
    outcome: Future[T] = Future()
    held: list[duckdb.DuckDBPyConnection] = []
    lock = threading.Lock()  # nobody interrupts a connection that is being closed

    def run() -> None:
        try:
            with locked_down(memory_mb) as connection:
                held.append(connection)
                try:
                    found = work(connection)
                finally:
                    with lock:
                        held.clear()
        except BaseException as reason:  # noqa: BLE001 - it is the caller's
            outcome.set_exception(reason)
        else:
            outcome.set_result(found)

    def interrupt() -> None:
        while not _done(outcome, _LOOK_SECONDS):  # an interrupt between two queries is lost
            with lock:
                for connection in held:
                    connection.interrupt()

    query = threading.Thread(target=run, name="query", daemon=True)
    query.start()
    try:
        if _done(outcome, seconds):
            return outcome.result()
        raise late
    finally:
        threads = [query]
        if not outcome.done():
            threads.append(threading.Thread(target=interrupt, name="interrupt", daemon=True))
            threads[1].start()
        if _done(outcome, GRACE_SECONDS):
            for thread in threads:  # what DuckDB still tidies up as Python ends would abort it
                thread.join()
        else:
            said = Text(
                "a query heeds no interrupt and keeps a core until this process ends: restart it",
                "有一个查询不响应中断，在本进程结束前持续占用 CPU：请重启进程",
            )
            _log.error("query-left-behind", reason=str(said))


def _done(outcome: Future[T], seconds: float) -> bool:
    """Wait for an outcome; a signal that comes just before a long wait would be slept through.

    Not for its thread: Python 3.11 takes one for ended whose `join` Ctrl-C interrupts.
    """
    until = time.monotonic() + seconds
    while not outcome.done() and (left := until - time.monotonic()) > 0:
        wait([outcome], min(left, _LOOK_SECONDS))
    return outcome.done()


class Rewindable:
    """A source of batches that DuckDB may scan again: it asks for a new stream each time.

    A plain RecordBatchReader is empty at its second scan, so a view that reads a data set
    twice would silently see nothing. `failure` keeps what stopped a stream: DuckDB would
    put it, values and all, into a message of its own.
    """

    def __init__(self, schema: pa.Schema, batches: Callable[[], Iterator[pa.RecordBatch]]) -> None:
        self._schema = schema
        self._batches = batches
        self.failure: Exception | None = None

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Return a new stream of all batches (Arrow PyCapsule interface)."""
        reader = pa.RecordBatchReader.from_batches(self._schema, self._watched())
        return reader.__arrow_c_stream__(requested_schema)

    def _watched(self) -> Iterator[pa.RecordBatch]:
        try:
            yield from self._batches()
        except Exception as reason:
            self.failure = reason
            raise


def select(
    connection: duckdb.DuckDBPyConnection,
    sql: str,
    sources: Mapping[str, pa.Table | Rewindable],
    parameters: Mapping[str, object] | None = None,
) -> pa.Table:
    """Run one SELECT over `sources` and return its result.

    parameters  values that the SQL may use as $name; those it does not use are left out
    raises      QueryError, which never repeats data; whatever a source's stream raised
    """
    running = False
    try:
        statements = connection.extract_statements(sql)
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise QueryError(
                "The SQL must be exactly one SELECT: correct the view's `source`.",
                "SQL 必须恰为一条 SELECT 语句：请更正视图的 `source`。",
            )
        given = parameters or {}
        absent = sorted(statements[0].named_parameters - given.keys())
        if absent:
            names = ", ".join(f"${name}" for name in absent)
            raise QueryError(
                f"The SQL needs a value for {names}: the plan must state it.",
                f"SQL 需要参数 {names} 的值：须由计划给出。",
            )
        used = {name: given[name] for name in statements[0].named_parameters}
        with interruptible():
            for name, source in sources.items():
                connection.register(name, source)
            found = connection.sql(sql, params=used or None)
            running = True
            table: pa.Table = found.to_arrow_table()
    except duckdb.Error as reason:
        for source in sources.values():
            if isinstance(source, Rewindable) and source.failure is not None:
                raise source.failure from None
        raise _clean(reason, running) from None
    finally:
        # DuckDB would hold these rows until the next ones take their name.
        for name in sources:
            connection.unregister(name)
    return table


def _clean(reason: duckdb.Error, running: bool) -> QueryError:
    """Return what may be said of an error; once the SQL is running, every one is about the rows."""
    if isinstance(reason, duckdb.OutOfMemoryException):
        return ViewFailedError(
            "The SQL needs more memory than the node allows it: simplify the view's `source`, "
            "or raise the node's query memory.",
            "SQL 所需内存超过节点上限：请简化视图的 `source` 或调高节点查询内存。",
        )
    if not running and isinstance(reason, _ABOUT_THE_SQL):
        said = str(reason).splitlines()[0]
        return QueryError(
            f"The SQL cannot be run: {said}.{REMEDY.en}",
            f"SQL 无法执行：{said}。{REMEDY.zh}",
        )
    kind = type(reason).__name__
    return ViewFailedError(
        f"The SQL failed on the data ({kind}): use try_cast and nullif in the view's `source` "
        "where a value may not convert.",
        f"SQL 在数据上执行失败（{kind}）：请在视图的 `source` 中"
        "对可能无法转换的值使用 try_cast、nullif。",
    )
