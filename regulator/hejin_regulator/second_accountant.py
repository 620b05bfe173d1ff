"""V8's independent accountant: Google's dp-accounting, told only noise and sensitivity."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from fractions import Fraction

import numpy as np
from dp_accounting import ComposedDpEvent, GaussianDpEvent, SelfComposedDpEvent
from dp_accounting.rdp import RdpAccountant

#: Renyi orders: fine enough that the minimum over them lies within 5e-5 of the true one for every
#: rho from 1e-6 to 1e3 (tests/regulator/test_second_accountant.py).
_ORDERS = tuple(1.0 + np.geomspace(1e-3, 1e5, 1000))

#: How much larger than the exact epsilon this accountant may read, because its orders are a grid.
GRID_SLACK = 1e-4


def node_multiplier(sigma: Fraction, delta_squared: int, r: int) -> float:
    """Return sigma / (sqrt(r) Delta): r releases with independent noise, as one Gaussian's."""
    return math.sqrt(float(sigma) ** 2 / (r * float(delta_squared)))


def shared_multiplier(
    sigma: Fraction, delta_squared: int, dimension: int, honest: int, r: int
) -> float:
    """Return the multiplier of the Gaussian that costs what `honest` nodes' shared noise does.

    sigma      of each node's discrete Gaussian, in the integer steps of delta_squared
    dimension  coordinates of the sum
    r          most nodes of one enterprise: it moves the sum by up to r Delta
    returns    1/e for the e of Kairouz, Liu and Steinke 2021 (arXiv:2102.06387), theorem 1, whose
               noise is e^2/2-concentrated as that of a Gaussian with multiplier 1/e. In floats,
               where tau is 0 for every sigma that Hejin allows
    """
    spread = float(sigma) ** 2
    exponents = -2.0 * np.pi**2 * spread * np.arange(1, honest) / np.arange(2, honest + 1)
    tau = 10.0 * float(np.exp(exponents).sum())
    ratio = math.sqrt(float(delta_squared) / (honest * spread))
    e = min(math.hypot(ratio, math.sqrt(tau * dimension / 2)), ratio + tau * math.sqrt(dimension))
    return 1.0 / (r * e)


def one_multiplier(releases: Mapping[float, int], kept: int) -> Counter[float]:
    """Return the releases with all but `kept` noise multipliers merged into one release.

    Gaussian releases compose to one whose 1/multiplier^2 is the sum of theirs (exactly so in Renyi
    divergence, Mironov 2017, corollary 3). The smallest multipliers stay as they are.
    """
    ordered = sorted(releases.items())
    merged = sum(count / noise**2 for noise, count in ordered[kept:])
    found = Counter(dict(ordered[:kept]))
    if merged:
        found[1 / math.sqrt(merged)] += 1
    return found


def composed_epsilon(releases: Mapping[float, int], delta: float) -> float:
    """Return the epsilon that the given Gaussian releases cost together.

    releases  how many were made at each noise multiplier (sigma / L2 sensitivity, > 0)
    delta     probability, 0 < delta < 1
    returns   nats, >= 0; not below the exact value, and at most 5e-5 of it above

    Renyi accounting (Mironov 2017, arXiv:1702.07476) of continuous Gaussians: the discrete
    Gaussian has the same Renyi divergences or smaller (Canonne, Kamath and Steinke 2020).
    """
    if not releases:
        return 0.0
    accountant = RdpAccountant(list(_ORDERS))
    accountant.compose(
        ComposedDpEvent(
            [
                SelfComposedDpEvent(GaussianDpEvent(noise_multiplier), count)
                for noise_multiplier, count in sorted(releases.items())
            ]
        )
    )
    return float(accountant.get_epsilon(delta))
