"""The database: transactions, migrations, and what a full disk or a rival process does."""

from __future__ import annotations

import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import IntegrityError

from hejin_trust import database
from hejin_trust.database import (
    BUSY_TIMEOUT_SECONDS,
    StorageError,
    copy_database,
    erase_deleted,
    open_database,
    open_existing,
    reading,
    writing,
)

FIRST = '''"""first"""
from alembic import op
import sqlalchemy as sa
revision = "0001"
down_revision = None
def upgrade():
    op.create_table("item", sa.Column("id", sa.Integer, primary_key=True),
                    sa.Column("data", sa.LargeBinary))
'''
SECOND = '''"""second"""
from alembic import op
import sqlalchemy as sa
revision = "0002"
down_revision = "0001"
def upgrade():
    op.add_column("item", sa.Column("note", sa.Text))
    {extra}
'''


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    folder = tmp_path / "role 100%" / "migrations"
    (folder / "versions").mkdir(parents=True)
    (folder / "versions" / "0001_first.py").write_text(FIRST)
    return folder


@pytest.fixture
def engine(tmp_path: Path, migrations: Path) -> Engine:
    return open_database(tmp_path / "node.db", migrations)


def add_twice(engine: Engine, number: int, data: bytes = b"") -> None:
    with writing(engine) as connection:
        add(connection, number, data)
        add(connection, number, data)


def fill(engine: Engine) -> None:
    with writing(engine) as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 2}")
        for number in range(2, 50):
            add(connection, number, bytes(4000))


def add(connection: Connection, number: int, data: bytes = b"") -> None:
    connection.execute(
        text("INSERT INTO item (id, data) VALUES (:i, :d)"), {"i": number, "d": data}
    )


def count(engine: Engine) -> int:
    with reading(engine) as connection:
        return int(connection.execute(text("SELECT count(*) FROM item")).scalar_one())


def test_the_file_is_for_its_owner_only(engine: Engine, tmp_path: Path) -> None:
    with writing(engine) as connection:
        add(connection, 1)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob("node.db*")}
    assert set(modes) >= {"node.db", "node.db-wal"}
    assert set(modes.values()) == {0o600}


def test_durability_is_as_the_design_asks(engine: Engine) -> None:
    with writing(engine) as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert pragmas == {
        "journal_mode": "wal",
        "synchronous": 2,  # FULL
        "foreign_keys": 1,
        "busy_timeout": 30_000,
    }


def test_an_error_rolls_the_transaction_back(engine: Engine) -> None:
    def crash() -> None:
        with writing(engine) as connection:
            add(connection, 1)
            raise RuntimeError("crash")

    with pytest.raises(RuntimeError, match="crash"):
        crash()
    assert count(engine) == 0


def test_a_reader_cannot_write(engine: Engine) -> None:
    with pytest.raises(StorageError, match="only be read"), reading(engine) as connection:
        add(connection, 1)
    with writing(engine) as connection:
        add(connection, 1)
    assert count(engine) == 1


def test_a_reader_sees_one_moment(engine: Engine) -> None:
    with reading(engine) as connection:
        before = connection.execute(text("SELECT count(*) FROM item")).scalar_one()
        with writing(engine) as other:
            add(other, 1)
        assert connection.execute(text("SELECT count(*) FROM item")).scalar_one() == before
    assert count(engine) == 1


def test_a_broken_constraint_stays_what_it_is(engine: Engine) -> None:
    with pytest.raises(IntegrityError):
        add_twice(engine, 1)
    assert count(engine) == 0


def test_a_full_disk_is_told_and_nothing_is_half_written(engine: Engine) -> None:
    with writing(engine) as connection:
        add(connection, 1)
    with pytest.raises(StorageError, match="disk is full") as caught:
        fill(engine)
    assert "磁盘已满" in caught.value.text.zh
    assert caught.value.code == "storage-failed"
    assert count(engine) == 1


def test_values_never_show_in_an_error(engine: Engine) -> None:
    with pytest.raises(IntegrityError) as caught:
        add_twice(engine, 1, b"secret")
    assert "secret" not in str(caught.value)


def test_a_rival_that_never_lets_go_is_told(
    tmp_path: Path, migrations: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_SECONDS", 0.1)
    engine = open_database(tmp_path / "node.db", migrations)
    rival = open_existing(tmp_path / "node.db")
    for number, other in enumerate((engine, rival)):
        with writing(engine) as connection:
            add(connection, number)
            with pytest.raises(StorageError, match="Another process"), writing(other):
                pass
    assert count(engine) == 2


def test_writers_take_turns(engine: Engine) -> None:
    def work(start: int) -> None:
        for number in range(start, start + 10):
            with writing(engine) as connection:
                add(connection, number)

    threads = [threading.Thread(target=work, args=(start,)) for start in (0, 100, 200, 300)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count(engine) == 40


def test_an_older_database_is_brought_up(engine: Engine, tmp_path: Path, migrations: Path) -> None:
    with writing(engine) as connection:
        add(connection, 1)
    (migrations / "versions" / "0002_second.py").write_text(SECOND.format(extra="pass"))
    newer = open_database(tmp_path / "node.db", migrations)
    with reading(newer) as connection:
        assert connection.execute(text("SELECT id, note FROM item")).all() == [(1, None)]


def test_a_migration_that_fails_leaves_the_old_schema(
    engine: Engine, tmp_path: Path, migrations: Path
) -> None:
    with writing(engine) as connection:
        add(connection, 1)
    later = migrations / "versions" / "0002_second.py"
    later.write_text(SECOND.format(extra="raise RuntimeError('power cut')"))
    with pytest.raises(RuntimeError, match="power cut"):
        open_database(tmp_path / "node.db", migrations)
    later.unlink()
    again = open_database(tmp_path / "node.db", migrations)
    with reading(again) as connection:
        columns = connection.exec_driver_sql("PRAGMA table_info(item)").all()
    assert [column[1] for column in columns] == ["id", "data"]


def test_a_database_of_a_newer_version_is_refused(
    engine: Engine, tmp_path: Path, migrations: Path
) -> None:
    with writing(engine) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0099'"))
    with pytest.raises(StorageError, match="0099, written by a newer Hejin"):
        open_database(tmp_path / "node.db", migrations)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path, migrations: Path) -> None:
    path = tmp_path / "node.db"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(StorageError, match="not a database"):
        open_database(path, migrations)


def test_a_missing_folder_is_told(tmp_path: Path, migrations: Path) -> None:
    with pytest.raises(StorageError, match="Check that the folder exists"):
        open_database(tmp_path / "nowhere" / "node.db", migrations)


OPEN_AND_ADD = """
import sys
from pathlib import Path
from sqlalchemy import text
from hejin_trust.database import open_database, writing
sys.stdin.readline()
with writing(open_database(Path(sys.argv[1]), Path(sys.argv[2]))) as connection:
    connection.execute(text("INSERT INTO item (data) VALUES (NULL)"))
"""


def test_processes_may_open_a_new_database_at_once(tmp_path: Path, migrations: Path) -> None:
    path = tmp_path / "new.db"
    rivals = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN_AND_ADD, path, migrations], stdin=subprocess.PIPE
        )
        for _ in range(3)
    ]
    for rival in rivals:
        assert rival.stdin is not None
        rival.stdin.write(b"go\n")
        rival.stdin.close()
    assert [rival.wait(60) for rival in rivals] == [0, 0, 0]
    assert count(open_database(path, migrations)) == 3


def test_emptying_the_write_ahead_log_holds_nobody_up_while_somebody_reads(
    engine: Engine,
) -> None:
    with reading(engine) as reader:
        reader.execute(text("SELECT * FROM item")).all()
        with writing(engine) as connection:
            add(connection, 1)
        begin = time.monotonic()
        erase_deleted(engine)
        with writing(engine) as connection:
            add(connection, 2)
        assert time.monotonic() - begin < BUSY_TIMEOUT_SECONDS / 3


def test_a_copy_is_of_one_moment_and_for_its_owner_only(
    engine: Engine, tmp_path: Path, migrations: Path
) -> None:
    with writing(engine) as connection:
        add(connection, 1, b"here")
        add(connection, 2, b"REMOVED" * 1000)
    with writing(engine) as connection:
        connection.execute(text("DELETE FROM item WHERE id = 2"))
    path = tmp_path / "copy.db"
    with reading(engine) as reader:  # whoever reads goes on
        reader.execute(text("SELECT * FROM item")).all()
        copy_database(engine, path)
    with writing(engine) as connection:
        add(connection, 3)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert b"REMOVED" not in path.read_bytes()
    assert not path.with_name("copy.db-wal").exists()
    assert count(open_database(path, migrations)) == 1
    with pytest.raises(StorageError):
        copy_database(engine, path)
    with pytest.raises(StorageError):
        copy_database(engine, tmp_path / "nowhere" / "copy.db")
