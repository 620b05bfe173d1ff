"""A plan that can no longer be carried out ends, and every release gets the bank's word."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest
from bank_world import Bank, Wire, findings, open_world

from hejin_coordinator import desk, store
from hejin_coordinator.desk import NotDroppableError, NotStartableError
from hejin_coordinator.errors import RoundOpenError
from hejin_coordinator.receipts import receipt_for
from hejin_coordinator.service import Worker
from hejin_node.results import void_interrupted
from hejin_node.session import Session
from hejin_trust.database import reading
from hejin_trust.envelope import NOT_RECEIVED, open_envelope


@dataclass
class Engine:
    """Opens runs over the wire, as the worker wants them."""

    wire: Wire

    def open_run(self) -> nullcontext[Wire]:
        return nullcontext(self.wire)


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[Bank]:
    with ExitStack() as stack:
        yield open_world(tmp_path, stack)


def work(bank: Bank, digest: str) -> store.StoredPlan:
    """Carry a plan out as the bank's worker does; return it as it stands then."""
    with reading(bank.home.database) as connection:
        stored = store.find_plan(connection, digest)
    Worker(bank.home, Engine(bank.wire), bank.world.witness(bank.home))._carry_out(
        stored, tuple(bank.nodes)
    )  # type: ignore[arg-type]
    with reading(bank.home.database) as connection:
        return store.find_plan(connection, digest)


def interrupt(bank: Bank, node: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a node be charged for a sum and be killed before it releases it."""
    compute = Session._compute

    def crash(self: Session, *arguments: object) -> object:
        if self is bank.wire.sessions[node]:
            raise KeyboardInterrupt
        return compute(self, *arguments)  # type: ignore[arg-type]

    answer = bank.wire.sessions[node].answer

    def answered(payload: dict[str, bytes]) -> dict[str, bytes]:
        try:
            return answer(payload)
        except KeyboardInterrupt:
            assert void_interrupted(bank.nodes[node]) == 1
            return answer(payload)

    monkeypatch.setattr(Session, "_compute", crash)
    monkeypatch.setattr(bank.wire.sessions[node], "answer", answered)


def test_a_plan_that_an_interrupted_node_leaves_too_few_for_is_dropped_and_verifies(
    bank: Bank, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    digest = bank.propose(epsilon=20.0, minimum_nodes=3)
    interrupt(bank, "node-2", monkeypatch)
    stored = work(bank, digest)
    assert stored.state == "dropped"
    assert "1 were interrupted after they were charged" in stored.error
    with pytest.raises(NotStartableError):
        desk.start(bank.home, digest)
    assert stored.run is not None
    key = bank.world.bank.identity.public
    for node in ("node-1", "node-3"):
        word = open_envelope(receipt_for(bank.home, stored.run, 1, node), NOT_RECEIVED, key)
        assert (word.body["node"], word.body["round"]) == (node, 1)
    assert findings(bank, tmp_path / "export") == ()


def test_a_paused_plan_stays_open_until_the_bank_drops_it(bank: Bank, tmp_path: Path) -> None:
    digest = bank.propose(epsilon=20.0, minimum_nodes=3)
    bank.wire.silent.add("node-3")
    stored = work(bank, digest)
    assert stored.state == "paused"
    assert stored.run is not None
    with pytest.raises(RoundOpenError):
        receipt_for(bank.home, stored.run, 1, "node-1")
    assert len(findings(bank, tmp_path / "open")) > 0
    desk.drop(bank.home, digest)
    assert findings(bank, tmp_path / "dropped") == ()
    with pytest.raises(NotDroppableError, match="the plan is dropped"):
        desk.drop(bank.home, digest)


def test_a_finished_plan_is_not_dropped(bank: Bank) -> None:
    digest = bank.propose(epsilon=20.0)
    assert work(bank, digest).state == "done"
    with pytest.raises(NotDroppableError, match="the plan is done"):
        desk.drop(bank.home, digest)
