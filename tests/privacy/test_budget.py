"""The filter: parallel composition of the two parts, and a cap that nothing gets past."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hejin_privacy.budget import (
    Account,
    Part,
    charge_for,
    check_account,
    check_alone,
    check_plan,
)
from hejin_privacy.errors import (
    AloneBudgetExhaustedError,
    BudgetExhaustedError,
    PlanBudgetExhaustedError,
)

parts = st.sampled_from(["train", "holdout"])
grained = st.integers(1, 2**62).map(lambda k: Fraction(k, 2**64))
sums = st.lists(st.tuples(st.sampled_from("abc"), parts, grained), max_size=40)
CAP, PLAN_CAP = Fraction(2), Fraction(1)


def slow_spent(taken: list[tuple[str, Part, Fraction]]) -> Fraction:
    """What every enterprise has paid at most: all plans, of each the dearer part."""
    return sum(
        (
            max(
                sum((c for p, w, c in taken if p == plan and w == part), Fraction(0))
                for part in ("train", "holdout")
            )
            for plan in {p for p, _, _ in taken}
        ),
        Fraction(0),
    )


@given(asked=sums)
def test_the_account_equals_the_slow_reference_and_never_exceeds_its_caps(
    asked: list[tuple[str, Part, Fraction]],
) -> None:
    account, taken = Account(CAP), list[tuple[str, Part, Fraction]]()
    for plan, part, cost in asked:
        of_part = sum((c for p, w, c in taken if (p, w) == (plan, part)), Fraction(0))
        try:
            account = account.reserve(plan, part, cost, PLAN_CAP)
        except PlanBudgetExhaustedError:
            assert of_part + cost > PLAN_CAP
        except BudgetExhaustedError:
            assert slow_spent([*taken, (plan, part, cost)]) > CAP
        else:
            taken.append((plan, part, cost))
            assert of_part + cost <= PLAN_CAP
        assert account.spent == slow_spent(taken) <= CAP


@given(
    asked=st.lists(st.tuples(parts, st.fractions(Fraction(1, 10**9), 1)), min_size=1, max_size=12)
)
def test_charges_cover_costs_that_are_not_multiples_of_the_grain(
    asked: list[tuple[Part, Fraction]],
) -> None:
    account = Account(Fraction(100))
    for part, cost in asked:
        account = account.reserve("p", part, cost, Fraction(100))
    exact = slow_spent([("p", part, cost) for part, cost in asked])
    assert exact <= account.spent < exact + Fraction(len(asked), 2**64)
    assert 2**64 % account.spent.denominator == 0


def test_a_hold_out_sum_is_free_up_to_what_training_has_paid() -> None:
    third, half = Fraction(1, 4), Fraction(1, 2)
    assert charge_for(half, Fraction(0), "holdout", third) == 0
    assert charge_for(half, third, "holdout", half) == Fraction(1, 4)
    assert charge_for(half, third, "train", half) == half


def test_the_last_of_the_budget_can_be_spent_and_nothing_after_it() -> None:
    account = Account(CAP).reserve("a", "train", CAP, CAP)
    with pytest.raises(BudgetExhaustedError) as refused:
        account.reserve("b", "train", Fraction(1, 2**64), CAP)
    assert (refused.value.asked, refused.value.left) == (Fraction(1, 2**64), Fraction(0))
    assert account.spent == CAP
    # Still free within what plan a has paid for its training part.
    assert account.reserve("a", "holdout", CAP, CAP).spent == CAP


def test_refusals_say_how_much_and_what_to_do_in_both_languages() -> None:
    with pytest.raises(BudgetExhaustedError) as account:
        check_account(Fraction(3, 4), Fraction(1, 2), Fraction(1))
    with pytest.raises(PlanBudgetExhaustedError) as plan:
        check_plan(Fraction(3, 4), Fraction(1, 2), Fraction(1))
    for refused in (account.value, plan.value):
        assert "rho=0.5, only 0.25 is left" in refused.text.en
        assert "rho=0.5" in refused.text.zh
        assert "0.25" in refused.text.zh
    assert account.value.code != plan.value.code


@pytest.mark.parametrize("cost", [Fraction(0), Fraction(-1)])
def test_a_sum_that_costs_nothing_is_refused(cost: Fraction) -> None:
    with pytest.raises(ValueError):
        charge_for(Fraction(0), Fraction(0), "train", cost)


def test_a_negative_balance_is_refused() -> None:
    with pytest.raises(ValueError):
        charge_for(Fraction(0), Fraction(-1), "train", Fraction(1))


def test_a_year_of_sums_keeps_a_short_denominator() -> None:
    account = Account(Fraction(1000))
    for k in range(2, 400):
        account = account.reserve(f"p{k % 3}", "train", Fraction(1, k * k), Fraction(1000))
    for rho in (account.spent, *(spend.rho for spend in account.plans.values())):
        assert 2**64 % rho.denominator == 0


def test_the_cap_on_collusion_can_be_spent_to_the_last_and_not_more() -> None:
    check_alone(Fraction(2, 5), Fraction(1, 10), Fraction(1, 2))
    with pytest.raises(AloneBudgetExhaustedError, match=r"only 0\.05") as refused:
        check_alone(Fraction(9, 20), Fraction(1, 10), Fraction(1, 2))
    assert refused.value.code == "alone-budget-exhausted"
    assert (refused.value.asked, refused.value.left) == (Fraction(1, 10), Fraction(1, 20))
