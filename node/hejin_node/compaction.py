"""Write segments anew: many small ones as few large ones, or without the rows of some enterprises.

    1. write the new segments under their final names and sync
    2. one transaction: the manifest names the new ones instead of the old ones
    3. remove the old files

A crash before 2 leaves new files, one before 3 old files, that no manifest row names: the next
load removes them. Whoever reads the old ones holds them open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hejin_node.loading import NewSegment, SegmentFiles
from hejin_node.manifest import Segment
from hejin_node.partitions import Opened, cut
from hejin_node.segments import BUCKET, BUCKETS, CHUNK, LOAD, Buckets, disk_errors

FULL: Final = 2_097_152
"""Rows from which on a segment is not merged again; some 35 MB of invoices."""

MANY: Final = 32
"""Small segments of one kind from which on a load merges them: each costs every query a footer."""

Keep = Callable[[pa.Table], pa.Table]
"""Returns the rows that stay."""


@dataclass(frozen=True, slots=True)
class Compacted:
    """How many segments were merged, and into how many."""

    before: int
    after: int


def mergeable(parts: Sequence[Segment]) -> list[list[Segment]]:
    """Return the groups of published segments, at least two each, that can become fewer.

    A group has the same data set and columns, and segments that are not full.
    """

    def alike(part: Segment) -> tuple[str, str, tuple[tuple[str, str], ...]]:
        return part.kind, part.dataset, tuple(part.columns.items())

    small = sorted((part for part in parts if part.rows < FULL), key=alike)
    groups = [list(group) for _, group in groupby(small, alike)]
    return [group for group in groups if len(group) > 1]


def rewrite(
    files: SegmentFiles,
    group: Opened,
    keep: Keep = lambda rows: rows,
    told: Callable[[int], None] = lambda _: None,
) -> list[Segment]:
    """Write the rows of a group's segments that stay into new, durable ones and return these.

    Data come by bucket, over all segments; anything else in its order. The new segments belong to
    the open load of the old ones, if any. Memory is bounded whatever the sizes.
    told     called with the number of rows that were looked at since the last call
    raises   SegmentError, WarehouseError; nothing is left then
    """
    first = group[0][0]
    written: list[NewSegment] = []
    finished: list[Segment] = []
    try:
        for tables in _ranges(group) if first.kind == "data" else [_in_order(group)]:
            if not written or written[-1].rows >= FULL:
                finished += _finish(written[-1:])
                written.append(files.begin(first.kind, first.dataset, first.columns))
            for table in tables:
                written[-1].write(keep(table))
                told(table.num_rows)
            written[-1].flush()
        finished += _finish(written[-1:])
        with disk_errors():
            files.sync()
    except BaseException:
        for one in written:
            one.abandon()
        raise
    return [replace(part, open_load=first.open_load) for part in finished]


def _finish(written: Sequence[NewSegment]) -> list[Segment]:
    return [part for part in (one.finish() for one in written) if part is not None]


def _ranges(group: Opened) -> Iterator[Iterator[pa.Table]]:
    """Yield, for one range of buckets after the other, the rows in it."""
    rows: Buckets = np.zeros(BUCKETS, np.int64)
    for part, _ in group:
        rows += part.buckets
    for low, high in cut(rows, CHUNK):
        yield _range(group, low, high)


def _range(group: Opened, low: int, high: int) -> Iterator[pa.Table]:
    for part, reader in group:
        for batch in reader.bucket_range([*part.columns, BUCKET, LOAD], low, high):
            bucket = batch.column(BUCKET)
            inside = pc.and_(pc.greater_equal(bucket, low), pc.less(bucket, high))
            yield pa.Table.from_batches([batch]).filter(inside)


def _in_order(group: Opened) -> Iterator[pa.Table]:
    for part, reader in group:
        for batch in reader.batches([*part.columns, BUCKET, LOAD]):
            yield pa.Table.from_batches([batch])
