"""Why an enterprise's data were in a run or a sum, or were not: decided on records alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from hejin_console.values import clock
from hejin_node.consent import Authorisation
from hejin_node.usage import Fate
from hejin_trust.authorisation import covers
from hejin_trust.canonical import time_text
from hejin_trust.text import Text

ReasonCode = Literal[
    "no-grant",
    "not-begun",
    "expired",
    "revoked",
    "erased",
    "purpose",
    "bank",
    "category",
    "feature",
    "no-label",
    "no-row",
    "view-failed",
    "other-part",
    "nothing-left",
    "unknown",
]

REASONS: Final[dict[ReasonCode, Text]] = {
    "no-grant": Text(
        "no authorisation was recorded when the run's rows were taken",
        "运行取数时尚无已登记的授权",
    ),
    "not-begun": Text("the authorisation had not begun", "授权尚未生效"),
    "expired": Text("the authorisation had expired", "授权已到期"),
    "revoked": Text("the authorisation was revoked", "授权已撤销"),
    "erased": Text("the enterprise's data were erased", "企业数据已删除"),
    "purpose": Text("the authorisation does not cover this purpose", "授权不含该用途"),
    "bank": Text("the authorisation does not name this bank", "授权不含该银行"),
    "category": Text(
        "the authorisation does not cover all kinds of data that the plan reads",
        "授权未涵盖计划所读的全部数据类别",
    ),
    "feature": Text(
        "the authorisation does not cover all features of the plan", "授权未涵盖计划的全部特征"
    ),
    "no-label": Text(
        "the bank reported no outcome of this enterprise", "银行未提供该企业的履约结果"
    ),
    "no-row": Text(
        "the node holds no data of it that the plan reads", "节点没有计划所读的该企业数据"
    ),
    "view-failed": Text(
        "the plan's features could not be computed at this node; noise alone was sent",
        "本节点无法计算计划的特征，仅发送了噪声",
    ),
    "other-part": Text(
        "the sum is over the other part of the enterprises (training or hold-out)",
        "该求和针对另一部分企业（训练或留出）",
    ),
    "nothing-left": Text("nothing left the node for this round", "该轮未从节点输出任何内容"),
    "unknown": Text(
        "the record of who was in it was lost with a database", "参与记录已随数据库丢失"
    ),
}


@dataclass(frozen=True, slots=True)
class Reason:
    """Why data were not used: by which authorisation, if by one, and since when, if since then."""

    code: ReasonCode
    grant: int | None = None
    since: str | None = None

    @property
    def text(self) -> Text:
        """The reason in words."""
        told = REASONS[self.code]
        since = "" if self.since is None else f" ({clock(self.since)} UTC)"
        if self.grant is None:
            return Text(f"{told.en}{since}", f"{told.zh}{since}")
        return Text(
            f"authorisation {self.grant}: {told.en}{since}",
            f"第 {self.grant} 号授权：{told.zh}{since}",
        )


@dataclass(frozen=True, slots=True)
class Need:
    """What one authorisation must cover for a plan.

    categories, features  None where the plan's view is not installed here any more
    """

    purpose: str
    bank: str
    categories: frozenset[str] | None
    features: frozenset[str] | None


def why_not(grants: Iterable[Authorisation], need: Need, at: str, size: int) -> tuple[Reason, ...]:
    """Return why each authorisation does not cover a need; () where one does.

    grants  of one enterprise
    at      moment, RFC 3339
    size    of the internal log then: later entries did not count yet
    """
    reasons = []
    for one in grants:
        if one.seq >= size:
            continue
        code = _missing(one, need, at, size)
        if code is None:
            return ()
        since = one.revoked_at if code == "revoked" else None
        reasons.append(Reason(code, one.seq, since))
    return tuple(reasons) or (Reason("no-grant"),)


def taken_under(
    held: int, fate: Fate, erased: Sequence[str], taken: str
) -> tuple[int | None, tuple[Reason, ...]]:
    """Return the grant that an enterprise's rows are in by, or why they are not."""
    if fate == "used":
        return held, ()
    if fate == "view-failed":
        return None, (Reason("view-failed", held),)
    before = [time for time in erased if time <= taken]
    if before:
        return None, (Reason("erased", held, before[-1]),)
    return None, (Reason("no-label" if fate == "unlabelled" else "no-row", held),)


def why_out(
    grants: Sequence[Authorisation], grant: int, erased: Sequence[str], released: str
) -> Reason:
    """Return why an enterprise of a run was in a later sum no more.

    grants   of the enterprise; grant: the one under which the run's rows hold it
    erased   when its data were erased, RFC 3339; released: when the sum was
    """
    before = [time for time in erased if time <= released]
    if before:
        return Reason("erased", grant, before[0])
    own = next(one for one in grants if one.seq == grant)
    if own.revoked_at is not None and own.revoked_at <= released:
        return Reason("revoked", grant, own.revoked_at)
    return Reason("expired", grant, time_text(own.terms.valid_to))


def standing(grants: Sequence[Authorisation], grant: int, need: Need, released: str) -> int:
    """Return the authorisation that covered a sum: the run's own, unless that had ended."""
    own = next(one for one in grants if one.seq == grant)
    others = sorted(grants, key=lambda one: -one.seq)
    covering = (one.seq for one in (own, *others) if _covered(one, need, released))
    return next(covering, grant)


def _missing(one: Authorisation, need: Need, at: str, size: int) -> ReasonCode | None:
    """Return the first thing that an authorisation lacks."""
    terms = one.terms
    checks: tuple[tuple[ReasonCode, bool], ...] = (
        ("revoked", one.revoked_seq is not None and one.revoked_seq < size),
        ("not-begun", time_text(terms.valid_from) > at),
        ("expired", time_text(terms.valid_to) <= at),
        ("purpose", not covers("purposes", terms.purposes, (need.purpose,))),
        ("bank", not covers("banks", terms.banks, (need.bank,))),
        ("category", not covers("categories", terms.categories, need.categories or ())),
        ("feature", not covers("features", terms.features, need.features or ())),
    )
    return next((code for code, lacks in checks if lacks), None)


def _covered(one: Authorisation, need: Need, at: str) -> bool:
    ended = one.revoked_at is not None and one.revoked_at <= at
    # What was revoked later counted then: its place in the log does not matter here.
    return not ended and _missing(replace(one, revoked_seq=None), need, at, 0) is None
