"""V9: the account before and after every reservation, as the internal log has it, replays."""

from __future__ import annotations

from collections.abc import Iterator

from hejin_regulator.check_budget import Balance
from hejin_regulator.fields import number, rational, text
from hejin_regulator.findings import shown
from hejin_regulator.notebook import Notebook, place
from hejin_trust.entries import Body, Entry


class AccountCheck:
    """The `account` entries of an internal log, beside the reservations they follow.

    A node writes both in one transaction, so that they have one order: the two logs are read
    side by side. entries: the `account` entries as they are read.
    """

    def __init__(self, notes: Notebook, node: str, entries: Iterator[Entry]) -> None:
        self._notes, self._node, self._entries = notes, node, entries
        self._next = next(entries, None)

    def check(self, seq: int, balance: Balance) -> bool:
        """Compare the account of reservation `seq` with its replay; False if there is none."""
        while self._next is not None and _of(self._next) < seq:
            self._unknown(self._next)
            self._next = next(self._entries, None)
        entry = self._next
        if entry is None or _of(entry) != seq:
            self._notes.add(
                "V9",
                self._node,
                seq,
                "the internal log has no account entry for the reservation",
                "内部日志中没有该预留的记账条目",
            )
            return False
        self._next = next(self._entries, None)
        told = _balance(entry.body)
        if told != balance:
            self._notes.add(
                "V9",
                self._node,
                entry.seq,
                f"the account around reservation {seq} does not replay: it says "
                f"rho={shown(told.before)} before and {shown(told.after)} after, "
                f"the log leads to {shown(balance.before)} and {shown(balance.after)}",
                f"预留 {seq} 前后的账户无法重放：所记为 {shown(told.before)} 与 "
                f"{shown(told.after)}，按日志应为 {shown(balance.before)} 与 "
                f"{shown(balance.after)}",
                log="internal",
                evidence=(place(self._node, "release", seq),),
            )
        return True

    def finish(self) -> None:
        """Read the internal log to its end; what is left belongs to no reservation."""
        while self._next is not None:
            self._unknown(self._next)
            self._next = next(self._entries, None)

    def _unknown(self, entry: Entry) -> None:
        self._notes.add(
            "V9",
            self._node,
            entry.seq,
            f"reservation {_of(entry)} does not exist or was accounted for before",
            f"预留 {_of(entry)} 不存在或已记账",
            log="internal",
        )


def _of(entry: Entry) -> int:
    return number(entry.body, "reservation")


def _balance(body: Body) -> Balance:
    return Balance(
        period=text(body, "period"),
        before=rational(body, "spent_before"),
        after=rational(body, "spent_after"),
        plan_after=rational(body, "plan_spent_after"),
        bank_after=rational(body, "bank_spent_after"),
        alone_before=rational(body, "alone_before"),
        alone_after=rational(body, "alone_after"),
    )
