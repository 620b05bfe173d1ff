"""Bring one CSV file to disk: `python -m bench.ingest_child plain|own FILE FOLDER`.

It prints seconds, rows, and peak resident memory in MB.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from bench.installed import without_pandas
from bench.start import resident
from hejin_node.home import MIGRATIONS
from hejin_node.ingest import ingest
from hejin_node.mapping import SourceMapping
from hejin_node.warehouse import Warehouse
from hejin_trust.database import open_database

_KEY = bytes(range(32))
_MAPPING = SourceMapping.parse(b'dataset = "invoices"')


def main() -> None:
    """Bring the file to disk one way or the other."""
    without_pandas()
    which, file, home = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    if which == "plain":
        with duckdb.connect(config={"threads": "2"}) as connection:
            begin = time.perf_counter()
            connection.read_csv(str(file)).write_parquet(str(home / "out.parquet"))
            seconds = time.perf_counter() - begin
            rows = pq.read_metadata(home / "out.parquet").num_rows
    else:
        database = open_database(home / "node.db", MIGRATIONS)
        warehouse = Warehouse(home / "warehouse", _KEY, database, _KEY)
        begin = time.perf_counter()
        rows = ingest(warehouse, file, _MAPPING).loaded
        seconds = time.perf_counter() - begin
        database.dispose()
    _, peak = resident(os.getpid())
    print(seconds, rows, peak)  # noqa: T201 - our protocol


if __name__ == "__main__":
    main()
