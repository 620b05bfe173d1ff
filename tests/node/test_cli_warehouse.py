"""The `hejin node data` commands on a real node folder: what they print, and that they did it."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from commands import answer, run
from node_world import found_world

from hejin_models.uscc import make_code
from hejin_node.errors import WarehouseError
from hejin_node.home import open_home
from hejin_node.manifest import Counts
from hejin_node.segments import Columns
from hejin_node.withdrawing import WithdrawalError
from hejin_trust.keys import KeyFileError

A, B = make_code(0), make_code(1)
COLUMNS: Columns = {"enterprise": "text", "net": "number"}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return found_world(tmp_path).nodes["node-1"]


def invoices(*codes: str) -> pa.Table:
    return pa.table({"enterprise": list(codes), "net": [1.0] * len(codes)})


def fill(home: Path) -> None:
    """Two loads of invoices, and one of orders that was interrupted."""
    with open_home(home) as node:
        for number in "12":
            node.warehouse.append("invoices", COLUMNS, invoices(A, B).to_batches(), number * 64)
        with (
            pytest.raises(KeyboardInterrupt),
            node.warehouse.loading("data", "orders", "3" * 64, "orders.csv") as work,
        ):
            _interrupt(work)


def _interrupt(work) -> None:
    work.writer("data", "orders", COLUMNS).write(invoices(A))
    work.keep({"offset": 5}, Counts(1, 1))
    raise KeyboardInterrupt


def test_data_sets_are_listed_and_shown_with_their_sources(home: Path) -> None:
    fill(home)
    assert answer(home, "data", "list") == {
        "datasets": [
            {"dataset": "invoices", "rows": 4, "quarantined": 0, "segments": 2, "interrupted": 0},
            {"dataset": "orders", "rows": 0, "quarantined": 0, "segments": 0, "interrupted": 1},
        ]
    }
    assert "invoices" in run(home, "data", "list").output
    shown = answer(home, "data", "show", "invoices")
    assert shown["columns"] == COLUMNS
    assert [load["source"] for load in shown["loads"]] == ["1" * 64, "2" * 64]  # type: ignore[attr-defined]
    assert "interrupted" in run(home, "data", "show", "orders").output


def test_a_data_set_that_is_not_there_is_refused(home: Path) -> None:
    with pytest.raises(WarehouseError, match="no data set nothing"):
        run(home, "data", "show", "nothing")


def test_small_segments_are_merged(home: Path) -> None:
    fill(home)
    assert answer(home, "data", "compact", "orders") == {"before": 0, "after": 0}
    assert "2 segments merged into 1" in run(home, "data", "compact").output
    assert answer(home, "data", "list")["datasets"][0]["segments"] == 1  # type: ignore[index]


def test_an_enterprise_is_erased(home: Path) -> None:
    fill(home)
    done = answer(home, "data", "erase", A, "--reason", "it asked for it", "--yes")
    assert (done["rows"], done["segments"], done["revoked"]) == (3, 3, [])
    again = run(home, "data", "erase", A, "--reason", "it asked for it", "--yes")
    assert "erased before" in again.output
    other = run(home, "data", "erase", make_code(7), "--reason", "x", "--yes")
    assert "check its spelling" in other.output
    with open_home(home) as node:
        read = pa.Table.from_batches(node.warehouse.read("data", "invoices"))
    assert read["enterprise"].to_pylist() == [B, B]


def test_a_load_is_withdrawn_and_shown_to_be(home: Path) -> None:
    fill(home)
    said = run(
        home, "data", "withdraw", "invoices", "2", "--reason", "the wrong file", "--yes"
    ).output.replace("\n", " ")
    assert "withdrawn: 2 rows in 1 segments, of loads 2; entry" in said
    assert "`hejin node quality check`" in said
    first, second = answer(home, "data", "show", "invoices")["loads"]  # type: ignore[misc]
    assert (first["state"], first["withdrawn"]) == ("complete", None)
    assert (second["state"], second["source"]) == ("withdrawn", "2" * 64)
    assert "withdrawn" in run(home, "data", "show", "invoices").output
    assert f"withdrawn {second['withdrawn']}" in run(home, "data", "lineage").output
    again = answer(home, "data", "withdraw", "invoices", "2", "--reason", "the wrong file", "--yes")
    assert again == {"seq": None, "rows": 0, "segments": 0, "loads": [], "runs": []}
    run(home, "data", "withdraw", "invoices", "1", "--reason", "as well", "--yes")
    shown = answer(home, "data", "show", "invoices")["loads"]
    assert [one["state"] for one in shown] == ["withdrawn"] * 2  # type: ignore[attr-defined]


def test_what_cannot_be_withdrawn_is_refused_before_anybody_is_asked(home: Path) -> None:
    fill(home)
    with pytest.raises(WithdrawalError, match="Load 3 was interrupted"):
        run(home, "data", "withdraw", "orders", "3", "--reason", "the wrong file")


def test_damage_is_named_and_mended(home: Path, tmp_path: Path) -> None:
    fill(home)
    run(home, "data", "backup", str(tmp_path / "copy"))
    assert "whole" in run(home, "data", "verify").output
    with open_home(home) as node:
        spoiled = node.warehouse.segments()[0].file
    path = home / "warehouse" / spoiled
    path.write_bytes(path.read_bytes()[:-1])
    found = run(home, "data", "verify")
    assert found.exit_code == 1
    assert f"Segment {spoiled} of data set invoices" in found.output.replace("\n", " ")
    found = run(home, "data", "verify", "--json")
    assert json.loads(found.stdout)["damaged"] == [
        {"dataset": "invoices", "kind": "data", "file": spoiled, "rows": 2}
    ]
    assert answer(home, "data", "restore", str(tmp_path / "copy"))["segments"] == 1
    assert run(home, "data", "verify").exit_code == 0
    (home / "warehouse" / spoiled).unlink()
    (tmp_path / "copy" / "segments" / spoiled).unlink()
    lacking = run(home, "data", "restore", str(tmp_path / "copy"))
    assert lacking.exit_code == 1
    assert "not in this backup" in lacking.output


def test_a_database_is_put_back_where_there_is_none(home: Path, tmp_path: Path) -> None:
    fill(home)
    run(home, "data", "backup", str(tmp_path / "copy"))
    listed = run(home, "data", "list", "--json").output
    for path in home.glob("node.db*"):
        path.unlink()
    assert "recover" in run(home, "data", "restore", str(tmp_path / "copy")).output
    assert run(home, "data", "list", "--json").output == listed


def test_whoever_is_erased_is_told_of_backups(home: Path, tmp_path: Path) -> None:
    fill(home)
    run(home, "data", "backup", str(tmp_path / "copy"))
    said = run(home, "data", "erase", A, "--reason", "it asked for it", "--yes").output
    said = said.replace("\n", "")
    assert f"{tmp_path / 'copy'}" in said


def test_an_interrupted_load_can_be_given_up(home: Path) -> None:
    fill(home)
    (load,) = answer(home, "data", "show", "orders")["loads"]  # type: ignore[misc]
    assert "given up" in run(home, "data", "give-up", str(load["id"])).output
    assert [one["dataset"] for one in answer(home, "data", "list")["datasets"]] == ["invoices"]  # type: ignore[attr-defined]
    assert len(list((home / "warehouse").glob("*.parquet"))) == 2
    with pytest.raises(WarehouseError, match="no interrupted load 1"):
        run(home, "data", "give-up", "1")


@pytest.mark.parametrize("name", ["warehouse.key", "pseudonym.key"])
@pytest.mark.parametrize("length", [0, 16])
def test_a_key_file_that_was_cut_off_is_refused(home: Path, name: str, length: int) -> None:
    key = home / "keys" / name
    key.write_bytes(key.read_bytes()[:length])
    with pytest.raises(KeyFileError, match=f"has {length} bytes"):
        run(home, "data", "list")
