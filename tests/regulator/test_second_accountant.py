"""The second accountant: close to the exact conversion, and never below it."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest

from hejin_privacy.accounting import epsilon
from hejin_regulator.second_accountant import GRID_SLACK, composed_epsilon


@pytest.mark.parametrize("rho", [1e-6, 1e-4, 1e-3, 0.01, 0.1, 1.0, 10.0, 1000.0])
@pytest.mark.parametrize("delta", [1e-6, 1e-9])
def test_it_reads_the_exact_value_or_a_trifle_more(rho: float, delta: float) -> None:
    exact = epsilon(rho, delta)
    second = composed_epsilon({math.sqrt(1 / (2 * rho)): 1}, delta)
    assert exact * (1 - 1e-9) <= second <= exact * (1 + GRID_SLACK / 2)


def test_releases_compose_by_adding_their_costs() -> None:
    releases = {5.0: 3, 10.0: 8}
    rho = Fraction(3, 2 * 25) + Fraction(8, 2 * 100)
    second = composed_epsilon(releases, 1e-6)
    assert second == pytest.approx(epsilon(rho, 1e-6), rel=GRID_SLACK)


def test_nothing_costs_nothing() -> None:
    assert composed_epsilon({}, 1e-6) == 0.0
