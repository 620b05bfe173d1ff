"""A node's account over time, thinned as it grows: enough points for a chart, the ends exact."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Final

MOST_POINTS: Final = 400


class Course:
    """What was spent after each reservation; of each budget period at most `MOST_POINTS` are kept.

    When a period has more, every second one goes and from then on half as many are taken.
    """

    def __init__(self) -> None:
        self._periods: dict[str, _Period] = {}

    def add(self, period: str, time: str, spent: Fraction) -> None:
        """Take the account after one reservation."""
        self._periods.setdefault(period, _Period()).add(time, spent)

    def points(self) -> Iterator[tuple[str, Fraction]]:
        """Yield (time, spent); the last reservation of each period is always there."""
        for _, period in sorted(self._periods.items()):
            yield from period.points()


class _Period:
    def __init__(self) -> None:
        self._kept: list[tuple[str, Fraction]] = []
        self._last: tuple[str, Fraction] | None = None
        self._seen, self._stride = 0, 1

    def add(self, time: str, spent: Fraction) -> None:
        self._last = (time, spent)
        if self._seen % self._stride == 0:
            self._kept.append(self._last)
            if len(self._kept) >= MOST_POINTS:
                del self._kept[1::2]
                self._stride *= 2
        self._seen += 1

    def points(self) -> list[tuple[str, Fraction]]:
        if self._last is None or self._kept[-1] is self._last:
            return self._kept
        return [*self._kept, self._last]
