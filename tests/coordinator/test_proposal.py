"""A plan file becomes a priced plan, or a sentence that says what is wrong with it."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from fractions import Fraction
from pathlib import Path

import pytest
from node_world import BANK, World, found_world

from hejin_coordinator.errors import PlanFileError
from hejin_coordinator.proposal import (
    SHARED_FROM,
    PlanFile,
    default_mode,
    make_plan,
    mode_reason,
    read_plan_file,
    thresholds,
)
from hejin_models.features import shipped_views
from hejin_models.plan import Deadlines, Plan, PlanError
from hejin_models.training import plan_sums
from hejin_privacy.accounting import epsilon
from hejin_privacy.errors import ThresholdError
from hejin_privacy.secure_sum.thresholds import MOST_NODES, check_thresholds
from hejin_trust.charter import NotAMemberError

LEAST = 'product = "p"\nview = "v"\ndefinition = "d"\nepsilon = 1\n'


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return found_world(tmp_path_factory.mktemp("world"), nodes=5)


def wanted(**changes: object) -> PlanFile:
    return PlanFile.model_validate(
        {"product": "p", "view": "v", "definition": "bad-1", "epsilon": 1.0, **changes}
    )


def made(world: World, **changes: object) -> Plan:
    return make_plan(wanted(**changes), world.view, world.office.charter, BANK, world.clock())


@pytest.mark.parametrize("mode", ["node", "shared"])
def test_the_sums_of_a_plan_cost_what_epsilon_allows_and_not_more(world: World, mode: str) -> None:
    plan = made(world, mode=mode)
    assert epsilon(plan.rho_once, 1e-6) <= 1.0
    assert epsilon(plan.rho_once * Fraction(1001, 1000), 1e-6) > 1.0
    for part in ("train", "holdout"):
        spent = sum(s.rho for s in plan.sums if s.part == part)
        assert plan.rho_once - Fraction(len(plan.sums), 2**64) <= spent <= plan.rho_once
    planned = [(s.statistic, s.version, s.part) for s in plan_sums(world.view)]
    assert [(s.statistic, s.version, s.part) for s in plan.sums] == planned


def test_a_plan_states_the_grade_of_its_views_columns_or_a_higher_one(world: World) -> None:
    """firms has no schema and its view states no grade: core. trade-v1 is important."""
    assert made(world).grade == "core"
    trade, charter = shipped_views()["trade-v1"], world.office.charter
    for stated, found in ((None, "important"), ("important", "important"), ("core", "core")):
        asked = wanted(grade=stated, as_of=date(2026, 6, 30))
        assert make_plan(asked, trade, charter, BANK, world.clock()).grade == found
    low = wanted(grade="general", as_of=date(2026, 6, 30))
    with pytest.raises(PlanFileError, match="grade important") as refused:
        make_plan(low, trade, charter, BANK, world.clock())
    assert "重要" in refused.value.text.zh


def test_a_plan_invites_every_admitted_node_and_needs_four_fifths(world: World) -> None:
    plan = made(world)
    assert plan.nodes == ("node-1", "node-2", "node-3", "node-4", "node-5")
    assert (plan.mode, plan.minimum_nodes, plan.quorum, plan.colluders) == ("shared", 4, 4, 1)


def test_a_plan_of_few_nodes_needs_two_thirds_and_shares_nothing(world: World) -> None:
    plan = made(world, nodes=("node-1", "node-2", "node-3", "node-4"))
    assert (plan.mode, plan.minimum_nodes, plan.quorum, plan.colluders) == ("node", 3, 0, 0)
    assert made(world, mode="node").minimum_nodes == 4


def test_the_default_thresholds_are_safe_for_any_number_of_nodes(world: World) -> None:
    for count in range(SHARED_FROM, MOST_NODES + 1):
        sizes = thresholds(wanted(), count, world.office.charter)
        check_thresholds(count, sizes.quorum, sizes.minimum_nodes, sizes.colluders)
    sizes = thresholds(wanted(), 20, world.office.charter)
    assert (sizes.minimum_nodes, sizes.quorum, sizes.colluders) == (16, 16, 2)


def test_more_nodes_than_can_mask_together_each_add_the_whole_noise() -> None:
    assert default_mode(MOST_NODES) == "shared"
    assert default_mode(MOST_NODES + 1) == "node"
    assert f"more than the {MOST_NODES}" in mode_reason(wanted(), MOST_NODES + 1).en


def test_the_charter_may_ask_for_more_nodes(world: World) -> None:
    strict = replace(world.office.charter, minimum_nodes=5)
    assert thresholds(wanted(), 5, strict).minimum_nodes == 5
    assert thresholds(wanted(mode="node"), 5, strict).minimum_nodes == 5


def test_thresholds_that_break_rule_p1_are_refused(world: World) -> None:
    with pytest.raises(ThresholdError):
        made(world, colluders=3)
    with pytest.raises(ThresholdError):
        made(world, nodes=("node-1", "node-2"), mode="shared")
    with pytest.raises(PlanError, match="quorum"):
        made(world, mode="node", quorum=4)
    assert made(world, quorum=4, colluders=2).colluders == 2


@pytest.mark.parametrize(
    ("changes", "spare"),
    [({}, 1), ({"spare_rounds": 0}, 0), ({"spare_rounds": 3}, 3), ({"mode": "node"}, 0)],
)
def test_spare_rounds_raise_the_caps_by_the_dearest_sum_of_each_part(
    world: World, changes: dict[str, object], spare: int
) -> None:
    plan = made(world, **changes)
    for part, cap in (("train", plan.rho_train), ("holdout", plan.rho_holdout)):
        costs = [s.rho for s in plan.sums if s.part == part]
        rounding = Fraction(len(costs), 2**64)
        assert 0 <= cap - sum(costs) - spare * max(costs) <= rounding


def test_why_a_plan_has_its_mode_is_said() -> None:
    assert "5 or more" in mode_reason(wanted(), 8).en
    assert "fewer than 5" in mode_reason(wanted(), 3).en
    assert "file" in mode_reason(wanted(mode="node"), 8).en


def test_deadlines_are_taken_from_the_file(world: World) -> None:
    assert made(world).deadlines == Deadlines(60, 60, 60, 60)
    assert made(world, deadlines={"masked": 300}).deadlines.masked == 300


def test_a_node_that_is_not_admitted_is_not_invited(world: World) -> None:
    with pytest.raises(NotAMemberError):
        make_plan(wanted(nodes=("node-9",)), world.view, world.office.charter, BANK, world.clock())


def test_an_as_of_day_for_a_view_that_takes_none_is_refused(world: World) -> None:
    with pytest.raises(PlanFileError, match="as_of"):
        make_plan(
            wanted(as_of=date(2026, 1, 1)), world.view, world.office.charter, BANK, world.clock()
        )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('product = "p"\nview = "v"\ndefinition = "d"\n', "epsilon: it is missing"),
        ('product = "p"\nview = "v"\ndefinition = "d"\nepsilon = 0\n', "epsilon"),
        ('product = "p"\nview = "v"\ndefinition = "d"\nepsilon = nan\n', "epsilon"),
        ('product = "p"\nview = "v"\ndefinition = "d"\nepsilon = inf\n', "epsilon"),
        ('product = "p"\nview = "v"\ndefinition = "d"\nepsilon = 1\nnoise = 0\n', "noise"),
        (f"{LEAST}spare_rounds = 6\n", "spare_rounds"),
        (f'{LEAST}mode = "central"\n', "mode"),
        (f"{LEAST}[deadlines]\nmasked = 0\n", "deadlines.masked"),
        (f"{LEAST}[deadlines]\nround = 60\n", "deadlines.round"),
        ("product = ", "not valid TOML"),
    ],
)
def test_a_bad_plan_file_is_refused_with_its_field(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(text)
    with pytest.raises(PlanFileError, match=said):
        read_plan_file(path)


def test_a_plan_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PlanFileError, match="not valid TOML"):
        read_plan_file(path)


def test_a_hold_out_that_is_no_share_is_refused(world: World) -> None:
    with pytest.raises(PlanFileError, match="1/5"):
        make_plan(wanted(holdout="some"), world.view, world.office.charter, BANK, world.clock())
