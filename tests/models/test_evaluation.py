"""Evaluation: exact measures against references, noisy ones against many draws of the noise."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from hejin_models.evaluation import Estimate, evaluate, exact_auc, exact_ks
from hejin_models.scorecard import probability_of
from hejin_models.sums import NoisySum

EDGES = np.linspace(480.0, 620.0, 63)


def population(n: int, seed: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int8]]:
    """Scores whose probabilities are true."""
    random = np.random.default_rng(seed)
    scores = random.normal(545, 22, n)
    return scores, (random.random(n) < probability_of(scores)).astype(np.int8)


def histogram(
    scores: npt.NDArray[np.float64], labels: npt.NDArray[np.int8]
) -> npt.NDArray[np.float64]:
    bins = np.searchsorted(EDGES, scores, side="right")
    return np.bincount(bins + 64 * labels.astype(int), minlength=128).astype(np.float64)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 1)), min_size=2, max_size=60))
def test_exact_measures_agree_with_sklearn_and_with_slow_ones(rows: list[tuple[int, int]]) -> None:
    scores = np.array([score for score, _ in rows], dtype=np.float64)
    labels = np.array([label for _, label in rows], dtype=np.int8)
    if labels.min() == labels.max():
        with pytest.raises(ValueError, match="both classes"):
            exact_auc(scores, labels)
        return
    assert exact_auc(scores, labels) == pytest.approx(roc_auc_score(labels, -scores))
    bads, goods = scores[labels == 1], scores[labels == 0]
    slow = max(abs(np.mean(bads <= at) - np.mean(goods <= at)) for at in scores)
    assert exact_ks(scores, labels) == pytest.approx(slow)


def test_without_noise_the_histogram_gives_the_exact_measures_of_its_bins() -> None:
    scores, labels = population(5000, 1)
    bins = np.searchsorted(EDGES, scores, side="right").astype(np.float64)
    found = evaluate(NoisySum(histogram(scores, labels), 0.0), EDGES)
    assert found.reportable
    assert found.auc.value == pytest.approx(exact_auc(bins, labels))
    assert found.ks.value == pytest.approx(exact_ks(bins, labels))
    assert found.auc.noise_error == 0
    assert found.gini.value == pytest.approx(2 * found.auc.value - 1)
    assert found.bads == labels.sum()
    assert found.auc.value == pytest.approx(exact_auc(scores, labels), abs=0.002)


def test_the_sampling_error_is_the_spread_over_samples() -> None:
    found = [evaluate(NoisySum(histogram(*population(3000, s)), 0.0), EDGES) for s in range(80)]
    spread = np.std([one.auc.value for one in found])
    assert np.mean([one.auc.sampling_error for one in found]) == pytest.approx(spread, rel=0.3)
    spread = np.std([one.ks.value for one in found])
    assert np.mean([one.ks.sampling_error for one in found]) == pytest.approx(spread, rel=0.3)


@pytest.mark.parametrize("noise", [3.0, 12.0])
def test_estimates_from_noisy_histograms_have_the_error_that_they_state(noise: float) -> None:
    scores, labels = population(6000, 2)
    exact = histogram(scores, labels)
    random = np.random.default_rng(3)
    found = [
        evaluate(NoisySum(exact + noise * random.standard_normal(128), noise), EDGES)
        for _ in range(120)
    ]
    auc, ks = exact_auc(scores, labels), exact_ks(scores, labels)
    standing = np.array([(one.auc.value - auc) / one.auc.noise_error for one in found])
    assert abs(standing.mean()) < 0.35
    assert standing.std() == pytest.approx(1, abs=0.2)
    assert np.mean(np.abs(standing) < 3) > 0.98
    # The raw KS of these histograms is 0.01 to 0.1 too high; what is left is within its error.
    ks_error = np.array([one.ks.value - ks for one in found])
    assert abs(ks_error.mean()) < 0.015
    assert np.mean(np.abs(ks_error) < 3 * np.array([one.ks.error for one in found])) > 0.98


def test_an_estimate_adds_its_errors_in_squares() -> None:
    assert Estimate(0.7, 0.03, 0.04).error == pytest.approx(0.05)


def test_bands_cover_everyone_and_compare_expected_with_measured() -> None:
    scores, labels = population(20000, 4)
    random = np.random.default_rng(5)
    exact = histogram(scores, labels)
    for noise in (0.0, 5.0):
        found = evaluate(NoisySum(exact + noise * random.standard_normal(128), noise), EDGES)
        assert 6 <= len(found.bands) <= 8
        assert sum(band.share for band in found.bands) == pytest.approx(1)
        for band in found.bands:
            assert band.low < band.high
            assert abs(band.expected - band.measured) < 4 * band.error + 0.01


def test_where_noise_drowns_the_bads_nothing_is_reported() -> None:
    scores, labels = population(2000, 6)
    random = np.random.default_rng(7)
    bads = int(labels.sum())
    for noise, reportable in ((bads / 64 / 2, True), (bads / 64 * 2, False)):
        total = histogram(scores, labels) + noise * random.standard_normal(128)
        assert evaluate(NoisySum(total, noise), EDGES).reportable is reportable


def test_an_empty_hold_out_is_no_error() -> None:
    for values in (np.zeros(128), np.full(128, -3.0)):
        found = evaluate(NoisySum(values, 1.0), EDGES)
        assert not found.reportable
        assert math.isfinite(found.auc.error)


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), noise=st.sampled_from([0.1, 1e3, 1e9]))
def test_any_noisy_histogram_gives_finite_measures_within_range(seed: int, noise: float) -> None:
    random = np.random.default_rng(seed)
    found = evaluate(NoisySum(noise * random.standard_normal(128), noise), EDGES)
    for estimate in (found.auc, found.ks):
        assert 0 <= estimate.value <= 1
        assert math.isfinite(estimate.error)
    for band in found.bands:
        assert 0 <= band.measured <= 1
        assert 0 <= band.expected <= 1
