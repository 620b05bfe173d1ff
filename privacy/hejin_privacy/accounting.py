"""Zero-concentrated differential privacy: exact costs, and their conversion to epsilon."""

from __future__ import annotations

import math
from fractions import Fraction

from hejin_privacy.errors import ParameterError

CHARGE_GRAIN = 64
"""Charges are multiples of 2^-64: a year of sums then still has a short denominator."""

_BISECTIONS = 100  # the log-space bracket is < 2000 wide: 2^-100 of it is below one float step


def round_up(rho: Fraction) -> Fraction:
    """Return the smallest multiple of 2^-64 that is >= rho: never less than was spent."""
    return Fraction(math.ceil(rho * 2**CHARGE_GRAIN), 2**CHARGE_GRAIN)


def round_down(rho: Fraction) -> Fraction:
    """Return the largest multiple of 2^-64 that is <= rho: a share whose charge stays within it."""
    return Fraction(math.floor(rho * 2**CHARGE_GRAIN), 2**CHARGE_GRAIN)


def epsilon(rho: Fraction | float, delta: float) -> float:
    """Return the epsilon for which rho-zCDP implies (epsilon, delta)-DP.

    rho      zCDP cost, finite, >= 0, no unit
    delta    probability, 0 < delta < 1
    returns  nats, >= 0, within 1e-9 of the exact minimum (absolute, and relative above 1)
    raises   ParameterError outside those ranges

    Canonne, Kamath and Steinke 2020, proposition 12 (arXiv:2004.00010v4), solved for epsilon:
        min over alpha > 1 of  alpha rho + ln((alpha-1)/alpha) - (ln delta + ln alpha)/(alpha-1)
    With beta = alpha - 1 its derivative is rho - (-ln delta - ln(1+beta)) / beta^2, so there is
    one minimum, where rho beta^2 + ln(1+beta) = -ln delta. Every beta gives a valid epsilon: an
    inexact root can only report too much.
    """
    cost = _cost(rho)
    _check_delta(delta)
    if cost == 0.0:
        return 0.0
    budget = -math.log(delta)
    # In ln(beta). At beta = 1/delta the left side exceeds the right by rho beta^2; at
    # beta = min(1, b, sqrt(b/rho)) / 4 with b = -ln delta it is at most b/16 + b/4.
    high = budget
    low = min(0.0, math.log(budget), (math.log(budget) - math.log(cost)) / 2) - math.log(4)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        beta = math.exp(middle)
        if math.log(cost) + 2 * middle < 700 and cost * beta * beta + math.log1p(beta) < budget:
            low = middle
        else:
            high = middle
    beta = math.exp((low + high) / 2)
    found = cost + beta * cost - math.log1p(1 / beta) + (budget - math.log1p(beta)) / beta
    return max(0.0, found)


def rho_for(target: float, delta: float) -> Fraction:
    """Return the largest multiple of 2^-64 whose epsilon at `delta` is at most `target`.

    target   epsilon in nats, finite, > 0
    delta    probability, 0 < delta < 1
    raises   ParameterError outside those ranges: an unset epsilon buys nothing
    """
    if not (math.isfinite(target) and 0 < target <= 1e6):
        raise ParameterError(
            f"epsilon must be above 0 and at most 1000000, got {target!r}; set it in the plan",
            f"epsilon 须大于 0 且不超过 1000000，现为 {target!r}；请在计划中设定",
        )
    _check_delta(delta)
    low, high = 0, 1
    while epsilon(Fraction(high, 2**CHARGE_GRAIN), delta) <= target:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if epsilon(Fraction(middle, 2**CHARGE_GRAIN), delta) <= target:
            low = middle
        else:
            high = middle
    return Fraction(low, 2**CHARGE_GRAIN)


def _cost(rho: Fraction | float) -> float:
    """Return rho as a float that is not below it."""
    try:
        near = float(rho)
    except OverflowError:
        near = math.inf
    if not (math.isfinite(near) and rho >= 0):
        raise ParameterError(
            "rho must be finite and at least 0; correct the cost",
            "rho 须为有限且不小于 0 的数；请更正",
        )
    return near if near >= rho else math.nextafter(near, math.inf)


def _check_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise ParameterError(
            f"delta must lie between 0 and 1, got {delta!r}; take the charter's",
            f"delta 须在 0 与 1 之间，现为 {delta!r}；请采用章程规定的值",
        )
