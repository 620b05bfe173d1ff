"""V8 and V9: recompute every cost from the noise, and replay the account."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from fractions import Fraction

from hejin_models.errors import UnknownStatisticError
from hejin_models.statistics import statistic
from hejin_privacy.budget import PlanSpend, charge_for
from hejin_privacy.mechanism import Mechanism, delta_squared
from hejin_regulator.check_plans import PlanBook
from hejin_regulator.evidence import Evidence
from hejin_regulator.findings import Point, Spending, epsilon_of, shown
from hejin_regulator.records import NodeLog, Reservation
from hejin_regulator.second_accountant import (
    GRID_SLACK,
    composed_epsilon,
    node_multiplier,
    shared_multiplier,
)
from hejin_trust import canonical
from hejin_trust.charter import Charter
from hejin_trust.entries import Entry
from hejin_trust.text import Text

#: C^2 of the real-valued statistics, whatever the view: all their coordinates may differ from 0.
#: Of a count it is the number of ones, that is of non-zeros (PRIVATE_SUM section 4).
_REAL_BOUNDS = {
    ("gram", 1): Fraction(1, 2),
    ("logistic_gradient", 1): Fraction(1),
    ("network_gradient", 1): Fraction(1),
}


@dataclass(frozen=True, slots=True)
class _Balance:
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

    def __init__(self, told: Text) -> None:
        self.told = told
        self.spent: defaultdict[str, Fraction] = defaultdict(Fraction)
        self._plans: defaultdict[str, PlanSpend] = defaultdict(PlanSpend)
        self._noise: defaultdict[tuple[str, str, str], Counter[float]] = defaultdict(Counter)
        self._costs: defaultdict[tuple[str, str, str], Fraction] = defaultdict(Fraction)

    def plan(self, digest: str) -> PlanSpend:
        """Return what a plan's sums cost so far."""
        return self._plans[digest]

    def least_charge(self, reservation: Reservation, cost: Fraction) -> Fraction:
        """Return what a sum of `cost` > 0 adds to the account."""
        spend = self._plans[reservation.plan]
        return charge_for(spend.train, spend.holdout, reservation.part, cost)

    def add(
        self,
        period: str,
        reservation: Reservation,
        cost: Fraction,
        charge: Fraction,
        noise: float | None,
    ) -> None:
        """Replay one reservation; `noise` is the second accountant's noise multiplier."""
        self.spent[period] += charge
        if cost > 0:
            spend = self._plans[reservation.plan]
            self._plans[reservation.plan] = spend.plus(reservation.part, cost)
        key = (period, reservation.plan, reservation.part)
        self._costs[key] += cost
        if noise is not None:
            self._noise[key][noise] += 1

    def worst(self) -> dict[str, Counter[float]]:
        """Return the releases of each period that the worst-off enterprise was in.

        They are those over the dearer part of every plan.
        """
        found: defaultdict[str, Counter[float]] = defaultdict(Counter)
        for period, plan in {(period, plan) for period, plan, _ in self._noise}:
            dearer = max(("train", "holdout"), key=lambda p: self._costs[period, plan, p])
            found[period].update(self._noise[period, plan, dearer])
        return found


class AccountReplay:
    """One node's account, replayed from its reservations in the order of its log."""

    def __init__(self, evidence: Evidence, plans: PlanBook, node: NodeLog) -> None:
        self._evidence, self._plans, self._node = evidence, plans, node
        self._name = node.member.id
        self._charged = _Account(Text("", ""))
        self._alone = _Account(Text("if all other nodes colluded, ", "若其他节点全部合谋，"))
        self._by_bank: defaultdict[tuple[str, str], Fraction] = defaultdict(Fraction)
        self._released = {release.reservation for release in node.releases}
        self._releases: Counter[tuple[str, str | None]] = Counter()
        self.course: list[Point] = []
        self._balances: dict[int, _Balance] = {}
        self._accounted: set[int] = set()
        for reservation in node.reservations.values():
            self._replay(reservation)
        for account in (self._charged, self._alone):
            self._check_second_accountant(account)

    def _note(self, seq: int | None, en: str, zh: str) -> None:
        self._evidence.notes.add("V8", self._name, seq, en, zh)

    # -- V8 ------------------------------------------------------------------------------

    def _replay(self, reservation: Reservation) -> None:
        charter, mechanism = self._charter_at(reservation), reservation.mechanism
        period = charter.period_from
        before, alone_before = self._charged.spent[period], self._alone.spent[period]
        if mechanism is not None:
            self._check_bound(reservation.seq, mechanism)
        views = (
            (self._charged, reservation.rho, reservation.charge, charter.rho_cap),
            (self._alone, reservation.rho_alone, reservation.charge_alone, charter.rho_alone_cap),
        )
        for account, told, charge, cap in views:
            alone = account is self._alone
            cost = self._cost(reservation, told, account.told, alone)
            self._check_charge(reservation, account, cost, charge)
            noise = None if mechanism is None else _noise_multiplier(mechanism, alone)
            account.add(period, reservation, cost, charge, noise)
            self._check_cap(reservation.seq, account, period, cap)
        self._by_bank[period, reservation.bank] += reservation.charge
        if reservation.seq in self._released:
            self._releases.update([(period, None), (period, reservation.bank)])
        spent = self._charged.spent[period]
        delta = float(self._evidence.charter.delta)
        self.course.append(Point(reservation.time, spent, epsilon_of(spent, delta)))
        spend = self._charged.plan(reservation.plan)
        self._check_plan_cap(reservation, spend)
        self._balances[reservation.seq] = _Balance(
            period=period,
            before=before,
            after=self._charged.spent[period],
            plan_after=max(spend.train, spend.holdout),
            bank_after=self._by_bank[period, reservation.bank],
            alone_before=alone_before,
            alone_after=self._alone.spent[period],
        )

    def _check_cap(self, seq: int, account: _Account, period: str, cap: Fraction) -> None:
        spent = account.spent[period]
        if spent > cap:
            self._note(
                seq,
                f"{account.told.en}the account stands at rho={shown(spent)}, above the "
                f"charter's cap of {shown(cap)}",
                f"{account.told.zh}账户累计 rho={shown(spent)}，超过章程上限 {shown(cap)}",
            )

    def _charter_at(self, reservation: Reservation) -> Charter:
        """Return the charter in whose budget period the reservation falls."""
        for charter in (self._evidence.charter, *self._evidence.charters.values()):
            if charter.period_from <= reservation.time < charter.period_to:
                return charter
        self._note(
            reservation.seq,
            "the reservation falls into no budget period of the charter",
            "该预留不在章程的任何预算期内",
        )
        return self._evidence.charter

    def _cost(self, reservation: Reservation, told: Fraction, view: Text, alone: bool) -> Fraction:
        """Return what the sum cost: as the noise says, or as logged where that is more."""
        mechanism = reservation.mechanism
        if mechanism is None:
            return told
        cost = mechanism.cost_alone() if alone else mechanism.cost()
        if told < cost:
            self._note(
                reservation.seq,
                f"{view.en}the noise costs rho={shown(cost)}, the entry says {shown(told)}",
                f"{view.zh}按噪声计算 rho={shown(cost)}，条目所记为 {shown(told)}",
            )
        return max(cost, told)

    def _check_bound(self, seq: int, mechanism: Mechanism) -> None:
        try:
            counts = statistic(mechanism.statistic, mechanism.version).counts
        except UnknownStatisticError as reason:
            self._evidence.notes.add_text("V8", self._name, seq, reason.text)
            return
        told = (mechanism.bound_squared, mechanism.nonzeros)
        if counts:
            bound = (Fraction(mechanism.nonzeros), mechanism.nonzeros)
        else:
            known = _REAL_BOUNDS[mechanism.statistic, mechanism.version]
            bound = (known, mechanism.dimension)
        if told != bound:
            self._note(
                seq,
                "the bound is not that which the catalogue gives the statistic",
                "所列的界不是统计目录为该统计量规定的界",
            )
        least = delta_squared(mechanism.bound_squared, mechanism.nonzeros, counts)
        if mechanism.delta_squared < least:
            self._note(
                seq,
                "the sensitivity is below that of the statistic",
                "敏感度低于该统计量应有的值",
            )

    def _check_charge(
        self, reservation: Reservation, account: _Account, cost: Fraction, charge: Fraction
    ) -> None:
        told = account.told
        if cost <= 0:
            self._note(
                reservation.seq,
                f"{told.en}the sum was logged as free",
                f"{told.zh}该求和被记为零费用",
            )
            return
        least = account.least_charge(reservation, cost)
        if charge < least:
            self._note(
                reservation.seq,
                f"{told.en}the account was charged rho={shown(charge)}, "
                f"the sum adds {shown(least)}",
                f"{told.zh}账户扣减 rho={shown(charge)}，该求和应扣 {shown(least)}",
            )

    def _check_plan_cap(self, reservation: Reservation, spend: PlanSpend) -> None:
        known = self._plans.find(reservation.bank, reservation.plan)
        if known is None:
            return  # a finding of V7 already
        if spend.train > known.plan.rho_train or spend.holdout > known.plan.rho_holdout:
            self._note(
                reservation.seq,
                "the plan's own cap is exceeded",
                "超出计划自身的上限",
            )

    def _check_second_accountant(self, account: _Account) -> None:
        delta, told = float(self._evidence.charter.delta), account.told
        for period, releases in account.worst().items():
            second = composed_epsilon(releases, delta)
            charged = epsilon_of(account.spent[period], delta)
            if second > charged * (1 + GRID_SLACK):
                self._note(
                    None,
                    f"{told.en}dp-accounting finds epsilon={second:.6g} in the noise of the period"
                    f" from {period}, the charges amount to {charged:.6g}",
                    f"{told.zh}dp-accounting 对 {period} 起的预算期算得 epsilon={second:.6g}，"
                    f"而扣减仅合 {charged:.6g}",
                )

    def spending(self) -> list[Spending]:
        """Return what was charged by period, over all banks and by each of them."""
        charters = (self._evidence.charter, *self._evidence.charters.values())
        of_period = {charter.period_from: charter for charter in reversed(charters)}
        spent, delta = self._charged.spent, self._evidence.charter.delta
        rows: list[Spending] = []
        for period in sorted(spent) or [self._evidence.charter.period_from]:
            charter, alone = of_period[period], self._alone.spent[period]
            banks = sorted(bank for of, bank in self._by_bank if of == period)
            amounts: list[tuple[str | None, Fraction]] = [(None, spent[period])]
            amounts += [(bank, self._by_bank[period, bank]) for bank in banks]
            rows += [
                Spending(
                    node=self._name,
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

    # -- V9 ------------------------------------------------------------------------------

    def see(self, entry: Entry) -> None:
        """Compare an `account` entry of the internal log with the replay."""
        if entry.type != "account":
            return
        notes, body = self._evidence.notes, entry.body
        reservation = canonical.integer(body, "reservation")
        balance = self._balances.get(reservation)
        if balance is None or reservation in self._accounted:
            notes.add(
                "V9",
                self._name,
                entry.seq,
                f"reservation {reservation} does not exist or was accounted for before",
                f"预留 {reservation} 不存在或已记账",
            )
            return
        self._accounted.add(reservation)
        told = _Balance(
            period=str(body["period"]),
            before=canonical.fraction(body, "spent_before"),
            after=canonical.fraction(body, "spent_after"),
            plan_after=canonical.fraction(body, "plan_spent_after"),
            bank_after=canonical.fraction(body, "bank_spent_after"),
            alone_before=canonical.fraction(body, "alone_before"),
            alone_after=canonical.fraction(body, "alone_after"),
        )
        if told != balance:
            notes.add(
                "V9",
                self._name,
                entry.seq,
                f"the account around reservation {reservation} does not replay: it says "
                f"rho={shown(told.before)} before and {shown(told.after)} after, "
                f"the log leads to {shown(balance.before)} and {shown(balance.after)}",
                f"预留 {reservation} 前后的账户无法重放：所记为 {shown(told.before)} 与 "
                f"{shown(told.after)}，按日志应为 {shown(balance.before)} 与 "
                f"{shown(balance.after)}",
            )

    def finish(self) -> None:
        """Note the reservations that the internal log does not account for."""
        for seq in sorted(self._balances.keys() - self._accounted):
            self._evidence.notes.add(
                "V9",
                self._name,
                seq,
                "the internal log has no account entry for the reservation",
                "内部日志中没有该预留的记账条目",
            )


def check_same_question(evidence: Evidence) -> None:
    """V8: all nodes of a round were asked the same query, so they all log the same mechanism."""
    asked: dict[tuple[str, str, int], tuple[str, Reservation]] = {}
    for node in evidence.nodes.values():
        for reservation in node.reservations.values():
            key = (reservation.bank, reservation.run, reservation.round)
            name, first = asked.setdefault(key, (node.member.id, reservation))
            if (reservation.query, reservation.mechanism) != (first.query, first.mechanism):
                evidence.notes.add(
                    "V8",
                    node.member.id,
                    reservation.seq,
                    f"{name} logged another query or mechanism for the same round",
                    f"{name} 对同一轮记录了不同的查询或机制",
                )


def _noise_multiplier(mechanism: Mechanism, alone: bool) -> float:
    """Return what the second accountant makes of a sum's noise."""
    sigma, squared, r = mechanism.sigma, mechanism.delta_squared, mechanism.r
    if alone or mechanism.mode == "node":
        return node_multiplier(sigma, squared, r)
    return shared_multiplier(sigma, squared, mechanism.dimension, mechanism.m - mechanism.t, r)
