"""The shipped trade view: right by hand, blind to the future and to other enterprises."""

from __future__ import annotations

import datetime as dt
import math

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from hejin_models.features import FeatureView, view_file
from hejin_sandbox.generator import AS_OF, CLUSTERS, generate
from hejin_sandbox.inputs import from_cluster

_DAY = dt.date(2025, 6, 30)
_COLUMNS = ("enterprise", "direction", "counterparty", "date", "net", "tax", "status")


@pytest.fixture(name="view", scope="module")
def _view() -> FeatureView:
    return FeatureView.parse(view_file("trade-v1"))


_Found = dict[str, dict[str, float]]


def _features(view: FeatureView, invoices: pa.Table, day: dt.date = _DAY) -> _Found:
    with duckdb.connect() as connection:
        connection.register("invoices", invoices)
        found: pa.Table = connection.sql(view.source, params={"as_of": day}).to_arrow_table()
    return {row.pop("enterprise"): row for row in found.to_pylist()}


def _invoices(*rows: tuple[object, ...]) -> pa.Table:
    return pa.table(dict(zip(_COLUMNS, map(list, zip(*rows, strict=True)), strict=True)))


def _sale(net: float, days: int, customer: str = "c", status: str = "valid") -> tuple[object, ...]:
    return ("E", "out", customer, _DAY - dt.timedelta(days=days), net, 0.13 * net, status)


def _purchase(net: float, days: int, status: str = "valid") -> tuple[object, ...]:
    return ("E", "in", "s", _DAY - dt.timedelta(days=days), net, 0.13 * net, status)


def test_a_small_book_of_invoices_gives_the_features_worked_out_by_hand(view: FeatureView) -> None:
    found = _features(
        view,
        _invoices(
            _sale(300.0, 5, "big"),
            _sale(100.0, 40, "small"),
            _sale(-50.0, 41, "small"),
            _sale(999.0, 42, "big", "void"),
            _sale(700.0, 400),
            _purchase(140.0, 100),
            _purchase(60.0, 500, "void"),
            _sale(5000.0, 721),
        ),
    )["E"]
    assert found["sales_count"] == 3
    assert found["sales_net"] == 350
    assert found["purchase_net"] == 140
    assert found["margin"] == pytest.approx(1 - 140 / 350)
    assert found["sales_void_rate"] == pytest.approx(1 / 5)
    assert found["purchase_void_rate"] == pytest.approx(1 / 2)
    assert found["negative_rate"] == pytest.approx(1 / 4)
    assert found["customer_concentration"] == pytest.approx((300**2 + 100**2) / 400**2)
    assert found["supplier_concentration"] == 1
    assert found["tenure"] == 16  # 500 days
    assert found["active_months"] == 2
    assert found["volatility"] == pytest.approx(
        np.std([300, 50, *[0] * 10]) / np.mean([300, 50, *[0] * 10])
    )
    assert found["growth"] == pytest.approx(math.log(350 / 700))
    assert found["days_since_sale"] == 5


def test_an_enterprise_that_only_buys_has_no_sales_features(view: FeatureView) -> None:
    found = _features(view, _invoices(_purchase(10.0, 3)))["E"]
    missing = {name for name, value in found.items() if value is None}
    assert {"margin", "growth", "volatility", "customer_concentration"} <= missing
    assert (found["sales_count"], found["active_months"]) == (0, 0)


def test_invoices_after_the_as_of_date_change_nothing(view: FeatureView) -> None:
    past = [_sale(300.0, 5), _purchase(10.0, 0)]
    future = [_sale(1e6, -1), _sale(1e6, -30, "new"), _purchase(1e6, -1)]
    assert _features(view, _invoices(*past)) == _features(view, _invoices(*past, *future))


def test_no_enterprise_changes_the_features_of_another(view: FeatureView) -> None:
    node = from_cluster(generate(CLUSTERS[0], 60, 1), first_code=0)
    alone = node.codes[7]
    rows = node.records.filter(pa.compute.equal(node.records.column("enterprise"), alone))
    day = AS_OF.astype(dt.date)
    together, single = _features(view, node.records, day), _features(view, rows, day)
    assert set(single) == {alone}
    for name, value in single[alone].items():
        assert together[alone][name] == pytest.approx(value, rel=1e-9), name


def test_every_feature_spreads_over_its_grid_on_synthetic_clusters(view: FeatureView) -> None:
    node = from_cluster(generate(CLUSTERS[3], 800, 2), first_code=0)
    found = _features(view, node.records, AS_OF.astype(dt.date))
    columns = {
        feature.name: [row[feature.name] for row in found.values()] for feature in view.features
    }
    cells = view.cells(columns)
    for place, feature in enumerate(view.features):
        used = np.bincount(cells[:, place], minlength=feature.grid.cells)
        assert np.count_nonzero(used) >= 8, feature.name
        assert used[-1] < 0.25 * len(found), feature.name  # missing
