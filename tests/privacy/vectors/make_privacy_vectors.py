"""Writes privacy.json: zCDP -> epsilon, Delta_sq and shared noise at 50 digits with mpmath 1.3.

Run by hand: .venv/bin/python tests/privacy/vectors/make_privacy_vectors.py
Shares no code with hejin_privacy: epsilon is minimised over alpha by golden section on the formula
of PRIVATE_SUM section 3 itself (no derivative), Delta_sq from a square root with 80 digits, the
cost of shared noise from theorem 1 of arXiv:2102.06387 as it is printed.
"""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

from mpmath import ceil, log, mp, mpf, sqrt

mp.dps = 80

RHOS = ("1e-9", "1e-6", "0.0001", "0.001", "0.01", "0.05", "0.1", "0.5", "1", "5", "50", "1e6")
DELTAS = ("1e-12", "1e-9", "1e-6", "1e-5", "0.01")
BOUNDS = (
    ("1", 1), ("1", 7), ("2", 2), ("12", 12), ("1/2", 91), ("1/2", 2080), ("8", 16), ("3/7", 5),
    ("99999/100000", 31), ("1048575", 4), ("1/1099511627776", 1), ("400", 100000),
)  # fmt: skip

# sigma of one node, summands, d, Delta_sq: small sigmas, where tau is felt and either branch of
# the minimum may win, and those that mechanisms have, where it vanishes.
SUMMED = (
    ("1/2", 2, 1, 1), ("1/2", 14, 100, 9), ("1/2", 14, 1, 400), ("3/4", 3, 1000, 1),
    ("1", 2, 1, 1), ("1", 14, 91, 7), ("1", 999, 4000000, 1), ("3/2", 14, 4000000, 1000000),
    ("2", 5, 10, 3), ("2", 1, 10, 3), ("1024", 14, 300, 13194139533312),
    ("990000/7", 18, 91, 549756338176), ("4398046511104", 900, 4000000, 1152921504606846976),
)  # fmt: skip


def summed(sigma: mpf, summands: int, d: int, delta_sq: int) -> tuple[mpf, mpf]:
    """tau and rho of theorem 1."""
    tau = 10 * sum(
        (mp.exp(-2 * mp.pi**2 * sigma**2 * k / (k + 1)) for k in range(1, summands)), mpf(0)
    )
    near = mpf(delta_sq) / (summands * sigma**2) + tau * d / 2
    far = (sqrt(mpf(delta_sq)) / (sqrt(mpf(summands)) * sigma) + tau * sqrt(mpf(d))) ** 2
    return tau, min(near, far) / 2


def epsilon(rho: mpf, delta: mpf) -> mpf:
    """The formula's minimum over alpha = 1 + e^u."""

    def at(u: mpf) -> mpf:
        beta = mp.exp(u)
        alpha = 1 + beta
        return alpha * rho + log(beta / alpha) - (log(delta) + log(alpha)) / beta

    low, high, golden = mpf(-40), mpf(60), (sqrt(mpf(5)) - 1) / 2
    for _ in range(300):
        third, two_thirds = high - golden * (high - low), low + golden * (high - low)
        if at(third) < at(two_thirds):
            high = two_thirds
        else:
            low = third
    return max(mpf(0), at((low + high) / 2))


def delta_squared(bound: Fraction, nonzeros: int) -> int:
    """ceil((S C + sqrt(s)/2)^2) in floating point of 80 digits."""
    c = sqrt(mpf(bound.numerator) / bound.denominator)
    return int(ceil((2**20 * c + sqrt(mpf(nonzeros)) / 2) ** 2 - mpf(10) ** -50))


def _summed(sigma: str, summands: int, d: int, delta_sq: int) -> dict[str, object]:
    exact = Fraction(sigma)
    tau, rho = summed(mpf(exact.numerator) / exact.denominator, summands, d, delta_sq)
    return {
        "sigma": sigma,
        "summands": summands,
        "dimension": d,
        "delta_squared": str(delta_sq),
        # Beyond 10^-100 the digits of tau are of no use.
        "tau": mp.nstr(tau, 50) if tau > mpf(10) ** -100 else "0",
        "rho": mp.nstr(rho, 50),
    }


def main() -> None:
    """Write the vectors beside this file."""
    found = {
        "epsilon": [
            {"rho": rho, "delta": delta, "epsilon": mp.nstr(epsilon(mpf(rho), mpf(delta)), 50)}
            for rho in RHOS
            for delta in DELTAS
        ],
        "delta_squared": [
            {"bound_squared": c, "nonzeros": s, "delta_squared": str(delta_squared(Fraction(c), s))}
            for c, s in BOUNDS
        ],
        "summed": [_summed(*case) for case in SUMMED],
    }
    Path(__file__).with_name("privacy.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
