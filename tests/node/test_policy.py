"""What the node's policy says of a plan, before anything is read."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from fractions import Fraction
from pathlib import Path

import pytest
from node_world import SIZE_BAND, World, found_world

from hejin_models.features import FeatureView, shipped_views
from hejin_models.grades import Grade
from hejin_models.plan import LabelReference, Plan, PricedSum, ViewReference
from hejin_models.schemas import load_schemas, shipped_schemas
from hejin_node.policy import DryRun, Facts, examine
from hejin_node.policy_file import Policy
from hejin_privacy.accounting import epsilon, round_up
from hejin_trust.charter import Charter


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return found_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def plan(world: World) -> Plan:
    return world.propose()[2]


def look(
    world: World, plan: Plan, *, signer: str = "bank-1", view: FeatureView | None = None,
    **facts: object,
) -> DryRun:  # fmt: skip
    known = Facts(
        node="node-1",
        charter=world.office.charter,
        now=world.clock(),
        policy=policy(),
        spent=Fraction(0),
        alone=Fraction(0),
        pledged=Fraction(0),
        entitled=30,
        labelled=30,
        installed=world.view if view is None else view,
        schemas={},
        data=(),
    )
    return examine(plan, signer, replace(known, **facts))  # type: ignore[arg-type]


def policy(*, size_band: tuple[int, int] = SIZE_BAND, **rules: object) -> Policy:
    """Return a policy of one table, for any bank."""
    known = {"purposes": ["model-training"], "grade": "core", **rules}
    return Policy.model_validate({"size_band": size_band, "default": known})


def codes(found: DryRun) -> list[str]:
    return [problem.code for problem in found.problems]


def test_a_fitting_plan_has_no_problem_and_states_its_cost(world: World, plan: Plan) -> None:
    found = look(world, plan, spent=Fraction(1, 10))
    assert codes(found) == []
    assert found.warnings == ()
    delta = float(world.office.charter.delta)
    assert found.epsilon_before == epsilon(Fraction(1, 10), delta)
    assert found.epsilon_after == epsilon(Fraction(1, 10) + plan.rho, delta)


def test_every_reason_against_a_plan_is_named_at_once(world: World, plan: Plan) -> None:
    wrong = replace(
        plan,
        nodes=("node-9",),
        label=LabelReference("default", "bad-1", "bank-2"),
        sums=(PricedSum("raw_rows", 1, "train", Fraction(1, 100)),),
    )
    found = look(
        world, wrong, signer="bank-3", installed=None, now=plan.expires, spent=Fraction(1, 2)
    )
    assert codes(found) == [
        "wrong-bank",
        "not-invited",
        "plan-expired",
        "view-not-installed",
        "unknown-statistic",
        "budget-exhausted",
    ]


def test_a_bank_that_was_revoked_is_not_served(tmp_path: Path) -> None:
    world = found_world(tmp_path)
    world.office.revoke("bank-1", world.clock())
    plan = world.propose()[2]
    assert codes(look(world, plan)) == ["bank-not-admitted"]


def test_a_plan_under_another_charter_is_not_approved(world: World, plan: Plan) -> None:
    """Its releases could never be verified: nobody would know what the plan was bound to."""
    assert codes(look(world, replace(plan, charter="0" * 64))) == ["other-charter"]


def test_the_charters_least_sizes_hold(world: World, plan: Plan) -> None:
    strict = replace(world.office.charter, minimum_nodes=3, minimum_enterprises=50)
    bound = replace(plan, charter=strict.digest)
    assert codes(look(world, bound, charter=strict)) == ["too-few-nodes", "too-small"]


def test_an_as_of_day_must_be_one_that_the_view_takes(world: World, plan: Plan) -> None:
    dated = replace(plan, as_of=world.clock().date() - timedelta(days=30))
    assert codes(look(world, dated)) == ["as-of-mismatch"]


def test_a_view_must_be_the_one_that_the_plan_names(world: World, plan: Plan) -> None:
    other = replace(plan, view=replace(plan.view, version=7))
    assert codes(look(world, other)) == ["view-mismatch"]


def test_a_plan_from_the_future_is_not_approved(world: World, plan: Plan) -> None:
    """Clocks may be off a little; a plan that is dated later waits for nothing good."""
    for minutes, found in ((4, []), (6, ["made-later"])):
        made = replace(plan, created=world.clock() + timedelta(minutes=minutes))
        assert codes(look(world, made)) == found


def test_a_plan_that_outlives_the_budget_period_is_not_approved(world: World, plan: Plan) -> None:
    long = replace(plan, expires=world.clock() + timedelta(days=400))
    assert codes(look(world, long)) == ["outside-period"]
    early = replace(plan, created=world.clock() - timedelta(days=1))
    assert codes(look(world, early)) == ["outside-period"]


def test_the_last_of_the_budget_can_be_spent_and_not_more(world: World, plan: Plan) -> None:
    cap = world.office.charter.rho_cap
    assert codes(look(world, plan, spent=cap - plan.rho)) == []
    over = cap - plan.rho + Fraction(1, 2**64)
    assert codes(look(world, plan, spent=over)) == ["budget-exhausted"]


def shared(plan: Plan) -> Plan:
    """Return the plan over 5 nodes that share its noise; 3 of them are counted on."""
    others = ("node-1", "node-2", "node-3", "node-4", "node-5")
    return replace(plan, mode="shared", nodes=others, minimum_nodes=4, quorum=4, colluders=1)


def with_caps(world: World, **caps: Fraction) -> Charter:
    return replace(world.office.charter, **caps)  # type: ignore[arg-type]


def test_a_plan_with_shared_noise_states_what_collusion_of_all_others_would_cost(
    world: World, plan: Plan
) -> None:
    charter = with_caps(world, rho_alone_cap=Fraction(5))
    together = replace(shared(plan), charter=charter.digest)
    found = look(world, together, charter=charter, spent=Fraction(1, 10), alone=Fraction(1, 5))
    assert codes(found) == []
    assert found.rho_alone == round_up(3 * plan.rho)
    delta = float(charter.delta)
    assert found.epsilon_after == epsilon(Fraction(1, 10) + plan.rho, delta)
    assert found.epsilon_alone_before == epsilon(Fraction(1, 5), delta)
    assert found.epsilon_alone_after == epsilon(Fraction(1, 5) + found.rho_alone, delta)
    assert found.epsilon_alone_cap == epsilon(Fraction(5), delta)


def test_the_cap_on_collusion_of_all_others_holds_in_either_mode(world: World, plan: Plan) -> None:
    charter = with_caps(world, rho_cap=Fraction(2), rho_alone_cap=Fraction(2))
    together = replace(shared(plan), charter=charter.digest)
    left = Fraction(2) - together.rho_alone(1)
    assert codes(look(world, together, charter=charter, alone=left)) == []
    over = left + Fraction(1, 2**64)
    assert codes(look(world, together, charter=charter, alone=over)) == ["alone-budget-exhausted"]
    apart = replace(plan, charter=charter.digest)
    assert codes(look(world, apart, charter=charter, alone=over)) == []
    full = Fraction(2) - plan.rho + Fraction(1, 2**64)
    assert codes(look(world, apart, charter=charter, alone=full)) == ["alone-budget-exhausted"]


def test_a_plan_with_shared_noise_may_not_undercut_the_charters_nodes(
    world: World, plan: Plan
) -> None:
    charter = with_caps(world, rho_alone_cap=Fraction(5))
    strict = replace(charter, minimum_nodes=5)
    together = replace(shared(plan), charter=strict.digest)
    assert codes(look(world, together, charter=strict)) == ["too-few-nodes"]


def test_a_node_with_nobody_to_contribute_is_warned(world: World, plan: Plan) -> None:
    found = look(world, plan, entitled=0, labelled=0)
    assert codes(found) == []
    assert len(found.warnings) == 2


@pytest.mark.parametrize(
    ("rules", "found"),
    [
        pytest.param({"purposes": ["credit-approval"]}, ["policy-purpose"], id="purpose"),
        pytest.param({"families": ["network"]}, ["policy-family"], id="family"),
        pytest.param({"views": ["firms-v2", "trade-v1"]}, ["policy-view"], id="view"),
        pytest.param({"statistics": ["label_histogram"]}, ["policy-statistic"], id="statistic"),
        pytest.param(
            {
                "views": ["firms-v1"],
                "families": ["scorecard"],
                "statistics": ["histogram", "label_histogram"],
            },
            [],
            id="all allowed by name",
        ),
        pytest.param(
            {"purposes": ["credit-approval"], "families": ["network"], "views": ["trade-v1"]},
            ["policy-purpose", "policy-family", "policy-view"],
            id="each reason at once",
        ),
    ],
)
def test_what_the_policy_does_not_name_nobody_can_approve(
    world: World, plan: Plan, rules: dict[str, object], found: list[str]
) -> None:
    assert codes(look(world, plan, policy=policy(**rules))) == found


TRADE = shipped_views()["trade-v1"]
VIEWS = ViewReference(TRADE.name, TRADE.version, TRADE.digest)


def of_trade(world: World, plan: Plan, grade: Grade) -> Plan:
    day = world.clock().date() - timedelta(days=30)
    return replace(plan, view=VIEWS, as_of=day, grade=grade)


@pytest.mark.parametrize(
    ("stated", "allowed", "found"),
    [
        ("important", "important", []),
        ("core", "core", []),
        ("general", "core", ["grade-understated"]),
        ("important", "general", ["policy-grade"]),
        ("core", "important", ["policy-grade"]),
        ("general", "general", ["grade-understated"]),
    ],
)
def test_a_plan_states_the_grade_of_its_columns_and_keeps_to_the_policys(
    world: World, plan: Plan, stated: Grade, allowed: Grade, found: list[str]
) -> None:
    """trade-v1 reads counterparties and amounts of invoices, graded important as shipped."""
    asked = of_trade(world, plan, stated)
    known = shipped_schemas()
    shown = look(world, asked, view=TRADE, schemas=known, policy=policy(grade=allowed))
    assert codes(shown) == found


def test_a_column_that_the_node_grades_higher_counts_as_it_does(
    world: World, plan: Plan, tmp_path: Path
) -> None:
    (tmp_path / "own.toml").write_text('extends = "invoices"\n[grades]\ncounterparty = "core"\n')
    own = load_schemas(tmp_path)
    found = look(world, of_trade(world, plan, "important"), view=TRADE, schemas=own)
    assert codes(found) == ["grade-understated"]
    assert 'grade = "core"' in found.problems[0].text.en
    assert "核心" in found.problems[0].text.zh
    assert codes(look(world, of_trade(world, plan, "core"), view=TRADE, schemas=own)) == []


def test_a_bank_without_a_table_is_refused_where_there_is_no_default(
    world: World, plan: Plan
) -> None:
    rules = {"purposes": ["model-training"], "grade": "core"}
    other = Policy.model_validate({"size_band": SIZE_BAND, "banks": {"bank-2": rules}})
    assert codes(look(world, plan, policy=other)) == ["policy-bank"]
    own = Policy.model_validate({"size_band": SIZE_BAND, "banks": {"bank-1": rules}})
    assert codes(look(world, plan, policy=own)) == []


def test_a_banks_own_table_stands_instead_of_the_default_and_inherits_nothing(
    world: World, plan: Plan
) -> None:
    rules = {"purposes": ["model-training"], "grade": "core"}
    known = Policy.model_validate(
        {
            "size_band": SIZE_BAND,
            "default": {**rules, "automatic": {"epsilon_at_most": 20}},
            "banks": {"bank-1": {**rules, "families": ["network"]}},
        }
    )
    found = look(world, plan, policy=known)
    assert codes(found) == ["policy-family"]
    assert [str(reason) for reason in found.waits] == [
        "the policy approves no plan of bank-1 by itself"
    ]


def test_a_policy_with_another_size_band_than_the_charters_lets_nothing_pass(
    world: World, plan: Plan
) -> None:
    found = look(world, plan, policy=policy(size_band=(10, 999)))
    assert codes(found) == ["policy-size-band"]
    assert "10:999" in found.problems[0].text.en
    assert "10:1000" in found.problems[0].text.zh


def automatic(**limits: object) -> Policy:
    return policy(automatic={"epsilon_at_most": 20.0, **limits})


def test_a_plan_within_all_limits_needs_no_operator(world: World, plan: Plan) -> None:
    assert look(world, plan, policy=automatic()).automatic
    assert not look(world, plan, policy=automatic(), signer="bank-2").automatic
    assert not look(world, plan).automatic


def test_the_dearest_plan_that_passes_by_itself_costs_exactly_the_limit(
    world: World, plan: Plan
) -> None:
    cost = epsilon(plan.rho, float(world.office.charter.delta))
    assert look(world, plan, policy=automatic(epsilon_at_most=cost)).waits == ()
    found = look(world, plan, policy=automatic(epsilon_at_most=cost * (1 - 1e-12)))
    assert len(found.waits) == 1
    assert codes(found) == []


def test_cheap_plans_without_end_do_not_eat_the_budget_by_themselves(
    world: World, plan: Plan
) -> None:
    half = world.office.charter.rho_cap / 2
    limits = automatic(share_at_most=0.5)
    assert look(world, plan, policy=limits, pledged=half - plan.rho).waits == ()
    over = half - plan.rho + Fraction(1, 2**64)
    found = look(world, plan, policy=limits, pledged=over)
    assert len(found.waits) == 1
    assert codes(found) == []


def test_a_plan_that_counts_on_every_other_node_waits(world: World, plan: Plan) -> None:
    charter = with_caps(world, rho_alone_cap=Fraction(5))
    together = replace(shared(plan), charter=charter.digest)
    for wanted, reasons in ((1, 0), (2, 1)):
        found = look(world, together, charter=charter, policy=automatic(colluders_at_least=wanted))
        assert (len(found.waits), codes(found)) == (reasons, [])
