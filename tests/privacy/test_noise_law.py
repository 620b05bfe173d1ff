"""Chi-square: draws at the sigmas in use follow the exact discrete Gaussian.

200,000 draws in all; HEJIN_FULL=1 takes 1,000,000 at each sigma (about two minutes of CPU).
"""

from __future__ import annotations

import os
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats
from scipy.special import log_ndtr

from hejin_privacy.audit import Sampler
from hejin_privacy.mechanism import MIN_SIGMA, Mechanism
from hejin_privacy.noise import discrete_gaussian

FULL = os.environ.get("HEJIN_FULL") == "1"
DRAWS = 1_000_000 if FULL else 50_000
CELLS = 128
SMALLEST_P = 1e-6
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def _sigma(dimension: int, bound_squared: Fraction, nonzeros: int, counts: bool) -> Fraction:
    """The noise of one sum of a plan: rho = 0.01 is about a sixth of epsilon = 2."""
    return Mechanism.planned(
        statistic="histogram",
        version=1,
        dimension=dimension,
        bound_squared=bound_squared,
        nonzeros=nonzeros,
        counts=counts,
        rho=Fraction(1, 100),
        n=1,
        r=1,
    ).sigma


SIGMAS = {
    "least": MIN_SIGMA,
    "label-histogram-of-12": _sigma(1200, Fraction(12), 12, True),
    "score-histogram": _sigma(128, Fraction(1), 1, True),
    "gram-of-13": _sigma(91, Fraction(1, 2), 91, False),
}


# -- the law -----------------------------------------------------------------------------


def log_probabilities(sigma: Fraction, edges: Integers) -> Floats:
    """Return ln P(edges[i-1] <= Z < edges[i]), with both tails, for Z of N_Z(0, sigma^2).

    pmf(k) = exp(-k^2 / (2 sigma^2)) / N (Canonne, Kamath and Steinke 2020, arXiv:2004.00010,
    definition 1). By Poisson summation N = sigma sqrt(2 pi) (1 + 2 exp(-2 pi^2 sigma^2) + ...):
    at sigma >= 2^10 the bracket is 1. By the Euler-Maclaurin formula about midpoints, the sum
    of f over a..b is its integral from a - 1/2 to b + 1/2 less [f'] / 24, up to sigma^-4.
    """
    scale = float(sigma)
    at = (edges - 0.5) / scale
    # A cell is taken on the side where its two tails do not cancel.
    low, high = np.concatenate([[-np.inf], at]), np.concatenate([at, [np.inf]])
    low, high = np.where(low >= 0, -high, low), np.where(low >= 0, -low, high)
    upper, lower = log_ndtr(high), log_ndtr(low)
    integral = upper + np.log1p(-np.exp(lower - upper))
    return np.asarray(integral + np.log1p(_bend(low, high) / scale**2 / np.exp(integral)))


def _bend(low: Floats, high: Floats) -> Floats:
    """-[phi'] / 24 between two standardised ends; phi'(x) = -x phi(x)."""

    def slope(x: Floats) -> Floats:
        finite = np.where(np.isfinite(x), x, 0.0)
        return -finite * np.exp(-(finite**2) / 2) / np.sqrt(2 * np.pi)

    return np.asarray(-(slope(high) - slope(low)) / 24)


def edges_of(sigma: Fraction) -> Integers:
    """CELLS - 1 edges from -4 to 4 sigma: the tails beyond hold 3e-5 each."""
    return np.unique(np.rint(np.linspace(-4, 4, CELLS - 1) * float(sigma)).astype(np.int64))


@pytest.mark.parametrize("sigma", [MIN_SIGMA, Fraction(1200 * 1024 + 341, 1024)])
def test_the_binned_law_is_the_sum_of_its_terms(sigma: Fraction) -> None:
    edges = edges_of(sigma)
    support = np.arange(-int(12 * sigma), int(12 * sigma) + 1)
    weights = np.exp(-0.5 * (support / float(sigma)) ** 2)
    slow = np.bincount(np.digitize(support, edges), weights=weights / weights.sum())
    np.testing.assert_allclose(np.exp(log_probabilities(sigma, edges)), slow, rtol=1e-9)


# -- the draws ---------------------------------------------------------------------------


def law_p(sigma: Fraction, drawn: Integers) -> float:
    """Return the p-value of the draws' cells; cells with fewer than 20 expected are merged."""
    edges = edges_of(sigma)
    expected = len(drawn) * np.exp(log_probabilities(sigma, edges))
    observed = np.bincount(np.digitize(drawn, edges), minlength=len(expected)).astype(np.float64)
    thin = np.minimum.accumulate(expected < 20) | np.minimum.accumulate(expected[::-1] < 20)[::-1]
    cells = [
        np.concatenate([values[~thin], [values[thin].sum()]] if thin.any() else [values])
        for values in (observed, expected)
    ]
    return float(stats.chisquare(cells[0], cells[1], sum_check=False).pvalue)


def grid_p(drawn: Integers, modulus: int) -> float:
    """Return the p-value of the residues: even, but for exp(-2 pi^2 sigma^2 / modulus^2)."""
    return float(stats.chisquare(np.bincount(drawn % modulus, minlength=modulus)).pvalue)


def smallest_p(sigma: Fraction, sampler: Sampler) -> float:
    drawn = sampler(sigma, DRAWS)
    return min(law_p(sigma, drawn), grid_p(drawn, 16), grid_p(drawn, 7))


@pytest.mark.parametrize("sigma", SIGMAS.values(), ids=SIGMAS)
def test_draws_follow_the_law_at_the_sigmas_in_use(sigma: Fraction) -> None:
    found = smallest_p(sigma, discrete_gaussian)
    print(f"sigma = {float(sigma):.6g}: p = {found:.4g} of {DRAWS} draws")
    assert found > SMALLEST_P


def rounded(sigma: Fraction, number: int) -> Integers:
    """A continuous Gaussian, rounded: right in law to within this test's power."""
    drawn = np.random.default_rng(1).normal(0, float(sigma), number)
    return np.rint(drawn).astype(np.int64)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(lambda z, _: z * 19 // 20, id="five-percent-too-little"),
        pytest.param(
            lambda z, s: np.clip(z, -int(2.5 * s), int(2.5 * s)), id="tails-cut-at-2.5-sigma"
        ),
        pytest.param(lambda z, _: z & ~1, id="even-numbers-only"),
        pytest.param(lambda z, s: z + int(s / 10), id="off-centre"),
        pytest.param(lambda z, _: np.abs(z), id="one-sided"),
        pytest.param(lambda z, _: np.zeros_like(z), id="none"),
    ],
)
def test_a_faulty_sampler_is_rejected(fault: object) -> None:
    assert callable(fault)
    sigma = SIGMAS["score-histogram"]
    assert smallest_p(sigma, rounded) > SMALLEST_P
    assert smallest_p(sigma, lambda s, n: fault(rounded(s, n), s)) < SMALLEST_P
