"""Data quality: the rules of a data set, the scores that counts give, and its gate. No I/O.

Five dimensions: completeness, validity, consistency, uniqueness and timeliness (validity is
GB/T 36344-2018's 规范性, timeliness its 时效性). A rule counts how often it applied and how often
it held. The score of a dimension is the mean over its rules of held / applied, so that a rule
about few rows weighs as much as one about all. A dimension without a rule that applied has no
score.

Every column has two rules of its own: `NAME.present` (completeness) and, where its schema limits
it, `NAME.valid` (validity). Rows in quarantine count against the rule that keeps them there.
Others stand in schema files, shipped ones and the operator's:

    [[quality]]
    id = "tax.within-rate"
    dimension = "consistency"       # of a condition on a row: any but uniqueness
    en = "Tax is at most 17 % of net"
    zh = "税额不超过净额的 17%"
    when = "status = 'valid'"       # DuckDB SQL over a row's columns: the rows that it is about
    holds = "abs(tax) <= 0.17 * abs(net) + 1"    # true holds, false does not, NULL does not apply

    [[quality]]
    id = "invoice.once"
    dimension = "uniqueness"
    en = "No invoice is there twice"
    zh = "发票不重复"
    key = ["direction", "counterparty", "date", "net"]   # an enterprise has it once

    [[quality]]
    id = "months.all"
    dimension = "completeness"
    en = "No month is missing between an enterprise's first and last"
    zh = "企业首末月之间无缺月"
    months = "month"                # a date column

    [[quality]]
    id = "rows.recent"
    dimension = "timeliness"
    en = "The newest row is at most 92 days older than the data set's newest"
    zh = "企业最新记录不比数据集最新记录早 92 天以上"
    newest = "date"                 # a date column, one count an enterprise
    within_days = 92

    [gate]                          # the least score to pass; left out: DEFAULT_GATE
    completeness = 0.9

In `holds` and `when`, $as_of is the day of the check.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal, cast, get_args

from hejin_models.errors import SchemaError
from hejin_models.features import FeatureView
from hejin_models.schemas import Schema, SchemaColumn
from hejin_models.sql import literal
from hejin_models.toml_table import Table
from hejin_trust.canonical import encode
from hejin_trust.text import Text

Dimension = Literal["completeness", "validity", "consistency", "uniqueness", "timeliness"]

DIMENSIONS: Final[tuple[Dimension, ...]] = get_args(Dimension)

DIMENSION_NAMES: Final[Mapping[Dimension, Text]] = {
    "completeness": Text("completeness", "完整性"),
    "validity": Text("validity", "规范性"),
    "consistency": Text("consistency", "一致性"),
    "uniqueness": Text("uniqueness", "唯一性"),
    "timeliness": Text("timeliness", "及时性"),
}

DEFAULT_GATE: Final[Mapping[Dimension, float]] = {
    "completeness": 0.9,
    "validity": 0.95,
    "consistency": 0.95,
    "uniqueness": 0.95,
    # An enterprise that closed down sends nothing any more, and is what a bank wants to know of.
    "timeliness": 0.5,
}

_ID = re.compile(r"[a-z][a-z0-9_.-]{0,62}")
_WHAT = Text("schema", "数据规范")
_MOST_RULES: Final = 100
_LONGEST_SQL: Final = 1000


@dataclass(frozen=True, slots=True)
class RowRule:
    """A condition on a row, in DuckDB SQL; `when` says which rows it is about ("" for all)."""

    holds: str
    when: str = ""


@dataclass(frozen=True, slots=True)
class KeyRule:
    """What an enterprise may have once."""

    key: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MonthsRule:
    """No month missing between an enterprise's first and last in a date column."""

    column: str


@dataclass(frozen=True, slots=True)
class NewestRule:
    """An enterprise's newest row is at most so many days older than the data set's."""

    column: str
    within_days: int


Form = RowRule | KeyRule | MonthsRule | NewestRule


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: what it is about, and how it is counted.

    columns     those that it reads; it concerns a view that reads one of them
    quarantine  rules of ingest whose rows count as not held, such as `net.required`
    """

    id: str
    dimension: Dimension
    text: Text
    form: Form
    columns: tuple[str, ...]
    quarantine: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tally:
    """How often a rule applied, and how often it held."""

    applied: int
    held: int

    def __post_init__(self) -> None:
        if not 0 <= self.held <= self.applied:
            raise ValueError(f"a rule held {self.held} times of {self.applied}")

    @property
    def share(self) -> Fraction | None:
        """Return held / applied; None where the rule never applied."""
        return Fraction(self.held, self.applied) if self.applied else None


@dataclass(frozen=True, slots=True)
class Shortfall:
    """A dimension that is below what a gate asks."""

    dimension: Dimension
    score: Fraction
    least: float


def rules_of(schema: Schema) -> tuple[Rule, ...]:
    """Return all rules of a data set, those of its columns first; raises SchemaError."""
    rules = [_enterprise_rule()]
    for column in schema.columns.values():
        rules += _column_rules(column)
    for number, stated in enumerate(schema.quality):
        # Rules of several files stand behind one another: an operator knows them by their id.
        known_by = stated["id"] if isinstance(stated.get("id"), str) else number
        rules.append(_rule(Table(stated, f"quality[{known_by}]", _WHAT, SchemaError), schema))
    named = [rule.id for rule in rules]
    repeated = sorted({name for name in named if named.count(name) > 1})
    if repeated:
        raise SchemaError(
            f"data set {schema.dataset} has two quality rules {repeated[0]}: choose another id",
            f"数据集 {schema.dataset} 的质量规则 {repeated[0]} 重复：请另选 id",
        )
    if len(rules) > _MOST_RULES + 2 * len(schema.columns):
        raise SchemaError(
            f"data set {schema.dataset} has more than {_MOST_RULES} quality rules: remove some",
            f"数据集 {schema.dataset} 的质量规则超过 {_MOST_RULES} 条：请删减",
        )
    return tuple(rules)


def rules_without_schema(columns: Iterable[str]) -> tuple[Rule, ...]:
    """Return the rules of a data set that no schema declares: its values are there."""
    return tuple(_present(name, Text(name, name)) for name in columns if name != "enterprise")


def gate_of(schema: Schema) -> Mapping[Dimension, float]:
    """Return the least score that each dimension must have; raises SchemaError."""
    table = Table(dict(schema.gate or {}), "gate", _WHAT, SchemaError)
    gate = dict(DEFAULT_GATE)
    for name in table:
        if name not in DIMENSIONS:
            listed = ", ".join(DIMENSIONS)
            raise table.wrong(name, f"must be one of {listed}", f"应为 {listed} 之一")
        least = table.number(name)
        if not 0 <= least <= 1:
            raise table.wrong(name, "must be from 0 to 1", "应在 0 至 1 之间")
        gate[name] = least
    return gate


def rules_digest(rules: Sequence[Rule]) -> str:
    """Return a hex SHA-256 that changes with what is counted, not with how it is worded."""
    return hashlib.sha256(
        encode(
            [[rule.id, rule.dimension, repr(rule.form), list(rule.quarantine)] for rule in rules]
        )
    ).hexdigest()


def scores(rules: Sequence[Rule], tallies: Mapping[str, Tally]) -> dict[Dimension, Fraction | None]:
    """Return the score of each dimension; rules without a tally count as never applied."""
    found: dict[Dimension, Fraction | None] = {}
    for dimension in DIMENSIONS:
        shares = [
            share
            for rule in rules
            if rule.dimension == dimension and rule.id in tallies
            for share in [tallies[rule.id].share]
            if share is not None
        ]
        found[dimension] = sum(shares, Fraction(0)) / len(shares) if shares else None
    return found


def shortfalls(
    found: Mapping[Dimension, Fraction | None], gate: Mapping[Dimension, float]
) -> tuple[Shortfall, ...]:
    """Return the dimensions below the gate; one without a score is not."""
    return tuple(
        Shortfall(dimension, score, gate[dimension])
        for dimension, score in found.items()
        if score is not None and float(score) < gate[dimension]
    )


def concerning(rules: Iterable[Rule], columns: Iterable[str]) -> tuple[Rule, ...]:
    """Return the rules that concern a view which reads these columns.

    Those are the rules about one of the columns, and those about whole rows.
    """
    read = set(columns)
    return tuple(rule for rule in rules if not rule.columns or read.intersection(rule.columns))


def columns_read(view: FeatureView, dataset: str) -> tuple[str, ...]:
    """Return the columns of a data set that a view reads."""
    return next((tuple(one.columns) for one in view.datasets if one.name == dataset), ())


def _enterprise_rule() -> Rule:
    return Rule(
        "enterprise.valid",
        "validity",
        Text("The enterprise's code is right", "企业代码有效"),
        RowRule("true"),
        (),
        ("enterprise.code",),
    )


def _column_rules(column: SchemaColumn) -> list[Rule]:
    name, text = column.name, column.text
    # What is known later than its row may rightly not be there yet.
    rules = [] if column.known_on else [_present(name, text)]
    limits = [
        f'"{name}" {sign} {literal(bound)}'
        for sign, bound in ((">=", column.minimum), ("<=", column.maximum))
        if bound is not None
    ]
    if column.allowed:
        limits.append(f'"{name}" IN ({", ".join(map(literal, column.allowed))})')
    if limits or column.type != "text":
        rules.append(
            Rule(
                f"{name}.valid",
                "validity",
                Text(f"{text.en}: of its type and range", f"{text.zh}：类型与取值范围正确"),
                RowRule(" AND ".join([f'"{name}" IS NOT NULL', *limits]), f'"{name}" IS NOT NULL'),
                (name,),
                (f"{name}.type", f"{name}.range", f"{name}.allowed"),
            )
        )
    return rules


def _present(name: str, text: Text) -> Rule:
    return Rule(
        f"{name}.present",
        "completeness",
        Text(f"{text.en}: there", f"{text.zh}：非空"),
        RowRule(f'"{name}" IS NOT NULL'),
        (name,),
        (f"{name}.required",),
    )


def _rule(table: Table, schema: Schema) -> Rule:
    name = table.name("id", _ID)
    dimension = cast("Dimension", table.choice("dimension", DIMENSIONS))
    text = table.both()
    forms = [key for key in ("holds", "key", "months", "newest") if key in table]
    if len(forms) != 1:
        raise table.wrong(
            "", "must have one of `holds`, `key`, `months` and `newest`",
            "应恰有 `holds`、`key`、`months`、`newest` 之一",
        )  # fmt: skip
    if (forms[0] == "key") != (dimension == "uniqueness"):
        raise table.wrong("dimension", "is uniqueness where there is a `key`, and only there",
                          "有 `key` 时须为 uniqueness，反之亦然")  # fmt: skip
    form, columns = _form(table, forms[0], schema)
    quarantine = ("enterprise.duplicate",) if isinstance(form, KeyRule) else ()
    table.close()
    return Rule(name, dimension, text, form, columns, quarantine)


def _form(table: Table, kind: str, schema: Schema) -> tuple[Form, tuple[str, ...]]:
    if kind == "key":
        key = table.texts("key")
        for name in key:
            _known(table, "key", name, schema)
        if not key or len(set(key)) != len(key):
            raise table.wrong("key", "must name columns, each once", "应列出互不相同的列")
        return KeyRule(key), key
    if kind == "holds":
        holds = _sql(table, "holds")
        when = _sql(table, "when") if "when" in table else ""
        words = set(re.findall(r"[a-z_][a-z0-9_]*", f"{holds} {when}"))
        columns = tuple(name for name in schema.columns if name in words)
        if not columns:
            raise table.wrong("holds", "must name a column", "应至少使用一列")
        return RowRule(holds, when), columns
    column = table.name(kind)
    if _known(table, kind, column, schema).type != "date":
        raise table.wrong(kind, "must name a date column", "应为 date 类型的列名")
    if kind == "months":
        return MonthsRule(column), (column,)
    return NewestRule(column, table.integer("within_days", 1, 36_500)), (column,)


def _known(table: Table, key: str, name: str, schema: Schema) -> SchemaColumn:
    if name not in schema.columns:
        raise table.wrong(
            key, f"names {name}, which is no column of {schema.dataset}",
            f"所列 {name} 不是 {schema.dataset} 的列",
        )  # fmt: skip
    return schema.columns[name]


def _sql(table: Table, key: str) -> str:
    value = table.text(key)
    if len(value) > _LONGEST_SQL:
        raise table.wrong(key, f"may have {_LONGEST_SQL} characters", f"最多 {_LONGEST_SQL} 个字符")
    return value
