"""Acceptance on real loans, by central simulation of mode `node` at epsilon 2, delta 1e-6."""

from __future__ import annotations

import os
from pathlib import Path

import duckdb
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from models_world import run_training

from hejin_models.evaluation import exact_auc
from hejin_models.features import FeatureView, shipped_views
from hejin_privacy.accounting import rho_for

DATA = Path(os.environ.get("HEJIN_DATA", Path(__file__).parents[3] / "shared" / "data"))

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not DATA.is_dir(), reason=f"no real data in {DATA}: set HEJIN_DATA"),
]


def rows_of(view: FeatureView, file: str) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int8]]:
    table = pd.read_parquet(DATA / file)
    table.columns = [name.lower() for name in table.columns]
    table["enterprise"] = table.index
    with duckdb.connect() as connection:
        connection.register("loans", table)
        found = connection.execute(view.source).df().sort_values("enterprise")
    columns = {feature.name: found[feature.name].to_numpy() for feature in view.features}
    return view.cells(columns), table["default"].to_numpy(dtype=np.int8)


@pytest.mark.parametrize(
    ("name", "file", "nodes", "pooled_least", "private_least"),
    [
        ("sba-loans-v1", "sba_loans.parquet", 8, 0.780, 0.765),
        ("uci-credit-v1", "uci_credit_default.parquet", 7, 0.763, 0.748),
    ],
)
def test_real_loans_reach_the_accuracy_that_was_promised(
    name: str, file: str, nodes: int, pooled_least: float, private_least: float
) -> None:
    view = shipped_views()[name]
    cells, labels = rows_of(view, file)
    rho = float(rho_for(2.0, 1e-6))
    pooled, private = [], []
    for seed in range(3):
        holdout = np.random.default_rng(seed).random(len(labels)) < 0.2
        for found, cost in ((pooled, None), (private, rho)):
            result = run_training(view, cells, labels, holdout, cost, nodes, seed)
            auc = exact_auc(result.scorecard.points(cells[holdout]), labels[holdout])
            found.append(auc)
            assert abs(result.evaluation.auc.value - auc) < 3 * result.evaluation.auc.error
    assert np.mean(pooled) >= pooled_least
    assert np.mean(private) >= private_least
