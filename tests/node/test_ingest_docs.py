"""The page docs/ingest.md does what it says: its mappings are mappings, its workflow runs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from node_world import found_world
from typer.testing import CliRunner

from hejin_models.uscc import make_code
from hejin_node.cli import app
from hejin_node.mapping import SourceMapping, shipped_mappings

PAGE = (Path(__file__).parents[2] / "docs" / "ingest.md").read_text("utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("text", blocks("toml"))
def test_the_pages_mappings_are_mappings(text: str) -> None:
    SourceMapping.parse(text.encode())


def test_the_pages_first_commands_run_as_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = found_world(tmp_path).nodes["node-1"]
    monkeypatch.chdir(tmp_path)
    header = "销方识别号,购方识别号,开票日期,金额,税额,发票状态"
    rows = [f"{make_code(n)},甲,2025-01-0{n + 1},{n},0.1,正常" for n in range(5)]
    (tmp_path / "sales-2025.csv").write_text("\n".join([header, *rows]), "gb18030")
    said = []
    for line in blocks("console")[0].splitlines()[1:]:
        words, _, out = line.removeprefix("$ hejin node ").partition(" > ")
        words = words.replace("/srv/hejin", str(home))
        result = CliRunner().invoke(app, [*words.split(), *([] if out else ["--json"])])
        assert result.exit_code == 0, result.output
        if out:
            Path(out).write_text(result.stdout, "utf-8")
        else:
            said.append(json.loads(result.stdout))
    assert (tmp_path / "sales.toml").read_bytes() == shipped_mappings()["tax-sales"]
    tried, ingested = said
    assert tried["good"] == ingested["loaded"] == 5
