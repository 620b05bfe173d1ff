"""What a node's operator is told before a plan is refused: each look, and its code."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest
from node_world import BANK, SIZE_BAND, World, fill, found_world

from hejin_models.features import view_file
from hejin_models.uscc import make_code
from hejin_node import offers, policy_file, preflight
from hejin_node.account import Spending, insert_reservation
from hejin_node.home import NodeHome, open_home
from hejin_node.preflight import LEAST_FREE, Reach
from hejin_node.quality_check import check
from hejin_node.reach import reach
from hejin_node.views import install_view
from hejin_trust.channels import PeerUnreachable
from hejin_trust.database import writing

RULES = 'purposes = ["model-training"]\n'


def answers(bank: str, address: str) -> None:
    """A bank that serves."""


@pytest.fixture
def world(tmp_path: Path) -> World:
    return found_world(tmp_path)


@pytest.fixture
def home(world: World) -> Iterator[NodeHome]:
    """A node that knows its bank and has data, labels and 30 authorisations."""
    with open_home(world.nodes["node-1"], world.clock) as opened:
        known = opened.settings.model_copy(update={"banks": {BANK: "127.0.0.1:1"}})
        node = replace(opened, settings=known)
        fill(node, world, 30)
        yield node


def wrong(home: NodeHome, call: Reach = answers) -> list[tuple[str, str]]:
    """Return (name, code) of each look that is not well; all say so in both languages."""
    looks = list(preflight.preflight(home, call))
    assert all(look.says.en and look.says.zh and look.what.zh for look in looks)
    return [(look.name, look.code) for look in looks if not look.ok]


def policy(home: NodeHome, text: str) -> None:
    (home.path / policy_file.FILE).write_text(f"size_band = [10, 1000]\n{text}")


def test_a_node_that_is_ready_sees_a_look_for_each_thing_and_nothing_wrong(home: NodeHome) -> None:
    looks = list(preflight.preflight(home, answers))
    assert [look.name for look in looks] == [
        "keys", "disk", "budget", "policy", "bank:bank-1", "view:firms-v1",
    ]  # fmt: skip
    assert all(look.ok for look in looks)


def test_keys_that_others_can_read_are_named(home: NodeHome) -> None:
    (home.path / "keys" / "pseudonym.key").chmod(0o640)
    assert wrong(home) == [("keys", "bad-key")]
    (look,) = [look for look in preflight.preflight(home, answers) if look.name == "keys"]
    assert "pseudonym.key" in look.says.en


def test_a_disk_that_is_nearly_full_is_told_before_it_is_full(
    home: NodeHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    for free, found in ((LEAST_FREE, []), (LEAST_FREE - 1, [("disk", "disk-low")])):
        usage = SimpleNamespace(free=free)
        monkeypatch.setattr(preflight.shutil, "disk_usage", lambda _, usage=usage: usage)
        assert wrong(home) == found


def charge(home: NodeHome, rho: Fraction) -> None:
    period = home.charter.period_from
    spending = Spending(rho, Fraction(0), rho, rho, rho, rho, Fraction(0), rho, period)
    with writing(home.database) as connection:
        insert_reservation(
            connection, seq=1, run="00" * 16, round_number=1, bank=BANK, plan="11" * 32,
            part="train", query="22" * 32, round_ctx="33" * 32, cost=rho, cost_alone=rho,
            spending=spending,
        )  # fmt: skip


def test_a_budget_that_is_spent_and_a_period_that_is_over_are_told(
    home: NodeHome, world: World
) -> None:
    charge(home, home.charter.rho_cap)
    assert wrong(home)[0] == ("budget", "budget-exhausted")
    world.clock.turn(timedelta(days=400))
    assert ("budget", "budget-exhausted") in wrong(home)


def test_outside_the_budget_period_no_plan_passes(home: NodeHome, world: World) -> None:
    world.clock.turn(timedelta(days=400))
    assert ("budget", "outside-period") in wrong(home)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param(
            f'[default]\n{RULES}grade = "core"\n[banks.bank-9]\n{RULES}grade = "core"\n',
            [("policy", "policy-unknown-bank")],
            id="a bank that is none",
        ),
        pytest.param(
            "",
            [("bank:bank-1", "policy-bank")],
            id="no rules for the bank",
        ),
        pytest.param(
            f'[default]\n{RULES}grade = "important"\n',
            [("view:firms-v1", "policy-grade")],
            id="a view above the grade",
        ),
        pytest.param(
            f'[default]\n{RULES}grade = "core"\nviews = ["trade-v1"]\n',
            [("view:firms-v1", "policy-view")],
            id="a view that is not allowed",
        ),
        pytest.param(
            '[default]\npurposes = ["credit-approval"]\ngrade = "core"\n',
            [("view:firms-v1", "policy-purpose")],
            id="a purpose that plans have not",
        ),
        pytest.param("noise = 0\n", [("policy", "bad-settings")], id="no policy at all"),
    ],
)
def test_a_policy_that_lets_nothing_pass_is_told(
    home: NodeHome, text: str, found: list[tuple[str, str]]
) -> None:
    policy(home, text)
    assert wrong(home) == found


def test_a_policy_that_declares_another_size_is_told(home: NodeHome) -> None:
    (home.path / policy_file.FILE).write_bytes(policy_file.starter((10, 20), grade="core"))
    assert wrong(home) == [("policy", "policy-size-band")]


def test_a_bank_that_does_not_answer_is_told(home: NodeHome) -> None:
    """Port 1 of this machine: nobody listens there."""
    found = wrong(home, lambda bank, address: reach(home, bank, address))
    assert found == [("bank:bank-1", PeerUnreachable.code)]


def test_a_bank_that_is_no_member_any_more_is_told(home: NodeHome, world: World) -> None:
    world.office.revoke(BANK, world.clock())
    home.charters.update(world.office.charters.signed())
    found = wrong(home, lambda bank, address: reach(home, bank, address))
    assert found == [("bank:bank-1", "not-a-member")]


def test_a_node_without_banks_outcomes_data_or_authorisations_is_told_each(world: World) -> None:
    with open_home(world.nodes["node-1"], world.clock) as node:
        assert wrong(node) == [("banks", "no-bank"), ("view:firms-v1", "data-missing")]
        known = node.settings.model_copy(update={"banks": {BANK: "127.0.0.1:1"}})
        assert wrong(replace(node, settings=known)) == [
            ("bank:bank-1", "no-labels"),
            ("view:firms-v1", "data-missing"),
            ("view:firms-v1", "too-few-authorisations"),
        ]


def test_data_without_a_column_that_the_view_reads_are_told(world: World) -> None:
    with open_home(world.nodes["node-1"], world.clock) as node:
        codes = pa.array([make_code(n) for n in range(3)])
        batch = pa.record_batch({"enterprise": codes, "kind": pa.array(["a", "b", "a"])})
        node.warehouse.append("firms", {"enterprise": "text", "kind": "text"}, [batch], "0" * 64)
        assert ("view:firms-v1", "data-columns") in wrong(node)
        envelope, digest, _ = world.propose()
        offers.receive(node, envelope)
        with pytest.raises(offers.PlanNotApprovableError, match="column staff"):
            offers.approve(node, digest, "test")


def test_a_plan_is_told_to_pass_by_itself_or_by_the_operator(home: NodeHome, world: World) -> None:
    envelope, digest, _ = world.propose()
    offers.receive(home, envelope)
    (look,) = [one for one in preflight.preflight(home, answers) if one.name.startswith("plan:")]
    assert look.name == f"plan:{digest[:16]}"
    assert "by the operator" in look.says.en
    (home.path / policy_file.FILE).write_bytes(policy_file.starter(SIZE_BAND, 19.0, "core"))
    (look,) = [one for one in preflight.preflight(home, answers) if one.name.startswith("plan:")]
    assert look.says.zh == "节点将自动批准"


def test_each_reason_against_an_offered_plan_is_told(home: NodeHome, world: World) -> None:
    envelope, digest, _ = world.propose(
        rho=Fraction(2), label=replace(world.propose()[2].label, definition="other-1")
    )
    offers.receive(home, envelope)
    policy(home, f'[default]\n{RULES}grade = "core"\nfamilies = ["network"]\n')
    plan = f"plan:{digest[:16]}"
    assert wrong(home) == [
        (plan, "policy-family"),
        (plan, "budget-exhausted"),
        (plan, "alone-budget-exhausted"),
        (plan, "no-labels"),
    ]


def test_plans_that_have_expired_or_were_answered_are_not_told(
    home: NodeHome, world: World
) -> None:
    for _ in range(2):
        envelope, digest, _ = world.propose(rho=Fraction(1, 100))
        offers.receive(home, envelope)
    offers.approve(home, digest, "test")
    looks = [one.name for one in preflight.preflight(home, answers)]
    assert len([name for name in looks if name.startswith("plan:")]) == 1
    world.clock.turn(timedelta(days=31))
    looks = [one.name for one in preflight.preflight(home, answers)]
    assert not any(name.startswith("plan:") for name in looks)


def test_data_that_were_not_checked_are_told_until_they_pass(home: NodeHome) -> None:
    today = home.now().date()
    install_view(home.views_folder, view_file("trade-v1"), home.schemas(), today)
    assert ("view:trade-v1", "data-missing") in wrong(home)
    rows = pa.record_batch(
        {
            "enterprise": pa.array([make_code(0)]),
            "direction": pa.array(["out"]),
            "counterparty": pa.array(["A"]),
            "date": pa.array([today], pa.date32()),
            "net": pa.array([100.0]),
            "tax": pa.array([13.0]),
            "status": pa.array(["valid"]),
        }
    )
    columns = {
        "enterprise": "text", "direction": "text", "counterparty": "text", "date": "date",
        "net": "number", "tax": "number", "status": "text",
    }  # fmt: skip
    home.warehouse.append("invoices", columns, [rows], "0" * 64)
    assert wrong(home) == [("view:trade-v1", "quality-unknown")]
    assert not check(home.warehouse, home.schemas(), "invoices", home.now()).below
    assert wrong(home) == []
