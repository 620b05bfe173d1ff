"""Pictures of a run's scorecard, as SVG: how well it separates, and what its bins are worth."""

from __future__ import annotations

import logging
import os
import re
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hejin_models.evaluation import Band, Estimate, exact_auc
from hejin_models.scorecard import Bin, Scorecard, ScoredFeature, points_of
from hejin_trust.text import Text, current_language

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_Floats = npt.NDArray[np.float64]

_MOST_CORNERS = 400  # of a drawn curve: more are not seen and make the file large
_EXACT, _BANK, _QUIET = "#1f5fa8", "#c8641b", "#8a8f98"
_GREY, _INK = "#5a6068", "#22262b"
_LINES = 1.5  # distance of lines in font sizes: Chinese needs more than the usual 1.2
# Viewers choose the first that they have; matplotlib only measures with one of its own.
_SHOWN = Text(
    "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif",
    "'PingFang SC', 'Microsoft YaHei', 'Noto Sans CJK SC', 'Source Han Sans SC', sans-serif",
)
_MEASURED_ZH = ("Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", "Source Han Sans SC")


@dataclass(frozen=True, slots=True, eq=False)
class Roc:
    """What each cut-off does: the shares of goods and of bads that score below it.

    goods, bads   float64[k], 0..1, from (0, 0) to (1, 1)
    """

    goods: _Floats
    bads: _Floats

    @property
    def best(self) -> int:
        """Where bads are furthest ahead of goods: the cut-off that KS measures."""
        return int(np.argmax(self.bads - self.goods))

    @property
    def ks(self) -> float:
        """How far ahead they are there, 0..1."""
        return float(self.bads[self.best] - self.goods[self.best])


def exact_roc(scores: _Floats, labels: npt.NDArray[np.int8]) -> Roc:
    """Return the curve of scores whose outcomes are known; a low score is meant to be bad.

    labels   int8[n], 1 is bad; both classes occur
    """
    cuts = np.unique(scores)
    goods, bads = (np.sort(scores[labels == label]) for label in (0, 1))
    below = [np.searchsorted(part, cuts, side="right") / len(part) for part in (goods, bads)]
    return Roc(*(np.concatenate([[0.0], shares]) for shares in below))


def banded_roc(bands: Sequence[Band]) -> Roc:
    """Return the curve through the bands of scores, lowest first, that a bank has measured."""
    bads = np.array([band.share * band.measured for band in bands])
    goods = np.array([band.share * (1.0 - band.measured) for band in bands])
    return Roc(
        *(np.concatenate([[0.0], np.cumsum(part) / part.sum()]) for part in (goods, bads)),
    )


@dataclass(frozen=True, slots=True)
class BankView:
    """The hold-out measures that the bank has, by a private sum."""

    auc: Estimate
    ks: Estimate
    bands: tuple[Band, ...]


def draw_roc(
    path: Path,
    scores: _Floats,
    labels: npt.NDArray[np.int8],
    bank: BankView | None,
    note: Text,
) -> None:
    """Draw the ROC curve with KS: the exact one, and the bank's own estimate beside it.

    scores, labels   of the hold-out enterprises, with both classes
    bank             None where noise hides what the bank would see
    note             what the data is, such as "synthetic data"
    """
    roc, auc = exact_roc(scores, labels), exact_auc(scores, labels)
    with _figure(path, _ROC_TITLE, (7.4, 6.0)) as figure:
        axes = figure.add_axes((0.11, 0.11, 0.86, 0.75))
        _heading(
            figure,
            _ROC_TITLE,
            Text(
                f"ROC curve of the private scorecard on {len(labels):,} hold-out enterprises; "
                f"{note.en}",
                f"隐私评分卡在 {len(labels):,} 家留出企业上的 ROC 曲线；{note.zh}",
            ),
        )
        axes.plot([0, 1], [0, 1], color=_QUIET, linewidth=1, dashes=(2, 3), label=str(_COIN))
        corners = _corners(roc)
        axes.plot(
            roc.goods[corners],
            roc.bads[corners],
            color=_EXACT,
            linewidth=2.2,
            gid="roc-exact",
            label=str(
                Text(
                    f"exact: AUC {auc:.3f}, KS {roc.ks:.3f}\n(only a sandbox can know this)",
                    f"精确值：AUC {auc:.3f}，KS {roc.ks:.3f}\n（只有沙箱才能知道）",
                )
            ),
        )
        if bank is not None:
            _draw_bank(axes, bank)
        _mark_ks(axes, roc)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.01)
        axes.set_xlabel(str(_GOODS))
        axes.set_ylabel(str(_BADS))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda share, _: f"{100 * share:.0f}%")
        legend = axes.legend(loc="lower right", frameon=False, labelspacing=0.9)
        for said in legend.get_texts():
            said.set_linespacing(_LINES)


_ROC_TITLE = Text("How well the scorecard tells bad from good", "评分卡区分好坏企业的能力")
_COIN = Text("tossing a coin: AUC 0.500", "随机猜测：AUC 0.500")
_GOODS = Text("good enterprises below the cut-off (lost)", "低于分数线的正常企业（误拒）")
_BADS = Text("bad enterprises below the cut-off (caught)", "低于分数线的违约企业（识别）")


def _draw_bank(axes: Axes, bank: BankView) -> None:
    roc = banded_roc(bank.bands)
    auc = f"{bank.auc.value:.3f} ± {bank.auc.error:.3f}"
    ks = f"{bank.ks.value:.3f} ± {bank.ks.error:.3f}"
    axes.plot(
        roc.goods,
        roc.bads,
        color=_BANK,
        linewidth=1.4,
        dashes=(5, 2),
        marker="o",
        markersize=4.5,
        clip_on=False,
        gid="roc-bank",
        label=str(
            Text(
                f"as the bank sees it, by a private sum:\nAUC {auc}, KS {ks}",
                f"银行所见（隐私求和）：\nAUC {auc}，KS {ks}",
            )
        ),
    )


def _mark_ks(axes: Axes, roc: Roc) -> None:
    """Mark the largest distance above the diagonal, and name it."""
    x, y = float(roc.goods[roc.best]), float(roc.bads[roc.best])
    axes.plot([x, x], [x, y], color=_INK, linewidth=1.4, marker="_", markersize=9, gid="ks")
    axes.annotate(
        str(
            Text(
                f"KS {roc.ks:.3f}:\nhere {100 * y:.0f}% of the bad and\n"
                f"{100 * x:.0f}% of the good are below",
                f"KS {roc.ks:.3f}：\n此处 {100 * y:.0f}% 的违约企业与\n"
                f"{100 * x:.0f}% 的正常企业低于分数线",
            )
        ),
        xy=(x, x + 0.8 * (y - x)),
        xytext=(10, 0),
        textcoords="offset points",
        va="center",
        linespacing=_LINES,
        color=_INK,
    )


def _corners(roc: Roc) -> npt.NDArray[np.int64]:
    """Return at most about _MOST_CORNERS places of the curve, its ends and KS among them."""
    last = len(roc.goods) - 1
    even = np.linspace(0, last, min(_MOST_CORNERS, last + 1)).round().astype(np.int64)
    chosen: npt.NDArray[np.int64] = np.unique(np.append(even, roc.best))
    return chosen


def strongest(scorecard: Scorecard, most: int = 4) -> tuple[ScoredFeature, ...]:
    """Return the features that move scores most, the strongest first."""
    return tuple(sorted(scorecard.features, key=lambda feature: -spread(feature))[:most])


def spread(feature: ScoredFeature) -> float:
    """Return the standard deviation, in points, of what a feature adds to enterprises' scores."""
    points = np.array([made.points for made in feature.bins])
    weights = np.array([max(made.share, 0.0) for made in feature.bins])
    if weights.sum() == 0.0:
        return 0.0
    away = points - np.average(points, weights=weights)
    return float(np.sqrt(np.average(away**2, weights=weights)))


def draw_points(path: Path, scorecard: Scorecard, note: Text) -> None:
    """Draw the points of each bin of the strongest features, as steps from a neutral bin.

    note   what the data is, such as "synthetic data"
    """
    neutral = points_of(scorecard.intercept) / len(scorecard.features)
    chosen = [(feature, _seen(feature)) for feature in strongest(scorecard)]
    pairs = [chosen[i : i + 2] for i in range(0, len(chosen), 2)]
    rows = [max(len(bins) for _, bins in pair) for pair in pairs]
    reach = [made.points for _, bins in chosen for made in bins]
    limits = min(neutral, *reach), max(neutral, *reach)
    height = 1.1 + sum(0.65 + _ROW * count for count in rows)
    with _figure(path, _POINTS_TITLE, (10.4, height)) as figure:
        _heading(
            figure,
            _POINTS_TITLE,
            Text(
                f"Points of each bin, for the {len(chosen)} features that move scores most; bars"
                f" start at a neutral bin's {neutral:.1f}; {note.en}",
                f"对评分影响最大的 {len(chosen)} 个特征各分箱的分值；"
                f"条形以中性分箱的 {neutral:.1f} 分为起点；{note.zh}",
            ),
        )
        top = height - 0.8
        for pair, count in zip(pairs, rows, strict=True):
            for column, (feature, bins) in enumerate(pair):
                tall = _ROW * len(bins)
                box = (0.185 + 0.5 * column, (top - 0.4 - tall) / height, 0.295, tall / height)
                axes = figure.add_axes(box)
                _draw_bins(axes, bins, neutral, limits)
                figure.text(
                    0.02 + 0.5 * column, (top - 0.22) / height, _short(str(feature.text), 56),
                    fontsize=10.5, fontweight="bold", va="center",
                )  # fmt: skip
            top -= 0.65 + _ROW * count
        figure.text(0.02, 0.16 / height, str(_POINTS_FOOT), color=_GREY, fontsize=8.5, va="center")


_ROW = 0.26  # inches a bin
_LEAST_SHARE = 0.01
_POINTS_TITLE = Text("What raises and what lowers a score", "哪些因素提高或降低评分")
_POINTS_FOOT = Text(
    "A score is the sum of one bin's points per feature; 20 points more double the odds of being"
    " good. Points carry privacy noise. Bins with under 1% of enterprises are not shown.",
    "评分为每个特征所属分箱分值之和；每增加 20 分，正常与违约之比翻倍。分值含隐私噪声。"
    "占比不足 1% 的分箱未显示。",
)


def _seen(feature: ScoredFeature) -> tuple[Bin, ...]:
    """Return the bins that are drawn: the small ones are mostly noise."""
    return tuple(made for made in feature.bins if made.share >= _LEAST_SHARE) or feature.bins


def _draw_bins(
    axes: Axes, bins: tuple[Bin, ...], neutral: float, limits: tuple[float, float]
) -> None:
    points = [made.points for made in bins]
    colors = [_EXACT if value >= neutral else _BANK for value in points]
    steps = [value - neutral for value in points]
    axes.barh(range(len(bins)), steps, left=neutral, color=colors, height=0.72)
    axes.set_yticks(range(len(bins)), [_short(str(made.text), 30) for made in bins])
    room = 0.16 * (limits[1] - limits[0] or 1.0)
    axes.set_xlim(limits[0] - room, limits[1] + room)
    for row, value in enumerate(points):
        up = value >= neutral
        axes.annotate(
            f"{value:.1f}",
            xy=(value, row),
            xytext=(4 if up else -4, 0),
            textcoords="offset points",
            ha="left" if up else "right",
            va="center",
        )
    axes.set_ylim(len(bins) - 0.5, -0.5)
    axes.axvline(neutral, color=_QUIET, linewidth=0.8)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _short(said: str, width: int) -> str:
    return said if len(said) <= width else said[: width - 1] + "…"


def _heading(figure: Figure, title: Text, below: Text) -> None:
    inches = figure.get_figheight()
    figure.text(0.02, 1 - 0.32 / inches, str(title), fontsize=15, fontweight="bold", va="center")
    figure.text(0.02, 1 - 0.62 / inches, str(below), color=_GREY, va="center")


@contextmanager
def _figure(path: Path, title: Text, inches: tuple[float, float]) -> Iterator[Figure]:
    """Lend an empty figure with the project's looks; write it to `path` as SVG at the end.

    Text stays text, and the same drawing makes the same bytes.
    """
    _load_quietly()
    from matplotlib import font_manager, rc_context
    from matplotlib.figure import Figure

    found = set(font_manager.fontManager.get_font_names())
    measured = [name for name in _MEASURED_ZH if name in found][:1]
    style = rc_context(
        {
            "font.family": [*(measured if current_language() == "zh" else []), "DejaVu Sans"],
            "font.size": 9.5,
            "text.color": _INK,
            "axes.labelcolor": _INK,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "text.parse_math": False,
            "axes.unicode_minus": False,
            "svg.fonttype": "none",
            "svg.hashsalt": "hejin",
        }
    )
    with style, warnings.catch_warnings():
        # A machine without Chinese fonts measures with others; the viewer has them.
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from")
        figure = Figure(figsize=inches, facecolor="white")
        yield figure
        about = {"Title": str(title), "Creator": "Hejin", "Date": None}
        figure.savefig(path, format="svg", metadata=about)
    written = path.read_text("utf-8")
    path.write_text(re.sub(r"font-family: [^;\"]+", f"font-family: {_SHOWN}", written), "utf-8")


def _load_quietly() -> None:
    """Import matplotlib; what it caches about fonts goes to a folder that is gone afterwards."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    if "MPLCONFIGDIR" in os.environ:
        return
    with tempfile.TemporaryDirectory(prefix="hejin-fonts-") as folder:
        os.environ["MPLCONFIGDIR"] = folder
        try:
            import matplotlib.backends.backend_svg
            import matplotlib.figure
            import matplotlib.font_manager  # noqa: F401 - reads its folder once, when imported
        finally:
            del os.environ["MPLCONFIGDIR"]
