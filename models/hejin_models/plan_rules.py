"""Which plans a node may approve, as far as plan, view and charter say: for nodes and verifiers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from hejin_models.features import FeatureView
from hejin_models.grades import GRADE_NAMES, GRADES
from hejin_models.plan import Plan
from hejin_models.schemas import Schema, view_grade
from hejin_trust.canonical import time_from
from hejin_trust.charter import Charter
from hejin_trust.text import Text

AHEAD: Final = timedelta(minutes=5)
"""A bank's clock may be so much ahead of a node's: each may be two minutes off the regulator's."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One reason why a plan cannot be approved; `code` is stable."""

    code: str
    text: Text


def plan_problems(
    plan: Plan, signer: str, node: str, charter: Charter, now: datetime
) -> list[Problem]:
    """Return why a node may not approve a plan at the moment `now`, by its own clock.

    signer    the bank whose key signed it
    charter   in force at the node
    """
    found: list[Problem] = []
    if signer != plan.bank or plan.label.bank != plan.bank:
        found.append(
            Problem(
                "wrong-bank",
                Text(
                    "the plan, its signature and its label name different banks",
                    "计划、签名与标签所属银行不一致",
                ),
            )
        )
    if plan.consortium != charter.consortium or node not in plan.nodes:
        found.append(
            Problem("not-invited", Text("the plan does not invite this node", "计划未邀请本节点"))
        )
    if plan.charter != charter.digest:
        found.append(
            Problem(
                "other-charter",
                Text(
                    f"the plan was made under another charter than number {charter.serial}, which"
                    " is in force here: if it stays so, the bank must propose it again",
                    f"计划依据的章程与本节点现行的第 {charter.serial} 号章程不同："
                    "如持续不一致，须由银行重新提出",
                ),
            )
        )
    if len(plan.nodes) < charter.minimum_nodes or plan.minimum_nodes < charter.minimum_nodes:
        found.append(
            Problem(
                "too-few-nodes",
                Text(
                    f"the charter asks for at least {charter.minimum_nodes} nodes",
                    f"章程要求至少 {charter.minimum_nodes} 个节点",
                ),
            )
        )
    if now >= plan.expires:
        found.append(Problem("plan-expired", Text("the plan has expired", "计划已过期")))
    period = (time_from(charter.period_from), time_from(charter.period_to))
    if not period[0] <= min(plan.created, now) or not plan.expires <= period[1]:
        found.append(
            Problem(
                "outside-period",
                Text(
                    "the plan must begin and end within the charter's budget period,"
                    " and the period must have begun",
                    "计划须在章程的预算期内开始并结束，且该预算期已开始",
                ),
            )
        )
    band = charter.member(node).size_band
    if band is None or band[0] < charter.minimum_enterprises:
        found.append(
            Problem(
                "too-small",
                Text(
                    f"this node's declared size is under {charter.minimum_enterprises} enterprises",
                    f"本节点申报的企业数低于 {charter.minimum_enterprises} 家",
                ),
            )
        )
    if plan.created > now + AHEAD:
        found.append(
            Problem(
                "made-later",
                Text(
                    "the plan is dated after this node's time: set the clock that is wrong",
                    "计划的制定时间晚于本节点时间：请校准有误的时钟",
                ),
            )
        )
    return found


def view_problems(plan: Plan, view: FeatureView, schemas: Mapping[str, Schema]) -> list[Problem]:
    """Return how a plan and the feature view whose file has its hash do not fit together.

    schemas  by data set: the shipped ones, or a node's own, which may grade columns higher
    """
    found: list[Problem] = []
    if (view.name, view.version) != (plan.view.name, plan.view.version):
        found.append(
            Problem(
                "view-mismatch",
                Text(
                    f"the feature view with the plan's hash is {view.id}, not {plan.view.name} "
                    f"version {plan.view.version}",
                    f"计划哈希对应的特征视图是 {view.id}，而非 {plan.view.name} 第 "
                    f"{plan.view.version} 版",
                ),
            )
        )
    if view.uses_as_of != (plan.as_of is not None):
        found.append(
            Problem(
                "as-of-mismatch",
                Text(
                    "the plan gives an as-of day to a view that takes none, or none to one that"
                    " needs it",
                    "计划的截止日期（as_of）与特征视图的要求不符",
                ),
            )
        )
    found_grade = view_grade(view, schemas)
    if GRADES.index(plan.grade) < GRADES.index(found_grade):
        here, stated = GRADE_NAMES[found_grade], GRADE_NAMES[plan.grade]
        found.append(
            Problem(
                "grade-understated",
                Text(
                    f"the plan states grade {stated.en}, its view reads columns of grade {here.en}:"
                    f' the bank must propose it again with grade = "{found_grade}"',
                    f"计划声明的分级为{stated.zh}，其视图所读列的分级为{here.zh}："
                    f'须由银行以 grade = "{found_grade}" 重新提出',
                ),
            )
        )
    return found
