"""Work beside a thread that reads ahead of it or writes behind it."""

from __future__ import annotations

import threading
from collections.abc import Generator
from functools import partial

import pytest

from hejin_node.pipeline import Behind, ahead


def test_tasks_behind_run_in_their_order_all_of_them() -> None:
    done: list[int] = []
    with Behind() as behind:
        for i in range(100):
            behind.run(partial(done.append, i))
        behind.wait()
    assert done == list(range(100))


def test_no_task_is_run_after_one_that_failed() -> None:
    done: list[int] = []
    may_fail = threading.Event()

    def fail() -> None:
        may_fail.wait()
        raise OSError("disk full")

    with Behind() as behind:
        behind.run(partial(done.append, 0))
        behind.run(fail)
        behind.run(partial(done.append, 2))
        behind.run(partial(done.append, 3))
        may_fail.set()
        with pytest.raises(OSError, match="disk full"):
            behind.wait()
    assert done == [0]


def test_who_hands_on_tasks_learns_of_a_failure_before_many_more_are_taken() -> None:
    def fail() -> None:
        raise OSError("disk full")

    taken = 0

    def hand_on(behind: Behind) -> None:
        nonlocal taken
        behind.run(fail)
        for _ in range(100):
            behind.run(lambda: None)
            taken += 1

    with Behind() as behind, pytest.raises(OSError, match="disk full"):
        hand_on(behind)
    assert taken <= 5


def test_leaving_early_waits_for_the_task_that_runs_and_gives_up_those_that_wait() -> None:
    done: list[int] = []
    running, may_end = threading.Event(), threading.Event()

    def slow() -> None:
        running.set()
        may_end.wait()
        done.append(0)

    with Behind() as behind:
        behind.run(slow)
        behind.run(partial(done.append, 1))
        running.wait()
        threading.Timer(1, may_end.set).start()
    assert done == [0]


def test_what_a_generator_raises_ahead_is_raised_where_its_item_would_come() -> None:
    def items() -> Generator[int]:
        yield 1
        raise OSError("gone")

    with ahead(items()) as found:
        assert next(found) == 1
        with pytest.raises(OSError, match="gone"):
            next(found)


def test_a_generator_that_is_left_early_is_closed() -> None:
    closed = threading.Event()

    def items() -> Generator[int]:
        try:
            yield from range(1000)
        finally:
            closed.set()

    with ahead(items()) as found:
        next(found)
    assert closed.is_set()
