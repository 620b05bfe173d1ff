"""`hejin node ingest` as a real process that is ended: cleanly, and the next one goes on."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from node_world import found_world

from hejin_models.uscc import make_code
from hejin_node.home import open_home

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

MAPPING = 'dataset = "bills"\n[enterprise]\ncolumn = "e"\n[columns.net]\ntype = "number"\n'
SECONDS = 120


class Watching:
    """The process, and the JSON lines that it prints."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)

    def said(self) -> dict[str, object]:
        found: dict[str, object] = json.loads(self._lines.get(timeout=SECONDS))
        return found

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(SECONDS)
        self._reader.join()
        assert self._lines.empty()
        return code


@contextmanager
def watching(home: Path, folder: Path, mapping: Path) -> Iterator[Watching]:
    with subprocess.Popen(
        [sys.executable, "-m", "hejin_sandbox.main", "node", "ingest", "--home", str(home),
         str(folder), "--mapping", str(mapping), "--watch", "--every", "0.2", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "HEJIN_LANG": "en"},
    ) as process:  # fmt: skip
        try:
            yield Watching(process)
        finally:
            process.kill()


def test_a_folder_is_watched_until_sigterm_and_each_file_is_loaded_once(tmp_path: Path) -> None:
    home = found_world(tmp_path).nodes["node-1"]
    folder, mapping = tmp_path / "in", tmp_path / "m.toml"
    folder.mkdir()
    mapping.write_text(MAPPING)
    (folder / "a.csv").write_text(f"e,net\n{make_code(1)},1\n")
    with watching(home, folder, mapping) as first:
        said = first.said()
        assert (said["name"], said["loaded"]) == ("a.csv", 1)
        (folder / "b.csv").write_text("nothing\n")
        assert first.said()["code"] == "file-refused"
        (folder / "c.csv").write_text(f"e,net\n{make_code(2)},2\n")
        assert first.said()["name"] == "c.csv"
        assert first.end() == 0
    (folder / "d.csv").write_text(f"e,net\n{make_code(3)},3\n")
    with watching(home, folder, mapping) as second:
        # What was loaded before is not told again; what is refused is, once a process.
        assert [second.said()["name"] for _ in range(2)] == ["b.csv", "d.csv"]
        assert second.end() == 0
    with open_home(home) as node:
        assert node.warehouse.rows("data", "bills") == 3
        assert len(node.warehouse.loads("bills")) == 3


def test_ctrl_c_ends_an_ingest_without_a_traceback_and_the_next_one_goes_on(
    tmp_path: Path,
) -> None:
    home = found_world(tmp_path).nodes["node-1"]
    file, mapping = tmp_path / "in.csv", tmp_path / "m.toml"
    rows = 800_000
    codes = [make_code(n) for n in range(100)]
    file.write_text("e,net\n" + "".join(f"{codes[n % 100]},{n}\n" for n in range(rows)))
    mapping.write_text(MAPPING)
    words = [sys.executable, "-m", "hejin_sandbox.main", "node", "ingest", "--home", str(home),
             str(file), "--mapping", str(mapping), "--json"]  # fmt: skip
    spoken = {**os.environ, "HEJIN_LANG": "en"}
    with subprocess.Popen(
        words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, env=spoken
    ) as process:
        folder = home / "warehouse"
        while process.poll() is None and not list(folder.glob("*.part")):
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        said, complained = process.communicate(timeout=SECONDS)
    assert process.returncode == 1
    assert b"Traceback" not in complained
    assert b"stopped by Ctrl-C" in complained
    assert said == b""
    with open_home(home) as node:
        assert node.warehouse.rows("data", "bills") == 0
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE)
    assert json.loads(done.stdout)["loaded"] == rows
