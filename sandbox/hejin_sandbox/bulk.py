"""Synthetic invoices by the million, in bounded memory: for benchmarks and load tests."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from hejin_sandbox.generator import CLUSTERS, generate
from hejin_sandbox.inputs import from_cluster

#: Generated at a time: about 120,000 invoices, some 40 MB at work.
_ENTERPRISES = 2000


def invoice_batches(rows: int, seed: int) -> Iterator[pa.RecordBatch]:
    """Yield `rows` invoices of the first pilot cluster, batch by batch; same seed, same rows.

    Columns are those of the data set `invoices`; an enterprise's rows stand together, and
    every batch has enterprises of its own, about 62 invoices each.
    """
    left, chunk = rows, 0
    while left > 0:
        data = generate(CLUSTERS[0], _ENTERPRISES, seed * 1_000_003 + chunk)
        records = from_cluster(data, first_code=chunk * _ENTERPRISES).records.slice(0, left)
        yield from records.combine_chunks().to_batches()
        left -= records.num_rows
        chunk += 1
