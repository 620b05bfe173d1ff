"""The times of cosignatures: the regulator's clock, which never seems to go back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Engine, delete, insert, select

from hejin_regulator.mirror_tables import stamp
from hejin_trust.canonical import time_from, time_text
from hejin_trust.clock import Clock
from hejin_trust.database import reading, writing
from hejin_trust.errors import RefusedError

TOLERANCE: Final = timedelta(seconds=120)
"""A clock that was set by more is wrong, or was: nobody could tell which times are true."""

AHEAD: Final = timedelta(seconds=5)
"""So far ahead of the time a later one is reserved on disk: one fsync serves that long."""


Steady = Callable[[], float]
"""Seconds that passed since any moment, which nobody sets: `time.monotonic`."""


class WitnessClockError(RefusedError):
    """The regulator's clock stands well before a time that it has cosigned at, or was set on."""

    code = "witness-clock"


class Stamps:
    """Gives times that never go back, also over restarts; safe to use from several threads.

    After a restart the first times may lie up to `AHEAD` in the future.

    A time that was cosigned by mistake bars all earlier ones. So a clock that was set on while this
    process runs is not followed, until it is set back or the process is started anew.
    """

    def __init__(self, engine: Engine, clock: Clock, steady: Steady | None) -> None:
        """Go on after the latest time that the mirror's database reserved.

        steady   None: the clock may be set on as one likes, as tests do
        """
        self._engine, self._clock, self._steady = engine, clock, steady
        self._lock = threading.Lock()
        self._seen = clock(), 0.0 if steady is None else steady()
        with reading(engine) as connection:
            until: str | None = connection.execute(select(stamp.c.until)).scalar_one_or_none()
        self._last = self._until = None if until is None else time_from(until)

    def next(self) -> datetime:
        """Return the time of a cosignature made now, UTC seconds; raises WitnessClockError."""
        with self._lock:
            at = self._clock()
            self._check_set_on(at)
            if self._last is not None:
                _check(at, self._last)
                at = max(at, self._last)
            if self._until is None or at > self._until:
                self._reserve(at + AHEAD)
            self._last = at
            return at

    def _check_set_on(self, at: datetime) -> None:
        """Raise WitnessClockError if the clock went on much more than time passed."""
        if self._steady is None:
            return
        passed, (before, mark) = self._steady(), self._seen
        by = at - before - timedelta(seconds=passed - mark)
        if by > TOLERANCE:
            seconds = round(by.total_seconds())
            raise WitnessClockError(
                f"the regulator's clock was set {seconds} s ahead, to {time_text(at)}, while it"
                " served: the regulator's operator must set it back, or, if it is right now,"
                " restart `hejin regulator serve`; no member's clock is at fault",
                f"监管方时钟在服务期间被拨快 {seconds} 秒，至 {time_text(at)}：须由监管方运维人员"
                "拨回；若现在的时间正确，请重启 `hejin regulator serve`；与成员的时钟无关",
            )
        if by >= -TOLERANCE:  # else it was set back, and may be set right again
            self._seen = at, passed

    def _reserve(self, until: datetime) -> None:
        with writing(self._engine) as connection:
            connection.execute(delete(stamp))
            connection.execute(insert(stamp).values(id=1, until=time_text(until)))
        self._until = until


def _check(at: datetime, last: datetime) -> None:
    if last - at > TOLERANCE:
        raise WitnessClockError(
            f"the regulator's clock says {time_text(at)}, but it has cosigned at"
            f" {time_text(last)}: the regulator's operator must set the regulator's clock right;"
            " no member's clock is at fault",
            f"监管方时钟为 {time_text(at)}，但其曾在 {time_text(last)} 作过见证："
            "须由监管方运维人员校准监管方的时钟；与成员的时钟无关",
        )
