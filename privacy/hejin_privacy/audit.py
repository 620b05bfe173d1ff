"""Audit of noise by attack: how much privacy the draws themselves show, against what is claimed.

Nothing here draws: the sampler is passed in, so that this module needs no OpenDP.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt
from scipy.special import betainccinv, ndtr, ndtri

from hejin_privacy.contribution import OneHots, quantised_sum
from hejin_privacy.errors import ParameterError
from hejin_privacy.mechanism import Mechanism

Sampler = Callable[[Fraction, int], npt.NDArray[np.int64]]
"""(sigma, number) -> that many independent draws of N_Z(0, sigma^2): noise.discrete_gaussian."""

Progress = Callable[[int, int], None]
"""(runs done, runs in all)."""

DOUBT = 1e-6
"""Probability at most of blaming honest noise: that of any one bound over all thresholds."""

OFFSETS = (-2.0, -1.0, 0.0, 1.0, 2.0)
"""The thresholds, fixed before anything is drawn: claimed mu / 2 plus these, in units of sigma.
The middle one is the best against the Gaussian itself; the outer ones meet cut-off tails."""

MOST_RUNS = 10_000_000
_FEATURES, _CELLS = 3, 2  # the audited sum: small, since every coordinate is drawn in every run
_AT_ONCE = 2_000


@dataclass(frozen=True, slots=True)
class Threshold:
    """What an attacker sees who says "the enterprise is in" above `at`.

    at               on the score, in units of the claimed sigma
    false_positives  runs without the enterprise that score above `at`
    false_negatives  runs with it that do not
    mu_at_least      lower bound of mu that this proves, at the audit's confidence
    """

    at: float
    false_positives: int
    false_negatives: int
    mu_at_least: float


@dataclass(frozen=True, slots=True)
class NoiseAudit:
    """The outcome: `mu_claimed` is refuted if `mu_at_least` exceeds it.

    runs         runs with and as many without the worst-case enterprise
    rho          zCDP cost of the audited sum
    mu_claimed   Gaussian-DP parameter that follows from sigma: Delta / sigma = sqrt(2 rho)
    """

    mechanism: Mechanism
    runs: int
    rho: Fraction
    mu_claimed: float
    thresholds: tuple[Threshold, ...]

    @property
    def mu_at_least(self) -> float:
        """The highest lower bound of all thresholds; it holds but for DOUBT."""
        return max(threshold.mu_at_least for threshold in self.thresholds)

    @property
    def holds(self) -> bool:
        """Whether the runs are consistent with the claim."""
        return self.mu_at_least <= self.mu_claimed


def rate_at_most(hits: int, runs: int, doubt: float) -> float:
    """Return the Clopper-Pearson upper bound of a probability seen `hits` times in `runs`.

    It is exceeded with probability at most `doubt`. Clopper and Pearson 1934: the p at which
    Binomial(runs, p) <= hits has probability `doubt`, an inverse of the incomplete beta function.
    """
    if not (0 <= hits <= runs and runs >= 1 and 0 < doubt < 1):
        raise ValueError(f"{hits} of {runs} at doubt {doubt!r} is no observation")
    return 1.0 if hits == runs else float(betainccinv(hits + 1, runs - hits, doubt))


def mu_lower_bound(false_positives: int, false_negatives: int, runs: int, doubt: float) -> float:
    """Return a mu that no mu-GDP mechanism stays below, but for probability `doubt`.

    Nasr, Hayes, Steinke, Balle, Tramer, Jagielski, Carlini and Terzis 2023 (arXiv:2302.07956,
    section 3): mu >= Phi^-1(1 - FPR) - Phi^-1(FNR), with both rates at their upper bounds.
    Gaussian DP: Dong, Roth and Su 2019 (arXiv:1905.02383), definition 3.
    """
    above = rate_at_most(false_positives, runs, doubt / 2)
    below = rate_at_most(false_negatives, runs, doubt / 2)
    return float(-ndtri(above) - ndtri(below))


def audited_sum(rho: Fraction) -> Mechanism:
    """Return the mechanism that is audited: a histogram of three features at a cost of rho."""
    return Mechanism.planned(
        statistic="histogram",
        version=1,
        dimension=_FEATURES * _CELLS,
        bound_squared=Fraction(_FEATURES),
        nonzeros=_FEATURES,
        counts=True,
        rho=rho,
        n=1,
        r=1,
    )


def neighbours(mechanism: Mechanism) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the exact sums, int64 [d], without and with an enterprise that adds the most.

    Both come from the code that nodes run. Their distance is Delta: the bound is met.
    """
    k, d = mechanism.nonzeros, mechanism.dimension
    others = np.stack([(np.arange(k) * (d // k) + shift) % d for shift in (0, 1, 1)])
    worst = np.arange(k)[None, :] * (d // k)

    def exact(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return quantised_sum(OneHots(rows, d), mechanism.delta_squared, mechanism.scale, d)

    without, present = exact(others), exact(np.concatenate([others, worst]))
    if int(((present - without) ** 2).sum()) != mechanism.delta_squared:
        raise ParameterError(
            "the audited enterprise does not meet the bound of its sum; report this as an error",
            "被审计企业未达到该求和的界；请作为程序错误上报",
        )
    return without, present


def audit_noise(
    rho: Fraction, runs: int, sampler: Sampler, progress: Progress | None = None
) -> NoiseAudit:
    """Attack one private sum `runs` times with and `runs` times without its worst enterprise.

    rho      zCDP cost of the sum, > 0
    runs     enough that noise halved on purpose would be found: see `runs_needed`
    raises   ParameterError if the runs are too few or too many, MechanismError for rho

    The score of a run is the projection of the release on the enterprise's contribution: the
    best there is against Gaussian noise (Neyman and Pearson 1933). The rates of a discrete Gaussian
    differ from the Gaussian's by at most half its highest probability, 0.2 / sigma < 0.0002 at
    sigma >= 2^10, which the bound's own slack exceeds.
    """
    mechanism = audited_sum(rho)
    claimed = math.sqrt(mechanism.delta_squared / float(mechanism.sigma) ** 2)
    least = runs_needed(claimed)
    if not least <= runs <= MOST_RUNS:
        raise ParameterError(
            f"at this cost the audit needs {least} to {MOST_RUNS} runs, not {runs}: with fewer it "
            "would not find noise that is half of what is claimed; raise --runs or --rho",
            f"在此费用下审计需要 {least} 至 {MOST_RUNS} 次运行，现为 {runs}：次数不足时无法发现"
            "减半的噪声；请提高 --runs 或 --rho",
        )
    without, present = neighbours(mechanism)
    scores = []
    for number, exact in enumerate((without, present)):
        scores.append(
            _scores(mechanism, exact, (without, present), runs, sampler, progress, number * runs)
        )
    doubt = DOUBT / len(OFFSETS)
    thresholds = []
    for offset in OFFSETS:
        at = claimed / 2 + offset
        false_positives = int((scores[0] > at).sum())
        false_negatives = int((scores[1] <= at).sum())
        bound = mu_lower_bound(false_positives, false_negatives, runs, doubt)
        thresholds.append(Threshold(at, false_positives, false_negatives, bound))
    return NoiseAudit(mechanism, runs, mechanism.cost(), claimed, tuple(thresholds))


def _scores(
    mechanism: Mechanism,
    exact: npt.NDArray[np.int64],
    sums: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]],
    runs: int,
    sampler: Sampler,
    progress: Progress | None,
    before: int,
) -> npt.NDArray[np.float64]:
    """Return float64 [runs]: about N(0, 1) without the enterprise, N(mu, 1) with it."""
    without, present = sums
    direction = (present - without) / math.sqrt(mechanism.delta_squared)
    scores = np.empty(runs)
    for start in range(0, runs, _AT_ONCE):
        part = scores[start : start + _AT_ONCE]
        drawn = sampler(mechanism.sigma, len(part) * mechanism.dimension)
        released = exact + drawn.reshape(len(part), mechanism.dimension)
        part[:] = (released - without) @ direction / float(mechanism.sigma)
        if progress is not None:
            progress(before + start + len(part), 2 * runs)
    return scores


def runs_needed(claimed: float) -> int:
    """Return the fewest runs at which noise halved on purpose is found, but for DOUBT.

    claimed  mu, > 0. Halved noise has mu' = 2 mu, and at the middle threshold both rates are
             Phi(-mu'/2): with five standard errors more than that, the bound exceeds the claim
    returns  MOST_RUNS + 1 if that many runs are not enough
    """
    rate = float(ndtr(-claimed))
    low, high = 1, 2 * MOST_RUNS
    while low < high:
        middle = (low + high) // 2
        hits = math.ceil(rate * middle + 5 * math.sqrt(rate * (1 - rate) * middle))
        enough = (
            hits < middle and mu_lower_bound(hits, hits, middle, DOUBT / len(OFFSETS)) > claimed
        )
        low, high = (low, middle) if enough else (middle + 1, high)
    return min(low, MOST_RUNS + 1)
