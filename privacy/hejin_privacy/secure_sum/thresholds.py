"""Rule P1: the sizes at which a lying bank with `t` colluding nodes opens nothing but a total."""

from __future__ import annotations

from typing import Final

from hejin_privacy.errors import ThresholdError

MOST_NODES: Final = 128
"""Each node is shown what every other committed to: at 128 nodes 3 MB each round, at 440 more than
one message may hold (SECURE_SUM section 4: larger rosters need a sparser protocol)."""
SMALL = 5
"""Up to so many nodes, two honest survivors are enough; above, three (SECURE_SUM section 0)."""


def check_thresholds(n: int, tau: int, m: int, t: int) -> None:
    """Raise ThresholdError unless rule P1 holds.

    n    nodes in the roster, at most MOST_NODES
    tau  quorum: votes on one survivor set, and shares that open a self-mask, >= 2
    m    least survivors whose total may be opened
    t    most nodes that collude with the bank, >= 0

    2 tau > n + t: two quorums share an honest node, so that no two survivor sets are agreed.
    tau <= m <= n: the survivors are a quorum by themselves.
    m - t >= 3 (2 if n <= 5): an opened total holds that many honest nodes.
    A rule that holds for n holds for every smaller roster of at least m nodes.
    Source: SECURE_SUM section 0, rule P1.
    """
    if n > MOST_NODES:
        raise ThresholdError(
            f"a secure sum takes at most {MOST_NODES} nodes, not {n}: invite fewer, or use noise"
            " mode node",
            f"安全求和最多支持 {MOST_NODES} 个节点，现为 {n} 个：请减少节点，或改用 node 噪声模式",
        )
    least = 2 if n <= SMALL else 3
    if t < 0 or tau < 2 or not tau <= m <= n:
        raise ThresholdError(
            f"a secure sum needs 2 <= quorum <= minimum nodes <= nodes and no negative number of"
            f" colluders, not quorum {tau}, minimum {m}, {n} nodes and {t} colluders;"
            " correct the plan",
            f"安全求和要求 2 <= 法定数 <= 最少节点数 <= 节点数，且合谋数不为负；现为法定数 {tau}、"
            f"最少 {m}、节点 {n}、合谋 {t}；请更正计划",
        )
    if 2 * tau <= n + t:
        raise ThresholdError(
            f"with {n} nodes, {t} of them colluding, a quorum of {tau} can agree on two different"
            f" sets of nodes: plan a quorum of at least {(n + t) // 2 + 1}",
            f"{n} 个节点中有 {t} 个合谋时，{tau} 个的法定数可同时同意两个不同的节点集合："
            f"法定数至少须为 {(n + t) // 2 + 1}",
        )
    if m - t < least:
        raise ThresholdError(
            f"a total of {m} nodes with {t} colluders holds {m - t} honest ones, fewer than"
            f" {least}: plan at least {t + least} minimum nodes, or fewer colluders",
            f"{m} 个节点的总和在 {t} 个合谋时仅含 {m - t} 个诚实节点，少于 {least} 个："
            f"最少节点数至少须为 {t + least}，或减少合谋数",
        )
