"""Compaction: fewer files, the same rows, whatever happens in between."""

from __future__ import annotations

import itertools
from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hejin_node import compaction, manifest, warehouse
from hejin_node.compaction import Compacted
from hejin_node.errors import SegmentError, WarehouseError
from hejin_node.loading import SegmentFiles
from hejin_node.manifest import Counts
from hejin_node.segments import Columns
from hejin_trust.database import writing

COLUMNS: Columns = {"enterprise": "text", "count": "integer"}
FIRMS = [f"firm {n}" for n in range(40)]
ALL = ["enterprise", "count", "_bucket", "_load"]
_numbers = itertools.count(1)


def add(data, firms: list[str], name: str = "sales") -> None:
    numbers = pa.array([next(_numbers) for _ in firms], pa.int64())
    table = pa.table([pa.array(firms, pa.string()), numbers], list(COLUMNS))
    data.warehouse.append(name, COLUMNS, table.to_batches(), f"{next(_numbers):064x}")


def rows(data, name: str = "sales") -> list[tuple[object, ...]]:
    batches = list(data.warehouse.read("data", name, ALL))
    return [tuple(row.values()) for row in pa.Table.from_batches(batches).to_pylist()]


def files(data) -> set[str]:
    return {path.name for path in (data.folder / "warehouse").iterdir() if path.name != ".lock"}


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    loads=st.lists(
        st.lists(st.sampled_from(FIRMS), min_size=1, max_size=60), min_size=2, max_size=5
    ),
    chunk=st.sampled_from([1, 10, 50, 1000]),
    full=st.sampled_from([20, 1000]),
)
def test_compaction_keeps_every_row_and_the_order_within_an_enterprise(
    data, loads: list[list[str]], chunk: int, full: int
) -> None:
    name = f"sales{next(_numbers)}"
    for firms in loads:
        add(data, firms, name)
    before = rows(data, name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compaction, "CHUNK", chunk)
        patch.setattr(compaction, "FULL", full)
        data.warehouse.compact(name)
    after = rows(data, name)
    assert Counter(after) == Counter(before)
    parts = data.warehouse.segments("data", name)
    assert sum(part.rows for part in parts) == len(before)
    assert data.warehouse.rows("data", name) == len(before)
    if full == 1000:
        assert len(parts) == 1
        assert [row[2] for row in after] == sorted(row[2] for row in before)
        for firm in FIRMS:
            assert [row for row in after if row[0] == firm] == [
                row for row in before if row[0] == firm
            ]
    assert parts[-1].buckets.sum() == parts[-1].rows


def test_each_kind_and_data_set_is_merged_by_itself(data) -> None:
    for name in ("sales", "sales", "orders", "orders"):
        with data.warehouse.loading("data", name, f"{next(_numbers):064x}") as work:
            for kind in ("data", "quarantine"):
                table = pa.table({"enterprise": ["b", "a"], "count": [2, 1]})
                work.writer(kind, name, COLUMNS).write(table)
            work.complete(Counts(4, 2))
            with writing(data.database) as connection:
                work.publish(connection)
    assert data.warehouse.compact("sales") == Compacted(4, 2)
    assert data.warehouse.compact("sales") == Compacted(0, 0)
    assert len(data.warehouse.segments()) == 6
    assert data.warehouse.compact() == Compacted(4, 2)
    assert len(files(data)) == 4
    assert [row["enterprise"] for row in data.rows("sales", "quarantine")] == ["b", "a"] * 2


def test_merging_tells_how_far_it_is(data) -> None:
    for _ in range(3):
        add(data, FIRMS)
    seen: list[tuple[int, int]] = []
    data.warehouse.compact(progress=lambda *told: seen.append(told))
    assert seen[-1] == (120, 120)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_data_sets_whose_columns_changed_are_not_mixed(data) -> None:
    add(data, FIRMS)
    add(data, FIRMS)
    more: Columns = {**COLUMNS, "net": "number"}
    table = pa.table({"enterprise": ["a"], "count": [1], "net": [1.5]})
    data.warehouse.append("sales", more, table.to_batches(), "f" * 64)
    assert data.warehouse.compact() == Compacted(2, 1)
    assert [part.columns for part in data.warehouse.segments()] == [more, COLUMNS]


@pytest.mark.parametrize("step", ["rewrite", "list_segments", "remove"])
def test_a_crash_at_any_step_loses_and_doubles_nothing(
    data, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        add(data, FIRMS)
    before = Counter(rows(data))
    real = compaction.rewrite

    def crash(*_args: object, **_more: object) -> None:
        raise KeyboardInterrupt

    def crash_after(*args: object, **more: object) -> None:
        real(*args, **more)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        if step == "rewrite":
            patch.setattr(warehouse, "rewrite", crash_after)
        elif step == "list_segments":
            patch.setattr(manifest, "list_segments", crash)
        else:
            patch.setattr(SegmentFiles, "remove", crash)
        with pytest.raises(KeyboardInterrupt):
            data.warehouse.compact()
    assert Counter(rows(data)) == before
    data.warehouse.sweep()
    assert Counter(rows(data)) == before
    assert files(data) == {part.file for part in data.warehouse.segments()}
    assert len(files(data)) == (1 if step == "remove" else 3)


def test_what_is_damaged_is_not_merged(data) -> None:
    add(data, FIRMS)
    add(data, FIRMS)
    listed = data.warehouse.segments()
    spoiled = data.folder / "warehouse" / listed[1].file
    raw = bytearray(spoiled.read_bytes())
    raw[50] ^= 1
    spoiled.write_bytes(raw)
    with pytest.raises(SegmentError, match="damaged"):
        data.warehouse.compact()
    assert files(data) == {part.file for part in listed}
    spoiled.unlink()
    with pytest.raises(SegmentError, match="missing"):
        data.warehouse.compact()


def test_a_series_of_small_loads_is_merged_by_itself(data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warehouse, "MANY", 4)
    for expected in (1, 2, 3, 1, 2, 3, 1):
        add(data, FIRMS)
        assert len(data.warehouse.segments()) == expected
    assert len(rows(data)) == 7 * len(FIRMS)


def test_a_load_is_complete_although_merging_fails(data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warehouse, "MANY", 2)
    add(data, FIRMS)
    spoiled = data.folder / "warehouse" / data.warehouse.segments()[0].file
    spoiled.write_bytes(b"gone")
    add(data, FIRMS)
    assert [load.state for load in data.warehouse.loads()] == ["complete"] * 2


def test_whoever_reads_goes_on_while_segments_are_merged(data) -> None:
    for _ in range(3):
        add(data, FIRMS)
    before = Counter(row[:2] for row in rows(data))
    batches = data.warehouse.read("data", "sales")
    found = [next(batches)]
    data.warehouse.compact()
    found += batches
    read = pa.Table.from_batches(found).to_pylist()
    assert Counter(tuple(row.values()) for row in read) == before


def test_a_reader_that_listed_the_old_files_reads_the_new_ones(
    data, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        add(data, FIRMS)
    listed = data.warehouse.segments("data", "sales")
    data.warehouse.compact()
    real, answers = data.warehouse.segments, [listed]
    monkeypatch.setattr(
        data.warehouse, "segments", lambda *what: answers.pop() if answers else real(*what)
    )
    assert len(rows(data)) == 3 * len(FIRMS)


def test_nothing_is_left_where_the_disk_is_full(data, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        add(data, FIRMS)
    before = files(data)

    def full(_self: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hejin_node.segments.SegmentWriter.finish", full)
    with pytest.raises(WarehouseError, match="No space left"):
        data.warehouse.compact()
    assert files(data) == before
