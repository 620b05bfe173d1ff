"""The mechanism of a planned sum: computed alike by the bank that asks and the node that checks."""

from __future__ import annotations

from hejin_models.features import FeatureView
from hejin_models.plan import Plan, PricedSum
from hejin_models.state import State
from hejin_models.statistics import statistic
from hejin_privacy.mechanism import Mechanism


def mechanism_for(
    plan: Plan, priced: PricedSum, view: FeatureView, state: State, r: int
) -> Mechanism:
    """Return the least noise that keeps `priced` within its rho, in the plan's noise mode.

    r        charter's most nodes an enterprise may be in
    raises   UnknownStatisticError; StateError if the state does not fit statistic and view
    """
    shared = plan.mode == "shared"
    entry = statistic(priced.statistic, priced.version)
    entry.check_state(view, state)
    return Mechanism.planned(
        statistic=entry.name,
        version=entry.version,
        dimension=entry.dimension(view, state),
        bound_squared=entry.bound_squared(view, state),
        nonzeros=entry.nonzeros(view, state),
        counts=entry.counts,
        rho=priced.rho,
        n=len(plan.nodes),
        r=r,
        mode=plan.mode,
        tau=plan.quorum,
        m=plan.minimum_nodes if shared else 0,
        t=plan.colluders,
    )
