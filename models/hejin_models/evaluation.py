"""How well a score separates goods from bads: exactly from scores, or from a noisy histogram."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hejin_models.scorecard import probability_of
from hejin_models.sums import NoisySum

_Floats = npt.NDArray[np.float64]

# Reported only if bads exceed 8 standard deviations of the noise on a sum over all bins.
_LEAST_SIGNAL = 8.0
_BANDS = 8
_REPLICATES = 400


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its standard error, split into its two independent sources."""

    value: float
    noise_error: float
    sampling_error: float

    @property
    def error(self) -> float:
        """The whole standard error."""
        return math.hypot(self.noise_error, self.sampling_error)


@dataclass(frozen=True, slots=True)
class Band:
    """Calibration in one band of scores: expected and measured rate of bads.

    low, high    scores; the first band reaches down and the last one up without end
    share        of the hold-out enterprises, 0..1
    expected     by the scorecard; measured: noisy, 0..1, with standard error `error`
    """

    low: float
    high: float
    share: float
    expected: float
    measured: float
    error: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What the hold-out sum says. Where `reportable` is False the noise is too large to quote it.

    enterprises, bads  noisy totals of the hold-out part
    """

    reportable: bool
    enterprises: float
    bads: float
    auc: Estimate
    ks: Estimate
    bands: tuple[Band, ...]

    @property
    def gini(self) -> Estimate:
        """2 AUC - 1."""
        auc = self.auc
        return Estimate(2 * auc.value - 1, 2 * auc.noise_error, 2 * auc.sampling_error)


def exact_auc(scores: _Floats, labels: npt.NDArray[np.int8]) -> float:
    """Return the probability that a good scores above a bad, ties half; labels 1 = bad.

    raises  ValueError unless both classes are there
    """
    bads, goods = _classes(scores, labels)
    below = np.searchsorted(goods, bads, side="left")
    upto = np.searchsorted(goods, bads, side="right")
    above = len(goods) - 0.5 * (below + upto)
    return float(above.sum() / (len(bads) * len(goods)))


def exact_ks(scores: _Floats, labels: npt.NDArray[np.int8]) -> float:
    """Return the largest distance of the two classes' distribution functions, 0..1.

    raises  ValueError unless both classes are there
    """
    bads, goods = _classes(scores, labels)
    at = np.concatenate([bads, goods])
    below = np.searchsorted(bads, at, side="right") / len(bads)
    return float(np.abs(below - np.searchsorted(goods, at, side="right") / len(goods)).max())


def evaluate(total: NoisySum, edges: _Floats) -> Evaluation:
    """Return AUC, KS and calibration from a `score_histogram`: goods' bins, then bads'.

    The noise error of the AUC is the delta method on the noisy counts; its sampling error is
    Hanley and McNeil 1982 (Radiology 143, p. 29). The KS of a noisy histogram is too high: its
    excess is measured on replicates of the smoothed histogram and taken off.
    """
    goods, bads = total.values.reshape(2, -1)
    all_goods, all_bads = float(goods.sum()), float(bads.sum())
    least = _LEAST_SIGNAL * total.noise_std * math.sqrt(len(goods))
    reportable = min(all_goods, all_bads) > max(least, 1.0)
    if min(all_goods, all_bads) < 1.0:
        nothing = Estimate(0.5, 0.5, 0.5)
        return Evaluation(
            False, all_goods + all_bads, all_bads, nothing, Estimate(0.0, 1.0, 1.0), ()
        )
    return Evaluation(
        reportable,
        all_goods + all_bads,
        all_bads,
        _auc(goods, bads, total.noise_std),
        _ks(goods, bads, total.noise_std),
        _bands(goods, bads, edges, total.noise_std),
    )


def _classes(scores: _Floats, labels: npt.NDArray[np.int8]) -> tuple[_Floats, _Floats]:
    bads, goods = np.sort(scores[labels == 1]), np.sort(scores[labels == 0])
    if len(bads) == 0 or len(goods) == 0:
        raise ValueError(f"AUC and KS need both classes, got {len(bads)} bads, {len(goods)} goods")
    return bads, goods


def _auc(goods: _Floats, bads: _Floats, noise_std: float) -> Estimate:
    all_goods, all_bads = float(goods.sum()), float(bads.sum())
    # For a bad in bin i: share of goods above it; for a good: share of bads below it.
    above = (all_goods - np.cumsum(goods) + 0.5 * goods) / all_goods
    below = (np.cumsum(bads) - 0.5 * bads) / all_bads
    auc = float(bads @ above) / all_bads
    gradient = np.concatenate([(above - auc) / all_bads, (below - auc) / all_goods])
    noise = noise_std * float(np.linalg.norm(gradient))
    value = min(max(auc, 0.0), 1.0)
    return Estimate(value, min(noise, 0.5), _hanley_mcneil(value, all_bads, all_goods))


def _hanley_mcneil(auc: float, bads: float, goods: float) -> float:
    q1, q2 = auc / (2.0 - auc), 2.0 * auc * auc / (1.0 + auc)
    variance = (
        auc * (1.0 - auc) + (bads - 1.0) * (q1 - auc * auc) + (goods - 1.0) * (q2 - auc * auc)
    ) / (bads * goods)
    return min(math.sqrt(max(variance, 0.0)), 0.5)


def _ks(goods: _Floats, bads: _Floats, noise_std: float) -> Estimate:
    measured = float(_ks_of(goods, bads))
    smooth_goods, smooth_bads = _smooth(goods, noise_std), _smooth(bads, noise_std)
    true = float(_ks_of(smooth_goods, smooth_bads))
    # A fixed seed: the replicates measure a bias and protect nothing; the same histogram must
    # give the same report.
    random = np.random.default_rng(20260101)
    shape = (_REPLICATES, len(goods))
    noisy = _ks_of(
        smooth_goods + noise_std * random.standard_normal(shape),
        smooth_bads + noise_std * random.standard_normal(shape),
    )
    sampled = _ks_of(
        random.poisson(smooth_goods, shape).astype(np.float64),
        random.poisson(smooth_bads, shape).astype(np.float64),
    )
    excess = float(noisy.mean()) - true
    value = min(max(measured - excess, 0.0), 1.0)
    return Estimate(value, min(float(noisy.std()), 1.0), min(float(sampled.std()), 1.0))


def _ks_of(goods: _Floats, bads: _Floats) -> _Floats:
    """Return the KS of histograms along the last axis."""
    apart = np.cumsum(bads, axis=-1) / np.maximum(bads.sum(axis=-1, keepdims=True), 1.0)
    apart = apart - np.cumsum(goods, axis=-1) / np.maximum(goods.sum(axis=-1, keepdims=True), 1.0)
    largest: _Floats = np.abs(apart).max(axis=-1)
    return np.minimum(largest, 1.0)


def _smooth(counts: _Floats, noise_std: float) -> _Floats:
    """Return a plausible noise-free histogram: a moving average that is never negative."""
    if noise_std == 0.0:
        return counts
    away = np.subtract.outer(np.arange(len(counts)), np.arange(len(counts))) / 2.0
    kernel = np.exp(-0.5 * away * away)
    smooth = np.maximum(kernel @ counts / kernel.sum(axis=1), 0.0)
    scaled: _Floats = smooth * (counts.sum() / max(float(smooth.sum()), 1e-9))
    return scaled


def _bands(goods: _Floats, bads: _Floats, edges: _Floats, noise_std: float) -> tuple[Band, ...]:
    """Return about _BANDS bands of neighbouring bins with about equally many enterprises."""
    width = float(edges[1] - edges[0])
    middles = np.concatenate([[edges[0] - width / 2], edges + width / 2])
    predicted = probability_of(middles)
    counts = np.maximum(_smooth(goods + bads, noise_std), 0.0)
    shares = np.cumsum(counts) / max(float(counts.sum()), 1e-9)
    cuts = np.unique(np.searchsorted(shares, np.arange(1, _BANDS) / _BANDS) + 1)
    bounds = [0, *(int(cut) for cut in cuts if cut < len(counts)), len(counts)]
    bands = []
    for first, last in itertools.pairwise(bounds):
        size = float(goods[first:last].sum() + bads[first:last].sum())
        if size < 1.0:
            continue
        rate = min(max(float(bads[first:last].sum()) / size, 0.0), 1.0)
        noise = noise_std**2 * (last - first) * ((1 - rate) ** 2 + rate**2)
        weight = counts[first:last]
        expected = float(weight @ predicted[first:last] / max(float(weight.sum()), 1e-9))
        bands.append(
            Band(
                low=float(edges[max(first - 1, 0)]),
                high=float(edges[min(last - 1, len(edges) - 1)]),
                share=size / float(goods.sum() + bads.sum()),
                expected=expected,
                measured=rate,
                error=min(math.sqrt(noise + size * rate * (1 - rate)) / size, 1.0),
            )
        )
    return tuple(bands)
