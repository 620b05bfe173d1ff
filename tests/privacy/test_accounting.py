"""zCDP to epsilon: against 50 digits, the exact Gaussian and another accountant."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from pathlib import Path

import dp_accounting
import pytest
from dp_accounting.rdp import RdpAccountant
from hypothesis import given
from hypothesis import strategies as st
from mpmath import erfc, exp, mpf, sqrt, workdps  # type: ignore[import-untyped]

from hejin_privacy.accounting import epsilon, rho_for, round_down, round_up
from hejin_privacy.errors import ParameterError

# 50 digits by mpmath 1.3; generator: vectors/make_privacy_vectors.py.
VECTORS = json.loads(Path(__file__).with_name("vectors").joinpath("privacy.json").read_text())

rhos = st.fractions(Fraction(1, 2**60), Fraction(2**20))
deltas = st.floats(1e-15, 0.5)


@pytest.mark.parametrize(
    "vector", VECTORS["epsilon"], ids=lambda v: f"rho={v['rho']},delta={v['delta']}"
)
def test_epsilon_known_answers(vector: dict[str, str]) -> None:
    expected = float(vector["epsilon"])
    found = epsilon(Fraction(vector["rho"]), float(vector["delta"]))
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert found >= expected - 1e-12 * max(1.0, expected)


def test_epsilon_of_nothing_spent_is_zero() -> None:
    assert epsilon(Fraction(0), 1e-6) == 0.0


def test_a_rho_between_two_doubles_counts_as_the_larger() -> None:
    between = Fraction(2**20) + Fraction(1, 2**60)
    assert epsilon(between, 1e-6) == epsilon(math.nextafter(2.0**20, math.inf), 1e-6)
    assert epsilon(between, 1e-6) > epsilon(2.0**20, 1e-6)


@pytest.mark.parametrize("rho", [1e-300, 1e300, 5e-324])
@pytest.mark.parametrize("delta", [1e-300, 1e-6, 1 - 1e-16])
def test_epsilon_stays_finite_at_the_edges_of_the_doubles(rho: float, delta: float) -> None:
    found = epsilon(rho, delta)
    assert math.isfinite(found)
    assert found >= 0


def gaussian_delta(at: float, rho: Fraction) -> mpf:
    """Balle and Wang 2018, theorem 8 (arXiv:1805.06530), for noise multiplier 1/sqrt(2 rho)."""
    with workdps(60):
        noise = 1 / sqrt(2 * mpf(rho.numerator) / rho.denominator)

        def phi(x: mpf) -> mpf:
            return erfc(-x / sqrt(mpf(2))) / 2

        near, far = 1 / (2 * noise), mpf(at) * noise
        return phi(near - far) - exp(mpf(at)) * phi(-near - far)


@given(rho=st.fractions(Fraction(1, 2**30), Fraction(200)), delta=deltas)
def test_epsilon_is_never_below_that_of_the_exact_gaussian(rho: Fraction, delta: float) -> None:
    # The discrete Gaussian tends to it as sigma grows; a smaller delta here means more epsilon.
    assert gaussian_delta(epsilon(rho, delta), rho) <= delta


@pytest.mark.parametrize("rho", [1e-4, 1e-3, 0.01, 0.0881, 0.5, 2.0, 20.0])
@pytest.mark.parametrize("delta", [1e-9, 1e-6, 1e-5])
def test_dp_accounting_on_its_coarser_grid_of_orders_is_never_below(
    rho: float, delta: float
) -> None:
    accountant = RdpAccountant()
    accountant.compose(dp_accounting.ZCDpEvent(rho))
    theirs = accountant.get_epsilon(delta)
    assert epsilon(rho, delta) <= theirs * (1 + 1e-12)
    assert theirs <= 1.2 * epsilon(rho, delta)


@given(rho=rhos, delta=deltas)
def test_no_order_alpha_gives_a_smaller_epsilon(rho: Fraction, delta: float) -> None:
    found, cost = epsilon(rho, delta), float(rho)
    for step in range(-60, 61):
        beta = math.exp(step / 3)
        there = (
            cost * (1 + beta)
            - math.log1p(1 / beta)
            - (math.log(delta) + math.log1p(beta)) / beta
        )  # fmt: skip
        assert found <= max(0.0, there) * (1 + 1e-12) + 1e-12


@given(small=rhos, more=rhos, delta=deltas)
def test_more_rho_is_never_less_epsilon(small: Fraction, more: Fraction, delta: float) -> None:
    assert epsilon(small, delta) <= epsilon(small + more, delta) * (1 + 1e-14)


@given(target=st.floats(1e-3, 50), delta=st.floats(1e-12, 1e-3))
def test_rho_for_is_the_largest_step_within_epsilon(target: float, delta: float) -> None:
    rho = rho_for(target, delta)
    assert 2**64 % rho.denominator == 0
    assert epsilon(rho, delta) <= target < epsilon(rho + Fraction(1, 2**64), delta)


@pytest.mark.parametrize("target", [0.0, -1.0, math.nan, math.inf, 1e7])
def test_an_unset_or_absurd_epsilon_is_refused(target: float) -> None:
    with pytest.raises(ParameterError):
        rho_for(target, 1e-6)


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-6, 2.0, math.nan])
def test_a_delta_that_is_no_probability_is_refused(delta: float) -> None:
    with pytest.raises(ParameterError):
        epsilon(Fraction(1), delta)
    with pytest.raises(ParameterError):
        rho_for(1.0, delta)


@pytest.mark.parametrize(
    "rho", [Fraction(-1, 10**400), -1.0, math.nan, math.inf, Fraction(10**400)]
)
def test_a_rho_that_is_no_cost_is_refused(rho: Fraction | float) -> None:
    with pytest.raises(ParameterError):
        epsilon(rho, 1e-6)


@given(rho=st.fractions(0, 100))
def test_rounding_moves_less_than_one_step_and_in_its_direction(rho: Fraction) -> None:
    up, down, step = round_up(rho), round_down(rho), Fraction(1, 2**64)
    assert down <= rho <= up
    assert up - down == (0 if 2**64 % rho.denominator == 0 else step)
    assert round_up(up) == up == round_down(up)
