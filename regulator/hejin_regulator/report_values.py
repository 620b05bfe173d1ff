"""What a verification has of each check, and a fair choice of its findings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from hejin_regulator.findings import Check, Finding, Verification


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
