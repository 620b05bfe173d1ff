"""Entries whose bytes were moved out of the database: read back from the sealed files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from sqlalchemy import Column, Connection, Integer, MetaData, Table, Text, select

from hejin_trust.entries import MAX_ENTRY_BYTES
from hejin_trust.errors import HejinError
from hejin_trust.merkle import leaf_hash


class ArchiveError(HejinError):
    """A sealed file of old entries was altered, or does not belong where it is used."""

    code = "archive-invalid"


class ArchiveMissingError(HejinError):
    """A sealed file of old entries is not where it is expected."""

    code = "archive-missing"


def archive_table(metadata: MetaData) -> Table:
    """Define the table that says which leaves (start .. stop-1) of a log lie in which file."""
    return Table(
        "log_archive",
        metadata,
        Column("origin", Text, primary_key=True),
        Column("start", Integer, primary_key=True),
        Column("stop", Integer, nullable=False),
        Column("path", Text, nullable=False),
    )


_ARCHIVE = archive_table(MetaData())


@dataclass(frozen=True, slots=True)
class Archive:
    """One sealed file: leaves start .. end-1 of a log, one a line."""

    start: int
    end: int
    path: Path


def archives(connection: Connection, origin: str) -> list[Archive]:
    """Return the sealed files of a log's oldest leaves, in order and without a gap."""
    rows = connection.execute(
        select(_ARCHIVE.c.start, _ARCHIVE.c.stop, _ARCHIVE.c.path)
        .where(_ARCHIVE.c.origin == origin)
        .order_by(_ARCHIVE.c.start)
    )
    return [Archive(row.start, row.stop, Path(row.path)) for row in rows]


class ArchivedLeaves:
    """Reads single leaves out of a log's sealed files, going forward; a context manager.

    Each leaf is compared with the hash that the log's tree holds of it, so that an altered file
    is found wherever it is read.
    """

    def __init__(self, origin: str, archives: Sequence[Archive]) -> None:
        """Look in `archives` of the log `origin`; nothing is opened yet."""
        self._origin, self._archives = origin, archives
        self._open: Archive | None = None
        self._file: BinaryIO | None = None
        self._next = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()

    def leaf(self, seq: int, digest: bytes) -> bytes:
        """Return leaf `seq`, whose hash is `digest`; seq grows from call to call.

        raises   ArchiveMissingError, ArchiveError
        """
        archive = next((one for one in self._archives if one.start <= seq < one.end), None)
        if archive is None:
            raise ArchiveError(
                f"Entry {seq} of {self._origin} is in no archive that is known here: restore the"
                " database.",
                f"{self._origin} 的条目 {seq} 不在任何已知归档中：请恢复数据库。",
            )
        line = b""
        try:
            file = self._reach(archive)
            while self._next <= seq:
                line = file.readline(MAX_ENTRY_BYTES + 2)
                self._next += 1
        except OSError as reason:
            raise _missing(self._origin, archive, str(reason.strerror)) from reason
        leaf = line.removesuffix(b"\n")
        if leaf_hash(leaf) != digest:
            raise ArchiveError(
                f"The archive {archive.path} was altered at entry {seq}: put the file back as it"
                " was written.",
                f"归档 {archive.path} 在条目 {seq} 处被改动：请放回原始文件。",
            )
        return leaf

    def _reach(self, archive: Archive) -> BinaryIO:
        if self._file is None or self._open != archive:
            if self._file is not None:
                self._file.close()
            self._file = archive.path.open("rb")
            self._open, self._next = archive, archive.start
        return self._file


def _missing(origin: str, archive: Archive, why: str) -> ArchiveMissingError:
    return ArchiveMissingError(
        f"Entries {archive.start} to {archive.end - 1} of {origin} are in the archive"
        f" {archive.path}, which cannot be read ({why}): put it back there, or say where it is"
        " with `hejin ledger archives --moved-to`.",
        f"{origin} 的条目 {archive.start} 至 {archive.end - 1} 位于归档 {archive.path}，"
        f"无法读取（{why}）：请放回原处，或用 `hejin ledger archives --moved-to` 指明新位置。",
    )
