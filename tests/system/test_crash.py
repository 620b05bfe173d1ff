"""Node, bank, regulator killed with SIGKILL at each step: what left stays charged, books agree.

The kills happen in real processes, in one run of one plan: `arm` names the next step at which
a member is killed before the member that was killed last starts again, so that none is missed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from books import Books
from node_world import BANK
from process_world import REGULATOR, Members, prepared
from typer.testing import CliRunner

from hejin_coordinator import registry, store
from hejin_coordinator.home import open_home as open_bank
from hejin_node import account
from hejin_node.home import open_home as open_node
from hejin_regulator.cli import app as regulator
from hejin_trust.canonical import fraction
from hejin_trust.database import reading
from hejin_trust.entries import parse
from hejin_trust.envelope import MODEL, open_envelope

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

NODE = "node-1"
Step = tuple[str, str] | tuple[str, str, int]
"""Member, step, and at which time of reaching it the member is killed; the first if none."""

DONE = re.compile(r"event=run-done\b")
# In the order in which the run of six sums meets them; a node that is killed between charge
# and release is left out of that round, so those come in rounds of their own.
STEPS: list[Step] = [
    (BANK, "run opened"),
    (BANK, "query stored"),
    (NODE, "pinned"),
    (NODE, "reserving"),
    (NODE, "reserved"),
    (BANK, "some answers in"),
    (BANK, "closing"),
    (BANK, "round closed"),
    (NODE, "sent"),
    (NODE, "receipt fetched"),
    (NODE, "receipt being logged"),
    (NODE, "computed"),
    (NODE, "releasing"),
    (NODE, "released"),
    (NODE, "answered"),
    (BANK, "last round closed"),
    (NODE, "run closed"),
    (BANK, "run closed"),
    (BANK, "model half written"),
    (BANK, "model written"),
]


# Another run, of the same kind: what the regulator's part in a round adds.
WITNESS_STEPS: list[Step] = [
    (REGULATOR, "asked to cosign", 8),  # not before everybody has started
    (NODE, "reserved"),
    (REGULATOR, "storing"),
    (REGULATOR, "stored"),
    (NODE, "cosigned"),
]


def crash(folder: Path, steps: Sequence[Step]) -> Members:
    """Return a consortium whose one run was carried out through all of `steps`."""
    members = prepared(folder)
    books = [Books(members, node) for node in members.nodes]
    with members:
        members.arm(*steps[0])
        members.start_all()
        for step, following in zip(steps, [*steps[1:], None], strict=True):
            members.wait_for_death(step[0])
            for book in books:
                book.check()
            if following is not None:
                members.arm(*following)
            members.start(step[0])
        members.wait_for(BANK, DONE)
        members.stop_all()
    for book in books:
        book.check()
    return members


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> Members:
    return crash(tmp_path_factory.mktemp("crash"), STEPS)


def test_a_crash_of_regulator_or_node_around_the_cosignature_loses_nothing(tmp_path: Path) -> None:
    members = crash(tmp_path, WITNESS_STEPS)
    assert members.verify().findings == ()
    types = [entry["type"] for entry in entries(members, NODE)]
    # Killed after `reserved` and after `cosigned`; the regulator's crashes cost no round.
    assert types.count("void") == 2
    for node in members.nodes[1:]:
        assert [entry["type"] for entry in entries(members, node)].count("release") == 6


def entries(members: Members, member: str) -> list[dict[str, object]]:
    leaves = (members.export() / member / "release.jsonl").read_text().splitlines()
    return [json.loads(leaf) for leaf in leaves]


def test_the_regulator_verifies_what_every_crash_left_behind(crashed: Members) -> None:
    found = crashed.verify()
    assert found.findings == ()
    told = CliRunner().invoke(
        regulator,
        ["verify", str(crashed.export()), "--regulator-key", crashed.regulator_key.hex()],
        catch_exceptions=False,
    )
    assert told.exit_code == 0


def test_interrupted_sums_are_void_and_stay_charged(crashed: Members) -> None:
    logged = entries(crashed, NODE)
    voids = [entry for entry in logged if entry["type"] == "void"]
    # Killed after `reserved`, `computed` and inside the transaction of `releasing`.
    assert len(voids) == 3
    reserved = sum(entry["type"] == "reserve" for entry in logged)
    released = sum(entry["type"] == "release" for entry in logged)
    assert reserved == released + 3 == 6
    with open_node(crashed.folder / NODE) as home, reading(home.database) as connection:
        spent = account.spent(connection, home.charter.period_from)
    charges = [
        fraction(entry["body"], "charge")  # type: ignore[arg-type]
        for entry in logged
        if entry["type"] == "reserve"
    ]
    assert spent == sum(charges) > 0


def test_every_release_has_its_receipt_and_no_rows_stay_behind(crashed: Members) -> None:
    for node in crashed.nodes:
        kinds = [entry["type"] for entry in entries(crashed, node)]
        assert kinds.count("receipt") == kinds.count("release")
        assert list((crashed.folder / node / "snapshots").iterdir()) == []


def test_answers_were_repeated_and_always_the_same_bytes(crashed: Members) -> None:
    for node in crashed.nodes:
        book = Books(crashed, node)
        # The bank lost what it had not stored and asked the two others again.
        assert node == NODE or len(book.sent()) > len(book.left()), f"{node} repeated nothing"
        # A node that was killed between release and sending sends what it had stored then.
        released = {
            entry["body"]["reservation"]: entry["body"]["vector"]  # type: ignore[index]
            for entry in entries(crashed, node)
            if entry["type"] == "release"
        }
        for line in book.sent():
            assert released[parse(line["entry"].encode()).seq] == line["vector"]


def test_the_bank_asked_each_sum_once_and_logged_the_model_that_it_keeps(crashed: Members) -> None:
    with open_bank(crashed.folder / BANK) as bank:
        with reading(bank.database) as connection:
            plan = store.find_plan(connection, crashed.plan)
            assert plan.run is not None
            rounds = store.rounds(connection, plan.run)
        assert plan.state == "done"
        assert [item.sum for item in rounds] == list(range(len(plan.plan.sums)))
        (model,) = registry.models(bank)
        signed = open_envelope(
            (model.folder / "model.json").read_bytes(), MODEL, bank.identity.public
        )
    (logged,) = [entry for entry in entries(crashed, BANK) if entry["type"] == "model"]
    assert logged["body"]["model"] == signed.digest  # type: ignore[index]
    queries = {
        (entry["body"]["round"], entry["body"]["query"])  # type: ignore[index]
        for node in crashed.nodes
        for entry in entries(crashed, node)
        if entry["type"] == "reserve"
    }
    assert len(queries) == len(rounds)


def test_a_second_process_on_a_served_home_is_refused(tmp_path: Path) -> None:
    members = prepared(tmp_path, nodes=1, firms=100, minimum_nodes=1)
    with members:
        members.start_all()
        members.wait_for(NODE, re.compile("node serves"))
        for member in (NODE, BANK):
            first = members.processes[member]
            members.start(member)
            second = members.processes[member]
            second.join(60)
            members.processes[member] = first
            assert second.exitcode == 1
            assert "already serves from" in members.said(member)
            assert first.is_alive()
