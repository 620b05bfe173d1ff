"""A plan file becomes a priced plan, or a sentence that says what is wrong with it."""

from __future__ import annotations

from datetime import date
from fractions import Fraction
from pathlib import Path

import pytest
from node_world import BANK, World, found_world

from hejin_coordinator.errors import PlanFileError
from hejin_coordinator.proposal import PlanFile, make_plan, read_plan_file
from hejin_models.training import plan_sums
from hejin_privacy.accounting import epsilon
from hejin_trust.charter import NotAMemberError


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return found_world(tmp_path_factory.mktemp("world"), nodes=5)


def wanted(**changes: object) -> PlanFile:
    return PlanFile.model_validate(
        {"product": "p", "view": "v", "definition": "bad-1", "epsilon": 1.0, **changes}
    )


def test_the_sums_of_a_plan_cost_what_epsilon_allows_and_not_more(world: World) -> None:
    plan = make_plan(wanted(), world.view, world.office.charter, BANK, world.clock())
    assert epsilon(plan.rho, 1e-6) <= 1.0
    assert epsilon(plan.rho * Fraction(1001, 1000), 1e-6) > 1.0
    for part in ("train", "holdout"):
        spent = sum(s.rho for s in plan.sums if s.part == part)
        assert plan.rho - Fraction(len(plan.sums), 2**64) <= spent <= plan.rho
    planned = [(s.statistic, s.version, s.part) for s in plan_sums(world.view)]
    assert [(s.statistic, s.version, s.part) for s in plan.sums] == planned


def test_a_plan_invites_every_admitted_node_and_needs_two_thirds(world: World) -> None:
    plan = make_plan(wanted(), world.view, world.office.charter, BANK, world.clock())
    assert plan.nodes == ("node-1", "node-2", "node-3", "node-4", "node-5")
    assert plan.minimum_nodes == 4


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
        ('product = "p"\nview = "v"\ndefinition = "d"\n', "epsilon: Field required"),
        ('product = "p"\nview = "v"\ndefinition = "d"\nepsilon = 0\n', "epsilon"),
        ('product = "p"\nview = "v"\ndefinition = "d"\nepsilon = nan\n', "epsilon"),
        ('product = "p"\nview = "v"\ndefinition = "d"\nepsilon = inf\n', "epsilon"),
        ('product = "p"\nview = "v"\ndefinition = "d"\nepsilon = 1\nnoise = 0\n', "noise"),
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
