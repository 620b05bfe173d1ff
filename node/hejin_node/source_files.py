"""A source file: which kind it is, its digest, and a watch that it does not change meanwhile."""

from __future__ import annotations

import codecs
import errno
import hashlib
import os
import stat
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import IO, Final, NoReturn, Protocol

from hejin_node import source_csv, source_excel, source_parquet
from hejin_node.sources import (
    Block,
    Layout,
    Place,
    Progress,
    file_name,
    refuse,
    refuse_empty,
    rows_before,
)

_HEAD: Final = 1 << 20

#: First bytes of files that people export by mistake.
_OTHER_KINDS: Final = (
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook (.xls)", "旧版 Excel 工作簿（.xls）"),
    (b"\x1f\x8b", "a gzip archive", "gzip 压缩包"),
    (codecs.BOM_UTF16_LE, "a text in UTF-16", "UTF-16 编码的文本"),
    (codecs.BOM_UTF16_BE, "a text in UTF-16", "UTF-16 编码的文本"),
)


class _Reader(Protocol):
    def __call__(
        self,
        name: str,
        file: BufferedReader,
        columns: Sequence[str],
        layout: Layout,
        place: Place | None,
        progress: Progress,
        /,
    ) -> Iterator[Block]: ...


@dataclass(frozen=True, slots=True)
class FileSource:
    """A file whose digest was taken; reading refuses it as soon as it is another one."""

    path: Path
    columns: Sequence[str]
    layout: Layout
    digest: str
    stamp: tuple[int, int, int]
    reader: _Reader

    @property
    def name(self) -> str:
        """The file's name, without its folder."""
        return file_name(self.path)

    def blocks(self, place: Place | None, progress: Progress) -> Generator[Block]:
        """Yield the rows after `place`; see `sources.Source`."""
        try:
            with _opened(self.path) as file:
                self._check_unchanged(file)
                rows = rows_before(place)
                for block in self.reader(
                    self.name, file, self.columns, self.layout, place, progress
                ):
                    # Before the block is used: what is staged must be what the digest is of.
                    self._check_unchanged(file)
                    rows = rows_before(block.place)
                    yield block
                self._check_unchanged(file)
                if rows == 0:
                    refuse_empty(self.name)
                progress(self.stamp[0], self.stamp[0])
        except OSError as reason:
            _unreadable(self.name, reason)

    def _check_unchanged(self, file: IO[bytes]) -> None:
        if _stamp(file) != self.stamp:
            refuse(
                self.name,
                "the file changed while it was read; try again.",
                "读取期间文件被修改，请重试。",
            )


def open_file(path: Path, columns: Sequence[str], layout: Layout) -> FileSource:
    """Take a file's digest and see what it is; raises IngestError."""
    name = file_name(path)
    try:
        with _opened(path) as file:
            stamp = _stamp(file)
            head = file.read(_HEAD)
            reader = _kind(name, head, layout)
            looks: Callable[[bytes], None] = (
                source_csv.Gb18030Look(name, layout).look
                if reader is source_csv.read and layout.encoding == "gb18030"
                else lambda _data: None
            )
            digest = hashlib.sha256()
            file.seek(0)
            while data := file.read(_HEAD):
                digest.update(data)
                looks(data)
            looks(b"")
    except OSError as reason:
        _unreadable(name, reason)
    return FileSource(path, tuple(columns), layout, digest.hexdigest(), stamp, reader)


def file_digest(path: Path) -> str:
    """Return the hex SHA-256 of a file's bytes; IngestError if it cannot be read or is empty."""
    try:
        with _opened(path) as file:
            if os.fstat(file.fileno()).st_size == 0:
                _empty(file_name(path))
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as reason:
        _unreadable(file_name(path), reason)


def _kind(name: str, head: bytes, layout: Layout) -> _Reader:
    if not head:
        _empty(name)
    if head.startswith(source_parquet.MAGIC):
        return source_parquet.read
    if head.startswith(source_excel.MAGIC):
        return source_excel.read
    for magic, en, zh in _OTHER_KINDS:
        if head.startswith(magic):
            refuse(
                name,
                f"it is {en}, not CSV, Parquet or Excel (.xlsx); save it as CSV in UTF-8.",
                f"这是{zh}，不是 CSV、Parquet 或 Excel（.xlsx），请另存为 UTF-8 编码的 CSV。",
            )
    source_csv.check_head(name, head, layout)
    return source_csv.read


def _opened(path: Path) -> BufferedReader:
    """Open a file; IngestError for a pipe or device, which would never end, or not even begin."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    kind = os.fstat(handle).st_mode
    if not stat.S_ISREG(kind):
        os.close(handle)
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        refuse(
            file_name(path),
            "it is a pipe or a device, not a file; write its content into a file.",
            "这是管道或设备，不是文件，请将其内容写入文件。",
        )
    return os.fdopen(handle, "rb")


def _stamp(file: IO[bytes]) -> tuple[int, int, int]:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns, status.st_ino


def _empty(name: str) -> NoReturn:
    refuse(name, "the file is empty; export it again.", "文件为空，请重新导出。")


def _unreadable(name: str, reason: OSError) -> NoReturn:
    said = os.strerror(reason.errno) if reason.errno else "disk error"
    refuse(
        name,
        f"the file cannot be read ({said}); check the path and rights.",
        f"无法读取（{said}），请检查路径与权限。",
    )
