"""The flat export of a member's logs and documents, written and read as a stream."""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, get_args

from sqlalchemy import Connection

from hejin_trust import canonical
from hejin_trust.checkpoint import MAX_NOTE_BYTES
from hejin_trust.entries import MAX_ENTRY_BYTES
from hejin_trust.envelope import MOST_BYTES
from hejin_trust.errors import HejinError
from hejin_trust.files import replace_file
from hejin_trust.log import Log

LogName = Literal["release", "internal"]
LOG_NAMES: tuple[LogName, ...] = get_args(LogName)

CHARTER_FILE = "charter.json"
CHARTERS_FOLDER = "charters"
STATUS_FILE = "certificates.json"
WITNESS_FOLDER = "witness"

MAX_LINE_BYTES = 4 << 20
"""Longest line of `rosters.jsonl` and `rounds.jsonl`: 128 nodes with the longest names."""
MAX_VIEW_BYTES = 1 << 18

_DIGEST = re.compile(r"[0-9a-f]{64}")


class ExportError(HejinError):
    """An export cannot be written, or a part of it is missing or malformed."""

    code = "export-invalid"


@dataclass(frozen=True, slots=True)
class RosterLine:
    """What proves the roster of one masked run; nothing in it is verified yet.

    keyads        the nodes' signed keys; certificates: those they name, PEM, in the same order
    """

    run: str
    plan: str
    keyads: tuple[bytes, ...]
    certificates: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class RoundLine:
    """The signed documents of one round that has ended; nothing in them is verified yet.

    survivors   b"" in mode "node" and where none were asked for; votes: on them
    """

    run: str
    round: int
    query: bytes
    survivors: bytes
    votes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class MemberExport:
    """One member's folder in an export.

    `release.jsonl` and `internal.jsonl` hold one leaf a line, byte for byte; `*.checkpoint` the
    signed notes over exactly those leaves; `*.cosigned.jsonl` the notes that the regulator
    cosigned, as far as the member kept them; `documents/<digest>.json` signed envelopes by the
    SHA-256 of their payload. A bank's also holds `documents/<sha256>.view`, the feature views of
    its plans, and `rosters.jsonl` and `rounds.jsonl`, one JCS object a line.
    """

    folder: Path

    def leaves(self, log: LogName) -> Iterator[bytes]:
        """Yield a log's leaves in order, one at a time; raises ExportError."""
        return _lines(self.folder / f"{log}.jsonl", MAX_ENTRY_BYTES)

    def checkpoint(self, log: LogName) -> str:
        """Return a log's signed checkpoint; raises ExportError."""
        path = self.folder / f"{log}.checkpoint"
        try:
            return read_part(path, MAX_NOTE_BYTES).decode()
        except UnicodeDecodeError as reason:
            raise ExportError(
                f"{path} is not UTF-8 text: export it again.",
                f"{path} 不是 UTF-8 文本：请重新导出。",
            ) from reason

    def document(self, digest: str) -> bytes:
        """Return the envelope whose payload has this SHA-256 (not checked here)."""
        return read_part(self._document_path(digest), MOST_BYTES)

    def view(self, digest: str) -> bytes:
        """Return the feature view file with this SHA-256 (not checked here); ExportError."""
        return read_part(self._document_path(digest).with_suffix(".view"), MAX_VIEW_BYTES)

    def rosters(self) -> Iterator[RosterLine]:
        """Yield what proves the rosters of masked runs; raises ExportError, DocumentError."""
        for line in _lines(self.folder / "rosters.jsonl", MAX_LINE_BYTES):
            body = canonical.decode(line, max_bytes=MAX_LINE_BYTES)
            canonical.closed(body, "run", "plan", "keyads", "certificates")
            yield RosterLine(
                canonical.hexbytes(body, "run", 16).hex(),
                canonical.hexbytes(body, "plan", 32).hex(),
                _documents(body, "keyads"),
                _documents(body, "certificates"),
            )

    def rounds(self) -> Iterator[RoundLine]:
        """Yield the documents of rounds that have ended; raises ExportError, DocumentError."""
        for line in _lines(self.folder / "rounds.jsonl", MAX_LINE_BYTES):
            body = canonical.decode(line, max_bytes=MAX_LINE_BYTES)
            canonical.closed(body, "run", "round", "query", "survivors", "votes")
            yield RoundLine(
                canonical.hexbytes(body, "run", 16).hex(),
                canonical.integer(body, "round", 0),
                _document(canonical.text(body, "query", longest=MAX_LINE_BYTES)),
                _document(canonical.text(body, "survivors", longest=MAX_LINE_BYTES)),
                _documents(body, "votes"),
            )

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
        """Write both logs, their checkpoints and cosigned notes, and (digest, envelope) documents.

        connection  a transaction, so that all is of one moment; it is only read
        raises      ExportError, FileError; files are replaced whole, never half
        """
        try:
            (self.folder / "documents").mkdir(parents=True, exist_ok=True)
            for name, log in logs.items():
                _write_lines(self.folder / f"{name}.jsonl", log.entries(connection))
                notes = (canonical.encode(head.note) for head in log.cosigned(connection))
                _write_lines(self.folder / f"{name}.cosigned.jsonl", notes)
        except OSError as reason:
            raise ExportError(
                f"{self.folder} cannot be written ({reason.strerror}): check folder and space.",
                f"无法写入 {self.folder}（{reason.strerror}）：请检查目录和磁盘空间。",
            ) from reason
        for name, log in logs.items():
            note = log.note(connection, log.size(connection))
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


def read_notes(path: Path) -> Iterator[str]:
    """Yield the cosigned notes in a file, each a JSON string on a line; raises ExportError.

    The regulator's are in `witness/<member>.<log>.jsonl`, the member's in
    `<member>/<log>.cosigned.jsonl`; both from the smallest size to the largest.
    """
    for line in _lines(path, 2 * MAX_NOTE_BYTES):
        if not line.startswith(b'"'):
            raise _malformed(path)
        try:
            note: str = json.loads(line)
            note.encode()  # no half of a surrogate pair
        except ValueError as reason:
            raise _malformed(path) from reason
        yield note


def _malformed(path: Path) -> ExportError:
    return ExportError(
        f"{path} has a line that is not what it should be: export it again.",
        f"{path} 有一行格式有误：请重新导出。",
    )


def _lines(path: Path, longest: int) -> Iterator[bytes]:
    """Yield the lines of a file without their ends, each of at most `longest` bytes."""
    with _opened(path) as file:
        try:
            while line := file.readline(longest + 2):
                if not line.endswith(b"\n"):
                    raise ExportError(
                        f"{path} has a line that is cut off or too long: export it again.",
                        f"{path} 有一行被截断或过长：请重新导出。",
                    )
                yield line[:-1]
        except OSError as reason:
            raise _unreadable(path, reason) from reason


def _documents(body: Mapping[str, object], key: str) -> tuple[bytes, ...]:
    return tuple(_document(text) for text in canonical.texts(body, key, longest=MAX_LINE_BYTES))


def _document(text: str) -> bytes:
    """Return the bytes of a base64 text, in the one spelling that base64 has for them."""
    with suppress(binascii.Error, ValueError):
        data = base64.b64decode(text, validate=True)
        if base64.b64encode(data).decode() == text:
            return data
    raise ExportError(
        "A document in rosters.jsonl or rounds.jsonl is not base64: export the bank again.",
        "rosters.jsonl 或 rounds.jsonl 中的文件不是 base64：请重新导出该银行。",
    )


def _write_lines(path: Path, leaves: Iterable[bytes]) -> None:
    aside = path.with_name(f".{path.name}.part")
    with aside.open("wb") as file:
        for leaf in leaves:
            file.write(leaf + b"\n")
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def read_part(path: Path, longest: int) -> bytes:
    """Return a file of an export, of at most `longest` bytes; raises ExportError."""
    with _opened(path) as file:
        try:
            data = file.read(longest + 1)
        except OSError as reason:
            raise _unreadable(path, reason) from reason
    if len(data) > longest:
        raise ExportError(
            f"{path} is longer than {longest} bytes: export it again.",
            f"{path} 超过 {longest} 字节：请重新导出。",
        )
    return data


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file that somebody else has written: a plain one, or ExportError.

    Whoever hands over an export could put a pipe in a file's place: reading it waits for ever.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as reason:
        raise _unreadable(path, reason) from reason
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ExportError(
                f"{path} is not a plain file: export it again.",
                f"{path} 不是普通文件：请重新导出。",
            )
        yield file


def _unreadable(path: Path, reason: OSError) -> ExportError:
    return ExportError(
        f"{path} cannot be read ({reason.strerror}): export its owner's part again.",
        f"无法读取 {path}（{reason.strerror}）：请其所属成员重新导出。",
    )
