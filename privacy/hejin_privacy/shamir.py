"""Secret sharing over the integers mod 2^255 - 19: any `threshold` shares give the secret."""

from __future__ import annotations

from collections.abc import Sequence
from math import lcm, prod
from operator import mul
from typing import Final

FIELD: Final = 2**255 - 19
"""A prime (RFC 7748 section 4.1), so that every difference of points has an inverse."""


def split(secret: int, coefficients: Sequence[int], points: int) -> tuple[int, ...]:
    """Return the values of one polynomial at 1..points.

    secret        its value at 0, in [0, FIELD)
    coefficients  of x, x^2, ...: threshold - 1 independent uniform numbers in [0, FIELD)
    points        number of shares, threshold <= points < FIELD
    raises        ValueError outside those ranges

    Shamir 1979, "How to share a secret".
    """
    if not all(0 <= value < FIELD for value in (secret, *coefficients)):
        raise ValueError("the secret and the coefficients must lie in the field")
    if not len(coefficients) < points < FIELD:
        raise ValueError(f"{len(coefficients) + 1} shares are needed, only {points} are made")
    descending = (*reversed(coefficients), secret)
    shares = []
    for point in range(1, points + 1):
        value = 0
        for coefficient in descending:
            value = (value * point + coefficient) % FIELD
        shares.append(value)
    return tuple(shares)


def weights_at_zero(points: Sequence[int]) -> tuple[int, ...]:
    """Return Lagrange's weights: the secret is the sum of weight x share over these points.

    points   distinct, in [1, FIELD), as many as the threshold
    raises   ValueError otherwise
    """
    if not points or len(set(points)) != len(points) or not all(0 < x < FIELD for x in points):
        raise ValueError("the points of the shares must be distinct and lie in the field")
    # Points are small and have their factors in common: one inverse does for all.
    denominators = [own * prod(other - own for other in points if other != own) for own in points]
    common = lcm(*denominators)
    scale = prod(points) * pow(common, -1, FIELD) % FIELD
    return tuple(scale * (common // denominator) % FIELD for denominator in denominators)


def combine(weights: Sequence[int], shares: Sequence[int]) -> int:
    """Return the secret from the shares at the points that `weights` were made for."""
    if len(weights) != len(shares):
        raise ValueError(f"{len(weights)} weights are for as many shares, got {len(shares)}")
    total: int = sum(map(mul, weights, shares))
    return total % FIELD
