"""What the quality report shows of the checks: bounded, rounded, made visible; no markup."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from itertools import groupby

import numpy as np

from hejin_console.chart import Bars, Columns, Trend, bars, columns, percent_of, trend
from hejin_console.values import Rows, beijing, first, visible
from hejin_models.plan_rules import Problem
from hejin_models.quality import DIMENSION_NAMES, DIMENSIONS, Rule
from hejin_node import quality_words as words
from hejin_node.manifest import Load
from hejin_node.quality import Measured, Month
from hejin_node.quality_check import Checked
from hejin_node.quality_store import Result
from hejin_trust.canonical import time_from
from hejin_trust.text import Text

_MOST_RULES = 12
_MOST_QUARANTINE = 12
_MOST_ENTERPRISES = 20
_MOST_SOURCES = 12
"""The newest; `hejin node data lineage` has all."""
_MOST_MONTHS = 60
"""Five years; older months are left out."""
_BINS = 10
_NONE = "—"


@dataclass(frozen=True, slots=True, eq=False)
class Sheet:
    """One data set as it goes into the report.

    history  its results, the newest last
    loads    the loads that the check covers
    """

    checked: Checked
    months: Sequence[Month]
    history: Sequence[Result]
    loads: Sequence[Load]


@dataclass(frozen=True, slots=True)
class Overview:
    """A data set's row in the overview."""

    name: str
    rows: str
    quarantined: str
    enterprises: str
    newest: str
    scores: tuple[str, ...]
    gate: Text
    failed: bool


@dataclass(frozen=True, slots=True)
class CategoryRow:
    """A category's data sets, and the means of their scores."""

    category: Text
    scores: tuple[str, ...]
    datasets: tuple[Overview, ...]


@dataclass(frozen=True, slots=True)
class RuleRow:
    """A rule and what it counted."""

    id: str
    meaning: Text
    dimension: Text
    applied: str
    held: str
    share: str


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A load and the source that it read."""

    load: int
    name: str
    digest: str
    rows: str
    completed: str


@dataclass(frozen=True, slots=True)
class EnterpriseRow:
    """An enterprise, its scores, and the rule that holds least for it."""

    code: str
    rows: str
    score: str
    scores: tuple[str, ...]
    weakest: Text


@dataclass(frozen=True, slots=True)
class Section:
    """All about one data set."""

    name: str
    category: Text
    gate: Text
    failed: bool
    dimensions: Bars
    trend: Trend | None
    months: Columns | None
    spread: Columns
    rules: Rows[RuleRow]
    quarantine: Rows[tuple[str, str]]
    number: int
    sources: Rows[SourceRow]
    enterprises: Rows[EnterpriseRow]


@dataclass(frozen=True, slots=True)
class ViewRow:
    """A feature view and why it does not pass, if so."""

    id: str
    text: Text
    why: tuple[Text, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """Everything the template writes that is not a fixed text."""

    node: str
    version: str
    checked_utc: str
    checked_beijing: str
    categories: tuple[CategoryRow, ...]
    views: tuple[ViewRow, ...]
    sections: tuple[Section, ...]


def page_of(
    node: str,
    version: str,
    at: datetime,
    sheets: Sequence[Sheet],
    views: Sequence[tuple[str, Text, Sequence[Problem]]],
) -> Page:
    """Return what the report of a node's checks shows, made by Hejin `version` at `at`.

    views  id and name of each installed feature view, and why its data do not pass their gate
    """
    ordered = sorted(sheets, key=_place)
    return Page(
        node=visible(node),
        version=version,
        checked_utc=f"{at:%Y-%m-%d %H:%M:%S}",
        checked_beijing=beijing(at),
        categories=tuple(
            _category_row([sheet.checked for sheet in mine])
            for _, mine in groupby(ordered, key=_place)
        ),
        views=tuple(
            ViewRow(visible(name), text, tuple(problem.text for problem in problems))
            for name, text, problems in views
        ),
        sections=tuple(_section(sheet) for sheet in ordered),
    )


def share_text(share: float | Fraction | None) -> str:
    """Return a share in percent, rounded down; a dash where there is none."""
    if share is None or math.isnan(share):
        return _NONE
    return percent_of(float(share))


def weakest(measured: Measured, most: int) -> tuple[tuple[int, float], ...]:
    """Return the places and mean scores of the enterprises with the lowest, below 1, lowest first.

    Of equal ones, those with more rows come first.
    """
    means = _means(measured)
    order = np.lexsort((-measured.of_rows, means))
    low = [(int(place), float(means[place])) for place in order if means[place] < 1]
    return tuple(low[:most])


def _means(measured: Measured) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return float64[n]: the mean of each enterprise's scores; 1 where it has none."""
    scores = measured.enterprise_scores()
    known = ~np.isnan(scores)
    counted = known.sum(axis=1)
    means = np.ones(len(scores))
    np.divide(np.where(known, scores, 0).sum(axis=1), counted, out=means, where=counted > 0)
    return means


def _place(sheet: Sheet) -> int:
    """Return the place of a data set's category; one without schema comes last."""
    schema = sheet.checked.measured.schema
    order = list(words.CATEGORIES)
    return len(order) if schema is None else order.index(schema.category)


def _category_row(checked: Sequence[Checked]) -> CategoryRow:
    means = []
    for dimension in DIMENSIONS:
        scores = [score for one in checked if (score := one.scores[dimension]) is not None]
        means.append(share_text(sum(scores, Fraction(0)) / len(scores) if scores else None))
    return CategoryRow(
        _category(checked[0].measured), tuple(means), tuple(_overview(one) for one in checked)
    )


def _overview(checked: Checked) -> Overview:
    measured, result = checked.measured, checked.result
    return Overview(
        name=visible(measured.dataset),
        rows=f"{result.rows:,}",
        quarantined=f"{result.quarantined:,}",
        enterprises=f"{result.enterprises:,}",
        newest=result.newest or _NONE,
        scores=tuple(share_text(checked.scores[dimension]) for dimension in DIMENSIONS),
        gate=_gate(checked),
        failed=bool(checked.below),
    )


def _section(sheet: Sheet) -> Section:
    checked = sheet.checked
    measured = checked.measured
    return Section(
        name=visible(measured.dataset),
        category=_category(measured),
        gate=_gate(checked),
        failed=bool(checked.below),
        dimensions=_dimensions(checked),
        trend=_trend(sheet.history),
        months=_months(sheet.months),
        spread=_spread(measured),
        rules=_rules(measured),
        quarantine=first(
            (
                (visible(rule), f"{count:,}")
                for rule, count in sorted(measured.quarantined.items(), key=lambda one: -one[1])
            ),
            _MOST_QUARANTINE,
        ),
        number=checked.result.id,
        sources=first(
            (
                SourceRow(
                    load.id,
                    visible(load.name, 80),
                    load.source,
                    f"{load.counts.loaded:,}",
                    (load.completed or "")[:10],
                )
                for load in reversed(sheet.loads)
            ),
            _MOST_SOURCES,
        ),
        enterprises=_enterprises(measured),
    )


def _category(measured: Measured) -> Text:
    schema = measured.schema
    return words.NO_SCHEMA if schema is None else words.CATEGORIES[schema.category]


def _gate(checked: Checked) -> Text:
    if not checked.gate:
        return words.NO_GATE
    return words.FAILED if checked.below else words.PASSED


def _dimensions(checked: Checked) -> Bars:
    rows = [
        (DIMENSION_NAMES[dimension], float(score), checked.gate.get(dimension))
        for dimension, score in checked.scores.items()
        if score is not None
    ]
    return bars(words.DIMENSIONS_CHART, rows)


def _trend(history: Sequence[Result]) -> Trend | None:
    """Return a line for each dimension, once there are two results with a score."""
    lines = [
        (
            DIMENSION_NAMES[dimension],
            [
                (time_from(result.checked), score)
                for result in history
                if (score := result.scores[dimension]) is not None
            ],
        )
        for dimension in DIMENSIONS
    ]
    return trend(words.TREND_CHART, lines) if any(len(points) > 1 for _, points in lines) else None


def _months(months: Sequence[Month]) -> Columns | None:
    shown = months[-_MOST_MONTHS:]
    if not shown:
        return None
    return columns(words.MONTHS_CHART, [(f"{one.month:%Y-%m}", one.rows) for one in shown])


def _spread(measured: Measured) -> Columns:
    """Return how many enterprises have which mean score, in steps of 10 %; all is in the last."""
    bins = np.minimum((_means(measured) * _BINS + 1e-9).astype(int), _BINS - 1)
    counts = np.bincount(bins, minlength=_BINS)
    labels = [f"{100 * place // _BINS}-{100 * (place + 1) // _BINS}%" for place in range(_BINS)]
    return columns(
        words.SPREAD_CHART,
        [(label, float(count)) for label, count in zip(labels, counts, strict=True)],
    )


def _rules(measured: Measured) -> Rows[RuleRow]:
    tallies = measured.tallies
    broken: list[tuple[Fraction, Rule]] = []
    for rule in measured.rules:
        share = tallies[rule.id].share
        if share is not None and share < 1:
            broken.append((share, rule))
    broken.sort(key=lambda item: item[0])
    return first(
        (
            RuleRow(
                id=rule.id,
                meaning=rule.text,
                dimension=DIMENSION_NAMES[rule.dimension],
                applied=f"{tallies[rule.id].applied:,}",
                held=f"{tallies[rule.id].held:,}",
                share=share_text(share),
            )
            for share, rule in broken
        ),
        _MOST_RULES,
    )


def _enterprises(measured: Measured) -> Rows[EnterpriseRow]:
    scores = measured.enterprise_scores()
    low = weakest(measured, len(measured.codes))
    rows = tuple(
        EnterpriseRow(
            code=visible(measured.codes[place], 40),
            rows=f"{int(measured.of_rows[place]):,}",
            score=share_text(mean),
            scores=tuple(share_text(float(score)) for score in scores[place]),
            weakest=_weakest_rule(measured, place),
        )
        for place, mean in low[:_MOST_ENTERPRISES]
    )
    return Rows(rows, max(0, len(low) - len(rows)))


def _weakest_rule(measured: Measured, place: int) -> Text:
    tallies: Mapping[str, Fraction | None] = {
        name: tally.share for name, tally in measured.enterprise_tallies(place).items()
    }
    shares = [(share, rule) for rule in measured.rules if (share := tallies[rule.id]) is not None]
    share, rule = min(shares, key=lambda item: item[0])
    return Text(f"{rule.id} {share_text(share)}", f"{rule.id} {share_text(share)}")
