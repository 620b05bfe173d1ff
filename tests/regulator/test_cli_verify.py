"""`hejin regulator verify` on a terminal: how far it is, and nothing of that in what is piped."""

from __future__ import annotations

import json

import pytest
from ledger_world import Consortium
from rich.console import Console
from typer.testing import CliRunner

from hejin_regulator import cli_verify
from hejin_regulator.cli import app

RUNNER = CliRunner()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every console is a terminal, and the bar moves with every entry."""
    monkeypatch.setenv("HEJIN_LANG", "en")
    monkeypatch.setattr(cli_verify, "_STEP", 1)
    monkeypatch.setattr(
        cli_verify, "Console", lambda **words: Console(force_terminal=True, width=80, **words)
    )


def _run(consortium: Consortium, *more: str) -> tuple[str, str]:
    words = ["verify", str(consortium.folder), "--regulator-key", consortium.regulator.public.hex()]
    run = RUNNER.invoke(app, [*words, *more])
    assert run.exit_code == 0
    return run.stdout, run.stderr


def test_how_much_was_read_is_shown_on_a_terminal(consortium: Consortium, terminal: None) -> None:
    shown, beside = _run(consortium)
    assert "reading the logs" in beside
    assert "reading the logs" not in shown
    assert "VERIFIED" in shown


def test_nothing_is_shown_beside_json(consortium: Consortium, terminal: None) -> None:
    shown, beside = _run(consortium, "--json")
    assert json.loads(shown)["ok"] is True
    assert beside == ""


def test_nothing_is_shown_where_there_is_no_terminal(consortium: Consortium) -> None:
    _, beside = _run(consortium)
    assert beside == ""
