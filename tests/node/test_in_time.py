"""A limit on what a query may take: it ends, or it is left behind; Ctrl-C stays Ctrl-C."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator

import duckdb
import pyarrow as pa
import pytest
from structlog.testing import capture_logs

from hejin_models.features import Dataset
from hejin_node import duck
from hejin_node.errors import QueryError, SegmentError, ViewFailedError
from hejin_node.warehouse import Warehouse

LATE = ViewFailedError("late", "超时")
ENDLESS = "WITH RECURSIVE r AS (SELECT 0 AS i UNION ALL SELECT 1 - i FROM r) SELECT sum(i) FROM r"
#: Goes on as long as there is a row with 7 in it, and reads the rows again at every step.
HANGS_ON_7 = """
WITH RECURSIVE r AS (SELECT 0 AS i UNION ALL SELECT 1 - i FROM r, firms WHERE staff = 7)
SELECT enterprise, staff, (SELECT sum(i) FROM r) AS i FROM firms
"""
FIRMS = Dataset("firms", "production", {"staff": "number"})
KEY = bytes(range(32))
SCHEMA = pa.schema({"enterprise": pa.string()})


def running() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name == "query"]


def sql(text: str) -> Callable[[duckdb.DuckDBPyConnection], pa.Table]:
    return lambda connection: duck.select(connection, text, {})


def test_what_ends_in_time_is_returned() -> None:
    assert duck.in_time(60, LATE, sql("SELECT 1 AS one")).to_pylist() == [{"one": 1}]
    assert not running()


def test_what_fails_in_time_fails_as_it_would_without_a_limit() -> None:
    with pytest.raises(QueryError, match="nowhere"):
        duck.in_time(60, LATE, sql("SELECT * FROM nowhere"))


def test_an_endless_query_is_interrupted_and_nothing_of_it_is_left() -> None:
    with capture_logs() as logs, pytest.raises(ViewFailedError) as raised:
        duck.in_time(0.2, LATE, sql(ENDLESS))
    assert raised.value is LATE
    assert not running()
    assert logs == []


def test_the_limit_is_for_all_queries_of_the_work_together() -> None:
    def work(connection: duckdb.DuckDBPyConnection) -> None:
        while True:
            duck.select(connection, "SELECT 1", {})

    with pytest.raises(ViewFailedError):
        duck.in_time(0.2, LATE, work)
    assert not running()


def test_a_query_that_reads_without_end_from_a_stream_of_ours_is_interrupted() -> None:
    def rows() -> Iterator[pa.RecordBatch]:
        while True:
            yield pa.record_batch({"enterprise": ["a"]}, SCHEMA)

    source = duck.Rewindable(SCHEMA, rows)
    with pytest.raises(ViewFailedError):
        duck.in_time(
            0.2, LATE, lambda one: duck.select(one, "SELECT count(*) FROM firms", {"firms": source})
        )
    assert not running()


def test_what_heeds_no_interrupt_is_left_behind_and_the_operator_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(duck, "GRACE_SECONDS", 0.2)
    monkeypatch.setenv("HEJIN_LANG", "zh")
    goes_on = threading.Event()

    def rows() -> Iterator[pa.RecordBatch]:
        goes_on.wait()  # as a disk that hangs, or a function over one row that takes hours
        yield pa.record_batch({"enterprise": ["a"]}, SCHEMA)

    source = duck.Rewindable(SCHEMA, rows)
    try:
        with capture_logs() as logs, pytest.raises(ViewFailedError):
            duck.in_time(0.2, LATE, lambda one: duck.select(one, "FROM firms", {"firms": source}))
        (left,) = running()
    finally:
        goes_on.set()
    left.join(60)
    assert not left.is_alive()
    assert [(log["event"], log["log_level"]) for log in logs] == [("query-left-behind", "error")]
    assert "请重启进程" in logs[0]["reason"]


def test_ctrl_c_during_a_query_is_no_error_of_it_and_ends_it() -> None:
    assert threading.current_thread() is threading.main_thread()
    main = threading.main_thread().ident
    assert main is not None

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        signal.pthread_kill(main, signal.SIGINT)
        duck.select(connection, ENDLESS, {})

    with pytest.raises(KeyboardInterrupt):
        duck.in_time(600, LATE, work)
    assert not running()


@pytest.mark.parametrize("most", [524_288, 1], ids=["held", "streamed"])
def test_a_view_that_hangs_on_some_row_is_given_up(data, most: int) -> None:
    warehouse = Warehouse(data.folder / "warehouse", KEY, data.database, KEY, partition_rows=most)
    columns = {"enterprise": "text", "staff": "number"}
    few = pa.table({"enterprise": ["a"] * 4, "staff": [1.0, 2.0, 3.0, 4.0]})
    warehouse.append("firms", columns, few.to_batches(), "1" * 64)
    assert warehouse.query(HANGS_ON_7, [FIRMS], seconds=60).num_rows == 4
    more = pa.table({"enterprise": ["b"] * 4, "staff": [1.0, 7.0, 3.0, 4.0]})
    warehouse.append("firms", columns, more.to_batches(), "2" * 64)
    with pytest.raises(ViewFailedError, match=r"did not end within 0\.5 s") as raised:
        warehouse.query(HANGS_ON_7, [FIRMS], seconds=0.5)
    assert "0.5 秒仍未结束" in raised.value.text.zh
    assert not running()


def test_a_damaged_segment_is_told_as_such_from_within_the_limit(data) -> None:
    columns = {"enterprise": "text", "staff": "number"}
    rows = pa.table({"enterprise": ["a"], "staff": [1.0]})
    data.warehouse.append("firms", columns, rows.to_batches(), "1" * 64)
    (path,) = [one for one in (data.folder / "warehouse").iterdir() if one.name != ".lock"]
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SegmentError):
        data.warehouse.query("FROM firms", [FIRMS], seconds=60)
