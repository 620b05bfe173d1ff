"""Fixtures of the models room: one small view, one synthetic population, one model of it."""

from __future__ import annotations

import pytest
from models_world import VIEW, Enterprises, run_training

from hejin_models.features import FeatureView
from hejin_models.training import TrainingResult


@pytest.fixture(scope="session")
def view() -> FeatureView:
    return FeatureView.parse(VIEW.encode())


@pytest.fixture(scope="session")
def enterprises(view: FeatureView) -> Enterprises:
    return Enterprises(view, 20_000, seed=7)


@pytest.fixture(scope="session")
def trained(view: FeatureView, enterprises: Enterprises) -> TrainingResult:
    return run_training(
        view, enterprises.cells, enterprises.labels, enterprises.holdout, None, 1, 0
    )
