"""V8's independent accountant: Google's dp-accounting, told only noise and sensitivity."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from dp_accounting import ComposedDpEvent, GaussianDpEvent, SelfComposedDpEvent
from dp_accounting.rdp import RdpAccountant

#: Renyi orders: fine enough that the minimum over them lies within 5e-5 of the true one for every
#: rho from 1e-6 to 1e3 (tests/regulator/test_second_accountant.py).
_ORDERS = tuple(1.0 + np.geomspace(1e-3, 1e5, 1000))

#: How much larger than the exact epsilon this accountant may read, because its orders are a grid.
GRID_SLACK = 1e-4


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
