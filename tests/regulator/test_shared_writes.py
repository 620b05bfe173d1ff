"""Threads that write at once share commits; one that fails, fails alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, event, text

from hejin_regulator.mirror import DATABASE, MIGRATIONS
from hejin_regulator.shared_writes import SharedWrites
from hejin_trust.database import StorageError, open_database, reading, writing


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    opened = open_database(tmp_path / DATABASE, MIGRATIONS)
    with writing(opened) as connection:
        connection.execute(text("CREATE TABLE kept (number INTEGER PRIMARY KEY)"))
    yield opened
    opened.dispose()


def adding(number: int) -> Callable[[Connection], None]:
    def add(connection: Connection) -> None:
        connection.execute(text(f"INSERT INTO kept VALUES ({number})"))

    return add


def failing(connection: Connection) -> None:
    adding(1000)(connection)
    raise KeyError("not this one")


def kept(engine: Engine) -> list[int]:
    with reading(engine) as connection:
        return list(connection.execute(text("SELECT number FROM kept ORDER BY number")).scalars())


def at_once(writes: SharedWrites, works: list[Callable[[Connection], None]]) -> list[Future[None]]:
    """Let `works` come while another commit is under way; return how each ended."""
    under_way, go_on = threading.Event(), threading.Event()

    def slow(connection: Connection) -> None:
        under_way.set()
        assert go_on.wait(30)

    with ThreadPoolExecutor(len(works) + 1) as pool:
        first = pool.submit(writes.write, slow)
        assert under_way.wait(30)
        ends = [pool.submit(writes.write, work) for work in works]
        while len(writes._waiting) < len(works):
            time.sleep(0.001)
        go_on.set()
    first.result()
    return ends


def test_what_comes_during_a_commit_is_committed_together(engine: Engine) -> None:
    commits: list[None] = []
    event.listen(engine, "commit", lambda _: commits.append(None))
    ends = at_once(SharedWrites(engine), [adding(number) for number in range(8)])
    assert [end.result() for end in ends] == [None] * 8
    assert len(commits) == 2
    assert kept(engine) == list(range(8))


def test_one_that_fails_fails_alone_and_leaves_nothing(engine: Engine) -> None:
    ends = at_once(SharedWrites(engine), [adding(0), failing, adding(1), adding(0), adding(2)])
    found = [type(end.exception()).__name__ for end in ends]
    assert found[1:3] + found[4:] == ["KeyError", "NoneType", "NoneType"]
    # Which of two equal ones came first, the threads decided.
    assert {found[0], found[3]} == {"NoneType", "IntegrityError"}
    assert kept(engine) == [0, 1, 2]


def test_a_disk_that_is_full_is_told_to_all(engine: Engine) -> None:
    def big(connection: Connection) -> None:
        connection.execute(text("CREATE TABLE big AS SELECT zeroblob(1000000)"))

    with writing(engine) as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    event.listen(
        engine,
        "begin",
        lambda c: c.exec_driver_sql(f"PRAGMA max_page_count={pages + 2}"),
    )
    ends = at_once(SharedWrites(engine), [big, big])
    assert [type(end.exception()) for end in ends] == [StorageError, StorageError]
    assert kept(engine) == []
