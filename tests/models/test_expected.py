"""The outlook of a plan: honest about noise, and a refusal where it exceeds the signal."""

from __future__ import annotations

import time

import pytest
from models_world import VIEW, plan

from hejin_models.errors import NoiseError
from hejin_models.expected import expected_loss
from hejin_models.features import FeatureView, shipped_views

THE_VIEW = FeatureView.parse(VIEW.encode())


def test_the_loss_grows_with_the_noise() -> None:
    losses = [
        expected_loss(THE_VIEW, plan(THE_VIEW, epsilon, 8), 20_000, 1)
        for epsilon in (8.0, 2.0, 0.5)
    ]
    assert losses[0].auc_loss < 0.01
    assert losses[0].auc_loss <= losses[1].auc_loss < losses[2].auc_loss
    assert losses[0].holdout_error < losses[1].holdout_error < losses[2].holdout_error
    assert [outlook.reportable for outlook in losses] == [True, True, False]
    assert all(0.65 < outlook.auc < 0.9 for outlook in losses)


def test_the_outlook_of_a_plan_is_the_same_whoever_computes_it() -> None:
    made = plan(THE_VIEW, 2.0, 5)
    assert expected_loss(THE_VIEW, made, 5000, 1) == expected_loss(THE_VIEW, made, 5000, 1)


def test_an_enterprise_in_two_nodes_costs_accuracy() -> None:
    made = plan(THE_VIEW, 1.0, 8)
    once, twice = (expected_loss(THE_VIEW, made, 20_000, r) for r in (1, 2))
    assert twice.holdout_error > 1.2 * once.holdout_error


def test_every_shipped_view_gets_its_outlook_within_seconds() -> None:
    for view in shipped_views().values():
        started = time.process_time()
        outlook = expected_loss(view, plan(view, 2.0, 8), 30_000, 1)
        assert outlook.auc_loss < 0.05
        assert time.process_time() - started < 8  # about 1 s alone on one core


@pytest.mark.parametrize(
    ("enterprises", "nodes", "epsilon", "complaint"),
    [
        (100, 5, 1.0, "5 nodes, 100 enterprises, rho=0.0244"),
        (1000, 20, 0.5, "the bads do not stand out"),
        (0, 5, 1.0, "declare no enterprises"),
    ],
)
def test_a_plan_whose_noise_exceeds_its_signal_is_refused(
    enterprises: int, nodes: int, epsilon: float, complaint: str
) -> None:
    with pytest.raises(NoiseError, match=complaint):
        expected_loss(THE_VIEW, plan(THE_VIEW, epsilon, nodes), enterprises, 1)
