"""Put back what a restored backup has lost: a member's missing entries, from the mirror."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection

from hejin_trust.database import reading
from hejin_trust.entries import Entry, parse
from hejin_trust.errors import HejinError
from hejin_trust.home import MemberHome
from hejin_trust.log import Log
from hejin_trust.mirroring import LogStanding, Mirror
from hejin_trust.one_history import check_history
from hejin_trust.recovery import Recovery


class RecoveryError(HejinError):
    """The log cannot be put back as the regulator approved it."""

    code = "recovery-refused"


@dataclass(frozen=True, slots=True)
class Missing:
    """What one log lacks.

    size      entries of the log before the recovery
    entries   leaves size .. approved size
    approved  what the log must lead to
    """

    log: Log
    size: int
    entries: tuple[Entry, ...]
    approved: LogStanding


def fetch_missing(home: MemberHome, mirror: Mirror, approval: Recovery) -> tuple[Missing, Missing]:
    """Return what the release log and the internal log lack, in this order.

    raises   RecoveryError if the approval is not for this member or not of the mirror's present
             state, or nothing is missing; FrozenError for a fork; EntryError; PeerUnreachable
    """
    if (approval.consortium, approval.member) != (home.charter.consortium, home.member_id):
        raise RecoveryError(
            f"the approval is for {approval.member} of {approval.consortium}: ask the regulator for"
            " one of this member",
            f"该批准针对 {approval.consortium} 的 {approval.member}：请向监管方索取本成员的批准",
        )
    if set(approval.logs) != set(mirror.standing()):
        raise RecoveryError(
            "the regulator holds other logs by now than it approved: ask it for a new approval",
            "监管方现持有的日志与批准时不同：请重新索取批准",
        )
    approved = {standing.origin: standing for standing in approval.logs}
    found = [_missing(home, mirror, log, approved) for log in (home.release_log, home.internal_log)]
    release, internal = found
    if not release.entries and not internal.entries:
        raise RecoveryError(
            "nothing is missing: this member's logs reach as far as the mirror's; start `serve`",
            "没有缺失：本成员的日志与镜像一样完整；请直接启动 `serve`",
        )
    return release, internal


def _missing(
    home: MemberHome, mirror: Mirror, log: Log, approved: dict[str, LogStanding]
) -> Missing:
    goal = approved.get(log.origin, LogStanding(log.origin, 0, b""))
    with reading(home.database) as connection:
        size = log.size(connection)
        # A log that has gone on by itself cannot be put back; one that is shorter can.
        if size >= goal.size:
            check_history(log.origin, size, goal, partial(log.root, connection))
    entries: list[Entry] = []
    while size + len(entries) < goal.size:
        leaves = mirror.entries(log.origin, size + len(entries))
        if not leaves:
            raise RecoveryError(
                f"the mirror gave {size + len(entries)} of {goal.size} entries of {log.origin}: ask"
                " the regulator to check its mirror",
                f"镜像仅提供 {log.origin} 的 {goal.size} 条中的 {size + len(entries)} 条："
                "请监管方检查其镜像",
            )
        entries += [parse(leaf) for leaf in leaves]
    return Missing(log, size, tuple(entries), goal)


def put_back(connection: Connection, missing: Missing) -> None:
    """Append the missing entries, in the caller's transaction.

    raises   RecoveryError if the log then is not the one that the regulator approved: it had
             gone on by itself, or the entries are not the mirror's; nothing may be committed
    """
    log, goal = missing.log, missing.approved
    fits = [entry.seq for entry in missing.entries] == list(range(missing.size, goal.size))
    if fits:
        log.extend(connection, missing.entries)
    if not fits or (goal.size and log.root(connection, goal.size) != goal.root):
        raise RecoveryError(
            f"the log {log.origin} does not lead to what the regulator holds: it went on by itself"
            " after the backup was restored; restore the backup anew, or move a database that was"
            " begun anew out of the way, and run `recover` first",
            f"日志 {log.origin} 无法接续监管方所持内容：还原备份后日志又自行增长；"
            "请重新还原备份（或移走新建的数据库），并首先执行 `recover`",
        )


def log_recovery(connection: Connection, missing: Missing, digest: str, reason: str) -> None:
    """Append the `recover` entry; digest: SHA-256 of the approval's signed body, hex."""
    body = {"approval": digest, "reason": reason, "size": missing.size}
    missing.log.append(connection, "recover", body)
