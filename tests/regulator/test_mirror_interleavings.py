"""Whatever members and crashes do in whatever order, the mirror is the list that it should be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mirror_world import START, Book, Watched, watched
from sqlalchemy import Connection

from hejin_regulator.authority import Office
from hejin_regulator.mirror import LogMirror, open_mirror
from hejin_regulator.mirror_check import check_whole
from hejin_regulator.witness_rules import SizeDiffersError
from hejin_trust.canonical import time_text
from hejin_trust.cosignature import Cosigned
from hejin_trust.database import reading, writing
from hejin_trust.mirroring import LogUpdate
from hejin_trust.stored_log import TABLES, StoredLog

A = "node-a"


class CrashedError(Exception):
    """What the test raises in place of a crash."""


@pytest.fixture
def world(office: Office, tmp_path: Path) -> Iterator[Watched]:
    with watched(office, tmp_path) as found:
        yield found


Step = tuple[str, int]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["append release", "append internal"]), st.integers(1, 5)),
        # Of all that is new, leave so many entries out.
        st.tuples(
            st.sampled_from(["send", "send, crash before the commit"]),
            st.integers(0, 2),
        ),
        st.tuples(st.just("send an old message again"), st.integers(0, 20)),
        st.tuples(st.just("pass time"), st.integers(0, 90)),
        st.tuples(st.just("reopen"), st.just(0)),
    ),
    max_size=25,
)


class Story:
    """The mirror beside what it should hold: `held` entries, `first` cosigned time by size."""

    def __init__(self, world: Watched, mirror: LogMirror) -> None:
        self.world, self.mirror = world, mirror
        books = (world.release[A], world.internal[A])
        self.books = {book.origin: Book(book.origin, A, book.key) for book in books}
        self.held = dict.fromkeys(self.books, 0)
        self.first: dict[str, dict[int, datetime]] = {origin: {} for origin in self.books}
        self.newest = dict.fromkeys(self.books, START)
        self.latest = world.time.now
        self.sent: list[list[LogUpdate]] = []

    def pass_time(self, seconds: int) -> None:
        """Turn the clock on, or back by less than would stop the witness."""
        time = self.world.time
        time.now = max(time.now + timedelta(seconds=seconds), self.latest - timedelta(seconds=60))
        self.latest = max(self.latest, time.now)

    def message(self, leave: int) -> list[LogUpdate]:
        updates = [
            book.update(self.held[origin], max(self.held[origin], len(book.leaves) - leave))
            for origin, book in self.books.items()
        ]
        self.sent.append(updates)
        return updates

    def cosigned(self, updates: list[LogUpdate], lines: tuple[str, ...]) -> list[Cosigned]:
        return [self.world.opened(u, line) for u, line in zip(updates, lines, strict=True)]

    def send(self, updates: list[LogUpdate]) -> None:
        stale = [u for u in updates if u.old_size != self.held[u.origin]]
        if stale:
            with pytest.raises(SizeDiffersError):
                self.mirror.door(A).add(updates)
            return
        for head in self.cosigned(updates, self.mirror.door(A).add(updates)):
            origin, size = head.checkpoint.origin, head.checkpoint.size
            assert head.checkpoint.root == self.books[origin].root(size)
            assert head.time >= self.newest[origin]
            self.newest[origin] = head.time
            self.held[origin] = size
            self.first[origin].setdefault(size, head.time)

    def check(self) -> None:
        assert [(log.origin, log.size, log.root) for log in self.mirror.door(A).standing()] == [
            (origin, self.held[origin], book.root(self.held[origin]) if self.held[origin] else b"")
            for origin, book in self.books.items()
        ]

    def check_all(self) -> None:
        check_whole(self.mirror, lambda _: None)
        with reading(self.mirror.engine) as connection:
            for origin, book in self.books.items():
                log = StoredLog(origin)
                assert list(log.entries(connection)) == book.leaves[: self.held[origin]]
                assert {head.size: head.time for head in log.cosigned(connection)} == {
                    size: time_text(time) for size, time in self.first[origin].items()
                }


def crash(self: StoredLog, connection: Connection, cosigned: Cosigned) -> None:
    raise CrashedError


@given(steps=STEPS)
@settings(
    max_examples=80,
    deadline=None,
    # Founding a consortium costs more than an example: its mirror is emptied instead.
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
def test_the_mirror_is_the_list_it_should_be(world: Watched, steps: list[Step]) -> None:
    with writing(world.mirror.engine) as connection:
        for table in (TABLES.entry, TABLES.node, TABLES.cosigned):
            connection.execute(table.delete())
    world.time.on(600)
    with ExitStack() as opened:
        story = Story(world, opened.enter_context(open_mirror(world.office, world.time)))
        for step, number in steps:
            if step == "reopen":
                story.check_all()
                story.mirror = opened.enter_context(open_mirror(world.office, world.time))
            else:
                carry_out(story, step, number)
            story.check()
        story.check_all()


def carry_out(story: Story, step: str, number: int) -> None:
    release, internal = story.books.values()
    match step:
        case "append release":
            release.fill(number)
        case "append internal":
            internal.fill(number)
        case "pass time":
            story.pass_time(number - 20)
        case "send":
            story.send(story.message(number))
        case "send, crash before the commit":
            updates = story.message(number)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(StoredLog, "keep_cosigned", crash)
                if any(u.entries or not story.first[u.origin] for u in updates):
                    with pytest.raises(CrashedError):
                        story.mirror.door(A).add(updates)
        case "send an old message again":
            if story.sent:
                story.send(story.sent[number % len(story.sent)])
        case _:
            raise AssertionError(step)
