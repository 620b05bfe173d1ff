"""Lineage: every enterprise, feature and check traces back to the sources that were loaded."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from commands import run
from node_world import found_world

from hejin_models.features import FeatureView, shipped_views, view_file
from hejin_models.schemas import shipped_schemas
from hejin_models.uscc import make_code
from hejin_node.feature_lineage import feature_origins
from hejin_node.home import ViewMissingError, open_home
from hejin_node.lineage import NoReportError
from hejin_node.views import install_view

A, B = make_code(0), make_code(1)
HEAD = "enterprise,direction,counterparty,date,net,tax,status\n"
MAPPING = """
dataset = "invoices"
[columns.counterparty]
[columns.tax]
[columns.direction]
[columns.date]
[columns.net]
[columns.status]
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return found_world(tmp_path).nodes["node-1"]


def file_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def lineage(home: Path, *words: str) -> dict[str, list[dict[str, object]]]:
    result = run(home, "data", "lineage", *words, "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, list[dict[str, object]]] = json.loads(result.stdout)
    return found


def fill(home: Path) -> None:
    """Two files of invoices: A is in both, B in the second, where one of its rows is refused."""
    (home / "m.toml").write_text(MAPPING, "utf-8")
    (home / "first.csv").write_text(HEAD + f"{A},out,c1,2025-01-05,10,1,valid\n" * 2, "utf-8")
    (home / "second.csv").write_text(
        HEAD
        + f"{A},out,c1,2025-02-05,10,1,valid\n"
        + f"{B},in,c2,2025-02-06,20,2,valid\n"
        + f"{B},in,c2,2025-02-06,many,2,valid\n",
        "utf-8",
    )
    for name in ("first.csv", "second.csv"):
        run(home, "ingest", str(home / name), "--mapping", str(home / "m.toml"))


def test_an_enterprise_traces_back_to_its_files(home: Path) -> None:
    fill(home)
    mine = lineage(home, "--enterprise", B)["sources"]
    (only,) = mine
    assert only == {
        "load": 2,
        "kind": "data",
        "dataset": "invoices",
        "name": "second.csv",
        "sha256": file_digest(home / "second.csv"),
        "mapping": file_digest(home / "m.toml"),
        "completed": only["completed"],
        "corrects": None,
        "withdrawn": None,
        "loaded": 2,
        "rows": 1,
        "quarantined": 1,
    }
    both = lineage(home, "--enterprise", f" {A} ")["sources"]
    assert [(one["name"], one["rows"]) for one in both] == [("first.csv", 2), ("second.csv", 1)]
    assert lineage(home, "--enterprise", make_code(9))["sources"] == []


def test_a_data_set_traces_back_to_its_files(home: Path) -> None:
    fill(home)
    found = lineage(home, "--dataset", "invoices")["sources"]
    assert [(one["load"], one["rows"], one["quarantined"]) for one in found] == [
        (1, 2, 0),
        (2, 2, 1),
    ]
    assert lineage(home, "--dataset", "orders")["sources"] == []
    shown = run(home, "data", "lineage")
    assert "first.csv" in shown.output
    assert "2 sources" in shown.output


def test_lineage_survives_compaction(home: Path) -> None:
    fill(home)
    before = lineage(home, "--enterprise", A)
    with open_home(home) as node:
        node.warehouse.compact()
        assert len(node.warehouse.segments("data", "invoices")) == 1
    assert lineage(home, "--enterprise", A) == before


def test_a_quality_check_traces_back_to_the_files_that_it_covers(home: Path) -> None:
    fill(home)  # each ingest checks: 1 covers the first file, 2 covers both
    first, second = (lineage(home, "--report", number)["sources"] for number in "12")
    assert [one["load"] for one in first] == [1]
    assert [one["load"] for one in second] == [1, 2]
    checked = json.loads(run(home, "quality", "check", "--json").stdout)
    assert checked["datasets"][0]["report"] == 3
    with pytest.raises(NoReportError, match="no quality check 9"):
        lineage(home, "--report", "9")
    assert run(home, "data", "lineage", "--report", "1", "--dataset", "invoices").exit_code == 2


def test_a_feature_traces_back_to_columns_and_the_enterprises_files(home: Path) -> None:
    fill(home)
    with open_home(home) as node:
        install_view(node.views_folder, view_file("trade-v1"), node.schemas(), node.now().date())
    features = lineage(home, "--enterprise", B, "--view", "trade-v1")["features"]
    by_name = {one["feature"]: one for one in features}
    assert len(by_name) == 14
    assert by_name["tenure"]["moved_by"] == {"invoices": ["date"]}
    assert by_name["tenure"]["loads"] == [2]
    shown = run(home, "data", "lineage", "--view", "trade-v1")
    assert "customer_concentration" in shown.output
    with pytest.raises(ViewMissingError, match="no feature view trade-v9"):
        lineage(home, "--view", "trade-v9")


def test_labels_have_their_sources_too(home: Path) -> None:
    (home / "bad.csv").write_text(f"enterprise,label\n{A},1\n{B},0\n", "utf-8")
    words = ("labels", "load", str(home / "bad.csv"), "--bank", "bank-1")
    run(home, *words, "--definition", "overdue90-12m-v1")
    (found,) = lineage(home, "--enterprise", A)["sources"]
    assert (found["kind"], found["name"], found["rows"]) == ("labels", "bad.csv", 1)


def test_an_erased_enterprise_has_no_origin_and_no_score_any_more(home: Path) -> None:
    fill(home)
    run(home, "data", "erase", B, "--reason", "asked", "--yes")
    assert lineage(home, "--enterprise", B)["sources"] == []
    found = lineage(home, "--dataset", "invoices")["sources"]
    assert [(one["rows"], one["quarantined"]) for one in found] == [(2, 0), (1, 0)]
    checked = json.loads(run(home, "quality", "check", "--enterprises", "9", "--json").stdout)
    (invoices,) = checked["datasets"]
    assert (invoices["rows"], invoices["enterprises"], invoices["quarantined"]) == (3, 1, {})
    assert B not in json.dumps(checked)


# -- features ------------------------------------------------------------------------------

#: By reading the SQL of the views.
KNOWN = {
    ("trade-v1", "sales_count"): {"invoices": ("direction", "date", "status")},
    ("trade-v1", "customer_concentration"): {
        "invoices": ("direction", "counterparty", "date", "net", "status")
    },
    ("operations-v1", "headcount"): {"output": ("month", "headcount")},
    ("operations-v1", "late_rate"): {"shipments": ("sent", "due", "arrived")},
    ("uci-credit-v1", "utilisation"): {"loans": ("limit_bal", "bill_amt1")},
}


@pytest.mark.parametrize(("view", "feature"), KNOWN)
def test_what_moves_a_feature_is_what_its_sql_says(view: str, feature: str) -> None:
    found = feature_origins(shipped_views()[view], shipped_schemas())
    (one,) = [one for one in found if one.feature == feature]
    assert one.moved_by == KNOWN[view, feature]
    assert one.told == one.moved_by


def test_a_feature_is_moved_by_nothing_that_its_plan_does_not_read() -> None:
    for view in shipped_views().values():
        for one in feature_origins(view, shipped_schemas()):
            for dataset, columns in one.moved_by.items():
                assert set(columns) <= set(one.reads[dataset]), (view.id, one.feature)


def test_a_feature_that_nothing_moves_is_told_with_all_that_it_reads() -> None:
    base = shipped_views()["uci-credit-v1"]
    source = (
        "SELECT enterprise, CASE WHEN max(limit_bal) = 123456.789 THEN 1 ELSE 0 END AS odd,"
        " max(age) AS old FROM loans GROUP BY enterprise;  "
    )
    odd, old = (
        type(base.features[0])(name, base.text, base.text, base.features[0].grid)
        for name in ("odd", "old")
    )
    view = FeatureView("odd", 1, base.text, source, base.datasets, (odd, old), base.digest)
    first, second = feature_origins(view, shipped_schemas())
    assert (first.moved_by, first.reads) == ({}, {"loans": ("limit_bal",)})
    assert first.told == first.reads
    assert second.moved_by == {"loans": ("age",)}
