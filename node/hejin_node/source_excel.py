"""Rows of an Excel workbook (.xlsx), as texts; what would unpack to too much is refused unread."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Generator, Iterator, Sequence
from typing import IO, Final, NoReturn

import pyarrow as pa

from hejin_node.errors import IngestError
from hejin_node.sources import (
    Block,
    Layout,
    Place,
    Progress,
    check_header,
    refuse,
    rows_before,
    spelled,
)

MAGIC: Final = b"PK\x03\x04"
_BLOCK_ROWS: Final = 8192
#: Excel's own limit of rows a sheet; a forged row number beyond it would be counted up to.
_MOST_ROWS: Final = 1_048_576
#: Excel's own limit of a text, characters: cells may share one, and each would be a copy of it.
_LONGEST_TEXT: Final = 32_767
#: Characters of a block, by which it ends early.
_BLOCK_TEXTS: Final = 16 << 20
#: openpyxl streams sheets and keeps everything else in memory: unpacked bytes.
_MOST_STREAMED: Final = 2 << 30
_MOST_KEPT: Final = 64 << 20
_MOST_PARTS: Final = 2000
#: Where a document type, and with it an entity that multiplies itself, would stand.
_PROLOGUE: Final = 1024


def read(
    name: str,
    file: IO[bytes],
    columns: Sequence[str],
    layout: Layout,
    place: Place | None,
    progress: Progress,
) -> Iterator[Block]:
    """Yield blocks of rows that are not empty; the first one names the columns.

    A cell is spelled as a CSV would: 12.5, 3, true, and a date as the mapping's first format.
    """
    size = file.seek(0, 2)
    skip = done = rows_before(place)
    waiting: list[tuple[str | None, ...]] = []
    rows = _rows(name, file, layout.sheet)
    try:
        header = [spelled(cell, None) or "" for cell in next(rows, ())]
        check_header(name, header, columns)
        picked = [(header.index(column), layout.formats.get(column)) for column in columns]
        seen = held = 0
        for number, row in enumerate(rows):
            if number >= _MOST_ROWS:
                _bomb(name)
            if all(cell is None for cell in row):
                continue
            seen += 1
            if seen <= skip:
                continue
            cells = tuple(
                spelled(row[at], pattern) if at < len(row) else None for at, pattern in picked
            )
            lengths = [len(cell) for cell in cells if cell is not None]
            if max(lengths, default=0) > _LONGEST_TEXT:
                _bomb(name)
            waiting.append(cells)
            held += sum(lengths)
            if len(waiting) == _BLOCK_ROWS or held >= _BLOCK_TEXTS:
                done += len(waiting)
                # How far a sheet goes is not known before its end.
                progress(min(done * size // _MOST_ROWS, size - 1), size)
                yield _block(name, columns, waiting, done)
                held = 0
                waiting = []
    finally:
        rows.close()
    if waiting:
        yield _block(name, columns, waiting, done + len(waiting))


def _block(
    name: str, columns: Sequence[str], rows: Sequence[tuple[str | None, ...]], done: int
) -> Block:
    try:
        cells = {
            column: pa.array([row[i] for row in rows], pa.string())
            for i, column in enumerate(columns)
        }
    except UnicodeEncodeError:  # half of a surrogate pair, spelled _xD800_
        _damaged(name)
    return Block(pa.table(cells), {"rows": done})


def _rows(name: str, file: IO[bytes], sheet: str | None) -> Generator[tuple[object, ...]]:
    _check_parts(name, file)
    file.seek(0)
    from openpyxl import load_workbook

    # It warns of styles and validations that it does not keep; they are nothing to us.
    warnings.filterwarnings("ignore", module="openpyxl")
    try:
        book = load_workbook(file, read_only=True, data_only=True, keep_links=False)
        try:
            titles = [one.title for one in book.worksheets]
            wanted = sheet if sheet is not None else titles[0] if len(titles) == 1 else None
            if wanted in titles:
                page = book.worksheets[titles.index(wanted)]
                # The size that a sheet declares may be wrong; what is in it counts.
                page.reset_dimensions()
                yield from page.iter_rows(values_only=True)
                return
        finally:
            book.close()
    except (GeneratorExit, MemoryError):
        raise
    except Exception:  # noqa: BLE001 - openpyxl raises anything on a malformed workbook
        _damaged(name)
    refuse(
        name,
        f"it has {len(titles)} sheets, and none is the mapping's `sheet`; name one there.",
        f"工作簿有 {len(titles)} 个工作表，没有映射文件 `sheet` 所指的工作表；请在其中写明。",
    )


def _check_parts(name: str, file: IO[bytes]) -> None:
    """Refuse a zip archive that is no workbook, or unpacks to more than there may be.

    zipfile reads no more of a part than its directory says, so what it says can be relied on.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            parts = archive.infolist()
            names = {part.filename for part in parts}
            if "[Content_Types].xml" not in names or "xl/workbook.xml" not in names:
                refuse(
                    name,
                    "it is a zip archive, not an Excel workbook; unpack it first.",
                    "这是 zip 压缩包，不是 Excel 工作簿，请先解压。",
                )
            streamed = [part for part in parts if part.filename.startswith("xl/worksheets/")]
            kept = [part for part in parts if part not in streamed]
            if (
                len(parts) > _MOST_PARTS
                or sum(part.file_size for part in kept) > _MOST_KEPT
                or max((part.file_size for part in streamed), default=0) > _MOST_STREAMED
            ):
                _bomb(name)
            for part in parts:
                if part.filename.endswith((".xml", ".rels")):
                    with archive.open(part) as text:
                        if b"<!DOCTYPE" in text.read(_PROLOGUE).replace(b"\0", b""):
                            _bomb(name)
    except IngestError:
        raise
    except Exception:  # noqa: BLE001 - its decompressors have errors of their own
        _damaged(name)


def _damaged(name: str) -> NoReturn:
    refuse(
        name,
        "the workbook is damaged, or protected by a password; save it again as .xlsx.",
        "工作簿已损坏或受密码保护，请重新另存为 .xlsx。",
    )


def _bomb(name: str) -> NoReturn:
    refuse(
        name,
        "the workbook unpacks to more than a node reads (1,048,576 rows, 32,767 characters a cell, "
        "64 MB of texts, 2 GB a sheet); split it, or save it as CSV.",
        "工作簿解压后超出节点可读范围（1,048,576 行、每格 32,767 字符、64 MB 文本、每表 2 GB），"
        "请拆分或另存为 CSV。",
    )
