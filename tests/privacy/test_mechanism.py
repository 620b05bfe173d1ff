"""Sensitivity, noise and cost: exact, minimal, and refused when they do not fit together."""

from __future__ import annotations

import dataclasses
import json
import math
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hejin_privacy.accounting import round_down, round_up
from hejin_privacy.errors import (
    MechanismError,
    ModeUnavailableError,
    OverflowBoundError,
)
from hejin_privacy.mechanism import (
    MAX_DELTA_SQUARED,
    MAX_SIGMA,
    MIN_SIGMA,
    SCALE,
    Mechanism,
    check_overflow,
    check_sigma,
    delta_squared,
    node_sigma,
)
from hejin_trust.canonical import DocumentError, decode, encode

VECTORS = json.loads(Path(__file__).with_name("vectors").joinpath("privacy.json").read_text())

bounds = st.fractions(Fraction(1, 1000), Fraction(1000))
step = Fraction(1, 1024)


def example(**changes: object) -> Mechanism:
    made = Mechanism.planned(
        statistic="gram",
        version=1,
        dimension=91,
        bound_squared=Fraction(1, 2),
        nonzeros=91,
        counts=False,
        rho=Fraction(1, 50),
        n=8,
        r=1,
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "vector", VECTORS["delta_squared"], ids=lambda v: f"{v['bound_squared']},s={v['nonzeros']}"
)
def test_delta_squared_known_answers(vector: dict[str, str]) -> None:
    found = delta_squared(Fraction(vector["bound_squared"]), int(vector["nonzeros"]), counts=False)
    assert found == int(vector["delta_squared"])


@given(bound=bounds, nonzeros=st.integers(1, 10_000))
def test_delta_squared_is_the_smallest_integer_that_bounds_rounded_values(
    bound: Fraction, nonzeros: int
) -> None:
    found = delta_squared(bound, nonzeros, counts=False)
    # n >= (a + b)^2 with a^2 = S^2 C^2 and b^2 = s/4  <=>  n - a^2 - b^2 >= 2ab >= 0
    a, b = SCALE * SCALE * bound, Fraction(nonzeros, 4)

    def holds(n: int) -> bool:
        return n >= a + b and (n - a - b) ** 2 >= 4 * a * b

    assert holds(found)
    assert not holds(found - 1)


@given(bound=bounds)
def test_delta_squared_of_counts_is_exact(bound: Fraction) -> None:
    found = delta_squared(bound, 5, counts=True)
    assert found - 1 < SCALE * SCALE * bound <= found
    assert delta_squared(Fraction(12), 12, counts=True) == 12 * 2**40


@pytest.mark.parametrize(
    ("bound", "nonzeros"),
    [
        pytest.param(Fraction(0), 1, id="zero"),
        pytest.param(Fraction(-1), 1, id="negative"),
        pytest.param(Fraction(2**20 + 1), 1, id="beyond-64-bits"),
        pytest.param(Fraction(1), 0, id="no-coordinate"),
        pytest.param(1.0, 1, id="float"),
    ],
)
def test_a_bound_that_cannot_be_summed_is_refused(bound: Fraction, nonzeros: int) -> None:
    with pytest.raises(MechanismError):
        delta_squared(bound, nonzeros, counts=False)


@given(
    delta_sq=st.integers(2**20, 2**50),
    rho=st.fractions(Fraction(1, 2**20), Fraction(4)),
    r=st.integers(1, 5),
)
def test_sigma_keeps_within_rho_and_is_minimal(delta_sq: int, rho: Fraction, r: int) -> None:
    sigma = node_sigma(delta_sq, rho, r)
    check_sigma(sigma)
    assert r * delta_sq / (2 * sigma**2) <= rho
    smaller = sigma - step
    assert sigma == MIN_SIGMA or r * delta_sq / (2 * smaller**2) > rho
    assert Fraction(float(sigma)) == sigma


def test_sigma_of_a_perfect_square_is_not_rounded_up() -> None:
    assert node_sigma(2**40, Fraction(1, 2)) == 2**20


@given(rho=st.fractions(Fraction(1, 2**20), Fraction(4)))
def test_a_share_rounded_down_is_never_overcharged(rho: Fraction) -> None:
    share = round_down(rho)
    sigma = node_sigma(2**41 + 12345, share)
    assert round_up((2**41 + 12345) / (2 * sigma**2)) <= share


@pytest.mark.parametrize(
    ("delta_sq", "rho", "r"),
    [
        pytest.param(2**40, Fraction(0), 1, id="no-budget"),
        pytest.param(2**40, Fraction(-1), 1, id="negative"),
        pytest.param(2**40, 0.5, 1, id="float"),
        pytest.param(2**40, Fraction(1, 2**60), 1, id="noise-beyond-2^42"),
        pytest.param(0, Fraction(1), 1, id="no-sensitivity"),
        pytest.param(2**60 + 1, Fraction(1), 1, id="sensitivity-too-large"),
        pytest.param(2**40, Fraction(1), 0, id="r-zero"),
    ],
)
def test_noise_that_cannot_be_planned_is_refused(delta_sq: int, rho: Fraction, r: int) -> None:
    with pytest.raises(MechanismError):
        node_sigma(delta_sq, rho, r)


@pytest.mark.parametrize(
    "sigma",
    [
        pytest.param(Fraction(0), id="zero"),
        pytest.param(Fraction(-2048), id="negative"),
        pytest.param(Fraction(1, 2**1074), id="tiny"),
        pytest.param(MIN_SIGMA - step, id="below-2^10"),
        pytest.param(MAX_SIGMA + step, id="above-2^42"),
        pytest.param(Fraction(4097, 3), id="not-dyadic"),
        pytest.param(2048 + step / 2, id="finer-than-2^-10"),
        pytest.param(2048.0, id="float"),
    ],
)
def test_a_sigma_that_is_not_allowed_is_refused(sigma: Fraction) -> None:
    with pytest.raises(MechanismError):
        check_sigma(sigma)
    with pytest.raises(MechanismError):
        example(sigma=sigma)


def test_cost_is_delta_squared_over_two_sigma_squared_times_r() -> None:
    made = example()
    assert made.cost() == Fraction(made.delta_squared, 2) / made.sigma**2
    assert dataclasses.replace(made, r=3).cost() == 3 * made.cost()
    assert made.cost() <= Fraction(1, 50)


def test_r_nodes_pay_for_their_r_releases_with_more_noise() -> None:
    twice = Mechanism.planned(
        statistic="histogram",
        version=1,
        dimension=300,
        bound_squared=Fraction(12),
        nonzeros=12,
        counts=True,
        rho=Fraction(1, 10),
        n=8,
        r=2,
    )
    assert twice.cost() <= Fraction(1, 10)
    assert 2 * twice.delta_squared / (2 * (twice.sigma - step) ** 2) > Fraction(1, 10)


def test_a_mechanism_survives_its_document() -> None:
    made = example(r=2)
    assert Mechanism.from_body(decode(encode(made.body()))) == made


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"delta_squared": 2**39 + 1}, id="sensitivity-understated"),
        pytest.param({"delta_squared": 2**41}, id="sensitivity-overstated"),
        pytest.param({"bound_squared": Fraction(1)}, id="bound-raised"),
        pytest.param({"nonzeros": 92}, id="more-coordinates-than-the-sum"),
        pytest.param({"nonzeros": 90}, id="fewer-rounded-coordinates"),
        pytest.param({"dimension": 0}, id="no-dimension"),
        pytest.param({"dimension": 4_000_001}, id="dimension-too-large"),
        pytest.param({"scale": 2**19}, id="other-scale"),
        pytest.param({"statistic": "Gram;"}, id="statistic-name"),
        pytest.param({"version": 0}, id="version"),
        pytest.param({"n": 0}, id="no-nodes"),
        pytest.param({"n": 1001}, id="too-many-nodes"),
        pytest.param({"m": 3}, id="survivors-in-mode-node"),
        pytest.param({"tau": 3}, id="quorum-in-mode-node"),
        pytest.param({"t": 1}, id="colluders-in-mode-node"),
        pytest.param({"r": 0}, id="r"),
        pytest.param({"mode": "none"}, id="unknown-mode"),
    ],
)
def test_a_mechanism_that_contradicts_itself_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(MechanismError):
        example(**changes)


def test_an_unknown_mode_is_told_from_a_contradiction() -> None:
    with pytest.raises(ModeUnavailableError, match="the noise mode must be"):
        example(mode="central")


@pytest.mark.parametrize("squared", ["", "0", "-1", "01", "1e3", "²", "1" * 21])
def test_a_delta_squared_that_is_not_written_in_digits_is_refused(squared: str) -> None:
    with pytest.raises((MechanismError, DocumentError)):
        Mechanism.from_body({**example().body(), "delta_squared": squared})


def test_an_unknown_field_in_a_mechanism_is_refused() -> None:
    with pytest.raises(DocumentError):
        Mechanism.from_body({**example().body(), "seed": 7})


def test_a_total_below_2_to_the_62_passes_and_one_above_is_refused() -> None:
    squared, sigma = 2**40, Fraction(2**20)
    most = (2**62 - 1 - 12 * 8 * 2**20) // 2**20
    check_overflow(most, squared, sigma, nodes=8)
    with pytest.raises(OverflowBoundError):
        check_overflow(most + 1, squared, sigma, nodes=8)


def test_the_overflow_check_counts_the_noise_of_every_node() -> None:
    enterprises = (2**62 - 13 * 2**42) // math.isqrt(MAX_DELTA_SQUARED)
    check_overflow(enterprises, MAX_DELTA_SQUARED, MAX_SIGMA)
    with pytest.raises(OverflowBoundError):
        check_overflow(enterprises, MAX_DELTA_SQUARED, MAX_SIGMA, nodes=2)


@pytest.mark.parametrize(("enterprises", "nodes"), [(-1, 1), (1, 0)])
def test_missing_size_bands_are_refused(enterprises: int, nodes: int) -> None:
    with pytest.raises(OverflowBoundError):
        check_overflow(enterprises, 2**40, Fraction(2**20), nodes)
