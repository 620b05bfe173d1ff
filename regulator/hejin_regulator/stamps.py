"""The times of cosignatures: the regulator's clock, which never seems to go back."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Engine, delete, insert, select

from hejin_regulator.mirror_tables import stamp
from hejin_trust.canonical import time_from, time_text
from hejin_trust.clock import Clock
from hejin_trust.database import reading, writing
from hejin_trust.errors import RefusedError

TOLERANCE: Final = timedelta(seconds=120)
"""A clock that went back by more is wrong, or was: nobody could tell which times are true."""

AHEAD: Final = timedelta(seconds=5)
"""So far ahead of the time a later one is reserved on disk: one fsync serves that long."""


class WitnessClockError(RefusedError):
    """The regulator's clock stands well before a time that it has cosigned at."""

    code = "witness-clock"


class Stamps:
    """Gives times that never go back, also over restarts; safe to use from several threads.

    After a restart the first times may lie up to `AHEAD` in the future.
    """

    def __init__(self, engine: Engine, clock: Clock) -> None:
        """Go on after the latest time that the mirror's database reserved."""
        self._engine, self._clock = engine, clock
        self._lock = threading.Lock()
        with reading(engine) as connection:
            until: str | None = connection.execute(select(stamp.c.until)).scalar_one_or_none()
        self._last = self._until = None if until is None else time_from(until)

    def next(self) -> datetime:
        """Return the time of a cosignature made now, UTC seconds; raises WitnessClockError."""
        with self._lock:
            at = self._clock()
            if self._last is not None:
                _check(at, self._last)
                at = max(at, self._last)
            if self._until is None or at > self._until:
                self._reserve(at + AHEAD)
            self._last = at
            return at

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
