"""A kept run folder holds what people look at, and it agrees with the run."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from hejin_models.card import CardFacts, model_card
from hejin_models.evaluation import evaluate
from hejin_models.scorecard import Bin, Scorecard, ScoredFeature
from hejin_models.sums import NoisySum
from hejin_sandbox.consortium import VERIFICATION
from hejin_sandbox.kept import Findings, bank_view, write_findings
from hejin_sandbox.story import PLACES, Result
from hejin_trust.text import Text

_RESULT = Result(
    0.77, 0.4, 0.76, 0.03, 0.78, None, 2.0, 1e-6, 0.088, "node", 5, 20000, 7, 61.0, 1.4, True
)
_FACTS = CardFacts(
    "ab" * 16, "cd" * 32, "c", "bank", "p", "model-training", "default", "bad-v1", ("n",), "node",
    Fraction(1, 10), 2.0, 2.0, Fraction(1, 10**6), "2026-11-22T20:00:00Z",
)  # fmt: skip
_BINS = tuple(Bin(((i, i),), Text(f"b{i}", f"b{i}"), 0.5, 0.1, 500.0 + 60 * i) for i in range(2))
_SCORECARD = Scorecard(
    "v-1", "00" * 32, 1.0, (ScoredFeature("f", Text("f", "f"), 0.1, 1.0, _BINS),)
)


def _model(noise: float) -> dict[str, object]:
    histogram = np.array([100.0, 200, 400, 500, 100, 60, 50, 40])
    found = evaluate(NoisySum(histogram, noise), np.array([500.0, 530, 560]))
    card = model_card(_FACTS, _SCORECARD, found)
    return {"model": "scorecard-1", "plan": _FACTS.plan, "card": card}


def test_the_bank_sees_what_its_card_says() -> None:
    seen = bank_view(_model(1.0))
    assert seen is not None
    card = json.loads(json.dumps(_model(1.0)))["card"]["evaluation"]
    assert f"{seen.auc.value:.4f}" == card["auc"]["value"]
    assert f"{seen.ks.noise_error:.4f}" == card["ks"]["noise_error"]
    assert [f"{band.measured:.4f}" for band in seen.bands] == [b["measured"] for b in card["bands"]]


def test_what_noise_hides_from_the_bank_is_not_shown() -> None:
    assert bank_view(_model(1000.0)) is None


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_kept_folder_has_pictures_card_and_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, language: str
) -> None:
    monkeypatch.setenv("HEJIN_LANG", language)
    home, folder = tmp_path / "bank", tmp_path / "run"
    (home / "models" / "scorecard-1").mkdir(parents=True)
    (home / "models" / "scorecard-1" / f"card.{language}.md").write_text(f"# {language}\n", "utf-8")
    folder.mkdir()
    scores, labels = np.array([500.0, 560.0, 560.0]), np.array([1, 0, 1], dtype=np.int8)
    note = Text("synthetic data", "合成数据")
    found = Findings(_RESULT, _model(1.0), {"ok": True}, _SCORECARD, scores, labels, note)
    write_findings(folder, home, found)
    files = {entry.name for entry in folder.iterdir()}
    # The regulator's own command writes its report.
    assert files == {name for name, _ in PLACES if not name.endswith("/")} - {VERIFICATION}
    assert (folder / "model-card.md").read_text("utf-8") == f"# {language}\n"
    report = json.loads((folder / "report.json").read_text("utf-8"))
    assert report["result"]["test_auc"] == 0.77
    assert report["verification"] == {"ok": True}
    assert report["data"]["zh"] == "合成数据"
