"""The privacy filter: what a sum adds to an account, and the refusal when that is too much."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from types import MappingProxyType
from typing import Literal

from hejin_privacy.accounting import round_up
from hejin_privacy.errors import (
    AloneBudgetExhaustedError,
    BudgetExhaustedError,
    PlanBudgetExhaustedError,
)

Part = Literal["train", "holdout"]


def charge_for(
    train_spent: Fraction, holdout_spent: Fraction, part: Part, cost: Fraction
) -> Fraction:
    """Return what one more sum over `part` adds to the account, a multiple of 2^-64.

    train_spent, holdout_spent  rho of the plan's earlier sums over each part, burned ones too,
                                as PlanSpend adds them up
    cost                        rho of this sum, > 0, exact; it counts rounded up to 2^-64
    raises                      ValueError if a cost is negative or zero

    Every enterprise is in one part, so the plan costs max(train, hold-out) (parallel
    composition) and the sum costs the increase of that maximum.
    """
    if train_spent < 0 or holdout_spent < 0:
        raise ValueError("what was spent is not negative")
    before = PlanSpend(train_spent, holdout_spent)
    return before.plus(part, cost).rho - before.rho


def check_account(spent: Fraction, charge: Fraction, cap: Fraction) -> None:
    """Raise BudgetExhaustedError if `charge` on top of `spent` exceeds the period's cap.

    This is the filter of Whitehouse et al. 2023 (arXiv:2203.05481, theorem 1): stopping before
    the cap keeps the whole period rho_cap-zCDP, however the sums were chosen.
    """
    if spent + charge > cap:
        raise BudgetExhaustedError(charge, max(cap - spent, Fraction(0)))


def check_alone(spent: Fraction, charge: Fraction, cap: Fraction) -> None:
    """Raise AloneBudgetExhaustedError if `charge` on top of `spent` exceeds the cap on rho_alone.

    The same filter on the account that counts each node's own noise alone (PRIVATE_SUM section 2).
    """
    if spent + charge > cap:
        raise AloneBudgetExhaustedError(charge, max(cap - spent, Fraction(0)))


def check_plan(spent: Fraction, cost: Fraction, cap: Fraction) -> None:
    """Raise PlanBudgetExhaustedError if `cost`, rounded up, exceeds the rest of the plan's cap."""
    if spent + round_up(cost) > cap:
        raise PlanBudgetExhaustedError(cost, max(cap - spent, Fraction(0)))


@dataclass(frozen=True, slots=True)
class PlanSpend:
    """What the sums of one plan cost so far, by part: rho, each sum rounded up to 2^-64.

    Exact costs have a different denominator each; added up they would outgrow a ledger entry.
    """

    train: Fraction = Fraction(0)
    holdout: Fraction = Fraction(0)

    def plus(self, part: Part, cost: Fraction) -> PlanSpend:
        """Return the spending after one more sum over `part`; ValueError unless cost > 0."""
        if cost <= 0:
            raise ValueError(f"a sum costs more than 0, got {cost}")
        if part == "train":
            return replace(self, train=self.train + round_up(cost))
        return replace(self, holdout=self.holdout + round_up(cost))

    @property
    def rho(self) -> Fraction:
        """What the plan cost every enterprise at most: the dearer part."""
        return max(self.train, self.holdout)


@dataclass(frozen=True, slots=True)
class Account:
    """One node's account of one budget period, as a value: replays a ledger, plans a dry run.

    cap     rho_cap of the charter
    spent   sum of all charges, over all banks; never above cap
    plans   spending by plan digest
    """

    cap: Fraction
    spent: Fraction = Fraction(0)
    plans: Mapping[str, PlanSpend] = field(default_factory=lambda: MappingProxyType({}))

    def reserve(self, plan: str, part: Part, cost: Fraction, plan_cap: Fraction) -> Account:
        """Return the account after one more sum.

        plan_cap  the plan's own cap on `part`
        raises    BudgetExhaustedError or PlanBudgetExhaustedError, and nothing is spent
        """
        before = self.plans.get(plan, PlanSpend())
        check_plan(before.train if part == "train" else before.holdout, cost, plan_cap)
        charge = charge_for(before.train, before.holdout, part, cost)
        check_account(self.spent, charge, self.cap)
        plans = {**self.plans, plan: before.plus(part, cost)}
        return replace(self, spent=self.spent + charge, plans=MappingProxyType(plans))
