"""Seal old entries into a file and let the database go of their bytes; their proofs stay.

Only what nobody needs any more goes, each rule by itself (`Limit`): entries below a checkpoint
that the regulator has cosigned, of budget periods that are over, before the first reservation
that has neither an end nor a receipt. The account, the receipts owed and the authorisations lie
in tables of their own; the mirror holds every entry besides.

The order keeps a crash from losing anything: the file is written and synced, read back and
verified; only then does one transaction note it and empty the bytes. Before that, the file is a
copy more; after it, the entries are read from the file (`hejin_trust.archived`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine, func, insert, select, update

from hejin_trust.archived import Archive, ArchiveError, archives
from hejin_trust.charter import Charter
from hejin_trust.database import reading, writing
from hejin_trust.entries import parse
from hejin_trust.files import make_folder
from hejin_trust.sealing import check_part, seal_part
from hejin_trust.stored_log import TABLES, StoredLog
from hejin_trust.text import Text

_ENTRY, _ARCHIVE = TABLES.entry, TABLES.archive
_ENDS: Final = frozenset({"void", "receipt"})
_LOOKED_UP: Final = ("plan", "recover")
"""What a serving bank looks for in its whole log: few and short, they stay in the database too."""


@dataclass(frozen=True, slots=True)
class Limit:
    """Entries below `end` may be archived; `why` says what keeps the next one."""

    end: int
    why: Text


@dataclass(frozen=True, slots=True)
class Archived:
    """What was done with one log: the new sealed file, if any, and what limited it."""

    archive: Archive | None
    limit: Limit


def archive(
    engine: Engine,
    log: StoredLog,
    charter: Charter,
    path_of: Callable[[int, int], Path],
    *,
    before: str | None = None,
    keep: int = 1,
) -> Archived:
    """Move a log's oldest entries into one sealed file, as far as every rule allows.

    charter  in force: its budget period is the one that runs
    path_of  says where the file of leaves start .. end-1 is to lie
    before   RFC 3339: only entries of earlier times; keep: the newest entries that stay, >= 1
    raises   FileError, ArchiveError, CheckpointError, StorageError: nothing was let go then
    """
    with reading(engine) as connection:
        start = archived_end(connection, log)
        limit = archivable(connection, log, charter, before=before, keep=keep)
        if limit.end <= start:
            return Archived(None, limit)
        head = log.newest_cosigned(connection)
        assert head is not None, "a rule asks for it"
        sealed = Archive(start, limit.end, path_of(start, limit.end))
        make_folder(sealed.path.parent)
        seal_part(connection, log, start, limit.end, head, sealed.path)
    part = check_part(sealed.path, charter)
    assert (part.origin, part.start, part.end) == (log.origin, start, limit.end)
    with writing(engine) as connection:
        _let_go(connection, log, sealed)
    return Archived(sealed, limit)


def archived_end(connection: Connection, log: StoredLog) -> int:
    """Return how many entries, from the first on, lie in sealed files."""
    known = archives(connection, log.origin)
    return known[-1].end if known else 0


def archivable(
    connection: Connection, log: StoredLog, charter: Charter, *, before: str | None, keep: int
) -> Limit:
    """Return how far the entries of a log may be archived, and what keeps the rest."""
    size = log.size(connection)
    head = log.newest_cosigned(connection)
    cosigned = 0 if head is None else head.size
    limits = [
        Limit(
            cosigned,
            Text(
                f"entry {cosigned} is not below a checkpoint that the regulator has cosigned",
                f"条目 {cosigned} 尚不在监管方见证过的检查点之内",
            ),
        ),
        Limit(
            _first_since(connection, log, charter.period_from, size),
            Text(
                f"the budget period since {charter.period_from} is running",
                f"自 {charter.period_from} 起的预算期尚未结束",
            ),
        ),
        Limit(
            max(size - keep, 0),
            Text(f"the newest {keep} entries stay", f"保留最新的 {keep} 条"),
        ),
        _first_open(connection, log, size),
    ]
    if before is not None:
        why = Text(f"later entries are of {before} or after", f"其后的条目不早于 {before}")
        limits.append(Limit(_first_since(connection, log, before, size), why))
    return min(limits, key=lambda limit: limit.end)


def move(engine: Engine, log: StoredLog, charter: Charter, folder: Path) -> list[Archive]:
    """Let a log's sealed files be read from `folder` from now on; return them.

    raises   ArchiveError, CheckpointError unless every one of them is there and whole
    """
    with reading(engine) as connection:
        known = archives(connection, log.origin)
    moved = [Archive(one.start, one.end, folder / one.path.name) for one in known]
    for one in moved:
        part = check_part(one.path, charter)
        if (part.origin, part.start, part.end) != (log.origin, one.start, one.end):
            raise ArchiveError(
                f"{one.path} holds other entries than its name says: look for the right file.",
                f"{one.path} 的内容与文件名不符：请找到正确的文件。",
            )
    with writing(engine) as connection:
        for one in moved:
            connection.execute(
                update(_ARCHIVE)
                .where(_ARCHIVE.c.origin == log.origin, _ARCHIVE.c.start == one.start)
                .values(path=str(one.path))
            )
    return moved


def _first_since(connection: Connection, log: StoredLog, moment: str, size: int) -> int:
    """Return the index of the first entry of a time >= `moment` (RFC 3339); `size` if none."""
    found: int | None = connection.execute(
        select(func.min(_ENTRY.c.seq)).where(_ENTRY.c.origin == log.origin, _ENTRY.c.time >= moment)
    ).scalar_one()
    return size if found is None else found


def _first_open(connection: Connection, log: StoredLog, size: int) -> Limit:
    """The first reservation without an end and a receipt: its entry goes out with each proof."""
    rows = connection.execute(
        select(_ENTRY.c.raw)
        .where(
            _ENTRY.c.origin == log.origin,
            _ENTRY.c.seq >= archived_end(connection, log),
            _ENTRY.c.type.in_(("reserve", *_ENDS)),
        )
        .order_by(_ENTRY.c.seq)
        .execution_options(yield_per=1000)
    )
    waiting: set[int] = set()
    for entry in map(parse, rows.scalars()):
        if entry.type == "reserve":
            waiting.add(entry.seq)
        else:
            ended = entry.body["reservation"]
            assert isinstance(ended, int)
            waiting.discard(ended)
    first = min(waiting, default=size)
    return Limit(
        first,
        Text(
            f"entry {first} is a reservation that has neither an end nor a receipt",
            f"条目 {first} 是尚无结果和回执的预留",
        ),
    )


def _let_go(connection: Connection, log: StoredLog, sealed: Archive) -> None:
    """Note where a sealed file lies, and empty the bytes that nobody looks up any more."""
    if archived_end(connection, log) != sealed.start:
        raise ArchiveError(
            f"Somebody else archived {log.origin} at the same time: {sealed.path} is not needed.",
            f"{log.origin} 同时被他人归档：不需要 {sealed.path}。",
        )
    connection.execute(
        insert(_ARCHIVE).values(
            origin=log.origin, start=sealed.start, stop=sealed.end, path=str(sealed.path)
        )
    )
    connection.execute(
        update(_ENTRY)
        .where(
            _ENTRY.c.origin == log.origin,
            _ENTRY.c.seq >= sealed.start,
            _ENTRY.c.seq < sealed.end,
            _ENTRY.c.type.not_in(_LOOKED_UP),
        )
        .values(raw=b"")
    )
