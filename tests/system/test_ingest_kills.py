"""An ingest that is killed, or has no space: no acknowledged row is lost, no part is visible."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ingest_process import CHUNK, STEPS, Ingest, opened

from hejin_models.uscc import make_code
from hejin_node.quarantine import export, held_back
from hejin_node.warehouse import Warehouse

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

MAPPING = b"""
dataset = "bills"
[enterprise]
column = "uscc"
[columns.number]
type = "integer"
required = true
[columns.note]
type = "text"
"""
ROWS = 5 * CHUNK
BAD = 7
"""Every so many rows one breaks a rule."""


def write(path: Path, first: int) -> Path:
    """Rows with numbers from `first` on, one enterprise after the other, some of them bad."""
    lines = [
        f"{make_code(n % 100)},{'x' if n % BAD == 0 else n},{random.Random(n).random()}"
        for n in range(first, first + ROWS)
    ]
    path.write_text("uscc,number,note\n" + "\n".join(lines) + "\n", "utf-8")
    return path


def numbers(warehouse: Warehouse) -> list[int]:
    return sorted(
        number
        for batch in warehouse.read("data", "bills", ["number"])
        for number in batch.column("number").to_pylist()
    )


def whole(*firsts: int) -> list[int]:
    return sorted(n for first in firsts for n in range(first, first + ROWS) if n % BAD)


def bad(warehouse: Warehouse) -> int:
    return sum(rules.total() for rules in held_back(warehouse, "bills").values())


def test_killed_at_25_random_moments_an_ingest_loses_nothing_and_shows_no_part(
    tmp_path: Path,
) -> None:
    home = tmp_path / "node"
    chosen = random.Random(20_251_128)
    files = [write(tmp_path / f"{number}.csv", number * ROWS) for number in range(26)]
    begin = time.monotonic()
    first = Ingest(home, files[:1], MAPPING)
    first.wait_until_it_began()
    began = time.monotonic()
    assert first.end() == (0, ["0.csv"])
    usual = time.monotonic() - began
    assert time.monotonic() - begin < 300
    acknowledged, kills, resumed = {0}, 0, 0
    read_before: dict[str, int] = {}
    following = 1
    while kills < 25:
        process = Ingest(home, [files[following]], MAPPING)
        process.wait_until_it_began()
        time.sleep(chosen.uniform(0, usual))
        process.kill()
        code, said = process.end()
        kills += code < 0
        assert said in ([], [f"{following}.csv"])
        with opened(home) as warehouse:
            seen = numbers(warehouse)
            loads = {load.name: load for load in warehouse.loads("bills")}
            mine = loads.get(f"{following}.csv")
            complete = mine is not None and mine.state == "complete"
            assert complete or not said  # what was said to be done is
            acknowledged |= {following} if complete else set()
            # All of each complete file, nothing of the open one.
            assert seen == whole(*(number * ROWS for number in acknowledged))
            if mine is not None and not complete:
                # What was durable stays so.
                assert mine.counts.read >= read_before.get(mine.name, 0)
                resumed += mine.counts.read > 0
                read_before[mine.name] = mine.counts.read
        if complete:
            following += 1
    assert resumed > 0  # some kill came between two durable parts
    assert Ingest(home, [files[following]], MAPPING).end() == (0, [f"{following}.csv"])
    with opened(home) as warehouse:
        done = [number * ROWS for number in range(following + 1)]
        assert numbers(warehouse) == whole(*done)
        assert bad(warehouse) == len(done) * ROWS - len(whole(*done))
        listed = {part.file for part in warehouse.segments()}
        warehouse.sweep()
        assert {path.name for path in (home / "warehouse").glob("*.parquet*")} == listed


@pytest.mark.parametrize("step", [step for step in STEPS if "old" not in step])
@pytest.mark.parametrize("time_", [1, 3])
def test_killed_at_a_step_an_ingest_goes_on_where_it_was(
    tmp_path: Path, step: str, time_: int
) -> None:
    home, file = tmp_path / "node", write(tmp_path / "0.csv", 0)
    code, said = Ingest(home, [file], MAPPING, killed=(step, time_)).end()
    if "the load is complete" in step and time_ > 1:
        assert (code, said) == (0, ["0.csv"])  # it comes there once only
    else:
        assert (code, said) == (-9, [])
        with opened(home) as warehouse:
            assert numbers(warehouse) == []
            assert warehouse.datasets() == ()
    assert Ingest(home, [file], MAPPING).end() == (0, ["0.csv"])
    with opened(home) as warehouse:
        assert numbers(warehouse) == whole(0)
        assert bad(warehouse) == ROWS - len(whole(0))
        (load,) = warehouse.loads()
        assert (load.counts.read, load.counts.loaded) == (ROWS, len(whole(0)))


@pytest.mark.parametrize(
    "step",
    ["before old segments are swapped", "before old files are removed",
     "before the load is complete", "after the load is complete"],
)  # fmt: skip
def test_killed_at_a_step_corrected_rows_are_in_quarantine_or_loaded_never_both(
    tmp_path: Path, step: str
) -> None:
    home, file, out = tmp_path / "node", write(tmp_path / "0.csv", 0), tmp_path / "out.csv"
    assert Ingest(home, [file], MAPPING).end() == (0, ["0.csv"])
    with opened(home) as warehouse:
        (load,) = warehouse.loads()
        _, rows = export(warehouse, "bills", None, out)
    lines = out.read_text("utf-8").splitlines()
    some = [lines[0], *(line.replace(",x,", ",-1,") for line in lines[1:101])]
    out.write_text("\n".join(some) + "\n", "utf-8")
    killed = Ingest(home, [out], MAPPING, corrects=load.id, killed=(step, 1))
    assert killed.end() == (-9, [])
    with opened(home) as warehouse:
        found = (numbers(warehouse).count(-1), bad(warehouse))
    committed = step == "before old files are removed"
    assert found == ((100, rows - 100) if committed else (0, rows))
    assert Ingest(home, [out], MAPPING, corrects=load.id).end() == (0, ["out.csv"])
    with opened(home) as warehouse:
        assert (numbers(warehouse).count(-1), bad(warehouse)) == (100, rows - 100)
        listed = {part.file for part in warehouse.segments()}
        warehouse.sweep()
        assert {path.name for path in (home / "warehouse").glob("*.parquet*")} == listed


def test_a_disk_that_takes_no_more_is_told_and_the_ingest_goes_on_afterwards(
    tmp_path: Path,
) -> None:
    home, file = tmp_path / "node", write(tmp_path / "0.csv", 0)
    code, (said,) = Ingest(home, [file], MAPPING, most_bytes=20_000).end()
    assert code == 0
    assert said.startswith(("warehouse: The warehouse could not be written", "storage-failed: "))
    with opened(home) as warehouse:
        assert numbers(warehouse) == []
    assert Ingest(home, [file], MAPPING).end() == (0, ["0.csv"])
    with opened(home) as warehouse:
        assert numbers(warehouse) == whole(0)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        pytest.skip("only root can mount a small file system")
    made = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=False
    )
    if made.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_shows_no_part_and_with_more_space_the_ingest_goes_on(
    tmp_path: Path, small_disk: Path
) -> None:
    home = small_disk / "node"
    files = [write(tmp_path / f"{number}.csv", number * ROWS) for number in range(4)]
    code, said = Ingest(home, files, MAPPING).end()
    assert code == 0
    done = [word for word in said if word.endswith(".csv")]
    refused = [word for word in said if not word.endswith(".csv")]
    assert refused
    assert all("No space left on device" in word or "The disk is full" in word for word in refused)
    with opened(home) as warehouse:
        assert numbers(warehouse) == whole(*(int(word[:-4]) * ROWS for word in done))
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    assert Ingest(home, files, MAPPING).end() == (0, [file.name for file in files])
    with opened(home) as warehouse:
        assert numbers(warehouse) == whole(*(number * ROWS for number in range(4)))
