"""operations-v1 and full-v1: right by hand, and no shipped view sees what comes later."""

from __future__ import annotations

import datetime as dt
import math
from functools import cache

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hejin_models.features import FeatureView, view_file
from hejin_models.schemas import shipped_schemas
from hejin_models.uscc import make_code
from hejin_sandbox.generator import CLUSTERS, generate
from hejin_sandbox.inputs import from_cluster
from hejin_sandbox.operations import operations

_DAY = dt.date(2025, 6, 30)
_TYPES = {"text": pa.string(), "number": pa.float64(), "integer": pa.int64(), "date": pa.date32()}

Tables = dict[str, pa.Table]
_Found = dict[str, dict[str, float]]


def _features(name: str, tables: Tables, day: dt.date = _DAY) -> _Found:
    view = FeatureView.parse(view_file(name))
    with duckdb.connect() as connection:
        for dataset in view.datasets:
            connection.register(dataset.name, tables[dataset.name])
        found = connection.sql(view.source, params={"as_of": day}).to_arrow_table()
    return {row.pop("enterprise"): row for row in found.to_pylist()}


def _tables(**rows: list[dict[str, object]]) -> Tables:
    """Return every data set, with the rows given, of enterprise E where they name none."""
    found = {}
    for dataset, schema in shipped_schemas().items():
        kinds = {name: _TYPES[column.type] for name, column in schema.columns.items()}
        own = [{"enterprise": "E", **row} for row in rows.get(dataset, [])]
        found[dataset] = pa.Table.from_pylist(
            own, schema=pa.schema({"enterprise": pa.string(), **kinds})
        )
    return found


def _alike(one: dict[str, float], other: dict[str, float]) -> bool:
    """Return whether two rows agree but for rounding: sums may come in another order."""
    a, b = ({k: math.nan if v is None else v for k, v in row.items()} for row in (one, other))
    return a == pytest.approx(b, rel=1e-9, nan_ok=True)


def _month(back: int) -> dt.date:
    """Return a day in the month that was `back` months before July 2025."""
    year, month = divmod(2025 * 12 + 6 - back, 12)
    return dt.date(year, month + 1, 3)


def _ago(days: int) -> dt.date:
    return _DAY - dt.timedelta(days)


def test_a_small_book_of_output_gives_the_features_worked_out_by_hand() -> None:
    rows: list[dict[str, object]] = [
        {"month": _month(1), "output_value": 300e3, "energy": 1000.0, "headcount": 12,
         "quality_rate": 0.9},
        {"month": _month(1), "output_value": 100e3, "energy": 600.0, "headcount": 8,
         "quality_rate": None},
        {"month": _month(3), "output_value": 200e3, "energy": None, "headcount": 10,
         "quality_rate": 0.96},
        {"month": _month(11), "output_value": 0.0, "energy": 50.0, "headcount": 30},
        {"month": _month(12), "output_value": 50e3, "energy": 100.0, "headcount": 40},
        {"month": _month(13), "output_value": 900e3, "headcount": 50},
        {"month": _month(25), "output_value": 5e9, "headcount": 9999},
    ]  # fmt: skip
    found = _features("operations-v1", _tables(output=rows))["E"]
    assert found["output_value"] == 650e3
    assert found["output_growth"] == pytest.approx(math.log(650 / 900))
    assert found["output_volatility"] == pytest.approx(
        np.std([400, 200, 50, *[0] * 9]) / np.mean([400, 200, 50, *[0] * 9])
    )
    assert found["output_months"] == 3
    assert found["energy_intensity"] == pytest.approx(1700 / 450)
    assert found["headcount"] == 15  # 20 and 10 in the two months that have figures
    assert found["headcount_change"] == pytest.approx(math.log(15 / 35))
    assert found["quality_rate"] == pytest.approx((0.9 * 300 + 0.96 * 200) / 500)


def test_a_small_workshop_gives_the_features_worked_out_by_hand() -> None:
    rows: list[dict[str, object]] = [
        {"month": _month(1), "machine": "a", "planned_hours": 200.0, "run_hours": 100.0,
         "stop_hours": 30.0, "failures": 2},
        {"month": _month(2), "machine": "b", "planned_hours": 200.0, "run_hours": 0.0},
        {"month": _month(4), "machine": "a", "planned_hours": 100.0, "run_hours": 90.0,
         "stop_hours": 3.0, "failures": 0},
        {"month": _month(12), "machine": "c", "planned_hours": 100.0, "run_hours": 60.0,
         "stop_hours": None, "failures": None},
    ]  # fmt: skip
    found = _features("operations-v1", _tables(machines=rows))["E"]
    assert found["utilisation"] == pytest.approx(250 / 600)
    assert found["utilisation_change"] == pytest.approx(100 / 400 - 150 / 200)
    assert found["stop_share"] == pytest.approx(33 / 300)
    assert found["failure_rate"] == pytest.approx(1000 * 2 / 190)
    assert found["machines_running"] == 1


def test_a_small_store_gives_the_features_worked_out_by_hand() -> None:
    stock: list[dict[str, object]] = [
        {"month": _month(1), "item": "raw", "stock_value": 60.0, "issued_value": 100.0},
        {"month": _month(1), "item": "made", "stock_value": 40.0, "issued_value": 50.0},
        {"month": _month(10), "item": "raw", "stock_value": 50.0, "issued_value": 30.0},
    ]
    shipments: list[dict[str, object]] = [
        {"sent": _ago(10), "due": _ago(5), "arrived": _ago(5)},
        {"sent": _ago(20), "due": _ago(12), "arrived": _ago(11)},
        {"sent": _ago(30), "due": _ago(2), "arrived": None},
        {"sent": _ago(3), "due": _DAY + dt.timedelta(1), "arrived": None},
        {"sent": _ago(400), "due": _ago(390), "arrived": _ago(380)},
        {"sent": _ago(720), "due": _ago(1), "arrived": None},
    ]
    found = _features("operations-v1", _tables(stock=stock, shipments=shipments))["E"]
    assert found["turnover_days"] == pytest.approx(30 * 75 / 90)
    assert found["stock_change"] == pytest.approx(math.log(100 / 50))
    assert found["shipment_count"] == 4
    assert found["late_rate"] == pytest.approx(2 / 3)
    assert found["days_since_shipment"] == 3


def test_a_small_book_of_orders_gives_the_features_worked_out_by_hand() -> None:
    orders: list[dict[str, object]] = [
        {"ordered": _ago(50), "customer": "a", "amount": 300.0, "promised": _ago(20),
         "delivered": _ago(20), "returned": _ago(3), "returned_amount": 30.0},
        {"ordered": _ago(40), "customer": "b", "amount": 100.0, "promised": _ago(10),
         "delivered": _ago(5)},
        {"ordered": _ago(9), "customer": "a", "amount": 200.0, "promised": _ago(1)},
        {"ordered": _ago(2), "customer": "b", "amount": 100.0, "promised": _DAY + dt.timedelta(9)},
        {"ordered": _ago(500), "customer": "c", "amount": 1400.0, "promised": _ago(450),
         "delivered": _ago(470), "returned": _ago(400), "returned_amount": 1400.0},
    ]  # fmt: skip
    found = _features("operations-v1", _tables(orders=orders))["E"]
    assert found["order_amount"] == 700
    assert found["order_growth"] == pytest.approx(math.log(700 / 1400))
    assert found["on_time_rate"] == pytest.approx(1 / 3)
    assert found["delivery_days"] == pytest.approx((30 + 35) / 2)
    assert found["return_rate"] == pytest.approx(30 / 400)
    assert found["order_concentration"] == pytest.approx((500**2 + 200**2) / 700**2)
    assert found["backlog"] == pytest.approx(300 / 700)


@pytest.mark.parametrize(("day", "counted"), [(dt.date(2025, 6, 29), 0), (dt.date(2025, 6, 30), 1)])
def test_a_month_counts_from_its_last_day_on(day: dt.date, counted: int) -> None:
    tables = _tables(output=[{"month": dt.date(2025, 6, 1), "output_value": 5.0}])
    assert len(_features("operations-v1", tables, day)) == counted


@cache
def _cluster() -> Tables:
    """Return a cluster of 12 with all its data sets; nobody changes them."""
    data = generate(CLUSTERS[2], 12, 9)
    node = from_cluster(data, 0)
    return {"invoices": node.records, **operations(data, node.codes, 9)}


def test_full_v1_gives_what_trade_v1_and_operations_v1_give() -> None:
    tables = _cluster()
    trade, works = _features("trade-v1", tables), _features("operations-v1", tables)
    full = _features("full-v1", tables)
    assert set(full) == set(trade) | set(works)
    for code, row in full.items():
        assert _alike(row, {**trade[code], **works[code]})


def test_full_v1_has_the_features_and_grids_of_the_other_two() -> None:
    trade, works, full = (
        FeatureView.parse(view_file(name)) for name in ("trade-v1", "operations-v1", "full-v1")
    )
    assert full.features == (*trade.features, *works.features)
    assert full.datasets == (*trade.datasets, *works.datasets)


def test_an_enterprise_with_one_kind_of_data_has_the_other_features_missing() -> None:
    tables = _tables(orders=[{"ordered": _ago(9), "customer": "a", "amount": 200.0}])
    found = _features("full-v1", tables)["E"]
    assert {name for name, value in found.items() if value is not None} == {
        "order_amount", "order_concentration", "backlog",
    }  # fmt: skip


# What each column tells, and when that is known: written down here anew, not read from a schema.
_ROW_TIME = {"invoices": "date", "shipments": "sent", "orders": "ordered"}
_KNOWN_LATER = {
    "shipments": {"arrived": "arrived"},
    "orders": {"delivered": "delivered", "returned": "returned", "returned_amount": "returned"},
}


def _is_past(dataset: str, row: dict[str, object], day: dt.date) -> bool:
    if dataset in _ROW_TIME:
        return row[_ROW_TIME[dataset]] <= day  # type: ignore[operator]
    month = row["month"]
    assert isinstance(month, dt.date)
    return (month.replace(day=28) + dt.timedelta(4)).replace(day=1) <= day + dt.timedelta(1)


def _other_future(tables: Tables, day: dt.date, rng: np.random.Generator) -> Tables:
    """Return the data sets with all that comes after `day` changed at random, or gone."""
    changed = {}
    for dataset, table in tables.items():
        rows = []
        for row in table.to_pylist():
            if not _is_past(dataset, row, day):
                if rng.random() < 0.5:
                    continue
                row = {k: v * 1000 if isinstance(v, float) else v for k, v in row.items()}
            later = [
                name
                for name, known in _KNOWN_LATER.get(dataset, {}).items()
                if row[known] is None or row[known] > day
            ]
            come = day + dt.timedelta(int(rng.integers(1, 500)))
            for name in later:
                row[name] = 1e6 if name == "returned_amount" else come
            rows.append(row)
        changed[dataset] = pa.Table.from_pylist(rows, schema=table.schema)
    return changed


@settings(max_examples=12, deadline=None)
@given(
    st.sampled_from(["trade-v1", "operations-v1", "full-v1"]),
    st.dates(dt.date(2023, 12, 1), _DAY),
    st.integers(0, 2**32),
)
def test_no_event_after_the_as_of_date_changes_a_feature(
    name: str, day: dt.date, seed: int
) -> None:
    tables = _cluster()
    before = _features(name, tables, day)
    after = _features(name, _other_future(tables, day, np.random.default_rng(seed)), day)
    assert before
    assert set(before) == set(after)
    for code, row in before.items():
        assert _alike(row, after[code])


@settings(max_examples=6, deadline=None)
@given(st.sampled_from(["operations-v1", "full-v1"]), st.sets(st.integers(0, 11), min_size=1))
def test_an_enterprise_has_the_same_features_whoever_is_there(name: str, who: set[int]) -> None:
    tables, codes = _cluster(), pa.array([make_code(i) for i in who])
    some = {
        dataset: table.filter(pa.compute.is_in(table.column("enterprise"), codes))
        for dataset, table in tables.items()
    }
    together, alone = _features(name, tables), _features(name, some)
    assert set(alone) == set(codes.to_pylist())
    for code, row in alone.items():
        assert _alike(row, together[code])
