"""Rows of a CSV file in UTF-8 or GB18030, as texts; what would be misread is refused."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator, Sequence
from contextlib import suppress
from io import BufferedReader
from typing import Final, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv

from hejin_node.sources import (
    Block,
    Layout,
    Place,
    Progress,
    check_header,
    refuse,
    refuse_empty,
    rows_before,
)

#: Also the longest line. About 60,000 invoices; up to nine blocks are in memory, see `pipeline`.
_BLOCK: Final = 4 << 20
_PART: Final = 1 << 20
#: What is looked at together in search of line ends: it stays in the processor's cache.
_WINDOW: Final = 1 << 17
_UTF8_BOM: Final = codecs.BOM_UTF8


class Gb18030Look:
    """Notices, part by part, UTF-8 that is said to be GB18030 and would decode as such."""

    def __init__(self, name: str, layout: Layout) -> None:
        self._name = name
        self._layout = layout
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._utf8 = True
        self._wide = False

    def look(self, data: bytes) -> None:
        """Take the next part, b"" at the end; raises IngestError there."""
        # One false hit in a long GB18030 text is impossible: nearly every pair breaks UTF-8.
        if self._utf8 and (data or self._wide) and not (data and data.isascii()):
            try:
                text = self._decoder.decode(data, final=not data)
            except UnicodeDecodeError:
                self._utf8 = False
            else:
                self._wide = self._wide or max(text, default="") >= "\u0800"
        if not data and self._utf8 and self._wide:
            _wrong_encoding(self._name, self._layout.encoding)


def check_head(name: str, head: bytes, layout: Layout) -> None:
    """Refuse what is no text, or has the mark of another encoding."""
    if b"\0" in head:
        refuse(
            name,
            "it holds binary data, it is no CSV, Parquet or Excel file; check the path.",
            "内容为二进制数据，不是 CSV、Parquet 或 Excel，请检查路径。",
        )
    if layout.encoding == "gb18030" and head.startswith(_UTF8_BOM):
        _wrong_encoding(name, layout.encoding)


def read(
    name: str,
    file: BufferedReader,
    columns: Sequence[str],
    layout: Layout,
    place: Place | None,
    progress: Progress,
) -> Iterator[Block]:
    """Yield blocks of whole lines. A place holds `at`, the offset of the next line in bytes."""
    size = file.seek(0, 2)
    file.seek(0)
    line, begin = _first_line(name, file)
    if not line:
        refuse_empty(name)
    header = _header(name, line, layout)
    check_header(name, header, columns)
    at, rows = (int(place["at"]), rows_before(place)) if place else (begin, 0)
    file.seek(at)
    # One buffer for all blocks: Arrow copies what it reads, and new memory is dear.
    buffer = bytearray(_BLOCK)
    held = 0
    while True:
        new = file.readinto(memoryview(buffer)[held:])
        held += new
        end = _cut(name, buffer, held) if new else held
        if end:
            table = _parse(name, memoryview(buffer)[:end], header, columns, layout, rows)
            at += end
            rows += table.num_rows
            progress(at, size)
            if table.num_rows:
                yield Block(table, {"at": at, "rows": rows})
        if not new:
            return
        buffer[: held - end] = buffer[end:held]
        held -= end


def _first_line(name: str, file: BufferedReader) -> tuple[bytes, int]:
    """Return the first line that is not empty, and the offset of the next one."""
    head = file.read(_BLOCK)
    begin = len(head) - len(head.lstrip(b"\r\n"))
    line = (head[begin:].splitlines(keepends=True) or [b""])[0]
    if len(line) == _BLOCK - begin:
        _too_long(name)
    return line.rstrip(b"\r\n"), begin + len(line)


def _cut(name: str, buffer: bytearray, held: int) -> int:
    """Return where the last whole line ends. No byte of a GB18030 character equals a line end."""
    end = buffer.rfind(b"\n", 0, held) + 1
    # Only old files end their lines with CR alone; the last one may be half of a CRLF.
    end = end or buffer.rfind(b"\r", 0, held - 1) + 1
    if not end and held == len(buffer):
        _too_long(name)
    return end


def _too_long(name: str) -> NoReturn:
    refuse(
        name,
        f"a line is longer than {_BLOCK >> 20} MB; look for a quote that is not closed.",
        f"有一行超过 {_BLOCK >> 20} MB，请检查未闭合的引号。",
    )


def _header(name: str, line: bytes, layout: Layout) -> list[str]:
    try:
        text = line.decode("utf-8-sig" if layout.encoding == "utf-8" else layout.encoding)
    except UnicodeDecodeError:
        _wrong_encoding(name, layout.encoding)
    try:
        return next(csv.reader([text], delimiter=layout.delimiter, strict=True), [])
    except csv.Error:
        refuse(
            name,
            "the quotes of its first line do not close; correct the delimiter in the mapping, or "
            "export it again.",
            "首行引号未闭合，请更正映射文件中的分隔符，或重新导出。",
        )


def _parse(
    name: str,
    block: memoryview,
    header: Sequence[str],
    columns: Sequence[str],
    layout: Layout,
    before: int,
) -> pa.Table:
    """Return a block's rows.

    before  rows in front of it, for the line number of a bad one
    """
    if layout.encoding != "utf-8":
        try:
            block = memoryview(str(block, layout.encoding).encode("utf-8"))
        except UnicodeDecodeError:
            _wrong_encoding(name, layout.encoding)
    lines = _lines(block)
    if lines == 0:
        return pa.table({column: pa.array([], pa.string()) for column in columns})
    try:
        table = _read(block, header, columns, layout)
    except pa.ArrowInvalid:
        _explain(name, block, header, columns, layout, before)
    if table.num_rows != lines or any(_open_at_end(line, layout) for line in _lines_alone(block)):
        _runs_over(name, lines, table.num_rows)
    return table


def _read(
    block: memoryview,
    header: Sequence[str],
    columns: Sequence[str],
    layout: Layout,
    ragged: list[arrow_csv.InvalidRow] | None = None,
) -> pa.Table:
    """Read a block, in parts; or whole, and note the first row with too few or many values."""

    def note(row: arrow_csv.InvalidRow) -> str:
        assert ragged is not None
        ragged.append(row)
        return "error"

    parts = ragged is None
    return arrow_csv.read_csv(
        pa.BufferReader(block),
        read_options=arrow_csv.ReadOptions(
            column_names=list(header),
            use_threads=parts,
            block_size=_PART if parts else len(block) + 1,
        ),
        parse_options=arrow_csv.ParseOptions(
            delimiter=layout.delimiter, invalid_row_handler=None if parts else note
        ),
        convert_options=arrow_csv.ConvertOptions(
            include_columns=list(columns),
            column_types={column: pa.string() for column in columns},
            null_values=[],
            strings_can_be_null=False,
        ),
    )


def _lines(block: memoryview) -> int:
    """Count lines that are not empty; CR, LF and CRLF end one."""
    octets = np.frombuffer(block, dtype=np.uint8)
    count = int(octets[0] not in b"\r\n")
    for at in range(0, len(octets), _WINDOW):
        part = octets[at : at + _WINDOW + 1]
        text = (part != 0x0A) & (part != 0x0D)
        count += int(np.count_nonzero(text[1:] > text[:-1]))
    return count


def _lines_alone(block: memoryview) -> Iterator[bytes]:
    """Yield the lines that Arrow reads without what follows: over the end of a part, and the last.

    One that is longer than a part it refuses.
    """
    for at in range(_PART, len(block), _PART):
        before, after = bytes(block[at - _PART : at]), bytes(block[at : at + _PART])
        begin = max(before.rfind(b"\n"), before.rfind(b"\r")) + 1
        yield before[begin:] + (after.splitlines() or [b""])[0]
    text = bytes(block[-_BLOCK:]).rstrip(b"\r\n")
    yield text[max(text.rfind(b"\n"), text.rfind(b"\r")) + 1 :]


def _open_at_end(line: bytes, layout: Layout) -> bool:
    """Tell whether a quote that is open in a line would take in what follows it.

    Such a line is one row where it is read alone, so that counting lines and rows does not show it.
    """
    if b'"' not in line:
        return False
    try:
        pair = [line.decode("utf-8", "replace") + "\n", "x"]
        return len(list(csv.reader(pair, delimiter=layout.delimiter))) == 1
    except csv.Error:
        return True


def _wrong_encoding(name: str, encoding: str) -> NoReturn:
    other = "gb18030" if encoding == "utf-8" else "utf-8"
    refuse(
        name,
        f"it is not written in {encoding}, as the mapping says; perhaps in {other}: correct "
        "`encoding` in the mapping.",
        f"编码并非映射文件所述的 {encoding}，可能是 {other}，请更正映射文件中的 `encoding`。",
    )


def _explain(
    name: str,
    block: memoryview,
    header: Sequence[str],
    columns: Sequence[str],
    layout: Layout,
    before: int,
) -> NoReturn:
    """Say in words of our own what pyarrow cannot read: its complaint may quote the data."""
    try:
        str(block, "utf-8")
    except UnicodeDecodeError:
        _wrong_encoding(name, layout.encoding)
    ragged: list[arrow_csv.InvalidRow] = []
    with suppress(pa.ArrowInvalid):
        _read(block, header, columns, layout, ragged)
    if ragged:
        row = ragged[0]
        line = before + 1 + row.number
        refuse(
            name,
            f"line {line} has {row.actual_columns} values, the header has "
            f"{row.expected_columns}; look for a stray delimiter or a quote that is not closed.",
            f"第 {line} 行有 {row.actual_columns} 个值，表头为 {row.expected_columns} 个，"
            "请检查多余的分隔符或未闭合的引号。",
        )
    refuse(
        name,
        "the file is malformed: a quote is probably not closed; export it again.",
        "文件格式错误，可能有引号未闭合，请重新导出。",
    )


def _runs_over(name: str, lines: int, rows: int) -> NoReturn:
    refuse(
        name,
        f"{lines} of its lines make {rows} rows: a quoted value runs over a line end. Close the "
        "quote, or take line breaks out of the values.",
        f"{lines} 行文本只构成 {rows} 条记录：有带引号的值跨行。请闭合引号，或去除值中的换行。",
    )
