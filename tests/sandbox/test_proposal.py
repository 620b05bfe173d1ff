"""A proposed view reads back as a view, covers the data, and says that it is not private."""

from __future__ import annotations

import datetime as dt
import math

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from hejin_models.features import FeatureView
from hejin_sandbox.errors import TableError
from hejin_sandbox.proposal import NOT_PRIVATE, Proposal, propose_view

_ROWS = 400


def _table() -> pa.Table:
    rng = np.random.default_rng(5)
    return pa.table(
        {
            "ID": np.arange(_ROWS) + 1000,
            "code": [f"E{i}" for i in range(_ROWS)],
            "Sector": rng.choice(["retail", "wholesale", '引"号'], _ROWS),
            "order": rng.integers(0, 6, _ROWS),
            "Amount (CNY)": np.exp(rng.normal(10, 2, _ROWS)),
            "balance": rng.normal(0, 1, _ROWS) * np.exp(rng.normal(8, 2, _ROWS)),
            "share": np.where(rng.random(_ROWS) < 0.1, math.nan, rng.random(_ROWS)),
            "founded": [dt.date(2000, 1, 1) + dt.timedelta(days=7 * i) for i in range(_ROWS)],
            "注册资本": rng.integers(1, 10**6, _ROWS),
            "flag": rng.random(_ROWS) < 0.5,
            "constant": np.ones(_ROWS),
            "empty": pa.nulls(_ROWS, pa.float64()),
            "y": rng.integers(0, 2, _ROWS),
        }
    )


@pytest.fixture(name="proposal", scope="module")
def _proposal() -> Proposal:
    return propose_view(_table(), exclude={"y"})


def test_a_proposed_view_is_a_view_and_leaves_out_what_is_no_feature(proposal: Proposal) -> None:
    view = FeatureView.parse(proposal.toml.encode())
    assert [feature.name for feature in view.features] == [c.name for c in proposal.columns]
    assert [c.source for c in proposal.columns] == [
        "Sector", "order", "Amount (CNY)", "balance", "share", "founded", "注册资本", "flag",
    ]  # fmt: skip
    assert {source for source, _ in proposal.left_out} == {"ID", "code", "constant", "empty"}


def test_a_proposed_view_says_that_it_is_not_private(proposal: Proposal) -> None:
    assert NOT_PRIVATE.en in proposal.toml
    assert NOT_PRIVATE.zh in proposal.toml


def test_the_proposed_sql_runs_and_its_grids_spread_the_values(proposal: Proposal) -> None:
    view = FeatureView.parse(proposal.toml.encode())
    table = _table()
    records = pa.table(
        {
            "enterprise": table.column("code"),
            **{
                c.name: table.column(c.source).cast(pa.string())
                if c.kind == "text"
                else table.column(c.source)
                for c in proposal.columns
            },
        }
    )
    with duckdb.connect() as connection:
        connection.register("records", records)
        found = connection.execute(view.source).fetchnumpy()
    cells = view.cells({name: np.asarray(values) for name, values in found.items()})
    for column, feature in enumerate(view.features):
        counts = np.bincount(cells[:, column], minlength=feature.grid.cells)
        assert counts.max() < 0.62 * _ROWS, feature.name
        if feature.name != "share":
            assert counts[-1] == 0, feature.name


def test_the_grid_of_small_whole_numbers_has_one_cell_a_number() -> None:
    proposal = propose_view(pa.table({"n": [0, 1, 2, 3] * 30}), exclude=())
    grid = FeatureView.parse(proposal.toml.encode()).features[0].grid
    assert len(set(grid.index_column([0, 1, 2, 3]).tolist())) == 4


def test_a_column_that_is_nearly_constant_still_separates_the_few_that_differ() -> None:
    values = [0.0] * 5000 + [3.5, 9.25, 12.75]
    proposal = propose_view(pa.table({"n": values}), exclude=())
    grid = FeatureView.parse(proposal.toml.encode()).features[0].grid
    assert len(set(grid.index_column(values).tolist())) > 1


def test_infinite_values_do_not_spoil_a_grid() -> None:
    values = [math.inf, -math.inf, math.nan, *np.linspace(0.0, 7.7, 500)]
    proposal = propose_view(pa.table({"n": values}), exclude=())
    grid = FeatureView.parse(proposal.toml.encode()).features[0].grid
    assert len(set(grid.index_column(values).tolist())) > 30


def test_a_table_without_any_usable_column_is_refused() -> None:
    with pytest.raises(TableError, match="constant, empty or identifiers"):
        propose_view(pa.table({"a": [1, 1], "y": [0, 1]}), exclude={"y"})
