"""Noise-aware optimal binning: from noisy counts on a fine public grid to a few weighted bins.

Free post-processing: it sees released sums only. A feature's bad rate over an ordered grid is
taken as piecewise constant with unknown change points. All segmentations are averaged by their
posterior weight, with the known noise variance in the likelihood (the recursions of Fearnhead
2006, "Exact and efficient Bayesian inference for multiple changepoint problems", section 2);
the averaged curve is then cut into at most MAX_BINS bins by least squares. Categories are shrunk
one by one (empirical Bayes) and grouped by their rate.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hejin_models.errors import TrainingError
from hejin_models.grids import Grid

_Floats = npt.NDArray[np.float64]

MAX_BINS = 12
"""Most bins a feature gets, the missing one apart: more cannot be read on one page."""

# Cost of one more segment in nats: about the gain that the best of some ten neighbouring cuts
# reaches by chance.
_CUT_COST = 2.0
# Candidate spreads of the true log-odds around the base rate: weak, middling, strong features.
# Each feature weighs them by how well they explain its counts.
_SPREADS = (0.15, 0.4, 1.0)
# Of the curve's variance, binning may lose this much to have fewer bins.
_LOSS = 0.01
# Weight of an empty cell in the cuts, in units of the average cell.
_SAY_OF_EMPTY = 0.05
# A bin's rate stays within a 50th of the base rate and of its complement: |WOE| < 4 or so.
_EXTREME = 50.0
# Cells on either side over which counts are pooled when one cell alone is lost in noise.
_BANDWIDTH = 2.0
# Bads and goods must each exceed so many standard deviations of their noise.
_LEAST_SIGNAL = 3.0


@dataclass(frozen=True, slots=True)
class RawBin:
    """Cells of one grid that share a weight.

    ranges  (first, last) cells, both inclusive, ascending
    count   estimated number of enterprises, >= 0
    effect  log-odds of bad relative to the base rate (WOE with its sign turned)
    """

    ranges: tuple[tuple[int, int], ...]
    count: float
    effect: float


@dataclass(frozen=True, slots=True)
class BaseRate:
    """The estimated numbers of bads and goods among all enterprises, both positive."""

    bads: float
    goods: float

    @property
    def rate(self) -> float:
        """The share of bads, strictly between 0 and 1."""
        return self.bads / (self.bads + self.goods)

    @property
    def logit(self) -> float:
        """Its log-odds."""
        return math.log(self.bads / self.goods)

    @property
    def mixture(self) -> float:
        """rate^2 + (1 - rate)^2, the variance of a deviation's noise in units of one count's."""
        return self.rate**2 + (1.0 - self.rate) ** 2

    @property
    def tilt(self) -> float:
        """By how much, relative to its size, a cell's size estimate errs per unit of theta."""
        return self.rate * (1.0 - self.rate) * (2.0 * self.rate - 1.0) / self.mixture


@dataclass(frozen=True, slots=True)
class Counts:
    """A feature's noisy numbers of bads and goods per cell, float64[cells].

    noise_std  standard deviation of the noise on each number, >= 0
    """

    bads: _Floats
    goods: _Floats
    noise_std: float

    def part(self, cells: slice) -> Counts:
        """Return the counts of some cells only."""
        return Counts(self.bads[cells], self.goods[cells], self.noise_std)


def base_rate(features: Sequence[Counts]) -> BaseRate:
    """Return the numbers of bads and goods from every feature's noisy cells.

    Every feature counts every enterprise once, so its total over m cells estimates the same
    number with variance m noise_std^2; the totals are averaged by their precision.
    raises   TrainingError where either class is absent or lost in the noise
    """
    weights = np.array([1.0 / (len(f.bads) * max(f.noise_std, 1e-9) ** 2) for f in features])
    spread = 1.0 / math.sqrt(float(weights.sum()))
    weights /= weights.sum()
    sides = [[f.bads.sum() for f in features], [f.goods.sum() for f in features]]
    totals = [float(weights @ np.array(side)) for side in sides]
    least = max(1.0, _LEAST_SIGNAL * spread)
    for total, en, zh in zip(totals, ("bad", "good"), ("违约", "正常"), strict=True):
        if total < least:
            raise TrainingError(
                f"about {max(total, 0.0):.0f} {en} enterprises are in the training part, where at"
                f" least {least:.0f} would stand out of the noise: check the labels, add nodes, or"
                " plan a larger epsilon",
                f"训练部分约有 {max(total, 0.0):.0f} 家{zh}企业，至少需要 {least:.0f} 家"
                "才能高于噪声：请检查标签、增加节点或提高 epsilon",
            )
    return BaseRate(totals[0], totals[1])


def bin_feature(grid: Grid, counts: Counts, base: BaseRate) -> tuple[RawBin, ...]:
    """Return a feature's bins: every cell in exactly one, by ascending first cell."""
    if not grid.ordered:
        evidence = _evidence(counts, base, smooth=False)
        return _bins(_shrunk(evidence), evidence.count, base, ordered=False)
    inner = grid.cells - 1
    curve = _evidence(counts.part(slice(0, inner)), base, smooth=True)
    missing = _evidence(counts.part(slice(inner, None)), base, smooth=False)
    (last,) = _bins(_shrunk(missing), missing.count, base, ordered=True)
    return (
        *_bins(_averaged(curve), curve.count, base, ordered=True),
        RawBin(((inner, inner),), last.count, last.effect),
    )


@dataclass(frozen=True, slots=True)
class _Evidence:
    """What each cell says about the relative deviation theta of its bad rate from the base.

    The rate is pi (1 + (1 - pi) theta); theta has estimate score / weight and variance
    1 / weight. Scores and weights add over cells that share one theta.
    """

    score: _Floats
    weight: _Floats
    count: _Floats


def _evidence(counts: Counts, base: BaseRate, *, smooth: bool) -> _Evidence:
    """Return each cell's evidence from its noisy counts.

    deviation = (1 - pi) bads - pi goods has mean pi (1 - pi) n theta. The cell's size n is
    estimated from the combination of the counts whose noise is uncorrelated with that of the
    deviation; otherwise cells whose noise adds bads would count more than those where it adds
    goods. Its mean is n (1 + tilt theta): `_bins` takes that out again.
    """
    rate, mixture = base.rate, base.mixture
    noisy = (rate * counts.bads + (1.0 - rate) * counts.goods) / mixture
    noise = counts.noise_std**2
    size = _sizes(noisy, noise / mixture, smooth=smooth)
    slope = rate * (1.0 - rate) * size
    # A quarter of an enterprise's variance keeps empty cells, which say nothing, finite.
    variance = np.maximum(slope + noise * mixture, 0.25)
    deviation = (1.0 - rate) * counts.bads - rate * counts.goods
    return _Evidence(slope * deviation / variance, slope * slope / variance, size)


def _sizes(noisy: _Floats, noise: float, *, smooth: bool) -> _Floats:
    """Return cell sizes >= 0: the noisy ones, drawn towards their surroundings by the noise."""
    if noise == 0.0:
        return np.maximum(noisy, 0.0)
    around = _local_mean(noisy) if smooth else np.full(len(noisy), noisy.mean())
    around = np.maximum(around, 1e-9)
    # Prior for a cell: mean and standard deviation both that of its surroundings.
    size: _Floats = (noisy * around + noise) * around / (around * around + noise)
    return np.maximum(size, 0.0)


def _local_mean(values: _Floats) -> _Floats:
    """Return a Gaussian moving average; short grids are pooled less."""
    length = len(values)
    width = _BANDWIDTH if length > 12 else 0.6
    away = np.subtract.outer(np.arange(length), np.arange(length)) / width
    kernel = np.exp(-0.5 * away * away)
    mean: _Floats = kernel @ values / kernel.sum(axis=1)
    return mean


def _averaged(evidence: _Evidence) -> _Floats:
    """Return theta per cell, averaged over segmentations and over _SPREADS by posterior weight."""
    m = len(evidence.score)
    score, weight = (
        np.concatenate([[0.0], np.cumsum(part)]) for part in (evidence.score, evidence.weight)
    )
    # Entry [k, e] is the segment of cells k..e-1.
    segment_score = score[None, :] - score[:, None]
    segment_weight = np.maximum(weight[None, :] - weight[:, None], 0.0)
    segment = np.triu(np.ones((m + 1, m + 1), dtype=np.bool_), 1)
    curves, totals = [], []
    for spread in _SPREADS:
        precision = segment_weight + spread**-2
        # Log Bayes factor of "theta ~ N(0, spread^2)" over "theta = 0", per segment.
        gain = 0.5 * segment_score**2 / precision - 0.5 * np.log(precision * spread**2)
        gain = np.where(segment, gain - _CUT_COST, -np.inf)
        forward, backward = _sums_over_paths(gain)
        posterior = np.exp(forward[:, None] + gain + backward[None, :] - forward[m])
        posterior *= segment_score / precision
        curves.append(np.cumsum(posterior.sum(axis=1) - posterior.sum(axis=0))[:m])
        totals.append(forward[m])
    return _mixture(curves, totals)


def _sums_over_paths(gain: _Floats) -> tuple[_Floats, _Floats]:
    """Return the log of summed exp(gain) over all ways from 0 to each cut, and from it to m."""
    m = len(gain) - 1
    forward, backward = np.full(m + 1, -np.inf), np.full(m + 1, -np.inf)
    forward[0] = backward[m] = 0.0
    for e in range(1, m + 1):
        forward[e] = _log_sum(forward[:e] + gain[:e, e])
    for k in range(m - 1, -1, -1):
        backward[k] = _log_sum(gain[k, k + 1 :] + backward[k + 1 :])
    return forward, backward


def _log_sum(terms: _Floats) -> float:
    top = float(terms.max())
    return top + math.log(float(np.exp(terms - top).sum()))


def _shrunk(evidence: _Evidence) -> _Floats:
    """Return theta per cell, each on its own, shrunk by the noise and averaged over _SPREADS."""
    curves, totals = [], []
    for spread in _SPREADS:
        precision = evidence.weight + spread**-2
        curves.append(evidence.score / precision)
        gain = 0.5 * evidence.score**2 / precision - 0.5 * np.log(precision * spread**2)
        totals.append(float(gain.sum()))
    return _mixture(curves, totals)


def _mixture(curves: list[_Floats], log_weights: list[float]) -> _Floats:
    weights = np.exp(np.array(log_weights) - max(log_weights))
    mixed: _Floats = weights @ np.stack(curves) / weights.sum()
    return mixed


def _bins(theta: _Floats, count: _Floats, base: BaseRate, *, ordered: bool) -> tuple[RawBin, ...]:
    """Return the bins of cells 0..m-1 with deviations theta; any cells may join if unordered."""
    order = np.arange(len(theta)) if ordered else np.argsort(theta, kind="stable")
    bins = []
    for first, last in _cut(theta[order], count[order]):
        members = np.sort(order[first:last])
        size = float(count[members].sum())
        weights = count[members] if size > 0 else np.ones(len(members))
        mean = float(weights @ theta[members] / weights.sum())
        # With sizes in error by 1 + tilt theta, the mean found is theta / (1 + tilt theta). Noise
        # may put it beyond what any rate gives: then the correction stops at a factor of 5.
        correction = max(1.0 - base.tilt * mean, 0.2)
        effect = _effect(mean / correction, base)
        bins.append(RawBin(_ranges(members), size * correction, effect))
    return tuple(sorted(bins, key=lambda made: made.ranges))


def _effect(theta: float, base: BaseRate) -> float:
    pi = base.rate
    rate = min(max(pi * (1.0 + (1.0 - pi) * theta), pi / _EXTREME), 1.0 - (1.0 - pi) / _EXTREME)
    return math.log(rate / (1.0 - rate)) - base.logit


def _ranges(cells: npt.NDArray[np.int64]) -> tuple[tuple[int, int], ...]:
    runs = np.split(cells, np.flatnonzero(np.diff(cells) > 1) + 1)
    return tuple((int(run[0]), int(run[-1])) for run in runs)


def _cut(theta: _Floats, count: _Floats) -> list[tuple[int, int]]:
    """Return [first, last) ranges: the fewest that keep 99 % of theta's weighted variance.

    Fisher 1958, "On grouping for maximum homogeneity": exact by dynamic programming.
    """
    m = len(theta)
    # Cells believed empty still have a say in where the cuts lie: a category that was hardly ever
    # seen is not to share the fate of a bad one.
    weight = count + _SAY_OF_EMPTY * max(float(count.sum()), 1.0) / m
    sums = [np.concatenate([[0.0], np.cumsum(weight * theta**power)]) for power in (0, 1, 2)]
    mass, first, second = (total[None, :] - total[:, None] for total in sums)
    segment = np.triu(np.ones((m + 1, m + 1), dtype=np.bool_), 1)
    safe = np.where(segment, mass, 1.0)
    cost = np.where(segment, np.maximum(second - first**2 / safe, 0.0), np.inf)
    best, origins = cost[0], [np.zeros(m + 1, dtype=np.int64)]
    allowed = max(_LOSS * float(cost[0, m]), 1e-9 * float(mass[0, m]))
    while best[m] > allowed and len(origins) < min(MAX_BINS, m):
        total = best[:, None] + cost
        origins.append(total.argmin(axis=0))
        best = total.min(axis=0)
    cuts = [m]
    for origin in reversed(origins):
        cuts.append(int(origin[cuts[-1]]))
    cuts.reverse()
    return list(itertools.pairwise(cuts))
