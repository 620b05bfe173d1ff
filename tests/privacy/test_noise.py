"""The discrete Gaussian: refused where OpenDP would be silent, and of the right distribution."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from hejin_privacy.errors import MechanismError
from hejin_privacy.mechanism import MAX_SIGMA, MIN_SIGMA
from hejin_privacy.noise import discrete_gaussian


@pytest.mark.parametrize(
    "sigma",
    [
        pytest.param(Fraction(0), id="zero"),
        pytest.param(Fraction(-4096), id="negative"),
        pytest.param(Fraction(1, 2**1074), id="tiny"),
        pytest.param(MIN_SIGMA - Fraction(1, 1024), id="below-2^10"),
        pytest.param(Fraction(10_000, 3), id="not-dyadic"),
        pytest.param(4096 + Fraction(1, 2048), id="finer-than-2^-10"),
        pytest.param(MAX_SIGMA + Fraction(1, 1024), id="above-2^42"),
        pytest.param(4096.0, id="float"),
    ],
)
def test_a_sigma_that_is_not_allowed_is_refused(sigma: Fraction) -> None:
    with pytest.raises(MechanismError):
        discrete_gaussian(sigma, 3)


@pytest.mark.parametrize("dimension", [0, -1, 4_000_001])
def test_a_dimension_out_of_range_is_refused(dimension: int) -> None:
    with pytest.raises(MechanismError):
        discrete_gaussian(MIN_SIGMA, dimension)


def test_draws_follow_the_exact_discrete_gaussian() -> None:
    # All four checks reject a right sampler with probability below 1e-6 each.
    draws = 100_000
    sigma = Fraction(1200 * 1024 + 341, 1024)
    drawn = discrete_gaussian(sigma, draws)
    assert drawn.dtype == np.int64
    assert drawn.shape == (draws,)

    # pmf(k) ~ exp(-k^2 / (2 sigma^2)) (Canonne, Kamath and Steinke 2020, definition 1);
    # beyond 10 sigma there is less than 2e-23.
    reach = int(10 * sigma)
    support = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (support / float(sigma)) ** 2)
    pmf = weights / weights.sum()
    variance = float((pmf * support.astype(np.float64) ** 2).sum())

    assert abs(drawn.mean()) < 5 * (variance / draws) ** 0.5
    assert abs(drawn.var() / variance - 1) < 5 * (2 / draws) ** 0.5

    edges = np.linspace(-3 * float(sigma), 3 * float(sigma), 121)
    cells = 122
    expected = draws * np.bincount(np.digitize(support, edges), weights=pmf, minlength=cells)
    observed = np.bincount(np.digitize(drawn, edges), minlength=cells)
    assert expected.min() > 20  # enough for the chi-square law far in its tail
    assert stats.chisquare(observed, expected).pvalue > 1e-6

    # The grid itself: residues mod 7 are even, which rounding to a coarser step would break.
    residues = np.bincount(drawn % 7, minlength=7)
    assert stats.chisquare(residues).pvalue > 1e-6


def test_large_sigmas_fit_and_draws_are_never_repeated() -> None:
    first, second = discrete_gaussian(MAX_SIGMA, 500), discrete_gaussian(MAX_SIGMA, 500)
    assert not np.intersect1d(first, second).size
    assert 0.8 < first.std() / float(MAX_SIGMA) < 1.2  # 6 standard errors
    assert np.abs(first).max() < 12 * MAX_SIGMA


def test_more_than_one_batch_of_draws_is_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hejin_privacy.noise._AT_ONCE", 64)
    drawn = discrete_gaussian(Fraction(2**30), 150)
    assert np.count_nonzero(drawn) == 150  # each is 0 with probability 4e-10
    assert len(np.unique(drawn)) > 140


def test_the_rest_of_the_room_works_without_opendp() -> None:
    code = """
import importlib, pkgutil, sys
sys.modules["opendp"] = None
import hejin_privacy
names = [m.name for m in pkgutil.iter_modules(hejin_privacy.__path__) if m.name != "noise"]
for name in names:
    importlib.import_module(f"hejin_privacy.{name}")
assert "mechanism" in names
assert not {"torch", "flwr", "duckdb", "pyarrow", "pandas"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
