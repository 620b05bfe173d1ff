"""A run that cannot go on leaves no process and no data behind."""

from __future__ import annotations

import datetime as dt
import io
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

import pytest
from rich.console import Console

from hejin_sandbox import run as runs
from hejin_sandbox.consortium import Consortium
from hejin_sandbox.errors import ProcessError, RunError
from hejin_sandbox.run import run_consortium
from hejin_sandbox.specs import Request, Spec, demo_spec
from hejin_sandbox.story import Story
from hejin_sandbox.supervisor import Supervisor

_REQUEST = Request(epsilon=2.0, delta=1e-6, mode="node", seed=1)


@pytest.fixture(name="story")
def _story() -> Story:
    return Story(Console(file=io.StringIO(), width=100))


@pytest.fixture(name="spec")
def _spec(story: Story) -> Spec:
    return demo_spec(_REQUEST, story, enterprises=20)


@pytest.fixture(autouse=True)
def _own_temporary_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HEJIN_LANG", "en")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def _fail_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def found(self: Consortium) -> None:
        self.home("bank").mkdir(parents=True)
        (self.home("bank") / "secret").touch()
        raise error

    monkeypatch.setattr(Consortium, "found", found)


def test_a_folder_that_holds_something_is_not_written_into(
    spec: Spec, story: Story, tmp_path: Path
) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "mine").touch()
    with pytest.raises(RunError, match="is not empty"):
        run_consortium(spec, story, tmp_path / "kept")


def test_after_a_failure_only_the_logs_stay(
    spec: Spec, story: Story, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fail_with(monkeypatch, ProcessError("x", "x"))
    with pytest.raises(ProcessError):
        run_consortium(spec, story, None)
    (folder,) = tmp_path.glob("hejin-sandbox-*")
    assert [entry.name for entry in folder.iterdir()] == ["logs"]


def test_after_an_interruption_nothing_stays(
    spec: Spec, story: Story, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fail_with(monkeypatch, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run_consortium(spec, story, None)
    assert not list(tmp_path.glob("hejin-sandbox-*"))


def test_after_a_failure_a_kept_folder_keeps_all(
    spec: Spec, story: Story, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fail_with(monkeypatch, ProcessError("x", "x"))
    with pytest.raises(ProcessError):
        run_consortium(spec, story, tmp_path / "kept")
    assert (tmp_path / "kept" / "homes" / "bank" / "secret").exists()


def test_a_command_that_fails_first_ends_the_run_with_its_words(
    spec: Spec, story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = (sys.executable, "-S", "-c", "import sys; sys.exit('hejin: no room')")
    monkeypatch.setattr(runs, "Supervisor", lambda logs: Supervisor(logs, program=program))
    with pytest.raises(ProcessError, match=r"regulator-init ended with code 1[\s\S]*no room"):
        run_consortium(spec, story, None)


def test_records_in_the_clear_are_gone_once_they_are_loaded(
    spec: Spec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Path] = []

    def load(*_: object) -> NoReturn:
        seen.extend((tmp_path / "run" / "inputs").glob("*/*.parquet"))
        raise ProcessError("x", "x")

    monkeypatch.setattr(Supervisor, "run_chains", load)
    supervisor = Supervisor(tmp_path / "run" / "logs")
    with pytest.raises(ProcessError):
        Consortium(spec, supervisor, tmp_path / "run").load(dt.date(2026, 1, 1), lambda _: None)
    assert len(seen) == len(spec.nodes)
    assert not (tmp_path / "run" / "inputs").exists()
