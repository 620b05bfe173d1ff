"""The quality gate at work: before an approval, told to the operator alone, never in a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from node_world import SIZE_BAND, World, approved, fill, found_world, new_session
from sqlalchemy import select

from hejin_models.uscc import make_code
from hejin_node import inbox, offers, policy_file
from hejin_node.home import NodeHome, open_home
from hejin_node.offers import PlanNotApprovableError
from hejin_node.quality_check import check
from hejin_node.withdrawing import withdraw
from hejin_trust.database import reading

SCHEMA = """
dataset = "firms"
category = "production"
[label]
en = "Firms"
zh = "企业"
[columns.staff]
en = "Staff"
zh = "人数"
type = "number"
minimum = 0
maximum = 100
grade = "general"
[columns.kind]
en = "Kind"
zh = "种类"
type = "text"
allowed = ["a", "b"]
grade = "general"
[[quality]]
id = "staff.some"
dimension = "consistency"
en = "Somebody works there"
zh = "有员工"
holds = "staff >= 0"
"""


@pytest.fixture
def world(tmp_path: Path) -> World:
    return found_world(tmp_path)


@pytest.fixture
def home(world: World) -> Iterator[NodeHome]:
    folder = world.nodes["node-1"]
    (folder / policy_file.FILE).write_bytes(policy_file.starter(SIZE_BAND, 50.0, "core"))
    (folder / "schemas").mkdir()
    write(folder, SCHEMA)
    with open_home(folder, world.clock) as opened:
        fill(opened, world)
        yield opened


def write(folder: Path, schema: str) -> None:
    (folder / "schemas" / "firms.toml").write_text(schema, "utf-8")


def checked(home: NodeHome) -> None:
    check(home.warehouse, home.schemas(), "firms", home.now())


def offered(home: NodeHome, world: World) -> str:
    envelope, digest, _ = world.propose()
    offers.receive(home, envelope)
    return digest


def problems(home: NodeHome, digest: str) -> list[str]:
    with reading(home.database) as connection:
        offer = inbox.find_offer(connection, digest)
    return [problem.code for problem in offers.dry_run(home, offer).problems]


def test_a_plan_over_unchecked_data_waits_and_passes_once_they_are_checked(
    home: NodeHome, world: World
) -> None:
    digest = offered(home, world)
    assert problems(home, digest) == ["quality-unknown"]
    assert offers.decide(home, digest) == "offered"
    with pytest.raises(PlanNotApprovableError, match="hejin node quality check firms"):
        offers.approve(home, digest, "operator")
    checked(home)
    assert problems(home, digest) == []
    assert offers.decide(home, digest) == "approved"


def test_a_plan_over_bad_data_waits_and_the_bank_hears_nothing(
    home: NodeHome, world: World
) -> None:
    write(home.path, SCHEMA.replace("staff >= 0", "staff >= 20"))
    checked(home)
    digest = offered(home, world)
    assert problems(home, digest) == ["quality-gate-failed"]
    assert offers.decide(home, digest) == "offered"
    with pytest.raises(PlanNotApprovableError, match=r"consistency 50\.00 % \(least 95 %\)"):
        offers.approve(home, digest, "operator")
    with reading(home.database) as connection:
        assert (
            connection.execute(
                select(inbox.offer.c.document).where(inbox.offer.c.plan == digest)
            ).scalar_one()
            is None
        )  # no answer waits to be sent
        logged = list(home.release_log.entries(connection))
    assert not any(b"quality" in bytes(raw) for raw in logged)


def test_an_approved_plan_goes_on_whatever_becomes_of_the_quality(
    home: NodeHome, world: World
) -> None:
    """A run that stopped because of what came in would tell the bank about it."""
    checked(home)
    plan, digest = approved(home, world)
    rows = pa.table({"enterprise": [make_code(99)], "staff": [-5.0], "kind": ["z"]})
    columns = {"enterprise": "text", "staff": "number", "kind": "text"}
    home.warehouse.append("firms", columns, rows.to_batches(), "9" * 64)  # type: ignore[arg-type]
    write(home.path, SCHEMA.replace("staff >= 0", "staff >= 1000"))
    session = new_session(home, world.receipts(home))
    assert "vector" in session.answer(world.query(plan, digest, run="ab" * 16))


def test_a_check_that_covered_a_withdrawn_load_lets_no_plan_pass_any_more(
    home: NodeHome, world: World
) -> None:
    rows = pa.table({"enterprise": [make_code(99)], "staff": [5.0], "kind": ["a"]})
    columns = {"enterprise": "text", "staff": "number", "kind": "text"}

    def add() -> None:
        home.warehouse.append("firms", columns, rows.to_batches(), "9" * 64)  # type: ignore[arg-type]

    add()
    checked(home)
    digest = offered(home, world)
    assert problems(home, digest) == []
    withdraw(home, "firms", home.warehouse.loads("firms")[-1].id, "a wrong file")
    assert problems(home, digest) == ["quality-unknown"]
    add()  # the same rows again: another load, which the old check does not cover
    assert problems(home, digest) == ["quality-unknown"]
    checked(home)
    assert problems(home, digest) == []
    for load in home.warehouse.loads("firms"):
        withdraw(home, "firms", load.id, "a wrong file")
    assert problems(home, digest) == ["data-missing"]
