"""Is the mirror whole? Its newest heads at every start, all that it holds on request."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from sqlalchemy import Connection

from hejin_regulator.mirror import LogMirror
from hejin_trust.canonical import time_text
from hejin_trust.checkpoint import Checkpoint, CheckpointError
from hejin_trust.cosignature import open_cosigned, witness_name
from hejin_trust.database import reading
from hejin_trust.errors import HejinError
from hejin_trust.members import Member
from hejin_trust.merkle import Frontier
from hejin_trust.stored_log import StoredCosignature, StoredLog


class MirrorDamagedError(HejinError):
    """The mirror does not hold what it has cosigned."""

    code = "mirror-damaged"


def check_newest(mirror: LogMirror) -> None:
    """Raise MirrorDamagedError unless each log's newest cosigned head fits the stored tree."""
    with reading(mirror.engine) as connection:
        for member in mirror.charters.current().members:
            for log in mirror.logs_of(member):
                newest = log.newest_cosigned(connection)
                size = log.size(connection)
                if (0 if newest is None else newest.size) != size:
                    _damaged(log, "its newest cosigned size is not its size", "条数与最新见证不符")
                if newest is not None:
                    root = log.root(connection, size)
                    _check_head(mirror, member, log, newest, root)


def check_whole(mirror: LogMirror, progress: Callable[[int], None]) -> int:
    """Rebuild every tree and compare every cosigned head with it; return the entries checked.

    progress  told the number of entries done, now and then
    raises    MirrorDamagedError, LogError
    """
    check_newest(mirror)
    done = 0
    with reading(mirror.engine) as connection:
        for member in mirror.charters.current().members:
            for log in mirror.logs_of(member):
                done = _check_log(mirror, connection, member, log, done, progress)
    return done


def _check_log(
    mirror: LogMirror,
    connection: Connection,
    member: Member,
    log: StoredLog,
    done: int,
    progress: Callable[[int], None],
) -> int:
    heads = log.cosigned(connection)
    head = next(heads, None)
    before = ""

    def check(tree: Frontier) -> None:
        nonlocal head, before
        if head is None or head.size != tree.size:
            return
        _check_head(mirror, member, log, head, tree.root())
        if head.time < before:
            _damaged(log, "its cosignatures go back in time", "见证时间倒退")
        before, head = head.time, next(heads, None)

    tree = Frontier()
    check(tree)
    for tree in log.rebuilt(connection, member.id):
        check(tree)
        if tree.size % 1000 == 0:
            progress(done + tree.size)
    if head is not None:
        _damaged(log, "its end was cut off", "末尾被截断")
    return done + tree.size


def _check_head(
    mirror: LogMirror, member: Member, log: StoredLog, head: StoredCosignature, root: bytes
) -> None:
    charter = mirror.charters.current()
    name = witness_name(charter.consortium, charter.regulator.id)
    try:
        cosigned = open_cosigned(
            head.note, log.origin, member.log_key, name, charter.regulator.log_key
        )
    except CheckpointError as reason:
        raise _error(log, f"its head of {head.size} is altered", "检查点被改动") from reason
    told = (Checkpoint(log.origin, head.size, root), head.time)
    if told != (cosigned.checkpoint, time_text(cosigned.time)):
        _damaged(log, f"its head of {head.size} does not fit its entries", "检查点与条目不符")


def _error(log: StoredLog, en: str, zh: str) -> MirrorDamagedError:
    return MirrorDamagedError(
        f"the mirror's copy of {log.origin} is damaged: {en}; stop the regulator and put back a"
        " backup of mirror.db: members send again what it lacks",
        f"镜像中的 {log.origin} 已损坏：{zh}；请停止监管端并还原 mirror.db 的备份："
        "成员会重新发送缺少的部分",
    )


def _damaged(log: StoredLog, en: str, zh: str) -> NoReturn:
    raise _error(log, en, zh)
