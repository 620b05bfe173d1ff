"""Every use of one enterprise's data, explained: by which authorisation, or why there was none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final, Literal, cast

from sqlalchemy import Connection, select

from hejin_models.features import FeatureView
from hejin_models.plan import Plan
from hejin_node import account, inbox, usage
from hejin_node.account import Reservation
from hejin_node.consent import Authorisation, authorisations, pseudonym
from hejin_node.home import NodeHome, ViewMissingError
from hejin_node.label_sessions import LabelSession, asked_about
from hejin_node.signed import RegisteredKey, keys
from hejin_node.tables import erasure
from hejin_privacy.accounting import epsilon
from hejin_privacy.budget import Part
from hejin_privacy.holdout import part_of, split_key
from hejin_trust.authorisation import covers
from hejin_trust.canonical import child, time_text
from hejin_trust.database import reading
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


@dataclass(frozen=True, slots=True)
class SumLine:
    """One private sum of a run. counted: the enterprise's contribution is in it; None: unknown.

    released  when it was released, RFC 3339; None: it was not, or that is not known
    cost      what it cost in rho, cost_alone: if all other nodes colluded with the bank
    grant     the authorisation that stood for it then, if counted
    """

    reservation: int
    round: int
    part: Part
    statistic: str
    period: str
    charged: str
    released: str | None
    cost: Fraction
    cost_alone: Fraction
    counted: bool | None
    grant: int | None
    why: Reason | None


@dataclass(frozen=True, slots=True)
class RunLine:
    """One run of a plan at this node.

    grant  the authorisation under which the enterprise is in it; part: its part of the split
    why    else: every reason why it is not
    """

    run: str
    plan: Plan
    digest: str
    began: str
    open: bool
    grant: int | None
    part: Part | None
    why: tuple[Reason, ...]
    sums: tuple[SumLine, ...]


@dataclass(frozen=True, slots=True)
class GrantLine:
    """One authorisation and when it was recorded."""

    granted: str
    authorisation: Authorisation


@dataclass(frozen=True, slots=True)
class PeriodCost:
    """What the sums that hold an enterprise's data cost it in one budget period, exact rho."""

    period: str
    sums: int
    rho: Fraction
    rho_alone: Fraction


@dataclass(frozen=True, slots=True)
class Trace:
    """Everything this node knows of the use of one enterprise's data. Times are RFC 3339 UTC.

    questions   in which a bank was asked for its outcome, by private set intersection
    """

    code: str
    pseudonym: str
    at: str
    grants: tuple[GrantLine, ...]
    keys: tuple[RegisteredKey, ...]
    erased: tuple[str, ...]
    questions: tuple[LabelSession, ...]
    runs: tuple[RunLine, ...]

    @property
    def costs(self) -> tuple[PeriodCost, ...]:
        """What it cost, by budget period, oldest first."""
        counted = [line for run in self.runs for line in run.sums if line.counted]
        return tuple(
            PeriodCost(
                period,
                len(lines),
                sum((line.cost for line in lines), Fraction(0)),
                sum((line.cost_alone for line in lines), Fraction(0)),
            )
            for period in sorted({line.period for line in counted})
            for lines in [[line for line in counted if line.period == period]]
        )


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


def read_trace(home: NodeHome, code: str) -> Trace:
    """Return everything about one enterprise, read in one transaction.

    raises   StorageError; NotOpenedError or MatchingError where what is kept does not open
    """
    name = pseudonym(home.pseudonym_key, code)
    with reading(home.database) as connection:
        grants = authorisations(connection, code=code)
        erased = _erased(home, connection, name)
        return Trace(
            code=code,
            pseudonym=name,
            at=time_text(home.now()),
            grants=tuple(
                GrantLine(home.internal_log.entry(connection, one.seq).time, one) for one in grants
            ),
            keys=tuple(keys(connection, code)),
            erased=erased,
            questions=tuple(asked_about(connection, name, home.snapshot_key)),
            runs=tuple(
                _run(home, connection, code, grants, erased, run) for run in inbox.runs(connection)
            ),
        )


def affected_runs(home: NodeHome, connection: Connection, grants: Iterable[int]) -> list[inbox.Run]:
    """Return the runs whose rows rest on any of some grants; their models stay."""
    wanted = frozenset(grants)
    found = []
    for run in inbox.runs(connection):
        use = usage.find_run(connection, home.snapshot_key, run.run)
        if use is not None and any(use.fate(grant) == "used" for grant in wanted):
            found.append(run)
    return found


def clock(time: str) -> str:
    """Return an RFC 3339 UTC time as people write it."""
    return time.replace("T", " ").removesuffix("Z")


def loss(rho: Fraction, delta: Fraction) -> float:
    """Return the epsilon that a cost amounts to; 0 for nothing."""
    return 0.0 if rho == 0 else epsilon(rho, float(delta))


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


def _erased(home: NodeHome, connection: Connection, name: str) -> tuple[str, ...]:
    found = connection.scalars(
        select(erasure.c.seq).where(erasure.c.pseudonym == name).order_by(erasure.c.seq)
    )
    return tuple(home.internal_log.entry(connection, seq).time for seq in found)


def _need(home: NodeHome, plan: Plan) -> Need:
    view: FeatureView | None
    try:
        view = home.view(plan.view.sha256)
    except ViewMissingError:
        return Need(plan.purpose, plan.bank, None, None)
    return Need(
        plan.purpose,
        plan.bank,
        frozenset(dataset.category for dataset in view.datasets),
        frozenset(feature.name for feature in view.features),
    )


def _run(
    home: NodeHome,
    connection: Connection,
    code: str,
    grants: Sequence[Authorisation],
    erased: tuple[str, ...],
    run: inbox.Run,
) -> RunLine:
    plan = inbox.find_offer(connection, run.plan).plan
    entry = home.release_log.entry(connection, run.snapshot_seq)
    use = usage.find_run(connection, home.snapshot_key, run.run)
    grant: int | None = None
    part: Part | None = None
    why: tuple[Reason, ...] = (Reason("unknown"),)
    need = _need(home, plan)
    if use is not None:
        fates = ((one.seq, use.fate(one.seq)) for one in grants)
        held = next(((seq, fate) for seq, fate in fates if fate is not None), None)
        if held is not None:
            grant, why = _fate(*held, erased, use.taken)
        else:
            size = cast("int", entry.body["internal_size"])
            why = why_not(grants, need, use.taken, size) or why
        if grant is not None:
            part = part_of(code, split_key(run.plan, home.charter.nonce), plan.holdout)
    reader = _SumReader(home, connection, grants, need, erased, known=use is not None)
    lines = [reader.line(one, grant, part) for one in account.of_run(connection, run.run)]
    return RunLine(
        run=run.run,
        plan=plan,
        digest=run.plan,
        began=entry.time,
        open=not run.closed,
        grant=grant,
        part=part,
        why=why,
        sums=tuple(lines),
    )


def _fate(
    held: int, fate: usage.Fate, erased: tuple[str, ...], taken: str
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


@dataclass(frozen=True)
class _SumReader:
    """Tells for the sums of one run whether an enterprise is in them."""

    home: NodeHome
    connection: Connection
    grants: Sequence[Authorisation]
    need: Need
    erased: tuple[str, ...]
    known: bool

    def line(self, one: Reservation, grant: int | None, part: Part | None) -> SumLine:
        """Return the sum of a reservation as it concerns the enterprise.

        grant, part  under which, and in which part, the run's rows hold it; None: not at all
        """
        entry = self.home.release_log.entry(self.connection, one.seq)
        use = usage.find_sum(self.connection, self.home.snapshot_key, one.seq)
        counted: bool | None = False
        why: Reason | None = None
        if grant is None:
            counted = False if self.known else None
        elif one.state in ("reserved", "void"):
            why = Reason("nothing-left")
        elif one.part != part:
            why = Reason("other-part")
        elif use is None:
            counted, why = None, Reason("unknown")
        elif grant in use.left_out:
            why = self._left_out(grant, use.released)
        else:
            counted = True
        return SumLine(
            reservation=one.seq,
            round=one.round,
            part=one.part,
            statistic=str(child(entry.body, "mechanism")["statistic"]),
            period=one.period,
            charged=entry.time,
            released=None if use is None else use.released,
            cost=one.cost,
            cost_alone=one.cost_alone,
            counted=counted,
            grant=self._standing(grant, use.released) if counted and grant and use else None,
            why=why,
        )

    def _left_out(self, grant: int, released: str) -> Reason:
        """Return why an enterprise of the run was in a later sum no more."""
        before = [time for time in self.erased if time <= released]
        if before:
            return Reason("erased", grant, before[0])
        own = next(one for one in self.grants if one.seq == grant)
        if own.revoked_at is not None and own.revoked_at <= released:
            return Reason("revoked", grant, own.revoked_at)
        return Reason("expired", grant, time_text(own.terms.valid_to))

    def _standing(self, grant: int, released: str) -> int:
        """Return the authorisation that covered a sum: the run's own, unless that had ended."""
        own = next(one for one in self.grants if one.seq == grant)
        others = sorted(self.grants, key=lambda one: -one.seq)
        covering = (one.seq for one in (own, *others) if _covered(one, self.need, released))
        return next(covering, grant)


def _covered(one: Authorisation, need: Need, at: str) -> bool:
    ended = one.revoked_at is not None and one.revoked_at <= at
    # What was revoked later counted then: its place in the log does not matter here.
    return not ended and _missing(replace(one, revoked_seq=None), need, at, 0) is None
