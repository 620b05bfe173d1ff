"""The second accountant: close to the exact conversion, and never below it."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest

from hejin_privacy.accounting import epsilon
from hejin_privacy.shared_noise import summed_rho
from hejin_regulator.second_accountant import (
    GRID_SLACK,
    composed_epsilon,
    node_multiplier,
    shared_multiplier,
)


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


@pytest.mark.parametrize("sigma", [Fraction(1, 2), Fraction(1), Fraction(2), Fraction(1 << 30)])
@pytest.mark.parametrize("honest", [1, 2, 14, 900])
@pytest.mark.parametrize(("dimension", "delta_squared"), [(1, 9), (91, 1 << 40), (4_000_000, 1)])
def test_shared_noise_is_priced_as_by_the_first_accountant(
    sigma: Fraction, honest: int, dimension: int, delta_squared: int
) -> None:
    rho = float(summed_rho(delta_squared, dimension, sigma, honest))
    for r in (1, 3):
        second = shared_multiplier(sigma, delta_squared, dimension, honest, r)
        assert 1 / (2 * second**2) == pytest.approx(r**2 * rho, rel=1e-9)


def test_a_nodes_own_noise_is_priced_as_r_releases() -> None:
    assert node_multiplier(Fraction(1 << 21), 1 << 40, 1) == 2.0
    assert node_multiplier(Fraction(1 << 21), 1 << 40, 4) == 1.0
