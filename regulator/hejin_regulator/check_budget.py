"""V8: recompute every cost from the noise, by two accountants, and replay the account."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from hejin_privacy.accounting import round_up
from hejin_privacy.budget import PlanSpend, charge_for
from hejin_regulator.check_shapes import shape_fault
from hejin_regulator.course import Course
from hejin_regulator.evidence import Evidence
from hejin_regulator.fields import fraction
from hejin_regulator.findings import Point, Spending, epsilon_of, shown
from hejin_regulator.plans import KnownPlan
from hejin_regulator.records import Priced, Reservation
from hejin_regulator.second_accountant import GRID_SLACK, composed_epsilon, one_multiplier
from hejin_regulator.workbook import Shelf, Workbook
from hejin_trust.charter import Charter
from hejin_trust.errors import HejinError
from hejin_trust.text import Text

_NOBODY: Final = "?"
_MOST_SUMS: Final = 2_000
"""Different noises that are added up at a time; the sums of one plan have a few."""
_Noise = tuple[str, str, str, float, float]  # period, plan, part, multiplier, multiplier_alone

_MOST_NOISES: Final = 500
"""Different noise multipliers that the second accountant composes one by one."""


@dataclass(frozen=True, slots=True)
class Balance:
    """The accounts around one reservation, as the replay has them."""

    period: str
    before: Fraction
    after: Fraction
    plan_after: Fraction
    bank_after: Fraction
    alone_before: Fraction
    alone_after: Fraction


class _Account:
    """What a node spent, by period and plan, from one point of view.

    told  whose point of view it is, for findings; empty for the account that is promised

    A node has two: as its sums are charged, and as they would count if all other nodes colluded.
    """

    def __init__(self, evidence: Evidence, name: str, told: Text) -> None:
        self.told = told
        self.spent: defaultdict[str, Fraction] = defaultdict(Fraction)
        self._plans: Shelf[PlanSpend] = Shelf(
            evidence.workbook, f"spend_{name}", _dump_spend, _load_spend, 256
        )

    def plan(self, digest: str) -> PlanSpend:
        """Return what a plan's sums cost so far."""
        return self._plans.get(digest) or PlanSpend()

    def add(self, period: str, reservation: Reservation, cost: Fraction, charge: Fraction) -> None:
        """Replay one reservation."""
        self.spent[period] += charge
        if cost > 0:
            spend = self.plan(reservation.plan)
            self._plans.put(reservation.plan, spend.plus(reservation.part, cost))


class _Noises:
    """The noise of a node's sums by period, plan and part, added up before it is written down."""

    def __init__(self, workbook: Workbook) -> None:
        self._workbook = workbook
        self._sums: dict[_Noise, tuple[int, float, float]] = {}
        workbook.change("DELETE FROM noise")

    def add(self, noise: _Noise, costs: tuple[float, float]) -> None:
        """Take one sum with its cost in both accounts."""
        count, cost, alone = self._sums.get(noise, (0, 0.0, 0.0))
        self._sums[noise] = (count + 1, cost + costs[0], alone + costs[1])
        if len(self._sums) > _MOST_SUMS:
            self.write()

    def write(self) -> None:
        """Put what was added up so far into the workbook."""
        for noise, sums in self._sums.items():
            self._workbook.put("noise", *noise, *sums)
        self._sums.clear()


class AccountReplay:
    """One node's account, replayed from its reservations in the order of its log."""

    def __init__(self, evidence: Evidence, node: str) -> None:
        self._evidence, self._node = evidence, node
        self._charged = _Account(evidence, "charged", Text("", ""))
        self._alone = _Account(
            evidence, "alone", Text("if all other nodes colluded, ", "若其他节点全部合谋，")
        )
        self._by_bank: defaultdict[tuple[str, str], Fraction] = defaultdict(Fraction)
        self._releases: Counter[tuple[str, str | None]] = Counter()
        self._course = Course()
        self._shapes: dict[tuple[str, bytes], Text | None] = {}
        self._noises = _Noises(evidence.workbook)

    def _note(self, seq: int | None, en: str, zh: str) -> None:
        self._evidence.notes.add("V8", self._node, seq, en, zh)

    def reserve(self, reservation: Reservation, known: KnownPlan | None) -> Balance:
        """Replay one reservation; return the accounts around it."""
        charter = self._charter_at(reservation)
        period, seq = charter.period_from, reservation.seq
        before, alone_before = self._charged.spent[period], self._alone.spent[period]
        priced = reservation.priced
        if isinstance(priced, HejinError):
            self._evidence.notes.add_text("V8", self._node, seq, priced.text)
        else:
            self._check_shape(seq, priced, known)
        caps = self._evidence.history.caps(charter, reservation.time)
        cost = self._add(
            self._charged, reservation, period, (reservation.rho, reservation.charge), caps
        )
        cost_alone = self._add(
            self._alone,
            reservation,
            period,
            (reservation.rho_alone, reservation.charge_alone),
            caps,
        )
        if not isinstance(priced, HejinError):
            self._noises.add(
                (period, reservation.plan, reservation.part, priced.noise, priced.noise_alone),
                (_as_float(cost), _as_float(cost_alone)),
            )
        # Whoever is no bank has no row of its own: a log may name any number of them.
        bank = reservation.bank if self._is_bank(reservation.bank) else _NOBODY
        self._by_bank[period, bank] += round_up(reservation.charge)
        spend = self._charged.plan(reservation.plan)
        if known is not None and (
            spend.train > known.plan.rho_train or spend.holdout > known.plan.rho_holdout
        ):
            self._note(seq, "the plan's own cap is exceeded", "超出计划自身的上限")
        self._course.add(period, reservation.time, self._charged.spent[period])
        return Balance(
            period=period,
            before=before,
            after=self._charged.spent[period],
            plan_after=max(spend.train, spend.holdout),
            bank_after=self._by_bank[period, bank],
            alone_before=alone_before,
            alone_after=self._alone.spent[period],
        )

    def released(self, period: str, bank: str) -> None:
        """Count a release."""
        known = bank if self._is_bank(bank) else _NOBODY
        self._releases.update([(period, None), (period, known)])

    def _is_bank(self, name: str) -> bool:
        return self._evidence.history.member(name, "bank") is not None

    def period_at(self, time: str) -> str | None:
        """Return the budget period in which a time falls, if it falls in one."""
        charter = self._evidence.history.for_budget(time)
        return None if charter is None else charter.period_from

    def _charter_at(self, reservation: Reservation) -> Charter:
        """Return the charter in whose budget period the reservation falls."""
        charter = self._evidence.history.for_budget(reservation.time)
        if charter is not None:
            return charter
        self._note(
            reservation.seq,
            "the reservation falls into no budget period of the charter",
            "该预留不在章程的任何预算期内",
        )
        return self._evidence.charter

    def _add(
        self,
        account: _Account,
        reservation: Reservation,
        period: str,
        told: tuple[Fraction, Fraction],
        charters: tuple[Charter, ...],
    ) -> Fraction:
        """Check and replay one reservation in one account; return what the sum cost.

        told      the entry's cost and charge
        charters  whose caps the account may go by
        """
        rho, charge = told
        alone = account is self._alone
        cost = self._cost(reservation, rho, account.told, alone)
        self._check_charge(reservation, account, cost, charge)
        # Multiples of 2^-64, as honest charges are: other fractions add up to ever longer ones.
        account.add(period, reservation, cost, round_up(charge))
        cap = max(charter.rho_alone_cap if alone else charter.rho_cap for charter in charters)
        spent = account.spent[period]
        if spent > cap:
            self._note(
                reservation.seq,
                f"{account.told.en}the account stands at rho={shown(spent)}, above the "
                f"charter's cap of {shown(cap)}",
                f"{account.told.zh}账户累计 rho={shown(spent)}，超过章程上限 {shown(cap)}",
            )
        return cost

    def _cost(self, reservation: Reservation, told: Fraction, view: Text, alone: bool) -> Fraction:
        """Return what the sum cost: as the noise says, or as logged where that is more."""
        priced = reservation.priced
        if isinstance(priced, HejinError):
            return told
        cost = priced.cost_alone if alone else priced.cost
        if told < cost:
            self._note(
                reservation.seq,
                f"{view.en}the noise costs rho={shown(cost)}, the entry says {shown(told)}",
                f"{view.zh}按噪声计算 rho={shown(cost)}，条目所记为 {shown(told)}",
            )
        return max(cost, told)

    def _check_charge(
        self, reservation: Reservation, account: _Account, cost: Fraction, charge: Fraction
    ) -> None:
        told = account.told
        if round_up(charge) != charge:
            self._note(
                reservation.seq,
                f"{told.en}the charge is no multiple of 2^-64, as every charge of a node is",
                f"{told.zh}扣减不是 2^-64 的整数倍，而节点的扣减均应如此",
            )
        if cost <= 0:
            self._note(
                reservation.seq,
                f"{told.en}the sum was logged as free",
                f"{told.zh}该求和被记为零费用",
            )
            return
        spend = account.plan(reservation.plan)
        least = charge_for(spend.train, spend.holdout, reservation.part, cost)
        if charge < least:
            self._note(
                reservation.seq,
                f"{told.en}the account was charged rho={shown(charge)}, "
                f"the sum adds {shown(least)}",
                f"{told.zh}账户扣减 rho={shown(charge)}，该求和应扣 {shown(least)}",
            )

    def _check_shape(self, seq: int, priced: Priced, known: KnownPlan | None) -> None:
        key = ("" if known is None else known.digest, priced.text)
        if key not in self._shapes:
            if len(self._shapes) > 1024:
                self._shapes.clear()
            view = None if known is None else known.view
            self._shapes[key] = shape_fault(priced.mechanism, view)
        fault = self._shapes[key]
        if fault is not None:
            self._evidence.notes.add_text("V8", self._node, seq, fault)

    # -- at the end ----------------------------------------------------------------------

    def finish(self) -> None:
        """Compare what was charged with what the second accountant finds in the noise."""
        self._noises.write()
        delta = float(self._evidence.charter.delta)
        for account, column in ((self._charged, ""), (self._alone, "_alone")):
            for period, noises in self._worst(column):
                second = composed_epsilon(noises, delta)
                charged = epsilon_of(account.spent[period], delta)
                if second > charged * (1 + GRID_SLACK):
                    self._note(
                        None,
                        f"{account.told.en}dp-accounting finds epsilon={second:.6g} in the noise of"
                        f" the period from {period}, the charges amount to {charged:.6g}",
                        f"{account.told.zh}dp-accounting 对 {period} 起的预算期算得 "
                        f"epsilon={second:.6g}，而扣减仅合 {charged:.6g}",
                    )

    def _worst(self, column: str) -> Iterator[tuple[str, Counter[float]]]:
        """Yield, by period, the releases that the worst-off enterprise was in.

        They are those over the dearer part of every plan. Of very many different noises, those
        beyond the first are composed to one.
        """
        noises: Counter[float] = Counter()
        last = ""
        for period, multiplier, count in self._evidence.workbook.rows(_WORST[column]):
            if last and period != last:
                yield last, noises
                noises = Counter()
            last = period
            noises[multiplier] += count
            if len(noises) > 2 * _MOST_NOISES:
                noises = one_multiplier(noises, _MOST_NOISES)
        if last:
            yield last, noises

    def course(self) -> tuple[Point, ...]:
        """Return the account over time, thinned."""
        delta = float(self._evidence.charter.delta)
        return tuple(
            Point(time, spent, epsilon_of(spent, delta)) for time, spent in self._course.points()
        )

    def spending(self) -> list[Spending]:
        """Return what was charged by period, over all banks and by each of them."""
        history = self._evidence.history
        of_period = {charter.period_from: charter for charter in history.charters}
        spent, delta = self._charged.spent, history.charter.delta
        rows: list[Spending] = []
        for period in sorted(spent) or [history.charter.period_from]:
            charter, alone = of_period[period], self._alone.spent[period]
            banks = sorted(bank for of, bank in self._by_bank if of == period)
            amounts: list[tuple[str | None, Fraction]] = [(None, spent[period])]
            amounts += [(bank, self._by_bank[period, bank]) for bank in banks]
            rows += [
                Spending(
                    node=self._node,
                    bank=bank,
                    period=period,
                    period_to=charter.period_to,
                    releases=self._releases[period, bank],
                    rho=rho,
                    rho_cap=charter.rho_cap,
                    epsilon=epsilon_of(rho, float(delta)),
                    epsilon_cap=epsilon_of(charter.rho_cap, float(delta)),
                    delta=delta,
                    rho_alone=alone if bank is None else None,
                    rho_alone_cap=charter.rho_alone_cap,
                    epsilon_alone=epsilon_of(alone, float(delta)) if bank is None else None,
                    epsilon_alone_cap=epsilon_of(charter.rho_alone_cap, float(delta)),
                )
                for bank, rho in amounts
            ]
        return rows


def _worst_query(column: str) -> str:
    multiplier, cost = f"multiplier{column}", f"cost{column}"
    # The part that costs more of each plan; MAX() picks the row of its other columns in SQLite.
    return f"""
    WITH part AS (SELECT period, plan, part, SUM({cost}) AS cost FROM noise GROUP BY 1, 2, 3),
    dearer AS (SELECT period, plan, part, MAX(cost) FROM part GROUP BY 1, 2)
    SELECT period, {multiplier}, SUM(count) FROM noise JOIN dearer USING (period, plan, part)
    GROUP BY 1, 2 ORDER BY 1, 2
    """  # noqa: S608 - two fixed columns


_WORST: Final = {column: _worst_query(column) for column in ("", "_alone")}


def _as_float(cost: Fraction) -> float:
    try:
        return float(cost)
    except OverflowError:
        return 1e308


def _dump_spend(spend: PlanSpend) -> str:
    parts = (spend.train, spend.holdout)
    return " ".join(f"{part.numerator}/{part.denominator}" for part in parts)


def _load_spend(value: str) -> PlanSpend:
    return PlanSpend(*(fraction(*part.split("/")) for part in value.split(" ")))
