"""Before data are removed it is asked: at a terminal in words, elsewhere by `--yes`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from commands import run
from node_world import found_world

from hejin_models.uscc import make_code
from hejin_node.cli_confirm import UnaskedError
from hejin_node.home import open_home

A = make_code(0)
ERASE = ("erase", A, "--reason", "it asked for it")
WITHDRAW = ("withdraw", "invoices", "1", "--reason", "the wrong file")
QUESTIONS = {
    "en": {ERASE: f"Erase every row of {A}", WITHDRAW: "Withdraw load 1 of invoices (, 2 rows"},
    "zh": {ERASE: f"删除 {A} 的全部数据", WITHDRAW: "撤回 invoices 的第 1 次导入"},
}
COMMANDS = pytest.mark.parametrize("command", [ERASE, WITHDRAW], ids=lambda words: words[0])


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = found_world(tmp_path).nodes["node-1"]
    with open_home(folder) as node:
        table = pa.table({"enterprise": [A, A], "net": [1.0, 2.0]})
        columns = {"enterprise": "text", "net": "number"}
        node.warehouse.append("invoices", columns, table.to_batches(), "1" * 64)  # type: ignore[arg-type]
    return folder


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Return the two ends of a terminal: the person's, and the command's."""
    ends = os.openpty()
    yield ends
    for end in ends:
        os.close(end)


def rows(home: Path) -> int:
    with open_home(home) as node:
        return node.warehouse.rows("data", "invoices")


def at(
    terminal: tuple[int, int], home: Path, command: Sequence[str], language: str = "en"
) -> subprocess.Popen[str]:
    """Start a command whose input is a terminal."""
    words = ["-m", "hejin_sandbox.main", "node", "data", *command, "--home", str(home), "--json"]
    return subprocess.Popen(
        [sys.executable, *words],
        stdin=terminal[1],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "HEJIN_LANG": language},
    )


@COMMANDS
def test_without_a_terminal_nothing_goes_that_nobody_said_yes_to(
    home: Path, command: tuple[str, ...]
) -> None:
    with pytest.raises(UnaskedError, match="give --yes") as refused:
        run(home, "data", *command)
    assert (refused.value.code, refused.value.exit_code) == ("unasked", 2)
    assert rows(home) == 2
    assert run(home, "data", *command, "--yes").exit_code == 0
    assert rows(home) == 0


def test_started_without_any_input_it_refuses_as_well(home: Path) -> None:
    hejin = [sys.executable, "-m", "hejin_sandbox.main", "node", "data", *ERASE, "--home", home]
    done = subprocess.run(
        ["sh", "-c", '"$@" <&-', "sh", *hejin],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HEJIN_LANG": "en"},
    )
    assert (done.returncode, rows(home)) == (2, 2)
    assert done.stderr.startswith("hejin: Data would be removed")


@COMMANDS
@pytest.mark.parametrize(
    ("said", "language"), [("y", "en"), ("是", "zh"), ("n", "en"), ("", "zh"), ("yours", "en")]
)
def test_at_a_terminal_it_is_asked_and_only_yes_is_yes(
    home: Path, terminal: tuple[int, int], command: tuple[str, ...], said: str, language: str
) -> None:
    with at(terminal, home, command, language) as process:
        os.write(terminal[0], f"{said}\n".encode())
        out, err = process.communicate(timeout=120)
    assert QUESTIONS[language][command] in err
    if said in ("y", "是"):
        assert process.returncode == 0
        assert json.loads(out)["rows"] == 2
        assert rows(home) == 0
    else:
        assert process.returncode == 1
        assert {"en": "Not confirmed", "zh": "未确认"}[language] in err
        assert (out, rows(home)) == ("", 2)


def test_ctrl_c_at_the_question_changes_nothing(home: Path, terminal: tuple[int, int]) -> None:
    with at(terminal, home, ERASE) as process:
        assert process.stderr is not None
        assert process.stderr.read(5) == "Erase"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "stopped by Ctrl-C" in err
    assert rows(home) == 2
