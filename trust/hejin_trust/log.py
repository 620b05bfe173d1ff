"""A member's append-only log, kept in its own database so that entries share its transactions."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import (
    Column,
    Connection,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    bindparam,
    func,
    insert,
    select,
)

from hejin_trust import canonical
from hejin_trust.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from hejin_trust.clock import Clock, now
from hejin_trust.entries import SALT_BYTES, Body, Entry, build, parse
from hejin_trust.errors import HejinError
from hejin_trust.keys import SigningKey
from hejin_trust.merkle import (
    Frontier,
    consistency_from,
    inclusion_from,
    leaf_hash,
    node_hash,
    root_from,
)

#: A clock may be set back this far (NTP corrections); the entry then takes the last one's time.
CLOCK_TOLERANCE = timedelta(seconds=120)


class LogError(HejinError):
    """The stored log is damaged or was altered."""

    code = "log-damaged"


class ClockError(HejinError):
    """The clock stands well before the last entry of the log."""

    code = "clock-went-back"


@dataclass(frozen=True, slots=True)
class LogTables:
    """The tables that hold any number of logs of one member, told apart by origin.

    entry       every leaf's bytes, with its hash and the two fields that are searched for
    node        hashes of complete subtrees, level >= 1: root and proofs cost O(log n)
    checkpoint  every signed tree head that was made
    """

    entry: Table
    node: Table
    checkpoint: Table


def log_tables(metadata: MetaData) -> LogTables:
    """Define the log's tables in a role's metadata (for its first migration)."""
    return LogTables(
        entry=Table(
            "log_entry",
            metadata,
            Column("origin", Text, primary_key=True),
            Column("seq", Integer, primary_key=True),
            Column("type", Text, nullable=False),
            Column("time", Text, nullable=False),
            Column("leaf", LargeBinary(32), nullable=False),
            Column("raw", LargeBinary, nullable=False),
        ),
        node=Table(
            "log_node",
            metadata,
            Column("origin", Text, primary_key=True),
            Column("level", Integer, primary_key=True),
            Column("position", Integer, primary_key=True),
            Column("hash", LargeBinary(32), nullable=False),
        ),
        checkpoint=Table(
            "log_checkpoint",
            metadata,
            Column("origin", Text, primary_key=True),
            Column("size", Integer, primary_key=True),
            Column("note", Text, nullable=False),
        ),
    )


_TABLES = log_tables(MetaData())
_ENTRY, _NODE, _CHECKPOINT = _TABLES.entry, _TABLES.node, _TABLES.checkpoint

# Built once: making these for each append would cost more than running them.
_LAST = (
    select(_ENTRY.c.seq, _ENTRY.c.time, _ENTRY.c.leaf)
    .where(_ENTRY.c.origin == bindparam("origin"))
    .order_by(_ENTRY.c.seq.desc())
    .limit(1)
)
_LEAF = select(_ENTRY.c.leaf).where(
    _ENTRY.c.origin == bindparam("origin"), _ENTRY.c.seq == bindparam("position")
)
_SUBTREE = select(_NODE.c.hash).where(
    _NODE.c.origin == bindparam("origin"),
    _NODE.c.level == bindparam("level"),
    _NODE.c.position == bindparam("position"),
)


def release_origin(consortium: str, role: str, member: str) -> str:
    """Return the origin of a member's release log; the internal log's adds `/internal`."""
    return f"hejin/{consortium}/{role}/{member}"


def internal_origin(consortium: str, role: str, member: str) -> str:
    """Return the origin of a member's internal log."""
    return f"{release_origin(consortium, role, member)}/internal"


class Log:
    """One RFC 6962 log.

    Every method works on the caller's connection: what it appends is kept or rolled back
    together with the rest of the caller's transaction. Appending needs a `writing` transaction.
    Safe to use from several threads and processes.
    """

    def __init__(self, origin: str, by: str, key: SigningKey, clock: Clock = now) -> None:
        """Open the log `origin` that member `by` keeps and signs with `key`."""
        self.origin = origin
        self.by = by
        self._key = key
        self._clock = clock

    @property
    def public_key(self) -> bytes:
        """The Ed25519 key that checkpoints are verified with, 32 bytes."""
        return self._key.public

    def append(self, connection: Connection, entry_type: str, body: Body) -> Entry:
        """Add one entry and return it; raises EntryError or ClockError."""
        return self.append_many(connection, [(entry_type, body)])[0]

    def append_many(
        self, connection: Connection, bodies: Iterable[tuple[str, Body]]
    ) -> list[Entry]:
        """Add (type, body) entries in order; raises EntryError or ClockError, then adds none."""
        seq, time, leaf = self._next(connection)
        known = {(0, seq - 1): leaf}
        entries: list[Entry] = []
        rows: list[dict[str, object]] = []
        nodes: list[dict[str, object]] = []
        for entry_type, body in bodies:
            salt = secrets.token_bytes(SALT_BYTES)
            entry = build(entry_type, seq + len(entries), time, self.by, body, salt)
            leaf = leaf_hash(entry.raw)
            entries.append(entry)
            rows.append(
                {
                    "origin": self.origin,
                    "seq": entry.seq,
                    "type": entry.type,
                    "time": entry.time,
                    "leaf": leaf,
                    "raw": entry.raw,
                }
            )
            nodes += [
                {"origin": self.origin, "level": level, "position": position, "hash": digest}
                for level, position, digest in self._completed(connection, entry.seq, leaf, known)
            ]
        if rows:
            connection.execute(insert(_ENTRY), rows)
        if nodes:
            connection.execute(insert(_NODE), nodes)
        return entries

    def _completed(
        self, connection: Connection, seq: int, leaf: bytes, known: dict[tuple[int, int], bytes]
    ) -> Iterator[tuple[int, int, bytes]]:
        """Yield the subtrees (level, position, hash) that leaf `seq` completes; keep them."""
        level, position, digest = 0, seq, leaf
        known[level, position] = digest
        while position & 1:
            at = (level, position - 1)
            left = known[at] if at in known else self._subtree(connection, *at)
            level, position, digest = level + 1, position >> 1, node_hash(left, digest)
            known[level, position] = digest
            yield level, position, digest

    def _next(self, connection: Connection) -> tuple[int, datetime, bytes]:
        """Return the next leaf index, its time (never before the last one's), the last leaf."""
        last = connection.execute(_LAST, {"origin": self.origin}).one_or_none()
        time = self._clock()
        if last is None:
            return 0, time, b""
        before = canonical.time_from(last.time)
        if before - time > CLOCK_TOLERANCE:
            raise ClockError(
                f"The clock says {canonical.time_text(time)}, but the last ledger entry is of "
                f"{last.time}: set the clock right.",
                f"系统时间 {canonical.time_text(time)} 早于账本最后一条 {last.time}：请校准时钟。",
            )
        return last.seq + 1, max(before, time), last.leaf

    def _subtree(self, connection: Connection, level: int, position: int) -> bytes:
        found: bytes | None = connection.execute(
            _SUBTREE if level else _LEAF,
            {"origin": self.origin, "level": level, "position": position},
        ).scalar_one_or_none()
        if found is None:
            raise self._damaged(f"subtree {level}/{position} is missing", "缺少树节点")
        return found

    def _damaged(self, en: str, zh: str) -> LogError:
        return LogError(
            f"The log {self.origin} is damaged: {en}. Stop, and restore the database.",
            f"日志 {self.origin} 已损坏：{zh}。请停止使用并恢复数据库。",
        )

    def size(self, connection: Connection) -> int:
        """Return the number of entries."""
        last = connection.execute(
            select(func.max(_ENTRY.c.seq)).where(_ENTRY.c.origin == self.origin)
        ).scalar_one()
        return 0 if last is None else int(last) + 1

    def root(self, connection: Connection, size: int | None = None) -> bytes:
        """Return the root of the first `size` entries (all of them by default)."""
        size = self.size(connection) if size is None else size
        return root_from(size, lambda *at: self._subtree(connection, *at))

    def checkpoint(self, connection: Connection) -> str:
        """Return the signed note of the log as it is now; the first one of a size is kept."""
        size = self.size(connection)
        stored: str | None = connection.execute(
            select(_CHECKPOINT.c.note).where(
                _CHECKPOINT.c.origin == self.origin, _CHECKPOINT.c.size == size
            )
        ).scalar_one_or_none()
        if stored is not None:
            return stored
        note = sign_checkpoint(self.origin, size, self.root(connection, size), self._key)
        connection.execute(insert(_CHECKPOINT).values(origin=self.origin, size=size, note=note))
        return note

    def inclusion_proof(self, connection: Connection, seq: int, size: int) -> list[bytes]:
        """Return the path of entry `seq` in the tree of the first `size` entries, bottom-up."""
        return inclusion_from(seq, size, lambda *at: self._subtree(connection, *at))

    def consistency_proof(self, connection: Connection, old: int, new: int) -> list[bytes]:
        """Return the proof that the first `new` entries extend the first `old`."""
        return consistency_from(old, new, lambda *at: self._subtree(connection, *at))

    def entries(
        self, connection: Connection, start: int = 0, end: int | None = None
    ) -> Iterator[bytes]:
        """Yield the leaves start..end-1 as bytes, streamed."""
        query = (
            select(_ENTRY.c.raw)
            .where(_ENTRY.c.origin == self.origin, _ENTRY.c.seq >= start)
            .order_by(_ENTRY.c.seq)
            .execution_options(yield_per=1000)
        )
        if end is not None:
            query = query.where(_ENTRY.c.seq < end)
        yield from connection.execute(query).scalars()

    def of_type(self, connection: Connection, *entry_types: str) -> Iterator[Entry]:
        """Yield the entries of the given types in order, streamed."""
        query = (
            select(_ENTRY.c.raw)
            .where(_ENTRY.c.origin == self.origin, _ENTRY.c.type.in_(entry_types))
            .order_by(_ENTRY.c.seq)
            .execution_options(yield_per=1000)
        )
        yield from map(parse, connection.execute(query).scalars())

    def entry(self, connection: Connection, seq: int) -> Entry:
        """Return entry `seq`; raises LogError if there is none."""
        raw: bytes | None = connection.execute(
            select(_ENTRY.c.raw).where(_ENTRY.c.origin == self.origin, _ENTRY.c.seq == seq)
        ).scalar_one_or_none()
        if raw is None:
            raise self._damaged(f"entry {seq} is missing", f"缺少条目 {seq}")
        return parse(raw)

    def verify(self, connection: Connection) -> None:
        """Rebuild the tree from the leaves and compare all that is stored; raises LogError.

        To be called at start: entries in order and well formed, times never going back, every
        stored hash, and every stored checkpoint signed by our key over the tree of its size.
        """
        notes = self._notes(connection)
        frontier, last_time = Frontier(), ""
        nodes = self._nodes(connection)
        self._check_note(notes.get(0), frontier)
        query = (
            select(_ENTRY)
            .where(_ENTRY.c.origin == self.origin)
            .order_by(_ENTRY.c.seq)
            .execution_options(yield_per=1000)
        )
        for row in connection.execute(query):
            entry, seq = parse(row.raw), frontier.size
            told = (row.seq, row.type, row.time, row.leaf)
            if told != (seq, entry.type, entry.time, leaf_hash(row.raw)):
                raise self._damaged(f"entry {seq} was altered", f"条目 {seq} 被改动")
            if (entry.seq, entry.by) != (seq, self.by) or entry.time < last_time:
                raise self._damaged(f"entry {seq} is out of place", f"条目 {seq} 位置不对")
            last_time = entry.time
            for completed in frontier.append(row.leaf):
                if next(nodes, None) != completed:
                    raise self._damaged(
                        f"the tree differs at entry {seq}", f"树在条目 {seq} 处不符"
                    )
            self._check_note(notes.get(frontier.size), frontier)
        if next(nodes, None) is not None or max(notes, default=0) > frontier.size:
            raise self._damaged("its end was cut off", "末尾被截断")

    def _nodes(self, connection: Connection) -> Iterator[tuple[int, int, bytes]]:
        """Yield the stored subtrees (level, position, hash) in the order appending made them."""
        last_leaf = (_NODE.c.position + 1).bitwise_lshift(_NODE.c.level)
        query = (
            select(_NODE.c.level, _NODE.c.position, _NODE.c.hash)
            .where(_NODE.c.origin == self.origin)
            .order_by(last_leaf, _NODE.c.level)
            .execution_options(yield_per=1000)
        )
        for row in connection.execute(query):
            yield row.level, row.position, row.hash

    def _notes(self, connection: Connection) -> dict[int, str]:
        rows = connection.execute(
            select(_CHECKPOINT.c.size, _CHECKPOINT.c.note).where(
                _CHECKPOINT.c.origin == self.origin
            )
        )
        return {row.size: row.note for row in rows}

    def _check_note(self, note: str | None, frontier: Frontier) -> None:
        if note is None:
            return
        stored = open_checkpoint(note, self.origin, self.public_key)
        if stored != Checkpoint(self.origin, frontier.size, frontier.root()):
            raise self._damaged(
                f"checkpoint {frontier.size} does not fit the entries",
                f"检查点 {frontier.size} 与条目不符",
            )
