"""A feature view over the encrypted warehouse, beside the same SQL over unencrypted Parquet."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bench import child
from bench.figures import Figure
from bench.view_child import VIEW, open_warehouse
from hejin_node.manifest import Counts
from hejin_sandbox.bulk import invoice_batches
from hejin_trust.database import writing

SECTION = "view"
SMALL, LARGE = 1_000_000, 10_000_000
MOST_MB = 1000
"""What a node may hold."""
_REPEATS = 3


def measure(folder: Path, quick: bool) -> list[Figure]:
    """Return wall clock and peak memory of `trade-v1`; each repeat in a process of its own."""
    figures, peaks = [], []
    for rows in [20_000] if quick else [SMALL, LARGE]:
        home = folder / str(rows)
        _fill(home, rows)
        plain, own = _compare(home, 1 if quick else _REPEATS)
        seconds, peak = own
        peaks.append(peak)
        name = f"trade-v1 over {rows:,} invoices"
        figures += [
            Figure(SECTION, f"{name}, plain DuckDB on Parquet", plain[0], "s"),
            Figure(SECTION, f"{name}, encrypted", seconds, "s", seconds / plain[0], "plain DuckDB"),
            Figure(SECTION, f"{name}, peak memory of plain DuckDB", plain[1], "MB"),
            Figure(SECTION, f"{name}, peak memory", peak, "MB", peak / MOST_MB, "limit of 1 GB"),
        ]
    if len(peaks) > 1:
        grown = peaks[-1] / peaks[0]
        figures.append(
            Figure(SECTION, "peak memory, ten times the rows", grown, "times the peak of 1M rows")
        )
    return figures


def _fill(home: Path, rows: int) -> None:
    """Write the same invoices as plain Parquet and into a warehouse, as an ingest would."""
    home.mkdir()
    dataset = VIEW.datasets[0]
    columns = {"enterprise": "text", **dataset.columns}
    writer: pq.ParquetWriter | None = None
    with (
        open_warehouse(home) as warehouse,
        warehouse.loading("data", dataset.name, "1" * 64) as work,
    ):
        done = kept = 0
        for batch in invoice_batches(rows, seed=1):
            table = pa.Table.from_batches([batch]).select(list(columns))
            writer = writer or pq.ParquetWriter(home / "plain.parquet", table.schema)
            writer.write_table(table)
            work.writer("data", dataset.name, columns).write(table)  # type: ignore[arg-type]
            done += batch.num_rows
            if done - kept >= SMALL:
                work.keep({"row": done}, Counts(done, done))
                kept = done
        work.complete(Counts(done, done))
        with writing(warehouse.database) as connection:
            work.publish(connection)
    assert writer is not None
    writer.close()


def _compare(home: Path, repeats: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return (median seconds, highest peak MB) of plain DuckDB and of the warehouse, in turns."""
    found: dict[str, list[tuple[float, float]]] = {"plain": [], "own": []}
    results = set()
    for _ in range(repeats):
        for which, taken in found.items():
            took = child.run([sys.executable, "-m", "bench.view_child", which, str(home)])
            assert took.code == 0, which
            seconds, peak, result = took.said.split()
            taken.append((float(seconds), float(peak)))
            results.add(result)
    # Both gave the same features, to the last digit that does not depend on the order of sums.
    assert len(results) == 1, results
    plain, own = (
        (statistics.median(one for one, _ in taken), max(peak for _, peak in taken))
        for taken in found.values()
    )
    return plain, own
