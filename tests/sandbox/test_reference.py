"""What the sandbox computes centrally is what the nodes would, without noise."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest

from hejin_models.features import FeatureView
from hejin_models.sums import SumRequest
from hejin_sandbox.inputs import NodeData
from hejin_sandbox.reference import Rows, exact_sum, rows_of, together
from hejin_trust.text import Text

_VIEW = FeatureView.parse(
    b"""
name = "small"
version = 1
source = "SELECT enterprise, size, kind FROM records WHERE size < 100"
[label]
en = "small"
zh = "small"
[datasets.records]
category = "trade"
[datasets.records.columns]
size = "number"
kind = "text"
[[features]]
name = "size"
en = "s"
zh = "s"
unit = { en = "-", zh = "-" }
grid = { kind = "linear", low = 0, high = 10, cells = 5 }
[[features]]
name = "kind"
en = "k"
zh = "k"
unit = { en = "-", zh = "-" }
grid = { kind = "categories", values = ["a", "b"] }
"""
)
_CODES = tuple(f"E{i}" for i in range(40))


@pytest.fixture(name="node")
def _node() -> NodeData:
    records = pa.table(
        {
            "enterprise": _CODES,
            "size": [float(i % 12) for i in range(39)] + [1000.0],
            "kind": ["a", "b", None, "c"] * 10,
        }
    )
    labels = (np.arange(40) % 3 == 0).astype(np.int8)
    return NodeData("n", Text("n", "n"), _CODES, labels, records)


def test_rows_are_those_that_the_view_gives_with_their_own_labels(node: NodeData) -> None:
    rows = rows_of(_VIEW, node, None, b"k" * 32, Fraction(1, 4))
    assert len(rows.labels) == 39  # the view leaves E39 out
    assert rows.labels.sum() == node.labels.sum() - 1  # E39 was bad
    assert 0 < rows.holdout.sum() < 39
    train, _ = rows.part(holdout=False)
    test, _ = rows.part(holdout=True)
    assert len(train) + len(test) == 39


def test_an_exact_sum_counts_the_training_part_alone(node: NodeData) -> None:
    rows = rows_of(_VIEW, node, None, b"k" * 32, Fraction(1, 4))
    answer = exact_sum(_VIEW, SumRequest(0, "label_histogram", 1, "train", {}), rows)
    slow = np.zeros(2 * _VIEW.total_cells)
    for cells, label, held in zip(rows.cells, rows.labels, rows.holdout, strict=True):
        if not held:
            for place in cells + _VIEW.offsets[:-1]:
                slow[place + label * _VIEW.total_cells] += 1
    assert np.array_equal(answer.values, slow)
    assert answer.noise_std == 0.0


def test_the_sum_over_all_nodes_is_the_sum_of_each(node: NodeData) -> None:
    a = rows_of(_VIEW, node, None, b"k" * 32, Fraction(1, 4))
    both = together([a, a])
    request = SumRequest(0, "histogram", 1, "holdout", {})
    one, two = (exact_sum(_VIEW, request, rows).values for rows in (a, both))
    assert np.array_equal(2 * one, two)


def test_rows_without_a_holdout_share_all_train(node: NodeData) -> None:
    rows: Rows = rows_of(_VIEW, node, None, b"k" * 32, Fraction(0))
    assert not rows.holdout.any()
