"""Rows in quarantine: counted by rule, written out, corrected, loaded in one transaction."""

from __future__ import annotations

import csv
import stat
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hejin_models.uscc import make_code
from hejin_node import source_csv
from hejin_node.errors import IngestError, SegmentError
from hejin_node.ingest import ingest, ingest_corrected
from hejin_node.mapping import SourceMapping
from hejin_node.quarantine import export, held_back

A, B, C = (make_code(n) for n in range(3))
MAPPING = """
dataset = "bills"
encoding = "gb18030"
delimiter = ";"
[enterprise]
column = "企业"
[columns.net]
source = "金额"
type = "number"
required = true
[columns.day]
source = "日期"
type = "date"
formats = ["%Y/%m/%d"]
"""
RULES = SourceMapping.parse(MAPPING.encode())
FIRST = (
    f"企业;金额;日期\n{A};1;2025/1/1\n{A};甲;2025/1/2\nnobody;3;\n{B};;2025/1/3\n{C};5;2025/13/1\n"
)


@pytest.fixture
def load(data) -> int:
    """A load of five rows, four of them bad."""
    report = ingest(data.warehouse, data.file("bills.csv", FIRST, "gb18030"), RULES)
    assert (report.loaded, sum(report.quarantined.values())) == (1, 4)
    return data.warehouse.loads("bills")[0].id


def written(data, load: int | None = None) -> list[dict[str, str]]:
    path = data.folder / "out.csv"
    path.unlink(missing_ok=True)
    export(data.warehouse, "bills", load, path)
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def corrected(data, rows: list[dict[str, str]], name: str = "corrected.csv") -> Path:
    path = data.folder / name
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_quarantine_is_counted_by_load_and_rule(data, load: int) -> None:
    assert held_back(data.warehouse, "bills") == {
        load: {"net.type": 1, "enterprise.code": 1, "net.required": 1, "day.type": 1}
    }


def test_rows_are_written_as_they_came_for_their_operator_only(data, load: int) -> None:
    assert written(data) == [
        {"_load": str(load), "_row": "2", "_rule": "net.type", "企业": A, "金额": "甲",
         "日期": "2025/1/2"},
        {"_load": str(load), "_row": "3", "_rule": "enterprise.code", "企业": "nobody",
         "金额": "3", "日期": ""},
        {"_load": str(load), "_row": "4", "_rule": "net.required", "企业": B, "金额": "",
         "日期": "2025/1/3"},
        {"_load": str(load), "_row": "5", "_rule": "day.type", "企业": C, "金额": "5",
         "日期": "2025/13/1"},
    ]  # fmt: skip
    assert stat.S_IMODE((data.folder / "out.csv").stat().st_mode) == 0o600


def test_corrected_rows_leave_quarantine_and_the_others_stay(data, load: int) -> None:
    rows = written(data)
    rows[0]["金额"] = "2"
    rows[1]["企业"] = "still nobody"
    report = ingest_corrected(data.warehouse, corrected(data, rows[:2]), RULES, load)
    assert (report.loaded, report.quarantined) == (1, {"enterprise.code": 1})
    assert sorted(row["net"] for row in data.rows("bills")) == [1.0, 2.0]
    assert [row["row"] for row in data.rows("bills", "quarantine")] == [3, 4, 5]
    assert data.rows("bills", "quarantine")[0]["source.企业"] == "nobody"  # as it came
    new = data.warehouse.loads("bills")[-1]
    assert (new.corrects, new.name, new.counts.loaded) == (load, "corrected.csv", 1)
    assert len(list((data.folder / "warehouse").glob("*.parquet"))) == 3


HOSTILE = ("=HYPERLINK(1)", "@SUM(1)", "+cmd|' /C calc'!A0", "-2+3", "＝1+1", "'=1", "''")


def test_no_cell_is_written_so_that_a_spreadsheet_runs_it_and_each_is_read_as_it_was(data) -> None:
    """A formula in a supplier's file could send away the rows around it, once somebody opens it."""
    rules = SourceMapping.parse(MAPPING.replace('type = "number"', 'type = "text"').encode())
    plain = ("-1", "+1.5", "-1,000.5e3", "核金", "a=b")
    lines = [f"nobody;{cell};2025/1/1\n" for cell in (*HOSTILE, *plain)]
    path = data.file("bills.csv", f"企业;金额;日期\n{A};x;2025/1/1\n{''.join(lines)}", "gb18030")
    ingest(data.warehouse, path, rules)
    rows = written(data)
    assert [row["金额"] for row in rows] == [*(f"'{cell}" for cell in HOSTILE), *plain]
    fixed = corrected(data, [{**row, "企业": A} for row in rows])
    load = data.warehouse.loads("bills")[0].id
    assert ingest_corrected(data.warehouse, fixed, rules, load).quarantined == {}
    assert sorted(row["net"] for row in data.rows("bills")) == sorted((*HOSTILE, *plain, "x"))


def test_the_same_corrections_again_change_nothing(data, load: int) -> None:
    rows = written(data)
    rows[0]["金额"] = "2"
    path = corrected(data, rows[:1])
    ingest_corrected(data.warehouse, path, RULES, load)
    assert ingest_corrected(data.warehouse, path, RULES, load).already
    path.write_text(path.read_text("utf-8") + "\n", "utf-8")  # other bytes, the same rows
    with pytest.raises(IngestError, match="none that is in quarantine"):
        ingest_corrected(data.warehouse, path, RULES, load)
    assert len(data.rows("bills")) == 2


def test_all_of_quarantine_can_be_corrected_in_parts(data, load: int) -> None:
    rows = written(data)
    for row, change in zip(
        rows, ({"金额": "2"}, {"企业": B}, {"金额": "4"}, {"日期": "2025-12-01"}), strict=True
    ):
        row.update(change)
        path = corrected(data, [row], f"{row['_row']}.csv")
        assert ingest_corrected(data.warehouse, path, RULES, load).loaded == 1
    assert sorted(row["net"] for row in data.rows("bills")) == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert data.rows("bills", "quarantine") == []
    assert held_back(data.warehouse, "bills") == {}


def test_corrections_may_take_many_blocks(data, load: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = written(data)
    for row, change in zip(
        rows, ({"金额": "2"}, {"企业": B}, {}, {"日期": "2025-12-01"}), strict=True
    ):
        row.update(change)
    monkeypatch.setattr(source_csv, "_BLOCK", 80)
    with pytest.raises(IngestError, match="or one twice"):
        ingest_corrected(data.warehouse, corrected(data, [*rows, rows[0]]), RULES, load)
    report = ingest_corrected(data.warehouse, corrected(data, rows), RULES, load)
    assert (report.loaded, report.quarantined) == (3, {"net.required": 1})
    assert [row["row"] for row in data.rows("bills", "quarantine")] == [4]


@pytest.mark.parametrize(
    "change",
    [{"_row": "1"}, {"_row": "9"}, {"_row": ""}, {"_row": "x"}, {"_load": "99"}, {"_load": ""}],
)
def test_rows_that_are_not_in_that_quarantine_are_refused(data, load: int, change) -> None:
    rows = written(data)
    rows[0].update({"金额": "2", **change})
    with pytest.raises(IngestError, match="none that is in quarantine"):
        ingest_corrected(data.warehouse, corrected(data, rows), RULES, load)
    assert len(data.rows("bills")) == 1
    assert len(data.rows("bills", "quarantine")) == 4


def test_a_row_that_comes_twice_is_refused(data, load: int) -> None:
    rows = written(data)
    rows[0]["金额"] = "2"
    with pytest.raises(IngestError, match="or one twice"):
        ingest_corrected(data.warehouse, corrected(data, [rows[0], rows[0]]), RULES, load)
    assert len(data.rows("bills")) == 1


def test_a_load_that_is_not_there_is_refused(data, load: int) -> None:
    with pytest.raises(IngestError, match="Load 99 is none of data set bills"):
        ingest_corrected(data.warehouse, corrected(data, written(data)), RULES, 99)


def test_a_load_is_chosen_where_several_have_rows_in_quarantine(data, load: int) -> None:
    ingest(data.warehouse, data.file("2.csv", FIRST.replace("nobody", "none"), "gb18030"), RULES)
    with pytest.raises(IngestError, match="rows of 2 loads"):
        written(data)
    assert [row["企业"] for row in written(data, load + 1)][1] == "none"
    with pytest.raises(IngestError, match="no rows of this load"):
        written(data, 99)


def test_values_with_line_breaks_are_written_in_one_line(data) -> None:
    path = data.folder / "in.parquet"
    table = pa.table({"企业": ["a\nb", A], "金额": ["1", "1"], "日期": ["", ""]})
    pq.write_table(table, path)
    ingest(data.warehouse, path, RULES)
    assert written(data)[0]["企业"] == "a b"


def test_a_damaged_quarantine_refuses_corrections_and_nothing_changes(data, load: int) -> None:
    rows = written(data)
    rows[0]["金额"] = "2"
    (part,) = data.warehouse.segments("quarantine", "bills")
    file = data.folder / "warehouse" / part.file
    whole = file.read_bytes()
    file.write_bytes(whole[:200] + bytes([whole[200] ^ 1]) + whole[201:])
    with pytest.raises(SegmentError, match="is damaged or was altered"):
        ingest_corrected(data.warehouse, corrected(data, rows[:1]), RULES, load)
    assert len(data.rows("bills")) == 1
    file.write_bytes(whole)
    assert ingest_corrected(data.warehouse, corrected(data, rows[:1]), RULES, load).loaded == 1
