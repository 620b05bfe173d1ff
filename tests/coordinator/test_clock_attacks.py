"""A clock an hour off, back or forward, in the midst of a run: refused by name, and nothing lost.

Every member has a clock of its own here. Nothing is charged, read or logged by a wrong clock; once
it is right the same round goes on, and the regulator's verification finds nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import bank_world
import node_world
import pytest
from attack_checks import logged, spent
from bank_world import Bank, findings, open_world
from node_world import BANK

from hejin_coordinator import parts, store
from hejin_coordinator.errors import RunPausedError
from hejin_coordinator.home import open_home as open_bank
from hejin_coordinator.rounds import PlanRun
from hejin_models.features import FeatureView
from hejin_models.sums import SumRequest
from hejin_models.training import train
from hejin_node.home import NodeHome
from hejin_node.home import open_home as open_node
from hejin_regulator.mirror import open_mirror
from hejin_trust.canonical import time_from
from hejin_trust.clock import Clock
from hejin_trust.database import reading
from hejin_trust.entries import Entry, parse
from hejin_trust.fleet import Payload
from hejin_trust.home import MemberHome
from hejin_trust.witness import ClockOffError, WitnessRefusedError

REGULATOR = "regulator"
NODES = ("node-1", "node-2", "node-3")
HOUR = timedelta(hours=1)
WAYS = [pytest.param(HOUR, id="forward"), pytest.param(-HOUR, id="back")]


@dataclass
class Apart:
    """A consortium whose members' clocks can be set one by one.

    off   how far a member's clock is from the true one
    """

    bank: Bank
    off: dict[str, timedelta] = field(default_factory=dict)

    def turn(self, member: str, by: timedelta) -> None:
        self.off[member] = by

    def right(self) -> None:
        self.off.clear()


@pytest.fixture
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Apart]:
    off: dict[str, timedelta] = {}

    def own(member: str, true: Clock) -> Clock:
        return lambda: true() + off.get(member, timedelta(0))

    def node(path: Path, clock: Clock) -> object:
        return open_node(path, own(path.name, clock))

    monkeypatch.setattr(bank_world, "open_node", node)
    monkeypatch.setattr(bank_world, "open_bank", lambda p, clock: open_bank(p, own(BANK, clock)))
    monkeypatch.setattr(
        node_world, "open_mirror", lambda office, clock: open_mirror(office, own(REGULATOR, clock))
    )
    with ExitStack() as stack:
        yield Apart(open_world(tmp_path / "world", stack, firms=20), off)


def entries(home: MemberHome) -> list[Entry]:
    with reading(home.database) as connection:
        return [
            parse(raw)
            for log in (home.release_log, home.internal_log)
            for raw in log.entries(connection)
        ]


def begun(apart: Apart, **plan: object) -> tuple[PlanRun, SumRequest]:
    """Take a run through its first round; return it and what it sums next."""
    run = apart.bank.run(apart.bank.propose(epsilon=20.0, **plan))
    training = train(FeatureView.parse(run._stored.view))
    return run, training.send(run._sum(next(training)))


def check_whole(apart: Apart, run: PlanRun, survivors: int) -> None:
    """Check that both rounds stand, charged once each, and that all times are true ones."""
    bank, true = apart.bank, apart.bank.world.clock()
    with reading(bank.home.database) as connection:
        rounds = store.rounds(connection, run.run)
    assert [(found.round, found.survivors, found.burned) for found in rounds] == [
        (1, 3, ""), (2, survivors, ""),
    ]  # fmt: skip
    for home in (bank.home, *bank.nodes.values()):
        assert all(abs(time_from(e.time) - true) <= timedelta(minutes=2) for e in entries(home))
    assert findings(bank, bank.world.folder / "export") == ()


@pytest.mark.parametrize("by", WAYS)
def test_a_node_whose_clock_is_an_hour_off_reserves_and_logs_nothing_until_it_is_right(
    apart: Apart, by: timedelta
) -> None:
    run, request = begun(apart, minimum_nodes=3)
    node: NodeHome = apart.bank.nodes["node-1"]
    apart.turn("node-1", by)
    before = spent(node), entries(node)
    way = "ahead of" if by > timedelta(0) else "behind"
    with pytest.raises(RunPausedError, match=f"node-1: .* is 3600 s {way} the regulator's"):
        run._sum(request)
    assert (spent(node), entries(node)) == before
    with reading(apart.bank.home.database) as connection:
        last = {p.node: p.outcome for p in parts.parts(connection, run.run) if p.round == 2}
    assert last == {"node-1": "clock-off", "node-2": "answered", "node-3": "answered"}
    apart.right()
    run._sum(request)
    check_whole(apart, run, 3)


def test_a_node_whose_clock_is_off_is_left_out_where_the_others_suffice(apart: Apart) -> None:
    run, request = begun(apart, minimum_nodes=2)
    apart.turn("node-1", HOUR)
    run._sum(request)
    apart.right()
    check_whole(apart, run, 2)
    assert logged(apart.bank.nodes["node-1"]).count("reserve") == 1


@pytest.mark.parametrize("by", WAYS)
def test_a_bank_whose_clock_is_an_hour_off_asks_nobody(apart: Apart, by: timedelta) -> None:
    run, request = begun(apart)
    bank = apart.bank
    apart.turn(BANK, by)
    before, asked = entries(bank.home), len(bank.wire.asked)
    with pytest.raises(ClockOffError, match="3600 s") as refused:
        run._sum(request)
    assert refused.value.code == "clock-off"
    assert (len(bank.wire.asked), entries(bank.home)) == (asked, before)
    apart.right()
    run._sum(request)
    check_whole(apart, run, 3)


@pytest.mark.parametrize("by", WAYS)
def test_a_bank_whose_clock_jumps_within_a_round_counts_no_answer_by_it(
    apart: Apart, by: timedelta
) -> None:
    """The answers are there, and honest; they are asked for again when the clock is right."""
    run, request = begun(apart, minimum_nodes=3)
    bank = apart.bank

    def jump(_: str, answer: Payload) -> Payload:
        apart.turn(BANK, by)
        return answer

    bank.wire.change = jump
    with pytest.raises(RunPausedError):
        run._sum(request)
    with reading(bank.home.database) as connection:
        last = {p.node: p.outcome for p in parts.parts(connection, run.run) if p.round == 2}
    # An hour ahead, the cosignature looks an hour old; an hour behind, it is from the future.
    code = "cosignature-stale" if by > timedelta(0) else "clock-off"
    assert last == dict.fromkeys(NODES, code)
    assert [e for e in entries(bank.home) if e.type == "accept" and e.body["round"] == 2] == []
    bank.wire.change = lambda _, answer: answer
    apart.right()
    run._sum(request)
    check_whole(apart, run, 3)


def test_a_regulator_whose_clock_is_an_hour_behind_cosigns_nothing_and_is_named(
    apart: Apart,
) -> None:
    run, request = begun(apart, minimum_nodes=3)
    apart.turn(REGULATOR, -HOUR)
    before = {node: spent(home) for node, home in apart.bank.nodes.items()}
    # The bank heard the regulator just now; the nodes' reservations are not cosigned.
    with pytest.raises(RunPausedError, match="witness-refused"):
        run._sum(request)
    with pytest.raises(WitnessRefusedError, match="no member's clock is at fault"):
        run._witness.refresh()
    apart.right()
    run._sum(request)
    assert all(spent(home) > before[node] for node, home in apart.bank.nodes.items())
    check_whole(apart, run, 3)


def test_a_regulator_whose_clock_is_an_hour_ahead_lets_nobody_reserve(apart: Apart) -> None:
    run, request = begun(apart, minimum_nodes=3)
    bank = apart.bank
    apart.turn(REGULATOR, HOUR)
    run._witness._heard = False  # ten seconds pass
    before = {node: (spent(home), entries(home)) for node, home in bank.nodes.items()}
    with pytest.raises(ClockOffError, match="3600 s behind the regulator's"):
        run._sum(request)
    assert {node: (spent(home), entries(home)) for node, home in bank.nodes.items()} == before
    # It has cosigned at that time, and its time does not go back: all wait until it has come.
    apart.right()
    run._witness._heard = False
    with pytest.raises(WitnessRefusedError, match="the regulator's operator must set"):
        run._sum(request)
    assert {node: (spent(home), entries(home)) for node, home in bank.nodes.items()} == before
    bank.world.clock.turn(HOUR)
    run._sum(request)
    assert [logged(home).count("reserve") for home in bank.nodes.values()] == [2, 2, 2]
    assert findings(bank, bank.world.folder / "export") == ()
