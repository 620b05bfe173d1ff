"""Measures a data set's quality: its rules counted over the warehouse, by enterprise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hejin_models.features import ColumnType, Dataset
from hejin_models.quality import (
    DIMENSIONS,
    NewestRule,
    Rule,
    Tally,
    rules_of,
    rules_without_schema,
)
from hejin_models.schemas import Schema
from hejin_node.quality_sql import check_rules, enterprise_sql, months_sql
from hejin_node.warehouse import Warehouse

Counts = npt.NDArray[np.int32]

_NO_ENTERPRISE: Final = "enterprise.code"
"""The rule of ingest whose rows belong to nobody."""


@dataclass(frozen=True, slots=True)
class Month:
    """How many rows a month has, and of how many enterprises."""

    month: date
    rows: int
    enterprises: int


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """What a data set's rules counted.

    rows         of the data set, without quarantine
    quarantined  rows in quarantine by the rule of ingest that they broke
    newest       newest day until the check in the columns of the `newest` rules; None without one
    codes        every enterprise with a row, or with one in quarantine
    of_rows      int32[n]: rows of each of them
    applied      int32[n, R]: how often each rule applied to each of them
    held         int32[n, R]: how often it held
    nobodys      int32[R]: rows in quarantine that belong to no enterprise; none held
    """

    dataset: str
    schema: Schema | None
    rules: tuple[Rule, ...]
    rows: int
    quarantined: Mapping[str, int]
    newest: date | None
    codes: tuple[str, ...]
    of_rows: Counts
    applied: Counts
    held: Counts
    nobodys: Counts

    @property
    def tallies(self) -> dict[str, Tally]:
        """The count of each rule over the whole data set, by the rule's id."""
        applied = self.applied.sum(axis=0, dtype=np.int64) + self.nobodys
        held = self.held.sum(axis=0, dtype=np.int64)
        return {
            rule.id: Tally(int(applied[number]), int(held[number]))
            for number, rule in enumerate(self.rules)
        }

    def enterprise_scores(self) -> npt.NDArray[np.float64]:
        """Return float64[n, 5]: each enterprise's score in each dimension, NaN without one."""
        shares = np.full(self.applied.shape, np.nan)
        np.divide(self.held, self.applied, out=shares, where=self.applied > 0)
        found = np.full((len(self.codes), len(DIMENSIONS)), np.nan)
        for number, dimension in enumerate(DIMENSIONS):
            mine = shares[:, [rule.dimension == dimension for rule in self.rules]]
            known = ~np.isnan(mine)
            counted = known.sum(axis=1)
            total = np.where(known, mine, 0).sum(axis=1)
            np.divide(total, counted, out=found[:, number], where=counted > 0)
        return found

    def enterprise_tallies(self, place: int) -> dict[str, Tally]:
        """Return the count of each rule for one enterprise, by the rule's id."""
        return {
            rule.id: Tally(int(self.applied[place, number]), int(self.held[place, number]))
            for number, rule in enumerate(self.rules)
        }


def dataset_rules(
    schema: Schema | None, dataset: str, columns: Mapping[str, ColumnType]
) -> tuple[Rule, ...]:
    """Return the rules of a data set; one without a schema asks only that values are there.

    raises   SchemaError, QualityRuleError: a rule cannot be read, or does not run
    """
    if schema is None:
        return rules_without_schema(columns)
    rules = rules_of(schema)
    check_rules(Dataset(dataset, schema.category, types_of(schema)), rules)
    return rules


def types_of(schema: Schema) -> dict[str, ColumnType]:
    """Return the types of a schema's columns."""
    return {name: column.type for name, column in schema.columns.items()}


def measure(warehouse: Warehouse, schema: Schema | None, dataset: str, today: date) -> Measured:
    """Count a data set's rules over all its rows.

    Partition by partition, so memory does not grow with the rows; it does with the enterprises,
    about 8 bytes for each enterprise and rule.
    raises   SchemaError, QualityRuleError, QueryError (a column of another type than the
             schema's), SegmentError
    """
    present = dict(warehouse.columns("data", dataset) or {})
    present.pop("enterprise", None)
    rules = dataset_rules(schema, dataset, present)
    declared = present if schema is None else types_of(schema)
    shared = {name: kind for name, kind in declared.items() if name in present}
    sql = enterprise_sql(dataset, rules, declared, list(shared))
    category = "trade" if schema is None else schema.category
    table = warehouse.query(sql, (Dataset(dataset, category, shared),), today)
    codes = table.column("enterprise").to_pylist()
    of_rows = _whole(table, "rows")
    applied, held, newest = _counted(table, rules)
    quarantined, theirs, nobodys = _quarantined(warehouse, dataset, rules)
    place = {code: number for number, code in enumerate(codes)}
    added = [code for code in theirs if code not in place]
    if added:
        place.update((code, len(codes) + number) for number, code in enumerate(added))
        codes += added
        none = np.zeros((len(added), len(rules)), np.int32)
        applied, held = np.vstack([applied, none]), np.vstack([held, none])
        of_rows = np.concatenate([of_rows, none[:, 0]])
    for code, counts in theirs.items():
        applied[place[code]] += counts
    return Measured(
        dataset=dataset,
        schema=schema,
        rules=rules,
        rows=int(of_rows.sum(dtype=np.int64)),
        quarantined=quarantined,
        newest=newest,
        codes=tuple(codes),
        of_rows=of_rows,
        applied=applied,
        held=held,
        nobodys=nobodys,
    )


def months_of(warehouse: Warehouse, schema: Schema) -> tuple[Month, ...]:
    """Return how many rows each month has by the schema's time column, oldest first."""
    if not schema.time or warehouse.columns("data", schema.dataset) is None:
        return ()
    asked = Dataset(schema.dataset, schema.category, {schema.time: "date"})
    found: dict[date, tuple[int, int]] = {}
    for row in warehouse.query(months_sql(schema.dataset, schema.time), (asked,)).to_pylist():
        rows, enterprises = found.get(row["month"], (0, 0))
        found[row["month"]] = (rows + row["rows"], enterprises + row["enterprises"])
    return tuple(Month(month, *found[month]) for month in sorted(found))


def _counted(table: pa.Table, rules: Sequence[Rule]) -> tuple[Counts, Counts, date | None]:
    """Return how often each rule applied and held, and the newest day of all."""
    size = table.num_rows
    applied, held = np.zeros((size, len(rules)), np.int32), np.zeros((size, len(rules)), np.int32)
    newest: date | None = None
    for number, rule in enumerate(rules):
        if not isinstance(rule.form, NewestRule):
            applied[:, number] = _whole(table, f"a{number}")
            held[:, number] = _whole(table, f"h{number}")
            continue
        days = table.column(f"l{number}").to_pylist()
        last = max((day for day in days if day is not None), default=None)
        if last is not None:
            least = last - timedelta(days=rule.form.within_days)
            applied[:, number] = 1
            held[:, number] = [day is not None and day >= least for day in days]
            newest = last if newest is None else max(newest, last)
    return applied, held, newest


def _quarantined(
    warehouse: Warehouse, dataset: str, rules: Sequence[Rule]
) -> tuple[dict[str, int], dict[str, Counts], Counts]:
    """Return rows by rule of ingest, by enterprise and rule of quality, and those of nobody."""
    rows: Counter[tuple[str, str]] = Counter()
    for batch in warehouse.read("quarantine", dataset, ["rule", "enterprise"]):
        counted = pa.Table.from_batches([batch]).group_by(["rule", "enterprise"])
        for found in counted.aggregate([([], "count_all")]).to_pylist():
            rule, code = found["rule"], found["enterprise"] or ""
            rows[rule, "" if rule == _NO_ENTERPRISE else code] += found["count_all"]
    by_rule: Counter[str] = Counter()
    theirs: dict[str, Counts] = {}
    nobodys = np.zeros(len(rules), np.int32)
    for (broken, code), count in rows.items():
        by_rule[broken] += count
        counts = nobodys if not code else theirs.setdefault(code, np.zeros(len(rules), np.int32))
        counts += np.array([broken in rule.quarantine for rule in rules]) * count
    return dict(by_rule), theirs, nobodys


def _whole(table: pa.Table, name: str) -> Counts:
    numbers: Counts = table.column(name).to_numpy().astype(np.int32)
    return numbers
