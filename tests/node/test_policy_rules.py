"""The policy's decisions against a reference that spells each rule out."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from hejin_models.grades import GRADES, Grade
from hejin_models.plan import Deadlines, LabelReference, Plan, PricedSum, ViewReference
from hejin_node.policy_file import Policy
from hejin_node.policy_rules import policy_problems

NAMES = ("gram", "histogram", "label_histogram", "score_histogram")
FAMILIES = ("scorecard", "network")
VIEWS = ("trade-v1", "trade-v2", "full-v1")
BANKS = ("bank-1", "bank-2")
AT = datetime(2026, 6, 1, tzinfo=UTC)
PLAN = Plan(
    bank="bank-1",
    consortium="test",
    charter="0" * 64,
    purpose="model-training",
    product="loan",
    view=ViewReference("trade", 1, "1" * 64),
    grade="general",
    as_of=None,
    label=LabelReference("default", "bad-1", "bank-1"),
    family="scorecard",
    mode="node",
    nodes=("node-1",),
    minimum_nodes=1,
    quorum=0,
    colluders=0,
    deadlines=Deadlines(),
    holdout=Fraction(1, 5),
    rho_train=Fraction(1),
    rho_holdout=Fraction(1),
    sums=(PricedSum("gram", 1, "train", Fraction(1, 10)),),
    created=AT,
    expires=AT + timedelta(days=1),
    nonce="00" * 16,
)


def some(names: tuple[str, ...]) -> st.SearchStrategy[list[str]]:
    return st.one_of(st.just(["*"]), st.lists(st.sampled_from(names), min_size=1, unique=True))


rules = st.fixed_dictionaries(
    {
        "purposes": st.lists(
            st.sampled_from(("model-training", "credit-approval", "post-loan-monitoring")),
            min_size=1,
            unique=True,
        ),
        "grade": st.sampled_from(GRADES),
        "families": some(FAMILIES),
        "statistics": some(NAMES),
        "views": some(VIEWS),
    }
)


@given(
    default=st.none() | rules,
    banks=st.dictionaries(st.sampled_from(BANKS), rules),
    bank=st.sampled_from(BANKS),
    family=st.sampled_from(FAMILIES),
    view=st.sampled_from(VIEWS),
    grade=st.sampled_from(GRADES),
    statistics=st.lists(st.sampled_from(NAMES), min_size=1, max_size=4),
)
def test_a_plan_passes_exactly_where_each_thing_it_asks_is_named(
    default: dict[str, object] | None,
    banks: dict[str, dict[str, object]],
    bank: str,
    family: str,
    view: str,
    grade: Grade,
    statistics: list[str],
) -> None:
    written = {"size_band": [1, 2], "banks": banks}
    policy = Policy.model_validate(written if default is None else {**written, "default": default})
    name, _, version = view.rpartition("-v")
    plan = replace(
        PLAN,
        bank=bank,
        family=family,
        view=ViewReference(name, int(version), "1" * 64),
        grade=grade,
        sums=tuple(PricedSum(one, 1, "train", Fraction(1, 10)) for one in statistics),
    )
    assert {problem.code for problem in policy_problems(plan, policy)} == expected(
        banks.get(bank, default), family, view, grade, statistics
    )


def expected(
    own: dict[str, object] | None, family: str, view: str, grade: Grade, statistics: list[str]
) -> set[str]:
    if own is None:
        return {"policy-bank"}
    found = set()
    if "model-training" not in list(own["purposes"]):  # type: ignore[call-overload]
        found.add("policy-purpose")
    for code, key, asked in (
        ("policy-family", "families", [family]),
        ("policy-view", "views", [view]),
        ("policy-statistic", "statistics", statistics),
    ):
        listed = list(own[key])  # type: ignore[call-overload]
        if listed != ["*"] and any(one not in listed for one in asked):
            found.add(code)
    order = {"general": 0, "important": 1, "core": 2}
    if order[grade] > order[str(own["grade"])]:
        found.add("policy-grade")
    return found
