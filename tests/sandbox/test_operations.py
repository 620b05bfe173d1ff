"""Synthetic operations: seeded, within the schemas' ranges, never of the future, risky as meant."""

from __future__ import annotations

import datetime as dt

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from hejin_models.features import FeatureView, view_file
from hejin_models.schemas import shipped_schemas
from hejin_models.uscc import make_code
from hejin_sandbox.generator import AS_OF, CLUSTERS, ClusterData, generate
from hejin_sandbox.operations import operations

_DAY = AS_OF.astype(dt.date)
_CODES = tuple(make_code(i) for i in range(400))
Tables = dict[str, pa.Table]


@pytest.fixture(name="data", scope="module", params=CLUSTERS, ids=lambda cluster: cluster.id)
def _data(request: pytest.FixtureRequest) -> ClusterData:
    return generate(request.param, 400, 3)


@pytest.fixture(name="tables", scope="module")
def _tables(data: ClusterData) -> Tables:
    return operations(data, _CODES, 3)


def test_the_same_seed_gives_the_same_tables(data: ClusterData, tables: Tables) -> None:
    assert operations(data, _CODES, 3) == tables
    assert operations(data, _CODES, 4) != tables


def test_every_value_is_as_the_schema_says(tables: Tables) -> None:
    schemas = shipped_schemas()
    for dataset, table in tables.items():
        schema = schemas[dataset]
        assert table.column_names == ["enterprise", *schema.columns]
        for column in schema.columns.values():
            values = table.column(column.name)
            where = f"{dataset}.{column.name}"
            if column.required:
                assert values.null_count == 0, where
            if column.minimum is not None:
                assert pc.min(values).as_py() >= column.minimum, where
                assert pc.max(values).as_py() <= column.maximum, where


def test_nothing_is_dated_after_the_as_of_date_but_promises(tables: Tables) -> None:
    for table in tables.values():
        for field in table.schema:
            if pa.types.is_date(field.type) and field.name not in ("promised", "due"):
                assert pc.max(table.column(field.name)).as_py() <= _DAY, field.name


def test_hours_of_a_machine_are_not_more_than_planned(tables: Tables) -> None:
    machines = tables["machines"]
    used = pc.add(machines.column("run_hours"), machines.column("stop_hours"))
    assert pc.all(pc.less_equal(used, pc.add(machines.column("planned_hours"), 0.11))).as_py()


def test_a_return_has_its_day_and_its_amount(tables: Tables) -> None:
    orders = tables["orders"]
    assert orders.column("returned").is_null().equals(orders.column("returned_amount").is_null())
    back = orders.filter(pc.is_valid(orders.column("returned")))
    assert back.num_rows > 0
    assert pc.all(pc.greater(back.column("returned"), back.column("delivered"))).as_py()


def test_output_is_of_the_size_of_sales(data: ClusterData, tables: Tables) -> None:
    invoices = data.invoices
    valid = invoices.sale & ~invoices.void
    sales = np.bincount(invoices.enterprise[valid], invoices.net[valid], minlength=400)
    output = tables["output"].group_by("enterprise").aggregate([("output_value", "sum")])
    made = dict(zip(*(column.to_pylist() for column in output.columns), strict=True))
    ratio = [made[code] / sold for code, sold in zip(_CODES, sales, strict=True) if sold > 1e5]
    assert 0.6 < np.median(ratio) < 1.6


def test_risk_shows_in_operations_without_giving_the_outcome_away(
    data: ClusterData, tables: Tables
) -> None:
    view = FeatureView.parse(view_file("operations-v1"))
    with duckdb.connect() as connection:
        for name, table in tables.items():
            connection.register(name, table)
        found = connection.sql(view.source, params={"as_of": _DAY}).to_arrow_table()
    rows = {row["enterprise"]: row for row in found.to_pylist()}
    assert set(rows) == set(_CODES)
    bad = data.labels == 1
    for name, sign in (("late_rate", 1), ("utilisation", -1)):
        value = np.array([rows[code][name] or 0.0 for code in _CODES], dtype=np.float64)
        above = (value[bad][:, None] > value[~bad][None, :]).mean()
        ties = (value[bad][:, None] == value[~bad][None, :]).mean()
        auc = above + ties / 2
        assert 0.04 < sign * (auc - 0.5) < 0.3, name


def test_every_feature_of_operations_spreads_over_its_grid() -> None:
    view = FeatureView.parse(view_file("operations-v1"))
    codes = tuple(make_code(i) for i in range(1500))
    tables = operations(generate(CLUSTERS[0], 1500, 5), codes, 5)
    with duckdb.connect() as connection:
        for name, table in tables.items():
            connection.register(name, table)
        found = connection.sql(view.source, params={"as_of": _DAY}).to_arrow_table()
    cells = view.cells({feature.name: found[feature.name].to_pylist() for feature in view.features})
    for place, feature in enumerate(view.features):
        used = np.bincount(cells[:, place], minlength=feature.grid.cells)
        assert np.count_nonzero(used) >= 5, feature.name
        assert used[-1] < 0.05 * len(codes), feature.name  # missing
