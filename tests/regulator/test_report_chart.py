"""The chart of what each node spent: coordinates, scales, and nothing smoothed away."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_world import CAP, CHECKED, PERIOD, course, spending, verification

from hejin_console.chart import BOTTOM, LEFT, RIGHT, TOP
from hejin_regulator.findings import Point
from hejin_regulator.report_chart import spending_charts
from hejin_trust.canonical import time_text

NEXT = ("2027-01-01T00:00:00Z", "2028-01-01T00:00:00Z")
HEIGHT = BOTTOM - TOP


def _drawn(path: str) -> list[tuple[float, float]]:
    """Return the corners of a path of M, H and V."""
    corners: list[tuple[float, float]] = []
    for command, first, second in re.findall(r"([MHV])([-\d.]+)(?: ([-\d.]+))?", path):
        if command == "M":
            corners.append((float(first), float(second)))
        elif command == "H":
            corners.append((float(first), corners[-1][1]))
        else:
            corners.append((corners[-1][0], float(first)))
    return corners


def test_known_points_are_drawn_at_known_coordinates() -> None:
    anping, jing = spending_charts(verification())
    # Ten days are 312 units wide; 110 % of the cap is 116 units high.
    assert (LEFT, RIGHT, TOP, BOTTOM) == (42, 354, 8, 124)
    assert anping.line == "M42 124H42V124H104.4V97.6H198V71.3H354"
    assert anping.area == anping.line + "V124H42Z"
    assert anping.cap_y == jing.cap_y == pytest.approx(124 - 116 / 1.1, abs=0.05)
    assert [(tick.at, tick.label) for tick in anping.x_ticks] == [
        (42, "01-01 00:00"),
        (146, "01-04 08:00"),
        (250, "01-07 16:00"),
        (354, "01-11 00:00"),
    ]
    assert [tick.label for tick in anping.y_ticks] == ["0 %", "25 %", "50 %", "75 %", "100 %"]
    assert anping.y_ticks[-1].at == anping.cap_y
    assert not anping.above
    assert anping.periods == ()


def test_the_description_tells_in_both_languages_what_the_line_shows() -> None:
    anping = spending_charts(verification())[0]
    for told in (anping.description.en, anping.description.zh):
        assert "2026-01-01T00:00:00Z" in told
        assert CHECKED in told
        assert "50.0 %" in told
        assert "0.100000" in told


def test_an_account_above_its_cap_is_drawn_above_the_line_and_told() -> None:
    points = {"jing": course(("2026-01-01", Fraction(0)), ("2026-01-06", CAP * 5 / 4))}
    rows = [spending("anping", Fraction(0)), spending("jing", CAP * 5 / 4)]
    anping, jing = spending_charts(verification(rows=rows, points=points))
    assert (anping.above, jing.above) == (False, True)
    assert _drawn(jing.line)[-1][1] < jing.cap_y == anping.cap_y
    assert "above the cap" in jing.description.en
    assert "超出上限" in jing.description.zh


def test_what_is_beyond_the_scale_is_drawn_at_its_edge() -> None:
    points = {"jing": course(("2026-01-06", Fraction(10) ** 500))}
    (jing,) = spending_charts(
        verification(rows=[spending("jing", Fraction(10) ** 500)], points=points)
    )
    assert _drawn(jing.line)[-1] == (RIGHT, TOP)
    assert jing.y_ticks[-1].label == "≥150 %"
    assert ">100000 %" in jing.description.en


def test_a_node_without_releases_has_a_flat_line() -> None:
    (chart,) = spending_charts(verification(rows=[spending("jing", Fraction(0))], points={}))
    assert chart.line == "M42 124H354"


def test_a_cap_of_nothing_is_above_as_soon_as_anything_is_spent() -> None:
    rows = [spending("jing", CAP, cap=Fraction(0))]
    points = {"jing": course(("2026-01-06", CAP))}
    assert spending_charts(verification(rows=rows, points=points))[0].above


def test_a_later_period_begins_anew_against_its_own_cap() -> None:
    rows = [
        spending("jing", CAP, period=PERIOD),
        spending("jing", CAP, period=NEXT, cap=2 * CAP),
    ]
    points = {
        "jing": course(
            ("2026-01-01", Fraction(0)),
            ("2026-07-01", CAP),
            ("2027-01-01", Fraction(0)),
            ("2027-07-01", CAP),
        )
    }
    found = replace(verification(rows=rows, points=points), checked_at="2029-01-01T00:00:00Z")
    (chart,) = spending_charts(found)
    (middle,) = chart.periods
    assert middle == (LEFT + RIGHT) / 2
    corners = _drawn(chart.line)
    assert (middle, BOTTOM) in corners
    assert corners[-1] == (RIGHT, pytest.approx((BOTTOM + chart.cap_y) / 2, abs=0.06))
    assert chart.x_ticks[-1].label == "2028-01-01"  # no longer than the last period


def test_a_check_dated_before_the_period_still_draws() -> None:
    early = replace(verification(), checked_at="2020-01-01T00:00:00Z")
    assert len(spending_charts(early)) == 2
    none = replace(early, course={})
    assert spending_charts(none)[0].line == "M42 124H354"


def test_no_spending_gives_no_chart() -> None:
    assert spending_charts(verification(rows=[])) == ()


def test_a_hundred_thousand_points_become_a_bounded_path() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    points = tuple(
        Point(time_text(start + timedelta(seconds=8 * number)), CAP * number / 100_000, 0.0)
        for number in range(100_000)
    )
    (chart,) = spending_charts(verification(rows=[spending("jing", CAP)], points={"jing": points}))
    assert len(chart.line) < 50_000


@given(
    st.lists(
        st.tuples(st.integers(0, 10 * 86_400), st.fractions(0, 2, max_denominator=100)),
        max_size=40,
    )
)
def test_the_line_is_that_of_a_slow_reference(steps: list[tuple[int, Fraction]]) -> None:
    """At every column: the height of the last step until there, and its highest one is touched."""
    steps.sort(key=lambda step: step[0])
    start = datetime(2026, 1, 1, tzinfo=UTC)
    points = tuple(
        Point(time_text(start + timedelta(seconds=at)), CAP * share, 0.0) for at, share in steps
    )
    (chart,) = spending_charts(verification(rows=[spending("jing", CAP)], points={"jing": points}))
    room = Fraction(3, 2) if any(share > 1 for _, share in steps) else Fraction(11, 10)
    corners = _drawn(chart.line)

    def x(at: int) -> float:
        return round(LEFT + (RIGHT - LEFT) * at / (10 * 86_400), 1)

    def y(share: Fraction) -> float:
        return round(BOTTOM - HEIGHT * float(min(share, room) / room), 1)

    for at, _ in steps:
        until = [share for other, share in steps if x(other) <= x(at)]
        here = [share for other, share in steps if x(other) == x(at)]
        drawn = [corner[1] for corner in corners if corner[0] == x(at)]
        assert min(drawn) <= y(max(here))
        after = [c for c in corners if c[0] == x(at)][-1] if x(at) < RIGHT else corners[-1]
        assert after[1] == y(until[-1])
    assert [corner[0] for corner in corners] == sorted(corner[0] for corner in corners)
