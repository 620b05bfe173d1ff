"""The flat export of a member's logs and documents, written and read as a stream."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from sqlalchemy import Connection

from hejin_trust.checkpoint import MAX_NOTE_BYTES
from hejin_trust.entries import MAX_ENTRY_BYTES
from hejin_trust.envelope import MOST_BYTES
from hejin_trust.errors import HejinError
from hejin_trust.files import replace_file
from hejin_trust.log import Log

LogName = Literal["release", "internal"]
LOG_NAMES: tuple[LogName, ...] = get_args(LogName)

CHARTER_FILE = "charter.json"
_DIGEST = re.compile(r"[0-9a-f]{64}")


class ExportError(HejinError):
    """An export cannot be written, or a part of it is missing or malformed."""

    code = "export-invalid"


@dataclass(frozen=True, slots=True)
class MemberExport:
    """One member's folder in an export.

    `release.jsonl` and `internal.jsonl` hold one leaf a line, byte for byte; `*.checkpoint` the
    signed notes over exactly those leaves; `documents/<digest>.json` signed envelopes by the
    SHA-256 of their payload.
    """

    folder: Path

    def leaves(self, log: LogName) -> Iterator[bytes]:
        """Yield a log's leaves in order, one at a time; raises ExportError."""
        path = self.folder / f"{log}.jsonl"
        try:
            with path.open("rb") as file:
                while line := file.readline(MAX_ENTRY_BYTES + 2):
                    if not line.endswith(b"\n"):
                        raise ExportError(
                            f"{path} has a line that is cut off or too long: export it again.",
                            f"{path} 有一行被截断或过长：请重新导出。",
                        )
                    yield line[:-1]
        except OSError as reason:
            raise _unreadable(path, reason) from reason

    def checkpoint(self, log: LogName) -> str:
        """Return a log's signed checkpoint; raises ExportError."""
        path = self.folder / f"{log}.checkpoint"
        try:
            return _read(path, MAX_NOTE_BYTES).decode()
        except UnicodeDecodeError as reason:
            raise ExportError(
                f"{path} is not UTF-8 text: export it again.",
                f"{path} 不是 UTF-8 文本：请重新导出。",
            ) from reason

    def document(self, digest: str) -> bytes:
        """Return the envelope whose payload has this SHA-256 (not checked here)."""
        return _read(self._document_path(digest), MOST_BYTES)

    def _document_path(self, digest: str) -> Path:
        if not _DIGEST.fullmatch(digest):
            raise ExportError(
                "A document is named by something else than a SHA-256.",
                "文件名不是 SHA-256 值。",
            )
        return self.folder / "documents" / f"{digest}.json"

    def write(
        self,
        connection: Connection,
        logs: dict[LogName, Log],
        documents: Iterable[tuple[str, bytes]],
    ) -> None:
        """Write both logs, their checkpoints and (digest, envelope) documents.

        connection  a `writing` transaction: a checkpoint of the present size may be signed
        raises      ExportError, FileError; files are replaced whole, never half
        """
        try:
            (self.folder / "documents").mkdir(parents=True, exist_ok=True)
            for name, log in logs.items():
                _write_lines(self.folder / f"{name}.jsonl", log.entries(connection))
        except OSError as reason:
            raise ExportError(
                f"{self.folder} cannot be written ({reason.strerror}): check folder and space.",
                f"无法写入 {self.folder}（{reason.strerror}）：请检查目录和磁盘空间。",
            ) from reason
        for name, log in logs.items():
            note = log.checkpoint(connection)
            replace_file(self.folder / f"{name}.checkpoint", note.encode())
        for digest, envelope in documents:
            replace_file(self._document_path(digest), envelope)


def write_export(
    folder: Path,
    member: str,
    connection: Connection,
    release: Log,
    internal: Log,
    documents: Iterable[tuple[str, bytes]] = (),
) -> None:
    """Write a member's part of an export to `folder`/`member`; see `MemberExport.write`."""
    MemberExport(folder / member).write(
        connection, {"release": release, "internal": internal}, documents
    )


def _write_lines(path: Path, leaves: Iterable[bytes]) -> None:
    aside = path.with_name(f".{path.name}.part")
    with aside.open("wb") as file:
        for leaf in leaves:
            file.write(leaf + b"\n")
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def _read(path: Path, longest: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(longest + 1)
    except OSError as reason:
        raise _unreadable(path, reason) from reason
    if len(data) > longest:
        raise ExportError(
            f"{path} is longer than {longest} bytes: export it again.",
            f"{path} 超过 {longest} 字节：请重新导出。",
        )
    return data


def _unreadable(path: Path, reason: OSError) -> ExportError:
    return ExportError(
        f"{path} cannot be read ({reason.strerror}): export the member again.",
        f"无法读取 {path}（{reason.strerror}）：请重新导出该成员。",
    )
