"""The chart of what each node spent over time: geometry alone, the template draws it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction

from hejin_console.chart import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, Tick, TimeAxis
from hejin_console.values import cost, loss, percent, visible
from hejin_regulator.findings import Point, Spending, Verification
from hejin_trust.canonical import time_from, time_text
from hejin_trust.text import Text

_ROOM = Fraction(110, 100)
"""Of the scale, in caps: a little air above the cap line."""
_ROOM_ABOVE = Fraction(150, 100)
"""The same where a node went above its cap; what is higher still is drawn at the edge."""


@dataclass(frozen=True, slots=True)
class Chart:
    """One node's drawing, WIDTH by HEIGHT units with (0, 0) at the top left.

    line, area    SVG path data: the step line of rho in caps, and what lies below it
    cap_y         height of the cap line: the same in every chart of a verification
    periods       x where a later budget period begins and the account starts anew
    above         whether the account ever stood above the cap
    newest        what was spent over all banks in the node's last budget period
    """

    node: str
    line: str
    area: str
    cap_y: float
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    periods: tuple[float, ...]
    above: bool
    newest: Spending
    title: Text
    description: Text
    height: float = HEIGHT


@dataclass(frozen=True, slots=True)
class _Scale:
    """From moments and shares of the cap to coordinates."""

    time: TimeAxis
    room: Fraction

    def y(self, share: Fraction) -> float:
        inside = min(max(share, Fraction(0)), self.room)
        return round(BOTTOM - (BOTTOM - TOP) * float(inside / self.room), 1)


@dataclass(frozen=True, slots=True)
class _Step:
    moment: datetime
    share: Fraction
    """Of the cap."""


def spending_charts(verification: Verification) -> tuple[Chart, ...]:
    """Return a chart for each node, all on one scale so that nodes can be compared.

    The scale is rho in percent of the cap: rho adds up, so half of the way is half of the budget.
    (Epsilon grows about as its root: half of it is a quarter spent.)
    """
    periods: dict[str, list[Spending]] = {}
    for row in verification.spending:
        if row.bank is None:
            periods.setdefault(row.node, []).append(row)
    if not periods:
        return ()
    for rows in periods.values():
        rows.sort(key=lambda row: row.period)
    steps = {
        node: [_step(point, rows) for point in verification.course.get(node, ())]
        for node, rows in periods.items()
    }
    scale = _scale(verification, periods.values(), steps.values())
    return tuple(_chart(scale, rows, steps[node]) for node, rows in periods.items())


def _step(point: Point, rows: Sequence[Spending]) -> _Step:
    """Return a point in caps of the period that it falls into."""
    begun = [row for row in rows if row.period <= point.time]
    cap = (begun[-1] if begun else rows[0]).rho_cap
    return _Step(time_from(point.time), _share(point.rho, cap))


def _share(rho: Fraction, cap: Fraction) -> Fraction:
    """Return rho in caps; a cap of nothing is exceeded by anything, as far as a page can show."""
    if cap > 0:
        return rho / cap
    return Fraction(2 if rho > 0 else 0)


def _scale(
    verification: Verification,
    periods: Iterable[Sequence[Spending]],
    steps: Iterable[Sequence[_Step]],
) -> _Scale:
    """From the first budget period to the moment of the check, but not beyond the last period."""
    rows = [row for of_node in periods for row in of_node]
    taken = [step for of_node in steps for step in of_node]
    start = min(time_from(row.period) for row in rows)
    until = max([time_from(verification.checked_at), *(step.moment for step in taken)])
    end = min(until, max(time_from(row.period_to) for row in rows))
    above = any(step.share > 1 for step in taken)
    return _Scale(TimeAxis.over((start, max(start, end))), _ROOM_ABOVE if above else _ROOM)


def _chart(scale: _Scale, rows: Sequence[Spending], steps: Sequence[_Step]) -> Chart:
    newest, above = rows[-1], any(step.share > 1 for step in steps)
    name, line = visible(newest.node), _line(scale, steps)
    used, cap = percent(newest.rho, newest.rho_cap), cost(newest.rho_cap, up=True)
    over = Text(" It went above the cap.", "曾超出上限。") if above else Text("", "")
    start, end = time_text(scale.time.start), time_text(scale.time.end)
    return Chart(
        node=newest.node,
        line=line,
        area=f"{line}V{_number(scale.y(Fraction(0)))}H{LEFT}Z",
        cap_y=scale.y(Fraction(1)),
        x_ticks=scale.time.ticks,
        y_ticks=_shares(scale),
        periods=tuple(scale.time.x(time_from(row.period)) for row in rows[1:]),
        above=above,
        newest=newest,
        title=Text(f"Budget spent by {name} over time", f"{name} 的预算支出过程"),
        description=Text(
            f"Step line from {start} to {end}: at its end {used} of the cap of rho {cap} is spent, "
            f"epsilon {loss(newest.epsilon)} of {loss(newest.epsilon_cap)}.{over.en}",
            f"{start} 至 {end} 的阶梯线：期末已用 rho 上限 {cap} 的 {used}，"
            f"epsilon {loss(newest.epsilon)}，上限 {loss(newest.epsilon_cap)}。{over.zh}",
        ),
    )


def _line(scale: _Scale, steps: Sequence[_Step]) -> str:
    """Return the step line as SVG path data; steps less than 0.1 units apart become one.

    Of those, the highest is kept beside the last, so that no excess is smoothed away.
    """
    parts = [f"M{LEFT} {_number(scale.y(Fraction(0)))}"]
    columns: dict[float, list[float]] = {}
    for step in steps:
        columns.setdefault(scale.time.x(step.moment), []).append(scale.y(step.share))
    for x, heights in columns.items():
        parts.append(f"H{_number(x)}")
        if min(heights) < heights[-1]:
            parts.append(f"V{_number(min(heights))}")
        parts.append(f"V{_number(heights[-1])}")
    return "".join(parts) + f"H{RIGHT}"


def _shares(scale: _Scale) -> tuple[Tick, ...]:
    shares = (0, 50, 100, 150) if scale.room > _ROOM else (0, 25, 50, 75, 100)
    return tuple(
        Tick(scale.y(Fraction(share, 100)), f"{'≥' if share > 100 else ''}{share} %")
        for share in shares
    )


def _number(value: float) -> str:
    return f"{value:g}"
