"""The catalogue of statistics: what one enterprise contributes to a private sum, and its bound.

Every statistic is a pure function of an enterprise's cells and label and of the query's
public state. Its L2 bound holds for any input (PRIVATE_SUM section 4); versions are never
changed, only added.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Protocol

import numpy as np
import numpy.typing as npt

from hejin_models.contributions import SCORE_BINS, Labels, check_keys, chunks, sized
from hejin_models.errors import StateError, UnknownStatisticError
from hejin_models.features import FeatureView
from hejin_models.grids import Cells
from hejin_models.network_statistics import NetworkGradient, NetworkScoreHistogram
from hejin_models.perceptron import sigmoid
from hejin_models.state import State, decode_state, encode_state, state_digest
from hejin_privacy.contribution import Dense, OneHots

__all__ = [
    "CATALOGUE",
    "SCORE_BINS",
    "Labels",
    "State",
    "Statistic",
    "decode_state",
    "encode_state",
    "state_digest",
    "statistic",
]

_Floats = npt.NDArray[np.float64]


class Statistic(Protocol):
    """One entry of the catalogue.

    `counts`: contributions are zeros and ones, so that no rounding is added to the bound.
    All methods but `contribute` are what a node checks before it reads any data.
    """

    @property
    def name(self) -> str:
        """The catalogue name."""

    @property
    def version(self) -> int:
        """The version of this definition, from 1."""

    @property
    def counts(self) -> bool:
        """Whether contributions are zeros and ones."""

    def check_state(self, view: FeatureView, state: State) -> None:
        """Raise StateError unless `state` is one that this statistic takes for this view."""

    def dimension(self, view: FeatureView, state: State) -> int:
        """Return the length d of the sum."""

    def bound_squared(self, view: FeatureView, state: State) -> Fraction:
        """Return C^2, the square of the largest L2 norm of one enterprise's contribution."""

    def nonzeros(self, view: FeatureView, state: State) -> int:
        """Return the most coordinates that one enterprise can make other than zero."""

    def contribute(
        self, view: FeatureView, cells: Cells, labels: Labels, state: State
    ) -> Iterator[OneHots | Dense]:
        """Yield the contributions of all enterprises in order, in chunks of bounded memory."""


def statistic(name: str, version: int) -> Statistic:
    """Return a catalogue entry; raises UnknownStatisticError."""
    found = CATALOGUE.get((name, version))
    if found is None:
        raise UnknownStatisticError(
            f"statistic {name!r} version {version} is not in this installation's catalogue: "
            "update Hejin here, or plan without it",
            f"本机的统计目录中没有 {name!r} 第 {version} 版：请升级 Hejin，或在计划中去掉它",
        )
    return found


class Histogram:
    """One 1 per feature, in its cell of the public grid. d = all cells; C^2 = F."""

    name, version, counts = "histogram", 1, True

    def check_state(self, view: FeatureView, state: State) -> None:
        """Take no state."""
        del view
        check_keys(state)

    def dimension(self, view: FeatureView, state: State) -> int:
        """Return the number of cells of all features."""
        del state
        return view.total_cells

    def bound_squared(self, view: FeatureView, state: State) -> Fraction:
        """Return the number of features: that many coordinates are 1."""
        del state
        return Fraction(len(view.features))

    def nonzeros(self, view: FeatureView, state: State) -> int:
        """Return the number of features."""
        del state
        return len(view.features)

    def contribute(
        self, view: FeatureView, cells: Cells, labels: Labels, state: State
    ) -> Iterator[OneHots | Dense]:
        """Yield the place of each feature's cell; layout: feature by feature."""
        for places, _ in chunks(view, cells, labels):
            yield OneHots(places, self.dimension(view, state))


class LabelHistogram:
    """One 1 per chosen feature, in (label, its cell). C^2 = the number of chosen features.

    State: nothing for all features, or `features`, their ascending numbers in the view, so
    that coarse and fine grids can be summed with different noise. d = 2 x their cells:
    those of goods, feature by feature, then those of bads.
    """

    name, version, counts = "label_histogram", 1, True

    def check_state(self, view: FeatureView, state: State) -> None:
        """Refuse feature numbers that do not ascend or that the view does not have."""
        if not state:
            return
        check_keys(state, "features")
        chosen = state["features"]
        known = np.isin(chosen, np.arange(len(view.features))).all()
        if chosen.ndim != 1 or not len(chosen) or not known or np.any(np.diff(chosen) <= 0):
            raise StateError(
                f"state `features` must be ascending numbers from 0 to {len(view.features) - 1}",
                f"状态 `features` 应为 0 至 {len(view.features) - 1} 的升序编号",
            )

    def dimension(self, view: FeatureView, state: State) -> int:
        """Return twice the number of cells of the chosen features."""
        return 2 * int(np.diff(view.offsets)[_chosen(view, state)].sum())

    def bound_squared(self, view: FeatureView, state: State) -> Fraction:
        """Return the number of chosen features: that many coordinates are 1."""
        return Fraction(len(_chosen(view, state)))

    def nonzeros(self, view: FeatureView, state: State) -> int:
        """Return the number of chosen features."""
        return len(_chosen(view, state))

    def contribute(
        self, view: FeatureView, cells: Cells, labels: Labels, state: State
    ) -> Iterator[OneHots | Dense]:
        """Yield the place of each cell, those of bads moved behind all those of goods."""
        chosen = _chosen(view, state)
        sizes = np.diff(view.offsets)[chosen]
        # From places among all cells to places among the chosen features' cells.
        shift = np.cumsum(sizes) - sizes - view.offsets[chosen]
        half = int(sizes.sum())
        for places, label in chunks(view, cells, labels):
            moved = places[:, chosen] + shift + half * label[:, None]
            moved[(label != 0) & (label != 1)] = -1
            yield OneHots(moved, 2 * half)


class BinCounts:
    """One 1 per feature, in its bin of a model. State `bins`: each cell's bin. C^2 = F.

    `bins` holds, for every cell of every feature, a place in 0..d-1; the places of
    different features must differ.
    """

    name, version, counts = "bin_counts", 1, True

    def check_state(self, view: FeatureView, state: State) -> None:
        """Refuse bins that are no whole numbers, leave gaps or are shared by two features."""
        check_keys(state, "bins")
        bins = sized(state, "bins", view.total_cells)
        if np.any(bins != np.rint(bins)) or bins.min() < 0 or bins.max() >= view.total_cells:
            raise StateError("state `bins` must hold whole numbers", "状态 `bins` 应为整数")
        parts = [set(part.tolist()) for part in np.split(bins, view.offsets[1:-1])]
        if sum(len(part) for part in parts) != int(bins.max()) + 1 or len(
            set().union(*parts)
        ) != sum(len(part) for part in parts):
            raise StateError(
                "state `bins` must number the bins from 0 without gaps, each of one feature",
                "状态 `bins` 应从 0 连续编号，且每个分箱只属于一个特征",
            )

    def dimension(self, view: FeatureView, state: State) -> int:
        """Return the number of bins of all features."""
        del view
        return int(state["bins"].max()) + 1

    def bound_squared(self, view: FeatureView, state: State) -> Fraction:
        """Return the number of features."""
        del state
        return Fraction(len(view.features))

    def nonzeros(self, view: FeatureView, state: State) -> int:
        """Return the number of features."""
        del state
        return len(view.features)

    def contribute(
        self, view: FeatureView, cells: Cells, labels: Labels, state: State
    ) -> Iterator[OneHots | Dense]:
        """Yield the bin of each feature's cell."""
        bins = state["bins"].astype(np.int64)
        for places, _ in chunks(view, cells, labels):
            yield OneHots(bins[places], self.dimension(view, state))


class Gram:
    """Upper triangle of x x^T, its diagonal divided by sqrt(2). C^2 = 1/2.

    State: `values` (a number per cell of every feature) and `constant` (one number);
    x = (value of each feature's cell, constant), shrunk to norm 1 if longer, so that
    sum over i<j of (x_i x_j)^2 + sum of x_i^4 / 2 = |x|^4 / 2 <= 1/2.
    Rows of the triangle one after another: (0,0), (0,1) .. (0,F), (1,1) ..
    """

    name, version, counts = "gram", 1, False

    def check_state(self, view: FeatureView, state: State) -> None:
        """Refuse tables of another length or beyond 1e6."""
        check_keys(state, "values", "constant")
        _check_table(view, state)

    def dimension(self, view: FeatureView, state: State) -> int:
        """Return (F + 1)(F + 2) / 2."""
        del state
        size = len(view.features) + 1
        return size * (size + 1) // 2

    def bound_squared(self, view: FeatureView, state: State) -> Fraction:
        """Return 1/2."""
        del view, state
        return Fraction(1, 2)

    def nonzeros(self, view: FeatureView, state: State) -> int:
        """Return the dimension."""
        return self.dimension(view, state)

    def contribute(
        self, view: FeatureView, cells: Cells, labels: Labels, state: State
    ) -> Iterator[OneHots | Dense]:
        """Yield the triangles."""
        rows, columns = np.triu_indices(len(view.features) + 1)
        scale = np.where(rows == columns, np.sqrt(0.5), 1.0)
        for x, label in _inputs(view, cells, labels, state, width=len(rows)):
            triangles = x[:, rows]
            triangles *= x[:, columns]
            triangles *= scale
            triangles[(label != 0) & (label != 1)] = 0.0
            yield Dense(triangles)


class LogisticGradient:
    """(sigmoid(w.x) - y) x, with x as in `gram`. State also `weights`, F + 1 numbers. C^2 = 1.

    |sigmoid - y| <= 1 and |x| <= 1. The constant comes last in x and in the sum.
    """

    name, version, counts = "logistic_gradient", 1, False

    def check_state(self, view: FeatureView, state: State) -> None:
        """Refuse tables or weights of another length or beyond 1e6."""
        check_keys(state, "values", "constant", "weights")
        _check_table(view, state)
        sized(state, "weights", len(view.features) + 1)

    def dimension(self, view: FeatureView, state: State) -> int:
        """Return F + 1."""
        del state
        return len(view.features) + 1

    def bound_squared(self, view: FeatureView, state: State) -> Fraction:
        """Return 1."""
        del view, state
        return Fraction(1)

    def nonzeros(self, view: FeatureView, state: State) -> int:
        """Return the dimension."""
        return self.dimension(view, state)

    def contribute(
        self, view: FeatureView, cells: Cells, labels: Labels, state: State
    ) -> Iterator[OneHots | Dense]:
        """Yield the gradients."""
        weights = state["weights"]
        for x, label in _inputs(view, cells, labels, state, width=len(weights)):
            residual = sigmoid(x @ weights) - label
            residual[(label != 0) & (label != 1)] = 0.0
            yield Dense(residual[:, None] * x)


class ScoreHistogram:
    """One 1 in (label, score bin), 64 score bins. d = 128, goods first; C^2 = 1.

    State: `values` (points per cell of every feature) and `edges` (63 ascending); an
    enterprise's score is the sum of the points of its cells, added feature by feature,
    and its bin the number of edges <= score.
    """

    name, version, counts = "score_histogram", 1, True

    def check_state(self, view: FeatureView, state: State) -> None:
        """Refuse tables of another length or beyond 1e6, and edges that do not ascend."""
        check_keys(state, "values", "edges")
        sized(state, "values", view.total_cells)
        if np.any(np.diff(sized(state, "edges", SCORE_BINS - 1)) < 0):
            raise StateError("state `edges` must ascend", "状态 `edges` 应为升序")

    def dimension(self, view: FeatureView, state: State) -> int:
        """Return 128."""
        del view, state
        return 2 * SCORE_BINS

    def bound_squared(self, view: FeatureView, state: State) -> Fraction:
        """Return 1."""
        del view, state
        return Fraction(1)

    def nonzeros(self, view: FeatureView, state: State) -> int:
        """Return 1."""
        del view, state
        return 1

    def contribute(
        self, view: FeatureView, cells: Cells, labels: Labels, state: State
    ) -> Iterator[OneHots | Dense]:
        """Yield the place of each enterprise's (label, score bin)."""
        for places, label in chunks(view, cells, labels):
            score = sum_points(state["values"], places)
            bins = np.searchsorted(state["edges"], score, side="right")
            place = np.where((label == 0) | (label == 1), bins + SCORE_BINS * label, -1)
            yield OneHots(place[:, None].astype(np.int64), 2 * SCORE_BINS)


def sum_points(values: _Floats, places: npt.NDArray[np.int64]) -> _Floats:
    """Return the sum of values[places[i, :]] for each i, always added in the same order."""
    total = np.zeros(len(places))
    for column in range(places.shape[1]):
        total += values[places[:, column]]
    return total


def _inputs(
    view: FeatureView, cells: Cells, labels: Labels, state: State, width: int
) -> Iterator[tuple[_Floats, npt.NDArray[np.int64]]]:
    """Yield chunks of (x float64[m, F + 1] with norm <= 1, labels int64[m])."""
    for places, label in chunks(view, cells, labels, width):
        x = np.empty((len(places), places.shape[1] + 1))
        np.take(state["values"], places, out=x[:, :-1])
        x[:, -1] = state["constant"][0]
        norm = np.sqrt(np.einsum("ij,ij->i", x, x))
        x /= np.maximum(norm, 1.0)[:, None]
        yield x, label


def _chosen(view: FeatureView, state: State) -> npt.NDArray[np.int64]:
    if "features" in state:
        return state["features"].astype(np.int64)
    return np.arange(len(view.features))


def _check_table(view: FeatureView, state: State) -> None:
    sized(state, "values", view.total_cells)
    sized(state, "constant", 1)


CATALOGUE: dict[tuple[str, int], Statistic] = {
    (entry.name, entry.version): entry
    for entry in (
        Histogram(),
        LabelHistogram(),
        BinCounts(),
        Gram(),
        LogisticGradient(),
        ScoreHistogram(),
        NetworkGradient(),
        NetworkScoreHistogram(),
    )
}
