"""Erase an enterprise: its rows leave the disk, its authorisations end, and the log says so.

    1. write all segments that have rows of it anew without them, and sync
    2. one transaction: revoke what it granted, log `erase`, swap the segments
    3. remove the old segments
    4. write the stored rows of open runs anew without its own

A crash before 2 changes nothing; after it, the same command, the next load and the next start of
the node do what is left. Rows that come later are dropped until the enterprise grants anew.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from hejin_node import erased
from hejin_node.consent import authorisations, pseudonym, revoke
from hejin_node.errors import NodeError, WarehouseError
from hejin_node.home import NodeHome
from hejin_node.pinned import SnapshotStore
from hejin_node.segments import bucket_of
from hejin_node.sources import Progress, silent
from hejin_trust.database import reading, writing

_LONGEST = 64

_log = structlog.get_logger(__name__)


class ErasureError(NodeError):
    """An enterprise cannot be erased as asked; nothing was changed."""

    code = "bad-erasure"


@dataclass(frozen=True, slots=True)
class Erasure:
    """What was erased.

    seq       the `erase` entry of the internal log; None if it was erased before, and nothing of
              it was left
    rows      that went, all kinds together
    segments  that were written anew
    revoked   the grants that ended with it
    runs      open runs whose stored rows lost its own
    """

    seq: int | None
    rows: int
    segments: int
    revoked: tuple[int, ...]
    runs: int


def erase(home: NodeHome, code: str, reason: str, progress: Progress = silent) -> Erasure:
    """Erase one enterprise.

    code     as it stands in the data
    reason   why, in a few words; it is logged, and may not name the enterprise
    progress called with (rows looked at, rows in all)
    raises   ErasureError, SegmentError, WarehouseError: nothing was changed
    """
    code = code.strip()
    if not 0 < len(code) <= _LONGEST:
        raise ErasureError(
            "Name the enterprise by its code, at most 64 characters.",
            "请以企业代码指明企业，至多 64 个字符。",
        )
    if not reason.strip() or code.casefold() in reason.casefold():
        raise ErasureError(
            "Give a reason in a few words that does not name the enterprise: the log keeps it.",
            "请简要说明原因且不得包含企业代码：原因将记入日志。",
        )
    name = pseudonym(home.pseudonym_key, code)
    with home.warehouse.without_enterprises(
        lambda one: one == code, bucket_of(code), progress
    ) as done:
        with reading(home.database) as connection:
            standing = any(
                grant.revoked_seq is None for grant in authorisations(connection, code=code)
            )
            known = name in erased.in_force(connection)
        revoked: tuple[int, ...] = ()
        seq = None
        if done.old or standing or not known:
            with writing(home.database) as connection:
                if standing:
                    revoked = revoke(connection, home.internal_log, reason, code=code)
                entry = home.internal_log.append(
                    connection, "erase", {"enterprise": name, "reason": reason}
                )
                erased.record(connection, entry, applied=True)
                done.swap(connection)
            seq = entry.seq
    runs = SnapshotStore(home).leave_out_erased()
    return Erasure(seq, done.rows_gone, len(done.old), revoked, runs)


def erase_again(home: NodeHome) -> int:
    """Erase what came back with a backup and was erased after it; return how many rows went.

    At the end of a recovery, and at each start of the node. Where segments are missing or damaged
    it is put off: the enterprises have no grant in force, so that nothing reads their rows.
    """
    with reading(home.database) as connection:
        names = erased.pending(connection)
    if not names:
        return 0
    gone = erased.Erased(home.pseudonym_key, names)
    try:
        with (
            home.warehouse.without_enterprises(gone.names) as done,
            writing(home.database) as connection,
        ):
            done.swap(connection)
            erased.mark_applied(connection)
    except WarehouseError as reason:
        _log.error("erasure-put-off", enterprises=len(names), code=reason.code)
        return 0
    return done.rows_gone
