"""A member's two logs looked at from outside: what they say, and proofs for third parties.

Nothing is started, and nothing private but the database is read: a member may serve meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection, Engine, select

from hejin_trust.charter import Charter, CharterSource
from hejin_trust.checkpoint import MAX_PROOF_BYTES, PROOF_HEADER, format_proof, parse_proof
from hejin_trust.database import open_existing
from hejin_trust.entries import Entry, parse
from hejin_trust.errors import HejinError
from hejin_trust.export import LogName
from hejin_trust.files import make_folder
from hejin_trust.heads import Head, open_head
from hejin_trust.members import Role
from hejin_trust.merkle import check_inclusion
from hejin_trust.origins import internal_origin, release_origin
from hejin_trust.sealing import seal_part
from hejin_trust.settings import read_settings
from hejin_trust.stored_log import TABLES, StoredLog

_ENTRY, _CHECKPOINT = TABLES.entry, TABLES.checkpoint

#: What tells a member's folder, and the database in it.
_ROLES: Final[Mapping[Role, tuple[str, str]]] = {
    "node": ("node.toml", "node.db"),
    "bank": ("coordinator.toml", "coordinator.db"),
}


class LedgerError(HejinError):
    """A folder holds no ledger, or the ledger has no such entry."""

    code = "no-such-entry"


class _Settings(BaseModel):
    """What every role's settings name."""

    model_config = ConfigDict(extra="ignore")

    member: str
    regulator_key: str = Field(pattern=r"^[0-9a-f]{64}$")


@dataclass(frozen=True, slots=True)
class Ledger:
    """A member's logs, opened; `charter` is the one in force in its folder."""

    member: str
    role: Role
    charter: Charter
    engine: Engine

    def log(self, name: LogName) -> StoredLog:
        """Return the release log or the internal log."""
        named = release_origin if name == "release" else internal_origin
        return StoredLog(named(self.charter.consortium, self.role, self.member))

    def part(self, folder: Path, name: LogName, start: int, end: int) -> Path:
        """Return where a sealed file of leaves start .. end-1 lies in `folder`."""
        return folder.absolute() / f"{self.member}.{name}.{start}-{end - 1}.jsonl"


@dataclass(frozen=True, slots=True)
class Row:
    """One entry as it is listed; `entry` is None where its bytes lie in a sealed file."""

    seq: int
    type: str
    time: str
    entry: Entry | None


@dataclass(frozen=True, slots=True)
class Proof:
    """An entry with its C2SP tlog-proof, as text.

    size       entries under the checkpoint that it is proven against
    witnessed  whether the regulator has cosigned that checkpoint
    """

    text: str
    size: int
    witnessed: bool


@dataclass(frozen=True, slots=True)
class Proven:
    """An entry that a proof shows to be in a member's log, under a cosigned head."""

    entry: Entry
    head: Head


@contextmanager
def open_ledger(home: Path) -> Iterator[Ledger]:
    """Open the ledger of the node or bank in `home`.

    raises   LedgerError, SettingsError, CharterError, StorageError
    """
    role, settings = _settings(home)
    charter = _charter(home, settings)
    engine = open_existing(home / _ROLES[role][1])
    try:
        yield Ledger(settings.member, role, charter, engine)
    finally:
        engine.dispose()


def pinned_charter(home: Path) -> Charter:
    """Return the charter in force in a member's folder, under the key that is pinned there."""
    return _charter(home, _settings(home)[1])


def _settings(home: Path) -> tuple[Role, _Settings]:
    for role, (file, _) in _ROLES.items():
        if (home / file).is_file():
            return role, read_settings(home / file, _Settings)
    raise LedgerError(
        f"{home} is the folder of no node or bank: name one with --home.",
        f"{home} 不是节点或银行的目录：请用 --home 指定。",
    )


def _charter(home: Path, settings: _Settings) -> Charter:
    return CharterSource(home / "charter.json", bytes.fromhex(settings.regulator_key)).current()


def rows(
    connection: Connection,
    log: StoredLog,
    *,
    kind: str | None = None,
    start: int = 0,
    last: int | None = None,
) -> Iterator[Row]:
    """Yield entries from `start` on, of one type if `kind` is given, the newest `last` of them."""
    query = select(_ENTRY.c.seq, _ENTRY.c.type, _ENTRY.c.time, _ENTRY.c.raw).where(
        _ENTRY.c.origin == log.origin, _ENTRY.c.seq >= start
    )
    if kind is not None:
        query = query.where(_ENTRY.c.type == kind)
    if last is not None:
        newest = query.order_by(_ENTRY.c.seq.desc()).limit(last).subquery()
        query = select(newest.c.seq, newest.c.type, newest.c.time, newest.c.raw)
        query = query.order_by(newest.c.seq)
    else:
        query = query.order_by(_ENTRY.c.seq)
    for row in connection.execute(query.execution_options(yield_per=1000)):
        yield Row(row.seq, row.type, row.time, parse(row.raw) if row.raw else None)


def entry_at(connection: Connection, log: StoredLog, seq: int) -> Entry:
    """Return entry `seq`, also out of a sealed file; raises LedgerError, ArchiveMissingError."""
    size = log.size(connection)
    if not 0 <= seq < size:
        raise LedgerError(
            f"{log.origin} has the entries 0 to {size - 1}, there is no entry {seq}.",
            f"{log.origin} 的条目为 0 至 {size - 1}，没有条目 {seq}。",
        )
    return log.entry(connection, seq)


def prove(connection: Connection, log: StoredLog, seq: int) -> Proof:
    """Return a proof of entry `seq` that holds the entry itself.

    It leads to the newest checkpoint that the regulator has cosigned, or, where that does not
    cover the entry yet, to the newest one that the member has signed.
    raises   LedgerError: no such entry, or no checkpoint covers it; ArchiveMissingError
    """
    entry = entry_at(connection, log, seq)
    head = log.newest_cosigned(connection)
    if head is not None and head.size > seq:
        size, note, witnessed = head.size, head.note, True
    else:
        row = connection.execute(
            select(_CHECKPOINT.c.size, _CHECKPOINT.c.note)
            .where(_CHECKPOINT.c.origin == log.origin, _CHECKPOINT.c.size > seq)
            .order_by(_CHECKPOINT.c.size.desc())
            .limit(1)
        ).one_or_none()
        if row is None:
            raise LedgerError(
                f"Entry {seq} is under no checkpoint yet: let the member reach the regulator.",
                f"条目 {seq} 尚未纳入任何检查点：请让该成员连接监管方。",
            )
        size, note, witnessed = row.size, row.note, False
    path = log.inclusion_proof(connection, seq, size)
    return Proof(format_proof(seq, path, note, entry.raw), size, witnessed)


def read_proof(path: Path) -> str | None:
    """Return the text of a proof file; None where it is something else. Raises LedgerError."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_PROOF_BYTES + 1)
    except OSError as reason:
        raise LedgerError(
            f"{path} cannot be read ({reason.strerror}).",
            f"无法读取 {path}（{reason.strerror}）。",
        ) from reason
    text = data.decode(errors="replace")
    return text if text.startswith(PROOF_HEADER) else None


def check_proof(proof: str, charter: Charter) -> Proven:
    """Return the entry that a proof of `prove` shows, judged by the charter alone.

    raises   CheckpointError: malformed, of no member's log, or not cosigned by the regulator;
             EntryError; ProofError: the entry is not in that log
    """
    parsed = parse_proof(proof)
    head = open_head(parsed.checkpoint, charter)
    entry, checkpoint = parse(parsed.extra), head.cosigned.checkpoint
    check_inclusion(entry.raw, parsed.index, checkpoint.size, parsed.path, checkpoint.root)
    if (entry.seq, entry.by) != (parsed.index, head.member.id):
        raise LedgerError(
            f"The entry names another place or member than the log that holds it: {head.member.id}"
            " has logged what is not its own; tell the regulator.",
            f"该条目所写的位置或成员与其所在日志不符：{head.member.id} 记录了不属于自己的内容；"
            "请告知监管方。",
        )
    return Proven(entry, head)


def seal(
    ledger: Ledger,
    connection: Connection,
    name: LogName,
    folder: Path,
    start: int,
    end: int | None,
) -> Path:
    """Write a log's entries start .. end-1 (default: to the newest cosigned) as a sealed part.

    raises   LedgerError: no such entries, or not cosigned yet; FileError; ArchiveMissingError
    """
    log = ledger.log(name)
    head = log.newest_cosigned(connection)
    size = 0 if head is None else head.size
    end = size if end is None else end
    if head is None or not start < end <= size:
        raise LedgerError(
            f"The regulator has cosigned {size} entries of {log.origin}: a part lies within them.",
            f"监管方已见证 {log.origin} 的 {size} 条：只能封存其中的部分。",
        )
    path = ledger.part(folder, name, start, end)
    make_folder(path.parent)
    seal_part(connection, log, start, end, head, path)
    return path
