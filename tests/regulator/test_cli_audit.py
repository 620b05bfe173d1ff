"""`hejin regulator audit-noise`: its exit codes, languages, JSON, and life without OpenDP."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from hejin_regulator import cli_audit
from hejin_regulator.cli import app
from hejin_regulator.cli_audit import MissingSamplerError, installed_sampler

RUNNER = CliRunner()


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEJIN_LANG", "en")


@pytest.mark.parametrize(("divisor", "code"), [("1", 0), ("2", 1)])
def test_the_exit_code_tells_whether_the_noise_is_as_claimed(divisor: str, code: int) -> None:
    words = ["audit-noise", "--runs", "1000", "--divide-noise-by", divisor, "--json"]
    run = RUNNER.invoke(app, words)
    assert run.exit_code == code
    told = json.loads(run.stdout)
    assert told["ok"] is (code == 0)
    assert (told["mu_at_least"] > told["mu_claimed"]) is (code == 1)
    assert told["runs"] == 1000
    assert len(told["thresholds"]) == 5


@pytest.mark.parametrize(
    ("language", "holds", "refuted"), [("en", "CONSISTENT", "REFUTED"), ("zh", "一致", "不成立")]
)
def test_the_verdict_reads_in_both_languages(
    monkeypatch: pytest.MonkeyPatch, language: str, holds: str, refuted: str
) -> None:
    monkeypatch.setenv("HEJIN_LANG", language)
    dice = np.random.default_rng(7)
    monkeypatch.setattr(
        cli_audit,
        "installed_sampler",
        lambda: lambda sigma, n: np.rint(dice.normal(0, float(sigma), n)).astype(np.int64),
    )
    run = RUNNER.invoke(app, ["audit-noise", "--runs", "1000"])
    assert (run.exit_code, holds in run.stdout) == (0, True)
    run = RUNNER.invoke(app, ["audit-noise", "--runs", "1000", "--divide-noise-by", "2"])
    assert (run.exit_code, refuted in run.stdout) == (1, True)


def test_without_opendp_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opendp.domains", None)
    monkeypatch.delitem(sys.modules, "hejin_privacy.noise", raising=False)
    with pytest.raises(MissingSamplerError, match=r"pip install 'hejin\[node\]'"):
        installed_sampler()


def test_the_other_commands_load_neither_opendp_nor_the_audit() -> None:
    code = """
import sys
import hejin_regulator.cli
assert not {"opendp", "hejin_privacy.audit", "hejin_privacy.noise"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_malformed_rho_is_a_usage_error() -> None:
    assert RUNNER.invoke(app, ["audit-noise", "--rho", "much"]).exit_code == 2
