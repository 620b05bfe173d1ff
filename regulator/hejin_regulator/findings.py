"""What a verification found: findings, what was counted, and what each node has spent."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

from hejin_privacy.accounting import epsilon
from hejin_privacy.errors import ParameterError
from hejin_trust.text import Text

Check = Literal["V1", "V4", "V5", "V7", "V8", "V9"]

#: What each check holds true (LEDGER section 5); V4 without the cosignature, which is a later step.
CHECKS: Mapping[Check, Text] = {
    "V1": Text(
        "signatures are valid, entries contiguous, the root is that of the checkpoint",
        "签名有效，条目连续，根与检查点一致",
    ),
    "V4": Text(
        "every release has exactly one earlier reservation of the same round and snapshot",
        "每次输出都有唯一且在先的同轮次、同快照预留",
    ),
    "V5": Text(
        "what nodes released, banks accepted and receipts confirm is the same",
        "节点输出、银行接收与回执三者一致",
    ),
    "V7": Text(
        "plans are signed, approved and within the charter; authorisations were in force",
        "计划已签名、获批且符合章程；授权当时有效",
    ),
    "V8": Text(
        "two accountants recompute the cost; the charge covers it; no cap was exceeded",
        "两种核算方法重算费用；扣减足额；从未超出上限",
    ),
    "V9": Text(
        "the account before and after every reservation replays to the same numbers",
        "每次预留前后的账户余额重放一致",
    ),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that does not hold; seq is the entry in the member's log, None if there is none."""

    check: Check
    member: str
    seq: int | None
    reason: Text


@dataclass(frozen=True, slots=True)
class Spending:
    """What one node was charged in one budget period: by one bank, or over all banks.

    bank     None: over all banks, which is what colluding banks could learn
    rho      exact zCDP cost; cap is the charter's
    epsilon  at the charter's delta; an odometer reading. The guarantee is `epsilon_cap`
    ..alone  the same if all other nodes colluded with the banks; None in the row of one bank
    """

    node: str
    bank: str | None
    period: str
    rho: Fraction
    rho_cap: Fraction
    epsilon: float
    epsilon_cap: float
    delta: Fraction
    rho_alone: Fraction | None
    rho_alone_cap: Fraction
    epsilon_alone: float | None
    epsilon_alone_cap: float


@dataclass(frozen=True, slots=True)
class Verification:
    """The outcome of one verification; `ok` only if nothing at all was found."""

    consortium: str
    charter: str
    findings: tuple[Finding, ...]
    warnings: tuple[Text, ...]
    counts: Mapping[str, int]
    spending: tuple[Spending, ...]
    checks: tuple[Check, ...] = tuple(CHECKS)

    @property
    def ok(self) -> bool:
        """Whether every check held."""
        return not self.findings


@dataclass(slots=True)
class Notebook:
    """Collects what the checks find and count."""

    findings: list[Finding] = field(default_factory=list)
    warnings: list[Text] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, check: Check, member: str, seq: int | None, en: str, zh: str) -> None:
        """Note a finding."""
        self.findings.append(Finding(check, member, seq, Text(en, zh)))

    def add_text(self, check: Check, member: str, seq: int | None, reason: Text) -> None:
        """Note a finding whose reason is an error's text."""
        self.findings.append(Finding(check, member, seq, reason))


def shown(rho: Fraction) -> str:
    """Return a cost for a sentence; a log may hold numbers that no float does."""
    try:
        return f"{float(rho):.9g}"
    except OverflowError:
        return ">1e308"


def epsilon_of(rho: Fraction, delta: float) -> float:
    """Return the epsilon of a logged cost; infinity where the cost exceeds every float."""
    try:
        return epsilon(rho, delta)
    except ParameterError:
        return math.inf
