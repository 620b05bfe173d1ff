"""Source files: whole rows in blocks from any place on, and misreadings refused."""

from __future__ import annotations

import csv
import datetime as dt
import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openpyxl import Workbook

from hejin_node import source_csv, source_excel, source_parquet
from hejin_node.errors import IngestError
from hejin_node.source_files import open_file
from hejin_node.sources import Block, Layout, silent

LAYOUT = Layout()
DAY, MORNING = (dt.datetime.fromisoformat(text) for text in ("2025-01-31", "2025-01-31T08:30"))


def rows_of(blocks: list[Block]) -> list[tuple[object, ...]]:
    return [row for block in blocks for row in zip(*block.table.to_pydict().values(), strict=True)]


def read(path: Path, columns: list[str], layout: Layout = LAYOUT) -> list[Block]:
    return list(open_file(path, columns, layout).blocks(None, silent))


def check_every_place(path: Path, columns: list[str], layout: Layout = LAYOUT) -> None:
    """Reading from any block's place on gives what the first reading gave after it."""
    source = open_file(path, columns, layout)
    blocks = list(source.blocks(None, silent))
    every = rows_of(blocks)
    for block in blocks:
        rest = rows_of(list(source.blocks(block.place, silent)))
        assert rest == every[int(block.place["rows"]) :]
    assert int(blocks[-1].place["rows"]) == len(every)


_TEXT = st.text(
    st.characters(codec="gb18030", exclude_characters="\r\n\0", exclude_categories=("Cs", "Cc")),
    max_size=8,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rows=st.lists(st.tuples(_TEXT, _TEXT), min_size=1, max_size=30),
    encoding=st.sampled_from(["utf-8", "gb18030"]),
    newline=st.sampled_from(["\n", "\r\n", "\r"]),
    size=st.integers(64, 300),
    ends=st.booleans(),
)
def test_csv_in_blocks_of_any_size_is_what_pythons_own_reader_reads(
    tmp_path_factory, rows, encoding: str, newline: str, size: int, ends: bool
) -> None:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator=newline).writerows([("a", "乙"), *rows])
    text = buffer.getvalue()
    path = tmp_path_factory.mktemp("csv") / "in.csv"
    path.write_bytes((text if ends else text[: -len(newline)]).encode(encoding))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source_csv, "_BLOCK", size)
        layout = Layout(encoding)
        assert rows_of(read(path, ["a", "乙"], layout)) == rows
        check_every_place(path, ["a", "乙"], layout)


def test_lines_of_a_file_that_ends_them_with_cr_lf_are_not_cut_between_the_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(b"a,b\r\n" + b"1,2\r\n" * 20)
    for size in range(8, 30):
        monkeypatch.setattr(source_csv, "_BLOCK", size)
        assert rows_of(read(path, ["a", "b"])) == [("1", "2")] * 20


@pytest.mark.parametrize("size", range(12, 40))
def test_a_quoted_line_break_is_refused_wherever_a_block_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(source_csv, "_BLOCK", size)
    path = tmp_path / "in.csv"
    path.write_text('a,b\n1,2\n3,"4\n5"\n6,7\n')
    with pytest.raises(IngestError, match=r"runs over|longer than|quote") as caught:
        read(path, ["a", "b"])
    assert "Nothing was loaded" in str(caught.value)


@pytest.mark.parametrize("newline", ["\n", "\r", "\r\n"])
@pytest.mark.parametrize("part", range(9, 40))
def test_a_quoted_line_break_is_refused_wherever_arrow_cuts_a_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int, newline: str
) -> None:
    """Both its lines have as many values as the header, so that each could be a row."""
    monkeypatch.setattr(source_csv, "_PART", part)
    path = tmp_path / "in.csv"
    path.write_text('a,b\n1,2\n"3",4\n"5","6\n7,8"\n9,"10"\n11,12\n', newline=newline)
    with pytest.raises(IngestError, match=r"runs over|quote") as caught:
        read(path, ["a", "b"])
    assert "Nothing was loaded" in str(caught.value)


def test_a_quote_inside_a_value_is_part_of_it(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text('a,b\n5" pipe,1\n2,3" pipe\n')
    assert rows_of(read(path, ["a", "b"])) == [('5" pipe', "1"), ("2", '3" pipe')]


def test_a_line_that_is_longer_than_a_block_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_csv, "_BLOCK", 100)
    path = tmp_path / "in.csv"
    for text in ("a,b\n1," + "x" * 200, "a" * 200 + ",b\n1,2\n"):
        path.write_text(text)
        with pytest.raises(IngestError, match="a line is longer than"):
            read(path, ["b"])


def test_a_bad_row_is_named_by_its_line_in_any_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_csv, "_BLOCK", 64)
    path = tmp_path / "in.csv"
    path.write_text("a,b\n" + "1,2\n" * 100 + "1,2,3\n" + "1,2\n" * 100)
    with pytest.raises(IngestError, match="line 102 has 3 values, the header has 2"):
        read(path, ["a", "b"])


def test_parquet_is_read_from_any_place_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_parquet, "BLOCK_ROWS", 7)
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"a": range(100), "b": ["x"] * 100}), path, row_group_size=23)
    assert rows_of(read(path, ["a"])) == [(i,) for i in range(100)]
    check_every_place(path, ["a", "b"])


def test_parquet_with_texts_that_are_no_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"a": ["AAAA", "BBBB"]}), path, compression="none")
    path.write_bytes(path.read_bytes().replace(b"BBBB", b"B\xff\xfeB"))
    with pytest.raises(IngestError, match="Parquet file is damaged"):
        read(path, ["a"])


#: How Parquet writes the name of column a in its schema, and beside each part of a row group.
_IN_SCHEMA, _IN_GROUP = b"%\x02\x18\x01a", b"\x19\x18\x01a"


def rename(path: Path, where: bytes, name: bytes) -> None:
    change(path, where, where[:-1] + name)


def change(path: Path, old: bytes, new: bytes) -> None:
    written = path.read_bytes()
    assert written.count(old) == 1
    path.write_bytes(written.replace(old, new))


@pytest.mark.parametrize("where", [_IN_SCHEMA, _IN_GROUP])
def test_parquet_with_a_column_name_that_is_no_utf8_is_refused(
    tmp_path: Path, where: bytes
) -> None:
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"a": ["x", "y"]}), path, store_schema=False)
    assert rows_of(read(path, ["a"])) == [("x",), ("y",)]
    rename(path, where, b"\xd5")
    with pytest.raises(IngestError, match="Parquet file is damaged"):
        read(path, ["a"])


def test_parquet_whose_schema_and_row_groups_differ_does_not_end_the_process(
    tmp_path: Path,
) -> None:
    """Its column is repeated, says the schema: pyarrow aborts as it looks at the row group."""
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"a": ["x", "y"]}), path, compression="none", store_schema=False)
    change(path, b"%\x02\x18\x01a", b"%\x08\x18\x01a")
    with pytest.raises(IngestError):
        read(path, ["a"])


def workbook(path: Path, rows: list[list[object]], title: str = "一", more: int = 0) -> Path:
    book = Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.title = title
    for row in rows:
        sheet.append(row)
    for number in range(more):
        book.create_sheet(f"more {number}")
    book.save(path)
    return path


def test_a_parquet_file_that_unpacks_to_too_much_is_refused_before_it_does(tmp_path: Path) -> None:
    """724 bytes: a page names one text of 1 MB for each of 200,000 rows."""
    path = tmp_path / "a.parquet"
    named = pa.array(np.zeros(200_000, np.int32))
    table = pa.table({"a": pa.DictionaryArray.from_arrays(named, pa.array(["x" * (1 << 20)]))})
    pq.write_table(table, path, compression="zstd", store_schema=False)
    assert path.stat().st_size < 1000
    before = pa.total_allocated_bytes()
    with pytest.raises(IngestError, match="unpacks to more than a node reads"):
        read(path, ["a"])
    assert pa.total_allocated_bytes() - before < 64 << 20


def test_long_texts_in_a_parquet_file_come_in_smaller_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_parquet, "_BLOCK_TEXTS", 10_000)
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": ["x" * 1_000] * 95, "b": range(95)}), path)
    blocks = read(path, ["a", "b"])
    assert [block.table.num_rows for block in blocks] == [10] * 9 + [5]
    assert rows_of(blocks) == [("x" * 1_000, n) for n in range(95)]
    check_every_place(path, ["a", "b"])


def test_a_row_group_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": ["x" * 10_000, "y"], "b": ["z" * 10_000, "z"]}), path)
    monkeypatch.setattr(source_parquet, "_MOST_GROUP", 15_000)
    assert len(rows_of(read(path, ["a"]))) == 2
    monkeypatch.setattr(source_parquet, "_MOST_GROUP", 5_000)
    with pytest.raises(IngestError, match="unpacks to more than a node reads"):
        read(path, ["a"])
    rename(path, _IN_GROUP, b"b")
    with pytest.raises(IngestError, match="unpacks to more than a node reads"):
        read(path, ["a"])


def test_a_row_group_whose_footer_lies_about_its_size_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """48 KB that said they were 100 bytes took 4.5 GB."""
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": ["x" * 10_000]}), path, use_dictionary=False, store_schema=False)
    size = pq.read_metadata(path).row_group(0).column(0).total_uncompressed_size
    # As Thrift writes it: doubled, 7 bits a byte, the lowest first.
    told = bytes([size * 2 & 127 | 128, size * 2 >> 7 & 127 | 128, size * 2 >> 14])
    path.write_bytes(path.read_bytes().replace(told, b"\xc8\x81\x00"))
    assert pq.read_metadata(path).row_group(0).column(0).total_uncompressed_size == 100
    assert rows_of(read(path, ["a"])) == [("x" * 10_000,)]
    monkeypatch.setattr(source_parquet, "_MOST_GROUP", 5_000)
    with pytest.raises(IngestError, match="unpacks to more than a node reads"):
        read(path, ["a"])


@pytest.mark.parametrize("column", [pa.array([["x"]]), pa.array(["x"]).cast(pa.string_view())])
def test_parquet_columns_of_no_plain_type_are_refused(tmp_path: Path, column: pa.Array) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": column}), path)
    with pytest.raises(IngestError, match="column a is of type"):
        read(path, ["a"])


@pytest.mark.parametrize("dictionary", [True, False])
def test_parquet_texts_are_read_however_they_are_kept(tmp_path: Path, *, dictionary: bool) -> None:
    path = tmp_path / "a.parquet"
    texts = ["x", None, "", "x", "核金"]
    for kind in (pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())):
        pq.write_table(pa.table({"a": pa.array(texts).cast(kind)}), path, use_dictionary=dictionary)
        assert rows_of(read(path, ["a"])) == [(text,) for text in texts]


def test_excel_cells_are_spelled_as_csv_would_be(tmp_path: Path) -> None:
    path = workbook(
        tmp_path / "in.xlsx",
        [
            ["甲", "乙", "日期", "其他"],
            ["x", 12.5, DAY, None],
            [None, None, None, None],
            [" y ", 3, "2025/2/1", MORNING],
            [True, 1e20, None, "#N/A"],
        ],
    )
    layout = Layout(formats={"日期": "%Y/%m/%d"})
    assert rows_of(read(path, ["甲", "乙", "日期", "其他"], layout)) == [
        ("x", "12.5", "2025/01/31", None),
        (" y ", "3", "2025/2/1", "2025-01-31 08:30:00"),
        ("true", "1e+20", None, "#N/A"),
    ]


def test_excel_is_read_from_any_place_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_excel, "_BLOCK_ROWS", 7)
    path = workbook(tmp_path / "in.xlsx", [["a", "b"], *([i, str(i)] for i in range(50))])
    check_every_place(path, ["a", "b"])


def test_the_mapping_names_the_sheet_where_there_are_several(tmp_path: Path) -> None:
    path = workbook(tmp_path / "in.xlsx", [["a"], [1]], title="二", more=2)
    assert rows_of(read(path, ["a"], Layout(sheet="二"))) == [("1",)]
    for sheet in (None, "三"):
        with pytest.raises(IngestError, match="it has 3 sheets"):
            read(path, ["a"], Layout(sheet=sheet))


def test_a_workbook_without_rows_or_without_a_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IngestError, match="no rows"):
        read(workbook(tmp_path / "1.xlsx", [["a"]]), ["a"])
    with pytest.raises(IngestError, match="no column b"):
        read(workbook(tmp_path / "2.xlsx", [["a"], [1]]), ["b"])
    with pytest.raises(IngestError, match="no column b"):
        read(workbook(tmp_path / "3.xlsx", []), ["b"])


def repacked(source: Path, path: Path, name: str, content: bytes) -> Path:
    """A workbook with one part replaced or added."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for part in old.infolist():
            if part.filename != name:
                new.writestr(part, old.read(part))
        new.writestr(name, content)
    return path


def test_a_workbook_that_unpacks_to_too_much_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = workbook(tmp_path / "good.xlsx", [["a"], [1]])
    bomb = repacked(good, tmp_path / "in.xlsx", "xl/sharedStrings.xml", bytes(65 << 20))
    assert bomb.stat().st_size < 1 << 20
    with pytest.raises(IngestError, match="unpacks to more than a node reads"):
        read(bomb, ["a"])
    monkeypatch.setattr(source_excel, "_MOST_STREAMED", 100)
    with pytest.raises(IngestError, match="unpacks to more than a node reads"):
        read(good, ["a"])


def test_a_workbook_with_entities_of_its_own_is_refused(tmp_path: Path) -> None:
    good = workbook(tmp_path / "good.xlsx", [["a"], [1]])
    laughs = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;">]><a>&c;</a>'
    for encoding in ("utf-8", "utf-16"):
        bad = repacked(good, tmp_path / "in.xlsx", "xl/workbook.xml", laughs.encode(encoding))
        with pytest.raises(IngestError, match="unpacks to more"):
            read(bad, ["a"])


def test_a_sheet_with_a_row_number_beyond_excels_own_is_not_counted_up_to(tmp_path: Path) -> None:
    good = workbook(tmp_path / "good.xlsx", [["a"], [1]])
    sheet = (
        b'<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>'
        b'<row r="1"><c r="A1" t="inlineStr"><is><t>a</t></is></c></row>'
        b'<row r="900000000"><c r="A900000000"><v>1</v></c></row></sheetData></worksheet>'
    )
    bad = repacked(good, tmp_path / "in.xlsx", "xl/worksheets/sheet1.xml", sheet)
    with pytest.raises(IngestError, match="1,048,576 rows"):
        read(bad, ["a"])


def test_a_workbook_with_a_longer_text_than_excel_allows_is_refused(tmp_path: Path) -> None:
    """8192 cells that share a text of 60 MB, some kB in the file, would take 480 GB."""
    assert read(workbook(tmp_path / "good.xlsx", [["a"], ["x" * 32_767]]), ["a"])
    sheet = (
        b'<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>'
        b'<row r="1"><c r="A1" t="inlineStr"><is><t>a</t></is></c></row>'
        b'<row r="2"><c r="A2" t="inlineStr"><is><t>' + b"x" * 32_768 + b"</t></is></c></row>"
        b"</sheetData></worksheet>"
    )
    bad = repacked(tmp_path / "good.xlsx", tmp_path / "a.xlsx", "xl/worksheets/sheet1.xml", sheet)
    with pytest.raises(IngestError, match="unpacks to more than a node reads"):
        read(bad, ["a"])


def test_long_texts_in_a_workbook_come_in_smaller_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = workbook(tmp_path / "a.xlsx", [["a", "b"], *([i, "x" * 100] for i in range(50))])
    monkeypatch.setattr(source_excel, "_BLOCK_TEXTS", 1000)
    assert [block.table.num_rows for block in read(path, ["a", "b"])] == [10] * 5
    check_every_place(path, ["a", "b"])


def test_a_zip_archive_that_is_no_workbook_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "in.xlsx"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("rows.csv", "a\n1\n")
    with pytest.raises(IngestError, match="zip archive, not an Excel workbook"):
        read(path, ["a"])


def test_old_excel_files_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "in.xls"
    path.write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(512))
    with pytest.raises(IngestError, match=r"old Excel workbook \(\.xls\)"):
        read(path, ["a"])


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_pipes_and_devices_are_refused_at_once(tmp_path: Path, make) -> None:
    """The one would wait for ever for somebody who writes, the other never end."""
    path = tmp_path / "a.csv"
    make(path)
    with pytest.raises(IngestError, match="a pipe or a device") as refused:
        open_file(path, ["enterprise"], Layout())
    assert refused.value.code == "file-refused"


def test_a_file_that_is_replaced_between_digest_and_reading_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("a\n1\n")
    source = open_file(path, ["a"], Layout())
    other = tmp_path / "other.csv"
    other.write_text("a\n2\n")
    other.replace(path)
    with pytest.raises(IngestError, match="changed while it was read"):
        list(source.blocks(None, silent))
