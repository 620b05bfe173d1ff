"""How the values of a verification are written for a reader: rounded the safe way, and visible."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from fractions import Fraction

from hejin_privacy.accounting import round_up
from hejin_regulator.findings import Check, Finding, Verification

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


def held(verification: Verification) -> dict[Check, int]:
    """Return the number of findings of each check that was made; 0 where it holds."""
    found = Counter(finding.check for finding in verification.findings)
    return {check: found[check] for check in verification.checks}


def fair_share(findings: Iterable[Finding], most: int) -> list[Finding]:
    """Return up to `most` findings in their order, so that no member's flood hides another's."""
    queues: dict[str, list[int]] = {}
    listed: Sequence[Finding] = tuple(findings)
    for number, finding in enumerate(listed):
        queues.setdefault(finding.member, []).append(number)
    taken: list[int] = []
    depth = 0
    while len(taken) < min(most, len(listed)):
        taken += [queue[depth] for queue in queues.values() if depth < len(queue)]
        depth += 1
    return [listed[number] for number in sorted(taken[:most])]
