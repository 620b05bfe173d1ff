"""A node's database of before the data node is brought up, unless it holds what is unreadable."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from hejin_node.home import MIGRATIONS
from hejin_trust.database import StorageError, open_database

NEWER = (
    "load", "erasure", "withdrawal", "backup", "quality", "enterprise_key",
    "authorisation_signature", "authorisation_record", "run_use", "sum_use", "label_session",
)  # fmt: skip

#: As revision 0002 had it.
SEGMENT = """
CREATE TABLE segment (
    id INTEGER NOT NULL, kind VARCHAR(10) NOT NULL, dataset VARCHAR(200) NOT NULL,
    file VARCHAR(64) NOT NULL, sha256 VARCHAR(64) NOT NULL, rows INTEGER NOT NULL,
    columns VARCHAR NOT NULL, source VARCHAR(64) NOT NULL, key_id VARCHAR(16) NOT NULL,
    time VARCHAR(20) NOT NULL, PRIMARY KEY (id), UNIQUE (file)
)
"""


@pytest.fixture
def older(tmp_path: Path) -> Path:
    path = tmp_path / "older.db"
    open_database(path, MIGRATIONS).dispose()
    with closing(sqlite3.connect(path)) as database, database:
        for name in (*NEWER, "segment"):
            database.execute(f"DROP TABLE {name}")
        database.execute(SEGMENT)
        database.execute("UPDATE alembic_version SET version_num = '0002'")
    return path


def schema(path: Path) -> set[tuple[str, ...]]:
    with closing(sqlite3.connect(path)) as database:
        return set(database.execute("SELECT type, name, sql FROM sqlite_master"))


def test_an_older_database_becomes_what_a_new_one_is(older: Path, tmp_path: Path) -> None:
    open_database(tmp_path / "new.db", MIGRATIONS).dispose()
    assert schema(older) != schema(tmp_path / "new.db")
    open_database(older, MIGRATIONS).dispose()
    assert schema(older) == schema(tmp_path / "new.db")


def test_a_database_of_before_loads_were_withdrawn_becomes_what_a_new_one_is(
    tmp_path: Path,
) -> None:
    for name in ("new.db", "older.db"):
        open_database(tmp_path / name, MIGRATIONS).dispose()
    with closing(sqlite3.connect(tmp_path / "older.db")) as database, database:
        database.execute("DROP TABLE withdrawal")
        database.execute("UPDATE alembic_version SET version_num = '0003'")
    open_database(tmp_path / "older.db", MIGRATIONS).dispose()
    assert schema(tmp_path / "older.db") == schema(tmp_path / "new.db")


def test_segments_that_cannot_be_read_any_more_are_told_and_left_alone(older: Path) -> None:
    with closing(sqlite3.connect(older)) as database, database:
        values = (1, "data", "firms", "a.parquet", "0" * 64, 1, "{}", "0" * 64, "k", "t")
        database.execute(f"INSERT INTO segment VALUES ({', '.join('?' * 10)})", values)
    before = schema(older)
    with pytest.raises(StorageError, match="begin with a new folder"):
        open_database(older, MIGRATIONS)
    assert schema(older) == before
