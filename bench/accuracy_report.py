"""Points of accuracy become figures, and the marked tables of docs/benchmarks.md."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.accuracy_points import Point
from bench.figures import Figure

DOCUMENT = Path(__file__).parents[1] / "docs" / "benchmarks.md"
SECTION = "accuracy"
BEGIN = "<!-- accuracy: written by `python -m bench accuracy` -->"
END = "<!-- accuracy: end -->"

AIM = 0.010
"""Most that mode `shared` may lose to pooled data at epsilon 1 ..."""
LEAST_POOLED = {"SBA": 0.780, "UCI": 0.762}
"""... where the pooled scorecard is worth being compared with."""


def figures_of(points: Sequence[Point]) -> list[Figure]:
    """Return the mean AUC of every table, mode and epsilon, and its ratio to pooled data."""
    figures = []
    for (table, target), cell in _cells(points).items():
        for mode in sorted({p.mode for p in cell}):
            # Of the same plans: others have other enterprises in their hold-out.
            pooled = statistics.fmean(p.pooled for p in cell if p.mode == mode)
            auc = statistics.fmean(p.auc for p in cell if p.mode == mode)
            name = f"{table}, epsilon {target:g}, {mode}"
            figures.append(Figure(SECTION, name, auc, "AUC", auc / pooled, "pooled scorecard"))
    return figures


def rewrite(document: Path, points: Sequence[Point]) -> None:
    """Put the tables of `points` between the document's two marks."""
    text = document.read_text("utf-8")
    before, mark, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (mark and end):
        raise ValueError(f"{document} has lost its marks {BEGIN} and {END}")
    document.write_text(f"{before}{BEGIN}\n\n{markdown(points)}\n{END}{after}", "utf-8")


def markdown(points: Sequence[Point]) -> str:
    """Return one table a data set, and what it says about the aim; English and Chinese."""
    lines = []
    for table in dict.fromkeys(p.table for p in points):
        mine = [p for p in points if p.table == table]
        inside = [p for p in mine if p.carrier == "memory"]
        seeds = len({p.seed for p in inside})
        boosted = [p for p in inside if p.lightgbm is not None]
        lines += [
            f"**{table}**, {seeds} seeds 个种子. Pooled scorecard 汇集评分卡"
            f" {_mean(inside, 'pooled')}; LightGBM {_mean(boosted, 'lightgbm')}.",
            "",
            "| epsilon | `node` | to pooled 与汇集之差 | `shared` | to pooled 与汇集之差 |",
            "|---:|---:|---:|---:|---:|",
        ]
        for (_, target), cell in _cells(inside).items():
            row = [f"{target:g}"]
            for mode in ("node", "shared"):
                some = [p for p in cell if p.mode == mode]
                row += [_mean(some, "auc"), _mean(some, "loss")] if some else ["", ""]
            lines.append(f"| {' | '.join(row)} |")
        lines += ["", *_verdict(table, inside)]
        lines += [
            f"With a process a member 各成员独立进程 (`hejin sandbox run --nodes 20 --seed {p.seed}"
            f" --epsilon {p.epsilon:g}`): {p.auc:.4f}, pooled 汇集 {p.pooled:.4f}."
            for p in mine
            if p.carrier == "processes"
        ]
        lines.append("")
    return "\n".join(lines)


def _verdict(table: str, points: Iterable[Point]) -> list[str]:
    """Say whether mode `shared` at epsilon 1 reaches its aim."""
    cell = [p for p in points if (p.mode, p.epsilon) == ("shared", 1.0)]
    if not cell:
        return []
    loss = statistics.fmean(p.auc - p.pooled for p in cell)
    pooled = statistics.fmean(p.pooled for p in cell)
    least = LEAST_POOLED[table]
    reached = loss >= -AIM and pooled >= least
    en, zh = ("reached", "已达到") if reached else ("NOT REACHED", "未达到")
    return [
        f"To reach in `shared` at epsilon 1: at most {AIM:.3f} below pooled, pooled >= {least:.3f}."
        f" Measured {loss:+.4f}, pooled {pooled:.4f}: {en}.",
        f"epsilon 1、`shared` 的目标：比汇集至多低 {AIM:.3f}，且汇集 >= {least:.3f}。"
        f"实测 {loss:+.4f}，汇集 {pooled:.4f}：{zh}。",
        "",
    ]


def _cells(points: Iterable[Point]) -> dict[tuple[str, float], list[Point]]:
    """Return the points carried in memory by (table, epsilon), in order."""
    cells: dict[tuple[str, float], list[Point]] = {}
    for point in sorted(points, key=lambda p: (p.table, p.epsilon)):
        if point.carrier == "memory":
            cells.setdefault((point.table, point.epsilon), []).append(point)
    return cells


def _mean(points: Sequence[Point], what: str) -> str:
    """Return mean ± standard error over the seeds; plans of one seed count as one."""
    by_seed: dict[int, list[float]] = {}
    for point in points:
        by_seed.setdefault(point.seed, []).append(
            point.auc - point.pooled if what == "loss" else getattr(point, what)
        )
    means = [statistics.fmean(values) for values in by_seed.values()]
    mean = statistics.fmean(means)
    shown = f"{mean:+.4f}" if what == "loss" else f"{mean:.4f}"
    if len(means) < 2:
        return shown
    return f"{shown} ± {statistics.stdev(means) / math.sqrt(len(means)):.4f}"
