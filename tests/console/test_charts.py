"""Charts: known shares at known coordinates, told in both languages, nothing drawn outside."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import example, given
from hypothesis import strategies as st

from hejin_console.chart import (
    BAR_LEFT,
    BAR_RIGHT,
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    bars,
    columns,
    percent_of,
    trend,
)
from hejin_trust.text import Text

START = datetime(2026, 1, 1, tzinfo=UTC)
NAME = Text("orders", "订单")


def test_a_trend_stands_at_known_coordinates_and_tells_its_end() -> None:
    points = [(START, 0.95), (START + timedelta(days=30), 1.0)]
    drawn = trend(NAME, [(NAME, points)])
    # From 90 % to 100 % the drawing is 116 units high: 95 % is half of the way.
    assert drawn.series[0].path == f"M{LEFT} {(BOTTOM + TOP) / 2:g}L{RIGHT} {TOP}"
    assert drawn.series[0].dots == ((LEFT, (BOTTOM + TOP) / 2), (RIGHT, TOP))
    assert [tick.label for tick in drawn.y_ticks] == ["90 %", "92.5 %", "95 %", "97.5 %", "100 %"]
    assert [drawn.x_ticks[0].label, drawn.x_ticks[-1].label] == ["2026-01-01", "2026-01-31"]
    assert drawn.description == Text("At the end: orders 100.0 %.", "期末：订单 100.0 %。")


def test_a_trend_of_one_point_and_one_that_falls_low_are_drawn() -> None:
    one = trend(NAME, [(NAME, [(START, 0.6)])])
    assert one.series[0].dots == ((LEFT, BOTTOM - (BOTTOM - TOP) * 0.2),)
    assert one.y_ticks[0].label == "50 %"
    low = trend(NAME, [(NAME, [(START, 0.0), (START, 1.0)])])
    assert low.y_ticks[0].label == "0 %"


def test_bars_are_as_long_as_their_share_and_mark_what_is_below_its_least() -> None:
    drawn = bars(NAME, [(NAME, 0.5, 0.9), (NAME, 0.9, 0.9), (NAME, 0.25, None)])
    room = BAR_RIGHT - BAR_LEFT
    assert [bar.width for bar in drawn.bars] == [room / 2, round(room * 0.9, 1), room / 4]
    assert [bar.failed for bar in drawn.bars] == [True, False, False]
    assert drawn.bars[0].mark == drawn.bars[1].mark == round(BAR_LEFT + room * 0.9, 1)
    assert drawn.bars[2].mark is None
    assert drawn.description.zh == "订单 50.0 %；订单 90.0 %；订单 25.0 %。"


def test_columns_share_one_scale_and_bear_at_most_seven_labels() -> None:
    drawn = columns(NAME, [(f"{month:02}", float(month)) for month in range(1, 25)])
    assert drawn.columns[23].y == TOP
    assert drawn.columns[11].y == (TOP + BOTTOM) / 2
    assert [tick.label for tick in drawn.x_ticks] == ["01", "05", "09", "13", "17", "21"]
    assert [tick.label for tick in drawn.y_ticks] == ["0", "12", "24"]
    assert columns(NAME, [("x", 105.0)]).y_ticks[-1].label == "120"  # half of it reads well too
    assert columns(NAME, []).columns == ()


def test_a_share_is_rounded_down_so_that_only_all_is_a_hundred_percent() -> None:
    assert percent_of(1.0) == "100.0 %"
    assert percent_of(0.99999) == "99.9 %"
    assert percent_of(0.57) == "57.0 %"
    assert percent_of(0.0) == "0.0 %"


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
@example([5e-324])
def test_nothing_is_drawn_outside(shares: list[float]) -> None:
    points = [(START + timedelta(hours=number), share) for number, share in enumerate(shares)]
    for x, y in trend(NAME, [(NAME, points)]).series[0].dots:
        assert LEFT <= x <= RIGHT
        assert TOP <= y <= BOTTOM
    for bar in bars(NAME, [(NAME, share, 0.5) for share in shares]).bars:
        assert 0 <= bar.width <= BAR_RIGHT - BAR_LEFT
    for column in columns(NAME, [("x", share) for share in shares]).columns:
        assert LEFT <= column.x <= column.x + column.width <= RIGHT + 0.2
        assert TOP <= column.y <= BOTTOM
