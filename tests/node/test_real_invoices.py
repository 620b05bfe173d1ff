"""Acceptance on a real invoice feed (CUMCM 2020 C): trade-v1 is right, and worth something."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegressionCV
from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hejin_models.features import FeatureView, shipped_views
from hejin_node.home import MIGRATIONS
from hejin_node.ingest import ingest
from hejin_node.mapping import SourceMapping, shipped_mappings
from hejin_node.warehouse import Warehouse
from hejin_trust.database import open_database

DATA = Path(os.environ.get("HEJIN_DATA", Path(__file__).parents[3] / "shared" / "data"))
FEED = DATA / "cumcm_invoices"
AS_OF = dt.date(2020, 2, 29)  # the end of the month of the last invoices
"""After the feed's last invoice."""
FILES = {"sales_invoices": "cumcm-sales", "procurement_invoices": "cumcm-purchases"}

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not FEED.is_dir(), reason=f"no real data in {FEED}: set HEJIN_DATA"),
]


@pytest.fixture(name="warehouse", scope="module")
def _warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    folder = tmp_path_factory.mktemp("cumcm")
    database = open_database(folder / "node.db", MIGRATIONS)
    warehouse = Warehouse(folder / "warehouse", bytes(32), database, bytes(32))
    loaded = 0
    for file, mapping in FILES.items():
        rules = SourceMapping.parse(shipped_mappings()[mapping])
        report = ingest(warehouse, FEED / f"{file}.parquet", rules)
        assert not report.quarantined
        loaded += report.loaded
    assert loaded == 373_431
    yield warehouse
    database.dispose()


def features(warehouse: Warehouse, view: FeatureView) -> pd.DataFrame:
    found = warehouse.query(view.source, view.datasets, as_of=AS_OF)
    return found.to_pandas().set_index("enterprise").sort_index()


def read(file: str, party: str) -> pd.DataFrame:
    """Return one side of the feed, read anew: no mapping, no warehouse, no SQL."""
    raw = pd.read_parquet(FEED / f"{file}.parquet")
    return pd.DataFrame(
        {
            "enterprise": raw["企业代号"].str.strip(),
            "party": raw[party].str.strip(),
            "day": pd.to_datetime(raw["开票日期"].str.strip(), format="mixed").dt.normalize(),
            "net": raw["金额"],
            "valid": raw["发票状态"].str.strip() == "有效发票",
        }
    )


def concentration(invoices: pd.DataFrame) -> float:
    bought = invoices[invoices["net"] > 0].groupby("party")["net"].sum()
    return float((bought**2).sum() / bought.sum() ** 2) if len(bought) else np.nan


def by_hand(sales: pd.DataFrame, purchases: pd.DataFrame) -> dict[str, float]:
    """Return one enterprise's features from its invoices of the last 720 days."""
    for side in (sales, purchases):
        side["age"] = (pd.Timestamp(AS_OF) - side["day"]).dt.days
    year = sales[sales["valid"] & (sales["age"] < 360)]
    before = sales[sales["valid"] & (sales["age"] >= 360)]["net"]
    bought = purchases[purchases["valid"] & (purchases["age"] < 360)]
    total = year["net"].sum() if len(year) else np.nan
    spent = bought["net"].sum() if len(bought) else np.nan
    months = np.zeros(12)
    for age, net in zip(year["age"], year["net"], strict=True):
        months[age // 30] += net
    good = sales[sales["valid"]]
    return {
        "sales_count": len(year),
        "sales_net": total,
        "purchase_net": spent,
        "margin": 1 - (0 if np.isnan(spent) else spent) / total if total > 0 else np.nan,
        "sales_void_rate": 1 - sales["valid"].mean(),
        "purchase_void_rate": 1 - purchases["valid"].mean(),
        "negative_rate": (good["net"] < 0).mean(),
        "customer_concentration": concentration(year),
        "supplier_concentration": concentration(bought),
        "tenure": max(sales["age"].max(), purchases["age"].max()) // 30,
        "active_months": len(set(year["age"] // 30)),
        "volatility": months.std() / months.mean() if total > 0 else np.nan,
        "growth": np.log(total / before.sum()) if total > 0 and before.sum() > 0 else np.nan,
        "days_since_sale": good["age"].min(),
    }


def test_trade_v1_of_123_real_enterprises_is_what_pandas_computes(warehouse: Warehouse) -> None:
    view = shipped_views()["trade-v1"]
    found = features(warehouse, view)
    sides = [read("sales_invoices", "购方单位代号"), read("procurement_invoices", "销方单位代号")]
    day = pd.Timestamp(AS_OF)
    sides = [
        one[(one["day"] <= day) & (one["day"] > day - pd.Timedelta(days=720))] for one in sides
    ]
    codes = sorted(set(sides[0]["enterprise"]) | set(sides[1]["enterprise"]))
    assert len(codes) == 123
    assert list(found.index) == codes
    expected = pd.DataFrame(
        [by_hand(*(one[one["enterprise"] == code].copy() for one in sides)) for code in codes],
        index=pd.Index(codes, name="enterprise"),
    )
    for feature in view.features:
        np.testing.assert_allclose(
            found[feature.name].to_numpy(dtype=np.float64),
            expected[feature.name].to_numpy(dtype=np.float64),
            rtol=1e-9,
            atol=1e-9,
            err_msg=feature.name,
        )


def test_a_plain_regression_on_trade_v1_tells_defaulters(warehouse: Warehouse) -> None:
    """Without privacy and without the bank's rating: AUC .85 or more, 10 times 5 folds."""
    view = shipped_views()["trade-v1"]
    found = features(warehouse, view)
    outcomes = pd.read_csv(FEED / "enterprises.csv").set_index("企业代号")["是否违约"] == "是"
    inputs = np.column_stack([scaled(found, view, feature) for feature in found.columns])
    model = make_pipeline(
        SimpleImputer(strategy="median"),
        StandardScaler(),
        # How much freedom 123 enterprises bear is decided inside each fold, by its own rows.
        LogisticRegressionCV(
            cv=5,
            scoring="neg_log_loss",
            l1_ratios=(0,),
            use_legacy_attributes=False,
            max_iter=1000,
        ),
    )
    folds = RepeatedStratifiedKFold(n_splits=5, n_repeats=10, random_state=1)
    bad = outcomes.loc[list(found.index)].to_numpy()
    assert bad.sum() == 27
    auc = cross_val_score(model, inputs, bad, cv=folds, scoring="roc_auc")
    assert auc.mean() >= 0.85


def scaled(table: pd.DataFrame, view: FeatureView, name: str) -> npt.NDArray[np.float64]:
    """Return a feature within its public range, on the scale of its grid."""
    grid = next(feature.grid for feature in view.features if feature.name == name)
    values = table[name].to_numpy(dtype=np.float64)
    assert grid.kind != "categories"
    edges = grid.edges
    values = np.clip(values, edges[0], edges[-1])
    if grid.kind == "log":
        return np.log(values)
    if grid.kind == "signed_log":
        smallest = min(abs(edge) for edge in edges)
        return np.sign(values) * np.log(np.maximum(np.abs(values) / smallest, 1))
    return values
