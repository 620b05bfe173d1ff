"""`kill -9` while a process loads, merges, erases, withdraws: what the manifest says is there."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

from hejin_node import warehouse as warehouse_module
from hejin_node import withdrawn
from hejin_node.giving_way import GivingWay
from hejin_node.home import MIGRATIONS, NodeHome, open_home
from hejin_node.manifest import segments
from hejin_node.segments import Columns, bucket_of
from hejin_node.warehouse import Warehouse
from hejin_node.withdrawing import withdraw
from hejin_trust.database import open_database, reading, writing
from hejin_trust.entries import parse

KEY = bytes(range(32))
COLUMNS: Columns = {"enterprise": "text", "count": "integer"}
FIRMS = [f"firm {n}" for n in range(20)]
ROUNDS = 12
#: Where a process kills itself: an attribute, and at which call of it.
STEPS: dict[str, tuple[object, str, int]] = {
    "before segments are written anew": (warehouse_module, "rewrite", 1),
    "between data and quarantine": (warehouse_module, "rewrite", 2),
    "before it is recorded": (withdrawn, "record", 1),
    "before segments are swapped": (GivingWay, "swap", 1),
    "before old files are removed": (Warehouse, "_sweep", 2),
}


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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    from node_world import found_world  # not there in the processes that are killed

    return found_world(tmp_path).nodes["node-1"]


def add(home: NodeHome, number: int) -> None:
    """Load a thousand rows, each also as a quarantined one."""
    table = pa.table({"enterprise": FIRMS * 50, "count": pa.array(range(1000), pa.int64())})
    with home.warehouse.loading("data", "sales", f"{number:064x}") as load:
        for kind in ("data", "quarantine"):
            load.writer(kind, "sales", COLUMNS).write(table)  # type: ignore[arg-type]
        load.complete()
        with writing(home.database) as connection:
            load.publish(connection)


def withdraw_on(folder: Path) -> None:
    """Load and withdraw, until somebody kills us."""
    with open_home(folder) as home:
        number = max((one.id for one in everything(home)), default=0)
        print("ready", flush=True)
        while True:
            number += 1
            add(home, number)
            if number % 2 == 0:
                home.warehouse.compact()
            loads = home.warehouse.loads("sales")
            withdraw(home, "sales", loads[number % len(loads)].id, "a wrong file")
            number += 1
            add(home, number)


def withdraw_to(folder: Path, step: str) -> None:
    """Withdraw the first load, and kill ourselves at a step of it."""
    owner, name, left = STEPS[step]
    real = getattr(owner, name)

    def armed(*told: object, **more: object) -> object:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*told, **more)

    setattr(owner, name, armed)
    with open_home(folder) as home:
        withdraw(home, "sales", home.warehouse.loads("sales")[0].id, "a wrong file")


def everything(home: NodeHome) -> list[object]:
    return [*home.warehouse.loads("sales"), *home.warehouse.withdrawn("sales")]


def check_withdrawn(home: NodeHome) -> int:
    """Each load is whole, or gone and told to be; return how many are gone."""
    warehouse = home.warehouse
    assert warehouse.verify() == ()
    there = [one.id for one in warehouse.loads("sales") if one.state == "complete"]
    gone = [one.id for one in warehouse.withdrawn("sales")]
    for kind in ("data", "quarantine"):
        found = warehouse.rows_by_load(kind, "sales")  # type: ignore[arg-type]
        assert found == dict.fromkeys(there, 1000)
    assert set(there).isdisjoint(gone)
    with reading(home.database) as connection:
        entries = [parse(raw) for raw in home.internal_log.entries(connection)]
    told = [entry.body for entry in entries if entry.type == "withdraw"]
    assert sorted(body["load"] for body in told) == gone
    assert all(body["rows"] == 2000 for body in told)
    warehouse.sweep()
    with reading(home.database) as connection:
        listed = {part.file for part in segments(connection, every=True)}
    assert {path.name for path in (home.path / "warehouse").iterdir()} - {".lock"} == listed
    return len(gone)


def test_killed_at_any_moment_a_load_is_withdrawn_wholly_or_not(folder: Path) -> None:
    chance = random.Random(17)
    gone = 0
    for _ in range(ROUNDS):
        process = subprocess.Popen(
            [sys.executable, __file__, str(folder), "withdraw"], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(chance.uniform(0.05, 0.8))
        process.kill()
        process.wait()
        process.stdout.close()
        with open_home(folder) as home:
            gone = check_withdrawn(home)
    assert gone > 0


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_a_step_a_load_is_withdrawn_wholly_or_not(folder: Path, step: str) -> None:
    with open_home(folder) as home:
        add(home, 1)
        add(home, 2)
    done = subprocess.run([sys.executable, __file__, str(folder), step], check=False)
    assert done.returncode == -signal.SIGKILL
    with open_home(folder) as home:
        assert check_withdrawn(home) == (step == "before old files are removed")
        withdraw(home, "sales", 1, "a wrong file")
        assert check_withdrawn(home) == 1


if __name__ == "__main__":
    match sys.argv[1:]:
        case [folder]:
            work(Path(folder))
        case [folder, "withdraw"]:
            withdraw_on(Path(folder))
        case [folder, step]:
            withdraw_to(Path(folder), step)
