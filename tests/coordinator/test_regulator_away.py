"""While the regulator is away, or a node cannot answer, runs wait: nothing is burned or lost."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest
from away_mirror import Line, far_regulator
from bank_world import Bank, Fault, Wire, open_world, silent
from node_world import BANK
from structlog.testing import capture_logs

from hejin_coordinator import parts, store
from hejin_coordinator.collecting import ROUND_VOID
from hejin_coordinator.errors import RunPausedError
from hejin_coordinator.rounds import PlanRun
from hejin_coordinator.service import Worker
from hejin_models.features import FeatureView
from hejin_models.sums import SumRequest
from hejin_models.training import train
from hejin_node.refusals import Refusals
from hejin_trust import database
from hejin_trust.channels import PeerUnreachable
from hejin_trust.database import StorageError, reading, writing
from hejin_trust.errors import HejinError
from hejin_trust.files import FileError
from hejin_trust.fleet import Payload
from hejin_trust.log import ClockError
from hejin_trust.one_history import FrozenError
from hejin_trust.process import threads
from hejin_trust.witness import ClockOffError, WitnessUnreachableError

NODES = ("node-1", "node-2", "node-3")


class Void(HejinError):
    """What a node says of a round that was charged and interrupted there."""

    code = ROUND_VOID


@dataclass
class Engine:
    """Opens runs over the wire, as the worker wants them."""

    wire: Wire

    def open_run(self) -> nullcontext[Wire]:
        return nullcontext(self.wire)

    def online(self) -> set[str]:
        return self.wire.online()


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Line:
    return far_regulator(monkeypatch)


@pytest.fixture
def bank(tmp_path: Path, line: Line) -> Iterator[Bank]:
    with ExitStack() as stack:
        yield open_world(tmp_path, stack, firms=20)


def first(run: PlanRun) -> SumRequest:
    return next(train(FeatureView.parse(run._stored.view)))


def rounds(bank: Bank, run: PlanRun) -> list[store.Round]:
    with reading(bank.home.database) as connection:
        return store.rounds(connection, run.run)


def outcomes(bank: Bank, run: PlanRun, phase: str) -> dict[str, str]:
    with reading(bank.home.database) as connection:
        found = parts.parts(connection, run.run)
    return {part.node: part.outcome for part in found if part.phase == phase}


def logged(bank: Bank, node: str) -> list[str]:
    home = bank.nodes[node]
    with reading(home.database) as connection:
        return [json.loads(raw)["type"] for raw in home.release_log.entries(connection)]


def state(bank: Bank, digest: str) -> store.StoredPlan:
    with reading(bank.home.database) as connection:
        return store.find_plan(connection, digest)


def start(bank: Bank, digest: str) -> None:
    with writing(bank.home.database) as connection:
        store.set_state(connection, digest, "started")


def test_a_run_whose_nodes_wait_for_the_regulator_pauses_and_goes_on_with_the_same_round(
    bank: Bank, line: Line
) -> None:
    run = bank.run(bank.propose(epsilon=20.0, minimum_nodes=3))
    line.cut |= set(NODES)  # noticed only once the sum is reserved
    with pytest.raises(RunPausedError, match="3 wait for the regulator's cosignature") as paused:
        run._sum(first(run))
    assert "3 个在等待监管方会签" in paused.value.text.zh
    assert "goes on by itself" in paused.value.text.en
    assert outcomes(bank, run, "masked") == dict.fromkeys(NODES, "witness-unreachable")
    assert [logged(bank, node).count("release") for node in NODES] == [0, 0, 0]
    line.cut.clear()
    run._sum(first(run))
    (only,) = rounds(bank, run)
    assert (only.round, only.survivors, only.burned) == (1, 3, "")
    # Charged once, released once.
    assert [logged(bank, node).count("reserve") for node in NODES] == [1, 1, 1]
    assert [logged(bank, node).count("release") for node in NODES] == [1, 1, 1]


def test_a_node_that_waits_does_not_hold_up_the_others(bank: Bank, line: Line) -> None:
    run = bank.run(bank.propose(epsilon=20.0, minimum_nodes=2))
    line.cut_off("node-2")
    run._sum(first(run))
    assert rounds(bank, run)[0].survivors == 2
    assert outcomes(bank, run, "masked")["node-2"] == "witness-unreachable"


def test_no_round_is_asked_while_the_regulator_is_away_from_the_bank(
    bank: Bank, line: Line
) -> None:
    digest = bank.propose(epsilon=20.0)
    worker = Worker(bank.home, Engine(bank.wire), bank.world.witness(bank.home))  # type: ignore[arg-type]
    start(bank, digest)
    line.cut_off(BANK)
    worker._look(["started"])
    stored = state(bank, digest)
    assert stored.state == "paused"
    assert "the regulator does not answer" in stored.error
    assert bank.wire.asked == []
    line.cut.clear()
    worker._look(["paused"])
    assert (state(bank, digest).state, state(bank, digest).error) == ("done", "")


def test_a_regulator_that_goes_away_between_rounds_pauses_the_run_there(
    bank: Bank, line: Line
) -> None:
    digest = bank.propose(epsilon=20.0)
    worker = Worker(bank.home, Engine(bank.wire), bank.world.witness(bank.home))  # type: ignore[arg-type]
    start(bank, digest)

    def leaves(payload: Payload, ask: Callable[[Payload], Payload]) -> Payload:
        line.cut_off(BANK)
        return ask(payload)

    bank.wire.faults["node-3", "query", 2] = leaves
    worker._look(["started"])
    stored = state(bank, digest)
    assert stored.state == "paused"
    with reading(bank.home.database) as connection:
        found = store.rounds(connection, stored.run or "")
    # The round that was asked is opened; the next was never asked.
    assert [bool(each.total) for each in found] == [True, True]
    bank.wire.faults.clear()
    line.cut.clear()
    asked = len(bank.wire.sent("query"))
    worker._look(["paused"])
    assert state(bank, digest).state == "done"
    assert {place[2] for place in bank.wire.sent("query")[asked:]} == set(
        range(3, len(stored.plan.sums) + 1)
    )


@pytest.mark.parametrize(
    "reason",
    [
        FrozenError("another history", "另一历史"),
        ClockOffError("the clock is off", "时钟偏差"),
        WitnessUnreachableError("nobody answers", "无应答"),
    ],
    ids=lambda reason: reason.code,
)
def test_what_keeps_the_bank_from_asking_is_shown_with_every_plan_that_is_due(
    bank: Bank, reason: HejinError, monkeypatch: pytest.MonkeyPatch
) -> None:
    due, idle = bank.propose(epsilon=20.0), bank.propose(epsilon=20.0)
    start(bank, due)
    witness = bank.world.witness(bank.home)

    def ready() -> None:
        raise reason

    monkeypatch.setattr(witness, "ready", ready)
    worker = Worker(bank.home, Engine(bank.wire), witness)  # type: ignore[arg-type]
    if isinstance(reason, FrozenError):
        # The process ends: nothing is signed by a bank that does not know its own past.
        with pytest.raises(FrozenError):
            worker._look(["started"])
    else:
        worker._look(["started"])
    assert (state(bank, due).state, state(bank, due).error) == ("paused", str(reason.text))
    assert (state(bank, idle).state, state(bank, idle).error) == ("offered", "")
    assert bank.wire.asked == []


@pytest.mark.parametrize("reason", [StorageError, FileError, ClockError])
def test_trouble_of_the_banks_own_pauses_a_run_which_then_goes_on(
    bank: Bank, reason: type[HejinError]
) -> None:
    digest = bank.propose(epsilon=20.0)
    worker = Worker(bank.home, Engine(bank.wire), bank.world.witness(bank.home))  # type: ignore[arg-type]
    start(bank, digest)

    def trouble(payload: Payload, ask: Callable[[Payload], Payload]) -> Payload:
        raise reason("the disk is full", "磁盘已满")

    bank.wire.faults["node-3", "query", 2] = trouble
    worker._look(["started"])
    stored = state(bank, digest)
    assert (stored.state, "the disk is full" in stored.error) == ("paused", True)
    bank.wire.faults.clear()
    worker._look(["paused"])
    assert (state(bank, digest).state, state(bank, digest).error) == ("done", "")


def test_a_worker_that_cannot_write_for_a_while_does_not_end_the_banks_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_SECONDS", 0.1)
    with ExitStack() as stack:
        bank = open_world(tmp_path, stack, firms=20)
        digest = bank.propose(epsilon=20.0)
        start(bank, digest)
        witness = bank.world.witness(bank.home)
        other = stack.enter_context(closing(sqlite3.connect(tmp_path / BANK / "coordinator.db")))
        other.isolation_level = None
        other.execute("BEGIN IMMEDIATE")
        stop = threading.Event()
        with capture_logs() as console, threads(stop) as running:
            running.start("worker", Worker(bank.home, Engine(bank.wire), witness).work)  # type: ignore[arg-type]
            wait_for(lambda: console != [])
            time.sleep(1)
            assert not stop.is_set()
            assert [(line["event"], line["code"]) for line in console] == [
                ("will-try-again", "storage-failed")
            ]
            other.execute("ROLLBACK")
            wait_for(lambda: state(bank, digest).state == "done")


def wait_for(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def failing(bank: Bank, node: str) -> Fault:
    """Return the fault that the node's disk is full when a message comes."""

    def fault(payload: Payload, _: Callable[[Payload], Payload]) -> Payload:
        full = StorageError("the disk is full", "磁盘已满")
        return Refusals(bank.nodes[node], BANK).refuse(payload, full)

    return fault


@pytest.mark.parametrize(
    ("phase", "dropped", "failed"),
    [
        pytest.param("survivors", (), ("node-4", "node-5"), id="votes"),
        pytest.param("votes", ("node-5",), ("node-1",), id="shares"),
    ],
)
def test_a_disk_that_is_full_for_a_while_burns_no_round(
    tmp_path: Path, line: Line, phase: str, dropped: tuple[str, ...], failed: tuple[str, ...]
) -> None:
    with ExitStack() as stack:
        bank = open_world(tmp_path, stack, nodes=5)
        run = bank.run(bank.propose(spare_rounds=1))
        for node in dropped:
            bank.wire.faults[node, "query", 1] = silent
        for node in failed:
            bank.wire.faults[node, phase, 1] = failing(bank, node)
        with pytest.raises(RunPausedError, match="storage-failed"):
            run._sum(first(run))
        assert [found.burned for found in rounds(bank, run)] == [""]
        bank.wire.faults.clear()
        asked = len(bank.wire.sent("query"))
        # Its answers are in: it is opened also while the regulator is away.
        line.cut_off(BANK)
        run._sum(first(run))
        (only,) = rounds(bank, run)
        assert (only.round, only.burned, only.survivors) == (1, "", 5 - len(dropped))
        # A round that is fixed is not asked again.
        assert len(bank.wire.sent("query")) == asked


def test_a_set_up_whose_nodes_cannot_answer_now_pauses(tmp_path: Path) -> None:
    with ExitStack() as stack:
        bank = open_world(tmp_path, stack, nodes=5)
        run = bank.run(bank.propose())
        for node in ("node-1", "node-2"):
            bank.wire.faults[node, "keys", 0] = failing(bank, node)
        with pytest.raises(RunPausedError, match="set-up: 3 nodes gave a key"):
            run._sum(first(run))
        bank.wire.faults.clear()
        run._sum(first(run))


def test_a_round_that_one_node_lost_waits_for_another_that_cannot_answer_now(
    bank: Bank, line: Line
) -> None:
    """Asking anew would cost budget; the node that waits may still answer this round."""
    run = bank.run(bank.propose(epsilon=20.0, minimum_nodes=2, spare_rounds=1))

    def interrupted(payload: Payload, ask: Callable[[Payload], Payload]) -> Payload:
        return Refusals(bank.nodes["node-1"], BANK).refuse(payload, Void("lost", "丢失"))

    bank.wire.faults["node-1", "query", 1] = interrupted
    line.cut_off("node-2")
    with pytest.raises(RunPausedError, match="1 wait for the regulator"):
        run._sum(first(run))
    assert [found.burned for found in rounds(bank, run)] == [""]
    line.cut.clear()
    run._sum(first(run))
    assert [found.round for found in rounds(bank, run)] == [1]


def test_nodes_that_lack_this_banks_receipts_are_waited_for(
    bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = bank.run(bank.propose(epsilon=20.0, minimum_nodes=3))
    training = train(FeatureView.parse(run._stored.view))
    request = next(training)

    def owed(*_: object) -> bytes:
        raise PeerUnreachable("the bank does not answer", "银行没有应答")

    with monkeypatch.context() as away:
        for session in bank.wire.sessions.values():
            away.setattr(session, "_fetch", owed)
        for _ in range(2):
            request = training.send(run._sum(request))
        with pytest.raises(RunPausedError, match="2 receipts of this bank are missing"):
            run._sum(request)
    run._sum(request)
    assert [(found.round, found.burned) for found in rounds(bank, run)] == [
        (1, ""),
        (2, ""),
        (3, ""),
    ]
