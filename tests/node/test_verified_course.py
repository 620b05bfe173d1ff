"""What the regulator's verifier says of reservations that waited, and of nodes that recovered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest
from bank_world import Bank, findings, open_world
from bent_mirror import BentMirror, copy_open_database, lose_database, put_database, release_log
from node_world import BANK
from recovery_world import approval

from hejin_coordinator.receipts import receipt_for
from hejin_coordinator.rounds import PlanRun
from hejin_node.home import open_home
from hejin_node.recovery import recover
from hejin_node.session import Session
from hejin_trust.fleet import Payload
from hejin_trust.witness import Witness

NODE = "node-1"
Ask = Callable[[Payload], Payload]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


@pytest.fixture
def bank(tmp_path: Path, stack: ExitStack) -> Bank:
    return open_world(tmp_path, stack, nodes=3, firms=20)


def through(bank: Bank, node: str = NODE) -> BentMirror:
    """Let a node reach the regulator by a door that may be closed."""
    home = bank.nodes[node]
    mirror = BentMirror(bank.world.mirror.door(node))
    watch = Witness(home, mirror)
    watch.start()
    bank.wire.sessions[node] = Session(
        home, BANK, watch, lambda run, number: receipt_for(bank.home, run, number, node)
    )
    return mirror


def started(bank: Bank, **plan: object) -> PlanRun:
    return bank.run(bank.propose(minimum_nodes=2, epsilon=20.0, **plan))


def ended(bank: Bank, node: str = NODE) -> list[str]:
    """Return the types of a node's entries about its reservations, in order."""
    wanted = ("reserve", "renew", "release", "void", "recover")
    return [e.type for e in release_log(bank.nodes[node]) if e.type in wanted]


@pytest.mark.parametrize("minutes", [0, 10])
def test_a_run_whose_reservation_waited_verifies(bank: Bank, tmp_path: Path, minutes: int) -> None:
    mirror = through(bank)

    def away(payload: Payload, ask: Ask) -> Payload:
        mirror.down = True
        assert ask(payload)["kind"] == b"refusal"
        bank.world.clock.turn(timedelta(minutes=minutes))
        mirror.down = False
        return ask(payload)

    bank.wire.faults[NODE, "query", 2] = away
    started(bank).carry_out()
    assert ended(bank)[2:5] == ["reserve", "renew", "release"]
    assert findings(bank, tmp_path / "export") == ()


def test_a_run_that_went_past_a_reservation_that_waited_verifies(
    bank: Bank, tmp_path: Path
) -> None:
    mirror = through(bank)

    def away(payload: Payload, ask: Ask) -> None:
        mirror.down = True
        ask(payload)
        mirror.down = False

    bank.wire.faults[NODE, "query", 2] = away
    started(bank).carry_out()
    assert ended(bank)[:6] == ["reserve", "release", "reserve", "void", "reserve", "release"]
    assert findings(bank, tmp_path / "export") == ()


@pytest.mark.parametrize("arrives", [True, False], ids=["received", "not received"])
@pytest.mark.parametrize("whole", [True, False], ids=["no backup", "an old backup"])
def test_a_run_during_which_a_node_lost_its_database_verifies(
    bank: Bank, tmp_path: Path, stack: ExitStack, arrives: bool, whole: bool
) -> None:
    """The last answer left, and the mirror did not hear of its release any more."""
    copy = tmp_path / "backup.db"
    home = bank.nodes[NODE]
    mirror = through(bank)

    def last_words(payload: Payload, ask: Ask) -> Payload | None:
        copy_open_database(home, copy)
        mirror.after = lambda: setattr(mirror, "down", True)
        answer = ask(payload)
        assert answer["kind"] == b"masked"
        lose(payload)
        return answer if arrives else None

    def lose(_: Payload) -> None:
        home.database.dispose()
        if whole:
            lose_database(home.path)
        else:
            put_database(copy, home.path)
        again = stack.enter_context(open_home(home.path, bank.world.clock, found=False))
        recover(again, bank.world.mirror.door(NODE), approval(bank.world))
        bank.nodes[NODE] = again
        bank.restart(NODE)

    bank.wire.faults[NODE, "query", 2] = last_words
    started(bank, spare_rounds=1).carry_out()
    found = findings(bank, tmp_path / "export")
    expected = "release" if arrives else "void"
    assert ended(bank) == ["reserve", "release", "reserve", "recover", expected]
    assert found == ()
