"""What a sum of several nodes' discrete Gaussians costs: a little more than a single one."""

from __future__ import annotations

import math
from decimal import ROUND_FLOOR, Context, Decimal
from fractions import Fraction

COST_GRAIN = 128
"""Costs are multiples of 2^-128, rounded up: one branch of the theorem is irrational, and exact
fractions would not fit into a ledger entry."""

# Below pi^2 by less than 10^-49.
_PI_SQUARED = Fraction("9.8696044010893586188344909998761511353136994072407")
# Terms of tau below e^-200 count as 2^-288, which is more, and tau is rounded up to 2^-256: at
# sigma >= 2^10 every term is below e^-10,000,000.
_FARTHEST = 200
_FARTHEST_BITS = 288
_TAU_GRAIN = 256
_DIGITS = Context(prec=60, rounding=ROUND_FLOOR)


def excess(sigma: Fraction, summands: int) -> Fraction:
    """Return tau, how far `summands` discrete Gaussians added up are from one; rounded up.

    sigma     standard deviation of each, >= 1/2
    summands  h >= 1; one summand has tau = 0
    returns   10 sum_{k=1}^{h-1} exp(-2 pi^2 sigma^2 k/(k+1)), or up to 2^-250 more

    Source: Kairouz, Liu and Steinke 2021 (arXiv:2102.06387), theorem 1.
    """
    if summands < 1 or sigma < Fraction(1, 2):
        raise ValueError(f"tau is defined for sigma >= 1/2 and h >= 1, got {sigma} and {summands}")
    terms = (_exp_minus(2 * _PI_SQUARED * sigma**2 * k / (k + 1)) for k in range(1, summands))
    return _up(10 * sum(terms, Fraction(0)), _TAU_GRAIN)


def summed_rho(delta_sq: int, dimension: int, sigma: Fraction, summands: int) -> Fraction:
    """Return the zCDP cost of an integer sum under the noise of `summands` nodes, rounded up.

    delta_sq   squared L2 sensitivity, >= 1
    dimension  d, coordinates of the sum
    sigma      standard deviation of each node's discrete Gaussian, >= 1/2
    summands   h, nodes whose noise nobody else knows
    returns    a multiple of 2^-128: 1/2 min{Delta^2/(h sigma^2) + tau d/2,
               (Delta/(sqrt(h) sigma) + tau sqrt(d))^2} or up to 2^-127 more

    Source: Kairouz, Liu and Steinke 2021 (arXiv:2102.06387), theorem 1.
    """
    tau = excess(sigma, summands)
    ratio = delta_sq / (summands * sigma**2)
    # (a + b)^2 = a^2 + b^2 + 2 ab, of which 2 ab alone is irrational.
    crossed = 2 * tau * _root_above(ratio * dimension)
    least = min(ratio + tau * dimension / 2, ratio + tau**2 * dimension + crossed)
    return _up(least / 2, COST_GRAIN)


def _exp_minus(x: Fraction) -> Fraction:
    """Return e^-x or a little more, for x >= 0."""
    if x > _FARTHEST:
        return Fraction(1, 2**_FARTHEST_BITS)
    at_most = _DIGITS.divide(Decimal(x.numerator), Decimal(x.denominator))
    # exp is rounded to the nearest whatever the context says: the next number is above.
    return Fraction(_DIGITS.next_plus(_DIGITS.exp(at_most.copy_negate())))


def _root_above(value: Fraction) -> Fraction:
    """Return sqrt(value) rounded up to a multiple of 2^-256."""
    return Fraction(math.isqrt(math.floor(value * 4**_TAU_GRAIN)) + 1, 2**_TAU_GRAIN)


def _up(value: Fraction, grain: int) -> Fraction:
    return Fraction(math.ceil(value * 2**grain), 2**grain)
