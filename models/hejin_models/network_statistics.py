"""The two statistics of a perceptron: its clipped gradients, and the histogram of its scores."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from hejin_models.contributions import SCORE_BINS, Labels, check_keys, chunks, sized
from hejin_models.errors import StateError
from hejin_models.features import FeatureView
from hejin_models.grids import Cells
from hejin_models.perceptron import Perceptron, weights_of
from hejin_models.state import State
from hejin_privacy.contribution import Dense, OneHots

MAX_WEIGHTS = 1 << 16
MAX_HIDDEN = 3
# A clip beyond these makes gradients vanish or all of norm 1: no training wants either.
_LEAST_CLIP, _MOST_CLIP = 1e-3, 1e3


class NetworkGradient:
    """Gradient of an enterprise's own loss by a perceptron's weights, in units of its clip.

    State: `values`, within +-1, a number per cell of every feature; the inputs are those of
    the feature's cells. `hidden`, the widths of 1 to 3 hidden layers; `weights`, as
    `Perceptron.of` takes them; `clip`, C. g becomes g / max(|g|, C), whose norm is at most 1:
    C^2 of the mechanism is 1 whatever the query says. d = the number of weights, at most 65,536.
    """

    name, version, counts = "network_gradient", 1, False

    def check_state(self, view: FeatureView, state: State) -> None:
        """Refuse inputs beyond +-1, odd shapes, too many weights, and clips out of range."""
        check_keys(state, "values", "hidden", "weights", "clip")
        _check_network(view, state)
        clip = float(sized(state, "clip", 1)[0])
        if not _LEAST_CLIP <= clip <= _MOST_CLIP:
            raise StateError(
                f"state `clip` must lie between {_LEAST_CLIP:g} and {_MOST_CLIP:g}",
                f"状态 `clip` 应在 {_LEAST_CLIP:g} 与 {_MOST_CLIP:g} 之间",
            )

    def dimension(self, view: FeatureView, state: State) -> int:
        """Return the number of weights."""
        del view
        return len(state["weights"])

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
        """Yield the clipped gradients; a view has one record an enterprise."""
        perceptron, clip = _perceptron(view, state), float(state["clip"][0])
        for places, label in chunks(view, cells, labels, width=perceptron.size):
            known = ((label == 0) | (label == 1)).astype(np.float64)
            inputs = state["values"][places][:, None, :]
            yield Dense(perceptron.gradients(inputs, known[:, None], known * label, clip))


class NetworkScoreHistogram:
    """`score_histogram` of a perceptron: one 1 in (label, score bin). d = 128; C^2 = 1.

    State: `values`, `hidden` and `weights` as in `network_gradient`, and `edges`, 63 that
    ascend. The score is the log-odds of good; its bin is the number of edges <= score.
    """

    name, version, counts = "score_histogram", 2, True

    def check_state(self, view: FeatureView, state: State) -> None:
        """Refuse a perceptron that `network_gradient` refuses, and edges that do not ascend."""
        check_keys(state, "values", "hidden", "weights", "edges")
        _check_network(view, state)
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
        perceptron = _perceptron(view, state)
        widest = max(matrix.shape[0] for matrix, _ in perceptron.layers)
        for places, label in chunks(view, cells, labels, width=widest):
            score = -perceptron.log_odds(state["values"][places])
            bins = np.searchsorted(state["edges"], score, side="right")
            place = np.where((label == 0) | (label == 1), bins + SCORE_BINS * label, -1)
            yield OneHots(place[:, None].astype(np.int64), 2 * SCORE_BINS)


def _perceptron(view: FeatureView, state: State) -> Perceptron:
    return Perceptron.of(len(view.features), _hidden(state), state["weights"])


def _hidden(state: State) -> list[int]:
    return [int(width) for width in state["hidden"]]


def _check_network(view: FeatureView, state: State) -> None:
    sized(state, "values", view.total_cells, largest=1.0)
    widths: npt.NDArray[np.float64] = state["hidden"]
    if widths.dtype != np.float64 or widths.ndim != 1 or not 1 <= len(widths) <= MAX_HIDDEN:
        raise StateError(
            f"state `hidden` must be the widths of 1 to {MAX_HIDDEN} layers",
            f"状态 `hidden` 应为 1 至 {MAX_HIDDEN} 个隐藏层的宽度",
        )
    if not np.all((widths >= 1) & (widths <= MAX_WEIGHTS) & (widths == np.rint(widths))):
        raise StateError(
            f"state `hidden` must hold whole numbers from 1 to {MAX_WEIGHTS}",
            f"状态 `hidden` 应为 1 至 {MAX_WEIGHTS} 的整数",
        )
    size = weights_of(len(view.features), _hidden(state))
    if size > MAX_WEIGHTS:
        raise StateError(
            f"the network has {size} weights, at most {MAX_WEIGHTS} are allowed: make it smaller",
            f"网络有 {size} 个权重，最多允许 {MAX_WEIGHTS} 个：请缩小网络",
        )
    sized(state, "weights", size)
