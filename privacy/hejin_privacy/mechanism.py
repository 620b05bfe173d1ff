"""What one private sum adds and costs: sensitivity, noise and rho, in exact arithmetic."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from hejin_privacy.errors import MechanismError, ModeUnavailableError, OverflowBoundError
from hejin_privacy.secure_sum.thresholds import check_thresholds
from hejin_privacy.shared_noise import summed_rho
from hejin_trust.canonical import closed, fraction, fraction_body, integer, text

MODES = ("node", "shared")

SCALE = 1 << 20
"""S: one unit of every statistic is 2^20 integer steps (PRIVATE_SUM section 2)."""

SIGMA_GRAIN = 1 << 10
"""sigma is a multiple of 2^-10 ..."""
MIN_SIGMA = Fraction(1 << 10)
"""... at least 2^10, where rounding and tau are negligible (PRIVATE_SUM section 2) ..."""
MAX_SIGMA = Fraction(1 << 42)
"""... and at most 2^42: then sigma has at most 53 significant bits and is exact as a double, the
only form in which OpenDP takes it, and 12 sigma is far inside 64 bits."""

MAX_DELTA_SQUARED = 1 << 60
"""Then |u_j| <= 2^30, so that squares and sums of 2^32 enterprises fit into int64."""

MAX_DIMENSION = 4_000_000
MAX_NODES = 1_000
OVERFLOW_BOUND = 1 << 62
"""Totals stay below it: half of the int64 range, so that masking mod 2^64 loses nothing."""

_STATISTIC = re.compile(r"[a-z][a-z0-9_]{0,62}")
_FIELDS = (
    "mode", "sigma", "delta_squared", "scale", "nonzeros", "dimension", "bound_squared",
    "statistic", "version", "n", "tau", "m", "t", "r",
)  # fmt: skip


def _ceil_sqrt(value: int) -> int:
    """Return the smallest integer whose square is >= value, for value >= 0."""
    root = math.isqrt(value)
    return root if root * root == value else root + 1


def delta_squared(bound_squared: Fraction, nonzeros: int, counts: bool) -> int:
    """Return Delta_sq, the largest allowed sum of squares of one enterprise's integers.

    bound_squared  C^2 of the statistic, before scaling, 0 < C^2
    nonzeros       s, the most non-zero coordinates an enterprise can have, >= 1
    counts         True if the statistic is integer-valued: then u = S v exactly
    returns        counts: the smallest integer >= S^2 C^2
                   else: the smallest integer >= (S C + sqrt(s)/2)^2, as rounding moves each of
                   the s coordinates by at most 1/2
    raises         MechanismError if an input is out of range or the result exceeds 2^60

    Source: PRIVATE_SUM section 2.
    """
    if not isinstance(bound_squared, Fraction) or not 0 < bound_squared <= MAX_DELTA_SQUARED:
        raise MechanismError(
            "the bound of a statistic must be an exact positive number; correct the statistic",
            "统计量的界须为精确的正数；请更正该统计量",
        )
    if not 1 <= nonzeros <= MAX_DIMENSION:
        raise MechanismError(
            f"an enterprise may fill 1 to {MAX_DIMENSION} coordinates, not {nonzeros};"
            " correct the statistic",
            f"每家企业可填 1 至 {MAX_DIMENSION} 个坐标，现为 {nonzeros}；请更正该统计量",
        )
    squared = SCALE * SCALE * bound_squared
    if counts:
        found = math.ceil(squared)
    else:
        # (S C + sqrt(s)/2)^2 = A + sqrt(B) with A = S^2 C^2 + s/4 and B = S^2 C^2 s, rationals.
        # Over their common denominator q: n >= A + sqrt(B)  <=>  n q - a >= sqrt(B q^2), and as
        # the left side is an integer, <=> n q - a >= ceil(sqrt(B q^2)).
        rational, radicand = squared + Fraction(nonzeros, 4), squared * nonzeros
        common = math.lcm(rational.denominator, radicand.denominator)
        root = _ceil_sqrt(int(radicand * common * common))
        found = math.ceil(Fraction(int(rational * common) + root, common))
    if found > MAX_DELTA_SQUARED:
        raise MechanismError(
            "the statistic's bound is too large to be summed in 64 bits; ask for fewer features",
            "统计量的界过大，无法以 64 位求和；请减少特征",
        )
    return found


def check_sigma(sigma: Fraction) -> None:
    """Raise MechanismError unless sigma is a multiple of 2^-10 from 2^10 to 2^42.

    The check stands before every use of noise: OpenDP accepts a scale of 0 and then adds none.
    """
    if (
        not isinstance(sigma, Fraction)
        or SIGMA_GRAIN % sigma.denominator
        or not MIN_SIGMA <= sigma <= MAX_SIGMA
    ):
        raise MechanismError(
            "the noise sigma must be a multiple of 2^-10 between 2^10 and 2^42; recompute it"
            " from the plan's rho",
            "噪声 sigma 须为 2^-10 的整数倍，且介于 2^10 与 2^42 之间；请按计划的 rho 重新计算",
        )


def node_sigma(delta_sq: int, rho: Fraction, r: int = 1) -> Fraction:
    """Return the smallest allowed sigma with r Delta_sq / (2 sigma^2) <= rho: mode "node".

    delta_sq  Delta_sq of the statistic, 1..2^60
    rho       most that the sum may cost, > 0. If it is a multiple of 2^-64
              (accounting.round_down), the rounded-up charge stays within it too
    r         most nodes an enterprise may be in
    raises    MechanismError out of range, or if more noise than sigma = 2^42 were needed
    """
    _check_delta_sq(delta_sq)
    _check_r(r)
    return _allowed(_least_steps(r * delta_sq, rho), rho)


def shared_sigma(delta_sq: int, rho: Fraction, honest: int, dimension: int, r: int = 1) -> Fraction:
    """Return the smallest allowed sigma of one node with shared_cost <= rho: mode "shared".

    honest     h = m - t, the nodes whose noise is certain to be in a total, >= 1
    dimension  d, coordinates of the sum
    others, and what it raises, as in node_sigma
    """
    _check_delta_sq(delta_sq)
    _check_r(r)
    # Without tau no smaller sigma would do; tau is so small that one step more is enough.
    steps = _least_steps(r**2 * delta_sq / Fraction(honest), rho)
    sigma = _allowed(steps, rho)
    while shared_cost(delta_sq, sigma, honest, dimension, r) > rho:
        sigma = _allowed(int(sigma * SIGMA_GRAIN) + 1, rho)
    return sigma


def shared_cost(delta_sq: int, sigma: Fraction, honest: int, dimension: int, r: int) -> Fraction:
    """Return the zCDP cost of a sum under the noise of `honest` nodes, a multiple of 2^-128.

    An enterprise in up to r nodes moves one total by up to r Delta: r^2 times the cost of one
    (PRIVATE_SUM section 1).
    """
    return r**2 * summed_rho(delta_sq, dimension, sigma, honest)


def _least_steps(delta_sq: Fraction | int, rho: Fraction) -> int:
    """Return the smallest k with delta_sq / (2 sigma^2) <= rho for sigma = k / 2^10."""
    if not isinstance(rho, Fraction) or rho <= 0:
        raise MechanismError(
            "the sum has no budget: rho must be an exact number above 0; set the plan's epsilon",
            "该求和没有预算：rho 须为大于 0 的精确数；请设定计划的 epsilon",
        )
    return _ceil_sqrt(math.ceil(delta_sq * SIGMA_GRAIN**2 / (2 * rho)))


def _allowed(steps: int, rho: Fraction) -> Fraction:
    sigma = max(Fraction(steps, SIGMA_GRAIN), MIN_SIGMA)
    if sigma > MAX_SIGMA:
        raise MechanismError(
            f"rho={float(rho):.3g} is too small for this sum: its noise would exceed 2^42;"
            " give the sum a larger share",
            f"rho={float(rho):.3g} 对该求和过小，噪声将超过 2^42；请提高其份额",
        )
    return sigma


def check_overflow(
    enterprises_at_most: int, delta_sq: int, sigma: Fraction, nodes: int = 1
) -> None:
    """Raise OverflowBoundError unless every coordinate of the total stays below 2^62.

    enterprises_at_most  sum over all nodes of the declared public size band's upper end
    nodes                nodes that each add noise; 12 sigma a node is exceeded with
                         probability below 2^-100

    |u_j| <= isqrt(Delta_sq), so |total_j| < enterprises isqrt(Delta_sq) + nodes 12 sigma.
    Only declared sizes are read, never the data.
    """
    _check_delta_sq(delta_sq)
    check_sigma(sigma)
    if enterprises_at_most < 0 or nodes < 1:
        raise OverflowBoundError(
            "the declared sizes are missing; ask the nodes for their size bands",
            "缺少申报规模；请向各节点索取规模区间",
        )
    if enterprises_at_most * math.isqrt(delta_sq) + 12 * nodes * sigma >= OVERFLOW_BOUND:
        raise OverflowBoundError(
            f"a sum over {enterprises_at_most} enterprises could exceed 2^62; ask for fewer"
            " nodes or features, or for less noise",
            f"对 {enterprises_at_most} 家企业求和可能超过 2^62；请减少节点或特征，或减小噪声",
        )


@dataclass(frozen=True, slots=True)
class Mechanism:
    """One private sum's noise and everything its cost follows from. A value that exists is valid.

    mode           "node": every node adds the whole noise by itself. "shared": the nodes add it
                   together, under masks; rule P1 holds, and m - t of them are counted on
    sigma          standard deviation of one node's discrete Gaussian, in steps of 1/scale
    delta_squared  Delta_sq, bound on sum(u_e^2) that the guard enforces
    scale          S, steps per unit of the statistic
    nonzeros       s, most non-zero coordinates of an enterprise
    dimension      d, coordinates of the sum
    bound_squared  C^2, the statistic's own L2 bound squared, in units
    n              nodes in the plan
    tau, m, t      quorum, least survivors, colluders of mode "shared"; 0 in mode "node"
    r              most nodes an enterprise may be in, from the charter
    """

    mode: str
    sigma: Fraction
    delta_squared: int
    scale: int
    nonzeros: int
    dimension: int
    bound_squared: Fraction
    statistic: str
    version: int
    n: int
    tau: int = 0
    m: int = 0
    t: int = 0
    r: int = 1

    def __post_init__(self) -> None:
        self._check_mode()
        check_sigma(self.sigma)
        _check_r(self.r)
        if not _STATISTIC.fullmatch(self.statistic) or not 1 <= self.version <= 10**6:
            raise MechanismError(
                "the statistic has no valid name and version; name one of the catalogue",
                "统计量的名称或版本无效；请使用目录中的统计量",
            )
        if self.scale != SCALE:
            raise MechanismError(
                f"the scale must be {SCALE}, got {self.scale}; use this version's scale",
                f"scale 须为 {SCALE}，现为 {self.scale}；请使用本版本的 scale",
            )
        if not 1 <= self.nonzeros <= self.dimension <= MAX_DIMENSION:
            raise MechanismError(
                f"a sum has 1 to {MAX_DIMENSION} coordinates and an enterprise fills at most all"
                f" of them, got {self.dimension} and {self.nonzeros}; correct the query",
                f"求和须有 1 至 {MAX_DIMENSION} 个坐标，企业所填坐标不得更多；"
                f"现为 {self.dimension} 与 {self.nonzeros}；请更正查询",
            )
        if self.delta_squared not in (
            delta_squared(self.bound_squared, self.nonzeros, counts=True),
            delta_squared(self.bound_squared, self.nonzeros, counts=False),
        ):
            raise MechanismError(
                "Delta_sq does not follow from the statistic's bound; recompute the mechanism",
                "Delta_sq 与统计量的界不符；请重新计算该机制",
            )

    def _check_mode(self) -> None:
        if self.mode not in MODES:
            raise ModeUnavailableError(
                'the noise mode must be "node" or "shared"; correct the plan',
                "噪声模式须为 node 或 shared；请更正计划",
            )
        if not 1 <= self.n <= MAX_NODES:
            raise MechanismError(
                f"a sum is over 1 to {MAX_NODES} nodes, not {self.n}; correct the query",
                f"求和须涉及 1 至 {MAX_NODES} 个节点，现为 {self.n}；请更正查询",
            )
        if self.mode == "shared":
            check_thresholds(self.n, self.tau, self.m, self.t)
        elif (self.tau, self.m, self.t) != (0, 0, 0):
            raise MechanismError(
                'mode "node" needs tau = m = t = 0; correct the query',
                "node 模式要求 tau = m = t = 0；请更正查询",
            )

    @classmethod
    def planned(
        cls,
        *,
        statistic: str,
        version: int,
        dimension: int,
        bound_squared: Fraction,
        nonzeros: int,
        counts: bool,
        rho: Fraction,
        n: int,
        r: int,
        mode: str = "node",
        tau: int = 0,
        m: int = 0,
        t: int = 0,
    ) -> Mechanism:
        """Return the one mechanism for a statistic and a budget of rho: the least noise.

        Bank and node both build it and compare, so that no message decides the noise.
        raises   MechanismError where delta_squared and the sigma of the mode do;
                 ThresholdError for thresholds of mode "shared" that break rule P1
        """
        squared = delta_squared(bound_squared, nonzeros, counts)
        if mode == "shared":
            check_thresholds(n, tau, m, t)
            sigma = shared_sigma(squared, rho, m - t, dimension, r)
        else:
            sigma = node_sigma(squared, rho, r)
        return cls(
            mode=mode,
            sigma=sigma,
            delta_squared=squared,
            scale=SCALE,
            nonzeros=nonzeros,
            dimension=dimension,
            bound_squared=bound_squared,
            statistic=statistic,
            version=version,
            n=n,
            tau=tau,
            m=m,
            t=t,
            r=r,
        )

    def cost(self) -> Fraction:
        """Return the zCDP cost rho of the sum, for one enterprise in up to r nodes.

        Mode "node", exact: Canonne, Kamath and Steinke 2020 (arXiv:2004.00010), the multivariate
        discrete Gaussian: N_Z(0, sigma^2) on an integer vector query of L2 sensitivity Delta is
        Delta^2 / (2 sigma^2)-zCDP. The releases of r nodes with independent noise compose to r
        times that (PRIVATE_SUM section 1).
        Mode "shared", rounded up: shared_cost with h = m - t, never the survivors actually
        present, against a bank with t nodes on its side.
        """
        if self.mode == "shared":
            return shared_cost(
                self.delta_squared, self.sigma, self.m - self.t, self.dimension, self.r
            )
        return self.cost_alone()

    def cost_alone(self) -> Fraction:
        """Return rho_alone, the cost if every other node colluded with the bank; exact.

        Only a node's own noise then protects its enterprises: r Delta_sq / (2 sigma^2), in mode
        "node" the cost itself.
        """
        return self.r * self.delta_squared / (2 * self.sigma**2)

    def body(self) -> dict[str, object]:
        """Return the JSON object that plans, queries and ledger entries carry."""
        return {
            "mode": self.mode,
            "sigma": fraction_body(self.sigma),
            "delta_squared": str(self.delta_squared),
            "scale": self.scale,
            "nonzeros": self.nonzeros,
            "dimension": self.dimension,
            "bound_squared": fraction_body(self.bound_squared),
            "statistic": self.statistic,
            "version": self.version,
            "n": self.n,
            "tau": self.tau,
            "m": self.m,
            "t": self.t,
            "r": self.r,
        }

    @classmethod
    def from_body(cls, body: Mapping[str, object]) -> Mechanism:
        """Return the mechanism that `body` wrote; MechanismError or DocumentError if not valid."""
        closed(body, *_FIELDS)
        squared = text(body, "delta_squared", longest=20)
        if not re.fullmatch(r"[1-9][0-9]*", squared):
            raise MechanismError(
                "Delta_sq is not a whole number; recompute the mechanism",
                "Delta_sq 不是整数；请重新计算该机制",
            )
        return cls(
            mode=text(body, "mode"),
            sigma=fraction(body, "sigma"),
            delta_squared=int(squared),
            scale=integer(body, "scale"),
            nonzeros=integer(body, "nonzeros"),
            dimension=integer(body, "dimension"),
            bound_squared=fraction(body, "bound_squared"),
            statistic=text(body, "statistic"),
            version=integer(body, "version"),
            n=integer(body, "n"),
            tau=integer(body, "tau"),
            m=integer(body, "m"),
            t=integer(body, "t"),
            r=integer(body, "r"),
        )


def _check_delta_sq(delta_sq: int) -> None:
    if not 1 <= delta_sq <= MAX_DELTA_SQUARED:
        raise MechanismError(
            "Delta_sq must lie between 1 and 2^60; recompute the mechanism",
            "Delta_sq 须介于 1 与 2^60 之间；请重新计算该机制",
        )


def _check_r(r: int) -> None:
    if not 1 <= r <= MAX_NODES:
        raise MechanismError(
            f"an enterprise may be in 1 to {MAX_NODES} nodes, not {r}; take r from the charter",
            f"每家企业可属于 1 至 {MAX_NODES} 个节点，现为 {r}；请采用章程中的 r",
        )
