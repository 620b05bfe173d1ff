"""Small verifications made by hand, to be shown on a screen and on paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from hejin_regulator.findings import (
    Finding,
    LogHead,
    Point,
    RefusalCount,
    Spending,
    Verification,
    VoidCount,
    epsilon_of,
)
from hejin_trust.text import Text

CAP = Fraction(1, 10)
ALONE_CAP = Fraction(1)
DELTA = Fraction(1, 10**6)
PERIOD = ("2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z")
CHECKED = "2026-01-11T00:00:00Z"
"""Ten days into the period: the drawing's width is ten days."""


def spending(
    node: str,
    rho: Fraction,
    bank: str | None = None,
    period: tuple[str, str] = PERIOD,
    cap: Fraction = CAP,
) -> Spending:
    whole = bank is None
    return Spending(
        node=node,
        bank=bank,
        period=period[0],
        period_to=period[1],
        releases=3,
        rho=rho,
        rho_cap=cap,
        epsilon=epsilon_of(rho, float(DELTA)),
        epsilon_cap=epsilon_of(cap, float(DELTA)),
        delta=DELTA,
        rho_alone=5 * rho if whole else None,
        rho_alone_cap=ALONE_CAP,
        epsilon_alone=epsilon_of(5 * rho, float(DELTA)) if whole else None,
        epsilon_alone_cap=epsilon_of(ALONE_CAP, float(DELTA)),
    )


def course(*steps: tuple[str, Fraction]) -> tuple[Point, ...]:
    """Points from (day or full time, rho)."""
    return tuple(
        Point(
            at if at.endswith("Z") else f"{at}T00:00:00Z",
            rho,
            epsilon_of(rho, float(DELTA)),
        )
        for at, rho in steps
    )


def verification(
    findings: Sequence[Finding] = (),
    rows: Sequence[Spending] | None = None,
    points: Mapping[str, tuple[Point, ...]] | None = None,
) -> Verification:
    """Two nodes and one bank: anping spent half of its cap, jing a third."""
    made = Verification(
        consortium="hebei",
        charter="3f" * 32,
        findings=tuple(findings),
        warnings=(),
        counts={"accept": 5, "release": 6, "reserve": 7},
        spending=(
            spending("anping", CAP / 2),
            spending("anping", CAP / 2, "bank"),
            spending("jing", CAP / 3),
            spending("jing", CAP / 3, "bank"),
        ),
        checked_at=CHECKED,
        charter_serial=4,
        regulator_key="ab" * 32,
        pinned=True,
        heads=(LogHead("anping", "release", 1234, "cd" * 32),),
        members=("anping", "jing", "bank"),
        course={
            "anping": course(
                ("2026-01-01", Fraction(0)), ("2026-01-03", CAP / 4), ("2026-01-06", CAP / 2)
            ),
            "jing": course(("2026-01-01", Fraction(0)), ("2026-01-06", CAP / 3)),
        },
        refusals=(RefusalCount("jing", "plan-not-approved", "bank", 41),),
        voids=(VoidCount("anping", "interrupted", 1),),
    )
    if rows is not None:
        made = replace(made, spending=tuple(rows))
    return made if points is None else replace(made, course=points)


def finding(member: str = "jing", seq: int | None = 17, reason: str = "altered") -> Finding:
    return Finding("V1", member, seq, Text(reason, f"改动：{reason}"), ("jing/release.jsonl:17",))
