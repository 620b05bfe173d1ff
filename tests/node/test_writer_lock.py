"""Who waits for another writer of the warehouse says so, goes on by itself, and can be stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest
from node_world import found_world

from hejin_models.uscc import make_code
from hejin_node.home import open_home
from hejin_node.manifest import Counts
from hejin_node.segments import Columns
from hejin_node.writer_lock import holding

pytestmark = pytest.mark.timeout(300)

A = make_code(0)
COLUMNS: Columns = {"enterprise": "text", "net": "number"}
MAPPING = 'dataset = "bills"\n[columns.net]\ntype = "number"\n'
HOLD = """
import sys
from pathlib import Path
from hejin_node.writer_lock import holding
with holding(Path(sys.argv[1]), sys.argv[2]):
    print("held", flush=True)
    sys.stdin.readline()
"""
COMMANDS = {
    "ingest": ("ingest", "{home}/in/bills.csv", "--mapping", "{home}/m.toml"),
    "labels": ("labels", "load", "{home}/labels.csv", "--bank", "bank-1", "--definition", "d-v1"),
    "compact": ("data", "compact"),
    "give up": ("data", "give-up", "2"),
    "erase": ("data", "erase", A, "--reason", "asked", "--yes"),
    "withdraw": ("data", "withdraw", "orders", "1", "--reason", "wrong", "--yes"),
    "backup": ("data", "backup", "{home}-copy"),
    "restore": ("data", "restore", "{home}-made"),
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A node with one load, one that was interrupted, and files to load."""
    folder = found_world(tmp_path).nodes["node-1"]
    (folder / "m.toml").write_text(MAPPING)
    (folder / "in").mkdir()
    (folder / "in" / "bills.csv").write_text(f"enterprise,net\n{A},1\n")
    (folder / "labels.csv").write_text(f"enterprise,label\n{A},1\n")
    table = pa.table({"enterprise": [A], "net": [1.0]})
    with open_home(folder) as node:
        node.warehouse.append("orders", COLUMNS, table.to_batches(), "1" * 64)
        with (
            pytest.raises(KeyboardInterrupt),
            node.warehouse.loading("data", "orders", "2" * 64) as work,
        ):
            _interrupt(work, table)
    return folder


def _interrupt(work, table: pa.Table) -> None:
    work.writer("data", "orders", COLUMNS).write(table)
    work.keep({"offset": 5}, Counts(1, 1))
    raise KeyboardInterrupt


@contextmanager
def held(home: Path, work: str) -> Iterator[subprocess.Popen[str]]:
    """Hold the lock in another process, until it reads a line."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(home / "warehouse" / ".lock"), work],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def release(holder: subprocess.Popen[str]) -> None:
    assert holder.stdin is not None
    holder.stdin.write("\n")
    holder.stdin.flush()


@contextmanager
def started(home: Path, *words: str, language: str = "en") -> Iterator[subprocess.Popen[str]]:
    told = [word.format(home=home) for word in words]
    with subprocess.Popen(
        [sys.executable, "-m", "hejin_sandbox.main", "node", *told, "--home", str(home), "--json"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "HEJIN_LANG": language},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    return process.stderr.readline()


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_every_writer_says_that_it_waits_and_for_what_and_then_goes_on(
    home: Path, command: tuple[str, ...]
) -> None:
    if "restore" in command:
        with started(home, "data", "backup", "{home}-made") as made:
            assert made.wait() == 0
    with held(home, "backup") as holder, started(home, *command) as process:
        assert line(process) == (
            f"Waiting for process {holder.pid}, which makes a backup; Ctrl-C ends the waiting.\n"
        )
        assert process.poll() is None
        release(holder)
        out, err = process.communicate()
    assert process.returncode == 0, err
    assert "aiting" not in err, "once is enough"
    json.loads(out)


def test_it_says_so_in_chinese(home: Path) -> None:
    with (
        held(home, "load") as holder,
        started(home, *COMMANDS["compact"], language="zh") as process,
    ):
        said = f"正在等待进程 {holder.pid} 完成（导入数据）；按 Ctrl-C 停止等待。\n"
        assert line(process) == said


def test_whoever_waits_goes_on_when_the_other_is_killed(home: Path) -> None:
    with held(home, "load") as holder, started(home, *COMMANDS["ingest"]) as process:
        assert "which loads data" in line(process)
        holder.kill()
        out, _ = process.communicate()
    assert (process.returncode, json.loads(out)["loaded"]) == (0, 1)


def test_ctrl_c_ends_the_waiting_and_nothing_is_changed(home: Path) -> None:
    with held(home, "erase"), started(home, *COMMANDS["withdraw"]) as process:
        assert "which erases an enterprise" in line(process)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert (process.returncode, out) == (1, "")
    assert "stopped by Ctrl-C" in err
    with open_home(home) as node:
        assert node.warehouse.rows("data", "orders") == 1
        assert node.warehouse.withdrawn() == ()


def test_a_watched_folder_is_left_at_once_although_its_load_waits(home: Path) -> None:
    words = ("ingest", "{home}/in", "--mapping", "{home}/m.toml", "--watch", "--every", "0.1")
    with held(home, "load"), started(home, *words) as process:
        assert "which loads data" in line(process)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate()
    assert (process.returncode, out) == (0, "")


def test_without_word_of_the_other_it_is_still_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may not have written yet, or the disk was full."""
    path = tmp_path / ".lock"
    for content in ("", "{", '{"pid": 1}', '{"pid": "x", "work": "load"}', "[]"):
        entered, waits = threading.Event(), threading.Event()

        def wait(entered: threading.Event = entered, waits: threading.Event = waits) -> None:
            with holding(path, "load", waits.set):
                entered.set()

        with holding(path, "compact"):
            path.write_text(content)
            waiting = threading.Thread(target=wait)
            waiting.start()
            waits.wait()
            assert not entered.is_set()
        waiting.join()
        assert entered.is_set()
        assert "another process that writes the warehouse" in capsys.readouterr().err
