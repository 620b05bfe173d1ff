"""What the warehouse holds: segments and the loads they come from, as the database lists them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, cast

import numpy as np
from sqlalchemy import Connection, Row, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from hejin_node.errors import QueryError, WarehouseError
from hejin_node.segments import Buckets, Columns, Kind
from hejin_node.tables import load as load_table
from hejin_node.tables import segment as segment_table
from hejin_trust.canonical import time_text
from hejin_trust.clock import now

State = Literal["open", "complete", "withdrawn"]
Place = Mapping[str, object]
"""Where a source is to be read on, in the words of whoever reads it; JSON."""


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """One file: what is in it and how to know it again. Hashes are lower hex.

    columns    without the internal ones
    buckets    rows in each bucket
    open_load  the load that is still writing, None once published
    """

    kind: Kind
    dataset: str
    file: str
    sha256: str
    rows: int
    columns: Columns
    buckets: Buckets
    time: str
    open_load: int | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of a source's rows so far.

    quarantined  rows by the rule they broke; under ERASED those that were dropped
    replaced     values in loaded rows that were NaN or infinite and are missing now
    """

    read: int = 0
    loaded: int = 0
    quarantined: Mapping[str, int] = field(default_factory=dict)
    replaced: int = 0


@dataclass(frozen=True, slots=True)
class Load:
    """One source that was read, or is being read. Times are RFC 3339 UTC.

    source    hex SHA-256 of its content
    name      file name, or sql:TABLE
    mapping   hex SHA-256 of the mapping file, or ""
    place     where an open load goes on, and a complete one ended
    corrects  the load whose quarantined rows this one brings again
    withdrawn when it was
    """

    id: int
    kind: Kind
    dataset: str
    source: str
    name: str
    mapping: str
    state: State
    place: Place | None
    counts: Counts
    corrects: int | None
    began: str
    completed: str | None
    withdrawn: str | None = None


def segments(
    connection: Connection,
    kind: Kind | None = None,
    dataset: str | None = None,
    *,
    every: bool = False,
) -> tuple[Segment, ...]:
    """Return the published segments, oldest first; with `every`, those of open loads as well."""
    query = select(segment_table).order_by(segment_table.c.id)
    if kind is not None:
        query = query.where(segment_table.c.kind == kind)
    if dataset is not None:
        query = query.where(segment_table.c.dataset == dataset)
    if not every:
        query = query.where(segment_table.c.open_load.is_(None))
    return tuple(_segment(row) for row in connection.execute(query))


def list_segments(connection: Connection, parts: Iterable[Segment], key_id: str) -> None:
    """Add segments to the manifest, in the caller's transaction."""
    rows = [
        {
            "kind": part.kind,
            "dataset": part.dataset,
            "file": part.file,
            "sha256": part.sha256,
            "rows": part.rows,
            "columns": json.dumps(dict(part.columns)),
            "buckets": json.dumps(part.buckets.tolist()),
            "key_id": key_id,
            "time": part.time,
            "open_load": part.open_load,
        }
        for part in parts
    ]
    if rows:
        connection.execute(insert(segment_table), rows)


def drop_segments(connection: Connection, files: Sequence[str]) -> None:
    """Take segments out of the manifest, in the caller's transaction."""
    connection.execute(delete(segment_table).where(segment_table.c.file.in_(files)))


def key_ids(connection: Connection) -> set[str]:
    """Return the ids of the keys that segments were written with."""
    return set(connection.scalars(select(segment_table.c.key_id).distinct()))


def row_count(connection: Connection, kind: Kind, dataset: str) -> int:
    """Return how many published rows a data set has."""
    query = select(func.coalesce(func.sum(segment_table.c.rows), 0)).where(
        segment_table.c.kind == kind,
        segment_table.c.dataset == dataset,
        segment_table.c.open_load.is_(None),
    )
    return int(connection.execute(query).scalar_one())


def loads(connection: Connection, dataset: str | None = None) -> tuple[Load, ...]:
    """Return the loads, oldest first, open ones as well."""
    query = select(load_table).order_by(load_table.c.id)
    if dataset is not None:
        query = query.where(load_table.c.dataset == dataset)
    return tuple(_load(row) for row in connection.execute(query))


def find_load(connection: Connection, kind: Kind, dataset: str, source: str) -> Load | None:
    """Return the load of a source into a data set, if there is one."""
    query = select(load_table).where(
        load_table.c.kind == kind,
        load_table.c.dataset == dataset,
        load_table.c.source == source,
    )
    row = connection.execute(query).first()
    return None if row is None else _load(row)


def begin_load(
    connection: Connection,
    kind: Kind,
    dataset: str,
    source: str,
    name: str,
    mapping: str,
    corrects: int | None,
) -> int:
    """Open a load and return its id; WarehouseError if its source was loaded before."""
    opened = (
        insert(load_table)
        .values(
            kind=kind,
            dataset=dataset,
            source=source,
            name=name,
            mapping=mapping,
            state="open",
            place="null",
            rows_read=0,
            loaded=0,
            quarantined="{}",
            replaced=0,
            corrects=corrects,
            began=time_text(now()),
        )
        .returning(load_table.c.id)
    )
    try:
        return int(connection.execute(opened).scalar_one())
    except IntegrityError:
        raise already() from None


def advance_load(connection: Connection, load: int, place: Place | None, counts: Counts) -> None:
    """Note how far an open load has come."""
    _change_load(connection, load, counts, place=json.dumps(place))


def complete_load(connection: Connection, load: int, counts: Counts) -> None:
    """End a load: from here on its segments are the data's."""
    _change_load(connection, load, counts, state="complete", completed=time_text(now()))
    connection.execute(
        update(segment_table).where(segment_table.c.open_load == load).values(open_load=None)
    )


def drop_load(connection: Connection, load: int) -> tuple[str, ...]:
    """Forget an open load and what it staged; return the files, to be removed afterwards."""
    staged = segment_table.c.open_load == load
    files = tuple(connection.scalars(select(segment_table.c.file).where(staged)))
    connection.execute(delete(segment_table).where(staged))
    connection.execute(
        delete(load_table).where(load_table.c.id == load, load_table.c.state == "open")
    )
    return files


def remove_loads(connection: Connection, loads: Sequence[int]) -> None:
    """Forget complete loads, whose rows give way in the same transaction.

    Corrections that were interrupted are dropped with the load that they correct.
    """
    waiting = select(load_table.c.id).where(
        load_table.c.corrects.in_(loads), load_table.c.state == "open"
    )
    for one in tuple(connection.scalars(waiting)):
        drop_load(connection, one)
    # Corrections are younger than what they correct, and name it.
    for one in sorted(loads, reverse=True):
        connection.execute(delete(load_table).where(load_table.c.id == one))


def nothing_kept(connection: Connection) -> tuple[int, ...]:
    """Return the open loads that have nothing to go on from."""
    query = select(load_table.c.id).where(
        load_table.c.state == "open", load_table.c.place == "null"
    )
    return tuple(connection.scalars(query))


def already() -> WarehouseError:
    """Return the error of a source that a data set has."""
    return WarehouseError(
        "This file is in the data set already: nothing was added twice.",
        "该文件已在数据集中：未重复添加。",
    )


def columns_of(parts: Iterable[Segment]) -> Columns:
    """Return the columns of all segments: later ones may have more."""
    return {name: kind for part in parts for name, kind in part.columns.items()}


def check_columns(dataset: str, wanted: Columns, present: Columns) -> None:
    """Raise QueryError unless a data set's columns are there as a view wants them."""
    for name, kind in wanted.items():
        held = present.get(name)
        if held != kind and (held, kind) != ("integer", "number"):
            have = "is not there" if held is None else f"is of type {held}"
            hat = "不存在" if held is None else f"类型为 {held}"
            raise QueryError(
                f"The view needs column {name} ({kind}) of data set {dataset}, which {have}: "
                "load the data with a mapping that fits the view.",
                f"视图需要数据集 {dataset} 的列 {name}（{kind}），但该列{hat}："
                "请用与视图相符的映射文件载入数据。",
            )


def _change_load(connection: Connection, load: int, counts: Counts, **values: object) -> None:
    changed = connection.execute(
        update(load_table)
        .where(load_table.c.id == load, load_table.c.state == "open")
        .values(
            rows_read=counts.read,
            loaded=counts.loaded,
            quarantined=json.dumps(dict(counts.quarantined)),
            replaced=counts.replaced,
            **values,
        )
    )
    if changed.rowcount != 1:
        raise already()


def _segment(row: Row[tuple[object, ...]]) -> Segment:
    return Segment(
        cast("Kind", row.kind),
        row.dataset,
        row.file,
        row.sha256,
        row.rows,
        json.loads(row.columns),
        np.array(json.loads(row.buckets), np.int64),
        row.time,
        row.open_load,
    )


def _load(row: Row[tuple[object, ...]]) -> Load:
    return Load(
        row.id,
        cast("Kind", row.kind),
        row.dataset,
        row.source,
        row.name,
        row.mapping,
        cast("State", row.state),
        json.loads(row.place),
        Counts(row.rows_read, row.loaded, json.loads(row.quarantined), row.replaced),
        row.corrects,
        row.began,
        row.completed,
    )
