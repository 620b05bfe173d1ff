"""What the operator's policy has against a plan, and what it leaves to the operator: pure."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from hejin_models.grades import GRADE_NAMES, GRADES
from hejin_models.plan import Plan
from hejin_models.plan_rules import Problem
from hejin_node.policy_file import Automatic, BankRules, Policy
from hejin_privacy.accounting import epsilon
from hejin_trust.authorisation import ANY
from hejin_trust.charter import Charter
from hejin_trust.text import Text


def charter_problems(policy: Policy, charter: Charter, node: str) -> list[Problem]:
    """Return where a policy and the charter do not agree about the node; no plan passes then."""
    declared = charter.member(node, "node").size_band
    if policy.size_band == declared:
        return []
    here = "{}:{}".format(*policy.size_band)
    there = "none" if declared is None else "{}:{}".format(*declared)
    said = Text(
        f"the policy says size band {here}, the charter declares {there}: correct the policy, or"
        " let the regulator issue the right charter",
        f"策略中的规模区间为 {here}，章程申报为 {there}：请更正策略，或请监管方更正章程",
    )
    return [Problem("policy-size-band", said)]


def bank_problems(policy: Policy, charter: Charter) -> list[Problem]:
    """Return which banks of a policy the charter does not admit: their tables are idle."""
    admitted = {m.id for m in charter.members if m.role == "bank" and m.admitted}
    return [
        Problem(
            "policy-unknown-bank",
            Text(
                f"the policy has rules for {bank}, which the charter admits as no bank: correct"
                " the name",
                f"策略中有 {bank} 的规则，但章程未准入该银行：请更正名称",
            ),
        )
        for bank in sorted(set(policy.banks) - admitted)
    ]


def policy_problems(plan: Plan, policy: Policy) -> list[Problem]:
    """Return what the policy does not allow the plan's bank to ask."""
    rules = policy.rules(plan.bank)
    if rules is None:
        said = Text(
            f"the policy has no rules for {plan.bank}: add [banks.{plan.bank}] or [default]",
            f"策略中没有适用于 {plan.bank} 的规则：请增加 [banks.{plan.bank}] 或 [default]",
        )
        return [Problem("policy-bank", said)]
    return [*_outside(plan, rules), *_too_sensitive(plan, rules)]


def _too_sensitive(plan: Plan, rules: BankRules) -> Iterator[Problem]:
    if GRADES.index(plan.grade) > GRADES.index(rules.grade):
        asked, allowed = GRADE_NAMES[plan.grade], GRADE_NAMES[rules.grade]
        said = Text(
            f"the plan touches data of grade {asked.en}, the policy allows {plan.bank} at most"
            f" {allowed.en}",
            f"计划涉及分级为{asked.zh}的数据，策略允许 {plan.bank} 最高为{allowed.zh}",
        )
        yield Problem("policy-grade", said)


def _outside(plan: Plan, rules: BankRules) -> Iterator[Problem]:
    view = f"{plan.view.name}-v{plan.view.version}"
    statistics = sorted({planned.statistic for planned in plan.sums})
    asked = (
        ("policy-purpose", Text("purpose", "用途"), [plan.purpose], rules.purposes),
        ("policy-family", Text("model family", "模型族"), [plan.family], rules.families),
        ("policy-view", Text("feature view", "特征视图"), [view], rules.views),
        ("policy-statistic", Text("statistic", "统计量"), statistics, rules.statistics),
    )
    for code, what, names, allowed in asked:
        outside = ", ".join(name for name in names if name not in allowed)
        if outside and ANY not in allowed:
            said = Text(
                f"the policy does not allow {plan.bank} the {what.en} {outside}",
                f"策略不允许 {plan.bank} 使用{what.zh} {outside}",
            )
            yield Problem(code, said)


def reasons_to_wait(
    plan: Plan, policy: Policy, charter: Charter, pledged: Fraction
) -> Iterator[Text]:
    """Yield what keeps the node from approving a plan by itself, problems aside.

    pledged  rho that the bank's plans were charged in the period, or may be as approved ones
    """
    rules = policy.rules(plan.bank)
    if rules is None or rules.automatic is None:
        yield Text(
            f"the policy approves no plan of {plan.bank} by itself",
            f"策略不自动批准 {plan.bank} 的计划",
        )
    else:
        yield from _limits(plan, rules.automatic, charter, pledged)


def _limits(plan: Plan, limits: Automatic, charter: Charter, pledged: Fraction) -> Iterator[Text]:
    cost = epsilon(plan.rho, float(charter.delta))
    if cost > limits.epsilon_at_most:
        yield Text(
            f"it may cost epsilon {cost:.4f}, by itself the node approves up to"
            f" {limits.epsilon_at_most:.4f}",
            f"至多花费 epsilon {cost:.4f}，自动批准以 {limits.epsilon_at_most:.4f} 为限",
        )
    share, together = Fraction(limits.share_at_most) * charter.rho_cap, pledged + plan.rho
    if together > share:
        yield Text(
            f"it would bring the plans of {plan.bank} to rho={float(together):.6f}, by itself the"
            f" node lets them take {float(share):.6f}",
            f"{plan.bank} 的计划合计将达 rho={float(together):.6f}，"
            f"自动批准以 {float(share):.6f} 为限",
        )
    if plan.mode == "shared" and plan.colluders < limits.colluders_at_least:
        yield Text(
            f"it allows for {plan.colluders} nodes on the bank's side, by itself the node wants"
            f" {limits.colluders_at_least} allowed for",
            f"仅考虑 {plan.colluders} 个节点与银行合谋，自动批准要求至少考虑"
            f" {limits.colluders_at_least} 个",
        )
