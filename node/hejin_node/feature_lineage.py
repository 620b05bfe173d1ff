"""What each feature of a view is computed from: columns of data sets, by plan and by experiment."""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import duckdb
import numpy as np
import pyarrow as pa

from hejin_models.features import Dataset, FeatureView
from hejin_models.schemas import Schema
from hejin_node import duck
from hejin_node.segments import Columns, arrow_schema
from hejin_node.view_check import Trial
from hejin_node.view_worlds import Tables, World

_DAY: Final = dt.date(2024, 7, 15)
_SEEDS: Final = range(3)
_RELATIVE: Final = 1e-9
"""Sums in another order differ in their last digits."""

Reads = Mapping[str, tuple[str, ...]]
"""Columns by data set."""


@dataclass(frozen=True, slots=True)
class FeatureOrigin:
    """A feature and what it is computed from.

    reads     what DuckDB's plan for this feature alone scans: never too little, at times too much
    moved_by  what changed its value on random rows: never too much, at times too little
    """

    feature: str
    reads: Reads
    moved_by: Reads

    @property
    def told(self) -> Reads:
        """What to show: what moves it, or all that it reads where nothing moved it."""
        return self.moved_by or self.reads


def feature_origins(view: FeatureView, schemas: Mapping[str, Schema]) -> tuple[FeatureOrigin, ...]:
    """Return what each feature of a view is computed from; no row of the node is looked at.

    raises   QueryError: the view does not run on random rows
    """
    reads = _planned(view)
    moved = _tried(view, schemas)
    return tuple(FeatureOrigin(one.name, reads[one.name], moved[one.name]) for one in view.features)


# -- by plan -------------------------------------------------------------------------------


def _planned(view: FeatureView) -> dict[str, Reads]:
    with duck.locked_down() as connection:
        for item in view.datasets:
            columns: Columns = {"enterprise": "text", **item.columns}
            # Plans tell columns, not tables: a name that holds both tells them apart.
            named: Columns = {f"{item.name}.{name}": kind for name, kind in columns.items()}
            rows = duck.Rewindable(arrow_schema(named), lambda: iter(()))
            connection.register(f"rows of {item.name}", rows)
            listed = ", ".join(f'"{item.name}.{name}" AS "{name}"' for name in columns)
            connection.execute(
                f'CREATE VIEW "{item.name}" AS SELECT {listed} FROM "rows of {item.name}"'  # noqa: S608
            )
        return {one.name: _reads(connection, view, one.name) for one in view.features}


def _reads(connection: duckdb.DuckDBPyConnection, view: FeatureView, feature: str) -> Reads:
    given = {"as_of": _DAY} if view.uses_as_of else None
    source = view.source.rstrip().rstrip(";")
    sql = f'EXPLAIN (FORMAT JSON) SELECT "{feature}" FROM (\n{source}\n)'  # noqa: S608
    try:
        ((_, plan),) = connection.execute(sql, given).fetchall()
    except duckdb.Error:  # nothing is lost: all that the view reads
        return {item.name: tuple(item.columns) for item in view.datasets}
    scanned = {name for node in json.loads(plan) for name in _scanned(node)}
    return _of_view(view, scanned)


def _scanned(node: Mapping[str, object]) -> Iterator[str]:
    """Yield the columns that a plan's scans read."""
    info = node.get("extra_info")
    listed = info.get("Projections", ()) if isinstance(info, dict) else ()
    yield from [listed] if isinstance(listed, str) else listed
    children = node.get("children")
    for child in children if isinstance(children, list) else ():
        yield from _scanned(child)


def _of_view(view: FeatureView, named: set[str]) -> Reads:
    """Return which of `DATASET.COLUMN` a view declares, by data set."""
    return {
        item.name: columns
        for item in view.datasets
        if (columns := tuple(name for name in item.columns if f"{item.name}.{name}" in named))
    }


# -- by experiment -------------------------------------------------------------------------


def _tried(view: FeatureView, schemas: Mapping[str, Schema]) -> dict[str, Reads]:
    """Shuffle one column after the other and see which features change.

    Enterprises do not depend on each other, so all the experiments are enterprises of one run.
    """
    changes = [("", ""), *((item.name, name) for item in view.datasets for name in item.columns)]
    with duck.locked_down() as connection:
        kind = Trial(view, schemas, connection).kind(_DAY)
        worlds = [World(view, schemas, _DAY, seed, kind).tables() for seed in _SEEDS]
        sources = {
            item.name: pa.concat_tables(
                _changed(item, tables, change, f"-{seed}-{number}")
                for seed, tables in zip(_SEEDS, worlds, strict=True)
                for number, change in enumerate(changes)
            )
            for item in view.datasets
        }
        given = {"as_of": _DAY}
        rows = duck.select(connection, view.source, sources, given).to_pylist()
    found = {row["enterprise"]: row for row in rows}
    moved: dict[str, set[str]] = {one.name: set() for one in view.features}
    for code, row in found.items():
        firm, seed, number = code.rsplit("-", 2)
        before = found.get(f"{firm}-{seed}-0", {})
        for name, seen in moved.items():
            if not _same(before.get(name), row[name]):
                seen.add(".".join(changes[int(number)]))
    return {name: _of_view(view, seen) for name, seen in moved.items()}


def _changed(item: Dataset, tables: Tables, change: tuple[str, str], mark: str) -> pa.Table:
    """Return a data set under other codes, one of its columns shuffled if `change` names it."""
    table = tables[item.name]
    codes = pa.array([f"{code}{mark}" for code in table.column("enterprise").to_pylist()])
    table = table.set_column(0, "enterprise", codes.cast(pa.string()))
    if change[0] == item.name:
        order = np.random.default_rng(7).permutation(table.num_rows)
        place = table.column_names.index(change[1])
        table = table.set_column(place, change[1], table.column(place).take(pa.array(order)))
    return table


def _same(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return (
            one == other
            or (math.isnan(one) and math.isnan(other))
            or math.isclose(one, other, rel_tol=_RELATIVE, abs_tol=1e-12)
        )
    return one == other
