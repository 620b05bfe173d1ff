"""Rows of whole enterprises, a partition at a time: what a query holds does not grow with the data.

Enterprises fall into 256 buckets by their code. Segments are sorted by bucket in chunks, so that a
range of buckets is a few row groups of each. While one partition is worked on, the next is read and
decrypted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hejin_node import duck
from hejin_node.manifest import Segment
from hejin_node.segments import (
    BUCKET,
    BUCKETS,
    Buckets,
    Columns,
    SegmentReader,
    arrow_schema,
    bucket_of,
)

MOST_ROWS: Final = 524_288
"""Rows of a partition, all data sets together: invoices of that many take about 40 MB."""

Opened = Sequence[tuple[Segment, SegmentReader]]


@dataclass(frozen=True, slots=True)
class Source:
    """A data set to be read: the columns that are wanted, and its segments, open."""

    columns: Columns
    parts: Opened

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema of the wanted columns; texts may come dictionary-encoded."""
        return arrow_schema(self.columns)


@dataclass(frozen=True, slots=True)
class Partition:
    """All rows of the enterprises in buckets `low` to `high` - 1, by data set."""

    low: int
    high: int
    tables: Mapping[str, pa.Table | duck.Rewindable]


def cut(rows: Buckets, most: int) -> list[tuple[int, int]]:
    """Cut the buckets into ranges (low, high) of at most `most` rows, in order.

    rows     int64[256]: rows in each bucket
    returns  ranges that together hold every row; a bucket that alone has more is one of its own
    """
    found: list[tuple[int, int]] = []
    low, held = 0, 0
    for bucket, count in enumerate(rows.tolist()):
        if held and held + count > most:
            found.append((low, bucket))
            low, held = bucket, 0
        held += count
    return [*found, (low, BUCKETS)]


def partitions(
    sources: Mapping[str, Source],
    enterprises: Collection[str] | None,
    most: int,
) -> Iterator[Partition]:
    """Yield all rows of the sources, partition by partition, at least one; SegmentError.

    enterprises  codes whose rows are given; None for all
    A bucket with far more rows than `most` is not held: it is read again at each scan.
    """
    shown = None if enterprises is None else _by_bucket(enterprises)
    rows: Buckets = np.zeros(BUCKETS, np.int64)
    for source in sources.values():
        for part, _ in source.parts:
            rows += part.buckets
    if shown is not None:
        rows = np.where([bool(codes) for codes in shown], rows, 0)
    ranges = [one for one in cut(rows, most) if rows[slice(*one)].any()] or [(0, BUCKETS)]
    with ThreadPoolExecutor(1, "partition") as reader:

        def read(low: int, high: int) -> Partition:
            codes = None if shown is None else [code for one in shown[low:high] for code in one]
            wanted = None if codes is None else pa.array(codes, pa.string())
            held = int(rows[low:high].sum()) <= 2 * most
            return Partition(
                low,
                high,
                {
                    name: _table(source, low, high, wanted)
                    if held
                    else _stream(source, low, high, wanted)
                    for name, source in sources.items()
                },
            )

        following = reader.submit(read, *ranges[0])
        for one in ranges[1:]:
            ready = following.result()
            following = reader.submit(read, *one)
            yield ready
            del ready
        yield following.result()


def _by_bucket(codes: Collection[str]) -> list[list[str]]:
    found: list[list[str]] = [[] for _ in range(BUCKETS)]
    for code in codes:
        found[bucket_of(code)].append(code)
    return found


def _table(source: Source, low: int, high: int, shown: pa.Array | None) -> pa.Table:
    texts = [name for name, kind in source.columns.items() if kind == "text"]
    batches = list(_batches(source, low, high, shown, texts))
    if batches:
        return pa.Table.from_batches(batches)
    return source.schema.empty_table()


def _stream(source: Source, low: int, high: int, shown: pa.Array | None) -> duck.Rewindable:
    return duck.Rewindable(source.schema, lambda: _batches(source, low, high, shown, ()))


def _batches(
    source: Source, low: int, high: int, shown: pa.Array | None, coded: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    fields = [
        pa.field(field.name, pa.dictionary(pa.int32(), pa.string()))
        if field.name in coded
        else field
        for field in source.schema
    ]
    schema = pa.schema(fields)
    columns = [*source.columns, BUCKET]
    for _, reader in source.parts:
        found = (
            reader.coded_range(columns, low, high, coded)
            if coded
            else reader.bucket_range(columns, low, high)
        )
        for batch in found:
            rows = _filtered(batch, low, high, shown)
            # Whole numbers beyond 2^53 are rounded: no value may end a bank's question.
            yield rows.select(schema.names).cast(schema, safe=False)


def _filtered(batch: pa.RecordBatch, low: int, high: int, shown: pa.Array | None) -> pa.RecordBatch:
    """Return the rows of the buckets' range, and of the enterprises that may be seen."""
    if shown is None:
        bucket = batch.column(BUCKET)
        mask = pc.and_(pc.greater_equal(bucket, low), pc.less(bucket, high))
    else:
        mask = _is_in(batch.column("enterprise"), shown)
    return batch if mask.true_count == len(mask) else batch.filter(mask)


def _is_in(codes: pa.Array, shown: pa.Array) -> pa.BooleanArray:
    if not pa.types.is_dictionary(codes.type):
        return pc.is_in(codes, shown)
    return pc.is_in(codes.dictionary, shown).take(codes.indices)
