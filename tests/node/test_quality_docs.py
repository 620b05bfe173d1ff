"""The examples of docs/quality.md work as they stand there."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from hejin_models.quality import DEFAULT_GATE, Tally, gate_of
from hejin_models.schemas import load_schemas
from hejin_node.quality import measure, types_of
from hejin_node.segments import Columns, arrow_schema

if TYPE_CHECKING:
    from conftest import Data

PAGE = (Path(__file__).parents[2] / "docs" / "quality.md").read_text("utf-8")


def test_the_pages_rules_count_what_they_say(data: Data) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE, re.S)
    folder = data.folder / "schemas"
    folder.mkdir()
    (folder / "strict-invoices.toml").write_text(example, "utf-8")
    schema = load_schemas(folder)["invoices"]
    columns: Columns = {"enterprise": "text", **types_of(schema)}
    row = {
        "enterprise": "A", "direction": "out", "counterparty": "c", "date": dt.date(2026, 1, 5),
        "net": 1.25, "tax": 0.1, "status": "valid",
    }  # fmt: skip
    rows = [
        row,
        {**row, "net": 1.255},  # three decimals, and the same party again
        {**row, "date": dt.date(2025, 11, 5), "status": "void"},  # December has none
        {**row, "enterprise": "B", "date": dt.date(2020, 1, 5), "status": "void"},
    ]
    batches = pa.Table.from_pylist(rows, arrow_schema(columns)).to_batches()
    data.warehouse.append("invoices", columns, batches, "ab" * 32)
    tallies = measure(data.warehouse, schema, "invoices", dt.date(2026, 3, 1)).tallies
    assert tallies["net.cents"] == Tally(4, 3)
    assert tallies["void.recent"] == Tally(2, 1)
    assert tallies["party.once-a-day"] == Tally(4, 3)
    assert tallies["months.all"] == Tally(3 + 1, 2 + 1)
    assert tallies["rows.fresh"] == Tally(2, 1)
    assert gate_of(schema)["completeness"] == 0.98


def test_the_page_tells_the_default_gate() -> None:
    (row,) = re.findall(r"^\| (0\.\d\d(?: \| 0\.\d\d){4}) \|$", PAGE, re.M)
    assert [float(cell) for cell in row.split(" | ")] == list(DEFAULT_GATE.values())
