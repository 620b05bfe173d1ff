"""Lies that members write into their own ledgers, and what a verification says of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
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


# -- any lie, by a seed ------------------------------------------------------------------


@dataclass(frozen=True)
class Told:
    """One thing that a member logs or signs in an honest consortium."""

    member: str
    kind: str
    nth: int
    body: Body


def told(make: Callable[[Tamper], Consortium]) -> list[Told]:
    """Return everything that passes through `tamper` when nobody lies."""
    found: list[Told] = []
    seen: Counter[tuple[str, str]] = Counter()

    def listen(member: str, kind: str, body: Body) -> Body:
        found.append(Told(member, kind, seen[member, kind], body))
        seen[member, kind] += 1
        return body

    make(listen)
    return found


#: What no check rests on, by (kind, field), and why. A lie about it may go unnoticed; then nothing
#: that is claimed changes. "*": any field.
UNCLAIMED: dict[tuple[str, str], str] = {
    ("authorisation.grant", "*"): "the enterprise's paper is not part of an export; what a grant "
    "says is claimed as far as a snapshot rests on it",
    ("authorisation.revoke", "*"): "likewise",
    ("burn", "giver"): "whose share did not fit, the bank says; the round is lost either way",
    ("burn", "taker"): "likewise",
    ("plan.approve", "by"): "a name within the node",
    ("recover", "reason"): "free text",
    ("recover", "size"): "how much was lost, up to what the regulator held",
    ("refusal", "*"): "how often it refused whom, a node says; it is reported as it says",
    ("release", "header"): "of a release that the bank did not receive nobody else holds anything",
    ("release", "vector"): "likewise",
    ("signed keyad", "expires"): "a node may give its key as long as the plan is valid",
    ("signed keyad", "key"): "a node's own choice",
    ("signed not-received", "time"): "the bank's own clock",
    ("signed query", "state"): "the public state is not part of an export",
    ("signed query", "sum"): "a repeated sum may be counted as another one that costs as much",
    ("signed receipt", "time"): "the bank's own clock",
    ("snapshot", "schema"): "it follows from the plan's view and label",
    ("void", "reason"): "why a round came to nothing, a node says; it is reported as it says",
}
#: Entries that may be left out, and why.
OMISSIBLE = {
    "authorisation.grant": "what was never logged is not known; snapshots cannot rest on it",
    "authorisation.revoke": "what was never logged is not known; the node's operator is trusted",
    "recover": "the entries before it are the mirror's",
    "refusal": "what was never logged is not known",
    "result": "a node may not have been told the last one; all others its next query names",
}


def unclaimed(one: Told, field: str) -> str:
    """Return why a lie about a field may go unnoticed; "" if it must be found."""
    return UNCLAIMED.get((one.kind, field)) or UNCLAIMED.get((one.kind, "*"), "")
