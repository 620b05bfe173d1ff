"""How values are written for a reader: rounded the safe way, made visible, bounded in number."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Generic, TypeVar

from hejin_privacy.accounting import round_up

_DECIMALS = 6
_LARGEST = 10**9
"""Above it a privacy cost says nothing any more, and its digits only fill the page."""
_MOST_BITS = 2048
"""Of a denominator written out. Honest costs are multiples of 2^-64; sums of what a hostile log
may hold have no bound, and Python writes no more than 4,300 digits."""


def visible(told: str, longest: int = 600) -> str:
    r"""Return text from a log or a file name so that a reader sees all of it, on one line.

    Control and format characters (they colour a terminal, or turn the reading direction), line
    ends and halves of surrogate pairs become escapes such as \x1b and \u202e; what is longer than
    `longest` characters ends in an ellipsis.
    """
    if not told.isprintable():
        told = "".join(
            c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in told
        )
    return told if len(told) <= longest else told[: longest - 1] + "…"


def cost(rho: Fraction, *, up: bool) -> str:
    """Return a cost in decimals: what was spent is rounded up, what is left is rounded down."""
    if abs(rho) > _LARGEST:
        return f"{'>' if rho > 0 else '<-'}{float(_LARGEST):.0e}".replace("e+0", "e")
    grain = 10**_DECIMALS
    grains = math.ceil(rho * grain) if up else math.floor(rho * grain)
    whole, rest = divmod(abs(grains), grain)
    return f"{'-' if grains < 0 else ''}{whole}.{rest:0{_DECIMALS}}"


def loss(epsilon: float) -> str:
    """Return an epsilon rounded up: a privacy loss must not look smaller than it is."""
    if epsilon > _LARGEST:
        return "∞"
    return f"{math.ceil(epsilon * 1e4) / 1e4:.4f}"


def percent(rho: Fraction, cap: Fraction) -> str:
    """Return how much of `cap` is spent, rounded up to a tenth of a percent."""
    if cap <= 0 or rho / cap > 1000:
        return "0.0 %" if rho <= 0 else ">100000 %"
    tenths = math.ceil(rho / cap * 1000)
    return f"{tenths // 10}.{tenths % 10} %"


def exact(rho: Fraction) -> Fraction:
    """Return `rho`, or the next multiple of 2^-64 above it where it is too long to be written."""
    return rho if rho.denominator.bit_length() <= _MOST_BITS else round_up(rho)


_BEIJING = timedelta(hours=8)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Rows(Generic[_T]):
    """The rows of a table that are shown, and how many are left out."""

    rows: tuple[_T, ...]
    left: int


def first(rows: Iterable[_T], most: int) -> Rows[_T]:
    """Return the first `most` rows and the number of the others."""
    listed = tuple(rows)
    return Rows(listed[:most], max(0, len(listed) - most))


def beijing(moment: datetime) -> str:
    """Return a moment as Beijing's clocks show it, to the second."""
    return f"{moment + _BEIJING:%Y-%m-%d %H:%M:%S}"


def clock(time: str) -> str:
    """Return an RFC 3339 UTC time as people write it."""
    return time.replace("T", " ").removesuffix("Z")
