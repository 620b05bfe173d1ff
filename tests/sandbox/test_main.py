"""The umbrella command is quick, speaks both languages and shows refusals as one line."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import typer

from hejin_sandbox import main as umbrella
from hejin_sandbox.errors import TableError
from hejin_trust.text import Text


def _hejin(*arguments: str, lang: str = "en") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hejin_sandbox.main", *arguments],
        env={**os.environ, "HEJIN_LANG": lang},
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_loads_no_heavy_library_and_takes_under_a_second_of_cpu() -> None:
    script = (
        "import sys, time; from hejin_sandbox.main import hejin;"
        "hejin.main(['--help'], standalone_mode=False);"
        "heavy = {'flwr', 'torch', 'duckdb', 'pyarrow', 'numpy', 'grpc', 'scipy', 'opendp'};"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules);"
        "assert time.process_time() < 1, time.process_time()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in umbrella.DOORS:
        assert name in done.stdout


def test_the_language_is_chosen_before_the_command() -> None:
    assert "数据不出域" in _hejin("--lang", "zh", "--help").stdout
    assert "no data moved" in _hejin("--lang", "en", "--help", lang="zh").stdout


def test_an_unknown_command_is_a_usage_error() -> None:
    done = _hejin("nodes")
    assert done.returncode == 2
    assert "perhaps node is meant" in done.stderr


class _Doors:
    """A module of the test's own, with an app that refuses."""

    app = typer.Typer()

    @staticmethod
    @app.command()
    def refuse() -> None:
        raise TableError("the table has no rows.", "数据表没有数据行。")


@pytest.mark.parametrize(("lang", "line"), [("en", "the table has no rows."), ("zh", "没有数据行")])
def test_a_refusal_is_one_line_in_the_language_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], lang: str, line: str
) -> None:
    monkeypatch.setenv("HEJIN_LANG", lang)
    monkeypatch.setitem(sys.modules, "test_doors", _Doors())
    monkeypatch.setattr(
        umbrella, "DOORS", {"refuse": umbrella.Door("test_doors:app", Text("r", "r"), None)}
    )
    monkeypatch.setattr(sys, "argv", ["hejin", "refuse"])
    with pytest.raises(SystemExit) as ended:
        umbrella.main()
    assert ended.value.code == 1
    said = capsys.readouterr()
    assert line in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""


def test_a_role_whose_libraries_are_absent_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEJIN_LANG", "en")
    door = umbrella.Door("library_that_is_not_here:app", Text("n", "n"), "node")
    monkeypatch.setattr(umbrella, "DOORS", {"node": door})
    monkeypatch.setattr(sys, "argv", ["hejin", "node"])
    with pytest.raises(SystemExit) as ended:
        umbrella.main()
    assert ended.value.code == 1
    assert "pip install 'hejin[node]'" in capsys.readouterr().err


def test_a_command_that_loads_its_engine_late_says_what_to_install_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Doors:
        app = typer.Typer()

        @staticmethod
        @app.command()
        def serve() -> None:
            __import__("library_that_is_not_here")

    monkeypatch.setenv("HEJIN_LANG", "en")
    monkeypatch.setitem(sys.modules, "test_late_doors", Doors())
    for extra, outcome in (("coordinator", SystemExit), (None, ModuleNotFoundError)):
        door = umbrella.Door("test_late_doors:app", Text("c", "c"), extra)
        monkeypatch.setattr(umbrella, "DOORS", {"coordinator": door})
        monkeypatch.setattr(sys, "argv", ["hejin", "coordinator"])
        with pytest.raises(outcome):
            umbrella.main()
    said = capsys.readouterr().err
    assert "`hejin coordinator` needs the library library_that_is_not_here" in said
