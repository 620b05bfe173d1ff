"""The guard: whatever the data hold, no enterprise moves the sum by more than Delta."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hejin_privacy.contribution import Contribution, Dense, OneHots, quantised_sum
from hejin_privacy.mechanism import MAX_DELTA_SQUARED, SCALE, delta_squared

nasty = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.floats(-2, 2),
    st.sampled_from([0.0, -0.0, 5e-324, 2.0**-21, 1.5 * 2.0**-20, 1e308, -1.8e308, 2.0**43]),
)
matrices = hnp.arrays(
    np.float64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=7), elements=nasty
)
limits = st.one_of(st.integers(1, 64), st.integers(2**38, 2**44), st.integers(2**59, 2**60))


def slow_row(row: list[float], delta_sq: int, scale: int) -> list[int]:
    """One enterprise in exact rationals: replace, round half to even, guard."""
    steps = [round(Fraction(v) * scale) if math.isfinite(v) else 0 for v in row]
    return steps if sum(u * u for u in steps) <= delta_sq else [0] * len(row)


def slow_ones(row: list[int], dimension: int, delta_sq: int, scale: int) -> list[int]:
    steps = [scale * row.count(cell) for cell in range(dimension)]
    return steps if sum(u * u for u in steps) <= delta_sq else [0] * dimension


def column_sums(rows: list[list[int]], dimension: int) -> list[int]:
    return [sum(row[j] for row in rows) for j in range(dimension)]


@given(values=matrices, delta_sq=limits)
@example(values=np.full((1, 4), 2.0**31), delta_sq=MAX_DELTA_SQUARED)  # (2^51)^2 leaves int64
@example(values=np.full((1, 7), 2.0**10), delta_sq=MAX_DELTA_SQUARED)  # 7 squares of 2^60 each
def test_a_dense_sum_equals_the_slow_reference(values: np.ndarray, delta_sq: int) -> None:
    dimension = values.shape[1]
    rows = [slow_row(row, delta_sq, SCALE) for row in values.tolist()]
    found = quantised_sum(Dense(values), delta_sq, SCALE, dimension)
    assert found.dtype == np.int64
    assert found.tolist() == column_sums(rows, dimension)


@given(row=hnp.arrays(np.float64, st.tuples(st.just(1), st.integers(1, 9)), elements=nasty),
       delta_sq=limits)  # fmt: skip
def test_no_real_row_exceeds_the_guard(row: np.ndarray, delta_sq: int) -> None:
    found = quantised_sum(Dense(row), delta_sq, SCALE, row.shape[1])
    assert sum(u * u for u in found.tolist()) <= delta_sq


indices = st.integers(1, 6).flatmap(
    lambda k: hnp.arrays(
        np.int32,
        st.tuples(st.integers(0, 8), st.just(k)),
        elements=st.one_of(st.integers(-1, 9), st.sampled_from([-(2**31), 2**31 - 1, 10, 11])),
    )
)


@given(cells=indices, delta_sq=st.integers(1, 12 * SCALE**2))
def test_a_one_hot_sum_equals_the_slow_reference(cells: np.ndarray, delta_sq: int) -> None:
    rows = [slow_ones(row, 10, delta_sq, SCALE) for row in cells.tolist()]
    found = quantised_sum(OneHots(cells, 10), delta_sq, SCALE, 10)
    assert found.tolist() == column_sums(rows, 10)


@given(cells=indices.filter(lambda a: len(a) > 0), delta_sq=st.integers(1, 12 * SCALE**2))
def test_no_one_hot_row_exceeds_the_guard(cells: np.ndarray, delta_sq: int) -> None:
    found = quantised_sum(OneHots(cells[:1], 10), delta_sq, SCALE, 10)
    assert sum(u * u for u in found.tolist()) <= delta_sq


def test_a_row_that_repeats_a_cell_counts_nothing() -> None:
    squared = delta_squared(Fraction(3), 3, counts=True)
    cells = np.array([[1, 4, 7], [4, 4, 7], [-1, 4, -1]])
    found = quantised_sum(OneHots(cells, 8), squared, SCALE, 8)
    assert (found // SCALE).tolist() == [0, 1, 0, 0, 2, 0, 0, 1]


def test_an_honest_row_at_the_bound_is_kept() -> None:
    # 16 coordinates of 1/4 + rounding: norm exactly 1, every coordinate exact in steps.
    squared = delta_squared(Fraction(1), 16, counts=False)
    found = quantised_sum(Dense(np.full((3, 16), 0.25)), squared, SCALE, 16)
    assert found.tolist() == [3 * SCALE // 4] * 16


@given(
    values=hnp.arrays(np.float64, (4, 12), elements=st.floats(-1, 1, width=32)),
)
def test_rounding_never_costs_a_row_that_keeps_its_bound(values: np.ndarray) -> None:
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    clipped = values / np.maximum(norms, 1.0)
    squared = delta_squared(Fraction(1), 12, counts=False)
    found = quantised_sum(Dense(clipped), squared, SCALE, 12)
    assert np.abs(found / SCALE - clipped.sum(axis=0)).max() <= 4 * 0.5 / SCALE + 1e-12


def test_values_that_are_not_finite_count_as_zero_without_touching_the_row() -> None:
    values = np.array([[0.5, math.nan, math.inf], [-math.inf, 0.25, -0.0]])
    found = quantised_sum(Dense(values), 2**40, SCALE, 3)
    assert found.tolist() == [SCALE // 2, SCALE // 4, 0]


def test_squares_of_wide_rows_are_added_without_overflow() -> None:
    # Each square is 2^60: sixteen of them are 2^64, which is 0 in int64 arithmetic.
    row = np.full((1, 16), 2.0**10)
    assert not quantised_sum(Dense(row), MAX_DELTA_SQUARED, SCALE, 16).any()
    row[0, 1:] = 0.0
    assert quantised_sum(Dense(row), MAX_DELTA_SQUARED, SCALE, 16)[0] == 2**30


def test_chunks_add_up_to_the_whole() -> None:
    generator = np.random.default_rng(7)
    values = generator.normal(size=(1000, 300)) / 30  # several blocks of rows
    cells = generator.integers(-1, 300, size=(1000, 4))
    squared = 2**40

    def chunks() -> Iterator[Contribution]:
        for start in range(0, 1000, 130):
            yield Dense(values[start : start + 130])
            yield OneHots(cells[start : start + 130], 300)

    whole = quantised_sum(Dense(values), squared, SCALE, 300) + quantised_sum(
        OneHots(cells, 300), squared, SCALE, 300
    )
    assert np.array_equal(quantised_sum(chunks(), squared, SCALE, 300), whole)


@pytest.mark.parametrize(
    "nobody",
    [
        pytest.param([], id="no-chunk"),
        pytest.param(Dense(np.zeros((0, 5))), id="no-row"),
        pytest.param(OneHots(np.zeros((0, 2), dtype=np.int64), 5), id="no-index-row"),
        pytest.param(OneHots(np.zeros((3, 0), dtype=np.int64), 5), id="no-feature"),
    ],
)
def test_a_node_without_contributors_sums_to_zero(nobody: Contribution) -> None:
    found = quantised_sum(nobody, 2**40, SCALE, 5)
    assert found.tolist() == [0] * 5


def test_the_callers_values_are_left_alone() -> None:
    values = np.array([[9.0, math.nan]])
    quantised_sum(Dense(values), 2**40, SCALE, 2)
    assert values[0, 0] == 9.0
    assert math.isnan(values[0, 1])


def test_a_one_hot_chunk_never_becomes_a_matrix_of_all_cells() -> None:
    # 10^4 enterprises by 10^6 cells would be 80 GB.
    cells = np.arange(10_000, dtype=np.int64)[:, None] * 100
    assert quantised_sum(OneHots(cells, 1_000_000), 2**40, SCALE, 1_000_000).sum() == 10_000 * SCALE


@pytest.mark.parametrize(
    ("delta_sq", "scale", "dimension"),
    [
        pytest.param(0, SCALE, 2, id="no-bound"),
        pytest.param(MAX_DELTA_SQUARED + 1, SCALE, 2, id="bound-too-large"),
        pytest.param(2**40, 3, 2, id="scale-not-a-power-of-two"),
        pytest.param(2**40, 2 * SCALE, 2, id="scale-too-large"),
        pytest.param(2**40, SCALE, 3, id="other-dimension"),
        pytest.param(2**40, SCALE, 0, id="no-dimension"),
    ],
)
def test_wrong_parameters_are_refused(delta_sq: int, scale: int, dimension: int) -> None:
    with pytest.raises(ValueError):
        quantised_sum(Dense(np.zeros((1, 2))), delta_sq, scale, dimension)


def test_a_contribution_of_another_shape_or_type_is_refused() -> None:
    with pytest.raises(ValueError):
        Dense(np.zeros(3))
    with pytest.raises(ValueError):
        Dense(np.zeros((2, 2), dtype=np.float32))
    with pytest.raises(ValueError):
        OneHots(np.zeros(3, dtype=np.int64), 4)
    with pytest.raises(ValueError):
        OneHots(np.zeros((2, 2), dtype=np.uint64), 4)
