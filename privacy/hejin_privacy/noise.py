"""The only source of privacy noise: OpenDP's exact discrete Gaussian, behind our own checks.

No seed exists: OpenDP draws from OpenSSL's RAND_bytes. Importing this module loads
OpenDP (0.15 s, 21 MB), so nothing else in this room imports it and a regulator never needs it.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt
from opendp.domains import atom_domain, vector_domain
from opendp.measurements import make_gaussian
from opendp.metrics import l2_distance
from opendp.mod import enable_features

from hejin_privacy.errors import MechanismError
from hejin_privacy.mechanism import MAX_DIMENSION, check_sigma

# OpenDP keeps mechanisms without a finished proof review behind this switch, per process. What
# is relied on here: the sampler of Canonne, Kamath and Steinke 2020 (arXiv:2004.00010,
# algorithm 3) in rational arithmetic; no float sensitivity or budget of OpenDP is used.
enable_features("contrib")

_AT_ONCE = 1 << 16  # OpenDP answers with a Python list: 40 bytes a draw, so not all at once


def discrete_gaussian(sigma: Fraction, dimension: int) -> npt.NDArray[np.int64]:
    """Return independent draws of N_Z(0, sigma^2), int64 [dimension]; about 25 us each.

    sigma      standard deviation parameter: a multiple of 2^-10 from 2^10 to 2^42, hence exact
               as a double, which OpenDP turns back into the same rational
    dimension  1..4,000,000
    raises     MechanismError otherwise. OpenDP would accept sigma = 0 and add nothing
    """
    check_sigma(sigma)
    if not 1 <= dimension <= MAX_DIMENSION:
        raise MechanismError(
            f"noise needs 1 to {MAX_DIMENSION} coordinates, not {dimension}; correct the query",
            f"噪声须有 1 至 {MAX_DIMENSION} 个坐标，现为 {dimension}；请更正查询",
        )
    scale = float(sigma)
    assert Fraction(scale) == sigma  # at most 53 significant bits, see MAX_SIGMA
    measurement = make_gaussian(
        vector_domain(atom_domain(T="i64")), l2_distance(T="i64"), scale=scale
    )
    drawn = np.empty(dimension, dtype=np.int64)
    for start in range(0, dimension, _AT_ONCE):
        part = drawn[start : start + _AT_ONCE]
        part[:] = measurement(np.zeros(len(part), dtype=np.int64))
    return drawn
