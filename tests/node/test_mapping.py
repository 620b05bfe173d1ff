"""Mapping files: what they say, and a clear word on each mistake."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from openpyxl import Workbook

from hejin_models.schemas import load_schemas, shipped_schemas
from hejin_models.uscc import make_code
from hejin_node.errors import MappingError
from hejin_node.ingest import ingest
from hejin_node.mapping import SourceMapping, find_mapping, shipped_mappings

CODE = make_code(0)
WHOLE = """
dataset = "bills"
encoding = "gb18030"
delimiter = ";"
missing = ["", "NULL"]
unique = true

[enterprise]
column = "企业代号"

[columns.net]
source = "金额"
type = "number"
required = true
minimum = -5
maximum = 1e9

[columns.date]
type = "date"
minimum = "2017-01-01"
maximum = 2020-12-31
formats = ["%Y/%m/%d"]

[columns.status]
type = "text"
strip = false
allowed = ["valid"]
translate = { "有效" = "valid" }

[columns.direction]
type = "text"
constant = "out"
"""
LEAST = 'dataset = "d"\n[enterprise]\ncolumn = "e"\n[columns.a]\ntype = "text"\n'


def test_a_misspelt_data_set_is_told_from_a_column_without_type() -> None:
    text = 'dataset = "invoces"\n[columns.net]\nsource = "n"\n'
    with pytest.raises(MappingError, match="names no schema; there are invoices, machines"):
        SourceMapping.parse(text.encode(), load_schemas(None))


def test_a_mapping_says_what_its_file_says() -> None:
    mapping = SourceMapping.parse(WHOLE.encode())
    assert (mapping.dataset, mapping.encoding, mapping.delimiter) == ("bills", "gb18030", ";")
    assert (mapping.missing, mapping.unique, mapping.check) == (("", "NULL"), True, "uscc")
    assert mapping.sources == ("企业代号", "金额", "date", "status")
    assert mapping.schema == {
        "enterprise": "text", "net": "number", "date": "date", "status": "text",
        "direction": "text",
    }  # fmt: skip
    net, date, status, direction = mapping.columns
    assert (net.required, net.minimum, net.maximum) == (True, -5, 1e9)
    assert (date.minimum, date.maximum) == (dt.date(2017, 1, 1), dt.date(2020, 12, 31))
    assert (status.strip, status.translate) == (False, {"有效": "valid"})
    assert (direction.source, direction.constant) == (None, "out")


def test_what_is_left_out_has_a_default() -> None:
    mapping = SourceMapping.parse(LEAST.encode())
    assert (mapping.encoding, mapping.delimiter, mapping.missing) == ("utf-8", ",", ("",))
    assert not mapping.unique
    (column,) = mapping.columns
    assert (column.source, column.required, column.strip) == ("a", False, True)


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ('dataset = "d"', "", "dataset"),
        ('dataset = "d"', 'dataset = "Bad Name"', "dataset"),
        ('dataset = "d"', 'dataset = "d"\nencodign = "utf-8"', "encodign"),
        ('dataset = "d"', 'dataset = "d"\nencoding = "latin-1"', "encoding"),
        ('dataset = "d"', 'dataset = "d"\ndelimiter = "ab"', "delimiter"),
        ('dataset = "d"', 'dataset = "d"\ndelimiter = "\\n"', "delimiter"),
        ('dataset = "d"', 'dataset = "d"\nmissing = "NULL"', "missing"),
        ('dataset = "d"', 'dataset = "d"\nunique = "yes"', "unique"),
        ('column = "e"', "column = 1", "enterprise.column"),
        ("[enterprise]", 'sheet = ""\n[enterprise]', "sheet"),
        ("[enterprise]", "[sql]\n[enterprise]", "sql"),
        ("[enterprise]", '[sql]\ntable = "t"\nquery = "SELECT 1"\n[enterprise]', "sql"),
        ("[enterprise]", '[sql]\nquery = "SELECT 1"\n[enterprise]', "sql.name"),
        (
            "[enterprise]",
            '[sql]\nname = "n"\nquery = "SELECT 1) AS s; DELETE FROM t --"\n[enterprise]',
            "sql.query",
        ),
        ("[enterprise]", '[sql]\ntable = "t"\nurl = "sqlite://"\n[enterprise]', "sql.url"),
        ("[enterprise]", 'absent = ["a"]\n[enterprise]', "absent"),
        ('column = "e"', 'column = "e"\ncheck = "none"', "enterprise.check"),
        ("[columns.a]", "[columns.A]", "columns.A"),
        ("[columns.a]", "[columns.enterprise]", "columns.enterprise"),
        ('type = "text"', "", "columns.a.type"),
        ('type = "text"', 'type = "float"', "columns.a.type"),
        ('type = "text"', 'type = "text"\nminimum = 1', "columns.a.minimum"),
        ('type = "text"', 'type = "number"\nminimum = true', "columns.a.minimum"),
        ('type = "text"', 'type = "number"\nminimum = inf', "columns.a.minimum"),
        ('type = "text"', 'type = "number"\nminimum = 2\nmaximum = 1', "columns.a.minimum"),
        ('type = "text"', 'type = "date"\nminimum = "yesterday"', "columns.a.minimum"),
        ('type = "text"', 'type = "number"\nallowed = ["a"]', "columns.a.allowed"),
        ('type = "text"', 'type = "number"\nformats = ["%Y"]', "columns.a.formats"),
        ('type = "text"', 'type = "date"\nformats = ["%Q"]', "columns.a.formats"),
        ('type = "text"', 'type = "date"\nformats = ["%Y\\u0000"]', "columns.a.formats"),
        ('type = "text"', 'type = "text"\ntranslate = { a = 1 }', "columns.a.translate"),
        ('type = "text"', 'type = "text"\ntranslate = "a"', "columns.a.translate"),
        ('type = "text"', 'type = "text"\nconstant = "x"\nsource = "y"', "columns.a.constant"),
        ('type = "text"', 'type = "number"\nconstant = "1"', "columns.a.constant"),
        ('type = "text"', 'type = "text"\nrequird = true', "columns.a.requird"),
        ('[columns.a]\ntype = "text"', "", "columns"),
    ],
)
def test_a_mistake_is_named_by_its_field(old: str, new: str, field: str) -> None:
    assert old in LEAST
    with pytest.raises(MappingError, match=f"`{field}`"):
        SourceMapping.parse(LEAST.replace(old, new).encode())


@pytest.mark.parametrize("data", [b"\xff\xfe", b"dataset = ", b"[a\n"])
def test_what_is_no_toml_is_refused(data: bytes) -> None:
    with pytest.raises(MappingError, match="TOML"):
        SourceMapping.parse(data)


def test_a_missing_mapping_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MappingError, match="No such file"):
        SourceMapping.load(tmp_path / "absent.toml")
    (tmp_path / "m.toml").write_text(LEAST, "utf-8")
    assert SourceMapping.load(tmp_path / "m.toml").dataset == "d"


BY_SCHEMA = """
dataset = "invoices"
absent = ["tax"]
[enterprise]
column = "纳税人识别号"
[columns.net]
source = "金额"
[columns.direction]
constant = "out"
[columns.status]
translate = { "正常" = "valid" }
"""


def test_a_data_set_with_a_schema_has_its_columns_types_and_rules_from_there() -> None:
    mapping = SourceMapping.parse(BY_SCHEMA.encode())
    schema = shipped_schemas()["invoices"]
    assert list(mapping.schema) == ["enterprise", *schema.columns]
    rules = {rule.name: rule for rule in mapping.columns}
    for name, column in schema.columns.items():
        assert rules[name].type == column.type
    net = rules["net"]
    assert (net.source, net.required, net.minimum, net.maximum) == ("金额", True, -1e10, 1e10)
    assert (rules["date"].source, rules["date"].required) == ("date", True)  # not listed
    assert (rules["tax"].source, rules["tax"].constant) == (None, None)  # absent
    assert (rules["direction"].source, rules["direction"].constant) == (None, "out")
    assert rules["status"].allowed == ("valid", "void")
    assert mapping.sources == ("纳税人识别号", "counterparty", "date", "金额", "status")


def test_with_a_schema_a_mapping_need_say_no_more_than_the_data_set() -> None:
    mapping = SourceMapping.parse(b'dataset = "stock"')
    assert mapping.sources == ("enterprise", *shipped_schemas()["stock"].columns)


def test_what_a_schema_says_may_be_repeated() -> None:
    text = (
        'dataset = "invoices"\n[columns.net]\ntype = "number"\nrequired = true\nminimum = -1e10\n'
    )
    assert SourceMapping.parse(text.encode()) == SourceMapping.parse(b'dataset = "invoices"')


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('[columns.net]\ntype = "text"', "columns.net.type"),
        ("[columns.net]\nrequired = false", "columns.net.required"),
        ("[columns.net]\nminimum = 0", "columns.net.minimum"),
        ("[columns.net]\nmaximum = 1e11", "columns.net.maximum"),
        ('[columns.status]\nallowed = ["valid"]', "columns.status.allowed"),
        ('[columns.status]\nconstant = "open"', "columns.status.constant"),
        ('[columns.nett]\nsource = "a"', "columns.nett"),
        ('[columns.net]\nsorce = "a"', "columns.net.sorce"),
    ],
)
def test_a_mapping_may_not_contradict_its_data_sets_schema(text: str, field: str) -> None:
    with pytest.raises(MappingError, match=f"`{field}`"):
        SourceMapping.parse(f'dataset = "invoices"\n{text}\n'.encode())


@pytest.mark.parametrize(
    ("absent", "more"), [("nothing", ""), ("net", ""), ("tax", '[columns.tax]\nsource = "a"\n')]
)
def test_only_optional_columns_that_are_not_mapped_may_be_absent(absent: str, more: str) -> None:
    with pytest.raises(MappingError, match="`absent`"):
        SourceMapping.parse(f'dataset = "invoices"\nabsent = ["{absent}"]\n{more}'.encode())


@pytest.mark.parametrize("name", shipped_mappings())
def test_every_shipped_mapping_fits_its_data_sets_schema(name: str) -> None:
    mapping = find_mapping(name)
    assert mapping.dataset in shipped_schemas()


def test_the_shipped_mappings_show_every_data_set_and_kind_of_source() -> None:
    found = [find_mapping(name) for name in shipped_mappings()]
    assert {one.dataset for one in found} == set(shipped_schemas())
    assert any(one.encoding == "gb18030" for one in found)
    assert any(one.sheet for one in found)
    assert any(one.sql and one.sql.key for one in found)
    assert any(one.sql and one.sql.query for one in found)


def rows_of(data, name: str, path: Path) -> list[dict[str, object]]:
    report = ingest(data.warehouse, path, find_mapping(name))
    assert report.quarantined == {}
    return data.rows(report.dataset)


def test_the_shipped_mapping_of_a_workbook_reads_it_as_enterprises_fill_it_in(data) -> None:
    book = Workbook()
    book.create_sheet("说明")
    sheet = book.create_sheet("月度产出")
    sheet.append(["统一社会信用代码", "月份", "产品", "产量", "产值（元）", "用电量（千瓦时）",
                  "从业人数", "合格率"])  # fmt: skip
    sheet.append([CODE, "2025-01", "丝网", 12.5, 1e5, "-", 40, 0.98])
    sheet.append([CODE, dt.datetime.fromisoformat("2025-02-01"), "丝网", 13, "无", None, 41, 1])
    sheet.append([f" {CODE}", "2025年3月", "丝网", "14", 3, 4, 42, "0.5"])
    book.save(data.folder / "in.xlsx")
    rows = rows_of(data, "monthly-output", data.folder / "in.xlsx")
    assert [str(row["month"]) for row in rows] == ["2025-01-01", "2025-02-01", "2025-03-01"]
    assert [row["energy"] for row in rows] == [None, None, 4.0]
    assert [row["headcount"] for row in rows] == [40, 41, 42]


def test_the_shipped_mapping_of_a_machine_log_reads_what_it_has(data) -> None:
    text = (
        "uscc;month;machine_no;scheduled_h;running_h;stop_count;failure_count\n"
        f"{CODE};2025-01;M1;700;650.5;3;\n"
    )
    (row,) = rows_of(data, "machine-months", data.file("in.csv", text))
    assert row == {
        "enterprise": CODE, "month": dt.date(2025, 1, 1), "machine": "M1",
        "planned_hours": 700.0, "run_hours": 650.5, "stop_hours": None, "stops": 3,
        "failures": None,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["tax-sales", "tax-purchases", "stock-ledger"])
def test_the_other_shipped_mappings_of_files_read_a_row_of_theirs(data, name: str) -> None:
    mapping = find_mapping(name)
    cells = dict.fromkeys(mapping.sources, "x") | {mapping.enterprise: CODE}
    for rule in mapping.columns:
        if rule.source is not None and rule.type != "text":
            cells[rule.source] = "2025-01-31" if rule.type == "date" else "1"
        if rule.source is not None and rule.translate:
            cells[rule.source] = next(iter(rule.translate))
    text = ",".join(cells) + "\n" + ",".join(cells.values()) + "\n"
    assert len(rows_of(data, name, data.file("in.csv", text, mapping.encoding))) == 1
