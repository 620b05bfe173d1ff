"""Ingest: good rows in, bad rows to quarantine by rule, malformed files refused whole."""

from __future__ import annotations

import csv
import datetime as dt
import io
import itertools
import math
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hejin_models.features import Dataset
from hejin_models.uscc import make_code
from hejin_node import source_csv
from hejin_node.errors import IngestError
from hejin_node.ingest import ingest
from hejin_node.mapping import SourceMapping, find_mapping
from hejin_node.source_files import open_file
from hejin_node.sources import Layout, silent

A, B, C, D = (make_code(n) for n in range(4))
MAPPING = """
dataset = "bills"
encoding = "{encoding}"
missing = ["", "NULL"]
unique = {unique}

[enterprise]
column = "企业代号"

[columns.net]
source = "金额"
type = "number"
required = true
minimum = -1000
maximum = 1000

[columns.count]
source = "张数"
type = "integer"

[columns.date]
source = "日期"
type = "date"
formats = ["%Y-%m-%d", "%Y/%m/%d"]
minimum = "2017-01-01"

[columns.status]
source = "状态"
type = "text"
allowed = ["valid", "void"]
translate = {{ "有效" = "valid", "作废" = "void" }}

[columns.direction]
type = "text"
constant = "out"
"""
HEADER = "企业代号,金额,张数,日期,状态\n"


def mapping(encoding: str = "utf-8", unique: bool = False) -> SourceMapping:
    text = MAPPING.format(encoding=encoding, unique=str(unique).lower())
    return SourceMapping.parse(text.encode())


@pytest.mark.parametrize(
    ("encoding", "declared"), [("utf-8", "utf-8"), ("utf-8-sig", "utf-8"), ("gb18030", "gb18030")]
)
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_rows_arrive_typed(data, encoding: str, declared: str, newline: str) -> None:
    text = (
        HEADER
        + f"{A},12.5,3,2025-01-31,有效\n\n  {B}　, -1e2 , 4.0 ,2024/2/9, 作废 \n{C},0,,,NULL\n"
    )
    path = data.file("in.csv", text.replace("\n", newline), encoding)
    report = ingest(data.warehouse, path, mapping(declared))
    assert (report.loaded, report.quarantined, report.already) == (3, {}, False)
    assert data.rows("bills") == [
        {"enterprise": A, "net": 12.5, "count": 3, "date": dt.date(2025, 1, 31),
         "status": "valid", "direction": "out"},
        {"enterprise": B, "net": -100.0, "count": 4, "date": dt.date(2024, 2, 9),
         "status": "void", "direction": "out"},
        {"enterprise": C, "net": 0.0, "count": None, "date": None, "status": None,
         "direction": "out"},
    ]  # fmt: skip


def test_rows_that_break_a_rule_go_to_quarantine_with_its_name(data) -> None:
    bad = {
        f"{A[:-1]}?,1,1,2025-01-01,有效": "enterprise.code",
        ",1,1,2025-01-01,有效": "enterprise.code",
        f"{A},,1,2025-01-01,有效": "net.required",
        f"{A},NULL,1,2025-01-01,有效": "net.required",
        f"{A},nan,1,2025-01-01,有效": "net.required",
        f"{A},many,1,2025-01-01,有效": "net.type",
        f"{A},1_0,1,2025-01-01,有效": "net.type",
        f"{A},1000.5,1,2025-01-01,有效": "net.range",
        f"{A},-1001,1,2025-01-01,有效": "net.range",
        f"{A},1,1.5,2025-01-01,有效": "count.type",
        f"{A},1,1_0,2025-01-01,有效": "count.type",
        f"{A},1,0x1F,2025-01-01,有效": "count.type",
        f"{A},1,99999999999999999999,2025-01-01,有效": "count.type",
        f"{A},1,1,2025-13-01,有效": "date.type",
        f"{A},1,1,20250101,有效": "date.type",
        f"{A},1,1,2016-12-31,有效": "date.range",
        f"{A},1,1,2025-01-01,其他": "status.allowed",
    }
    good = f"{B},1,1,2025-01-01,有效"
    lines = [line for one in bad for line in (one, good)]
    path = data.file("in.csv", HEADER + "\n".join(lines) + "\n")
    report = ingest(data.warehouse, path, mapping())
    assert report.loaded == len(bad)
    assert sum(report.quarantined.values()) == len(bad)
    kept = data.rows("bills", "quarantine")
    assert [(row["row"], row["rule"]) for row in kept] == [
        (2 * place + 1, rule) for place, rule in enumerate(bad.values())
    ]
    first = {name.removeprefix("source."): value for name, value in kept[9].items()}
    assert first == {
        "row": 19, "rule": "count.type", "enterprise": A, "企业代号": A, "金额": "1", "张数": "1.5",
        "日期": "2025-01-01", "状态": "有效",
    }  # fmt: skip


def test_quarantine_is_encrypted_too(data) -> None:
    path = data.file("in.csv", HEADER + f"CANARYCANARY,1,1,,\n{A},1,1,,\n")
    ingest(data.warehouse, path, mapping())
    for file in (data.folder / "warehouse").glob("*.parquet"):
        assert b"CANARY" not in file.read_bytes()
    assert len(data.rows("bills", "quarantine")) == 1


def test_nan_and_infinity_are_kept_as_missing_and_counted(data) -> None:
    optional = MAPPING.replace("required = true\n", "").format(encoding="utf-8", unique="false")
    lines = [f"{A},{word},{word},," for word in ("nan", "NaN", "inf", "-Infinity", "1e999", "5")]
    path = data.file("in.csv", HEADER + "\n".join(lines) + "\n")
    report = ingest(data.warehouse, path, SourceMapping.parse(optional.encode()))
    assert (report.loaded, report.replaced, report.quarantined) == (6, 10, {})
    assert [row["net"] for row in data.rows("bills")] == [None] * 5 + [5.0]
    assert [row["count"] for row in data.rows("bills")] == [None] * 5 + [5]


def test_a_second_row_of_an_enterprise_is_quarantined_where_one_is_meant(data) -> None:
    unique = mapping(unique=True)
    first = data.file("1.csv", HEADER + f"{A},1,,,\n{B},bad,,,\n{A},2,,,\n{B},3,,,\n{C},4,,,\n")
    report = ingest(data.warehouse, first, unique)
    assert report.quarantined == {"net.type": 1, "enterprise.duplicate": 1}
    second = data.file("2.csv", HEADER + f"{C},9,,,\n{D},9,,,\n")
    assert ingest(data.warehouse, second, unique).quarantined == {"enterprise.duplicate": 1}
    assert [(row["enterprise"], row["net"]) for row in data.rows("bills")] == [
        (A, 1.0), (B, 3.0), (C, 4.0), (D, 9.0),
    ]  # fmt: skip


def test_duplicates_are_found_across_batches(data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_csv, "_BLOCK", 200)
    lines = [f"{make_code(n % 40)},{n},,," for n in range(100)]
    path = data.file("in.csv", HEADER + "\n".join(lines) + "\n")
    report = ingest(data.warehouse, path, mapping(unique=True))
    assert (report.loaded, report.quarantined) == (40, {"enterprise.duplicate": 60})
    assert [row["net"] for row in data.rows("bills")] == list(range(40))
    assert [row["row"] for row in data.rows("bills", "quarantine")] == list(range(41, 101))


def test_the_same_file_again_changes_nothing(data) -> None:
    path = data.file("in.csv", HEADER + f"{A},1,,,\n{A},oops,,,\n")
    first = ingest(data.warehouse, path, mapping())
    copy = data.file("renamed.csv", path.read_bytes())
    again = ingest(data.warehouse, copy, mapping())
    assert (again.already, again.loaded, again.source) == (True, 0, first.source)
    assert len(data.warehouse.segments()) == 2
    assert len(list((data.folder / "warehouse").glob("*.parquet"))) == 2


MALFORMED = {
    "empty": (b"", "is empty"),
    "header only": (HEADER.encode(), "no rows"),
    "no line end": (HEADER.strip().encode(), "no rows"),
    "short row": ((HEADER + f"{A},1,1,,\n{A},1\n").encode(), "line 3 has 2 values"),
    "long row": ((HEADER + f"{A},1,1,,,,\n").encode(), "line 2 has 7 values"),
    "open quote, last column": ((HEADER + f'{A},1,1,,"有效\n{B},1,1,,\n').encode(), "runs over"),
    "open quote, first column": ((HEADER + f'"{A},1,1,,\n{B},1,1,,\n').encode(), "line 2 has 1"),
    "open quote in header": (b'"a,b\n1,2\n', "quotes of its first line"),
    "line break in a value": ((HEADER + f'{A},1,1,,"有\n效"\n').encode(), "runs over"),
    "missing column": (HEADER.replace("金额", "gross").encode() + b"x\n", "no column 金额"),
    "wrong delimiter": ((HEADER + f"{A},1,1,,\n").replace(",", ";").encode(), "no column"),
    "column twice": (f"金额,{HEADER}1,{A},1,1,,\n".encode(), "two columns are named 金额"),
    "gb18030 as utf-8": ((HEADER + f"{A},1,1,,有效\n").encode("gb18030"), "not written in utf-8"),
    "a late wrong byte": ((HEADER + f"{A},1,1,,\n" * 9 + f"{A},1,1,,").encode() + b"\xff\n",
                          "not written in utf-8"),
    "utf-16": ((HEADER + f"{A},1,1,,\n").encode("utf-16"), "UTF-16"),
    "excel": (b"PK\x03\x04" + bytes(100), "workbook is damaged"),
    "binary": (bytes(range(256)) * 10, "binary"),
    "damaged parquet": (b"PAR1" + bytes(100), "damaged"),
    "no valid row": ((HEADER + f"{A},x,1,,\n{A},,1,,\n").encode(), "net.required 1, net.type 1"),
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_file_is_refused_in_one_sentence_and_nothing_is_loaded(data, name: str) -> None:
    content, said = MALFORMED[name]
    path = data.file("in.csv", content)
    with pytest.raises(IngestError, match=said) as caught:
        ingest(data.warehouse, path, mapping())
    assert "Nothing was loaded." in caught.value.text.en or "nothing was loaded" in str(
        caught.value
    )
    assert A not in str(caught.value)  # no value of a row
    assert caught.value.__cause__ is None
    assert data.warehouse.segments() == ()
    assert not list((data.folder / "warehouse").glob("*.parquet*"))


@pytest.mark.parametrize("text", ["有效", "作废发票", "𠮷"])
def test_utf8_declared_as_gb18030_is_noticed_even_where_it_would_decode(data, text: str) -> None:
    content = "e,s\n" + f"{A},{text}\n" * 50
    path = data.file("in.csv", content)
    with pytest.raises(IngestError, match="not written in gb18030"):
        open_file(path, ["e", "s"], Layout("gb18030"))


def test_gb18030_that_looks_like_utf8_by_chance_is_read(data) -> None:
    path = data.file("in.csv", "e,s\n1,模目\n", "gb18030")  # C4A3 C4BF is valid UTF-8 too
    (block,) = open_file(path, ["e", "s"], Layout("gb18030")).blocks(None, silent)
    assert block.table["s"].to_pylist() == ["模目"]


def test_a_file_that_cannot_be_read_is_named(data) -> None:
    with pytest.raises(IngestError, match="No such file"):
        ingest(data.warehouse, data.folder / "absent.csv", mapping())


def test_a_file_that_changes_while_it_is_read_is_refused(data) -> None:
    path = data.file("in.csv", HEADER + f"{A},1,,,\n")

    def meddle(_done: int, _size: int) -> None:
        os.utime(path, ns=(1, 1))

    with pytest.raises(IngestError, match="changed while it was read"):
        ingest(data.warehouse, path, mapping(), meddle)
    assert data.warehouse.segments() == ()


def test_another_schema_for_a_known_data_set_is_refused(data) -> None:
    ingest(data.warehouse, data.file("1.csv", HEADER + f"{A},1,,,\n"), mapping())
    other = MAPPING.replace('[columns.count]\nsource = "张数"\ntype = "integer"', "")
    changed = SourceMapping.parse(other.format(encoding="utf-8", unique="false").encode())
    with pytest.raises(IngestError, match="has columns that the mapping does not give"):
        ingest(data.warehouse, data.file("2.csv", HEADER + f"{A},2,,,\n"), changed)


def test_a_data_set_may_gain_columns_and_older_rows_have_no_value_there(data) -> None:
    text = MAPPING.format(encoding="utf-8", unique="false")
    more = text + '[columns.note]\nsource = "备注"\ntype = "text"\n'
    ingest(data.warehouse, data.file("1.csv", HEADER + f"{A},1,2,,\n"), mapping())
    wider = HEADER.replace("\n", ",备注\n") + f"{B},3,,,,x\n"
    ingest(data.warehouse, data.file("2.csv", wider), SourceMapping.parse(more.encode()))
    assert [(row["enterprise"], row["note"]) for row in data.rows("bills")] == [(A, None), (B, "x")]
    both = Dataset("bills", "trade", {"note": "text", "net": "number"})
    found = data.warehouse.query("SELECT enterprise, note, net FROM bills ORDER BY net", [both])
    assert found.to_pylist() == [
        {"enterprise": A, "note": None, "net": 1.0},
        {"enterprise": B, "note": "x", "net": 3.0},
    ]
    data.warehouse.compact()
    assert len(data.rows("bills")) == 2
    with pytest.raises(IngestError, match="has columns that the mapping does not give"):
        ingest(data.warehouse, data.file("3.csv", HEADER + f"{A},5,2,,\n"), mapping())


def test_parquet_brings_its_own_types(data) -> None:
    path = data.folder / "in.parquet"
    table = pa.table(
        {
            "企业代号": pa.array([A, B, C, D]).dictionary_encode(),
            "金额": pa.array([1, 2, None, 3], pa.int32()),
            "张数": pa.array([1.0, 2.5, float("nan"), float("inf")]),
            "日期": pa.array([dt.date(2025, 1, 1), None, None, None]).cast(pa.timestamp("us")),
            "状态": pa.array(["有效 ", "", None, "作废"], pa.large_string()),
            "unused": pa.array([[1], [], None, [2]]),
        }
    )
    pq.write_table(table, path)
    report = ingest(data.warehouse, path, mapping())
    assert report.quarantined == {"count.type": 1, "net.required": 1}
    assert report.replaced == 1
    assert data.rows("bills") == [
        {"enterprise": A, "net": 1.0, "count": 1, "date": dt.date(2025, 1, 1),
         "status": "valid", "direction": "out"},
        {"enterprise": D, "net": 3.0, "count": None, "date": None, "status": "void",
         "direction": "out"},
    ]  # fmt: skip


def test_parquet_without_rows_or_columns_or_with_lists_is_refused(data) -> None:
    path = data.folder / "in.parquet"
    names = HEADER.strip().split(",")
    for table, said in (
        (pa.table({name: pa.array([], pa.string()) for name in names}), "no rows"),
        (pa.table({"企业代号": [A]}), "no column"),
        (pa.table({name: [[A]] for name in names}), "of type list"),
    ):
        pq.write_table(table, path)
        with pytest.raises(IngestError, match=said):
            ingest(data.warehouse, path, mapping())
    assert data.warehouse.segments() == ()


def test_codes_may_be_any_text_where_the_mapping_says_so(data) -> None:
    text = 'dataset = "d"\nmissing = ["", "-"]\n[enterprise]\ncolumn = "e"\ncheck = "text"\n'
    rules = SourceMapping.parse(f'{text}[columns.a]\ntype = "integer"\n'.encode())
    path = data.file("in.csv", "e,a\nE1,1\n,2\n-,3\n" + "x" * 65 + ",4\n E2 ,5\n")
    report = ingest(data.warehouse, path, rules)
    assert report.quarantined == {"enterprise.code": 3}
    assert [row["enterprise"] for row in data.rows("d")] == ["E1", "E2"]


def test_spaces_stay_where_the_mapping_keeps_them(data) -> None:
    text = 'dataset = "d"\n[enterprise]\ncolumn = "e"\n[columns.a]\ntype = "text"\nstrip = false\n'
    path = data.file("in.csv", f"e,a\n{A}, x \n")
    ingest(data.warehouse, path, SourceMapping.parse(text.encode()))
    assert data.rows("d")[0]["a"] == " x "


def test_progress_ends_at_the_whole_file(data) -> None:
    told: list[tuple[int, int]] = []
    path = data.file("in.csv", HEADER + f"{A},1,,,\n" * 100)
    ingest(data.warehouse, path, mapping(), lambda done, size: told.append((done, size)))
    assert told[-1] == (path.stat().st_size,) * 2
    assert [done for done, _ in told] == sorted(done for done, _ in told)


_VALUE = st.one_of(
    st.sampled_from(
        ["", " ", "NULL", "1", "1.5", "-3", "1e3", "nan", "inf", "x", "1_0", "+7", "0x1"]
    ),
    st.integers(-2000, 2000).map(str),
    st.floats(allow_nan=True, width=32).map(repr),
)


def _slow_number(text: str) -> tuple[str, float | None]:
    """What the rules say of a number, one value at a time: (rule or "", value)."""
    text = text.strip()
    if text in ("", "NULL"):
        return "net.required", None
    try:
        value = float(text) if "_" not in text else math.nan
    except ValueError:
        return "net.type", None
    if "_" in text:
        return "net.type", None
    if not math.isfinite(value):
        return "net.required", None
    return ("" if -1000 <= value <= 1000 else "net.range"), value


_numbers = itertools.count()


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(values=st.lists(_VALUE, min_size=1, max_size=40))
def test_many_rows_are_judged_as_one_by_one(data, values: list[str]) -> None:
    name = f"d{next(_numbers)}"
    text = (
        f'dataset = "{name}"\nmissing = ["", "NULL"]\n[enterprise]\ncolumn = "e"\n[columns.net]\n'
    )
    rules = SourceMapping.parse(
        f'{text}type = "number"\nrequired = true\nminimum = -1000\nmaximum = 1000\n'.encode()
    )
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerows([["e", "net"], [A, "0"], *([B, value] for value in values)])
    ingest(data.warehouse, data.file("in.csv", buffer.getvalue()), rules)
    judged = [_slow_number(value) for value in values]
    assert [row["net"] for row in data.rows(name)][1:] == [
        value for rule, value in judged if not rule
    ]
    assert [row["rule"] for row in data.rows(name, "quarantine")] == [
        rule for rule, _ in judged if rule
    ]


REAL = Path(os.environ.get("HEJIN_DATA", Path(__file__).parents[3] / "shared" / "data"))


@pytest.mark.realdata
@pytest.mark.skipif(not REAL.is_dir(), reason="no real data: set HEJIN_DATA to its folder")
@pytest.mark.parametrize(
    ("file", "name", "rows"),
    [
        ("procurement_invoices", "cumcm-purchases", 210_947),
        ("sales_invoices", "cumcm-sales", 162_484),
    ],
)
def test_real_invoices_are_all_loaded(data, file: str, name: str, rows: int) -> None:
    path = REAL / "cumcm_invoices" / f"{file}.parquet"
    report = ingest(data.warehouse, path, find_mapping(name))
    assert (report.loaded, report.quarantined) == (rows, {})
    enterprises: set[str] = set()
    for batch in data.warehouse.read("data", "invoices", ["enterprise"]):
        enterprises.update(batch["enterprise"].to_pylist())
    assert len(enterprises) == 123


@pytest.mark.parametrize("given", [b"\xff\xfe.csv", b"\x1b[2J.csv", b"a\nb.csv"])
def test_a_file_name_that_is_no_text_is_kept_and_told_as_one(data, given: bytes) -> None:
    """Whoever delivers files chooses their names."""
    path = data.folder / os.fsdecode(given)
    path.write_text(f"{HEADER}{A},1,1,2025-01-31,有效\n", "utf-8")
    assert ingest(data.warehouse, path, mapping()).loaded == 1
    (load,) = data.warehouse.loads()
    assert load.name.isprintable()
    assert load.name.endswith(".csv")
    path.write_text("")
    with pytest.raises(IngestError, match="the file is empty") as refused:
        ingest(data.warehouse, path, mapping())
    assert str(refused.value).isprintable()
