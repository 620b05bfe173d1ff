"""What a verification must remember, on disk: a temporary SQLite file of flat, typed rows."""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Final, Generic, TypeVar

_Value = TypeVar("_Value")
Cell = str | int | float | bytes | None

_BATCH: Final = 500
"""Rows a table waits for: they go to SQLite together."""

_SCHEMA: Final = """
CREATE TABLE plan (bank TEXT, digest TEXT, purpose TEXT, family TEXT, seq INTEGER,
    PRIMARY KEY (bank, digest)) WITHOUT ROWID;
CREATE TABLE accept (node TEXT, run TEXT, round INTEGER, bank TEXT, seq INTEGER, plan TEXT,
    round_ctx TEXT, reservation INTEGER, header TEXT, vector TEXT, proof_size INTEGER, time TEXT);
CREATE TABLE ended (bank TEXT, seq INTEGER, kind TEXT, run TEXT, round INTEGER, digest TEXT,
    body TEXT, plan TEXT, round_ctx TEXT);
CREATE INDEX ended_digest ON ended (digest);
CREATE INDEX ended_round ON ended (bank, run, round);
CREATE TABLE roster (bank TEXT, run TEXT, plan TEXT, line INTEGER, body TEXT,
    PRIMARY KEY (bank, run)) WITHOUT ROWID;
CREATE TABLE asked (bank TEXT, run TEXT, round INTEGER, digest TEXT, plan TEXT, part TEXT,
    mechanism BLOB, previous TEXT, PRIMARY KEY (bank, run, round)) WITHOUT ROWID;
CREATE TABLE model (bank TEXT, seq INTEGER, run TEXT, plan TEXT);
CREATE TABLE named (member TEXT, file TEXT);
CREATE TABLE unasked (bank TEXT, run TEXT, round INTEGER, node TEXT, seq INTEGER, query TEXT);
CREATE TABLE sent (node TEXT, run TEXT, round INTEGER, seq INTEGER, bank TEXT, plan TEXT,
    round_ctx TEXT, reservation INTEGER, header TEXT, vector TEXT, receipt INTEGER, word TEXT,
    covered INTEGER, lapsed INTEGER);
CREATE TABLE snapshot (seq INTEGER PRIMARY KEY, time TEXT, bank TEXT, plan TEXT,
    authorisations TEXT, internal_size INTEGER);
CREATE TABLE scope (id INTEGER PRIMARY KEY, words TEXT UNIQUE);
CREATE TABLE fitting (id INTEGER PRIMARY KEY);
CREATE TABLE granted (seq INTEGER PRIMARY KEY, time TEXT, enterprise TEXT, scope INTEGER,
    valid_from TEXT, valid_to TEXT, revoked INTEGER, revoked_time TEXT);
CREATE TABLE label_request (node TEXT, session TEXT, seq INTEGER, time TEXT, bank TEXT,
    size INTEGER, slots INTEGER, leaf TEXT, question TEXT);
CREATE INDEX label_request_session ON label_request (node, session);
CREATE TABLE label_ask (node TEXT, session TEXT, seq INTEGER, bank TEXT, request TEXT,
    question TEXT, content TEXT);
CREATE INDEX label_ask_session ON label_ask (node, session);
CREATE TABLE label_answer (bank TEXT, seq INTEGER, node TEXT, session TEXT, content TEXT,
    proof_size INTEGER);
CREATE INDEX label_answer_session ON label_answer (node, session);
CREATE TABLE summed (reservation INTEGER, seq INTEGER, time TEXT, since TEXT, bank TEXT, plan TEXT,
    lost INTEGER);
CREATE TABLE used (reservation INTEGER, seq INTEGER, authorisations TEXT, internal_size INTEGER);
CREATE TABLE accounted (reservation INTEGER, seq INTEGER);
CREATE INDEX used_reservation ON used (reservation);
CREATE INDEX summed_reservation ON summed (reservation);
CREATE INDEX accounted_reservation ON accounted (reservation);
CREATE TABLE noise (period TEXT, plan TEXT, part TEXT, multiplier REAL, multiplier_alone REAL,
    count INTEGER, cost REAL, cost_alone REAL);
CREATE TABLE cosigned (member TEXT, size INTEGER, time TEXT);
CREATE TABLE claim (member TEXT, log TEXT, size INTEGER, root BLOB, kind TEXT, by TEXT,
    seq INTEGER, file TEXT);
"""

_INSERT: Final = {
    "plan": "INSERT OR IGNORE INTO plan VALUES (?,?,?,?,?)",
    "accept": "INSERT INTO accept VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
    "ended": "INSERT INTO ended VALUES (?,?,?,?,?,?,?,?,?)",
    "roster": "INSERT INTO roster VALUES (?,?,?,?,?)",
    "asked": "INSERT OR IGNORE INTO asked VALUES (?,?,?,?,?,?,?,?)",
    "model": "INSERT INTO model VALUES (?,?,?,?)",
    "named": "INSERT INTO named VALUES (?,?)",
    "unasked": "INSERT INTO unasked VALUES (?,?,?,?,?,?)",
    "sent": "INSERT INTO sent VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
    "snapshot": "INSERT INTO snapshot VALUES (?,?,?,?,?,?)",
    "granted": "INSERT INTO granted VALUES (?,?,?,?,?,?,NULL,NULL)",
    "label_request": "INSERT INTO label_request VALUES (?,?,?,?,?,?,?,?,?)",
    "label_ask": "INSERT INTO label_ask VALUES (?,?,?,?,?,?,?)",
    "label_answer": "INSERT INTO label_answer VALUES (?,?,?,?,?,?)",
    "summed": "INSERT INTO summed VALUES (?,?,?,?,?,?,?)",
    "used": "INSERT INTO used VALUES (?,?,?,?)",
    "accounted": "INSERT INTO accounted VALUES (?,?)",
    "noise": "INSERT INTO noise VALUES (?,?,?,?,?,?,?,?)",
    "cosigned": "INSERT INTO cosigned VALUES (?,?,?)",
    "claim": "INSERT INTO claim VALUES (?,?,?,?,?,?,?,?)",
}


class Workbook:
    """The rows of one verification; gone, with its folder, when it is closed."""

    def __init__(self) -> None:
        self._folder = TemporaryDirectory(prefix="hejin-verify-")
        self._database = sqlite3.connect(self.folder / "workbook.db", isolation_level=None)
        # Nothing here outlives the process: no journal, no sync, and 8 MB of pages in memory.
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "locking_mode=EXCLUSIVE"):
            self._database.execute(f"PRAGMA {pragma}")
        self._database.execute("PRAGMA cache_size=-8192")
        self._database.executescript(_SCHEMA)
        self._database.execute("BEGIN")
        self._waiting: dict[str, list[tuple[Cell, ...]]] = {name: [] for name in _INSERT}

    @property
    def folder(self) -> Path:
        """The temporary folder, for other files of this verification."""
        return Path(self._folder.name)

    def __enter__(self) -> Workbook:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove everything."""
        self._database.close()
        self._folder.cleanup()

    def put(self, table: str, *row: Cell) -> None:
        """Add one row."""
        waiting = self._waiting[table]
        waiting.append(row)
        if len(waiting) >= _BATCH:
            self._write(table)

    def rows(self, query: str, *values: Cell) -> Iterator[tuple[Any, ...]]:
        """Return the rows of a query, over all that was put so far, as they are read."""
        self.flush()
        return self._database.execute(query, values)

    def row(self, query: str, *values: Cell) -> tuple[Any, ...] | None:
        """Return the first row of a query, if there is one."""
        self.flush()
        found: tuple[Any, ...] | None = self._database.execute(query, values).fetchone()
        return found

    def change(self, statement: str, *values: Cell) -> int:
        """Carry out a statement; return how many rows it changed."""
        self.flush()
        return self._database.execute(statement, values).rowcount

    def at_once(self, statement: str, *values: Cell) -> sqlite3.Cursor:
        """Carry out a statement that concerns no row that may still wait."""
        return self._database.execute(statement, values)

    def flush(self) -> None:
        """Hand all waiting rows to SQLite."""
        for table, waiting in self._waiting.items():
            if waiting:
                self._write(table)

    def _write(self, table: str) -> None:
        self._database.executemany(_INSERT[table], self._waiting[table])
        self._waiting[table].clear()


class Shelf(Generic[_Value]):
    """A mapping of any size in bounded memory: the keys used last are at hand, the rest on disk.

    dump, load  a value as text and back
    most        values at hand
    """

    def __init__(
        self,
        workbook: Workbook,
        name: str,
        dump: Callable[[_Value], str],
        load: Callable[[str], _Value],
        most: int = 2048,
    ) -> None:
        if not name.isidentifier():
            raise ValueError(f"{name!r} cannot name a table")
        self._workbook, self._dump, self._load, self._most = workbook, dump, load, most
        self._near: OrderedDict[str, _Value] = OrderedDict()
        self._read = f"SELECT value FROM shelf_{name} WHERE key = ?"  # noqa: S608 - an identifier
        self._keep = f"INSERT OR REPLACE INTO shelf_{name} VALUES (?, ?)"  # noqa: S608 - likewise
        workbook.change(f"DROP TABLE IF EXISTS shelf_{name}")
        workbook.change(
            f"CREATE TABLE shelf_{name} (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID"
        )

    def get(self, key: str) -> _Value | None:
        """Return the value that was put last under a key."""
        if key in self._near:
            self._near.move_to_end(key)
            return self._near[key]
        row = self._workbook.at_once(self._read, key).fetchone()
        if row is None:
            return None
        value = self._load(str(row[0]))
        self._hold(key, value)
        return value

    def put(self, key: str, value: _Value) -> None:
        """Keep a value in place of the key's former one."""
        self._hold(key, value)

    def _hold(self, key: str, value: _Value) -> None:
        self._near[key] = value
        self._near.move_to_end(key)
        if len(self._near) > self._most:
            oldest, left = self._near.popitem(last=False)
            self._workbook.at_once(self._keep, oldest, self._dump(left))
