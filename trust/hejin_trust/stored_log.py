"""An append-only log as it is stored: its tree, its proofs, and whether it is whole. No key."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import (
    Column,
    Connection,
    Integer,
    LargeBinary,
    MetaData,
    Select,
    Table,
    Text,
    bindparam,
    func,
    insert,
    select,
    text,
)
from sqlalchemy.dialects.sqlite import insert as insert_or

from hejin_trust.archived import ArchivedLeaves, archive_table, archives
from hejin_trust.canonical import time_text
from hejin_trust.entries import Entry, parse
from hejin_trust.errors import HejinError
from hejin_trust.merkle import (
    Frontier,
    Subtrees,
    consistency_from,
    inclusion_from,
    leaf_hash,
    node_hash,
    root_from,
)

if TYPE_CHECKING:  # it names its witness as a log is named
    from hejin_trust.cosignature import Cosigned

T = TypeVar("T")


class LogError(HejinError):
    """The stored log is damaged or was altered."""

    code = "log-damaged"


@dataclass(frozen=True, slots=True)
class LogTables:
    """The tables that hold any number of logs of one member, told apart by origin.

    entry       every leaf's bytes, with its hash and the two fields that are searched for; no
                bytes (b"") where they were moved to a sealed file
    node        hashes of complete subtrees, level >= 1: root and proofs cost O(log n)
    checkpoint  every signed tree head that was made
    cosigned    every tree head with the regulator's cosignature, the first of its size
    archive     where the sealed files lie
    """

    entry: Table
    node: Table
    checkpoint: Table
    cosigned: Table
    archive: Table


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
        cosigned=Table(
            "log_cosigned",
            metadata,
            Column("origin", Text, primary_key=True),
            Column("size", Integer, primary_key=True),
            Column("time", Text, nullable=False),
            Column("note", Text, nullable=False),
        ),
        archive=archive_table(metadata),
    )


TABLES = log_tables(MetaData())
_ENTRY, _NODE, _COSIGNED = TABLES.entry, TABLES.node, TABLES.cosigned

# Built once: making these for each append would cost more than running them.
_LAST = (
    select(_ENTRY.c.seq, _ENTRY.c.time, _ENTRY.c.leaf)
    .where(_ENTRY.c.origin == bindparam("origin"))
    .order_by(_ENTRY.c.seq.desc())
    .limit(1)
)
_SIZE = select(func.max(_ENTRY.c.seq)).where(_ENTRY.c.origin == bindparam("origin"))
_LEAVES = (
    select(_ENTRY.c.seq, _ENTRY.c.leaf, _ENTRY.c.raw)
    .where(_ENTRY.c.origin == bindparam("origin"))
    .order_by(_ENTRY.c.seq)
    .execution_options(yield_per=1000)
)
_LEAVES_FROM = _LEAVES.where(_ENTRY.c.seq >= bindparam("start"))
_LEAVES_BETWEEN = _LEAVES_FROM.where(_ENTRY.c.seq < bindparam("end"))
_LEAVES_OF_TYPE = _LEAVES.where(_ENTRY.c.type.in_(bindparam("types", expanding=True)))
# Asked for as [[level, position], ...] in JSON: one statement for the dozens that a proof takes.
_SUBTREES = text(
    """SELECT coalesce(hash, leaf) FROM (
         SELECT key, json_extract(value, '$[0]') AS at, json_extract(value, '$[1]') AS place
         FROM json_each(:asked)
       )
       LEFT JOIN log_node AS node
         ON node.origin = :origin AND node.level = at AND node.position = place
       LEFT JOIN log_entry AS entry ON at = 0 AND entry.origin = :origin AND entry.seq = place
       ORDER BY key"""
)
_KEEP_COSIGNED = insert_or(_COSIGNED).on_conflict_do_nothing()
_COSIGNED_OF = select(_COSIGNED.c.size, _COSIGNED.c.time, _COSIGNED.c.note).where(
    _COSIGNED.c.origin == bindparam("origin")
)
_NEWEST_COSIGNED = _COSIGNED_OF.order_by(_COSIGNED.c.size.desc()).limit(1)
_COSIGNED_FROM = (
    _COSIGNED_OF.where(_COSIGNED.c.size >= bindparam("start"))
    .order_by(_COSIGNED.c.size)
    .execution_options(yield_per=1000)
)


@dataclass(frozen=True, slots=True)
class Last:
    """What the next entry goes on from: the last one's index, time (RFC 3339) and leaf hash."""

    seq: int
    time: str
    leaf: bytes


@dataclass(frozen=True, slots=True)
class StoredCosignature:
    """A cosigned tree head as `log_cosigned` holds it.

    time   when it was cosigned, by the regulator's clock, RFC 3339
    note   the signed note with the log's signature and the cosignature
    """

    size: int
    time: str
    note: str


class StoredLog:
    """One RFC 6962 log in the tables of `log_tables`.

    Every method works on the caller's connection: what it stores is kept or rolled back together
    with the rest of the caller's transaction. Storing needs a `writing` transaction.
    Safe to use from several threads and processes.
    """

    def __init__(self, origin: str) -> None:
        """Open the log `origin`; nothing is read yet."""
        self.origin = origin

    def extend(self, connection: Connection, entries: Sequence[Entry]) -> None:
        """Store entries with their exact bytes; raises ValueError unless they continue the log.

        The caller has checked who wrote them and that their time does not go back.
        """
        self._store(connection, entries, self.last(connection))

    def last(self, connection: Connection) -> Last | None:
        """Return what there is of the last entry; None if there is no entry."""
        row = connection.execute(_LAST, {"origin": self.origin}).one_or_none()
        return None if row is None else Last(*row)

    def _store(
        self,
        connection: Connection,
        entries: Sequence[Entry],
        last: Last | None,
    ) -> None:
        size = 0 if last is None else last.seq + 1
        if [entry.seq for entry in entries] != list(range(size, size + len(entries))):
            raise ValueError(f"the entries do not continue the log at {size}")
        known = {} if last is None else {(0, last.seq): last.leaf}
        rows: list[dict[str, object]] = []
        nodes: list[dict[str, object]] = []
        for entry in entries:
            leaf = leaf_hash(entry.raw)
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

    def _completed(
        self, connection: Connection, seq: int, leaf: bytes, known: dict[tuple[int, int], bytes]
    ) -> Iterator[tuple[int, int, bytes]]:
        """Yield the subtrees (level, position, hash) that leaf `seq` completes; keep them."""
        level, position, digest = 0, seq, leaf
        known[level, position] = digest
        while position & 1:
            at = (level, position - 1)
            left = known[at] if at in known else self._subtrees(connection, [at])[at]
            level, position, digest = level + 1, position >> 1, node_hash(left, digest)
            known[level, position] = digest
            yield level, position, digest

    def _subtrees(
        self, connection: Connection, asked: Sequence[tuple[int, int]]
    ) -> dict[tuple[int, int], bytes]:
        """Return the hashes of complete subtrees (level, position); raises LogError."""
        rows = connection.execute(_SUBTREES, {"origin": self.origin, "asked": json.dumps(asked)})
        found: dict[tuple[int, int], bytes] = dict(zip(asked, rows.scalars(), strict=True))
        for (level, position), digest in found.items():
            if digest is None:
                raise self._damaged(f"subtree {level}/{position} is missing", "缺少树节点")
        return found

    def _damaged(self, en: str, zh: str) -> LogError:
        return LogError(
            f"The log {self.origin} is damaged: {en}. Stop, and restore the database.",
            f"日志 {self.origin} 已损坏：{zh}。请停止使用并恢复数据库。",
        )

    def size(self, connection: Connection) -> int:
        """Return the number of entries."""
        last = connection.execute(_SIZE, {"origin": self.origin}).scalar_one()
        return 0 if last is None else int(last) + 1

    def root(self, connection: Connection, size: int | None = None) -> bytes:
        """Return the root of the first `size` entries (all of them by default)."""
        size = self.size(connection) if size is None else size
        return self._of_tree(connection, lambda tree: root_from(size, tree))

    def frontier(self, connection: Connection, size: int) -> Frontier:
        """Return the right edge of the tree of the first `size` entries, to go on from."""
        return self._of_tree(connection, lambda tree: Frontier.resumed(size, tree))

    def inclusion_proof(self, connection: Connection, seq: int, size: int) -> list[bytes]:
        """Return the path of entry `seq` in the tree of the first `size` entries, bottom-up."""
        return self._of_tree(connection, lambda tree: inclusion_from(seq, size, tree))

    def consistency_proof(self, connection: Connection, old: int, new: int) -> list[bytes]:
        """Return the proof that the first `new` entries extend the first `old`."""
        return self._of_tree(connection, lambda tree: consistency_from(old, new, tree))

    def _of_tree(self, connection: Connection, make: Callable[[Subtrees], T]) -> T:
        """Return what `make` makes of stored subtrees: it is run to see which, then for good."""
        asked: dict[tuple[int, int], bytes] = {}
        make(lambda *at: asked.setdefault(at, b""))
        found = self._subtrees(connection, list(asked))
        return make(lambda *at: found[at])

    def entries(
        self, connection: Connection, start: int = 0, end: int | None = None
    ) -> Iterator[bytes]:
        """Yield the leaves start..end-1 as bytes, streamed.

        raises   ArchiveMissingError, ArchiveError where the bytes lie in a sealed file
        """
        query = _LEAVES_FROM if end is None else _LEAVES_BETWEEN
        yield from self._leaves(connection, query, start=start, end=end)

    def of_type(self, connection: Connection, *entry_types: str) -> Iterator[Entry]:
        """Yield the entries of the given types in order, streamed; raises as `entries` does."""
        yield from map(parse, self._leaves(connection, _LEAVES_OF_TYPE, types=entry_types))

    def entry(self, connection: Connection, seq: int) -> Entry:
        """Return entry `seq`; raises LogError if there is none, else as `entries` does."""
        found = list(self._leaves(connection, _LEAVES_BETWEEN, start=seq, end=seq + 1))
        if not found:
            raise self._damaged(f"entry {seq} is missing", f"缺少条目 {seq}")
        return parse(found[0])

    def _leaves(
        self, connection: Connection, query: Select[tuple[int, bytes, bytes]], **chosen: object
    ) -> Iterator[bytes]:
        """Yield the bytes of the rows that `query` selects, wherever they lie."""
        with ExitStack() as files:
            archived: ArchivedLeaves | None = None
            for row in connection.execute(query, {"origin": self.origin, **chosen}):
                if row.raw:
                    yield row.raw
                    continue
                if archived is None:
                    known = archives(connection, self.origin)
                    archived = files.enter_context(ArchivedLeaves(self.origin, known))
                yield archived.leaf(row.seq, row.leaf)

    def keep_cosigned(self, connection: Connection, cosigned: Cosigned) -> None:
        """Store a cosigned tree head; the first one of a size is kept."""
        connection.execute(
            _KEEP_COSIGNED,
            {
                "origin": self.origin,
                "size": cosigned.checkpoint.size,
                "time": time_text(cosigned.time),
                "note": cosigned.note,
            },
        )

    def newest_cosigned(self, connection: Connection) -> StoredCosignature | None:
        """Return the cosigned tree head of the largest size."""
        row = connection.execute(_NEWEST_COSIGNED, {"origin": self.origin}).one_or_none()
        return None if row is None else StoredCosignature(*row)

    def cosigned(self, connection: Connection, start: int = 0) -> Iterator[StoredCosignature]:
        """Yield the cosigned tree heads of sizes >= start, smallest first, streamed."""
        for row in connection.execute(_COSIGNED_FROM, {"origin": self.origin, "start": start}):
            yield StoredCosignature(*row)

    def rebuilt(self, connection: Connection, by: str) -> Iterator[Frontier]:
        """Rebuild the tree from the leaves, compared with all that is stored; raises LogError.

        Yields the tree as it grows, entry by entry: each in order, well formed, of the member
        `by`, of a time that never goes back, and under every stored hash. Of an entry in a sealed
        file, the hash alone is looked at.
        """
        frontier, last_time = Frontier(), ""
        nodes, archived = self._nodes(connection), archives(connection, self.origin)
        archived_end = archived[-1].end if archived else 0
        query = (
            select(_ENTRY)
            .where(_ENTRY.c.origin == self.origin)
            .order_by(_ENTRY.c.seq)
            .execution_options(yield_per=1000)
        )
        for row in connection.execute(query):
            seq = frontier.size
            if row.raw or seq >= archived_end:
                entry = parse(row.raw)
                told = (row.type, row.time, row.leaf)
                if told != (entry.type, entry.time, leaf_hash(row.raw)):
                    raise self._damaged(f"entry {seq} was altered", f"条目 {seq} 被改动")
                if (entry.seq, entry.by) != (seq, by):
                    raise self._damaged(f"entry {seq} is out of place", f"条目 {seq} 位置不对")
            if row.seq != seq or row.time < last_time:
                raise self._damaged(f"entry {seq} is out of place", f"条目 {seq} 位置不对")
            last_time = row.time
            for completed in frontier.append(row.leaf):
                if next(nodes, None) != completed:
                    raise self._damaged(
                        f"the tree differs at entry {seq}", f"树在条目 {seq} 处不符"
                    )
            yield frontier
        if next(nodes, None) is not None:
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
