"""The commands that people type, from an empty folder to a verified export, and refusals."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from commands import said, typed
from node_world import VIEW

from hejin_models.uscc import make_code
from hejin_sandbox.supervisor import LISTENING, Supervisor
from hejin_trust.errors import HejinError

MAPPING = """
dataset = "firms"

[enterprise]
column = "code"

[columns.staff]
type = "number"

[columns.kind]
type = "text"
"""
COUNT = 60


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A consortium of one bank and one node with data, made by commands alone."""
    folder = tmp_path_factory.mktemp("commands")
    key = said(
        "regulator", "init", "--home", folder / "reg", "--consortium", "hebei",
        "--epsilon-cap", "20", "--minimum-nodes", "1", "--minimum-enterprises", "10",
    )["regulator_key"]  # fmt: skip
    said(
        "node", "init", "--home", folder / "node", "--member", "anping", "--name-en", "Anping",
        "--name-zh", "安平丝网", "--regulator-key", key, "--size-band", "50:100",
    )  # fmt: skip
    said(
        "coordinator", "init", "--home", folder / "bank", "--member", "bank-1", "--name-en", "Bank",
        "--name-zh", "银行", "--regulator-key", key,
    )  # fmt: skip
    admitted = said(
        "regulator", "admit", "--home", folder / "reg", folder / "node" / "request.json",
        folder / "bank" / "request.json", "--out", folder / "admissions",
    )["admitted"]  # fmt: skip
    assert isinstance(admitted, dict)
    said("node", "join", "--home", folder / "node", admitted["anping"], "--bank",
         "bank-1=127.0.0.1:1")  # fmt: skip
    said("coordinator", "join", "--home", folder / "bank", admitted["bank-1"])
    fill(folder)
    return folder


@pytest.mark.parametrize("words", [["node", "--size-band", "500:900"], ["coordinator"]])
def test_a_regulator_key_that_is_none_is_refused_without_it_and_nothing_is_made(
    tmp_path: Path, words: list[str]
) -> None:
    role, *more = words
    with pytest.raises(HejinError, match="regulator_key: it must match") as refused:
        typed(role, "init", "--home", tmp_path / "home", "--member", "a", "--name-en", "A",
              "--name-zh", "甲", "--regulator-key", "mistyped", *more)  # fmt: skip
    assert "字段 regulator_key：应符合" in refused.value.text.zh
    assert "mistyped" not in f"{refused.value.text.en}{refused.value.text.zh}"
    assert refused.value.exit_code == 2
    assert not (tmp_path / "home").exists()


def test_the_identity_key_that_init_shows_is_the_one_that_the_regulator_sees(
    tmp_path: Path,
) -> None:
    key = said(
        "regulator", "init", "--home", tmp_path / "reg", "--consortium", "hebei",
        "--epsilon-cap", "20",
    )["regulator_key"]  # fmt: skip
    details = ("--name-en", "A", "--name-zh", "甲", "--regulator-key", key)
    shown = [
        typed("node", "init", "--home", tmp_path / "node", "--member", "anping", *details,
              "--size-band", "500:900").stdout.splitlines()[-1],
        said("coordinator", "init", "--home", tmp_path / "bank", "--member", "bank-1",
             *details)["identity_key"],
    ]  # fmt: skip
    seen = typed(
        "regulator", "admit", "--home", tmp_path / "reg", tmp_path / "node" / "request.json",
        tmp_path / "bank" / "request.json", "--out", tmp_path / "admissions",
    )  # fmt: skip
    assert re.findall(r"[0-9a-f]{64}", seen.stdout) == shown


def fill(folder: Path) -> None:
    codes = [make_code(n) for n in range(COUNT)]
    (folder / "view.toml").write_bytes(VIEW)
    (folder / "mapping.toml").write_text(MAPPING)
    (folder / "firms.csv").write_text(
        "code,staff,kind\n" + "".join(f"{c},{n},{'ab'[n % 2]}\n" for n, c in enumerate(codes))
    )
    (folder / "labels.csv").write_text(
        "enterprise,label\n" + "".join(f"{c},{n % 2}\n" for n, c in enumerate(codes))
    )
    home = ("--home", folder / "node")
    typed("node", "view", "install", *home, folder / "view.toml")
    loaded = said("node", "ingest", *home, folder / "firms.csv", "--mapping",
                  folder / "mapping.toml")  # fmt: skip
    assert loaded["loaded"] == COUNT
    said("node", "labels", "load", *home, folder / "labels.csv", "--bank", "bank-1",
         "--definition", "bad-1")  # fmt: skip
    (folder / "signed.pdf").write_bytes(b"a signed document")
    for code in codes[:3]:
        typed(
            "node", "authorisation", "grant", *home, code, "--document", folder / "signed.pdf",
            "--from", "2026-01-01", "--to", "2099-01-01", "--purpose", "model-training",
            "--bank", "bank-1", "--category", "production",
        )  # fmt: skip


def test_a_node_and_a_bank_stand_ready_with_their_data(joined: Path) -> None:
    status = said("node", "status", "--home", joined / "node")
    assert status["rho_spent"] == 0
    assert status["datasets"] == {"firms": COUNT}
    assert status["labels"] == {"bank-1/bad-1": COUNT}
    assert (status["authorised"], status["views"], status["plans_waiting"]) == (3, ["firms-v1"], 0)
    assert said("node", "plan", "list", "--home", joined / "node") == {"plans": []}
    assert said("coordinator", "plans", "--home", joined / "bank") == {"plans": []}
    assert said("coordinator", "models", "list", "--home", joined / "bank") == {"models": []}


def test_exports_of_commands_verify(joined: Path, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    with Supervisor(tmp_path / "logs") as supervisor:
        serving = supervisor.serve(
            "reg", ["regulator", "serve", "--listen", "127.0.0.1:0"], joined / "reg"
        )
        regulator = ("--regulator", serving.wait_for(LISTENING, 60.0).group(1))
        for role, home, member in (("node", "node", "anping"), ("coordinator", "bank", "bank-1")):
            admission = joined / "admissions" / f"{member}.admission.json"
            said(role, "join", "--home", joined / home, admission, *regulator)
            looked = typed(role, "preflight", "--home", joined / home, "--json")
            wrong = [one["code"] for one in json.loads(looked.stdout)["looks"] if not one["ok"]]
            # The node's bank does not serve here, its view's columns are graded by nobody, and
            # three firms gave their authorisation.
            known = ["peer-unreachable", "policy-grade", "too-few-authorisations"]
            assert wrong == (known if role == "node" else [])
            typed(role, "export", "--home", joined / home, folder)
        said("regulator", "export", "--home", joined / "reg", folder)
    report = tmp_path / "report.html"
    answer = said("regulator", "verify", "--home", joined / "reg", folder, "--report", report)
    assert answer["ok"] is True
    assert "anping" in report.read_text("utf-8")
    (folder / "anping" / "internal.jsonl").unlink()
    refused = typed("regulator", "verify", "--home", joined / "reg", folder, "--json")
    assert refused.exit_code == 1


def test_an_export_without_its_regulator_says_that_it_is_not_witnessed(
    joined: Path, tmp_path: Path
) -> None:
    for role, home in (("node", "node"), ("coordinator", "bank")):
        told = typed(role, "export", "--home", joined / home, tmp_path)
        assert told.exit_code == 0
        assert "not witnessed yet" in told.output


def test_a_key_is_never_overwritten(joined: Path) -> None:
    with pytest.raises(HejinError, match="already holds a key"):
        typed(
            "node", "init", "--home", joined / "node", "--member", "anping", "--name-en", "x",
            "--name-zh", "x", "--regulator-key", "00" * 32, "--size-band", "50:100",
        )  # fmt: skip


def test_an_admission_for_another_member_is_refused(joined: Path) -> None:
    other = joined / "admissions" / "bank-1.admission.json"
    with pytest.raises(HejinError, match="refused"):
        typed("node", "join", "--home", joined / "node", other)


def test_a_folder_that_is_no_home_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(HejinError, match="run init first") as refused:
        typed("node", "status", "--home", tmp_path)
    assert refused.value.exit_code == 2


def test_a_settings_file_with_an_unknown_field_is_refused(joined: Path) -> None:
    path = joined / "bank" / "coordinator.toml"
    before = path.read_text()
    try:
        path.write_text(before + "noise = 0\n")
        with pytest.raises(HejinError, match="noise"):
            typed("coordinator", "plans", "--home", joined / "bank")
    finally:
        path.write_text(before)


def test_a_plan_that_nobody_offered_is_refused(joined: Path) -> None:
    with pytest.raises(HejinError, match="plan list"):
        typed("node", "plan", "show", "--home", joined / "node", "0123456789")


def test_a_size_band_without_meaning_is_wrong_usage(tmp_path: Path) -> None:
    result = typed(
        "node", "init", "--home", tmp_path, "--member", "x", "--name-en", "x", "--name-zh", "x",
        "--regulator-key", "00" * 32, "--size-band", "many",
    )  # fmt: skip
    assert result.exit_code == 2
    assert "LOW:HIGH" in result.output


def test_texts_are_in_the_language_asked_for(joined: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEJIN_LANG", "en")  # and put back afterwards: --lang sets it
    home = ("--home", joined / "node")
    assert "odometer" in typed("--lang", "en", "node", "status", *home).stdout
    shown = typed("--lang", "zh", "node", "status", *home).stdout
    assert "上限" in shown
    assert "授权有效的企业" in shown
    assert "rho_spent" not in shown
