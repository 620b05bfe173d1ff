"""What a sandbox's nodes are given can be read by a node, and holds nothing it should not."""

from __future__ import annotations

import csv
import datetime as dt
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hejin_models.features import Dataset, FeatureView, view_file
from hejin_models.uscc import check_code
from hejin_node.bulk import read_grants
from hejin_node.mapping import SourceMapping
from hejin_sandbox.errors import TableError
from hejin_sandbox.generator import CLUSTERS, generate
from hejin_sandbox.inputs import (
    from_cluster,
    from_table,
    match_columns,
    only_dataset,
    write_inputs,
)
from hejin_sandbox.tables import groups_by
from hejin_trust.text import Text

_DATASET = Dataset(
    "records", "trade", {"size": "integer", "share": "number", "kind": "text", "since": "date"}
)


def _table() -> pa.Table:
    return pa.table(
        {
            "Size": [1.0, math.nan, 3.0, 4.0],
            "share": [0.5, math.inf, None, -1.0],
            "kind": [1, 2, None, 4],
            "since": np.arange("2020-01-01", "2020-01-05", dtype="datetime64[D]").astype(
                "datetime64[ms]"
            ),
            "home": ["b", "a", "b", "a"],
            "y": [0, 1, 0, 1],
        }
    )


def test_columns_are_matched_by_name_case_aside() -> None:
    found = match_columns(_table(), _DATASET, forbidden={})
    assert found == {"size": "Size", "share": "share", "kind": "kind", "since": "since"}


def test_a_view_that_needs_what_the_table_lacks_is_refused() -> None:
    with pytest.raises(TableError, match="needs the column share, and the table has 0"):
        match_columns(_table().drop_columns("share"), _DATASET, forbidden={})
    twice = _table().append_column("SIZE", pa.array([1, 2, 3, 4]))
    with pytest.raises(TableError, match="size, and the table has 2"):
        match_columns(twice, _DATASET, forbidden={})


def test_a_view_that_reads_the_label_is_refused() -> None:
    with pytest.raises(TableError, match="Size, which is the label itself"):
        match_columns(_table(), _DATASET, forbidden={"Size": Text("the label itself", "标签本身")})


def test_each_row_becomes_one_enterprise_with_its_own_valid_code() -> None:
    table = _table()
    labels = np.array([0, 1, 0, 1], dtype=np.int8)
    sources = match_columns(table, _DATASET, forbidden={})
    nodes = from_table(table, labels, groups_by(table, "home"), _DATASET, sources)
    assert [node.id for node in nodes] == ["a", "b"]
    codes = [code for node in nodes for code in node.codes]
    assert len(set(codes)) == 4
    for code in codes:
        check_code(code)
    assert nodes[0].labels.tolist() == [1, 1]
    assert nodes[1].labels.tolist() == [0, 0]
    assert nodes[0].records.column_names == ["enterprise", "size", "share", "kind", "since"]
    assert nodes[0].records.column("size").to_pylist() == [None, 4]
    assert nodes[0].records.column("share").to_pylist() == [math.inf, -1.0]
    assert nodes[0].records.column("kind").to_pylist() == ["2", "4"]
    assert nodes[0].records.column("since").to_pylist() == [
        dt.date(2020, 1, 2),
        dt.date(2020, 1, 4),
    ]


def test_a_column_of_another_nature_than_the_view_says_is_refused() -> None:
    table = pa.table({"size": ["big", "small"], "home": ["a", "b"]})
    dataset = Dataset("records", "trade", {"size": "integer"})
    with pytest.raises(TableError, match="takes column size as integer, and the table has string"):
        from_table(
            table,
            np.array([0, 1], dtype=np.int8),
            groups_by(table, "home"),
            dataset,
            {"size": "size"},
        )


def test_a_view_over_two_data_sets_does_not_fit_one_table() -> None:
    data = view_file("trade-v1").decode()
    other = '[datasets.orders]\ncategory = "fulfilment"\n[datasets.orders.columns]\nx = "number"\n'
    view = FeatureView.parse(data.replace("[[features]]", other + "\n[[features]]", 1).encode())
    with pytest.raises(TableError, match="reads 2 data sets"):
        only_dataset(view)


def test_a_nodes_files_are_what_a_node_reads(tmp_path: Path) -> None:
    view = FeatureView.parse(view_file("trade-v1"))
    node = from_cluster(generate(CLUSTERS[0], 30, 1), first_code=500)
    files = write_inputs(node, view, "bank", tmp_path / "n", dt.date(2026, 3, 1))

    mapping = SourceMapping.parse(files.mapping.read_bytes())
    assert mapping.dataset == "invoices"
    records = pq.read_table(files.records)
    assert set(mapping.schema) == set(records.column_names)

    grants = read_grants(files.authorisations)
    assert [one.code for one in grants] == list(node.codes)
    terms = grants[0].terms
    assert (terms.purposes, terms.banks, terms.categories) == (
        ("model-training",),
        ("bank",),
        ("trade",),
    )
    assert set(terms.features) == {feature.name for feature in view.features}
    assert terms.valid_from.date() < dt.date(2026, 3, 1) < terms.valid_to.date()

    with files.labels.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["enterprise"] for row in rows] == list(node.codes)
    assert [int(row["label"]) for row in rows] == node.labels.tolist()


def test_generated_data_says_that_it_is_synthetic_wherever_it_goes(tmp_path: Path) -> None:
    node = from_cluster(generate(CLUSTERS[2], 20, 1), first_code=0)
    assert "合成数据" in node.name.zh
    assert "synthetic" in node.name.en
    view = FeatureView.parse(view_file("trade-v1"))
    files = write_inputs(node, view, "bank", tmp_path, dt.date(2026, 3, 1))
    metadata = pq.read_schema(files.records).metadata
    assert "合成数据" in metadata[b"hejin"].decode()
    assert all(p.startswith("SYN-") for p in node.records.column("counterparty").to_pylist())
