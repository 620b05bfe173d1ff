"""What one member may take of the mirror: a turn among its own messages, and disk by the hour."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Final

from hejin_trust.calls import Shares
from hejin_trust.channels import PeerUnreachable

MOST_TURNS: Final = 2
"""Messages of one member at the same time: one is worked on, one waits for it."""

MOST_AN_HOUR: Final = 1 << 30
"""Bytes of entries of one member: ten times the largest import of authorisations."""

_HOUR: Final = timedelta(hours=1)


class NotNowError(PeerUnreachable):
    """Nothing is wrong with a message, but the mirror takes it later."""

    code = "witness-busy"


class AllowanceError(NotNowError):
    """A member brought as many bytes as it may within an hour."""

    code = "witness-allowance"


class FairUse:
    """Counts each member's turns and bytes; safe to use from several threads."""

    def __init__(self) -> None:
        """Begin with nothing taken."""
        self._shares = Shares(MOST_TURNS)
        self._turns: dict[str, threading.Lock] = {}
        self._used: dict[str, tuple[float, datetime]] = {}

    @contextmanager
    def turn(self, member: str) -> Iterator[None]:
        """Let a member do one thing after the other; raises NotNowError, at once, if it waits."""
        if not self._shares.take(member):
            raise NotNowError(
                f"{member} has {MOST_TURNS} messages under way already: send it again",
                f"{member} 已有 {MOST_TURNS} 条消息在处理：请稍后重新发送",
            )
        try:
            with self._turns.setdefault(member, threading.Lock()):
                yield
        finally:
            self._shares.give_back(member)

    def check(self, member: str, size: int, at: datetime) -> None:
        """Raise AllowanceError unless a member may bring `size` bytes more at a time.

        What was brought is forgotten steadily, within an hour of the full allowance.
        """
        if self._left(member, at) < size:
            raise AllowanceError(
                f"{member} brought {MOST_AN_HOUR >> 20} MiB of entries within an hour, the most of"
                " one member: the rest is taken little by little",
                f"{member} 一小时内提交的条目已达单个成员的上限 {MOST_AN_HOUR >> 20} MiB："
                "其余部分将逐步接收",
            )

    def count(self, member: str, size: int, at: datetime) -> None:
        """Count what was stored; in the member's turn."""
        self._used[member] = (MOST_AN_HOUR - self._left(member, at) + size, at)

    def _left(self, member: str, at: datetime) -> float:
        used, since = self._used.get(member, (0.0, at))
        return MOST_AN_HOUR - max(0.0, used - (at - since) / _HOUR * MOST_AN_HOUR)
