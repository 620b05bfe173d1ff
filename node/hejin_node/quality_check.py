"""Checks data sets, keeps the results, and tells whether a feature view's data pass their gate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction

from sqlalchemy import Connection

from hejin_models.features import FeatureView
from hejin_models.plan_rules import Problem
from hejin_models.quality import (
    DIMENSION_NAMES,
    Dimension,
    Shortfall,
    columns_read,
    concerning,
    gate_of,
    rules_digest,
    rules_of,
    scores,
    shortfalls,
)
from hejin_models.schemas import Schema
from hejin_node import quality_store
from hejin_node.errors import NodeError
from hejin_node.quality import Measured, measure
from hejin_node.quality_store import Result
from hejin_node.warehouse import Warehouse
from hejin_trust.canonical import time_text
from hejin_trust.database import reading, writing
from hejin_trust.text import Text


class NoDatasetError(NodeError):
    """A data set that is asked for is not in the warehouse."""

    code = "no-dataset"


@dataclass(frozen=True, slots=True, eq=False)
class Checked:
    """A data set as it was measured just now, its scores, and where it is below its gate."""

    measured: Measured
    result: Result
    scores: Mapping[Dimension, Fraction | None]
    gate: Mapping[Dimension, float]
    below: tuple[Shortfall, ...]


def check(
    warehouse: Warehouse, schemas: Mapping[str, Schema], dataset: str, at: datetime
) -> Checked:
    """Measure a data set, keep the result and return it.

    schemas  the node's, by data set; the operator's files may have added rules, changed gates
    raises   NoDatasetError; SchemaError, QualityRuleError, QueryError, SegmentError
    """
    schema = schemas.get(dataset)
    with reading(warehouse.database) as connection:
        covered = quality_store.coverage(connection, dataset)
        loads = quality_store.complete_loads(connection, dataset)
    if covered is None:
        raise NoDatasetError(
            f"There is no data set {dataset} here: `hejin node data list` shows those there are.",
            f"本节点没有数据集 {dataset}：可用 `hejin node data list` 查看已有数据集。",
        )
    # What is loaded while this reads is not covered: the result is then out of date at once.
    measured = measure(warehouse, schema, dataset, at.date())
    found = scores(measured.rules, measured.tallies)
    gate = {} if schema is None else gate_of(schema)
    below = shortfalls(found, gate) if gate else ()
    result = Result(
        dataset=dataset,
        checked=time_text(at),
        loads=loads,
        coverage=covered,
        rules=rules_digest(measured.rules),
        rows=measured.rows,
        quarantined=sum(measured.quarantined.values()),
        enterprises=len(measured.codes),
        newest=None if measured.newest is None else measured.newest.isoformat(),
        tallies=measured.tallies,
        scores={
            dimension: None if score is None else float(score) for dimension, score in found.items()
        },
        passed=not below,
    )
    with writing(warehouse.database) as connection:
        result = quality_store.store(connection, result)
    return Checked(measured, result, found, gate, below)


def gate_problems(
    connection: Connection, schemas: Mapping[str, Schema], view: FeatureView
) -> tuple[Problem, ...]:
    """Return why a view's data sets do not pass their quality gate; empty if they do.

    Only stored results are looked at, no row is read. A data set's rules count that concern a
    column which the view reads. One that no schema declares has no gate, and one that is not there
    has no quality either.
    raises   SchemaError
    """
    problems = []
    for asked in view.datasets:
        schema = schemas.get(asked.name)
        covered = quality_store.coverage(connection, asked.name)
        if schema is None or covered is None:
            continue
        rules = rules_of(schema)
        result = quality_store.latest(connection, asked.name)
        if result is None:
            problems.append(_unknown(asked.name, "it was not checked", "尚未检查"))
        elif result.coverage != covered:
            problems.append(
                _unknown(asked.name, "it has changed since its check", "检查之后已有变化")
            )
        elif result.rules != rules_digest(rules):
            problems.append(
                _unknown(asked.name, "its rules have changed since its check", "检查之后规则已变")
            )
        else:
            mine = concerning(rules, columns_read(view, asked.name))
            below = shortfalls(scores(mine, result.tallies), gate_of(schema))
            if below:
                problems.append(_failed(asked.name, below))
    return tuple(problems)


def told(below: tuple[Shortfall, ...]) -> Text:
    """Return in words where a gate is missed: `completeness 71.2 % (least 90 %)`."""

    en, zh = [], []
    for item in below:
        # Rounded down, so that a score just below the least does not read as the least.
        share, least = f"{int(item.score * 10_000) / 100:.2f} %", f"{item.least * 100:g} %"
        name = DIMENSION_NAMES[item.dimension]
        en.append(f"{name.en} {share} (least {least})")
        zh.append(f"{name.zh} {share}（下限 {least}）")
    return Text(", ".join(en), "，".join(zh))


def summary(checked: Checked) -> Text:
    """Return a check in one line: the score of each dimension, and whether the gate is passed."""
    name, below = checked.measured.dataset, told(checked.below)
    shares = {
        dimension: f"{int(score * 1000) / 10:.1f} %"
        for dimension, score in checked.scores.items()
        if score is not None
    }
    en = ", ".join(f"{DIMENSION_NAMES[one].en} {share}" for one, share in shares.items())
    zh = "，".join(f"{DIMENSION_NAMES[one].zh} {share}" for one, share in shares.items())
    if not checked.gate:
        verdict = Text("it has no gate", "无质量门槛")
    elif checked.below:
        verdict = Text(f"gate NOT passed: {below.en}", f"未通过质量门槛：{below.zh}")
    else:
        verdict = Text("gate passed", "通过质量门槛")
    number = checked.result.id
    return Text(
        f"quality of {name} (check {number}): {en}; {verdict.en}",
        f"{name} 的质量（第 {number} 号检查）：{zh}；{verdict.zh}",
    )


def _unknown(dataset: str, why: str, why_zh: str) -> Problem:
    command = f"hejin node quality check {dataset}"
    return Problem(
        "quality-unknown",
        Text(
            f"the quality of data set {dataset} is not known, {why}: `{command}`",
            f"数据集 {dataset} 的质量未知（{why_zh}）：请执行 `{command}`",
        ),
    )


def _failed(dataset: str, below: tuple[Shortfall, ...]) -> Problem:
    words = told(below)
    return Problem(
        "quality-gate-failed",
        Text(
            f"data set {dataset} does not pass its quality gate, {words.en}: "
            f"`hejin node quality check {dataset}` shows the rules",
            f"数据集 {dataset} 未通过质量门槛：{words.zh}；"
            f"可用 `hejin node quality check {dataset}` 查看规则",
        ),
    )
