"""The self-check of a feature view: tried on random rows before it is installed.

A view may not look past its as-of date, nor across enterprises, and its result may depend on
nothing but the rows. A check on samples finds what shows on them; it proves nothing about a view
that hides its look-ahead behind a condition that random rows never meet. Read the SQL as well.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import duckdb
import pyarrow as pa

from hejin_models.features import FeatureView
from hejin_models.schemas import Schema, check_declared
from hejin_node import duck
from hejin_node.errors import (
    CrossesEnterprisesError,
    LooksAheadError,
    QueryError,
    RepeatsError,
    SlowViewError,
    VariesError,
    ViewFailedError,
    ViewRefusedError,
)
from hejin_node.snapshot import result_fault
from hejin_node.view_worlds import KINDS, Kind, Tables, World
from hejin_trust.text import Text

#: The ends of a short month and of a year, and the middle of a month; today comes after them.
_DAYS: Final = (dt.date(2023, 2, 28), dt.date(2024, 7, 15), dt.date(2021, 12, 31))

LONGEST_SECONDS = 60.0
"""For the whole check; a shipped view takes about one."""

# Sums in another order differ in their last digits, of which a difference may leave few.
_RELATIVE, _ABSOLUTE = 1e-6, 1e-7

_Row = tuple[object, ...]
_Result = dict[str, _Row]


@dataclass(frozen=True, slots=True)
class SelfCheck:
    """What a view passed: so many random rows, and the features that never changed on them.

    Of an `unmoved` feature the check says nothing: its condition was never met.
    """

    rows: int
    unmoved: tuple[str, ...]

    @property
    def text(self) -> Text:
        """The outcome in one sentence."""
        en = (
            f"self-check passed on {self.rows} random rows: no feature looks past the as-of date"
            " or across enterprises"
        )
        zh = f"自检通过（{self.rows} 行随机数据）：没有特征越过截止日或依赖其他企业"
        if self.unmoved:
            names = ", ".join(self.unmoved)
            en += f"; it says nothing about {names}, which never changed: read the SQL"
            zh += f"；{names} 在随机数据上从未变化，自检未能覆盖，请阅读 SQL"
        return Text(en, zh)


def check_view(view: FeatureView, schemas: Mapping[str, Schema], today: dt.date) -> SelfCheck:
    """Try a view on random rows and return what it passed.

    raises  ViewError (it contradicts a schema), QueryError (its SQL does not run, not even on
            empty data sets, or does not give what it declares), ViewRefusedError by its kind;
            SlowViewError after LONGEST_SECONDS
    """
    check_declared(view, schemas)

    def tried(connection: duckdb.DuckDBPyConnection) -> SelfCheck:
        trial = Trial(view, schemas, connection)
        trial.empty()
        kind = trial.kind(_DAYS[0])
        for seed, day in enumerate((*_DAYS, today)):
            trial.world(World(view, schemas, day, seed, kind), day)
        unmoved = tuple(f.name for f in view.features if len(trial.seen[f.name]) < 2)
        return SelfCheck(trial.rows, unmoved)

    slow = SlowViewError(
        f"View {view.id} was tried for {LONGEST_SECONDS:g} s on a few hundred rows without an"
        " end: simplify its `source`.",
        f"视图 {view.id} 在数百行数据上检验 {LONGEST_SECONDS:g} 秒仍未结束：请简化其 `source`。",
    )
    return duck.in_time(LONGEST_SECONDS, slow, tried)


class Trial:
    """Runs one view over world after world on one connection."""

    def __init__(
        self,
        view: FeatureView,
        schemas: Mapping[str, Schema],
        connection: duckdb.DuckDBPyConnection,
    ) -> None:
        self._view, self._schemas, self._connection = view, schemas, connection
        self._names = tuple(feature.name for feature in view.features)
        self.seen: dict[str, set[str]] = {name: set() for name in self._names}
        self.rows = 0

    def empty(self) -> None:
        """Run on empty data sets: QueryError unless all that is declared comes out."""
        world = World(self._view, self._schemas, _DAYS[0], 0, KINDS[0])
        result = self._select(world.tables(codes=()), _DAYS[0])
        fault = result_fault(self._view, result.schema)
        if fault is not None:
            raise QueryError(fault.en, fault.zh)

    def kind(self, day: dt.date) -> Kind:
        """Return what data sets without schema must be like for the view to run at all."""
        first: QueryError | None = None
        for kind in KINDS:
            world = World(self._view, self._schemas, day, 0, kind)
            try:
                self._run(world.tables(), day, world.codes)
            except (RepeatsError, ViewFailedError) as reason:
                first = first or reason
            else:
                return kind
        assert first is not None
        raise first

    def world(self, world: World, day: dt.date) -> None:
        """Compare a world with its variations; raises ViewRefusedError."""
        tables = world.tables()
        self.rows += sum(table.num_rows for table in tables.values())
        whole = self._run(tables, day, world.codes)
        for row in whole.values():
            for name, value in zip(self._names, row, strict=True):
                self.seen[name].add(repr(value))
        other = self._run(world.tables(shuffled=True), day, world.codes)
        self._compare(whole, other, VariesError, _VARIES)
        known = self._run(world.tables(known=True), day, world.codes)
        self._compare(whole, known, LooksAheadError, _AHEAD)
        half = len(world.codes) // 2
        for codes in (world.codes[:half], world.codes[half:]):
            alone = self._run(world.tables(codes=codes), day, codes)
            theirs = {code: row for code, row in whole.items() if code in codes}
            self._compare(theirs, alone, CrossesEnterprisesError, _CROSSES)

    def _run(self, tables: Tables, day: dt.date, codes: tuple[str, ...]) -> _Result:
        table = self._select(tables, day)
        found = table.column("enterprise").to_pylist()
        if len(set(found)) != len(found) or not set(found) <= set(codes):
            raise self._refused(RepeatsError, _REPEATS, "enterprise")
        columns = [table.column(name).to_pylist() for name in self._names]
        return dict(zip(found, zip(*columns, strict=True), strict=True))

    def _select(self, tables: Tables, day: dt.date) -> pa.Table:
        sources = {
            name: duck.Rewindable(table.schema, lambda table=table: iter(table.to_batches()))  # type: ignore[misc]
            for name, table in tables.items()
        }
        return duck.select(self._connection, self._view.source, sources, {"as_of": day})

    def _compare(
        self, one: _Result, other: _Result, error: type[ViewRefusedError], said: Text
    ) -> None:
        if one.keys() != other.keys():
            raise self._refused(error, said, "enterprise")
        for code, row in one.items():
            for name, left, right in zip(self._names, row, other[code], strict=True):
                if not _same(left, right):
                    raise self._refused(error, said, name)

    def _refused(self, error: type[ViewRefusedError], said: Text, column: str) -> ViewRefusedError:
        view = self._view.id
        return error(
            said.en.format(view=view, column=column), said.zh.format(view=view, column=column)
        )


def _same(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        both = math.isnan(one) and math.isnan(other)
        return both or math.isclose(one, other, rel_tol=_RELATIVE, abs_tol=_ABSOLUTE)
    return one == other


_AHEAD: Final = Text(
    "View {view} looks ahead: its column {column} changes with what was not known on the as-of"
    " date. Compare every date that tells of an event with $as_of; where dates are no events,"
    " declare the data set in schemas/.",
    "视图 {view} 越过截止日：列 {column} 随截止日尚不可知的数据变化。"
    "请将每个事件日期与 $as_of 比较；若日期并非事件，请在 schemas/ 中声明该数据集。",
)
_CROSSES: Final = Text(
    "View {view} looks across enterprises: its column {column} changes for one with the rows of"
    " others. Group and partition everything by enterprise.",
    "视图 {view} 跨企业取数：某企业的列 {column} 随其他企业的数据变化。"
    "请对所有分组和窗口按 enterprise 划分。",
)
_VARIES: Final = Text(
    "View {view} varies: its column {column} is not the same for the same rows, or in another order"
    " of them. Use no random values, and order by what is unique.",
    "视图 {view} 结果不稳定：相同数据或改变行序时，列 {column} 取值不同。"
    "请勿使用随机值，排序依据应唯一。",
)
_REPEATS: Final = Text(
    "View {view} does not give each enterprise once, by its code: its column {column} repeats one"
    " or has a code that no row has. Group by enterprise.",
    "视图 {view} 未按企业代码每家恰给一行：列 {column} 有重复或数据中没有的代码。"
    "请按 enterprise 分组。",
)
