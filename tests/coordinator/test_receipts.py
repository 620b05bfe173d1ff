"""For every reservation the bank owes its signed word: a receipt, or that it received nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from away_mirror import Line, far_regulator
from bank_world import Bank, lost, open_world, silent
from node_world import BANK

from hejin_coordinator import desk, store
from hejin_coordinator.errors import RoundOpenError, RoundUnknownError, RunPausedError
from hejin_coordinator.receipts import receipt_for, witnessed_word
from hejin_coordinator.rounds import PlanRun
from hejin_coordinator.witnessing import EarlyMirror
from hejin_models.features import FeatureView
from hejin_models.sums import SumRequest
from hejin_models.training import train
from hejin_privacy.messages import NotReceived, Receipt
from hejin_trust.checkpoint import open_checkpoint
from hejin_trust.database import reading, writing
from hejin_trust.envelope import NOT_RECEIVED, RECEIPT, EnvelopeError, open_envelope
from hejin_trust.witness import Witness, WitnessUnreachableError


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Bank, Line]]:
    """A bank that many tests propose plans at: founding one costs a second."""
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        line = far_regulator(patch)
        yield open_world(tmp_path_factory.mktemp("bank"), stack, firms=20), line


@pytest.fixture
def bank(standing: tuple[Bank, Line]) -> Iterator[Bank]:
    """End what a test left open: a node that lacks two receipts refuses the next round."""
    found, line = standing
    yield found
    line.cut.clear()
    found.wire.faults.clear()
    found.wire.silent.clear()
    with reading(found.home.database) as connection:
        left = store.plans(connection, "running", "failed", "paused")
    for stored in left:
        set_state(found, stored.digest, "failed")
        desk.drop(found.home, stored.digest)
    for session in found.wire.sessions.values():
        session.fetch_receipts()


def set_state(bank: Bank, digest: str, state: store.PlanState) -> None:
    with writing(bank.home.database) as connection:
        store.set_state(connection, digest, state)


def first(run: PlanRun) -> SumRequest:
    return next(train(FeatureView.parse(run._stored.view)))


def kind(bank: Bank, run: str, number: int, node: str) -> str:
    """Return what the bank's word on a release is, its signature checked."""
    word, key = receipt_for(bank.home, run, number, node), bank.home.identity.public
    try:
        body = open_envelope(word, RECEIPT, key, BANK).body
        told: Receipt | NotReceived = Receipt.parse(body)
    except EnvelopeError:
        told = NotReceived.parse(open_envelope(word, NOT_RECEIVED, key, BANK).body)
    assert (told.run, told.round, told.node) == (run, number, node)
    return type(told).__name__


def left_open(bank: Bank) -> PlanRun:
    """Ask for a sum that node-1 answers in vain: too few others do."""
    run = bank.run(bank.propose(epsilon=20.0, minimum_nodes=3))
    bank.wire.faults["node-2", "query", 1] = silent
    bank.wire.faults["node-3", "query", 1] = lost
    with pytest.raises(RunPausedError):
        run._sum(first(run))
    return run


def test_an_accepted_release_has_its_receipt_whatever_becomes_of_the_plan(bank: Bank) -> None:
    run = bank.run(bank.propose(epsilon=20.0, minimum_nodes=2))
    bank.wire.faults["node-3", "query", 1] = lost
    run._sum(first(run))
    for state in ("running", "paused", "failed", "done", "dropped"):
        set_state(bank, run._stored.digest, state)
        assert kind(bank, run.run, 1, "node-1") == "Receipt", state
        # What came too late was not received, and never will be.
        assert kind(bank, run.run, 1, "node-3") == "NotReceived", state


@pytest.mark.parametrize("state", ["running", "paused", "failed", "started"])
def test_while_a_round_is_open_there_is_no_word_on_it(bank: Bank, state: store.PlanState) -> None:
    run = left_open(bank)
    set_state(bank, run._stored.digest, state)
    for node in bank.nodes:
        with pytest.raises(RoundOpenError):
            receipt_for(bank.home, run.run, 1, node)


def test_of_a_dropped_plan_the_bank_received_nothing_in_the_open_round(bank: Bank) -> None:
    run = left_open(bank)
    set_state(bank, run._stored.digest, "failed")
    desk.drop(bank.home, run._stored.digest)
    for node in bank.nodes:
        assert kind(bank, run.run, 1, node) == "NotReceived"
    # Also of a round that it never asked: no more will be.
    assert kind(bank, run.run, 2, "node-1") == "NotReceived"


def test_dropping_a_plan_logs_that_its_open_round_is_burned(bank: Bank) -> None:
    run = left_open(bank)
    set_state(bank, run._stored.digest, "paused")
    desk.drop(bank.home, run._stored.digest)
    with reading(bank.home.database) as connection:
        (only,) = store.rounds(connection, run.run)
        burns = [
            entry.body
            for entry in bank.home.release_log.of_type(connection, "burn")
            if entry.body["run"] == run.run
        ]
    assert only.burned != ""
    assert burns == [{"run": run.run, "round": 1, "giver": "", "taker": ""}]


def test_a_plan_without_an_open_round_is_dropped_without_a_burn(bank: Bank) -> None:
    run = bank.run(bank.propose(epsilon=20.0))
    run._sum(first(run))
    set_state(bank, run._stored.digest, "paused")
    desk.drop(bank.home, run._stored.digest)
    with reading(bank.home.database) as connection:
        burns = bank.home.release_log.of_type(connection, "burn")
        assert [entry for entry in burns if entry.body["run"] == run.run] == []
    assert kind(bank, run.run, 1, "node-1") == "Receipt"


def test_a_round_or_run_that_is_not_on_record_gets_no_signed_word(bank: Bank) -> None:
    run = left_open(bank)
    for unknown, number in ((run.run, 2), ("ab" * 16, 1)):
        with pytest.raises(RoundUnknownError, match="preflight"):
            receipt_for(bank.home, unknown, number, "node-1")


def test_a_receipt_waits_until_the_regulator_holds_the_acceptance(
    bank: Bank, standing: tuple[Bank, Line]
) -> None:
    line = standing[1]
    run = bank.run(bank.propose(epsilon=20.0, minimum_nodes=2))
    witness: Witness = run._witness
    bank.wire.faults["node-3", "query", 1] = lost
    run._sum(first(run))
    line.cut_off(BANK)
    with pytest.raises(WitnessUnreachableError):
        witnessed_word(bank.home, witness, run.run, 1, "node-1")
    # That nothing was received rests on no entry.
    assert witnessed_word(bank.home, witness, run.run, 1, "node-3")
    line.cut.clear()
    word = witnessed_word(bank.home, witness, run.run, 1, "node-1")
    log = bank.home.release_log
    receipt = Receipt.parse(open_envelope(word, RECEIPT, bank.home.identity.public).body)
    size = open_checkpoint(receipt.checkpoint, log.origin, log.public_key).size
    held = {each.origin: each.size for each in bank.world.mirror.door(BANK).standing()}
    assert held[log.origin] >= size
    # Once it is kept that the regulator holds it, the receipt is there at any time.
    witness.refresh()
    line.cut_off(BANK)
    assert witnessed_word(bank.home, witness, run.run, 1, "node-1") == word


def test_acceptances_are_mirrored_while_their_round_goes_on(bank: Bank) -> None:
    run = bank.run(bank.propose(epsilon=20.0))
    early, stop = EarlyMirror(bank.home, run._witness), threading.Event()
    run._accepted = early.wake
    working = threading.Thread(target=early.work, args=(stop,))
    working.start()
    try:
        run._sum(first(run))
        with reading(bank.home.database) as connection:
            accepts = list(bank.home.release_log.of_type(connection, "accept"))
        door, end = bank.world.mirror.door(BANK), time.monotonic() + 30
        while next(s.size for s in door.standing()) <= accepts[-1].seq:
            assert time.monotonic() < end, "nobody woke it"
            time.sleep(0.01)
    finally:
        stop.set()
        working.join()
