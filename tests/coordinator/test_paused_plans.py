"""The worker and paused plans: each gets its turn, and looking whether nodes are back is free."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from bank_world import Bank, Wire, body_of, lost, open_world

from hejin_coordinator import store
from hejin_coordinator.desk import drop_expired
from hejin_coordinator.errors import RoundOpenError
from hejin_coordinator.receipts import receipt_for
from hejin_coordinator.service import Worker
from hejin_trust.database import reading, writing
from hejin_trust.fleet import Payload


@dataclass
class Engine:
    """Opens runs over the wire, as the worker wants them."""

    wire: Wire

    def open_run(self) -> nullcontext[Wire]:
        return nullcontext(self.wire)

    def online(self) -> set[str]:
        return self.wire.online()


def paused(bank: Bank, digest: str) -> None:
    with writing(bank.home.database) as connection:
        store.set_state(connection, digest, "paused")


def states(bank: Bank) -> dict[str, str]:
    with reading(bank.home.database) as connection:
        return {stored.digest: stored.state for stored in store.plans(connection)}


def test_a_paused_plan_that_pauses_again_does_not_keep_others_from_their_turn(
    tmp_path: Path,
) -> None:
    with ExitStack() as stack:
        bank = open_world(tmp_path, stack)
        plans = [bank.propose(epsilon=20.0), bank.propose(epsilon=20.0)]
        waits = min(plans)  # made in the same second: the one that the worker looks at first

        def busy(payload: Payload, ask: Callable[[Payload], Payload]) -> Payload | None:
            """Its nodes are online and say nothing."""
            return None if body_of(payload["query"])["plan"] == waits else ask(payload)

        for node in bank.nodes:
            bank.wire.faults[node, "query", 1] = busy
        for digest in plans:
            paused(bank, digest)
        worker = Worker(bank.home, Engine(bank.wire), bank.world.witness(bank.home))  # type: ignore[arg-type]
        worker._look(["paused"])
        worker._look(["paused"])
        assert states(bank) == {waits: "paused", max(plans): "done"}


def test_looking_whether_nodes_are_back_opens_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flower keeps what it knows of a run for ever: 2 KB a look would fill memory in weeks."""
    with ExitStack() as stack:
        bank = open_world(tmp_path, stack, firms=20)
        digest = bank.propose(epsilon=20.0)
        paused(bank, digest)
        bank.wire.silent |= set(bank.nodes)
        opened: list[None] = []
        monkeypatch.setattr(Engine, "open_run", lambda _: opened.append(None))
        Worker(bank.home, Engine(bank.wire), bank.world.witness(bank.home))._look(["paused"])  # type: ignore[arg-type]
        assert opened == []
        assert states(bank) == {digest: "paused"}


def test_an_expired_plan_that_waits_is_over_and_its_nodes_get_the_banks_word(
    tmp_path: Path,
) -> None:
    with ExitStack() as stack:
        bank = open_world(tmp_path, stack)
        digest = bank.propose(epsilon=20.0, days=2)
        for node in ("node-1", "node-2"):
            bank.wire.faults[node, "query", 1] = lost
        bank.wire.silent.add("node-3")
        paused(bank, digest)
        worker = Worker(bank.home, Engine(bank.wire), bank.world.witness(bank.home))  # type: ignore[arg-type]
        worker._look(["started", "paused"])
        with reading(bank.home.database) as connection:
            run = store.find_plan(connection, digest).run or ""
        bank.world.clock.turn(timedelta(days=1))
        drop_expired(bank.home)
        assert states(bank) == {digest: "paused"}
        with pytest.raises(RoundOpenError):
            receipt_for(bank.home, run, 1, "node-1")
        bank.world.clock.turn(timedelta(days=1))
        drop_expired(bank.home)
        assert states(bank) == {digest: "dropped"}
        receipt_for(bank.home, run, 1, "node-1")
