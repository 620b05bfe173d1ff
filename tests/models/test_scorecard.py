"""Scorecards: points, probabilities, reasons, and the document that keeps them."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
from models_world import Enterprises

from hejin_models.errors import ModelFormatError
from hejin_models.scorecard import Scorecard, points_of, probability_of
from hejin_models.training import TrainingResult
from hejin_trust.canonical import decode, encode


def test_a_scorecard_survives_its_canonical_document_exactly(trained: TrainingResult) -> None:
    card = trained.scorecard
    back = Scorecard.from_body(decode(encode(card.body())))
    assert back == card
    assert encode(back.body()) == encode(card.body())


def test_points_are_sums_over_features_and_probabilities_follow_from_them(
    trained: TrainingResult, enterprises: Enterprises
) -> None:
    card, rows = trained.scorecard, enterprises.cells[:50]
    for row, points in zip(rows.tolist(), card.points(rows).tolist(), strict=True):
        expected = sum(
            made.points
            for feature, cell in zip(card.features, row, strict=True)
            for made in feature.bins
            if any(first <= cell <= last for first, last in made.ranges)
        )
        assert points == pytest.approx(expected, abs=1e-9)
    logit = card.intercept + sum(
        feature.coefficient * np.array([_woe(feature, cell) for cell in rows[:, place]])
        for place, feature in enumerate(card.features)
    )
    assert card.probability(rows) == pytest.approx(1 / (1 + np.exp(logit)), abs=1e-5)


def _woe(feature: Any, cell: int) -> float:
    return next(b.woe for b in feature.bins if any(x <= cell <= y for x, y in b.ranges))


def test_six_hundred_points_mean_fifty_to_one_and_twenty_more_double_it() -> None:
    assert points_of(math.log(50)) == pytest.approx(600)
    assert points_of(math.log(100)) == pytest.approx(620)
    assert probability_of(np.array([600.0, 620.0])) == pytest.approx([1 / 51, 1 / 101])
    assert probability_of(np.array([-1e9, 1e9])).tolist() == [1.0, 0.0]


def test_reason_codes_are_truly_the_largest_losses(
    trained: TrainingResult, enterprises: Enterprises
) -> None:
    card = trained.scorecard
    tables = np.split(card.values, np.cumsum([feature.cells for feature in card.features])[:-1])
    for row in enterprises.cells[:200]:
        losses = {
            feature.name: table.max() - table[cell]
            for feature, table, cell in zip(card.features, tables, row, strict=True)
        }
        reasons = card.reason_codes(row, 2)
        assert [reason.loss for reason in reasons] == pytest.approx(
            sorted((loss for loss in losses.values() if loss > 0), reverse=True)[:2]
        )
        for reason in reasons:
            assert reason.loss == pytest.approx(losses[reason.feature])


def test_the_best_enterprise_has_no_reasons(trained: TrainingResult) -> None:
    card = trained.scorecard
    best = [max(f.bins, key=lambda b: b.points).ranges[0][0] for f in card.features]
    assert card.reason_codes(np.array(best)) == ()


def test_a_reason_says_feature_and_values_in_both_languages(
    trained: TrainingResult, enterprises: Enterprises
) -> None:
    reason = trained.scorecard.reason_codes(enterprises.cells[0])[0]
    assert reason.text.zh in {"金额", "比例", "类型", "变化"}
    assert reason.bin.en
    assert reason.bin.zh


def test_good_woe_earns_more_points_where_the_coefficient_is_positive(
    trained: TrainingResult,
) -> None:
    for feature in trained.scorecard.features:
        by_woe = sorted(feature.bins, key=lambda made: made.woe)
        by_points = sorted(feature.bins, key=lambda made: made.points)
        if feature.coefficient > 0:
            assert [b.woe for b in by_woe] == [b.woe for b in by_points]
        assert feature.iv >= 0
        assert sum(made.share for made in feature.bins) == pytest.approx(1, abs=1e-4)


def test_rows_of_another_width_are_an_error(trained: TrainingResult) -> None:
    with pytest.raises(ValueError, match="cells must be"):
        trained.scorecard.points(np.zeros((2, 9), dtype=np.int32))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("format",), "hejin-scorecard-2"),
        (("pdo",), 40),
        (("view_digest",), "00"),
        (("surprise",), 1),
        (("features",), []),
        (("features", 0, "iv"), "1e5"),
        (("features", 0, "coefficient"), "nan"),
        (("features", 0, "coefficient"), "0.5"),
        (("features", 0, "bins"), []),
        (("features", 0, "bins", 0, "points"), "inf"),
        (("features", 0, "bins", 0, "ranges"), [[0, 500]]),
        (("features", 0, "bins", 0, "ranges"), [[1, 0]]),
        (("features", 0, "bins", 0, "ranges"), [[0]]),
        (("features", 0, "bins", 0, "ranges"), [[False, 1]]),
        (("features", 0, "text", "fr"), "Montant"),
    ],
)
def test_a_document_that_is_no_scorecard_is_refused(
    trained: TrainingResult, path: tuple[str | int, ...], value: object
) -> None:
    body: Any = copy.deepcopy(trained.scorecard.body())
    target = body
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    with pytest.raises(ModelFormatError):
        Scorecard.from_body(body)
