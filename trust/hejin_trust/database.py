"""A role's own SQLite database: opening, migrating, transactions, and clear storage errors."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from weakref import WeakKeyDictionary

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.pool import ConnectionPoolEntry

from hejin_trust.errors import HejinError

BUSY_TIMEOUT_SECONDS = 30.0
_BEGIN = "hejin_begin"
_MIGRATION_ENV = Path(__file__).parent / "migration_env"
# Alembic keeps its running context in module globals: one migration at a time a process.
_migrating = threading.Lock()
# One transaction writes at a time. Left to SQLite, threads would wait for it asleep, up to 0.1 s
# beyond its end.
_turns: WeakKeyDictionary[Engine, threading.Lock] = WeakKeyDictionary()


class StorageError(HejinError):
    """The database could not be read or written; nothing of the transaction was kept."""

    code = "storage-failed"


#: Primary SQLite result codes (sqlite.org/rescode.html) a person can do something about.
_REASONS: dict[int, tuple[str, str]] = {
    sqlite3.SQLITE_FULL: (
        "The disk is full: free some space and try again.",
        "磁盘已满：请清理空间后重试。",
    ),
    sqlite3.SQLITE_BUSY: (
        f"Another process held it for more than {BUSY_TIMEOUT_SECONDS:.0f} s: try again.",
        f"其他进程占用超过 {BUSY_TIMEOUT_SECONDS:.0f} 秒：请重试。",
    ),
    sqlite3.SQLITE_READONLY: (
        "It may only be read: check the owner and rights of the file and folder.",
        "数据库只读：请检查文件与目录的属主和权限。",
    ),
    sqlite3.SQLITE_IOERR: (
        "The disk reported an error: check the disk and the free space.",
        "磁盘读写出错：请检查磁盘及剩余空间。",
    ),
    sqlite3.SQLITE_CANTOPEN: (
        "It cannot be opened: check that the folder exists and who may write in it.",
        "无法打开：请检查目录是否存在及其写权限。",
    ),
    sqlite3.SQLITE_CORRUPT: (
        "The file is damaged: restore it from a backup.",
        "文件已损坏：请从备份恢复。",
    ),
    sqlite3.SQLITE_NOTADB: (
        "The file is not a database: check the path.",
        "该文件不是数据库：请检查路径。",
    ),
}


def _storage_error(path: str | None, cause: BaseException | None) -> StorageError:
    code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
    reason = _REASONS.get(
        code,
        (
            f"SQLite reported {getattr(cause, 'sqlite_errorname', 'an unknown error')}.",
            f"SQLite 报告 {getattr(cause, 'sqlite_errorname', '未知错误')}。",
        ),
    )
    return _unusable(path, *reason)


def _unusable(path: str | None, en: str, zh: str) -> StorageError:
    return StorageError(
        f"The database {path} could not be used; nothing was changed. {en}",
        f"数据库 {path} 无法使用，未作任何更改。{zh}",
    )


def open_database(path: Path, migrations: Path) -> Engine:
    """Open (or make) the database file at `path` and bring it to the newest schema.

    migrations  a role's Alembic folder: holds `versions/NNNN_*.py`, nothing else is needed
    returns     an engine for `writing` and `reading`: WAL, synchronous=FULL, foreign keys on
    raises      StorageError; a database written by a newer Hejin is refused

    Several processes may open the same file at once: the migration runs inside one
    BEGIN IMMEDIATE transaction, so it happens once and wholly or not at all.
    """
    _own_file(path)
    engine = _engine(path)
    try:
        _migrate(engine, migrations)
    except BaseException:
        engine.dispose()
        raise
    return engine


def open_existing(path: Path) -> Engine:
    """Open a database file as it is, whoever else works with it; StorageError if there is none.

    For tools that look at a member from outside: nothing is made or migrated.
    """
    if not path.is_file():
        raise StorageError(
            f"There is no database {path}: run join first, or name another folder.",
            f"没有数据库 {path}：请先执行 join，或指定其他目录。",
        )
    return _engine(path)


def _engine(path: Path) -> Engine:
    engine = create_engine(
        URL.create("sqlite+pysqlite", database=str(path)),
        connect_args={"timeout": BUSY_TIMEOUT_SECONDS},
        # SQLAlchemy would otherwise quote a statement's values in its messages.
        hide_parameters=True,
    )
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    _turns[engine] = threading.Lock()
    return engine


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Run one write transaction: BEGIN IMMEDIATE, commit (fsynced) at the end, else roll back.

    Raises StorageError where the disk or another process stands in the way.
    """
    turn = _turns[engine]
    if not turn.acquire(timeout=BUSY_TIMEOUT_SECONDS):
        raise _unusable(engine.url.database, *_REASONS[sqlite3.SQLITE_BUSY])
    try:
        with _transaction(engine, "IMMEDIATE") as connection:
            yield connection
    finally:
        turn.release()


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Run one read transaction: a consistent picture; writing in it is an error."""
    with _transaction(engine, "DEFERRED") as connection:
        yield connection


def erase_deleted(engine: Engine) -> None:
    """Empty the write-ahead log: deleted rows are overwritten in the file, but not there.

    Without effect while another connection reads; the next call, or closing, does it then.
    raises   StorageError
    """
    # It takes the writer's lock, and would keep it while it waits for a reader.
    _at_once(engine, "PRAGMA wal_checkpoint(TRUNCATE)", wait_seconds=0.0)


def compact(engine: Engine) -> None:
    """Write the database anew without the space that deleted rows left; needs as much again.

    Waits for others that write. raises   StorageError: nothing was changed
    """
    _at_once(engine, "VACUUM")
    erase_deleted(engine)


def copy_database(engine: Engine, path: Path) -> None:
    """Write what the database holds at this moment into a new file, while others go on with it.

    The copy has no free pages, where deleted rows could linger.
    raises   StorageError: `path` exists and is not empty, or the disk is full
    """
    _own_file(path)
    _at_once(engine, "VACUUM INTO ?", parameters=(str(path),))


def _at_once(
    engine: Engine,
    statement: str,
    wait_seconds: float = BUSY_TIMEOUT_SECONDS,
    parameters: tuple[str, ...] = (),
) -> None:
    """Run a statement that SQLite does not allow inside a transaction."""
    connection = engine.raw_connection()
    try:
        connection.cursor().execute(f"PRAGMA busy_timeout={round(1000 * wait_seconds)}")
        # `reading` leaves the connection so that nothing can be written.
        connection.cursor().execute("PRAGMA query_only=OFF")
        connection.cursor().execute(statement, parameters)
    except sqlite3.Error as reason:
        raise _storage_error(engine.url.database, reason) from reason
    finally:
        usual = round(1000 * BUSY_TIMEOUT_SECONDS)
        connection.cursor().execute(f"PRAGMA busy_timeout={usual}")
        connection.close()


@contextmanager
def _transaction(engine: Engine, begin: str) -> Iterator[Connection]:
    try:
        with engine.connect() as connection:
            connection = connection.execution_options(**{_BEGIN: begin})
            with connection.begin():
                yield connection
    except IntegrityError:
        raise
    except DBAPIError as reason:
        raise _storage_error(engine.url.database, reason.orig) from reason


def _own_file(path: Path) -> None:
    """Make the file before SQLite does, readable by its owner only (SQLite copies the mode)."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        path.chmod(0o600)
    except OSError as reason:
        raise StorageError(
            f"The database {path} could not be opened: {reason.strerror}. "
            "Check that the folder exists and who may write in it.",
            f"无法打开数据库 {path}：{reason.strerror}。请检查目录是否存在及其写权限。",
        ) from reason


def _prepare(connection: sqlite3.Connection, _record: ConnectionPoolEntry) -> None:
    # SQLAlchemy's recipe for SQLite: the driver must not begin transactions by itself.
    connection.isolation_level = None
    # Changing to WAL does not wait for other processes, whatever the busy timeout says.
    deadline = time.monotonic() + BUSY_TIMEOUT_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            break
        except sqlite3.OperationalError as reason:
            if reason.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")
    # Keys of a run that is over must not linger in free pages.
    connection.execute("PRAGMA secure_delete=ON")


def _begin(connection: Connection) -> None:
    begin = connection.get_execution_options().get(_BEGIN, "DEFERRED")
    connection.exec_driver_sql(f"PRAGMA query_only={'OFF' if begin == 'IMMEDIATE' else 'ON'}")
    connection.exec_driver_sql(f"BEGIN {begin}")


def _migrate(engine: Engine, migrations: Path) -> None:
    config = Config()
    # ConfigParser reads "%" as the start of an interpolation.
    config.set_main_option("script_location", str(_MIGRATION_ENV).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", str(migrations / "versions").replace("%", "%%"))
    known = ScriptDirectory.from_config(config)
    with reading(engine) as connection:
        if _revisions(connection, engine, known) == set(known.get_heads()):
            return
    with _migrating, writing(engine) as connection:
        if _revisions(connection, engine, known) != set(known.get_heads()):
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def _revisions(connection: Connection, engine: Engine, known: ScriptDirectory) -> set[str]:
    """Return the database's schema revisions; refuse one that this version does not know."""
    current = set(MigrationContext.configure(connection).get_current_heads())
    unknown = current - {script.revision for script in known.walk_revisions()}
    if unknown:
        found = ", ".join(sorted(unknown))
        raise StorageError(
            f"The database {engine.url.database} has schema {found}, "
            "written by a newer Hejin: install that version.",
            f"数据库 {engine.url.database} 的结构版本 {found} 来自更新的 Hejin：请安装该版本。",
        )
    return current
