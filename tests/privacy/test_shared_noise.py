"""Noise that nodes add together: never under-charged, minimal, and a refusal of unsafe sizes."""

from __future__ import annotations

import dataclasses
import json
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hejin_privacy.accounting import round_down, round_up
from hejin_privacy.errors import MechanismError, ThresholdError
from hejin_privacy.mechanism import (
    MIN_SIGMA,
    Mechanism,
    check_sigma,
    node_sigma,
    shared_cost,
    shared_sigma,
)
from hejin_privacy.shared_noise import COST_GRAIN, excess, summed_rho
from hejin_trust.canonical import decode, encode

VECTORS = json.loads(Path(__file__).with_name("vectors").joinpath("privacy.json").read_text())
STEP = Fraction(1, 1024)


def example(**changes: object) -> Mechanism:
    values: dict[str, object] = {
        "statistic": "gram",
        "version": 1,
        "dimension": 91,
        "bound_squared": Fraction(1, 2),
        "nonzeros": 91,
        "counts": False,
        "rho": Fraction(1, 50),
        "n": 20,
        "r": 1,
        "mode": "shared",
        "tau": 16,
        "m": 16,
        "t": 2,
        **changes,
    }
    return Mechanism.planned(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "vector", VECTORS["summed"], ids=lambda v: f"sigma={v['sigma']},h={v['summands']}"
)
def test_the_cost_is_that_of_the_theorem_and_never_below_it(vector: dict[str, str]) -> None:
    sigma, summands = Fraction(vector["sigma"]), int(vector["summands"])
    # The vectors have 50 digits.
    below, above = Fraction(1) - Fraction(1, 10**49), Fraction(1) + Fraction(1, 10**45)
    tau, told = excess(sigma, summands), Fraction(vector["tau"])
    assert told * below <= tau <= told * above + Fraction(1, 2**250)
    rho, told = (
        summed_rho(int(vector["delta_squared"]), int(vector["dimension"]), sigma, summands),
        Fraction(vector["rho"]),
    )
    assert told * below <= rho <= told * above + Fraction(1, 2 ** (COST_GRAIN - 1))


@pytest.mark.parametrize(
    ("delta_sq", "dimension", "first"), [(400, 1, True), (1, 1_000_000, False)]
)
def test_both_branches_of_the_minimum_are_taken(delta_sq: int, dimension: int, first: bool) -> None:
    sigma, summands = Fraction(1), 14
    near = (delta_sq / (summands * sigma**2) + excess(sigma, summands) * dimension / 2) / 2
    assert (summed_rho(delta_sq, dimension, sigma, summands) >= near) == first


@pytest.mark.parametrize(("sigma", "summands"), [(Fraction(1, 3), 2), (Fraction(1), 0)])
def test_the_theorem_is_not_used_where_it_does_not_hold(sigma: Fraction, summands: int) -> None:
    with pytest.raises(ValueError, match="sigma >= 1/2"):
        excess(sigma, summands)


@settings(deadline=None)  # wall time says nothing on a loaded machine
@given(
    delta_sq=st.integers(2**20, 2**50),
    rho=st.fractions(Fraction(1, 2**20), Fraction(4)),
    honest=st.integers(2, 900),
    dimension=st.integers(1, 4_000_000),
    r=st.integers(1, 5),
)
def test_sigma_keeps_within_rho_and_is_minimal(
    delta_sq: int, rho: Fraction, honest: int, dimension: int, r: int
) -> None:
    sigma = shared_sigma(delta_sq, rho, honest, dimension, r)
    check_sigma(sigma)
    assert shared_cost(delta_sq, sigma, honest, dimension, r) <= rho
    assert sigma == MIN_SIGMA or shared_cost(delta_sq, sigma - STEP, honest, dimension, r) > rho


def test_a_perfect_square_needs_one_step_more_for_tau() -> None:
    assert shared_sigma(4 * 2**40, Fraction(1, 2), 4, 10) == 2**20 + STEP
    assert shared_sigma(2**40, Fraction(1, 2), 1, 10) == node_sigma(2**40, Fraction(1, 2))


@given(rho=st.fractions(Fraction(1, 2**20), Fraction(4)), r=st.integers(1, 3))
def test_a_share_rounded_down_is_never_overcharged(rho: Fraction, r: int) -> None:
    made = example(rho=round_down(rho), r=r)
    assert round_up(made.cost()) <= round_down(rho)


def test_noise_that_cannot_be_planned_is_refused() -> None:
    for rho in (Fraction(0), Fraction(-1), 0.5, Fraction(1, 2**60)):
        with pytest.raises(MechanismError):
            shared_sigma(2**45, rho, 3, 10)  # type: ignore[arg-type]


def test_sharing_the_noise_saves_a_node_what_its_honest_fellows_add() -> None:
    alone = example(mode="node", tau=0, m=0, t=0)
    shared = example()
    assert float(alone.sigma / shared.sigma) ** 2 == pytest.approx(14, rel=1e-5)
    assert shared.cost_alone() == Fraction(shared.delta_squared, 2) / shared.sigma**2
    assert float(shared.cost_alone() / shared.cost()) == pytest.approx(14, rel=1e-5)
    assert alone.cost_alone() == alone.cost()


def test_an_enterprise_in_r_nodes_moves_the_total_r_times_as_far() -> None:
    once, twice = example(), example(r=2)
    assert dataclasses.replace(once, r=2).cost() == 4 * once.cost()
    assert dataclasses.replace(once, r=2).cost_alone() == 2 * once.cost_alone()
    assert float(twice.sigma / once.sigma) == pytest.approx(2, rel=1e-5)


def test_the_cost_counts_the_fewest_honest_nodes_not_those_present() -> None:
    fewer = example(n=20, tau=12, m=14, t=2)
    assert fewer.sigma > example().sigma
    assert float(fewer.cost() * fewer.sigma**2) == pytest.approx(
        float(example().cost() * example().sigma ** 2) * 14 / 12, rel=1e-9
    )


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"tau": 11}, id="two-quorums"),
        pytest.param({"m": 21}, id="more-survivors-than-nodes"),
        pytest.param({"tau": 0, "m": 0, "t": 0}, id="no-thresholds"),
        pytest.param({"t": 14}, id="no-honest-majority"),
    ],
)
def test_unsafe_thresholds_are_refused(changes: dict[str, int]) -> None:
    with pytest.raises(ThresholdError):
        example(**changes)
    with pytest.raises(ThresholdError):
        dataclasses.replace(example(), **changes)  # type: ignore[arg-type]


def test_a_mechanism_of_shared_noise_survives_its_document() -> None:
    made = example(r=2)
    assert Mechanism.from_body(decode(encode(made.body()))) == made
