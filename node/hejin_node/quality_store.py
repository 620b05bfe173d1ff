"""Results of quality checks as the node keeps them: what was covered, counted and scored.

A result covers the loads that a data set had, and its number of rows: another load, a correction
or an erasure makes it out of date; compaction does not.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

from sqlalchemy import Column, Connection, Integer, Row, String, Table, insert, select

from hejin_models.quality import Dimension, Tally
from hejin_node import manifest
from hejin_node.tables import metadata
from hejin_trust.canonical import encode

quality_table = Table(
    "quality",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("dataset", String(200), nullable=False, index=True),
    Column("checked", String(20), nullable=False),
    Column("loads", String, nullable=False),  # JSON: ids of the loads that it covers
    Column("coverage", String(64), nullable=False),  # see `coverage`
    Column("rules", String(64), nullable=False),  # see hejin_models.quality.rules_digest
    Column("rows", Integer, nullable=False),
    Column("quarantined", Integer, nullable=False),
    Column("enterprises", Integer, nullable=False),
    Column("newest", String(10)),
    Column("tallies", String, nullable=False),  # JSON: rule id -> [applied, held]
    Column("scores", String, nullable=False),  # JSON: dimension -> score or null
    Column("passed", Integer, nullable=False),  # 1: the whole data set passed its gate then
)


@dataclass(frozen=True, slots=True)
class Result:
    """One check of a data set; see the table for the fields. `id` is 0 until it is stored."""

    dataset: str
    checked: str
    loads: tuple[int, ...]
    coverage: str
    rules: str
    rows: int
    quarantined: int
    enterprises: int
    newest: str | None
    tallies: Mapping[str, Tally]
    scores: Mapping[Dimension, float | None]
    passed: bool
    id: int = 0


def complete_loads(connection: Connection, dataset: str) -> tuple[int, ...]:
    """Return the ids of a data set's complete loads, oldest first."""
    return tuple(
        load.id
        for load in manifest.loads(connection, dataset)
        if load.kind == "data" and load.state == "complete"
    )


def coverage(connection: Connection, dataset: str) -> str | None:
    """Return a hex SHA-256 of what a data set holds now; None if it has no load.

    It is over the ids of its complete loads and the numbers of its rows, so that it stays when
    segments are only merged.
    """
    loads = list(complete_loads(connection, dataset))
    if not loads:
        return None
    rows = manifest.row_count(connection, "data", dataset)
    quarantined = manifest.row_count(connection, "quarantine", dataset)
    return hashlib.sha256(encode([loads, rows, quarantined])).hexdigest()


def store(connection: Connection, result: Result) -> Result:
    """Keep a result, in the caller's transaction, and return it with its id."""
    done = connection.execute(
        insert(quality_table).values(
            dataset=result.dataset,
            checked=result.checked,
            loads=json.dumps(list(result.loads)),
            coverage=result.coverage,
            rules=result.rules,
            rows=result.rows,
            quarantined=result.quarantined,
            enterprises=result.enterprises,
            newest=result.newest,
            tallies=json.dumps(
                {name: [tally.applied, tally.held] for name, tally in result.tallies.items()}
            ),
            scores=json.dumps(dict(result.scores)),
            passed=int(result.passed),
        )
    )
    assert done.inserted_primary_key is not None
    (key,) = done.inserted_primary_key
    return replace(result, id=int(key))


def find(connection: Connection, number: int) -> Result | None:
    """Return the result with this id, if there is one."""
    row = connection.execute(select(quality_table).where(quality_table.c.id == number)).first()
    return None if row is None else _result(row)


def latest(connection: Connection, dataset: str) -> Result | None:
    """Return the newest result of a data set, if there is one."""
    found = history(connection, dataset, most=1)
    return found[0] if found else None


def history(connection: Connection, dataset: str, most: int) -> tuple[Result, ...]:
    """Return the newest results of a data set, at most so many, oldest first."""
    query = (
        select(quality_table)
        .where(quality_table.c.dataset == dataset)
        .order_by(quality_table.c.id.desc())
        .limit(most)
    )
    return tuple(_result(row) for row in connection.execute(query))[::-1]


def _result(row: Row[tuple[object, ...]]) -> Result:
    return Result(
        dataset=row.dataset,
        checked=row.checked,
        loads=tuple(json.loads(row.loads)),
        coverage=row.coverage,
        rules=row.rules,
        rows=row.rows,
        quarantined=row.quarantined,
        enterprises=row.enterprises,
        newest=row.newest,
        tallies={name: Tally(*counts) for name, counts in json.loads(row.tallies).items()},
        scores=cast("Mapping[Dimension, float | None]", json.loads(row.scores)),
        passed=bool(row.passed),
        id=row.id,
    )
