"""What a command logs bears a time that the regulator can cosign, as far as anybody can tell."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path

import pytest
from bent_mirror import BentMirror, lose_database
from node_world import Clock, World, fill, found_world

from hejin_node.appending import open_to_append
from hejin_node.home import NodeHome, open_home
from hejin_trust.database import reading
from hejin_trust.one_history import FrozenError
from hejin_trust.own_clock import check_own_clock
from hejin_trust.witness import ClockOffError


@pytest.fixture
def world(tmp_path: Path) -> World:
    return found_world(tmp_path)


@contextmanager
def by(world: World, step: timedelta, *, found: bool = True) -> Iterator[NodeHome]:
    """Open the node by a clock that is off by `step`."""
    clock = Clock(world.clock() + step)
    with open_home(world.nodes["node-1"], clock, found=found) as home:
        yield home


def witnessed(world: World) -> None:
    with open_home(world.nodes["node-1"], world.clock) as home:
        world.clock.turn(timedelta(hours=1))
        fill(home, world, 3)
        world.witness(home).refresh()


def size(home: NodeHome) -> int:
    with reading(home.database) as connection:
        return home.internal_log.size(connection) + home.release_log.size(connection)


def test_a_clock_before_the_regulators_last_word_is_refused_also_without_a_line(
    world: World,
) -> None:
    witnessed(world)
    with by(world, timedelta(seconds=-120)) as home:
        check_own_clock(home, None)
    with (
        by(world, timedelta(seconds=-121)) as home,
        pytest.raises(ClockOffError, match=r"121 s behind .*, when the regulator last signed"),
    ):
        check_own_clock(home, None)


def test_the_charter_dates_the_clock_of_a_member_that_founds_its_ledgers(world: World) -> None:
    with (
        by(world, -timedelta(days=1), found=False) as home,
        pytest.raises(ClockOffError, match="behind"),
    ):
        check_own_clock(home, None)


@pytest.mark.parametrize("found", [True, False])
@pytest.mark.parametrize("days", [-1, 1, 400])
def test_a_clock_is_compared_with_a_regulator_that_answers(
    world: World, days: int, found: bool
) -> None:
    if found:
        witnessed(world)
        world.clock.turn(timedelta(days=10))
    with by(world, timedelta(days=days), found=False) as home:
        with pytest.raises(ClockOffError, match="behind" if days < 0 else "ahead of"):
            check_own_clock(home, nullcontext(world.mirror.door("node-1")))
        assert size(home) == (0 if not found else 6)
    with by(world, timedelta(seconds=100), found=False) as home:
        check_own_clock(home, nullcontext(world.mirror.door("node-1")))


def test_a_regulator_that_does_not_answer_holds_no_command_up(world: World) -> None:
    witnessed(world)
    with by(world, timedelta(days=1)) as home:
        away = BentMirror(world.mirror.door("node-1"))
        away.down = True
        check_own_clock(home, nullcontext(away))


def test_a_mirror_that_holds_another_history_stops_what_would_fork_it(world: World) -> None:
    witnessed(world)
    lose_database(world.nodes["node-1"])
    with by(world, timedelta(0), found=False) as home, pytest.raises(FrozenError):
        check_own_clock(home, nullcontext(world.mirror.door("node-1")))


def test_a_node_that_is_opened_to_append_founds_nothing_by_a_wrong_clock(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = world.nodes["node-1"]
    with (
        pytest.raises(ClockOffError),
        open_to_append(node, Clock(world.clock() - timedelta(days=1))),
    ):
        pass
    with open_home(node, world.clock, found=False) as home:
        assert size(home) == 0
    with open_to_append(node, world.clock) as home:
        assert size(home) == 2
