"""Lies that members write into their own ledgers, and what a verification says of them."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from ledger_world import Body, Consortium, Tamper

from hejin_regulator.findings import Verification
from hejin_trust.canonical import fraction_body

Build = Callable[..., Consortium]


def found(verification: Verification) -> set[tuple[str, str]]:
    return {(finding.check, finding.member) for finding in verification.findings}


def reasons(verification: Verification, check: str) -> str:
    return " | ".join(f.reason.en for f in verification.findings if f.check == check)


def once(member: str, kind: str, change: Callable[[Body], Body | None], nth: int = 0) -> Tamper:
    """Change (or drop) the nth entry of a kind at a member."""
    seen = -1

    def tamper(who: str, what: str, body: Body) -> Body | None:
        nonlocal seen
        if (who, what) != (member, kind):
            return body
        seen += 1
        return change(body) if seen == nth else body

    return tamper


def put(**changes: object) -> Callable[[Body], Body]:
    return lambda body: {**body, **changes}


def drop(body: Body) -> None:
    return None


def scaled(key: str, factor: Fraction) -> Callable[[Body], Body]:
    def change(body: Body) -> Body:
        value = body[key]
        assert isinstance(value, dict)
        fraction = Fraction(int(value["num"]), int(value["den"]))
        return {**body, key: fraction_body(fraction * factor)}

    return change


def mechanism(**changes: object) -> Callable[[Body], Body]:
    def change(body: Body) -> Body:
        inner = body["mechanism"]
        assert isinstance(inner, dict)
        return {**body, "mechanism": {**inner, **changes}}

    return change
