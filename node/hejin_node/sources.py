"""Source files: CSV (UTF-8, GB18030) and Parquet as batches, or one clear sentence and nothing."""

from __future__ import annotations

import codecs
import csv
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq

from hejin_node.errors import IngestError

Progress = Callable[[int, int], None]
"""Called with (bytes read, bytes in all) now and then."""

_BLOCK: Final = 1 << 20
_HEAD: Final = 1 << 20
_MAX_ROWS: Final = 65_536
_PARQUET: Final = b"PAR1"
_UTF8_BOM: Final = codecs.BOM_UTF8

#: First bytes of files that people export by mistake.
_OTHER_KINDS: Final = (
    (b"PK\x03\x04", "an Excel workbook or a zip archive", "Excel 工作簿或 zip 压缩包"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook", "旧版 Excel 工作簿"),
    (b"\x1f\x8b", "a gzip archive", "gzip 压缩包"),
    (codecs.BOM_UTF16_LE, "a text in UTF-16", "UTF-16 编码的文本"),
    (codecs.BOM_UTF16_BE, "a text in UTF-16", "UTF-16 编码的文本"),
)


@dataclass(frozen=True, slots=True)
class Layout:
    """How a CSV file is written; of no meaning for Parquet."""

    encoding: str = "utf-8"
    delimiter: str = ","


def _refuse(path: Path, en: str, zh: str) -> NoReturn:
    raise IngestError(
        f"{path.name}: {en} Nothing was loaded.", f"{path.name}：{zh}未载入任何数据。"
    ) from None


def file_digest(path: Path) -> str:
    """Return the hex SHA-256 of a file's bytes; IngestError if it cannot be read or is empty."""
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                _refuse(path, "the file is empty; export it again.", "文件为空，请重新导出。")
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as reason:
        _refuse(
            path,
            f"the file cannot be read ({reason.strerror}); check the path and rights.",
            f"无法读取（{reason.strerror}），请检查路径与权限。",
        )


def read_source(
    path: Path, columns: Sequence[str], layout: Layout, progress: Progress | None = None
) -> Iterator[pa.Table]:
    """Yield a file's rows in their order, at most 65,536 at a time, the named columns only.

    columns  CSV columns come as text, Parquet columns in their own types
    raises   IngestError: wrong encoding, malformed, a column missing or named twice. It may
             come after some rows were yielded: the caller keeps nothing then.
    """
    before = path.stat()
    with path.open("rb") as file:
        head = file.read(_HEAD)
    tell = progress or (lambda _done, _all: None)
    if head.startswith(_PARQUET):
        yield from _read_parquet(path, columns, tell)
    else:
        _check_head(path, head, layout)
        _check_header(path, _header(path, head, layout), columns)
        yield from _read_csv(path, columns, layout, tell)
    after = path.stat()
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        _refuse(
            path, "the file changed while it was read; try again.", "读取期间文件被修改，请重试。"
        )
    tell(before.st_size, before.st_size)


def _check_header(path: Path, present: Sequence[str], wanted: Sequence[str]) -> None:
    absent = [name for name in wanted if name not in present]
    if absent:
        names = ", ".join(absent)
        _refuse(
            path,
            f"it has no column {names}; correct the mapping, or its encoding or delimiter.",
            f"缺少列 {names}，请更正映射文件，或其编码、分隔符。",
        )
    twice = [name for name in wanted if list(present).count(name) > 1]
    if twice:
        _refuse(
            path,
            f"two columns are named {twice[0]}; give each its own name.",
            f"有两列同名 {twice[0]}，请使列名唯一。",
        )


def _check_head(path: Path, head: bytes, layout: Layout) -> None:
    for magic, en, zh in _OTHER_KINDS:
        if head.startswith(magic):
            _refuse(
                path,
                f"it is {en}, not CSV or Parquet; save it as CSV in UTF-8.",
                f"这是{zh}，不是 CSV 或 Parquet，请另存为 UTF-8 编码的 CSV。",
            )
    if b"\0" in head:
        _refuse(
            path,
            "it holds binary data, it is no CSV or Parquet file; check the path.",
            "内容为二进制数据，不是 CSV 或 Parquet，请检查路径。",
        )
    if layout.encoding == "gb18030" and head.startswith(_UTF8_BOM):
        _wrong_encoding(path, layout.encoding)


def _wrong_encoding(path: Path, encoding: str) -> NoReturn:
    other = "gb18030" if encoding == "utf-8" else "utf-8"
    _refuse(
        path,
        f"it is not written in {encoding}, as the mapping says; perhaps in {other}: correct "
        "`encoding` in the mapping.",
        f"编码并非映射文件所述的 {encoding}，可能是 {other}，请更正映射文件中的 `encoding`。",
    )


def _header(path: Path, head: bytes, layout: Layout) -> list[str]:
    line = next((line for line in head.splitlines() if line), b"")
    try:
        text = line.decode("utf-8-sig" if layout.encoding == "utf-8" else layout.encoding)
    except UnicodeDecodeError:
        _wrong_encoding(path, layout.encoding)
    try:
        return next(csv.reader([text], delimiter=layout.delimiter, strict=True), [])
    except csv.Error:
        _refuse(
            path,
            "the quotes of its first line do not close; export it again.",
            "首行引号未闭合，请重新导出。",
        )


class _Watched:
    """A file that counts, while pyarrow reads it, what tells that its text was misread.

    lines    lines that are not empty (CR, LF and CRLF end a line)
    foreign  whether all of it is UTF-8 with characters that GB18030 text would never spell so
    """

    def __init__(self, path: Path, progress: Progress) -> None:
        self._file = path.open("rb")
        self._size = path.stat().st_size
        self._progress = progress
        self._done = 0
        self._line_open = False
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._utf8 = True
        self._wide = False
        self.lines = 0

    @property
    def foreign(self) -> bool:
        return self._utf8 and self._wide

    closed = False

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def writable(self) -> bool:
        return False

    def close(self) -> None:
        self._file.close()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._count_lines(data)
        self._try_utf8(data)
        self._done += len(data)
        self._progress(self._done, self._size)
        return data

    def _count_lines(self, data: bytes) -> None:
        if not data:
            return
        octets = np.frombuffer(data, dtype=np.uint8)
        text = (octets != 0x0A) & (octets != 0x0D)
        begins = int(np.count_nonzero(text[1:] & ~text[:-1]))
        self.lines += begins + int(text[0] and not self._line_open)
        self._line_open = bool(text[-1])

    def _try_utf8(self, data: bytes) -> None:
        # One false hit in a long GB18030 text is impossible: nearly every pair breaks UTF-8.
        if not self._utf8 or data.isascii():
            return
        try:
            text = self._decoder.decode(data)
        except UnicodeDecodeError:
            self._utf8 = False
        else:
            self._wide = self._wide or max(text, default="") >= "\u0800"


def _read_csv(
    path: Path, columns: Sequence[str], layout: Layout, progress: Progress
) -> Iterator[pa.Table]:
    file = _Watched(path, progress)
    ragged: list[arrow_csv.InvalidRow] = []

    def note(row: arrow_csv.InvalidRow) -> str:
        ragged.append(row)
        return "error"

    records = 0
    try:
        reader = arrow_csv.open_csv(
            pa.PythonFile(file, mode="r"),
            read_options=arrow_csv.ReadOptions(
                encoding=layout.encoding, use_threads=False, block_size=_BLOCK
            ),
            parse_options=arrow_csv.ParseOptions(
                delimiter=layout.delimiter, invalid_row_handler=note
            ),
            convert_options=arrow_csv.ConvertOptions(
                include_columns=list(columns),
                column_types={name: pa.string() for name in columns},
                null_values=[],
                strings_can_be_null=False,
            ),
        )
        for batch in reader:
            records += batch.num_rows
            for start in range(0, batch.num_rows, _MAX_ROWS):
                yield pa.Table.from_batches([batch.slice(start, _MAX_ROWS)])
    except UnicodeDecodeError:
        _wrong_encoding(path, layout.encoding)
    except (pa.ArrowInvalid, pa.ArrowKeyError) as reason:
        _explain(path, layout, ragged, str(reason))
    finally:
        file.close()
    _check_text(path, layout, file, records)


def _explain(
    path: Path, layout: Layout, ragged: Sequence[arrow_csv.InvalidRow], said: str
) -> NoReturn:
    """Turn pyarrow's complaint, which may quote the data, into one that does not."""
    if ragged:
        row = ragged[0]
        _refuse(
            path,
            f"line {row.number} has {row.actual_columns} values, the header has "
            f"{row.expected_columns}; look for a stray delimiter or a quote that is not closed.",
            f"第 {row.number} 行有 {row.actual_columns} 个值，表头为 {row.expected_columns} 个，"
            "请检查多余的分隔符或未闭合的引号。",
        )
    if "invalid UTF8" in said:
        _wrong_encoding(path, layout.encoding)
    if "Empty CSV" in said:
        _refuse(path, "the file has no rows; export it again.", "文件没有数据行，请重新导出。")
    _refuse(
        path,
        "the file is malformed: a quote is probably not closed; export it again.",
        "文件格式错误，可能有引号未闭合，请重新导出。",
    )


def _check_text(path: Path, layout: Layout, file: _Watched, records: int) -> None:
    """Refuse what pyarrow reads without complaint: swallowed lines, and UTF-8 as GB18030."""
    if layout.encoding == "gb18030" and file.foreign:
        _wrong_encoding(path, layout.encoding)
    if file.lines != records + 1:
        _refuse(
            path,
            f"its {file.lines - 1} lines make {records} rows: a quoted value runs over a line "
            "end. Close the quote, or take line breaks out of the values.",
            f"{file.lines - 1} 行文本只构成 {records} 条记录：有带引号的值跨行。"
            "请闭合引号，或去除值中的换行。",
        )
    if records == 0:
        _refuse(path, "the file has no rows; export it again.", "文件没有数据行，请重新导出。")


def _read_parquet(path: Path, columns: Sequence[str], progress: Progress) -> Iterator[pa.Table]:
    size, done = path.stat().st_size, 0
    try:
        with pq.ParquetFile(path) as file:
            _check_header(path, file.schema_arrow.names, columns)
            rows = file.metadata.num_rows
            if rows == 0:
                _refuse(
                    path, "the file has no rows; export it again.", "文件没有数据行，请重新导出。"
                )
            for batch in file.iter_batches(_MAX_ROWS, columns=list(columns), use_threads=False):
                done += batch.num_rows
                progress(size * done // rows, size)
                yield pa.Table.from_batches([batch])
    except (OSError, pa.ArrowException):
        _refuse(
            path,
            "the Parquet file is damaged or encrypted; export it again.",
            "Parquet 文件已损坏或被加密，请重新导出。",
        )
