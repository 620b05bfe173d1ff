"""The warehouse: encrypted, append-only, crash-safe, and DuckDB behind bars."""

from __future__ import annotations

import datetime as dt
import errno
import itertools
import stat
import threading
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import update

from hejin_models.features import Dataset
from hejin_node import duck, manifest, segments
from hejin_node.errors import QueryError, SegmentError, WarehouseError, WrongKeyError
from hejin_node.manifest import Counts
from hejin_node.partitions import cut as cut_buckets
from hejin_node.segments import Columns
from hejin_node.tables import segment as segment_table
from hejin_node.warehouse import Warehouse
from hejin_trust.database import writing

KEY = bytes(range(32))
COLUMNS: Columns = {"enterprise": "text", "net": "number", "date": "date", "count": "integer"}
SALES = Dataset("sales", "trade", {"net": "number", "date": "date", "count": "integer"})
_numbers = itertools.count(1)
CANARY = "CANARYENTERPRISE"


def rows(*names: str, net: float = 1.5) -> list[pa.RecordBatch]:
    return pa.table(
        {
            "enterprise": list(names),
            "net": [net] * len(names),
            "date": [dt.date(2025, 1, 2)] * len(names),
            "count": pa.array([3] * len(names), pa.int64()),
        }
    ).to_batches()


def files(warehouse_folder: Path) -> list[Path]:
    return [path for path in warehouse_folder.iterdir() if path.name != ".lock"]


def test_rows_come_back_as_they_were_written(data) -> None:
    assert data.warehouse.append("sales", COLUMNS, rows("a", "b"), "1" * 64) == 2
    assert data.warehouse.append("sales", COLUMNS, rows("c"), "2" * 64) == 1
    assert [row["enterprise"] for row in data.rows("sales")] == ["a", "b", "c"]
    assert data.rows("sales")[0] == {
        "enterprise": "a", "net": 1.5, "date": dt.date(2025, 1, 2), "count": 3,
    }  # fmt: skip
    (info,) = data.warehouse.datasets()
    assert (info.name, info.rows, info.segments, info.quarantined) == ("sales", 3, 2, 0)
    assert data.warehouse.columns("data", "sales") == COLUMNS


def test_nothing_of_the_data_lies_in_the_clear(data) -> None:
    data.warehouse.append("sales", COLUMNS, rows(*[CANARY] * 1000, net=123456.75), "1" * 64)
    (path,) = files(data.folder / "warehouse")
    raw = path.read_bytes()
    assert raw[:4] == raw[-4:] == b"PARE"  # encrypted footer, Parquet modular encryption
    for word in (CANARY.encode(), b"enterprise", b"sales", pa.array([123456.75]).buffers()[1][:8]):
        assert bytes(word) not in raw
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_each_file_has_its_own_key_and_place(data) -> None:
    data.warehouse.append("sales", COLUMNS, rows("a"), "1" * 64)
    data.warehouse.append("other", COLUMNS, rows("b"), "1" * 64)
    first, second = (
        data.folder / "warehouse" / part.file for part in data.warehouse.segments("data")
    )
    kept = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(kept)
    with pytest.raises(SegmentError, match="damaged or was altered"):
        data.rows("sales")


def test_another_key_is_refused_at_once(data) -> None:
    data.warehouse.append("sales", COLUMNS, rows("a"), "1" * 64)
    with pytest.raises(WrongKeyError, match="another key"):
        Warehouse(data.folder / "warehouse", b"x" * 32, data.database, KEY)


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
def test_a_flipped_bit_in_a_segment_is_noticed(data, place: float) -> None:
    data.warehouse.append("sales", COLUMNS, rows(*map(str, range(5000))), "1" * 64)
    (path,) = files(data.folder / "warehouse")
    raw = bytearray(path.read_bytes())
    raw[int(len(raw) * place)] ^= 1
    path.write_bytes(raw)
    with pytest.raises(SegmentError) as caught:
        list(data.warehouse.read("data", "sales", [*COLUMNS, "_bucket", "_load"]))
    assert CANARY not in str(caught.value)


def test_a_missing_segment_is_named(data) -> None:
    data.warehouse.append("sales", COLUMNS, rows("a"), "1" * 64)
    (path,) = files(data.folder / "warehouse")
    path.unlink()
    with pytest.raises(SegmentError, match="is missing") as caught:
        data.warehouse.query("SELECT * FROM sales", [SALES])
    assert caught.value.code == "segment-damaged"


def test_what_fails_before_the_manifest_leaves_nothing(data) -> None:
    def broken():
        yield from rows("a")
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        data.warehouse.append("sales", COLUMNS, broken(), "1" * 64)
    assert data.warehouse.segments() == ()
    assert files(data.folder / "warehouse") == []


def test_a_rolled_back_transaction_leaves_nothing(data) -> None:
    with pytest.raises(RuntimeError), data.warehouse.loading("data", "sales", "1" * 64) as work:  # noqa: PT012
        work.writer("data", "sales", COLUMNS).write(pa.Table.from_batches(rows("a")))
        work.complete()
        with writing(data.database) as connection:
            work.publish(connection)
            raise RuntimeError("stop")
    assert data.warehouse.segments() == ()
    assert files(data.folder / "warehouse") == []


def test_a_published_segment_stays_whatever_comes_after(data) -> None:
    with pytest.raises(RuntimeError), data.warehouse.loading("data", "sales", "1" * 64) as work:  # noqa: PT012
        work.writer("data", "sales", COLUMNS).write(pa.Table.from_batches(rows("a")))
        work.complete()
        with writing(data.database) as connection:
            work.publish(connection)
        raise RuntimeError("stop")
    assert len(data.rows("sales")) == 1


def test_the_same_source_cannot_be_listed_twice(data) -> None:
    data.warehouse.append("sales", COLUMNS, rows("a"), "1" * 64)
    with pytest.raises(WarehouseError, match="already"):
        data.warehouse.append("sales", COLUMNS, rows("a"), "1" * 64)
    assert len(data.rows("sales")) == 1
    assert len(files(data.folder / "warehouse")) == 1


def kept_half(data, mapping: str = "m" * 64) -> None:
    """Begin to load two rows, keep the first one, and be killed."""
    with data.warehouse.loading("data", "sales", "1" * 64, "sales.csv", mapping) as work:
        work.writer("data", "sales", COLUMNS).write(pa.Table.from_batches(rows("a")))
        work.keep({"offset": 17}, Counts(read=1, loaded=1))
        work.writer("data", "sales", COLUMNS).write(pa.Table.from_batches(rows("lost")))
        raise KeyboardInterrupt


def test_an_interrupted_load_goes_on_where_it_kept_its_rows_last(data) -> None:
    with pytest.raises(KeyboardInterrupt):
        kept_half(data)
    assert data.warehouse.segments() == ()
    assert data.rows("sales") == []
    assert data.warehouse.datasets() == ()
    assert len(files(data.folder / "warehouse")) == 1
    (load,) = data.warehouse.loads()
    assert (load.state, load.place, load.name) == ("open", {"offset": 17}, "sales.csv")
    data.warehouse.append("other", COLUMNS, rows("z"), "2" * 64)  # it leaves the open one alone
    with data.warehouse.loading("data", "sales", "1" * 64, "sales.csv", "m" * 64) as work:
        assert (work.already, work.place, work.counts) == (False, {"offset": 17}, Counts(1, 1))
        work.writer("data", "sales", COLUMNS).write(pa.Table.from_batches(rows("b")))
        work.complete(Counts(read=3, loaded=2, quarantined={"net.range": 1}))
        with writing(data.database) as connection:
            work.publish(connection)
    assert [row["enterprise"] for row in data.rows("sales")] == ["a", "b"]
    load = data.warehouse.loads("sales")[0]
    assert (load.state, load.place) == ("complete", {"offset": 17})
    assert load.counts == Counts(3, 2, {"net.range": 1})
    found = pa.Table.from_batches(data.warehouse.read("data", "sales", ["_load", "_bucket"]))
    assert found["_load"].to_pylist() == [load.id] * 2
    assert sorted(found["_bucket"].to_pylist()) == sorted(map(segments.bucket_of, "ab"))
    with data.warehouse.loading("data", "sales", "1" * 64) as work:
        assert work.already


def test_another_mapping_begins_an_interrupted_load_anew(data) -> None:
    with pytest.raises(KeyboardInterrupt):
        kept_half(data)
    with data.warehouse.loading("data", "sales", "1" * 64, "sales.csv", "n" * 64) as work:
        assert (work.place, work.counts) == (None, Counts())
        assert files(data.folder / "warehouse") == []
        assert data.warehouse.loads() == ()


def test_a_load_that_is_given_up_leaves_nothing(data) -> None:
    with pytest.raises(KeyboardInterrupt):
        kept_half(data)
    with data.warehouse.loading("data", "sales", "1" * 64, "sales.csv", "m" * 64) as work:
        work.writer("data", "sales", COLUMNS).write(pa.Table.from_batches(rows("b")))
        work.drop()
    assert files(data.folder / "warehouse") == []
    assert data.warehouse.loads() == ()


def test_a_load_that_fails_before_it_kept_anything_is_forgotten(data) -> None:
    def stopped() -> Iterator[pa.RecordBatch]:
        yield from rows("a")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        data.warehouse.append("sales", COLUMNS, stopped(), "1" * 64)
    assert data.warehouse.loads() == ()


def test_a_load_that_was_killed_before_it_kept_anything_goes_with_the_next(data) -> None:
    with writing(data.database) as connection:
        manifest.begin_load(connection, "data", "sales", "1" * 64, "sales.csv", "", None)
    data.warehouse.append("other", COLUMNS, rows("z"), "2" * 64)
    assert [load.dataset for load in data.warehouse.loads()] == ["other"]


def test_rows_lie_by_bucket_and_those_of_an_enterprise_in_their_order(data) -> None:
    names = [f"firm {n % 7}" for n in range(1000)]
    numbers = pa.table({"enterprise": names, "count": pa.array(range(1000), pa.int64())})
    columns: Columns = {"enterprise": "text", "count": "integer"}
    data.warehouse.append("sales", columns, numbers.to_batches(), "1" * 64)
    found = pa.Table.from_batches(data.warehouse.read("data", "sales", [*columns, "_bucket"]))
    assert found["_bucket"].to_pylist() == sorted(map(segments.bucket_of, names))
    for name in set(names):
        own = found.filter(pa.compute.equal(found["enterprise"], name))["count"].to_pylist()
        assert own == sorted(own)
        assert len(own) == names.count(name)
    (part,) = data.warehouse.segments()
    assert part.buckets.tolist() == [
        sum(segments.bucket_of(name) == bucket for name in names) for bucket in range(256)
    ]


def test_orphans_of_a_killed_load_go_with_the_next_and_nothing_else_does(data) -> None:
    data.warehouse.append("sales", COLUMNS, rows("a"), "1" * 64)
    folder = data.folder / "warehouse"
    (folder / f"{'0' * 32}.parquet").write_bytes(b"complete, never listed")
    (folder / f"{'1' * 32}.parquet.part").write_bytes(b"half written")
    assert len(data.rows("sales")) == 1
    data.warehouse.append("sales", COLUMNS, rows("b"), "2" * 64)
    assert len(files(folder)) == 2
    assert len(data.rows("sales")) == 2


def test_sweeping_leaves_a_running_load_alone(data) -> None:
    folder = data.folder / "warehouse"
    with data.warehouse.loading("data", "sales", "1" * 64) as work:
        work.writer("data", "sales", COLUMNS)
        data.warehouse.sweep()
        assert len(files(folder)) == 1
    (folder / f"{'1' * 32}.parquet.part").write_bytes(b"half written")
    data.warehouse.sweep()
    assert files(folder) == []


def test_two_loads_never_run_at_once(data) -> None:
    other = Warehouse(data.folder / "warehouse", KEY, data.database, KEY)
    second = threading.Thread(target=other.append, args=("sales", COLUMNS, rows("b"), "2" * 64))
    with data.warehouse.loading("data", "sales", "1" * 64) as work:
        work.writer("data", "sales", COLUMNS).write(pa.Table.from_batches(rows("a")))
        second.start()
        second.join(0.3)
        assert second.is_alive()
        work.complete()
        with writing(data.database) as connection:
            work.publish(connection)
    second.join()
    assert [row["enterprise"] for row in data.rows("sales")] == ["a", "b"]


def test_a_full_disk_is_said_and_loses_nothing(data, monkeypatch: pytest.MonkeyPatch) -> None:
    data.warehouse.append("sales", COLUMNS, rows("a"), "1" * 64)

    def full(*_args: object, **_kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(segments.pq.ParquetWriter, "write_table", full)
    with pytest.raises(WarehouseError, match="No space left"):
        data.warehouse.append("sales", COLUMNS, rows("b"), "2" * 64)
    assert [row["enterprise"] for row in data.rows("sales")] == ["a"]
    assert len(files(data.folder / "warehouse")) == 1


def test_a_view_sees_its_columns_over_all_segments(data) -> None:
    for number in range(3):
        data.warehouse.append("sales", COLUMNS, rows("a", "b"), str(number) * 64)
    result = data.warehouse.query(
        "SELECT enterprise, sum(net) AS total, $as_of AS day FROM sales "
        "WHERE date < $as_of GROUP BY ALL ORDER BY ALL",
        [Dataset("sales", "trade", {"net": "number", "date": "date"})],
        dt.date(2025, 6, 1),
    )
    assert result.to_pylist() == [
        {"enterprise": name, "total": 4.5, "day": dt.date(2025, 6, 1)} for name in "ab"
    ]


def test_a_view_may_read_a_data_set_twice(data) -> None:
    data.warehouse.append("sales", COLUMNS, rows("a", "b"), "1" * 64)
    sql = "SELECT (SELECT count(*) FROM sales) AS n, (SELECT sum(net) FROM sales) AS s"
    assert data.warehouse.query(sql, [SALES]).to_pylist() == [{"n": 2, "s": 3.0}]


def test_sql_never_sees_an_enterprise_that_is_not_named(data) -> None:
    data.warehouse.append("sales", COLUMNS, rows("a", "b", "c"), "1" * 64)
    found = data.warehouse.query("SELECT enterprise FROM sales", [SALES], enterprises={"a", "c"})
    assert sorted(found["enterprise"].to_pylist()) == ["a", "c"]
    assert not data.warehouse.query("FROM sales", [SALES], enterprises=()).num_rows


def test_an_absent_data_set_is_an_empty_table(data) -> None:
    result = data.warehouse.query("SELECT enterprise, net FROM sales", [SALES])
    assert result.num_rows == 0
    assert result.column_names == ["enterprise", "net"]


def test_whole_numbers_serve_where_numbers_are_asked(data) -> None:
    data.warehouse.append("sales", COLUMNS, rows("a"), "1" * 64)
    wanted = Dataset("sales", "trade", {"count": "number"})
    assert data.warehouse.query("SELECT count FROM sales", [wanted])["count"].to_pylist() == [3.0]


def test_whole_numbers_that_no_float_holds_are_rounded_not_refused(data) -> None:
    exact = pa.table({"enterprise": ["a", "b"], "count": pa.array([3, 2**53 + 1], pa.int64())})
    columns: Columns = {"enterprise": "text", "count": "integer"}
    data.warehouse.append("sales", columns, exact.to_batches(), "1" * 64)
    wanted = Dataset("sales", "trade", {"count": "number"})
    found = data.warehouse.query("SELECT count FROM sales", [wanted])["count"].to_pylist()
    assert found == [3.0, 2.0**53]


FIRMS = [f"firm {n}" for n in range(40)]


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    loads=st.lists(st.lists(st.sampled_from(FIRMS), max_size=120), min_size=1, max_size=4),
    most=st.sampled_from([1, 7, 30, 1000]),
    shown=st.none() | st.sets(st.sampled_from([*FIRMS, "nobody"])),
)
def test_a_view_gives_the_same_however_its_rows_are_partitioned(
    data, loads: list[list[str]], most: int, shown: set[str] | None
) -> None:
    name = f"sales{next(_numbers)}"
    counted: Counter[str] = Counter()
    number = 0
    for firms in loads:
        table = pa.table(
            {
                "enterprise": pa.array(firms, pa.string()),
                "count": pa.array(range(len(firms)), pa.int64()),
            }
        )
        source = f"{next(_numbers):064x}"
        columns: Columns = {"enterprise": "text", "count": "integer"}
        data.warehouse.append(name, columns, table.to_batches(), source)
        for place, firm in enumerate(firms):
            counted[firm] += place + 1
            number += 1
    cut = Warehouse(data.folder / "warehouse", KEY, data.database, KEY, partition_rows=most)
    # Twice the same data set: a partition may be scanned again.
    sql = (
        f"SELECT enterprise, sum(count + 1) AS total, "
        f"(SELECT count(*) FROM {name} AS b WHERE b.enterprise = a.enterprise) AS n "
        f"FROM {name} AS a GROUP BY enterprise"
    )
    found = cut.query(sql, [Dataset(name, "trade", {"count": "integer"})], enterprises=shown)
    expected = {firm: total for firm, total in counted.items() if shown is None or firm in shown}
    assert dict(zip(*found.select([0, 1]).to_pydict().values(), strict=True)) == expected
    seen = sum(len([f for f in firms if shown is None or f in shown]) for firms in loads)
    assert sum(found["n"].to_pylist()) == seen


@given(
    rows=st.lists(st.integers(0, 50), min_size=256, max_size=256),
    most=st.integers(1, 500),
)
def test_partitions_hold_every_bucket_once_and_not_too_many_rows(
    rows: list[int], most: int
) -> None:
    ranges = cut_buckets(np.array(rows), most)
    assert [bucket for low, high in ranges for bucket in range(low, high)] == list(range(256))
    for low, high in ranges:
        assert sum(rows[low:high]) <= most or sum(count > 0 for count in rows[low:high]) == 1


def test_a_partition_that_cannot_be_read_ends_the_query(data) -> None:
    for number in range(3):
        data.warehouse.append("sales", COLUMNS, rows(*FIRMS), str(number) * 64)
    spoiled = data.folder / "warehouse" / data.warehouse.segments()[1].file
    raw = bytearray(spoiled.read_bytes())
    raw[100] ^= 1
    spoiled.write_bytes(raw)
    cut = Warehouse(data.folder / "warehouse", KEY, data.database, KEY, partition_rows=10)
    with pytest.raises(SegmentError, match="damaged"):
        cut.query("SELECT enterprise, count FROM sales", [SALES])
    assert threading.active_count() == 1


def test_a_reader_goes_on_when_compaction_removes_its_files(data) -> None:
    for number in range(3):
        data.warehouse.append("sales", COLUMNS, rows("a"), str(number) * 64)
    batches = data.warehouse.read("data", "sales")
    first = next(batches)
    for file in files(data.folder / "warehouse"):
        file.unlink()
    assert first.num_rows + sum(batch.num_rows for batch in batches) == 3


@pytest.mark.parametrize(
    ("columns", "said"),
    [({"gross": "number"}, "which is not there"), ({"net": "text"}, "is of type number")],
)
def test_a_column_that_does_not_fit_is_named(data, columns: Columns, said: str) -> None:
    data.warehouse.append("sales", COLUMNS, rows("a"), "1" * 64)
    with pytest.raises(QueryError, match=said):
        data.warehouse.query("SELECT 1", [Dataset("sales", "trade", columns)])


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM glob('/*')",
        "COPY sales TO '/tmp/stolen.csv'",
        "ATTACH '/tmp/stolen.db'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET memory_limit = '100GB'",
        "SET enable_external_access = true",
        "CREATE TABLE x AS SELECT 1",
        "SELECT 1; SELECT 2",
        "PRAGMA database_list",
        "not SQL at all",
        "SELECT * FROM SALES_THAT_ARE_NOT_THERE",
        "SELECT $unknown",
        "",
    ],
)
def test_sql_can_reach_nothing_else(data, sql: str) -> None:
    stolen = pa.table({"x": [1]})  # nor a variable of the caller
    assert stolen.num_rows
    with pytest.raises(QueryError):
        data.warehouse.query(sql, [SALES])
    with pytest.raises(QueryError):
        data.warehouse.query("SELECT * FROM stolen", [SALES])


def test_every_connection_is_locked_down() -> None:
    with duck.locked_down(99) as connection:
        settings = {
            name: connection.sql(f"SELECT current_setting('{name}')").fetchall()[0][0]
            for name in (
                "autoinstall_known_extensions", "autoload_known_extensions",
                "enable_external_access", "lock_configuration", "threads", "temp_directory",
                "enable_progress_bar", "python_enable_replacements", "memory_limit",
            )
        }  # fmt: skip
    assert settings == {
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "enable_external_access": False,
        "lock_configuration": True,
        "threads": 2,
        "temp_directory": "",  # nothing spills to disk, where it would lie in the clear
        "enable_progress_bar": False,
        "python_enable_replacements": False,
        "memory_limit": "94.4 MiB",
    }


def test_sql_that_fails_on_a_value_does_not_repeat_it(data) -> None:
    data.warehouse.append("sales", COLUMNS, rows(CANARY), "1" * 64)
    with pytest.raises(QueryError) as caught:
        data.warehouse.query("SELECT CAST(enterprise AS INTEGER) FROM sales", [SALES])
    assert CANARY not in str(caught.value)
    assert caught.value.__cause__ is None
    assert "try_cast" in str(caught.value)


def test_sql_that_needs_too_much_memory_is_refused_clearly(data) -> None:
    small = Warehouse(data.folder / "warehouse", KEY, data.database, KEY, memory_mb=32)
    with pytest.raises(QueryError, match="more memory"):
        small.query("SELECT i FROM range(50000000) t(i) ORDER BY hash(i)", [])


def test_a_data_set_with_nothing_but_quarantine_is_listed(data) -> None:
    with data.warehouse.loading("data", "sales", "1" * 64) as work:
        work.writer("quarantine", "sales", {"row": "integer", "enterprise": "text"}).write(
            pa.table({"row": [7], "enterprise": ["?"]})
        )
        work.complete()
        with writing(data.database) as connection:
            work.publish(connection)
    (info,) = data.warehouse.datasets()
    assert (info.rows, info.quarantined) == (0, 1)


@settings(deadline=None)  # it writes and syncs files
@given(sizes=st.lists(st.integers(0, 70), max_size=6))
def test_segments_hold_rows_in_order_however_they_are_cut(
    sizes: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("segment") / "x.parquet"
    keys = segments.Keyring(bytes(32))
    sealing = keys.sealing("data", "d", "x.parquet")
    writer = segments.SegmentWriter(path, {"n": "integer"}, sealing, arranged=False)
    writer_schema = pa.schema([("n", pa.int64()), ("_bucket", pa.int32()), ("_load", pa.int64())])
    numbers = iter(range(1000))
    expected: list[int] = []
    for size in sizes:
        part = [next(numbers) for _ in range(size)]
        expected += part
        internal = {"_bucket": [n % 256 for n in part], "_load": [1] * size}
        writer.write(pa.table({"n": part, **internal}, writer_schema))
    writer.finish()
    opening = partial(keys.opening, "data", "d", "x.parquet")
    with segments.SegmentReader(path, "d", opening) as reader:
        found = [n for batch in reader.batches(["n"]) for n in batch[0].to_pylist()]
    assert found == expected
    assert writer.rows == len(expected)


def test_long_texts_do_not_wait_for_as_many_rows_as_short_ones(data, monkeypatch) -> None:
    monkeypatch.setattr(segments, "_CHUNK_BYTES", 1 << 20)
    sealing = segments.Keyring(KEY).sealing("data", "d", "f")
    path = data.folder / "part"
    writer = segments.SegmentWriter(path, {"text": "text"}, sealing, arranged=True)
    for written, length in ((0, 1000), (0, 1000), (300, 10_000)):
        texts = pa.table(
            {"text": ["x" * length] * 100, segments.BUCKET: [7] * 100, segments.LOAD: [1] * 100}
        )
        writer.write(texts)
        assert writer.rows == written
    writer.abandon()


@pytest.mark.parametrize("place", [0.02, 0.3, 0.6, 0.9, 0.99])
def test_verifying_finds_a_flipped_bit_wherever_it_is(data, place: float) -> None:
    for number in range(2):
        data.warehouse.append("sales", COLUMNS, rows(*FIRMS), str(number) * 64)
    seen: list[tuple[int, int]] = []
    assert data.warehouse.verify(lambda *done: seen.append(done)) == ()
    size = sum(path.stat().st_size for path in files(data.folder / "warehouse"))
    assert seen[-1] == (size, size)
    spoiled = data.folder / "warehouse" / data.warehouse.segments()[1].file
    raw = bytearray(spoiled.read_bytes())
    raw[int(len(raw) * place)] ^= 1
    spoiled.write_bytes(raw)
    (found,) = data.warehouse.verify()
    assert (found.dataset, found.kind, found.file) == ("sales", "data", spoiled.name)
    assert "not the one that was written" in found.reason.en
    spoiled.unlink()
    assert "missing" in data.warehouse.verify()[0].reason.en


def test_verifying_compares_rows_with_the_manifest(data) -> None:
    data.warehouse.append("sales", COLUMNS, rows(*FIRMS), "1" * 64)
    with writing(data.database) as connection:
        connection.execute(update(segment_table).values(rows=41))
    assert len(data.warehouse.verify()) == 1


def test_what_gives_way_while_it_is_verified_is_not_missing(data, monkeypatch) -> None:
    for number in range(2):
        data.warehouse.append("sales", COLUMNS, rows(*FIRMS), str(number) * 64)
    real = manifest.segments

    def listed(*what: object, **more: object) -> tuple[manifest.Segment, ...]:
        monkeypatch.setattr(manifest, "segments", real)
        parts = real(*what, **more)  # type: ignore[arg-type]
        data.warehouse.compact()
        return parts

    monkeypatch.setattr(manifest, "segments", listed)
    assert data.warehouse.verify() == ()
