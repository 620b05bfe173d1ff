"""Grids: which cell a value falls into, and how a cell reads."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hejin_models.grids import CategoryGrid, NumericGrid, linear, log, signed_log


def slow_cell(edges: tuple[float, ...], value: float) -> int:
    if not math.isfinite(value):
        return len(edges) + 1
    return sum(1 for edge in edges if edge <= value)


@settings(deadline=None)
@given(
    edges=st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=20, unique=True),
    values=st.lists(st.floats(), max_size=30),
)
def test_every_value_falls_into_the_cell_that_counts_the_edges_not_above_it(
    edges: list[float], values: list[float]
) -> None:
    grid = NumericGrid("linear", tuple(sorted(edges)))
    found = grid.index(np.array(values, dtype=np.float64))
    assert found.tolist() == [slow_cell(grid.edges, value) for value in values]
    assert found.dtype == np.int32


def test_a_linear_grid_has_its_cells_and_those_below_above_and_missing() -> None:
    grid = linear(0, 10, 5)
    assert grid.cells == 5 + 3
    assert grid.index(np.array([-1, 0, 1.9, 2, 10, math.nan, math.inf])).tolist() == [
        0, 1, 1, 2, 6, 7, 7,
    ]  # fmt: skip


def test_zero_falls_below_a_log_grid_and_into_the_middle_of_a_signed_one() -> None:
    assert log(1, 1000, 3).index(np.array([0.0, 1.0, 999.0, 1000.0])).tolist() == [0, 1, 3, 4]
    grid = signed_log(1, 100, 2)
    assert grid.edges == (-100, -10, -1, 1, 10, 100)
    assert grid.index(np.array([-200, -50, -1, 0, 1, 200])).tolist() == [0, 1, 3, 3, 4, 6]


def test_edges_are_rounded_so_that_machines_agree() -> None:
    assert log(1, 10, 3).edges == (1.0, 2.15443, 4.64159, 10.0)


def test_categories_match_trimmed_text_and_whole_numbers() -> None:
    grid = CategoryGrid(("1", "b"))
    column = np.array(["b", " b ", 1, 1.0, "B", None, math.nan, "", 2.5, True], dtype=object)
    assert grid.index_column(column).tolist() == [1, 1, 0, 0, 2, 3, 3, 3, 2, 0]
    assert grid.index_column(np.array([1.0, math.nan])).tolist() == [0, 3]
    assert grid.cells == 4


def test_what_is_no_number_is_missing() -> None:
    grid = linear(0, 1, 2)
    column = np.array(["0.4", "many", None, 0.9, "1e999"], dtype=object)
    assert grid.index_column(column).tolist() == [1, 4, 4, 2, 4]


def test_cells_read_as_ranges_in_both_languages() -> None:
    grid = linear(0, 10, 5)
    assert grid.describe(0).en == "< 0"
    assert grid.describe(1, 2).zh == "0 至 < 4"
    assert grid.describe(5, 6).en == ">= 8"
    assert grid.describe(0, 6).en == "any value"
    assert grid.describe(7).zh == "缺失"
    kinds = CategoryGrid(("a", "b"))
    assert kinds.describe(0, 1).zh == "a、b"
    assert [kinds.describe(cell).en for cell in (2, 3)] == ["other", "missing"]


@pytest.mark.parametrize(
    ("edges", "reason"),
    [((), "at least one"), ((1.0, 1.0), "ascend"), ((0.0, math.inf), "finite"),
     (tuple(map(float, range(500))), "may have")],
)  # fmt: skip
def test_impossible_edges_are_refused(edges: tuple[float, ...], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        NumericGrid("linear", edges)


def test_impossible_categories_and_ranges_are_refused() -> None:
    for values in ((), ("a", "a"), (" a",), tuple(map(str, range(500)))):
        with pytest.raises(ValueError):
            CategoryGrid(values)
    with pytest.raises(ValueError, match="below high"):
        linear(1, 1, 3)
    with pytest.raises(ValueError, match="0 < low"):
        log(0, 1, 3)
