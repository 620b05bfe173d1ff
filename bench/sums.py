"""Rows per CPU-second of each statistic, with its guard, beside plain numpy without one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.figures import Figure, cpu_seconds, median_of
from bench.population import VIEW
from hejin_models.statistics import SCORE_BINS, State, statistic
from hejin_privacy.contribution import quantised_sum
from hejin_privacy.mechanism import SCALE, delta_squared
from hejin_privacy.noise import discrete_gaussian

SECTION = "statistics"
_Cells = npt.NDArray[np.int32]
_Labels = npt.NDArray[np.int8]
_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Case:
    """One statistic, its public state, and the same sum in plain numpy."""

    name: str
    state: State
    plain: Callable[[_Cells, _Labels], object]


def measure(folder: Path, quick: bool) -> list[Figure]:
    """Return rows per CPU-second for every statistic of the catalogue, and noise draws."""
    del folder
    rows, repeats = (2_000, 1) if quick else (200_000, 5)
    random = np.random.default_rng(1)
    sizes = np.diff(VIEW.offsets)
    cells = random.integers(0, sizes, (rows, len(sizes))).astype(np.int32)
    labels = random.integers(0, 2, rows).astype(np.int8)
    figures = []
    for case in _cases(random):
        hejin = rows / median_of(repeats, partial(cpu_seconds, partial(_sum, case, cells, labels)))
        plain = rows / median_of(repeats, partial(cpu_seconds, partial(case.plain, cells, labels)))
        figures += [
            Figure(SECTION, case.name, hejin, "rows/CPU s", hejin / plain, "plain numpy"),
            Figure(SECTION, f"{case.name}, plain numpy", plain, "rows/CPU s"),
        ]
    draws = rows // 4
    sigma = Fraction(10 * SCALE)
    noise = draws / median_of(repeats, lambda: cpu_seconds(lambda: discrete_gaussian(sigma, draws)))
    return [*figures, Figure(SECTION, "discrete Gaussian noise", noise, "draws/CPU s")]


def _sum(case: _Case, cells: _Cells, labels: _Labels) -> None:
    entry = statistic(case.name, 1)
    entry.check_state(VIEW, case.state)
    bound = delta_squared(
        entry.bound_squared(VIEW, case.state), entry.nonzeros(VIEW, case.state), entry.counts
    )
    quantised_sum(
        entry.contribute(VIEW, cells, labels, case.state),
        bound,
        SCALE,
        entry.dimension(VIEW, case.state),
    )


def _cases(random: np.random.Generator) -> list[_Case]:
    """Plain numpy gets the same chunks' worth of help: whole columns and BLAS, no check at all."""
    features, total = len(VIEW.features), VIEW.total_cells
    offsets = VIEW.offsets[:-1]
    values = random.normal(0.0, 0.1, total)
    constant, weights = 0.3, random.normal(0.0, 1.0, features + 1)
    edges = np.linspace(-1.0, 1.0, SCORE_BINS - 1)
    bins = np.arange(total, dtype=np.float64)

    def places(cells: _Cells) -> npt.NDArray[np.int64]:
        return cells + offsets

    def inputs(cells: _Cells) -> _Floats:
        return np.column_stack([values[places(cells)], np.full(len(cells), constant)])

    def counts(cells: _Cells, _: _Labels) -> object:
        return np.bincount(places(cells).ravel(), minlength=total)

    def by_label(cells: _Cells, labels: _Labels) -> object:
        moved = places(cells) + total * labels.astype(np.int64)[:, None]
        return np.bincount(moved.ravel(), minlength=2 * total)

    def gram(cells: _Cells, _: _Labels) -> object:
        x = inputs(cells)
        return x.T @ x

    def gradient(cells: _Cells, labels: _Labels) -> object:
        x = inputs(cells)
        return (1.0 / (1.0 + np.exp(-(x @ weights))) - labels) @ x

    def scores(cells: _Cells, labels: _Labels) -> object:
        score = values[places(cells)].sum(axis=1)
        place = np.searchsorted(edges, score, side="right") + SCORE_BINS * labels.astype(np.int64)
        return np.bincount(place, minlength=2 * SCORE_BINS)

    table: State = {"values": values, "constant": np.array([constant])}
    return [
        _Case("histogram", {}, counts),
        _Case("label_histogram", {}, by_label),
        _Case("bin_counts", {"bins": bins}, counts),
        _Case("gram", table, gram),
        _Case("logistic_gradient", {**table, "weights": weights}, gradient),
        _Case("score_histogram", {"values": values, "edges": edges}, scores),
    ]
