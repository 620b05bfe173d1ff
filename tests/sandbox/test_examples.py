"""`hejin sandbox data`: files of all five categories that a node takes as they are."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from hejin_models.features import shipped_views
from hejin_models.schemas import shipped_schemas
from hejin_node.bulk import read_grants
from hejin_node.home import MIGRATIONS
from hejin_node.ingest import ingest
from hejin_node.mapping import SourceMapping
from hejin_node.warehouse import Warehouse
from hejin_sandbox.errors import ExamplesError
from hejin_sandbox.examples import write_examples
from hejin_sandbox.generator import AS_OF
from hejin_sandbox.main import hejin
from hejin_trust.database import open_database

TODAY = dt.date(2026, 3, 1)


def test_a_node_ingests_every_example_file_whole_and_full_v1_sees_every_enterprise(
    tmp_path: Path,
) -> None:
    files = write_examples(tmp_path / "data", "jingxian", 30, 1, first=500, today=TODAY)
    database = open_database(tmp_path / "node.db", MIGRATIONS)
    warehouse = Warehouse(tmp_path / "warehouse", bytes(32), database, bytes(32))
    for dataset in shipped_schemas():
        source = next(f for f in files if f.stem == dataset and f.suffix != ".toml")
        mapping = SourceMapping.load(tmp_path / "data" / f"{dataset}.toml")
        report = ingest(warehouse, source, mapping)
        assert report.dataset == dataset
        assert report.loaded > 0
        assert not report.quarantined
    grants = read_grants(tmp_path / "data" / "authorisations.csv", "utf-8")
    view = shipped_views()["full-v1"]
    found = warehouse.query(view.source, view.datasets, as_of=AS_OF.astype(dt.date))
    assert set(found.column("enterprise").to_pylist()) == {one.code for one in grants}
    for feature in view.features:
        assert found.column(feature.name).null_count < 10, feature.name
    database.dispose()


def test_every_enterprise_lets_the_bank_use_all_five_categories_and_its_outcome(
    tmp_path: Path,
) -> None:
    write_examples(tmp_path / "data", "anping", 5, 1, bank="bank-9", today=TODAY)
    grants = read_grants(tmp_path / "data" / "authorisations.csv", "utf-8")
    outcomes = (tmp_path / "data" / "outcomes.csv").read_text("utf-8").splitlines()
    assert [one.code for one in grants] == [line.partition(",")[0] for line in outcomes[1:]]
    for _, terms, _ in grants:
        assert terms.banks == ("bank-9",)
        assert set(terms.categories) == {
            *(schema.category for schema in shipped_schemas().values()),
            "outcome",
        }
        assert terms.valid_from.date() < TODAY < terms.valid_to.date()


def test_a_seed_fixes_every_byte(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_examples(tmp_path / name, "gaoyang", 5, seed, today=TODAY)
    for file in sorted((tmp_path / "a").glob("*.csv")):
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes(), file.name
    assert (tmp_path / "a" / "stock.csv").read_bytes() != (
        tmp_path / "c" / "stock.csv"
    ).read_bytes()


def test_a_cluster_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ExamplesError, match="no pilot cluster beijing: choose one of anping"):
        write_examples(tmp_path / "data", "beijing", 5, 1, today=TODAY)
    assert not (tmp_path / "data").exists()


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(ExamplesError, match="is there already"):
        write_examples(tmp_path / "data", "anping", 5, 1, today=TODAY)
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises(ExamplesError, match="cannot be made"):
        write_examples(tmp_path / "file" / "data", "anping", 5, 1, today=TODAY)


def test_the_command_lists_what_it_wrote(tmp_path: Path) -> None:
    asked = ["sandbox", "data", "--out", str(tmp_path / "d"), "--enterprises", "3", "--json"]
    result = CliRunner().invoke(hejin, asked)
    assert result.exit_code == 0
    files = json.loads(result.stdout)["files"]
    assert {Path(file) for file in files} == set((tmp_path / "d").iterdir())
