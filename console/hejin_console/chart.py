"""The geometry of charts: what stands where on a drawing; `charts.svg.jinja` draws it.

A drawing is WIDTH units wide, (0, 0) is its top left. Shares are parts of 1 and drawn in percent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from hejin_trust.text import Text

WIDTH, HEIGHT = 360, 150
LEFT, RIGHT, TOP, BOTTOM = 42, 354, 8, 124
BAR_LEFT, BAR_RIGHT, BAR_STEP, BAR_THICK = 78, 306, 25, 15
_TICKS = 4
_TICK_FORMATS = ((14 * 86_400, "%Y-%m-%d"), (6 * 3_600, "%m-%d %H:%M"), (0, "%H:%M:%S"))
"""From how many seconds of width on a tick is written how."""
_STEPS = (1, 1.2, 1.6, 2, 2.4, 3, 4, 5, 6, 8, 10)
"""Of an axis' upper end: its half reads well too."""
_MOST_LABELS = 7
"""Under columns: more would run into each other."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A label of an axis at a coordinate of the drawing."""

    at: float
    label: str
    anchor: str = "end"


@dataclass(frozen=True, slots=True)
class TimeAxis:
    """From moments to the drawing's width; what lies outside is drawn at the edge."""

    start: datetime
    end: datetime

    @classmethod
    def over(cls, moments: Sequence[datetime]) -> TimeAxis:
        """Return the axis over all `moments`, of which there is one at least."""
        start, end = min(moments), max(moments)
        return cls(start, max(end, start + timedelta(seconds=1)))

    def x(self, moment: datetime) -> float:
        """Return where a moment stands."""
        inside = min(max(moment, self.start), self.end)
        return round(LEFT + (RIGHT - LEFT) * ((inside - self.start) / (self.end - self.start)), 1)

    @property
    def ticks(self) -> tuple[Tick, ...]:
        """Labels from the start to the end."""
        span = self.end - self.start
        form = next(form for least, form in _TICK_FORMATS if span.total_seconds() >= least)
        moments = [self.start + span * number / (_TICKS - 1) for number in range(_TICKS)]
        anchors = ("start", *("middle" for _ in range(_TICKS - 2)), "end")
        return tuple(
            Tick(self.x(moment), moment.strftime(form), anchor)
            for moment, anchor in zip(moments, anchors, strict=True)
        )


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a trend: its style, its name, its path data, and a dot at every point."""

    style: int
    name: Text
    path: str
    dots: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Trend:
    """Shares over time, one line each."""

    series: tuple[Series, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    title: Text
    description: Text
    height: float = HEIGHT


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: its label, where it lies, how long it is, what it says, and the least it should."""

    label: Text
    y: float
    width: float
    value: str
    mark: float | None
    failed: bool


@dataclass(frozen=True, slots=True)
class Bars:
    """Shares side by side, from the left, each with its label."""

    bars: tuple[Bar, ...]
    title: Text
    description: Text
    height: float
    x_ticks: tuple[Tick, ...] = ()
    y_ticks: tuple[Tick, ...] = ()


@dataclass(frozen=True, slots=True)
class Column:
    """One column that stands on the axis."""

    x: float
    y: float
    width: float
    value: str


@dataclass(frozen=True, slots=True)
class Columns:
    """Counts or shares in a row, such as one a month."""

    columns: tuple[Column, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    title: Text
    description: Text
    height: float = HEIGHT


def percent_of(share: float) -> str:
    """Return a share in percent to one decimal, rounded down: 100 % means all."""
    tenths = int(share * 1000 + 1e-9)
    return f"{tenths // 10}.{tenths % 10} %"


def trend(title: Text, lines: Sequence[tuple[Text, Sequence[tuple[datetime, float]]]]) -> Trend:
    """Return shares over time, points in order of time; a line without any is left out.

    A line's place among `lines` gives it its style, so that it has the same in every chart.
    """
    axis = TimeAxis.over([moment for _, points in lines for moment, _ in points])
    lowest = min(share for _, points in lines for _, share in points)
    floor = next(floor for floor in (0.9, 0.5, 0.0) if floor <= lowest or floor == 0)
    series = tuple(
        Series(style, name, _path(dots), dots)
        for style, (name, points) in enumerate(lines)
        if points
        for dots in [tuple((axis.x(moment), _y(share, floor)) for moment, share in points)]
    )
    ends_en = "; ".join(
        f"{name.en} {percent_of(points[-1][1])}" for name, points in lines if points
    )
    ends_zh = "；".join(
        f"{name.zh} {percent_of(points[-1][1])}" for name, points in lines if points
    )
    return Trend(
        series,
        axis.ticks,
        _share_ticks(floor),
        title,
        Text(f"At the end: {ends_en}.", f"期末：{ends_zh}。"),
    )


def bars(
    title: Text, rows: Sequence[tuple[Text, float, float | None]], *, floor: float = 0.0
) -> Bars:
    """Return shares as bars from `floor` to 1.

    rows  label, share, and the share that is the least to pass, if there is one
    """
    found = []
    for number, (label, share, least) in enumerate(rows):
        found.append(
            Bar(
                label,
                TOP + number * BAR_STEP,
                round(_along(share, floor) - BAR_LEFT, 1),
                percent_of(share),
                None if least is None else round(_along(least, floor), 1),
                least is not None and share < least,
            )
        )
    told_en = "; ".join(f"{label.en} {percent_of(share)}" for label, share, _ in rows)
    told_zh = "；".join(f"{label.zh} {percent_of(share)}" for label, share, _ in rows)
    return Bars(
        tuple(found),
        title,
        Text(f"{told_en}.", f"{told_zh}。"),
        TOP + len(rows) * BAR_STEP + 2,
    )


def columns(title: Text, rows: Sequence[tuple[str, float]]) -> Columns:
    """Return columns of a label and a number that is at least 0, from the axis upwards."""
    most = _round_up(max((value for _, value in rows), default=0))
    step = (RIGHT - LEFT) / max(1, len(rows))
    every = -(-len(rows) // _MOST_LABELS) or 1
    found = tuple(
        Column(
            round(LEFT + step * (number + 0.15), 1),
            round(BOTTOM - (BOTTOM - TOP) * value / most, 1),
            round(step * 0.7, 1),
            f"{label}: {value:,.10g}",
        )
        for number, (label, value) in enumerate(rows)
    )
    ticks = tuple(
        Tick(round(LEFT + step * (number + 0.5), 1), label, "middle")
        for number, (label, _) in enumerate(rows)
        if number % every == 0
    )
    heights = tuple(
        Tick(round(BOTTOM - (BOTTOM - TOP) * part, 1), _short(most * part)) for part in (0, 0.5, 1)
    )
    told = "; ".join(f"{label} {value:,.10g}" for label, value in rows)
    return Columns(found, ticks, heights, title, Text(f"{told}.", f"{told}。"))


def _path(dots: Sequence[tuple[float, float]]) -> str:
    (x, y), *rest = dots
    return f"M{x:g} {y:g}" + "".join(f"L{x:g} {y:g}" for x, y in rest)


def _y(share: float, floor: float) -> float:
    part = (min(max(share, floor), 1) - floor) / (1 - floor)
    return round(BOTTOM - (BOTTOM - TOP) * part, 1)


def _along(share: float, floor: float) -> float:
    part = (min(max(share, floor), 1) - floor) / (1 - floor)
    return BAR_LEFT + (BAR_RIGHT - BAR_LEFT) * part


def _share_ticks(floor: float) -> tuple[Tick, ...]:
    shares = [floor + (1 - floor) * part / 4 for part in range(5)]
    return tuple(Tick(_y(share, floor), f"{100 * share:.4g} %") for share in shares)


def _round_up(value: float) -> float:
    """Return a number that reads well and is at least `value`; 1 for nothing."""
    if value <= 0:
        return 1
    size = float(10 ** math.floor(math.log10(value)))
    # A size so small that it is not exact may leave no step: then the value itself.
    return next((step * size for step in _STEPS if step * size >= value), value)


def _short(value: float) -> str:
    """Return a number in few characters: 1.2M, 350k, 12."""
    for size, sign in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{sign}"
    return f"{value:.3g}"
