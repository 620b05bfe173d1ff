"""Whether this node takes part in a plan: pure decisions on facts, with reasons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction

from hejin_models.errors import UnknownStatisticError
from hejin_models.features import FeatureView
from hejin_models.plan import Plan
from hejin_models.plan_rules import Problem, plan_problems, view_problems
from hejin_models.schemas import Schema
from hejin_models.statistics import statistic
from hejin_node.policy_file import Policy
from hejin_node.policy_rules import charter_problems, policy_problems, reasons_to_wait
from hejin_privacy.accounting import epsilon
from hejin_trust.charter import Charter, NotAMemberError
from hejin_trust.text import Text


@dataclass(frozen=True, slots=True)
class Facts:
    """What the node knows when it looks at a plan; nothing here was read from enterprise rows.

    policy       the operator's, as it stands now
    spent        rho charged in the charter's period so far, all banks together
    alone        the same if all other nodes colluded with the banks
    pledged      rho that the bank's plans were charged in the period, or may be as approved ones
    entitled     authorisations in force that cover the plan
    labelled     enterprises with an outcome under the plan's definition
    installed    the feature view whose file has the plan's hash, if it is installed here
    schemas      the node's own, by data set
    data         why the data of the installed view do not stand ready
    """

    node: str
    charter: Charter
    now: datetime
    policy: Policy
    spent: Fraction
    alone: Fraction
    pledged: Fraction
    entitled: int
    labelled: int
    installed: FeatureView | None
    schemas: Mapping[str, Schema]
    data: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class DryRun:
    """What a plan would cost and touch, before anything is read or spent.

    rho             what the plan may cost each enterprise (zCDP), burned rounds included
    epsilon_before  guarantee of the account as it stands, at the charter's delta
    epsilon_after   the same after this plan
    epsilon_cap     the same at the charter's cap: the guarantee that is promised
    rho_alone, epsilon_alone_before, _after, _cap
                    the same four if all other nodes colluded with the banks: in mode "node" a
                    plan costs no more then, in mode "shared" it does
    problems        why nobody can approve it
    waits           why the node leaves it to its operator; () only if it approves it by itself
    """

    rho: Fraction
    epsilon_before: float
    epsilon_after: float
    epsilon_cap: float
    rho_alone: Fraction
    epsilon_alone_before: float
    epsilon_alone_after: float
    epsilon_alone_cap: float
    delta: Fraction
    entitled: int
    labelled: int
    problems: tuple[Problem, ...]
    waits: tuple[Text, ...]
    warnings: tuple[Text, ...]

    @property
    def automatic(self) -> bool:
        """Whether the node approves the plan without its operator."""
        return not self.problems and not self.waits


def examine(plan: Plan, signer: str, facts: Facts) -> DryRun:
    """Return the dry run of `plan`; `signer` is the bank whose key signed it."""
    charter = facts.charter
    delta = float(charter.delta)
    rho_alone = plan.rho_alone(charter.r)
    return DryRun(
        rho=plan.rho,
        epsilon_before=epsilon(facts.spent, delta),
        epsilon_after=epsilon(facts.spent + plan.rho, delta),
        epsilon_cap=epsilon(charter.rho_cap, delta),
        rho_alone=rho_alone,
        epsilon_alone_before=epsilon(facts.alone, delta),
        epsilon_alone_after=epsilon(facts.alone + rho_alone, delta),
        epsilon_alone_cap=epsilon(charter.rho_alone_cap, delta),
        delta=charter.delta,
        entitled=facts.entitled,
        labelled=facts.labelled,
        problems=(
            *_membership(plan, signer, facts),
            *charter_problems(facts.policy, charter, facts.node),
            *policy_problems(plan, facts.policy),
            *_content(plan, facts),
            *_budget(plan, facts),
        ),
        waits=tuple(reasons_to_wait(plan, facts.policy, charter, facts.pledged)),
        warnings=tuple(_warnings(facts)),
    )


def _membership(plan: Plan, signer: str, facts: Facts) -> list[Problem]:
    found: list[Problem] = []
    charter = facts.charter
    try:
        charter.admitted(plan.bank, "bank")
    except NotAMemberError as reason:
        found.append(Problem("bank-not-admitted", reason.text))
    found += plan_problems(plan, signer, facts.node, charter, facts.now)
    return found


def _content(plan: Plan, facts: Facts) -> list[Problem]:
    found: list[Problem] = []
    view = facts.installed
    if view is None:
        found.append(
            Problem(
                "view-not-installed",
                Text(
                    f"feature view {plan.view.name} version {plan.view.version} with the plan's"
                    " hash is not installed here: `hejin node view install FILE`",
                    f"本节点未安装计划所指的特征视图 {plan.view.name} 第 {plan.view.version} 版："
                    "请执行 `hejin node view install FILE`",
                ),
            )
        )
    else:
        found += [*view_problems(plan, view, facts.schemas), *facts.data]
    for planned in plan.sums:
        try:
            statistic(planned.statistic, planned.version)
        except UnknownStatisticError as reason:
            found.append(Problem(reason.code, reason.text))
    return found


def _budget(plan: Plan, facts: Facts) -> list[Problem]:
    charter, found = facts.charter, []
    left = charter.rho_cap - facts.spent
    if plan.rho > left:
        found.append(
            Problem(
                "budget-exhausted",
                Text(
                    f"the plan may cost rho={float(plan.rho):.6f}, only {float(left):.6f} is left"
                    " in this period: ask for fewer sums, more noise or fewer spare rounds",
                    f"计划至多需 rho={float(plan.rho):.6f}，本期仅余 {float(left):.6f}："
                    "请减少求和或备用轮次，或加大噪声",
                ),
            )
        )
    cost, left = plan.rho_alone(charter.r), charter.rho_alone_cap - facts.alone
    if cost > left:
        found.append(
            Problem(
                "alone-budget-exhausted",
                Text(
                    f"if all other nodes colluded the plan would cost rho={float(cost):.6f}, only"
                    f" {float(left):.6f} is left of the charter's cap on that: ask for fewer sums,"
                    " more noise or fewer spare rounds",
                    f"若其他节点全部合谋，计划至多需 rho={float(cost):.6f}，"
                    f"章程为此设定的上限仅余 {float(left):.6f}：请减少求和或备用轮次，或加大噪声",
                ),
            )
        )
    return found


def _warnings(facts: Facts) -> list[Text]:
    found = []
    least = facts.charter.minimum_enterprises
    if facts.entitled == 0:
        found.append(
            Text(
                "no authorisation covers this plan: the node would send noise alone, and pay",
                "没有授权覆盖本计划：节点将只发送噪声，且照常计费",
            )
        )
    elif facts.entitled < least:
        found.append(
            Text(
                f"{facts.entitled} authorisations cover this plan, fewer than the charter's least"
                f" size of {least}: noise outweighs so few, at the full price",
                f"覆盖本计划的授权为 {facts.entitled} 份，少于章程的最小规模 {least}："
                "企业过少时噪声占主导，且照常计费",
            )
        )
    if facts.labelled == 0:
        found.append(
            Text(
                "no enterprise has an outcome under this definition: load labels first",
                "没有企业具有该定义下的标签：请先载入标签",
            )
        )
    return found
