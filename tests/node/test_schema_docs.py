"""The page docs/schemas.md does what it says: its example, run as it stands."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from node_world import found_world
from typer.testing import CliRunner

from hejin_models.schemas import load_schemas, shipped_schemas
from hejin_node.cli import app

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "schemas.md").read_text("utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_example_of_an_added_column_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = found_world(tmp_path).nodes["node-1"]
    monkeypatch.chdir(tmp_path)
    (home / "schemas").mkdir()
    extension, mapping, own = blocks("toml")
    (home / "schemas" / "invoice-kind.toml").write_text(extension, "utf-8")
    (home / "schemas" / "visits.toml").write_text(own, "utf-8")
    (tmp_path / "sales.toml").write_text(mapping, "utf-8")
    (tmp_path / "sales.csv").write_text(blocks("csv")[0], "utf-8")
    said = []
    for line in blocks("console")[1].splitlines():
        words = shlex.split(line.removeprefix("$ hejin node ").replace("/srv/hejin", str(home)))
        result = CliRunner().invoke(app, [*words, "--json"])
        assert result.exit_code == 0, result.output
        said.append(json.loads(result.stdout))
    shown, ingested = said
    assert [column["name"] for column in shown["columns"]][-1] == "kind"
    assert ingested["loaded"] == 2
    assert ingested["quarantined"] == {"kind.allowed": 1}
    schemas = load_schemas(home / "schemas")
    assert schemas["invoices"].grade == "core"
    assert schemas["visits"].category == "fulfilment"


def test_the_page_names_every_shipped_data_set_with_its_category() -> None:
    for schema in shipped_schemas().values():
        row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{schema.category}`"))
        assert f"`{schema.dataset}`" in row


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_schema_is_shown_in_words_with_units_ranges_and_grades(
    language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEJIN_LANG", language)
    monkeypatch.setenv("COLUMNS", "160")
    runner = CliRunner()
    shown = runner.invoke(app, ["schema", "show", "machines"])
    assert shown.exit_code == 0
    for words in {
        "en": ("0 .. 744 hours", "Failures that needed repair", "important", "end of the month"),
        "zh": ("0 .. 744 小时", "故障次数", "重要", "月末起可用"),
    }[language]:
        assert words in shown.stdout
    listed = runner.invoke(app, ["schema", "list"])
    assert listed.exit_code == 0
    for name in shipped_schemas():
        assert name in listed.stdout


def test_a_data_set_without_schema_is_refused_with_those_that_are_known() -> None:
    result = CliRunner().invoke(app, ["schema", "show", "nothing"])
    assert result.exit_code == 1
    assert "known are output, machines" in str(result.exception)
