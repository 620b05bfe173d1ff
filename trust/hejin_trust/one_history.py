"""Whether a member's log and the mirror's copy of it are one history."""

from __future__ import annotations

from collections.abc import Callable

from hejin_trust.errors import HejinError
from hejin_trust.mirroring import LogStanding


class FrozenError(HejinError):
    """The regulator's mirror holds another history of this member's log."""

    code = "frozen"
    exit_code = 3


def check_history(log: str, size: int, held: LogStanding, root: Callable[[int], bytes]) -> None:
    """Raise FrozenError unless the mirror's copy is a beginning of the own log (LEDGER section 4).

    size   entries of the own log; root: the own log's root at a size up to that
    """
    if held.size > size:
        raise FrozenError(
            f"the log {log} has {size} entries here, the regulator holds {held.size}: the database"
            " was put back from a backup; nothing leaves until `recover` was run with the"
            " regulator's approval",
            f"日志 {log} 在本地有 {size} 条，监管方持有 {held.size} 条：数据库曾从备份还原；"
            "须凭监管方批准执行 `recover`，此前不会输出任何内容",
        )
    if held.size and root(held.size) != held.root:
        raise FrozenError(
            f"the log {log} differs from what the regulator holds of its first {held.size} entries:"
            " it was forked; restore the backup anew and run `recover` before anything else, or"
            " ask the regulator",
            f"日志 {log} 的前 {held.size} 条与监管方所持不同：日志已分叉；请重新还原备份并先执行"
            " `recover`，或咨询监管方",
        )
