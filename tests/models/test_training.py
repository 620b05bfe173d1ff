"""Training: the sums are fixed beforehand, the model is good, and bad data end in clear words."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models_world import VIEW, Enterprises, run_training
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import OneHotEncoder

from hejin_models.errors import TrainingError
from hejin_models.evaluation import exact_auc
from hejin_models.features import FeatureView, shipped_views
from hejin_models.statistics import statistic
from hejin_models.sums import NoisySum
from hejin_models.training import TrainingResult, plan_sums, train

THE_VIEW = FeatureView.parse(VIEW.encode())


def test_the_shares_of_each_part_add_to_one() -> None:
    for view in (THE_VIEW, *shipped_views().values()):
        sums = plan_sums(view)
        for part in ("train", "holdout"):
            assert sum(planned.share for planned in sums if planned.part == part) == 1
        assert 6 <= len(sums) <= 7
        assert all(planned.share > 0 for planned in sums)


def test_coarse_and_fine_grids_are_summed_apart() -> None:
    names = [planned.statistic for planned in plan_sums(THE_VIEW)]
    assert names == [
        "label_histogram", "label_histogram", "gram",
        "logistic_gradient", "logistic_gradient", "logistic_gradient", "score_histogram",
    ]  # fmt: skip
    coarse, fine = plan_sums(THE_VIEW)[:2]
    assert coarse.share < fine.share
    only_fine = VIEW[: VIEW.index('[[features]]\nname = "kind"')]
    assert plan_sums(FeatureView.parse(only_fine.encode()))[0].share == Fraction(6, 10)


def test_without_noise_it_is_as_good_as_logistic_regression_on_all_cells(
    view: FeatureView, enterprises: Enterprises, trained: TrainingResult
) -> None:
    cells, labels, holdout = enterprises.cells, enterprises.labels, enterprises.holdout
    encoder = OneHotEncoder(handle_unknown="ignore").fit(cells[~holdout])
    model = LogisticRegression(C=0.3, max_iter=1000)
    model.fit(encoder.transform(cells[~holdout]), labels[~holdout])
    other = roc_auc_score(
        labels[holdout], model.decision_function(encoder.transform(cells[holdout]))
    )
    own = exact_auc(trained.scorecard.points(cells[holdout]), labels[holdout])
    assert own > other - 0.005


def test_probabilities_are_calibrated_without_noise(
    enterprises: Enterprises, trained: TrainingResult
) -> None:
    chance = trained.scorecard.probability(enterprises.cells)
    assert chance.mean() == pytest.approx(enterprises.labels.mean(), abs=0.01)
    high = chance > np.quantile(chance, 0.8)
    assert chance[high].mean() == pytest.approx(enterprises.labels[high].mean(), abs=0.04)


def test_noise_of_eight_nodes_at_epsilon_two_costs_little(
    view: FeatureView, enterprises: Enterprises, trained: TrainingResult
) -> None:
    cells, labels, holdout = enterprises.cells, enterprises.labels, enterprises.holdout
    pooled = exact_auc(trained.scorecard.points(cells[holdout]), labels[holdout])
    losses = []
    for seed in range(3):
        noisy = run_training(view, cells, labels, holdout, 0.088, 8, seed)
        losses.append(pooled - exact_auc(noisy.scorecard.points(cells[holdout]), labels[holdout]))
    assert np.mean(losses) < 0.015


def test_the_same_totals_give_the_same_requests_and_model(
    view: FeatureView, enterprises: Enterprises
) -> None:
    given = (view, enterprises.cells[:3000], enterprises.labels[:3000], enterprises.holdout[:3000])
    assert run_training(*given, 0.5, 3, seed=5) == run_training(*given, 0.5, 3, seed=5)


def test_a_constant_and_an_all_missing_feature_do_no_harm(
    view: FeatureView, enterprises: Enterprises
) -> None:
    cells = enterprises.cells.copy()
    cells[:, 0] = view.features[0].grid.cells - 1
    cells[:, 3] = 5
    for rho in (None, 0.1):
        result = run_training(view, cells, enterprises.labels, enterprises.holdout, rho, 4, 1)
        held = enterprises.holdout
        auc = exact_auc(result.scorecard.points(cells[held]), enterprises.labels[held])
        assert auc > 0.72
    assert np.isfinite(result.scorecard.values).all()


def test_a_feature_that_says_nothing_gets_no_coefficient(
    view: FeatureView, enterprises: Enterprises
) -> None:
    cells = enterprises.cells.copy()
    cells[:, 2] = 1
    card = run_training(view, cells, enterprises.labels, enterprises.holdout, None, 1, 0).scorecard
    assert card.features[2].iv == pytest.approx(0, abs=1e-6)
    assert len({made.points for made in card.features[2].bins}) == 1


@pytest.mark.parametrize(("label", "absent"), [(0, "bad"), (1, "good")])
def test_a_single_class_over_all_nodes_is_a_clear_error(
    view: FeatureView, enterprises: Enterprises, label: int, absent: str
) -> None:
    labels = np.full(len(enterprises.labels), label, dtype=np.int8)
    for rho in (None, 0.088):
        with pytest.raises(TrainingError, match=f"{absent} enterprises are in the training part"):
            run_training(view, enterprises.cells, labels, enterprises.holdout, rho, 8, 0)


def test_noise_beyond_all_signal_is_a_clear_error(
    view: FeatureView, enterprises: Enterprises
) -> None:
    with pytest.raises(TrainingError, match="would stand out of the noise"):
        run_training(
            view, enterprises.cells[:300], enterprises.labels[:300], enterprises.holdout[:300],
            0.001, 20, 0,
        )  # fmt: skip


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), size=st.sampled_from([1.0, 1e3, 1e6, 1e12]))
def test_whatever_the_totals_are_no_state_is_malformed(seed: int, size: float) -> None:
    random = np.random.default_rng(seed)
    training = train(THE_VIEW)
    request = next(training)
    result: TrainingResult | None = None
    while result is None:
        entry = statistic(request.statistic, request.version)
        entry.check_state(THE_VIEW, request.state)
        dimension = entry.dimension(THE_VIEW, request.state)
        shift = 5 * size if request.statistic == "label_histogram" else 0.0
        values = shift + size * random.standard_normal(dimension)
        try:
            request = training.send(NoisySum(values, size))
        except StopIteration as done:
            result = done.value
    assert np.isfinite(result.scorecard.values).all()
    assert 0 <= result.evaluation.auc.value <= 1


@pytest.mark.parametrize("values", [np.zeros(3), np.full(2 * 21, np.nan)])
def test_a_malformed_total_is_refused(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
    training = train(THE_VIEW)
    next(training)
    with pytest.raises(TrainingError, match="finite numbers"):
        training.send(NoisySum(values, 1.0))
