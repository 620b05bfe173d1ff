"""The scorecard: points per bin, and what follows from them; a value that any process can use."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from hejin_models.errors import ModelFormatError
from hejin_models.grids import Cells
from hejin_trust.canonical import (
    DocumentError,
    child,
    closed,
    hexbytes,
    integer,
    items,
    objects,
    text,
)
from hejin_trust.text import Text

FORMAT = "hejin-scorecard-1"

BASE_SCORE = 600
"""Points at BASE_ODDS."""
BASE_ODDS = 50
"""Goods to one bad at BASE_SCORE, as is customary."""
PDO = 20
"""Points that double the odds of being good."""

MAX_BINS_READ = 400
MAX_FEATURES_READ = 1000
DECIMAL = re.compile(r"-?[0-9]{1,9}\.[0-9]{6}")
"""How a model's document writes a number."""
_PLACES = 6

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Bin:
    """Cells of one feature that earn the same points.

    ranges  (first, last) cells of the view's grid, both inclusive
    text    the values of those cells in words
    share   estimated share of the enterprises, 0..1
    woe     weight of evidence: ln(share of all goods / share of all bads), > 0 is good
    points  what the bin adds to the score
    """

    ranges: tuple[tuple[int, int], ...]
    text: Text
    share: float
    woe: float
    points: float


@dataclass(frozen=True, slots=True)
class ScoredFeature:
    """One feature of a scorecard; its bins cover every cell of its grid exactly once.

    iv           information value of the bins: sum of (good share - bad share) x WOE, >= 0
    coefficient  what one unit of WOE adds to the log-odds of good
    """

    name: str
    text: Text
    iv: float
    coefficient: float
    bins: tuple[Bin, ...]

    @property
    def cells(self) -> int:
        """The number of cells of the feature's grid."""
        return sum(last - first + 1 for made in self.bins for first, last in made.ranges)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a score is not higher: a feature's bin, and how many points its best bin has more."""

    feature: str
    text: Text
    bin: Text
    loss: float


@dataclass(frozen=True)
class Scorecard:
    """A trained scorecard. All numbers have six decimals, so that its body holds them exactly.

    score = sum of the points of the bins; 600 points mean odds of 50 goods to one bad, and 20
    more double them. `intercept` is the log-odds of good where every WOE is 0. Probabilities
    are those of the training data: recalibrate where bads were sampled at another rate.
    """

    view: str
    view_digest: str
    intercept: float
    features: tuple[ScoredFeature, ...]

    def points(self, cells: Cells) -> _Floats:
        """Return the score of each row of cells int32[n, F]; raises ValueError for other shapes."""
        if cells.ndim != 2 or cells.shape[1] != len(self.features):
            raise ValueError(f"cells must be [n, {len(self.features)}], got {cells.shape}")
        total = np.zeros(len(cells))
        for column, table in enumerate(self._tables):
            total += table[cells[:, column]]
        return total

    def probability(self, cells: Cells) -> _Floats:
        """Return the probability of bad of each row, strictly between 0 and 1."""
        return probability_of(self.points(cells))

    def reason_codes(self, row: npt.NDArray[np.integer], k: int = 4) -> tuple[Reason, ...]:
        """Return the at most k largest losses of points against each feature's best bin.

        row  the enterprise's cells, int[F]
        Losses of 0 are no reasons; equal losses come in the order of the features.
        """
        reasons = []
        for feature, cell in zip(self.features, row.tolist(), strict=True):
            own = next(made for made in feature.bins if any(a <= cell <= b for a, b in made.ranges))
            loss = round(max(made.points for made in feature.bins) - own.points, _PLACES)
            reasons.append(Reason(feature.name, feature.text, own.text, loss))
        losing = [reason for reason in reasons if reason.loss > 0]
        return tuple(sorted(losing, key=lambda reason: -reason.loss)[:k])

    @property
    def values(self) -> _Floats:
        """The points of every cell of every feature in a row, float64[all cells]."""
        return np.concatenate(self._tables)

    @cached_property
    def _tables(self) -> tuple[_Floats, ...]:
        tables = []
        for feature in self.features:
            table = np.zeros(feature.cells)
            for made in feature.bins:
                for first, last in made.ranges:
                    table[first : last + 1] = made.points
            tables.append(table)
        return tuple(tables)

    def body(self) -> dict[str, object]:
        """Return the scorecard as a JSON object without floats: numbers are decimal strings."""
        return {
            "format": FORMAT,
            "view": self.view,
            "view_digest": self.view_digest,
            "base_score": BASE_SCORE,
            "base_odds": BASE_ODDS,
            "pdo": PDO,
            "intercept": decimal(self.intercept),
            "features": [_feature_body(feature) for feature in self.features],
        }

    @classmethod
    def from_body(cls, body: Mapping[str, object]) -> Scorecard:
        """Return the scorecard that `body` wrote; raises ModelFormatError."""
        try:
            return _scorecard(body)
        except DocumentError as reason:
            raise ModelFormatError(
                f"this is not a scorecard: {reason.text.en}",
                f"这不是评分卡：{reason.text.zh}",
            ) from reason


def rounded(value: float) -> float:
    """Return a number with the six decimals that a scorecard keeps; -0 becomes 0."""
    return round(value, _PLACES) + 0.0


def points_of(log_odds: float) -> float:
    """Return the score at some log-odds of good."""
    return BASE_SCORE + PDO / math.log(2) * (log_odds - math.log(BASE_ODDS))


def probability_of(points: _Floats) -> _Floats:
    """Return the probability of bad at some scores: 1 / (1 + 50 x 2^((score - 600) / 20))."""
    log_odds = math.log(BASE_ODDS) + (points - BASE_SCORE) * (math.log(2) / PDO)
    chance: _Floats = 0.5 * (1.0 - np.tanh(0.5 * log_odds))
    return chance


def decimal(value: float) -> str:
    """Return a number as a model's document writes it."""
    return f"{value:.{_PLACES}f}"


def _feature_body(feature: ScoredFeature) -> dict[str, object]:
    return {
        "name": feature.name,
        "text": feature.text.body(),
        "iv": decimal(feature.iv),
        "coefficient": decimal(feature.coefficient),
        "bins": [
            {
                "ranges": [list(pair) for pair in made.ranges],
                "text": made.text.body(),
                "share": decimal(made.share),
                "woe": decimal(made.woe),
                "points": decimal(made.points),
            }
            for made in feature.bins
        ],
    }


def _scorecard(body: Mapping[str, object]) -> Scorecard:
    closed(
        body, "format", "view", "view_digest", "base_score", "base_odds", "pdo", "intercept",
        "features",
    )  # fmt: skip
    scale = [integer(body, key, 1, 10**6) for key in ("base_score", "base_odds", "pdo")]
    if text(body, "format") != FORMAT or scale != [BASE_SCORE, BASE_ODDS, PDO]:
        raise ModelFormatError(
            f"this is no {FORMAT} of {BASE_SCORE} points at {BASE_ODDS} to 1 and PDO {PDO}",
            f"这不是 {FORMAT}（{BASE_ODDS}:1 时 {BASE_SCORE} 分，PDO {PDO}）",
        )
    listed = objects(body, "features")
    if not 1 <= len(listed) <= MAX_FEATURES_READ:
        raise _malformed("features")
    return Scorecard(
        view=text(body, "view"),
        view_digest=hexbytes(body, "view_digest", 32).hex(),
        intercept=_number(body, "intercept"),
        features=tuple(_feature(item) for item in listed),
    )


def _feature(body: Mapping[str, object]) -> ScoredFeature:
    closed(body, "name", "text", "iv", "coefficient", "bins")
    listed = objects(body, "bins")
    if not 1 <= len(listed) <= MAX_BINS_READ:
        raise _malformed("bins")
    bins = tuple(_bin(item) for item in listed)
    ranges = sorted(pair for made in bins for pair in made.ranges)
    following = [0, *(last + 1 for _, last in ranges)]
    if any(first != due for (first, _), due in zip(ranges, following, strict=False)):
        raise _malformed("ranges")
    return ScoredFeature(
        text(body, "name"), _text(body), _number(body, "iv"), _number(body, "coefficient"), bins
    )


def _bin(body: Mapping[str, object]) -> Bin:
    closed(body, "ranges", "text", "share", "woe", "points")
    return Bin(
        tuple(_pair(item) for item in items(body, "ranges")),
        _text(body),
        _number(body, "share"),
        _number(body, "woe"),
        _number(body, "points"),
    )


def _pair(item: object) -> tuple[int, int]:
    if not isinstance(item, list) or len(item) != 2:
        raise _malformed("ranges")
    first, last = item
    if type(first) is not int or type(last) is not int or not 0 <= first <= last < 10**5:
        raise _malformed("ranges")
    return first, last


def _text(body: Mapping[str, object]) -> Text:
    both = child(body, "text")
    closed(both, "en", "zh")
    return Text(text(both, "en"), text(both, "zh"))


def _number(body: Mapping[str, object], key: str) -> float:
    value = text(body, key, longest=20)
    if not DECIMAL.fullmatch(value):
        raise _malformed(key)
    return float(value)


def _malformed(field: str) -> ModelFormatError:
    return ModelFormatError(
        f"field {field} of the scorecard is malformed", f"评分卡字段 {field} 格式错误"
    )
