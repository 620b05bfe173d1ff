"""Quality rules as DuckDB SQL: one row an enterprise, with how often each rule applied and held."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

from hejin_models.features import ColumnType, Dataset
from hejin_models.quality import KeyRule, MonthsRule, NewestRule, RowRule, Rule
from hejin_node import duck
from hejin_node.errors import QualityRuleError, QueryError
from hejin_node.segments import arrow_schema

_SQL_TYPES: Mapping[ColumnType, str] = {
    "text": "VARCHAR",
    "number": "DOUBLE",
    "integer": "BIGINT",
    "date": "DATE",
}


def enterprise_sql(
    dataset: str, rules: Sequence[Rule], columns: Mapping[str, ColumnType], present: Sequence[str]
) -> str:
    """Return the SELECT over a data set: `enterprise`, `rows`, and for rule i `a<i>` and `h<i>`.

    columns  the data set's as its schema has them; of those not `present` every value is missing
    A `newest` rule has the newest day until $as_of in `l<i>` instead: the others' is needed too.
    """
    made = ", ".join(
        f'CAST(NULL AS {_SQL_TYPES[kind]}) AS "{name}"'
        for name, kind in columns.items()
        if name not in present
    )
    counts = ", ".join(_count(number, rule) for number, rule in enumerate(rules))
    # Names match [a-z0-9_]; a rule's own SQL is its author's, and DuckDB is locked down.
    return (
        f'WITH given AS (SELECT *{", " if made else ""}{made} FROM "{dataset}") '  # noqa: S608
        f"SELECT enterprise, CAST(count(*) AS INTEGER) AS rows, {counts} "
        "FROM given GROUP BY enterprise"
    )


def months_sql(dataset: str, time: str) -> str:
    """Return the SELECT of rows and enterprises by month; parts of a data set add up."""
    return (
        f"SELECT CAST(date_trunc('month', \"{time}\") AS DATE) AS month, "  # noqa: S608
        "CAST(count(*) AS BIGINT) AS rows, "
        "CAST(count(DISTINCT enterprise) AS BIGINT) AS enterprises "
        f'FROM "{dataset}" WHERE "{time}" IS NOT NULL GROUP BY 1'
    )


def check_rules(dataset: Dataset, rules: Sequence[Rule]) -> None:
    """Run each rule's SQL over no rows; QualityRuleError names one that does not run."""
    if _failure(dataset, rules) is None:
        return
    for rule in rules:
        reason = _failure(dataset, [rule])
        if reason is not None:
            en = reason.text.en.removesuffix(duck.REMEDY.en)
            zh = reason.text.zh.removesuffix(duck.REMEDY.zh)
            raise QualityRuleError(
                f"Quality rule {rule.id} of data set {dataset.name} does not run. {en} Correct "
                "its `holds` or `when`.",
                f"数据集 {dataset.name} 的质量规则 {rule.id} 无法执行。{zh}"
                "请更正其 `holds` 或 `when`。",
            ) from reason


def _failure(dataset: Dataset, rules: Sequence[Rule]) -> QueryError | None:
    schema = arrow_schema({"enterprise": "text", **dataset.columns})
    empty = duck.Rewindable(schema, lambda: iter(()))
    sql = enterprise_sql(dataset.name, rules, dataset.columns, list(dataset.columns))
    try:
        with duck.locked_down() as connection:
            duck.select(connection, sql, {dataset.name: empty}, {"as_of": date(2000, 1, 1)})
    except QueryError as reason:
        return reason
    return None


def _count(number: int, rule: Rule) -> str:
    match rule.form:
        case RowRule(holds, when):
            # An error on some value counts as NULL: the rule does not apply to that row.
            about = f"({when})" if when else "true"
            held = f"TRY(({holds}) AND {about})" if when else f"TRY(({holds}))"
            told = f"TRY({about}) AND TRY(({holds})) IS NOT NULL"
            applied, holding = f"count(*) FILTER (WHERE {told})", f"count(*) FILTER (WHERE {held})"
        case KeyRule(key):
            # 64 bits: two keys of one enterprise meet by chance less than once in 10^7.
            listed = ", ".join(f'"{name}"' for name in key)
            applied, holding = "count(*)", f"count(DISTINCT hash({listed}))"
        case MonthsRule(column):
            span = f'date_diff(\'month\', min("{column}"), max("{column}")) + 1'
            applied = f"coalesce({span}, 0)"
            holding = f"count(DISTINCT date_trunc('month', \"{column}\"))"
        case NewestRule(column):
            return f'max("{column}") FILTER (WHERE "{column}" <= $as_of) AS l{number}'
    return f"CAST({applied} AS INTEGER) AS a{number}, CAST({holding} AS INTEGER) AS h{number}"
