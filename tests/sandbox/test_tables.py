"""A user's table is split among nodes, or refused with a sentence that says why."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hejin_sandbox.errors import TableError
from hejin_sandbox.tables import (
    MOST_NODES,
    check_columns,
    dirichlet_groups,
    groups_by,
    label_column,
    read_table,
)


def test_parquet_and_csv_give_the_same_table(tmp_path: Path) -> None:
    table = pa.table({"a": [1, 2, 3], "名称": ["甲", "乙", None]})
    pq.write_table(table, tmp_path / "t.parquet")
    pacsv.write_csv(table, tmp_path / "t.csv")
    assert read_table(tmp_path / "t.parquet").equals(table)
    assert read_table(tmp_path / "t.csv").column("a").to_pylist() == [1, 2, 3]


def test_a_gb18030_file_is_read_as_what_it_says(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("集群,违约\n安平,0\n高阳,1\n".encode("gb18030"))
    assert read_table(tmp_path / "t.csv").column("集群").to_pylist() == ["安平", "高阳"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.csv", None, "no file"),
        ("t.xlsx", b"PK", "neither .parquet nor .csv"),
        ("t.csv", b"a,b\n1,2\n3\n", "malformed"),
        ("t.parquet", b"not parquet", "malformed"),
        ("t.csv", b"a,a\n1,2\n", "column a twice"),
        ("t.csv", b"a,b\n", "no rows"),
    ],
)
def test_a_file_that_is_no_table_is_refused(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(TableError, match=message):
        read_table(tmp_path / name)


def test_an_unknown_column_is_refused_with_those_that_exist() -> None:
    table = pa.table({"sector": ["a"], "bad": [1]})
    check_columns(table, ["bad", "sector"])
    with pytest.raises(TableError, match=r"no column regoin; it has: sector, bad"):
        check_columns(table, ["bad", "regoin"])


@pytest.mark.parametrize("labels", [[0, 1], [True, False], [0.0, 1.0]])
def test_a_label_of_zeros_and_ones_is_taken_in_any_numeric_type(labels: list[object]) -> None:
    assert set(label_column(pa.table({"y": labels}), "y").tolist()) == {0, 1}


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, None], "1 rows have no value"),
        ([0, 1, 2], "must be 0 or 1"),
        ([0.0, 1.0, math.nan], "must be 0 or 1"),
        (["good", "bad", "bad"], "must be 0 or 1"),
        ([0, 0, 0], "same label"),
    ],
)
def test_a_label_of_anything_else_is_refused(labels: list[object], message: str) -> None:
    with pytest.raises(TableError, match=message):
        label_column(pa.table({"y": labels}), "y")


def test_groups_have_readable_ids_and_hold_every_row_once() -> None:
    values = ["Food & Lodging", "安平丝网", "retail", "food-lodging", "retail"]
    groups = groups_by(pa.table({"g": values}), "g")
    assert [group.name.en for group in groups] == sorted(set(values))
    assert [group.id for group in groups] == [
        "food-lodging",
        "food-lodging-02",
        "retail",
        "node-04",
    ]
    assert sorted(np.concatenate([group.rows for group in groups]).tolist()) == [0, 1, 2, 3, 4]
    assert [values[row] for row in groups[2].rows] == ["retail", "retail"]


def test_a_group_called_bank_is_not_mistaken_for_the_bank() -> None:
    groups = groups_by(pa.table({"g": ["Bank", "regulator", "retail"]}), "g")
    assert [group.id for group in groups] == ["bank-01", "regulator-02", "retail"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["a", "a"], "1 different values"),
        ([str(i) for i in range(MOST_NODES + 1)], "33 different values"),
        (["a", "b", None], "1 rows have no value"),
    ],
)
def test_groups_that_make_no_consortium_are_refused(values: list[str | None], message: str) -> None:
    with pytest.raises(TableError, match=message):
        groups_by(pa.table({"g": values}), "g")


@settings(max_examples=25)
@given(nodes=st.integers(2, 8), seed=st.integers(0, 2**32), rows=st.integers(200, 600))
def test_a_dirichlet_split_deals_out_every_row_once_and_again_the_same(
    nodes: int, seed: int, rows: int
) -> None:
    labels = (np.arange(rows) % 5 == 0).astype(np.int8)
    groups = dirichlet_groups(labels, nodes, seed)
    assert sorted(np.concatenate([group.rows for group in groups]).tolist()) == list(range(rows))
    assert min(len(group.rows) for group in groups) >= rows // (10 * nodes)
    again = dirichlet_groups(labels, nodes, seed)
    assert all(np.array_equal(a.rows, b.rows) for a, b in zip(groups, again, strict=True))


@pytest.mark.parametrize(("rows", "nodes"), [(100, 1), (10_000, MOST_NODES + 1), (100, 10)])
def test_a_split_into_too_many_or_too_small_nodes_is_refused(rows: int, nodes: int) -> None:
    with pytest.raises(TableError):
        dirichlet_groups(np.zeros(rows, dtype=np.int8), nodes, 1)
