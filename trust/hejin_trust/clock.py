"""The clock that documents are dated by; tests put another in its place."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def now() -> datetime:
    """Return the current time, UTC, cut to the second as documents carry it."""
    return datetime.now(UTC).replace(microsecond=0)
