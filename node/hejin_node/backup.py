"""Copy a node's database and segments into a folder while it serves, and put them back.

A backup is a folder: `node-HASH.db`, `segments/`, `files/` (settings, charter, views, schemas) and
`manifest.json`, which names everything by SHA-256 and is authenticated with a key that follows from
the warehouse key. No key is in it. Making it again into the same folder copies only what is new,
writes the manifest last, and then removes what the node does not have any more: a crash in between
leaves the last backup whole.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import delete, insert, select

from hejin_node.erasing import erase_again
from hejin_node.errors import NodeError
from hejin_node.home import NodeHome
from hejin_node.manifest import Segment
from hejin_node.segments import Keyring
from hejin_node.sources import Progress, Tally, silent
from hejin_node.tables import backup as backup_table
from hejin_node.verifying import is_as_written
from hejin_node.withdrawing import withdraw_again
from hejin_trust import canonical
from hejin_trust.canonical import DocumentError, time_text
from hejin_trust.database import copy_database, reading, writing
from hejin_trust.files import (
    held,
    make_folder,
    remove_file,
    replace_file,
    replace_stream,
    sync_folder,
)
from hejin_trust.keys import read_secret

MANIFEST: Final = "manifest.json"
_SEGMENTS, _FILES = "segments", "files"
_MOST_MANIFEST = 1 << 28
_BLOCK = 1 << 20

#: What else a node's folder has that is no key, no data and cannot be made anew.
_KEPT_SUFFIXES = frozenset({".toml", ".json", ".pem"})
_KEPT_FOLDERS = ("views", "schemas", "recoveries")
_SAFE_PATH = re.compile(rf"(({'|'.join(_KEPT_FOLDERS)})/)?[^/\x00]+")
_SAFE_NAME = re.compile(r"[0-9a-f]{32}\.parquet|node-[0-9a-f]{16}\.db")


class BackupError(NodeError):
    """A backup cannot be made, or cannot be put back; nothing was changed."""

    code = "backup"


@dataclass(frozen=True, slots=True)
class BackedUp:
    """What a backup holds, how much of that was copied now, and how many old files went."""

    segments: int
    bytes: int
    copied: int
    removed: int


@dataclass(frozen=True, slots=True)
class Restored:
    """What was put back.

    database   whether the database was, and with it the ledgers and authorisations of that time
    segments   how many were missing or damaged and are whole again
    files      how many settings, views and so on were missing
    lacking    segments (data set, file) that are still missing or damaged: the backup has them not
    """

    database: bool
    segments: int
    files: int
    lacking: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class _Held:
    """One file of a backup: where it lies in it, its hex SHA-256 and its size, bytes."""

    path: str
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class _Contents:
    """A backup's manifest."""

    member: str
    key_id: str
    time: str
    database: _Held
    segments: tuple[_Held, ...]
    files: tuple[_Held, ...]

    @property
    def all(self) -> tuple[_Held, ...]:
        """Every file of the backup."""
        return (self.database, *self.segments, *self.files)

    def sealed(self, keys: Keyring) -> bytes:
        """Return the manifest file's bytes."""
        body: dict[str, object] = {
            "v": 1,
            "member": self.member,
            "key_id": self.key_id,
            "time": self.time,
            "database": _body(self.database),
            "segments": [_body(one) for one in self.segments],
            "files": [_body(one) for one in self.files],
        }
        mac = keys.authenticate(canonical.encode(body))
        return canonical.encode({**body, "mac": mac})


def back_up(home: NodeHome, folder: Path, progress: Progress = silent) -> BackedUp:
    """Make a backup of a node in `folder`, or bring the one that is there up to date.

    Queries go on meanwhile; loads wait. progress  called with (bytes looked at, bytes in all)
    raises   BackupError: the folder holds something else, or a segment is damaged; FileError
    """
    warehouse = home.warehouse
    folder = folder.resolve()
    _check_target(home, folder)
    for one in (folder, folder / _SEGMENTS, folder / _FILES):
        make_folder(one, mode=0o700)
    # Noted before it exists: who is erased later is told of it in any case.
    with writing(home.database) as connection:
        connection.execute(delete(backup_table).where(backup_table.c.place == str(folder)))
        connection.execute(
            insert(backup_table).values(place=str(folder), time=time_text(home.now()))
        )
    with warehouse.still("backup") as parts:
        database = _copy_of_database(home, folder)
        sizes = [warehouse.files.size(part.file) for part in parts]
        segments: list[_Held] = []
        copied = 0
        told = Tally(progress, sum(sizes))
        for part, size in zip(parts, sizes, strict=True):
            held_one = _Held(f"{_SEGMENTS}/{part.file}", part.sha256, size)
            copied += _copy_segment(warehouse.files.path(part.file), folder, held_one, part)
            segments.append(held_one)
            told(size)
        files = tuple(_copy_kept(path, home.path, folder) for path in _kept(home.path))
        contents = _Contents(
            home.member_id,
            warehouse.files.keys.id,
            time_text(home.now()),
            database,
            tuple(segments),
            files,
        )
        sync_folder(folder / _SEGMENTS)
        replace_file(folder / MANIFEST, contents.sealed(warehouse.files.keys), mode=0o600)
    removed = _remove_others(folder, {one.path for one in contents.all})
    return BackedUp(len(segments), sum(one.bytes for one in contents.all), copied, removed)


def known_backups(home: NodeHome) -> tuple[tuple[str, str], ...]:
    """Return the backups that this node made: (folder, when it was brought up to date)."""
    with reading(home.database) as connection:
        found = connection.execute(select(backup_table).order_by(backup_table.c.time))
        return tuple((row.place, row.time) for row in found)


def mend(home: NodeHome, folder: Path, progress: Progress = silent) -> Restored:
    """Put back, from a backup, the segments of a node that are missing or damaged.

    raises   BackupError: it is of another node or key, or damaged where it is needed; FileError
    """
    contents = _read(folder, home.warehouse.files.keys)
    kept = {Path(one.path).name: one for one in contents.segments}
    lacking: list[tuple[str, str]] = []
    mended = 0
    with home.warehouse.still("restore") as parts:
        sizes = [home.warehouse.files.size(part.file) for part in parts]
        told = Tally(progress, sum(sizes))
        for part, size in zip(parts, sizes, strict=True):
            target = home.warehouse.files.path(part.file)
            if not is_as_written(target, part.sha256):
                one = kept.get(part.file)
                if one is None or one.sha256 != part.sha256 or not _is_whole(folder, one):
                    lacking.append((part.dataset, part.file))
                else:
                    _put(folder, one, target)
                    mended += 1
            told(size)
    # What came back may have rows that a recovery could not remove without it.
    erase_again(home)
    withdraw_again(home)
    return Restored(False, mended, 0, tuple(lacking))


def put_back(home: Path, folder: Path, progress: Progress = silent) -> Restored:
    """Put a whole backup into the folder of a node that has keys and no database.

    The database comes last: a crash before leaves the folder as one without. Whatever is there of
    settings stays. Afterwards the ledgers are of the backup's time: the node asks the regulator's
    mirror before it does anything, and freezes if that knows more.
    raises   BackupError, HeldError, FileError: no database is there then
    """
    keys = Keyring(read_secret(home / "keys" / "warehouse.key"))
    contents = _read(folder, keys)
    with held(home):
        told = Tally(progress, sum(one.bytes for one in contents.all))
        for one in contents.all:
            if not _is_whole(folder, one):
                raise BackupError(
                    f"The backup is damaged: {one.path} is missing or is not what was copied. "
                    "Nothing was put back; use another backup.",
                    f"备份已损坏：{one.path} 缺失或与备份时不符。未恢复任何内容，请使用其他备份。",
                )
            told(one.bytes)
        make_folder(home / "warehouse", mode=0o700)
        files = segments = 0
        for one in contents.files:
            target = home / one.path.removeprefix(f"{_FILES}/")
            if not target.exists():
                make_folder(target.parent)
                _put(folder, one, target)
                files += 1
        for one in contents.segments:
            target = home / "warehouse" / Path(one.path).name
            if not is_as_written(target, one.sha256):
                _put(folder, one, target)
                segments += 1
        # What an old database had not written yet must not be written into this one.
        for leftover in ("node.db-wal", "node.db-shm"):
            remove_file(home / leftover)
        _put(folder, contents.database, home / "node.db")
    return Restored(True, segments, files, ())


def _check_target(home: NodeHome, folder: Path) -> None:
    own = home.path.resolve()
    if own == folder or own in folder.parents:
        raise BackupError(
            "A backup inside the node's own folder would be lost with it: name a folder on another "
            "disk.",
            "备份若放在节点自己的目录内会与其一同丢失：请指定其他磁盘上的目录。",
        )
    if (folder / MANIFEST).exists():
        _read(folder, home.warehouse.files.keys)
    elif folder.is_dir() and not all(_is_ours(path, folder) for path in folder.iterdir()):
        raise BackupError(
            f"{folder} holds other files: name an empty folder, or one with a backup of this node.",
            f"{folder} 中有其他文件：请指定空目录，或本节点已有备份的目录。",
        )


def _copy_of_database(home: NodeHome, folder: Path) -> _Held:
    aside = folder / "node-new.db"
    remove_file(aside)
    try:
        copy_database(home.database, aside)
        digest, size = _digest(aside), aside.stat().st_size
        held_one = _Held(f"node-{digest[:16]}.db", digest, size)
        replace_stream(folder / held_one.path, _blocks(aside), mode=0o600)
    finally:
        with suppress(OSError):
            aside.unlink()
    return held_one


def _copy_segment(source: Path, folder: Path, one: _Held, part: Segment) -> int:
    """Copy a segment unless the backup has it; return the bytes that were copied."""
    if _is_whole(folder, one):
        return 0
    if not is_as_written(source, part.sha256):
        raise BackupError(
            f"Segment {part.file} of data set {part.dataset} is missing or damaged: put it back "
            "first (`hejin node data restore`). The backup stays as it was.",
            f"数据集 {part.dataset} 的分段文件 {part.file} 缺失或已损坏："
            "请先执行 `hejin node data restore`。备份保持原样。",
        )
    replace_stream(folder / one.path, _blocks(source), mode=0o600)
    return one.bytes


def _kept(home: Path) -> list[Path]:
    """Return the settings and papers of a node, sorted."""
    found = [path for path in home.iterdir() if path.suffix in _KEPT_SUFFIXES]
    for name in _KEPT_FOLDERS:
        if (home / name).is_dir():
            found += (home / name).iterdir()
    return sorted(path for path in found if path.is_file())


def _copy_kept(path: Path, home: Path, folder: Path) -> _Held:
    content = path.read_bytes()
    one = _Held(
        f"{_FILES}/{path.relative_to(home)}", hashlib.sha256(content).hexdigest(), len(content)
    )
    if not _is_whole(folder, one):
        make_folder((folder / one.path).parent, mode=0o700)
        replace_file(folder / one.path, content, mode=0o600)
    return one


def _is_ours(path: Path, folder: Path) -> bool:
    """Tell whether a backup, or one that was interrupted, wrote a path into its folder."""
    top = path.relative_to(folder).parts[0]
    return (
        top in (_SEGMENTS, _FILES)
        or re.fullmatch(r"node-[^/]*\.db|\.(node-|manifest\.).*", top) is not None
    )


def _remove_others(folder: Path, named: set[str]) -> int:
    """Remove what earlier backups wrote and the manifest does not name; return how many files."""
    removed = 0
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_file() and _is_ours(path, folder) and name not in named:
            remove_file(path)
            removed += 1
    return removed


def _read(folder: Path, keys: Keyring) -> _Contents:
    """Return a backup's manifest; BackupError unless this key made it."""
    try:
        data = (folder / MANIFEST).read_bytes()
    except OSError:
        raise BackupError(
            f"{folder} holds no backup: name the folder that `hejin node data backup` wrote.",
            f"{folder} 中没有备份：请指定 `hejin node data backup` 写入的目录。",
        ) from None
    try:
        document = canonical.decode(data, max_bytes=_MOST_MANIFEST)
        contents = _contents(document)
        mac = canonical.text(document, "mac", longest=64)
    except DocumentError as reason:
        raise BackupError(
            "The backup's manifest is damaged: use another backup.",
            "备份清单已损坏：请使用其他备份。",
        ) from reason
    if contents.key_id != keys.id:
        raise BackupError(
            f"The backup is of {contents.member} under another warehouse key: it is another "
            "node's, or keys/warehouse.key is not the one it was made with.",
            f"该备份属于 {contents.member}，所用仓库密钥不同：它来自其他节点，"
            "或 keys/warehouse.key 不是备份时的密钥。",
        )
    body = canonical.encode({key: value for key, value in document.items() if key != "mac"})
    if not hmac.compare_digest(mac, keys.authenticate(body)):
        raise BackupError(
            "The backup's manifest was altered: use another backup.",
            "备份清单被改动：请使用其他备份。",
        )
    return contents


def _contents(document: Mapping[str, object]) -> _Contents:
    canonical.closed(
        document, "v", "member", "key_id", "time", "database", "segments", "files", "mac"
    )
    canonical.integer(document, "v", 1, 1)
    return _Contents(
        canonical.text(document, "member", longest=63),
        canonical.text(document, "key_id", longest=16),
        canonical.text(document, "time", longest=20),
        _held(canonical.child(document, "database"), ""),
        tuple(_held(one, _SEGMENTS) for one in canonical.objects(document, "segments")),
        tuple(_held(one, _FILES) for one in canonical.objects(document, "files")),
    )


def _held(body: Mapping[str, object], within: str) -> _Held:
    canonical.closed(body, "path", "sha256", "bytes")
    path = canonical.text(body, "path", longest=4096)
    name = path.removeprefix(f"{within}/") if within else path
    safe = _SAFE_PATH if within == _FILES else _SAFE_NAME
    if not safe.fullmatch(name) or ".." in name:
        raise DocumentError("a path leads out of the backup", "路径超出备份目录")
    canonical.hexbytes(body, "sha256", 32)
    return _Held(path, str(body["sha256"]), canonical.integer(body, "bytes", 0))


def _body(one: _Held) -> dict[str, object]:
    return {"path": one.path, "sha256": one.sha256, "bytes": one.bytes}


def _is_whole(folder: Path, one: _Held) -> bool:
    return is_as_written(folder / one.path, one.sha256)


def _put(folder: Path, one: _Held, target: Path) -> None:
    """Put a file back; BackupError if it is not what was checked: the disk may be another's."""
    replace_stream(target, _unchanged(folder / one.path, one), mode=0o600)


def _unchanged(path: Path, one: _Held) -> Iterator[bytes]:
    digest = hashlib.sha256()
    for block in _blocks(path):
        digest.update(block)
        yield block
    # Before the new file takes the old one's place.
    if digest.hexdigest() != one.sha256:
        raise BackupError(
            f"The backup changed while it was put back: {one.path} is not what was checked. Keep "
            "others from writing to it, and do it again.",
            f"备份在恢复期间被改动：{one.path} 与所核验的不符。请禁止他人写入后重试。",
        )


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            yield block


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
