"""The pictures show the numbers that they were given, in both languages, and write nothing else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hejin_models.evaluation import Band, Estimate, evaluate, exact_auc, exact_ks
from hejin_models.scorecard import Bin, Scorecard, ScoredFeature, points_of
from hejin_models.sums import NoisySum
from hejin_sandbox.pictures import (
    BankView,
    banded_roc,
    draw_points,
    draw_roc,
    exact_roc,
    spread,
    strongest,
)
from hejin_trust.text import Text

_SVG = "{http://www.w3.org/2000/svg}"
_NOTE = Text("synthetic data", "合成数据")
_BANDS = (
    Band(-100, 500, 0.25, 0.4, 0.5, 0.02),
    Band(500, 550, 0.5, 0.2, 0.2, 0.02),
    Band(550, 700, 0.25, 0.1, 0.1, 0.02),
)
_BANK = BankView(Estimate(0.7312, 0.03, 0.04), Estimate(0.35, 0.006, 0.008), _BANDS)


def _said(path: Path) -> str:
    """Return all text of a picture, one line each."""
    return "\n".join(
        "".join(element.itertext()) for element in ElementTree.parse(path).iter(f"{_SVG}text")
    )


def _line(path: Path, name: str) -> npt.NDArray[np.float64]:
    """Return the corners of a named line in the picture's own units."""
    (group,) = (g for g in ElementTree.parse(path).iter(f"{_SVG}g") if g.get("id") == name)
    drawn = next(group.iter(f"{_SVG}path")).get("d") or ""
    return np.array(re.findall(r"[ML] (\S+) (\S+)", drawn), dtype=np.float64)


def _sample() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int8]]:
    rng = np.random.default_rng(5)
    labels = (rng.random(3000) < 0.2).astype(np.int8)
    return np.round(rng.normal(560.0 - 30.0 * labels, 30), 1), labels


def _feature(name: str, points: list[float], shares: list[float]) -> ScoredFeature:
    bins = tuple(
        Bin(((i, i),), Text(f"{name} bin {i}", f"{name} 分箱 {i}"), share, 0.1, value)
        for i, (value, share) in enumerate(zip(points, shares, strict=True))
    )
    return ScoredFeature(name, Text(f"Feature {name}", f"特征 {name}"), 0.1, 1.0, bins)


_SCORECARD = Scorecard(
    "v-1",
    "00" * 32,
    1.5,
    (
        _feature("flat", [100.0, 101.0], [0.5, 0.5]),
        _feature("steep", [71.3, 143.7, 99.9], [0.4, 0.595, 0.005]),
        _feature("rare", [10.0, 105.0], [0.001, 0.999]),
        _feature("mild", [95.2, 111.4], [0.5, 0.5]),
        _feature("middling", [80.6, 120.8], [0.5, 0.5]),
    ),
)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=40))
def test_the_curve_has_the_auc_and_ks_that_are_quoted(rows: list[tuple[int, bool]]) -> None:
    scores = np.array([float(score) for score, _ in rows] + [3.0, 3.0])
    labels = np.array([int(bad) for _, bad in rows] + [0, 1], dtype=np.int8)
    roc = exact_roc(scores, labels)
    assert np.trapezoid(roc.bads, roc.goods) == pytest.approx(exact_auc(scores, labels))
    assert max(roc.ks, 0.0) == roc.ks
    assert roc.ks <= exact_ks(scores, labels) + 1e-12  # KS is two-sided; a curve may dip below


def test_the_marked_ks_is_the_exact_one() -> None:
    scores, labels = _sample()
    assert exact_roc(scores, labels).ks == pytest.approx(exact_ks(scores, labels))


def test_the_banks_curve_follows_its_bands() -> None:
    roc = banded_roc(_BANDS)
    # Bads 0.125, 0.1, 0.025 of 0.25; goods 0.125, 0.4, 0.225 of 0.75.
    assert roc.bads == pytest.approx([0, 0.5, 0.9, 1])
    assert roc.goods == pytest.approx([0, 1 / 6, 0.7, 1])


def test_the_bands_of_an_evaluation_nearly_keep_its_auc() -> None:
    scores, labels = _sample()
    edges = np.linspace(480, 640, 41)
    counts = [
        np.bincount(np.searchsorted(edges, scores[labels == label]), minlength=42)
        for label in (0, 1)
    ]
    found = evaluate(NoisySum(np.concatenate(counts).astype(np.float64), 0.0), edges)
    roc = banded_roc(found.bands)
    assert np.trapezoid(roc.bads, roc.goods) == pytest.approx(found.auc.value, abs=0.015)


@pytest.mark.parametrize(
    ("language", "wanted"),
    [
        (
            "en",
            (
                "synthetic data",
                "3,000 hold-out enterprises",
                "only a sandbox can know this",
                "AUC 0.731 ± 0.050, KS 0.350 ± 0.010",
            ),
        ),
        (
            "zh",
            (
                "合成数据",
                "3,000 家留出企业",
                "只有沙箱才能知道",
                "AUC 0.731 ± 0.050，KS 0.350 ± 0.010",
            ),
        ),
    ],
)
def test_the_roc_picture_draws_both_curves_and_says_whose_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, language: str, wanted: tuple[str, ...]
) -> None:
    monkeypatch.setenv("HEJIN_LANG", language)
    scores, labels = _sample()
    draw_roc(tmp_path / "roc.svg", scores, labels, _BANK, _NOTE)
    said = _said(tmp_path / "roc.svg")
    for words in (*wanted, f"AUC {exact_auc(scores, labels):.3f}"):
        assert words in said
    assert said.count(f"KS {exact_ks(scores, labels):.3f}") == 2  # in the legend and at its place
    bank, exact, ks = (_line(tmp_path / "roc.svg", n) for n in ("roc-bank", "roc-exact", "ks"))
    unit = bank[-1] - bank[0]
    assert (bank - bank[0]) / unit == pytest.approx(
        np.array([[0, 0], [1 / 6, 0.5], [0.7, 0.9], [1, 1]]), abs=1e-4
    )
    roc = exact_roc(scores, labels)
    assert abs(ks[1, 1] - ks[0, 1]) / abs(unit[1]) == pytest.approx(roc.ks, abs=1e-4)
    shown = (exact - bank[0]) / unit
    on_curve = np.interp(shown[:, 0], roc.goods, roc.bads)
    assert np.median(np.abs(shown[:, 1] - on_curve)) < 0.003


def test_what_the_bank_cannot_see_is_not_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEJIN_LANG", "en")
    draw_roc(tmp_path / "roc.svg", *_sample(), None, _NOTE)
    assert "roc-bank" not in (tmp_path / "roc.svg").read_text("utf-8")
    assert "bank" not in _said(tmp_path / "roc.svg")


@pytest.mark.parametrize(("language", "bin_name"), [("en", "bin"), ("zh", "分箱")])
def test_the_points_picture_shows_the_strongest_features_with_their_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, language: str, bin_name: str
) -> None:
    monkeypatch.setenv("HEJIN_LANG", language)
    draw_points(tmp_path / "points.svg", _SCORECARD, _NOTE)
    said = _said(tmp_path / "points.svg").splitlines()
    for shown in ("71.3", "143.7", "95.2", "111.4", "80.6", "120.8", f"steep {bin_name} 0"):
        assert shown in said
    assert f"{points_of(1.5) / 5:.1f}" in "".join(said)
    assert str(_NOTE) in "".join(said)
    assert f"steep {bin_name} 2" not in said  # half a percent of the enterprises
    assert not [line for line in said if "flat" in line]


def test_the_strongest_feature_moves_enterprises_not_only_a_few() -> None:
    assert [feature.name for feature in strongest(_SCORECARD)] == [
        "steep", "middling", "mild", "rare",
    ]  # fmt: skip
    # 95 points away with a share of 0.001: 95 sqrt(0.001 x 0.999).
    assert spread(_SCORECARD.features[2]) == pytest.approx(95 * (0.001 * 0.999) ** 0.5)


def test_the_same_drawing_makes_the_same_bytes_in_portable_fonts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEJIN_LANG", "zh")
    for name in ("one.svg", "two.svg"):
        draw_points(tmp_path / name, _SCORECARD, _NOTE)
    written = (tmp_path / "one.svg").read_bytes()
    assert written == (tmp_path / "two.svg").read_bytes()
    families = set(re.findall(r"font-family: ([^;\"]+)", written.decode()))
    assert len(families) == 1
    assert "Noto Sans CJK SC" in families.pop()


def test_drawing_writes_nothing_in_home_and_warns_of_nothing(tmp_path: Path) -> None:
    home, scratch = tmp_path / "home", tmp_path / "scratch"
    home.mkdir()
    scratch.mkdir()
    program = (
        "from pathlib import Path; import numpy as np\n"
        "from hejin_sandbox.pictures import draw_roc; from hejin_trust.text import Text\n"
        "draw_roc(Path('roc.svg'), np.array([1.0, 2.0]), np.array([1, 0], dtype=np.int8), None,\n"
        "         Text('合', '合'))\n"
    )
    kept = {k: v for k, v in os.environ.items() if k != "MPLCONFIGDIR" and not k.startswith("XDG")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=tmp_path,
        env={**kept, "HOME": str(home), "TMPDIR": str(scratch), "HEJIN_LANG": "en"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "roc.svg").exists()
    assert not list(home.iterdir())
    assert not list(scratch.iterdir())
