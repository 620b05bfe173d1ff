"""Times as documents carry them: RFC 3339, UTC, whole seconds."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime

from hejin_trust.errors import HejinError

Clock = Callable[[], datetime]
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z")


class TimeError(HejinError):
    """A time is not written as documents write it."""

    code = "time-malformed"


def now() -> datetime:
    """Return the current time, UTC, cut to the second."""
    return datetime.now(UTC).replace(microsecond=0)


def format_time(moment: datetime) -> str:
    """Return `moment` (aware) as RFC 3339 UTC with whole seconds."""
    if moment.tzinfo is None:
        raise TypeError("a time without a zone means nothing in a document")
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(value: str) -> datetime:
    """Return the time in `value`; TimeError unless it is `YYYY-MM-DDTHH:MM:SSZ` (RFC 3339)."""
    try:
        if not _TIME.fullmatch(value):
            raise ValueError(value)
        return datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise TimeError(
            "a time must look like 2026-11-22T20:00:00Z", "时间格式须如 2026-11-22T20:00:00Z"
        ) from None
