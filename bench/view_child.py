"""Run `trade-v1` once: `python -m bench.view_child plain|own FOLDER`.

It prints seconds, peak resident memory in MB, and a digest of the features.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from bench.installed import without_pandas
from hejin_models.features import FeatureView, view_file
from hejin_node.home import MIGRATIONS
from hejin_node.warehouse import Warehouse
from hejin_trust.database import open_database

VIEW = FeatureView.parse(view_file("trade-v1"))
_AS_OF = dt.date(2025, 6, 30)
_KEY = bytes(range(32))


@contextmanager
def open_warehouse(home: Path) -> Iterator[Warehouse]:
    """Open the warehouse of the bench in `home`."""
    database = open_database(home / "node.db", MIGRATIONS)
    try:
        yield Warehouse(home / "warehouse", _KEY, database, _KEY)
    finally:
        database.dispose()


def main() -> None:
    """Run the view one way or the other."""
    without_pandas()
    which, home = sys.argv[1], Path(sys.argv[2])
    if which == "plain":
        with duckdb.connect(config={"threads": "2"}) as connection:
            begin = time.perf_counter()
            source = f"read_parquet('{home}/plain.parquet')"
            connection.execute(f"CREATE VIEW invoices AS FROM {source}")
            sql = connection.sql(VIEW.source, params={"as_of": _AS_OF})
            table = sql.to_arrow_table()
            seconds = time.perf_counter() - begin
    else:
        with open_warehouse(home) as warehouse:
            begin = time.perf_counter()
            table = warehouse.query(VIEW.source, VIEW.datasets, _AS_OF)
            seconds = time.perf_counter() - begin
    # What the digest takes is not the view's.
    print(seconds, _peak(), _digest(table))  # noqa: T201 - our protocol


def _peak() -> float:
    """Return the peak of resident memory so far, MB."""
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024 / 1e6


def _digest(table: pa.Table) -> str:
    """Return a hash of the features by enterprise; sums of floats depend on their order."""
    table = table.sort_by("enterprise")
    hashed = hashlib.sha256("".join(table["enterprise"].to_pylist()).encode())
    for name in table.column_names[1:]:
        values = np.nan_to_num(table[name].cast(pa.float64()).to_numpy(), nan=-1.0)
        hashed.update(np.round(values, 3).tobytes())
    return hashed.hexdigest()


if __name__ == "__main__":
    main()
