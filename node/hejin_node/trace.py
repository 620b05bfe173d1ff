"""Every use of one enterprise's data, explained: by which authorisation, or why there was none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import cast

from sqlalchemy import Connection, select

from hejin_models.features import FeatureView
from hejin_models.plan import Plan
from hejin_node import account, inbox, usage
from hejin_node.account import Reservation
from hejin_node.consent import Authorisation, authorisations, pseudonym
from hejin_node.home import NodeHome, ViewMissingError
from hejin_node.label_sessions import LabelSession, asked_about
from hejin_node.reasons import Need, Reason, standing, taken_under, why_not, why_out
from hejin_node.signed import RegisteredKey, keys
from hejin_node.tables import erasure
from hejin_privacy.accounting import epsilon
from hejin_privacy.budget import Part
from hejin_privacy.holdout import part_of, split_key
from hejin_trust.canonical import child, time_text
from hejin_trust.database import reading


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


def loss(rho: Fraction, delta: Fraction) -> float:
    """Return the epsilon that a cost amounts to; 0 for nothing."""
    return 0.0 if rho == 0 else epsilon(rho, float(delta))


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
            grant, why = taken_under(*held, erased, use.taken)
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
            why = why_out(self.grants, grant, self.erased, use.released)
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
            grant=standing(self.grants, grant, self.need, use.released)
            if counted and grant and use
            else None,
            why=why,
        )
