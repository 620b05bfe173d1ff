"""Rows of a Parquet file, in its own types."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import IO, Final

import pyarrow as pa
import pyarrow.parquet as pq

from hejin_node.sources import (
    BLOCK_ROWS,
    Block,
    Layout,
    Place,
    Progress,
    check_header,
    refuse,
    rows_before,
)

MAGIC: Final = b"PAR1"


def read(
    name: str,
    file: IO[bytes],
    columns: Sequence[str],
    _layout: Layout,
    place: Place | None,
    progress: Progress,
) -> Iterator[Block]:
    """Yield blocks; a row group that was read in part is opened again and skipped through."""
    size = file.seek(0, 2)
    try:
        with pq.ParquetFile(file) as parquet:
            check_header(name, parquet.schema_arrow.names, columns)
            meta = parquet.metadata
            rows, done = meta.num_rows, rows_before(place)
            ends = list(accumulate(meta.row_group(i).num_rows for i in range(meta.num_row_groups)))
            groups = [i for i, end in enumerate(ends) if end > done]
            if not groups:
                return
            seen = ends[groups[0] - 1] if groups[0] else 0
            for batch in parquet.iter_batches(
                BLOCK_ROWS, row_groups=groups, columns=list(columns), use_threads=False
            ):
                fresh = batch.slice(max(done - seen, 0))
                seen += batch.num_rows
                if fresh.num_rows:
                    done = seen
                    progress(size * done // rows, size)
                    yield Block(pa.Table.from_batches([fresh]), {"rows": done})
    except (OSError, pa.ArrowException):
        refuse(
            name,
            "the Parquet file is damaged or encrypted; export it again.",
            "Parquet 文件已损坏或被加密，请重新导出。",
        )
