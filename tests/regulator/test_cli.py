"""The regulator's commands as a person uses them."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from node_world import found_world
from typer.testing import CliRunner

from hejin_node.home import open_home
from hejin_privacy.accounting import epsilon
from hejin_regulator import authority
from hejin_regulator.authority import Office, Terms
from hejin_regulator.cli import app
from hejin_trust.clock import now
from hejin_trust.errors import HejinError

Ask = Callable[..., Path]


def run(*arguments: object) -> str:
    """Return what a command prints; a failure is raised as it is."""
    result = CliRunner().invoke(app, [str(a) for a in arguments], env={"HEJIN_LANG": "en"})
    if result.exception is not None:
        raise result.exception
    return result.output


def found(home: Path, *more: object) -> Any:
    """Found a consortium and return what --json said."""
    return json.loads(run("init", "--home", home, "--consortium", "hebei", "--json", *more))


def test_a_cap_in_epsilon_becomes_the_largest_rho_within_it(tmp_path: Path) -> None:
    said = found(tmp_path, "--epsilon-cap", 2)
    charter = Office(tmp_path).charter
    assert said["regulator_key"] == charter.regulator.identity_key.hex()
    assert 1.999 < epsilon(charter.rho_cap, 1e-6) <= 2
    assert charter.rho_alone_cap == 20 * charter.rho_cap


def test_a_cap_in_rho_is_taken_exactly(tmp_path: Path) -> None:
    found(tmp_path, "--rho-cap", "1/20", "--delta", "1e-7", "--rho-alone-cap", "0.05", "--r", 2)
    charter = Office(tmp_path).charter
    assert charter.rho_cap == charter.rho_alone_cap == Fraction(1, 20)
    assert (charter.delta, charter.r) == (Fraction(1, 10**7), 2)


@pytest.mark.parametrize("caps", [(), ("--epsilon-cap", 2, "--rho-cap", "0.1")], ids=str)
def test_an_unset_or_doubled_cap_is_refused(tmp_path: Path, caps: tuple[object, ...]) -> None:
    words = ["init", "--home", str(tmp_path), "--consortium", "hebei", *map(str, caps)]
    refused = CliRunner().invoke(app, words, env={"HEJIN_LANG": "en"})
    assert refused.exit_code == 2
    assert "give either --epsilon-cap or --rho-cap" in refused.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", ["nan", "inf", "x", "1/0", ""])
def test_a_cap_that_is_no_number_is_refused(tmp_path: Path, value: str) -> None:
    with pytest.raises((SystemExit, HejinError)):
        found(tmp_path, "--rho-cap", value)
    assert list(tmp_path.iterdir()) == []


def test_members_are_admitted_shown_and_revoked(tmp_path: Path, ask: Ask) -> None:
    home = tmp_path / "regulator"
    found(home, "--epsilon-cap", 2)
    requests = [ask("node-a"), ask("bank-a", "bank")]
    said = run("admit", "--home", home, "--out", tmp_path / "out", *requests)
    assert "charter 2 is in force" in said
    member = Office(home).charter.member("node-a")
    assert member.identity_key.hex() in said
    assert (tmp_path / "out" / "node-a.admission.json").is_file()

    said = run("charter", "show", "--home", home)
    assert "node-a" in said
    assert "100-5000" in said
    shown = json.loads(run("charter", "show", "--home", home, "--json"))
    assert shown["serial"] == 2
    assert shown["digest"] == Office(home).charter.digest

    assert "charter 3" in run("revoke", "--home", home, "node-a")
    again = json.loads(run("revoke", "--home", home, "bank-a", "--json"))
    assert again == {"charter": 4, "revoked": "bank-a"}


def test_admission_in_json_names_the_files(tmp_path: Path, ask: Ask) -> None:
    home = tmp_path / "regulator"
    found(home, "--epsilon-cap", 2)
    said = run("admit", "--home", home, "--out", tmp_path / "out", "--json", ask("node-a"))
    file = tmp_path / "out" / "node-a.admission.json"
    assert json.loads(said) == {"charter": 2, "admitted": {"node-a": str(file)}}


def test_the_home_folder_can_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEJIN_HOME", str(tmp_path))
    run("init", "--consortium", "hebei", "--epsilon-cap", 2)
    assert json.loads(run("charter", "show", "--json"))["consortium"] == "hebei"


def export(office: Office, folder: Path) -> Path:
    """Write the export of a consortium in which nothing has happened yet."""
    run("export", folder, "--home", office.home)
    return folder


def test_verification_pins_the_key_of_the_folder_or_the_one_given(
    tmp_path: Path, terms: Terms
) -> None:
    home, other = tmp_path / "regulator", tmp_path / "other"
    for place in (home, other):
        authority.init(place, terms, now())
    folder = export(Office(home), tmp_path / "export")
    key = Office(home).identity.public.hex()
    for pin in (["--home", home], ["--regulator-key", key], ["--regulator-key", key.upper()]):
        assert json.loads(run("verify", folder, "--json", *pin))["warnings"] == []
    unpinned = json.loads(run("verify", folder, "--json"))
    assert unpinned["ok"]
    assert key in unpinned["warnings"][0]["en"]
    assert "VERIFIED" in run("verify", folder, "--home", home)
    with pytest.raises(HejinError, match="signature"):
        run("verify", folder, "--home", other)
    with pytest.raises(HejinError, match="regulator-key"):
        run("verify", folder, "--regulator-key", "abc")


def test_an_export_without_the_logs_that_a_member_has_fails_with_exit_code_1(
    tmp_path: Path,
) -> None:
    world = found_world(tmp_path)
    with open_home(world.nodes["node-1"], world.clock) as home:
        world.witness(home)
    folder = export(world.office, tmp_path / "export")
    for more in ([], ["--json"]):
        arguments = ["verify", str(folder), "--home", str(world.office.home), *more]
        result = CliRunner().invoke(app, arguments, env={"HEJIN_LANG": "en"})
        assert result.exit_code == 1
        assert "node-1" in result.output
