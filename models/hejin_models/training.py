"""Train a scorecard from private sums: a generator that asks for sums and returns the model."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from hejin_models.binning import BaseRate, Counts, RawBin, base_rate, bin_feature
from hejin_models.evaluation import Evaluation, evaluate
from hejin_models.features import Feature, FeatureView
from hejin_models.grids import Grid
from hejin_models.scorecard import Bin, Scorecard, ScoredFeature, points_of, rounded
from hejin_models.statistics import SCORE_BINS
from hejin_models.sums import NoisySum, PlannedSum, SumRequest
from hejin_trust.text import Text

_Floats = npt.NDArray[np.float64]

# One set of defaults for every data set. Nearly all that noise costs, it costs in the bins.
_HISTOGRAM_SHARE = Fraction(6, 10)
# Grids of at most so many cells are summed apart from finer ones, with a smaller share of rho:
# the error of a feature's bins grows with its number of cells.
_COARSE = 16
_GRAM_SHARE = Fraction(2, 10)
_NEWTON_STEPS = 3
_NEWTON_SHARE = Fraction(2, 10) / _NEWTON_STEPS
# WOE features are scaled by 1.5 times the root of their summed mean squares, so that with the
# constant few enterprises are shrunk to norm 1. One norm bounds all of them: the constant is
# kept smaller than the features together.
_SCALE = 1.5
_CONSTANT = 0.3
# Curvature of the logistic loss, as if the base rate were at least 3 %: shorter steps otherwise.
_LEAST_CURVATURE = 0.03
# The score's hold-out bins reach so many standard deviations to both sides of its mean.
_SCORE_REACH = 3.0


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """The model, and how well it separates the hold-out enterprises."""

    scorecard: Scorecard
    evaluation: Evaluation

    @property
    def model(self) -> Scorecard:
        """The scorecard, as any family's result calls it."""
        return self.scorecard


def plan_sums(view: FeatureView) -> tuple[PlannedSum, ...]:
    """Return the sums that `train` will ask for, in order; they depend on the view's grids only."""
    return (
        *(PlannedSum("label_histogram", 1, "train", group.share) for group in _groups(view)),
        PlannedSum("gram", 1, "train", _GRAM_SHARE),
        *(PlannedSum("logistic_gradient", 1, "train", _NEWTON_SHARE),) * _NEWTON_STEPS,
        PlannedSum("score_histogram", 1, "holdout", Fraction(1)),
    )


def train(view: FeatureView) -> Generator[SumRequest, NoisySum, TrainingResult]:
    """Yield the requests of `plan_sums` in order, get each noisy total, return the result.

    Deterministic: the same totals give the same requests and the same model, so that a run
    can go on after a restart. With a noise_std of 0 it is the non-private reference.
    raises   TrainingError where the totals hold no model (one class only, pure noise)
    """
    counts: dict[int, Counts] = {}
    groups = _groups(view)
    for index, group in enumerate(groups):
        total = yield SumRequest(index, "label_histogram", 1, "train", group.state)
        counts |= _counts(view, group, total)
    binned = _binned(view, [counts[place] for place in range(len(view.features))])
    index = len(groups)
    gram = yield SumRequest(index, "gram", 1, "train", binned.state)
    curvature = _Curvature.of(gram, binned)
    weights = previous = _start(binned, curvature)
    for _ in range(_NEWTON_STEPS):
        index += 1
        state = {**binned.state, "weights": weights}
        gradient = yield SumRequest(index, "logistic_gradient", 1, "train", state)
        previous, weights = weights, weights - curvature.solve(gradient)
    scorecard = _assemble(view, binned, (previous + weights) / 2.0)
    state = {"values": scorecard.values, "edges": _score_edges(scorecard, binned, curvature)}
    holdout = yield SumRequest(index + 1, "score_histogram", 1, "holdout", state)
    holdout.checked(2 * SCORE_BINS)
    return TrainingResult(scorecard, evaluate(holdout, state["edges"]))


@dataclass(frozen=True, slots=True)
class _Group:
    """Features whose histograms are one sum."""

    features: tuple[int, ...]
    share: Fraction

    @property
    def state(self) -> dict[str, _Floats]:
        return {"features": np.array(self.features, dtype=np.float64)}


def _groups(view: FeatureView) -> tuple[_Group, ...]:
    """Return the coarse and the fine features, each group's share by its sum of sqrt(cells).

    An error of a feature's m cells that grows with m / weight, under a fixed sum of weights,
    is least in sum for weights in proportion to sqrt(m).
    """
    sizes = [feature.grid.cells for feature in view.features]
    coarse = tuple(place for place, size in enumerate(sizes) if size <= _COARSE)
    fine = tuple(place for place, size in enumerate(sizes) if size > _COARSE)
    groups = [group for group in (coarse, fine) if group]
    weights = [sum(math.isqrt(sizes[place] << 20) for place in group) for group in groups]
    return tuple(
        _Group(group, _HISTOGRAM_SHARE * Fraction(weight, sum(weights)))
        for group, weight in zip(groups, weights, strict=True)
    )


def _counts(view: FeatureView, group: _Group, total: NoisySum) -> dict[int, Counts]:
    sizes = [view.features[place].grid.cells for place in group.features]
    sides = total.checked(2 * sum(sizes)).reshape(2, -1)
    goods, bads = (np.split(side, np.cumsum(sizes)[:-1]) for side in sides)
    return {
        place: Counts(bads[i], goods[i], total.noise_std) for i, place in enumerate(group.features)
    }


@dataclass(frozen=True)
class _Binned:
    """The bins of every feature and the inputs of the linear model that follow from them.

    inputs    value of every cell of every feature in a row: effect / scale
    """

    base: BaseRate
    bins: tuple[tuple[RawBin, ...], ...]
    scale: float
    inputs: _Floats

    @property
    def state(self) -> dict[str, _Floats]:
        return {"values": self.inputs, "constant": np.array([_CONSTANT])}


def _binned(view: FeatureView, counts: list[Counts]) -> _Binned:
    base = base_rate(counts)
    grids = [feature.grid for feature in view.features]
    bins = tuple(bin_feature(grid, found, base) for grid, found in zip(grids, counts, strict=True))
    spread = math.sqrt(sum(_mean_square(made) for made in bins))
    scale = _SCALE * max(spread, 1e-3)
    effects = [
        _table(feature.grid, made) for feature, made in zip(view.features, bins, strict=True)
    ]
    return _Binned(base, bins, scale, np.concatenate(effects) / scale)


def _mean_square(bins: tuple[RawBin, ...]) -> float:
    total = sum(made.count for made in bins)
    return sum(made.count * made.effect**2 for made in bins) / max(total, 1.0)


def _table(grid: Grid, bins: tuple[RawBin, ...]) -> _Floats:
    table = np.zeros(grid.cells)
    for made in bins:
        for first, last in made.ranges:
            table[first : last + 1] = made.effect
    return table


@dataclass(frozen=True)
class _Curvature:
    """The noisy Gram matrix of the inputs, made usable: eigenvalues >= 0, damped by its noise.

    damping  about the spectral norm of the noise matrix: noise_std sqrt(size)
    """

    values: _Floats
    vectors: _Floats
    damping: float
    slope: float

    @classmethod
    def of(cls, total: NoisySum, binned: _Binned) -> _Curvature:
        size = len(binned.bins) + 1
        triangle = total.checked(size * (size + 1) // 2)
        matrix = np.zeros((size, size))
        matrix[np.triu_indices(size)] = triangle
        # The statistic divides the diagonal by sqrt(2); adding the transpose doubles it.
        matrix = matrix + matrix.T
        matrix[np.diag_indices(size)] /= math.sqrt(2.0)
        values, vectors = np.linalg.eigh(matrix)
        damping = max(total.noise_std * math.sqrt(size), 1.0)
        rate = binned.base.rate
        slope = max(rate * (1.0 - rate), _LEAST_CURVATURE)
        return cls(np.maximum(values, 0.0), vectors, damping, slope)

    @property
    def matrix(self) -> _Floats:
        """The Gram matrix that the eigenvalues stand for."""
        found: _Floats = (self.vectors * self.values) @ self.vectors.T
        return found

    def solve(self, gradient: NoisySum) -> _Floats:
        """Return the damped Newton step for a noisy gradient: shorter where noise rules."""
        along = self.vectors.T @ gradient.checked(len(self.values))
        divisor = self.slope * (self.values + self.damping) + gradient.noise_std
        step: _Floats = self.vectors @ (along / divisor)
        return step


def _start(binned: _Binned, curvature: _Curvature) -> _Floats:
    """Return first weights: alone, each feature has coefficient 1; together, what Gram says.

    Linear discriminant: solve (G + damping) w = (diag G + damping / 2) 1.
    """
    matrix = curvature.matrix[:-1, :-1]
    size = len(matrix)
    alone = np.diag(matrix) + 0.5 * curvature.damping
    weights = np.linalg.solve(matrix + curvature.damping * np.eye(size), alone) * binned.scale
    return np.append(weights, binned.base.logit / _CONSTANT)


def _assemble(view: FeatureView, binned: _Binned, weights: _Floats) -> Scorecard:
    coefficients = (weights[:-1] / binned.scale).tolist()
    intercept = -float(weights[-1]) * _CONSTANT
    start = points_of(intercept) / len(view.features)
    factor = points_of(1.0) - points_of(0.0)
    features = tuple(
        _scored(feature, bins, coefficient, start, factor, binned.base)
        for feature, bins, coefficient in zip(view.features, binned.bins, coefficients, strict=True)
    )
    return Scorecard(view.id, view.digest, rounded(intercept), features)


def _scored(
    feature: Feature,
    bins: tuple[RawBin, ...],
    coefficient: float,
    start: float,
    factor: float,
    base: BaseRate,
) -> ScoredFeature:
    """Return a feature with its points: start + factor x coefficient x WOE."""
    used = coefficient if any(made.effect != 0.0 for made in bins) else 0.0
    total = max(sum(made.count for made in bins), 1.0)
    scored = tuple(
        Bin(
            made.ranges,
            _describe(feature.grid, made.ranges),
            rounded(made.count / total),
            rounded(-made.effect),
            rounded(start - factor * used * made.effect),
        )
        for made in bins
    )
    iv = sum(made.count / total * _divergence(made.effect, base) for made in bins)
    return ScoredFeature(feature.name, feature.text, rounded(iv), rounded(used), scored)


def _divergence(effect: float, base: BaseRate) -> float:
    """Return (bad share - good share) x effect, per unit of the bin's own share; >= 0."""
    rate = 1.0 / (1.0 + math.exp(-(base.logit + effect)))
    return (rate / base.rate - (1.0 - rate) / (1.0 - base.rate)) * effect


def _describe(grid: Grid, ranges: tuple[tuple[int, int], ...]) -> Text:
    parts = [grid.describe(first, last) for first, last in ranges]
    return Text(", ".join(part.en for part in parts), "、".join(part.zh for part in parts))


def _score_edges(scorecard: Scorecard, binned: _Binned, curvature: _Curvature) -> _Floats:
    """Return 63 equally spaced edges around where scores are expected from released sums.

    Mean from the bins' shares; variance from the Gram matrix, or, if larger, from the bins as
    if features were independent.
    """
    mean = alone = 0.0
    factor = points_of(1.0) - points_of(0.0)
    slopes = np.array([feature.coefficient * factor for feature in scorecard.features])
    for feature in scorecard.features:
        shares = np.array([made.share for made in feature.bins])
        points = np.array([made.points for made in feature.bins])
        total = max(float(shares.sum()), 1e-9)
        center = float(shares @ points) / total
        mean += center
        alone += float(shares @ (points - center) ** 2) / total
    enterprises = binned.base.bads + binned.base.goods
    scaled = slopes * binned.scale
    together = float(scaled @ curvature.matrix[:-1, :-1] @ scaled) / enterprises
    reach = _SCORE_REACH * max(math.sqrt(max(together, alone)), 1e-3)
    return np.linspace(mean - reach, mean + reach, SCORE_BINS - 1)
