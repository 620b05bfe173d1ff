"""`kill -9` while a process loads, merges and erases: what the manifest says is what there is."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pyarrow as pa

from hejin_node.home import MIGRATIONS
from hejin_node.manifest import segments
from hejin_node.segments import Columns, bucket_of
from hejin_node.warehouse import Warehouse
from hejin_trust.database import open_database, reading, writing

KEY = bytes(range(32))
COLUMNS: Columns = {"enterprise": "text", "count": "integer"}
FIRMS = [f"firm {n}" for n in range(20)]
ROUNDS = 12


def work(folder: Path) -> None:
    """Load, merge, and remove one enterprise after the other, until somebody kills us."""
    database = open_database(folder / "node.db", MIGRATIONS)
    warehouse = Warehouse(folder / "warehouse", KEY, database, KEY)
    number = len(warehouse.loads())
    print("ready", flush=True)
    while True:
        number += 1
        table = pa.table({"enterprise": FIRMS * 50, "count": pa.array(range(1000), pa.int64())})
        warehouse.append("sales", COLUMNS, table.to_batches(), f"{number:064x}")
        if number % 3 == 0:
            warehouse.compact()
        if number % 4 == 0:
            name = FIRMS[number // 4 % (len(FIRMS) - 1)]  # the last one stays in every load
            gone = warehouse.without_enterprises(
                lambda code, name=name: code == name, bucket_of(name)
            )
            with gone as done, writing(database) as connection:
                done.swap(connection)


def test_a_kill_at_any_moment_loses_doubles_and_halves_nothing(tmp_path: Path) -> None:
    chance = random.Random(16)
    for _ in range(ROUNDS):
        process = subprocess.Popen(
            [sys.executable, __file__, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(chance.uniform(0.05, 0.8))
        process.kill()
        process.wait()
        process.stdout.close()
        check(tmp_path)


def check(folder: Path) -> None:
    """Every load has its 50 rows of each enterprise, or none of one that was removed since."""
    database = open_database(folder / "node.db", MIGRATIONS)
    try:
        warehouse = Warehouse(folder / "warehouse", KEY, database, KEY)
        assert warehouse.verify() == ()
        found: Counter[tuple[int, str]] = Counter()
        for batch in warehouse.read("data", "sales", ["_load", "enterprise"]):
            found.update(zip(*batch.to_pydict().values(), strict=True))
        assert set(found.values()) <= {50}
        complete = [load.id for load in warehouse.loads() if load.state == "complete"]
        assert {load for load, _ in found} == set(complete)
        for name in FIRMS:
            having = [load for load in complete if (load, name) in found]
            assert having == complete[len(complete) - len(having) :], "only older ones lost it"
        warehouse.sweep()
        with reading(database) as connection:
            listed = {part.file for part in segments(connection, every=True)}
        assert {path.name for path in (folder / "warehouse").iterdir()} - {".lock"} == listed
    finally:
        database.dispose()


if __name__ == "__main__":
    work(Path(sys.argv[1]))
