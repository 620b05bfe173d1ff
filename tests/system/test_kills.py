"""Eight nodes under masks, two of them killed at random moments: the total is right, or waits.

Real processes over real gRPC. What each node's noisy sum was before it was masked is kept by the
test's own processes, so that every opened total can be compared with the sum of its survivors.
"""

from __future__ import annotations

import os
import random
import re
import time
from pathlib import Path

import numpy as np
import pytest
from books import Books
from node_world import BANK
from process_world import SECONDS, Members, prepared

from hejin_coordinator import run_report, store
from hejin_coordinator.home import open_home as open_bank
from hejin_coordinator.store import PlanState
from hejin_node import account
from hejin_node.home import open_home as open_node
from hejin_privacy.messages import Result
from hejin_trust.database import reading
from hejin_trust.envelope import SUM_RESULT, open_envelope

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

SUMS = 6
MOMENTS = {
    "after the query": ("pinned", "reserved", "computed", "released", "answered"),
    "after the upload": ("sent",),
    "between the trips": ("asked to vote", "voted", "asked to reveal", "revealed"),
}
DONE = re.compile(r"event=run-done\b")
RUNS = 5 if os.environ.get("HEJIN_FULL") else 1
SEEDS = [
    pytest.param(moment, seed, id=f"{moment}, run {seed}")
    for moment in MOMENTS
    for seed in range(1, RUNS + 1)
]


@pytest.mark.parametrize(("moment", "seed"), SEEDS)
def test_two_killed_nodes_cost_no_total_and_no_charge(
    tmp_path: Path, moment: str, seed: int
) -> None:
    chosen = random.Random(f"{moment} {seed}")
    members = prepared(
        tmp_path,
        nodes=8,
        firms=60,
        minimum_nodes=6,
        epsilon=8.0,
        spare_rounds=3,
        deadlines={"keys": 60, "masked": 15, "survivors": 15, "shares": 15},
    )
    victims = chosen.sample(members.nodes, 2)
    with members:
        # The second may die at the shares, which are asked for once the first has dropped out.
        first, *_ = MOMENTS[moment]
        members.arm(victims[0], first, chosen.randint(1, 3))
        members.arm(victims[1], chosen.choice(MOMENTS[moment]), chosen.randint(1, 2))
        members.start_all()
        killed = _carry_out(members, victims)
        members.stop_all()
    _check_books(members)
    print(f"{moment}, run {seed}: {killed} killed; {_story(members)}")


def _carry_out(members: Members, victims: list[str]) -> int:
    """Wait for the model; start killed nodes again once their absence stops the run, or it ends."""
    dead: set[str] = set()
    end = time.monotonic() + 2 * SECONDS
    while not DONE.search(members.said(BANK)):
        assert time.monotonic() < end, members.tails()
        for victim in victims:
            if members.processes[victim].exitcode is not None and victim not in dead:
                assert members.processes[victim].exitcode == -9, members.tails()
                dead.add(victim)
        if _state(members) == "paused":
            for victim in sorted(dead):
                if members.processes[victim].exitcode is not None:
                    members.start(victim)
        time.sleep(0.2)
    for victim in dead:
        if members.processes[victim].exitcode is not None:
            members.start(victim)
    while any(_waits_for_receipts(members, node) for node in members.nodes):
        assert time.monotonic() < end, members.tails()
        time.sleep(0.2)
    assert dead, "nobody was killed"
    return len(dead)


def _waits_for_receipts(members: Members, node: str) -> bool:
    with open_node(members.folder / node) as home, reading(home.database) as connection:
        return bool(account.without_receipt(connection, BANK))


def _state(members: Members) -> PlanState:
    with open_bank(members.folder / BANK) as bank, reading(bank.database) as connection:
        return store.find_plan(connection, members.plan).state


def _check_books(members: Members) -> None:
    for node in members.nodes:
        Books(members, node).check()
    with open_bank(members.folder / BANK) as bank, reading(bank.database) as connection:
        stored = store.find_plan(connection, members.plan)
        assert stored.state == "done"
        rounds = store.rounds(connection, stored.run or "")
        key = bank.identity.public
    opened = [found for found in rounds if found.result is not None]
    assert [found.sum for found in opened] == list(range(SUMS))
    for found in opened:
        result = Result.parse(open_envelope(found.result or b"", SUM_RESULT, key).body)
        assert len(result.survivors) >= 6
        total = sum(
            (np.load(members.sums(node) / f"{result.round_ctx}.npy") for node in result.survivors),
            np.zeros(1, np.int64),
        )
        assert np.array_equal(np.frombuffer(found.total or b"", "<i8"), total)
    assert members.verify().findings == ()


def _story(members: Members) -> str:
    with open_bank(members.folder / BANK) as bank:
        found = run_report.report(bank, members.plan)
    return "; ".join(f"round {r.number} {r.state} {r.counted}" for r in found.rounds)
