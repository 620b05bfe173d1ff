"""The model card: complete, without floats, readable in both languages."""

from __future__ import annotations

from dataclasses import replace

import pytest
from models_world import FACTS

from hejin_models.card import card_markdown, model_card
from hejin_models.training import TrainingResult
from hejin_trust.canonical import decode, encode


def test_a_card_says_what_spare_rounds_may_cost_on_top(trained: TrainingResult) -> None:
    facts = replace(FACTS, epsilon=1.5, epsilon_once=1.0)
    card = model_card(facts, trained.scorecard, trained.evaluation)
    assert "epsilon <= 1.5000, 1.0000 if no round" in card_markdown(card, "en")
    assert "epsilon <= 1.5000；若无轮次重做则为 1.0000" in card_markdown(card, "zh")


def test_a_card_is_a_canonical_document(trained: TrainingResult) -> None:
    card = model_card(FACTS, trained.scorecard, trained.evaluation)
    assert decode(encode(card)) == card
    assert card["view_digest"] == trained.scorecard.view_digest


@pytest.mark.parametrize(
    ("epsilon", "shown"), [(1.99999999, "2.0000"), (0.50001, "0.5001"), (2.0, "2.0000")]
)
def test_epsilon_is_never_shown_smaller_than_it_is(
    trained: TrainingResult, epsilon: float, shown: str
) -> None:
    card = model_card(
        replace(FACTS, epsilon=epsilon, epsilon_once=epsilon), trained.scorecard, trained.evaluation
    )
    assert f"epsilon <= {shown} " in card_markdown(card, "en")


def test_the_markdown_says_it_all_in_either_language(trained: TrainingResult) -> None:
    card = model_card(FACTS, trained.scorecard, trained.evaluation)
    english, chinese = card_markdown(card, "en"), card_markdown(card, "zh")
    assert english.startswith("# Model card: Wire / mesh loan\n")
    assert chinese.startswith("# 模型卡: ")
    for text in ("## Hold-out evaluation", "### Amount", "SE, sampling", "recalibrate", "50 goods"):
        assert text in english
    for text in ("## 留出评估", "### 金额", "抽样标准误", "重新校准", "缺失"):
        assert text in chinese
    assert english.count("\n|") == chinese.count("\n|")


def test_a_measure_drowned_in_noise_is_not_quoted(trained: TrainingResult) -> None:
    drowned = replace(trained.evaluation, reportable=False)
    text = card_markdown(model_card(FACTS, trained.scorecard, drowned), "en")
    assert "too large to quote" in text
    assert "GINI" not in text
