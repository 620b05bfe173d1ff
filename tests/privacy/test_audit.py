"""The attack on one private sum: it never blames honest noise, and finds noise that is halved."""

from __future__ import annotations

import math
import os
from fractions import Fraction

import mpmath
import numpy as np
import numpy.typing as npt
import pytest

from hejin_privacy import audit
from hejin_privacy.audit import (
    DOUBT,
    audit_noise,
    audited_sum,
    mu_lower_bound,
    neighbours,
    rate_at_most,
    runs_needed,
)
from hejin_privacy.errors import MechanismError, ParameterError
from hejin_privacy.noise import discrete_gaussian

HALF = Fraction(1, 2)
RUNS = 20_000 if os.environ.get("HEJIN_FULL") == "1" else 2_000


# -- bounds ------------------------------------------------------------------------------


# Clopper-Pearson 95 % two-sided limits: R 4.3, binom.test(x, n)$conf.int[2].
@pytest.mark.parametrize(
    ("hits", "runs", "limit"), [(10, 100, 0.1762226), (0, 10, 0.3084971), (1, 20, 0.2487328)]
)
def test_rate_known_answers(hits: int, runs: int, limit: float) -> None:
    assert rate_at_most(hits, runs, 0.025) == pytest.approx(limit, rel=1e-6)


@pytest.mark.parametrize(
    ("hits", "runs", "doubt"), [(0, 1, 0.5), (3, 40, 1e-3), (39, 40, 1e-7), (620, 2000, 1e-7)]
)
def test_at_the_bound_so_few_hits_have_the_probability_of_the_doubt(
    hits: int, runs: int, doubt: float
) -> None:
    with mpmath.workdps(50):
        p = mpmath.mpf(rate_at_most(hits, runs, doubt))
        tail = mpmath.fsum(
            mpmath.binomial(runs, k) * p**k * (1 - p) ** (runs - k) for k in range(hits + 1)
        )
        assert float(tail) == pytest.approx(doubt, rel=1e-6)


def test_every_run_a_hit_bounds_nothing() -> None:
    assert rate_at_most(7, 7, 0.01) == 1.0
    assert mu_lower_bound(7, 0, 7, 0.01) == -math.inf


@pytest.mark.parametrize(
    ("hits", "runs", "doubt"), [(-1, 5, 0.1), (6, 5, 0.1), (0, 0, 0.1), (0, 5, 0.0)]
)
def test_what_is_no_observation_is_refused(hits: int, runs: int, doubt: float) -> None:
    with pytest.raises(ValueError, match="observation"):
        rate_at_most(hits, runs, doubt)


def test_mu_tends_to_the_distance_of_two_gaussians() -> None:
    # Phi(-1/2) = 0.308537538725987: both rates of N(0, 1) against N(1, 1) at 1/2.
    runs = 10**12
    hits = round(0.308537538725987 * runs)
    assert mu_lower_bound(hits, hits, runs, DOUBT) == pytest.approx(1.0, abs=2e-5)
    assert mu_lower_bound(hits, hits, runs, DOUBT) < 1.0


# -- the audited sum ---------------------------------------------------------------------


def test_the_two_sums_differ_by_exactly_delta() -> None:
    mechanism = audited_sum(HALF)
    without, present = neighbours(mechanism)
    assert int(((present - without) ** 2).sum()) == mechanism.delta_squared
    assert mechanism.cost() <= HALF


def test_an_enterprise_that_the_guard_removes_is_no_audit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        audit, "quantised_sum", lambda rows, *_: np.zeros(rows.dimension, dtype=np.int64)
    )
    with pytest.raises(ParameterError):
        neighbours(audited_sum(HALF))


# -- the attack --------------------------------------------------------------------------


def test_honest_noise_is_consistent_with_the_claim() -> None:
    found = audit_noise(HALF, RUNS, discrete_gaussian)
    print(f"honest: mu >= {found.mu_at_least:.4f}, claimed {found.mu_claimed:.4f}, {RUNS} runs")
    assert found.holds
    assert found.mu_claimed == pytest.approx(1.0, rel=1e-6)  # sqrt(2 rho)
    assert found.mu_at_least > 0.5  # and the attack is a strong one: it would see 0.5 too much


def test_halved_noise_is_found() -> None:
    def halved(sigma: Fraction, number: int) -> npt.NDArray[np.int64]:
        return discrete_gaussian(Fraction(int(sigma * 512), 1024), number)

    found = audit_noise(HALF, RUNS, halved)
    print(f"halved: mu >= {found.mu_at_least:.4f}, claimed {found.mu_claimed:.4f}, {RUNS} runs")
    assert not found.holds
    assert found.mu_at_least > 1.5


def _gaussian(factor: float, seed: int, cut: float = math.inf) -> audit.Sampler:
    dice = np.random.default_rng(seed)

    def draw(sigma: Fraction, number: int) -> npt.NDArray[np.int64]:
        scale = float(sigma)
        drawn = np.clip(dice.normal(0, scale * factor, number), -cut * scale, cut * scale)
        return np.rint(drawn).astype(np.int64)

    return draw


@pytest.mark.parametrize("rho", [Fraction(1, 100), Fraction(1, 2), Fraction(4)])
def test_at_the_fewest_runs_honest_noise_passes_and_halved_noise_does_not(rho: Fraction) -> None:
    runs = runs_needed(math.sqrt(2 * rho))
    for seed in range(20):
        assert audit_noise(rho, runs, _gaussian(1.0, seed)).holds
        assert not audit_noise(rho, runs, _gaussian(0.5, seed)).holds


def test_noise_whose_tails_are_cut_is_found() -> None:
    # The bulk looks right: only the outer thresholds see it.
    found = audit_noise(Fraction(2), 20_000, _gaussian(1.0, 3, cut=0.9))
    assert not found.holds


def test_no_noise_at_all_is_found() -> None:
    found = audit_noise(HALF, 1_000, lambda _, number: np.zeros(number, dtype=np.int64))
    assert found.mu_at_least > 4


def test_too_few_runs_are_refused_with_the_number_needed() -> None:
    with pytest.raises(ParameterError, match=r"needs [0-9]+ to"):
        audit_noise(HALF, 399, _gaussian(1.0, 0))
    with pytest.raises(ParameterError):
        audit_noise(Fraction(1, 10**9), audit.MOST_RUNS, _gaussian(1.0, 0))
    with pytest.raises(MechanismError):
        audit_noise(Fraction(0), 1_000, _gaussian(1.0, 0))


def test_progress_counts_up_to_all_runs() -> None:
    seen: list[tuple[int, int]] = []
    audit_noise(HALF, 5_000, _gaussian(1.0, 0), lambda done, total: seen.append((done, total)))
    assert seen[-1] == (10_000, 10_000)
    assert [done for done, _ in seen] == [2_000, 4_000, 5_000, 7_000, 9_000, 10_000]
