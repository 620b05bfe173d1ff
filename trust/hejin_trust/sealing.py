"""A sealed part of a log: entries in a row, and beside them what proves their place.

NAME.jsonl  the leaves, one a line, byte for byte as in an export
NAME.seal   a JCS object: which leaves of which log, the SHA-256 of NAME.jsonl, the complete
            subtrees before the first of them, the regulator's cosigned checkpoint of the log, and
            the proof that it extends the tree that ends in the last of them

Whoever holds the charter can check both files without anybody's help.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from sqlalchemy import Connection

from hejin_trust import canonical
from hejin_trust.archived import ArchiveError
from hejin_trust.canonical import DocumentError
from hejin_trust.charter import Charter
from hejin_trust.checkpoint import MAX_NOTE_BYTES
from hejin_trust.entries import MAX_ENTRY_BYTES, Entry, EntryError, parse
from hejin_trust.files import replace_file, replace_stream
from hejin_trust.heads import Head, open_head
from hejin_trust.merkle import Frontier, ProofError, check_consistency, leaf_hash
from hejin_trust.stored_log import StoredCosignature, StoredLog

SUFFIX: Final = ".seal"
_FIELDS: Final = ("v", "origin", "start", "end", "sha256", "tree", "checkpoint", "proof")
_MOST_BYTES: Final = MAX_NOTE_BYTES + 32 * 1024
_MOST_HASHES: Final = 64


@dataclass(frozen=True, slots=True)
class Part:
    """A sealed part that was checked.

    start, end     leaves start .. end-1 of the log
    first, last    times of the first and last entry, RFC 3339
    head           the cosigned tree head that they are proven against
    """

    origin: str
    start: int
    end: int
    first: str
    last: str
    head: Head


@dataclass(frozen=True, slots=True)
class _Seal:
    origin: str
    start: int
    end: int
    sha256: str
    tree: tuple[bytes, ...]
    checkpoint: str
    proof: tuple[bytes, ...]

    def body(self) -> dict[str, object]:
        return {
            "v": 1,
            "origin": self.origin,
            "start": self.start,
            "end": self.end,
            "sha256": self.sha256,
            "tree": [digest.hex() for digest in self.tree],
            "checkpoint": self.checkpoint,
            "proof": [digest.hex() for digest in self.proof],
        }

    @classmethod
    def parse(cls, data: bytes) -> _Seal:
        body = canonical.decode(data, max_bytes=_MOST_BYTES)
        canonical.closed(body, *_FIELDS)
        canonical.integer(body, "v", 1, 1)
        start = canonical.integer(body, "start", 0)
        return cls(
            origin=canonical.text(body, "origin"),
            start=start,
            end=canonical.integer(body, "end", start + 1),
            sha256=canonical.text(body, "sha256", longest=64),
            tree=_hashes(body, "tree"),
            checkpoint=canonical.text(body, "checkpoint", longest=MAX_NOTE_BYTES),
            proof=_hashes(body, "proof"),
        )


def seal_part(
    connection: Connection,
    log: StoredLog,
    start: int,
    end: int,
    head: StoredCosignature,
    path: Path,
) -> None:
    """Write leaves start .. end-1 to `path`, synced, and their seal beside it.

    head     a cosigned checkpoint of the log, of at least `end` entries
    raises   FileError; ArchiveMissingError, ArchiveError where the leaves are archived already
    """
    digest = hashlib.sha256()

    def lines() -> Iterator[bytes]:
        for leaf in log.entries(connection, start, end):
            digest.update(leaf + b"\n")
            yield leaf + b"\n"

    replace_stream(path, lines(), mode=0o600)
    seal = _Seal(
        origin=log.origin,
        start=start,
        end=end,
        sha256=digest.hexdigest(),
        tree=tuple(log.frontier(connection, start).peaks),
        checkpoint=head.note,
        proof=tuple(log.consistency_proof(connection, end, head.size)),
    )
    replace_file(path.with_suffix(SUFFIX), canonical.encode(seal.body()), mode=0o600)


def check_part(path: Path, charter: Charter) -> Part:
    """Return what the sealed file `path` (with its seal beside it) proves under a charter.

    Streams; memory does not grow with the file.
    raises   ArchiveError: missing, altered, cut off or malformed; CheckpointError: not of a
             member's log, or not cosigned by the regulator
    """
    seal = _read_seal(path)
    head = open_head(seal.checkpoint, charter)
    checkpoint = head.cosigned.checkpoint
    if checkpoint.origin != seal.origin:
        _refuse(path, "its checkpoint is of another log", "其检查点属于另一日志")
    tree = _resume(path, seal)
    first = last = ""
    for entry in _entries(path, seal):
        told = (entry.seq, entry.by) == (tree.size, head.member.id)
        if not told or entry.seq >= seal.end or entry.time < last:
            _refuse(path, f"entry {tree.size} is out of place", f"条目 {tree.size} 位置不对")
        tree.append(leaf_hash(entry.raw))
        first, last = first or entry.time, entry.time
    if tree.size != seal.end:
        _refuse(
            path,
            f"it ends at entry {tree.size - 1} instead of {seal.end - 1}",
            f"止于条目 {tree.size - 1} 而非 {seal.end - 1}",
        )
    try:
        check_consistency(seal.end, tree.root(), checkpoint.size, checkpoint.root, seal.proof)
    except ProofError as reason:
        raise _error(
            path, "its entries do not lead to its checkpoint", "其条目与检查点不符"
        ) from reason
    return Part(seal.origin, seal.start, seal.end, first, last, head)


def _resume(path: Path, seal: _Seal) -> Frontier:
    if len(seal.tree) != seal.start.bit_count():
        _refuse(path, "its seal names a wrong number of subtrees", "封条中的子树数目有误")
    peaks = iter(seal.tree)
    return Frontier.resumed(seal.start, lambda _level, _position: next(peaks))


def _entries(path: Path, seal: _Seal) -> Iterator[Entry]:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while line := file.readline(MAX_ENTRY_BYTES + 2):
                digest.update(line)
                if not line.endswith(b"\n"):
                    _refuse(path, "a line is cut off or too long", "有一行被截断或过长")
                yield parse(line[:-1])
    except OSError as reason:
        raise _unreadable(path, reason) from reason
    except EntryError as reason:
        raise _error(path, f"it holds {reason.text.en}", f"其中 {reason.text.zh}") from reason
    if digest.hexdigest() != seal.sha256:
        _refuse(path, "it is not the file that was sealed", "不是当初封存的文件")


def _read_seal(path: Path) -> _Seal:
    beside = path.with_suffix(SUFFIX)
    try:
        with beside.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as reason:
        raise _unreadable(beside, reason) from reason
    try:
        return _Seal.parse(data)
    except DocumentError as reason:
        raise _error(beside, f"{reason.text.en}", f"{reason.text.zh}") from reason


def _hashes(body: Mapping[str, object], key: str) -> tuple[bytes, ...]:
    listed = canonical.items(body, key)
    if len(listed) > _MOST_HASHES:
        raise DocumentError(f"field {key} has more than 64 hashes", f"字段 {key} 超过 64 个哈希")
    return tuple(canonical.hexbytes({key: item}, key, 32) for item in listed)


def _error(path: Path, en: str, zh: str) -> ArchiveError:
    return ArchiveError(
        f"The sealed file {path} is refused: {en}. Use the file as it was sealed.",
        f"封存文件 {path} 被拒绝：{zh}。请使用封存时的文件。",
    )


def _refuse(path: Path, en: str, zh: str) -> NoReturn:
    raise _error(path, en, zh)


def _unreadable(path: Path, reason: OSError) -> ArchiveError:
    return ArchiveError(
        f"{path} cannot be read ({reason.strerror}): a sealed part is two files, .jsonl and .seal.",
        f"无法读取 {path}（{reason.strerror}）：封存部分由 .jsonl 与 .seal 两个文件组成。",
    )
