"""What a verification found: findings, what was counted, and what each node has spent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

from hejin_privacy.accounting import epsilon
from hejin_privacy.errors import ParameterError
from hejin_trust.text import Text

Check = Literal["V1", "V2", "V3", "V4", "V5", "V6", "V7", "V8", "V9", "V10"]

#: What each check holds true (LEDGER section 5).
CHECKS: Mapping[Check, Text] = {
    "V1": Text(
        "signatures are valid, entries contiguous, the root is that of the checkpoint",
        "签名有效，条目连续，根与检查点一致",
    ),
    "V2": Text(
        "every checkpoint ever signed, cosigned or shown to another member lies on one history",
        "所有签署、会签或出示给其他成员的检查点同属一段历史",
    ),
    "V3": Text(
        "times never go back; the regulator cosigned every reservation in time",
        "时间从不倒退；监管方按时会签了每次预留",
    ),
    "V4": Text(
        "every release has exactly one earlier, cosigned reservation of the same round and "
        "snapshot",
        "每次输出都有唯一、在先且经会签的同轮次、同快照预留",
    ),
    "V5": Text(
        "what nodes released, banks accepted and receipts confirm is the same",
        "节点输出、银行接收与回执三者一致",
    ),
    "V6": Text(
        "every result rests on releases of its survivors and on enough valid votes",
        "每个结果均基于幸存者的输出与足够的有效表决",
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
    "V10": Text(
        "refusals and voids are counted; what was void stays charged",
        "拒绝与作废均已计数；作废的预留不退还",
    ),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that does not hold.

    seq       the entry in the member's log, None if there is none
    evidence  what the finding rests on: files of the export, with the entry where there is one,
              e.g. "node-1/release.jsonl:17"
    """

    check: Check
    member: str
    seq: int | None
    reason: Text
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Spending:
    """What one node was charged in one budget period: by one bank, or over all banks.

    period   first moment of the period, RFC 3339; `period_to` is the first one after it
    releases sums that left the node
    bank     None: over all banks, which is what colluding banks could learn
    rho      exact zCDP cost; cap is the charter's
    epsilon  at the charter's delta; an odometer reading. The guarantee is `epsilon_cap`
    ..alone  the same if all other nodes colluded with the banks; None in the row of one bank
    """

    node: str
    bank: str | None
    period: str
    period_to: str
    releases: int
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
class Point:
    """A node's account over all banks at one moment of a budget period.

    time     RFC 3339, of the reservation that led there
    epsilon  at the charter's delta; an odometer reading
    """

    time: str
    rho: Fraction
    epsilon: float


@dataclass(frozen=True, slots=True)
class RefusalCount:
    """How often a node refused one peer for one reason."""

    node: str
    code: str
    peer: str
    count: int


@dataclass(frozen=True, slots=True)
class VoidCount:
    """How many reservations of a node ended without a release, for one reason."""

    node: str
    reason: str
    count: int


@dataclass(frozen=True, slots=True)
class LogHead:
    """One log as it was verified; whoever has the same root has read the same entries.

    log   "release" or "internal"
    size  number of entries
    root  RFC 6962 root over them, lower-case hex
    """

    member: str
    log: str
    size: int
    root: str


@dataclass(frozen=True, slots=True)
class Verification:
    """The outcome of one verification; `ok` only if nothing at all was found.

    charter     digest of the charter in force; `charter_serial` is its number
    regulator_key   Ed25519, hex: the charters hold under it
    pinned      the caller gave that key; it was not taken from the export itself
    heads       the logs that were read to their checkpoint
    members     ids of all members whose logs were read, nodes first
    course      by node, its account over time, in time order and thinned for a chart to at most
                400 points a budget period, of which each begins at rho = 0
    checked_at  RFC 3339, when it was verified
    as_of       RFC 3339, until when the regulator's charters and certificates are told; "" if they
                are not
    """

    consortium: str
    charter: str
    findings: tuple[Finding, ...]
    warnings: tuple[Text, ...]
    counts: Mapping[str, int]
    spending: tuple[Spending, ...]
    checked_at: str
    as_of: str = ""
    charter_serial: int = 0
    regulator_key: str = ""
    pinned: bool = False
    heads: tuple[LogHead, ...] = ()
    members: tuple[str, ...] = ()
    course: Mapping[str, tuple[Point, ...]] = field(default_factory=dict)
    refusals: tuple[RefusalCount, ...] = ()
    voids: tuple[VoidCount, ...] = ()
    checks: tuple[Check, ...] = tuple(CHECKS)

    @property
    def ok(self) -> bool:
        """Whether every check held."""
        return not self.findings


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
