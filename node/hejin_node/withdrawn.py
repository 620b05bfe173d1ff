"""Which loads were withdrawn: their facts stay when their rows and their place are gone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import cast

from sqlalchemy import Connection, Row, insert, select, update

from hejin_node.manifest import Counts, Load
from hejin_node.segments import Kind
from hejin_node.tables import withdrawal
from hejin_trust.entries import Entry


def record(
    connection: Connection, entry: Entry, loads: Sequence[Load], *, applied: bool = True
) -> None:
    """Take note of a `withdraw` entry and of the loads that go with it.

    applied  False where they came back with a backup, and are to go again
    """
    rows = [
        {
            "seq": entry.seq,
            "time": entry.time,
            "load": one.id,
            "kind": one.kind,
            "dataset": one.dataset,
            "source": one.source,
            "name": one.name,
            "mapping": one.mapping,
            "rows_read": one.counts.read,
            "loaded": one.counts.loaded,
            "quarantined": json.dumps(dict(one.counts.quarantined)),
            "replaced": one.counts.replaced,
            "corrects": one.corrects,
            "began": one.began,
            "completed": one.completed,
            "applied": int(applied),
        }
        for one in loads
    ]
    connection.execute(insert(withdrawal), rows)


def loads(connection: Connection, dataset: str | None = None) -> tuple[Load, ...]:
    """Return the loads that were withdrawn, oldest first; their rows are gone."""
    return _found(connection, dataset, applied=True)


def pending(connection: Connection, dataset: str | None = None) -> tuple[Load, ...]:
    """Return the loads that came back with a backup and are to go again, oldest first."""
    return _found(connection, dataset, applied=False)


def mark_applied(connection: Connection, dataset: str) -> None:
    """Take note that no segment of a data set has rows of withdrawn loads any more."""
    connection.execute(update(withdrawal).where(withdrawal.c.dataset == dataset).values(applied=1))


def _found(connection: Connection, dataset: str | None, *, applied: bool) -> tuple[Load, ...]:
    query = select(withdrawal).where(withdrawal.c.applied == int(applied))
    if dataset is not None:
        query = query.where(withdrawal.c.dataset == dataset)
    return tuple(map(_load, connection.execute(query.order_by(withdrawal.c.load))))


def _load(row: Row[tuple[object, ...]]) -> Load:
    return Load(
        row.load,
        cast("Kind", row.kind),
        row.dataset,
        row.source,
        row.name,
        row.mapping,
        "withdrawn",
        None,
        Counts(row.rows_read, row.loaded, json.loads(row.quarantined), row.replaced),
        row.corrects,
        row.began,
        row.completed,
        row.time,
    )
