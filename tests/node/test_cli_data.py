"""The data commands on a real node folder: what they print, and that they did it."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from commands import answer, run
from node_world import VIEW, found_world
from typer.testing import CliRunner, Result

from hejin_models.uscc import make_code
from hejin_node.bulk import CSV_COLUMNS
from hejin_node.cli import app
from hejin_node.home import open_home
from hejin_trust.canonical import time_text
from hejin_trust.errors import HejinError
from hejin_trust.witness import ClockOffError

A, B = make_code(0), make_code(1)
MAPPING = """
dataset = "firms"
[enterprise]
column = "企业"
[columns.staff]
source = "人数"
type = "number"
[columns.kind]
type = "text"
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return found_world(tmp_path).nodes["node-1"]


def test_files_are_ingested_and_reported(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "m.toml").write_text(MAPPING, "utf-8")
    (home / "in.csv").write_text(f"企业,人数,kind\n{A},5,a\n{B},many,b\n", "utf-8")
    words = ("ingest", str(home / "in.csv"), "--mapping", str(home / "m.toml"))
    monkeypatch.setenv("HEJIN_LANG", "zh")
    shown = run(home, *words)
    assert "载入 1 行" in shown.stdout
    assert "staff.type: 1" in shown.stdout
    again = answer(home, *words)
    assert (again["already"], again["loaded"]) == (True, 0)
    assert "此前已载入" in run(home, *words).stdout


def test_of_several_files_the_good_ones_are_loaded_and_the_exit_code_is_1(home: Path) -> None:
    (home / "m.toml").write_text(MAPPING, "utf-8")
    folder = home / "in"
    folder.mkdir()
    (folder / "a.csv").write_text(f"企业,人数,kind\n{A},5,a\n", "utf-8")
    (folder / "b.csv").write_text("nothing here\n", "utf-8")
    (folder / "c.csv").write_text(f"企业,人数,kind\n{B},6,a\n", "utf-8")
    result = run(home, "ingest", str(folder), "--mapping", str(home / "m.toml"), "--json")
    assert result.exit_code == 1
    first, second, third = (json.loads(line) for line in result.stdout.splitlines())
    assert (first["name"], first["loaded"]) == ("a.csv", 1)
    assert (second["name"], second["code"]) == ("b.csv", "file-refused")
    assert (third["name"], third["loaded"]) == ("c.csv", 1)
    assert "1 of 3 files were not loaded" in result.stderr


def test_a_database_is_ingested_by_an_address_that_is_nowhere_shown(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    books = sqlite3.connect(home / "canary-books.db")
    books.execute("CREATE TABLE firm (id INTEGER, 企业 TEXT, 人数 INTEGER, kind TEXT)")
    books.execute("INSERT INTO firm VALUES (1, ?, 5, 'a')", (A,))
    books.commit()
    books.close()
    text = MAPPING.replace("[enterprise]", '[sql]\ntable = "firm"\nkey = "id"\n[enterprise]')
    (home / "m.toml").write_text(text, "utf-8")
    monkeypatch.setenv("BOOKS", f"sqlite:///{home}/canary-books.db")
    words = ("ingest", "--mapping", str(home / "m.toml"), "--url-env", "BOOKS")
    result = run(home, *words, "--json")
    assert json.loads(result.stdout)["loaded"] == 1
    assert answer(home, *words)["already"] is True
    assert "canary" not in result.output
    assert b"canary" not in (home / "node.db").read_bytes()
    assert run(home, *words[:-2]).exit_code == 2
    for wrong in (("file.csv",), ("--corrects", "1"), ("--url-file", "file")):
        assert run(home, *words, *wrong).exit_code == 2


@pytest.mark.parametrize(
    "words",
    [(), ("in.csv", "--watch"), (".", "--watch", "--corrects", "1"), ("in.csv", "in.csv",
     "--corrects", "1"), ("absent.csv",), ("in.csv", "--every", "0")],
)  # fmt: skip
def test_an_ingest_that_makes_no_sense_is_wrong_usage(
    home: Path, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    (home / "m.toml").write_text(MAPPING, "utf-8")
    (home / "in.csv").write_text("企业\n", "utf-8")
    assert run(home, "ingest", *words, "--mapping", "m.toml").exit_code == 2


def test_quarantined_rows_go_out_and_come_back_corrected(home: Path) -> None:
    (home / "m.toml").write_text(MAPPING, "utf-8")
    (home / "in.csv").write_text(f"企业,人数,kind\n{A},5,a\n{B},many,b\n", "utf-8")
    words = ("--mapping", str(home / "m.toml"))
    run(home, "ingest", str(home / "in.csv"), *words)
    (held,) = answer(home, "data", "quarantine", "firms")["loads"]  # type: ignore[misc]
    assert (held["name"], held["rules"]) == ("in.csv", {"staff.type": 1})
    assert "staff.type" in run(home, "data", "quarantine", "firms").stdout
    out = home / "out.csv"
    assert answer(home, "data", "quarantine", "firms", "--out", str(out)) == {"rows": 1}
    with pytest.raises(HejinError, match="is there already"):
        run(home, "data", "quarantine", "firms", "--out", str(out))
    said = run(home, "data", "quarantine", "firms", "--out", str(out.with_name("b.csv")))
    assert "--corrects 1`" in said.stdout
    with pytest.raises(HejinError, match="There is no data set"):
        run(home, "data", "quarantine", "firm")
    out.write_text(out.read_text("utf-8").replace("many", "6"), "utf-8")
    load = str(held["load"])
    assert answer(home, "ingest", str(out), *words, "--corrects", load)["loaded"] == 1
    assert answer(home, "data", "quarantine", "firms")["loads"] == []


def test_mappings_are_listed_shown_and_tried_before_they_are_used(home: Path) -> None:
    listed = json.loads(run_bare("mapping", "list", "--json").stdout)["mappings"]
    assert {"name": "cumcm-sales", "dataset": "invoices"} in listed
    assert "tax-sales" in run_bare("mapping", "list").stdout
    shown = run_bare("mapping", "show", "erp-orders").stdout
    assert 'dataset = "orders"' in shown
    with pytest.raises(HejinError, match="No mapping nothing"):
        run_bare("mapping", "show", "nothing")
    (home / "m.toml").write_text(MAPPING, "utf-8")
    (home / "in.csv").write_text(f"企业,人数,kind\n{A},5,a\n{B},many,b\n", "utf-8")
    words = ("mapping", "check", str(home / "m.toml"), str(home / "in.csv"))
    tried = answer(home, *words)
    assert (tried["good"], tried["bad"]) == (1, {"staff.type": 1})
    (home / "in.csv").write_text(f"企业,人数,kind\n{B},many,b\n", "utf-8")
    assert run(home, *words).exit_code == 1
    assert run(home, "mapping", "check", "tax-sales").exit_code == 0


def run_bare(*words: str) -> Result:
    result = CliRunner().invoke(app, list(words))
    if isinstance(result.exception, HejinError):
        raise result.exception
    return result


def test_a_refused_file_is_one_clear_error(home: Path) -> None:
    (home / "m.toml").write_text(MAPPING, "utf-8")
    (home / "in.csv").write_text("nothing here\n", "utf-8")
    with pytest.raises(HejinError, match="no column"):
        run(home, "ingest", str(home / "in.csv"), "--mapping", str(home / "m.toml"))


def test_authorisations_are_granted_listed_imported_and_revoked(home: Path) -> None:
    (home / "signed.pdf").write_bytes(b"signed")
    granted = answer(
        home, "authorisation", "grant", A, "--document", str(home / "signed.pdf"),
        "--from", "2026-01-01", "--to", "2030-01-01", "--purpose", "model-training",
        "--bank", "bank-1", "--category", "*",
    )  # fmt: skip
    rows = f"{B},{'ab' * 32},B,model-training,*,*,*,2026-01-01,2030-01-01\n"
    (home / "bulk.csv").write_text(",".join(CSV_COLUMNS) + "\n" + rows)
    assert answer(home, "authorisation", "import", str(home / "bulk.csv")) == {
        "granted": 1, "already": 0, "revoked": 0,
    }  # fmt: skip
    listed = answer(home, "authorisation", "list")["authorisations"]
    assert isinstance(listed, list)
    assert [one["enterprise"] for one in listed] == [A, B]
    assert listed[0]["document"] == hashlib.sha256(b"signed").hexdigest()
    assert listed[0]["seq"] == granted["seq"]
    ended = answer(home, "authorisation", "revoke", A, "--reason", "left")
    assert ended == {"revoked": [granted["seq"]], "runs": []}
    assert "1" in run(home, "authorisation", "list", "--in-force").stdout
    assert A not in run(home, "authorisation", "list", "--in-force").stdout
    assert run(home, "authorisation", "revoke").exit_code == 2


def test_labels_are_loaded(home: Path) -> None:
    (home / "l.csv").write_text(f"code,bad\n{A},1\n", "gb18030")
    report = answer(
        home, "labels", "load", str(home / "l.csv"), "--bank", "bank-1", "--definition", "d-1",
        "--enterprise-column", "code", "--label-column", "bad", "--encoding", "gb18030",
    )  # fmt: skip
    assert report["loaded"] == 1
    words = ("labels", "load", str(home / "l.csv"), "--bank", "b", "--definition", "d")
    assert run(home, *words, "--encoding", "latin-1").exit_code == 2


def test_views_are_installed_and_listed(home: Path) -> None:
    (home / "mine.toml").write_bytes(VIEW.replace(b'"firms"\nversion = 1', b'"mine"\nversion = 2'))
    installed = answer(home, "view", "install", str(home / "mine.toml"))
    assert installed["id"] == "mine-v2"
    answer(home, "view", "install", "trade-v1")
    listed = answer(home, "view", "list")["views"]
    assert isinstance(listed, list)
    assert {one["id"] for one in listed} >= {"mine-v2", "trade-v1"}
    with open_home(home) as node:
        assert node.view(str(installed["sha256"])).id == "mine-v2"
    assert "mine-v2" in run(home, "view", "list").stdout
    with pytest.raises(HejinError, match="no view file"):
        run(home, "view", "install", "absent.toml")


@pytest.mark.parametrize(
    "words",
    [
        ("authorisation", "grant", A, "--document", "FILE", "--from", "2026-01-01", "--to",
         "2030-01-01", "--purpose", "model-training", "--bank", "*", "--category", "*"),
        ("authorisation", "import", "FILE"),
        ("authorisation", "revoke", A),
        ("labels", "load", "FILE", "--bank", "bank-1", "--definition", "d-1"),
        ("plan", "approve", "0" * 64),
        ("plan", "refuse", "0" * 64, "--reason", "no"),
    ],
    ids=lambda words: " ".join(words[:2]),
)  # fmt: skip
def test_what_logs_something_asks_first_whether_the_clock_can_be_right(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    world = found_world(tmp_path)
    office, home = world.office, world.nodes["node-1"]
    rows = f"{B},{'ab' * 32},B,model-training,*,*,*,2026-01-01,2030-01-01\n"
    (home / "file.csv").write_text(",".join(CSV_COLUMNS) + "\n" + rows)
    ahead = replace(
        office.charter,
        serial=office.charter.serial + 1,
        issued=time_text(world.clock() + timedelta(hours=1)),
    )
    with open_home(home) as node:
        node.charters.update(ahead.seal(office.identity))
    asked = [str(home / "file.csv") if word == "FILE" else word for word in words]
    with pytest.raises(ClockOffError, match="s behind"):
        run(home, *asked)
