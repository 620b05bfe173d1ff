"""A trained network as a value: its inputs, weights and score; using it needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from hejin_models.contributions import SCORE_BINS
from hejin_models.errors import ModelFormatError
from hejin_models.grids import Cells
from hejin_models.network_statistics import MAX_HIDDEN, MAX_WEIGHTS
from hejin_models.perceptron import Perceptron, weights_of
from hejin_models.scorecard import (
    BASE_ODDS,
    BASE_SCORE,
    DECIMAL,
    MAX_FEATURES_READ,
    PDO,
    decimal,
    points_of,
    probability_of,
)
from hejin_trust.canonical import (
    DocumentError,
    child,
    closed,
    hexbytes,
    integer,
    items,
    objects,
    text,
    texts,
)
from hejin_trust.text import Text

FORMAT = "hejin-network-1"

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class NetworkInput:
    """One input of a network: a feature, and the number from -1 to 1 that each cell stands for."""

    name: str
    text: Text
    values: tuple[float, ...]


@dataclass(frozen=True)
class Network:
    """A trained perceptron. All numbers have six decimals, so that its body holds them exactly.

    The score has the scale of scorecards: 600 points mean odds of 50 goods to one bad, and 20
    more double them. Unlike a scorecard it has no points per bin and gives no reasons.

    hidden   widths of the hidden layers
    weights  as `Perceptron.of` takes them
    """

    view: str
    view_digest: str
    inputs: tuple[NetworkInput, ...]
    hidden: tuple[int, ...]
    weights: tuple[float, ...]

    def log_odds(self, cells: Cells) -> _Floats:
        """Return the log-odds of bad of each row of cells int32[n, F]; ValueError otherwise."""
        if cells.ndim != 2 or cells.shape[1] != len(self.inputs):
            raise ValueError(f"cells must be [n, {len(self.inputs)}], got {cells.shape}")
        columns = [table[cells[:, place]] for place, table in enumerate(self._tables)]
        return self._perceptron.log_odds(np.stack(columns, axis=1))

    def points(self, cells: Cells) -> _Floats:
        """Return the score of each row of cells int32[n, F]; raises ValueError for other shapes."""
        scores: _Floats = points_of(0.0) - (points_of(1.0) - points_of(0.0)) * self.log_odds(cells)
        return scores

    def probability(self, cells: Cells) -> _Floats:
        """Return the probability of bad of each row, 0..1."""
        return probability_of(self.points(cells))

    @property
    def state(self) -> dict[str, _Floats]:
        """The public state with which a node computes this network."""
        return {
            "values": np.concatenate(self._tables),
            "hidden": np.array(self.hidden, dtype=np.float64),
            "weights": np.array(self.weights),
        }

    @cached_property
    def _tables(self) -> tuple[_Floats, ...]:
        return tuple(np.array(entry.values) for entry in self.inputs)

    @cached_property
    def _perceptron(self) -> Perceptron:
        return Perceptron.of(len(self.inputs), self.hidden, np.array(self.weights))

    def body(self) -> dict[str, object]:
        """Return the network as a JSON object without floats: numbers are decimal strings."""
        return {
            "format": FORMAT,
            "view": self.view,
            "view_digest": self.view_digest,
            "base_score": BASE_SCORE,
            "base_odds": BASE_ODDS,
            "pdo": PDO,
            "activation": "tanh",
            "inputs": [
                {
                    "name": entry.name,
                    "text": entry.text.body(),
                    "values": [decimal(value) for value in entry.values],
                }
                for entry in self.inputs
            ],
            "hidden": list(self.hidden),
            "weights": [decimal(value) for value in self.weights],
        }

    @classmethod
    def from_body(cls, body: Mapping[str, object]) -> Network:
        """Return the network that `body` wrote; raises ModelFormatError."""
        try:
            return _network(body)
        except DocumentError as reason:
            raise ModelFormatError(
                f"this is not a network: {reason.text.en}", f"这不是神经网络：{reason.text.zh}"
            ) from reason


def score_edges(log_odds_of_bad: float, reach: float) -> _Floats:
    """Return 63 equally spaced edges on the log-odds of good, `reach` to both sides."""
    return np.linspace(-log_odds_of_bad - reach, -log_odds_of_bad + reach, SCORE_BINS - 1)


def _network(body: Mapping[str, object]) -> Network:
    closed(
        body, "format", "view", "view_digest", "base_score", "base_odds", "pdo", "activation",
        "inputs", "hidden", "weights",
    )  # fmt: skip
    scale = [integer(body, key, 1, 10**6) for key in ("base_score", "base_odds", "pdo")]
    kind = (text(body, "format"), text(body, "activation"))
    if kind != (FORMAT, "tanh") or scale != [BASE_SCORE, BASE_ODDS, PDO]:
        raise ModelFormatError(
            f"this is no {FORMAT} of {BASE_SCORE} points at {BASE_ODDS} to 1 and PDO {PDO}",
            f"这不是 {FORMAT}（{BASE_ODDS}:1 时 {BASE_SCORE} 分，PDO {PDO}）",
        )
    listed = objects(body, "inputs")
    if not 1 <= len(listed) <= MAX_FEATURES_READ:
        raise _malformed("inputs")
    hidden = tuple(_width(item) for item in items(body, "hidden"))
    weights = _numbers(body, "weights")
    if not 1 <= len(hidden) <= MAX_HIDDEN or len(weights) != weights_of(len(listed), hidden):
        raise _malformed("weights")
    return Network(
        view=text(body, "view"),
        view_digest=hexbytes(body, "view_digest", 32).hex(),
        inputs=tuple(_input(item) for item in listed),
        hidden=hidden,
        weights=weights,
    )


def _input(body: Mapping[str, object]) -> NetworkInput:
    closed(body, "name", "text", "values")
    both, values = child(body, "text"), _numbers(body, "values")
    closed(both, "en", "zh")
    if not values or max(map(abs, values)) > 1.0:
        raise _malformed("values")
    return NetworkInput(text(body, "name"), Text(text(both, "en"), text(both, "zh")), values)


def _width(item: object) -> int:
    if type(item) is not int or not 1 <= item <= MAX_WEIGHTS:
        raise _malformed("hidden")
    return item


def _numbers(body: Mapping[str, object], key: str) -> tuple[float, ...]:
    written = texts(body, key, longest=20)
    if not all(DECIMAL.fullmatch(value) for value in written):
        raise _malformed(key)
    return tuple(float(value) for value in written)


def _malformed(field: str) -> ModelFormatError:
    return ModelFormatError(
        f"field {field} of the network is malformed", f"神经网络字段 {field} 格式错误"
    )
