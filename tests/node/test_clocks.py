"""A node whose clock is not the regulator's: within bounds it works, beyond it changes nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from bent_mirror import check_order, internal_log, release_log
from node_world import BANK, Clock, World, approved, fill, found_world
from structlog.testing import capture_logs
from witnessed_node import RUN, Node, opened

from hejin_node import service
from hejin_node import session as session_module
from hejin_node.pinned import SnapshotStore
from hejin_node.reserving import reserve
from hejin_trust.canonical import time_from
from hejin_trust.envelope import REFUSAL, open_envelope
from hejin_trust.fleet import Payload
from hejin_trust.process import threads
from hejin_trust.witness import ClockOffError

OFF = [
    pytest.param(180, "180 s ahead of", "超前 180 秒", id="3 minutes ahead"),
    pytest.param(-180, "180 s behind", "落后 180 秒", id="3 minutes behind"),
    pytest.param(3600, "3600 s ahead of", "超前 3600 秒", id="an hour forward"),
    pytest.param(-3600, "3600 s behind", "落后 3600 秒", id="an hour back"),
]


@pytest.fixture
def world(tmp_path: Path) -> World:
    found = found_world(tmp_path)
    found.clock.turn(timedelta(hours=2))  # into the budget period, so that clocks may be behind
    return found


@pytest.fixture
def own(world: World) -> Clock:
    """The node's clock; the world's is the regulator's."""
    return Clock(world.clock())


@pytest.fixture
def node(world: World, own: Clock) -> Iterator[Node]:
    with opened(world, clock=own) as found:
        fill(found.home, world)
        found.witness.refresh()
        yield found


def first_query(node: Node) -> Payload:
    plan, digest = approved(node.home, node.world, sums=[("histogram", "train")] * 2)
    return node.world.query(plan, digest, run=RUN)


def logs(node: Node) -> tuple[int, int]:
    return len(release_log(node.home)), len(internal_log(node.home))


def reason(answer: Payload, node: Node) -> dict[str, Any]:
    opened = open_envelope(answer["refusal"], REFUSAL, node.home.identity.public)
    assert opened.body["code"] == "clock-off"
    told = opened.body["reason"]
    assert isinstance(told, dict)
    return told


@pytest.mark.parametrize(("seconds", "en", "zh"), OFF)
def test_a_clock_that_is_off_is_named_with_its_seconds_and_nothing_is_charged(
    node: Node, own: Clock, monkeypatch: pytest.MonkeyPatch, seconds: int, en: str, zh: str
) -> None:
    query = first_query(node)
    before = logs(node)
    own.turn(timedelta(seconds=seconds))
    with monkeypatch.context() as patched:
        patched.setattr(SnapshotStore, "pin", None)  # nothing is read
        for _ in range(2):
            told = reason(node.session.answer(query), node)
            assert f"this member's clock is {en} the regulator's" in told["en"]
            assert "set this member's clock, then ask again" in told["en"]
            assert f"本成员的时钟比监管方{zh}" in told["zh"]
            assert "请校准本成员的时钟" in told["zh"]
    assert node.spent() == 0
    # An entry of such a clock would stop the log once the clock is right.
    assert logs(node) == before
    own.turn(timedelta(seconds=-seconds))
    assert node.ask(query) == "masked"
    check_order(node.world, node.home)


@pytest.mark.parametrize(("seconds", "en", "zh"), OFF)
def test_a_node_that_starts_with_a_clock_that_is_off_answers_nothing(
    world: World, own: Clock, seconds: int, en: str, zh: str
) -> None:
    with opened(world, clock=own) as node:
        fill(node.home, world)
        query = first_query(node)
    own.turn(timedelta(seconds=seconds))
    with opened(world, clock=own) as node:
        before = logs(node)
        told = reason(node.session.answer(query), node)
        assert en in told["en"]
        assert zh in told["zh"]
        assert (node.spent(), logs(node)) == (0, before)
        own.turn(timedelta(seconds=-seconds))
        assert node.ask(query) == "masked"


@pytest.mark.parametrize("seconds", [110, 60, 0, -60, -110])
def test_a_clock_within_its_bounds_is_served_and_passes_verification(
    node: Node, own: Clock, seconds: int
) -> None:
    own.turn(timedelta(seconds=seconds))
    assert node.ask(first_query(node)) == "masked"
    assert node.witness.offset == timedelta(seconds=-seconds)
    check_order(node.world, node.home)


def test_a_clock_at_its_bound_and_a_cosignature_that_takes_ten_seconds_are_in_time(
    node: Node, own: Clock
) -> None:
    query = first_query(node)
    own.turn(timedelta(seconds=-110))
    node.witness.ready()

    def slow() -> None:
        node.world.clock.turn(timedelta(seconds=10))
        own.turn(timedelta(seconds=10))

    node.mirror.before = slow
    assert node.ask(query) == "masked"
    check_order(node.world, node.home)


def test_everything_that_would_be_logged_by_a_wrong_clock_waits(node: Node, own: Clock) -> None:
    """Receipts, results, refusals of any kind."""
    query = first_query(node)
    answer = node.session.answer(query)
    result, _ = node.world.result(answer)
    own.turn(timedelta(hours=1))
    before = logs(node)
    with pytest.raises(ClockOffError):
        node.session.fetch_receipts()
    assert node.ask({"kind": b"result", "result": result}) == "clock-off"
    assert node.ask({"kind": b"nonsense"}) == "clock-off"
    assert node.ask({**query, "state": b"?"}) == "clock-off"
    assert logs(node) == before
    own.turn(timedelta(hours=-1))
    node.session.fetch_receipts()
    assert node.session.answer({"kind": b"result", "result": result}) == {"kind": b"noted"}


def test_offers_are_not_looked_at_while_the_clock_is_off(
    node: Node, own: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node's policy might approve one, and log it by that clock."""
    looked = threading.Event()

    class Peer:
        def __init__(self, *_: object) -> None:
            pass

        def fetch_receipt(self, run: str, number: int) -> bytes:
            raise AssertionError("nothing was sent")

        def exchange_offers(self) -> None:
            looked.set()

    class Loop:
        def __init__(self, *_: object) -> None:
            pass

        def run(self, stop: threading.Event) -> None:
            stop.wait()

    monkeypatch.setattr(service, "BankChannel", Peer)
    monkeypatch.setattr(service, "FleetLoop", Loop)
    monkeypatch.setattr(service, "OFFER_SECONDS", 0.01)
    own.turn(timedelta(hours=1))
    stop = threading.Event()
    with threads(stop) as running:
        service._work_with(node.home, BANK, node.witness, None, running)  # type: ignore[arg-type]
        assert not looked.wait(0.3)
        own.turn(timedelta(hours=-1))
        assert looked.wait(10)


def test_a_clock_that_is_set_forward_while_a_sum_is_reserved_charges_it_once(
    node: Node, own: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is read for it; it is renewed when the true time has come that far."""
    query = first_query(node)

    def late(*arguments: Any) -> Any:
        own.turn(timedelta(hours=1))
        return reserve(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(session_module, "reserve", late)
        patched.setattr(session_module.Session, "_compute", None)
        # The clock shows at the cosignature: the mirror takes nothing of an hour ahead.
        assert node.ask(query) == "witness-refused"
        assert node.ask(query) == "witness-refused"
    charged = node.spent()
    assert charged > 0
    own.turn(timedelta(hours=-1))
    assert node.ask(query) == "witness-refused"
    assert node.state() == "reserved"
    for clock in (own, node.world.clock):
        clock.turn(timedelta(minutes=61))
    assert node.ask(query) == "masked"
    assert node.types()[-3:] == ["reserve", "renew", "release"]
    assert node.spent() == charged
    check_order(node.world, node.home)


def test_a_clock_that_is_set_back_while_a_sum_is_reserved_charges_nothing(
    node: Node, own: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = first_query(node)

    def late(*arguments: Any) -> Any:
        own.turn(timedelta(hours=-1))
        return reserve(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(session_module, "reserve", late)
        assert node.ask(query) == "clock-went-back"
    assert (node.spent(), node.state()) == (0, "none")
    own.turn(timedelta(hours=1))
    assert node.ask(query) == "masked"


def test_a_regulators_clock_that_went_back_stops_members_and_blames_the_regulator(
    node: Node,
) -> None:
    query = first_query(node)
    node.world.clock.turn(timedelta(hours=-1))
    node.witness._heard = False
    with capture_logs() as console:
        assert node.ask(query) == "witness-refused"
    told = console[0]["reason"]
    assert "the regulator's operator must set the regulator's clock right" in told
    assert node.spent() == 0
    node.world.clock.turn(timedelta(hours=1))
    assert node.ask(query) == "masked"


def test_a_regulator_that_restarted_with_a_clock_ahead_is_told_from_this_nodes(
    node: Node, own: Clock
) -> None:
    """The node cannot know whose clock is wrong; both differ, and its own is what it can set."""
    node.world.clock.turn(timedelta(minutes=5))
    node.witness._heard = False
    told = reason(node.session.answer(first_query(node)), node)
    assert "300 s behind the regulator's" in told["en"]
    own.turn(timedelta(minutes=5))
    assert node.ask(first_query_again(node)) == "masked"


def first_query_again(node: Node) -> Payload:
    plan, digest = approved(node.home, node.world, sums=[("histogram", "train")])
    return node.world.query(plan, digest, run="cd" * 16)


def test_the_times_of_reservation_and_cosignature_are_each_by_their_own_clock(
    node: Node, own: Clock
) -> None:
    own.turn(timedelta(seconds=90))
    node.ask(first_query(node))
    reserve_entry = next(e for e in release_log(node.home) if e.type == "reserve")
    assert time_from(reserve_entry.time) == own()
    cosigned = node.witness.cover(reserve_entry.seq)
    assert cosigned.time == node.world.clock() == own() - timedelta(seconds=90)
