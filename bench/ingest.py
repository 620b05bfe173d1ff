"""Ingest and encryption of a CSV file, beside DuckDB's own CSV to Parquet of the same file."""

from __future__ import annotations

import shutil
import statistics
import sys
from pathlib import Path

from pyarrow import csv

from bench import child
from bench.figures import Figure
from hejin_sandbox.bulk import invoice_batches

SECTION = "ingest"
SMALL, LARGE = 1_000_000, 10_000_000
MOST_MB = 1000
"""What a node may hold."""
_REPEATS = 5


def measure(folder: Path, quick: bool) -> list[Figure]:
    """Return wall clock and peak memory of an ingest; each repeat in a process of its own."""
    figures, peaks = [], []
    for rows in [20_000] if quick else [SMALL, LARGE]:
        file = folder / f"{rows}.csv"
        _write(file, rows)
        repeats = 1 if quick or rows == LARGE else _REPEATS
        found: dict[str, list[tuple[float, float]]] = {"plain": [], "own": []}
        for _ in range(repeats):
            for which, taken in found.items():
                taken.append(_run(which, file, folder / "run", rows))
        file.unlink()
        plain, seconds = (
            statistics.median(one for one, _ in found[which]) for which in ("plain", "own")
        )
        peak = max(peak for _, peak in found["own"])
        peaks.append(peak)
        name = f"{rows:,} invoices of 7 columns, CSV"
        figures += [
            Figure(SECTION, f"{name}, DuckDB to Parquet", plain, "s"),
            Figure(SECTION, f"{name}, ingest + encrypt", seconds, "s", seconds / plain, "DuckDB"),
            Figure(SECTION, f"{name}, ingest", rows / seconds, "rows/s"),
            Figure(SECTION, f"{name}, peak memory", peak, "MB", peak / MOST_MB, "limit of 1 GB"),
        ]
    if len(peaks) > 1:
        figures.append(
            Figure(
                SECTION,
                "peak memory, ten times the rows",
                peaks[-1] / peaks[0],
                "times the peak of 1M rows",
            )
        )
    return figures


def _write(file: Path, rows: int) -> None:
    writer: csv.CSVWriter | None = None
    options = csv.WriteOptions(quoting_style="needed")
    for batch in invoice_batches(rows, seed=1):
        writer = writer or csv.CSVWriter(file, batch.schema, write_options=options)
        writer.write_batch(batch)
    assert writer is not None
    writer.close()


def _run(which: str, file: Path, home: Path, rows: int) -> tuple[float, float]:
    home.mkdir()
    took = child.run([sys.executable, "-m", "bench.ingest_child", which, str(file), str(home)])
    shutil.rmtree(home)
    assert took.code == 0, which
    seconds, loaded, peak = took.said.split()
    assert int(loaded) == rows, which
    return float(seconds), float(peak)
