"""V8 and V9: recompute every cost from the noise, and replay the account."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass
from fractions import Fraction

from hejin_models.errors import UnknownStatisticError
from hejin_models.statistics import statistic
from hejin_privacy.budget import PlanSpend, charge_for
from hejin_privacy.mechanism import Mechanism, delta_squared
from hejin_regulator.check_plans import PlanBook
from hejin_regulator.evidence import Evidence
from hejin_regulator.findings import Spending, epsilon_of, shown
from hejin_regulator.records import NodeLog, Reservation
from hejin_regulator.second_accountant import GRID_SLACK, composed_epsilon
from hejin_trust import canonical
from hejin_trust.charter import Charter
from hejin_trust.entries import Entry

#: C^2 of the real-valued statistics, whatever the view: all their coordinates may differ from 0.
#: Of a count it is the number of ones, that is of non-zeros (PRIVATE_SUM section 4).
_REAL_BOUNDS = {
    ("gram", 1): Fraction(1, 2),
    ("logistic_gradient", 1): Fraction(1),
    ("network_gradient", 1): Fraction(1),
}


@dataclass(frozen=True, slots=True)
class _Balance:
    """The account around one reservation, as the replay has it."""

    period: str
    before: Fraction
    after: Fraction
    plan_after: Fraction
    bank_after: Fraction


class AccountReplay:
    """One node's account, replayed from its reservations in the order of its log."""

    def __init__(self, evidence: Evidence, plans: PlanBook, node: NodeLog) -> None:
        self._evidence, self._plans, self._node = evidence, plans, node
        self._name = node.member.id
        self._spent: defaultdict[str, Fraction] = defaultdict(Fraction)
        self._by_bank: defaultdict[tuple[str, str], Fraction] = defaultdict(Fraction)
        self._by_plan: dict[str, PlanSpend] = {}
        self._noise: defaultdict[tuple[str, str, str], Counter[float]] = defaultdict(Counter)
        self._costs: defaultdict[tuple[str, str, str], Fraction] = defaultdict(Fraction)
        self._balances: dict[int, _Balance] = {}
        self._accounted: set[int] = set()
        for reservation in node.reservations.values():
            self._replay(reservation)
        self._check_second_accountant()

    def _note(self, seq: int | None, en: str, zh: str) -> None:
        self._evidence.notes.add("V8", self._name, seq, en, zh)

    # -- V8 ------------------------------------------------------------------------------

    def _replay(self, reservation: Reservation) -> None:
        charter = self._charter_at(reservation)
        period = charter.period_from
        cost = self._cost(reservation)
        self._check_charge(reservation, cost)
        before = self._spent[period]
        self._spent[period] += reservation.charge
        self._by_bank[period, reservation.bank] += reservation.charge
        spend = self._by_plan.get(reservation.plan, PlanSpend())
        if cost > 0:
            spend = spend.plus(reservation.part, cost)
        self._by_plan[reservation.plan] = spend
        if self._spent[period] > charter.rho_cap:
            self._note(
                reservation.seq,
                f"the account stands at rho={shown(self._spent[period])}, above the "
                f"charter's cap of {shown(charter.rho_cap)}",
                f"账户累计 rho={shown(self._spent[period])}，超过章程上限 {shown(charter.rho_cap)}",
            )
        self._check_plan_cap(reservation, spend)
        self._balances[reservation.seq] = _Balance(
            period=period,
            before=before,
            after=self._spent[period],
            plan_after=max(spend.train, spend.holdout),
            bank_after=self._by_bank[period, reservation.bank],
        )
        key = (period, reservation.plan, reservation.part)
        self._costs[key] += cost
        if reservation.mechanism is not None:
            self._noise[key][_noise_multiplier(reservation.mechanism)] += 1

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

    def _cost(self, reservation: Reservation) -> Fraction:
        """Return what the sum cost: as the noise says, or as logged where that is more."""
        mechanism = reservation.mechanism
        if mechanism is None:
            return reservation.rho
        self._check_bound(reservation.seq, mechanism)
        cost = mechanism.cost()
        if reservation.rho < cost:
            self._note(
                reservation.seq,
                f"the noise costs rho={shown(cost)}, the entry says {shown(reservation.rho)}",
                f"按噪声计算 rho={shown(cost)}，条目所记为 {shown(reservation.rho)}",
            )
        return max(cost, reservation.rho)

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

    def _check_charge(self, reservation: Reservation, cost: Fraction) -> None:
        spend = self._by_plan.get(reservation.plan, PlanSpend())
        if cost <= 0:
            self._note(reservation.seq, "the sum was logged as free", "该求和被记为零费用")
            return
        least = charge_for(spend.train, spend.holdout, reservation.part, cost)
        if reservation.charge < least:
            self._note(
                reservation.seq,
                f"the account was charged rho={shown(reservation.charge)}, "
                f"the sum adds {shown(least)}",
                f"账户扣减 rho={shown(reservation.charge)}，该求和应扣 {shown(least)}",
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

    def _check_second_accountant(self) -> None:
        """The dearer part of every plan is what the worst-off enterprise paid in a period."""
        worst: defaultdict[str, Counter[float]] = defaultdict(Counter)
        for period, plan in {(period, plan) for period, plan, _ in self._noise}:
            dearer = max(("train", "holdout"), key=lambda p: self._costs[period, plan, p])
            worst[period].update(self._noise[period, plan, dearer])
        delta = float(self._evidence.charter.delta)
        for period, releases in worst.items():
            second = composed_epsilon(releases, delta)
            charged = epsilon_of(self._spent[period], delta)
            if second > charged * (1 + GRID_SLACK):
                self._note(
                    None,
                    f"dp-accounting finds epsilon={second:.6g} in the noise of the period from "
                    f"{period}, the charges amount to {charged:.6g}",
                    f"dp-accounting 对 {period} 起的预算期算得 epsilon={second:.6g}，"
                    f"而扣减仅合 {charged:.6g}",
                )

    def spending(self) -> list[Spending]:
        """Return what was charged by period, over all banks and by each of them."""
        charters = (self._evidence.charter, *self._evidence.charters.values())
        caps = {charter.period_from: charter.rho_cap for charter in reversed(charters)}
        delta = self._evidence.charter.delta
        rows: list[Spending] = []
        for period in sorted(self._spent) or [self._evidence.charter.period_from]:
            banks = sorted(bank for of, bank in self._by_bank if of == period)
            amounts: list[tuple[str | None, Fraction]] = [(None, self._spent[period])]
            amounts += [(bank, self._by_bank[period, bank]) for bank in banks]
            rows += [
                Spending(
                    node=self._name,
                    bank=bank,
                    period=period,
                    rho=rho,
                    rho_cap=caps[period],
                    epsilon=epsilon_of(rho, float(delta)),
                    epsilon_cap=epsilon_of(caps[period], float(delta)),
                    delta=delta,
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


def _noise_multiplier(mechanism: Mechanism) -> float:
    """Return sigma / (sqrt(r) Delta): the r releases an enterprise may be in, as one."""
    squared = mechanism.sigma**2 / (mechanism.r * mechanism.delta_squared)
    return math.sqrt(squared)
