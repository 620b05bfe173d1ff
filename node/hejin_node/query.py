"""Check a bank's query against the plan that was approved: pure, before anything is read."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from hejin_models.features import FeatureView
from hejin_models.plan import Plan
from hejin_models.pricing import mechanism_for
from hejin_models.state import State, decode_state, state_digest
from hejin_models.statistics import Statistic, statistic
from hejin_privacy.messages import Query
from hejin_trust.charter import Charter
from hejin_trust.errors import NotNowError, RefusedError


class QueryRefusedError(RefusedError):
    """The query is not what the approved plan says."""

    code = "query-refused"


class QueryOutOfOrderError(QueryRefusedError):
    """The query repeats or skips a round in a way that would break the protocol."""

    code = "query-out-of-order"


class RoundVoidError(QueryOutOfOrderError):
    """The round was charged, then interrupted; nothing left and nothing will."""

    code = "round-void"


class PeriodNotBegunError(NotNowError):
    """The charter in force is already the next budget period's."""

    code = "period-not-begun"


class CharterReplacedError(NotNowError):
    """A newer charter came while the query was looked at under the last one."""

    code = "charter-replaced"


@dataclass(frozen=True, slots=True)
class CheckedQuery:
    """A query that fits its plan.

    cost        zCDP of the sum, at most the planned sum's rho
    cost_alone  the same if all other nodes colluded with the bank
    """

    query: Query
    digest: str
    statistic: Statistic
    state: State
    cost: Fraction
    cost_alone: Fraction


def check_query(
    query: Query, digest: str, state_bytes: bytes, plan: Plan, view: FeatureView, charter: Charter
) -> CheckedQuery:
    """Return the query with its decoded state, or raise.

    digest       SHA-256 of the signed query
    state_bytes  the public state as it came; refused with NaN, infinity or a wrong shape
    raises       QueryRefusedError, StateError, MechanismError
    """
    if query.sum >= len(plan.sums):
        raise QueryRefusedError(
            f"the plan has {len(plan.sums)} sums, the query asks for number {query.sum + 1}",
            f"计划共有 {len(plan.sums)} 个求和，查询要求第 {query.sum + 1} 个",
        )
    priced = plan.sums[query.sum]
    if query.part != priced.part:
        raise QueryRefusedError(
            f"the plan takes sum {query.sum + 1} over the {priced.part} part",
            f"计划第 {query.sum + 1} 个求和应取 {priced.part} 部分",
        )
    if state_digest(state_bytes) != query.state:
        raise QueryRefusedError(
            "the public state is not the one that the query signs: send it again",
            "公开状态与查询所签名的不一致：请重新发送",
        )
    state = decode_state(state_bytes)
    expected = mechanism_for(plan, priced, view, state, charter.r)
    if query.mechanism != expected:
        raise QueryRefusedError(
            "the query's mechanism (noise, bound or shape) is not the one that the plan's cost"
            " demands: plan again with this version",
            "查询的机制（噪声、界或形状）与计划费用不符：请用本版本重新制定计划",
        )
    cost = expected.cost()
    if cost > priced.rho:
        raise QueryRefusedError(
            f"the sum costs rho={float(cost):.6g}, the plan allows {float(priced.rho):.6g}",
            f"该求和需 rho={float(cost):.6g}，计划只允许 {float(priced.rho):.6g}",
        )
    return CheckedQuery(
        query,
        digest,
        statistic(priced.statistic, priced.version),
        state,
        cost,
        expected.cost_alone(),
    )
