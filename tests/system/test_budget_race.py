"""Two processes ask for the last of one budget at the same moment: exactly one is served."""

from __future__ import annotations

import pickle
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path

import pytest
from node_world import World, approved, fill, found_world
from sqlalchemy import delete

from hejin_node import account
from hejin_node.home import NodeHome, open_home
from hejin_trust.database import reading, writing
from hejin_trust.fleet import Payload

RACES = 100
PROCESS = Path(__file__).with_name("race_process.py")
# One sum costs more than half of what the charter allows, and no more than all of it.
CAP, SUM = Fraction(1, 2), Fraction(3, 10)

Outcome = tuple[list[str], Fraction]

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]


class Racer:
    """A process with its own session on the node's home."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def start(self, at: float) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{at}\n")
        self._process.stdin.flush()

    def said(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@contextmanager
def racer(home: Path, message: Payload, folder: Path, name: str, *manner: str) -> Iterator[Racer]:
    file = folder / f"{name}.message"
    file.write_bytes(pickle.dumps(message))
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, str(PROCESS), str(home), str(file), *manner],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        yield Racer(process)
    finally:
        process.kill()
        process.communicate()


def query_for(world: World, home: NodeHome) -> Payload:
    """Return the first query of a run of its own plan, which the node approved."""
    plan, digest = approved(home, world, rho=SUM, sums=[("histogram", "train")])
    return world.query(plan, digest, run=secrets.token_hex(16))


def spent(home: NodeHome) -> Fraction:
    with reading(home.database) as connection:
        return account.spent(connection, home.charter.period_from)


def empty_account(home: NodeHome) -> None:
    """Begin the next race with the whole budget, as if nothing had been asked; the logs go on."""
    with writing(home.database) as connection:
        connection.execute(delete(account.reservation))


def race(folder: Path, races: int, *manner: str) -> tuple[list[Outcome], int]:
    """Return (what the two were told, rho spent then) of each race, and its reservations."""
    world = found_world(folder, rho_cap=CAP)
    with ExitStack() as stack:
        home = stack.enter_context(open_home(world.nodes["node-1"], world.clock))
        fill(home, world, 20)
        racers = [
            stack.enter_context(racer(home.path, query_for(world, home), folder, name, *manner))
            for name in ("one", "two")
        ]
        assert [each.said() for each in racers] == ["ready", "ready"]
        for each in racers:  # alone, so that both runs have their rows before they race
            each.start(0.0)
            assert each.said() == "masked"
            empty_account(home)
        outcomes = []
        for _ in range(races):
            at = time.monotonic() + 0.02
            for each in racers:
                each.start(at)
            outcomes.append(([each.said() for each in racers], spent(home)))
            empty_account(home)
        with reading(home.database) as connection:
            reserved = len(list(home.release_log.of_type(connection, "reserve")))
        return outcomes, reserved - len(racers)


def test_of_two_processes_that_ask_for_the_last_of_a_budget_exactly_one_is_served(
    tmp_path: Path,
) -> None:
    outcomes, reserved = race(tmp_path, RACES)
    for number, (told, rho) in enumerate(outcomes):
        assert sorted(told) == ["budget-exhausted", "masked"], f"race {number}: {told}"
        assert CAP / 2 < rho <= CAP
    assert reserved == RACES
    # Each won at times: they did race. One that always came first would prove nothing.
    assert 0 < sum(told[0] == "masked" for told, _ in outcomes) < RACES


def test_the_race_shows_a_node_that_trusts_an_earlier_look_at_its_account(tmp_path: Path) -> None:
    outcomes, _ = race(tmp_path, 10, "careless")
    assert any(rho > CAP for _, rho in outcomes)
