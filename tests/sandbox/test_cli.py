"""`hejin sandbox run` refuses what it cannot mean before anything is started."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import NoReturn

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from hejin_sandbox import cli
from hejin_sandbox.errors import RunError, TableError
from hejin_sandbox.kept import new_folder
from hejin_sandbox.main import hejin


@pytest.fixture(name="table")
def _table(tmp_path: Path) -> str:
    table = pa.table({"home": ["a", "b"] * 50, "size": range(100), "y": [0, 0, 1, 1] * 25})
    pq.write_table(table, tmp_path / "t.parquet")
    return str(tmp_path / "t.parquet")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "either --node-by COL or --nodes N"),
        (["--node-by", "home", "--nodes", "2", "--split", "dirichlet"], "either --node-by COL"),
        (["--nodes", "2"], "go together"),
        (["--node-by", "home", "--split", "dirichlet"], "go together"),
        (["--node-by", "home", "--epsilon", "0"], "--epsilon must be"),
        (["--node-by", "home", "--delta", "1e-3"], "--delta must be"),
        (["--node-by", "home", "--mode", "none"], "one of node, shared"),
    ],
)
def test_options_that_contradict_each_other_are_a_usage_error(
    table: str, options: list[str], message: str
) -> None:
    arguments = ["sandbox", "run", "--table", table, "--label", "y"]
    epsilon = [] if "--epsilon" in options else ["--epsilon", "2"]
    done = CliRunner().invoke(hejin, [*arguments, *epsilon, *options])
    assert done.exit_code == 2
    assert message in done.output


def test_epsilon_must_be_given(table: str) -> None:
    done = CliRunner().invoke(
        hejin, ["sandbox", "run", "--table", table, "--label", "y", "--node-by", "home"]
    )
    assert done.exit_code == 2
    assert "--epsilon" in done.output


def test_a_table_that_makes_no_consortium_is_refused(table: str) -> None:
    done = CliRunner().invoke(
        hejin,
        ["sandbox", "run", "--table", table, "--label", "z", "--node-by", "home", "--epsilon", "2"],
    )
    assert isinstance(done.exception, TableError)
    assert done.exception.code == "table-refused"


def test_the_demo_keeps_or_does_not(tmp_path: Path) -> None:
    done = CliRunner().invoke(hejin, ["demo", "--keep", str(tmp_path / "kept"), "--no-keep"])
    assert done.exit_code == 2
    assert "contradict" in done.output


@pytest.mark.parametrize(
    ("options", "kept"), [([], "hejin-runs"), (["--no-keep"], None), (["--keep", "mine"], "mine")]
)
def test_the_demo_keeps_its_run_in_a_new_folder_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], kept: str | None
) -> None:
    asked: list[Path | None] = []

    def run(spec: object, story: object, keep: Path | None) -> NoReturn:
        asked.append(keep)
        raise RunError("x", "x")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "demo_spec", lambda request, story: None)
    monkeypatch.setattr(cli, "run_consortium", run)
    assert isinstance(CliRunner().invoke(hejin, ["demo", *options]).exception, RunError)
    assert [None if keep is None else keep.parts[0] for keep in asked] == [kept]
    assert [entry.name for entry in tmp_path.iterdir()] == (["hejin-runs"] if not options else [])


def test_a_folder_that_cannot_be_made_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hejin-runs").touch()
    with pytest.raises(RunError, match="--no-keep"):
        new_folder("demo", dt.datetime(2026, 11, 22, 21, 0, tzinfo=dt.UTC))
